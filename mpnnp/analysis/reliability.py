"""Can standard deviations be believed? What share of labels lies within how many of them, and how large
errors are where they are large.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import erfinv
from scipy.stats import pearsonr, spearmanr

from mpnnp import figures
from mpnnp.data.dataset import Dataset
from mpnnp.model.evaluation import Evaluation
from mpnnp.model.label_kinds import KINDS, MILLI

SHARES = np.linspace(0.05, 0.95, 19)
MOST_BINS, FEWEST_IN_BIN = 10, 5


class Reliability(NamedTuple):
    """Errors and standard deviations `sigma` of labels of one kind (n,), in its error_unit."""

    errors: np.ndarray
    sigma: np.ndarray

    def within(self, factor: float | np.ndarray) -> np.ndarray:
        """Share of the labels within so many standard deviations."""
        return np.mean(np.abs(self.errors)[:, None] <= np.atleast_1d(factor) * self.sigma[:, None], axis=0)

    def correlations(self) -> tuple[float, float]:
        """Pearson's and Spearman's coefficients of sigma and |error|; NaN where one of them does not vary."""
        error = np.abs(self.errors)
        if len(error) < 3 or np.ptp(error) == 0.0 or np.ptp(self.sigma) == 0.0:
            return np.nan, np.nan
        return float(pearsonr(self.sigma, error)[0]), float(spearmanr(self.sigma, error)[0])

    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """RMS of sigma and RMS error of bins of as many labels, by ascending sigma."""
        n_bin = int(np.clip(len(self.sigma) // FEWEST_IN_BIN, 1, MOST_BINS))
        parts = np.array_split(np.argsort(self.sigma), n_bin)
        return tuple(
            np.array([np.sqrt(np.mean(values[part] ** 2)) for part in parts])
            for values in (self.sigma, self.errors)
        )


def reliability_of(result: Evaluation, dataset: Dataset) -> dict[str, Reliability]:
    """Kind of label -> Reliability, of an Evaluation with standard deviations; without kinds that have no
    labels. On rank 0.
    """
    n_atom = np.diff(result.start)
    columns = {
        "energy": (np.asarray(dataset.energy) - result.energy, result.energy_std, n_atom),
        "force": (np.asarray(dataset.forces) - result.forces, result.forces_std, np.ones(1)),
    }
    found = {}
    for kind, (errors, sigma, n) in columns.items():
        errors, sigma = (MILLI * np.ravel(values / n) for values in (errors, sigma))
        there = np.isfinite(errors) & np.isfinite(sigma)
        if there.any():
            found[kind] = Reliability(errors[there], sigma[there])
    return found


def lines_of(found: Mapping[str, Reliability]) -> list[str]:
    """Lines for the log."""
    lines = []
    for name, labels in found.items():
        kind = KINDS[name]
        one, two = 100.0 * labels.within(np.array([1.0, 2.0]))
        pearson, spearman = labels.correlations()
        lines.append(
            f"standard deviation of {kind.words}: mean {labels.sigma.mean():.3g} {kind.error_unit}, "
            f"{one:.0f} % of the errors within it, {two:.0f} % within twice; correlation with |error| "
            f"{pearson:.2f} (Pearson), {spearman:.2f} (Spearman)"
        )
    return lines


@figures.style()
def draw(path: str | Path, found: Mapping[str, Reliability]) -> None:
    """Picture of the shares within a number of standard deviations against Gauss's, and of errors against
    standard deviations. Raises OSError.
    """
    picture, (shares, sizes) = figures.figure(2)
    factors = np.sqrt(2.0) * erfinv(SHARES)
    shares.plot([0, 1], [0, 1], color=figures.PALETTE[8], linewidth=0.8)
    for kind, labels in found.items():
        shares.plot(SHARES, labels.within(factors), marker="o", label=KINDS[kind].words)
        sigma, errors = labels.bins()
        unit = figures.with_signs(KINDS[kind].error_unit)
        sizes.plot(sigma, errors, marker="o", label=f"{KINDS[kind].words}, {unit}")
    shares.set(
        xlabel="share expected within k standard deviations",
        ylabel="share of the labels",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    sizes.set(xlabel="RMS standard deviation", ylabel="RMS error")
    for which in "xy":
        figures.log_axis(sizes, which)
    low = max(sizes.get_xlim()[0], sizes.get_ylim()[0])
    high = min(sizes.get_xlim()[1], sizes.get_ylim()[1])
    sizes.plot([low, high], [low, high], color=figures.PALETTE[8], linewidth=0.8)
    for axis in (shares, sizes):
        axis.legend()
    figures.save(picture, path)
