#!/usr/bin/env bash
# Fig. 5, density over time, NPT at 330 K and 1 bar: fig5.sh RUNS START OUT [PS]
set -euo pipefail
runs=$1 start=$2 out=$3 time=${4:-100}
for group in ekf adam; do
    for member in "$runs/$group"/seed-*; do
        mpnnp md "$member/best.h5" "$start" --ensemble npt --temperature 330 --pressure 1 --time "$time" -o "$member/npt" || echo "$member: did not last"
    done
    mpnnp analyze density "$runs/$group"/seed-*/npt --low 0.5 --high 1.2 -o "$out/fig5-$group"
done
