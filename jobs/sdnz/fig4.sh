#!/usr/bin/env bash
# Fig. 4, radial distribution functions, NVT at 300 K: fig4.sh RUNS START OUT [PS]; the first of START's frames gives the density
set -euo pipefail
runs=$1 start=$2 out=$3 time=${4:-100}
for group in ekf adam; do
    for member in "$runs/$group"/seed-*; do
        mpnnp md "$member/best.h5" "$start" --ensemble nvt --temperature 300 --time "$time" -o "$member/nvt" || echo "$member: did not last"
    done
    mpnnp analyze rdf "$runs/$group"/seed-*/nvt -o "$out/fig4-$group"
done
