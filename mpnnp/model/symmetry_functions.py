"""Symmetry functions: what one is, the order they come in, and the arrays that kernels take."""

from dataclasses import dataclass, replace

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mpnnp.errors import ConfigError
from mpnnp.kernels.table import (
    ANGULAR,
    COMPACT,
    COMPACT_ANGULAR,
    KINDS,
    N_NEIGHBOUR,
    SUBTYPES,
    WEIGHTED,
    Table,
)
from mpnnp.units import BOHR

CUTOFFS = {
    "hard": 0,
    "cosine": 1,
    "tanh3u": 2,
    "tanh3": 3,
    "exp": 4,
    "poly1": 5,
    "poly2": 6,
    "poly3": 7,
    "poly4": 8,
}


@dataclass(frozen=True, kw_only=True)
class SymmetryFunction:
    """One Behler-Parrinello symmetry function.

    Behler, J. Chem. Phys. 134, 074106 (2011); weighted: Gastegger et al., J. Chem. Phys. 148, 241709 (2018);
    compact: Bircher, Singraber, Dellago, Mach. Learn.: Sci. Technol. 2, 035026 (2021).
    """

    center: int  # atomic number
    kind: int  # 2 radial, 3 narrow angular, 9 wide angular, 12 / 13 weighted radial / angular; 20 to 25 compact: radial, narrow, wide, weighted ditto
    neighbour1: int = 0  # atomic number, 0: any (weighted kinds)
    neighbour2: int = 0
    eta: float = 0.0  # 1/Angstrom^2
    r_s: float = 0.0  # Angstrom
    zeta: float = 0.0
    lam: float = 0.0
    r_c: float = 6.0  # Angstrom
    cutoff: int = 1
    alpha: float = 0.0
    subtype: int = 0  # compact kinds: index into SUBTYPES
    r_l: float = 0.0  # Angstrom; compact kinds: the function is 0 outside of r_l < r < r_c; below 0 if its middle is near 0
    angle_left: float = 0.0  # degrees; compact angular kinds: ends of the angular window
    angle_right: float = 0.0

    def __str__(self):
        names = [chemical_symbols[z] for z in (self.neighbour1, self.neighbour2) if z]
        if self.kind in COMPACT:
            angles = (
                f" angles {self.angle_left:g} to {self.angle_right:g} degrees"
                if self.kind in COMPACT_ANGULAR
                else ""
            )
            words = [chemical_symbols[self.center], "type", str(self.kind), *names, SUBTYPES[self.subtype]]
            return f"{' '.join(words)} r_l {self.r_l:.6g} A r_c {self.r_c:.6g} A{angles}"
        angular = f" lambda {self.lam:g} zeta {self.zeta:g}" if self.kind in ANGULAR else ""
        return (
            f"{chemical_symbols[self.center]} type {self.kind} {' '.join(names)} eta {self.eta:.6g}/A^2 "
            f"r_s {self.r_s:.6g} A{angular} r_c {self.r_c:.6g} A".replace("  ", " ")
        )


WINDOW = "the window must lie within 0 to 180 degrees, or have its middle at 0 or at 180 and a width of at most 360"


def _is_window(left, right):
    """True if n2p2 would take the angles: finite, ascending, and a function that is smooth as one of the vectors."""
    if not (np.isfinite([left, right]).all() and left < right <= left + 360.0):
        return False
    middle = (left + right) / 2.0
    return (left >= 0.0 or middle == 0.0) and (right <= 180.0 or middle == 180.0)


