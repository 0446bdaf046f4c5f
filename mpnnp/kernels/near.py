"""What functions, gradients and committees need of a block of triplets: its geometry, angles and cutoffs; for
narrow functions only of the triplets with r_jk inside the cutoff.

These are half of all: 15/32 where neighbours are spread evenly in a sphere. Distances and cosines are
computed for all columns of a block (rows ALL_...). Those inside are picked into the first columns of the rows
that all the rest works on. What the gradient needs is put back, where the neighbours k are consecutive.
"""

import numpy as np

from mpnnp.kernels.elementwise import inverse_sqrt
from mpnnp.kernels.jit import FASTMATH, kernel
from mpnnp.kernels.neighbours import FC, R2, RI, STRIDE, X, Y, Z, place
from mpnnp.kernels.triplets import (
    ALL_COS,
    ALL_D,
    ALL_FF,
    ALL_H,
    ALL_P,
    ALL_RSUM,
    ALL_SUM,
    ALL_TC,
    ALL_TR,
    ALL_VF,
    COS,
    FF,
    RJK,
    RJKI,
    RSUM,
    SUM,
    TC,
    TINY,
    TR,
    VF,
    H,
    P,
    all_angles,
    geometry,
    multiply_cutoffs,
    padded,
    pair_cutoffs,
    sum_of_distances,
    third_cutoffs,
)

FAR = 1e30  # Angstrom^2; of columns of padding


@kernel(forceinline=True)
def prepare(n_segment, n, g, narrow, list, plan, block):
    """Geometry and angles of a block with n columns; the number of columns to work on."""
    S, L, segment = block.rows, list.rows, block.segment
    shifted = plan.pair[g, 4] != 0
    used = np.uintp(n)
    if narrow:
        used = prepare_near(n_segment, g, shifted, list, plan, block)
    else:
        for s in range(n_segment):
            o, n_here = np.uintp(segment[s, 0]), padded(segment[s, 1])
            j, k = place(segment[s, 2], plan), place(segment[s, 3], plan)
            geometry(S, o, n_here, L, j, k, narrow)
            if shifted:
                sum_of_distances(S, o + RSUM, n_here, L, j, k)
    all_angles(g, used, plan, S)
    return used


@kernel(forceinline=True)
def columns_of(n, narrow, block):
    """The number of columns to work on of a block that was prepared before."""
    return padded(block.n_near[0]) if narrow else np.uintp(n)


@kernel(forceinline=True)
def prepare_run(n_segment, used, run, narrow, list, plan, block):
    """Rows FF, FJK, F and DJK of a run."""
    S, L, segment = block.rows, list.rows, block.segment
    fc, out = FC + np.uintp(2 * plan.run[run, 1]) * STRIDE, ALL_FF if narrow else FF
    for s in range(n_segment):
        o, n = np.uintp(segment[s, 0]), np.uintp(segment[s, 1])
        fj = L[place(segment[s, 2], plan) + fc]
        pair_cutoffs(S, o + out, n, padded(n), fj, L, place(segment[s, 3], plan) + fc)
    if narrow:
        pick(S, ALL_FF, FF, block.column, np.uintp(block.n_near[0]))
    third_cutoffs(run, narrow, used, plan, S)
    n_with_padding = 0 if narrow else n_segment  # what pads the triplets inside is not put back
    multiply_cutoffs(S, n_with_padding, used, segment)


@kernel(forceinline=True)
def prepare_near(n_segment, g, shifted, list, plan, block):
    """COS, SUM, RJK, RJKI and, if shifted, RSUM of the triplets inside; how many columns they fill."""
    S, L, segment, column = block.rows, list.rows, block.segment, block.column
    limit, near = reach2(g, plan), np.uintp(0)
    for s in range(n_segment):
        o, n = np.uintp(segment[s, 0]), np.uintp(segment[s, 1])
        j, k = place(segment[s, 2], plan), place(segment[s, 3], plan)
        geometry_of_all(S, o, n, padded(n), L, j, k)
        if shifted:
            sum_of_distances(S, o + ALL_RSUM, padded(n), L, j, k)
        near = find_near(S, o, n, limit, near, column)
    pick_geometry(S, column, near)
    if shifted:
        pick(S, ALL_RSUM, RSUM, column, near)
    finish_geometry(S, padded(near), shifted)
    block.n_near[0] = np.int64(near)
    return padded(near)


