"""How the compact symmetry functions change when one atom moves (as tangents.py for the others).

A term a(theta) W of a centre, W the product of its windows, changes by a dW + da/dcos W dcos. Inside of one
radial window the neighbours have a list of their own (compact.enter), so that everything else is as there.
"""

import numpy as np

from mpnnp.kernels.compact import (
    COS,
    SINE,
    SLOPE,
    THETA,
    VALUE,
    angle_of,
    enter,
    has_windows,
    radial_term,
    third_window,
)
from mpnnp.kernels.cutoff import window
from mpnnp.kernels.elementwise import row_acos, row_fill
from mpnnp.kernels.jit import FASTMATH, kernel
from mpnnp.kernels.neighbours import FC, RI, WIDTH, R, make_list, place
from mpnnp.kernels.tangents import (
    DF,
    DFF,
    DJK2,
    change_of_cutoffs,
    neighbour_cutoffs,
    neighbour_geometry,
    own_cutoffs,
    own_geometry,
    wide_cutoffs,
    wide_geometry,
)
from mpnnp.kernels.triplets import FCOS, FF, fill_block, padded, parts_of


@kernel(forceinline=True)
def partner_of(g, e_i, plan):
    """Element of the third partner in compact group g if one neighbour is of element e_i: -1 any;
    -2 if the group has no such neighbour.
    """
    e1, e2 = plan.compact.group[g, 0], plan.compact.group[g, 1]
    if e1 < 0:
        return -1
    if e1 == e_i:
        return e2
    return e1 if e2 == e_i else -2


@kernel(forceinline=True)
def add_compact_changes(own, number, g, e, n_segment, used, plan, block, target, V):
    """Add the changes of the functions of compact group g of window `number` of a block to V, with the rows
    of the geometry and their changes in place; segment s belongs to the atom target[s], none if negative.
    """
    S, segment = block.rows, block.segment
    narrow = plan.compact.group[g, 2]
    third_window(number, narrow, used, plan, S)
    if not narrow:
        row_fill(S, DJK2, used, 0.0)
    change_of_cutoffs(S, used, own)
    row_acos(S, THETA, SINE, COS, used)
    for f in range(plan.compact.group[g, 3], plan.compact.group[g + 1, 3]):
        angle_of(f, used, plan, S)
        for s in range(n_segment):
            if target[s] >= 0:
                n = padded(segment[s, 1])
                m = plan.compact.function[f, 0] - plan.start[e]
                V[target[s], m] += change_of_angle(S, np.uintp(segment[s, 0]), n)


@kernel(fastmath=FASTMATH)
def change_of_angle(S, o, n):
    """Sum over a segment of the change of a(theta) W."""
    total = 0.0
    for t in range(n):
        total += S[o + VALUE + t] * S[o + DF + t] - S[o + SLOPE + t] * S[o + FCOS + t]
    return total


@kernel(makes_arrays=True)
def compact_own_tangents(i, e, element, list, plan, compact, block, target, a, V):
    """Add to V the changes of the compact functions of atom i, of element e, and of the radial ones of its
    neighbours, when i moves along the axis of row a.
    """
    if len(compact) == 0:
        return
    L = list.rows
    for k in range(list.part[plan.z.shape[0], 2]):
        o, c = place(k, plan), list.atom[k]
        if c == i:
            continue
        e_c, r, move = element[c], L[o + R], -L[o + a] * L[o + RI]
        for f in range(compact.start[e, 0], compact.start[e + 1, 0]):
            if compact.function[f, 1] < 0 or compact.function[f, 1] == e_c:
                m = compact.function[f, 0] - plan.start[e]
                V[i, m] += move * radial_term(f, r, e_c, plan)[1]
        for f in range(compact.start[e_c, 0], compact.start[e_c + 1, 0]):
            if compact.function[f, 1] < 0 or compact.function[f, 1] == e:
                m = compact.function[f, 0] - plan.start[e_c]
                V[c, m] += move * radial_term(f, r, e, plan)[1]
    if has_windows(e, plan):
        window_tangents(i, e, list, plan, compact, block, target, make_list(list.atom.shape[0], plan), a, V)


@kernel
def window_tangents(i, e, list, plan, compact, block, target, inner, a, V):
    """The part of the angular functions of atom i; inner as of compact.window_functions."""
    S, segment = block.rows, block.segment
    target[:] = i
    for number in range(compact.start[e, 1], compact.start[e + 1, 1]):
        enter(number, list, plan, inner)
        for g in range(compact.window[number, 2], compact.window[number + 1, 2]):
            narrow = compact.group[g, 2]
            j, j_last, k_first, k_last, same = parts_of(inner, compact.group[g, 0], compact.group[g, 1], plan)
            k = k_first
            while True:
                n_segment, columns, j, k = fill_block(j_last, k_first, k_last, same, j, k, block)
                if n_segment == 0:
                    break
                for s in range(n_segment):
                    o, n = np.uintp(segment[s, 0]), np.uintp(segment[s, 1])
                    n_padded = padded(segment[s, 1])
                    at_j, at_k = place(segment[s, 2], plan), place(segment[s, 3], plan)
                    own_geometry(S, o, n_padded, inner.rows, at_j, at_k, a, narrow)
                    own_cutoffs(S, o, n, inner.rows, at_j, at_k, a, FC)
                add_compact_changes(True, number, g, e, n_segment, np.uintp(columns), plan, block, target, V)


