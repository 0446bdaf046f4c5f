"""Errors in and out of range: python extrapolation.py RUNS DILUTE.h5

The best potential of every member, on its own validation structures and on DILUTE.h5.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np


def main(runs, dilute):
    print(f"{'':16s} {'in range':>22s} {'out of range':>22s}    meV/atom, meV/Angstrom")
    for group in sorted({folder.parent.name for folder in Path(runs).glob("*/seed-*")}):
        rows = []
        for folder in sorted(Path(runs, group).glob("seed-*")):
            subprocess.run(
                ["mpnnp", "evaluate", folder / "best.h5", dilute, "--json", folder / "dilute.json"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            inside = json.loads((folder / "accuracy.json").read_text())["validation"]
            outside = json.loads((folder / "dilute.json").read_text())
            keys = "energy_rmse_mev_per_atom", "force_rmse_mev_per_angstrom"
            rows.append([inside["energy_rmse"], inside["force_rmse"], *(outside[key] for key in keys)])
            print(
                f"{group}/{folder.name:12s} {rows[-1][0]:11.3f} {rows[-1][1]:10.2f} "
                f"{rows[-1][2]:11.3f} {rows[-1][3]:10.2f}"
            )
        mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
        print(f"{group + ', mean':16s} " + " ".join(f"{m:.3g} +- {s:.2g}" for m, s in zip(mean, spread)))


if __name__ == "__main__":
    main(*sys.argv[1:])
