"""The loop of active learning: train, simulate, choose, label, and again.

Everything lies in one folder:
    state.json               where the learning stands, replaced in one step after each phase
    learn.log                what was told
    rounds/000, 001, ...     training/ (a run of `mpnnp train`), simulations/, chosen.h5, labelled.h5
    data.extxyz              all labelled frames so far, those of the beginning first
    checkpoint.h5            the last potential with its covariance
    rounds.csv, .png         the table, and its picture
A phase that was interrupted is taken up where its own files say: trainings and simulations from their
checkpoints, labels frame by frame. What a phase makes depends on the files before it and on run.seed alone.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mpnnp.config import Config, Data
from mpnnp.data import dataset as datasets
from mpnnp.data.dataset import Dataset
from mpnnp.data.extxyz import write_extxyz
from mpnnp.data.packed import make_atoms
from mpnnp.data.store import load_structures
from mpnnp.errors import DataError
from mpnnp.files import write_atomically
from mpnnp.learning import labels, table
from mpnnp.learning.choosing import choose
from mpnnp.learning.settings import Case, Learning, cases
from mpnnp.learning.simulating import candidates, is_done, read_status, simulate, start_of
from mpnnp.learning.state import State, read_state, write_state
from mpnnp.learning.uncertainty import Known
from mpnnp.model.evaluation import evaluate
from mpnnp.model.label_kinds import KINDS
from mpnnp.parallel import Comm, agree, on_root
from mpnnp.progress import Log, Muted, QuietLog, Silent, counted, duration
from mpnnp.run_lock import RunLock
from mpnnp.signals import Signals
from mpnnp.simulation.dynamics import FAILED
from mpnnp.simulation.integrators import check_start
from mpnnp.simulation.labelling import make_labeller
from mpnnp.simulation.warm_up import compile_kernels as compile_simulation
from mpnnp.training import run_folder
from mpnnp.training.calibration import Sigma, calibrate, errors_and_spread
from mpnnp.training.checkpoint import Checkpoint, posterior_of, read_checkpoint, read_shared
from mpnnp.training.learning_curve import PARTS, LearningCurve
from mpnnp.training.train import train
from mpnnp.training.warm_up import compile_kernels

CACHE, SIMULATIONS, CHOSEN, LABELLED = "mpnnp-cache", "simulations", "chosen.h5", "labelled.h5"
DATA = "data.extxyz"
ADVICE = "start the same command again"
DRAWN = 32  # deviations of the weights that the calibration is measured with


@dataclass
class Loop:
    """What a learning is made of, while it goes on.

    check  called on rank 0 before a file is replaced: raises if the folder is no longer this learning's
    """

    learning: Learning
    config: Config
    folder: Path
    comm: Comm
    log: Log
    state: State
    check: Callable[[], object] = lambda: None

    def folder_of(self, number: int) -> Path:
        """Of a round."""
        return self.folder / "rounds" / f"{number:03d}"

    @property
    def round_folder(self) -> Path:
        return self.folder_of(self.state.current.round)

    @property
    def checkpoint(self) -> Path:
        return self.round_folder / "training" / run_folder.CHECKPOINT

    @property
    def seed(self) -> int:
        """Of this round."""
        return 1000 * self.config.run.seed + 100_000 * self.state.current.round

    def keep(self, state: State) -> None:
        """The phase is done. Collective."""
        self.write(write_state, self.folder / "state.json", state)
        self.state = state

    def write(self, function: Callable, *arguments) -> None:
        """Call a function that writes into the folder, on rank 0. Collective.

        Raises CheckpointError if another process has taken the folder over.
        """

        def checked():
            self.check()
            function(*arguments)

        on_root(self.comm, checked)


def learn(learning: Learning, config: Config, folder: str | Path, comm: Comm, log: Log) -> State:
    """Learn until it is enough; results in `folder`, from which an interrupted learning goes on. Collective.

    Raises ConfigError, DataError, CheckpointError, TrainingError, and Interrupted when labels are wanted or
    after a signal.
    """
    folder = Path(folder).resolve()
    with Signals(comm, ADVICE):
        lock = agree(comm, claim_folder, folder, comm, log)
        try:
            return go_on(learning, config, folder, comm, log, lock.check if lock else lambda: None)
        finally:
            if lock is not None:
                lock.release()


def claim_folder(folder: Path, comm: Comm, log: Log) -> RunLock | None:
    """The lock of the folder, which is made, on rank 0. Raises FolderError if another process uses it."""
    if comm.rank:
        return None
    (folder / "rounds").mkdir(parents=True, exist_ok=True)
    lock = RunLock(folder, log.warn)
    log.open(folder / "learn.log", True)
    return lock


def check_means(loop: Loop) -> None:
    """Raise DataError or ConfigError where a simulation cannot start or nothing can label, before anything is
    computed. Collective.
    """
    learning, known = loop.learning, everything(loop).elements

    def check():
        for case in cases(learning):
            atoms = start_of(case)
            check_start(atoms, case.make_protocol(0, learning.stop.every))
            if unknown := sorted(set(atoms.numbers) - set(known)):
                there, here = (" ".join(chemical_symbols[z] for z in numbers) for numbers in (unknown, known))
                raise DataError(
                    f"{case.start}: contains {there}, the data to learn from only {here}: no potential that "
                    "learns them can simulate it"
                )
        if learning.label.by != "files":
            make_labeller(learning.label.by)

    on_root(loop.comm, check)


def warn_of_new(loop: Loop) -> None:
    """Tell which simulations a learning that has ended does not know: rank 0."""
    last = loop.state.current.round
    if new := [case.name for case in cases(loop.learning) if last_folder(loop, case, last) is None]:
        loop.log.warn(
            f"this learning has ended without {', '.join(new)}: for these begin another one, with "
            f'data.files = "{loop.folder / DATA}"'
        )


def go_on(
    learning: Learning,
    config: Config,
    folder: Path,
    comm: Comm,
    log: Log,
    check: Callable[[], object] = lambda: None,
) -> State:
    """The phases from where the folder says to the end. Collective.

    check  as in Loop
    """
    state = on_root(comm, read_state, folder / "state.json")
    loop = Loop(learning, config, folder, comm, log, state, check)
    if loop.state.ending:
        on_root(comm, warn_of_new, loop)
    else:
        check_means(loop)
    compile_kernels(comm, log, config.schedule)
    compile_simulation(comm, log)
    phases: dict[str, Callable[[Loop], State]] = {
        "train": train_phase,
        "simulate": simulate_phase,
        "choose": choose_phase,
        "label": label_phase,
    }
    before, begin = loop.state.seconds, time.monotonic()
    while not loop.state.ending:
        loop.write(lambda: loop.round_folder.mkdir(exist_ok=True))
        state = phases[loop.state.phase](loop)
        seconds = comm.bcast(before + time.monotonic() - begin, root=0)
        loop.keep(state.timed(seconds))
        loop.write(table.write, folder, loop.state)
    loop.write(table.write, folder, loop.state)  # after a kill just before the last one
    log(
        f"{loop.state.ending}: {counted(loop.state.current.labels, 'labelled frame')} in "
        f"{duration(loop.state.seconds)}"
    )
    log(f"the last potential is {folder / run_folder.CHECKPOINT}")
    return loop.state


def train_phase(loop: Loop) -> State:
    """The filter learns the new labels; the first round trains as configured. Collective."""
    current, update, comm = loop.state.current, loop.learning.update, loop.comm
    config, directory = loop.config, loop.round_folder / "training"
    loop.log(f"round {current.round}: training")
    if current.round:
        previous = loop.folder_of(current.round - 1)
        changed = {
            "data": {
                "files": [str(previous / LABELLED)],
                "validation_files": [],
                "validation_fraction": update.validation_fraction,
                "split": "auto",
                "weights": None,
                "rehearsal": update.rehearsal,
                "shift_energies": False,
                "cache": str(loop.folder / CACHE),
            },
            # the first training counted its labels in many epochs: new ones shall weigh as much after a few
            "ekf": {} if "inflation" in config.ekf.model_fields_set else {"inflation": "auto"},
            "run": {
                "from_": str(previous / "training" / run_folder.CHECKPOINT),
                "epochs": update.epochs,
                "updates": None,
                "patience": None,
            },
        }
        for section, keys in changed.items():
            config = config.with_keys(section, **keys)
    begun = on_root(comm, run_folder.was_begun, directory)
    own_log = QuietLog(comm)
    try:
        state = train(config, directory, comm, own_log, resume=begun)
    finally:
        own_log.close()
    loop.log(
        f"  {counted(state.update, 'update')} in {duration(state.seconds)}, "
        f"RMSE {errors_in_words(state.curve)}"
    )
    data = datasets.concatenate(parts_so_far(loop))
    loop.write(_after_training, loop, data)
    return loop.state.with_current("simulate", labels=len(data))


def _after_training(loop, data):
    """The data so far, the potential so far; checkpoints that nothing goes on from are removed."""
    write_extxyz(loop.folder / DATA, data)
    with write_atomically(loop.folder / run_folder.CHECKPOINT) as temporary:
        shutil.copyfile(loop.checkpoint, temporary)
    for k in range(loop.state.current.round - 1):
        old = loop.folder_of(k) / "training"
        for name in (run_folder.CHECKPOINT, run_folder.PREVIOUS, run_folder.BEST, run_folder.INITIAL):
            (old / name).unlink(missing_ok=True)


def everything(loop: Loop) -> Dataset:
    """All structures that were learned so far: the beginning and each round's labels. Collective."""
    return datasets.concatenate(map(without_marks, parts_so_far(loop)))


