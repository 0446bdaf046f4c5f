"""What a potential says about a structure, in eV and Angstrom, and about one that it cannot compute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mpnnp.data.dataset import Dataset
from mpnnp.data.voigt import to_voigt
from mpnnp.errors import DataError
from mpnnp.model.baseline import Contribution
from mpnnp.parallel import Comm, of_all_ranks

NO_PREDICTION = "its energy or forces are not finite numbers: are two atoms at the same place?"


def refuse_not_finite(wrong: Iterable[int], dataset: Dataset, comm: Comm, reason: str) -> None:
    """Raise DataError that names the first structure of all ranks which is not to be computed. Collective.

    wrong  numbers of such structures that this rank has met
    reason scaling.NOT_FINITE or NO_PREDICTION
    """
    first = min(comm.allgather(min(wrong, default=len(dataset))))
    if first < len(dataset):
        raise of_all_ranks(DataError(f"{dataset.name(first)}: {reason}"))


@dataclass(frozen=True)
class Prediction:
    """energy eV; energies (n,) eV of the atoms, references included; forces (n, 3) eV/Angstrom;
    virial (3, 3) dE/dstrain, eV.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray

    def stress(self, cell: np.ndarray) -> np.ndarray:
        """(6,) eV/Angstrom^3, xx yy zz yz xz xy, in a cell (3, 3) that is periodic in all directions."""
        return to_voigt(self.virial) / abs(np.linalg.det(cell))

    def is_finite(self) -> bool:
        """False where a geometry cannot be computed: two atoms at one place, say."""
        return bool(np.isfinite(self.energy) and np.isfinite(self.forces).all())

    def plus(self, added: Contribution) -> Prediction:
        """The prediction with what a baseline adds."""
        return Prediction(*(getattr(self, name) + getattr(added, name) for name in Contribution._fields))
