#!/usr/bin/env bash
# Fig. 3, learning curves: fig3.sh RUNS OUT
set -euo pipefail
mkdir -p "$2"
mpnnp compare "$1/ekf" "$1/adam" -o "$2/fig3.png" --json "$2/fig3.json"
