"""The optimizers by name, and what each of them is:
a new one is a file with these methods and a line in OPTIMIZERS.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from mpnnp.config import Config
from mpnnp.errors import ConfigError
from mpnnp.model.network import Network
from mpnnp.optimizers import adam, ekf
from mpnnp.parallel import Comm


class Optimizer(Protocol):
    """How weights move: the loop observes, `update` gives the increment, the loop adds it.

    `contract.check_optimizer` tests these promises. `update` may take a fourth argument `accept` (None by
    default): accept(increment) is called before the state changes, and may raise TrainingError.

    advice   what to try when the weights run away
    state    whatever survives an update; `init` makes it, the other methods take it
    """

    advice: str

    def init(self) -> Any:
        """The state before the first update."""

    def update(self, state: Any, rows: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """Increment (n_weight,) from this rank's rows (m, n_weight) and errors (m,), the same on every rank.

        Collective; changes state.

        Raises TrainingError on every rank, with the state unchanged, where a number is not finite.
        """

    def check(self, state: Any) -> None:
        """Raise TrainingError on every rank if the state is broken. Collective."""

    def save_arrays(self, state: Any) -> dict[str, np.ndarray] | None:
        """The state as arrays that do not depend on the number of ranks, on rank 0 (None elsewhere).

        Collective.
        """

    def load_arrays(self, arrays: dict[str, np.ndarray] | None) -> Any:
        """The state from `save_arrays`, given on rank 0, bit for bit.

        Collective. Raises CheckpointError if it is another optimizer's.
        """


class Filter(Optimizer, Protocol):
    """The Kalman filter: beside what every optimizer does, what learned offsets and the going on with new
    data ask of it. See ekf.Ekf.
    """

    def innovation(
        self, state: Any, rows: np.ndarray, errors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """(H P H^T, errors, r) of the labels of all ranks before they are learned. Collective."""

    def increment(self, state: Any, rows: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """What `update` would give; the state stays as it is. Collective."""

    def inflate(self, state: Any, factor: float) -> None:
        """P *= factor."""


# (config, network, updates per epoch, communicator) -> Optimizer; its settings are config.NAME, or for others
# than these config.optimizer
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": adam.from_config,
    "ekf": ekf.from_config,
}


def check_name(name: str, source: str = "configuration") -> None:
    """Raise ConfigError if there is no such optimizer; source: the file that names it."""
    if name not in OPTIMIZERS:
        known = ", ".join(sorted(OPTIMIZERS))
        raise ConfigError(
            f"run.optimizer = {name!r}: there is no such optimizer; known are {known} ({source})"
        )


def make_optimizer(
    config: Config, network: Network, updates_per_epoch: int, comm: Comm, n_offset: int = 0
) -> Optimizer:
    """The optimizer that config.run.optimizer names, for the weights of `network`. Raises ConfigError.

    n_offset  offsets behind the weights, of the Kalman filter alone
    """
    check_name(config.run.optimizer)
    offsets = {"n_offset": n_offset} if n_offset else {}
    return OPTIMIZERS[config.run.optimizer](config, network, updates_per_epoch, comm, **offsets)


def update_if_accepted(
    optimizer: Optimizer,
    state: Any,
    rows: np.ndarray,
    errors: np.ndarray,
    accept: Callable[[np.ndarray], object],
) -> np.ndarray:
    """Increment as of `optimizer.update`, unless accept(increment) raises TrainingError: then the state is as
    it was, where the optimizer's update takes `accept`; others are asked when it has changed. Collective.
    """
    if takes_accept(optimizer):
        return optimizer.update(state, rows, errors, accept)  # type: ignore[call-arg]
    increment = optimizer.update(state, rows, errors)
    accept(increment)
    return increment


def takes_accept(optimizer: Optimizer) -> bool:
    """Whether the optimizer's update has a parameter `accept`."""
    return _has_accept(getattr(optimizer.update, "__func__", optimizer.update))


@functools.cache
def _has_accept(function):
    return "accept" in inspect.signature(function).parameters
