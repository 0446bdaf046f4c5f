#!/usr/bin/env bash
# Fig. 5, density over time, NPT at 330 K and 1 bar: fig5.sh RUNS START OUT [PS]
set -euo pipefail
here=$(dirname "$0") runs=$1 start=$2 out=$3
. "$here/common.sh"
mkdir -p "$out"
"$here/simulate.sh" "$runs" "$start" npt "${NPT[@]}" --time "${4:-100}"
for group in $(groups "$runs"); do
    is_new "$out/fig5-$group.png" "$runs/$group"/seed-*/npt/status.json ||
        mpnnp analyze density "$runs/$group"/seed-*/npt --low 0.5 --high 1.2 -o "$out/fig5-$group"
done
