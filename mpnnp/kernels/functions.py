"""Symmetry functions of one centre, and their gradient:
the fast kernels behind energy_forces.py and pairs.py.

With x = r_ij, y = r_ik, a term of a triplet (triplets.py) is A(cos) E(sum, rsum) F, where
    sum  = r_ij^2 + r_ik^2 + r_jk^2,  rsum = r_ij + r_ik + r_jk    (without r_jk: wide functions)
    E = exp(-eta (sum - 2 r_s rsum + 3 r_s^2)),  F = fc(r_ij) fc(r_ik) fc(r_jk).
Its gradient by x is a x + g y and by y it is b y + g x; a and b are summed into OWN, g y and g x into K, so
that finally grad_n = OWN r_n + K.
"""

import numpy as np

from mpnnp.kernels.elementwise import exp, row_fill
from mpnnp.kernels.jit import FASTMATH, kernel
from mpnnp.kernels.near import columns_of, prepare, prepare_run, put_back, reach2
from mpnnp.kernels.neighbours import (
    FC,
    KX,
    KY,
    KZ,
    OWN,
    RI,
    STRIDE,
    WIDTH,
    R,
    X,
    Y,
    Z,
    exchange,
    place,
)
from mpnnp.kernels.triplets import (
    ALL_COS,
    ALL_D,
    ALL_H,
    ALL_P,
    ALL_TC,
    ALL_TR,
    ALL_VF,
    COS,
    DJK,
    FJK,
    LINE,
    RJKI,
    TC,
    TR,
    VF,
    F,
    H,
    P,
    angle_row,
    couple_rows,
    fill_block,
    padded,
    page,
    pair_parts,
    run_exps,
    run_range,
)


@kernel
def angular_functions(e, list, plan, block, G):
    """Add the angular functions of a centre of element e to G (n_max,).

    Returns the number of blocks whose rows stay in the pages of `block`, for angular_gradient.
    """
    b = 0
    for g in range(plan.group[e], plan.group[e + 1]):
        j_first, j_last, k_first, k_last, same = pair_parts(list, plan, g)
        for narrow in range(2):
            first_run, last_run = run_range(g, narrow, plan)
            j, k = (j_first if first_run < last_run else j_last), k_first
            while True:
                here = page(block, b)
                n_segment, n, j, k = fill_block(j_last, k_first, k_last, same, j, k, here)
                if n_segment == 0:
                    break
                used = prepare(n_segment, n, g, narrow, list, plan, here)
                for run in range(first_run, last_run):
                    prepare_run(n_segment, used, run, narrow, list, plan, here)
                    run_exps(here.rows, used, run, g, narrow, plan)
                    sum_run(here.rows, used, run, g, e, plan, G)
                b += 1
    return min(b, block.n_page - 1)


@kernel(forceinline=True)
def sum_run(S, n, run, g, e, plan, G):
    """Add the functions of a run of group g to G."""
    for q in range(plan.run[run, 3], plan.run[run + 1, 3]):
        E, f1, f2 = couple_rows(q, g, plan)
        A1, m1 = angle_row(plan.function[f1, 1], plan), plan.function[f1, 0] - plan.start[e]
        if f2 < 0:
            G[m1] += plan.scale[f1] * dot_3(S, A1, E, F, n)
        else:
            A2, m2 = angle_row(plan.function[f2, 1], plan), plan.function[f2, 0] - plan.start[e]
            g1, g2 = dots_3(S, A1, A2, E, F, n)
            G[m1] += plan.scale[f1] * g1
            G[m2] += plan.scale[f2] * g2


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
def radial_gradient(e, list, plan, dE_dG, members):
    """Add to OWN what the radial functions of a centre of element e contribute; the slope of a function is
    computed once for all potentials.

    dE_dG, members  as of angular_gradient
    """
    L = list.rows
    for f in range(plan.radial[e], plan.radial[e + 1]):
        m, e1, q = plan.radial_function[f, 0], plan.radial_function[f, 1], plan.radial_function[f, 2]
        eta, r_s, factor = plan.radial_at[f, 0], plan.radial_at[f, 1], dE_dG[:, m - plan.start[e]]
        first, last = list.part[e1, 0], list.part[e1, 2]
        while first < last:
            n = min(last - first, np.int64(WIDTH) - first % np.int64(WIDTH))
            o, n_here = place(first, plan), np.uintp(n)
            fc = o + FC + np.uintp(2 * q) * STRIDE
            if len(factor) == 1:
                radial_slope(L, L, o, n_here, fc, eta, r_s, factor[0])
            else:
                radial_slope(L, L, o, n_here, fc, eta, r_s, 1.0)
                slope = L[o + OWN : o + OWN + n_here]
                for s in range(len(factor)):
                    add_times(factor[s], slope, members[s, 0, first:])
                slope[:] = 0.0
            first += n


