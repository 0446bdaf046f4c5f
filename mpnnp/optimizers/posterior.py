"""What the Kalman filter leaves: the covariance P of the weights, read from the arrays that
`ekf.Ekf.save_arrays` gives.

P = f (T - U^T U + d I), see ekf.py. The variance of a prediction with row h = dy*/dw is h P h^T in training
units.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from scipy.linalg.blas import dspmv
from scipy.linalg.lapack import dpotrf

from mpnnp.errors import CheckpointError
from mpnnp.model.network import Network
from mpnnp.optimizers.layout import coupling_groups, packed_start

ARRAYS = {"T", "U", "group", "scalars"}
ROUNDING = 1e-10  # of the largest eigenvalue: smaller negative ones are zeros


def has_covariance(arrays: Iterable[str]) -> bool:
    """True if arrays (or their names) are those of a Kalman filter."""
    return ARRAYS <= set(arrays)


def numbers_stored(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers hold P, from the shapes of the arrays."""
    return int(np.prod(shapes["T"]) + np.prod(shapes["U"]))


class Posterior:
    """P as a linear map and a quadratic form.

    arrays           of a Kalman filter
    network          model.network.Network whose weights P is of
    coupling         ekf.coupling of the run
    fading_memory    ekf.fading_memory
    normalize_nodes  network.normalize_nodes: P counts weights in units of 1/n_in
    noise            R of one label, training units
    Raises CheckpointError if the arrays are not those of such a filter.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        network: Network,
        coupling: str = "full",
        fading_memory: bool = False,
        normalize_nodes: bool = False,
    ):
        if not has_covariance(arrays):
            raise CheckpointError(
                "holds no covariance: only the checkpoint.h5 of a run with the Kalman filter does"
            )
        self.units = network.units() if normalize_nodes else 1.0
        self.order, self.group = coupling_groups(coupling, network.n_weight, network.segments)
        if not np.array_equal(self.group, arrays["group"]):
            raise CheckpointError(
                f"damaged checkpoint: the covariance is not that of the coupling {coupling}"
            )
        self.T, self.U = arrays["T"], arrays["U"]
        self.d, self.factor, eta, _, lam = arrays["scalars"]
        self.noise = float(lam if fading_memory else 1.0 / eta)

    def times(self, h: np.ndarray) -> np.ndarray:
        """h P of rows h (m, n), as (m, n)."""
        h = (np.asarray(h) * self.units)[:, self.order]
        start, product = packed_start(self.group), self.d * h
        for g, (a, b) in enumerate(zip(self.group[:-1], self.group[1:])):
            T, U, part = self.T[start[g] : start[g + 1]], self.U[:, a:b], h[:, a:b]
            # rows of a lower triangle are columns of an upper one
            product[:, a:b] += [dspmv(b - a, 1.0, T, x) for x in part]
            product[:, a:b] -= (part @ U.T) @ U
        result = np.empty_like(product)
        result[:, self.order] = self.factor * product
        return result * self.units

    def variance(self, h: np.ndarray) -> np.ndarray:
        """h P h^T for rows h (m, n), as (m,)."""
        h = (np.asarray(h) * self.units)[:, self.order]
        start = packed_start(self.group)
        form = self.d * np.einsum("mi,mi->m", h, h)
        for g, (a, b) in enumerate(zip(self.group[:-1], self.group[1:])):
            T, part = self.T[start[g] : start[g + 1]], h[:, a:b]
            form += [x @ dspmv(b - a, 1.0, T, x) for x in part]
            form -= np.sum((part @ self.U[:, a:b].T) ** 2, axis=1)
        return self.factor * form

    def members(self, n: int, seed: int = 0) -> np.ndarray:
        """n draws from N(0, P), as (n, n_weight): deviations of a committee's members from the weights.

        Each is L z with P = L L^T and z from a generator of `seed`: the same draws each time. One block of P
        is dense at a time. Raises CheckpointError if P is not positive beyond rounding.
        """
        z = np.random.default_rng([seed, self.group[-1]]).normal(size=(n, self.group[-1]))
        arrays = {"group": self.group, "T": self.T, "U": self.U, "scalars": np.array([self.d, self.factor])}
        for first, last, block in _blocks(arrays):
            z[:, first:last] = z[:, first:last] @ _root(block).T
        result = np.empty_like(z)
        result[:, self.order] = z
        return result * self.units

    def dense(self) -> np.ndarray:
        """P (n, n), in the order of the weights: n^2 numbers."""
        arrays = {"group": self.group, "T": self.T, "U": self.U, "scalars": np.array([self.d, self.factor])}
        P = dense_covariance(arrays, self.order)
        return P * np.multiply.outer(self.units, self.units) if np.ndim(self.units) else P


def dense_covariance(arrays: Mapping[str, np.ndarray], order: np.ndarray | None = None) -> np.ndarray:
    """P (n, n) from the arrays of a filter; order (n,): the weight of each position inside,
    None: the same.
    """
    n = arrays["group"][-1]
    order, P = np.arange(n) if order is None else order, np.zeros((n, n))
    for first, last, block in _blocks(arrays):
        P[np.ix_(order[first:last], order[first:last])] = block
    return P


def _blocks(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[int, int, np.ndarray]]:
    """(first, last + 1, block of P) of each group of coupled weights, in the filter's own order."""
    group, T, U = arrays["group"], arrays["T"], arrays["U"]
    d, factor = arrays["scalars"][:2]
    start = packed_start(group)
    for g, (first, last) in enumerate(zip(group[:-1], group[1:])):
        block = np.zeros((last - first, last - first))
        block[np.tril_indices(last - first)] = T[start[g] : start[g + 1]]
        block += np.tril(block, -1).T
        block -= U[:, first:last].T @ U[:, first:last]
        block[np.diag_indices_from(block)] += d
        block *= factor
        yield first, last, block


def _root(block: np.ndarray) -> np.ndarray:
    """L with L L^T = block: Cholesky's, or from the spectrum where rounding left a block without one."""
    L, failure = dpotrf(block, lower=1, clean=1)
    if not failure:
        return L
    values, vectors = np.linalg.eigh(block)
    if not values[0] >= -ROUNDING * values[-1]:
        raise CheckpointError(
            f"the covariance of the weights is not positive: eigenvalues from {values[0]:.3g} to "
            f"{values[-1]:.3g}; nothing can be drawn from it"
        )
    return vectors * np.sqrt(np.maximum(values, 0.0))
