"""How all symmetry functions change when one atom moves: V_j = dG_j/dx_ia,
from the neighbours of atom i alone (wide functions: also theirs).

A term A(cos) E(sum, rsum) F (see triplets.py) of a centre c changes by
    A' dcos E F + A E (dF - eta (dsum - 2 r_s drsum) F),
with the changes d... of its variables as rows. Two kinds of centres:
own        c = i: the centre moves against all neighbours but its own images, which move with it.
neighbour  c is an entry of the list of i, which stands for one image of c. From there, i is a neighbour that
           moves; the third partners k of narrow functions are within r_c of i, so they are in the list too.
           Images of i there do not move: each is the subject of another entry.
"""

import numpy as np

from mpnnp.kernels.elementwise import exp, inverse_sqrt, row_fill
from mpnnp.kernels.jit import FASTMATH, kernel
from mpnnp.kernels.neighbours import FC, R2, RI, SELF, STRIDE, WIDTH, R, X, Y, Z, place
from mpnnp.kernels.triplets import (
    BASE,
    COS,
    DJK,
    FCOS,
    FF,
    FJK,
    FSUM,
    LINE,
    RJK,
    RJKI,
    RSUM,
    SHIFTED,
    SUM,
    TC,
    TINY,
    TR,
    VF,
    F,
    H,
    P,
    all_angles,
    angle_row,
    couple_rows,
    fill_block,
    padded,
    pair_parts,
    run_exps,
    run_range,
    third_cutoffs,
)

# changes; DJK2: of r_jk^2 / 2; DFF: of FF; DF: of F
DCOS, DSUM, DRSUM, DJK2, DFF, DF = (TC, P, TR, H, VF, BASE)
# FCOS, FSUM: F dcos, F dsum; SHIFTED: F (dsum - 2 r_s drsum)


@kernel(fastmath=FASTMATH, apart=True)
def own_geometry(S, o, n, L, j, k, a, narrow):
    """Variables of a segment of the centre i (as triplets.geometry), and their changes when it moves
    along the axis of row a.
    """
    xj, yj, zj, aj, ij = L[j + X], L[j + Y], L[j + Z], L[j + R2], L[j + RI]
    move_j, uj = L[j + SELF], L[j + a]
    turn_j = uj * ij * ij
    for t in range(n):
        x, y, z, uk = L[k + X + t], L[k + Y + t], L[k + Z + t], L[k + a + t]
        ik, move_k = L[k + RI + t], L[k + SELF + t]
        cos = (xj * x + yj * y + zj * z) * ij * ik
        S[o + COS + t] = cos
        S[o + DCOS + t] = -move_j * (uk * ij * ik - cos * turn_j) - move_k * (
            uj * ij * ik - cos * uk * ik * ik
        )
        total, change = aj + L[k + R2 + t], -2.0 * (move_j * uj + move_k * uk)
        if narrow:
            u, v, w = x - xj, y - yj, z - zj
            d = u * u + v * v + w * w
            d = TINY if d < TINY else d
            ri = inverse_sqrt(d)
            third = (uk - uj) * (move_j - move_k)
            S[o + RJK + t] = d * ri
            S[o + RJKI + t] = ri
            S[o + DJK2 + t] = third
            total, change = total + d, change + 2.0 * third
        S[o + SUM + t] = total
        S[o + DSUM + t] = change


@kernel(fastmath=FASTMATH, apart=True)
def own_distances(S, o, n, L, j, k, a, narrow):
    """RSUM and its change, after own_geometry()."""
    rj, move_j = L[j + R], L[j + SELF] * L[j + a] * L[j + RI]
    for t in range(n):
        total = rj + L[k + R + t]
        change = -(move_j + L[k + SELF + t] * L[k + a + t] * L[k + RI + t])
        if narrow:
            total, change = total + S[o + RJK + t], change + S[o + DJK2 + t] * S[o + RJKI + t]
        S[o + RSUM + t] = total
        S[o + DRSUM + t] = change


