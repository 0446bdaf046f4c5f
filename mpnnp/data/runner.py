"""Structures in text files of RuNNer and n2p2 (`input.data`):
the units that are said, else Bohr and Hartree there, Angstrom and eV here.
"""

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mpnnp.data.compressed import open_text, plain_name
from mpnnp.data.dataset import Dataset
from mpnnp.data.isolated import agreed, energies_of, in_text
from mpnnp.data.structure import NO_SPLIT, TRAIN, VALIDATION, Structure
from mpnnp.data.voigt import to_tensor, to_voigt
from mpnnp.errors import DataError
from mpnnp.files import all_digits, read_number, reason_of, write_atomically
from mpnnp.progress import counted
from mpnnp.units import ATOMIC, Units, other_unit_in, parts_of_line, units_of_line, units_of_parts

__all__ = ["is_runner_data", "read_runner_data", "stated_units", "unread_units", "write_runner_data"]

KEYWORDS = ("begin", "comment", "lattice", "atom", "energy", "charge", "end", "weight", "stress")
COUNTS = {"lattice": 3, "stress": 9}  # numbers behind a keyword, if not one
OURS = "mpnnp"  # begins comments that are labels: n2p2 and RuNNer refuse files with keywords they do not know
IN_COMMENTS = {"weight": 3, "stress": 9}
ISOLATED = "isolated_atoms"  # such a comment too, of the whole file
SPLITS = {"train": TRAIN, "test": VALIDATION}
SET = re.compile(r"\bset\s*=\s*(\S*)", re.IGNORECASE)  # behind begin


def is_runner_data(path: Path) -> bool:
    """Whether the file reads like `input.data`: by its name, its first word, or a line among the first 1000
    that says begin as there; outputs of other programs have lines like "Begin self-consistency loop".
    """
    if Path(path).name.startswith("input.data"):
        return True
    first, begun = None, False
    with open_text(path) as file:
        for line in itertools.islice(file, 1000):
            words = line.lower().split()
            if not words or words[0][0] in "#!":
                continue
            first = first or words[0]
            if first != "begin" and first in KEYWORDS and not plain_name(path).endswith(".in"):
                return True
            if begun and words[0] in KEYWORDS and words[0] != "end":
                return True
            begun = words[0] == "begin"
            if begun and all("=" in word for word in words[1:]):
                return True
            if first.isdigit():  # number of atoms in an xyz file
                return False
    return False


def stated_units(path: str | Path) -> Units | None:
    """Units of the first line "# units: eV Angstrom", or "comment units: ...", or of lines that say energy
    and length one by one, up to the end of the first structure; None if there is none. Raises DataError.
    """
    parts: dict[str, str] = {}
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            parts |= parts_of_line(line)
            if (units := _units_of(line, path, number, parts)) is not None:
                return units
            if line.split()[:1] in (["end"], ["END"]):
                return None
    return None


def unread_units(path: str | Path, units: Units) -> str:
    """In words, the first comment up to the end of the first structure of a file that states no units which
    names others than `units`, that it is read in; "" if there is none.
    """
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if word := other_unit_in(line, units):
                return (
                    f"line {number} says {word!r}, but not as units are read (comment units: eV Angstrom): "
                    f"{units} is taken if nothing else is asked for"
                )
            if line.split()[:1] in (["end"], ["END"]):
                break
    return ""


def _units_of(line, path, number, parts):
    try:
        return units_of_line(line) or units_of_parts(parts)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}") from None


