#!/usr/bin/env bash
# Equations of state, NVT at 300 K: eos.sh RUNS DATA PS [OUT]; a simulation of every member at the density of
# each DATA/starts/eos-DENSITY.xyz, and a picture and table of each group in OUT.
set -euo pipefail
here=$(dirname "$0") runs=$1 data=$2 ps=$3 out=${4:-}
. "$here/common.sh"
for start in "$data"/starts/eos-*.xyz; do
    "$here/simulate.sh" "$runs" "$start" "$(basename "$start" .xyz)" "${EOS[@]}" --time "$ps"
done
[ -n "$out" ] || exit 0
mkdir -p "$out"
for group in $(groups "$runs"); do
    is_new "$out/eos-$group.png" "$data"/truth/eos-*/status.json "$runs/$group"/seed-*/eos-*/status.json ||
        python "$here/eos.py" "$data" "$runs/$group" "$out/eos-$group"
done
