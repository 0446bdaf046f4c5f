"""The file scaling.data of RuNNer and n2p2, and what it has in common with weights.NNN.data: columns of
numbers.
"""

from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from mpnnp.errors import DataError
from mpnnp.files import read_number, reason_not_read
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.n2p2.input_file import number
from mpnnp.progress import counted


class Row(NamedTuple):
    """A line of a file: its number, its words without a comment, and as it is written."""

    line: int
    words: list[str]
    text: str


def read_scaling(path, functions, kind, s_min, s_max):
    """Scaling from a file scaling.data."""
    rows = read_rows(path)
    scaling = Scaling(kind, s_min, s_max, _statistics(path, rows, functions, sigma=kind == "sigma"))
    _check_ranges(path, rows, functions, scaling)
    return scaling


def read_statistics(path, functions):
    """Statistics of a file scaling.data with minimum, maximum, mean and sigma of each function."""
    return _statistics(path, read_rows(path), functions, sigma=True)


def _statistics(path, rows, functions, sigma):
    """Statistics of the Rows of a file scaling.data: per function minimum, maximum, mean and, in files of
    n2p2, sigma (NaN where it is absent, which is an error if `sigma`).
    """
    start, first = functions.table.start, np.concatenate([[0], np.cumsum(functions.copies)])
    expected = [
        (e + 1, k + 1)
        for e in range(len(functions.elements))
        for k in range(first[start[e + 1]] - first[start[e]])
    ]
    width = 5 if rows and len(rows[0].words) == 5 else 6  # RuNNer writes no sigma
    rows, behind = rows[: len(expected)], rows[len(expected) :]
    # behind them n2p2 and RuNNer append the line of energies and forces
    numbers = numbers_of(path, rows, width, finite=False)
    found = [tuple(some[:2]) for some in numbers]
    _check_count(path, len(found), len(expected))
    for row, a, b in zip(rows, found, expected):
        if a != b:
            raise DataError(
                f"{path}, line {row.line}: expected function {b[1]} of element {b[0]} ("
                f"{chemical_symbols[functions.elements[b[0] - 1]]}), found function {a[1]:g} of element "
                f"{a[0]:g}: "
                "lines must be one per symmetry function of each element in order"
            )
    beyond = [r for r in behind if len(r.words) >= 5 and all(word.isdecimal() for word in r.words[:2])]
    _check_count(path, len(found) + len(beyond), len(expected))
    for k, f in enumerate(functions.functions):
        _check_statistics(path, f, numbers[first[k] : first[k + 1]], rows[first[k]].line)
    each = [numbers[k] for k in first[:-1]]
    if sigma and width < 6:
        raise DataError(f"{path}: has no sixth column (sigma), which scale_symmetry_functions_sigma needs")
    minimum, maximum, mean, sigma = np.array([[*some[2:6], np.nan][:4] for some in each]).T
    return Statistics(np.ones(len(each)), minimum, maximum, mean, sigma)


def _check_count(path, found, expected):
    if found != expected:
        raise DataError(
            f"{path}: expected {expected} lines, one per symmetry function of each element in order, "
            f"found {found}"
        )


def _check_statistics(path, f, rows, line):
    """Raise DataError for numbers of a function that are none, or that differ between equal functions."""
    if not np.isfinite(rows[0]).all():
        raise DataError(
            f"{path}, line {line}: expected {len(rows[0])} numbers, found "
            f"{' '.join(f'{x:g}' for x in rows[0])}: n2p2 writes "
            f"such lines for an element without atoms in the data, {chemical_symbols[f.center]}; "
            f"function: {f}"
        )
    low, high, mean = rows[0][2:5]
    room = 1e-6 * (abs(low) + abs(high)) + 1e-12
    if low != high and not low - room <= mean <= high + room:
        raise DataError(
            f"{path}, line {line}: minimum {low:g}, maximum {high:g} and mean {mean:g} are not in order: is "
            f"the file damaged? function: {f}"
        )
    if any(not np.allclose(row[2:], rows[0][2:], rtol=1e-6, atol=1e-12) for row in rows):
        raise DataError(
            f"{path}, line {line}: equal symmetry functions have different statistics; function: {f}"
        )


def _check_ranges(path, rows, functions, scaling):
    """Raise DataError naming file, line, element and function where one that must be divided by its spread
    never varies.
    """
    t = scaling.statistics
    spread = t.sigma if scaling.kind == "sigma" else t.maximum - t.minimum
    if scaling.kind in ("none", "center"):
        return
    for k in np.flatnonzero(~(spread > 0)):
        f = functions.functions[k]
        raise DataError(
            f"{path}, line {rows[int(functions.copies[:k].sum())].line}: function "
            f"{k - functions.table.start[functions.elements.index(f.center)] + 1} of "
            f"{chemical_symbols[f.center]} never varies (from {t.minimum[k]:g} to {t.maximum[k]:g}) and "
            f"cannot be scaled: {f}"
        )


def read_rows(path):
    """The Rows of a file: its lines but for empty ones and comments. Raises DataError."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            rows = [Row(k, line.split("#", 1)[0].split(), line) for k, line in enumerate(file, 1)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {reason_not_read(error, path)}") from None
    return [row for row in rows if row.words]


def numbers_of(path, rows, n, finite=True):
    """First n numbers of each of the Rows of a file. Raises DataError naming the line."""
    found = []
    for row in rows:
        try:
            found.append([(number if finite else read_number)(word, float) for word in row.words[:n]])
            if len(found[-1]) < n:
                raise ValueError
        except ValueError:
            raise DataError(
                f"{path}, line {row.line}: expected {counted(n, 'number')}, found '{row.text.strip()[:60]}'"
            ) from None
    return found
