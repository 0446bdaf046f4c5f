"""Symmetry functions: what one is, the order they come in, and the arrays that kernels take."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mpnnp.errors import ConfigError
from mpnnp.files import read_number
from mpnnp.kernels.table import SUBTYPES, TYPES, Table
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
    kind: int  # a number of table.TYPES
    neighbour1: int = 0  # atomic number, 0: any (weighted types)
    neighbour2: int = 0
    eta: float = 0.0  # 1/Angstrom^2
    r_s: float = 0.0  # Angstrom
    zeta: float = 0.0
    lam: float = 0.0
    r_c: float = 6.0  # Angstrom
    cutoff: int = 1
    alpha: float = 0.0
    subtype: int = 0  # compact types: index into SUBTYPES
    r_l: float = 0.0  # Angstrom; compact types: the function is 0 outside of r_l < r < r_c; below 0 if its
    # middle is near 0
    angle_left: float = 0.0  # degrees; compact angular types: ends of the angular window
    angle_right: float = 0.0

    @property
    def of(self) -> str:
        """Centre, type and neighbours in words."""
        names = [chemical_symbols[z] for z in (self.neighbour1, self.neighbour2) if z]
        return " ".join([chemical_symbols[self.center], "type", str(self.kind), *names])

    def __str__(self):
        of_type = TYPES.get(self.kind)
        known = of_type.names if of_type else ("eta", "r_s", "r_c")
        words = [self.of, SUBTYPES[self.subtype]]
        words += [SHOWN[name].format(getattr(self, name)) for name in SHOWN if name in known]
        return " ".join(filter(None, words))


def in_words(functions: Sequence[SymmetryFunction], most: int = 5) -> str:
    """Functions with all parameters; more than `most` by centre, type and neighbours, and how many each."""
    if len(functions) <= most:
        return "; ".join(map(str, functions))
    return "; ".join(f"{of} ({n})" for of, n in Counter(f.of for f in functions).items())


LENGTHS = ("r_s", "r_c", "r_l")  # parameters that are lengths; eta is 1 / length^2
SHOWN = {  # how a function is named in messages
    "eta": "eta {:.6g}/A^2",
    "r_s": "r_s {:.6g} A",
    "lam": "lambda {:g}",
    "zeta": "zeta {:g}",
    "r_l": "r_l {:.6g} A",
    "r_c": "r_c {:.6g} A",
    "angle_left": "angles {:g}",
    "angle_right": "to {:g} degrees",
}
WINDOW = (
    "the window must lie within 0 to 180 degrees, or have its middle at 0 or at 180 "
    "and a width of at most 360"
)


def _is_window(left, right):
    """True if n2p2 would take the angles: finite, ascending, and a function that is smooth as one of the
    vectors.
    """
    if not (np.isfinite([left, right]).all() and left < right <= left + 360.0):
        return False
    middle = (left + right) / 2.0
    return (left >= 0.0 or middle == 0.0) and (right <= 180.0 or middle == 180.0)


def check_function(f: SymmetryFunction) -> None:
    """Raise ConfigError unless the parameters of symmetry function `f` make sense."""
    if reason := fault(f):
        raise ConfigError(f"symmetry function ({f}): {reason}")


def fault(f: SymmetryFunction) -> str | None:
    """What is wrong with the parameters of `f`, in words; None if nothing is. In any unit of length."""
    if f.kind not in TYPES:
        known = ", ".join(map(str, TYPES))
        return f"type {f.kind}: types {known} are known"
    of_type = TYPES[f.kind]
    powers, compact, subtypes = of_type.angular and not of_type.compact, of_type.compact, SUBTYPES[1:]
    rules = [
        (f.cutoff in range(9), f"cutoff function {f.cutoff}: 0 to 8 are known"),
        (np.isfinite(f.r_c) and f.r_c > 0, f"r_c = {f.r_c}: must be positive"),
        (np.isfinite(f.eta) and f.eta >= 0, f"eta = {f.eta}: must not be negative"),
        (np.isfinite(f.r_s) and f.r_s >= 0, f"r_s = {f.r_s}: must not be negative"),
        (0 <= f.alpha < 1, f"alpha = {f.alpha}: must be at least 0 and below 1"),
        (not powers or (np.isfinite(f.zeta) and f.zeta >= 1), f"zeta = {f.zeta}: must be at least 1"),
        (not powers or f.lam in (-1.0, 1.0), f"lambda = {f.lam}: must be -1 or 1"),
        (of_type.neighbours < 1 or f.neighbour1 > 0, "the neighbour element is missing"),
        (of_type.neighbours < 2 or f.neighbour2 > 0, "the second neighbour element is missing"),
        (
            not compact or f.subtype in range(1, len(SUBTYPES)),
            f"subtype: must be one of {', '.join(subtypes)}",
        ),
        (
            not compact or (np.isfinite(f.r_l) and f.r_l < f.r_c),
            f"r_l = {f.r_l}: must be below r_c = {f.r_c}",
        ),
        (
            not (compact and of_type.angular) or _is_window(f.angle_left, f.angle_right),
            f"angles {f.angle_left} to {f.angle_right}: {WINDOW}",
        ),
    ]
    return next((message for holds, message in rules if not holds), None)


class SymmetryFunctions:
    """The symmetry functions of a model, per element, sorted as n2p2 sorts them.

    elements   atomic numbers, ascending
    functions  SymmetryFunction, element by element; within one: type, cutoff, eta, r_s, zeta, lambda,
               neighbours
    table      the same as arrays (Table)
    copies     (n,) how often each was given: with merge=True equal functions become one
    """

    def __init__(self, elements: Iterable[int], functions: Iterable[SymmetryFunction], merge: bool = False):
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
        counts = {}
        for f in self.functions:
            counts[f] = counts.get(f, 0) + 1
            if counts[f] > 1 and not merge:
                raise ConfigError(f"symmetry function ({f}) is defined twice")
        self.functions, self.copies = tuple(counts), np.array(list(counts.values()), np.int64)
        for z in self.elements:
            if not any(f.center == z for f in self.functions):
                raise ConfigError(f"element {chemical_symbols[z]} has no symmetry functions")
        self.table = self._make_table()

    @staticmethod
    def ordered(f: SymmetryFunction) -> SymmetryFunction:
        """The same function with its neighbour elements in ascending order."""
        return (
            replace(f, neighbour1=f.neighbour2, neighbour2=f.neighbour1)
            if 0 < f.neighbour2 < f.neighbour1
            else f
        )

    def __repr__(self):
        counts = ", ".join(f"{chemical_symbols[z]} {len(self.of(z))}" for z in self.elements)
        return f"SymmetryFunctions({counts}; cutoff {self.r_c:.4g} Angstrom)"

    def __len__(self):
        return len(self.functions)

    @property
    def n_max(self) -> int:
        """Largest number of functions of one element: the row length of G."""
        return int(np.diff(self.table.start).max())

    @property
    def r_c(self) -> float:
        """Largest cutoff radius, Angstrom."""
        return max(f.r_c for f in self.functions)

    def of(self, z: int) -> tuple[SymmetryFunction, ...]:
        """Functions of the element with atomic number z, in order."""
        return tuple(f for f in self.functions if f.center == z)

    def keep(self, mask: np.ndarray) -> "SymmetryFunctions":
        """A set without the functions where mask (n,) is False."""
        return SymmetryFunctions(self.elements, [f for f, kept in zip(self.functions, mask) if kept])

    def _make_table(self):
        """Table of the functions; elements as their indices, -1 for none."""

        def column(name, dtype):
            return np.array([getattr(f, name) for f in self.functions], dtype)

        index = {z: e for e, z in enumerate(self.elements)} | {0: -1}
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
    if TYPES[f.kind].compact:
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


def parse_line(line: str, cutoff: int = 1, alpha: float = 0.0, length: float = BOHR) -> SymmetryFunction:
    """One symmetry function from the words behind `symfunction_short` of RuNNer and n2p2.

    line    e.g. "H 3 O H 0.2 1.0 1.0 12.0": centre, type, neighbours, parameters, r_c [, r_s]; compact:
            centre, type, neighbours,
            r_l, r_c [, angles], subtype
    length  Angstrom per unit of length of the line
    Raises ConfigError: unknown element or type, wrong number of words, not a number.
    """
    words = line.split()
    where = f"symmetry function '{line.strip()}'"
    try:
        of_type = TYPES[int(words[1])]
        names, rest = [words[0], *words[2 : 2 + of_type.neighbours]], words[2 + of_type.neighbours :]
        z = [element_number(name) for name in names] + [0, 0]
        subtype = rest.pop() if of_type.compact else ""
        values = [read_number(word) for word in rest]
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (IndexError, ValueError, KeyError):
        known = ", ".join(map(str, TYPES))
        raise ConfigError(
            f"{where}: expected CENTRE TYPE [NEIGHBOURS] PARAMETERS with type {known}"
        ) from None
    if of_type.compact and subtype not in SUBTYPES[1:]:
        raise ConfigError(
            f"{where}: the last word of type {of_type.number} must be one of {', '.join(SUBTYPES[1:])}"
        )
    names = of_type.names
    if not len(names) - of_type.optional <= len(values) <= len(names):
        raise ConfigError(
            f"{where}: type {of_type.number} takes the numbers {' '.join(names)}, found {len(values)}"
        )
    given = {name: in_angstrom(name, value, length) for name, value in zip(names, values)}
    return SymmetryFunction(
        center=z[0],
        kind=of_type.number,
        neighbour1=z[1],
        neighbour2=z[2],
        cutoff=0 if of_type.compact else cutoff,
        alpha=0.0 if of_type.compact else alpha,
        subtype=SUBTYPES.index(subtype),
        **given,
    )


def format_line(f: SymmetryFunction, length: float = BOHR) -> str:
    """The words behind `symfunction_short` for function `f`; inverse of parse_line to the last digit of
    float64.
    """
    of_type = TYPES[f.kind]
    names = [chemical_symbols[z] for z in (f.center, f.neighbour1, f.neighbour2) if z]
    values = [
        in_length(name, getattr(f, name), length)
        for name, as_written in zip(of_type.names, of_type.parameters)
        if not as_written.startswith("[") or f.r_s
    ]
    return " ".join(
        [names[0], str(f.kind), *names[1:], *(f"{value:.17g}" for value in values), SUBTYPES[f.subtype]]
    ).rstrip()


def in_angstrom(name: str, value: float, length: float) -> float:
    """A parameter given in a unit of `length` Angstrom, in the units of SymmetryFunction."""
    if name in LENGTHS:
        return value * length
    return value / length**2 if name == "eta" else value


def in_length(name: str, value: float, length: float) -> float:
    """The inverse of `in_angstrom`."""
    if name in LENGTHS:
        return value / length
    return value * length**2 if name == "eta" else value


def element_number(symbol: str) -> int:
    """Atomic number of an element symbol; ConfigError if there is no such element."""
    z = atomic_numbers.get(symbol, 0) if isinstance(symbol, str) else 0
    if z == 0:
        raise ConfigError(f"'{symbol}' is not the symbol of a chemical element")
    return z