def parts_so_far(loop: Loop) -> list[Dataset]:
    """The data of the beginning, with their marks and energies of isolated atoms, and each round's labels.
    Collective.
    """
    sections = [loop.config.data]
    for k in range(loop.state.current.round):
        files = [str(loop.folder_of(k) / LABELLED)]
        sections.append(Data(files=files, cache=str(loop.folder / CACHE)))
    # what looks wrong in them stands in the logs of the trainings
    return [load_structures(section, loop.comm, Muted(), loop.folder)[0] for section in sections]


def without_marks(data: Dataset) -> Dataset:
    return replace(data, marks=np.zeros(len(data)), isolated=None)


def simulate_phase(loop: Loop) -> State:
    """Simulations, each to its end or to a frame that is not known: first new ones and those that the last
    round stopped, the others only if they can still make it the last round. Collective.
    """
    learning, comm, saved, all_cases = loop.learning, loop.comm, checkpoint_of(loop), cases(loop.learning)
    deviations = on_root(comm, draw_deviations, loop, saved, learning.stop.members)
    sigma = Sigma(loop.state.inflation, loop.state.noise)
    known = Known(saved.potential, deviations, sigma, everything(loop))
    loop.log(
        f"round {loop.state.current.round}: simulations, "
        f"{counted(loop.state.current.labels, 'label')} learned"
    )

    folder = loop.round_folder / SIMULATIONS

    def simulate_these(numbers):
        return simulate(all_cases, numbers, known, learning.stop, folder, loop.seed, comm, loop.log)

    first = on_root(comm, to_be_first, loop)
    others = [k for k in range(len(all_cases)) if k not in first]
    outcomes = simulate_these(first)
    if others:
        rest = sum(all_cases[k].protocol["time"] for k in others)
        if stops_in(outcomes) <= learning.end.stops_per_ps * (time_in(outcomes) + rest):
            outcomes |= simulate_these(others)
        else:
            loop.log(f"  not simulated in this round, as they lasted before: {len(others)}")
    state = loop.state.with_current(
        "choose",
        simulated_ps=time_in(outcomes),
        stops=stops_in(outcomes),
        calibration=float(np.sqrt(sigma.inflation)),
        density=on_root(comm, table.mean_density, [all_cases[k] for k in outcomes], folder),
    )
    current, end = state.current, learning.end
    loop.log(f"  {current.stops} of {len(outcomes)} were stopped, in {current.simulated_ps:.4g} ps")
    if len(outcomes) == len(all_cases) and current.stops_per_ps <= end.stops_per_ps:
        return replace(state, ending="the simulations last")
    if current.labels >= end.labels:
        return replace(state, ending=f"end.labels = {end.labels} are spent")
    if current.round >= end.rounds:
        return replace(state, ending=f"end.rounds = {end.rounds} are done")
    return state