@kernel(makes_arrays=True)
def compact_neighbour_tangents(i, e_i, list, plan, compact, block, target, a, V):
    """Add to V the changes of the compact narrow functions of all neighbours of atom i, of element e_i."""
    if len(compact) == 0:
        return
    inner = make_list(list.atom.shape[0], plan)
    neighbour_window_tangents(i, e_i, list, plan, compact, block, target, inner, a, V)


@kernel
def neighbour_window_tangents(i, e_i, list, plan, compact, block, target, inner, a, V):
    """The same; inner as of compact.window_functions."""
    S, segment = block.rows, block.segment
    for e in range(plan.z.shape[0]):
        for number in range(compact.start[e, 1], compact.start[e + 1, 1]):
            enter(number, list, plan, inner)
            # rows of weighted windows hold z of the entry, which is the centre here
            weight = plan.z[e_i] / plan.z[e] if compact.window[number, 1] else 1.0
            for g in range(compact.window[number, 2], compact.window[number + 1, 2]):
                e_k = partner_of(g, e_i, plan)
                if e_k == -2 or not compact.group[g, 2]:
                    continue
                k_first, k_last = inner.part[e_k, 0], inner.part[e_k, 1]
                j, k = inner.part[e, 0], k_first
                while True:
                    n_segment, columns, j, k = fill_block(
                        inner.part[e, 1], k_first, k_last, False, j, k, block
                    )
                    if n_segment == 0:
                        break
                    for s in range(n_segment):
                        c = inner.atom[segment[s, 2]]
                        target[s] = c if c != i else -1
                        o, n = np.uintp(segment[s, 0]), np.uintp(segment[s, 1])
                        n_padded = padded(segment[s, 1])
                        at_j, at_k = place(segment[s, 2], plan), place(segment[s, 3], plan)
                        neighbour_geometry(S, o, n_padded, inner.rows, at_j, at_k, a)
                        neighbour_cutoffs(S, o, n, inner.rows, at_j, at_k, a, FC, weight)
                        itself = segment[s, 2] - segment[s, 3]
                        if 0 <= itself < segment[s, 1]:
                            S[o + FF + np.uintp(itself)] = 0.0
                            S[o + DFF + np.uintp(itself)] = 0.0
                    add_compact_changes(
                        False, number, g, e, n_segment, np.uintp(columns), plan, block, target, V
                    )


@kernel(makes_arrays=True)
def compact_wide_tangents(e_i, e, n_entry, list, its_list, plan, compact, block, target, a, V):
    """Add to V the changes of the compact wide functions of the centre at entry n_entry of the list of
    atom i, an atom of element e whose own neighbours are its_list.
    """
    if len(compact) == 0:
        return
    inner = make_list(its_list.atom.shape[0], plan)
    wide_window_tangents(e_i, e, n_entry, list, its_list, plan, compact, block, target, inner, a, V)


@kernel
def wide_window_tangents(e_i, e, n_entry, list, its_list, plan, compact, block, target, inner, a, V):
    """The same; inner as of compact.window_functions."""
    S, L, segment, j = block.rows, list.rows, block.segment, place(n_entry, plan)
    target[0] = list.atom[n_entry]
    for number in range(compact.start[e, 1], compact.start[e + 1, 1]):
        left, right = compact.window_at[number, 0], compact.window_at[number, 1]
        w, dw = window(compact.window[number, 0], left, right, L[j + R])
        if w == 0.0:
            continue
        weight = plan.z[e_i] if compact.window[number, 1] else 1.0
        w, dw = weight * w, -weight * dw * L[j + RI] * L[j + a]
        enter(number, its_list, plan, inner)
        for g in range(compact.window[number, 2], compact.window[number + 1, 2]):
            e_k = partner_of(g, e_i, plan)
            if e_k == -2 or compact.group[g, 2]:
                continue
            first, last = inner.part[e_k, 0], inner.part[e_k, 1]
            while first < last:
                n = min(last - first, np.int64(WIDTH) - first % np.int64(WIDTH))
                used, k = padded(n), place(first, plan)
                segment[0, 0], segment[0, 1] = 0, n
                wide_geometry(S, used, L, j, inner.rows, k, a)
                wide_cutoffs(S, np.uintp(n), L, j, w, dw, inner.rows, k, FC)
                add_compact_changes(False, number, g, e, 1, used, plan, block, target, V)
                first += n
