"""The training run: the order of events from configuration to trained potential."""

import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from mpnnp import __version__, checkpoint, report
from mpnnp.adam import make_adam
from mpnnp.config import to_toml
from mpnnp.ekf import make_ekf
from mpnnp.errors import CheckpointError, DataError, TrainingError
from mpnnp.kernels.jit import read_only
from mpnnp.learning_curve import LearningCurve
from mpnnp.model_building import build
from mpnnp.observations import Observer, spread_of_stress
from mpnnp.parallel import on_root, together
from mpnnp.progress import Progress, duration
from mpnnp.streams import ENERGY, FORCE, KIND_NAMES, STRESS, make_schedule
from mpnnp.training_data import load_structures, load_symmetry_functions, make_atoms, split
from mpnnp.warm_up import compile_kernels


@dataclass
class RunState:
    """Where a run stands: exactly what a checkpoint stores, beside the arrays of the optimiser."""

    weights: np.ndarray
    optimizer: object
    curve: LearningCurve
    epoch: int = 1  # the epoch under way, from 1
    done: int = 0  # its updates that are done
    update: int = 0  # updates done in all
    seconds: float = 0.0  # of training so far
    best: float = np.inf  # smallest validation measure ...
    best_epoch: int = 0  # ... and its epoch
    rmse: np.ndarray = field(default_factory=lambda: np.ones(3))  # energies per atom, forces, stresses; training units; of the last evaluation
    sort_errors: list = None  # |errors| at the start of the epoch, for sorted selection


def train(config, directory, comm, log, resume=False):
    """Train as `config` says and leave the results in `directory`; returns the final RunState. Collective.

    resume  continue from the checkpoint in the directory
    Raises ConfigError, DataError, CheckpointError, and TrainingError when numbers go wrong, on every rank alike.
    """
    directory = Path(directory)
    on_root(comm, _prepare, directory, config, log, resume)
    compile_kernels(comm, log)
    run = Run(config, directory, comm, log, resume)
    if run.state.update == 0 and not run.state.curve.rows:
        run.evaluate(epoch=0)
    while run.state.epoch <= config.run.epochs and not run.reason:
        run.one_epoch()
    run.finish()
    return run.state


