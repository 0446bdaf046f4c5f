"""Symmetry functions of one centre, and their gradient:
the fast kernels behind energy_forces.py and pairs.py.

Triplets (centre; j, k) of a group are laid out in blocks of at most COLUMNS columns, segment by segment
(one j, consecutive k), and worked on row by row.
With x = r_ij, y = r_ik, a term is A(cos) E(sum, rsum) F, where
    sum  = r_ij^2 + r_ik^2 + r_jk^2,  rsum = r_ij + r_ik + r_jk    (without r_jk: wide functions)
    E = exp(-eta (sum - 2 r_s rsum + 3 r_s^2)),  F = fc(r_ij) fc(r_ik) fc(r_jk).
Its gradient by x is a x + g y and by y it is b y + g x; a and b are summed into OWN, g y and g x into K, so
that finally grad_n = OWN r_n + K.
"""

import math
from typing import NamedTuple

import numpy as np

from mpnnp.kernels.elementwise import (
    exp,
    row_cutoff,
    row_exp,
    row_fill,
    row_power,
    row_product,
    row_real_power,
)
from mpnnp.kernels.jit import FASTMATH, kernel
from mpnnp.kernels.neighbours import FC, KX, KY, KZ, OWN, R2, RI, STRIDE, WIDTH, R, X, Y, Z, place

COLUMNS = np.uintp(2048)  # of a block, at least WIDTH: short rows cost calls, long ones the nearest cache
LINE = COLUMNS + np.uintp(8)  # from row to row, which shall not fall on the same cache lines
COS, SUM, RSUM, RJK, RJKI, FF, F, FJK, DJK, BASE, TC, P, H, VF, TR = (np.uintp(k) * LINE for k in range(15))
# CHANGE to FSUM: of tangents.py
CHANGE, TURN, FCOS, FSUM, N_ROW = (np.uintp(k) * LINE for k in range(15, 20))
EIGHT = np.uintp(8)
TINY = 1e-12  # Angstrom^2; for columns that are masked


class Block(NamedTuple):
    """Scratch of one block of triplets: rows; then a row for each class, a row for each angle,
    and one for its derivative.
    """

    rows: np.ndarray
    segment: np.ndarray  # (COLUMNS / 8, 4) int64: first column, number of columns, j, first k
    stop: np.ndarray  # (1,) of the plan


