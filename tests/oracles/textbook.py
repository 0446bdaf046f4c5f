"""The Kalman filter as textbooks have it: dense P, no tiles, no lazy rows; in any precision of NumPy."""

import numpy as np

from mpnnp.optimizers.layout import coupling_groups


def inverse(A):
    """Inverse in the precision of A, from Newton's iteration: the libraries know float64 only."""
    B = np.linalg.inv(A.astype(float)).astype(A.dtype)
    for _ in range(3):
        B = B @ (2 * np.eye(len(A), dtype=A.dtype) - A @ B)
    return B


def dense_update(P, H, errors, R, lam=1.0, q=0.0):
    """(increment, new P) of the filter for P (n, n), rows H (M, n), errors (M,), noise R (M, M)."""
    X = P @ H.T
    K = X @ inverse(H @ X + R)
    P = (P - K @ X.T) / lam
    P = 0.5 * (P + P.T)
    P[np.diag_indices(len(P))] += q
    return K @ errors, P


class Textbook:
    """The dense filter with the same schedules; covariances between groups are set to zero."""

    def __init__(self, config, n, segments, dtype=float):
        order, start = coupling_groups(config.coupling, n, segments)
        group = np.empty(n, dtype=int)
        group[order] = np.repeat(np.arange(len(start) - 1), np.diff(start))
        self.mask = group[:, None] == group
        self.config, self.P = config, np.eye(n, dtype=dtype) / config.epsilon
        self.eta, self.q, self.lam = config.eta, config.q, config.lam

    def update(self, rows, errors):
        c = self.config
        if c.fading_memory:
            R, lam = self.lam, self.lam
            self.lam = c.nu * self.lam + 1 - c.nu
        else:
            self.eta *= np.exp(c.eta_tau) if self.eta < c.eta_max else 1.0
            R, lam = 1 / self.eta, 1.0
        H = rows.astype(self.P.dtype)
        increment, P = dense_update(self.P, H, errors, R * np.eye(len(H)), lam, self.q)
        self.P = P * self.mask
        self.q *= np.exp(-c.q_tau) if self.q > c.q_min else 1.0
        return increment


def dense_P(optimiser, state):
    """P from the saved arrays, for a filter on one rank."""
    arrays, layout = optimiser.save_arrays(state), optimiser.layout
    T, done = np.zeros((layout.n, layout.n)), 0
    inside = np.zeros_like(T)
    for first, last in layout.groups:
        size = last - first
        lower = np.zeros((size, size))
        lower[np.tril_indices(size)] = arrays["T"][done : done + size * (size + 1) // 2]
        done += size * (size + 1) // 2
        T[first:last, first:last] = lower + np.tril(lower, -1).T
        inside[first:last, first:last] = 1.0
    d, factor = arrays["scalars"][:2]
    P = factor * (T - inside * (arrays["U"].T @ arrays["U"]) + d * np.eye(layout.n))
    back = np.arange(layout.n) if layout.order is None else np.argsort(layout.order)
    return P[np.ix_(back, back)]