def check_function(f):
    """Raise ConfigError unless the parameters of symmetry function `f` make sense."""
    rules = [
        (f.kind in KINDS, f"type {f.kind}: types {', '.join(map(str, KINDS))} are known"),
        (f.cutoff in range(9), f"cutoff function {f.cutoff}: 0 to 8 are known"),
        (np.isfinite(f.r_c) and f.r_c > 0, f"r_c = {f.r_c}: must be positive"),
        (np.isfinite(f.eta) and f.eta >= 0, f"eta = {f.eta}: must not be negative"),
        (np.isfinite(f.r_s) and f.r_s >= 0, f"r_s = {f.r_s}: must not be negative"),
        (0 <= f.alpha < 1, f"alpha = {f.alpha}: must be at least 0 and below 1"),
        (
            f.kind not in ANGULAR or (np.isfinite(f.zeta) and f.zeta >= 1),
            f"zeta = {f.zeta}: must be at least 1",
        ),
        (f.kind not in ANGULAR or f.lam in (-1.0, 1.0), f"lambda = {f.lam}: must be -1 or 1"),
        (f.kind in WEIGHTED or f.neighbour1 > 0, "the neighbour element is missing"),
        (N_NEIGHBOUR.get(f.kind) != 2 or f.neighbour2 > 0, "the second neighbour element is missing"),
        (
            f.kind not in COMPACT or f.subtype in range(1, len(SUBTYPES)),
            f"subtype: must be one of {', '.join(SUBTYPES[1:])}",
        ),
        (
            f.kind not in COMPACT or (np.isfinite(f.r_l) and f.r_l < f.r_c),
            f"r_l = {f.r_l}: must be below r_c = {f.r_c}",
        ),
        (
            f.kind not in COMPACT_ANGULAR or _is_window(f.angle_left, f.angle_right),
            f"angles {f.angle_left} to {f.angle_right}: {WINDOW}",
        ),
    ]
    for holds, message in rules:
        if not holds:
            raise ConfigError(f"symmetry function ({f}): {message}")


class SymmetryFunctions:
    """The symmetry functions of a model, per element, sorted as n2p2 sorts them.

    elements   atomic numbers, ascending
    functions  SymmetryFunction, element by element; within one: type, cutoff, eta, r_s, zeta, lambda, neighbours
    table      the same as arrays (Table)
    """

    def __init__(self, elements, functions):
        self.elements = tuple(sorted({int(z) for z in elements}))
        for f in functions:
            check_function(f)
            for z in (f.center, f.neighbour1, f.neighbour2):
                if z and z not in self.elements:
                    raise ConfigError(
                        f"symmetry function ({f}): element {chemical_symbols[z]} is not among the elements "
                        f"{' '.join(chemical_symbols[e] for e in self.elements)}"
                    )
        self.functions = tuple(sorted(map(self.ordered, functions), key=_order))
        for a, b in zip(self.functions, self.functions[1:]):
            if a == b:
                raise ConfigError(f"symmetry function ({a}) is defined twice")
        for z in self.elements:
            if not any(f.center == z for f in self.functions):
                raise ConfigError(f"element {chemical_symbols[z]} has no symmetry functions")
        self.table = self._make_table()

    @staticmethod
    def ordered(f):
        """The same function with its neighbour elements in ascending order."""
        return (
            replace(f, neighbour1=f.neighbour2, neighbour2=f.neighbour1)
            if 0 < f.neighbour2 < f.neighbour1
            else f
        )

    def __len__(self):
        return len(self.functions)

    @property
    def n_max(self):
        """Largest number of functions of one element: the row length of G."""
        return int(np.diff(self.table.start).max())

    @property
    def r_c(self):
        """Largest cutoff radius, Angstrom."""
        return max(f.r_c for f in self.functions)

    def of(self, z):
        """Functions of the element with atomic number z, in order."""
        return tuple(f for f in self.functions if f.center == z)

    def keep(self, mask):
        """A set without the functions where mask (n,) is False."""
        return SymmetryFunctions(self.elements, [f for f, kept in zip(self.functions, mask) if kept])

    def _make_table(self):
        index = {z: e for e, z in enumerate(self.elements)} | {0: -1}
        column = lambda name, dtype: np.array([getattr(f, name) for f in self.functions], dtype)  # noqa: E731
        center = np.array([index[f.center] for f in self.functions], np.int64)
        return Table(
            start=np.searchsorted(center, np.arange(len(self.elements) + 1)).astype(np.int64),
            kind=column("kind", np.int64),
            e1=np.array([index[f.neighbour1] for f in self.functions], np.int64),
            e2=np.array([index[f.neighbour2] for f in self.functions], np.int64),
            eta=column("eta", np.float64),
            r_s=column("r_s", np.float64),
            zeta=column("zeta", np.float64),
            lam=column("lam", np.float64),
            r_c=column("r_c", np.float64),
            alpha=column("alpha", np.float64),
            cutoff=column("cutoff", np.int64),
            z=np.array(self.elements, np.float64),
            subtype=column("subtype", np.int64),
            r_l=column("r_l", np.float64),
            left=np.radians(column("angle_left", np.float64)),
            right=np.radians(column("angle_right", np.float64)),
        )


