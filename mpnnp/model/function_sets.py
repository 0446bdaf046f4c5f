"""Ready sets of symmetry functions: the published one for water, and a generator for any elements."""

import itertools

import numpy as np

from mpnnp.errors import ConfigError
from mpnnp.kernels.table import ANGULAR, COMPACT, COMPACT_ANGULAR, KINDS, N_NEIGHBOUR, SUBTYPES
from mpnnp.model.symmetry_functions import SymmetryFunction, check_function, element_number, parse_line
from mpnnp.units import BOHR

NUMBERS = ("eta", "r_s", "zeta", "lambda", "r_c")  # keys of a table that may be lists
# the same for compact kinds, beside the subtype
COMPACT_NUMBERS = ("r_l", "r_c", "angle_left", "angle_right")

# Morawietz, Singraber, Dellago, Behler, PNAS 113, 8368 (2016):
# 30 functions of O, 27 of H, cutoff 12 Bohr, tanh^3.
_WATER_RADIAL_ETA = (0.001, 0.01, 0.03, 0.06, 0.15, 0.30, 0.60, 1.50)  # 1/Bohr^2; the last four are shifted
_WATER_SHIFT = {("H", "H"): 1.9, ("H", "O"): 0.9, ("O", "H"): 0.9, ("O", "O"): 4.0}  # Bohr
_WATER_ANGULAR = {  # eta 1/Bohr^2, lambda, zeta
    "H 3 O H": (
        (0.2, 1, 1),
        (0.07, 1, 1),
        (0.07, -1, 1),
        (0.03, 1, 1),
        (0.03, -1, 1),
        (0.01, 1, 4),
        (0.01, -1, 4),
    ),
    "O 3 H H": ((0.07, 1, 1), (0.07, -1, 1), (0.03, 1, 1), (0.03, -1, 1), (0.01, 1, 4), (0.01, -1, 4)),
    "O 3 O H": ((0.03, 1, 1), (0.03, -1, 1), (0.001, 1, 4), (0.001, -1, 4)),
    "H 3 O O": ((0.03, 1, 1), (0.03, -1, 1), (0.001, 1, 4), (0.001, -1, 4)),
    "O 3 O O": ((0.03, 1, 1), (0.03, -1, 1), (0.001, 1, 4), (0.001, -1, 4)),
}


def water(cutoff=2, alpha=0.0, r_c=12.0 * BOHR):
    """The 30 O and 27 H functions of Morawietz et al., PNAS 113, 8368 (2016); r_c in Angstrom."""
    lines = []
    for (center, neighbour), shift in _WATER_SHIFT.items():
        for k, eta in enumerate(_WATER_RADIAL_ETA):
            lines.append(f"{center} 2 {neighbour} {eta} {shift if k >= 4 else 0.0} {r_c / BOHR!r}")
    for names, parameters in _WATER_ANGULAR.items():
        lines += [f"{names} {eta} {lam} {zeta} {r_c / BOHR!r}" for eta, lam, zeta in parameters]
    return [parse_line(line, cutoff, alpha) for line in lines]