@kernel(fastmath=FASTMATH, apart=True)
def own_cutoffs(S, o, n, L, j, k, a, fc):
    """FF and its change, without that of r_jk; 0 in the columns of padding."""
    n_padded = padded(n)
    fj = L[j + fc]
    dj = -L[j + fc + STRIDE] * L[j + a] * L[j + SELF]
    for t in range(n_padded):
        S[o + FF + t] = fj * L[k + fc + t]
        S[o + DFF + t] = dj * L[k + fc + t] - fj * L[k + fc + STRIDE + t] * L[k + a + t] * L[k + SELF + t]
    for t in range(n, n_padded):
        S[o + FF + t] = 0.0
        S[o + DFF + t] = 0.0


@kernel(fastmath=FASTMATH, apart=True)
def neighbour_geometry(S, o, n, L, j, k, a):
    """Variables of a segment of the centre at entry j, its neighbours i and the entries k, k+1, ...,
    when i moves; r_jk is r_ck here.
    """
    xj, yj, zj, aj, ij = L[j + X], L[j + Y], L[j + Z], L[j + R2], L[j + RI]
    uj = L[j + a]
    turn_j = uj * ij * ij
    for t in range(n):
        u, v, w, ua = L[k + X + t] - xj, L[k + Y + t] - yj, L[k + Z + t] - zj, L[k + a + t]
        d = u * u + v * v + w * w
        d = TINY if d < TINY else d
        ri = inverse_sqrt(d)
        r = d * ri
        cos = -(xj * u + yj * v + zj * w) * ij * ri
        S[o + COS + t] = cos
        S[o + DCOS + t] = (ua - uj) * ij * ri + cos * turn_j
        S[o + SUM + t] = aj + d + L[k + R2 + t]
        S[o + DSUM + t] = -2.0 * (uj + ua)
        S[o + RJK + t] = r
        S[o + RJKI + t] = ri


@kernel(fastmath=FASTMATH, apart=True)
def neighbour_distances(S, o, n, L, j, k, a):
    """RSUM and its change, after neighbour_geometry()."""
    rj, move_j = L[j + R], -L[j + a] * L[j + RI]
    for t in range(n):
        S[o + RSUM + t] = rj + S[o + RJK + t] + L[k + R + t]
        S[o + DRSUM + t] = move_j - L[k + a + t] * L[k + RI + t]


@kernel(fastmath=FASTMATH, apart=True)
def neighbour_cutoffs(S, o, n, L, j, k, a, fc, weight):
    """FF = weight fc(r_ci) fc(r_ik) and its change; 0 in the columns of padding."""
    n_padded = padded(n)
    fj = weight * L[j + fc]
    dj = -weight * L[j + fc + STRIDE] * L[j + a]
    for t in range(n_padded):
        S[o + FF + t] = fj * L[k + fc + t]
        S[o + DFF + t] = dj * L[k + fc + t] - fj * L[k + fc + STRIDE + t] * L[k + a + t]
    for t in range(n, n_padded):
        S[o + FF + t] = 0.0
        S[o + DFF + t] = 0.0


@kernel(fastmath=FASTMATH, apart=True)
def wide_geometry(S, n, L, j, C, k, a):
    """As neighbour_geometry for wide functions: entries k, k+1, ... of the centre's own list C."""
    xj, yj, zj, aj, rj, ij = -L[j + X], -L[j + Y], -L[j + Z], L[j + R2], L[j + R], L[j + RI]
    uj = -L[j + a]
    for t in range(n):
        ik = C[k + RI + t]
        cos = (xj * C[k + X + t] + yj * C[k + Y + t] + zj * C[k + Z + t]) * ij * ik
        S[COS + t] = cos
        S[DCOS + t] = C[k + a + t] * ij * ik - cos * uj * ij * ij
        S[SUM + t] = aj + C[k + R2 + t]
        S[DSUM + t] = 2.0 * uj
        S[RSUM + t] = rj + C[k + R + t]
        S[DRSUM + t] = uj * ij


