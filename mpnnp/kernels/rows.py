"""Entry points for labels: predictions and rows d(prediction)/dw of the energies of structures and of components of forces.

Everything of one update in one call. Predictions are in units of the nets: E = sum_i N_e(g_i), F = -dE/dx in 1/Angstrom.
Arguments that all have in common:
    structures  Structures of the data set
    G           (n_atom, n_max) symmetry functions of the data set, unscaled, read-only (jit.read_only)
    model, w    Model, weights (n_weight,)
    values      (n_label,) predictions, overwritten;  rows (n_label, n_weight), overwritten
"""

import numpy as np

from mpnnp.kernels import plain
from mpnnp.kernels.evaluation import gather, select
from mpnnp.kernels.jit import kernel
from mpnnp.kernels.network import energy_row, energy_value, layer, make_workspace, tangent_row, tangent_value


@kernel
def most_atoms(structures, labels):
    """Largest number of atoms in the structures of labels."""
    n = 0
    for s in labels:
        n = max(n, structures.start[s + 1] - structures.start[s])
    return n


@kernel
def energy_rows(labels, structures, G, model, w, rows, values):
    """Predictions and rows of the energies of the structures labels (n_label,) int64."""
    energies_of(labels, structures, G, model, w, True, rows, values)


@kernel
def energy_values(labels, structures, G, model, w, values):
    """Predictions of the energies of the structures labels (n_label,) int64."""
    energies_of(labels, structures, G, model, w, False, np.empty((0, 0)), values)


@kernel
def energies_of(labels, structures, G, model, w, with_rows, rows, values):
    t = model.topology
    n_max = most_atoms(structures, labels)
    work, atoms = make_workspace(t, n_max), np.empty(n_max, np.int64)
    values[:] = 0.0
    rows[:] = 0.0
    for i in range(labels.shape[0]):
        a, b = structures.start[labels[i]], structures.start[labels[i] + 1]
        for e in range(t.n_layer.shape[0]):
            n = select(structures.element[a:b], e, atoms)
            if n > 0:
                gather(G[a:b], atoms, n, model, e, layer(work.Y, n, t, e, 0))
                if with_rows:
                    values[i] += energy_row(e, n, t, w, work, rows[i])
                else:
                    values[i] += energy_value(e, n, t, w, work)


@kernel
def force_rows(labels, structures, G, model, w, rows, values):
    """Predictions and rows of force components: labels (n_label, 3) int64 structure, atom in it, component 0, 1, 2."""
    forces_of(labels, structures, G, model, w, True, rows, values)


@kernel
def force_values(labels, structures, G, model, w, values):
    """Predictions of force components: labels (n_label, 3) int64 structure, atom in it, component 0, 1, 2."""
    forces_of(labels, structures, G, model, w, False, np.empty((0, 0)), values)


@kernel
def forces_of(labels, structures, G, model, w, with_rows, rows, values):
    t = model.topology
    n_max = most_atoms(structures, labels[:, 0])
    work, atoms = make_workspace(t, 2 * n_max), np.empty(n_max, np.int64)
    V = np.empty((n_max, G.shape[1]))
    values[:] = 0.0
    rows[:] = 0.0
    for i in range(labels.shape[0]):
        s = labels[i, 0]
        a, b = structures.start[s], structures.start[s + 1]
        element = structures.element[a:b]
        start, index, vector = plain.neighbour_list(
            structures.positions[a:b], structures.cell[s], structures.inverse[s], structures.pbc[s], np.max(model.table.r_c)
        )
        plain.tangents(element, start, index, vector, model.table, labels[i, 1], labels[i, 2], V[: b - a])
        for e in range(t.n_layer.shape[0]):
            n = select(element, e, atoms)
            if n > 0:
                gv = layer(work.Y, 2 * n, t, e, 0)
                gather(G[a:b], atoms, n, model, e, gv[:n])
                gather_tangents(V, atoms, n, model, e, gv[n:])
                if with_rows:
                    values[i] += tangent_row(e, n, -1.0, t, w, work, rows[i])
                else:
                    values[i] += tangent_value(e, n, -1.0, t, w, work)


@kernel
def gather_tangents(V, atoms, n, model, e, v):
    """Scaled tangents v (n, n_function of e) of the first n of atoms."""
    first = model.table.start[e]
    for r in range(n):
        for m in range(v.shape[1]):
            v[r, m] = V[atoms[r], m] * model.factor[first + m]
