"""Choosing the frames that are worth a label."""

import numpy as np

from mpnnp.analysis.descriptors import fingerprints
from mpnnp.analysis.selection import at_random, farthest
from mpnnp.data.dataset import Dataset
from mpnnp.data.packed import make_atoms
from mpnnp.kernels.jit import read_only
from mpnnp.learning.settings import Choose
from mpnnp.model.label_kinds import ENERGY, FORCE
from mpnnp.model.stored_functions import load_symmetry_functions
from mpnnp.optimizers.posterior import Posterior
from mpnnp.parallel import Comm, on_root, serial, share
from mpnnp.progress import Silent
from mpnnp.training.checkpoint import Checkpoint, config_of, posterior_of
from mpnnp.training.observations import Observer
from mpnnp.training.run_state import noise_levels
from mpnnp.training.schedules import Batch


def choose(candidates: Dataset, n: int, how: Choose, saved: Checkpoint, seed: int, comm: Comm) -> np.ndarray:
    """Numbers (n,) of the chosen candidates, the most telling first. Collective.

    saved  checkpoint of the potential, its optimizer's arrays on rank 0
    """
    n = min(n, len(candidates))
    if how.by == "random":
        return at_random(n, len(candidates), seed)
    if how.by == "farthest":
        return farthest(n, fingerprints(candidates, saved.potential.functions, comm, Silent()))[0]
    rows = label_rows(candidates, how.forces, saved, seed, comm)
    return on_root(comm, lambda: most_telling(n, rows, posterior_of(saved, "the checkpoint")))


def label_rows(candidates: Dataset, n_force: int, saved: Checkpoint, seed: int, comm: Comm) -> np.ndarray:
    """Rows (n_candidate, 1 + n_force, n_weight) of the energy and of random force components of each
    candidate, scaled as in training, so that each has the noise R; on rank 0. Collective.
    """
    potential, config = saved.potential, config_of(saved, "the checkpoint")
    structures = make_atoms(candidates, potential.elements)
    G = load_symmetry_functions(structures, potential.functions, "", None, comm, Silent())
    mine = share(len(candidates), comm)
    observer = Observer(candidates, structures, G, potential, config.schedule, serial())
    if config.learns_noise:
        observer.noise = noise_levels(saved.progress)
    w, rng = read_only(potential.weights), np.random.default_rng([seed, 8])
    found = np.empty((len(mine), 1 + n_force, len(w)))
    for s in range(len(candidates)):
        n_component = 3 * int(candidates.n_atom[s])
        drawn = 3 * candidates.start[s] + rng.choice(n_component, n_force, replace=n_component < n_force)
        if s in mine:
            batches = (Batch(ENERGY, np.array([[s]])), Batch(FORCE, drawn[:, None]))
            found[s - mine.start] = np.concatenate([observer.observe(batch, w)[0] for batch in batches])
    parts = comm.gather(found, root=0)
    return np.concatenate(parts) if parts is not None else np.zeros((0, 1, len(w)))


def most_telling(n: int, rows: np.ndarray, posterior: Posterior) -> np.ndarray:
    """n candidates, each with the largest gain of information given those before it.

    rows  (n_candidate, m, n_weight) of the labels of each, of noise variance R = posterior.noise

    The m labels of a candidate, learned together, would add 1/2 log det(I + H P H^T / R) to what is known
    of the weights. Greedy: after each choice P is updated as if these labels had been learned, which needs no
    label: P - P H^T (H P H^T + R)^-1 H P. Only products of rows by P are touched, P itself is not.
    """
    n_candidate, m, n_weight = rows.shape
    flat = rows.reshape(-1, n_weight)
    V = (flat @ posterior.dense() @ flat.T / posterior.noise).reshape(n_candidate, m, n_candidate, m)
    left, chosen = list(range(n_candidate)), []
    for _ in range(n):
        gains = [np.linalg.slogdet(np.eye(m) + V[s, :, s])[1] for s in left]
        best = left.pop(int(np.argmax(gains)))
        chosen.append(best)
        column = V[:, :, best].reshape(-1, m)
        gain = np.linalg.solve(np.eye(m) + V[best, :, best], column.T)
        V = V - (column @ gain).reshape(V.shape)
    return np.array(chosen)