def stops_in(outcomes: dict[int, dict]) -> int:
    return sum(outcome["status"] == FAILED for outcome in outcomes.values())


def time_in(outcomes: dict[int, dict]) -> float:
    """ps"""
    return sum(outcome["time_ps"] for outcome in outcomes.values())


def to_be_first(loop: Loop) -> list[int]:
    """Numbers of the cases that the last round stopped, and of those that no round before has simulated: all
    in the first round.
    """
    last, all_cases = loop.state.current.round - 1, cases(loop.learning)
    folders = {k: last_folder(loop, case, last) for k, case in enumerate(all_cases)}
    stopped_then = loop.folder_of(last) / SIMULATIONS
    first = [
        k
        for k, folder in folders.items()
        if folder is None or (folder.parent == stopped_then and read_status(folder)["status"] == FAILED)
    ]
    return first or list(folders)


def last_folder(loop: Loop, case: Case, last: int) -> Path | None:
    """Of the last simulation of a case, in round `last` or one before; None if there is none."""
    folders = (loop.folder_of(k) / SIMULATIONS / case.name for k in range(last, -1, -1))
    return next((folder for folder in folders if is_done(folder)), None)


def choose_phase(loop: Loop) -> State:
    """chosen.h5: the frames that will be labelled. Collective."""
    learning, comm, saved = loop.learning, loop.comm, checkpoint_of(loop)
    known = everything(loop)

    def find_folders():
        found = [last_folder(loop, case, loop.state.current.round) for case in cases(learning)]
        return [folder for folder in found if folder is not None]  # others are new: their turn comes

    if not (folders := on_root(comm, find_folders)):
        loop.log("  none of the simulations was done, as they are others than before")
        return loop.state.with_current("simulate")
    there = on_root(comm, candidates, folders, learning.stop, known)
    n = min(learning.choose.frames, learning.end.labels - loop.state.current.labels)
    chosen = choose(there, n, learning.choose, saved, loop.seed, comm)
    loop.write(datasets.write, loop.round_folder / CHOSEN, there.take(chosen))
    loop.log(f"  {len(chosen)} of {counted(len(there), 'frame')} chosen by {learning.choose.by}")
    return loop.state.with_current("label")


