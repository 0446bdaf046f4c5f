"""The multi-stream extended Kalman filter.

Here the matrices hold one observation per row: H, X, U (M, n). For M errors xi = s (y - y_hat) with rows
H = s d y_hat / dw

    X = H P,    A = X H^T + R,    A = L L^T,    U = L^-1 X
    w += U^T L^-1 xi,    P <- (P - U^T U) / lambda + q I

with R = I / eta and lambda = 1, or with fading memory R = lambda I. P is kept as

    P = f (T - U^T U + d I)

with the tiles T of `covariance`, the rows U of the last updates, and scalars f (from 1/lambda) and d (from
q); U is folded into T when r_max rows are full. For blocks of coupled weights P is block-diagonal and A the
sum over the blocks: Puskorius and Feldkamp, IEEE Trans. Neural Netw. 5, 279 (1994). For R = I/eta, q = 0 and
a linear model, P^-1 = epsilon I + eta sum H^T H and the increment is -(eta/2) P_t g after t updates, g being
the gradient of sum xi^2: eta only damps, as 1/(eta t). (Shao et al., J. Chem. Phys. 155, 204108 (2021), eq. 2
has eta^2/2 instead, which is the same at eta = 1 only.)

Behind the weights the state may carry offsets, unknowns of the labels that no potential is made of (see
training.offsets): rows and increments have n_weight + n_offset columns, and what is saved as P is that of the
weights, which is what integrating over the offsets leaves.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import dtrsm
from scipy.linalg.lapack import dpotrf

from mpnnp.config import Config
from mpnnp.config import Ekf as Rates
from mpnnp.errors import CheckpointError, TrainingError
from mpnnp.model.network import Network, Segment
from mpnnp.optimizers.covariance import Covariance, pack, unpack
from mpnnp.optimizers.layout import make_layout, packed_start
from mpnnp.optimizers.memory import check_memory
from mpnnp.optimizers.posterior import dense_covariance
from mpnnp.optimizers.traffic import FailureOfAny, LabelGather, Traffic, sum_over_ranks
from mpnnp.parallel import Comm
from mpnnp.progress import counted

ADVICE = {  # what to try when numbers go wrong
    "learned": "a smaller ekf.prior, or look for wrong labels",
    "fixed": "a larger epsilon, a smaller eta, eta_max or q, or with fading memory lam or nu closer to 1",
}


@dataclass(repr=False)
class EkfState:
    """What survives an update.

    P = factor (T - U^T U + d I) with the first r rows of U; positions of U as in `layout.Layout`.
    """

    T: Covariance  # this rank's tiles
    U: np.ndarray  # (r_max, n) on every rank
    r: int
    d: float
    factor: float
    eta: float
    q: float
    lam: float
    n_update: int

    def __repr__(self):
        return (
            f"EkfState({counted(self.n_update, 'update')}, {self.U.shape[1]} weights, eta {self.eta:.3g}, "
            f"q {self.q:.3g}, lambda {self.lam:.3g})"
        )


def from_config(
    config: Config, network: Network, updates_per_epoch: int, comm: Comm, n_offset: int = 0
) -> "Ekf":
    """The filter of the section [ekf], whose rates are per epoch, for the weights of a Network and n_offset
    offsets. Collective; raises ConfigError if its covariance does not fit into memory.
    """
    section = config.ekf
    check_memory(section.coupling, network.n_weight, network.segments, comm, n_offset)
    per_update = {"eta_tau": section.eta_tau / updates_per_epoch, "q_tau": section.q_tau / updates_per_epoch}
    if section.noise == "learned":  # errors and rows come divided by their noise levels
        per_update |= {"eta": 1.0, "eta_tau": 0.0, "eta_max": 1.0, "q": 0.0, "q_min": 0.0}
    rates = section.model_copy(update=per_update)
    return make_ekf(rates, network.n_weight, network.segments, comm, n_offset=n_offset)


def make_ekf(
    config: Rates,
    n_weight: int,
    segments: Sequence[Segment],
    comm: Comm,
    fold_columns: int | None = None,
    n_offset: int = 0,
) -> "Ekf":
    """The filter as an optimiser with `init` and `update`.

    config        the section [ekf], but with rates eta_tau and q_tau per update
    segments      (offset, n_in, n_out, element, layer) of each layer of the weights
    fold_columns  rows of U instead of config.r_max
    n_offset      offsets behind the weights, of variance 1 before any label; with full coupling alone
    """
    return Ekf(config, n_weight, segments, comm, fold_columns, n_offset)


class Ekf:
    def __init__(
        self,
        config: Rates,
        n_weight: int,
        segments: Sequence[Segment],
        comm: Comm,
        fold_columns: int | None = None,
        n_offset: int = 0,
    ):
        assert not n_offset or config.coupling == "full", "offsets are coupled with all weights"
        self.config, self.segments = config, segments
        self.advice = ADVICE["learned" if config.noise == "learned" else "fixed"]
        self.comm, self.n_weight, self.n_offset = comm, n_weight, n_offset
        self.layout = make_layout(config.coupling, n_weight + n_offset, segments, comm.rank, comm.size)
        self.traffic = Traffic()
        self.gather = LabelGather(comm, self.layout.n, self.traffic)
        self.failed_anywhere = FailureOfAny(comm, self.traffic)
        self.fold_columns = config.r_max if fold_columns is None else fold_columns
        if n_weight < 2 * self.fold_columns * (len(self.layout.group) - 1):
            self.fold_columns = 0  # small groups are cheaper folded at once

    def __repr__(self):
        config, groups = self.config, len(self.layout.group) - 1
        return (
            f"Ekf({self.n_weight} weights, {f'{self.n_offset} offsets, ' if self.n_offset else ''}"
            f"coupling {config.coupling} ({groups} blocks), "
            f"epsilon {config.epsilon:g}, eta {config.eta:g} to {config.eta_max:g}, "
            f"q {config.q:g} to {config.q_min:g})"
        )

    def init(self) -> EkfState:
        """The state before the first update: P = I / epsilon, or diagonal by ekf.prior."""
        return self._state(self._prior(), 0, 0.0, 1.0, self.config.eta, self.config.q, self.config.lam, 0)

    def _prior(self):
        """Variances (n,) before any label, of the weights and of the offsets, in the filter's own order."""
        weights = prior_variances(self.config, self.n_weight, self.segments)
        variance = np.append(weights, np.ones(self.n_offset))
        return variance if self.layout.order is None else variance[self.layout.order]

    def _state(self, diagonal, r, *scalars):
        U = np.empty((max(r, self.fold_columns), self.layout.n))
        return EkfState(Covariance(self.layout, diagonal), U, r, *scalars)

    def update(
        self,
        state: EkfState,
        rows: np.ndarray,
        errors: np.ndarray,
        accept: Callable[[np.ndarray], object] | None = None,
    ) -> np.ndarray:
        """Increment of the weights (n,), offsets behind them, from this rank's rows (m, n) and errors (m,);
        the same on every rank.

        Collective; changes state. Labels count in rank order; a rank may have none, and their number may
        change from update to update. Raises TrainingError on every rank, with the state unchanged, if A has
        no Cholesky factor or a number is not finite; and so if accept(increment) raises it: the rows of this
        update are not counted among those of U yet, so that no copy of P is needed.
        """
        self.traffic.start_update()
        H, errors = self._of_all_ranks(rows, errors)
        M = len(H)
        assert M > 0, "an update without labels"
        eta = next_eta(self.config, state.eta)
        self._make_room(state, M)
        increment = self._correct(state, H, errors, state.lam if self.config.fading_memory else 1.0 / eta)
        refusal = None
        if increment is not None:
            increment = self._by_weight(increment)
            try:
                if accept is not None:
                    accept(increment)
            except TrainingError as error:
                refusal = error
        if self.failed_anywhere(increment is None or refusal is not None):
            raise refusal or TrainingError(self._advice(state, H, errors))
        state.r += M
        state.eta = eta
        self._after_use(state)
        state.n_update += 1
        if state.r + M > self.fold_columns:
            self._fold(state)
        return increment

    def innovation(
        self, state: EkfState, rows: np.ndarray, errors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """(H P H^T (M, M), errors (M,), r) of the labels of all ranks, R = r I: what P and R expect of these
        errors before they are learned. Collective; the state stays as it is.
        """
        H, errors = self._of_all_ranks(rows, errors)
        prior = state.factor * (self._multiply(state, H, np.empty_like(H)) @ H.T)
        return 0.5 * (prior + prior.T), errors, self._noise(state)

    def increment(self, state: EkfState, rows: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """What `update` would give, to rounding; the state stays as it is. Collective."""
        H, errors = self._of_all_ranks(rows, errors)
        X = state.factor * self._multiply(state, H, np.empty_like(H))
        A = X @ H.T + self._noise(state) * np.eye(len(H))
        return self._by_weight(np.linalg.solve(A, errors) @ X)

    def _of_all_ranks(self, rows, errors):
        """Rows and errors of all ranks, in label order and the filter's order of weights."""
        rows, errors = np.ascontiguousarray(rows, dtype=float), np.ascontiguousarray(errors, dtype=float)
        assert rows.shape == (len(errors), self.layout.n), (
            "one row for each error, one column for each weight and offset"
        )
        H, errors = self.gather(rows, errors)
        return H if self.layout.order is None else H[:, self.layout.order], errors

    def _noise(self, state):
        """R of one label, at the rate of the last update."""
        return state.lam if self.config.fading_memory else 1.0 / state.eta

    def inflate(self, state: EkfState, factor: float) -> None:
        """P *= factor."""
        state.factor *= factor

    def _correct(self, state, H, errors, R):
        """Increment, and U behind the rows of state.U; None if A has no Cholesky factor or
        a number is not finite.
        """
        M, root = len(H), math.sqrt(state.factor)
        with np.errstate(invalid="ignore", over="ignore"):
            X = self._multiply(state, H, state.U[state.r : state.r + M])  # without the factor
            A = state.factor * (X @ H.T) + R * np.eye(M)
            if not np.isfinite(A).all() or (A.diagonal() < 0.999 * R).any():  # h P h^T < 0
                return None
            L, failure = dpotrf(A, lower=1)
            if failure:
                return None
            U = dtrsm(
                root, L, X.T, side=1, lower=1, trans_a=1, overwrite_b=1
            ).T  # in place: P loses factor U^T U
            increment = root * (dtrsm(1.0, L, errors[:, None], lower=1)[:, 0] @ U)
        return increment if np.isfinite(increment).all() else None

    def _multiply(self, state, H, X):
        """X = H (T - U^T U + d I). Each rank multiplies its tiles and its share of the rows of U."""
        comm = self.comm
        part = state.T.multiply(H)
        U = state.U[comm.rank * state.r // comm.size : (comm.rank + 1) * state.r // comm.size]
        if len(U):
            for first, last in self.layout.groups:
                part[:, first:last] -= (H[:, first:last] @ U[:, first:last].T) @ U[:, first:last]
        sum_over_ranks(comm, part, X, self.traffic)
        if state.d:
            X += state.d * H
        return X

    def _make_room(self, state, M):
        """Room for M more rows in U."""
        if state.r and state.r + M > self.fold_columns:
            self._fold(state)
        if M > len(state.U):
            state.U = np.empty((M, self.layout.n))

    def _fold(self, state):
        """T <- factor (T - U^T U + d I), and no rows left in U."""
        state.T.fold(state.U[: state.r])
        state.T.add_to_diagonal(state.d)
        if state.factor != 1.0:
            state.T.tiles *= state.factor
        state.r, state.d, state.factor = 0, 0.0, 1.0

    def _after_use(self, state):
        """P /= lambda, P += q I, and the schedules of q and lambda."""
        config = self.config
        if config.fading_memory:
            state.factor /= state.lam
            state.lam = config.nu * state.lam + 1.0 - config.nu
        state.d += state.q / state.factor
        if state.q > config.q_min:
            state.q *= math.exp(-config.q_tau)

    def _by_weight(self, values):
        if self.layout.order is None:
            return values
        out = np.empty(values.shape)
        out[self.layout.order] = values
        return out

    def _advice(self, state, H, errors):
        where = f"update {state.n_update + 1} of the Kalman filter"
        for name, finite in (("row", np.isfinite(H).all(axis=1)), ("error", np.isfinite(errors))):
            if not finite.all():
                label = int(np.argmin(finite))
                return (
                    f"{where}: the {name} of label {label + 1} of {len(finite)} is not finite: "
                    "look for broken labels, or for weights that ran away"
                )
        return (
            f"{where}: the scaling matrix A = H P H^T + R of {len(H)} labels has no Cholesky factor: "
            f"P is no longer positive or has grown without bound; try {self.advice}"
        )

    def check(self, state: EkfState) -> None:
        """Raise TrainingError, on every rank, if P is not finite or not positive on its diagonal.

        Collective.
        """
        found = self.diagnostics(state)
        if not (found["finite"] and found["min"] > 0.0):
            raise TrainingError(
                f"the covariance after update {state.n_update} is no longer positive "
                f"(smallest P_ii {found['min']:.3g}, mean {found['mean']:.3g}): "
                f"try {self.advice}"
            )

    def save_arrays(self, state: EkfState) -> dict[str, np.ndarray] | None:
        """The state as arrays that do not depend on the number of ranks, on rank 0 (None elsewhere).

        Collective.
        """
        packed = pack(state.T, self.comm)
        if packed is None:
            return None
        n, U = self.n_weight, state.U[: state.r]
        arrays = {
            "T": packed,
            "group": self._group(),
            "U": U,
            "scalars": np.array([state.d, state.factor, state.eta, state.q, state.lam]),
            "n_update": np.array(state.n_update),
        }
        if self.n_offset:  # what comes first, rows of the lower triangle and columns of U, is of the weights
            of_weights = packed_start(arrays["group"])[-1]
            arrays |= {"T": packed[:of_weights], "offset_T": packed[of_weights:]}
            arrays |= {"U": np.ascontiguousarray(U[:, :n]), "offset_U": np.ascontiguousarray(U[:, n:])}
        return arrays

    def _group(self):
        """Positions of each group of coupled weights, without offsets."""
        return np.array([0, self.n_weight]) if self.n_offset else self.layout.group

    def load_arrays(self, arrays: dict[str, np.ndarray] | None) -> EkfState:
        """The state from `save_arrays`, given on rank 0 (ignored elsewhere), bit for bit. Collective.

        Offsets begin anew if the arrays hold another number of them, or none.

        Raises CheckpointError if it is of another net, coupling or optimiser.
        """
        comm, arrays = self.comm, arrays if self.comm.rank == 0 and arrays else {}
        fits = comm.bcast(comm.rank != 0 or self._fits(arrays), root=0)
        if not fits:
            raise CheckpointError(
                "the covariance of the checkpoint is not that of this run's net and ekf.coupling: "
                "keep both and the optimiser, or start anew"
            )
        r, scalars, n_update = comm.bcast(
            (len(arrays["U"]), arrays["scalars"], int(arrays["n_update"])) if comm.rank == 0 else None, root=0
        )
        state = self._state(0.0, r, *(float(x) for x in scalars), n_update)
        packed = None
        if comm.rank == 0:
            packed, state.U[:r] = self._with_offsets(arrays, state)
        comm.Bcast(state.U[:r], root=0)
        unpack(state.T, packed, comm)
        return state

    def _with_offsets(self, arrays, state):
        """Packed T and rows U of weights and offsets, from the arrays of a checkpoint."""
        if not self.n_offset:
            return arrays["T"], arrays["U"]
        U = arrays.get("offset_U", np.zeros((state.r, 0)))
        if U.shape[1] == self.n_offset:
            T = arrays["offset_T"]
        else:  # of variance 1, independent of the weights
            U = np.zeros((state.r, self.n_offset))
            rows = [np.zeros(self.n_weight + k + 1) for k in range(self.n_offset)]
            for row in rows:
                row[-1] = 1.0 / state.factor - state.d
            T = np.concatenate(rows)
        return np.concatenate([arrays["T"], T]), np.concatenate([arrays["U"], U], axis=1)

    def _fits(self, arrays):
        group, packed = arrays.get("group"), arrays.get("T", ())
        return np.array_equal(group, self._group()) and len(packed) == packed_start(group)[-1]

    def covariance(self, state: EkfState) -> np.ndarray | None:
        """P (n, n) in the order of the weights on rank 0 (None elsewhere): n^2 numbers. Collective."""
        arrays = self.save_arrays(state)
        return None if arrays is None else dense_covariance(arrays, self.layout.order)

    def diagnostics(self, state: EkfState) -> dict:
        """mean |P_ii| and trace of the weights, smallest P_ii and whether all of P is finite, as a dict.
        Collective.
        """
        T = self.comm.allreduce(state.T.diagonal())
        U = state.U[: state.r]
        P = state.factor * (T - np.einsum("ri,ri->i", U, U) + state.d)
        finite = np.isfinite(P).all() and np.isfinite(self.comm.allreduce(state.T.tiles.sum()))
        return {
            "mean": float(np.abs(P[: self.n_weight]).mean()),
            "trace": float(P[: self.n_weight].sum()),
            "min": float(P.min()),
            "finite": bool(finite),
        }


def prior_variances(config: Rates, n_weight: int, segments: Sequence[Segment]) -> np.ndarray:
    """Diagonal (n_weight,) of P(0): 1/epsilon, or with ekf.prior that many times the variance of Glorot's
    initial weights, 2/(n_in + n_out).
    """
    variance = np.full(n_weight, 1.0 / config.epsilon)
    if config.prior is not None:
        for offset, n_in, n_out, _, _ in segments:
            variance[offset : offset + (n_in + 1) * n_out] = config.prior * 2.0 / (n_in + n_out)
    return variance


def next_eta(config: Rates, eta: float) -> float:
    """eta of the coming update: larger by exp(eta_tau) until it has passed eta_max
    (as n2p2, which lets it pass once).
    """
    if not config.fading_memory and eta < config.eta_max:
        eta *= math.exp(config.eta_tau)
    return eta
