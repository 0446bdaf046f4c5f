"""Entry points for one structure: symmetry functions; energy, forces and virial. Everything in Angstrom and units of the nets."""

import numpy as np

from mpnnp.kernels import plain
from mpnnp.kernels.jit import kernel
from mpnnp.kernels.network import backward, forward, layer, make_workspace


@kernel
def symmetry_functions(structures, s, table, G):
    """Symmetry functions of structure s: G (n_atom of it, n_max), unscaled, zero beyond an element's own; overwritten.

    structures  Structures;  table  Table
    """
    a, b = structures.start[s], structures.start[s + 1]
    positions, element = structures.positions[a:b], structures.element[a:b]
    start, index, vector = plain.neighbour_list(positions, structures.cell[s], structures.inverse[s], structures.pbc[s], np.max(table.r_c))
    plain.symmetry_functions(element, start, index, vector, table, G)


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
    for r in range(n):
        for m in range(g.shape[1]):
            g[r, m] = (G[atoms[r], m] - model.shift[first + m]) * model.factor[first + m]


@kernel
def energy_forces(structures, s, model, w, G, energies, forces, virial):
    """Energies, forces and virial of structure s; nothing stored.

    structures  Structures
    model, w    Model, weights (n_weight,)
    G           (n_atom of it, n_max) its symmetry functions, overwritten
    energies    (n_atom,) N_e(g_i), overwritten
    forces      (n_atom, 3) -dE/dx of E = sum of energies, 1/Angstrom, overwritten
    virial      (3, 3) dE/dstrain, overwritten
    """
    symmetry_functions(structures, s, model.table, G)
    energy_forces_stored(structures, s, model, w, G, energies, forces, virial)


@kernel
def energy_forces_stored(structures, s, model, w, G, energies, forces, virial):
    """As energy_forces, from the symmetry functions G (n_atom of it, n_max) of structure s."""
    a, b = structures.start[s], structures.start[s + 1]
    positions, element = structures.positions[a:b], structures.element[a:b]
    table = model.table
    dE_dG = np.empty(G.shape)
    energies_and_gradient(element, G, model, w, energies, dE_dG)
    start, index, vector = plain.neighbour_list(positions, structures.cell[s], structures.inverse[s], structures.pbc[s], np.max(table.r_c))
    plain.forces(element, start, index, vector, table, dE_dG, forces, virial)
