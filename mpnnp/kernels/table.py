"""What each type of symmetry function is, and the functions of a model as kernels take them.

`TYPES` is the one place that knows the types: lines and tables of the configuration are parsed, printed
and checked by it, and kernels and
plans choose by the tuples below it.
"""

from typing import NamedTuple

import numpy as np


class FunctionType(NamedTuple):
    """One type of symmetry function.

    number      as n2p2 and RuNNer count
    what        in words
    neighbours  elements that a line names behind the centre
    parameters  in the order of a line, by their names in SymmetryFunction; in brackets: may be left out
    angular     a sum over triplets, not over pairs
    narrow      of triplets: with a factor of r_jk
    weighted    of all elements at once, by atomic number
    compact     products of windows (Bircher et al. 2021), without cutoff function; a line ends with a subtype
    """

    number: int
    what: str
    neighbours: int
    parameters: tuple
    angular: bool = False
    narrow: bool = False
    weighted: bool = False
    compact: bool = False

    @property
    def names(self):
        """The parameters without brackets."""
        return tuple(name.strip("[]") for name in self.parameters)

    @property
    def optional(self):
        """How many of the last parameters may be left out."""
        return sum(name.startswith("[") for name in self.parameters)


_WINDOW = ("r_l", "r_c")
_WINDOWS = ("r_l", "r_c", "angle_left", "angle_right")

TYPES = {
    t.number: t
    for t in (
        FunctionType(2, "radial", 1, ("eta", "r_s", "r_c")),
        FunctionType(
            3, "angular, narrow", 2, ("eta", "lam", "zeta", "r_c", "[r_s]"), angular=True, narrow=True
        ),
        FunctionType(9, "angular, wide", 2, ("eta", "lam", "zeta", "r_c", "[r_s]"), angular=True),
        FunctionType(12, "weighted radial", 0, ("eta", "r_s", "r_c"), weighted=True),
        FunctionType(
            13,
            "weighted angular, narrow",
            0,
            ("eta", "r_s", "lam", "zeta", "r_c"),
            angular=True,
            narrow=True,
            weighted=True,
        ),
        FunctionType(20, "compact radial", 1, _WINDOW, compact=True),
        FunctionType(21, "compact angular, narrow", 2, _WINDOWS, angular=True, narrow=True, compact=True),
        FunctionType(22, "compact angular, wide", 2, _WINDOWS, angular=True, compact=True),
        FunctionType(23, "weighted compact radial", 0, _WINDOW, weighted=True, compact=True),
        FunctionType(
            24,
            "weighted compact angular, narrow",
            0,
            _WINDOWS,
            angular=True,
            narrow=True,
            weighted=True,
            compact=True,
        ),
        FunctionType(
            25, "weighted compact angular, wide", 0, _WINDOWS, angular=True, weighted=True, compact=True
        ),
    )
}


def _numbers(chosen):
    return tuple(number for number, t in TYPES.items() if chosen(t))


COMPACT = _numbers(lambda t: t.compact)
WEIGHTED = _numbers(lambda t: t.weighted)
NARROW = _numbers(lambda t: t.narrow)
RADIAL = _numbers(lambda t: not t.angular and not t.compact)
ANGULAR = _numbers(lambda t: t.angular and not t.compact)
COMPACT_RADIAL = _numbers(lambda t: not t.angular and t.compact)
COMPACT_ANGULAR = _numbers(lambda t: t.angular and t.compact)
SUBTYPES = (
    "",
    "e",
    "p1",
    "p1a",
    "p2",
    "p2a",
    "p3",
    "p3a",
    "p4",
    "p4a",
)  # of the compact types, as n2p2 sorts them; "": of all others


class Table(NamedTuple):
    """The functions of all elements in one list, as the kernels take them (see docs/architecture.md)."""

    start: np.ndarray  # (n_element+1,) int64; functions of element e are start[e]:start[e+1]
    kind: np.ndarray  # (n,) int64, a number of TYPES
    e1: np.ndarray  # (n,) int64 element index of the first neighbour, -1: any
    e2: np.ndarray  # (n,) int64 of the second, e1 <= e2, -1: any or none
    eta: np.ndarray  # (n,) 1/Angstrom^2
    r_s: np.ndarray  # (n,) Angstrom
    zeta: np.ndarray  # (n,)
    lam: np.ndarray  # (n,)
    r_c: np.ndarray  # (n,) Angstrom
    alpha: np.ndarray  # (n,) inner radius of the cutoff as a fraction of r_c
    cutoff: np.ndarray  # (n,) int64, 0 to 8
    z: np.ndarray  # (n_element,) float64 atomic numbers, the weights of the weighted types
    subtype: np.ndarray  # (n,) int64 index into SUBTYPES
    r_l: np.ndarray  # (n,) Angstrom; compact types: left end of the radial window, whose right end is r_c
    left: np.ndarray  # (n,) radian; ends of the angular window
    right: np.ndarray  # (n,)
