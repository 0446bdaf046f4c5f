#!/usr/bin/env bash
# Fig. 4, radial distribution functions, NVT at 300 K: fig4.sh RUNS START OUT [PS];
# the last of START's frames gives the density
set -euo pipefail
here=$(dirname "$0") runs=$1 start=$2 out=$3
. "$here/common.sh"
mkdir -p "$out"
"$here/simulate.sh" "$runs" "$start" nvt "${NVT[@]}" --time "${4:-100}"
for group in $(groups "$runs"); do
    is_new "$out/fig4-$group.png" "$runs/$group"/seed-*/nvt/status.json ||
        mpnnp analyze rdf "$runs/$group"/seed-*/nvt -o "$out/fig4-$group"
done
