#!/usr/bin/env bash
# Fig. 4, radial distribution functions, NVT at 300 K: fig4.sh RUNS START OUT [PS];
# the first of START's frames gives the density
set -euo pipefail
runs=$1 start=$2 out=$3
mkdir -p "$out"
"$(dirname "$0")/simulate.sh" "$runs" "$start" nvt --ensemble nvt --temperature 300 --time "${4:-100}"
for group in $(cd "$runs" && ls -d */seed-* | cut -d/ -f1 | uniq); do
    mpnnp analyze rdf "$runs/$group"/seed-*/nvt -o "$out/fig4-$group"
done