@kernel(fastmath=FASTMATH, apart=True)
def wide_cutoffs(S, n, L, j, fj, dj, C, k, fc):
    """FF = fc(r_ci) fc(r_ck) and its change from fj = fc(r_ci) and its change dj;
    0 in the columns of padding and where the entry is i itself.
    """
    n_padded = padded(n)
    xj, yj, zj = L[j + X], L[j + Y], L[j + Z]
    for t in range(n_padded):
        u, v, w = C[k + X + t] + xj, C[k + Y + t] + yj, C[k + Z + t] + zj
        f = C[k + fc + t] if u * u + v * v + w * w > 1e-8 else 0.0
        S[FF + t] = fj * f
        S[DFF + t] = dj * f
    for t in range(n, n_padded):
        S[FF + t] = 0.0
        S[DFF + t] = 0.0


@kernel(fastmath=FASTMATH)
def change_of_cutoffs(S, n, own):
    """F and its change DF; F times the changes of cos and sum. Only for an own centre r_jk changes."""
    for t in range(n):
        f = S[FF + t] * S[FJK + t]
        S[F + t] = f
        S[DF + t] = S[DFF + t] * S[FJK + t]
        S[FCOS + t] = f * S[DCOS + t]
        S[FSUM + t] = f * S[DSUM + t]
    if own:
        for t in range(n):
            S[DF + t] += S[FF + t] * S[DJK + t] * S[DJK2 + t]


@kernel(fastmath=FASTMATH)
def shifted_changes(S, n, r_s):
    """Row SHIFTED = F times the change of sum - 2 r_s rsum."""
    two_r_s = 2.0 * r_s
    for t in range(n):
        S[SHIFTED + t] = S[FSUM + t] - two_r_s * S[F + t] * S[DRSUM + t]


@kernel(fastmath=FASTMATH)
def change_of_couple(S, o, n, E, push, eta, A1, A2):
    """Sums over a segment of the change of E F times base^zeta, and of E F dcos times base^(zeta-1), for two
    functions of one class; push is the row of F times the change of the exponent over -eta.
    """
    D1, D2 = A1 + LINE, A2 + LINE
    total1 = turn1 = total2 = turn2 = 0.0
    for t in range(n):
        e = S[o + E + t]
        change, turn = e * (S[o + DF + t] - eta * S[o + push + t]), e * S[o + FCOS + t]
        total1 += S[o + A1 + t] * change
        turn1 += S[o + D1 + t] * turn
        total2 += S[o + A2 + t] * change
        turn2 += S[o + D2 + t] * turn
    return total1, turn1, total2, turn2


@kernel(forceinline=True)
def add_changes(own, g, e, run, narrow, n_segment, used, plan, block, target, V):
    """Add the changes of the functions of a run of a block to V;
    segment s belongs to the atom target[s], none if negative; all to the first one if own.
    """
    S, segment = block.rows, block.segment
    if not narrow:
        row_fill(S, DJK2, used, 0.0)
    change_of_cutoffs(S, used, own)
    run_exps(S, used, run, g, narrow, plan)
    for q in range(plan.run[run, 3], plan.run[run + 1, 3]):
        E, f1, f2 = couple_rows(q, g, plan)
        eta, r_s = plan.member_at[plan.couple[q, 0], 0], plan.member_at[plan.couple[q, 0], 1]
        push = FSUM
        if r_s != 0.0:
            shifted_changes(S, used, r_s)
            push = SHIFTED
        last = f1 if f2 < 0 else f2
        A1, A2 = angle_row(plan.function[f1, 1], plan), angle_row(plan.function[last, 1], plan)
        for s in range(1 if own else n_segment):
            if target[s] >= 0:
                o, n = np.uintp(segment[s, 0]), padded(segment[s, 1])
                if own:
                    o, n = np.uintp(0), used
                total1, turn1, total2, turn2 = change_of_couple(S, o, n, E, push, eta, A1, A2)
                add_change(f1, g, e, total1, turn1, plan, V[target[s]])
                if f2 >= 0:
                    add_change(f2, g, e, total2, turn2, plan, V[target[s]])


@kernel(forceinline=True)
def add_change(f, g, e, total, turn, plan, V):
    """Add the change of function f of group g, from the sums of change_of_couple, to V (n_max,)."""
    a = plan.pair[g, 3] + plan.function[f, 1]
    slope = plan.angle[a, 0] * plan.angle[a, 1]
    V[plan.function[f, 0] - plan.start[e]] += plan.scale[f] * (total + slope * turn)


