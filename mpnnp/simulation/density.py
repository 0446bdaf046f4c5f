"""Density of simulations against time: mean of the last part with an error bar, and whether it is stable:
did not leave its range, does not drift, and stayed where the potential was trained.
"""

from dataclasses import dataclass

import numpy as np

from mpnnp.figures import PALETTE, style
from mpnnp.simulation.statistics import FEWEST, band, block_error, with_error

MAXIMUM_DRIFT = 3.0  # error bars between the means of the two halves
MAXIMUM_EXTRAPOLATIONS = 1e-3  # symmetry functions per atom and step
ROUNDING = 1e-6  # relative; less is no drift
TOO_SHORT = "too short for a safe error bar"


@dataclass(frozen=True)
class Density:
    """Result of one run: mean and error of the last part, g/cm^3; converged: see block_error.

    lasted   it stayed in its range to its end
    reasons  why it is not stable, none if it is
    """

    name: str
    mean: float
    error: float
    converged: bool
    lasted: bool
    reasons: tuple

    @property
    def stable(self):
        return not self.reasons

    @property
    def verdict(self):
        """In words."""
        if self.stable:
            return "stable"
        doubt = self.reasons == (TOO_SHORT,)
        return f"{'not known to be stable' if doubt else 'not stable'}: {'; '.join(self.reasons)}"

    def __str__(self):
        return f"{self.name}: {with_error(self.mean, self.error)} g/cm^3; {self.verdict}"


def analyse(series, skip=0.5, limits=None):
    """Density of a trajectories.Series.

    It is stable if it never left the limits and ended as it should, its mean does not drift (the halves of
    the part that is looked at agree within MAXIMUM_DRIFT error bars), that part is long enough for an error
    bar, holds few extrapolations, and lies on average within the densities and energies of training, where
    they are known.

    skip    fraction of the time left out at the start
    limits  (low, high) g/cm^3 that the density must not leave at any time; None: half and one and a half of
            the first value
    """
    low, high = limits or (0.5 * series.values[0], 1.5 * series.values[0])
    outside = np.flatnonzero(~((series.values >= low) & (series.values <= high)))
    last = series.times >= series.times[0] + skip * (series.times[-1] - series.times[0])
    mean, error, converged = block_error(series.values[last])
    reasons = []
    if len(outside):
        reasons.append(f"left the range at {series.times[outside[0]]:.6g} ps")
    if series.ending:
        reasons.append(f"failed {series.ending}")
    lasted = not reasons
    reasons += _drift(series.values[last])
    if not converged:
        reasons.append(TOO_SHORT)
    reasons += _range(series, last, mean)
    return Density(series.name, mean, error, converged, lasted, tuple(reasons))


def _drift(values):
    """The drift between the halves of `values`, in words, if it is one."""
    half = len(values) // 2
    if half < FEWEST:
        return []
    (before, one, _), (after, two, _) = block_error(values[:half]), block_error(values[half:])
    drift, error = after - before, np.hypot(one, two)
    if abs(drift) <= MAXIMUM_DRIFT * error + ROUNDING * abs(after):
        return []
    return [f"drifts by {with_error(drift, error)} g/cm^3 from {before:.4g} to {after:.4g}"]


def _range(series, last, mean):
    """Where the part `last` (n,) left what the potential was trained on, in words."""
    trained, reasons = series.trained, []
    if trained.lacks(mean):
        reasons.append(
            "outside of the densities of training, "
            f"{trained.density_low:.4g} to {trained.density_high:.4g} g/cm^3"
        )
    if series.energies is not None:
        energy = series.energies[last].mean()
        if energy < trained.energy_low or energy > trained.energy_high:
            reasons.append(
                f"its potential energy, {energy:.5g} eV/atom, is outside of those of training, "
                f"{trained.energy_low:.5g} to {trained.energy_high:.5g}: "
                f"{'hotter' if energy > trained.energy_high else 'colder'} than the data"
            )
    if series.extrapolations is not None:
        rate = series.extrapolations[last].mean()
        if rate > MAXIMUM_EXTRAPOLATIONS:
            reasons.append(f"{1000 * rate:.3g} extrapolations per 1000 atoms and steps")
    return reasons


def on_grid(all_series):
    """(times (n,), values (n_run, n)) on the times of the run with most rows;
    NaN where a run has no value.
    """
    times = max((s.times for s in all_series), key=len)
    return times, np.array(
        [np.interp(times, s.times, s.values, left=np.nan, right=np.nan) for s in all_series]
    )


def columns(all_series):
    """Table for a CSV: time, each run, mean and standard deviation."""
    times, values = on_grid(all_series)
    mean, std = band(values)
    table = {"time_ps": times} | {f"density_g_cm3[{s.name}]": v for s, v in zip(all_series, values)}
    return table | {"mean_g_cm3": mean, "std_g_cm3": std}


@style()
def draw(axis, all_series, results):
    """Each run thin; with several, mean and band as far as all of them go. Dashed: the densities of
    training, where they are near.
    """
    several = len(all_series) > 1
    times, values = on_grid(all_series)
    for series, result in zip(all_series, results):
        told = with_error(result.mean, result.error) + ("" if result.stable else ", not stable")
        width = 0.7 if several else 1.0
        axis.plot(series.times, series.values, linewidth=width, label=f"{series.name}: {told}")
    if several:
        mean, std = band(values)
        axis.plot(times, mean, color=PALETTE[-1], linewidth=2.0, label="mean, standard deviation")
        axis.fill_between(times, mean - std, mean + std, color=PALETTE[-1], alpha=0.25, linewidth=0)
    low, high = axis.get_ylim()
    margin = high - low
    for edge in {x for s in all_series for x in (s.trained.density_low, s.trained.density_high)}:
        if low - margin < edge < high + margin:
            axis.axhline(edge, color=PALETTE[-1], linestyle="--", linewidth=1.0)
            axis.annotate("end of training", (times[0], edge), fontsize=7, va="bottom")
    axis.set(xlabel="time (ps)", ylabel="density (g/cm³)")
    axis.legend()
