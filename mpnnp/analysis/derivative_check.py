"""Finite differences of a potential: forces and stress against its energies, rows against its predictions."""

from dataclasses import dataclass, replace

import numpy as np

from mpnnp.data.dataset import Dataset
from mpnnp.data.packed import make_atoms
from mpnnp.data.voigt import COLUMNS, ROWS
from mpnnp.kernels.energy_forces import symmetry_functions
from mpnnp.kernels.jacobian import (
    energy_rows,
    energy_values,
    force_rows,
    force_values,
    stress_rows,
    stress_values,
)
from mpnnp.kernels.jit import read_only
from mpnnp.model.potential import Predictor
from mpnnp.model.prediction import NO_PREDICTION, refuse_not_finite

FOURTH_ORDER = ((1, 8.0 / 12.0), (-1, -8.0 / 12.0), (2, -1.0 / 12.0), (-2, 1.0 / 12.0))
STEP = 1e-3  # Angstrom, and strain
WEIGHT_STEP = 1e-5
UNITS = {
    "forces": " eV/A",
    "stress": " eV/A^3",
    "rows of energies": "",
    "rows of forces": "",
    "rows of stresses": "",
}


# The largest force, eV/A, and the largest change of one count as this at least: where all vanish, as in a
# perfect crystal, differences leave their rounding.
SMALL = {"forces": 1e-4, "rows of forces": 1e-4}


@dataclass(frozen=True)
class Deviations:
    """Of one kind of derivative: how many were compared, the largest deviation, and the largest value."""

    name: str
    count: int
    largest: float
    scale: float

    @property
    def relative(self):
        scale = max(self.scale, SMALL.get(self.name, 0.0))
        return self.largest / scale if scale > 0 else self.largest

    def line(self):
        largest = f"{self.largest:.3g}{UNITS[self.name]}"
        return (
            f"{self.name:17s} {self.count:6d} compared, largest deviation {largest}, "
            f"{self.relative:.3g} of the largest value"
        )


def check_derivatives(potential, dataset, comm, n_component=20, seed=0, with_rows=False, step=STEP):
    """List of Deviations over the structures of a data set. Collective. Raises DataError, also for a
    structure whose prediction is not finite.

    n_component  force components that are compared in each structure, drawn by seed; stresses are compared
                 where all directions are periodic
    with_rows    compare the rows of energies, forces and stresses too, along a random direction in the space
                 of the weights
    step         Angstrom (forces), strain (stress); differences are of fourth order
    """
    make_atoms(dataset, potential.elements)  # an unknown element is an error on every rank
    predictor, found, wrong = Predictor(potential), {}, []
    for s in range(comm.rank, len(dataset), comm.size):
        structure, rng = dataset[s], np.random.default_rng([seed, s])
        components = rng.choice(3 * len(structure), min(n_component, 3 * len(structure)), replace=False)
        prediction = predictor.predict(_pack(structure, predictor), 0)
        if not prediction.is_finite():
            wrong.append(s)
            continue
        _compare_forces(predictor, structure, prediction, components, step, found)
        if structure.pbc.all():
            _compare_stress(predictor, structure, prediction, step, found)
        if with_rows:
            _compare_rows(predictor, structure, components, rng, found)
    refuse_not_finite(wrong, dataset, comm, NO_PREDICTION)
    return _collect(found, comm)


def _pack(structure, predictor):
    return make_atoms(Dataset.from_structures([structure]), predictor.potential.elements)


def _energy(predictor, structure, positions, cell):
    return predictor.predict(_pack(replace(structure, positions=positions, cell=cell), predictor), 0).energy


def _compare_forces(predictor, structure, prediction, components, step, found):
    forces = prediction.forces
    for component in components:
        direction = np.zeros(forces.shape)
        direction.flat[component] = step
        energies = [
            c * _energy(predictor, structure, structure.positions + k * direction, structure.cell)
            for k, c in FOURTH_ORDER
        ]
        _note(found, "forces", -sum(energies) / step, forces.flat[component])


def _compare_stress(predictor, structure, prediction, step, found):
    stress = prediction.stress(structure.cell)
    volume = abs(np.linalg.det(structure.cell))
    for component, (a, b) in enumerate(zip(ROWS, COLUMNS)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5 * step
        strain[b, a] += 0.5 * step
        slope = 0.0
        for k, c in FOURTH_ORDER:
            deformed = np.eye(3) + k * strain
            slope += (
                c
                * _energy(predictor, structure, structure.positions @ deformed, structure.cell @ deformed)
                / step
            )
        _note(found, "stress", slope / volume, stress[component])


def _compare_rows(predictor, structure, components, rng, found):
    """Rows along a random direction against differences of the predictions with other weights."""
    atoms, w = _pack(structure, predictor), predictor.potential.weights
    G = np.empty((len(structure), predictor.n_max))
    symmetry_functions(atoms, 0, predictor.potential.functions.table, G)
    direction = rng.normal(size=len(w))
    places = np.stack([np.zeros_like(components), components // 3, components % 3], axis=1)
    kinds = [
        ("rows of energies", energy_rows, energy_values, np.zeros(1, np.int64)),
        ("rows of forces", force_rows, force_values, places),
    ]
    if structure.pbc.all():
        kinds.append(
            (
                "rows of stresses",
                stress_rows,
                stress_values,
                np.stack([np.zeros(6, np.int64), np.arange(6)], axis=1),
            )
        )
    for name, rows_of, values_of, labels in kinds:
        rows, values = np.empty((len(labels), len(w))), np.empty((2, len(labels)))
        rows_of(labels, atoms, G, predictor.model, w, rows, np.empty(len(labels)))
        for k, sign in enumerate((1, -1)):
            values_of(
                labels, atoms, G, predictor.model, read_only(w + sign * WEIGHT_STEP * direction), values[k]
            )
        for numerical, exact in zip((values[0] - values[1]) / (2 * WEIGHT_STEP), rows @ direction):
            _note(found, name, numerical, exact)


def _note(found, name, numerical, exact):
    count, largest, scale = found.get(name, (0, 0.0, 0.0))
    deviation = abs(numerical - exact)
    found[name] = (
        count + 1,
        max(largest, deviation) if np.isfinite(deviation) else np.inf,
        max(scale, abs(exact)),
    )


def _collect(found, comm):
    parts, result = comm.allgather(found), []
    for name in UNITS:
        values = [part[name] for part in parts if name in part]
        if values:
            count, largest, scale = zip(*values)
            result.append(Deviations(name, sum(count), float(max(largest)), float(max(scale))))
    return result
