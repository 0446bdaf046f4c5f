"""Small systems of every kind, a set with every kind of function, and the plain oracle,
for the tests of the kernels.
"""

import numpy as np
from oracles import plain

from mpnnp.kernels.energy_forces import energy_forces, symmetry_functions
from mpnnp.kernels.jit import read_only
from mpnnp.kernels.packs import make_model, make_structures
from mpnnp.model.network import Network
from mpnnp.model.symmetry_functions import SymmetryFunctions, parse_line

ELEMENTS = (1, 6, 8)
LINES = {  # eta, r_s, r_c | eta, lambda, zeta, r_c, r_s | weighted: eta, r_s, (lambda, zeta,) r_c
    0: ["H 12 0.2 0.5 4.0", "C 2 H 0.1 0 4.0", "O 2 C 0.1 0 4.0"],
    1: [
        "H 2 H 0.1 0 4.0",
        "H 2 O 0.5 1.1 4.5",
        "H 3 O H 0.07 1 1 4.0",
        "H 3 O H 0.01 1 4 4.0",
        "H 3 O H 0.03 -1 2 3.5",
        "C 3 H O 0.1 1 1 4.0",
    ],
    2: [
        "O 2 H 0.1 0 4.0",
        "O 3 H H 0.05 -1 4 4.0",
        "O 3 H H 0.05 1 2.5 4.0 0.7",
        "O 3 H H 0 1 16 4.0",
        "H 9 H H 0.1 1 3 3.8",
    ],
    3: ["O 9 O H 0.1 1 1 4.2", "O 9 O H 0.3 -1 1 4.2", "O 3 O H 0.1 1 1 3.0", "H 9 O O 0.1 -1 2 4.0 0.4"],
    4: ["O 2 O 0.3 1 4.0", "O 3 O O 0.02 1 21 4.0"],
    5: ["H 3 O O 0.2 1 1 4.0"],
    6: ["O 13 0.1 0 1 1 3.9", "O 13 0.1 0.6 -1 3 3.9", "O 12 0.3 0.2 4.0", "H 13 0.04 0 1 2 4.0"],
    7: ["H 3 C O 0.2 1 1 4.0", "H 3 H H 0.2 -1 1 4.0"],
    8: ["H 3 H H 0.2 1 1 4.0"],
}
INNER = {1: 0.2, 5: 0.3}  # inner radius of cutoff functions


def make_functions():
    lines = [(line, cutoff) for cutoff, group in LINES.items() for line in group]
    return SymmetryFunctions(
        ELEMENTS, [parse_line(line, cutoff, INNER.get(cutoff, 0.0), length=1.0) for line, cutoff in lines]
    )


def spread(rng, n, cell, distance):
    """n positions at least `distance` apart, images of the periodic cell not counted."""
    positions = []
    while len(positions) < n:
        trial = rng.random(3) @ cell
        if all(np.linalg.norm(trial - p) > distance for p in positions):
            positions.append(trial)
    return np.array(positions)


def make_systems():
    """name -> (element indices, positions, cell, pbc)."""
    rng = np.random.default_rng(7)
    skew = np.array([[3.1, 0.0, 0.0], [0.9, 3.3, 0.0], [-0.7, 0.5, 3.0]])
    wide = np.array([[7.0, 0.3, 0.0], [-1.0, 6.5, 0.4], [0.5, 1.2, 8.0]])
    slab = np.array([[5.0, 0.5, 0.0], [0.0, 4.0, 0.3], [0.0, 0.0, 0.0]])
    box = np.diag([5.0, 4.1, 4.3])  # no image at the distance of a hard cutoff
    flat = slab + np.diag([0.0, 0.0, 4.0])
    return {
        "three atoms in a cell smaller than the cutoff": (
            np.array([0, 0, 2]),
            spread(rng, 3, skew, 0.9),
            skew,
            (True, True, True),
        ),
        "triclinic": (
            np.array([0, 2, 0, 0, 2, 0, 1, 2]),
            spread(rng, 8, wide, 0.9),
            wide,
            (True, True, True),
        ),
        "slab": (np.array([0, 2, 0, 2, 2, 0]), spread(rng, 6, flat, 0.9), slab, (True, True, False)),
        "wire": (np.array([0, 2, 1, 0]), spread(rng, 4, box, 0.9), box, (False, True, False)),
        "cluster": (
            np.array([0, 2, 0, 1, 2, 0, 0]),
            spread(rng, 7, box, 0.9),
            np.zeros((3, 3)),
            (False, False, False),
        ),
        "isolated atom": (np.array([0]), np.zeros((1, 3)), np.zeros((3, 3)), (False, False, False)),
        "one atom and its images": (np.array([2]), np.zeros((1, 3)), skew, (True, True, True)),
        "an element is absent": (np.array([0, 0, 2, 0]), spread(rng, 4, box, 0.9), box, (True, False, True)),
    }


FUNCTIONS = make_functions()
SYSTEMS = make_systems()


def make_net(functions=FUNCTIONS, activations=("tanh", "softplus"), hidden=(6, 5), seed=1):
    """Model with shifts and factors, and weights."""
    rng = np.random.default_rng(seed)
    n_input = np.diff(functions.table.start)
    network = Network([(int(n), *hidden, 1) for n in n_input], [(*activations, "identity")] * len(n_input))
    shift, factor = rng.normal(size=len(functions)), rng.uniform(0.3, 1.0, len(functions))
    return make_model(functions.table, shift, factor, network.topology), rng.normal(
        size=network.n_weight
    ) * 0.7


def pack(*systems):
    start = np.cumsum([0] + [len(s[0]) for s in systems])
    columns = [np.concatenate([s[k] for s in systems]) for k in (0, 1)]
    return make_structures(
        start, *columns, np.array([s[2] for s in systems]), np.array([s[3] for s in systems])
    )


def evaluate(system, model, w):
    """G, atomic energies, forces and virial by the fast kernels."""
    n = len(system[0])
    G, energies, forces, virial = np.empty((n, n_max(model))), np.empty(n), np.empty((n, 3)), np.empty((3, 3))
    energy_forces(pack(system), 0, model, w, G, energies, forces, virial)
    return G, energies, forces, virial


def n_max(model):
    return int(np.diff(model.table.start).max())


def functions_of(systems, model):
    """Structures and their symmetry functions, read-only as in a training run."""
    structures = pack(*systems)
    G = np.empty((structures.start[-1], n_max(model)))
    for s in range(len(systems)):
        symmetry_functions(structures, s, model.table, G[structures.start[s] : structures.start[s + 1]])
    return structures, read_only(G)


def plain_list(system, model):
    s = pack(system)
    return s.element, *plain.neighbour_list(
        s.positions, s.cell[0], s.inverse[0], s.pbc[0], float(max(model.table.r_c))
    )
