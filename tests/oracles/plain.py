"""The physics in its simplest form: one triplet at a time, functions of three distances.

The oracle of the fast kernels.
"""

import math

import numpy as np

from mpnnp.kernels.cutoff import cutoff, window
from mpnnp.kernels.jit import kernel


@kernel(makes_arrays=True)
def count_images(positions, cell, inverse, pbc, r_c, i, write, index, vector):
    """Neighbours of atom i within r_c, all periodic images: number found;
    written to index, vector from entry 0 on if `write`.
    """
    n = 0
    low, high, f = np.zeros(3, np.int64), np.zeros(3, np.int64), np.zeros(3)
    u = np.zeros(3)
    for j in range(positions.shape[0]):
        for d in range(3):
            low[d] = high[d] = 0
            if pbc[d]:  # |f + n| |r| <= r_c / height, exact for every cell
                reach = 0.0
                f[d] = 0.0
                for a in range(3):
                    f[d] += (positions[j, a] - positions[i, a]) * inverse[a, d]
                    reach += inverse[a, d] * inverse[a, d]
                reach = r_c * math.sqrt(reach) + 1e-9
                low[d] = math.ceil(-f[d] - reach)
                high[d] = math.floor(-f[d] + reach)
        for n0 in range(low[0], high[0] + 1):
            for n1 in range(low[1], high[1] + 1):
                for n2 in range(low[2], high[2] + 1):
                    if j == i and n0 == 0 and n1 == 0 and n2 == 0:
                        continue
                    r2 = 0.0
                    for a in range(3):
                        u[a] = (
                            positions[j, a]
                            - positions[i, a]
                            + n0 * cell[0, a]
                            + n1 * cell[1, a]
                            + n2 * cell[2, a]
                        )
                        r2 += u[a] * u[a]
                    if r2 < r_c * r_c:
                        if write:
                            index[n] = j
                            vector[n] = u
                        n += 1
    return n


@kernel(makes_arrays=True)
def neighbour_list(positions, cell, inverse, pbc, r_c):
    """Full list: start (n_atom+1,), index (n_pair,), vector (n_pair, 3) from the centre to the image
    of atom index, Angstrom.
    """
    n_atom = positions.shape[0]
    start = np.zeros(n_atom + 1, np.int64)
    index, vector = np.empty(0, np.int64), np.empty((0, 3))
    for i in range(n_atom):
        start[i + 1] = start[i] + count_images(positions, cell, inverse, pbc, r_c, i, False, index, vector)
    index, vector = np.empty(start[n_atom], np.int64), np.empty((start[n_atom], 3))
    for i in range(n_atom):
        part = slice(start[i], start[i + 1])
        count_images(positions, cell, inverse, pbc, r_c, i, True, index[part], vector[part])
    return start, index, vector


@kernel
def radial(t, m, r):
    """Function m of table t (kinds 2, 12, 20, 23) of one neighbour at distance r, without the weight Z:
    value, d/dr.
    """
    if t.kind[m] >= 20:
        return window(t.subtype[m], t.r_l[m], t.r_c[m], r)
    fc, dfc = cutoff(t.cutoff[m], t.alpha[m], t.r_c[m], r)
    x = r - t.r_s[m]
    e = math.exp(-t.eta[m] * x * x)
    return e * fc, e * (dfc - 2.0 * t.eta[m] * x * fc)


