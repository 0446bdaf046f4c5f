#!/usr/bin/env bash
# The same simulation with every member: simulate.sh RUNS START NAME OPTIONS of `mpnnp md`; results in RUNS/GROUP/seed-N/NAME.
# JOBS simulations run at a time. What was begun is continued, what was finished is not repeated.
set -euo pipefail
export runs=$1 start=$2 name=$3
shift 3
simulate() {
    member=$1
    shift
    grep -qsE '"status": "(finished|failed)"' "$member/$name/status.json" && return
    resume=$([ -e "$member/$name/restart.h5" ] && echo --resume || true)
    mpnnp md "$member/best.h5" "$start" "$@" -o "$member/$name" $resume || echo "$member: did not last"
}
export -f simulate
printf '%s\n' "$runs"/*/seed-* | xargs -P "${JOBS:-1}" -I{} bash -c 'simulate "$@"' _ {} "$@"
