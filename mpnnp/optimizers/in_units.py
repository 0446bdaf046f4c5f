"""An optimizer that sees the weights in units of their own, as n2p2's normalize_nodes means them."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from mpnnp.optimizers.registry import Filter, Optimizer, update_if_accepted


class InUnits:
    """An optimizer, and the units (n,) of the weights and of the offsets behind them: rows are multiplied by
    these, and so is the increment. All else is the optimizer's own.
    """

    def __init__(self, optimizer: Optimizer, units: np.ndarray):
        self.optimizer, self.units = optimizer, units

    def __getattr__(self, name):
        return getattr(self.optimizer, name)

    def update(
        self,
        state: Any,
        rows: np.ndarray,
        errors: np.ndarray,
        accept: Callable[[np.ndarray], object] | None = None,
    ) -> np.ndarray:
        """As of the optimizer."""
        rows = rows * self.units
        if accept is None:
            return self.optimizer.update(state, rows, errors) * self.units

        def accept_scaled(increment):
            accept(increment * self.units)

        return update_if_accepted(self.optimizer, state, rows, errors, accept_scaled) * self.units

    def innovation(
        self, state: Any, rows: np.ndarray, errors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """As of the Kalman filter."""
        return cast(Filter, self.optimizer).innovation(state, rows * self.units, errors)

    def increment(self, state: Any, rows: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """As of the Kalman filter."""
        return cast(Filter, self.optimizer).increment(state, rows * self.units, errors) * self.units
