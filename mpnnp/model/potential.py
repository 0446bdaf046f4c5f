"""A potential: symmetry functions, their scaling, the nets with weights, and the reference energies and
scales; and the same made ready for the kernels.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from mpnnp.data.dataset import Dataset
from mpnnp.data.packed import make_atoms
from mpnnp.data.structure import Structure
from mpnnp.errors import ConfigError, DataError
from mpnnp.kernels.energy_forces import energy_forces, energy_forces_stored
from mpnnp.kernels.jit import read_only
from mpnnp.kernels.packs import Structures, make_model
from mpnnp.model.baseline import NONE, Baseline, parse_baseline
from mpnnp.model.network import Network
from mpnnp.model.prediction import Prediction
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.model.symmetry_functions import SymmetryFunction, SymmetryFunctions
from mpnnp.units import ATOMIC, Units, parse_units

if TYPE_CHECKING:
    import h5py
    from ase import Atoms


@dataclass(frozen=True, kw_only=True, repr=False)
class Potential:
    """E = sum_i e_ref(Z_i) + N mean_energy + energy_scale sum_i N_e(g_i; w) + baseline.

    weights          (n_weight,) in the order of Network
    atomic_energies  (n_element,) eV, e_ref
    mean_energy      eV per atom
    energy_scale     eV, unit of the net's output and of energies in training
    force_scale      eV/Angstrom, unit of forces in training
    units            of the n2p2 files that it comes from, or is exported to; nothing here depends on them
    baseline         what was subtracted from the labels, and is added to every prediction
    seen             None, or (minimum, maximum) (n_function,) of the functions over all that was learned,
                     where that is more than the first data set, by which they are scaled
    """

    functions: SymmetryFunctions
    scaling: Scaling
    network: Network
    weights: np.ndarray
    atomic_energies: np.ndarray
    mean_energy: float
    energy_scale: float
    force_scale: float
    units: Units = ATOMIC
    baseline: Baseline = NONE
    seen: tuple[np.ndarray, np.ndarray] | None = None

    def __repr__(self):
        nets = "; ".join(
            f"{chemical_symbols[z]} {'-'.join(map(str, size))}"
            for z, size in zip(self.elements, self.network.sizes)
        )
        return (
            f"Potential({nets}; {self.network.n_weight} weights, {len(self.functions)} symmetry functions, "
            f"cutoff {self.functions.r_c:.4g} Angstrom, mean energy {self.mean_energy:.6g} eV/atom"
            f"{f', baseline {self.baseline}' if self.baseline else ''})"
        )

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers, ascending."""
        return self.functions.elements

    @property
    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """(minimum, maximum) (n_function,) of each symmetry function over what was learned: outside of it the
        potential extrapolates.
        """
        return self.seen or (self.scaling.statistics.minimum, self.scaling.statistics.maximum)

    def that_saw(self, minimum: np.ndarray, maximum: np.ndarray) -> Potential:
        """The same with a range that contains these (n_function,) too."""
        low, high = self.range
        return replace(self, seen=(np.minimum(low, minimum), np.maximum(high, maximum)))

    def with_weights(self, weights: np.ndarray) -> Potential:
        """The same potential with other weights (n_weight,). Raises DataError for another number of them."""
        return replace(self, weights=self.network.checked(weights).copy())

    def digest(self) -> str:
        """A hash of all that predictions depend on: the same for potentials that predict the same."""
        numbers = self.mean_energy, self.energy_scale
        arrays = *self.functions.table, *self.scaling.shift_and_factor(), self.weights, self.atomic_energies
        nets = self.network.sizes, self.network.activations, str(self.baseline)
        found = hashlib.sha256(json.dumps([nets, [float(x) for x in numbers]]).encode())
        for array in arrays:
            found.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def offset(self, counts: np.typing.ArrayLike) -> np.ndarray:
        """Energy (…,) eV that does not depend on the geometry, for numbers of atoms
        of each element (…, n_element).
        """
        counts = np.asarray(counts)
        return counts @ self.atomic_energies + counts.sum(axis=-1) * self.mean_energy

    def energy_forces(self, atoms: Atoms | Structure) -> tuple[float, np.ndarray]:
        """(energy eV, forces (n, 3) eV/Angstrom) of ase.Atoms or a Structure.

        Raises DataError if an element is unknown.
        """
        prediction = self.predict(atoms)
        return prediction.energy, prediction.forces

    def predict(self, atoms: Atoms | Structure) -> Prediction:
        """prediction.Prediction of ase.Atoms or a Structure: energy, energies of the atoms, forces, virial.

        Raises DataError if an element is unknown or the geometry is not finite.
        """
        if not isinstance(atoms, Structure):
            if not hasattr(atoms, "numbers"):
                raise DataError(f"{str(atoms)[:80]!r}: must be ase.Atoms or a Structure")
            atoms = Structure.from_atoms(atoms, source="atoms")
        structures = make_atoms(Dataset.from_structures([atoms]), self.elements)
        return Predictor(self).predict(structures, 0)

    def write(self, group: h5py.Group) -> None:
        """Store the potential in an HDF5 group; its weights are not part of it (see checkpoint.py)."""
        for field in fields(SymmetryFunction):
            group[f"functions/{field.name}"] = [getattr(f, field.name) for f in self.functions.functions]
        for field in fields(Statistics):
            group[f"scaling/{field.name}"] = getattr(self.scaling.statistics, field.name)
        if self.seen:
            group["seen/minimum"], group["seen/maximum"] = self.seen
        scaling = group["scaling"].attrs
        scaling["kind"], scaling["scale_min"], scaling["scale_max"] = (
            self.scaling.kind,
            self.scaling.s_min,
            self.scaling.s_max,
        )
        group.attrs["network"] = json.dumps(
            {"sizes": self.network.sizes, "activations": self.network.activations}
        )
        group["elements"] = self.elements
        group["atomic_energies"] = self.atomic_energies
        group["atomic_energies"].attrs["units"] = "eV"
        for name in ("mean_energy", "energy_scale", "force_scale"):
            group.attrs[name] = getattr(self, name)
        group.attrs["file_units"] = str(self.units)
        group.attrs["baseline"] = str(self.baseline)
        group.attrs["units"] = "mean_energy, energy_scale: eV; force_scale: eV/Angstrom; functions: Angstrom"

    @classmethod
    def read(cls, group: h5py.Group, weights: np.ndarray) -> Potential:
        """Potential from an HDF5 group written by `write`.

        KeyError, ValueError or TypeError if it is damaged.
        """
        columns = {
            f.name: group[f"functions/{f.name}"][()]
            for f in fields(SymmetryFunction)
            if f"functions/{f.name}" in group or f.name == "center"
        }
        functions = [
            SymmetryFunction(**{name: column[k].item() for name, column in columns.items()})
            for k in range(len(columns["center"]))
        ]
        statistics = Statistics(*(group[f"scaling/{field.name}"][()] for field in fields(Statistics)))
        scaling = group["scaling"].attrs
        return cls(
            functions=SymmetryFunctions(group["elements"][()], functions),
            scaling=Scaling(
                str(scaling["kind"]), float(scaling["scale_min"]), float(scaling["scale_max"]), statistics
            ),
            network=Network(**json.loads(group.attrs["network"])),
            weights=weights,
            atomic_energies=group["atomic_energies"][()],
            units=parse_units(str(group.attrs.get("file_units", ATOMIC))),
            baseline=parse_baseline(str(group.attrs.get("baseline", ""))),
            seen=(group["seen/minimum"][()], group["seen/maximum"][()]) if "seen" in group else None,
            **{name: float(group.attrs[name]) for name in ("mean_energy", "energy_scale", "force_scale")},
        )


def check_potential(potential: object) -> None:
    """Raise ConfigError for what is no Potential."""
    if not isinstance(potential, Potential):
        raise ConfigError(
            f"potential = {potential!r}: must be a Potential, as mpnnp.load gives of a checkpoint or folder"
        )


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
