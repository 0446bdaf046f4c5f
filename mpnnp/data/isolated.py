"""Single atoms in a data set: references of the energies (E0 of MACE and GAP), not configurations to learn
from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.geometry import minkowski_reduce

from mpnnp.errors import DataError
from mpnnp.files import all_digits, read_number

if TYPE_CHECKING:
    from mpnnp.data.dataset import Dataset

__all__ = ["KEY", "agreed", "energies_of", "in_text", "in_words", "is_isolated", "isolated_atoms"]

KEY = "mpnnp_isolated_atoms"  # in the comment of the first frame of an extended XYZ file
APART = 8.0  # Angstrom; an atom alone in a cell that repeats it no nearer than this is isolated
SAME = 1e-3  # eV; energies of one element must agree to this


def is_isolated(dataset: Dataset) -> np.ndarray:
    """Mask (n_structure,) of the isolated atoms with an energy, that are references of other structures: none
    where there are no others.
    """
    mask = _mask(dataset)
    return mask & (not mask.all())


def isolated_atoms(dataset: Dataset) -> tuple[dict[int, float], np.ndarray]:
    """(energies {atomic number: eV}, mask (n_structure,) of the structures that are isolated atoms with an
    energy).

    Raises DataError where two energies of one element contradict each other.
    """
    d, mask = dataset, _mask(dataset)
    energies, first = {}, {}
    for k in np.flatnonzero(mask):
        z = int(d.numbers[d.start[k]])
        if abs(energies.setdefault(z, float(d.energy[k])) - d.energy[k]) > SAME:
            raise DataError(
                f"isolated atoms of {chemical_symbols[z]} contradict each other: {energies[z]:.6g} eV "
                f"({d.name(first[z])}) and {d.energy[k]:.6g} eV ({d.name(int(k))}); keep one of them"
            )
        first.setdefault(z, int(k))
    return energies, mask


def _mask(d):
    mask = (d.n_atom == 1) & np.isfinite(d.energy)
    for k in np.flatnonzero(mask & d.pbc.any(axis=1)):
        vectors, _ = minkowski_reduce(d.cell[k], d.pbc[k])  # a skewed cell may repeat nearer than its edges
        mask[k] = np.linalg.norm(vectors[d.pbc[k]], axis=1).min() >= APART
    return mask


def agreed(several: Iterable[dict[int, float] | None]) -> dict[int, float]:
    """The union of dictionaries of energies. Raises DataError where they contradict each other."""
    found = {}
    for energies in several:
        for z, energy in (energies or {}).items():
            if abs(found.setdefault(z, energy) - energy) > SAME:
                raise DataError(
                    f"isolated atoms of {chemical_symbols[z]} contradict each other: {found[z]:.6g} and "
                    f"{energy:.6g} eV; keep one of them"
                )
    return found


def in_words(energies: dict[int, float]) -> str:
    """As "H -13.6 eV, O -432.1 eV", for messages."""
    return ", ".join(f"{chemical_symbols[z]} {energy:.6g} eV" for z, energy in energies.items())


def in_text(energies: dict[int, float], unit: float = 1.0) -> str:
    """As "H -13.6 O -432.1", all digits, for files whose energies are in `unit` eV."""
    return " ".join(f"{chemical_symbols[z]} {all_digits([energy / unit])}" for z, energy in energies.items())


def energies_of(text: str, unit: float = 1.0) -> dict[int, float]:
    """Energies in eV of such a text. Raises DataError."""
    words, found = text.split(), {}
    try:
        for symbol, word in zip(words[::2], words[1::2], strict=True):
            z, energy = atomic_numbers[symbol], read_number(word) * unit
            if z < 1 or not math.isfinite(energy):
                raise ValueError
            found = agreed([found, {z: energy}])
    except (KeyError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"isolated atoms {text[:60]!r}: expected symbols and energies in turn, as in 'H -13.6 O -432.1'"
        ) from None
    return found
