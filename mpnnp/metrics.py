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

    @property
    def has_labels(self):
        return not (np.isnan(self.energy_rmse) and np.isnan(self.force_rmse))


class Errors:
    """Sums over errors; `add` structures of this rank, then `accuracy` over all ranks."""

    def __init__(self):
        self.sums = np.zeros(6)  # energies: count, square, absolute; forces: the same

    def add(self, energy, forces, predicted_energy, predicted_forces):
        """Labels and predictions of one structure: eV, and (n_atom, 3) eV/Angstrom; a NaN label is none, a NaN prediction is wrong."""
        self.add_energies(np.array([energy]), np.array([predicted_energy]), len(forces))
        self._add(3, np.ravel(forces), np.ravel(predicted_forces), 1.0)

    def add_energies(self, energies, predicted, n_atom):
        """Energy labels and predictions (n_structure,) eV of structures with n_atom (n_structure,) atoms, without their forces."""
        self._add(0, energies, predicted, 1.0 / n_atom)

    def _add(self, first, labels, predictions, factor):
        errors = ((labels - predictions) * (factor * MILLI))[~np.isnan(labels)]
        errors = np.nan_to_num(errors, nan=np.inf, posinf=np.inf, neginf=-np.inf)
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
