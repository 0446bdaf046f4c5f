"""Choosing structures of a data set: at random, at an interval, far apart, disputed,
or those that the Kalman filter would learn most from.
"""

import numpy as np

from mpnnp.analysis.descriptors import each_structure, fingerprints
from mpnnp.analysis.disagreement import disagreement_of
from mpnnp.data.packed import make_atoms
from mpnnp.errors import ConfigError
from mpnnp.kernels.jacobian import energy_rows
from mpnnp.kernels.jit import read_only
from mpnnp.model.function_sets import default
from mpnnp.model.label_kinds import ENERGY
from mpnnp.model.potential import Predictor
from mpnnp.model.symmetry_functions import SymmetryFunctions
from mpnnp.parallel import on_root
from mpnnp.training.checkpoint import config_of, is_checkpoint, posterior_of, read_checkpoint, read_shared
from mpnnp.training.labels import label_scale, labels_per_update
from mpnnp.training.run_state import noise_levels

METHODS = ("random", "interval", "farthest", "disagreement", "kalman")


def check_number(n, n_structure):
    if not 1 <= n <= n_structure:
        raise ConfigError(f"-n {n}: must be between 1 and the {n_structure} of the data")


def at_random(n, n_structure, seed):
    """n numbers of structures, ascending."""
    return np.sort(np.random.default_rng(seed).choice(n_structure, n, replace=False))


def at_interval(n, n_structure):
    """n numbers of structures as evenly spread as can be, from the first on."""
    return np.arange(n) * n_structure // n


def farthest(n, points):
    """Farthest points: (chosen (n,), distance (n,) of each to those before it) of points
    (n_structure, n_dimension).

    The first is the point nearest to the mean; each next one is that whose nearest chosen point is the
    farthest away. Eldar et al., IEEE Trans. Image Process. 6, 1305 (1997).
    """
    first = int(np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1)))
    chosen, distances = [first], [np.inf]
    square = ((points - points[first]) ** 2).sum(axis=1)
    square[first] = -1.0
    while len(chosen) < n:
        k = int(np.argmax(square))
        distances.append(float(np.sqrt(square[k])))
        chosen.append(k)
        square = np.minimum(square, ((points - points[k]) ** 2).sum(axis=1))
        square[chosen] = -1.0
    return np.array(chosen), np.array(distances)


def most_disputed(n, found):
    """(chosen (n,), eV/Angstrom): structures with the largest disagreement about the force on one atom
    (disagreement.Disagreement).
    """
    chosen = np.argsort(-found.largest, kind="stable")[:n]
    return chosen, found.largest[chosen]


def most_uncertain(n, rows, times_P, noise):
    """Structures whose energies the filter knows least: (chosen (n,), variance (n,)
    of each given those before it).

    rows     (n_structure, n_weight) h = dE*/dw per atom
    times_P  function: h P of rows (m, n_weight)
    noise    (n_structure,) R of each label, of the energy per atom

    Greedy: the largest h P h^T, then the covariance is P - P h^T (h P h^T + R)^-1 h P, as if that energy had
    been learned, and so on. The next structure is therefore not like the last. A pivoted Cholesky
    decomposition of H P H^T + R: P itself is not changed.
    """
    H_P = times_P(rows)
    variance = np.einsum("si,si->s", rows, H_P)
    factor, chosen, found = np.zeros((n, len(rows))), [], []
    left = np.ones(len(rows), bool)
    for k in range(n):
        s = int(np.argmax(np.where(left, variance, -np.inf)))
        chosen.append(s)
        found.append(variance[s])
        left[s] = False
        column = rows @ H_P[s] - factor[:k, s] @ factor[:k]
        factor[k] = column / np.sqrt(variance[s] + noise[s])
        variance = variance - factor[k] ** 2
    return np.array(chosen), np.array(found)


def energy_rows_per_atom(potential, dataset, comm, log):
    """(n_structure, n_weight) dE*/dw / N of all structures, on rank 0 (None elsewhere). Collective."""
    predictor, w = Predictor(potential), read_only(potential.weights)
    rows = np.empty((len(range(comm.rank, len(dataset), comm.size)), len(w)))
    for k, (s, element, G) in enumerate(
        each_structure(dataset, potential.functions, comm, log, "rows: structure")
    ):
        one = make_atoms(dataset.take([s]), potential.elements)
        energy_rows(np.zeros(1, np.int64), one, G, predictor.model, w, rows[k : k + 1], np.empty(1))
        rows[k] /= len(element)
    parts = comm.gather(rows, root=0)
    if comm.rank:
        return None
    everyone = np.empty((len(dataset), len(w)))
    for rank, part in enumerate(parts):
        everyone[rank :: comm.size] = part
    return everyone


def by_kalman_variance(n, checkpoint, dataset, comm, log):
    """(chosen (n,), standard deviation (n,) of the energy, eV/atom) by the covariance in checkpoint.h5.

    Collective. Raises CheckpointError.
    """
    saved = read_shared(comm, lambda: read_checkpoint(checkpoint))
    potential = saved.potential
    rows = energy_rows_per_atom(potential, dataset, comm, log)

    def choose():
        posterior = posterior_of(saved, checkpoint)
        noise = noise_per_atom(saved, posterior.noise, dataset.n_atom)
        chosen, variance = most_uncertain(n, rows, posterior.times, noise)
        return chosen, potential.energy_scale * np.sqrt(np.maximum(variance, 0.0))

    return on_root(comm, choose)


def noise_per_atom(saved, R, n_atom):
    """Variances (n_structure,) of the noise of energies per atom, training units, that the filter of a
    Checkpoint takes for granted: R / (s N)^2, as it sees errors and rows times the scale s of their label.

    R       of one label, as the filter has it
    n_atom  (n_structure,) N of each structure
    """
    config, potential = config_of(saved, "the checkpoint"), saved.potential
    if config.learns_noise:
        alone, units = np.ones(len(n_atom)), (potential.energy_scale, potential.force_scale)
        scale = 1.0 / noise_levels(saved.progress).of_energies(ENERGY, n_atom, alone, units)
    else:
        scale = label_scale(config.schedule, "energy", labels_per_update(config.schedule, ENERGY))
    return R / (scale * n_atom) ** 2


def select_structures(by, n, dataset, potentials, paths, seed, comm, log):
    """(chosen (n,), scores (n,), unit of the scores or "") by one of METHODS. Collective.
    Raises ConfigError, DataError, CheckpointError.

    potentials, paths   of --potential: see the command `mpnnp select`
    """
    if by == "random":
        return at_random(n, len(dataset), seed), np.zeros(n), ""
    if by == "interval":
        return at_interval(n, len(dataset)), np.zeros(n), ""
    if by == "farthest":
        functions = (
            potentials[0].functions
            if potentials
            else SymmetryFunctions(dataset.elements, default(dataset.elements))
        )
        return *farthest(n, fingerprints(dataset, functions, comm, log)), "from the nearest chosen before"
    if by == "disagreement":
        if len(potentials) < 2:
            raise ConfigError("select --by disagreement needs two or more --potential")
        found = disagreement_of(potentials, dataset, comm, log)
        return *on_root(comm, most_disputed, n, found), "eV/A disagreement about a force"
    if len(potentials) != 1 or not is_checkpoint(paths[0]):
        raise ConfigError(
            "select --by kalman needs one --potential, the checkpoint.h5 of a run with the Kalman filter"
        )
    return *by_kalman_variance(n, paths[0], dataset, comm, log), "eV/atom uncertainty of the energy"
