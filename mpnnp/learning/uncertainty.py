"""What says that a frame is not known: the spread of a committee drawn from the posterior, symmetry functions
outside the range of what was learned, atoms too near each other.
"""

import numpy as np
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from mpnnp.errors import DynamicsError, TrainingError
from mpnnp.learning.settings import Stop
from mpnnp.model.potential import Potential
from mpnnp.optimizers.posterior import Posterior
from mpnnp.simulation.calculator import Calculator


def draw(potential: Potential, posterior: Posterior, n: int, seed: int) -> list[Potential]:
    """n potentials whose weights are drawn from N(w, P): w + L z with P = L L^T.

    Raises TrainingError if P has no Cholesky factor.
    """
    try:
        L = np.linalg.cholesky(posterior.dense())
    except np.linalg.LinAlgError:
        raise TrainingError(
            "the covariance has no Cholesky factor: it is no longer positive; try a larger ekf.epsilon"
        ) from None
    z = np.random.default_rng([seed, 7]).normal(size=(n, len(L)))
    return [potential.with_weights(potential.weights + L @ x) for x in z]


def with_ranges(potential: Potential, low: np.ndarray, high: np.ndarray) -> Calculator:
    """Calculator that counts extrapolations outside low, high (n_function,), not the first data's range.

    The scaling stays: the weights belong to it.
    """
    calculator = Calculator(potential)
    member = calculator.members[0]
    member.low, member.high = np.ascontiguousarray(low), np.ascontiguousarray(high)
    return calculator


def closest(atoms, limit: float) -> tuple[float, int, int]:
    """(distance over the sum of covalent radii, atom, atom) of the pair for which it is smallest; (inf, 0, 0)
    if it is above `limit` for all.
    """
    radii = covalent_radii[atoms.numbers]
    i, j, d = neighbor_list("ijd", atoms, 2.0 * limit * radii.max())
    relative = d / (radii[i] + radii[j])
    k = int(np.argmin(relative)) if len(d) else -1
    return (float(relative[k]), int(i[k]), int(j[k])) if k >= 0 and relative[k] < limit else (np.inf, 0, 0)


class Watch:
    """Ends a simulation, by DynamicsError, at a frame that is not known.

    calculator   of the simulation, whose extrapolations are counted
    members      potentials drawn from the posterior; none: no committee
    calibration  what their spread is multiplied by
    comm         that shares out the atoms; None: this rank alone
    """

    def __init__(
        self, stop: Stop, calculator: Calculator, members: list[Potential], calibration: float, comm
    ):
        self.stop, self.calculator, self.calibration = stop, calculator, calibration
        self.committee = Calculator(members, comm=comm) if stop.force_std and members else None
        self.n_function = np.array([len(calculator.potentials[0].functions.of(z)) for z in range(119)])

    def __call__(self, atoms) -> None:
        """Collective."""
        stop, calculator = self.stop, self.calculator
        relative, i, j = closest(atoms, stop.distance) if stop.distance else (np.inf, 0, 0)
        if relative < stop.distance:
            raise DynamicsError(
                f"atoms {i} and {j} are {relative:.2f} times the sum of their covalent radii apart, "
                f"less than stop.distance = {stop.distance:g}"
            )
        if stop.extrapolations is not None:
            share = calculator.extrapolations / self.n_function[atoms.numbers].sum()
            if share > stop.extrapolations:
                raise DynamicsError(
                    f"{100 * share:.2g} % of the symmetry functions are outside the range of what was "
                    f"learned, more than stop.extrapolations = {stop.extrapolations:g}"
                )
        if self.committee is not None:
            std = self.calibration * np.linalg.norm(self._forces_std(atoms), axis=1)
            worst = int(np.argmax(std))
            if not std[worst] <= stop.force_std:
                raise DynamicsError(
                    f"the force on atom {worst} is uncertain by {std[worst]:.3g} eV/Angstrom, "
                    f"more than stop.force_std = {stop.force_std:g}"
                )

    def _forces_std(self, atoms):
        self.committee.calculate(atoms)
        return self.committee.results["forces_std"]


def force_ratio(potential: Potential, members: list[Potential], labelled, comm) -> tuple[float, float]:
    """(sum of squared errors of the forces of `potential`, sum of the squared standard deviations of the
    members') over a labelled Dataset. Collective.
    """
    committee, mean, sums = Calculator(members), Calculator(potential), np.zeros(2)
    for k in range(comm.rank, len(labelled), comm.size):
        s = labelled[k]
        from ase import Atoms

        atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
        mean.calculate(atoms)
        committee.calculate(atoms)
        sums += ((s.forces - mean.results["forces"]) ** 2).sum(), (committee.results["forces_std"] ** 2).sum()
    errors, variances = comm.allreduce(sums)
    return float(errors), float(variances)
