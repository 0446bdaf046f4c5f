"""Accuracies: root mean square and mean absolute errors of energies per atom, of force components
and of stress components.
"""

from dataclasses import dataclass

import numpy as np

MILLI = 1000.0  # eV to meV


@dataclass(frozen=True)
class Accuracy:
    """Errors in meV/atom, meV/Angstrom and meV/Angstrom^3; NaN where there are no labels."""

    energy_rmse: float
    energy_mae: float
    force_rmse: float
    force_mae: float
    stress_rmse: float = np.nan
    stress_mae: float = np.nan

    @property
    def has_labels(self):
        return not (np.isnan(self.energy_rmse) and np.isnan(self.force_rmse))


class Errors:
    """Sums over errors; `add` structures of this rank, then `accuracy` over all ranks."""

    def __init__(self):
        self.sums = np.zeros(9)  # energies: count, square, absolute; forces, stresses: the same

    def add(self, energy, forces, predicted_energy, predicted_forces, stress=None, predicted_stress=None):
        """Labels and predictions of one structure: eV, (n_atom, 3) eV/Angstrom, (6,) eV/Angstrom^3;
        a NaN label is none, a NaN prediction wrong.
        """
        self.add_energies(np.array([energy]), np.array([predicted_energy]), len(forces))
        self._add(3, np.ravel(forces), np.ravel(predicted_forces), 1.0)
        if predicted_stress is not None:
            self._add(6, np.asarray(stress), predicted_stress, 1.0)

    def add_energies(self, energies, predicted, n_atom):
        """Energy labels and predictions (n_structure,) eV of structures with n_atom (n_structure,) atoms,
        without their forces.
        """
        self._add(0, energies, predicted, 1.0 / n_atom)

    def _add(self, first, labels, predictions, factor):
        errors = ((labels - predictions) * (factor * MILLI))[~np.isnan(labels)]
        errors = np.nan_to_num(errors, nan=np.inf, posinf=np.inf, neginf=-np.inf)
        self.sums[first : first + 3] += len(errors), errors @ errors, np.abs(errors).sum()

    def accuracy(self, comm):
        """Collective."""
        total = np.empty(9)
        comm.Allreduce(self.sums, total)
        count, square, absolute = total.reshape(3, 3).T
        with np.errstate(invalid="ignore"):
            return Accuracy(
                *(float(x) for x in np.stack([np.sqrt(square / count), absolute / count], axis=1).ravel())
            )
