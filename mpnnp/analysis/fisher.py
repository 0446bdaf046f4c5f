"""Fisher information of a trained net: what the labels say about the weights.

    I1 = < g g^T >,    g = grad_w L1 = - sum_m sign(xi_m) H_m

over batches of the training schedule (one energy, or m components of forces), with errors xi = y - y_hat and
rows H = d y_hat / dw in physical units (eV, eV/Angstrom; without the weights of the loss): J. Chem. Phys.
155, 204108 (2021), eq. 1. For batches of one label the sign drops out and I1 is the mean of H^T H, the matrix
that the Kalman filter accumulates: for R = I/eta, q = 0 and no forgetting

    P^-1 = epsilon I + eta sum_t H_t^T H_t,

with the rows as the filter saw them, each at the weights of its own time and with the weights of the loss.

Batches are shared out over the ranks, their gradients made block by block and accumulated by syrk: for n
weights 8 n^2 bytes per rank (64 MB for n = 2827, 800 MB for n = 10,000), n^2 operations per batch, and (4/3)
n^3 for the spectrum on rank 0.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import eigvalsh, svdvals
from scipy.linalg.blas import dsyrk
from scipy.stats import wasserstein_distance

from mpnnp.config import Schedule
from mpnnp.optimizers.ekf import prior_variances
from mpnnp.parallel import serial, share
from mpnnp.progress import counted
from mpnnp.training.labels import label_scale
from mpnnp.training.observations import Observer
from mpnnp.training.schedules import Batch, make_schedule

BLOCK = 256  # labels whose rows are made at once
SLAB = 8_000_000  # numbers sent at once when the ranks' matrices are summed
EPS = np.finfo(float).eps


@dataclass(frozen=True, repr=False)
class Spectrum:
    """Eigenvalues of a Fisher matrix, ascending.

    eigenvalues (n,)  (eV per unit of weight)^2 for energies, (eV/Angstrom per unit of weight)^2 for forces
    floor             absolute accuracy: what is below is rounding
    n_row             batches averaged; no more eigenvalues than that differ from zero
    """

    eigenvalues: np.ndarray
    floor: float
    n_row: int

    @cached_property
    def known(self):
        """Eigenvalues above the floor, ascending."""
        return self.eigenvalues[self.eigenvalues > self.floor]

    @property
    def rank(self):
        return len(self.known)

    @property
    def trace(self):
        return float(self.eigenvalues.sum())

    @property
    def condition(self):
        """Largest over smallest eigenvalue above the floor."""
        return float(self.known[-1] / self.known[0]) if self.rank else np.nan

    @property
    def effective_dimension(self):
        """exp(- sum p ln p) with p = eigenvalue / trace: Roy and Vetterli, EUSIPCO 2007."""
        p = self.known / self.known.sum()
        return float(np.exp(-(p * np.log(p)).sum())) if self.rank else 0.0

    def peak(self, bins):
        """log10 of the eigenvalue at which the histogram over `bins` (edges, log10) is largest; NaN where all
        are rounding.
        """
        if not self.rank:
            return np.nan
        counts, _ = np.histogram(np.log10(self.known), bins)
        return float(0.5 * (bins[counts.argmax()] + bins[counts.argmax() + 1]))

    def __repr__(self):
        known = f"{self.known[0]:.3g} to {self.known[-1]:.3g}" if self.rank else "none above rounding"
        return (
            f"Spectrum({self.rank} of {len(self.eigenvalues)} eigenvalues, {known}; trace {self.trace:.4g}, "
            f"effective dimension {self.effective_dimension:.3g}, {counted(self.n_row, 'batch', 'batches')})"
        )

    def numbers(self):
        """name -> number, for tables and files."""
        names = ("trace", "condition", "effective_dimension", "rank", "floor", "n_row")
        return {name: getattr(self, name) for name in names}


class Gradients:
    """Gradients of L1 of batches at the weights of a potential, in physical units.

    batches (n_batch, m) int64: labels of one kind, as in `schedules`; kinds are positions in KINDS
    comm    shares out what the baseline of the potential takes; collective then
    """

    def __init__(self, dataset, structures, G, potential, comm=None):
        left = potential.baseline.subtract(dataset, comm)
        self.observer = Observer(left, structures, G, potential, Schedule(name="runner"), serial())
        self.weights = potential.weights
        self.n = potential.network.n_weight
        self.all_labels = self.observer.labels.of_structures(structures.start, np.arange(len(dataset)))

    def unit(self, kind):
        """What one unit of the loss of this kind is: of training over the scale of [schedule]."""
        name = self.observer.labels.kinds[kind].name
        return self.observer.labels.units[kind] / label_scale(self.observer.config, name, 1)

    def batches(self, kind, size, n_batch, seed=1):
        """n_batch batches of `size` random labels; of single labels each at most once.

        All structures of the data set take part.
        """
        labels = self.all_labels[kind]
        rng = np.random.default_rng([seed, kind])
        if size == 1:
            return rng.permutation(labels)[:n_batch, None]
        if not len(labels):
            return np.zeros((0, size), np.int64)
        return labels[rng.integers(0, len(labels), (n_batch, size))]

    def blocks(self, kind, batches, comm):
        """Gradients (k, n) of this rank's batches, k at a time; each block is overwritten by the next."""
        mine, size = share(len(batches), comm), batches.shape[1]
        step = max(1, BLOCK // size)
        for first in range(mine.start, mine.stop, step):
            labels = batches[first : min(first + step, mine.stop)]
            rows, errors, _ = self.observer.observe(Batch(kind, labels.reshape(-1, 1)), self.weights)
            rows *= -self.unit(kind) * np.where(errors < 0, -1.0, 1.0)[:, None]
            yield rows if size == 1 else rows.reshape(len(labels), size, -1).sum(axis=1)


def accumulate(blocks, n, n_row, comm):
    """Lower triangle of sum g g^T / n_row (n, n), Fortran order, on rank 0; None elsewhere. Collective."""
    matrix = np.zeros((n, n), order="F")
    for g in blocks:
        matrix = dsyrk(1.0 / n_row, g.T, beta=1.0, c=matrix, lower=1, overwrite_c=1)
    step = max(1, SLAB // n)
    for first in range(0, n, step):
        columns = matrix[:, first : first + step].T  # contiguous
        total = np.empty_like(columns) if comm.rank == 0 else None
        comm.Reduce(columns, total, root=0)
        if comm.rank == 0:
            columns[:] = total
    return matrix if comm.rank == 0 else None


def spectrum(blocks, n, n_row, comm):
    """Spectrum of sum g g^T / n_row on rank 0; None elsewhere. Collective.

    With at least as many rows as weights: a symmetric solver on the accumulated matrix; the absolute error is
    about n eps times the largest eigenvalue. With fewer: squares of the singular values of the rows, which
    then take less memory than the matrix; the error is about (n eps)^2 times the largest.
    """
    if n_row >= n:
        matrix = accumulate(blocks, n, n_row, comm)
        if comm.rank:
            return None
        values = np.maximum(eigvalsh(matrix, lower=True, overwrite_a=True, check_finite=False), 0.0)
        return Spectrum(values, float(n * EPS * values[-1]), n_row)
    parts = comm.gather([g.copy() for g in blocks], root=0)
    if comm.rank:
        return None
    rows = [g for part in parts for g in part]
    values = np.zeros(n)
    if rows:
        values[n - n_row :] = (
            np.sort(svdvals(np.concatenate(rows), overwrite_a=True, check_finite=False)) ** 2 / n_row
        )
    return Spectrum(values, float((n * EPS) ** 2 * values[-1]), n_row)


def fisher_spectrum(gradients, kind, size, n_batch, comm, seed=1):
    """Spectrum of I1 over n_batch batches of `size` labels of one kind on rank 0; None elsewhere,
    and where there are no labels. Collective.
    """
    batches = gradients.batches(kind, size, n_batch, seed)
    if not len(batches):
        return None
    return spectrum(gradients.blocks(kind, batches, comm), gradients.n, len(batches), comm)


def expected_information(gradients, config, n_update, n_batch, comm, seed=1):
    """(n,) eigenvalues of P(0)^-1 + eta sum_t H_t^T H_t as it would be had all rows been taken at the
    final weights, on rank 0 (None elsewhere). Collective.

    The sum is estimated from n_batch single labels of each kind. For a filter with fixed noise, constant eta,
    without q and forgetting these are the eigenvalues of P^-1, but for what the weights moved during the run.
    n_update: updates in all.
    """
    schedule = make_schedule(config.schedule, gradients.all_labels, config.run.seed)
    units = gradients.observer.labels.units
    total = np.zeros((gradients.n, gradients.n), order="F") if comm.rank == 0 else None
    for kind, (size, share_of) in enumerate(zip(schedule.sizes, schedule.shares)):
        batches = gradients.batches(kind, 1, n_batch, seed)
        if not (share_of and len(batches)):
            continue
        matrix = accumulate(gradients.blocks(kind, batches, comm), gradients.n, len(batches), comm)
        if comm.rank == 0:
            scale = (
                label_scale(config.schedule, gradients.observer.labels.kinds[kind].name, size) / units[kind]
            )
            matrix *= config.ekf.eta_max * n_update * share_of * size * scale**2
            total += matrix
    if comm.rank:
        return None
    network = gradients.observer.predictor.potential.network
    variances = prior_variances(config.ekf, network.n_weight, network.segments)
    if config.network.normalize_nodes:
        variances *= network.units() ** 2
    total[np.diag_indices_from(total)] += 1.0 / variances
    return eigvalsh(total, lower=True, overwrite_a=True, check_finite=False)


def distance(first, second):
    """Distance of two groups of Spectra in decades: (mean of log10 of the first minus that of the second,
    Wasserstein distance of log10).

    The k largest eigenvalues of every model take part, k being what the model with the fewest eigenvalues
    above its floor has: what rounding hides in one model is left out of all. The first number has a sign, the
    second also counts differences of shape.
    """
    k = min(s.rank for s in (*first, *second))
    if k == 0:
        return np.nan, np.nan
    one, two = (np.log10(np.concatenate([s.known[-k:] for s in group])) for group in (first, second))
    return float(one.mean() - two.mean()), float(wasserstein_distance(one, two))


def bins_of(spectra, per_decade=4):
    """Edges (log10) of a histogram that holds all known eigenvalues of the spectra; one bin without any."""
    known = np.concatenate([s.known for s in spectra])
    exponents = np.log10(known) if len(known) else np.zeros(1)
    first, last = np.floor(exponents.min() * per_decade), np.ceil(exponents.max() * per_decade)
    return np.arange(first, last + 1.5) / per_decade
