"""Entry points for one structure: symmetry functions; energy, forces and virial.

Everything in Angstrom and units of the nets.
"""

import numpy as np

from mpnnp.kernels.compact import compact_functions, compact_gradient
from mpnnp.kernels.functions import (
    angular_functions,
    angular_gradient,
    make_block,
    radial_functions,
    radial_gradient,
)
from mpnnp.kernels.jit import kernel, read_only
from mpnnp.kernels.neighbours import (
    KX,
    KY,
    KZ,
    N_ATOM_ROW,
    N_IMAGE_ROW,
    OWN,
    WIDTH,
    X,
    Y,
    Z,
    fill,
    make_list,
    measure,
    pack_atoms,
    place,
    search,
)
from mpnnp.kernels.network import backward, forward, layer, make_workspace
from mpnnp.kernels.plan import plan_of

FIRST_CAPACITY = 256  # of neighbour lists; they grow


def symmetry_functions(structures, s, table, G):
    """Symmetry functions of structure s: G (n_atom of it, n_max), unscaled, zero beyond an element's own;
    overwritten.

    structures  Structures;  table  Table
    """
    functions_of_structure(structures, s, plan_of(table), G)


@kernel
def functions_of_structure(structures, s, plan, G):
    """The same, compiled; plan  Plan of the table."""
    a, b = structures.start[s], structures.start[s + 1]
    element = structures.element[a:b]
    atoms = packed_atoms(structures, s)
    image, near, block = np.empty(np.int64(N_IMAGE_ROW)), make_list(FIRST_CAPACITY, plan), make_block(plan)
    G[:] = 0.0
    for i in range(b - a):
        if plan.stop[0]:
            break
        near = neighbours_of(i, structures, s, atoms, element, plan, image, near)
        radial_functions(element[i], near, plan, G[i])
        angular_functions(element[i], near, plan, block, G[i])
        if plan.compact_function.shape[0] > 0:
            compact_functions(element[i], element, near, plan, G[i])


@kernel
def packed_atoms(structures, s):
    a, b = structures.start[s], structures.start[s + 1]
    atoms = np.empty(np.int64(N_ATOM_ROW) * ((b - a) // np.int64(WIDTH) + 1))
    pack_atoms(structures.positions[a:b], structures.inverse[s], structures.pbc[s], atoms)
    return atoms


@kernel
def neighbours_of(i, structures, s, atoms, element, plan, image, near):
    """The list of atom i of structure s: `near`, or a larger one if its neighbours do not fit."""
    cell, inverse, pbc = structures.cell[s], structures.inverse[s], structures.pbc[s]
    positions = structures.positions[structures.start[s] : structures.start[s + 1]]
    n = search(atoms, element.shape[0], i, cell, inverse, pbc, plan.reach[0], image, near)
    if n > near.atom.shape[0]:
        near = make_list(n + n // 4, plan)
        n = search(atoms, element.shape[0], i, cell, inverse, pbc, plan.reach[0], image, near)
    n = measure(
        i, 0, n, near.found_atom, near.found_image, positions, cell, plan.reach[0] * plan.reach[0], near
    )
    fill(n, i, element, plan, near)
    return near


@kernel
def energies_and_gradient(element, G, model, w, energies, dE_dG):
    """Atomic energies N_e(g_i) (n_atom,) and dE/dG (n_atom, n_max), zero beyond an element's own."""
    n_atom = element.shape[0]
    t = model.topology
    work = make_workspace(t, n_atom)
    atoms = np.empty(n_atom, np.int64)
    dE_dG[:] = 0.0
    row = np.empty(0)
    for e in range(t.n_layer.shape[0]):
        n = select(element, e, atoms)
        if n > 0:
            g = layer(work.Y, n, t, e, 0)
            gather(G, atoms, n, model, e, g)
            forward(e, n, False, t, w, work)
            last = t.n_layer[e]
            layer(work.B, n, t, e, last)[:] = 1.0
            backward(e, n, False, t, w, work, True, False, row)
            y, dE_dg = layer(work.Y, n, t, e, last), layer(work.B, n, t, e, 0)
            first = model.table.start[e]
            for r in range(n):
                energies[atoms[r]] = y[r, 0]
                for m in range(g.shape[1]):
                    dE_dG[atoms[r], m] = dE_dg[r, m] * model.factor[first + m]


@kernel
def select(element, e, atoms):
    """Indices of the atoms of element e, written to atoms; their number."""
    n = 0
    for i in range(element.shape[0]):
        if element[i] == e:
            atoms[n] = i
            n += 1
    return n


@kernel
def gather(G, atoms, n, model, e, g):
    """Scaled functions g (n, n_function of e) of the first n of atoms."""
    first = model.table.start[e]
    shift, factor = model.shift[first:], model.factor[first:]
    for r in range(n):
        values, scaled = G[atoms[r]], g[r]
        for m in range(np.uintp(g.shape[1])):
            scaled[m] = (values[m] - shift[m]) * factor[m]


def energy_forces(structures, s, model, w, G, energies, forces, virial):
    """Energies, forces and virial of structure s; nothing stored.

    structures  Structures
    model, w    Model, weights (n_weight,)
    G           (n_atom of it, n_max) its symmetry functions, overwritten
    energies    (n_atom,) N_e(g_i), overwritten
    forces      (n_atom, 3) -dE/dx of E = sum of energies, 1/Angstrom, overwritten
    virial      (3, 3) dE/dstrain, overwritten
    """
    functions_of_structure(structures, s, model.plan, G)
    compiled_energy_forces(structures, s, model, read_only(w), read_only(G), energies, forces, virial)


def energy_forces_stored(structures, s, model, w, G, energies, forces, virial):
    """As energy_forces, from the symmetry functions G (n_atom of it, n_max) of structure s,
    which may be read-only.
    """
    compiled_energy_forces(structures, s, model, read_only(w), read_only(G), energies, forces, virial)


@kernel
def compiled_energy_forces(structures, s, model, w, G, energies, forces, virial):
    a, b = structures.start[s], structures.start[s + 1]
    n_atom = b - a
    element, plan = structures.element[a:b], model.plan
    dE_dG = np.empty((n_atom, G.shape[1]))
    energies_and_gradient(element, G, model, w, energies, dE_dG)
    atoms = packed_atoms(structures, s)
    image, near, block = np.empty(np.int64(N_IMAGE_ROW)), make_list(FIRST_CAPACITY, plan), make_block(plan)
    forces[:] = 0.0
    virial[:] = 0.0
    for i in range(n_atom):
        if plan.stop[0]:
            break
        near = neighbours_of(i, structures, s, atoms, element, plan, image, near)
        radial_gradient(element[i], near, plan, dE_dG[i])
        angular_gradient(element[i], near, plan, block, dE_dG[i])
        if plan.compact_function.shape[0] > 0:
            compact_gradient(element[i], element, near, plan, dE_dG[i])
        add_forces(i, near, plan, forces, virial)


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
