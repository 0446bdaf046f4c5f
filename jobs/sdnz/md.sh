#!/usr/bin/env bash
# One simulation: md.sh FOLDER POTENTIAL START OPTIONS of `mpnnp md`. What was begun is continued, what ended
# is not repeated. Status 0 if it finished, 1 if it failed, as its status.json says; that of `mpnnp md` for
# everything else, which is no result (2 in the place of a 1: a full disk, a broken installation).
set -euo pipefail
folder=$1 potential=$2 start=$3
shift 3
if grep -qs '"status": "finished"' "$folder/status.json"; then exit 0; fi
if grep -qs '"status": "failed"' "$folder/status.json"; then exit 1; fi
resume=$([ -e "$folder/protocol.json" ] && echo --resume || true)
status=0
# shellcheck disable=SC2086
mpnnp md "$potential" "$start" "$@" -o "$folder" $resume || status=$?
if [ "$status" -eq 1 ] && ! grep -qs '"status": "failed"' "$folder/status.json"; then status=2; fi
exit "$status"
