#!/bin/bash
# Training without a batch system: starts, and continues if the folder holds a run.
# A run that was stopped by Ctrl-C, SIGTERM or SIGUSR1 (kill -USR1 of mpiexec) ends with status 75;
# start the script again to continue.
#   bash jobs/mpirun.sh 8 jobs/water/train.toml runs/water
ranks=${1:-2}
config=${2:-jobs/water/train.toml}
run=${3:-runs/water}

resume=()
if [ -e "$run/train.log" ]; then resume=(--resume); fi
exec mpiexec -n "$ranks" mpnnp train "$config" -o "$run" "${resume[@]}"