@kernel(forceinline=True)
def reach2(g, plan):
    """Square of the largest cutoff of the narrow functions of group g, Angstrom^2."""
    found = 0.0
    for run in range(plan.pair[g, 2], plan.pair[g + 1, 2]):
        if plan.run[run, 0] == 1:
            found = max(found, plan.cutoff_at[plan.run[run, 1], 1] ** 2)
    return found


@kernel(fastmath=FASTMATH, apart=True)
def geometry_of_all(S, o, n, n_padded, L, j, k):
    """As geometry(): ALL_COS, ALL_SUM and ALL_D = r_jk^2 of a segment."""
    xj, yj, zj, aj, ij = L[j + X], L[j + Y], L[j + Z], L[j + R2], L[j + RI]
    for t in range(n_padded):
        x, y, z = L[k + X + t], L[k + Y + t], L[k + Z + t]
        u, v, w = x - xj, y - yj, z - zj
        d = u * u + v * v + w * w
        d = TINY if d < TINY else d
        S[o + ALL_COS + t] = (xj * x + yj * y + zj * z) * ij * L[k + RI + t]
        S[o + ALL_SUM + t] = aj + L[k + R2 + t] + d
        S[o + ALL_D + t] = d
    for t in range(n, n_padded):
        S[o + ALL_D + t] = FAR


@kernel(apart=True)
def find_near(S, o, n, limit, near, column):
    """Append the columns of a segment with r_jk^2 < limit to the first `near` ones; their new number."""
    for t in range(o, o + n):
        column[near] = t
        near += np.uintp(S[ALL_D + t] < limit)
    return near


@kernel(apart=True)
def pick_geometry(S, column, n):
    """COS, SUM, and r_jk^2 in RJK of the n triplets inside, and harmless ones up to a whole vector."""
    for m in range(n):
        c = np.uintp(column[m])
        S[COS + m] = S[ALL_COS + c]
        S[SUM + m] = S[ALL_SUM + c]
        S[RJK + m] = S[ALL_D + c]
    for m in range(n, padded(n)):
        S[COS + m] = 0.0
        S[SUM + m] = 0.0
        S[RJK + m] = 1.0


@kernel(apart=True)
def pick(S, source, target, column, n):
    """Row target = row source of the n triplets inside, and 0 up to a whole vector."""
    for m in range(n):
        S[target + m] = S[source + np.uintp(column[m])]
    for m in range(n, padded(n)):
        S[target + m] = 0.0


@kernel(fastmath=FASTMATH)
def finish_geometry(S, n, shifted):
    """RJK = r_jk and RJKI = 1/r_jk, of RJK = r_jk^2; RSUM with r_jk."""
    for t in range(n):
        d = S[RJK + t]
        ri = inverse_sqrt(d)
        S[RJK + t] = d * ri
        S[RJKI + t] = ri
    if shifted:
        for t in range(n):
            S[RSUM + t] += S[RJK + t]


@kernel(apart=True)
def put_back(S, column, n, shifted):
    """The sums for the gradient of the n triplets inside, to where they come from; the rest stays."""
    for m in range(n):
        c = np.uintp(column[m])
        S[ALL_TC + c] = S[TC + m]
        S[ALL_P + c] = S[P + m]
        S[ALL_H + c] = S[H + m]
        S[ALL_VF + c] = S[VF + m]
    if shifted:
        for m in range(n):
            S[ALL_TR + np.uintp(column[m])] = S[TR + m]
