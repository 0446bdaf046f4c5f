"""Frames of xyz files: free spacing between them, header keys in any case, cells and units in the words of
i-PI.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ase.geometry import cellpar_to_cell

from mpnnp.errors import DataError
from mpnnp.units import METAL, Units, parse_units

__all__ = ["xyz_frames"]

KEYS = re.compile(r"(?<![\w:])(lattice|properties|pbc)(?=\s*=)", re.IGNORECASE)
SPELLED = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
IPI = re.compile(r"CELL\s*[\(\[\{](\w+)[\)\]\}]\s*:?\s*(.*)", re.IGNORECASE)
BRACES = re.compile(r"(\w+)\{(\w+)\}")
# lattices under these names are not read, and must not be overlooked
OTHER_CELLS = re.compile(r"(?<!\w)(cell|box|unit_?cell|cell_?vectors?|abc|celldm)\s*=", re.IGNORECASE)
UNIT_KEYS = re.compile(
    r"(?<!\w)(energy|energies|length|position|positions|force|forces|stress|virial)_units?\s*=\s*[\"']?([\w/.]+)",
    re.IGNORECASE,
)
# ASE ends at six numbers under these names
SIX = re.compile(
    r"(?<![\w:])(stress|virial)\s*=\s*(['\"])\s*((?:[^\s'\"]+\s+){5}[^\s'\"]+)\s*\2", re.IGNORECASE
)
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?"
EDGES = re.compile(rf"(?<!\w)a\s*=\s*{NUMBER}.*(?<!\w)b\s*=\s*{NUMBER}.*(?<!\w)c\s*=\s*{NUMBER}.*")
NINE = re.compile(rf"(?<!\S){NUMBER}(?:[\s,]+{NUMBER}){{8}}(?!\S)")
QUOTED = re.compile(r"=\s*(['\"]).*?\1")
PLAIN_UNITS = re.compile(r"(?<!\w)units?\s*=\s*(?:([\"'])(.*?)\1|(\S+))", re.IGNORECASE)
BARE_CELL = re.compile(rf"\s*{NUMBER}(?:\s+{NUMBER}){{2}}(?:(?:\s+{NUMBER}){{3}}|(?:\s+{NUMBER}){{6}})?\s*")


def xyz_frames(plain: Path, path: Path, warn: Callable) -> Iterator:
    """Yield (ase.Atoms, Units stated in the comment or None) of each frame of the text file `plain`,
    called `path` in messages.

    Raises DataError naming file, frame and line where a frame is not whole or says its cell in words that
    are not read. `warn` is called
    once with a text where columns have no name.
    """
    from ase.io import iread  # 0.2 s, which other data need not wait for

    warned = six = False
    with open(plain, encoding="utf-8-sig", errors="replace") as file:
        lines = enumerate(file, 1)
        for frame in itertools.count():
            number, line = next(((n, text) for n, text in lines if text.strip()), (0, ""))
            if not number:
                return
            word = line.strip()
            if not (word.isascii() and word.isdecimal()):
                raise DataError(
                    f"{path}, line {number}: expected the number of atoms of frame {frame}, found "
                    f"'{word[:60]}'"
                )
            # (islice takes no number beyond the machine's)
            body = [text for _, text in itertools.islice(lines, min(int(word), 1 << 40) + 1)]
            if len(body) < int(word) + 1:
                raise DataError(
                    f"{path}, frame {frame}: announces {word[:30]} atoms, but the file ends before (line "
                    f"{number})"
                )
            where = f"{path}, frame {frame} (line {number})"
            comment, units = _comment(body[0].strip(), where)
            comment, of_six = SIX.subn(_nine, comment)
            if of_six and not six:
                warn(f"{where}: six numbers of stress or virial are taken as xx yy zz yz xz xy")
                six = True
            try:
                (atoms,) = iread(
                    io.StringIO(f"{word}\n{comment}\n" + "".join(body[1:])),
                    index=slice(None),
                    format="extxyz",
                    parallel=False,  # ASE would wait for ranks that do not read
                )
            except Exception as error:
                reason = _uneven(body[1:], number + 2) or f"cannot be read by ASE: {_reason(error)}"
                raise DataError(f"{path}, frame {frame}: {reason}") from None
            if not warned and (message := _unnamed(comment, body, len(atoms))):
                warn(f"{where}: {message}")
                warned = True
            yield atoms, units


def _uneven(rows, first):
    """In words, the first row, counted from line `first` on, with fewer words than the others; "" if there
    is none.
    """
    counts = [len(row.split()) for row in rows]
    at = next((k for k, count in enumerate(counts) if count < max(counts)), None)
    if at is None:
        return ""
    return f"line {first + at} has {counts[at]} columns, others of the frame {max(counts)}"


def _comment(text, where):
    """(the comment as ASE reads it, Units or None)."""
    text = KEYS.sub(lambda found: SPELLED[found[1].lower()], text)
    units = _units(text, where)
    if (found := IPI.search(text)) and "=" not in text[: found.start()]:
        return _of_ipi(text, found, where)
    if "Lattice" not in text:
        other = OTHER_CELLS.search(text) or EDGES.search(text) or NINE.search(QUOTED.sub("=", text))
        if other or BARE_CELL.fullmatch(text):
            raise DataError(
                f'{where}: its cell is not told by Lattice="ax ay az bx by bz cx cy cz" but by '
                f"'{text[other.start() if other else 0 :][:50]}', which is not read; rewrite the comment"
            )
    return text, units


def _nine(found):
    """A label of six numbers as the nine of a matrix."""
    xx, yy, zz, yz, xz, xy = found[3].split()
    return f'{found[1]}="{xx} {xy} {xz} {xy} {yy} {yz} {xz} {yz} {zz}"'


def _units(text, where):
    """Units of keys like energy_units=hartree; None if there are none."""
    named = {key.lower(): name for key, name in UNIT_KEYS.findall(text)}
    if plain := PLAIN_UNITS.search(text):
        return _plain_units(plain[2] or plain[3], where)
    if not named:
        return None
    pick = lambda *names: next((named[n] for n in names if n in named), "")  # noqa: E731
    energy = pick("energy", "energies") or "eV"
    length = pick("length", "position", "positions") or "Angstrom"
    force, stress = pick("force", "forces"), pick("stress")
    if "virial" in named and named["virial"].lower() != energy.lower():
        raise DataError(f"{where}: virial_units = {named['virial']} beside energies in {energy}: not read")
    try:
        units = parse_units(" ".join((energy, length, force, stress)))
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    if re.search(r":forces?[:\w]*:R:3", text, re.IGNORECASE) and not force and units.energy != 1.0:
        raise DataError(
            f"{where}: energies are in {units.energy_name}, but nothing says in what the forces are; "
            f"say all units, e.g. --units '{units.energy_name} {units.length_name} eV/Angstrom'"
        )
    return units


def _plain_units(words, where):
    """Units of units="eV Angstrom". Raises DataError for words that are none."""
    if words.lower() in ("metal", "ase"):
        return METAL
    try:
        return parse_units(words)
    except ValueError as error:
        raise DataError(f"{where}: units={words!r}: {error}") from None


def _of_ipi(text, found, where):
    """Comment and Units of a frame of i-PI: '# CELL(abcABC): a b c alpha beta gamma ...
    positions{angstrom} cell{angstrom}'.
    """
    named = {key.lower(): name for key, name in BRACES.findall(text)}
    kind, numbers = found[1], re.findall(rf"(?<!\S){NUMBER}(?!\S)", found[2])
    if kind.lower() != "abcabc" or len(numbers) < 6:
        raise DataError(f"{where}: CELL({kind}) of i-PI is not read, only CELL(abcABC) with six numbers")
    quantity = re.search(r"Traj: *(\w+)", text)
    if quantity and not quantity[1].lower().startswith("position"):
        raise DataError(f"{where}: holds {quantity[1]}, not positions")
    names = [named.get(key) for key in ("positions", "cell")]
    if None in names:
        raise DataError(
            f"{where}: does not say the units of positions and cell as i-PI does: positions{{angstrom}} "
            f"cell{{angstrom}}"
        )
    try:
        positions, cell = (parse_units(f"eV {name}") for name in names)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    lengths = np.array([float(n) for n in numbers[:6]])
    lengths[:3] *= cell.length / positions.length
    vectors = " ".join(f"{x:.17g}" for x in cellpar_to_cell(lengths).ravel())
    return f'Lattice="{vectors}" Properties=species:S:1:pos:R:3 pbc="T T T"', Units(
        "eV", positions.length_name
    )


def _unnamed(comment, body, n_atom):
    """A message on numbers behind the columns that have a name, which nobody reads."""
    if not n_atom:
        return None
    named = re.search(r"Properties\s*=\s*[\"']?([\w:.\-]+)", comment)
    words = (named[1] if named else "species:S:1:pos:R:3").split(":")
    try:
        n_column = sum(int(n) for n in words[2::3])
    except ValueError:
        return None
    more = len(body[1].split()) - n_column
    if more <= 0:
        return None
    what = "forces? " if more == 3 else ""
    return (
        f"{more} columns behind those that Properties names are not read "
        f"({what}Properties=species:S:1:pos:R:3:"
        "forces:R:3 would name them)"
    )


def _reason(error):
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        return f"unknown name {text}"  # of an element, mostly
    return f"{text} ({type(error).__name__})" if text else type(error).__name__
