"""Mean squared displacements, and diffusion coefficients from their slope, with error bars."""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from mpnnp.errors import ConfigError, DataError
from mpnnp.figures import PALETTE, colours, style
from mpnnp.simulation.statistics import band, table_with_bands, with_error

FIT = (0.2, 0.8)  # part of the lags through which the line is drawn
GROUPS, FEWEST_GROUPS = 10, 4  # of atoms of an element, for the error bar
EXPONENTS = (0.8, 1.2)  # of displacements that are called diffusive
MOVED = 1.0  # Angstrom, at the end of the window
SHORTEST = 1.0  # ps of a window: velocities take some tenths of it to forget
MAXIMUM_ERROR = 0.3  # of the value
BOLTZMANN = 1.380649e-23  # J/K
XI = 2.837297  # of a cubic lattice


def unwrap(trajectory):
    """Positions (n, n_atom, 3) that follow the atoms through periodic boundaries,
    relative to the centre of mass.

    Between frames an atom is taken to move to its nearest image; displacements are added up in the
    coordinates of the cell, so that the breathing of a barostat is no displacement by itself.
    """
    positions, pbc = trajectory.positions, trajectory.pbc
    if pbc.any():
        if not pbc.all():
            raise DataError(
                f"{trajectory.name}: is periodic in some directions only: its displacements are not unique"
            )
        fractional = np.linalg.solve(np.swapaxes(trajectory.cells, 1, 2)[:, None], positions[..., None])[
            ..., 0
        ]
        steps = np.diff(fractional, axis=0)
        steps -= np.round(steps)
        fractional = np.concatenate([fractional[:1], fractional[:1] + np.cumsum(steps, axis=0)])
        positions = np.einsum("tai,ij->taj", fractional, trajectory.cells.mean(axis=0))
    masses = atomic_masses[trajectory.numbers]
    return positions - np.einsum("tai,a->ti", positions, masses)[:, None] / masses.sum()


@dataclass(frozen=True)
class Displacements:
    """Mean squared displacements (m,) Angstrom^2 of an element at lags (m,) ps: of all its atoms, and of
    groups of them (n_group, m), from which the error bar comes.
    """

    lags: np.ndarray
    msd: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Diffusion:
    """Diffusion coefficient and its standard error, 1e-9 m^2/s (= 0.1 Angstrom^2/ps), NaN if not known; the
    lags fitted, ps; the exponent a of msd ~ t^a there; why the value cannot be trusted, none if it can.
    """

    value: float
    error: float
    window: tuple
    exponent: float
    reasons: tuple

    def __str__(self):
        doubt = f" (too short: {'; '.join(self.reasons)})" if self.reasons else ""
        return f"{with_error(self.value, self.error)}{doubt}"


def mean_squared_displacements(trajectory):
    """{element: Displacements} for lags up to half the time covered, over all origins and atoms of it.

    Groups are neighbours in the order of the atoms, mostly whole molecules, so that they are nearly
    independent. Raises DataError for fewer than four frames, or frames at unequal distances in time.
    """
    times = trajectory.times
    if len(times) < 4:
        raise DataError(f"{trajectory.name}: too few frames for displacements, {len(times)}")
    if np.ptp(np.diff(times)) > 1e-6 * (times[-1] - times[0]):
        raise DataError(f"{trajectory.name}: frames are not at equal distances in time")
    positions, m = unwrap(trajectory), len(times) // 2 + 1
    result = {}
    for z in sorted(set(trajectory.numbers.tolist()), reverse=True):
        atoms = np.flatnonzero(trajectory.numbers == z)
        parts = np.array_split(atoms, min(GROUPS, len(atoms)))
        groups = np.array([_msd(positions[:, part])[:m] for part in parts])
        msd = np.average(groups, axis=0, weights=[len(part) for part in parts])
        result[chemical_symbols[z]] = Displacements(times[:m] - times[0], msd, groups)
    return result


def _msd(x):
    """msd (n,) of positions (n, n_atom, 3) by Fourier transforms:
    <|x(t+k)|^2 + |x(t)|^2> - 2 <x(t+k) x(t)>.
    """
    n = len(x)
    square = np.sum(x**2, axis=(1, 2))
    spectrum = np.fft.rfft(x.reshape(n, -1), n=2 * n, axis=0)
    correlation = np.fft.irfft(np.sum(np.abs(spectrum) ** 2, axis=1), n=2 * n)[:n]
    forward, backward = np.cumsum(square[::-1])[::-1], np.cumsum(square)
    # over the origins t = 0 .. n-1-k
    later = np.array([forward[k] + backward[n - 1 - k] for k in range(n)])
    return np.maximum((later - 2.0 * correlation) / (n - np.arange(n)) / x.shape[1], 0.0)


