"""Density of simulations against time: mean of the last part with an error bar,
and whether it stayed within a range.
"""

from dataclasses import dataclass

import numpy as np

from mpnnp.simulation.statistics import band, block_error


@dataclass(frozen=True)
class Density:
    """Result of one run: mean and error of the last part, g/cm^3; converged: see block_error;
    verdict in words.
    """

    name: str
    mean: float
    error: float
    converged: bool
    stable: bool
    verdict: str


def analyse(series, skip=0.5, limits=None):
    """Density of a trajectories.Series.

    skip    fraction of the time left out at the start
    limits  (low, high) g/cm^3 that the density must not leave at any time; None: half and one and a half of
            the first value
    """
    low, high = limits or (0.5 * series.values[0], 1.5 * series.values[0])
    outside = np.flatnonzero(~((series.values >= low) & (series.values <= high)))
    last = series.times >= series.times[0] + skip * (series.times[-1] - series.times[0])
    mean, error, converged = block_error(series.values[last])
    if len(outside):
        verdict = f"left the range at {series.times[outside[0]]:.6g} ps"
    elif series.ending:
        verdict = f"failed {series.ending}"
    else:
        verdict = "stable"
    return Density(series.name, mean, error, converged, verdict == "stable", verdict)


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


def draw(axis, all_series, results):
    """Each run thin; with several, mean and band."""
    times, values = on_grid(all_series)
    for series, result in zip(all_series, results):
        label = f"{series.name}: {result.mean:.4f} ± {result.error:.4f}, {result.verdict}"
        axis.plot(series.times, series.values, linewidth=0.7 if len(all_series) > 1 else 1.0, label=label)
    if len(all_series) > 1:
        mean, std = band(values)
        axis.plot(times, mean, color="black")
        axis.fill_between(times, mean - std, mean + std, color="black", alpha=0.2, linewidth=0)
    axis.set(xlabel="time (ps)", ylabel="density (g/cm³)")
    axis.legend(fontsize="x-small")
