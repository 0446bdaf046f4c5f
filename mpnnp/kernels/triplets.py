"""Triplets (centre; j, k) in blocks of rows: the layout, geometry, angles, exponentials and cutoffs that the
kernels of functions, gradients and changes share.

Triplets of a group are laid out in blocks of at most COLUMNS columns, segment by segment (one j, consecutive
k), and worked on row by row.
"""

from typing import NamedTuple

import numpy as np

from mpnnp.kernels.elementwise import (
    aligned_rows,
    exp,
    inverse_sqrt,
    row_cutoff,
    row_exp,
    row_fill,
    row_power,
    row_product,
    row_real_power,
)
from mpnnp.kernels.jit import FASTMATH, kernel
from mpnnp.kernels.neighbours import R2, RI, WIDTH, R, X, Y, Z

COLUMNS = np.uintp(2048)  # of a block, at least WIDTH: short rows cost calls, long ones the nearest cache
# From row to row: an odd number of cache lines, and far from a multiple of 4096 bytes, as a CPU makes a load
# wait for a store that has the same last 12 bits in its address.
LINE = COLUMNS + np.uintp(8 * 37)
COS, SUM, RSUM, RJK, RJKI, FF, F, FJK, DJK, BASE, TC, P, H, VF, TR = (np.uintp(k) * LINE for k in range(15))
SHIFTED, FCOS, FSUM = (np.uintp(k) * LINE for k in range(15, 18))  # of tangents.py
VALUE, SLOPE = (np.uintp(k) * LINE for k in range(18, 20))  # of compact.py
ALL_COS, ALL_SUM, ALL_RSUM, ALL_D, ALL_FF, ALL_H, ALL_TR, N_ROW = (
    np.uintp(k) * LINE for k in range(20, 28)
)  # of near.py
ALL_TC, ALL_P, ALL_VF = ALL_SUM, ALL_RSUM, ALL_FF  # which are not read any more when these are written
EIGHT = np.uintp(8)
KEPT = np.uintp(2**20)  # numbers, 8 MB: pages beyond are slower to read than to compute
TINY = 1e-12  # Angstrom^2; for columns that are masked


class Block(NamedTuple):
    """Scratch of blocks of triplets, a page for each: rows; then a row for each class, a row for each angle,
    and one for its derivative.
    """

    rows: np.ndarray  # (n_page, rows of a page) of numbers, flat
    segment: np.ndarray  # (n_page COLUMNS / 8, 4) int64: first column, number of columns, j, first k
    column: np.ndarray  # (n_page COLUMNS,) int64 of near.py: where the triplets inside come from
    n_near: np.ndarray  # (n_page,) int64 how many are inside
    stop: np.ndarray  # (1,) of the plan
    n_page: int