@kernel(fastmath=FASTMATH, apart=True)
def radial_slope(L, C, o, n, fc, eta, r_s, factor):
    """OWN += factor dG/dr / r; C is L once more, for the rows fc of the cutoff"""
    for t in range(n):
        r = L[o + R + t] - r_s
        L[o + OWN + t] += (
            factor * exp(-eta * r * r) * (C[fc + STRIDE + t] - 2.0 * eta * r * L[o + RI + t] * C[fc + t])
        )


@kernel(fastmath=FASTMATH)
def add_times(factor, x, out):
    for t in range(np.uintp(x.shape[0])):
        out[t] += factor * x[t]


@kernel
def angular_gradient(e, list, plan, block, n_kept, dE_dG, members):
    """Add to OWN and K what the angular functions of a centre of element e contribute.

    n_kept  blocks whose rows angular_functions has left in the pages of `block`
    dE_dG   (n, n_max) of n potentials, which share geometry, angles and exponentials
    members (n, 4, ...) OWN and K of each; those of the list itself if n = 1
    """
    L, b = list.rows, 0
    for g in range(plan.group[e], plan.group[e + 1]):
        j_first, j_last, k_first, k_last, same = pair_parts(list, plan, g)
        for narrow in range(2):
            first_run, last_run = run_range(g, narrow, plan)
            j, k = (j_first if first_run < last_run else j_last), k_first
            while True:
                kept, here = b < n_kept, page(block, b)
                n_segment, n, j, k = fill_block(j_last, k_first, k_last, same, j, k, here)
                if n_segment == 0:
                    break
                S = here.rows
                if kept:
                    used = columns_of(n, narrow, here)
                else:
                    used = prepare(n_segment, n, g, narrow, list, plan, here)
                for run in range(first_run, last_run):
                    if not kept or last_run - first_run > 1:
                        prepare_run(n_segment, used, run, narrow, list, plan, here)
                    if not kept:
                        run_exps(S, used, run, g, narrow, plan)
                    fc = FC + np.uintp(2 * plan.run[run, 1]) * STRIDE
                    for s in range(dE_dG.shape[0]):
                        add_run(S, used, run, g, e, dE_dG[s], plan)
                        exchange(list, plan, members, s)
                        scatter_block(n_segment, used, here, L, plan, fc, g, narrow)
                        exchange(list, plan, members, s)
                b += 1


@kernel(forceinline=True)
def add_run(S, n, run, g, e, dE_dG, plan):
    """Rows of the functions of a run of group g, all without F: TC = sum of d/dcos, P of 2 d/dsum, VF of the
    terms and, if the group is shifted, TR of d/drsum.
    """
    first, last = plan.run[run, 3], plan.run[run + 1, 3]
    for q in range(first, last, 2):
        E1, two_eta1, A1, a1, d1, A2, a2, d2 = couple_terms(q, g, e, dE_dG, plan)
        if q + 1 == last:
            add_couple(S, n, q == first, E1, two_eta1, A1, a1, d1, A2, a2, d2)
        else:
            E2, two_eta2, A3, a3, d3, A4, a4, d4 = couple_terms(q + 1, g, e, dE_dG, plan)
            add_couples(
                S, n, q == first, E1, two_eta1, A1, a1, d1, A2, a2, d2, E2, two_eta2, A3, a3, d3, A4, a4, d4
            )
    if plan.pair[g, 4]:
        row_fill(S, TR, n, 0.0)
        for q in range(first, last):
            E, two_eta, A1, a1, d1, A2, a2, d2 = couple_terms(q, g, e, dE_dG, plan)
            two_eta_r_s = two_eta * plan.member_at[plan.couple[q, 0], 1]
            add_shift(S, n, E, A1, a1 * two_eta_r_s, A2, a2 * two_eta_r_s)


