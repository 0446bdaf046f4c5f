#!/usr/bin/env bash
# Equations of state, NVT at 300 K: eos.sh RUNS DATA OUT [PS]; a simulation of every member at the density of
# each DATA/starts/eos-DENSITY.xyz. With two densities only (a test) the curves are lines.
set -euo pipefail
here=$(dirname "$0") runs=$1 data=$2 out=$3
. "$here/common.sh"
mkdir -p "$out"
for start in "$data"/starts/eos-*.xyz; do
    "$here/simulate.sh" "$runs" "$start" "$(basename "$start" .xyz)" "${EOS[@]}" --time "${4:-20}"
done
for group in $(groups "$runs"); do
    is_new "$out/eos-$group.png" "$data"/truth/eos-*/status.json "$runs/$group"/seed-*/eos-*/status.json ||
        python "$here/eos.py" "$data" "$runs/$group" "$out/eos-$group"
done