class Run:
    """A run in progress: data, schedule, optimiser and state, and the steps that `train` puts in order."""

    def __init__(self, config, directory, comm, log, resume):
        self.config, self.directory, self.comm, self.log = config, directory, comm, log
        self.reason = ""  # why the run ends before its last epoch
        self.begin = time.monotonic()
        dataset, cache = load_structures(config.data, comm, log, directory)
        self.train, self.validation = split(dataset, config.data, config.run.seed)
        saved = self._read_saved() if resume else None
        if saved:
            self.potential = saved[0]
            structures = make_atoms(dataset, self.potential.elements)
            G = load_symmetry_functions(structures, self.potential.functions, dataset.hash(), cache, comm, log)
        else:
            self.potential, structures, G = build(config, dataset, self.train, cache, comm, log)
        self.stress_scale = spread_of_stress(dataset, self.train)
        self.observer = Observer(dataset, structures, G, self.potential, config.schedule, comm, self.stress_scale)
        self.labels = self.observer.labels.of_structures(structures.start, self.train)
        self.schedule = make_schedule(config.schedule, self.labels, config.run.seed)
        self.optimizer = self._make_optimizer()
        self.units = self.potential.network.units() if config.network.normalize_nodes else None
        self.state = self._restore(saved) if saved else RunState(self.potential.weights.copy(), self.optimizer.init(), LearningCurve())
        self.observer.rmse = self.state.rmse
        self.train_subset, self.validation_subset = self._subset(self.train, 3), self._subset(self.validation, 4)
        self.begin = time.monotonic() - self.state.seconds
        self.agenda = Agenda(comm, config.run, self)
        self._describe(dataset)

    def _make_optimizer(self):
        config = self.config
        if config.run.optimizer == "adam":
            return make_adam(config.adam, self.potential.network.n_weight, self.comm)
        n = self.schedule.updates_per_epoch
        per_update = config.ekf.model_copy(update={"eta_tau": config.ekf.eta_tau / n, "q_tau": config.ekf.q_tau / n})
        return make_ekf(per_update, self.potential.network.n_weight, self.potential.network.segments, self.comm)

    def _read_saved(self):
        """What checkpoint.h5 holds; the optimiser's arrays, which may be large, on rank 0 alone."""
        whole = together(self.comm, lambda: _read_saved(self.directory, self.config) if self.comm.rank == 0 else (None,) * 5)
        potential, progress, optimizer, curve, arrays = whole
        potential, progress, curve, arrays = self.comm.bcast((potential, progress, curve, arrays), root=0)
        return potential, progress, optimizer, curve, arrays

    def _restore(self, saved):
        potential, progress, optimizer, curve, arrays = saved
        sort_errors = [arrays.get(f"{name}_errors", np.zeros(0)) for name in KIND_NAMES] if arrays else None
        numbers = {name: progress[name] for name in ("epoch", "done", "update", "seconds", "best", "best_epoch")}
        self.log(f"resuming after update {progress['update']} (epoch {progress['epoch']})")
        return RunState(
            weights=potential.weights.copy(),
            optimizer=self.optimizer.load_arrays(optimizer),
            curve=LearningCurve(curve),
            rmse=np.array([progress.get(f"{name}_rmse", 1.0) for name in KIND_NAMES]),
            sort_errors=sort_errors,
            **numbers,
        )

    def _subset(self, structures, stream):
        """The structures whose forces make the learning curve: a fixed random choice."""
        n = self.config.run.evaluation_structures
        if n == 0 or n >= len(structures):
            return structures
        return np.sort(np.random.default_rng([self.config.run.seed, stream]).choice(structures, n, replace=False))

    def one_epoch(self):
        """The updates of the epoch under way, its evaluation, its checkpoint."""
        state = self.state
        if self.config.schedule.selection == "sort" and state.sort_errors is None:
            state.sort_errors = self.observer.all_errors(self.labels, read_only(state.weights))
        epoch = self.schedule.epoch(state.epoch, state.sort_errors)
        with Progress(self.log, f"epoch {state.epoch}/{self.config.run.epochs}: update", len(epoch), done=state.done) as progress:
            while state.done < len(epoch):
                self.one_update(epoch[state.done])
                progress.update(state.done)
                self.agenda.after_update()
                if self.reason:
                    break
        if state.done >= len(epoch):  # more if a resumed run has fewer updates per epoch than it had
            state.epoch, state.done, state.sort_errors = state.epoch + 1, 0, None
            self.evaluate(state.epoch - 1)
            self.agenda.after_epoch()

    def one_update(self, batch):
        """Observe the labels of a batch, update the filter, move the weights."""
        state, w = self.state, read_only(self.state.weights)
        rows, errors, labels = self.observer.observe(batch, w)
        if self.units is not None:
            rows *= self.units
        try:
            increment = self.optimizer.update(state.optimizer, rows, errors)
        except TrainingError as error:  # on every rank alike
            causes = self.comm.allgather(self.observer.broken_label(batch.kind, rows, errors, labels))
            raise TrainingError("\n".join([str(error), *filter(None, causes)])) from None
        state.weights += increment if self.units is None else increment * self.units
        state.done += 1
        state.update += 1

    def evaluate(self, epoch):
        """One point of the learning curve; the best potential so far is kept in best.h5. Collective."""
        state, w = self.state, read_only(self.state.weights)
        train = self.observer.evaluate(self.train, w, forces_of=self.train_subset)
        validation = self.observer.evaluate(self.validation, w, forces_of=self.validation_subset)
        state.seconds = self.comm.bcast(time.monotonic() - self.begin, root=0)
        state.curve.add(epoch, state.update, state.seconds, train, validation)
        scale = np.array([self.potential.energy_scale, self.potential.force_scale, self.stress_scale]) * 1000
        state.rmse[:] = np.nan_to_num(np.array([train.energy_rmse, train.force_rmse, train.stress_rmse]) / scale, nan=1.0)
        measure = self._measure(validation if validation.has_labels else train)
        better = measure < state.best or len(state.curve.rows) == 1
        if better:
            state.best, state.best_epoch = measure, epoch
        self.log(report.progress_line(epoch, state, train, validation, better))
        if epoch and not np.isfinite(measure):
            self.reason = "the validation error is not a finite number"
        if self.config.run.patience and epoch - state.best_epoch >= self.config.run.patience:
            self.reason = f"no better validation error for {self.config.run.patience} epochs"
        on_root(self.comm, self._write_epoch, better)

    def _measure(self, accuracy):
        run = self.config.run
        terms = [(run.energy_metric_weight, accuracy.energy_rmse), (run.force_metric_weight, accuracy.force_rmse / 100)]
        if self.schedule.learns_stress:
            terms.append((run.stress_metric_weight, accuracy.stress_rmse))
        return sum(weight * value for weight, value in terms if not np.isnan(value))

    def _write_epoch(self, better):
        self.state.curve.write(self.directory / "learning-curve.csv")
        if better:
            numbers = {"epoch": self.state.best_epoch, "update": self.state.update, "best": self.state.best}
            checkpoint.write_checkpoint(
                self.directory / "best.h5", self.potential.with_weights(self.state.weights), to_toml(self.config), numbers
            )

    def save(self):
        """Write checkpoint.h5. Collective."""
        state = self.state
        state.seconds = self.comm.bcast(time.monotonic() - self.begin, root=0)
        arrays = self.optimizer.save_arrays(state.optimizer)
        on_root(self.comm, self._write_checkpoint, arrays)

    def _write_checkpoint(self, optimizer):
        state = self.state
        numbers = {name: getattr(state, name) for name in ("epoch", "done", "update", "seconds", "best", "best_epoch")}
        numbers |= {f"{name}_rmse": state.rmse[kind] for kind, name in enumerate(KIND_NAMES)} | {"optimizer": self.config.run.optimizer}
        errors = state.sort_errors and {f"{name}_errors": state.sort_errors[kind] for kind, name in enumerate(KIND_NAMES)}
        checkpoint.write_checkpoint(
            self.directory / "checkpoint.h5",
            self.potential.with_weights(state.weights),
            to_toml(self.config),
            numbers,
            optimizer,
            state.curve.columns(),
            errors,
        )

    def finish(self):
        """Last checkpoint and pictures. Collective."""
        state = self.state
        self.save()
        self.log(f"{self.reason or 'all epochs are done'}: {state.update} updates in {duration(state.seconds)}")
        self.judge()

    def judge(self):
        """Evaluate the best potential on all structures: log, accuracy.json, pictures. Collective."""
        best = on_root(self.comm, checkpoint.read_potential, self.directory / "best.h5")
        w = read_only(best.weights)
        parts = {"training": self.train, "validation": self.validation}
        shown, accuracies = "validation" if len(self.validation) else "training", {}
        self.log(f"best.h5, the potential after epoch {self.state.best_epoch}, on all structures:")
        for name, structures in parts.items():
            keep = report.Parity(self.observer)
            accuracies[name] = self.observer.evaluate(structures, w, keep=keep)
            if len(structures):
                self.log(report.accuracy_line(name, len(structures), accuracies[name]))
            if name == shown:
                points = keep.gather(self.comm)
        on_root(self.comm, report.draw, self.directory, self.state.curve, points, shown)
        on_root(self.comm, report.write_accuracies, self.directory / "accuracy.json", self.state, parts, accuracies)
        self.log(f"results in {self.directory}")

    def _describe(self, dataset):
        p, network = self.potential, self.potential.network
        self.log(
            f"{len(dataset)} structures: {len(self.train)} for training ({len(self.labels[ENERGY])} energies, {len(self.labels[FORCE])} "
            f"force components, {len(self.labels[STRESS]) if self.schedule.learns_stress else 'no'} stress components), "
            f"{len(self.validation)} for validation"
        )
        for name, some, structures in (("training", self.train_subset, self.train), ("validation", self.validation_subset, self.validation)):
            if len(some) < len(structures):
                self.log(f"learning curve, {name}: all energies, forces of {len(some)} of {len(structures)} structures (run.evaluation_structures)")
        sizes = "; ".join(f"{s} {'-'.join(map(str, size))}" for s, size in zip(report.symbols(p.elements), network.sizes))
        self.log(f"nets {sizes}: {network.n_weight} weights; {self.config.run.optimizer}, {self.comm.size} ranks")
        self.log(f"{self.schedule.updates_per_epoch} updates per epoch, schedule {self.config.schedule.name}")


