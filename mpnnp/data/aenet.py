"""Structures in the XSF files of aenet: one in each, with its total energy in a comment, forces behind the
positions; eV, Angstrom. (Others take the forces of XSF for Hartree/Angstrom.)
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mpnnp.data.compressed import open_text, plain_name
from mpnnp.data.structure import Structure
from mpnnp.errors import DataError
from mpnnp.files import read_number
from mpnnp.progress import counted

__all__ = ["is_aenet", "read_aenet"]

# kinds of structures: along how many vectors they are periodic
PERIODIC = {"CRYSTAL": 3, "SLAB": 2, "POLYMER": 1, "MOLECULE": 0}
OF_CELLS = {"CRYSTAL", "SLAB", "POLYMER", "PRIMVEC"}  # ATOMS stand in none
KEYWORDS = (*PERIODIC, "ATOMS", "PRIMVEC", "PRIMCOORD", "CONVVEC", "CONVCOORD", "ANIMSTEPS")
ENERGY = re.compile(r"#\s*total\s+energy\s*[=:]\s*(\S+)\s*(\S*)", re.IGNORECASE)


def is_aenet(path: Path) -> bool:
    """Whether the file is an XSF file with an energy as aenet writes it."""
    if not plain_name(path).lower().endswith(".xsf"):
        return False
    with open_text(path) as file:
        return any(ENERGY.match(line.strip()) for line in itertools.islice(file, 10))


def read_aenet(path: Path) -> Structure:
    """The Structure of a file: `ATOMS`, or `PRIMVEC` and `PRIMCOORD`, periodic along all three vectors or as
    `SLAB`, `POLYMER` and `MOLECULE` say. Raises DataError naming file and line, also for several frames.
    """
    with open_text(path) as file:
        text = [(number, line.strip()) for number, line in enumerate(file, 1)]
    energy = _energy(path, text)
    lines = [(number, line.split()) for number, line in text if line and not line.startswith("#")]
    places = _places(path, lines)
    cell, first, count = None, places.get("ATOMS"), None
    n_periodic = next((n for name, n in PERIODIC.items() if name in places), 3 if first is None else 0)
    if first is None:
        if not {"PRIMVEC", "PRIMCOORD"} <= places.keys():
            raise DataError(f"{path}: has neither ATOMS nor PRIMVEC and PRIMCOORD")
        at = places["PRIMVEC"] + 1
        cell = _numbers(path, lines[at : at + 3], 3)
        first = places["PRIMCOORD"] + 1
        count = int(_numbers(path, [(lines[first][0], lines[first][1][:1])], 1).item())
    rows = lines[first + 1 :]
    if not rows or (count is not None and len(rows) != count):
        raise DataError(f"{path}: has {counted(len(rows), 'atom')}, must have {count or 'some'}")
    numbers = [_number_of(path, line, words[0]) for line, words in rows]
    values = _numbers(path, [(line, words[1:]) for line, words in rows], 6 if len(rows[0][1]) > 4 else 3)
    return Structure(
        numbers=numbers,
        positions=values[:, :3],
        cell=cell,
        pbc=[axis < n_periodic for axis in range(3)],
        energy=energy,
        forces=values[:, 3:] if values.shape[1] == 6 else None,
        source=str(path),
    )


def _places(path, lines):
    """{keyword: its place among the lines}. Raises DataError for what only a file of several frames says
    twice, or that does not go together.
    """
    places = {}
    for k, (line, words) in enumerate(lines):
        keyword = words[0].upper()
        if keyword not in KEYWORDS:
            continue
        if keyword == "ANIMSTEPS" or keyword in places:
            raise DataError(
                f"{path}, line {line}: {words[0]}: has several frames, but the total energy in a comment is "
                "that of one: write each into a file of its own"
            )
        places[keyword] = k
    kinds = [name for name in PERIODIC if name in places]
    if len(kinds) > 1 or ("ATOMS" in places and OF_CELLS & places.keys()):
        raise DataError(f"{path}: has {' and '.join(places)}, which do not go together")
    return places


def _energy(path, lines):
    for number, text in lines:
        if found := ENERGY.match(text):
            energy, unit = _numbers(path, [(number, [found[1]])], 1).item(), found[2].lower()
            if unit not in ("", "ev"):
                raise DataError(
                    f"{path}, line {number}: energies in {found[2]!r} are not read, must be in eV"
                )
            return energy
    return np.nan


def _number_of(path, line, word):
    """The atomic number of a symbol, or of a number."""
    z = int(word) if word.isdecimal() else atomic_numbers.get(word.capitalize(), 0)
    if z < 1:
        raise DataError(f"{path}, line {line}: {word[:20]!r} is not the symbol of an element")
    return z


def _numbers(path, lines, n_column):
    """(len(lines), n_column) finite numbers of (line number, words). Raises DataError."""
    values = np.empty((len(lines), n_column))
    for row, (line, words) in zip(values, lines, strict=True):
        try:
            if len(words) != n_column:
                raise ValueError
            row[:] = [read_number(word) for word in words]
            if not np.isfinite(row).all():
                raise ValueError
        except ValueError:
            raise DataError(
                f"{path}, line {line}: expected {counted(n_column, 'finite number')}, found "
                f"{' '.join(words)[:60]!r}"
            ) from None
    return values
