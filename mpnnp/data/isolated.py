"""Single atoms in a data set: references of the energies (E0 of MACE and GAP), not configurations to learn
from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.geometry import minkowski_reduce

from mpnnp.errors import DataError
from mpnnp.files import all_digits, read_number

__all__ = [
    "KEY",
    "agreed",
    "energies_of",
    "in_text",
    "in_words",
    "is_marked",
    "marked_as_atom",
    "stand_alone",
]

KEY = "mpnnp_isolated_atoms"  # in the comment of the first frame of an extended XYZ file
# config_type of GAP, MACE and others
MARK = re.compile(r"(isolated|single|free)[ _-]?atoms?|isolated|atoms?[ _-]isolated", re.IGNORECASE)
ATOM = re.compile(r"(isolated|single|free)[ _-]?atom|atom[ _-]isolated", re.IGNORECASE)
KEYS = re.compile(r"(is_?)?isolated([ _-]?atoms?)?|(single|free)_?atom", re.IGNORECASE)  # isolated=T
APART = 8.0  # Angstrom; an atom alone in a cell that repeats it no nearer than this is isolated
SAME = 1e-3  # eV; energies of one element must agree to this


def stand_alone(n_atom: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Mask (n_structure,) of the single atoms that no cell repeats nearer than APART.

    n_atom (n_structure,);  cell (n_structure, 3, 3) Angstrom;  pbc (n_structure, 3) bool
    """
    mask = n_atom == 1
    for k in np.flatnonzero(mask & pbc.any(axis=1)):
        vectors, _ = minkowski_reduce(cell[k], pbc[k])  # a skewed cell may repeat nearer than its edges
        mask[k] = np.linalg.norm(vectors[pbc[k]], axis=1).min() >= APART
    return mask


def is_marked(info: Mapping) -> bool:
    """Whether the comment of a frame of one atom says that it is isolated, as config_type=IsolatedAtom or
    isolated=T.
    """
    return any(
        MARK.fullmatch(value.strip())
        if isinstance(value, str)
        else KEYS.fullmatch(str(name)) and bool(np.all(value))
        for name, value in info.items()
    )


def marked_as_atom(info: Mapping) -> str:
    """The words by which a frame says that it is one isolated atom, as config_type=IsolatedAtom; "" if none
    does. Other isolated things, as molecules, have other words.
    """
    return next(
        (f"{name}={v}" for name, v in info.items() if isinstance(v, str) and ATOM.fullmatch(v.strip())), ""
    )


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
