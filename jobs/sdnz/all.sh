#!/usr/bin/env bash
# The whole study: all.sh DATA OUT
#   DATA   folder that make_data.sh made; with TRUTH=POTENTIAL it is made, or finished, first
#   OUT    results: runs, rates (learning rates), fig*.png, eos-*.png, errors.txt, findings.md
# Variables: LENGTH, part of the published number of updates (1); SEEDS (1-4) and SCAN_SEEDS (1-2), of the scan of
# learning rates at a tenth of LENGTH; PS, of every simulation (20); JOBS, processes at a time (1); BATCHES, of
# the Fisher matrix (4096).
# What is done is not done again, what was begun goes on: start it again after any stop.
set -euo pipefail
here=$(dirname "$0") data=$1 out=$2
export JOBS=${JOBS:-1} LENGTH=${LENGTH:-1} PS=${PS:-20}
export RANKS=$JOBS
runs=$out/runs
. "$here/common.sh"
mkdir -p "$out"
if [ -n "${TRUTH:-}" ] && [ ! -e "$data/done" ]; then "$here/make_data.sh" "$TRUTH" "$data"; fi
[ -e "$data/done" ] || { echo "$data: no data of make_data.sh; TRUTH=POTENTIAL makes them" >&2; exit 2; }

"$here/train.sh" "$data/data.h5" "$runs" "${SEEDS:-1-4}"
"$here/fig3.sh" "$runs" "$out"
"$here/fig9.sh" "$runs" "$data/data.h5" "$out" "$RANKS" --batches "${BATCHES:-4096}"
is_new "$out/fig8.png" "$out/fisher.h5" || python "$here/fig8.py" "$out/fisher.h5" "$out"
is_new "$out/kalman.csv" "$runs"/*/seed-*/accuracy.json || python "$here/kalman.py" "$runs" "$data" "$out"
is_new "$out/errors.txt" "$runs"/*/seed-*/accuracy.json ||
    python "$here/extrapolation.py" "$runs" "$data/dilute.h5" | tee "$out/errors.txt"
is_new "$out/same-frames.png" "$runs"/*/seed-*/accuracy.json ||
    python "$here/same_frames.py" "$runs" "$data" "$out"
python "$here/fig7.py" "$data" "$out/rates" "$out" --length "$LENGTH" --seeds "${SCAN_SEEDS:-1-2}"
"$here/eos.sh" "$runs" "$data" "$PS" "$out"
"$here/fig4.sh" "$runs" "$data/starts/nvt.xyz" "$out" "$PS"
is_new "$out/fig4-truth.png" "$data/truth/nvt/status.json" ||
    mpnnp analyze rdf "$data/truth/nvt" -o "$out/fig4-truth"
"$here/fig5.sh" "$runs" "$data/starts/npt.xyz" "$out" "$PS"
is_new "$out/fig5-truth.png" "$data/truth/npt/status.json" ||
    mpnnp analyze density "$data/truth/npt" --low 0.5 --high 1.2 -o "$out/fig5-truth"
python "$here/findings.py" "$runs" "$data" "$out"
