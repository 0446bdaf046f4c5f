"""Compiling the kernels before they are needed: one rank of each node compiles, the others load its machine code."""

import time
from types import SimpleNamespace

import numpy as np
from ase import Atoms

from mpnnp.calculator import Calculator
from mpnnp.dataset import Dataset
from mpnnp.ekf import make_ekf
from mpnnp.kernels.evaluation import symmetry_functions
from mpnnp.kernels.jit import CACHE_FOLDER, read_only
from mpnnp.network import Network
from mpnnp.observations import Observer
from mpnnp.parallel import first_of_each_node, serial
from mpnnp.potential import Potential
from mpnnp.progress import duration
from mpnnp.scaling import Scaling, Statistics
from mpnnp.streams import ENERGY, FORCE, Batch
from mpnnp.structure import Structure
from mpnnp.symmetry_functions import SymmetryFunction, SymmetryFunctions
from mpnnp.training_data import make_atoms


def compile_kernels(comm, log, simulation=False):
    """Run every kernel of a training run, or of a simulation, once on two atoms. Collective.

    What was compiled before, by any run on this machine, is loaded.
    """
    run, part = (_run_simulation, "pairs.*.nbi") if simulation else (_run_kernels, "*.nbi")
    new = CACHE_FOLDER is None or not any(CACHE_FOLDER.rglob(part))
    if new:
        log("compiling the kernels: once per machine and version of mpnnp, about a minute")
    begin = time.monotonic()
    first_of_each_node(comm, run)
    if new:
        log(f"kernels compiled in {duration(time.monotonic() - begin)}")


def _two_atoms():
    """(Structure, Potential) with a radial and an angular function."""
    atoms = Structure(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 1.0]], energy=0.0, forces=np.zeros((2, 3)))
    functions = SymmetryFunctions(
        [1],
        [
            SymmetryFunction(center=1, kind=2, neighbour1=1, r_c=3.0),
            SymmetryFunction(center=1, kind=3, neighbour1=1, neighbour2=1, zeta=1.0, lam=1.0, r_c=3.0),
        ],
    )
    zero, one = np.zeros(2), np.ones(2)
    potential = Potential(
        functions=functions,
        scaling=Scaling("none", 0.0, 1.0, Statistics(one, zero, one, zero, one)),
        network=Network([(2, 2, 1)], [("tanh", "identity")]),
        weights=np.full(9, 0.1),
        atomic_energies=np.zeros(1),
        mean_energy=0.0,
        energy_scale=1.0,
        force_scale=1.0,
    )
    return atoms, potential


def _run_simulation():
    structure, potential = _two_atoms()
    atoms = Atoms(structure.numbers, structure.positions)
    atoms.calc = Calculator(potential)
    atoms.get_forces()


def _run_kernels():
    atoms, potential = _two_atoms()
    potential.energy_forces(atoms)
    dataset = Dataset.from_structures([atoms])
    structures, G = make_atoms(dataset, [1]), np.zeros((2, 2))
    symmetry_functions(structures, 0, potential.functions.table, G)
    schedule = SimpleNamespace(name="runner", energy_weight=1.0, force_weight=2.0, rows="full")
    observer = Observer(dataset, structures, G, potential, schedule, serial())
    w = read_only(potential.weights)
    observer.evaluate(np.array([0]), w)
    config = SimpleNamespace(
        epsilon=1.0, eta=1.0, eta_tau=0.0, eta_max=1.0, q=0.0, q_tau=0.0, q_min=0.0, fading_memory=False, lam=1.0, nu=1.0, coupling="full", r_max=2
    )
    ekf = make_ekf(config, 9, potential.network.segments, serial())
    state = ekf.init()
    for kind in (ENERGY, FORCE):
        observer.errors(kind, np.zeros(1, np.int64), w)
        rows, errors, _ = observer.observe(Batch(kind, np.zeros((1, 1), np.int64)), w)
        ekf.update(state, rows, errors)
        ekf.update(state, np.concatenate([rows, rows]), np.concatenate([errors, errors]))
