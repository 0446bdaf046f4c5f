"""How the symmetry functions of all atoms change when the structure is strained: V_i = dG_i/d(strain).

The strain takes every vector u between atoms to u + du, du = (e_a u_b + e_b u_a)/2, so that u . du = u_a u_b.
The rows OWN = u . du and K = du of the neighbour list hold this; everything else is as for a centre that
moves (tangents.py).
"""

import numpy as np

from mpnnp.kernels.compact import enter, has_compact, has_windows, radial_term
from mpnnp.kernels.compact_tangents import add_compact_changes
from mpnnp.kernels.elementwise import exp, inverse_sqrt
from mpnnp.kernels.jit import FASTMATH, kernel
from mpnnp.kernels.neighbours import (
    FC,
    KX,
    KY,
    KZ,
    OWN,
    R2,
    RI,
    STRIDE,
    WIDTH,
    R,
    X,
    Y,
    Z,
    make_list,
    neighbours_of,
    packed_atoms,
    place,
)
from mpnnp.kernels.tangents import DCOS, DFF, DJK2, DRSUM, DSUM, add_changes
from mpnnp.kernels.triplets import (
    COS,
    FF,
    RJK,
    RJKI,
    RSUM,
    SUM,
    TINY,
    all_angles,
    fill_block,
    padded,
    pair_parts,
    parts_of,
    run_range,
    third_cutoffs,
)


@kernel(makes_arrays=True)
def strain_tangents(structures, s, a, b, plan, space, V):
    """V[i] = dG_i/d(strain ab) (n_atom, n_max) of all atoms i of structure s; a, b: 0, 1, 2.

    Returns the scratch list, which may have grown.
    """
    first, last = structures.start[s], structures.start[s + 1]
    element = structures.element[first:last]
    atoms, near, compact = packed_atoms(structures, s), space.near, has_compact(plan.compact)
    row_a, row_b = np.uintp(a) * STRIDE, np.uintp(b) * STRIDE
    for i in range(last - first):
        if plan.stop[0]:
            break
        near = neighbours_of(i, structures, s, atoms, element, plan, space.image, near)
        V[i] = 0.0
        for k in range(0, near.part[plan.z.shape[0], 2], np.int64(WIDTH)):
            strain_entries(
                near.rows,
                place(k, plan),
                np.uintp(min(near.part[plan.z.shape[0], 2] - k, np.int64(WIDTH))),
                row_a,
                row_b,
            )
        radial_strains(element[i], near, plan, V[i])
        angular_strains(i, element[i], near, plan, space.block, space.target, V)
        if compact:
            compact_strains(i, element, near, plan, plan.compact, space.block, space.target, V)
    return near


@kernel(fastmath=FASTMATH)
def strain_entries(L, o, n, a, b):
    """Rows OWN and K of a chunk."""
    for t in range(n):
        L[o + OWN + t] = L[o + a + t] * L[o + b + t]
        L[o + KX + t] = 0.0
        L[o + KY + t] = 0.0
        L[o + KZ + t] = 0.0
    for t in range(n):
        L[o + KX + a + t] += 0.5 * L[o + b + t]
        L[o + KX + b + t] += 0.5 * L[o + a + t]


@kernel
def radial_strains(e, list, plan, change):
    for f in range(plan.radial[e], plan.radial[e + 1]):
        m, e1, q = plan.radial_function[f, 0], plan.radial_function[f, 1], plan.radial_function[f, 2]
        first, last = list.part[e1, 0], list.part[e1, 2]
        while first < last:
            n = min(last - first, np.int64(WIDTH) - first % np.int64(WIDTH))
            o = place(first, plan)
            fc = o + FC + np.uintp(2 * q) * STRIDE
            change[m - plan.start[e]] += radial_strain(
                list.rows, o, np.uintp(n), fc, plan.radial_at[f, 0], plan.radial_at[f, 1]
            )
            first += n


@kernel(fastmath=FASTMATH)
def radial_strain(L, o, n, fc, eta, r_s):
    total = 0.0
    for t in range(n):
        r = L[o + R + t] - r_s
        total += (
            exp(-eta * r * r)
            * (L[fc + STRIDE + t] - 2.0 * eta * r * L[o + RI + t] * L[fc + t])
            * L[o + OWN + t]
        )
    return total


