"""Frames of xyz files: free spacing between them, numbers as Fortran writes them, errors with their line."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ase.data import atomic_numbers

from mpnnp.data.xyz_comment import (
    columns_of,
    has_uneven_stress,
    read_comment,
    six_as_nine,
    what_is_missing,
)
from mpnnp.errors import DataError
from mpnnp.units import ENERGY_UNIT, Units

__all__ = ["reason_of_ase", "xyz_frames"]

# a comment of one number, perhaps with a unit
ALONE = re.compile(rf"[-+]?\d+\.\d*(?:[eEdD][-+]?\d+)?(?:\s*({ENERGY_UNIT}))?", re.IGNORECASE)
FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[-+]?\d)")  # of an exponent


def xyz_frames(plain: Path, path: Path, warn: Callable, asked: Units | None = None) -> Iterator:
    """Yield (ase.Atoms, Units stated in the comment or None) of each frame of the text file `plain`,
    called `path` in messages. `asked`: units that the user says, of what a comment leaves open.

    Raises DataError naming file, frame and line where a frame is not whole or says its cell in words that
    are not read. `warn` is called with a text for the first frame of each kind of doubt.
    """
    said: set[str] = set()
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
                    f"{path}, frame {frame}: announces {word[:30]} atom{'s' * (word != '1')}, but the file "
                    f"ends before (line {number})"
                )
            where = f"{path}, frame {frame} (line {number})"
            comment, units = read_comment(body[0].strip(), where, asked)
            comment, of_six = six_as_nine(comment)
            try:
                atoms = _atoms(word, comment, body[1:])
            except Exception as error:
                reason = _uneven(body[1:], number + 2)
                if not reason:
                    at = _wrong_row(comment, body[1:])
                    line = "" if at is None else f" (line {number + 2 + at})"
                    reason = f"cannot be read by ASE: {reason_of_ase(error)}{line}"
                raise DataError(f"{path}, frame {frame}: {reason}") from None
            for kind, message in _doubts(body, comment, of_six, units):
                if kind not in said:
                    warn(f"{where}: {message}")
                said.add(kind)
            yield atoms, units


def _doubts(body, comment, of_six, units):
    """Yield (kind, message) of what a frame leaves open; comment: as ASE reads it."""
    if of_six:
        yield "six", "six numbers of stress or virial are taken as xx yy zz yz xz xy"
    if has_uneven_stress(comment):
        yield "uneven", "its stress is not symmetric: are the nine numbers xx xy xz yx ... in order?"
    if message := what_is_missing(body[0].strip(), units):
        yield "missing", message
    if ALONE.fullmatch(comment):
        yield "alone", f"the number {comment} alone is not read; if it is the energy, write energy={comment}"
    if message := _unnamed(comment, body):
        yield "unnamed", message


def _atoms(count, comment, rows):
    """ase.Atoms of a frame; where it cannot be read, with exponents of Fortran (1.0D-5) as others write
    them.
    """
    text = "".join(rows)
    try:
        return _read(count, comment, text)
    except Exception:
        changed = FORTRAN.sub("E", comment), FORTRAN.sub("E", text)
        if changed == (comment, text):
            raise
    return _read(count, *changed)


def _read(count, comment, text):
    from ase.io import iread  # 0.2 s, which other data need not wait for

    # parallel=False: ASE would wait for ranks that do not read
    (atoms,) = iread(
        io.StringIO(f"{count}\n{comment}\n{text}"), index=slice(None), format="extxyz", parallel=False
    )
    return atoms


def _wrong_row(comment, rows):
    """Index of the first row with a word that is no number where one must be, or no element; or None."""
    kinds = [(name, kind) for name, kind, n in columns_of(comment) for _ in range(n)]
    for k, row in enumerate(rows):
        for word, (name, kind) in zip(row.split(), kinds, strict=False):
            if name in ("species", "symbols") and word.capitalize() not in atomic_numbers:
                return k
            try:
                float(FORTRAN.sub("E", word) if kind in "IR" else "0")
            except ValueError:
                return k
    return None


def _uneven(rows, first):
    """In words, the first row, counted from line `first` on, with fewer words than the others; "" if there
    is none.
    """
    counts = [len(row.split()) for row in rows]
    at = next((k for k, count in enumerate(counts) if count < max(counts)), None)
    if at is None:
        return ""
    return f"line {first + at} has {counts[at]} columns, others of the frame {max(counts)}"


def _unnamed(comment, body):
    """A message on numbers behind the columns that have a name, which nobody reads."""
    if len(body) < 2:
        return None
    n_column = sum(n for _, _, n in columns_of(comment))
    more = len(body[1].split()) - n_column
    if more <= 0:
        return None
    what = "forces? " if more == 3 else ""
    return (
        f"{more} columns behind those that Properties names are not read "
        f"({what}Properties=species:S:1:pos:R:3:"
        "forces:R:3 would name them)"
    )


def reason_of_ase(error: Exception) -> str:
    """Why ASE cannot read something, in words: its errors of strange files are of any class."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        return f"unknown name {str(error.args[0])!r}"  # of an element, mostly
    return f"{text} ({type(error).__name__})" if text else type(error).__name__
