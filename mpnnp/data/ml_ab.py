"""Structures in `ML_AB` and `ML_ABN` of VASP: the ab initio data of its machine-learned force fields.

Blocks of lines between lines of `*`, `-` or `=`: one that is a title, then one with what it announces. Behind
the header stand the configurations, each from "Configuration num. N" on. https://vasp.at/wiki/ML_AB
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mpnnp.data.compressed import open_text
from mpnnp.data.structure import Structure
from mpnnp.errors import DataError
from mpnnp.files import read_number
from mpnnp.progress import counted
from mpnnp.units import BAR

__all__ = ["is_ml_ab", "read_ml_ab"]

LEDGER = re.compile(r"(\*{10,}|-{10,}|={10,})$")
CONFIGURATION = "Configuration num."
COUNT = "The number of configurations"
NAME, TYPES = "System name", "Atom types and atom numbers"
CELL, POSITIONS = "Primitive lattice vectors (ang.)", "Atomic positions (ang.)"
ENERGY, FORCES = "Total energy (eV)", "Forces (eV ang.^-1)"
STRESS, DIAGONAL, OTHERS = "Stress (kbar)", "XX YY ZZ", "XY YZ ZX"
WANTED = (TYPES, CELL, POSITIONS, ENERGY, FORCES, DIAGONAL, OTHERS)
TITLES = (COUNT, NAME, STRESS, *WANTED)
# stresses of VASP are positive under compression, those of ASE and mpnnp negative; eV/Angstrom^3 of 1 kbar
KBAR = -1000 * BAR


def is_ml_ab(path: Path) -> bool:
    """Whether the file is an `ML_AB` of VASP: by its first block."""
    with open_text(path) as file:
        return any(" ".join(line.split()) == COUNT for line in itertools.islice(file, 5))


def read_ml_ab(path: Path, warn: Callable = lambda text: None) -> Iterator[Structure]:
    """Yield the Structures of an `ML_AB` file: total energy, forces, and the stress in the sign of ASE.

    The header (reference energies, which VASP subtracts only if it is told to, and the atoms of the basis
    sets) is passed over. `warn` is called with a text if there are more or fewer configurations than the
    header announces. Raises DataError naming file and line.
    """
    announced = None
    frame = 0
    for number, blocks in _configurations(path):
        if number is None:
            announced = int(_numbers(path, blocks, COUNT, 1, 1).item()) if COUNT in blocks else None
            continue
        yield _structure(path, frame, number, blocks)
        frame += 1
    if announced not in (None, frame):
        warn(f"{path}: has {counted(frame, 'configuration')}, but its header announces {announced}")


def _configurations(path):
    """(line of its title, {title: [(line, text), ...]}) of the header, whose line is None, and of each
    configuration.
    """
    begun, blocks, title = None, {}, None
    for lines in _blocks(path):
        number, text = lines[0]
        if text.startswith(CONFIGURATION):
            yield begun, blocks
            begun, blocks, title = number, {}, None
        elif text in TITLES:
            title = text
        elif title is not None:
            blocks[title], title = lines, None
    yield begun, blocks


def _blocks(path):
    """Lists of (line number, text with single spaces) between the ledger lines; empty lines are left out."""
    lines = []
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            text = " ".join(line.split())
            if LEDGER.match(text):
                if lines:
                    yield lines
                lines = []
            elif text:
                lines.append((number, text))
    if lines:
        yield lines


def _structure(path, frame, number, blocks):
    if missing := next((title for title in WANTED if title not in blocks), None):
        raise DataError(f"{path}, line {number}: the configuration that begins here has no block '{missing}'")
    numbers = [z for line, text in blocks[TYPES] for z in _atoms(path, line, text)]
    diagonal, (xy, yz, zx) = (_numbers(path, blocks, title, 1, 3)[0] for title in (DIAGONAL, OTHERS))
    return Structure(
        numbers=numbers,
        positions=_numbers(path, blocks, POSITIONS, len(numbers), 3),
        cell=_numbers(path, blocks, CELL, 3, 3),
        pbc=True,
        energy=_numbers(path, blocks, ENERGY, 1, 1).item(),
        forces=_numbers(path, blocks, FORCES, len(numbers), 3),
        stress=KBAR * np.array([*diagonal, yz, zx, xy]),
        source=str(path),
        frame=frame,
    )


def _atoms(path, line, text):
    """The atomic numbers of a line like "O 24". Raises DataError."""
    words = text.split()
    if len(words) != 2 or not words[1].isdecimal():
        raise DataError(
            f"{path}, line {line}: expected an element and its number of atoms, found {text[:60]!r}"
        )
    if (z := atomic_numbers.get(words[0], 0)) < 1:
        raise DataError(f"{path}, line {line}: {words[0]!r} is not the symbol of an element")
    return [z] * int(words[1])


def _numbers(path, blocks, title, n_row, n_column):
    """(n_row, n_column) finite numbers of a block. Raises DataError."""
    lines = blocks[title]
    if len(lines) != n_row:
        raise DataError(
            f"{path}, line {lines[0][0]}: '{title}' has {counted(len(lines), 'line')}, must have {n_row}"
        )
    values = np.empty((n_row, n_column))
    for row, (line, text) in zip(values, lines, strict=True):
        try:
            row[:] = [read_number(word) for word in text.split()]
            if not np.isfinite(row).all() or len(text.split()) != n_column:
                raise ValueError
        except ValueError:
            wanted = "a finite number" if n_column == 1 else f"{n_column} finite numbers"
            raise DataError(
                f"{path}, line {line}: '{title}': expected {wanted}, found {text[:60]!r}"
            ) from None
    return values
