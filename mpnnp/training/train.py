"""The training run: the order of events from configuration to trained potential."""

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mpnnp.config import Config, to_toml
from mpnnp.environment import describe as describe_environment
from mpnnp.errors import Interrupted, TrainingError
from mpnnp.kernels.jit import read_only
from mpnnp.model.cost import cost_of
from mpnnp.model.label_kinds import ENERGY, FORCE, KINDS
from mpnnp.optimizers.registry import update_if_accepted
from mpnnp.parallel import Comm, agree, of_all_ranks, on_root
from mpnnp.progress import Log, Progress, counted, duration
from mpnnp.run_lock import GO_ON, writing
from mpnnp.signals import Signals
from mpnnp.training import continuation, offsets, run_folder
from mpnnp.training.agenda import Agenda, Verdict
from mpnnp.training.checkpoint import Checkpoint
from mpnnp.training.choices import n_label, settle
from mpnnp.training.conclusion import conclude
from mpnnp.training.inflation import inflate
from mpnnp.training.judgement import Judge
from mpnnp.training.keeper import Keeper, read_saved
from mpnnp.training.labels import labels_per_update
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.measure import part_that_judges
from mpnnp.training.report import CurveTable, place_in_run, symbols
from mpnnp.training.resume import same_judges
from mpnnp.training.run_folder import Held
from mpnnp.training.run_state import RunState, from_checkpoint, new_state
from mpnnp.training.schedules import Batch, share_in_words
from mpnnp.training.start import Task, assemble, load_data
from mpnnp.training.uncertainty import calibrate_run
from mpnnp.training.warm_up import compile_kernels

SLOW_UPDATE = 3.0  # seconds from which on a warning says so
MAXIMUM_SKIPPED = 100  # updates in a row that run.on_divergence = "skip" leaves out before it gives up


@dataclass
class Parts:
    """What a run is made of, while it goes on.

    reason  why it ends before its last epoch, "" if it does not
    """

    config: Config
    task: Task
    state: RunState
    judge: Judge
    keeper: Keeper
    agenda: Agenda
    log: Log
    on_update: tuple
    on_epoch: tuple
    progress: Progress
    reason: str = ""
    table: CurveTable = field(default_factory=CurveTable)


def train(
    config: Config,
    directory: str | Path,
    comm: Comm,
    log: Log,
    resume: bool = False,
    on_update: Iterable[Callable] = (),
    on_epoch: Iterable[Callable] = (),
    overwrite: bool = False,
) -> RunState:
    """Train as `config` says and leave the results in `directory`; returns the final RunState. Collective.

    resume     continue from the checkpoint in the directory
    overwrite  a run that the directory holds keeps its files under another name
    on_update  functions (task, state) called after each update, on the ranks that give them: those that
               communicate must be given on all
    on_epoch   functions (task, state, point) called so after each evaluation; point: judgement.Point.
               What one of them raises on one rank is raised on every rank
    Raises ConfigError, DataError, FolderError, CheckpointError, OutputError, TrainingError when numbers go
    wrong, and Interrupted after a signal or near the end of a batch job, with a checkpoint written; on every
    rank alike.
    """
    directory, clock = Path(directory), time.monotonic()
    with Signals(comm, GO_ON) as signals:
        config = on_root(comm, continuation.completed, config, directory, resume)
        functions = of_every_rank(comm, on_update), of_every_rank(comm, on_epoch)
        with run_folder.held(directory, comm, log, resume, overwrite) as folder:
            describe_environment(comm, log)
            compile_kernels(comm, log, config.schedule)
            run = begin(config, folder, comm, log, signals, *functions, clock)
            signals.holding = True
            last = learn(run)
            signals.holding = False
            finish(run, last, directory)
    return run.state


def of_every_rank(comm: Comm, functions: Iterable[Callable]) -> tuple:
    """Functions of the user for `call_all`, which all ranks call or none: one that does nothing on a rank
    that has none, where others have. Collective.
    """
    functions = tuple(functions)
    some = comm.allreduce(len(functions)) > 0
    return functions or ((lambda *_: None,) if some else ())


def learn(run: Parts) -> RunState:
    """All epochs, then the last word: the state of `with_last_weights`, all of it saved. Collective."""
    try:
        with run.progress:
            if run.state.update == 0 and not run.state.curve.rows:
                run.keeper.keep_start()
                evaluate(run, epoch=0)
            while run.state.epoch <= run.config.run.last_epoch and not run.reason:
                one_epoch(run)
        if run.agenda.much_to_lose():
            save(run)
        last = with_last_weights(run)
        calibrate(run, last)
        save(run)
    except TrainingError:
        run.keeper.keep_rest(run.state)
        raise
    return last


