"""Symmetry functions, energies, forces and virial from a list of pairs, which serves both passes over the
neighbours, and many steps of molecular dynamics.

The list holds every pair within the cutoff, and a skin if it is to last, as atom and image, without its
distance: that is computed anew each time, as everywhere. A rank takes the atoms [first, first + n_own); it
writes their energies, and its part of the forces on all.
"""

from typing import NamedTuple

import numpy as np

from mpnnp.kernels.atomic_energies import energies_and_gradients
from mpnnp.kernels.compact import compact_functions, compact_gradient
from mpnnp.kernels.functions import (
    angular_functions,
    angular_gradient,
    radial_functions,
    radial_gradient,
)
from mpnnp.kernels.jit import kernel
from mpnnp.kernels.neighbours import (
    FIRST_CAPACITY,
    KX,
    KY,
    KZ,
    N_IMAGE_ROW,
    OWN,
    X,
    Y,
    Z,
    exchange,
    fill,
    make_list,
    measure,
    packed_atoms,
    place,
    search,
)
from mpnnp.kernels.network import make_workspace
from mpnnp.kernels.triplets import make_block

# how far a function may lie outside its range before it counts: n2p2's tolerance
EDGE = 1000 * np.finfo(np.float64).eps


class Pairs(NamedTuple):
    """Candidates for neighbours of atoms first, first + 1, ...:
    those of atom first + k are start[k]:start[k+1].
    """

    start: np.ndarray  # (n_own+1,) int64
    atom: np.ndarray  # (n_pair,) int32
    image: np.ndarray  # (n_pair, 3) int32


class Scratch(NamedTuple):
    """What energies and forces of one atom after the other are computed in, of n potentials."""

    near: NamedTuple  # List
    block: NamedTuple  # Block
    work: NamedTuple  # Workspace
    energies: np.ndarray  # (n,) of an atom
    dE_dG: np.ndarray  # (n, n_max) of an atom
    members: np.ndarray  # (n, 4, capacity of the list) their gradient rows