def label_phase(loop: Loop) -> State:
    """labelled.h5: the chosen frames with labels, and what they say of the potential before it learns them.

    Collective. Raises Interrupted while labels are missing, and DataError where nothing is left of them.
    """
    comm, how, target = loop.comm, loop.learning.label, loop.round_folder / LABELLED
    if not on_root(comm, lambda: target.exists() and len(datasets.read(target)) > 0):
        chosen = on_root(comm, datasets.read, loop.round_folder / CHOSEN)
        if how.by == "files":
            data = loop.config.data
            keys = {name: getattr(data, name) for name in ("energy_key", "forces_key", "stress_key")}
            found = on_root(comm, labels.by_files, chosen, how, loop.folder, loop.log, keys)
        else:
            found = labels.by_calculator(chosen, how, loop.round_folder / "labels", comm, loop.log)
        good = on_root(comm, labels.without_large_forces, found, how.max_force, loop.log)
        loop.write(datasets.write, target, good)
    if how.by == "files":
        loop.write(labels.put_away, loop.folder, loop.round_folder)
    labelled, saved = on_root(comm, datasets.read, target), checkpoint_of(loop)
    accuracy = evaluate(saved.potential, labelled, comm, Silent()).accuracy
    deviations = on_root(comm, draw_deviations, loop, saved, DRAWN)
    structures = make_atoms(labelled, saved.potential.elements)
    numbers = np.arange(len(labelled))
    found = errors_and_spread(saved.potential, deviations, labelled, structures, numbers, comm)
    calibration = calibrate(found, len(labelled))
    loop.log(f"  {counted(len(labelled), 'new label')}, before they are learned: RMSE {accuracy}")
    for line in calibration.in_words(found):
        loop.log(f"  {line}")
    state = loop.state.with_current(
        new_labels=len(labelled),
        energy_error=finite(accuracy.rmse["energy"]),
        force_error=finite(accuracy.rmse["force"]),
    )
    return state.next_round(inflation=calibration.force.inflation, noise=calibration.force.noise)


def checkpoint_of(loop: Loop) -> Checkpoint:
    """Checkpoint of this round, its optimizer's arrays on rank 0 alone. Collective."""
    return read_shared(loop.comm, lambda: read_checkpoint(loop.checkpoint))


def draw_deviations(loop: Loop, saved: Checkpoint, n: int) -> np.ndarray:
    """(n, n_weight) of the weights, from their posterior: rank 0."""
    return posterior_of(saved, loop.checkpoint).members(n, loop.seed)


def finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def errors_in_words(curve: LearningCurve) -> str:
    """Errors of the last point: training | old or validation."""
    columns = curve.columns()
    told = []
    for kind in (kind for kind in KINDS.values() if kind.always):
        values = [columns[f"{kind.name}_rmse_{part}"][-1] for part in PARTS]
        words = " | ".join(f"{value:.4g}" for value in values if np.isfinite(value))
        told.append(f"{kind.name} {words} {kind.short_unit}")
    return ", ".join(told)
