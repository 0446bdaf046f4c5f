#!/usr/bin/env bash
# The same simulation with every member: simulate.sh RUNS START NAME OPTIONS of `mpnnp md`;
# results in RUNS/GROUP/seed-N/NAME, for all whose training came to its end.
# JOBS simulations run at a time. What was begun is continued, what ended is not repeated.
# A simulation that explodes is one of the results; bad input and signals end the script.
set -euo pipefail
here=$(dirname "$0") runs=$1 start=$2 name=$3
shift 3
export here start name
simulate() {
    member=$1
    shift
    # 255, stopped or refused: xargs ends
    bash "$here/md.sh" "$member/$name" "$member/best.h5" "$start" "$@" || [ $? -eq 1 ] || exit 255
}
export -f simulate
for trained in "$runs"/*/seed-*/accuracy.json; do printf '%s\0' "${trained%/*}"; done |
    xargs -0 -P "${JOBS:-1}" -I{} bash -c 'simulate "$@"' _ {} "$@"
