"""What a potential costs on given structures, estimated from their density before anything is computed."""

from dataclasses import dataclass

import numpy as np

from mpnnp.kernels.packs import Structures
from mpnnp.kernels.plan import plan_of
from mpnnp.kernels.table import ANGULAR, COMPACT_ANGULAR
from mpnnp.model.symmetry_functions import SymmetryFunctions

SAMPLE = 16  # structures looked at, and atoms of those without a cell
TERM = 1.0e-9  # seconds of one core for one angular function of one triplet: an order of magnitude
FORCE_LABEL = 6.0  # terms of the row of a force component, in those of the functions of one atom: an estimate


@dataclass(frozen=True)
class Cost:
    """Per atom, means: pairs (neighbours within the largest cutoff), triplets (pairs of those within that of
    the angular functions), terms (angular functions of all triplets).
    """

    pairs: float
    triplets: float
    terms: float

    def of_functions(self) -> float:
        """Seconds for the symmetry functions of one atom."""
        return self.terms * TERM

    def of_force_row(self) -> float:
        """Seconds for the row of one force component."""
        return FORCE_LABEL * self.terms * TERM

    def __str__(self):
        return f"about {self.pairs:.3g} pairs and {self.triplets:.3g} triplets per atom"


def cost_of(structures: Structures, functions: SymmetryFunctions) -> Cost:
    """Cost of the functions on a sample of the structures: neighbours by the density of those that are
    periodic in all directions, by distances in others.
    """
    plan, n_structure = plan_of(functions.table), len(structures.start) - 1
    chosen = np.unique(np.linspace(0, n_structure - 1, min(SAMPLE, n_structure)).astype(int))
    within = np.array([[_neighbours(structures, s, r_c) for r_c in plan.reach] for s in chosen])
    n_atom = np.diff(structures.start)[chosen]
    pairs, near = np.average(within, axis=0, weights=n_atom)
    triplets = max(near * (near - 1.0) / 2.0, 0.0) + 0.0  # no -0
    table = functions.table
    angular = np.isin(table.kind, ANGULAR + COMPACT_ANGULAR)
    centre = np.searchsorted(table.start, np.arange(len(angular)), side="right")
    groups = {*zip(centre[angular], table.e1[angular], table.e2[angular])}  # each has triplets of its own
    return Cost(float(pairs), float(triplets), float(triplets * angular.sum() / max(len(groups), 1)))


def _neighbours(structures, s, r_c):
    """Mean number of neighbours within r_c of the atoms of structure s."""
    first, last = structures.start[s], structures.start[s + 1]
    if structures.pbc[s].all():
        density = (last - first) / abs(np.linalg.det(structures.cell[s]))
        return density * 4.0 / 3.0 * np.pi * r_c**3
    x = structures.positions[first:last]
    some = x[np.linspace(0, len(x) - 1, min(len(x), SAMPLE)).astype(int)]
    return float((np.linalg.norm(some[:, None] - x[None], axis=2) < r_c).sum(axis=1).mean() - 1.0)
