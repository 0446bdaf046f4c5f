#!/usr/bin/env bash
# Fig. 5, density over time, NPT at 330 K and 1 bar: fig5.sh RUNS START OUT [PS]
set -euo pipefail
runs=$1 start=$2 out=$3
mkdir -p "$out"
"$(dirname "$0")/simulate.sh" "$runs" "$start" npt \
    --ensemble npt --temperature 330 --pressure 1 --time "${4:-100}"
for group in $(cd "$runs" && ls -d */seed-* | cut -d/ -f1 | uniq); do
    mpnnp analyze density "$runs/$group"/seed-*/npt --low 0.5 --high 1.2 -o "$out/fig5-$group"
done
