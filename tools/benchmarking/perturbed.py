"""Data sets of any size and shape made from the example data:
copies and supercells of its frames with every atom displaced a little.

The labels are copied, not computed again: they do not belong to the displaced atoms. Such data tell how fast
and how large a run is, never how good a potential is.
"""

from pathlib import Path

import numpy as np

from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import read_sources

EXAMPLE = Path(__file__).parents[2] / "jobs" / "water" / "water.extxyz.xz"
GRAMS_PER_CM3 = 1.66053907  # atomic mass unit / Angstrom^3
WATER_MASS = 18.015


def example(path=EXAMPLE):
    return read_sources([str(path)], report=lambda line: None)


def supercell(data, copies, axis=0):
    """Every structure repeated `copies` times along a cell vector;
    energies times `copies`, forces repeated.
    """
    n_atom, n = data.n_atom, len(data)
    atoms = np.concatenate([np.tile(np.arange(data.start[k], data.start[k + 1]), copies) for k in range(n)])
    shift = np.repeat(np.tile(np.arange(copies), n), np.repeat(n_atom, copies))
    structure = np.repeat(np.arange(n), n_atom * copies)
    cell = data.cell.copy()
    cell[:, axis] *= copies
    return Dataset(
        start=np.concatenate([[0], np.cumsum(n_atom * copies)]),
        numbers=data.numbers[atoms],
        positions=data.positions[atoms] + shift[:, None] * data.cell[structure, axis],
        forces=data.forces[atoms],
        cell=cell,
        energy=data.energy * copies,
        **{
            name: getattr(data, name)
            for name in ("pbc", "stress", "marks", "source", "frame", "source_names")
        },
    )


def displaced(data, n, sigma, seed):
    """n structures: those of `data` in turn, again and again, each with its own normal displacements
    (sigma, Angstrom); labels copied.
    """
    chosen = data.take(np.arange(n) % len(data))
    rng = np.random.default_rng(seed)
    positions = chosen.positions + sigma * rng.standard_normal(chosen.positions.shape)
    arrays = {name: getattr(chosen, name) for name in chosen.__dataclass_fields__}
    return Dataset(**{**arrays, "positions": positions, "frame": np.arange(n)})


def water_192(n, seed=1):
    """n periodic structures of 64 water molecules near 1 g/cm^3:
    double cells of the example frames of 0.95 to 1.05 g/cm^3, displaced.
    """
    data = example()
    density = data.n_atom / 3 * WATER_MASS * GRAMS_PER_CM3 / np.linalg.det(data.cell)
    return displaced(supercell(data.take(np.abs(density - 1.0) < 0.05), 2), n, 0.03, seed)