def read_runner_data(
    path: str | Path,
    units: Units | None = None,
    isolated: dict[int, float] | None = None,
    charges: set | None = None,
) -> Iterator[Structure]:
    """Yield the Structures of an `input.data` file one by one;
    a structure with a lattice is periodic along all three vectors.

    units   Units of the file; None: those that it states, else Hartree and Bohr
    isolated  takes the energies of isolated atoms that are no structures, eV
    charges   takes the values of the charge lines, e
    Atom lines are `atom x y z symbol [charge [n [fx fy fz]]]`; charges and comments are dropped;
    `begin set=train|test` sets the split; `weight w` is a weight of all labels of a structure, `stress` has
    nine numbers xx xy xz yx ... of energy per volume. Comments that mpnnp writes are `comment mpnnp stress`,
    the same, `comment mpnnp weight` with the weights of energy, forces and stress, and `comment mpnnp
    isolated_atoms H -0.5 ...`. Keywords may be in
    capitals, lines that begin with # or ! are comments. Raises DataError naming file and line.
    """
    units = units or stated_units(path) or ATOMIC
    block = None
    frame = number = 0
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            words = line.split()
            if not words:
                continue
            keyword = words[0].lower()
            stated = _units_of(line, path, number, parts_of_line(line)) if keyword[0] in "#!c" else None
            if stated is not None and not stated.agrees(units):
                raise DataError(f"{path}, line {number}: states the units {stated}, but {units} are read")
            if keyword[0] in "#!":
                continue
            try:
                if keyword == "begin":
                    if block is not None:
                        raise DataError(
                            f"begin inside the structure that began in line {block.line}; its end is missing"
                        )
                    block = _Block(number, words[1:], units)
                elif keyword not in KEYWORDS:
                    raise DataError(f"unknown keyword {_shown(words[0])}, known are {', '.join(KEYWORDS)}")
                elif block is None:
                    raise DataError(f"{keyword} outside of begin and end")
                elif keyword == "atom":
                    block.atoms.append((number, words))
                elif keyword == "end":
                    yield block.structure(str(path), frame)
                    block = None
                    frame += 1
                elif keyword != "comment":
                    if charges is not None and keyword == "charge" and len(words) == 2:
                        charges.add(_number(words[1]))
                    block.add(keyword, words[1:], COUNTS.get(keyword, 1))
                elif len(words) > 2 and words[1] == OURS and words[2] in IN_COMMENTS:
                    block.add(words[2], words[3:], IN_COMMENTS[words[2]])
                elif words[1:3] == [OURS, ISOLATED] and isolated is not None:
                    isolated |= agreed([isolated, energies_of(" ".join(words[3:]), units.energy)])
            except _LineError as error:
                raise DataError(f"{path}, line {error.line}: {error}") from None
            except DataError as error:
                raise DataError(f"{path}, line {number}: {error}") from None
    if block is not None:
        raise DataError(
            f"{path}, line {number}: the file ends inside the structure that began in line {block.line}; "
            "its end is missing"
        )


class _LineError(DataError):
    """An error in a line other than the one last read."""

    def __init__(self, line, message):
        super().__init__(message)
        self.line = line


class _Block:
    """Lines between begin and end."""

    def __init__(self, line, words, units):
        self.line, self.units = line, units
        self.atoms = []  # (line number, words)
        self.lattice = []
        self.energy = self.weight = self.stress = None
        self.split = NO_SPLIT
        for mark in SET.findall(" ".join(words)):
            if mark.lower() not in SPLITS:
                raise DataError(f"{_shown(f'set={mark}')}: must be set=train or set=test")
            self.split = SPLITS[mark.lower()]

    def add(self, keyword, words, count):
        """A line with lattice, energy, charge, weight or stress, which must have so many numbers."""
        if len(words) != count:
            raise DataError(f"{keyword} has {counted(len(words), 'number')}, must have {count}")
        values = [_number(word) for word in words]
        if not all(map(math.isfinite, values)):
            raise DataError(f"{keyword} is not finite: {' '.join(words)}")
        if keyword == "lattice":
            self.lattice.append(values)
        elif keyword != "charge":
            if getattr(self, keyword) is not None:
                raise DataError(f"second {keyword} of one structure")
            if keyword == "weight" and min(values) < 0:
                raise DataError(f"weight is {min(values):g}, must not be negative")
            setattr(self, keyword, values if count > 1 else values[0])

    def structure(self, source, frame):
        """The Structure, in eV and Angstrom."""
        if not self.atoms:
            raise DataError(f"the structure that began in line {self.line} has no atoms")
        if len(self.lattice) not in (0, 3):
            raise DataError(
                f"the structure that began in line {self.line} has {len(self.lattice)} lattice lines, "
                "must have 0 or 3"
            )
        with_forces, numbers = self._has_forces(), self._elements()
        units, cell, stress = self.units, None, None
        if self.lattice:
            cell = np.array(self.lattice) * units.length
        if self.stress is not None:
            if cell is None:
                raise DataError(f"the structure that began in line {self.line} has a stress, but no lattice")
            stress = to_voigt(np.reshape(self.stress, (3, 3))) * units.stress
        try:
            return Structure(
                numbers=numbers,
                positions=self._columns(1, 4, "position") * units.length,
                cell=cell,
                pbc=cell is not None,
                energy=math.nan if self.energy is None else self.energy * units.energy,
                forces=self._columns(7, 10, "force") * units.force if with_forces else None,
                stress=stress,
                weight=1.0 if self.weight is None else self.weight,
                split=self.split,
                source=source,
                frame=frame,
            )
        except _LineError:
            raise
        except DataError as error:
            raise DataError(f"the structure that began in line {self.line} ({error})") from None

    def _has_forces(self):
        """Whether the lines of the atoms, which must be alike in this, have forces."""
        with_forces = len(self.atoms[0][1]) == 10
        for line, words in self.atoms:
            if len(words) not in (5, 6, 7, 10):
                raise _LineError(
                    line,
                    f"atom has {len(words) - 1} columns, must have 9 (x y z symbol charge n fx fy fz), "
                    "or 4 to 6 without forces",
                )
            if (len(words) == 10) != with_forces:
                raise _LineError(line, "atoms with and without forces in one structure")
        return with_forces

    def _elements(self):
        """Atomic numbers of all atoms."""
        try:
            numbers = [atomic_numbers[words[4]] for _, words in self.atoms]
        except KeyError:
            numbers = [0]
        if min(numbers) < 1:
            line, words = next((n, w) for n, w in self.atoms if atomic_numbers.get(w[4], 0) < 1)
            raise _LineError(line, f"unknown element symbol {_shown(words[4])}")
        return numbers

    def _columns(self, first, last, what):
        """Numbers in words[first:last] of all atoms (n_atom, last - first)."""
        try:
            values = np.array([[float(word) for word in words[first:last]] for _, words in self.atoms])
        except ValueError:
            values = np.empty((len(self.atoms), last - first))
            for value, (line, words) in zip(values, self.atoms, strict=True):
                try:
                    value[:] = [_number(word) for word in words[first:last]]
                except DataError as error:
                    raise _LineError(line, str(error)) from None
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            line, words = self.atoms[int(np.argmin(finite))]
            raise _LineError(line, f"{what} is not finite: {' '.join(words[first:last])}")
        return values