def diffusion(found):
    """Diffusion of Displacements: slope / 6 of a line through the middle part of the lags, its error bar from
    the slopes of the groups of atoms.

    It is doubted where the displacements do not grow in proportion to time there (an exponent below:
    caged, or a solid; above: ballistic), where the window is shorter than a picosecond or atoms have not
    moved by an Angstrom in it, and where the error bar is large or there are too few atoms for one.
    """
    lags, n = found.lags, len(found.lags)
    part = slice(int(FIT[0] * n), max(int(FIT[1] * n), int(FIT[0] * n) + 2))
    window = float(lags[part][0]), float(lags[part][-1])
    value = 10.0 * np.polyfit(lags[part], found.msd[part], 1)[0] / 6.0
    error, n_group = np.nan, len(found.groups)
    if n_group >= FEWEST_GROUPS:
        slopes = 10.0 * np.polyfit(lags[part], found.groups[:, part].T, 1)[0] / 6.0
        error = slopes.std(ddof=1) / np.sqrt(n_group)
    moving = (lags[part] > 0) & (found.msd[part] > 0)
    exponent = np.nan
    if moving.sum() > 1:
        exponent = np.polyfit(np.log(lags[part][moving]), np.log(found.msd[part][moving]), 1)[0]
    reasons = []
    if window[1] - window[0] < SHORTEST:
        reasons.append(f"a window of {window[1] - window[0]:.2g} ps")
    if np.isnan(exponent):
        reasons.append("too few lags to tell how the msd grows")
    elif not EXPONENTS[0] <= exponent <= EXPONENTS[1]:
        reasons.append(f"the msd grows as t^{exponent:.2f} in the window, not as t")
    if found.msd[part][-1] < MOVED**2:
        reasons.append(f"atoms moved by {np.sqrt(found.msd[part][-1]):.2g} A only")
    if np.isnan(error):
        reasons.append(f"{n_group} atoms are too few for an error bar")
    elif error > MAXIMUM_ERROR * abs(value):
        reasons.append(f"an error bar of {100 * error / max(abs(value), 1e-300):.0f} %")
    return Diffusion(float(value), float(error), window, float(exponent), tuple(reasons))


def finite_size(trajectory, temperature, viscosity):
    """What a cubic box of finite size takes from a diffusion coefficient, 1e-9 m^2/s, to be added:
    k_B T xi / (6 pi eta L), xi = 2.837297.

    temperature K;  viscosity eta, mPa s, of the same model at the same temperature
    Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004), eq. 12. Raises DataError unless the cell is cubic.
    """
    cell = trajectory.cells.mean(axis=0)
    length = np.cbrt(abs(np.linalg.det(cell)))
    gram = cell @ cell.T / length**2
    if not (trajectory.pbc.all() and np.abs(gram - np.eye(3)).max() < 0.02):
        raise DataError(f"{trajectory.name}: the correction for finite size is that of a cubic cell")
    metre = 1e-10
    return 1e9 * BOLTZMANN * temperature * XI / (6.0 * np.pi * 1e-3 * viscosity * length * metre)


def alike(names, runs):
    """Runs (element -> Displacements) cut to the lags of the shortest.

    Raises ConfigError if their times between frames differ.
    """
    lags = [next(iter(run.values())).lags for run in runs]
    for name, other in zip(names, lags):
        if abs(other[1] - lags[0][1]) > 1e-9:
            raise ConfigError(
                f"{name}: {other[1]:g} ps between frames, {names[0]} {lags[0][1]:g}: analyse them one by one"
            )
    n = min(map(len, lags))
    return [
        {
            element: Displacements(found.lags[:n], found.msd[:n], found.groups[:, :n])
            for element, found in run.items()
        }
        for run in runs
    ]


def columns(runs, names):
    """Table for a CSV: lag; for each element each run (element -> Displacements), mean and deviation."""
    lags = next(iter(runs[0].values())).lags
    curves = [{element: found.msd for element, found in run.items()} for run in runs]
    return table_with_bands({"lag_ps": lags}, curves, names)


@style()
def draw(axis, runs):
    """A curve for each element, with a band over several runs, the window of the fit and the fitted line."""
    tones = colours(list(runs[0]))
    for element, first in runs[0].items():
        lags, all_found = first.lags, [run[element] for run in runs]
        mean, std = band([found.msd for found in all_found])
        axis.plot(lags, mean, color=tones[element], label=f"{element}: {in_words(all_found)}")
        if len(runs) > 1:
            axis.fill_between(lags, mean - std, mean + std, color=tones[element], alpha=0.25, linewidth=0)
        fitted = diffusion(first).window
        x = lags[(lags >= fitted[0]) & (lags <= fitted[1])]
        y = mean[(lags >= fitted[0]) & (lags <= fitted[1])]
        axis.plot(x, np.polyval(np.polyfit(x, y, 1), x), color=PALETTE[-1], linestyle="--", linewidth=1.0)
    axis.axvspan(*fitted, color=PALETTE[-1], alpha=0.12, linewidth=0, label="window of the fit")
    axis.set(xlabel="time (ps)", ylabel="mean squared displacement (Å²)")
    axis.legend(title="D (10⁻⁹ m²/s)")


def in_words(runs):
    """D of one run, or the mean over several (Displacements of an element) with its standard error."""
    found = [diffusion(run) for run in runs]
    doubt = ", too short" if any(d.reasons for d in found) else ""
    values = [d.value for d in found]
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else found[0].error
    return f"{with_error(float(np.mean(values)), error)}{doubt}"