class Agenda:
    """What happens between updates: checkpoints and limits. The clock of rank 0 decides, and is asked about twice a second."""

    def __init__(self, comm, config, run):
        self.comm, self.config, self.run = comm, config, run
        self.last_time, self.last_update = time.monotonic(), run.state.update
        self.last_save, self.interval = self.last_time, 1

    def after_update(self):
        update = self.run.state.update
        if self.config.updates and update >= self.config.updates:
            self.run.reason = f"run.updates = {self.config.updates} reached"
            return
        save = bool(self.config.checkpoint_updates) and update % self.config.checkpoint_updates == 0
        if update - self.last_update >= self.interval:
            save_now, self.run.reason, self.interval = self.comm.bcast(self._decide() if self.comm.rank == 0 else None, root=0)
            self.last_time, self.last_update = time.monotonic(), update
            save = save or save_now
        if save:
            self.run.save()
            self.last_save = time.monotonic()

    def after_epoch(self):
        if self.config.updates and self.run.state.update >= self.config.updates:
            self.run.reason = f"run.updates = {self.config.updates} reached"
        if (self.run.state.epoch - 1) % self.config.checkpoint_epochs == 0:
            self.run.save()
            self.last_save = time.monotonic()
        self.last_time, self.last_update = time.monotonic(), self.run.state.update

    def _decide(self):
        """(save now, reason to stop, updates until the next question)."""
        now = time.monotonic()
        per_update = max((now - self.last_time) / max(self.run.state.update - self.last_update, 1), 1e-6)
        limit = self.config.time_limit
        reason = f"run.time_limit = {limit:g} min reached" if limit and now - self.run.begin > 60 * limit else ""
        return now - self.last_save > 60 * self.config.checkpoint_minutes, reason, int(min(max(0.5 / per_update, 1), 1000))


def _prepare(directory, config, log, resume):
    """Folder, config.toml and train.log of the run."""
    if resume and not (directory / "checkpoint.h5").is_file():
        raise CheckpointError(f"{directory}: there is no checkpoint.h5 to resume from")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.toml").write_text(to_toml(config), encoding="utf-8")
        log.open(directory / "train.log", append=resume)
    except OSError as error:
        raise DataError(f"{directory}: the results cannot be written: {error.strerror}") from None
    log(f"mpnnp {__version__}, {datetime.now():%Y-%m-%d %H:%M:%S}, seed {config.run.seed}, results in {directory}")


def _read_saved(directory, config):
    """Potential, numbers and arrays of checkpoint.h5, if they fit the configuration."""
    potential, _, progress, optimizer, curve, arrays = checkpoint.read_checkpoint(directory / "checkpoint.h5")
    if progress.get("optimizer") != config.run.optimizer:
        raise CheckpointError(f"{directory}/checkpoint.h5 is of a run with {progress.get('optimizer')}, not {config.run.optimizer}")
    return potential, progress, optimizer, curve, arrays