@kernel
def angular(t, m, a, b, c):
    """Angular function m of table t of a triplet r_ij = a, r_ik = b, r_jk = c, without weights:
    value, d/da, d/db, d/dc.
    """
    cos = (a * a + b * b - c * c) / (2.0 * a * b)
    if t.kind[m] >= 20:
        return compact_angular(t, m, a, b, c, cos)
    base = 1.0 + t.lam[m] * cos
    if base <= 0.0:
        return 0.0, 0.0, 0.0, 0.0
    scale = 2.0 ** (1.0 - t.zeta[m])
    p = scale * base ** t.zeta[m]
    dp = scale * t.zeta[m] * t.lam[m] * base ** (t.zeta[m] - 1.0)  # d/dcos
    fa, dfa = cutoff(t.cutoff[m], t.alpha[m], t.r_c[m], a)
    fb, dfb = cutoff(t.cutoff[m], t.alpha[m], t.r_c[m], b)
    fc, dfc = 1.0, 0.0
    xa, xb, xc = a - t.r_s[m], b - t.r_s[m], 0.0
    if t.kind[m] != 9:
        fc, dfc = cutoff(t.cutoff[m], t.alpha[m], t.r_c[m], c)
        xc = c - t.r_s[m]
    e = math.exp(-t.eta[m] * (xa * xa + xb * xb + xc * xc))
    f = fa * fb * fc
    two_eta = 2.0 * t.eta[m]
    return (
        p * e * f,
        e * (dp * f * (1.0 / b - cos / a) + p * fb * fc * (dfa - two_eta * xa * fa)),
        e * (dp * f * (1.0 / a - cos / b) + p * fa * fc * (dfb - two_eta * xb * fb)),
        e * (-dp * f * c / (a * b) + p * fa * fb * (dfc - two_eta * xc * fc)),
    )


@kernel
def angle_window(subtype, left, right, cos):
    """Compact function of the angle theta with cos(theta) = cos, and its derivative by cos; never asymmetric.

    At 0 and 180 degrees the angle does not change to first order in any coordinate:
    the derivative is set to 0.
    """
    cos = min(max(cos, -1.0), 1.0)
    f, df = window(subtype - (subtype > 1 and subtype % 2 == 1), left, right, math.acos(cos))
    sine2 = 1.0 - cos * cos
    return f, (-df / math.sqrt(sine2) if sine2 > 1e-20 else 0.0)


@kernel
def compact_angular(t, m, a, b, c, cos):
    """The same for kinds 21, 22, 24, 25: windows of the angle and of the distances, of r_jk only
    for the narrow ones (21, 24).
    """
    p, dp = angle_window(t.subtype[m], t.left[m], t.right[m], cos)
    fa, dfa = window(t.subtype[m], t.r_l[m], t.r_c[m], a)
    fb, dfb = window(t.subtype[m], t.r_l[m], t.r_c[m], b)
    fc, dfc = 1.0, 0.0
    if t.kind[m] == 21 or t.kind[m] == 24:
        fc, dfc = window(t.subtype[m], t.r_l[m], t.r_c[m], c)
    f = fa * fb * fc
    return (
        p * f,
        dp * f * (1.0 / b - cos / a) + p * dfa * fb * fc,
        dp * f * (1.0 / a - cos / b) + p * fa * dfb * fc,
        -dp * f * c / (a * b) + p * fa * fb * dfc,
    )


@kernel
def radial_weight(t, m, e):
    """Weight of a neighbour of element e in function m: 0 if it is not meant."""
    if t.kind[m] == 12 or t.kind[m] == 23:
        return t.z[e]
    return 1.0 if (t.kind[m] == 2 or t.kind[m] == 20) and t.e1[m] == e else 0.0


@kernel
def angular_weight(t, m, e, f):
    """Weight of a pair of neighbours of elements e, f in function m: 0 if it is not meant."""
    if t.kind[m] in (13, 24, 25):
        return t.z[e] * t.z[f]
    meant = t.kind[m] in (3, 9, 21, 22) and (
        (t.e1[m] == e and t.e2[m] == f) or (t.e1[m] == f and t.e2[m] == e)
    )
    return 1.0 if meant else 0.0


@kernel
def length(u):
    return math.sqrt(u[0] * u[0] + u[1] * u[1] + u[2] * u[2])


