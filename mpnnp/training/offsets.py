"""Offsets: what the energies of one simulation have in common that the potential cannot know.

With structures f of simulations g (see common_errors) the filter's model of an energy per atom is

    y_gf = h_gf(w) + b_g + v_gf,    b_g ~ N(0, sigma_b^2),    v_gf ~ N(0, R),

a mixed model: the offsets b_g stand behind the weights in the state of the filter, with a column of ones in
the rows of their energies and zeros in those of forces. They take what the frames of a simulation have in
common as far as sigma_b allows; the potential keeps what differences of frames, forces and other simulations
say. b_g is no part of the potential. With a level of noise for each label alone, labels that come again in
every epoch would count what they have in common again too; here the prior of b_g is counted once.

sigma_b is found on the way. It is wide at the start, the spread of all energies. In the first epoch it
follows the running error of energies down: what is still to be learned is more than simulations can have in
common, and a net whose P has become small cannot take it back from the offsets. After each epoch it is what
the errors of h(w) have in common at least, if that is less. A normal prior of variance V is made one of V' by
the observation b_g = 0 with the noise 1 / (1/V' - 1/V): for a linear model the same as if V' had been there
from the start, since the covariances of weights and offsets give to the weights what the offsets lose.

Mixed models: Henderson, Biometrics 31, 423 (1975). A filter with unknowns beside those that are wanted:
Schmidt, Adv. Control Syst. 3, 293 (1966).
"""

import contextlib

import numpy as np

from mpnnp.errors import TrainingError
from mpnnp.kernels.jit import read_only
from mpnnp.model.label_kinds import ENERGY
from mpnnp.training.run_state import RunState
from mpnnp.training.start import Task

LEAST = 0.02  # of the level of energies: what is smaller is no offset
STEP = 0.5  # of the variance of offsets: how much it falls at a time in the first epoch


def settle(task: Task, state: RunState) -> None:
    """At the end of an epoch, once: make the prior of the offsets as narrow as the errors of the moment say;
    weights and offsets follow.

    Collective; nothing without offsets, or before energies are learned. A run that is stopped between this
    and the evaluation of the epoch, and resumed, comes here again: then it is done.
    """
    if state.settled < state.epoch and (variance := _found(task, state)) < _known(state):
        narrow(task, state, variance)
        state.settled = state.epoch


def follow(task: Task, state: RunState) -> None:
    """In the first epoch: offsets are not believed to be larger than the errors of energies that are still
    made. Collective; where the filter refuses, the prior stays as it is, and the next update asks again.
    """
    noise = state.noise
    if noise is None or not len(noise.offsets) or noise.passes:
        return
    variance = float(noise.innovation[ENERGY] ** 2)  # NaN before the first energies
    if 0.0 < variance < STEP * noise.offset_variance:
        with contextlib.suppress(TrainingError):
            narrow(task, state, variance)


def narrow(task: Task, state: RunState, variance: float) -> None:
    """Give the offsets a prior of a smaller variance. Collective."""
    assert state.noise is not None
    rows, errors = _observation(task, state, variance)
    increment = task.optimizer.update(state.optimizer, rows, errors)
    n = len(state.weights)
    state.weights += increment[:n]
    state.noise.offsets += increment[n:]
    state.noise.offset_variance = variance


def settled_weights(task: Task, state: RunState) -> np.ndarray:
    """The weights as `settle` would leave them; state stays as it is. Collective."""
    if state.settled == state.epoch or (variance := _found(task, state)) >= _known(state):
        return state.weights
    increment = task.filter.increment(state.optimizer, *_observation(task, state, variance))
    return state.weights + increment[: len(state.weights)]


def _known(state):
    """sigma_b^2 of the prior, per atom, training units; 0 where there are no offsets."""
    return 0.0 if state.noise is None else state.noise.offset_variance


def _found(task, state):
    """sigma_b^2 of the moment, per atom, training units; infinite where it is not asked for."""
    noise = state.noise
    if noise is None or not len(noise.offsets) or not np.isfinite(noise.innovation[ENERGY]):
        return np.inf
    found = task.observer.common_variance(read_only(state.weights))
    return max(found, (LEAST * noise.level(ENERGY)) ** 2)


def _observation(task, state, variance):
    """Rows and errors of b = 0, with the noise that makes the prior one of `variance`; on rank 0."""
    offsets, n = state.noise.offsets, len(state.weights)
    root = np.sqrt(1.0 / variance - 1.0 / state.noise.offset_variance)
    m = len(offsets) if task.comm.rank == 0 else 0
    rows = np.zeros((m, n + len(offsets)))
    rows[:, n:] = root * np.eye(len(offsets))[:m]
    return rows, -root * offsets[:m]
