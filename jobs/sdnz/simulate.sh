#!/usr/bin/env bash
# The same simulation with every member: simulate.sh RUNS START NAME OPTIONS of `mpnnp md`;
# results in RUNS/GROUP/seed-N/NAME, for all whose training came to its end.
# JOBS simulations run at a time. What was begun is continued, what ended is not repeated.
# A simulation that explodes is one of the results; bad input and signals end the script.
set -euo pipefail
export runs=$1 start=$2 name=$3
shift 3
simulate() {
    member=$1
    shift
    grep -qsE '"status": "(finished|failed)"' "$member/$name/status.json" && return
    resume=$([ -e "$member/$name/protocol.json" ] && echo --resume || true)
    # 255, stopped or refused: xargs ends
    mpnnp md "$member/best.h5" "$start" "$@" -o "$member/$name" $resume || [ $? -eq 1 ] || exit 255
}
export -f simulate
ls "$runs"/*/seed-*/accuracy.json | xargs -n 1 dirname |
    xargs -P "${JOBS:-1}" -I{} bash -c 'simulate "$@"' _ {} "$@"
