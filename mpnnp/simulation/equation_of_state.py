"""Equation of state at one temperature: mean pressures of simulations at constant volume against density, and
the density at which the pressure is the one asked for. It needs no barostat, and is known also where a liquid
at that pressure would not live long.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from mpnnp.errors import ConfigError, DataError
from mpnnp.figures import PALETTE, colours, style
from mpnnp.progress import counted
from mpnnp.simulation.statistics import FEWEST, block_error, with_error
from mpnnp.simulation.trajectories import read_pressures

ORDER = 2  # of the polynomial
DRAWS, SEED = 1000, 1  # of the bootstrap
SIGMA = (15.865, 84.135)  # percentiles, one standard deviation each way
MISFIT = 0.01  # probability of the squared deviations from the curve; less is no fit
MAXIMUM_LOST = 0.1  # part of the draws that may have no such density


@dataclass(frozen=True)
class Point:
    """Density g/cm^3, mean pressure and its error (bar) of one run; converged: see block_error."""

    name: str
    density: float
    pressure: float
    error: float
    converged: bool

    def __str__(self):
        doubt = "" if self.converged else " (too short for a safe error bar)"
        return f"{self.name}: {self.density:.4g} g/cm^3, {with_error(self.pressure, self.error)} bar{doubt}"


@dataclass(frozen=True)
class Curve:
    """Equation of state of one potential.

    points        Points by density
    coefficients  of the polynomial p(density - centre), highest order first; bar and g/cm^3
    density       at the pressure asked for, g/cm^3; NaN if the curve has none between its points
    error         its standard error; NaN if it is not known
    reasons       why `density` is missing or cannot be trusted, none if it can
    """

    name: str
    points: tuple
    coefficients: np.ndarray
    centre: float
    pressure: float
    density: float
    error: float
    reasons: tuple

    def __call__(self, density):
        """Pressure (bar) of the fitted curve at densities (n,) g/cm^3."""
        return np.polyval(self.coefficients, np.asarray(density) - self.centre)

    def __str__(self):
        if np.isnan(self.density):
            return f"{self.name}: no density of {self.pressure:g} bar: {'; '.join(self.reasons)}"
        doubt = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        return f"{self.name}: {with_error(self.density, self.error)} g/cm^3 at {self.pressure:g} bar{doubt}"


def mean_pressure(run, skip=0.2):
    """Point of trajectories.Pressures, without the fraction `skip` of its time at the start.

    Raises DataError if what is left has too few rows for an error bar.
    """
    last = run.times >= run.times[0] + skip * (run.times[-1] - run.times[0])
    mean, error, converged = block_error(run.values[last])
    if np.isnan(error):
        n = int(last.sum())
        are = "is" if n == 1 else "are"
        raise DataError(f"{run.name}: {counted(n, 'row')} {are} left, an error bar needs {FEWEST}")
    return Point(run.name, run.density, mean, error, converged)


def read_points(name, folders, skip, log):
    """Points of the simulations of a potential in `folders`, without those that failed, which is told.

    Raises DataError, also where they have different temperatures.
    """
    all_runs = [read_pressures(folder) for folder in folders]
    temperatures = sorted({run.temperature for run in all_runs} - {None})
    if len(temperatures) > 1:
        told = " and ".join(f"{t:g}" for t in temperatures)
        raise DataError(f"{name}: has runs at {told} K: an equation of state is that of one temperature")
    points = []
    for run in all_runs:
        if run.ending:
            log.warn(f"{run.name}: left out: it failed {run.ending}")
        else:
            points.append(mean_pressure(run, skip))
            log(f"  {points[-1]}")
    return points


def equation_of_state(name, points, pressure=1.0, order=ORDER):
    """Curve through Points: the polynomial of `order` that minimises sum ((p(rho_k) - p_k) / error_k)^2.

    The density is where it rises through `pressure` between the points; of several the largest: liquids are
    stable where the pressure rises with density, and what lies below is the gas. Its error: half the width of
    the middle 68 % over curves through pressures drawn from N(p_k, error_k). Raises ConfigError for too few
    densities.
    """
    if order < 1:
        raise ConfigError(f"--order {order}: must be at least 1")
    points = tuple(sorted(points, key=lambda point: point.density))
    density, means, errors = (
        np.array([getattr(point, key) for point in points], float) for key in ("density", "pressure", "error")
    )
    if (n_density := len(np.unique(density.round(6)))) <= order:
        raise ConfigError(
            f"{name}: {n_density} densities are too few for a curve of order {order}: "
            f"at least {order + 1}, or a smaller --order"
        )
    centre, low, high = float(density.mean()), density[0], density[-1]
    known = errors > 0  # the pressure of others does not fluctuate
    weights = 1.0 / np.where(known, errors, errors[known].min() if known.any() else 1.0)

    def coefficients(pressures):
        return np.polyfit(density - centre, pressures, order, w=weights)

    found = coefficients(means)
    roots = [root for root in _rising(found, pressure) + centre if low <= root <= high]
    reasons = _misfit(found, density - centre, means, weights) if known.any() else []
    if not roots:
        ends = np.polyval(found, np.array([low, high]) - centre)
        told = f"{ends[0]:.4g} bar at {low:.4g} and {ends[1]:.4g} bar at {high:.4g} g/cm^3"
        reasons = [f"it does not rise through it between the densities of the runs: {told}", *reasons]
        return Curve(name, points, found, centre, pressure, np.nan, np.nan, tuple(reasons))
    rng, drawn = np.random.default_rng(SEED), []
    for _ in range(DRAWS):
        others = _rising(coefficients(rng.normal(means, errors)), pressure) + centre
        if len(others):
            drawn.append(others[np.argmin(np.abs(others - roots[-1]))])
    error = float(np.ptp(np.percentile(drawn, SIGMA))) / 2.0 if drawn else np.nan
    if (lost := 1.0 - len(drawn) / DRAWS) > MAXIMUM_LOST:
        reasons.append(f"within the error bars {100 * lost:.0f} % of the curves do not rise through it")
    if not all(point.converged for point in points):
        reasons.append("runs are too short for safe error bars")
    return Curve(name, points, found, centre, pressure, float(roots[-1]), error, tuple(reasons))


def _rising(coefficients, pressure):
    """Ascending real x at which a polynomial rises through `pressure`."""
    shifted = np.array(coefficients, float)
    shifted[-1] -= pressure
    roots = np.roots(shifted)
    real = np.sort(roots[np.abs(roots.imag) <= 1e-9 * (1.0 + np.abs(roots.real))].real)
    return real[np.polyval(np.polyder(coefficients), real) > 0.0]


def _misfit(coefficients, x, means, weights):
    """That the curve misses its points, in words, if it does."""
    freedom = len(x) - len(coefficients)
    squares = float(np.sum(((np.polyval(coefficients, x) - means) * weights) ** 2))
    if freedom < 1 or chi2.sf(squares, freedom) >= MISFIT:
        return []
    return [f"the curve misses its points: chi^2 = {squares:.3g} with {freedom} degrees of freedom"]


def columns(curves):
    """Table for a CSV: one row for each run."""
    rows = [(curve, point) for curve in curves for point in curve.points]
    return {
        "curve": [curve.name for curve, _ in rows],
        "run": [point.name for _, point in rows],
        "density_g_cm3": [point.density for _, point in rows],
        "pressure_bar": [point.pressure for _, point in rows],
        "error_bar": [point.error for _, point in rows],
        "fit_bar": [float(curve(point.density)) for curve, point in rows],
    }


@style()
def draw(axis, curves):
    """Points with error bars and the curve of each; dashed: the pressure asked for."""
    tones = colours([curve.name for curve in curves])
    for curve in curves:
        density = [point.density for point in curve.points]
        axis.errorbar(
            density,
            [point.pressure for point in curve.points],
            [point.error for point in curve.points],
            fmt="o",
            capsize=2.0,
            color=tones[curve.name],
        )
        x = np.linspace(density[0], density[-1], 200)
        told = "none" if np.isnan(curve.density) else with_error(curve.density, curve.error)
        axis.plot(x, curve(x), color=tones[curve.name], label=f"{curve.name}: {told}")
    axis.axhline(curves[0].pressure, color=PALETTE[-1], linestyle="--", linewidth=1.0)
    axis.set(xlabel="density (g/cm³)", ylabel="pressure (bar)")
    axis.legend(title=f"density at {curves[0].pressure:g} bar (g/cm³)")