@kernel(makes_arrays=True)
def symmetry_functions(element, start, index, vector, t, G):
    """G (n_atom, n_max) of all atoms; overwritten."""
    G[:] = 0.0
    for i in range(element.shape[0]):
        first = t.start[element[i]]
        for m in range(first, t.start[element[i] + 1]):
            for p in range(start[i], start[i + 1]):
                r_ij, e = length(vector[p]), element[index[p]]
                weight = radial_weight(t, m, e)
                if weight != 0.0:
                    G[i, m - first] += weight * radial(t, m, r_ij)[0]
                for q in range(p + 1, start[i + 1]):
                    weight = angular_weight(t, m, e, element[index[q]])
                    if weight != 0.0:
                        r_jk = length(vector[q] - vector[p])
                        G[i, m - first] += weight * angular(t, m, r_ij, length(vector[q]), r_jk)[0]


@kernel(makes_arrays=True)
def forces(element, start, index, vector, t, dE_dG, forces, virial):
    """Forces -dE/dx (n_atom, 3) and virial dE/dstrain (3, 3) from dE/dG (n_atom, n_max); overwritten.

    Every term depends on distances only: with g = dE/dr_ij, the force on j is -g u/r and the virial
    gains g u_a u_b / r.
    """
    forces[:] = 0.0
    virial[:] = 0.0
    for i in range(element.shape[0]):
        first = t.start[element[i]]
        for m in range(first, t.start[element[i] + 1]):
            for p in range(start[i], start[i + 1]):
                j, u = index[p], vector[p]
                weight = dE_dG[i, m - first] * radial_weight(t, m, element[j])
                if weight != 0.0:
                    add_pair(weight * radial(t, m, length(u))[1], i, j, u, forces, virial)
                for q in range(p + 1, start[i + 1]):
                    k, v = index[q], vector[q]
                    weight = dE_dG[i, m - first] * angular_weight(t, m, element[j], element[k])
                    if weight != 0.0:
                        g, da, db, dc = angular(t, m, length(u), length(v), length(v - u))
                        add_pair(weight * da, i, j, u, forces, virial)
                        add_pair(weight * db, i, k, v, forces, virial)
                        add_pair(weight * dc, j, k, v - u, forces, virial)


@kernel
def add_pair(dE_dr, i, j, u, forces, virial):
    """Add what a term with derivative dE_dr by the length of u, from i to j, does to forces and virial."""
    r = length(u)
    for a in range(3):
        f = dE_dr * u[a] / r
        forces[i, a] += f
        forces[j, a] -= f
        for b in range(3):
            virial[a, b] += f * u[b]


@kernel(makes_arrays=True)
def tangents(element, start, index, vector, t, atom, component, V):
    """V[j] = dG_j/dx_ia (n_atom, n_max), 1/Angstrom, of all atoms j for i = atom, a = component;
    overwritten.
    """
    V[:] = 0.0
    for i in range(element.shape[0]):
        first = t.start[element[i]]
        for m in range(first, t.start[element[i] + 1]):
            for p in range(start[i], start[i + 1]):
                j, u = index[p], vector[p]
                r_ij = length(u)
                move_j = (int(j == atom) - int(i == atom)) * u[component] / r_ij  # dr_ij/dx
                V[i, m - first] += radial_weight(t, m, element[j]) * radial(t, m, r_ij)[1] * move_j
                for q in range(p + 1, start[i + 1]):
                    k, v = index[q], vector[q]
                    weight = angular_weight(t, m, element[j], element[k])
                    if weight != 0.0 and (i == atom or j == atom or k == atom):
                        r_ik, r_jk = length(v), length(v - u)
                        g, da, db, dc = angular(t, m, r_ij, r_ik, r_jk)
                        move_k = (int(k == atom) - int(i == atom)) * v[component] / r_ik
                        move_jk = (int(k == atom) - int(j == atom)) * (v[component] - u[component]) / r_jk
                        V[i, m - first] += weight * (da * move_j + db * move_k + dc * move_jk)
