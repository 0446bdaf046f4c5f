"""The order in which the fast kernels compute the functions, so that what functions share is computed once.

Cutoffs      distinct (cutoff, alpha, r_c, weighted): fc of each neighbour once.
Group        angular functions of one centre and one pair of neighbour elements: one loop over triplets.
Run          functions of a group with one cutoff, narrow or wide: one product of cutoff functions.
Class        functions of a run with one (eta, r_s): one exponential, or a power of another class's.
Angle        distinct (lam, zeta) of a group: one (1 + lam cos)^zeta.
Couple       two functions of one class, or its last one twice: the unit of the loops that sum over functions.
So a function itself costs one product of two rows. Compact functions (compact.py) are apart: their angular
ones of one centre and one radial window share the neighbours within it; those among them of one pair of
neighbour elements, narrow or wide, are a group, which shares distances, angles and windows of its triplets.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mpnnp.kernels.jit import read_only
from mpnnp.kernels.table import ANGULAR, COMPACT_ANGULAR, COMPACT_RADIAL, NARROW, RADIAL, WEIGHTED
from mpnnp.signals import STOP

MAX_POWER = 31  # of exponentials; beyond, an exp is as cheap


class Compact(NamedTuple):
    """The order of the compact functions: radial ones of all elements first, then angular ones by centre,
    window and group.
    """

    start: np.ndarray  # (n_element+1, 2) int64 first radial function in `function`, first window
    window: np.ndarray  # (n_window+1, 3) int64: subtype, weighted by z, first group
    window_at: np.ndarray  # (n_window, 2) Angstrom: r_l, r_c
    group: np.ndarray  # (n_group+1, 4) int64: e1, e2 (-1: any), narrow, first function
    function: np.ndarray  # (n, 4) int64: function m, neighbour element or -1, subtype, weighted by z
    at: np.ndarray  # (n, 4): r_l, r_c, ends of the angular window (radian)


class Plan(NamedTuple):
    """Every level lists where its parts begin in the next; each list ends with a sentinel."""

    start: np.ndarray  # (n_element+1,) int64 the table's
    z: np.ndarray  # (n_element,) atomic numbers
    reach: np.ndarray  # (2,) Angstrom: largest r_c of all functions, of the angular ones
    most: np.ndarray  # (2,) int64 largest number of classes, of angles of a group
    cutoff: np.ndarray  # (n_cutoff, 2) int64: kind, weighted by z
    cutoff_at: np.ndarray  # (n_cutoff, 2): alpha, r_c
    radial: np.ndarray  # (n_element+1,) int64 first radial function in radial_function
    radial_function: np.ndarray  # (n_radial, 3) int64: function m, neighbour element or -1, cutoff
    radial_at: np.ndarray  # (n_radial, 2): eta, r_s
    group: np.ndarray  # (n_element+1,) int64 first group
    pair: np.ndarray  # (n_group+1, 5) int64: e1, e2 (-1: any), first run, first angle, any r_s > 0
    run: np.ndarray  # (n_run+1, 4) int64: narrow, cutoff, first class, first couple
    member: np.ndarray  # (n_class+1, 3) int64: class whose power it is or -1, power, first function
    member_at: np.ndarray  # (n_class, 2): eta, r_s
    couple: np.ndarray  # (n_couple, 3) int64: class, its functions in `function`, the second -1 if it is one
    function: np.ndarray  # (n_angular, 2) int64: function m, angle within the group
    scale: np.ndarray  # (n_angular,) 2^(1-zeta)
    angle: np.ndarray  # (n_angle, 2): lam, zeta
    compact: tuple  # Compact, or () if there are no compact functions
    stop: np.ndarray  # (1,) int64 signals.STOP of this process: not 0 ends the loops over neighbours early


def plan_of(table):
    """Plan of a Table; remembered."""
    return remembered_plan(
        type(table), tuple((np.asarray(column).dtype.str, np.asarray(column).tobytes()) for column in table)
    )


@lru_cache(maxsize=8)
def remembered_plan(kind, parts):
    return make_plan(kind(*(np.frombuffer(data, dtype) for dtype, data in parts)))


def make_plan(t):
    """Plan of Table t."""
    lines = Lines(t)
    angular = [m for m in range(len(t.kind)) if t.kind[m] in ANGULAR + COMPACT_ANGULAR]
    reach = max(t.r_c), max((t.r_c[m] for m in angular), default=0.0)
    most = [max(sizes, default=0) for sizes in lines.sizes_of_groups()]
    return Plan(
        start=read_only(t.start),
        z=read_only(t.z),
        reach=numbers(reach, np.float64),
        most=numbers(most, np.int64),
        cutoff=columns([key[:2] for key in lines.cutoff], 2, np.int64),
        cutoff_at=columns([key[2:] for key in lines.cutoff], 2, np.float64),
        radial=numbers(lines.radial, np.int64),
        radial_function=columns(lines.radial_function, 3, np.int64),
        radial_at=columns(lines.radial_at, 2, np.float64),
        group=numbers(lines.group, np.int64),
        pair=columns([*lines.pair, (-1, -1, len(lines.run), len(lines.angle), 0)], 5, np.int64),
        run=columns([*lines.run, (0, 0, len(lines.member), len(lines.couple))], 4, np.int64),
        member=columns([*lines.member, (-1, 1, len(lines.function))], 3, np.int64),
        member_at=columns(lines.member_at, 2, np.float64),
        couple=columns(lines.couple, 3, np.int64),
        function=columns(lines.function, 2, np.int64),
        scale=numbers(lines.scale, np.float64),
        angle=columns(lines.angle, 2, np.float64),
        compact=compact_part(t),
        stop=read_only(STOP),
    )


def columns(lines, width, dtype):
    return read_only(np.array(lines, dtype).reshape(-1, width))


def numbers(values, dtype):
    return read_only(np.array(values, dtype))


class Lines:
    """The lines of a Plan while they are collected, without the sentinels; attributes are named as there."""

    def __init__(self, table):
        self.table = table
        self.cutoff = []  # (kind, weighted, alpha, r_c)
        self.radial, self.radial_function, self.radial_at = [0], [], []
        self.group, self.pair, self.run = [0], [], []
        self.member, self.member_at, self.couple = [], [], []
        self.function, self.scale, self.angle = [], [], []
        for e in range(len(table.start) - 1):
            self._add_element(e)

    def _add_element(self, e):
        """Radial functions of the centre e, then a group for each pair of neighbour elements."""
        t = self.table
        own = range(t.start[e], t.start[e + 1])
        radial = [m for m in own if t.kind[m] in RADIAL]
        for m in sorted(radial, key=lambda m: (t.e1[m], self._cutoff_of(m), m)):
            self.radial_function.append((m, t.e1[m], self._cutoff_of(m)))
            self.radial_at.append((t.eta[m], t.r_s[m]))
        self.radial.append(len(self.radial_function))
        angular = [m for m in own if t.kind[m] in ANGULAR]
        for pair, functions in sorted_by(lambda m: (t.e1[m], t.e2[m]), angular):
            self._add_group(pair, functions)
        self.group.append(len(self.pair))

    def _add_group(self, pair, functions):
        t = self.table
        angles = [angle for angle, _ in sorted_by(lambda m: (t.zeta[m], t.lam[m]), functions)]
        shifted = any(t.r_s[m] != 0.0 for m in functions)
        self.pair.append((*pair, len(self.run), len(self.angle), shifted))
        self.angle += [(lam, zeta) for zeta, lam in angles]
        first = len(self.member)
        runs = sorted_by(lambda m: (int(t.kind[m] in NARROW), self._cutoff_of(m)), functions)
        for (narrow, cutoff), of_run in runs:
            self.run.append((narrow, cutoff, len(self.member), len(self.couple)))
            for at, of_class in sorted_by(lambda m: (t.eta[m], t.r_s[m]), of_run):
                self._add_class(at, of_class, angles, find_source(self, first, narrow, *at))

    def _add_class(self, at, functions, angles, source):
        """A class with (eta, r_s) = at, a power of another one if source says so, and its couples."""
        t, first = self.table, len(self.function)
        for f in range(first, first + len(functions), 2):
            second = f + 1 if f + 1 < first + len(functions) else -1
            self.couple.append((len(self.member), f, second))
        self.member.append((*source, first))
        self.member_at.append(at)
        self.function += [(m, angles.index((t.zeta[m], t.lam[m]))) for m in functions]
        self.scale += [2.0 ** (1.0 - t.zeta[m]) for m in functions]

    def _cutoff_of(self, m):
        """Number of the cutoff of function m, which is a new one perhaps."""
        t = self.table
        key = (int(t.cutoff[m]), int(t.kind[m] in WEIGHTED), float(t.alpha[m]), float(t.r_c[m]))
        if key not in self.cutoff:
            self.cutoff.append(key)
        return self.cutoff.index(key)

    def sizes_of_groups(self):
        """Number of classes, and number of angles, of each group."""
        first_class = [self.run[pair[2]][2] for pair in self.pair] + [len(self.member)]
        first_angle = [pair[3] for pair in self.pair] + [len(self.angle)]
        return [[b - a for a, b in pairwise(first)] for first in (first_class, first_angle)]


def sorted_by(key, functions):
    """[(value, functions with it)] for the values of key, in order."""
    found = {}
    for m in functions:
        found.setdefault(key(m), []).append(m)
    return sorted(found.items())


def find_source(lines, first, narrow, eta, r_s):
    """(class, power) such that exp(-eta s) of a class to come is a power of the exponential of an earlier one
    of its group, whose classes begin with `first`; (-1, 1) if there is none.
    """
    best = (-1, 1)
    starts = [run[2] for run in lines.run] + [len(lines.member)]
    for k, run in enumerate(lines.run):
        if run[0] != narrow or run[2] < first:
            continue
        for c in range(run[2], starts[k + 1]):
            other, other_r_s = lines.member_at[c]
            if r_s != 0.0 or other_r_s != 0.0 or other == 0.0:
                continue
            power = round(eta / other)
            good = 1 <= power <= MAX_POWER and abs(eta / other - power) < 1e-15 * power
            if good and (best[0] < 0 or power < best[1]):
                best = (c, power)
    return best


def compact_part(t):
    """Compact of Table t; () without compact functions."""
    n_element = len(t.start) - 1
    own = [range(t.start[e], t.start[e + 1]) for e in range(n_element)]
    radial = [[m for m in own[e] if t.kind[m] in COMPACT_RADIAL] for e in range(n_element)]
    function, start = [m for part in radial for m in part], []
    window, window_at, group = [], [], []
    for e in range(n_element):
        start.append((sum(map(len, radial[:e])), len(window)))
        angular = [m for m in own[e] if t.kind[m] in COMPACT_ANGULAR]
        windows = lambda m: (t.r_l[m], t.r_c[m], t.subtype[m], t.kind[m] in WEIGHTED)  # noqa: E731
        for (r_l, r_c, *shape), inside in sorted_by(windows, angular):
            window.append((*shape, len(group)))
            window_at.append((r_l, r_c))
            for pair, functions in sorted_by(lambda m: (t.e1[m], t.e2[m], t.kind[m] in NARROW), inside):
                group.append((*pair, len(function)))
                function += functions
    start.append((sum(map(len, radial)), len(window)))
    window.append((0, 0, len(group)))
    group.append((-1, -1, 0, len(function)))
    if not function:
        return ()
    return Compact(
        start=columns(start, 2, np.int64),
        window=columns(window, 3, np.int64),
        window_at=columns(window_at, 2, np.float64),
        group=columns(group, 4, np.int64),
        function=columns([(m, t.e1[m], t.subtype[m], t.kind[m] in WEIGHTED) for m in function], 4, np.int64),
        at=columns([(t.r_l[m], t.r_c[m], t.left[m], t.right[m]) for m in function], 4, np.float64),
    )