@kernel
def own_tangents(i, e, list, plan, block, target, a, V):
    """Add to V[i] the changes of the angular functions of atom i itself."""
    S, L, segment = block.rows, list.rows, block.segment
    target[:] = i
    for g in range(plan.group[e], plan.group[e + 1]):
        j_first, j_last, k_first, k_last, same = pair_parts(list, plan, g)
        for narrow in range(2):
            first_run, last_run = run_range(g, narrow, plan)
            j, k = (j_first if first_run < last_run else j_last), k_first
            while True:
                n_segment, columns, j, k = fill_block(j_last, k_first, k_last, same, j, k, block)
                if n_segment == 0:
                    break
                used = np.uintp(columns)
                for s in range(n_segment):
                    o, n = np.uintp(segment[s, 0]), padded(segment[s, 1])
                    at_j, at_k = place(segment[s, 2], plan), place(segment[s, 3], plan)
                    own_geometry(S, o, n, L, at_j, at_k, a, narrow)
                    if plan.pair[g, 4]:
                        own_distances(S, o, n, L, at_j, at_k, a, narrow)
                all_angles(g, used, plan, S)
                for run in range(first_run, last_run):
                    fc = FC + np.uintp(2 * plan.run[run, 1]) * STRIDE
                    for s in range(n_segment):
                        o, n = np.uintp(segment[s, 0]), np.uintp(segment[s, 1])
                        own_cutoffs(S, o, n, L, place(segment[s, 2], plan), place(segment[s, 3], plan), a, fc)
                    third_cutoffs(run, narrow, used, plan, S)
                    add_changes(True, g, e, run, narrow, n_segment, used, plan, block, target, V)


@kernel(forceinline=True)
def partner(g, e_i, plan):
    """Element of the third partner in group g if one neighbour is of element e_i: -1 any;
    -2 if the group has no such neighbour.
    """
    e1, e2 = plan.pair[g, 0], plan.pair[g, 1]
    if e1 < 0:
        return -1
    if e1 == e_i:
        return e2
    return e1 if e2 == e_i else -2


@kernel
def neighbour_tangents(i, e_i, list, plan, block, target, a, V):
    """Add to V the changes of the narrow functions of all neighbours of atom i, of element e_i."""
    S, L, segment = block.rows, list.rows, block.segment
    for e in range(plan.z.shape[0]):
        # rows of weighted cutoffs hold z of the entry, which is the centre here
        weight = plan.z[e_i] / plan.z[e]
        for g in range(plan.group[e], plan.group[e + 1]):
            first_run, last_run = run_range(g, 1, plan)
            e_k = partner(g, e_i, plan)
            if e_k == -2 or first_run == last_run:
                continue
            k_first, k_last = list.part[e_k, 0], list.part[e_k, 1]
            j, k = list.part[e, 0], k_first
            while True:
                n_segment, columns, j, k = fill_block(list.part[e, 1], k_first, k_last, False, j, k, block)
                if n_segment == 0:
                    break
                used = np.uintp(columns)
                for s in range(n_segment):
                    c = list.atom[segment[s, 2]]
                    target[s] = c if c != i else -1
                    n = padded(segment[s, 1])
                    o, at_j, at_k = (
                        np.uintp(segment[s, 0]),
                        place(segment[s, 2], plan),
                        place(segment[s, 3], plan),
                    )
                    neighbour_geometry(S, o, n, L, at_j, at_k, a)
                    if plan.pair[g, 4]:
                        neighbour_distances(S, o, n, L, at_j, at_k, a)
                all_angles(g, used, plan, S)
                for run in range(first_run, last_run):
                    q = plan.run[run, 1]
                    fc = FC + np.uintp(2 * q) * STRIDE
                    factor = weight if plan.cutoff[q, 1] else 1.0
                    for s in range(n_segment):
                        o, n = np.uintp(segment[s, 0]), np.uintp(segment[s, 1])
                        neighbour_cutoffs(
                            S, o, n, L, place(segment[s, 2], plan), place(segment[s, 3], plan), a, fc, factor
                        )
                        itself = segment[s, 2] - segment[s, 3]
                        if 0 <= itself < segment[s, 1]:
                            S[o + FF + np.uintp(itself)] = 0.0
                            S[o + DFF + np.uintp(itself)] = 0.0
                    third_cutoffs(run, 1, used, plan, S)
                    add_changes(False, g, e, run, 1, n_segment, used, plan, block, target, V)


