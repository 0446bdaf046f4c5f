"""Pairs of atoms near each other, of structures with any numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ase.geometry import complete_cell
from vesin import NeighborList

__all__ = ["gathered", "neighbours", "searchable"]


def searchable(structure: Any, cutoff: float) -> bool:
    """Whether vesin can cope with the numbers of a structure, see `neighbours`."""
    s = structure
    box = s.cell if s.pbc.any() else np.zeros((3, 3))
    largest = max(np.abs(s.positions).max(), np.abs(box).max())
    lengths = np.linalg.norm(box, axis=1)[s.pbc]
    flat = s.pbc.all() and abs(np.linalg.det(box)) < 1e-3 * np.prod(lengths)
    n_pair = len(s) ** 2 * np.prod(2.0 * cutoff / np.maximum(lengths, 1e-3) + 1.0)
    return bool(largest < 2000.0 and not flat and n_pair < 1e9)


def neighbours(structure: Any, cutoff: float, quantities: str, full_list: bool = True) -> Any:
    """Pairs nearer than `cutoff` (Angstrom), images included, as vesin gives them; none where it could not
    cope with the numbers: atoms that are no lattice vectors away from others or cells beyond 2000 Angstrom,
    flat cells, too many images.
    """
    s = structure if searchable(structure, cutoff) else gathered(structure)
    if not searchable(s, cutoff):
        shapes = {"i": (0, np.int64), "j": (0, np.int64), "d": (0, float), "D": ((0, 3), float)}
        return tuple(np.zeros(*shapes[name]) for name in quantities)
    box = s.cell if s.pbc.any() else np.zeros((3, 3))
    return NeighborList(cutoff=cutoff, full_list=full_list, n_threads=1).compute(
        points=s.positions, box=box, periodic=s.pbc, quantities=quantities
    )


def gathered(structure: Any) -> Any:
    """The structure around the origin, its atoms moved by lattice vectors into one cell."""
    s = structure
    x = s.positions - s.positions.mean(axis=0)
    if s.pbc.any():
        inverse = np.linalg.pinv(np.where(s.pbc[:, None], s.cell, complete_cell(s.cell)))
        x -= np.floor(x @ inverse) * s.pbc @ s.cell
    return replace(s, positions=x)