@kernel(makes_arrays=True)
def make_block(plan, keep):
    """One page, or as many as may be worth keeping between the functions of a centre and their gradient."""
    size = N_ROW + np.uintp(plan.most[0] + 2 * plan.most[1] + 1) * LINE
    n_page = np.int64(1)
    if keep:
        n_page += np.int64(KEPT // size)
    n_segment = np.int64(COLUMNS) // 8
    return Block(
        aligned_rows(n_page * np.int64(size)),
        np.empty((n_page * n_segment, 4), np.int64),
        np.empty(n_page * np.int64(COLUMNS), np.int64),
        np.zeros(n_page, np.int64),
        plan.stop,
        n_page,
    )


@kernel(forceinline=True)
def padded(n):
    """n columns and what fills the last vector up."""
    return (np.uintp(n) + EIGHT - np.uintp(1)) // EIGHT * EIGHT


@kernel(inline="always")
def page(block, p):
    """Page p of a block, as a block of one page; the last one if there are not so many."""
    p = min(p, block.n_page - 1)
    size, n_segment = block.rows.shape[0] // block.n_page, np.int64(COLUMNS) // 8
    return Block(
        block.rows[p * size : (p + 1) * size],
        block.segment[p * n_segment : (p + 1) * n_segment],
        block.column[p * np.int64(COLUMNS) : (p + 1) * np.int64(COLUMNS)],
        block.n_near[p : p + 1],
        block.stop,
        np.int64(1),
    )


@kernel(forceinline=True)
def class_row(c):
    return N_ROW + np.uintp(c) * LINE


@kernel(forceinline=True)
def couple_rows(q, g, plan):
    """Row E of the class of couple q of group g, and its functions (the second -1: none)."""
    first = plan.run[plan.pair[g, 2], 2]
    return class_row(plan.couple[q, 0] - first), plan.couple[q, 1], plan.couple[q, 2]


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


@kernel(fastmath=FASTMATH, apart=True)
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
            ri = inverse_sqrt(d)
            S[o + COS + t] = (xj * x + yj * y + zj * z) * ij * L[k + RI + t]
            S[o + SUM + t] = aj + L[k + R2 + t] + d
            S[o + RJK + t] = d * ri
            S[o + RJKI + t] = ri
    else:
        for t in range(n):
            S[o + COS + t] = (xj * L[k + X + t] + yj * L[k + Y + t] + zj * L[k + Z + t]) * ij * L[k + RI + t]
            S[o + SUM + t] = aj + L[k + R2 + t]


@kernel(fastmath=FASTMATH, apart=True)
def sum_of_distances(S, o, n, L, j, k):
    """r_ij + r_ik from o on: columns of a segment in row RSUM."""
    rj = L[j + R]
    for t in range(n):
        S[o + t] = rj + L[k + R + t]


@kernel(fastmath=FASTMATH, apart=True)
def pair_cutoffs(S, o, n, n_padded, fj, L, k):
    """fc(r_ij) fc(r_ik) from o on: columns of a segment in row FF; 0 in those of padding."""
    for t in range(n_padded):
        S[o + t] = fj * L[k + t]
    for t in range(n, n_padded):
        S[o + t] = 0.0


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
    """Row E of class c of the group whose classes begin with `first` (after the class it is a power of)."""
    eta, r_s = plan.member_at[c, 0], plan.member_at[c, 1]
    row = class_row(c - first)
    if plan.member[c, 0] >= 0:
        row_power(S, row, class_row(plan.member[c, 0] - first), n, plan.member[c, 1])
    elif r_s == 0.0:
        row_exp(S, row, SUM, n, -eta)
    else:
        shifted_exp(S, row, n, eta, r_s, 3.0 if narrow else 2.0)


@kernel(forceinline=True)
def run_exps(S, n, run, g, narrow, plan):
    """Rows E of the classes of a run of group g."""
    for c in range(plan.run[run, 2], plan.run[run + 1, 2]):
        class_exp(S, n, c, plan.run[plan.pair[g, 2], 2], narrow, plan)


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
def all_angles(g, used, plan, S):
    for a in range(plan.pair[g, 3], plan.pair[g + 1, 3]):
        angle_rows(S, angle_row(a - plan.pair[g, 3], plan), used, plan.angle[a, 0], plan.angle[a, 1])


@kernel(forceinline=True)
def third_cutoffs(run, narrow, used, plan, S):
    """Rows FJK, DJK of a run."""
    q = plan.run[run, 1]
    if narrow:
        row_cutoff(
            S, FJK, DJK, RJK, RJKI, used, plan.cutoff[q, 0], plan.cutoff_at[q, 0], plan.cutoff_at[q, 1]
        )
    else:
        row_fill(S, FJK, used, 1.0)
        row_fill(S, DJK, used, 0.0)


@kernel(fastmath=FASTMATH)
def multiply_cutoffs(S, n_segment, n, segment):
    """F = FF FJK; DJK times FF; FJK = 0 in the columns of padding, which removes these from everything."""
    for t in range(n):
        f = S[FF + t]
        S[F + t] = f * S[FJK + t]
        S[DJK + t] *= f
    for s in range(n_segment):
        o, n_here = segment[s, 0], segment[s, 1]
        for t in range(n_here, (n_here + 7) // 8 * 8):
            S[FJK + np.uintp(o + t)] = 0.0
