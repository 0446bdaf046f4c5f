"""Entry points for one structure: symmetry functions; energy, forces and virial.

Everything in Angstrom and units of the nets.
"""

import numpy as np

from mpnnp.kernels.jit import read_only
from mpnnp.kernels.pairs import energy_forces_of_pairs, find_pairs, functions_of_pairs
from mpnnp.kernels.plan import plan_of


def symmetry_functions(structures, s, table, G):
    """Symmetry functions of structure s: G (n_atom of it, n_max), unscaled, zero beyond an element's own;
    overwritten.

    structures  Structures;  table  Table
    """
    functions_of_structure(structures, s, plan_of(table), G)


def functions_of_structure(structures, s, plan, G):
    """The same; plan  Plan of the table."""
    functions_of_pairs(pairs_of(structures, s, plan), 0, *geometry_of(structures, s), plan, G)


def pairs_of(structures, s, plan):
    """Pairs of all atoms of structure s within the reach of the functions."""
    n_atom = int(structures.start[s + 1] - structures.start[s])
    return find_pairs(structures, int(s), 0, n_atom, float(plan.reach[0]), plan)


def geometry_of(structures, s):
    """Elements, positions and cell of structure s."""
    atoms = slice(structures.start[s], structures.start[s + 1])
    return structures.element[atoms], structures.positions[atoms], structures.cell[s]


def energy_forces(structures, s, model, w, G, energies, forces, virial):
    """Energies, forces and virial of structure s; nothing stored.

    structures  Structures
    model, w    Model, weights (n_weight,)
    G           (n_atom of it, n_max) its symmetry functions, overwritten
    energies    (n_atom,) N_e(g_i), overwritten
    forces      (n_atom, 3) -dE/dx of E = sum of energies, 1/Angstrom, overwritten
    virial      (3, 3) dE/dstrain, overwritten
    """
    pairs, geometry = pairs_of(structures, s, model.plan), geometry_of(structures, s)
    of_one = energies[None], forces[None], virial[None]
    energy_forces_of_pairs(pairs, 0, *geometry, model, read_only(w)[None], False, G, *of_one)


def energy_forces_stored(structures, s, model, w, G, energies, forces, virial):
    """As energy_forces, from the symmetry functions G (n_atom of it, n_max) of structure s,
    which may be read-only.
    """
    G = np.array(G)  # of the type that the kernel writes to, so that it is compiled once
    pairs, geometry = pairs_of(structures, s, model.plan), geometry_of(structures, s)
    of_one = energies[None], forces[None], virial[None]
    energy_forces_of_pairs(pairs, 0, *geometry, model, read_only(w)[None], True, G, *of_one)
