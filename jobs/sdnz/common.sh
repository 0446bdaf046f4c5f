# shellcheck shell=bash
# What the scripts share: source common.sh

# shellcheck disable=SC2034
# Conditions of the simulations, the same for the truth and all students; the rest as `mpnnp md` sets it
EOS=(--ensemble nvt --thermostat bussi --tau-t 100 --temperature 300)
NVT=(--ensemble nvt --temperature 300)
NPT=(--ensemble npt --temperature 330 --pressure 1)

# is_new TARGET FILE...: TARGET is there, and younger than all FILEs
is_new() {
    local target=$1 file
    shift
    [ -e "$target" ] || return 1
    for file; do
        if [ "$file" -nt "$target" ]; then return 1; fi
    done
}

# groups RUNS: the folders of RUNS that hold members seed-N
groups() {
    (cd "$1" && ls -d ./*/seed-*) | cut -d/ -f2 | uniq
}
