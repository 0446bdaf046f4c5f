"""The symmetry functions as kernels take them, and what each kind of them is."""

from typing import NamedTuple

import numpy as np

COMPACT = (20, 21, 22, 23, 24, 25)
RADIAL = (2, 12, 20, 23)
ANGULAR = (3, 9, 13)
COMPACT_ANGULAR = (21, 22, 24, 25)
WEIGHTED = (12, 13, 23, 24, 25)
KINDS = (2, 3, 9, 12, 13, *COMPACT)
# neighbour elements that a kind names
N_NEIGHBOUR = {2: 1, 3: 2, 9: 2, 12: 0, 13: 0, 20: 1, 21: 2, 22: 2, 23: 0, 24: 0, 25: 0}
# of the compact kinds, as n2p2 sorts them; "": of all others
SUBTYPES = ("", "e", "p1", "p1a", "p2", "p2a", "p3", "p3a", "p4", "p4a")


class Table(NamedTuple):
    """The functions of all elements in one list, as the kernels take them (see docs/architecture.md)."""

    start: np.ndarray  # (n_element+1,) int64; functions of element e are start[e]:start[e+1]
    kind: np.ndarray  # (n,) int64
    e1: np.ndarray  # (n,) int64 element index of the first neighbour, -1: any
    e2: np.ndarray  # (n,) int64 of the second, e1 <= e2, -1: any or none
    eta: np.ndarray  # (n,) 1/Angstrom^2
    r_s: np.ndarray  # (n,) Angstrom
    zeta: np.ndarray  # (n,)
    lam: np.ndarray  # (n,)
    r_c: np.ndarray  # (n,) Angstrom
    alpha: np.ndarray  # (n,) inner radius of the cutoff as a fraction of r_c
    cutoff: np.ndarray  # (n,) int64, 0 to 8
    z: np.ndarray  # (n_element,) float64 atomic numbers, the weights of kinds 12, 13, 23, 24, 25
    subtype: np.ndarray  # (n,) int64 index into SUBTYPES
    r_l: np.ndarray  # (n,) Angstrom; compact kinds: left end of the radial window, whose right end is r_c
    left: np.ndarray  # (n,) radian; ends of the angular window
    right: np.ndarray  # (n,)
