"""What the Kalman filter leaves: the covariance P of the weights, read from the arrays that
`ekf.Ekf.save_arrays` gives.

P = f (T - U^T U + d I), see ekf.py. The variance of a prediction with row h = dy*/dw is h P h^T in training
units.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.linalg.blas import dspmv, dsyrk
from scipy.linalg.lapack import dpotrf

from mpnnp.environment import free_memory
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
        self.arrays, self.T, self.U = arrays, arrays["T"], arrays["U"]
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
        is dense at a time. Raises CheckpointError if P is not positive beyond rounding, or memory too small.
        """
        z = np.random.default_rng([seed, self.group[-1]]).normal(size=(n, self.group[-1]))
        needed, free = 8.0 * float(np.diff(self.group).max()) ** 2, free_memory()
        if needed > free:
            raise CheckpointError(
                f"the covariance of the weights takes {needed / 1e9:.3g} GB as a whole, and the memory that "
                f"is free is {free / 1e9:.3g} GB"
            )
        for g, (first, last) in enumerate(zip(self.group[:-1], self.group[1:])):
            z[:, first:last] = _draws(z[:, first:last], self.arrays, g)
        result = np.empty_like(z)
        result[:, self.order] = z
        return result * self.units

    def dense(self) -> np.ndarray:
        """P (n, n), in the order of the weights: n^2 numbers."""
        P = dense_covariance(self.arrays, self.order)
        return P * np.multiply.outer(self.units, self.units) if np.ndim(self.units) else P


def dense_covariance(arrays: Mapping[str, np.ndarray], order: np.ndarray | None = None) -> np.ndarray:
    """P (n, n) from the arrays of a filter; order (n,): the weight of each position inside,
    None: the same.
    """
    n, group = arrays["group"][-1], arrays["group"]
    order, P = np.arange(n) if order is None else order, np.zeros((n, n))
    for g, (first, last) in enumerate(zip(group[:-1], group[1:])):
        P[np.ix_(order[first:last], order[first:last])] = _whole(_lower_block(arrays, g))
    return P


def _lower_block(arrays: Mapping[str, np.ndarray], g: int) -> np.ndarray:
    """Lower triangle, zeros above, of the block of P of group g of coupled weights, in the filter's order:
    the one array of that size which is made.
    """
    d, factor = arrays["scalars"][:2]
    first, last = arrays["group"][g : g + 2]
    block, at = np.zeros((last - first, last - first)), packed_start(arrays["group"])[g]
    for i, row in enumerate(block):
        row[: i + 1] = arrays["T"][at : at + i + 1]
        at += i + 1
    U = np.asfortranarray(arrays["U"][:, first:last])
    if len(U):  # lower triangles of rows are upper ones of columns, as BLAS and LAPACK take them in place
        dsyrk(-1.0, U, beta=1.0, c=block.T, trans=1, overwrite_c=1)
    block[np.diag_indices_from(block)] += d
    block *= factor
    return block


def _whole(lower: np.ndarray) -> np.ndarray:
    """The symmetric matrix of a lower triangle, which is written over."""
    lower += np.tril(lower, -1).T
    return lower


def _draws(z: np.ndarray, arrays: Mapping[str, np.ndarray], g: int) -> np.ndarray:
    """z L^T of z (m, n) with L L^T the block of group g: L is Cholesky's, or from the spectrum where rounding
    left a block without one.
    """
    transposed, failure = dpotrf(_lower_block(arrays, g).T, lower=0, clean=1, overwrite_a=1)
    if not failure:
        return z @ transposed
    values, vectors = np.linalg.eigh(_whole(_lower_block(arrays, g)))
    if not values[0] >= -ROUNDING * values[-1]:
        raise CheckpointError(
            f"the covariance of the weights is not positive: eigenvalues from {values[0]:.3g} to "
            f"{values[-1]:.3g}; nothing can be drawn from it"
        )
    return z @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
