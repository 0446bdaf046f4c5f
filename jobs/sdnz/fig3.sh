#!/usr/bin/env bash
# Fig. 3, learning curves: fig3.sh RUNS OUT
set -euo pipefail
groups=$(ls -d "$1"/*/seed-* | xargs -n 1 dirname | uniq)
mkdir -p "$2"
mpnnp compare $groups -o "$2/fig3.png" --json "$2/fig3.json"
