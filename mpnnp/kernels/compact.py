"""Compact symmetry functions (see table.TYPES): sums over neighbours and triplets inside of radial and
angular
windows, number by number.

They are apart from the rows of triplets.py: a window leaves most triplets out, so that tests are cheaper than
arithmetic on whole rows. A term is a(cos) w(r_ij) w(r_ik) [w(r_jk)] with windows w and a (cutoff.py); its
derivatives by the three distances, with cos held, and by cos are collected over the functions of a group, and
turned into vectors once per triplet.
"""

import math

from mpnnp.kernels.cutoff import angle_window, window
from mpnnp.kernels.jit import kernel
from mpnnp.kernels.neighbours import KX, KY, KZ, OWN, RI, SELF, R, X, Y, Z, place

SAME = 1e-8  # Angstrom^2; closer entries are the same atom


@kernel(forceinline=True)
def entries(list, plan, e1, e2):
    """first, last of the outer and of the inner entries of pairs of elements e1, e2 (-1: any),
    and whether they are the same.
    """
    n_element = plan.z.shape[0]
    if e1 < 0:
        e1 = e2 = n_element
    return list.part[e1, 0], list.part[e1, 1], list.part[e2, 0], list.part[e2, 1], e1 == e2


@kernel(forceinline=True)
def radial_term(f, r, e, plan):
    """Compact radial function f of a neighbour of element e at distance r: value, d/dr."""
    w, dw = window(plan.compact_function[f, 2], plan.compact_at[f, 0], plan.compact_at[f, 1], r)
    weight = plan.z[e] if plan.compact_function[f, 3] else 1.0
    return weight * w, weight * dw


@kernel(forceinline=True)
def angular_term(f, narrow, a, b, c, cos, weight, plan):
    """Compact angular function f of a triplet with distances a, b, c (r_jk):
    value, d/da, d/db, d/dc at constant cos, d/dcos.

    weight  product of the atomic numbers of j and k, for the weighted kinds
    """
    left, right = plan.compact_at[f, 0], plan.compact_at[f, 1]
    if a <= left or a >= right or b <= left or b >= right or (narrow and (c <= left or c >= right)):
        return 0.0, 0.0, 0.0, 0.0, 0.0
    subtype = plan.compact_function[f, 2]
    p, dp = angle_window(subtype, plan.compact_at[f, 2], plan.compact_at[f, 3], cos)
    if p == 0.0:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    if plan.compact_function[f, 3]:
        p *= weight
        dp *= weight
    wa, da = window(subtype, left, right, a)
    wb, db = window(subtype, left, right, b)
    wc, dc = window(subtype, left, right, c) if narrow else (1.0, 0.0)
    return p * wa * wb * wc, p * da * wb * wc, p * wa * db * wc, p * wa * wb * dc, dp * wa * wb * wc


@kernel(forceinline=True)
def distance_of(L, j, k):
    """Distance between the entries at the offsets j and k, Angstrom."""
    u, v, w = L[k + X] - L[j + X], L[k + Y] - L[j + Y], L[k + Z] - L[j + Z]
    return math.sqrt(u * u + v * v + w * w)


@kernel(forceinline=True)
def cos_of(L, j, k):
    """Cosine of the angle at the centre between the entries at the offsets j and k."""
    return (L[j + X] * L[k + X] + L[j + Y] * L[k + Y] + L[j + Z] * L[k + Z]) * L[j + RI] * L[k + RI]


@kernel
def compact_functions(e, element, list, plan, G):
    """Add the compact functions of a centre of element e to G (n_max,)."""
    L, first = list.rows, plan.start[e]
    for f in range(plan.compact[e, 0], plan.compact[e + 1, 0]):
        e1 = plan.compact_function[f, 1]
        for k in range(list.part[e1, 0], list.part[e1, 2]):  # -1: the last line, all elements
            G[plan.compact_function[f, 0] - first] += radial_term(
                f, L[place(k, plan) + R], element[list.atom[k]], plan
            )[0]
    for g in range(plan.compact[e, 1], plan.compact[e + 1, 1]):
        narrow, low, high = plan.compact_group[g, 2] != 0, plan.compact_reach[g, 0], plan.compact_reach[g, 1]
        j_first, j_last, k_first, k_last, same = entries(
            list, plan, plan.compact_group[g, 0], plan.compact_group[g, 1]
        )
        for n_j in range(j_first, j_last):
            if plan.stop[0]:
                break
            j = place(n_j, plan)
            if L[j + R] <= low or L[j + R] >= high:
                continue
            for n_k in range(n_j + 1 if same else k_first, k_last):
                k = place(n_k, plan)
                if L[k + R] <= low or L[k + R] >= high:
                    continue
                c = distance_of(L, j, k)
                if narrow and (c <= low or c >= high):
                    continue
                cos, weight = (
                    cos_of(L, j, k),
                    plan.z[element[list.atom[n_j]]] * plan.z[element[list.atom[n_k]]],
                )
                for f in range(plan.compact_group[g, 3], plan.compact_group[g + 1, 3]):
                    G[plan.compact_function[f, 0] - first] += angular_term(
                        f, narrow, L[j + R], L[k + R], c, cos, weight, plan
                    )[0]


