"""Energies, forces and virial of a potential, and how they change with small deviations of its weights:
members of a committee that share neighbours, symmetry functions and the geometry of triplets in one pass.

With y(w) a prediction and h = dy/dw, member s has the change h . D_s for the deviation D_s (n_weight,): of
draws D from N(0, P) the mean square is h P h^T. A prediction is linear in dE/dG, so that the change of dE/dG
is contracted with the same geometry as dE/dG itself.
"""

import numpy as np

from mpnnp.kernels.atomic_energies import energies_and_gradient
from mpnnp.kernels.compact import compact_gradient
from mpnnp.kernels.elementwise import copy
from mpnnp.kernels.functions import add_run, radial_slope, scatter_block
from mpnnp.kernels.jit import FASTMATH, kernel
from mpnnp.kernels.near import prepare, prepare_run
from mpnnp.kernels.neighbours import FC, FIRST_CAPACITY, KX, KY, KZ, OWN, STRIDE, WIDTH, make_list, place
from mpnnp.kernels.pairs import add_forces, neighbours_in_pairs
from mpnnp.kernels.triplets import (
    fill_block,
    make_block,
    pair_parts,
    run_exps,
    run_range,
)

STEP = 1e-6  # of the weights, times a deviation: differences are derivatives to as many digits


@kernel
def energy_forces_of_members(
    pairs, first, element, positions, cell, model, w, deviations, G, energies, forces, virial
):
    """Energies and this rank's part of forces and virial, first of the weights w, then the changes by each
    deviation; arguments as of energy_forces_of_pairs.

    deviations  (n_member, n_weight)
    energies    (1 + n_member, n_own), forces (1 + n_member, n_atom, 3), virial (1 + n_member, 3, 3);
                overwritten
    """
    n_own, plan, n = pairs.start.shape[0] - 1, model.plan, forces.shape[0]
    dE_dG = np.empty((n_own, n, G.shape[1]))
    gradients(element[first : first + n_own], G, model, w, deviations, energies, dE_dG)
    near, block = make_list(FIRST_CAPACITY, plan), make_block(plan, False)
    kept = np.zeros((n, 4, near.atom.shape[0]))
    forces[:] = 0.0
    virial[:] = 0.0
    for k in range(n_own):
        if plan.stop[0]:
            break
        i = first + k
        near = neighbours_in_pairs(k, i, pairs, element, positions, cell, plan, near)
        if near.atom.shape[0] > kept.shape[2]:
            kept = np.zeros((n, 4, near.atom.shape[0]))
        kept[:, :, : near.part[plan.z.shape[0], 2]] = 0.0
        radial_gradients(element[i], near, plan, dE_dG[k], kept)
        angular_gradients(element[i], near, plan, block, dE_dG[k], kept)
        for s in range(n):
            exchange(near, plan, kept[s])
            compact_gradient(element[i], element, near, plan, plan.compact, block, dE_dG[k, s])
            add_forces(i, near, plan, forces[s], virial[s])
            exchange(near, plan, kept[s])


@kernel
def gradients(element, G, model, w, deviations, energies, dE_dG):
    """Atomic energies (1 + n_member, n_own) and dE/dG (n_own, 1 + n_member, n_max) of w,
    and their changes by the deviations.
    """
    n = energies.shape[0]
    own = np.empty((element.shape[0], G.shape[1]))
    for s in range(n):
        near_w = w.copy()
        if s > 0:
            near_w += STEP * deviations[s - 1]
        energies_and_gradient(element, G, model, near_w, energies[s], own)
        for a in range(own.shape[0]):
            copy(dE_dG[a, s], own[a], 0)
    for s in range(1, n):
        energies[s] = (energies[s] - energies[0]) / STEP
        dE_dG[:, s] = (dE_dG[:, s] - dE_dG[:, 0]) / STEP


@kernel
def exchange(near, plan, kept):
    """Swap the gradient rows OWN, KX, KY, KZ of a list with kept (4, n)."""
    L, last = near.rows, near.part[plan.z.shape[0], 2]
    for c in range(0, last, np.int64(WIDTH)):
        o, n = place(c, plan), np.uintp(min(last - c, np.int64(WIDTH)))
        for t in range(n):
            at = c + np.int64(t)
            L[o + OWN + t], kept[0, at] = kept[0, at], L[o + OWN + t]
            L[o + KX + t], kept[1, at] = kept[1, at], L[o + KX + t]
            L[o + KY + t], kept[2, at] = kept[2, at], L[o + KY + t]
            L[o + KZ + t], kept[3, at] = kept[3, at], L[o + KZ + t]


@kernel
def radial_gradients(e, near, plan, dE_dG, kept):
    """Add to OWN of each member, kept (n, 4, ...), what the radial functions contribute; dE_dG (n, n_max).

    The slope of a function is computed once.
    """
    L = near.rows
    for f in range(plan.radial[e], plan.radial[e + 1]):
        m, e1, q = plan.radial_function[f, 0], plan.radial_function[f, 1], plan.radial_function[f, 2]
        first, last = near.part[e1, 0], near.part[e1, 2]
        while first < last:
            n = min(last - first, np.int64(WIDTH) - first % np.int64(WIDTH))
            o = place(first, plan)
            fc = o + FC + np.uintp(2 * q) * STRIDE
            radial_slope(L, L, o, np.uintp(n), fc, plan.radial_at[f, 0], plan.radial_at[f, 1], 1.0)
            for s in range(kept.shape[0]):
                add_times(dE_dG[s, m - plan.start[e]], L[o + OWN : o + OWN + np.uintp(n)], kept[s, 0, first:])
            L[o + OWN : o + OWN + np.uintp(n)] = 0.0
            first += n


@kernel(fastmath=FASTMATH)
def add_times(factor, x, out):
    for t in range(np.uintp(x.shape[0])):
        out[t] += factor * x[t]


@kernel
def angular_gradients(e, near, plan, block, dE_dG, kept):
    """Add to OWN and K of each member, kept (n, 4, ...), what the angular functions contribute;
    dE_dG (n, n_max). As angular_gradient, with geometry, angles and exponentials computed once.
    """
    S, L = block.rows, near.rows
    for g in range(plan.group[e], plan.group[e + 1]):
        j_first, j_last, k_first, k_last, same = pair_parts(near, plan, g)
        for narrow in range(2):
            first_run, last_run = run_range(g, narrow, plan)
            j, k = (j_first if first_run < last_run else j_last), k_first
            while True:
                n_segment, n, j, k = fill_block(j_last, k_first, k_last, same, j, k, block)
                if n_segment == 0:
                    break
                used = prepare(n_segment, n, g, narrow, near, plan, block)
                for run in range(first_run, last_run):
                    prepare_run(n_segment, used, run, narrow, near, plan, block)
                    run_exps(S, used, run, g, narrow, plan)
                    fc = FC + np.uintp(2 * plan.run[run, 1]) * STRIDE
                    for s in range(kept.shape[0]):
                        add_run(S, used, run, g, e, dE_dG[s], plan)
                        exchange(near, plan, kept[s])
                        scatter_block(n_segment, used, block, L, plan, fc, g, narrow)
                        exchange(near, plan, kept[s])
