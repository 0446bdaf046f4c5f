"""Errors in and out of range: python extrapolation.py RUNS DILUTE.h5

The best potential of every member, on its own validation structures and on DILUTE.h5.
"""

import sys
from pathlib import Path

import numpy as np
from members import groups_of, rmse_in_range, rmse_out_of_range

from mpnnp.data.formats import read_sources


def main(runs, dilute):
    dilute = read_sources([dilute])
    print(f"{'':16s} {'in range':>22s} {'out of range':>22s}    meV/atom, meV/Angstrom")
    for group, folders in groups_of(Path(runs)).items():
        rows = [[*rmse_in_range(folder), *rmse_out_of_range(folder, dilute)] for folder in folders]
        for folder, row in zip(folders, rows):
            print(f"{group}/{folder.name:12s} {row[0]:11.3f} {row[1]:10.2f} {row[2]:11.3f} {row[3]:10.2f}")
        mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
        print(f"{group + ', mean':16s} " + " ".join(f"{m:.3g} +- {s:.2g}" for m, s in zip(mean, spread)))


if __name__ == "__main__":
    main(*sys.argv[1:])
