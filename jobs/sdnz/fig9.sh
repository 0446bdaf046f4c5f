#!/usr/bin/env bash
# Fig. 9, Fisher spectra: fig9.sh RUNS DATA.h5 OUT [RANKS [OPTIONS of `mpnnp fisher`]]
set -euo pipefail
runs=$1 data=$2 out=$3 ranks=${4:-1}
. "$(dirname "$0")/common.sh"
mkdir -p "$out"
is_new "$out/fisher.h5" "$runs"/{ekf,adam}/seed-*/checkpoint.h5 && exit
launch=$([ "$ranks" -eq 1 ] || echo mpiexec -n "$ranks")
options=(--data "$data" -o "$out/fisher.h5" --plot "$out/fig9.png")
$launch mpnnp fisher "$runs"/{ekf,adam}/seed-*/checkpoint.h5 "${options[@]}" "${@:5}"
