"""What says that a frame is not known: standard deviations of forces by the posterior, symmetry functions
outside the range of what was learned, atoms too near each other.
"""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list

from mpnnp.data.dataset import Dataset
from mpnnp.errors import DynamicsError
from mpnnp.learning.settings import Stop
from mpnnp.model.potential import Potential
from mpnnp.simulation.calculator import Calculator
from mpnnp.training.calibration import Sigma

SAME = 1e-5  # Angstrom, from rounding in files


def closest(atoms, limit: float) -> tuple[float, int, int]:
    """(distance over the sum of covalent radii, atom, atom) of the pair for which it is smallest; (inf, 0, 0)
    if it is above `limit` for all.
    """
    radii = covalent_radii[atoms.numbers]
    i, j, d = neighbor_list("ijd", atoms, 2.0 * limit * radii.max())
    relative = d / (radii[i] + radii[j])
    k = int(np.argmin(relative)) if len(d) else -1
    return (float(relative[k]), int(i[k]), int(j[k])) if k >= 0 and relative[k] < limit else (np.inf, 0, 0)


def is_learned(atoms: Atoms, learned: Dataset) -> bool:
    """Whether a frame is one of those that were learned: a start that was labelled in an earlier round."""
    for s in np.flatnonzero(learned.n_atom == len(atoms)):
        mine = slice(learned.start[s], learned.start[s + 1])
        if np.array_equal(learned.numbers[mine], atoms.numbers) and is_same(
            atoms, learned.positions[mine], learned.cell[s], learned.pbc[s]
        ):
            return True
    return False


def is_same(atoms: Atoms, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> bool:
    """Whether atoms are at these positions (n, 3) of a cell (3, 3)."""
    return bool(
        np.abs(positions - atoms.positions).max() < SAME
        and np.array_equal(pbc, atoms.pbc)
        and np.abs(cell - atoms.cell.array)[pbc].max(initial=0.0) < SAME
    )


class Known(NamedTuple):
    """What is known at the begin of a round.

    potential   that simulates
    deviations  (n_member, n_weight) of its weights, drawn from N(0, P)
    sigma       of force components, from what the posterior says of them
    learned     frames that are known whatever the posterior says of them
    """

    potential: Potential
    deviations: np.ndarray
    sigma: Sigma
    learned: Dataset


class Watch:
    """Ends a simulation, by DynamicsError, at a frame that is not known.

    calculator  of the simulation and its one potential, whose extrapolations are counted
    """

    def __init__(self, stop: Stop, calculator: Calculator, known: Known):
        self.stop, self.calculator, self.known = stop, calculator, known
        functions = known.potential.functions
        self.n_function = np.array([len(functions.of(z)) for z in range(len(chemical_symbols))])

    def __call__(self, atoms: Atoms) -> None:
        """Collective where the calculator is."""
        stop, calculator = self.stop, self.calculator
        relative, i, j = closest(atoms, stop.distance) if stop.distance else (np.inf, 0, 0)
        if relative < stop.distance:
            raise DynamicsError(
                f"atoms {i} and {j} are {relative:.2f} times the sum of their covalent radii apart, "
                f"less than stop.distance = {stop.distance:g}"
            )
        if is_learned(atoms, self.known.learned):
            return
        if stop.extrapolations is not None:
            share = calculator.extrapolations / self.n_function[atoms.numbers].sum()
            if share > stop.extrapolations:
                raise DynamicsError(
                    f"{100 * share:.2g} % of the symmetry functions are outside the range of what was "
                    f"learned, more than stop.extrapolations = {stop.extrapolations:g}"
                )
        if stop.force_std is not None:
            spread = calculator.spread(atoms, self.known.deviations)
            sigma = np.linalg.norm(self.known.sigma.of(spread.forces), axis=1)
            worst = int(np.argmax(sigma))
            if not sigma[worst] <= stop.force_std:
                raise DynamicsError(
                    f"the force on atom {worst} is uncertain by {sigma[worst]:.3g} eV/Angstrom, "
                    f"more than stop.force_std = {stop.force_std:g}"
                )
