"""Compiling the kernels before they are needed: the ranks of a node share the work,
then all load the machine code.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from mpnnp.config import Ekf, Schedule
from mpnnp.data.dataset import Dataset
from mpnnp.data.packed import make_atoms
from mpnnp.data.structure import Structure
from mpnnp.kernels.energy_forces import symmetry_functions
from mpnnp.kernels.jit import CACHE_FOLDER, read_only
from mpnnp.model.label_kinds import ENERGY, FORCE, KINDS, kind_at
from mpnnp.model.network import Network
from mpnnp.model.potential import Potential, Predictor
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.model.symmetry_functions import SymmetryFunction, SymmetryFunctions
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.parallel import Comm, serial, spread_over_each_node
from mpnnp.progress import AnyLog, duration

NO_FUNCTIONS = read_only(np.zeros((2, 2)))


def compile_kernels(
    comm: Comm, log: AnyLog, schedule: Schedule | None = None, every_kind: bool = False
) -> None:
    """Run every kernel of a training run once on two atoms. Collective.

    schedule    section [schedule], for the kinds of labels that are learned beside energies and forces
    every_kind  all kinds of labels instead
    """
    longest_first: list[Callable[[], object]] = [partial(_observe, FORCE), _run_functions]
    longest_first += [_run_filter, _run_evaluation]
    others = [k for k, kind in enumerate(KINDS.values()) if _to_be_compiled(k, kind, schedule, every_kind)]
    compile_by_running([*longest_first, *(partial(_observe, k) for k in others)], "*.nbi", comm, log)


def _to_be_compiled(k, kind, schedule, every_kind):
    """Whether labels of this kind are learned by kernels of the package, beside energies and forces."""
    learned = every_kind or (schedule is not None and schedule.learns(kind.name))
    return k not in (ENERGY, FORCE) and learned and kind.rows.__module__.startswith("mpnnp.kernels")


def compile_by_running(functions: Sequence[Callable[[], object]], part: str, comm: Comm, log: AnyLog) -> None:
    """Call functions that run kernels, shared out over the ranks of each node. Collective.

    part  pattern of the files of their machine code: what was compiled before, by any run on this machine, is
          loaded
    """
    new = CACHE_FOLDER is None or not any(CACHE_FOLDER.rglob(part))
    if new:
        log("compiling the kernels: once per machine and version of mpnnp, half a minute")
    begin = time.monotonic()
    spread_over_each_node(comm, functions)
    if new:
        log(f"kernels compiled in {duration(time.monotonic() - begin)}")


def _run_functions():
    structures, predictor = _packed()
    symmetry_functions(structures, 0, predictor.potential.functions.table, np.zeros((2, 2)))


def _run_evaluation():
    structures, predictor = _packed()
    predictor.predict(structures, 0, predictor.potential.weights, NO_FUNCTIONS)


def _run_filter():
    """Rows of energies, and updates with one and two of them."""
    rows, errors = _observe(ENERGY)
    ekf = make_ekf(Ekf(epsilon=1.0, r_max=2), rows.shape[1], (), serial())
    state = ekf.init()
    ekf.update(state, rows, errors)
    ekf.update(state, np.concatenate([rows, rows]), np.concatenate([errors, errors]))


def _observe(k):
    """Rows and errors of one label of kind number k, by its kernels."""
    structures, predictor = _packed()
    kind, w = kind_at(k), read_only(predictor.potential.weights)
    places = kind.places(structures, np.zeros(1, np.int64))
    rows, values = np.empty((1, len(w))), np.empty(1)
    kind.values(places, structures, NO_FUNCTIONS, predictor.model, w, values)
    kind.rows(places, structures, NO_FUNCTIONS, predictor.model, w, rows, values)
    return rows, -values


def two_atoms() -> tuple[Structure, Potential]:
    """(Structure, Potential) with a radial and an angular function."""
    positions = np.array([[0, 0, 0], [0, 0, 1.0]])
    atoms = Structure(
        numbers=np.array([1, 1]),
        positions=positions,
        cell=np.eye(3) * 4,
        pbc=True,
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


def _packed():
    """(Structures, Predictor) of two atoms with a small net."""
    atoms, potential = two_atoms()
    return make_atoms(Dataset.from_structures([atoms]), [1]), Predictor(potential)
