"""Standard deviation of energies by the filter's covariance, sqrt(h P h^T), in range and out of it:

    python kalman.py RUNS DATA OUT [N]

N (100) structures each of DATA/data.h5 and DATA/dilute.h5, all groups with a covariance. Writes
OUT/kalman.csv.
"""

import sys
from pathlib import Path

import numpy as np
from members import groups_of

from mpnnp.analysis.selection import at_interval, energy_rows_per_atom
from mpnnp.commands.common import write_result
from mpnnp.data import dataset
from mpnnp.files import write_table
from mpnnp.optimizers.posterior import has_covariance
from mpnnp.parallel import serial
from mpnnp.progress import Silent
from mpnnp.training.checkpoint import read_checkpoint, read_posterior


def deviation(checkpoint, potential, structures):
    """Root mean square over structures of the standard deviation of the energy, meV/atom."""
    rows = energy_rows_per_atom(potential, structures, serial(), Silent())
    variance = np.einsum("si,si->s", rows, read_posterior(checkpoint).times(rows))
    return 1000.0 * potential.energy_scale * np.sqrt(variance.mean())


def main(runs, data, out, n=100):
    everything = [dataset.read(Path(data) / f"{name}.h5") for name in ("data", "dilute")]
    parts = [d.take(at_interval(min(int(n), len(d)), len(d))) for d in everything]
    table = {"group": [], "member": [], "in_range_mev": [], "out_of_range_mev": []}
    for group, folders in groups_of(Path(runs)).items():
        for folder in folders:
            path = folder / "checkpoint.h5"
            saved = read_checkpoint(path)
            if has_covariance(saved.optimizer):
                found = [deviation(path, saved.potential, part) for part in parts]
                for column, value in zip(table.values(), (group, folder.name, *found)):
                    column.append(value)
                print(f"{group}/{folder.name}: {found[0]:.3g} in range, {found[1]:.3g} out of it, meV/atom")
    write_result(Path(out) / "kalman.csv", lambda path: write_table(path, table))


if __name__ == "__main__":
    main(*sys.argv[1:])
