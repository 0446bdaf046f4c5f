"""The virial shared out over the atoms: what a stress per atom is made of."""

import numpy as np

from mpnnp.kernels.atomic_energies import energies_and_gradient
from mpnnp.kernels.compact import compact_gradient
from mpnnp.kernels.functions import angular_gradient, radial_gradient
from mpnnp.kernels.jit import kernel
from mpnnp.kernels.neighbours import KX, KY, KZ, OWN, X, Y, Z, place
from mpnnp.kernels.pairs import list_for, neighbours_in_pairs
from mpnnp.kernels.triplets import make_block


@kernel(makes_arrays=True)
def virials_of_pairs(pairs, first, element, positions, cell, model, w, G, virials):
    """The part of the atoms of the pairs in the virials of all atoms.

    virials (n_atom, 3, 3)  v_j = sum_i dE_i/dr_ij (r_ij)^T over the centres i of the pairs, with
                            r_ij = x_j - x_i; overwritten

    Their sum is dE/dstrain. A virial belongs to the atom that feels the force: with it the heat flux of
    many-body potentials is right (Fan et al., Phys. Rev. B 92, 094301 (2015)).
    """
    n_own, plan = pairs.start.shape[0] - 1, model.plan
    energies, dE_dG = np.empty(n_own), np.empty((n_own, G.shape[1]))
    energies_and_gradient(element[first : first + n_own], G, model, w, energies, dE_dG)
    near, block = list_for(pairs, plan), make_block(plan, False)
    members = np.zeros((1, 4, 0))
    virials[:] = 0.0
    for k in range(n_own):
        i = first + k
        neighbours_in_pairs(k, i, pairs, element, positions, cell, plan, near)
        radial_gradient(element[i], near, plan, dE_dG[k : k + 1], members)
        angular_gradient(element[i], near, plan, block, 0, dE_dG[k : k + 1], members)
        compact_gradient(element[i], element, near, plan, plan.compact, block, dE_dG[k])
        add_virials(near, plan, virials)


@kernel
def add_virials(near, plan, virials):
    """Virials from the gradients OWN r + K by the neighbours of one centre."""
    L = near.rows
    for k in range(near.part[plan.z.shape[0], 2]):
        o = place(k, plan)
        v = virials[near.atom[k]]
        r = (L[o + X], L[o + Y], L[o + Z])
        g = (L[o + OWN] * r[0] + L[o + KX], L[o + OWN] * r[1] + L[o + KY], L[o + OWN] * r[2] + L[o + KZ])
        for a in range(3):
            for b in range(3):
                v[a, b] += g[a] * r[b]