@kernel(forceinline=True)
def couple_terms(q, g, e, dE_dG, plan):
    """Of couple q of group g: row of the exponential, 2 eta; and for each function the row of its angle, and
    what its value and its derivative by cos are multiplied with (0 for a second one that is not there).
    """
    E, f1, f2 = couple_rows(q, g, plan)
    A1, a1, d1 = coefficients(f1, g, e, dE_dG, plan)
    A2, a2, d2 = coefficients(f1 if f2 < 0 else f2, g, e, dE_dG, plan)
    there = 0.0 if f2 < 0 else 1.0
    return E, 2.0 * plan.member_at[plan.couple[q, 0], 0], A1, a1, d1, A2, there * a2, there * d2


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
def add_couple(S, n, begin, E, two_eta, A1, a1, d1, A2, a2, d2):
    """Add the terms of a couple to TC, P and VF, or begin with them."""
    D1, D2 = A1 + LINE, A2 + LINE
    for t in range(n):
        e = S[E + t]
        term = e * (a1 * S[A1 + t] + a2 * S[A2 + t])
        turn = e * (d1 * S[D1 + t] + d2 * S[D2 + t])
        S[TC + t] = turn if begin else S[TC + t] + turn
        S[P + t] = -two_eta * term if begin else S[P + t] - two_eta * term
        S[VF + t] = term if begin else S[VF + t] + term


@kernel(fastmath=FASTMATH)
def add_couples(S, n, begin, E1, two_eta1, A1, a1, d1, A2, a2, d2, E2, two_eta2, A3, a3, d3, A4, a4, d4):
    """As add_couple, for two couples: half the sums to read and write."""
    D1, D2, D3, D4 = A1 + LINE, A2 + LINE, A3 + LINE, A4 + LINE
    for t in range(n):
        e1, e2 = S[E1 + t], S[E2 + t]
        term1 = e1 * (a1 * S[A1 + t] + a2 * S[A2 + t])
        term2 = e2 * (a3 * S[A3 + t] + a4 * S[A4 + t])
        turn = e1 * (d1 * S[D1 + t] + d2 * S[D2 + t]) + e2 * (d3 * S[D3 + t] + d4 * S[D4 + t])
        push = -two_eta1 * term1 - two_eta2 * term2
        S[TC + t] = turn if begin else S[TC + t] + turn
        S[P + t] = push if begin else S[P + t] + push
        S[VF + t] = term1 + term2 if begin else S[VF + t] + (term1 + term2)


@kernel(fastmath=FASTMATH)
def add_shift(S, n, E, A1, a1, A2, a2):
    """Add d/drsum of a couple to TR."""
    for t in range(n):
        S[TR + t] += S[E + t] * (a1 * S[A1 + t] + a2 * S[A2 + t])


@kernel(forceinline=True)
def scatter_block(n_segment, used, block, L, plan, fc, g, narrow):
    """Add the gradients of all triplets of a block on to OWN and K of the entries of a list's rows L."""
    S, shifted = block.rows, plan.pair[g, 4] != 0
    multiply_terms(S, used, narrow, shifted)
    if narrow:
        put_back(S, block.column, np.uintp(block.n_near[0]), shifted)
        limit = reach2(g, plan)
        scatter_segments(
            n_segment, block, L, plan, fc, ALL_COS, ALL_TC, ALL_P, ALL_H, ALL_VF, ALL_TR, shifted, limit
        )
    else:
        scatter_segments(n_segment, block, L, plan, fc, COS, TC, P, H, VF, TR, shifted, 0.0)


