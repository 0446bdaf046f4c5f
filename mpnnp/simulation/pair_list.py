"""A list of neighbours that is kept while atoms move little: Verlet's list with a skin, for any cell."""

import numpy as np

from mpnnp.errors import DynamicsError
from mpnnp.kernels.packs import make_structures
from mpnnp.kernels.pairs import find_pairs
from mpnnp.progress import counted

MOST_NEIGHBOURS = 20_000  # of an atom, on average; more means that the cell has collapsed
BALL = (0.0, 2.0, np.pi, 4.19)  # volume of a ball of radius 1 by the number of dimensions


class PairList:
    """Pairs of the atoms [first, last) within cutoff and skin; made anew when a pair might be missing.

    A pair that was not listed was farther apart than r_c + skin. Let B = cell^-1 cell_0 take today's geometry
    back to the cell of the list, and d be the largest distance that an atom, so taken back, has moved since:
    the pair is now farther apart than (r_c + skin - 2 d) / ||B||, which must be at least r_c.
    """

    def __init__(self, plan, skin):
        """plan: mpnnp.kernels.plan.Plan; skin: Angstrom."""
        self.plan, self.skin = plan, skin
        self.pairs = None
        self.n_made = 0

    def update(self, element, positions, cell, pbc, first, last):
        """Pairs (mpnnp.kernels.pairs) for this geometry."""
        if self.pairs is None or not self._fits(element, positions, cell, pbc, (first, last)):
            structure = make_structures([0, len(element)], element, positions.copy(), cell.copy(), pbc.copy())
            self.pairs = find_pairs(structure, 0, first, last, self.plan.reach[0] + self.skin, self.plan)
            self.made_for = structure, (first, last)
            self.n_made += 1
        return self.pairs

    def _fits(self, element, positions, cell, pbc, mine):
        old, share = self.made_for
        if share != mine or not np.array_equal(old.element, element) or not np.array_equal(old.pbc[0], pbc):
            return False
        back, stretch = positions, 1.0
        if not np.array_equal(old.cell[0], cell):
            if not (np.linalg.det(cell) and np.linalg.det(old.cell[0])):
                return False  # a vector is missing
            B = np.linalg.solve(cell, old.cell[0])
            back, stretch = positions @ B, np.linalg.norm(B, 2)
        moved = np.sqrt(np.max(np.sum((back - old.positions) ** 2, axis=1), initial=0.0))
        return 2.0 * moved <= self.plan.reach[0] * (1.0 - stretch) + self.skin


def check_geometry(positions, cell, pbc, reach):
    """Raise DynamicsError if no list of neighbours up to `reach` (Angstrom) can be made."""
    if not np.isfinite(positions).all() or not np.isfinite(cell).all():
        raise DynamicsError("positions are not finite numbers: the system has exploded")
    n_vector = int(pbc.sum())
    if not n_vector:
        return
    volume = np.sqrt(max(np.linalg.det(cell[pbc] @ cell[pbc].T), 0.0))
    if not volume > 0:
        raise DynamicsError("is periodic, but has no cell in these directions")
    if volume * MOST_NEIGHBOURS < len(positions) * BALL[n_vector] * reach**n_vector:
        unit = ("", "A", "A^2", "A^3")[n_vector]
        raise DynamicsError(
            f"the cell has collapsed to {volume:.3g} {unit} for {counted(len(positions), 'atom')}"
        )