def _number(word):
    try:
        return read_number(word)
    except ValueError:
        raise DataError(f"{_shown(word)} is not a number") from None


def _shown(word):
    return repr(word if len(word) <= 40 else word[:37] + "...")


def write_runner_data(path: str | Path, dataset: Dataset) -> None:
    """Write a Dataset as `input.data` (17 digits; charges are 0; set=train and set=test as in `split`;
    units, weights, stress and energies of isolated atoms in comments, so that n2p2 and RuNNer read the file
    too). The stress of a structure that is not periodic, of which no volume is meant, is left out.

    Raises DataError for what the format cannot say: periodicity along one or two vectors only, forces on some
    atoms of a structure only.
    """
    try:
        with write_atomically(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            for k in range(len(dataset)):
                file.write(_block_text(dataset[k], None if k else dataset.isolated))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason_of(error)}") from None


def _block_text(s, isolated=None):
    if s.pbc.any() and not s.pbc.all():
        raise DataError(
            f"{s.name}: is periodic along {int(s.pbc.sum())} vectors, input.data knows only 0 or 3"
        )
    forces = s.forces / ATOMIC.force
    labelled = np.isfinite(forces).all(axis=1)
    if labelled.any() and not labelled.all():
        raise DataError(
            f"{s.name}: {int((~labelled).sum())} of {len(s)} atoms have no force label, "
            "input.data knows only all or none"
        )
    split = {TRAIN: " set=train", VALIDATION: " set=test"}.get(s.split, "")
    lines = [f"begin{split}", f"comment units: {ATOMIC}"]
    if isolated:
        lines.append(f"comment {OURS} {ISOLATED} {in_text(isolated, ATOMIC.energy)}")
    if (s.weight != 1.0).any():
        lines.append(f"comment {OURS} weight {all_digits(s.weight)}")
    if np.isfinite(s.stress).all() and s.pbc.all():  # without a lattice there is none
        lines.append(f"comment {OURS} stress {all_digits(to_tensor(s.stress).ravel() / ATOMIC.stress)}")
    lines.append(f"comment frame {s.frame} of {' '.join(s.source.split()) or 'nothing'}")
    if s.pbc.all():
        lines += [f"lattice {all_digits(vector)}" for vector in s.cell / ATOMIC.length]
    for z, position, force in zip(
        s.numbers, (s.positions / ATOMIC.length).tolist(), forces.tolist(), strict=True
    ):
        columns = f" {all_digits(force)}" if labelled[0] else ""
        lines.append(f"atom {all_digits(position)} {chemical_symbols[z]} 0 0{columns}")
    if math.isfinite(s.energy):
        lines.append(f"energy {s.energy / ATOMIC.energy:.17g}")
    return "\n".join([*lines, "charge 0", "end", ""])