@kernel(makes_arrays=True)
def find_pairs(structures, s, first, last, radius, plan):
    """Pairs of the atoms [first, last) of structure s, within `radius` Angstrom."""
    n_atom = structures.start[s + 1] - structures.start[s]
    atoms = packed_atoms(structures, s)
    cell, inverse, pbc = structures.cell[s], structures.inverse[s], structures.pbc[s]
    image, near = np.empty(np.int64(N_IMAGE_ROW)), make_list(FIRST_CAPACITY, plan)
    start = np.zeros(last - first + 1, np.int64)
    atom, shift = np.empty(0, np.int32), np.empty((0, 3), np.int32)
    for i in range(first, last):
        n = search(atoms, n_atom, i, cell, inverse, pbc, radius, image, near)
        if n > near.atom.shape[0]:
            near = make_list(n + n // 4, plan)
            n = search(atoms, n_atom, i, cell, inverse, pbc, radius, image, near)
        begin = start[i - first]
        if begin + n > atom.shape[0]:
            room = (begin + n) * (last - first) // (i - first + 1) * 9 // 8 + 64
            more_atom, more_shift = np.empty(room, np.int32), np.empty((room, 3), np.int32)
            copy_pairs(atom, shift, begin, more_atom, more_shift, 0)
            atom, shift = more_atom, more_shift
        copy_pairs(near.found_atom, near.found_image, n, atom, shift, begin)
        start[i - first + 1] = begin + n
    return Pairs(start, atom, shift)


@kernel
def copy_pairs(from_atom, from_shift, n, atom, shift, begin):
    """The first n neighbours to `begin` and after; as `elementwise.copy`, element by element."""
    for k in range(n):
        atom[begin + k] = from_atom[k]
        for d in range(3):
            shift[begin + k, d] = from_shift[k, d]


@kernel(makes_arrays=True)
def list_for(pairs, plan):
    """A list with room for the neighbours of any atom of the pairs."""
    most = np.int64(1)
    for k in range(pairs.start.shape[0] - 1):
        most = max(most, pairs.start[k + 1] - pairs.start[k])
    return make_list(most, plan)


@kernel
def neighbours_in_pairs(k, i, pairs, element, positions, cell, plan, near):
    """Fill the list `near` with the neighbours of atom i, number k of the pairs."""
    a, b = pairs.start[k], pairs.start[k + 1]
    n = measure(i, a, b, pairs.atom, pairs.image, positions, cell, plan.reach[0] * plan.reach[0], near)
    fill(n, i, element, plan, near)


@kernel(makes_arrays=True)
def functions_of_pairs(pairs, first, element, positions, cell, plan, G):
    """Symmetry functions of the atoms of the pairs: G (n_own, n_max), unscaled, overwritten.

    element (n_atom,) int64, positions (n_atom, 3) and cell (3, 3), Angstrom, of the whole structure
    """
    near, block = list_for(pairs, plan), make_block(plan, False)
    each_functions(pairs, first, element, positions, cell, plan, near, block, G)


@kernel
def each_functions(pairs, first, element, positions, cell, plan, near, block, G):
    """The same, one atom after the other, in the scratch near and block."""
    G[:] = 0.0
    for k in range(pairs.start.shape[0] - 1):
        if plan.stop[0]:
            break
        i = first + k
        neighbours_in_pairs(k, i, pairs, element, positions, cell, plan, near)
        functions_of_centre(element[i], element, near, plan, block, G[k])


@kernel(forceinline=True)
def functions_of_centre(e, element, near, plan, block, G):
    """Add the symmetry functions of a centre of element e to G (n_max,); the number of blocks that
    angular_functions keeps, whose rows the others must not touch.
    """
    radial_functions(e, near, plan, G)
    compact_functions(e, element, near, plan, plan.compact, block, G)
    return angular_functions(e, near, plan, block, G)


@kernel(makes_arrays=True)
def energy_forces_of_pairs(
    pairs, first, element, positions, cell, model, w, known, G, energies, forces, virial
):
    """Energies, and the part of forces and virial, of the atoms of the pairs, with the weights w[0]; and how
    they change with deviations of the weights, if w has more rows, in the same pass over the triplets.

    w         (n, n_weight) weights, then n - 1 times weights + STEP deviation
    known     whether G holds their symmetry functions already
    G         (n_own, n_max) symmetry functions, unscaled; overwritten if not known
    energies  (n, n_own) N_e(g_i), then their derivatives along the deviations; overwritten
    forces    (n, n_atom, 3) -dE/dx of E = sum of these energies, 1/Angstrom, overwritten
    virial    (n, 3, 3) dE/dstrain, overwritten

    Neighbours are sorted once, and what both passes over the triplets of a centre need is computed once. A
    prediction is linear in dE/dG: its derivative by the weights has that of dE/dG, and the same geometry.
    """
    n, near = w.shape[0], list_for(pairs, model.plan)
    scratch = Scratch(
        near,
        make_block(model.plan, not known),
        make_workspace(model.topology, 1),
        np.empty(n),
        np.empty((n, G.shape[1])),
        np.zeros((n, 4, near.atom.shape[0])),
    )
    each_energy_forces(
        pairs, first, element, positions, cell, model, w, known, scratch, G, energies, forces, virial
    )


@kernel
def each_energy_forces(
    pairs, first, element, positions, cell, model, w, known, scratch, G, energies, forces, virial
):
    """As energy_forces_of_pairs."""
    plan, n, near, block = model.plan, w.shape[0], scratch.near, scratch.block
    own, dE_dG, members = scratch.energies, scratch.dE_dG, scratch.members
    if not known:
        G[:] = 0.0
    energies[:] = 0.0
    forces[:] = 0.0
    virial[:] = 0.0
    for k in range(pairs.start.shape[0] - 1):
        if plan.stop[0]:
            break
        i = first + k
        e = element[i]
        neighbours_in_pairs(k, i, pairs, element, positions, cell, plan, near)
        n_kept = 0 if known else functions_of_centre(e, element, near, plan, block, G[k])
        energies_and_gradients(e, G[k], model, w, scratch.work, own, dE_dG)
        for s in range(n):
            energies[s, k] = own[s]
        if n > 1:
            members[:] = 0.0
        radial_gradient(e, near, plan, dE_dG, members)
        angular_gradient(e, near, plan, block, n_kept, dE_dG, members)
        for s in range(n):
            exchange(near, plan, members, s)
            compact_gradient(e, element, near, plan, plan.compact, block, dE_dG[s])
            add_forces(i, near, plan, forces[s], virial[s])
            exchange(near, plan, members, s)


@kernel
def add_forces(i, near, plan, forces, virial):
    """Forces and virial from the gradients OWN r + K by the neighbours of centre i."""
    L = near.rows
    for k in range(near.part[plan.z.shape[0], 2]):
        o = place(k, plan)
        j = near.atom[k]
        x, y, z, own = L[o + X], L[o + Y], L[o + Z], L[o + OWN]
        gx, gy, gz = own * x + L[o + KX], own * y + L[o + KY], own * z + L[o + KZ]
        forces[i, 0] += gx
        forces[i, 1] += gy
        forces[i, 2] += gz
        forces[j, 0] -= gx
        forces[j, 1] -= gy
        forces[j, 2] -= gz
        virial[0, 0] += gx * x
        virial[0, 1] += gx * y
        virial[0, 2] += gx * z
        virial[1, 0] += gy * x
        virial[1, 1] += gy * y
        virial[1, 2] += gy * z
        virial[2, 0] += gz * x
        virial[2, 1] += gz * y
        virial[2, 2] += gz * z


@kernel
def count_extrapolations(element, G, start, low, high):
    """Number of functions outside [low, high] (n_function,) of atoms with functions G (n_own, n_max);
    a NaN counts.
    """
    n = 0
    for i in range(element.shape[0]):
        a = start[element[i]]
        for m in range(start[element[i] + 1] - a):
            n += not (low[a + m] - EDGE <= G[i, m] <= high[a + m] + EDGE)
    return n
