"""Entry points for labels: predictions and rows d(prediction)/dw of the energies of structures, of components
of forces, and of stresses.

All labels of an update go into one call, which is one step of Python and one compiled call. Predictions are
in units of the nets: E = sum_i N_e(g_i), F = -dE/dx in 1/Angstrom, stress = dE/dstrain / volume in
1/Angstrom^3.

Arguments that all have in common:
    structures  Structures of the data set
    G           (n_atom, n_max) symmetry functions of the data set, unscaled; may be a mapped file
    model, w    Model, weights (n_weight,)
    values      (n_label,) predictions, overwritten;  rows (n_label, n_weight), overwritten
"""

from typing import NamedTuple

import numpy as np

from mpnnp.kernels.compact import has_compact
from mpnnp.kernels.compact_tangents import (
    compact_neighbour_tangents,
    compact_own_tangents,
    compact_wide_tangents,
)
from mpnnp.kernels.jit import kernel, read_only
from mpnnp.kernels.neighbours import (
    FIRST_CAPACITY,
    N_IMAGE_ROW,
    STRIDE,
    make_list,
    neighbours_of,
    packed_atoms,
)
from mpnnp.kernels.network import energy_row, energy_value, layer, make_workspace, tangent_row, tangent_value
from mpnnp.kernels.strains import strain_tangents
from mpnnp.kernels.tangents import has_wide, neighbour_tangents, own_tangents, radial_tangents, wide_tangents
from mpnnp.kernels.triplets import make_block

NO_ROWS = np.empty((0, 0))


@kernel
def most_atoms(structures, labels):
    """Largest number of atoms in the structures of labels."""
    n = 0
    for s in labels:
        n = max(n, structures.start[s + 1] - structures.start[s])
    return n


def energy_rows(labels, structures, G, model, w, rows, values):
    """Predictions and rows of the energies of the structures labels (n_label,) int64."""
    energies_of(read_only(labels), structures, read_only(G), model, read_only(w), True, rows, values)


def energy_values(labels, structures, G, model, w, values):
    """Predictions of the energies of the structures labels (n_label,) int64."""
    energies_of(read_only(labels), structures, read_only(G), model, read_only(w), False, NO_ROWS, values)


@kernel(makes_arrays=True)
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
                gather(G[a:b], atoms, n, model, e, work)
                if with_rows:
                    values[i] += energy_row(e, n, t, w, work, rows[i])
                else:
                    values[i] += energy_value(e, n, t, w, work)


def force_rows(labels, structures, G, model, w, rows, values):
    """Predictions and rows of force components: labels (n_label, 3) int64 structure, atom in it,
    component 0, 1, 2.
    """
    forces_of(read_only(labels), structures, read_only(G), model, read_only(w), True, rows, values)


def force_values(labels, structures, G, model, w, values):
    """Predictions of force components: labels (n_label, 3) int64 structure, atom in it, component 0, 1, 2."""
    forces_of(read_only(labels), structures, read_only(G), model, read_only(w), False, NO_ROWS, values)


@kernel(makes_arrays=True)
def forces_of(labels, structures, G, model, w, with_rows, rows, values):
    t, plan = model.topology, model.plan
    n_max = most_atoms(structures, labels[:, 0])
    work, atoms = make_workspace(t, 2 * n_max), np.empty(n_max, np.int64)
    V, last_seen = np.empty((n_max, G.shape[1])), np.full(n_max, -1)
    space = make_space(plan)
    values[:] = 0.0
    rows[:] = 0.0
    for label in range(labels.shape[0]):
        if plan.stop[0]:
            break
        s, i, component = labels[label]
        a, b = structures.start[s], structures.start[s + 1]
        element = structures.element[a:b]
        space = tangents(structures, s, i, component, plan, space, last_seen, label, V)
        for e in range(t.n_layer.shape[0]):
            n = moved_atoms(e, element, label, i, space.near, last_seen, atoms)
            if n > 0:
                gather(G[a:b], atoms, n, model, e, work)
                gather_tangents(V, atoms, n, model, e, work)
                if with_rows:
                    values[label] += tangent_row(e, n, -1.0, t, w, work, rows[label])
                else:
                    values[label] += tangent_value(e, n, -1.0, t, w, work)


def stress_rows(labels, structures, G, model, w, rows, values):
    """Predictions and rows of components of the stress: labels (n_label, 2) int64 structure,
    component xx yy zz yz xz xy.
    """
    stresses_of(read_only(labels), structures, read_only(G), model, read_only(w), True, rows, values)


def stress_values(labels, structures, G, model, w, values):
    """Predictions of components of the stress: labels (n_label, 2) int64 structure,
    component xx yy zz yz xz xy.
    """
    stresses_of(read_only(labels), structures, read_only(G), model, read_only(w), False, NO_ROWS, values)


