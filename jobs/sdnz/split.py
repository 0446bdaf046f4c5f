"""Cut a data set in two by density: python split.py DATA... -o DIR [--dense 1.0] [--dilute 0.9]

DIR/dense.h5 holds the structures of at least the density --dense (g/cm^3), to train on; DIR/dilute.h5 those
below --dilute, which no run sees: the test of extrapolation. What lies between is left out. DIR/start.extxyz
is the least dense structure to train on, for simulations to start from.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from mpnnp.data import dataset
from mpnnp.data.formats import read_sources
from mpnnp.data.ranges import densities


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", metavar="DATA", help="data sets of any format")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--dense", type=float, default=1.0, help="smallest density of the training structures, g/cm^3"
    )
    parser.add_argument(
        "--dilute", type=float, default=0.9, help="structures below this density are the test, g/cm^3"
    )
    arguments = parser.parse_args()
    data = read_sources(arguments.data)
    density = densities(data)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("dense", density >= arguments.dense), ("dilute", density < arguments.dilute)):
        dataset.write(arguments.output / f"{name}.h5", data.take(np.flatnonzero(chosen)))
        span = (
            f"{density[chosen].min():.3f} to {density[chosen].max():.3f} g/cm^3" if chosen.any() else "none"
        )
        print(f"{arguments.output / name}.h5: {chosen.sum()} of {len(data)} structures, {span}")
    start = data[int(np.argmin(np.where(density >= arguments.dense, density, np.inf)))]
    write(
        arguments.output / "start.extxyz",
        Atoms(start.numbers, start.positions, cell=start.cell, pbc=start.pbc),
    )


if __name__ == "__main__":
    main()
