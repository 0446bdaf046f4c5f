"""One potential of a calculator: energies and forces of this rank's atoms, and which of their symmetry
functions are outside the range of training.
"""

from dataclasses import dataclass

import numpy as np

from mpnnp.kernels.jit import read_only
from mpnnp.kernels.pairs import EDGE, count_extrapolations, energy_forces_of_pairs
from mpnnp.model.potential import Predictor
from mpnnp.model.prediction import Prediction
from mpnnp.parallel import sum_in_place


@dataclass(frozen=True)
class Extrapolation:
    """A symmetry function outside the range that it had over the training structures."""

    atom: int
    function: str
    value: float
    low: float
    high: float

    def __str__(self):
        return (
            f"atom {self.atom}: {self.function} is {self.value:.6g}, "
            f"in training {self.low:.6g} to {self.high:.6g}"
        )


class Member:
    """One potential of a calculator, its symmetry functions of the last evaluation,
    and their ranges in training.
    """

    def __init__(self, potential, same_functions):
        self.predictor = predictor = Predictor(potential)
        self.model, self.n_max, self.reference = predictor.model, predictor.n_max, predictor.reference
        self.scale, self.w = potential.energy_scale, read_only(potential.weights)
        self.same_functions, self.functions = same_functions, potential.functions.functions
        self.low, self.high = map(read_only, potential.range)
        self.G = None

    def __getstate__(self):
        return self.predictor.potential, self.same_functions, self.G

    def __setstate__(self, state):
        """Arrays that were copied may be written to, and for such the kernels would be compiled once more."""
        potential, same_functions, G = state
        self.__init__(potential, same_functions)
        self.G = None if G is None else read_only(G)

    def compute(self, place, members, energies, forces, virial):
        """Overwrite what kernels.pairs.energy_forces_of_pairs gives for this rank's atoms, and the symmetry
        functions, unless an earlier one of `members` has the same.
        """
        other = members[self.same_functions]
        known = other is not self
        G = np.array(other.G) if known else np.empty((len(place.pairs.start) - 1, self.n_max))
        of_one = energies[None], forces[None], virial[None]
        energy_forces_of_pairs(*place, self.model, self.w[None], known, G, *of_one)
        self.G = read_only(G)

    def predict(self, place, members, comm):
        """Prediction for all atoms; the energies of a rank's atoms and its part of the forces
        are added up over the ranks.
        """
        first, element = place.first, place.element
        n_atom, n_own = len(element), len(place.pairs.start) - 1
        total = np.zeros(4 * n_atom + 9)  # energies, forces, virial
        energies, forces, virial = (
            total[first : first + n_own],
            total[n_atom : 4 * n_atom].reshape(-1, 3),
            total[4 * n_atom :].reshape(3, 3),
        )
        self.compute(place, members, energies, forces, virial)
        sum_in_place(comm, total)
        energies = total[:n_atom] * self.scale + self.reference[element]
        return Prediction(float(energies.sum()), energies, forces * self.scale, virial * self.scale)

    def count(self, element):
        return count_extrapolations(element, self.G, self.model.table.start, self.low, self.high)

    def extrapolating(self, element, first):
        """List of Extrapolation among these atoms, number `first` and following."""
        found = []
        for i, e in enumerate(element):
            for m in np.flatnonzero(self._outside(i, e)):
                k = self.model.table.start[e] + m
                value, low, high = float(self.G[i, m]), float(self.low[k]), float(self.high[k])
                found.append(Extrapolation(first + i, str(self.functions[k]), value, low, high))
        return found

    def count_each(self, element):
        """(n_own,) number of functions outside their range of each of these atoms."""
        counts = np.zeros(len(element))
        for e in np.unique(element):
            atoms = np.flatnonzero(element == e)
            counts[atoms] = self._outside(atoms, e).sum(axis=1)
        return counts

    def _outside(self, atoms, e):
        """Which functions of atoms of element e were outside their range in the last evaluation, as
        kernels.pairs.count_extrapolations has it: (n_function,) of one atom, (n, n_function) of several.
        """
        part = slice(*self.model.table.start[e : e + 2])
        values = self.G[atoms, : part.stop - part.start]
        return ~((values >= self.low[part] - EDGE) & (values <= self.high[part] + EDGE))
