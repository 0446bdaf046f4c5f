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
def remembered_plan(kind, columns):
    return make_plan(kind(*(np.frombuffer(data, dtype) for dtype, data in columns)))


def make_plan(t):
    """Plan of Table t."""
    cutoffs, radial, radial_at, radial_start = [], [], [], [0]
    group, pair, run, member, member_at, couple, function, scale, angle = [0], *([] for _ in range(8))

    def number(m):
        key = (int(t.cutoff[m]), int(t.kind[m] in WEIGHTED), float(t.alpha[m]), float(t.r_c[m]))
        if key not in cutoffs:
            cutoffs.append(key)
        return cutoffs.index(key)

    for e in range(len(t.start) - 1):
        own = range(t.start[e], t.start[e + 1])
        for m in sorted((m for m in own if t.kind[m] in RADIAL), key=lambda m: (t.e1[m], number(m), m)):
            radial.append((m, t.e1[m], number(m)))
            radial_at.append((t.eta[m], t.r_s[m]))
        radial_start.append(len(radial))
        angular = [m for m in own if t.kind[m] in ANGULAR]
        for e1, e2 in sorted({(t.e1[m], t.e2[m]) for m in angular}):
            mine = [m for m in angular if (t.e1[m], t.e2[m]) == (e1, e2)]
            angles = sorted({(t.zeta[m], t.lam[m]) for m in mine})
            pair.append((e1, e2, len(run), len(angle), any(t.r_s[m] != 0.0 for m in mine)))
            angle += [(lam, zeta) for zeta, lam in angles]
            first = len(member)
            for narrow, cutoff in sorted({(int(t.kind[m] in NARROW), number(m)) for m in mine}):
                run.append((narrow, cutoff, len(member), len(couple)))
                of_run = [m for m in mine if (int(t.kind[m] in NARROW), number(m)) == (narrow, cutoff)]
                for eta, r_s in sorted({(t.eta[m], t.r_s[m]) for m in of_run}):
                    of_class = [m for m in of_run if (t.eta[m], t.r_s[m]) == (eta, r_s)]
                    for k in range(0, len(of_class), 2):
                        f = len(function) + k
                        couple.append((len(member), f, f + 1 if k + 1 < len(of_class) else -1))
                    source = find_source(member_at, first, len(member), run, narrow, eta, r_s)
                    member.append((*source, len(function)))
                    member_at.append((eta, r_s))
                    function += [(m, angles.index((t.zeta[m], t.lam[m]))) for m in of_class]
                    scale += [2.0 ** (1.0 - t.zeta[m]) for m in of_class]
        group.append(len(pair))
    pair.append((-1, -1, len(run), len(angle), 0))
    run.append((0, 0, len(member), len(couple)))
    member.append((-1, 1, len(function)))
    n_class = [run[b[2]][2] - run[a[2]][2] for a, b in zip(pair, pair[1:], strict=False)]
    n_angle = [b[3] - a[3] for a, b in zip(pair, pair[1:], strict=False)]
    reach = (
        max(t.r_c),
        max((t.r_c[m] for m in range(len(t.kind)) if t.kind[m] in ANGULAR + COMPACT_ANGULAR), default=0.0),
    )
    table = lambda rows, width, dtype: read_only(np.array(rows, dtype).reshape(-1, width))  # noqa: E731
    flat = lambda values, dtype: read_only(np.array(values, dtype))  # noqa: E731
    return Plan(
        start=read_only(t.start),
        z=read_only(t.z),
        reach=flat(reach, np.float64),
        most=flat((max(n_class, default=0), max(n_angle, default=0)), np.int64),
        cutoff=table([c[:2] for c in cutoffs], 2, np.int64),
        cutoff_at=table([c[2:] for c in cutoffs], 2, np.float64),
        radial=flat(radial_start, np.int64),
        radial_function=table(radial, 3, np.int64),
        radial_at=table(radial_at, 2, np.float64),
        group=flat(group, np.int64),
        pair=table(pair, 5, np.int64),
        run=table(run, 4, np.int64),
        member=table(member, 3, np.int64),
        member_at=table(member_at, 2, np.float64),
        couple=table(couple, 3, np.int64),
        function=table(function, 2, np.int64),
        scale=flat(scale, np.float64),
        angle=table(angle, 2, np.float64),
        compact=compact_part(t, table),
        stop=read_only(STOP),
    )


def compact_part(t, table):
    """Compact of Table t; () without compact functions."""
    n_element = len(t.start) - 1
    own = [range(t.start[e], t.start[e + 1]) for e in range(n_element)]
    radial = [[m for m in own[e] if t.kind[m] in COMPACT_RADIAL] for e in range(n_element)]
    function, start = [m for part in radial for m in part], []
    window, window_at, group = [], [], []
    for e in range(n_element):
        start.append((sum(map(len, radial[:e])), len(window)))
        angular = {}
        for m in own[e]:
            if t.kind[m] in COMPACT_ANGULAR:
                key = (t.r_l[m], t.r_c[m], t.subtype[m], t.kind[m] in WEIGHTED)
                pair = (t.e1[m], t.e2[m], int(t.kind[m] in NARROW))
                angular.setdefault(key, {}).setdefault(pair, []).append(m)
        for key in sorted(angular):
            window.append((*key[2:], len(group)))
            window_at.append(key[:2])
            for pair in sorted(angular[key]):
                group.append((*pair, len(function)))
                function += angular[key][pair]
    start.append((sum(map(len, radial)), len(window)))
    window.append((0, 0, len(group)))
    group.append((-1, -1, 0, len(function)))
    if not function:
        return ()
    return Compact(
        start=table(start, 2, np.int64),
        window=table(window, 3, np.int64),
        window_at=table(window_at, 2, np.float64),
        group=table(group, 4, np.int64),
        function=table([(m, t.e1[m], t.subtype[m], t.kind[m] in WEIGHTED) for m in function], 4, np.int64),
        at=table([(t.r_l[m], t.r_c[m], t.left[m], t.right[m]) for m in function], 4, np.float64),
    )


def find_source(member_at, first, last, run, narrow, eta, r_s):
    """(class, power) such that exp(-eta s) is a power of that earlier class's exponential, or (-1, 1)."""
    best = (-1, 1)
    starts = [r[2] for r in run] + [last]
    for k, r in enumerate(run):
        if r[0] != narrow or r[2] < first:
            continue
        for c in range(r[2], starts[k + 1]):
            other, other_r_s = member_at[c]
            if r_s != 0.0 or other_r_s != 0.0 or other == 0.0:
                continue
            power = round(eta / other)
            good = 1 <= power <= MAX_POWER and abs(eta / other - power) < 1e-15 * power
            if good and (best[0] < 0 or power < best[1]):
                best = (c, power)
    return best
