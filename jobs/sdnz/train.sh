#!/usr/bin/env bash
# Train the members: train.sh DATA.h5 RUNS [SEEDS]; members already trained are skipped.
# RANKS=n: n members at a time, by mpiexec.
# The schedules are those of the paper squeezed into UPDATES (default: the paper's 5e5 and 5e6):
# eta t and the final learning rate are the same.
set -euo pipefail
here=$(dirname "$0") data=$1 runs=$2 seeds=${3:-1-3} ranks=${RANKS:-1}
ekf=${EKF_UPDATES:-500000} adam=${ADAM_UPDATES:-5000000}
eta=$(python -c "print(500 / $ekf)")
launch=$([ "$ranks" -eq 1 ] || echo mpiexec -n "$ranks")
ensemble() {
    config=$1 out=$2
    shift 2
    set -- --set data.files="$data" "$@"
    $launch mpnnp ensemble "$here/$config" --seeds "$seeds" --side-by-side "$ranks" -o "$out" "$@"
}
ensemble ekf.toml "$runs/ekf" --set run.epochs=$((ekf / 1000)) --set ekf.eta="$eta" --set ekf.eta_max="$eta"
ensemble adam.toml "$runs/adam" --set run.epochs=$((adam / 10000)) \
    --set adam.decay_steps=$((adam / 500)) --set adam.learning_rate="${ADAM_RATE:-1e-4}"
