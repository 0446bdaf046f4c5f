#!/bin/bash
# One frame of RUN/to-label.extxyz, the one of this array task, labelled by a calculator of ASE. Put your own
# program in the place of `mpnnp label`: what must appear in RUN/labels is an output that mpnnp reads (CP2K,
# VASP, extxyz, ...) of the same atoms.
#   sbatch --array=0-9 jobs/learn/label.sh runs/learn "ase:tblite.ase.TBLite:method=GFN1-xTB"
#SBATCH --job-name=mpnnp-label
#SBATCH --ntasks=1
#SBATCH --time=2:00:00
#SBATCH --output=%x-%A-%a.out
# Of this cluster; take away one # of those that are needed:
##SBATCH --account=ACCOUNT
##SBATCH --partition=PARTITION
##SBATCH --nodes=1
##SBATCH --mem-per-cpu=2G
##SBATCH --mail-type=FAIL,END
##SBATCH --mail-user=NAME@EXAMPLE.ORG
# module load python openmpi
# source "$HOME/venvs/mpnnp/bin/activate"
set -eu
run=$1
labeller=$2
frame=${SLURM_ARRAY_TASK_ID:-0}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

python -c "
import sys
from ase.io import read, write
write(sys.argv[3], read(sys.argv[1], index=int(sys.argv[2])))" "$run/to-label.extxyz" "$frame" "$work/frame.extxyz"
mpnnp label "$labeller" "$work/frame.extxyz" -o "$work/labelled.extxyz"
cp "$work/labelled.extxyz" "$run/.labelled-$frame"
mv "$run/.labelled-$frame" "$run/labels/frame-$frame.extxyz"  # in one step: never half a file