def _order(f):
    if f.kind in COMPACT:
        return (
            f.center,
            f.kind,
            f.subtype,
            f.neighbour1,
            f.neighbour2,
            f.r_c,
            f.r_l,
            f.angle_left,
            f.angle_right,
        )
    return (
        f.center,
        f.kind,
        f.cutoff,
        f.alpha,
        f.r_c,
        f.eta,
        f.r_s,
        f.zeta,
        f.lam,
        f.neighbour1,
        f.neighbour2,
    )


NUMBERS = {  # of each kind, in the order of a line; in brackets: may be left out
    **dict.fromkeys((2, 12), ("eta", "r_s", "r_c")),
    **dict.fromkeys((3, 9), ("eta", "lam", "zeta", "r_c", "[r_s]")),
    13: ("eta", "r_s", "lam", "zeta", "r_c"),
    **dict.fromkeys((20, 23), ("r_l", "r_c")),
    **dict.fromkeys(COMPACT_ANGULAR, ("r_l", "r_c", "angle_left", "angle_right")),
}


def parse_line(line, cutoff=1, alpha=0.0, length=BOHR):
    """One symmetry function from the words behind `symfunction_short` of RuNNer and n2p2.

    line    e.g. "H 3 O H 0.2 1.0 1.0 12.0": centre, type, neighbours, parameters, r_c [, r_s]; compact: centre, type, neighbours,
            r_l, r_c [, angles], subtype
    length  Angstrom per unit of length of the line
    Raises ConfigError: unknown element or type, wrong number of words, not a number.
    """
    words = line.split()
    subtype = ""
    try:
        names = words[:1]
        kind = int(words[1])
        names += words[2 : 2 + N_NEIGHBOUR[kind]]
        z = [element_number(name) for name in names] + [0, 0]
        if kind in COMPACT:
            *words, subtype = words
        values = [float(word.replace("d", "e").replace("D", "E")) for word in words[2 + N_NEIGHBOUR[kind] :]]
    except ConfigError as error:
        raise ConfigError(f"symmetry function '{line.strip()}': {error}") from None
    except (IndexError, ValueError, KeyError):
        raise ConfigError(
            f"symmetry function '{line.strip()}': expected CENTRE TYPE [NEIGHBOURS] PARAMETERS with type {', '.join(map(str, KINDS))}"
        ) from None
    if (kind in COMPACT) != (subtype in SUBTYPES[1:]):
        raise ConfigError(
            f"symmetry function '{line.strip()}': the last word of type {kind} must be one of {', '.join(SUBTYPES[1:])}"
        )
    names = [name.strip("[]") for name in NUMBERS[kind]]
    optional = sum(name.startswith("[") for name in NUMBERS[kind])
    if not len(names) - optional <= len(values) <= len(names):
        raise ConfigError(
            f"symmetry function '{line.strip()}': type {kind} takes the numbers {' '.join(names)}, found {len(values)}"
        )
    p = dict(zip(names, values))
    return SymmetryFunction(
        center=z[0],
        kind=kind,
        neighbour1=z[1],
        neighbour2=z[2],
        eta=p.get("eta", 0.0) / length**2,
        r_s=p.get("r_s", 0.0) * length,
        zeta=p.get("zeta", 0.0),
        lam=p.get("lam", 0.0),
        r_c=p["r_c"] * length,
        cutoff=0 if kind in COMPACT else cutoff,
        alpha=0.0 if kind in COMPACT else alpha,
        subtype=SUBTYPES.index(subtype),
        r_l=p.get("r_l", 0.0) * length,
        angle_left=p.get("angle_left", 0.0),
        angle_right=p.get("angle_right", 0.0),
    )


def format_line(f, length=BOHR):
    """The words behind `symfunction_short` for function `f`; inverse of parse_line to the last digit of float64."""
    names = [chemical_symbols[z] for z in (f.center, f.neighbour1, f.neighbour2) if z]
    p = dict(vars(f), eta=f.eta * length**2, r_s=f.r_s / length, r_c=f.r_c / length, r_l=f.r_l / length)
    values = [p[name.strip("[]")] for name in NUMBERS[f.kind] if not name.startswith("[") or f.r_s]
    return " ".join(
        [names[0], str(f.kind), *names[1:], *(f"{value:.17g}" for value in values), SUBTYPES[f.subtype]]
    ).rstrip()


def element_number(symbol):
    """Atomic number of an element symbol; ConfigError if there is no such element."""
    z = atomic_numbers.get(symbol, 0) if isinstance(symbol, str) else 0
    if z == 0:
        raise ConfigError(f"'{symbol}' is not the symbol of a chemical element")
    return z
