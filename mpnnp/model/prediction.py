"""Energies and forces of structures from a potential, in eV and Angstrom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mpnnp.data.dataset import Dataset
from mpnnp.data.packed import make_atoms
from mpnnp.data.structure import Structure
from mpnnp.data.voigt import to_voigt
from mpnnp.errors import DataError
from mpnnp.kernels.energy_forces import energy_forces, energy_forces_stored
from mpnnp.kernels.jit import read_only
from mpnnp.kernels.packs import Structures, make_model
from mpnnp.model.baseline import Contribution
from mpnnp.parallel import Comm, of_all_ranks

if TYPE_CHECKING:
    from ase import Atoms

    from mpnnp.model.potential import Potential


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


class Predictor:
    """A potential made ready for the kernels; keeps the compiled form of everything but the weights."""

    def __init__(self, potential: Potential):
        self.potential = potential
        self.numbers = np.array(potential.elements)
        self.model = make_model(
            potential.functions.table, *potential.scaling.shift_and_factor(), potential.network.topology
        )
        self.n_max = potential.functions.n_max
        self.reference = potential.atomic_energies + potential.mean_energy

    def predict(
        self, structures: Structures, s: int, weights: np.ndarray | None = None, G: np.ndarray | None = None
    ) -> Prediction:
        """Prediction for structure s of `structures` (kernels.packs.Structures).

        weights  (n_weight,) instead of the potential's
        G        (n_atom, n_max) known symmetry functions of this structure, unscaled; computed if missing
        """
        w = read_only(self.potential.weights if weights is None else weights)
        atoms = slice(structures.start[s], structures.start[s + 1])
        element = structures.element[atoms]
        n_atom = len(element)
        energies, forces, virial = np.empty(n_atom), np.empty((n_atom, 3)), np.empty((3, 3))
        if G is None:
            energy_forces(
                structures, s, self.model, w, np.empty((n_atom, self.n_max)), energies, forces, virial
            )
        else:
            energy_forces_stored(structures, s, self.model, w, G, energies, forces, virial)
        scale = self.potential.energy_scale
        energies = energies * scale + self.reference[element]
        prediction = Prediction(float(energies.sum()), energies, forces * scale, virial * scale)
        return self.with_baseline(prediction, structures, s)

    def with_baseline(self, prediction: Prediction, structures: Structures, s: int) -> Prediction:
        """A prediction of the nets for structure s, and what the baseline of the potential adds."""
        if not self.potential.baseline:
            return prediction
        atoms = slice(structures.start[s], structures.start[s + 1])
        structure = Structure(
            numbers=self.numbers[structures.element[atoms]],
            positions=structures.positions[atoms],
            cell=structures.cell[s],
            pbc=structures.pbc[s],
            frame=s,
        )
        return prediction.plus(self.potential.baseline.of(structure))


def predict_atoms(potential: Potential, atoms: Atoms | Structure) -> Prediction:
    """Prediction for ase.Atoms or a Structure.

    Raises DataError if an element is unknown or the geometry is not finite.
    """
    if not isinstance(atoms, Structure):
        atoms = Structure(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=np.array(atoms.cell),
            pbc=atoms.pbc,
            source="atoms",
        )
    structures = make_atoms(Dataset.from_structures([atoms]), potential.elements)
    return Predictor(potential).predict(structures, 0)