def begin(
    config: Config,
    folder: Held,
    comm: Comm,
    log: Log,
    signals: Signals,
    on_update: tuple = (),
    on_epoch: tuple = (),
    clock: float | None = None,
) -> Parts:
    """Parts of a run that has not begun, or goes on from its checkpoint; clock: time.monotonic() when the
    training was asked for. Collective.
    """
    directory, resume, check = folder
    data, origin = load_data(config, comm, log, directory), None
    if config.run.from_:
        origin = continuation.origin_of(config, directory, comm, resume)
        data = continuation.with_old_data(data, origin, config, comm, log, directory)
    config = settle(config, agree(comm, n_label, data.dataset, data.train), log)
    name, saved = read_saved(directory, config, data, comm, log) if resume else ("", None)
    prior = saved or (origin.saved if origin else None)
    task = assemble(config, comm, log, data=data, potential=prior and prior.potential)
    judge = agree(comm, Judge, task, config)
    if saved:
        state = from_checkpoint(saved, task)
    else:
        state = new_state(task) if origin is None else continuation.take_over(origin, task)
    task.observer.follow(state.rmse, state.noise)
    keeper = Keeper(directory, task, config, state, check)
    agenda = Agenda(comm, config.run, signals, state.update, clock)
    n_update = config.run.last_epoch * task.schedule.updates_per_epoch
    most = min(n_update, config.run.updates or n_update)
    progress = Progress(log, "update", most, done=state.update, deadline=agenda.deadline())
    reason = agenda.reached(state.update) or out_of_patience(config, state, judge)
    run = Parts(config, task, state, judge, keeper, agenda, log, on_update, on_epoch, progress, reason)
    describe(run)
    if saved:
        take_up(run, saved, name)
    elif origin is not None:
        go_on(run, origin)
    return run


def go_on(run: Parts, origin: continuation.Origin) -> None:
    """What new data say of the old potential, before anything is learned from them. Collective."""
    before = origin.learned
    learned = counted(len(before), "data set")
    run.log(f"going on from {origin.path}, which has learned {learned}, the last one with")
    run.log(f"  {before[-1].in_words()}")
    continuation.warn_of_other_level(origin, run.task, run.log)
    inflate(run.task, run.state, run.config, run.log)


def take_up(run: Parts, saved: Checkpoint, name: str) -> None:
    """The files of the run as they were at the resumed point: best.h5 and learning curve may be of later.

    Collective.
    """
    state, comm, before = run.state, run.task.comm, saved.progress["n_rank"]
    run.log(f"resuming from {name}, after update {state.update} ({place_in_run(state.epoch, state.done)})")
    if before not in (0, comm.size):
        run.log(
            f"the checkpoint is of {counted(before, 'rank')}, this run has {comm.size}: "
            "it continues to rounding, not bit for bit"
        )
    if state.best_weights is None:
        run.log.warn("the best potential so far is not known: the next evaluation is taken as the best")
        state.best = np.inf
    elif state.curve.rows:  # the measure may be another one today
        same = same_judges(saved, run.config, run.task.data, name)
        state.best = run.judge.measure_of_best(state, anew=not same)
    run.keeper.keep_epoch(state, better=state.best_weights is not None, now=True)
    on_root(comm, run_folder.set_aside, run.keeper.directory, name)
    if state.epoch <= run.config.run.last_epoch and not run.reason:
        on_root(comm, run_folder.forget_end, run.keeper.directory)


def one_epoch(run: Parts) -> None:
    """The updates of the epoch under way, its evaluation, its checkpoint. Collective."""
    state, task = run.state, run.task
    if run.config.schedule.selection == "sort" and state.sort_errors is None:
        with run.agenda.signals.breaking():
            state.sort_errors = task.errors(read_only(state.weights), lambda: pause(run))
    epoch = task.epoch(state.epoch, state.sort_errors)
    title = f"epoch {state.epoch}/{run.config.run.last_epoch}: update"
    while state.done < len(epoch) and not run.reason:
        batch = epoch[state.done]
        try:
            with run.agenda.signals.breaking() if run.agenda.slow else contextlib.nullcontext():
                one_update(task, state, batch, (lambda: pause(run)) if run.agenda.slow else None)
        except TrainingError as error:  # on every rank alike
            leave_out(run, error, batch)
        state.done += 1
        state.update += 1
        call_all(run, run.on_update, task, state)
        run.progress.update(state.update, title)
        obey(run, run.agenda.after_update(state.update))
    if state.done >= len(epoch):
        offsets.settle(task, state)
        evaluate(run, state.epoch)
        state.epoch, state.done, state.sort_errors = state.epoch + 1, 0, None
        obey(run, run.agenda.after_epoch(state.epoch - 1, state.update))


