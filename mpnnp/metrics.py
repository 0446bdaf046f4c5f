"""Accuracies: root mean square and mean absolute errors of energies per atom and of force components."""

from dataclasses import dataclass

import numpy as np

MILLI = 1000.0  # eV to meV


@dataclass(frozen=True)
class Accuracy:
    """Errors in meV/atom and meV/Angstrom; NaN where there are no labels."""

    energy_rmse: float
    energy_mae: float
    force_rmse: float
    force_mae: float


class Errors:
    """Sums over errors; `add` structures of this rank, then `accuracy` over all ranks."""

    def __init__(self):
        self.sums = np.zeros(6)  # energies: count, square, absolute; forces: the same

    def add(self, energy_error, n_atom, force_error):
        """energy_error eV of one structure and force_error (n_atom, 3) eV/Angstrom; NaN: no label."""
        self._add(0, np.array([energy_error / n_atom]))
        self._add(3, np.ravel(force_error))

    def _add(self, first, errors):
        errors = errors[~np.isnan(errors)] * MILLI
        self.sums[first : first + 3] += len(errors), errors @ errors, np.abs(errors).sum()

    def accuracy(self, comm):
        """Collective."""
        total = np.empty(6)
        comm.Allreduce(self.sums, total)
        with np.errstate(invalid="ignore"):
            return Accuracy(
                float(np.sqrt(total[1] / total[0])),
                float(total[2] / total[0]),
                float(np.sqrt(total[4] / total[3])),
                float(total[5] / total[3]),
            )
