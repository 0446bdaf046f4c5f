"""Measurements of the parts of mpnnp that the benchmark reports; every time in ms, a median."""

import time
from pathlib import Path

import numpy as np
from benchmarking.machine import median_ms
from benchmarking.opponents import symmetric_update, textbook_update

from mpnnp.config import Ekf, make_config
from mpnnp.kernels.energy_forces import symmetry_functions
from mpnnp.kernels.jit import read_only
from mpnnp.model.label_kinds import ENERGY, FORCE
from mpnnp.optimizers.adam import AdamState
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.parallel import serial
from mpnnp.progress import Silent
from mpnnp.signals import Signals
from mpnnp.training import run_folder
from mpnnp.training.agenda import Agenda
from mpnnp.training.observations import Observer
from mpnnp.training.schedules import Batch
from mpnnp.training.train import begin, one_epoch

ETA, Q = 1.0, 1e-6


def make_run(data, folder, comm, **sections):
    """The training run of `mpnnp train` for the data set file `data`:
    water functions, nets 25-25, and the other settings' defaults.
    """
    tree = {
        "data": {"files": str(data), "validation_fraction": 0.2, "cache": str(folder)},
        "symmetry_functions": {"set": "water"},
        **sections,
    }
    config, folder = make_config(tree), Path(folder)
    if not hasattr(run_folder, "Held"):  # a checkout of before November 30 of 2026, which is compared with
        return begin(config, folder, comm, Silent(), False, Signals(comm))
    return begin(config, run_folder.Held(folder), comm, Silent(), Signals(comm))


class Stopwatch(Agenda):
    """What the run does between updates, and the time when it was done."""

    def __init__(self, run):
        super().__init__(run.task.comm, run.config.run, Signals(run.task.comm), run.state.update)
        self.times = []

    def after_update(self, update):
        verdict = super().after_update(update)
        self.times.append(time.perf_counter())
        return verdict


def update_ms(run, n_update, block=32):
    """Time per update of the training loop: median over blocks of `block` updates, so that each has its share
    of all that is not done in each.
    """
    done, times = 0, []
    while done < n_update:
        run.reason, run.agenda = "", Stopwatch(run)
        one_epoch(run)
        stamps = run.agenda.times
        assert len(stamps) > block, "the data set is too small for this measurement"
        times += [(b - a) / block for a, b in zip(stamps[::block], stamps[block::block])]
        done += len(stamps)
    return 1e3 * float(np.median(times))


def model_parts(run, repeat):
    """Symmetry functions, energy and forces, rows, and evaluation, all on one rank."""
    task = run.task
    dataset, structures, potential = task.dataset, task.observer.structures, task.potential
    observer = Observer(
        dataset, structures, task.observer.G, potential, run.config.schedule, serial(), task.train
    )
    w, rng = read_only(run.state.weights), np.random.default_rng(2)
    n = len(dataset)
    turn = iter(np.resize(np.arange(n), 100_000))  # each call takes another structure
    G = np.empty((int(np.diff(structures.start).max()), potential.functions.n_max))

    def functions():
        s = next(turn)
        symmetry_functions(
            structures, s, potential.functions.table, G[: structures.start[s + 1] - structures.start[s]]
        )

    def ten(kind):
        labels = task.labels[kind]
        return lambda: observer.observe(Batch(kind, rng.choice(labels, (10, 1))), w)

    chosen = np.arange(min(n, 8))
    evaluate = median_ms(lambda: observer.evaluate(chosen, w), max(3, repeat // 4)) / len(chosen)
    return {
        "g_ms": median_ms(functions, 2 * repeat),
        "energy_forces_ms": median_ms(
            lambda: observer.predictor.predict(structures, next(turn), w), 2 * repeat
        ),
        "force_row_ms": median_ms(ten(FORCE), 3 * repeat) / 10,
        "energy_row_ms": median_ms(ten(ENERGY), 3 * repeat) / 10,
        "evaluate_400_s": 0.4 * evaluate,
    }


def filter_ms(potential, M, comm, repeat):
    """Update of the product's filter with M random rows shared out over the ranks;
    lazy folding included, gathering of rows not.
    """
    network = potential.network
    n = network.n_weight
    ekf = make_ekf(Ekf(eta=ETA, eta_max=ETA, q=Q, q_tau=0.0), n, network.segments, comm)
    state = ekf.init()
    mine = slice(comm.rank * M // comm.size, (comm.rank + 1) * M // comm.size)
    H, errors = random_rows(M, n)
    rows, errors = np.ascontiguousarray(H[mine]), errors[mine]
    period = max(1, ekf.fold_columns // M)  # updates from one folding to the next
    return median_ms(
        lambda: ekf.update(state, rows, errors), max(3, repeat * 4 // period), period, warm_up=period
    )


def opponents_ms(n, M, repeat):
    """(textbook, symmetric) filter with BLAS, on one rank."""
    H, errors = random_rows(M, n)
    times = []
    for update in (textbook_update, symmetric_update):
        P = np.asfortranarray(100.0 * np.eye(n))
        times.append(median_ms(lambda update=update, P=P: update(P, H, errors, ETA, Q), repeat))
    return times


def random_rows(M, n):
    rng = np.random.default_rng(M)
    return 0.1 * rng.standard_normal((M, n)), rng.standard_normal(M)


def memory(run):
    """Bytes of data per structure of the whole job (mapped once per node, and of each rank),
    and of the covariance per rank. Collective.
    """
    observer, comm, labels = run.task.observer, run.task.comm, run.task.observer.labels
    arrays = [observer.G, *observer.structures, *labels.targets, *labels.roots, *run.task.labels]
    arrays += [
        getattr(observer.dataset, name)
        for name in observer.dataset.__dataclass_fields__
        if name != "source_names"
    ]
    unique = {a.__array_interface__["data"][0]: a for a in arrays if isinstance(a, np.ndarray) and a.size}
    mapped = sum(a.nbytes for a in unique.values() if is_mapped(a))
    own = sum(a.nbytes for a in unique.values()) - mapped
    n = len(observer.dataset)
    return {
        "bytes_per_structure": (mapped + comm.allreduce(own)) / n,
        "mapped_bytes_per_structure": mapped / n,
        "private_bytes_per_structure_and_rank": own / n,
    }


def is_mapped(array):
    while array is not None:
        if isinstance(array, np.memmap):
            return True
        array = getattr(array, "base", None)
    return False


def covariance_bytes(run):
    """Tiles and low-rank rows of the rank that has most. Collective."""
    state = run.state.optimizer
    if isinstance(state, AdamState):
        return 0
    return max(run.task.comm.allgather(state.T.tiles.nbytes + state.U.nbytes))


def traffic(run):
    """(collective calls, bytes of their results on each rank) per update;
    (0, 0) on a single rank, where nothing leaves the process.
    """
    t = run.task.optimizer.traffic
    return (t.calls / t.updates, t.bytes / t.updates) if run.task.comm.size > 1 else (0, 0)
