"""The file scaling.data of RuNNer and n2p2, and what it has in common with weights.NNN.data: columns of
numbers.
"""

import numpy as np
from ase.data import chemical_symbols

from mpnnp.errors import DataError
from mpnnp.files import read_number, reason_not_read
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.n2p2.input_file import number
from mpnnp.progress import counted


def read_scaling(path, functions, kind, s_min, s_max):
    """Scaling from a file scaling.data."""
    scaling = Scaling(kind, s_min, s_max, read_statistics(path, functions, sigma=kind == "sigma"))
    check_ranges(path, functions, scaling)
    return scaling


def read_statistics(path, functions, sigma=True):
    """Statistics of a file scaling.data: per function minimum, maximum, mean and, in files of n2p2,
    sigma (NaN where it is absent).
    """
    start, first = functions.table.start, np.concatenate([[0], np.cumsum(functions.copies)])
    expected = [
        (e + 1, k + 1)
        for e in range(len(functions.elements))
        for k in range(first[start[e + 1]] - first[start[e]])
    ]
    words = columns(path, 1, 1, whole=True)
    width = 5 if words and len(words[0]) == 5 else 6  # RuNNer writes no sigma
    # behind them n2p2 and RuNNer append the line of energies and forces
    rows, lines = columns(path, width, len(expected), finite=False, numbered=True)
    found = [tuple(row[:2]) for row in rows]
    _check_count(path, len(found), len(expected))
    for line, a, b in zip(lines, found, expected):
        if a != b:
            raise DataError(
                f"{path}, line {line}: expected function {b[1]} of element {b[0]} ("
                f"{chemical_symbols[functions.elements[b[0] - 1]]}), found function {a[1]:g} of element "
                f"{a[0]:g}: "
                "lines must be one per symmetry function of each element in order"
            )
    behind = columns(path, 1, whole=True)[len(expected) :]
    beyond = [words for words in behind if len(words) >= 5 and all(word.isdecimal() for word in words[:2])]
    _check_count(path, len(found) + len(beyond), len(expected))
    for k, f in enumerate(functions.functions):
        _check_statistics(path, f, rows[first[k] : first[k + 1]], lines[first[k]])
    rows = [rows[k] for k in first[:-1]]
    if sigma and width < 6:
        raise DataError(f"{path}: has no sixth column (sigma), which scale_symmetry_functions_sigma needs")
    minimum, maximum, mean, sigma = np.array([[*row[2:6], np.nan][:4] for row in rows]).T
    return Statistics(np.ones(len(rows)), minimum, maximum, mean, sigma)


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


def check_ranges(path, functions, scaling):
    """Raise DataError naming file, element and function where one that must be divided by its spread never
    varies.
    """
    t = scaling.statistics
    spread = t.sigma if scaling.kind == "sigma" else t.maximum - t.minimum
    if scaling.kind in ("none", "center"):
        return
    for k in np.flatnonzero(~(spread > 0)):
        f = functions.functions[k]
        _, lines = columns(path, 1, int(functions.copies.sum()), numbered=True)
        raise DataError(
            f"{path}, line {lines[int(functions.copies[:k].sum())]}: function "
            f"{k - functions.table.start[functions.elements.index(f.center)] + 1} of "
            f"{chemical_symbols[f.center]} never varies (from {t.minimum[k]:g} to {t.maximum[k]:g}) and "
            f"cannot be scaled: {f}"
        )


def columns(path, n, n_line=None, whole=False, finite=True, numbered=False):
    """First n numbers of each line that is not a comment, of the first n_line such lines; whole: all words of
    the lines, unread; numbered: (rows, their lines).
    """
    rows, lines = [], []
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            for line_number, line in enumerate(file, 1):
                words = line.split("#", 1)[0].split()
                if len(rows) == n_line:
                    break
                if not words:
                    continue
                lines.append(line_number)
                if whole:
                    rows.append(words)
                    continue
                try:
                    rows.append([(number if finite else read_number)(word, float) for word in words[:n]])
                    if len(rows[-1]) < n:
                        raise ValueError
                except ValueError:
                    raise DataError(
                        f"{path}, line {line_number}: expected {counted(n, 'number')}, "
                        f"found '{line.strip()[:60]}'"
                    ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {reason_not_read(error, path)}") from None
    return (rows, lines) if numbered else rows