@kernel(makes_arrays=True)
def stresses_of(labels, structures, G, model, w, with_rows, rows, values):
    t, plan = model.topology, model.plan
    n_max = most_atoms(structures, labels[:, 0])
    work, atoms, V = make_workspace(t, 2 * n_max), np.empty(n_max, np.int64), np.empty((n_max, G.shape[1]))
    space = make_space(plan)
    values[:] = 0.0
    rows[:] = 0.0
    for label in range(labels.shape[0]):
        if plan.stop[0]:
            break
        s, component = labels[label]
        first, last = structures.start[s], structures.start[s + 1]
        a, b = component % 3, component % 3
        if component > 2:  # yz xz xy
            a, b = (1 if component == 3 else 0), (1 if component == 5 else 2)
        near = strain_tangents(structures, s, a, b, plan, space, V)
        space = Space(near, space.far, space.image, space.block, space.target)
        scale = 1.0 / volume(structures.cell[s])
        for e in range(t.n_layer.shape[0]):
            n = select(structures.element[first:last], e, atoms)
            if n > 0:
                gather(G[first:last], atoms, n, model, e, work)
                gather_tangents(V, atoms, n, model, e, work)
                if with_rows:
                    values[label] += tangent_row(e, n, scale, t, w, work, rows[label])
                else:
                    values[label] += tangent_value(e, n, scale, t, w, work)


@kernel
def volume(cell):
    """|det cell|"""
    minor0 = cell[1, 1] * cell[2, 2] - cell[1, 2] * cell[2, 1]
    minor1 = cell[1, 0] * cell[2, 2] - cell[1, 2] * cell[2, 0]
    minor2 = cell[1, 0] * cell[2, 1] - cell[1, 1] * cell[2, 0]
    return abs(cell[0, 0] * minor0 - cell[0, 1] * minor1 + cell[0, 2] * minor2)


class Space(NamedTuple):
    """Scratch of the geometry of force labels."""

    near: NamedTuple  # List of the atom that moves
    far: NamedTuple  # List of one of its neighbours
    image: np.ndarray
    block: NamedTuple
    target: np.ndarray


@kernel(makes_arrays=True)
def make_space(plan):
    block = make_block(plan, False)
    return Space(
        make_list(FIRST_CAPACITY, plan),
        make_list(FIRST_CAPACITY, plan),
        np.empty(np.int64(N_IMAGE_ROW)),
        block,
        np.empty(block.segment.shape[0], np.int64),
    )


@kernel(makes_arrays=True)
def tangents(structures, s, i, component, plan, space, last_seen, label, V):
    """V[j] = dG_j/dx_ia (n_atom, n_max) of atom i of structure s and its neighbours j,
    whose last_seen becomes `label`.

    Other lines of V are left as they are. Returns the scratch, which may have grown.
    """
    a, b = structures.start[s], structures.start[s + 1]
    element = structures.element[a:b]
    atoms = packed_atoms(structures, s)
    near = neighbours_of(i, structures, s, atoms, element, plan, space.image, space.near)
    far, block, target = space.far, space.block, space.target
    n_element = plan.z.shape[0]
    V[i] = 0.0
    last_seen[i] = label
    for k in range(near.part[n_element, 2]):
        j = near.atom[k]
        if last_seen[j] != label:
            V[j] = 0.0
            last_seen[j] = label
    axis, e_i = np.uintp(component) * STRIDE, element[i]  # rows X, Y, Z
    radial_tangents(i, e_i, near, plan, block, axis, V)
    own_tangents(i, e_i, near, plan, block, target, axis, V)
    neighbour_tangents(i, e_i, near, plan, block, target, axis, V)
    compact, wide = has_compact(plan.compact), has_wide(plan)
    if compact:
        compact_own_tangents(i, e_i, element, near, plan, plan.compact, block, target, axis, V)
        compact_neighbour_tangents(i, e_i, near, plan, plan.compact, block, target, axis, V)
    if compact == 2 or wide:
        for e in range(n_element):
            for k in range(near.part[e, 0], near.part[e, 1]):
                if plan.stop[0]:
                    break
                if near.atom[k] != i:
                    far = neighbours_of(near.atom[k], structures, s, atoms, element, plan, space.image, far)
                    if wide:
                        wide_tangents(e_i, e, k, near, far, plan, block, target, axis, V)
                    if compact == 2:
                        compact_wide_tangents(
                            e_i, e, k, near, far, plan, plan.compact, block, target, axis, V
                        )
    return Space(near, far, space.image, block, target)


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
def gather(G, atoms, n, model, e, work):
    """Scaled functions (n, n_function of e) of the first n of atoms, to layer 0 of work.Y."""
    first, g = model.table.start[e], layer(work.Y, n, model.topology, e, 0)
    shift, factor = model.shift[first:], model.factor[first:]
    for r in range(n):
        values, scaled = G[atoms[r]], g[r]
        for m in range(np.uintp(g.shape[1])):
            scaled[m] = (values[m] - shift[m]) * factor[m]


@kernel
def moved_atoms(e, element, label, i, near, last_seen, atoms):
    """Atoms of element e among i and its neighbours, each once, written to atoms; their number.

    Marks them as taken.
    """
    n = 0
    if element[i] == e:
        atoms[0] = i
        last_seen[i] = -1
        n = 1
    for k in range(near.part[e, 0], near.part[e, 2]):
        j = near.atom[k]
        if last_seen[j] == label:
            atoms[n] = j
            last_seen[j] = -1
            n += 1
    return n


@kernel
def gather_tangents(V, atoms, n, model, e, work):
    """Scaled tangents (n, n_function of e) of the first n of atoms, to layer 0 of work.Y, below functions."""
    factor, v = model.factor[model.table.start[e] :], layer(work.Y, 2 * n, model.topology, e, 0)[n:]
    for r in range(n):
        values, scaled = V[atoms[r]], v[r]
        for m in range(np.uintp(v.shape[1])):
            scaled[m] = values[m] * factor[m]
