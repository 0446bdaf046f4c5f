"""Compact symmetry functions (see table.TYPES) of one centre, and their gradient:
sums over neighbours and triplets inside of radial and angular windows.

A term of an angular function is a(theta) w(r_ij) w(r_ik) [w(r_jk)] with windows w and a (cutoff.window). The
neighbours inside one radial window are copied into a list of their own, with w and w'/r in place of a
cutoff's rows: what lies outside costs nothing more, and triplets are worked on in blocks of rows as those of
functions.py. Radial functions go number by number.

A plan without compact functions has an empty tuple in their place: its kernels are compiled without all this.
"""

import numpy as np

from mpnnp.kernels.cutoff import window
from mpnnp.kernels.elementwise import row_acos, row_fill, row_window
from mpnnp.kernels.functions import multiply_terms, scatter_segments
from mpnnp.kernels.jit import FASTMATH, kernel
from mpnnp.kernels.neighbours import FC, OWN, RI, STRIDE, R, make_list, place
from mpnnp.kernels.triplets import (
    COS,
    DJK,
    FF,
    FJK,
    RJK,
    RJKI,
    RSUM,
    SLOPE,
    SUM,
    TC,
    TR,
    VALUE,
    VF,
    F,
    H,
    P,
    fill_block,
    geometry,
    multiply_cutoffs,
    padded,
    pair_cutoffs,
    parts_of,
)

N_COPIED = FC // STRIDE  # rows of a neighbour that its copy inside of a window has too
# of the triplets: theta, 1/sin(theta); VALUE, SLOPE: a function of theta, and its derivative by cos(theta)
THETA, SINE = SUM, RSUM


@kernel(forceinline=True)
def radial_term(f, r, e, plan):
    """Compact radial function f of a neighbour of element e at distance r: value, d/dr."""
    w, dw = window(plan.compact.function[f, 2], plan.compact.at[f, 0], plan.compact.at[f, 1], r)
    weight = plan.z[e] if plan.compact.function[f, 3] else 1.0
    return weight * w, weight * dw


@kernel(forceinline=True)
def has_windows(e, plan):
    """True if a centre of element e has compact angular functions."""
    return plan.compact.start[e, 1] < plan.compact.start[e + 1, 1]


@kernel
def enter(number, list, plan, inner):
    """Copy the entries of `list` inside of window `number` to the list `inner`: same order;
    found_atom: where they come from; rows FC: w and w'/r, times z for the weighted types.
    """
    L, I, n, n_element = list.rows, inner.rows, 0, plan.z.shape[0]
    left, right = plan.compact.window_at[number, 0], plan.compact.window_at[number, 1]
    subtype, weighted = plan.compact.window[number, 0], plan.compact.window[number, 1]
    for e in range(n_element):
        inner.part[e, 0] = n
        for k in range(list.part[e, 0], list.part[e, 1]):
            o = place(k, plan)
            r = L[o + R]
            if left < r < right:
                w, dw = window(subtype, left, right, r)
                weight = plan.z[e] if weighted else 1.0
                at = place(n, plan)
                for row in range(N_COPIED):
                    I[at + row * STRIDE] = L[o + row * STRIDE]
                I[at + FC] = weight * w
                I[at + FC + STRIDE] = weight * dw * L[o + RI]
                inner.atom[n], inner.found_atom[n] = list.atom[k], k
                n += 1
        inner.part[e, 1] = inner.part[e, 2] = n
    inner.part[n_element, 0], inner.part[n_element, 1], inner.part[n_element, 2] = 0, n, n


@kernel(forceinline=True)
def third_window(number, narrow, used, plan, S):
    """Rows FJK, DJK of a block: w(r_jk), w'(r_jk)/r_jk; 1 and 0 for wide functions."""
    if narrow:
        left, right = plan.compact.window_at[number, 0], plan.compact.window_at[number, 1]
        row_window(S, FJK, DJK, RJK, RJKI, used, plan.compact.window[number, 0], left, right)
    else:
        row_fill(S, FJK, used, 1.0)
        row_fill(S, DJK, used, 0.0)


@kernel(forceinline=True)
def angle_of(f, used, plan, S):
    """Rows VALUE = a(theta) and SLOPE = -da/dcos of function f; the window of an angle is never steep."""
    subtype = plan.compact.function[f, 2]
    if subtype > 1:
        subtype -= subtype % 2
    row_window(S, VALUE, SLOPE, THETA, SINE, used, subtype, plan.compact.at[f, 2], plan.compact.at[f, 3])


@kernel(forceinline=True)
def prepare_triplets(number, n_segment, used, narrow, inner, plan, block):
    """Geometry, angles, and product F of the windows of a block."""
    S, L, segment = block.rows, inner.rows, block.segment
    for s in range(n_segment):
        n, n_padded = np.uintp(segment[s, 1]), padded(segment[s, 1])
        o, j, k = np.uintp(segment[s, 0]), place(segment[s, 2], plan), place(segment[s, 3], plan)
        geometry(S, o, n_padded, L, j, k, narrow)
        pair_cutoffs(S, o + FF, n, n_padded, L[j + FC], L, k + FC)
    third_window(number, narrow, used, plan, S)
    multiply_cutoffs(S, n_segment, used, segment)
    row_acos(S, THETA, SINE, COS, used)