def one_update(task: Task, state: RunState, batch: Batch, pause: Callable[[], object] | None = None) -> None:
    """Observe the labels of a batch, update the optimizer, move weights and offsets.

    pause  collective function called when the labels are observed, which may raise
    Collective; raises TrainingError with the state as it was, if the optimizer's update takes `accept`.
    """
    n, levels = len(state.weights), None if state.noise is None else state.noise.innovation.copy()

    def accept(increment):
        maximum = np.abs(state.weights + increment[:n]).max()
        if not maximum <= state.weight_limit:
            raise TrainingError(
                f"update {state.update + 1}: the weights run away: "
                f"the largest is {maximum:.3g}, the limit {state.weight_limit:.3g}; "
                f"try {task.optimizer.advice}"
            )

    try:
        rows, errors = task.observe(batch, read_only(state.weights), pause)
        increment = update_if_accepted(task.optimizer, state.optimizer, rows, errors, accept)
    except TrainingError:
        if state.noise is not None:
            state.noise.innovation[:] = levels
        raise
    state.weights += increment[:n]
    if state.noise is not None:
        state.noise.offsets += increment[n:]
        offsets.follow(task, state)
    state.skipped_in_row = 0


def leave_out(run: Parts, error: TrainingError, batch: Batch) -> None:
    """Stop, or count an update that is left out: all else is as before it. Collective."""
    state = run.state
    message = f"{error}\n{run.task.observer.suspect_label(batch.kind)}"
    if run.config.run.on_divergence == "stop":
        raise TrainingError(message) from None
    state.skipped += 1
    state.skipped_in_row += 1
    if state.skipped_in_row >= MAXIMUM_SKIPPED:
        raise TrainingError(
            f"{MAXIMUM_SKIPPED} updates in a row were left out, the last because of\n{message}"
        ) from None
    if state.skipped <= 3:
        run.log.warn(f"update {state.update + 1} is left out (number {state.skipped}): {message}")


def evaluate(run: Parts, epoch: int) -> None:
    """One point of the learning curve; the best potential so far is kept in best.h5. Collective."""
    state = run.state
    with run.agenda.signals.breaking():
        point, better = run.judge.record(state, epoch, run.keeper.seconds, lambda: pause(run))
    noise = "" if state.noise is None else state.noise.in_words(run.task.observer.labels.units)
    left = run.progress.left()
    accuracies = {"train": point.train, "valid": point.validation}
    if len(run.task.data.old):
        accuracies["old"] = point.old
    if run.table.is_due():
        for line in run.table.lines(epoch, state, accuracies, better, left, noise):
            run.log.show(line)
        run.progress.told()
    if state.skipped:
        run.log(f"updates left out so far: {state.skipped} of {state.update}")
    run.reason = run.reason or out_of_patience(run.config, state, run.judge)
    run.keeper.keep_epoch(state, better)
    call_all(run, run.on_epoch, run.task, state, point)


def call_all(run: Parts, functions: tuple, *arguments: object) -> None:
    """Call functions of the user; an error on one rank is raised on every rank. Collective."""

    def call():
        for function in functions:
            function(*arguments)

    if functions:
        agree(run.task.comm, call)


def obey(run: Parts, verdict: Verdict) -> None:
    """Do what the agenda says. Collective; raises Interrupted."""
    run.reason = run.reason or verdict.reason
    if verdict.save:
        save(run)
    if verdict.interrupted:
        state = run.state
        interrupted = Interrupted(
            f"{verdict.reason}: stopped after update {state.update} "
            f"({place_in_run(state.epoch, state.done)}); {run.agenda.signals.advice}"
        )
        raise of_all_ranks(interrupted)


def pause(run: Parts) -> None:
    """Between the structures of a long evaluation: look for signals. Collective."""
    verdict = run.agenda.ask()
    if verdict.interrupted:
        obey(run, verdict)


def save(run: Parts) -> None:
    """Write checkpoint.h5. Collective."""
    if run.keeper.save(run.state):
        run.agenda.saved()


def out_of_patience(config: Config, state: RunState, judge: Judge) -> str:
    """Why a run ends that has not become better for run.patience epochs; "" if it goes on."""
    patience, last = config.run.patience, state.curve.rows[-1][0] if state.curve.rows else 0
    if patience and last - state.best_epoch >= patience:
        part = part_that_judges(state.curve.columns(), judge.weights())
        return f"no better {'training' if part == 'train' else part} error for {counted(patience, 'epoch')}"
    return ""