@kernel
def compact_gradient(e, element, list, plan, dE_dG):
    """Add to OWN and K what the compact functions of a centre of element e contribute; dE_dG (n_max,)."""
    L, first = list.rows, plan.start[e]
    for f in range(plan.compact[e, 0], plan.compact[e + 1, 0]):
        e1, factor = plan.compact_function[f, 1], dE_dG[plan.compact_function[f, 0] - first]
        for k in range(list.part[e1, 0], list.part[e1, 2]):
            o = place(k, plan)
            L[o + OWN] += factor * radial_term(f, L[o + R], element[list.atom[k]], plan)[1] * L[o + RI]
    for g in range(plan.compact[e, 1], plan.compact[e + 1, 1]):
        narrow, low, high = plan.compact_group[g, 2] != 0, plan.compact_reach[g, 0], plan.compact_reach[g, 1]
        j_first, j_last, k_first, k_last, same = entries(
            list, plan, plan.compact_group[g, 0], plan.compact_group[g, 1]
        )
        for n_j in range(j_first, j_last):
            if plan.stop[0]:
                break
            j = place(n_j, plan)
            if L[j + R] <= low or L[j + R] >= high:
                continue
            for n_k in range(n_j + 1 if same else k_first, k_last):
                k = place(n_k, plan)
                if L[k + R] <= low or L[k + R] >= high:
                    continue
                c = distance_of(L, j, k)
                if narrow and (c <= low or c >= high):
                    continue
                cos, weight = (
                    cos_of(L, j, k),
                    plan.z[element[list.atom[n_j]]] * plan.z[element[list.atom[n_k]]],
                )
                da = db = dc = dcos = 0.0
                for f in range(plan.compact_group[g, 3], plan.compact_group[g + 1, 3]):
                    _, ta, tb, tc, tcos = angular_term(f, narrow, L[j + R], L[k + R], c, cos, weight, plan)
                    factor = dE_dG[plan.compact_function[f, 0] - first]
                    da += factor * ta
                    db += factor * tb
                    dc += factor * tc
                    dcos += factor * tcos
                # gradient by r_ij is own r_ij + across r_ik, by r_ik: own r_ik + across r_ij
                third = dc / c if narrow else 0.0
                across = dcos * L[j + RI] * L[k + RI] - third
                L[j + OWN] += da * L[j + RI] - dcos * cos * L[j + RI] * L[j + RI] + third
                L[k + OWN] += db * L[k + RI] - dcos * cos * L[k + RI] * L[k + RI] + third
                L[j + KX] += across * L[k + X]
                L[j + KY] += across * L[k + Y]
                L[j + KZ] += across * L[k + Z]
                L[k + KX] += across * L[j + X]
                L[k + KY] += across * L[j + Y]
                L[k + KZ] += across * L[j + Z]


@kernel
def has_compact(plan):
    """0: no compact functions; 1: some; 2: wide angular ones among them."""
    for g in range(plan.compact_group.shape[0] - 1):
        if plan.compact_group[g, 2] == 0:
            return 2
    return 1 if plan.compact_function.shape[0] > 0 else 0


@kernel
def compact_changes(e, element, list, plan, change):
    """Add to change (n_max,) those of the compact functions of a centre of element e when its neighbours
    move: rows OWN = u . du, K = du.
    """
    L, first = list.rows, plan.start[e]
    for f in range(plan.compact[e, 0], plan.compact[e + 1, 0]):
        e1 = plan.compact_function[f, 1]
        for k in range(list.part[e1, 0], list.part[e1, 2]):
            o = place(k, plan)
            change[plan.compact_function[f, 0] - first] += (
                radial_term(f, L[o + R], element[list.atom[k]], plan)[1] * L[o + OWN] * L[o + RI]
            )
    for g in range(plan.compact[e, 1], plan.compact[e + 1, 1]):
        narrow, low, high = plan.compact_group[g, 2] != 0, plan.compact_reach[g, 0], plan.compact_reach[g, 1]
        j_first, j_last, k_first, k_last, same = entries(
            list, plan, plan.compact_group[g, 0], plan.compact_group[g, 1]
        )
        for n_j in range(j_first, j_last):
            if plan.stop[0]:
                break
            j = place(n_j, plan)
            if L[j + R] <= low or L[j + R] >= high:
                continue
            for n_k in range(n_j + 1 if same else k_first, k_last):
                k = place(n_k, plan)
                if L[k + R] <= low or L[k + R] >= high:
                    continue
                c = distance_of(L, j, k)
                if narrow and (c <= low or c >= high):
                    continue
                cos, weight = (
                    cos_of(L, j, k),
                    plan.z[element[list.atom[n_j]]] * plan.z[element[list.atom[n_k]]],
                )
                across = L[j + KX] * L[k + X] + L[j + KY] * L[k + Y] + L[j + KZ] * L[k + Z]
                # change of r_ij . r_ik
                across += L[k + KX] * L[j + X] + L[k + KY] * L[j + Y] + L[k + KZ] * L[j + Z]
                turn = L[j + OWN] * L[j + RI] * L[j + RI] + L[k + OWN] * L[k + RI] * L[k + RI]
                dcos = across * L[j + RI] * L[k + RI] - cos * turn
                da, db, dc = (
                    L[j + OWN] * L[j + RI],
                    L[k + OWN] * L[k + RI],
                    (L[j + OWN] + L[k + OWN] - across) / c,
                )
                for f in range(plan.compact_group[g, 3], plan.compact_group[g + 1, 3]):
                    _, ta, tb, tc, tcos = angular_term(f, narrow, L[j + R], L[k + R], c, cos, weight, plan)
                    change[plan.compact_function[f, 0] - first] += ta * da + tb * db + tc * dc + tcos * dcos


