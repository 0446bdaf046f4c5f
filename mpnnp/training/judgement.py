"""How good a potential is: points of the learning curve, and the measure by which the best one is kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mpnnp.config import Config
from mpnnp.errors import ConfigError, TrainingError
from mpnnp.kernels.jit import read_only
from mpnnp.model.label_kinds import KINDS, MILLI
from mpnnp.model.metrics import Accuracy
from mpnnp.progress import AnyLog
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.measure import evaluations, measures, settled
from mpnnp.training.run_state import RunState
from mpnnp.training.start import Task


@dataclass(frozen=True)
class Point:
    """A point of the learning curve: Accuracy of training and validation structures, and of the validation
    structures of what was learned before.
    """

    train: Accuracy
    validation: Accuracy
    old: Accuracy


class Judge:
    """Evaluates potentials of a task on its training and its validation structures.

    train_subset, validation_subset  structures that are predicted in full for the learning curve; of the
                                     others only energies
    units (n_kind,)                  unit of training of each kind of label, in its error_unit
    Raises ConfigError if the structures that judge have no label of a kind that counts.
    """

    def __init__(self, task: Task, config: Config):
        self.task, self.config = task, config
        self.train_subset = self._subset(task.train, 3)
        self.validation_subset = self._subset(task.validation, 4)
        self.old_subset = self._subset(task.data.old, 5)
        self.units = MILLI * np.array(task.observer.labels.units)
        self._check_measure()

    def _with_more_than_energies(self, structures):
        """Those of the structures with labels that need a prediction in full."""
        start, labels = self.task.observer.structures.start, self.task.observer.labels
        found = [
            kind.structure_of(start, numbers)
            for kind, numbers in zip(KINDS.values(), labels.of_structures(start, structures))
            if not kind.per_atom
        ]
        return np.unique(np.concatenate(found))

    def _subset(self, structures, stream):
        """A fixed random choice of those that need a prediction in full."""
        run, structures = self.config.run, self._with_more_than_energies(structures)
        n = run.evaluation_structures
        if n == 0 or n >= len(structures):
            return structures
        return np.sort(np.random.default_rng([run.seed, stream]).choice(structures, n, replace=False))

    def weights(self) -> dict[str, float]:
        """Kind -> weight of its error in the measure."""
        learns = self.task.schedule.learns
        weights = {name: self.config.metric_weight(name) for name in KINDS}
        return {
            name: w
            for k, (name, w) in enumerate(weights.items())
            if w > 0 and (KINDS[name].always or learns(k))
        }

    def _counts(self, structures, subset):
        """Kind -> labels that are judged of the structures, whose `subset` is predicted in full."""
        start, labels = self.task.observer.structures.start, self.task.observer.labels
        of_all, of_subset = labels.of_structures(start, structures), labels.of_structures(start, subset)
        return {
            name: len((of_all if kind.per_atom else of_subset)[k])
            for k, (name, kind) in enumerate(KINDS.items())
        }

    def _check_measure(self):
        """Raise ConfigError if the structures that judge have no label of a kind that counts."""
        always = [name for name, kind in KINDS.items() if kind.always]
        counts = self._counts(self.task.validation, self.validation_subset)
        if not any(counts[name] for name in self.weights()):
            counts = self._counts(self.task.train, self.train_subset)
        if not any(counts[name] for name in self.weights()):
            keys = ", ".join(
                f"run.{name}_metric_weight = {self.config.metric_weight(name):g}" for name in always
            )
            labels = " and ".join(f"{counts[name]} {name}" for name in always)
            raise ConfigError(
                f"{keys}: with {labels} labels to judge by, no potential is better than another"
            )

    def evaluate(self, w: np.ndarray, pause: Callable[[], object] | None = None) -> Point:
        """Point of the potential with weights w. Collective.

        pause  collective function called between structures, which may raise
        """
        observer, w = self.task.observer, read_only(w)
        train = observer.evaluate(self.task.train, w, forces_of=self.train_subset, pause=pause)
        validation = observer.evaluate(self.task.validation, w, forces_of=self.validation_subset, pause=pause)
        old = observer.evaluate(self.task.data.old, w, forces_of=self.old_subset, pause=pause)
        return Point(train, validation, old)

    def measure(self, rows: list[list]) -> float:
        """What best.h5 minimises, for the last of these rows of a learning curve; see training.measure."""
        n, recent = evaluations(self.config), LearningCurve()
        recent.rows = rows[-n - 1 :]  # the first of them has no part, as the start has none
        return float(settled(measures(recent.columns(), self.weights()), n)[-1])

    def _teach(self, noise, point, w):
        """Validation errors as they are, of old data where new ones have none; NaN where there are no labels:
        then innovations alone tell.
        """
        told = point.validation if point.validation.has_labels_of(KINDS) else point.old
        rmse = np.array([told.rmse[name] for name in KINDS]) / self.units
        offsets = len(noise.offsets) > 0
        noise.evaluated(rmse, 0.0 if offsets else self.task.observer.correlation_of_energies(read_only(w)))

    def in_training_units(self, accuracy: Accuracy) -> np.ndarray:
        """RMSE (n_kind,) of an Accuracy in training units; 1 where there is none."""
        found = np.array([accuracy.rmse[name] for name in KINDS])
        return np.nan_to_num(found / self.units, nan=1.0, posinf=1.0)

    def record(
        self,
        state: RunState,
        epoch: int,
        seconds: Callable[[], float],
        pause: Callable[[], object] | None = None,
    ) -> tuple[Point, bool]:
        """Add a point to the learning curve of `state`, and remember the weights if they are the best so far:
        (Point, better). Collective.

        Raises TrainingError if a prediction is not a finite number.
        """
        task = self.task
        point = self.evaluate(state.weights, pause)
        if epoch and not self._is_finite(point):
            where = task.observer.first_not_finite(
                np.concatenate([task.train, task.validation, task.data.old]), read_only(state.weights)
            )
            raise TrainingError(
                f"after update {state.update}: a prediction is not a finite number: {where}; "
                "the weights have run away"
            )
        task.optimizer.check(state.optimizer)
        state.seconds = seconds()
        state.rmse[:] = self.in_training_units(point.train)
        if state.noise is not None:
            self._teach(state.noise, point, state.weights)
        self.add_point(state, epoch, point)
        found = self.measure(state.curve.rows)
        better = found < state.best or len(state.curve.rows) == 1
        if better:
            state.best, state.best_epoch, state.best_weights = found, epoch, state.weights.copy()
        return point, better

    def measure_of_best(self, state: RunState, anew: bool) -> float:
        """What the best potential of a state counts as today. Collective.

        anew  the learning curve is made of other structures than those that judge now
        """
        rows = [k for k, row in enumerate(state.curve.rows) if row[0] == state.best_epoch]
        if rows and not anew:
            return self.measure(state.curve.rows[: rows[-1] + 1])
        assert state.best_weights is not None
        alone = replace(state, curve=LearningCurve())
        self.add_point(alone, state.best_epoch, self.evaluate(state.best_weights))
        return self.measure(alone.curve.rows)

    def _is_finite(self, point):
        """Whether the errors that count are numbers, as far as there are labels."""
        kinds = self.weights()
        judged = [point.validation if point.validation.has_labels_of(kinds) else point.train, point.old]
        return not any(np.isinf(accuracy.rmse[name]) for accuracy in judged for name in kinds)

    def add_point(self, state: RunState, epoch: int, point: Point) -> None:
        """Add a point to the learning curve of `state`, at its update and time."""
        noise = self.noise_levels(state)
        state.curve.add(
            epoch, state.update, state.seconds, point.train, point.validation, point.old, noise=noise
        )

    def describe(self, log: AnyLog) -> None:
        """What the learning curve is made of."""
        parts = (
            ("training", self.train_subset, self.task.train),
            ("validation", self.validation_subset, self.task.validation),
            ("old validation", self.old_subset, self.task.data.old),
        )
        for name, some, structures in parts:
            there = len(self._with_more_than_energies(structures))
            if len(some) < there:
                log(
                    f"learning curve, {name}: all energies, forces of {len(some)} of {there} "
                    "structures (run.evaluation_structures)"
                )

    def noise_levels(self, state: RunState) -> dict[str, float]:
        """Kind of label -> learned noise level in its error_unit; {} where none is learned."""
        if state.noise is None:
            return {}
        return {
            name: state.noise.level(k) * self.units[k]
            for k, name in enumerate(KINDS)
            if np.isfinite(state.noise.innovation[k])
        }