def with_last_weights(run: Parts) -> RunState:
    """The state for the last word of a run. One that ends within an epoch has weights that were not evaluated
    yet: if they are better, best.h5 is of them. checkpoint.h5 does not know: a run that is resumed takes the
    way that it would have taken. Collective.
    """
    state = run.state
    if not state.done:
        return state
    weights = offsets.settled_weights(run.task, state)
    point = run.judge.evaluate(weights, lambda: pause(run))
    last = replace(state, curve=LearningCurve(state.curve.columns()), seconds=run.keeper.seconds())
    run.judge.add_point(last, state.epoch, point)
    found = run.judge.measure(last.curve.rows)
    if not found < state.best:
        return state
    run.log(f"the weights after the last update, within epoch {state.epoch}, are the best")
    last = replace(last, best=found, best_epoch=state.epoch, best_weights=weights.copy())
    run.keeper.keep_epoch(last, better=True, now=True)
    return last


def calibrate(run: Parts, state: RunState) -> None:
    """Standard deviations of the best potential's predictions, for its checkpoints. Collective."""
    calibration = calibrate_run(run.judge, state, run.log)
    if calibration is not None:
        run.keeper.keep_calibration(state, calibration.numbers())


def finish(run: Parts, state: RunState, directory: Path) -> None:
    """Last messages and pictures. Collective."""
    log, comm = run.log, run.task.comm
    log(
        f"{run.reason or 'all epochs are done'}: {counted(state.update, 'update')} in "
        f"{duration(state.seconds)}"
    )
    log(
        f"checkpoints took {run.keeper.saving:.2f} s "
        f"of this start's {time.monotonic() - run.agenda.begin:.1f} s"
    )
    write = conclude(run.judge, state, directory, log, run.reason)

    def write_or_tell():
        with writing(directory):
            write()

    on_root(comm, write_or_tell)
    log(f"results in {directory}")


def expected_update(run: Parts) -> float:
    """Seconds that an update of force labels is estimated to take, 0 where none are learned."""
    if not run.task.schedule.learns(FORCE):
        return 0.0
    labels = -(-labels_per_update(run.config.schedule, FORCE) // run.task.comm.size)
    return labels * cost_of(run.task.observer.structures, run.task.potential.functions).of_force_row()


def describe(run: Parts) -> None:
    """What is learned from what, in the log."""
    task, log, config = run.task, run.log, run.config
    network = task.potential.network
    counts = ", ".join(
        f"{len(labels) if kind.always or task.schedule.learns(k) else 'no'} {kind.words}"
        for k, (kind, labels) in enumerate(zip(KINDS.values(), task.labels))
    )
    log(
        f"{counted(len(task.dataset), 'structure')}: {len(task.train)} for training ({counts}), "
        f"{len(task.validation)} for validation"
        + (
            f"; {task.data.n_rehearsed} for training and {len(task.data.old)} for validation are of before"
            if task.data.before
            else ""
        )
    )
    run.judge.describe(log)
    for k, kind in enumerate(KINDS.values()):
        if k not in (ENERGY, FORCE) and config.schedule.learns(kind.name) and not len(task.labels[k]):
            log.warn(f"{share_in_words(config.schedule, kind.name)}, but there are no {kind.words} to learn")
        streams, labels = config.schedule.of_kind(kind.name, "streams"), len(task.labels[k])
        if config.schedule.name == "runner" and task.schedule.learns(k) and streams > labels > 0:
            log.warn(
                f"{counted(streams, 'stream')}, but {labels} {kind.words} for training: an update takes "
                "some of them more than once, and they count so often"
            )
    sizes = "; ".join(
        f"{s} {'-'.join(map(str, size))}" for s, size in zip(symbols(task.potential.elements), network.sizes)
    )
    log(
        f"nets {sizes}: {network.n_weight} weights; {config.run.optimizer}, {counted(task.comm.size, 'rank')}"
    )
    log(f"{counted(task.schedule.updates_per_epoch, 'update')} per epoch, schedule {config.schedule.name}")
    seconds = expected_update(run)
    if seconds > SLOW_UPDATE:
        cost = cost_of(task.observer.structures, task.potential.functions)
        log.warn(
            f"{cost}: an update of forces may take {duration(seconds)}; smaller cutoffs or fewer "
            "angular functions cost less (mpnnp prune), more ranks share it"
        )
    for message in run.agenda.complaints(seconds):
        log.warn(message)
    log(f"seed {config.run.seed}; data {task.data.hash}")
    log.record(f"configuration:\n{to_toml(config)}")