@kernel
def compact_own_tangents(i, e, element, list, plan, a, V):
    """Add to V the changes of the compact functions of atom i, of element e,
    and of the radial ones of its neighbours, along the axis of row a.
    """
    L = list.rows
    for k in range(list.part[plan.z.shape[0], 2]):
        o, c = place(k, plan), list.atom[k]
        L[o + OWN] = -L[o + SELF] * L[o + a]
        L[o + KX] = L[o + KY] = L[o + KZ] = 0.0
        L[o + KX + a] = -L[o + SELF]
        if c != i:
            move = L[o + OWN] * L[o + RI]
            for f in range(plan.compact[element[c], 0], plan.compact[element[c] + 1, 0]):
                if plan.compact_function[f, 1] < 0 or plan.compact_function[f, 1] == e:
                    V[c, plan.compact_function[f, 0] - plan.start[element[c]]] += (
                        move * radial_term(f, L[o + R], e, plan)[1]
                    )
    compact_changes(e, element, list, plan, V[i])


@kernel
def compact_neighbour_tangents(e_i, n_entry, element, list, thirds, offset, narrow, plan, a, V):
    """Add to V the changes of the compact angular functions of the centre at entry n_entry of the list of i,
    an atom of element e_i that moves.

    thirds   the list with the third partners: that of i for narrow functions (offset 1: vectors are counted
             from i), else that of the centre (offset 0)
    """
    L, T, centre = list.rows, thirds.rows, list.atom[n_entry]
    e, o, n_element = element[centre], place(n_entry, plan), plan.z.shape[0]
    # from the centre to i
    ux, uy, uz, ua, r, ri = (-L[o + X], -L[o + Y], -L[o + Z], -L[o + a], L[o + R], L[o + RI])
    for g in range(plan.compact[e, 1], plan.compact[e + 1, 1]):
        low, high = plan.compact_reach[g, 0], plan.compact_reach[g, 1]
        if (plan.compact_group[g, 2] != 0) != narrow or r <= low or r >= high:
            continue
        e_k = plan.compact_group[g, 0]
        if e_k < 0:
            e_k = n_element
        elif e_k == e_i:
            e_k = plan.compact_group[g, 1]
        elif plan.compact_group[g, 1] != e_i:
            continue
        for n_k in range(thirds.part[e_k, 0], thirds.part[e_k, 1]):
            k = place(n_k, plan)
            if narrow and n_k == n_entry:
                continue  # the centre itself
            x, y, z, va = (
                T[k + X] + offset * ux,
                T[k + Y] + offset * uy,
                T[k + Z] + offset * uz,
                T[k + a] + offset * ua,
            )
            b = math.sqrt(x * x + y * y + z * z)
            wx, wy, wz = x - ux, y - uy, z - uz
            c2 = wx * wx + wy * wy + wz * wz
            if b <= low or b >= high or c2 < SAME:
                continue
            c = math.sqrt(c2)
            if narrow and (c <= low or c >= high):
                continue
            cos, weight = (ux * x + uy * y + uz * z) * ri / b, plan.z[e_i] * plan.z[element[thirds.atom[n_k]]]
            da, dc, dcos = ua * ri, (ua - va) / c, va * ri / b - cos * ua * ri * ri
            for f in range(plan.compact_group[g, 3], plan.compact_group[g + 1, 3]):
                _, ta, _, tc, tcos = angular_term(f, narrow, r, b, c, cos, weight, plan)
                V[centre, plan.compact_function[f, 0] - plan.start[e]] += ta * da + tc * dc + tcos * dcos