@kernel(makes_arrays=True)
def compact_functions(e, element, list, plan, compact, block, G):
    """Add the compact functions of a centre of element e to G (n_max,)."""
    if len(compact) == 0:
        return
    L, first = list.rows, plan.start[e]
    for f in range(compact.start[e, 0], compact.start[e + 1, 0]):
        e1 = compact.function[f, 1]
        for k in range(list.part[e1, 0], list.part[e1, 2]):  # -1: the last line, all elements
            G[compact.function[f, 0] - first] += radial_term(
                f, L[place(k, plan) + R], element[list.atom[k]], plan
            )[0]
    if has_windows(e, plan):
        window_functions(e, list, plan, compact, block, make_list(list.atom.shape[0], plan), G)


@kernel
def window_functions(e, list, plan, compact, block, inner, G):
    """The angular ones among them; inner  List for the neighbours inside of a window."""
    S, first = block.rows, plan.start[e]
    for number in range(compact.start[e, 1], compact.start[e + 1, 1]):
        enter(number, list, plan, inner)
        for g in range(compact.window[number, 2], compact.window[number + 1, 2]):
            narrow = compact.group[g, 2]
            j, j_last, k_first, k_last, same = parts_of(inner, compact.group[g, 0], compact.group[g, 1], plan)
            k = k_first
            while True:
                n_segment, n, j, k = fill_block(j_last, k_first, k_last, same, j, k, block)
                if n_segment == 0:
                    break
                used = np.uintp(n)
                prepare_triplets(number, n_segment, used, narrow, inner, plan, block)
                for f in range(compact.group[g, 3], compact.group[g + 1, 3]):
                    angle_of(f, used, plan, S)
                    G[compact.function[f, 0] - first] += dot(S, VALUE, F, used)


@kernel(fastmath=FASTMATH)
def dot(S, x, y, n):
    """sum x y"""
    total = 0.0
    for t in range(n):
        total += S[x + t] * S[y + t]
    return total


@kernel(makes_arrays=True)
def compact_gradient(e, element, list, plan, compact, block, dE_dG):
    """Add to OWN and K what the compact functions of a centre of element e contribute; dE_dG (n_max,)."""
    if len(compact) == 0:
        return
    L, first = list.rows, plan.start[e]
    for f in range(compact.start[e, 0], compact.start[e + 1, 0]):
        e1, factor = compact.function[f, 1], dE_dG[compact.function[f, 0] - first]
        for k in range(list.part[e1, 0], list.part[e1, 2]):
            o = place(k, plan)
            L[o + OWN] += factor * radial_term(f, L[o + R], element[list.atom[k]], plan)[1] * L[o + RI]
    if has_windows(e, plan):
        window_gradient(e, list, plan, compact, block, make_list(list.atom.shape[0], plan), dE_dG)


@kernel
def window_gradient(e, list, plan, compact, block, inner, dE_dG):
    """The part of its angular functions; inner as of window_functions."""
    S, first = block.rows, plan.start[e]
    for number in range(compact.start[e, 1], compact.start[e + 1, 1]):
        enter(number, list, plan, inner)
        for g in range(compact.window[number, 2], compact.window[number + 1, 2]):
            narrow = compact.group[g, 2]
            j, j_last, k_first, k_last, same = parts_of(inner, compact.group[g, 0], compact.group[g, 1], plan)
            k = k_first
            while True:
                n_segment, n, j, k = fill_block(j_last, k_first, k_last, same, j, k, block)
                if n_segment == 0:
                    break
                used = np.uintp(n)
                prepare_triplets(number, n_segment, used, narrow, inner, plan, block)
                for row in (TC, P, VF):
                    row_fill(S, row, used, 0.0)
                for f in range(compact.group[g, 3], compact.group[g + 1, 3]):
                    angle_of(f, used, plan, S)
                    add_angle(S, used, dE_dG[compact.function[f, 0] - first])
                multiply_terms(S, used, narrow, False)
                scatter_segments(n_segment, block, inner.rows, plan, FC, COS, TC, P, H, VF, TR, False, 0.0)
        leave(inner, plan, list)


@kernel(fastmath=FASTMATH)
def add_angle(S, n, factor):
    """TC += d/dcos, VF += term, without F."""
    for t in range(n):
        S[TC + t] -= factor * S[SLOPE + t]
        S[VF + t] += factor * S[VALUE + t]


@kernel
def leave(inner, plan, list):
    """Rows OWN and K of the entries inside of a window back to where they come from."""
    for n in range(inner.part[plan.z.shape[0], 2]):
        at, o = place(n, plan), place(inner.found_atom[n], plan)
        for row in range(OWN, OWN + np.uintp(4) * STRIDE, STRIDE):  # OWN, KX, KY, KZ
            list.rows[o + row] = inner.rows[at + row]


@kernel
def has_compact(compact):
    """0: no compact functions; 1: some; 2: wide angular ones among them."""
    if len(compact) == 0:
        return 0
    for g in range(compact.group.shape[0] - 1):
        if compact.group[g, 2] == 0:
            return 2
    return 1