@kernel
def angular_strains(i, e, list, plan, block, target, V):
    """Add to V[i] the changes of the angular functions of atom i, of element e."""
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
                    n = padded(segment[s, 1])
                    strain_geometry(
                        S,
                        np.uintp(segment[s, 0]),
                        n,
                        L,
                        place(segment[s, 2], plan),
                        place(segment[s, 3], plan),
                        narrow,
                    )
                all_angles(g, used, plan, S)
                for run in range(first_run, last_run):
                    fc = FC + np.uintp(2 * plan.run[run, 1]) * STRIDE
                    for s in range(n_segment):
                        o, n = np.uintp(segment[s, 0]), np.uintp(segment[s, 1])
                        strain_cutoffs(S, o, n, L, place(segment[s, 2], plan), place(segment[s, 3], plan), fc)
                    third_cutoffs(run, narrow, used, plan, S)
                    add_changes(True, g, e, run, narrow, n_segment, used, plan, block, target, V)


@kernel(makes_arrays=True)
def compact_strains(i, element, list, plan, compact, block, target, V):
    """Add to V[i] the changes of the compact functions of atom i."""
    if len(compact) == 0:
        return
    L, e = list.rows, element[i]
    for f in range(compact.start[e, 0], compact.start[e + 1, 0]):
        e1, m = compact.function[f, 1], compact.function[f, 0] - plan.start[e]
        for k in range(list.part[e1, 0], list.part[e1, 2]):
            o = place(k, plan)
            slope = radial_term(f, L[o + R], element[list.atom[k]], plan)[1]
            V[i, m] += slope * L[o + OWN] * L[o + RI]
    if has_windows(e, plan):
        window_strains(i, e, list, plan, compact, block, target, make_list(list.atom.shape[0], plan), V)


@kernel
def window_strains(i, e, list, plan, compact, block, target, inner, V):
    """The part of its angular functions; inner as of compact.window_functions."""
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
                    strain_geometry(S, o, n_padded, inner.rows, at_j, at_k, narrow)
                    strain_cutoffs(S, o, n, inner.rows, at_j, at_k, FC)
                add_compact_changes(True, number, g, e, n_segment, np.uintp(columns), plan, block, target, V)


@kernel(fastmath=FASTMATH, apart=True)
def strain_geometry(S, o, n, L, j, k, narrow):
    """Variables of a segment of a centre (as triplets.geometry), and their changes."""
    xj, yj, zj, aj, rj, ij = L[j + X], L[j + Y], L[j + Z], L[j + R2], L[j + R], L[j + RI]
    uj, vj, wj, own_j = L[j + KX], L[j + KY], L[j + KZ], L[j + OWN]
    turn_j = own_j * ij * ij
    for t in range(n):
        x, y, z, ik, own = L[k + X + t], L[k + Y + t], L[k + Z + t], L[k + RI + t], L[k + OWN + t]
        cos = (xj * x + yj * y + zj * z) * ij * ik
        across = uj * x + vj * y + wj * z + xj * L[k + KX + t] + yj * L[k + KY + t] + zj * L[k + KZ + t]
        S[o + COS + t] = cos
        S[o + DCOS + t] = across * ij * ik - cos * (turn_j + own * ik * ik)
        S[o + SUM + t] = aj + L[k + R2 + t]
        S[o + DSUM + t] = 2.0 * (own_j + own)
        S[o + RSUM + t] = rj + L[k + R + t]
        S[o + DRSUM + t] = own_j * ij + own * ik
        S[o + DJK2 + t] = own_j + own - across
    if narrow:
        for t in range(n):
            u, v, w = L[k + X + t] - xj, L[k + Y + t] - yj, L[k + Z + t] - zj
            d = u * u + v * v + w * w
            d = TINY if d < TINY else d
            ri = inverse_sqrt(d)
            r = d * ri
            S[o + RJK + t] = r
            S[o + RJKI + t] = ri
            S[o + SUM + t] += d
            S[o + DSUM + t] += 2.0 * S[o + DJK2 + t]
            S[o + RSUM + t] += r
            S[o + DRSUM + t] += S[o + DJK2 + t] * ri


@kernel(fastmath=FASTMATH, apart=True)
def strain_cutoffs(S, o, n, L, j, k, fc):
    """FF and its change, without that of r_jk; 0 in the columns of padding."""
    n_padded = padded(n)
    fj, dj = L[j + fc], L[j + fc + STRIDE] * L[j + OWN]
    for t in range(n_padded):
        S[o + FF + t] = fj * L[k + fc + t]
        S[o + DFF + t] = dj * L[k + fc + t] + fj * L[k + fc + STRIDE + t] * L[k + OWN + t]
    for t in range(n, n_padded):
        S[o + FF + t] = 0.0
        S[o + DFF + t] = 0.0
