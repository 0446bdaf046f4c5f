"""What is not known about predictions: how they change with draws of the weights from their posterior.

With deviations D_s of the weights drawn from N(0, P), and h the derivative of a prediction by the weights,
the mean square of the changes h . D_s is h P h^T: the posterior variance of the linearised net. The changes
are derivatives, not differences of potentials with drawn weights: P belongs to the linearisation, and in
directions that no label determined it is wide enough for a net to leave that. (Immer, Korzepa, Bauer, AISTATS
2021, on predictions of Laplace posteriors.) Of n members the standard deviation is known to 1/sqrt(2 n).
"""

from typing import NamedTuple

import numpy as np

from mpnnp.kernels.atomic_energies import STEP
from mpnnp.kernels.energy_forces import geometry_of, pairs_of
from mpnnp.kernels.jit import read_only
from mpnnp.kernels.packs import Structures
from mpnnp.kernels.pairs import Pairs, energy_forces_of_pairs
from mpnnp.model.potential import Predictor
from mpnnp.model.prediction import Prediction
from mpnnp.parallel import Comm, sum_in_place


class Spread(NamedTuple):
    """sqrt(h P h^T) of the energy of a structure, eV, and of force components (n_atom, 3), eV/Angstrom."""

    energy: float
    forces: np.ndarray


class Place(NamedTuple):
    """This rank's atoms, number `first` and following, in a structure; arrays read-only."""

    pairs: Pairs
    first: int
    element: np.ndarray
    positions: np.ndarray
    cell: np.ndarray


def predict_with_spread(
    predictor: Predictor,
    deviations: np.ndarray,
    place: Place,
    G: np.ndarray,
    known: bool,
    comm: Comm | None = None,
) -> tuple[Prediction, Spread]:
    """Prediction of the nets alone, and Spread, of a structure whose atoms the ranks share out. Collective.

    deviations  (n_member, n_weight) of the weights
    G           (n_own, n_max) symmetry functions of this rank's atoms, unscaled; overwritten if not known
    """
    n_atom, n_own, n = len(place.element), len(place.pairs.start) - 1, 1 + len(deviations)
    energies, forces, virial = np.empty((n, n_own)), np.empty((n, n_atom, 3)), np.empty((n, 3, 3))
    w = predictor.potential.weights
    members = read_only(np.concatenate([w[None], w + STEP * deviations]))
    energy_forces_of_pairs(*place, predictor.model, members, known, G, energies, forces, virial)
    all_energies = np.zeros((n, n_atom))
    all_energies[:, place.first : place.first + n_own] = energies
    if comm is not None and comm.size > 1:
        total = np.concatenate([x.ravel() for x in (all_energies, forces, virial)])
        sum_in_place(comm, total)
        all_energies = total[: n * n_atom].reshape(n, n_atom)
        forces = total[n * n_atom : 4 * n * n_atom].reshape(n, n_atom, 3)
        virial = total[4 * n * n_atom :].reshape(n, 3, 3)
    scale = predictor.potential.energy_scale
    energies = all_energies[0] * scale + predictor.reference[place.element]
    prediction = Prediction(float(energies.sum()), energies, forces[0] * scale, virial[0] * scale)
    changes = all_energies[1:].sum(axis=1)
    spread = Spread(
        scale * float(np.sqrt(np.mean(changes**2))), scale * np.sqrt(np.mean(forces[1:] ** 2, axis=0))
    )
    return prediction, spread


def structure_with_spread(
    predictor: Predictor, deviations: np.ndarray, structures: Structures, s: int
) -> tuple[Prediction, Spread]:
    """Prediction, with the baseline of the potential, and Spread of structure s of `structures`."""
    plan = predictor.model.plan
    place = Place(pairs_of(structures, s, plan), 0, *geometry_of(structures, s))
    G = np.empty((len(place.element), predictor.n_max))
    prediction, spread = predict_with_spread(predictor, deviations, place, G, known=False)
    return predictor.with_baseline(prediction, structures, s), spread
