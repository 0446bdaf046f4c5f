"""The nets on the symmetry functions of a structure: atomic energies and their gradient by the functions."""

import numpy as np

from mpnnp.kernels.jit import kernel
from mpnnp.kernels.network import backward, forward, layer, make_workspace


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
