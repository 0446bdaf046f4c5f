"""The cases that two checkouts of mpnnp are compared in, and the process that runs them for one checkout.

    PYTHONPATH=CHECKOUT python tools/benchmarking/cases.py

reads lines `NAME CALLS` and answers each with a line: the CPU time of one call in ms. The first call of a
case is not measured: kernels are compiled or loaded in it.
"""

import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from mpnnp import environment

environment.prepare()  # before numpy

import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarking.parts import make_run, random_rows  # noqa: E402
from benchmarking.perturbed import displaced, example, supercell, water_192  # noqa: E402

from mpnnp.config import Ekf  # noqa: E402
from mpnnp.data import dataset  # noqa: E402
from mpnnp.data.packed import make_atoms  # noqa: E402
from mpnnp.kernels.energy_forces import symmetry_functions  # noqa: E402
from mpnnp.kernels.jit import read_only  # noqa: E402
from mpnnp.model.evaluation import Predictor  # noqa: E402, here also in earlier checkouts
from mpnnp.model.label_kinds import ENERGY, FORCE  # noqa: E402
from mpnnp.model.network import Network  # noqa: E402
from mpnnp.model.potential import Potential  # noqa: E402
from mpnnp.model.scaling import Scaling, Statistics  # noqa: E402
from mpnnp.model.symmetry_functions import SymmetryFunctions, parse_line  # noqa: E402
from mpnnp.optimizers.ekf import make_ekf  # noqa: E402
from mpnnp.parallel import serial  # noqa: E402
from mpnnp.simulation.calculator import Calculator  # noqa: E402
from mpnnp.training.schedules import Batch  # noqa: E402
from mpnnp.training.train import one_update  # noqa: E402

WATER = (1, 8)
BOX = {"192": (2,), "288": (3,), "768": (2, 2, 2)}  # copies of the example's cells of 96 atoms, along x, y, z
ETA, Q = 1.0, 1e-6  # of the filter
N_RADIAL_WINDOW, N_ANGLE_WINDOW, REACH = 5, 10, 15.0  # compact functions; Bohr


@cache
def folder():
    """Of the files of the runs; it goes with the process."""
    return tempfile.TemporaryDirectory()


@cache
def training_run(selection="random"):
    """A run of 24 structures of 192 atoms that takes ten labels in each update."""
    data = Path(folder().name) / "water.h5"
    if not data.exists():
        dataset.write(data, water_192(24))
    schedule = {"streams": 10, "selection": selection, "trials": 3}
    return make_run(data, folder().name, serial(), schedule=schedule)


@cache
def water(n_atom):
    """Data set of one structure, a supercell of an example frame with displaced atoms."""
    data = example().take(np.array([0]))
    for axis, copies in enumerate(BOX[n_atom]):
        data = supercell(data, copies, axis)
    return displaced(data, 1, 0.02, 1)


@cache
def compact_set():
    """Functions of type 22 for every centre and pair of neighbours: overlapping windows of distance to REACH,
    each with overlapping windows of the angle; and radial functions of type 20.
    """
    width, angle, lines = REACH / N_RADIAL_WINDOW, 180.0 / N_ANGLE_WINDOW, []
    for centre in "HO":
        lines += [f"{centre} 20 {other} 0 {REACH} p2" for other in "HO"]
        for pair in ("H H", "H O", "O O"):
            for k in range(N_RADIAL_WINDOW):
                left, right = max(0.0, (k - 1) * width), min(REACH, (k + 1) * width)
                for q in range(N_ANGLE_WINDOW):
                    first, last = max(0.0, (q - 0.5) * angle), min(180.0, (q + 1.5) * angle)
                    lines.append(f"{centre} 22 {pair} {left} {right} {first} {last} p2")
    return SymmetryFunctions(WATER, [parse_line(line) for line in lines])