@kernel(fastmath=FASTMATH)
def multiply_terms(S, n, narrow, shifted):
    """TC and TR times F, VF times FJK; H = d/dr_jk / r_jk, and P = 2 d/dsum F + H."""
    if narrow:
        for t in range(n):
            f, v = S[F + t], S[VF + t]
            p = f * S[P + t]
            h = p + v * S[DJK + t]
            S[TC + t] *= f
            S[H + t] = h
            S[P + t] = p + h
            S[VF + t] = v * S[FJK + t]
    else:
        for t in range(n):
            f = S[F + t]
            S[TC + t] *= f
            S[H + t] = 0.0
            S[P + t] *= f
            S[VF + t] *= S[FJK + t]
    if shifted:
        for t in range(n):
            tr = S[F + t] * S[TR + t]
            h = tr * S[RJKI + t] if narrow else 0.0
            S[TR + t] = tr
            S[P + t] += h
            S[H + t] += h


@kernel(forceinline=True)
def scatter_segments(n_segment, block, L, plan, fc, cos, tc, p, h, vf, tr, shifted, limit):
    """Add the gradients of all segments of a block, from its rows cos, ..., tr. If limit > 0 triplets with
    ALL_D >= limit have none, whatever is in their columns.
    """
    segment = block.segment
    for s in range(n_segment):
        o, n = np.uintp(segment[s, 0]), padded(segment[s, 1])
        j, k = place(segment[s, 2], plan), place(segment[s, 3], plan)
        scatter(block.rows, o, n, L, L, j, k, fc, cos, tc, p, h, vf, limit)
        if shifted:
            scatter_shift(block.rows, o, n, L, j, k, tr, limit)


@kernel(fastmath=FASTMATH, apart=True)
def scatter(S, o, n, L, C, j, k, fc, cos, tc, p, h, vf, limit):
    """Add the gradients of the segment of n columns from o on, without what TR contributes, to OWN and K
    of the entries j and k, k+1, ...

    C  L once more, for the rows fc of the cutoff: they are not those written to
    """
    xj, yj, zj, ij = L[j + X], L[j + Y], L[j + Z], L[j + RI]
    fj, dj = C[j + fc], C[j + fc + STRIDE]
    ij2 = ij * ij
    a = gx = gy = gz = 0.0
    for t in range(n):
        inside = S[o + ALL_D + t] < limit if limit > 0.0 else True
        ik, f, dcos = L[k + RI + t], S[o + vf + t] if inside else 0.0, S[o + tc + t] if inside else 0.0
        both = S[o + p + t] if inside else 0.0
        turn = dcos * S[o + cos + t]
        g = dcos * ij * ik - (S[o + h + t] if inside else 0.0)
        a += both - turn * ij2 + f * dj * C[k + fc + t]
        gx += g * L[k + X + t]
        gy += g * L[k + Y + t]
        gz += g * L[k + Z + t]
        L[k + OWN + t] += both - turn * ik * ik + f * fj * C[k + fc + STRIDE + t]
        L[k + KX + t] += g * xj
        L[k + KY + t] += g * yj
        L[k + KZ + t] += g * zj
    L[j + OWN] += a
    L[j + KX] += gx
    L[j + KY] += gy
    L[j + KZ] += gz


@kernel(fastmath=FASTMATH, apart=True)
def scatter_shift(S, o, n, L, j, k, tr, limit):
    """What the derivative TR by rsum contributes to OWN, besides H."""
    ij, a = L[j + RI], 0.0
    for t in range(n):
        inside = S[o + ALL_D + t] < limit if limit > 0.0 else True
        push = S[o + tr + t] if inside else 0.0
        a += push * ij
        L[k + OWN + t] += push * L[k + RI + t]
    L[j + OWN] += a
