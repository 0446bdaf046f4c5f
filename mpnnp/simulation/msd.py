"""Mean squared displacements, and diffusion coefficients from their slope."""

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from mpnnp.errors import DataError
from mpnnp.simulation.statistics import band, table_with_bands

FIT = (0.2, 0.8)  # part of the lags through which the line is drawn


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


def mean_squared_displacements(trajectory):
    """(lags (m,) ps, {element: msd (m,) Angstrom^2}) for lags up to half the time covered,
    over all origins and atoms of an element.

    Raises DataError for fewer than four frames, or frames at unequal distances in time.
    """
    times = trajectory.times
    if len(times) < 4:
        raise DataError(f"{trajectory.name}: {len(times)} frames are too few for displacements")
    if np.ptp(np.diff(times)) > 1e-6 * (times[-1] - times[0]):
        raise DataError(f"{trajectory.name}: frames are not at equal distances in time")
    positions, m = unwrap(trajectory), len(times) // 2 + 1
    result = {}
    for z in sorted(set(trajectory.numbers.tolist()), reverse=True):
        result[chemical_symbols[z]] = _msd(positions[:, trajectory.numbers == z])[:m]
    return times[:m] - times[0], result


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


def diffusion(lags, msd):
    """D = slope / 6 in 1e-9 m^2/s (= 0.1 Angstrom^2/ps), from a line through the middle part of the lags."""
    part = slice(int(FIT[0] * len(lags)), max(int(FIT[1] * len(lags)), int(FIT[0] * len(lags)) + 2))
    return 10.0 * np.polyfit(lags[part], msd[part], 1)[0] / 6.0


def columns(lags, all_msd, names):
    """Table for a CSV: lag; for each element each run, mean and standard deviation."""
    return table_with_bands({"lag_ps": lags}, all_msd, names)


def draw(axis, lags, all_msd):
    """A curve for each element, with a band over several runs."""
    for element in all_msd[0]:
        mean, std = band([m[element] for m in all_msd])
        axis.plot(lags, mean, label=element)
        if len(all_msd) > 1:
            axis.fill_between(lags, mean - std, mean + std, alpha=0.3, linewidth=0)
    axis.set(xlabel="time (ps)", ylabel="mean squared displacement (Å²)")
    axis.legend()