@kernel
def make_block(plan):
    n = N_ROW + np.uintp(plan.most[0] + 2 * plan.most[1] + 1) * LINE
    return Block(np.zeros(np.int64(n)), np.zeros((np.int64(COLUMNS) // 8, 4), np.int64), plan.stop)


@kernel(forceinline=True)
def class_row(c):
    return N_ROW + np.uintp(c) * LINE


@kernel(forceinline=True)
def angle_row(a, plan):
    """The row of base^zeta of angle a of the group; the row of base^(zeta-1) is the next."""
    return N_ROW + np.uintp(plan.most[0] + 2 * a) * LINE


@kernel(forceinline=True)
def fill_block(j_last, k_first, k_last, same, j, k, block):
    """Lay out the next block of triplets: j up to j_last, k in [k_first, k_last), k > j if they are the same;
    begins with (j, k).

    Returns number of segments, columns (padding included), and the next (j, k); nothing is left when no
    segments come back, be it that a signal ends the loop.
    """
    segment = block.segment
    if block.stop[0]:
        return 0, 0, j, k
    n, used, width, room = 0, 0, np.int64(WIDTH), np.int64(COLUMNS)
    while j < j_last:
        if same:
            k = max(k, j + 1)
        if k >= k_last:
            j, k = j + 1, k_first
            continue
        length = min(k_last - k, width - k % width)  # a segment stays in one chunk
        padded = (length + 7) // 8 * 8
        if used + padded > room:
            break
        segment[n, 0], segment[n, 1], segment[n, 2], segment[n, 3] = used, length, j, k
        n += 1
        used += padded
        k += length
    return n, used, j, k


@kernel(fastmath=FASTMATH)
def geometry(S, o, n, L, j, k, narrow):
    """COS, SUM, RJK (r_jk) and RJKI (1/r_jk) of the segment of n columns from o on: entries j and k, k+1, ...
    of the rows L.
    """
    xj, yj, zj, aj, ij = L[j + X], L[j + Y], L[j + Z], L[j + R2], L[j + RI]
    if narrow:
        for t in range(n):
            x, y, z = L[k + X + t], L[k + Y + t], L[k + Z + t]
            u, v, w = x - xj, y - yj, z - zj
            d = u * u + v * v + w * w
            d = TINY if d < TINY else d
            r = math.sqrt(d)
            S[o + COS + t] = (xj * x + yj * y + zj * z) * ij * L[k + RI + t]
            S[o + SUM + t] = aj + L[k + R2 + t] + d
            S[o + RJK + t] = r
            S[o + RJKI + t] = 1.0 / r
    else:
        for t in range(n):
            S[o + COS + t] = (xj * L[k + X + t] + yj * L[k + Y + t] + zj * L[k + Z + t]) * ij * L[k + RI + t]
            S[o + SUM + t] = aj + L[k + R2 + t]


@kernel(fastmath=FASTMATH)
def sum_of_distances(S, o, n, L, j, k, narrow):
    """RSUM of a segment, after geometry()."""
    rj = L[j + R]
    for t in range(n):
        S[o + RSUM + t] = rj + L[k + R + t]
    if narrow:
        for t in range(n):
            S[o + RSUM + t] += S[o + RJK + t]


@kernel(fastmath=FASTMATH)
def pair_cutoffs(S, o, n, n_padded, fj, L, k):
    """FF = fc(r_ij) fc(r_ik); 0 in the columns of padding, which removes these from everything."""
    for t in range(n_padded):
        S[o + FF + t] = fj * L[k + t]
    for t in range(n, n_padded):
        S[o + FF + t] = 0.0


@kernel(fastmath=FASTMATH)
def angle_rows(S, A, n, lam, zeta):
    """Rows A = base^zeta and base^(zeta-1), base = max(0, 1 + lam cos); 0^0 = 0.

    The derivative by cos is zeta lam base^(zeta-1).
    """
    D = A + LINE
    p = np.int64(zeta) - 1
    if zeta == 1.0:
        for t in range(n):
            base = 1.0 + lam * S[COS + t]
            S[A + t] = 0.0 if base < 0.0 else base
            S[D + t] = 0.0 if base < 0.0 else 1.0
        return
    if zeta == 4.0:
        for t in range(n):
            base = 1.0 + lam * S[COS + t]
            base = 0.0 if base < 0.0 else base
            cube = base * base * base
            S[A + t] = base * cube
            S[D + t] = cube
        return
    if zeta == p + 1 and p <= 15:
        one, two, four, eight = (p & 1) != 0, (p & 2) != 0, (p & 4) != 0, (p & 8) != 0
        for t in range(n):
            base = 1.0 + lam * S[COS + t]
            base = 0.0 if base < 0.0 else base
            y = base
            z = 1.0 if base > 0.0 else 0.0
            z *= y if one else 1.0
            y *= y
            z *= y if two else 1.0
            y *= y
            z *= y if four else 1.0
            z *= y * y if eight else 1.0
            S[A + t] = base * z
            S[D + t] = z
        return
    for t in range(n):
        base = 1.0 + lam * S[COS + t]
        S[BASE + t] = 0.0 if base < 0.0 else base
    if zeta == p + 1:
        row_power(S, D, BASE, n, p)
    else:
        row_real_power(S, D, BASE, n, zeta - 1.0)
    row_product(S, A, BASE, D, n)


@kernel(fastmath=FASTMATH)
def shifted_exp(S, out, n, eta, r_s, count):
    """out = exp(-eta (sum - 2 r_s rsum + count r_s^2))"""
    two, constant = 2.0 * r_s, count * r_s * r_s
    for t in range(n):
        S[out + t] = exp(-eta * (S[SUM + t] - two * S[RSUM + t] + constant))


@kernel(forceinline=True)
def class_exp(S, n, c, first, narrow, plan):
    """Offset of row E of class c of the group whose classes begin with `first`;
    computes it (after the class it is a power of).
    """
    eta, r_s = plan.member_at[c, 0], plan.member_at[c, 1]
    row = class_row(c - first)
    if plan.member[c, 0] >= 0:
        row_power(S, row, class_row(plan.member[c, 0] - first), n, plan.member[c, 1])
    elif r_s == 0.0:
        row_exp(S, row, SUM, n, -eta)
    else:
        shifted_exp(S, row, n, eta, r_s, 3.0 if narrow else 2.0)
    return row


@kernel(forceinline=True)
def pair_parts(list, plan, g):
    """first, last of the outer and of the inner neighbours of group g, and whether they are the same."""
    return parts_of(list, plan.pair[g, 0], plan.pair[g, 1], plan)


@kernel(forceinline=True)
def parts_of(list, e1, e2, plan):
    """The same for neighbours of the elements e1 and e2 (-1: any); the longer part is the inner one."""
    if e1 < 0:
        e1 = e2 = plan.z.shape[0]
    part = list.part
    if part[e2, 1] - part[e2, 0] < part[e1, 1] - part[e1, 0]:
        e1, e2 = e2, e1
    return part[e1, 0], part[e1, 1], part[e2, 0], part[e2, 1], e1 == e2


@kernel(forceinline=True)
def run_range(g, narrow, plan):
    """The runs of group g that are narrow (1) or wide (0)."""
    first, last = plan.pair[g, 2], plan.pair[g + 1, 2]
    while first < last and plan.run[first, 0] != narrow:
        first += 1
    while first < last and plan.run[last - 1, 0] != narrow:
        last -= 1
    return first, last


@kernel(forceinline=True)
def prepare(n_segment, used, g, narrow, list, plan, block):
    """Geometry and angles of a block."""
    S, L, segment = block.rows, list.rows, block.segment
    for s in range(n_segment):
        n = np.uintp((segment[s, 1] + 7) // 8 * 8)
        o, j, k = np.uintp(segment[s, 0]), place(segment[s, 2], plan), place(segment[s, 3], plan)
        geometry(S, o, n, L, j, k, narrow)
        if plan.pair[g, 4]:
            sum_of_distances(S, o, n, L, j, k, narrow)
    for a in range(plan.pair[g, 3], plan.pair[g + 1, 3]):
        angle_rows(S, angle_row(a - plan.pair[g, 3], plan), used, plan.angle[a, 0], plan.angle[a, 1])


@kernel(forceinline=True)
def prepare_run(n_segment, used, run, narrow, list, plan, block):
    """Rows FF, and FJK, DJK, F of a run."""
    S, L, segment = block.rows, list.rows, block.segment
    q = plan.run[run, 1]
    fc = FC + np.uintp(2 * q) * STRIDE
    for s in range(n_segment):
        n, padded = np.uintp(segment[s, 1]), np.uintp((segment[s, 1] + 7) // 8 * 8)
        fj = L[place(segment[s, 2], plan) + fc]
        pair_cutoffs(S, np.uintp(segment[s, 0]), n, padded, fj, L, place(segment[s, 3], plan) + fc)
    if narrow:
        row_cutoff(
            S, FJK, DJK, RJK, RJKI, used, plan.cutoff[q, 0], plan.cutoff_at[q, 0], plan.cutoff_at[q, 1]
        )
        row_product(S, F, FF, FJK, used)
    else:
        row_fill(S, FJK, used, 1.0)
        row_product(S, F, FF, FJK, used)


@kernel
def angular_functions(e, list, plan, block, G):
    """Add the angular functions of a centre of element e to G (n_max,)."""
    S = block.rows
    for g in range(plan.group[e], plan.group[e + 1]):
        j_first, j_last, k_first, k_last, same = pair_parts(list, plan, g)
        first_class = plan.run[plan.pair[g, 2], 2]
        for narrow in range(2):
            first_run, last_run = run_range(g, narrow, plan)
            j, k = (j_first if first_run < last_run else j_last), k_first
            while True:
                n_segment, n, j, k = fill_block(j_last, k_first, k_last, same, j, k, block)
                if n_segment == 0:
                    break
                used = np.uintp(n)
                prepare(n_segment, used, g, narrow, list, plan, block)
                for run in range(first_run, last_run):
                    prepare_run(n_segment, used, run, narrow, list, plan, block)
                    for c in range(plan.run[run, 2], plan.run[run + 1, 2]):
                        E = class_exp(S, used, c, first_class, narrow, plan)
                        f, last = plan.member[c, 2], plan.member[c + 1, 2]
                        while f < last:  # two functions at a time
                            A1, m1 = angle_row(plan.function[f, 1], plan), plan.function[f, 0] - plan.start[e]
                            if f + 1 == last:
                                G[m1] += plan.scale[f] * dot_3(S, A1, E, F, used)
                            else:
                                A2, m2 = (
                                    angle_row(plan.function[f + 1, 1], plan),
                                    plan.function[f + 1, 0] - plan.start[e],
                                )
                                g1, g2 = dots_3(S, A1, A2, E, F, used)
                                G[m1] += plan.scale[f] * g1
                                G[m2] += plan.scale[f + 1] * g2
                            f += 2


@kernel(fastmath=FASTMATH)
def dot_3(S, x, y, z, n):
    """sum x y z"""
    total = 0.0
    for t in range(n):
        total += S[x + t] * S[y + t] * S[z + t]
    return total


@kernel(fastmath=FASTMATH)
def dots_3(S, x1, x2, y, z, n):
    """sum x1 y z, sum x2 y z"""
    total1 = total2 = 0.0
    for t in range(n):
        yz = S[y + t] * S[z + t]
        total1 += S[x1 + t] * yz
        total2 += S[x2 + t] * yz
    return total1, total2


@kernel
def radial_functions(e, list, plan, G):
    """Add the radial functions of a centre of element e to G (n_max,)."""
    for f in range(plan.radial[e], plan.radial[e + 1]):
        m, e1, q = plan.radial_function[f, 0], plan.radial_function[f, 1], plan.radial_function[f, 2]
        first, last = list.part[e1, 0], list.part[e1, 2]  # -1: the last line, all elements
        while first < last:
            n = min(last - first, np.int64(WIDTH) - first % np.int64(WIDTH))
            o = place(first, plan)
            fc = o + FC + np.uintp(2 * q) * STRIDE
            G[m - plan.start[e]] += radial_sum(
                list.rows, o, np.uintp(n), fc, plan.radial_at[f, 0], plan.radial_at[f, 1]
            )
            first += n


@kernel(fastmath=FASTMATH)
def radial_sum(L, o, n, fc, eta, r_s):
    total = 0.0
    for t in range(n):
        r = L[o + R + t] - r_s
        total += exp(-eta * r * r) * L[fc + t]
    return total


@kernel
def radial_gradient(e, list, plan, dE_dG):
    """Add to OWN what the radial functions of a centre of element e contribute; dE_dG (n_max,)."""
    for f in range(plan.radial[e], plan.radial[e + 1]):
        m, e1, q = plan.radial_function[f, 0], plan.radial_function[f, 1], plan.radial_function[f, 2]
        first, last = list.part[e1, 0], list.part[e1, 2]
        while first < last:
            n = min(last - first, np.int64(WIDTH) - first % np.int64(WIDTH))
            o = place(first, plan)
            fc = o + FC + np.uintp(2 * q) * STRIDE
            radial_slope(
                list.rows,
                o,
                np.uintp(n),
                fc,
                plan.radial_at[f, 0],
                plan.radial_at[f, 1],
                dE_dG[m - plan.start[e]],
            )
            first += n


@kernel(fastmath=FASTMATH)
def radial_slope(L, o, n, fc, eta, r_s, factor):
    """OWN += factor dG/dr / r"""
    for t in range(n):
        r = L[o + R + t] - r_s
        L[o + OWN + t] += (
            factor * exp(-eta * r * r) * (L[fc + STRIDE + t] - 2.0 * eta * r * L[o + RI + t] * L[fc + t])
        )


@kernel
def angular_gradient(e, list, plan, block, dE_dG):
    """Add to OWN and K what the angular functions of a centre of element e contribute; dE_dG (n_max,)."""
    S, L = block.rows, list.rows
    for g in range(plan.group[e], plan.group[e + 1]):
        j_first, j_last, k_first, k_last, same = pair_parts(list, plan, g)
        first_class = plan.run[plan.pair[g, 2], 2]
        for narrow in range(2):
            first_run, last_run = run_range(g, narrow, plan)
            j, k = (j_first if first_run < last_run else j_last), k_first
            while True:
                n_segment, n, j, k = fill_block(j_last, k_first, k_last, same, j, k, block)
                if n_segment == 0:
                    break
                used = np.uintp(n)
                prepare(n_segment, used, g, narrow, list, plan, block)
                for run in range(first_run, last_run):
                    prepare_run(n_segment, used, run, narrow, list, plan, block)
                    clear(S, used)
                    for c in range(plan.run[run, 2], plan.run[run + 1, 2]):
                        E = class_exp(S, used, c, first_class, narrow, plan)
                        add_class(S, used, c, E, g, e, dE_dG, plan)
                    finish(S, used, narrow, plan.pair[g, 4] != 0)
                    fc = FC + np.uintp(2 * plan.run[run, 1]) * STRIDE
                    scatter_block(n_segment, block, L, plan, fc)


@kernel(forceinline=True)
def add_class(S, n, c, E, g, e, dE_dG, plan):
    """Add the functions of class c of group g, with exponential E, to TC, P, VF and TR."""
    eta, r_s = plan.member_at[c, 0], plan.member_at[c, 1]
    f, last = plan.member[c, 2], plan.member[c + 1, 2]
    while f < last:  # two functions at a time
        A1, factor1, slope1 = coefficients(f, g, e, dE_dG, plan)
        A2, factor2, slope2 = coefficients(min(f + 1, last - 1), g, e, dE_dG, plan)
        if f + 1 == last:
            add_function(S, n, E, A1, factor1, slope1, eta)
        else:
            add_functions(S, n, E, A1, factor1, slope1, A2, factor2, slope2, eta)
        if r_s != 0.0:
            add_shift(S, n, E, A1, factor1, 2.0 * eta * r_s)
            if f + 1 < last:
                add_shift(S, n, E, A2, factor2, 2.0 * eta * r_s)
        f += 2


@kernel(forceinline=True)
def coefficients(f, g, e, dE_dG, plan):
    """Row of the angle of function f of group g, and what its value and its derivative by cos
    are multiplied with.
    """
    angle = plan.function[f, 1]
    factor = plan.scale[f] * dE_dG[plan.function[f, 0] - plan.start[e]]
    a = plan.pair[g, 3] + angle
    return angle_row(angle, plan), factor, factor * plan.angle[a, 0] * plan.angle[a, 1]


@kernel(fastmath=FASTMATH)
def clear(S, n):
    for t in range(n):
        S[TC + t] = 0.0
        S[P + t] = 0.0
        S[VF + t] = 0.0
        S[TR + t] = 0.0


@kernel(fastmath=FASTMATH)
def add_function(S, n, E, A, factor, slope, eta):
    """TC += d/dcos, P += 2 d/dsum, VF += term, all without F, of a function
    with exponential E and angle row A.
    """
    D, two_eta = A + LINE, 2.0 * eta
    for t in range(n):
        e = S[E + t]
        term = e * (factor * S[A + t])
        S[TC + t] += e * (slope * S[D + t])
        S[P + t] -= two_eta * term
        S[VF + t] += term


@kernel(fastmath=FASTMATH)
def add_functions(S, n, E, A1, factor1, slope1, A2, factor2, slope2, eta):
    """As add_function, for two functions of one class."""
    D1, D2, two_eta = A1 + LINE, A2 + LINE, 2.0 * eta
    for t in range(n):
        e = S[E + t]
        term = e * (factor1 * S[A1 + t] + factor2 * S[A2 + t])
        S[TC + t] += e * (slope1 * S[D1 + t] + slope2 * S[D2 + t])
        S[P + t] -= two_eta * term
        S[VF + t] += term


@kernel(fastmath=FASTMATH)
def add_shift(S, n, E, A, factor, two_eta_r_s):
    """TR += d/drsum without F."""
    for t in range(n):
        S[TR + t] += two_eta_r_s * factor * S[E + t] * S[A + t]


@kernel(fastmath=FASTMATH)
def finish(S, n, narrow, shifted):
    """The missing F; H = d/dr_jk / r_jk; VF = term / (fc(r_ij) fc(r_ik))."""
    if shifted:
        for t in range(n):
            S[TR + t] *= S[F + t]
    if narrow:
        for t in range(n):
            f, v = S[F + t], S[VF + t]
            p = S[P + t] * f
            S[TC + t] *= f
            S[P + t] = p
            S[H + t] = p + v * S[FF + t] * S[DJK + t] + S[TR + t] * S[RJKI + t]
            S[VF + t] = v * S[FJK + t]
    else:
        for t in range(n):
            S[TC + t] *= S[F + t]
            S[P + t] *= S[F + t]
            S[H + t] = 0.0


@kernel(forceinline=True)
def scatter_block(n_segment, block, L, plan, fc):
    """Add the gradients of all segments of a block on to OWN and K of the entries of a list's rows L."""
    segment = block.segment
    for s in range(n_segment):
        o, n = np.uintp(segment[s, 0]), np.uintp(segment[s, 1])
        scatter(block.rows, o, n, L, place(segment[s, 2], plan), place(segment[s, 3], plan), fc)


@kernel(fastmath=FASTMATH)
def scatter(S, o, n, L, j, k, fc):
    """Add the gradients of the segment of n columns from o on to OWN and K
    of the entries j and k, k+1, ...
    """
    padded = (n + np.uintp(7)) // EIGHT * EIGHT
    for t in range(n, padded):
        S[o + VF + t] = 0.0
    xj, yj, zj, ij = L[j + X], L[j + Y], L[j + Z], L[j + RI]
    fj, dj = L[j + fc], L[j + fc + STRIDE]
    ij2 = ij * ij
    a = gx = gy = gz = 0.0
    for t in range(padded):
        ik = L[k + RI + t]
        tc, tr, h, vf = S[o + TC + t], S[o + TR + t], S[o + H + t], S[o + VF + t]
        turn = tc * S[o + COS + t]
        both = S[o + P + t] + h
        g = tc * ij * ik - h
        a += both - turn * ij2 + vf * dj * L[k + fc + t] + tr * ij
        gx += g * L[k + X + t]
        gy += g * L[k + Y + t]
        gz += g * L[k + Z + t]
        L[k + OWN + t] += both - turn * ik * ik + vf * fj * L[k + fc + STRIDE + t] + tr * ik
        L[k + KX + t] += g * xj
        L[k + KY + t] += g * yj
        L[k + KZ + t] += g * zj
    L[j + OWN] += a
    L[j + KX] += gx
    L[j + KY] += gy
    L[j + KZ] += gz
