"""The training run: the order of events from configuration to trained potential."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpnnp.config import to_toml
from mpnnp.data.packed import make_atoms
from mpnnp.data.store import load_structures, split
from mpnnp.environment import describe as describe_environment
from mpnnp.errors import CheckpointError, ConfigError, Interrupted, MpnnpError, TrainingError
from mpnnp.kernels.jit import read_only
from mpnnp.model.stored_functions import load_symmetry_functions
from mpnnp.optimizers.adam import make_adam
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.parallel import on_root, together
from mpnnp.progress import Progress, duration
from mpnnp.signals import Signals
from mpnnp.training import report, run_folder
from mpnnp.training.agenda import Agenda
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.observations import Observer, spread_of_stress
from mpnnp.training.resume import check_same_run, judged_alike
from mpnnp.training.schedules import ENERGY, FORCE, KIND_NAMES, STRESS, make_schedule
from mpnnp.training.start import build
from mpnnp.training.warm_up import compile_kernels

LARGEST_WEIGHT = 1e4  # weights beyond this, or this many times the largest at the start, have run away
MOST_SKIPPED = 100  # updates in a row that run.on_divergence = "skip" leaves out before it gives up
NUMBERS = (
    "epoch",
    "done",
    "update",
    "seconds",
    "best",
    "best_epoch",
    "skipped",
    "skipped_in_row",
    "weight_limit",
)


@dataclass
class RunState:
    """Where a run stands: exactly what a checkpoint stores, beside the arrays of the optimiser."""

    weights: np.ndarray
    optimizer: object
    curve: LearningCurve
    epoch: int = 1  # the epoch under way, from 1
    done: int = 0  # its updates that are done
    update: int = 0  # updates done in all, those left out included
    seconds: float = 0.0  # of training so far
    best: float = np.inf  # smallest validation measure ...
    best_epoch: int = 0  # ... its epoch ...
    best_weights: np.ndarray = None  # ... and its weights
    skipped: int = 0  # updates left out because their numbers went wrong ...
    skipped_in_row: int = 0  # ... the last of them without another between
    weight_limit: float = LARGEST_WEIGHT
    rmse: np.ndarray = field(
        default_factory=lambda: np.ones(3)
    )  # energies per atom, forces, stresses; training units; of the last evaluation
    sort_errors: list = None  # |errors| at the start of the epoch, for sorted selection


def train(config, directory, comm, log, resume=False):
    """Train as `config` says and leave the results in `directory`; returns the final RunState. Collective.

    resume  continue from the checkpoint in the directory
    Raises ConfigError, DataError, CheckpointError, OutputError, TrainingError when numbers go wrong, and Interrupted after a signal or near the
    end of a batch job, with a checkpoint written; on every rank alike.
    """
    directory = Path(directory)
    with Signals(comm) as signals:
        on_root(comm, run_folder.open_folder, directory, log, resume)
        try:
            describe_environment(comm, log)
            compile_kernels(comm, log, stress=config.schedule.asks_for_stress)
            run = Run(config, directory, comm, log, resume, signals)
            signals.holding = True
            if run.state.update == 0 and not run.state.curve.rows:
                run.keep_start()
                run.evaluate(epoch=0)
            while run.state.epoch <= config.run.epochs and not run.reason:
                run.one_epoch()
            run.save()
            signals.holding = False
            run.finish()
        except MpnnpError as error:
            log.record(str(error) if isinstance(error, Interrupted) else f"error: {error}")
            raise
    return run.state


class Run:
    """A run in progress: data, schedule, optimiser and state, and the steps that `train` puts in order."""

    def __init__(self, config, directory, comm, log, resume=False, signals=None):
        self.config, self.directory, self.comm, self.log = config, directory, comm, log
        self.saved, self.saving = None, 0.0  # what checkpoint.h5 holds; seconds spent on checkpoints
        dataset, cache = load_structures(config.data, comm, log, directory)
        self.data_hash = on_root(comm, dataset.hash)
        self.train, self.validation = together(comm, split, dataset, config.data, config.run.seed_of("split"))
        saved = self._read_saved() if resume else None
        if saved:
            self.potential = saved.potential
            structures = together(comm, make_atoms, dataset, self.potential.elements)
            G = load_symmetry_functions(
                structures, self.potential.functions, self.data_hash, cache, comm, log
            )
        else:
            self.potential, structures, G = build(config, dataset, self.train, cache, comm, log)
        self.stress_scale = spread_of_stress(dataset, self.train)
        self.observer = Observer(
            dataset, structures, G, self.potential, config.schedule, comm, self.stress_scale
        )
        self.labels = self.observer.labels.of_structures(structures.start, self.train)
        self.schedule = together(comm, make_schedule, config.schedule, self.labels, config.run.seed)
        self.optimizer = self._make_optimizer()
        self.units = self.potential.network.units() if config.network.normalize_nodes else None
        self.train_subset, self.validation_subset = (
            self._subset(self.train, 3),
            self._subset(self.validation, 4),
        )
        together(comm, self._check_measure, structures.start)
        self.state = self._restore(saved) if saved else self._new_state()
        self.observer.rmse = self.state.rmse
        on_root(comm, run_folder.write_config, directory, to_toml(config))
        self.begin = time.monotonic() - self.state.seconds
        self.agenda = Agenda(comm, config.run, signals or Signals(comm), self.state.update)
        self.reason = self.agenda.reached(self.state.update)  # why the run ends before its last epoch
        self._describe(dataset)
        if saved:
            self._take_up(saved)

    def _make_optimizer(self):
        config = self.config
        if config.run.optimizer == "adam":
            return make_adam(config.adam, self.potential.network.n_weight, self.comm)
        n = self.schedule.updates_per_epoch
        per_update = config.ekf.model_copy(
            update={"eta_tau": config.ekf.eta_tau / n, "q_tau": config.ekf.q_tau / n}
        )
        return make_ekf(
            per_update, self.potential.network.n_weight, self.potential.network.segments, self.comm
        )

    def _new_state(self):
        w = self.potential.weights
        limit = LARGEST_WEIGHT * max(1.0, float(np.abs(w).max()))
        return RunState(
            w.copy(), self.optimizer.init(), LearningCurve(), best_weights=w.copy(), weight_limit=limit
        )

    def _read_saved(self):
        """The Checkpoint to continue from, if it is of this run; the optimiser's arrays, which may be large, on rank 0 alone. Collective."""
        optimizer = {}

        def read():
            name, saved = run_folder.read_saved(self.directory, self.log)
            if not saved.optimizer:
                raise CheckpointError(
                    f"{self.directory / name}: is a potential alone, without the state of an optimiser: it cannot be resumed"
                )
            check_same_run(saved, self.config, self.data_hash, self.directory / name)
            if saved.best_weights is None:
                saved = saved._replace(
                    best_weights=run_folder.weights_of_best(self.directory, saved.progress["best_epoch"])
                )
            optimizer.update(saved.optimizer)
            return name, saved._replace(optimizer={})

        self.saved_name, saved = on_root(self.comm, read)
        return saved._replace(optimizer=optimizer)

    def _restore(self, saved):
        """RunState of a Checkpoint. Collective."""
        progress, arrays = saved.progress, saved.arrays
        return RunState(
            weights=saved.potential.weights.copy(),
            optimizer=self.optimizer.load_arrays(saved.optimizer),
            curve=LearningCurve(saved.curve),
            best_weights=saved.best_weights,
            rmse=np.array([progress.get(f"{name}_rmse", 1.0) for name in KIND_NAMES]),
            sort_errors=[arrays.get(f"{name}_errors", np.zeros(0)) for name in KIND_NAMES]
            if arrays
            else None,
            **{name: progress[name] for name in NUMBERS if name in progress},
        )

    def _take_up(self, saved):
        """The files of the run as they were at the resumed point: best.h5 and learning curve may be of later. Collective."""
        state, before = self.state, saved.progress["n_rank"]
        self.log(f"resuming from {self.saved_name}, after update {state.update} (epoch {state.epoch})")
        if before not in (0, self.comm.size):
            self.log(
                f"the checkpoint is of {before} ranks, this run has {self.comm.size}: it continues to rounding, not bit for bit"
            )
        if state.best_weights is None:
            self.log.warn("the best potential so far is not known: the next evaluation is taken as the best")
            state.best = np.inf
        elif state.curve.rows and not judged_alike(saved, self.config, self.saved_name):
            w = read_only(state.best_weights)
            train = self.observer.evaluate(self.train, w, forces_of=self.train_subset)
            state.best = self._measure(
                train, self.observer.evaluate(self.validation, w, forces_of=self.validation_subset)
            )
        on_root(self.comm, self._write_epoch, state.best_weights is not None)
        on_root(self.comm, run_folder.set_aside, self.directory, self.saved_name)

    def _subset(self, structures, stream):
        """The structures whose forces make the learning curve: a fixed random choice."""
        n = self.config.run.evaluation_structures
        if n == 0 or n >= len(structures):
            return structures
        return np.sort(
            np.random.default_rng([self.config.run.seed, stream]).choice(structures, n, replace=False)
        )

    def keep_start(self):
        """initial.h5: the potential before the first update, which the analysis of a run compares with. Collective."""
        on_root(
            self.comm,
            run_folder.write_initial,
            self.directory,
            self.potential,
            to_toml(self.config),
            {"epoch": 0, "update": 0},
        )

    def one_epoch(self):
        """The updates of the epoch under way, its evaluation, its checkpoint."""
        state = self.state
        if self.config.schedule.selection == "sort" and state.sort_errors is None:
            state.sort_errors = self.observer.all_errors(self.labels, read_only(state.weights), self._pause)
        epoch = self.schedule.epoch(state.epoch, state.sort_errors)
        with Progress(
            self.log, f"epoch {state.epoch}/{self.config.run.epochs}: update", len(epoch), done=state.done
        ) as progress:
            while state.done < len(epoch) and not self.reason:
                self.one_update(epoch[state.done])
                progress.update(state.done)
                self._obey(self.agenda.after_update(state.update))
        if state.done >= len(epoch):
            self.evaluate(state.epoch)
            state.epoch, state.done, state.sort_errors = state.epoch + 1, 0, None
            self._obey(self.agenda.after_epoch(state.epoch - 1, state.update))

    def one_update(self, batch):
        """Observe the labels of a batch, update the filter, move the weights."""
        state = self.state
        rows, errors, _ = self.observer.observe(batch, read_only(state.weights))
        if self.units is not None:
            rows *= self.units
        try:
            increment = self.optimizer.update(state.optimizer, rows, errors)
            if self.units is not None:
                increment = increment * self.units
            largest = np.abs(state.weights + increment).max()
            if largest > state.weight_limit:
                raise TrainingError(
                    f"update {state.update + 1}: the weights run away: the largest is {largest:.3g}, the limit {state.weight_limit:.3g}; "
                    f"try {'a smaller learning_rate' if self.config.run.optimizer == 'adam' else 'a larger epsilon or a smaller eta'}"
                )
            state.weights += increment
            state.skipped_in_row = 0
        except TrainingError as error:  # on every rank alike
            self._diverged(error, batch.kind)
        state.done += 1
        state.update += 1

    def _diverged(self, error, kind):
        """Stop, or count an update that is left out: the weights stay as they are. Collective."""
        state = self.state
        message = f"{error}\n{self.observer.likely_label(kind)}"
        if self.config.run.on_divergence == "stop":
            raise TrainingError(message) from None
        state.skipped += 1
        state.skipped_in_row += 1
        if state.skipped_in_row >= MOST_SKIPPED:
            raise TrainingError(
                f"{MOST_SKIPPED} updates in a row were left out, the last because of\n{message}"
            ) from None
        if state.skipped <= 3:
            self.log.warn(f"update {state.update + 1} is left out (number {state.skipped}): {message}")

    def _obey(self, verdict):
        """Do what the agenda says. Collective; raises Interrupted."""
        self.reason = self.reason or verdict.reason
        if verdict.save:
            self.save()
        if verdict.interrupted:
            state = self.state
            error = Interrupted(
                f"{verdict.reason}: stopped after update {state.update} (epoch {state.epoch}), continue with --resume"
            )
            error.told_by = 0  # every rank raises it: rank 0 tells
            raise error

    def _pause(self):
        """Between the structures of a long evaluation: look for signals. Collective."""
        verdict = self.agenda.ask()
        if verdict.interrupted:
            self._obey(verdict)

    def evaluate(self, epoch):
        """One point of the learning curve; the best potential so far is kept in best.h5. Collective."""
        state, w = self.state, read_only(self.state.weights)
        train = self.observer.evaluate(self.train, w, forces_of=self.train_subset, pause=self._pause)
        validation = self.observer.evaluate(
            self.validation, w, forces_of=self.validation_subset, pause=self._pause
        )
        measure = self._measure(train, validation)
        if epoch and not np.isfinite(measure):
            where = self.observer.first_not_finite(np.concatenate([self.train, self.validation]), w)
            raise TrainingError(
                f"after update {state.update}: a prediction is not a finite number: {where}; the weights have run away"
            )
        self.optimizer.check(state.optimizer)
        state.seconds = self.comm.bcast(time.monotonic() - self.begin, root=0)
        state.curve.add(epoch, state.update, state.seconds, train, validation)
        scale = np.array([self.potential.energy_scale, self.potential.force_scale, self.stress_scale]) * 1000
        found = np.array([train.energy_rmse, train.force_rmse, train.stress_rmse])
        state.rmse[:] = np.nan_to_num(found / scale, nan=1.0, posinf=1.0)
        better = measure < state.best or len(state.curve.rows) == 1
        if better:
            state.best, state.best_epoch, state.best_weights = measure, epoch, state.weights.copy()
        self.log(report.progress_line(epoch, state, train, validation, better))
        if state.skipped:
            self.log(f"updates left out so far: {state.skipped} of {state.update}")
        if self.config.run.patience and epoch - state.best_epoch >= self.config.run.patience:
            self.reason = f"no better validation error for {self.config.run.patience} epochs"
        on_root(self.comm, self._write_epoch, better)

    def _measure(self, train, validation):
        """What best.h5 minimises, of the validation structures if they have labels."""
        accuracy = validation if validation.has_labels else train
        run = self.config.run
        terms = [
            (run.energy_metric_weight, accuracy.energy_rmse),
            (run.force_metric_weight, accuracy.force_rmse / 100),
        ]
        if self.schedule.learns_stress:
            terms.append((run.stress_metric_weight, accuracy.stress_rmse))
        return sum(weight * value for weight, value in terms if weight > 0 and not np.isnan(value))

    def _check_measure(self, start):
        """Raise ConfigError if the structures that judge have no label of a kind that counts."""
        for some, subset in ((self.validation, self.validation_subset), (self.train, self.train_subset)):
            counts = [
                len(self.observer.labels.of_structures(start, chosen)[k])
                for k, chosen in enumerate((some, subset, subset))
            ]
            if any(counts[:2]):
                break
        run = self.config.run
        stress_weight = run.stress_metric_weight * self.schedule.learns_stress
        if (
            counts[ENERGY] * run.energy_metric_weight
            + counts[FORCE] * run.force_metric_weight
            + counts[STRESS] * stress_weight
            == 0
        ):
            raise ConfigError(
                f"run.energy_metric_weight = {run.energy_metric_weight:g}, run.force_metric_weight = {run.force_metric_weight:g}: with "
                f"{counts[ENERGY]} energy and {counts[FORCE]} force labels to judge by, no potential is better than another"
            )

    def _write_epoch(self, better):
        state = self.state
        with run_folder.writing(self.directory / "learning-curve.csv"):
            state.curve.write(self.directory / "learning-curve.csv")
        if better:
            update = next((row[1] for row in reversed(state.curve.rows) if row[0] == state.best_epoch), 0)
            numbers = {"epoch": state.best_epoch, "update": int(update), "best": state.best}
            run_folder.write_best(
                self.directory, self.potential.with_weights(state.best_weights), to_toml(self.config), numbers
            )

    def save(self):
        """Write checkpoint.h5, unless it holds this state. Collective."""
        state, begin = self.state, time.monotonic()
        now = (state.update, state.epoch, len(state.curve.rows))
        if now == self.saved:
            return
        self.optimizer.check(state.optimizer)  # a broken filter must not replace the last good one
        state.seconds = self.comm.bcast(time.monotonic() - self.begin, root=0)
        arrays = self.optimizer.save_arrays(state.optimizer)
        on_root(self.comm, self._write_checkpoint, arrays)
        self.saved = now
        self.saving += time.monotonic() - begin
        self.agenda.saved()

    def _write_checkpoint(self, optimizer):
        state = self.state
        numbers = {name: getattr(state, name) for name in NUMBERS}
        numbers |= {f"{name}_rmse": state.rmse[kind] for kind, name in enumerate(KIND_NAMES)} | {
            "optimizer": self.config.run.optimizer
        }
        numbers |= {"data": self.data_hash, "n_rank": self.comm.size}
        errors = state.sort_errors and {
            f"{name}_errors": state.sort_errors[kind] for kind, name in enumerate(KIND_NAMES)
        }
        run_folder.write_checkpoint(
            self.directory,
            self.potential.with_weights(state.weights),
            to_toml(self.config),
            numbers,
            optimizer,
            state.curve.columns(),
            errors,
            state.best_weights,
        )

    def finish(self):
        """Last messages and pictures. Collective."""
        state = self.state
        self.log(
            f"{self.reason or 'all epochs are done'}: {state.update} updates in {duration(state.seconds)}"
        )
        self.log(
            f"checkpoints took {self.saving:.2f} s of this start's {time.monotonic() - self.agenda.begin:.1f} s"
        )
        self.judge()

    def judge(self):
        """Evaluate the best potential on all structures: log, accuracy.json, pictures. Collective."""
        w = read_only(self.state.best_weights)
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
        on_root(self.comm, self._write_judgement, parts, accuracies, points, shown)
        self.log(f"results in {self.directory}")

    def _write_judgement(self, parts, accuracies, points, shown):
        with run_folder.writing(self.directory):
            report.draw(self.directory, self.state.curve, points, shown)
            report.write_accuracies(self.directory / "accuracy.json", self.state, parts, accuracies)

    def _describe(self, dataset):
        p, network = self.potential, self.potential.network
        self.log(
            f"{len(dataset)} structures: {len(self.train)} for training ({len(self.labels[ENERGY])} energies, {len(self.labels[FORCE])} "
            f"force components, {len(self.labels[STRESS]) if self.schedule.learns_stress else 'no'} stress components), "
            f"{len(self.validation)} for validation"
        )
        for name, some, structures in (
            ("training", self.train_subset, self.train),
            ("validation", self.validation_subset, self.validation),
        ):
            if len(some) < len(structures):
                self.log(
                    f"learning curve, {name}: all energies, forces of {len(some)} of {len(structures)} structures (run.evaluation_structures)"
                )
        sizes = "; ".join(
            f"{s} {'-'.join(map(str, size))}" for s, size in zip(report.symbols(p.elements), network.sizes)
        )
        self.log(
            f"nets {sizes}: {network.n_weight} weights; {self.config.run.optimizer}, {self.comm.size} ranks"
        )
        self.log(f"{self.schedule.updates_per_epoch} updates per epoch, schedule {self.config.schedule.name}")
        self.log(f"seed {self.config.run.seed}; data {self.data_hash}")
        self.log.record(f"configuration:\n{to_toml(self.config)}")
