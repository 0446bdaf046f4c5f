"""Uncertainty of an energy from the covariance P of the weights that the Kalman filter leaves: var E* = h P h^T, h = dE*/dw."""

import sys

import numpy as np
from scipy.linalg.blas import dspmv

from mpnnp.checkpoint import read_checkpoint, read_summary
from mpnnp.covariance import coupling_groups, packed_start
from mpnnp.errors import CheckpointError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def has_covariance(path):
    """True if the checkpoint holds the state of a Kalman filter. Raises CheckpointError."""
    return {"T", "U", "group", "scalars"} <= set(read_summary(path).optimizer)


class EnergyUncertainty:
    """P = f (T - U^T U + d I) of a checkpoint (see ekf.py), as a quadratic form."""

    def __init__(self, path):
        """Reads T, half of n^2 numbers. Raises CheckpointError if the checkpoint has no filter."""
        saved = read_checkpoint(path)
        potential, arrays = saved.potential, saved.optimizer
        if not {"T", "U", "group", "scalars"} <= set(arrays):
            raise CheckpointError(f"{path}: holds no covariance: only the checkpoint.h5 of a run with the Kalman filter does")
        config = tomllib.loads(saved.config_text)
        coupling = config.get("ekf", {}).get("coupling", "full")
        self.units = potential.network.units() if config.get("network", {}).get("normalize_nodes") else 1.0  # what P counts weights in
        self.energy_scale = potential.energy_scale
        self.order, self.group = coupling_groups(coupling, potential.network.n_weight, potential.network.segments)
        if not np.array_equal(self.group, arrays["group"]):
            raise CheckpointError(f"{path}: damaged checkpoint: the covariance is not that of the coupling {coupling}")
        self.T, self.U = arrays["T"], arrays["U"]
        self.d, self.factor, eta, _, lam = arrays["scalars"]
        self.noise = float(lam if config.get("ekf", {}).get("fading_memory") else 1.0 / eta)  # R of one label

    def times(self, h):
        """h P of rows h (m, n), as (m, n)."""
        h = (np.asarray(h) * self.units)[:, self.order]
        start, product = packed_start(self.group), self.d * h
        for g, (a, b) in enumerate(zip(self.group[:-1], self.group[1:])):
            T, U, part = self.T[start[g] : start[g + 1]], self.U[:, a:b], h[:, a:b]
            product[:, a:b] += [dspmv(b - a, 1.0, T, x) for x in part]
            product[:, a:b] -= (part @ U.T) @ U
        result = np.empty_like(product)
        result[:, self.order] = self.factor * product
        return result * self.units

    def variance(self, h):
        """h P h^T for rows h (m, n), as (m,)."""
        h = (np.asarray(h) * self.units)[:, self.order]
        start = packed_start(self.group)
        form = self.d * np.einsum("mi,mi->m", h, h)
        for g, (a, b) in enumerate(zip(self.group[:-1], self.group[1:])):
            T, part = self.T[start[g] : start[g + 1]], h[:, a:b]
            form += [x @ dspmv(b - a, 1.0, T, x) for x in part]  # rows of a lower triangle are columns of an upper one
            form -= np.sum((part @ self.U[:, a:b].T) ** 2, axis=1)
        return self.factor * form

    def energy_std(self, h):
        """Standard deviation of energies, eV, for rows h = dE*/dw (m, n) in units of training: energy_scale sqrt(h P h^T)."""
        return self.energy_scale * np.sqrt(self.variance(h))
