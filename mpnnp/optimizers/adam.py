"""Adam on the loss sum xi^2 over all labels of an update:
Kingma and Ba, ICLR 2015, with TensorFlow's epsilon.

    g = -2 H^T xi, summed over ranks, scaled to the norm clip_norm if that is smaller
    m = beta1 m + (1 - beta1) g,    v = beta2 v + (1 - beta2) g^2
    w -= rate sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon)

so epsilon is added to the uncorrected sqrt(v). The rate is learning_rate decay_rate^(s / decay_steps) after s
updates.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mpnnp.config import Adam as Rates
from mpnnp.config import Config
from mpnnp.errors import CheckpointError, TrainingError
from mpnnp.model.network import Network
from mpnnp.optimizers.traffic import Traffic, sum_over_ranks
from mpnnp.parallel import Comm
from mpnnp.progress import counted


@dataclass(repr=False)
class AdamState:
    """What survives an update; the same on every rank."""

    m: np.ndarray  # (n,)
    v: np.ndarray  # (n,)
    n_update: int

    def __repr__(self):
        return f"AdamState({counted(self.n_update, 'update')}, {len(self.m)} weights)"


def from_config(config: Config, network: Network, updates_per_epoch: int, comm: Comm) -> "Adam":
    """Adam of the section [adam] for the weights of a Network; its decay counts updates, not epochs."""
    return make_adam(config.adam, network.n_weight, comm)


def make_adam(config: Rates, n_weight: int, comm: Comm) -> "Adam":
    """Adam as an optimiser with `init` and `update`.

    config  the section [adam]
    """
    return Adam(config, n_weight, comm)


class Adam:
    advice = "a smaller learning_rate"

    def __init__(self, config: Rates, n_weight: int, comm: Comm):
        self.config = config
        self.n = n_weight
        self.comm = comm
        self.traffic = Traffic()

    def __repr__(self):
        return f"Adam({self.n} weights, learning rate {self.config.learning_rate:g})"

    def init(self) -> AdamState:
        """The state before the first update."""
        return AdamState(np.zeros(self.n), np.zeros(self.n), 0)

    def rate(self, n_update: int) -> float:
        """Learning rate after n_update updates: falls continuously, or in steps with decay_staircase."""
        config = self.config
        period = n_update / config.decay_steps
        if config.decay_staircase:
            period = math.floor(period)
        return config.learning_rate * config.decay_rate**period

    def update(
        self,
        state: AdamState,
        rows: np.ndarray,
        errors: np.ndarray,
        accept: Callable[[np.ndarray], object] | None = None,
    ) -> np.ndarray:
        """Increment of the weights (n,) from this rank's rows (m, n) and errors (m,), the same on every rank.

        Collective; changes state. Raises TrainingError on every rank, with the state unchanged, if the
        gradient is not finite, and so if accept(increment) raises it.
        """
        return self.update_gradient(state, -2.0 * (np.asarray(errors) @ np.asarray(rows)), accept)

    def update_gradient(
        self,
        state: AdamState,
        gradient: np.ndarray,
        accept: Callable[[np.ndarray], object] | None = None,
    ) -> np.ndarray:
        """The same from this rank's part of the gradient (n,) of the loss. Collective."""
        config = self.config
        self.traffic.start_update()
        g = sum_over_ranks(
            self.comm, np.ascontiguousarray(gradient, dtype=float), np.empty(self.n), self.traffic
        )
        norm = math.sqrt(g @ g)
        if not math.isfinite(norm):
            raise TrainingError(
                f"update {state.n_update + 1} of Adam: the gradient is not finite: "
                "look for broken labels, or for weights that ran away "
                "(a smaller learning_rate or clip_norm helps)"
            )
        if config.clip_norm and norm > config.clip_norm:
            g *= config.clip_norm / norm
        rate, t = self.rate(state.n_update), state.n_update + 1
        m = state.m + (1.0 - config.beta1) * (g - state.m)
        v = state.v + (1.0 - config.beta2) * (g * g - state.v)
        rate *= math.sqrt(1.0 - config.beta2**t) / (1.0 - config.beta1**t)
        increment = -rate * m / (np.sqrt(v) + config.epsilon)
        if accept is not None:
            accept(increment)
        state.m, state.v, state.n_update = m, v, t
        return increment

    def check(self, state: AdamState) -> None:
        """Nothing can break here that `update` does not see."""

    def save_arrays(self, state: AdamState) -> dict[str, np.ndarray] | None:
        """The state as arrays, on rank 0 (None elsewhere). Collective."""
        return (
            {"m": state.m, "v": state.v, "n_update": np.array(state.n_update)}
            if self.comm.rank == 0
            else None
        )

    def load_arrays(self, arrays: dict[str, np.ndarray] | None) -> AdamState:
        """The state from `save_arrays`, given on rank 0 (ignored elsewhere). Collective.

        Raises CheckpointError if it is of another net.
        """
        arrays = self.comm.bcast(arrays if self.comm.rank == 0 else None, root=0)
        found = len(arrays.get("m", ()))
        if found != self.n:
            raise CheckpointError(
                f"the checkpoint has Adam's moments of {found} weights, the net has {self.n}: "
                "keep net and optimiser, or start anew"
            )
        return AdamState(np.array(arrays["m"]), np.array(arrays["v"]), int(arrays["n_update"]))
