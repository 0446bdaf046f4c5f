#!/usr/bin/env bash
# Train the members: train.sh DATA.h5 RUNS [SEEDS]; members already trained are skipped, begun ones go on.
# RANKS=n: n members at a time, by mpiexec.
# LENGTH: length of the runs, 1 (default) is that of the paper, 5e5 and 5e6 updates. The schedules of others
# are those of the paper squeezed: eta t and the final learning rate are the same. ADAM_RATE: 1e-4.
# The third group, default, is the filter as mpnnp sets it today, with LENGTH times its own 20,000 updates.
set -euo pipefail
here=$(dirname "$0") data=$1 runs=$2 seeds=${3:-1-4} ranks=${RANKS:-1} length=${LENGTH:-1}
launch=$([ "$ranks" -eq 1 ] || echo mpiexec -n "$ranks")
# updates of 50 epochs each: the interval of the learning curve
read -r ekf adam default eta <<< "$(python -c "
ekf, adam, default = (max(round(n * float('$length') / 50), 1) for n in (500_000, 5_000_000, 20_000))
print(ekf, adam, 50 * default, 10 / ekf)")"
ensemble() {
    config=$1 out=$2
    shift 2
    set -- --set data.files="$data" "$@"
    $launch mpnnp ensemble "$here/$config" --seeds "$seeds" --side-by-side "$ranks" -o "$out" "$@"
}
ensemble ekf.toml "$runs/ekf" --set schedule.updates_per_epoch="$ekf" \
    --set ekf.eta="$eta" --set ekf.eta_max="$eta"
ensemble adam.toml "$runs/adam" --set schedule.updates_per_epoch="$adam" \
    --set adam.decay_steps=$(((adam + 9) / 10)) --set adam.learning_rate="${ADAM_RATE:-1e-4}"
ensemble default.toml "$runs/default" --set run.updates="$default"
