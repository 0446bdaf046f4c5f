"""How far the covariance of a checkpoint can be trusted: the factor s for which the errors of the first new
batches are most likely under N(0, s H P H^T + R).

With q = 0 and several epochs each label was counted several times, and P is too small; q > 0 makes it too
large where nothing was learned. Both show in the innovations e = y - h(w) of labels that were not learned
yet, whose covariance a right P gives as H P H^T + R. With H P H^T = V diag(d) V^T and R = r I the logarithm
of the likelihood of all batches is, up to a constant,

    -1/2 sum_k [ (v_k e)^2 / (s d_k + r) + log(s d_k + r) ],

a function of one number. Empirical Bayes; s < 1 is not taken: P only ever forgets.
"""

import math

import numpy as np

from mpnnp.config import Config
from mpnnp.kernels.jit import read_only
from mpnnp.progress import AnyLog
from mpnnp.training import offsets
from mpnnp.training.run_state import RunState
from mpnnp.training.schedules import Batch
from mpnnp.training.start import Task

BATCHES = 20  # of each kind of label that are looked at
MAXIMUM = 1e4
GRID = np.exp(np.linspace(0.0, math.log(MAXIMUM), 400))


def inflate(task: Task, state: RunState, config: Config, log: AnyLog) -> None:
    """Multiply P as ekf.inflation says, before the first update with new data. Collective."""
    if config.run.optimizer != "ekf":
        return
    factor = config.ekf.inflation
    if factor == "auto":
        factor = most_likely_factor(*innovations(task, state))
        log(f"P is multiplied by {factor:.3g}, which makes the errors of the first new batches most likely")
    if factor >= MAXIMUM:
        log.warn(f"P is multiplied by {factor:.3g}: the new data are nothing like what it was learned from")
    task.filter.inflate(state.optimizer, factor)
    if factor > 1.0 and state.noise is not None and len(state.noise.offsets):
        known = state.noise.offset_variance  # of the offsets of the new data: it was multiplied too
        state.noise.offset_variance *= factor
        offsets.narrow(task, state, known)


def innovations(task: Task, state: RunState) -> tuple[np.ndarray, np.ndarray, float]:
    """(squares (v_k e)^2, eigenvalues d_k of H P H^T, r) of the first batches of each kind, before any
    update. Noise levels are those of the first update with each of the batches, and stay as they are: these
    errors come again when they are learned. Collective.
    """
    levels = None if state.noise is None else state.noise.innovation.copy()
    sorts = task.schedule.config.selection == "sort"
    epoch = task.epoch(1, task.errors(read_only(state.weights)) if sorts else None)
    counts: dict[int, int] = {}
    squares, eigenvalues, r = [], [], 1.0
    for batch in (epoch[u] for u in range(len(epoch))):
        counts[batch.kind] = counts.get(batch.kind, 0) + 1
        if counts[batch.kind] > BATCHES:
            continue
        first = Batch(batch.kind, batch.candidates[:, :1])  # those with large errors are not typical
        rows, errors = task.observe(first, read_only(state.weights))
        if state.noise is not None:
            state.noise.innovation[:] = levels
        prior, errors, r = task.filter.innovation(state.optimizer, rows, errors)
        d, V = np.linalg.eigh(prior)
        squares.append((errors @ V) ** 2)
        eigenvalues.append(np.maximum(d, 0.0))
    return np.concatenate(squares), np.concatenate(eigenvalues), r


def most_likely_factor(squares: np.ndarray, eigenvalues: np.ndarray, r: float) -> float:
    """The s of 1 to MAXIMUM with the largest likelihood, to about 2 %."""
    variance = GRID[:, None] * eigenvalues + r
    minus_log = (squares / variance + np.log(variance)).sum(axis=1)
    return float(GRID[np.argmin(minus_log)])