@cache
def compact_potential():
    functions = compact_set()
    n, sizes = len(functions), [(len(functions.of(z)), 25, 25, 1) for z in WATER]
    network = Network(sizes, [("tanh", "tanh", "identity")] * 2)
    statistics = Statistics(np.zeros(n), np.ones(n), np.zeros(n), np.ones(n), np.zeros(n))
    return Potential(
        functions=functions,
        scaling=Scaling("none", 0.0, 1.0, statistics),
        network=network,
        weights=0.1 * np.random.default_rng(1).standard_normal(network.n_weight),
        atomic_energies=np.zeros(2),
        mean_energy=0.0,
        energy_scale=1.0,
        force_scale=1.0,
    )


def potential():
    return training_run().task.potential


def functions_of(functions, n_atom):
    structures = make_atoms(water(n_atom), WATER)
    G = np.empty((int(n_atom), functions().n_max))
    return lambda: symmetry_functions(structures, 0, functions().table, G)


def prediction_of(potential, n_atom):
    structures, predictor = make_atoms(water(n_atom), WATER), Predictor(potential())
    return lambda: predictor.predict(structures, 0)


def steps(n_atom):
    """Evaluations along a path in which atoms move as far as in a step of dynamics."""
    data, rng = water(n_atom), np.random.default_rng(1)
    atoms = Atoms(data.numbers, data.positions, cell=data.cell[0], pbc=data.pbc[0])
    atoms.calc = Calculator(potential())

    def step():
        atoms.positions += 0.005 * rng.standard_normal(atoms.positions.shape)
        atoms.get_forces()

    return step


def rows(kind, selection="random", n=10):
    task, rng = training_run(selection).task, np.random.default_rng(2)
    w = read_only(training_run(selection).state.weights)
    trials = 3 if selection == "threshold" else 1
    return lambda: task.observe(Batch(kind, rng.choice(task.labels[kind], (n, trials))), w)


def filter_update(M):
    network = potential().network
    ekf = make_ekf(Ekf(eta=ETA, eta_max=ETA, q=Q, q_tau=0.0), network.n_weight, network.segments, serial())
    state, (H, errors) = ekf.init(), random_rows(M, network.n_weight)
    return lambda: ekf.update(state, H, errors)


def whole_update():
    run, rng = training_run(), np.random.default_rng(3)
    labels = run.task.labels[FORCE]
    return lambda: one_update(run.task, run.state, Batch(FORCE, rng.choice(labels, (10, 1))))


# name: (in words, what makes the function that is measured, calls in one measurement)
CASES = {
    "g": ("symmetry functions, 192 atoms", lambda: functions_of(lambda: potential().functions, "192"), 20),
    "ef": ("energy and forces, 192 atoms", lambda: prediction_of(potential, "192"), 10),
    "md192": ("step of dynamics, 192 atoms", lambda: steps("192"), 10),
    "md768": ("step of dynamics, 768 atoms", lambda: steps("768"), 3),
    "force": ("rows of ten forces", lambda: rows(FORCE), 30),
    "energy": ("rows of ten energies", lambda: rows(ENERGY), 60),
    "threshold": ("rows of ten forces, threshold selection", lambda: rows(FORCE, "threshold"), 15),
    "ekf1": ("filter, 1 observation", lambda: filter_update(1), 64),
    "ekf10": ("filter, 10 observations", lambda: filter_update(10), 30),
    "update": ("update of ten forces, everything included", whole_update, 30),
    "compact_g": ("304 compact functions, 288 atoms", lambda: functions_of(compact_set, "288"), 1),
    "compact_ef": ("the same, energy and forces", lambda: prediction_of(compact_potential, "288"), 1),
}


@cache
def made(name):
    """The function of a case, called once."""
    function = CASES[name][1]()
    function()
    return function


def cpu_ms(name, calls):
    function = made(name)
    begin = time.process_time()
    for _ in range(calls):
        function()
    return 1e3 * (time.process_time() - begin) / calls


def main():
    answers = sys.stdout
    sys.stdout = sys.stderr  # nothing else may speak on the line of answers
    for line in sys.stdin:
        name, calls = line.split()
        print(cpu_ms(name, int(calls)), file=answers, flush=True)


if __name__ == "__main__":
    main()