@kernel
def has_wide(plan):
    for run in range(plan.run.shape[0] - 1):
        if plan.run[run, 0] == 0:
            return True
    return False


@kernel
def wide_tangents(e_i, e, n_entry, list, its_list, plan, block, target, a, V):
    """Add to V the changes of the wide functions of the centre at entry n_entry, of element e,
    whose own neighbours are its_list.
    """
    S, L, C, segment = block.rows, list.rows, its_list.rows, block.segment
    target[0] = list.atom[n_entry]
    j = place(n_entry, plan)
    for g in range(plan.group[e], plan.group[e + 1]):
        first_run, last_run = run_range(g, 0, plan)
        e_k = partner(g, e_i, plan)
        if e_k == -2 or first_run == last_run:
            continue
        first, last = its_list.part[e_k, 0], its_list.part[e_k, 1]
        while first < last:
            n = min(last - first, np.int64(WIDTH) - first % np.int64(WIDTH))
            used, k = padded(n), place(first, plan)
            segment[0, 0], segment[0, 1] = 0, n
            wide_geometry(S, used, L, j, C, k, a)
            all_angles(g, used, plan, S)
            for run in range(first_run, last_run):
                fc = FC + np.uintp(2 * plan.run[run, 1]) * STRIDE
                wide_cutoffs(S, np.uintp(n), L, j, L[j + fc], -L[j + fc + STRIDE] * L[j + a], C, k, fc)
                third_cutoffs(run, 0, used, plan, S)
                add_changes(False, g, e, run, 0, 1, used, plan, block, target, V)
            first += n


@kernel
def radial_tangents(i, e_i, list, plan, block, a, V):
    """Add to V the changes of the radial functions of atom i, of element e_i, and of its neighbours."""
    S, L = block.rows, list.rows
    for e in range(plan.z.shape[0]):
        first, last = list.part[e, 0], list.part[e, 2]
        while first < last:
            n = min(last - first, np.int64(WIDTH) - first % np.int64(WIDTH))
            o = place(first, plan)
            for f in range(plan.radial[e_i], plan.radial[e_i + 1]):  # atom i as centre
                m, e1, q = plan.radial_function[f, 0], plan.radial_function[f, 1], plan.radial_function[f, 2]
                if e1 == e or e1 < 0:
                    fc = o + FC + np.uintp(2 * q) * STRIDE
                    V[i, m - plan.start[e_i]] += radial_change(
                        S, L, o, np.uintp(n), fc, a, plan.radial_at[f, 0], plan.radial_at[f, 1]
                    )
            for f in range(plan.radial[e], plan.radial[e + 1]):  # the neighbours as centres
                m, e1, q = plan.radial_function[f, 0], plan.radial_function[f, 1], plan.radial_function[f, 2]
                if e1 == e_i or e1 < 0:
                    fc = o + FC + np.uintp(2 * q) * STRIDE
                    radial_change(S, L, o, np.uintp(n), fc, a, plan.radial_at[f, 0], plan.radial_at[f, 1])
                    weight = plan.z[e_i] / plan.z[e] if plan.cutoff[q, 1] else 1.0
                    for k in range(n):
                        V[list.atom[first + k], m - plan.start[e]] += weight * S[COS + np.uintp(k)]
            first += n


@kernel(fastmath=FASTMATH, apart=True)
def radial_change(S, L, o, n, fc, a, eta, r_s):
    """Row COS = change of each term when atom i moves, 0 for images of i; returns its sum."""
    total = 0.0
    for t in range(n):
        r = L[o + R + t] - r_s
        slope = exp(-eta * r * r) * (L[fc + STRIDE + t] - 2.0 * eta * r * L[o + RI + t] * L[fc + t])
        change = -slope * L[o + a + t] * L[o + SELF + t]
        S[COS + t] = change
        total += change
    return total
