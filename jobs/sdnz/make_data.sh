#!/usr/bin/env bash
# Data with a known truth: make_data.sh POTENTIAL DATA
#   POTENTIAL             checkpoint or folder of n2p2 files: the truth
#   DATA/data.h5          3040 frames of 64 molecules to train on: liquid of 0.95 to 1.3 g/cm^3 at 300 to 600 K,
#                         and cubic and hexagonal ice of 0.95 to 1.2 g/cm^3 at 300 K; DATA/energy-density.png
#   DATA/dilute.h5        190 frames of liquid of 0.65 to 0.85 g/cm^3 at 300 K: the test of extrapolation
#   DATA/truth            the truth's own simulations: equation of state, NVT at 1 g/cm^3, NPT at 1 bar
#   DATA/eos.h5           frames of its equation of state, for the pressures of students on the same frames
#   DATA/starts           their starts, for the students
# Deterministic: every simulation has its own seed. Started again it goes on; JOBS simulations run at a time.
# A potential that explodes in one of them ends it. Other variables, for other sizes, are below; PS is the time
# of each simulation of the truth.
set -euo pipefail
here=$(dirname "$0") truth=$1 data=$2
. "$here/common.sh"
molecules=${MOLECULES:-64} ps=${PS:-20}
densities=${DENSITIES:-0.95 1.00 1.05 1.10 1.15 1.20 1.25 1.30}
temperatures=${TEMPERATURES:-300 400 500 600}
ice_densities=${ICE_DENSITIES:-0.95 1.00 1.10 1.20}
dilute_densities=${DILUTE_DENSITIES:-0.65 0.70 0.75 0.80 0.85}
eos_densities=${EOS_DENSITIES:-0.65 0.70 0.75 0.80 0.90 1.00}
warm_ps=${WARM_PS:-1.25} sample_ps=${SAMPLE_PS:-3.75} # a frame every 0.05 ps
mkdir -p "$data/starts"
export here truth data molecules warm_ps

# In these functions `set -e` does not count, as their callers ask for the status: each step returns it.
# start KIND DENSITY SEED FILE: a box of water, or ice
start() {
    local kind=$1 density=$2 seed=$3 file="${4%.xyz}-part.xyz"
    [ -e "$4" ] && return
    if [ "$kind" = water ]; then
        mpnnp box water --molecules "$molecules" --density "$density" --seed "$seed" --overwrite -o "$file"
    else
        python "$here/ice.py" "$kind" "$density" "$seed" "$file"
    fi || return
    mv "$file" "$4"
}
# sample NAME KIND DENSITY TEMPERATURE SEED PS OPTIONS: DATA/NAME/warm from a start, then DATA/NAME/run
sample() {
    local folder=$data/$1
    mkdir -p "$folder"
    start "$2" "$3" "$5" "$folder/start.xyz" || return
    bash "$here/md.sh" "$folder/warm" "$truth" "$folder/start.xyz" --thermostat langevin --tau-t 100 \
        --temperature "$4" --time "$warm_ps" --seed "$5" || return # stopped: final.xyz is not its end
    bash "$here/md.sh" "$folder/run" "$truth" "$folder/warm/final.xyz" --temperature "$4" --time "$6" \
        --seed "$5" "${@:7}"
}
export -f start sample
# all NAME...: `sample` with each line of the input, JOBS at a time
all() { xargs -P "${JOBS:-1}" -L 1 bash -c 'sample "$@" || exit 255' _; }

{
    seed=0
    for density in $densities; do
        for temperature in $temperatures; do
            echo "md/liquid-$density-$temperature water $density $temperature $((++seed)) $sample_ps" \
                --thermostat langevin --tau-t 100
        done
    done
    for kind in ic ih; do
        for density in $ice_densities; do
            echo "md/$kind-$density-300 $kind $density 300 $((++seed)) $sample_ps --thermostat langevin --tau-t 100"
        done
    done
    for density in $dilute_densities; do
        echo "md/dilute-$density-300 water $density 300 $((++seed)) $sample_ps --save-every 100" \
            --thermostat langevin --tau-t 100
    done
    for density in $eos_densities; do
        echo "md/eos-$density water $density 300 $((++seed)) $warm_ps ${EOS[*]}"
    done
    echo "md/nvt water 1.00 300 $((++seed)) $warm_ps ${NVT[*]}"
    echo "md/npt water 0.75 330 $((++seed)) $ps" # a liquid of the density that the published potential has
} | all

# label FILE NAMES: the frames of these simulations with the truth's labels
label() {
    local file=$data/$1
    shift
    [ -e "$file" ] || mpnnp label "$truth" "$@" -o "$file"
}
label data.h5 "$data"/md/{liquid,ic,ih}-*/run/trajectory.xyz
label dilute.h5 "$data"/md/dilute-*/run/trajectory.xyz
[ -e "$data/energy-density.png" ] || mpnnp analyze energy-density "$data/data.h5" -o "$data/energy-density"

for from in "$data"/md/{eos-*,nvt,npt}; do
    cp -u "$from/run/final.xyz" "$data/starts/$(basename "$from").xyz"
done
for start in "$data"/starts/eos-*.xyz; do
    echo "$(basename "$start" .xyz) ${EOS[*]}"
done >"$data/truth.list"
echo "nvt ${NVT[*]}" >>"$data/truth.list"
echo "npt ${NPT[*]}" >>"$data/truth.list"
export ps
simulate() { bash "$here/md.sh" "$data/truth/$1" "$truth" "$data/starts/$1.xyz" "${@:2}" --time "$ps"; }
export -f simulate
xargs -P "${JOBS:-1}" -L 1 bash -c 'simulate "$@" || exit 255' _ <"$data/truth.list"
label eos.h5 "$data"/truth/eos-*/trajectory.xyz
touch "$data/done"
