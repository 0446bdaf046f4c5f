"""Radial distribution functions of pairs of elements, in any cell."""

import numpy as np
from ase.data import chemical_symbols
from vesin import NeighborList

from mpnnp.errors import DataError
from mpnnp.figures import PALETTE, style
from mpnnp.simulation.statistics import band, table_with_bands

TOP = 6.0  # of g in the picture: bonds reach higher, and are not what one looks at


def radial_distributions(trajectory, r_max=6.0, bins=120):
    """(r (bins,), {pair: g (bins,)}) averaged over frames, for pairs like "O-H".

        g_ab(r) = V < n_ab(r, dr) > / (N_a (N_b - delta_ab) 4/3 pi ((r + dr)^3 - r^3))

    n_ab counts directed pairs of different atoms a, b, all periodic images within r_max, which may exceed
    half the cell. For atoms placed independently g is 1 at every r. Raises DataError without a periodic cell.
    """
    if not trajectory.pbc.all():
        raise DataError(
            f"{trajectory.name}: is not periodic in all directions: it has no radial distribution function"
        )
    numbers = trajectory.numbers
    elements = sorted(set(numbers.tolist()))
    pairs = [(a, b) for k, a in enumerate(elements) for b in elements[k:]]
    edges = np.linspace(0.0, r_max, bins + 1)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    counts = {z: int(np.sum(numbers == z)) for z in elements}
    total = {pair: np.zeros(bins) for pair in pairs}
    for positions, cell in zip(trajectory.positions, trajectory.cells):
        i, j, d = _pairs(positions, cell, r_max)
        volume = abs(np.linalg.det(cell))
        z_i, z_j = numbers[i], numbers[j]
        for a, b in pairs:
            n_pair = counts[a] * (counts[b] - (a == b))
            if n_pair:
                of_pair = (z_i == a) & (z_j == b)
                total[a, b] += volume / n_pair * np.histogram(d[of_pair], edges)[0] / shells
    n = len(trajectory.positions)
    names = {(a, b): "-".join(chemical_symbols[z] for z in sorted((a, b), reverse=True)) for a, b in pairs}
    return 0.5 * (edges[1:] + edges[:-1]), {names[pair]: g / n for pair, g in total.items()}


def _pairs(positions, cell, r_max):
    """i, j, distance of all directed pairs of different atoms, with images."""
    i, j, d = NeighborList(cutoff=r_max, full_list=True).compute(
        points=positions, box=cell, periodic=True, quantities="ijd"
    )
    different = i != j
    return i[different].astype(np.int64), j[different].astype(np.int64), d[different]


def columns(r, all_g, names):
    """Table for a CSV: r; for each pair each run, mean and standard deviation."""
    return table_with_bands({"r_angstrom": r}, all_g, names)


@style()
def draw(axes, r, all_g):
    """One panel for each pair of elements, named in its title: mean, and band over several runs."""
    for axis, pair in zip(axes, all_g[0]):
        mean, std = band([g[pair] for g in all_g])
        axis.plot(r, mean, color=PALETTE[0])
        if len(all_g) > 1:
            axis.fill_between(r, mean - std, mean + std, color=PALETTE[0], alpha=0.3, linewidth=0)
        axis.axhline(1.0, color=PALETTE[-1], linewidth=0.8, linestyle="--")
        axis.set_title(pair.replace("-", "–"), fontsize=11, fontweight="bold")
        top = min(float(np.nanmax(mean + std)) * 1.05 + 0.1, TOP)
        axis.set(xlabel="r (Å)", ylabel="g(r)", xlim=(0, r[-1]), ylim=(0, top))
