"""The search for neighbours against ASE's."""

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from mpnnp.kernels.neighbours import N_BIT
from mpnnp.kernels.packs import make_structures
from mpnnp.kernels.pairs import find_pairs
from mpnnp.kernels.plan import plan_of
from mpnnp.model.symmetry_functions import SymmetryFunctions, parse_line

PLAN = plan_of(SymmetryFunctions((1,), [parse_line("H 2 H 0.1 0 4.0", length=1.0)]).table)


@pytest.mark.parametrize("edge", [1.5, 3.0, 6.0, 14.0])
def test_neighbours_are_those_of_ase_by_atom_and_image(edge):
    """Cells from a fourth of the cutoff to twice as wide: few images, or more than there are bits."""
    rng, n_most = np.random.default_rng(int(10 * edge)), 0
    for _ in range(25):
        n, pbc = rng.integers(1, 7), rng.random(3) < 0.75
        cell = np.diag(edge * rng.uniform(0.8, 1.2, 3)) + 0.2 * edge * rng.uniform(-1, 1, (3, 3))
        positions = rng.uniform(-2, 2, (n, 3)) @ cell
        structures = make_structures([0, n], np.zeros(n, int), positions, cell[None], pbc[None])
        pairs = find_pairs(structures, 0, 0, n, 6.0, PLAN)
        centre, last = np.repeat(np.arange(n), np.diff(pairs.start)), pairs.start[-1]
        found = np.column_stack([centre, pairs.atom[:last], pairs.image[:last]])
        i, j, image = neighbor_list("ijS", Atoms("H" * n, positions, cell=cell, pbc=pbc), 6.0)
        expected = np.column_stack([i, j, image])
        assert found.tolist() == expected[np.lexsort(expected.T[::-1])].tolist()
        n_most = max(n_most, np.bincount(found[:, 0] * n + found[:, 1]).max(initial=0))
    assert (n_most > N_BIT) == (edge < 3.0)
