"""Ready sets of symmetry functions: the published one for water, and a generator for any elements."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ase.data import chemical_symbols

from mpnnp.errors import ConfigError
from mpnnp.kernels.table import SUBTYPES, TYPES, FunctionType
from mpnnp.model.symmetry_functions import (
    SymmetryFunction,
    check_function,
    element_number,
    in_angstrom,
    parse_line,
)
from mpnnp.units import BOHR

TOML = {"lam": "lambda"}  # keys of a table that are not the names in SymmetryFunction
OPTIONAL = {"r_s": 0.0, "lam": 1.0, "zeta": 1.0, "r_l": 0.0}  # what a table may leave out

# Morawietz, Singraber, Dellago, Behler, PNAS 113, 8368 (2016): 30 functions of O, 27 of H, cutoff 12 Bohr,
# tanh^3.
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


def water(cutoff: int = 2, alpha: float = 0.0, r_c: float = 12.0 * BOHR) -> list[SymmetryFunction]:
    """The 30 O and 27 H functions of Morawietz et al., PNAS 113, 8368 (2016); r_c in Angstrom."""
    lines = []
    for (center, neighbour), shift in _WATER_SHIFT.items():
        for k, eta in enumerate(_WATER_RADIAL_ETA):
            lines.append(f"{center} 2 {neighbour} {eta} {shift if k >= 4 else 0.0} {r_c / BOHR!r}")
    for names, parameters in _WATER_ANGULAR.items():
        lines += [f"{names} {eta} {lam} {zeta} {r_c / BOHR!r}" for eta, lam, zeta in parameters]
    return [parse_line(line, cutoff, alpha) for line in lines]


class Grid(NamedTuple):
    """Functions of each neighbour element, and of each pair of them.

    centred, shifted  radial functions with r_s = 0, and on a grid of shells
    widths            of the Gaussians of the angular functions, in units of the cutoff
    zetas             exponents of the angular functions, each with lambda = -1 and +1; not the largest of
                      several with the narrowest width, where few triplets are left
    """

    centred: int
    shifted: int
    widths: tuple[float, ...]
    zetas: tuple[float, ...]


# the more elements, the fewer functions: 36 of one element, 50 of each of two, 45 of three, 68 of four
GRIDS = {1: Grid(4, 10, (0.3, 0.5, 1.0), (1.0, 2.0, 4.0, 16.0)), 2: Grid(3, 7, (0.5, 1.0), (1.0, 4.0, 16.0))}
GRID_OF_MANY = Grid(2, 5, (0.6,), (1.0, 4.0))
MARGIN = 1.0  # Angstrom from the outermost shell to the cutoff


def default(
    elements: Sequence[int],
    r_c: float = 6.0,
    cutoff: int = 2,
    alpha: float = 0.0,
    r_min: float = 0.8,
) -> list[SymmetryFunction]:
    """A balanced set for any elements (atomic numbers), cutoff r_c in Angstrom.

    Radial, per neighbour element, two families on a grid of shells from r_min to r_c (Gastegger et al.,
    J. Chem. Phys. 148, 241709 (2018)): centred, r_s = 0 and eta = 1/(2 r^2), and shifted, r_s = r and eta
    = 1/(2 dr^2). Angular, per pair of elements: lambda = -1, +1 with several zeta, and widths eta =
    1/(2 r^2). How many of each: GRIDS. Raises ConfigError for a cutoff without room for the shells.
    """
    if not r_c > r_min + MARGIN:
        raise ConfigError(
            f"symmetry_functions.r_c = {r_c:g} Angstrom: must be more than {r_min + MARGIN:g}: the shells "
            f"of the set 'default' go from {r_min:g} Angstrom to {MARGIN:g} below the cutoff"
        )
    grid = GRIDS.get(len(elements), GRID_OF_MANY)
    centred = np.linspace(r_min, r_c, grid.centred + 1)[1:]
    shifted, step = np.linspace(r_min, r_c - MARGIN, grid.shifted, retstep=True)
    shells = [(0.0, 0.5 / r**2) for r in centred] + [(r, 0.5 / step**2) for r in shifted]
    terms = [
        (0.5 / (width * r_c) ** 2, zeta, lam)
        for width, zeta, lam in itertools.product(grid.widths, grid.zetas, (-1.0, 1.0))
        if len(grid.widths) == 1 or width > min(grid.widths) or zeta < max(grid.zetas)
    ]
    common: dict[str, Any] = {"r_c": r_c, "cutoff": cutoff, "alpha": alpha}
    functions = []
    for center in elements:
        for neighbour, (r_s, eta) in itertools.product(elements, shells):
            functions.append(
                SymmetryFunction(center=center, kind=2, neighbour1=neighbour, eta=eta, r_s=r_s, **common)
            )
        for a, b in itertools.combinations_with_replacement(sorted(elements), 2):
            for eta, zeta, lam in terms:
                angular: dict[str, Any] = {"eta": eta, "zeta": zeta, "lam": lam}
                functions.append(
                    SymmetryFunction(center=center, kind=3, neighbour1=a, neighbour2=b, **angular, **common)
                )
    return functions


def from_tables(
    tables: Sequence[dict], cutoff: int = 1, alpha: float = 0.0, length: float = 1.0
) -> list[SymmetryFunction]:
    """Functions from the `symmetry_functions.functions` tables of the configuration.

    tables  dicts with center, kind, neighbours, eta, r_s, zeta, lambda, r_c; compact kinds: r_l, r_c,
            angle_left, angle_right, subtype
            instead; numbers and subtypes may be lists: every combination is made
    length  Angstrom per unit of length of the tables; angles in degrees
    Raises ConfigError naming the number of the table, from 1, and the key.
    """
    functions = []
    for number, table in enumerate(tables, 1):
        try:
            _check_table(table)
            functions += _combinations(table, cutoff, alpha, length)
        except ConfigError as error:
            raise ConfigError(f"symmetry_functions.functions[{number}]: {error}") from None
    return functions


def keys_of(of_type: FunctionType) -> dict[str, str]:
    """Keys of a table for a FunctionType that may be lists, by the names in SymmetryFunction: {"lam":
    "lambda", ...}.
    """
    return {name: TOML.get(name, name) for name in of_type.names} | (
        {"subtype": "subtype"} if of_type.compact else {}
    )


def _check_table(table):
    """Raise ConfigError unless the keys and the types of their values are right."""
    kind, names = table.get("kind"), table.get("neighbours", [])
    if "kind" in table and (type(kind) is not int or kind not in TYPES):
        raise ConfigError(f"kind = {kind!r}: must be one of {', '.join(map(str, TYPES))}")
    of_type = TYPES.get(kind, TYPES[2])
    keys = keys_of(of_type)
    known = {"center", "kind", "neighbours", *keys.values()}
    if not of_type.compact:
        known |= {"zeta", "lambda"}  # read over where a type has none
    if unknown := sorted(set(table) - known):
        raise ConfigError(f"unknown key '{unknown[0]}'; known are {', '.join(sorted(known))}")
    needed = {"center", "kind", *(key for name, key in keys.items() if name not in OPTIONAL)}
    if missing := sorted(needed - set(table)):
        raise ConfigError(f"the key '{missing[0]}' is missing")
    if not isinstance(names, list) or len(names) != of_type.neighbours:
        raise ConfigError(
            f"type {kind} takes {of_type.neighbours} neighbours, a list of element symbols; found {names!r}"
        )
    for key in known & set(table) - {"center", "kind", "neighbours", "subtype"}:
        values = _as_list(table[key])
        if not values or any(type(value) not in (int, float) for value in values):
            raise ConfigError(f"{key} = {table[key]!r}: must be a number or a list of numbers")
    if of_type.compact:
        subtypes = _as_list(table["subtype"])
        if not subtypes or any(name not in SUBTYPES[1:] for name in subtypes):
            raise ConfigError(
                f"subtype = {table['subtype']!r}: must be one of {', '.join(SUBTYPES[1:])}, or a list of "
                f"these"
            )


def _as_list(value):
    return value if isinstance(value, list) else [value]


def _combinations(table, cutoff, alpha, length):
    """The functions of one table, every combination of its lists."""
    of_type = TYPES[table["kind"]]
    z = [element_number(name) for name in table.get("neighbours", [])] + [0, 0]
    keys = keys_of(of_type)
    columns = [_as_list(table.get(key, OPTIONAL.get(name))) for name, key in keys.items()]
    functions = []
    for values in itertools.product(*columns):
        parameters = dict(zip(keys, values))
        if of_type.compact:
            parameters["subtype"] = SUBTYPES.index(parameters["subtype"])
        for name in of_type.names:
            parameters[name] = float(in_angstrom(name, parameters[name], length))
        functions.append(
            SymmetryFunction(
                center=element_number(table["center"]),
                kind=of_type.number,
                neighbour1=z[0],
                neighbour2=z[1],
                cutoff=0 if of_type.compact else cutoff,
                alpha=0.0 if of_type.compact else alpha,
                **parameters,
            )
        )
        check_function(functions[-1])
    return functions


def table_of(f: SymmetryFunction) -> dict:
    """The table of one function, lengths in Angstrom; inverse of `from_tables`."""
    of_type = TYPES[f.kind]
    table = {"center": chemical_symbols[f.center], "kind": f.kind}
    if names := [chemical_symbols[z] for z in (f.neighbour1, f.neighbour2) if z]:
        table["neighbours"] = names
    table |= {key: getattr(f, name) for name, key in keys_of(of_type).items()}
    return table | ({"subtype": SUBTYPES[f.subtype]} if of_type.compact else {})
