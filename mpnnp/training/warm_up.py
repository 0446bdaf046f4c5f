"""Compiling the kernels before they are needed: the ranks of a node share the work,
then all load the machine code.
"""

import time
from functools import partial
from types import SimpleNamespace

import numpy as np

from mpnnp.config import Schedule
from mpnnp.data.dataset import Dataset
from mpnnp.data.packed import make_atoms
from mpnnp.data.structure import Structure
from mpnnp.kernels.energy_forces import symmetry_functions
from mpnnp.kernels.jit import CACHE_FOLDER, read_only
from mpnnp.model.label_kinds import ENERGY, FORCE, KINDS
from mpnnp.model.network import Network
from mpnnp.model.potential import Potential
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.model.symmetry_functions import SymmetryFunction, SymmetryFunctions
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.parallel import serial, spread_over_each_node
from mpnnp.progress import duration
from mpnnp.training.observations import Observer
from mpnnp.training.schedules import Batch


def compile_kernels(comm, log, schedule=None):
    """Run every kernel of a training run once on two atoms. Collective.

    schedule  section [schedule], for the kinds of labels that are learned beside energies and forces
    """
    functions = [partial(_observe, FORCE), _run_functions, _run_filter, _run_evaluation]  # the longest first
    others = [
        k for k, name in enumerate(KINDS) if k not in (ENERGY, FORCE) and schedule and schedule.learns(name)
    ]
    compile_by_running([*functions, *(partial(_observe, k) for k in others)], "*.nbi", comm, log)


def compile_by_running(functions, part, comm, log):
    """Call functions that run kernels, shared out over the ranks of each node. Collective.

    part  pattern of the files of their machine code: what was compiled before, by any run on this machine, is
          loaded
    """
    new = CACHE_FOLDER is None or not any(CACHE_FOLDER.rglob(part))
    if new:
        log("compiling the kernels: once per machine and version of mpnnp, about a minute")
    begin = time.monotonic()
    spread_over_each_node(comm, functions)
    if new:
        log(f"kernels compiled in {duration(time.monotonic() - begin)}")


def _run_functions():
    observer = _observer()
    symmetry_functions(observer.structures, 0, observer.predictor.potential.functions.table, np.zeros((2, 2)))


def _run_evaluation():
    observer = _observer()
    observer.evaluate(np.array([0]), read_only(observer.predictor.potential.weights))


def _run_filter():
    """Rows of energies, and updates with one and two of them."""
    rows, errors = _observe(ENERGY)
    config = SimpleNamespace(
        epsilon=1.0,
        eta=1.0,
        eta_tau=0.0,
        eta_max=1.0,
        q=0.0,
        q_tau=0.0,
        q_min=0.0,
        fading_memory=False,
        lam=1.0,
        nu=1.0,
        coupling="full",
        r_max=2,
    )
    ekf = make_ekf(config, rows.shape[1], None, serial())
    state = ekf.init()
    ekf.update(state, rows, errors)
    ekf.update(state, np.concatenate([rows, rows]), np.concatenate([errors, errors]))


def _observe(kind):
    observer = _observer()
    w = read_only(observer.predictor.potential.weights)
    observer.errors(kind, np.zeros(1, np.int64), w)
    return observer.observe(Batch(kind, np.zeros((1, 1), np.int64)), w)[:2]


def two_atoms():
    """(Structure, Potential) with a radial and an angular function."""
    positions = [[0, 0, 0], [0, 0, 1.0]]
    atoms = Structure(
        numbers=[1, 1],
        positions=positions,
        cell=np.eye(3) * 4,
        pbc=True,
        energy=0.0,
        forces=np.zeros((2, 3)),
        stress=np.zeros(6),
    )
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


def _observer():
    """Observer of two atoms with a small net."""
    atoms, potential = two_atoms()
    dataset = Dataset.from_structures([atoms])
    schedule = Schedule(name="runner", selection="random")
    return Observer(dataset, make_atoms(dataset, [1]), np.zeros((2, 2)), potential, schedule, serial())