def default(elements, r_c=6.0, cutoff=2, alpha=0.0, n_radial=8, zetas=(1.0, 4.0, 16.0), r_min=0.8):
    """A balanced set for any elements (atomic numbers), cutoff r_c in Angstrom.

    Radial, per neighbour element, n_radial functions in two families on a grid of shells from r_min to r_c
    (Gastegger et al., J. Chem. Phys. 148, 241709 (2018)): centred, r_s = 0 and eta = 1/(2 r^2), and shifted,
    r_s = r and eta = 1/(2 dr^2). Angular, per pair of elements: lambda = -1, +1 with each zeta, and two
    widths eta = 1/(2 r^2) with r = r_c/2 and r_c.
    """
    n_shifted = n_radial - n_radial // 2
    centred = np.linspace(r_min, r_c, n_radial // 2 + 1)[1:]
    shifted, step = np.linspace(r_min, r_c - 1.0, n_shifted, retstep=True)
    shells = [(0.0, 0.5 / r**2) for r in centred] + [(r, 0.5 / step**2) for r in shifted]
    common = {"r_c": r_c, "cutoff": cutoff, "alpha": alpha}
    functions = []
    for center in elements:
        for neighbour, (r_s, eta) in itertools.product(elements, shells):
            functions.append(
                SymmetryFunction(center=center, kind=2, neighbour1=neighbour, eta=eta, r_s=r_s, **common)
            )
        for pair in itertools.combinations_with_replacement(sorted(elements), 2):
            for width, zeta, lam in itertools.product((0.5 * r_c, r_c), zetas, (-1.0, 1.0)):
                if width < r_c and zeta == max(zetas):
                    continue
                functions.append(
                    SymmetryFunction(
                        center=center,
                        kind=3,
                        neighbour1=pair[0],
                        neighbour2=pair[1],
                        eta=0.5 / width**2,
                        zeta=zeta,
                        lam=lam,
                        **common,
                    )
                )
    return functions


def from_tables(tables, cutoff=1, alpha=0.0, length=1.0):
    """Functions from the `symmetry_functions.functions` tables of the configuration.

    tables  dicts with center, kind, neighbours, eta, r_s, zeta, lambda, r_c; compact kinds: r_l, r_c,
            angle_left, angle_right, subtype instead; numbers and subtypes may be lists: every combination is
            made
    length  Angstrom per unit of length of the tables; angles in degrees
    Raises ConfigError naming the number of the table, from 1, and the key.
    """
    functions = []
    for number, table in enumerate(tables, 1):
        try:
            _check_table(table)
            make = _compact_combinations if table["kind"] in COMPACT else _combinations
            functions += make(table, cutoff, alpha, length)
        except ConfigError as error:
            raise ConfigError(f"symmetry_functions.functions[{number}]: {error}") from None
    return functions


def _check_table(table):
    """Raise ConfigError unless the keys and the types of their values are right."""
    compact = table.get("kind") in COMPACT
    numbers = COMPACT_NUMBERS if compact else NUMBERS
    known = {"center", "kind", "neighbours", *numbers, *(["subtype"] if compact else [])}
    if unknown := sorted(set(table) - known):
        raise ConfigError(f"unknown key '{unknown[0]}'; known are {', '.join(sorted(known))}")
    needed = {"center", "kind", "r_c", "subtype" if compact else "eta"}
    if table.get("kind") in COMPACT_ANGULAR:
        needed |= {"angle_left", "angle_right"}
    if missing := sorted(needed - set(table)):
        raise ConfigError(f"the key '{missing[0]}' is missing")
    kind, names = table["kind"], table.get("neighbours", [])
    if type(kind) is not int or kind not in KINDS:
        raise ConfigError(f"kind = {kind!r}: must be one of {', '.join(map(str, KINDS))}")
    n_name = N_NEIGHBOUR[kind]
    if not isinstance(names, list) or len(names) != n_name:
        raise ConfigError(
            f"type {kind} takes {n_name} neighbours, a list of element symbols; found {names!r}"
        )
    for key in numbers:
        values = table.get(key, 0.0)
        values = values if isinstance(values, list) else [values]
        if not values or any(type(value) not in (int, float) for value in values):
            raise ConfigError(f"{key} = {table[key]!r}: must be a number or a list of numbers")
    if compact and (
        not _as_list(table["subtype"]) or any(name not in SUBTYPES[1:] for name in _as_list(table["subtype"]))
    ):
        raise ConfigError(
            f"subtype = {table['subtype']!r}: must be one of {', '.join(SUBTYPES[1:])}, or a list of these"
        )


def _as_list(value):
    return value if isinstance(value, list) else [value]


def _combinations(table, cutoff, alpha, length):
    """The functions of one table, every combination of its lists."""
    kind = table["kind"]
    z = [element_number(name) for name in table.get("neighbours", [])] + [0, 0]
    one = 1.0 if kind in ANGULAR else 0.0
    columns = [_as_list(table.get(key, {"zeta": one, "lambda": one}.get(key, 0.0))) for key in NUMBERS]
    functions = []
    for eta, r_s, zeta, lam, r_c in itertools.product(*columns):
        functions.append(
            SymmetryFunction(
                center=element_number(table["center"]),
                kind=kind,
                neighbour1=z[0],
                neighbour2=z[1],
                eta=eta / length**2,
                r_s=r_s * length,
                zeta=float(zeta),
                lam=float(lam),
                r_c=r_c * length,
                cutoff=cutoff,
                alpha=alpha,
            )
        )
        check_function(functions[-1])
    return functions


def _compact_combinations(table, cutoff, alpha, length):
    """The same for a table of a compact kind, which has no cutoff function."""
    z = [element_number(name) for name in table.get("neighbours", [])] + [0, 0]
    columns = [_as_list(table.get(key, 0.0)) for key in COMPACT_NUMBERS]
    functions = []
    for r_l, r_c, left, right, subtype in itertools.product(*columns, _as_list(table["subtype"])):
        functions.append(
            SymmetryFunction(
                center=element_number(table["center"]),
                kind=table["kind"],
                neighbour1=z[0],
                neighbour2=z[1],
                r_l=r_l * length,
                r_c=r_c * length,
                angle_left=float(left),
                angle_right=float(right),
                subtype=SUBTYPES.index(subtype),
                cutoff=0,
            )
        )
        check_function(functions[-1])
    return functions
