#!/usr/bin/env bash
# Fig. 3, learning curves: fig3.sh RUNS OUT
set -euo pipefail
. "$(dirname "$0")/common.sh"
mkdir -p "$2"
is_new "$2/fig3.png" "$1"/*/seed-*/accuracy.json && exit
folders=()
for group in $(groups "$1"); do folders+=("$1/$group"); done
mpnnp compare "${folders[@]}" -o "$2/fig3.png" --json "$2/fig3.json"
