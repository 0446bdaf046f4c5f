#!/usr/bin/env bash
# Fig. 9, Fisher spectra: fig9.sh RUNS DATA.h5 OUT [RANKS [OPTIONS of tools/fisher.py]]
set -euo pipefail
runs=$1 data=$2 out=$3 ranks=${4:-1}
mkdir -p "$out"
mpiexec -n "$ranks" python "$(dirname "$0")/../../tools/fisher.py" "$runs"/{ekf,adam}/seed-*/checkpoint.h5 \
    --data "$data" -o "$out/fisher.h5" --plot "$out/fig9.png" "${@:5}"
