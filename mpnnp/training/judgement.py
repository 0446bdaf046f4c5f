"""How good a potential is: points of the learning curve, the measure by which the best one is kept,
and the last word of a run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpnnp.config import Config
from mpnnp.data.ranges import TrainingRange
from mpnnp.errors import ConfigError, TrainingError
from mpnnp.kernels.jit import read_only
from mpnnp.model.label_kinds import KINDS, MILLI
from mpnnp.model.metrics import Accuracy
from mpnnp.parallel import on_root
from mpnnp.progress import AnyLog
from mpnnp.training import diagnosis, page, report, results
from mpnnp.training.results import Collector, Results, worst_structures, write_results
from mpnnp.training.run_state import RunState
from mpnnp.training.start import Task

FEWEST_LABELS = 10  # that have a spread worth comparing with


@dataclass(frozen=True)
class Point:
    """A point of the learning curve: Accuracy of training and validation structures,
    and the measure that best.h5 minimises.
    """

    train: Accuracy
    validation: Accuracy
    measure: float


class Judge:
    """Evaluates potentials of a task on its training and its validation structures.

    train_subset, validation_subset  structures that are predicted in full for the learning curve; of the
                                     others only energies
    Raises ConfigError if the structures that judge have no label of a kind that counts.
    """

    def __init__(self, task: Task, config: Config):
        self.task, self.config = task, config
        self.train_subset = self._subset(task.train, 3)
        self.validation_subset = self._subset(task.validation, 4)
        self._check_measure()

    def _subset(self, structures, stream):
        """A fixed random choice."""
        run = self.config.run
        n = run.evaluation_structures
        if n == 0 or n >= len(structures):
            return structures
        return np.sort(np.random.default_rng([run.seed, stream]).choice(structures, n, replace=False))

    def _weights(self):
        """Kind -> weight of its error in the measure."""
        learns = self.task.schedule.learns
        weights = {name: self.config.metric_weight(name) for name in KINDS}
        return {
            name: w
            for k, (name, w) in enumerate(weights.items())
            if w > 0 and (KINDS[name].always or learns(k))
        }

    def _check_measure(self):
        task, weights = self.task, self._weights()
        parts = ((task.validation, self.validation_subset), (task.train, self.train_subset))
        for some, subset in parts:
            counts = {
                name: len(
                    task.observer.labels.of_structures(
                        task.observer.structures.start, some if kind.per_atom else subset
                    )[k]
                )
                for k, (name, kind) in enumerate(KINDS.items())
            }
            if any(counts[name] for name, kind in KINDS.items() if kind.always):
                break
        if not any(counts[name] for name in weights):
            keys = ", ".join(
                f"run.{name}_metric_weight = {self.config.metric_weight(name):g}"
                for name in KINDS
                if KINDS[name].always
            )
            labels = " and ".join(f"{counts[name]} {name}" for name in KINDS if KINDS[name].always)
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
        return Point(train, validation, self._measure(train, validation))

    def _measure(self, train, validation):
        """Of the validation structures if they have labels."""
        return diagnosis.measure((validation if validation.has_labels else train).rmse, self._weights())

    def _teach(self, noise, point):
        """Validation errors as they are, NaN where there are no labels: then innovations alone tell."""
        units = MILLI * np.array(self.task.observer.labels.units)
        noise.evaluated(np.array([point.validation.rmse[name] for name in KINDS]) / units)

    def in_training_units(self, accuracy: Accuracy) -> np.ndarray:
        """RMSE (n_kind,) of an Accuracy in training units; 1 where there is none."""
        scale = MILLI * np.array(self.task.observer.labels.units)
        found = np.array([accuracy.rmse[name] for name in KINDS])
        return np.nan_to_num(found / scale, nan=1.0, posinf=1.0)

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
        if epoch and not np.isfinite(point.measure):
            where = task.observer.first_not_finite(
                np.concatenate([task.train, task.validation]), read_only(state.weights)
            )
            raise TrainingError(
                f"after update {state.update}: a prediction is not a finite number: {where}; "
                "the weights have run away"
            )
        task.optimizer.check(state.optimizer)
        state.seconds = seconds()
        state.rmse[:] = self.in_training_units(point.train)
        if state.noise is not None:
            self._teach(state.noise, point)
        noise = self.noise_levels(state)
        state.curve.add(epoch, state.update, state.seconds, point.train, point.validation, noise)
        better = point.measure < state.best or len(state.curve.rows) == 1
        if better:
            state.best, state.best_epoch, state.best_weights = point.measure, epoch, state.weights.copy()
        return point, better

    def describe(self, log: AnyLog) -> None:
        """What the learning curve is made of."""
        parts = (
            ("training", self.train_subset, self.task.train),
            ("validation", self.validation_subset, self.task.validation),
        )
        for name, some, structures in parts:
            if len(some) < len(structures):
                log(
                    f"learning curve, {name}: all energies, forces of {len(some)} of {len(structures)} "
                    "structures (run.evaluation_structures)"
                )

    def noise_levels(self, state: RunState) -> dict[str, float]:
        """Kind of label -> learned noise level in its error_unit; {} where none is learned."""
        if state.noise is None:
            return {}
        units, innovation = self.task.observer.labels.units, state.noise.innovation
        return {
            name: state.noise.level(k) * units[k] * MILLI
            for k, name in enumerate(KINDS)
            if np.isfinite(innovation[k])
        }

    def conclude(
        self, state: RunState, directory: Path, log: AnyLog, reason: str = ""
    ) -> Callable[[], None]:
        """Evaluate the best potential on all structures, say how good it is and what would make it better;
        returns what writes accuracy.json, results.h5, pictures and page.

        reason  why the run ended before its last epoch, "" if it did not
        Collective; OSError on rank 0 is raised everywhere.
        """
        task, comm = self.task, self.task.comm
        parts = {"training": task.train, "validation": task.validation}
        counts = {name: len(structures) for name, structures in parts.items()}
        accuracies, collected = {}, {}
        for name, structures in parts.items():
            keep = Collector(task.observer)
            accuracies[name] = task.observer.evaluate(structures, read_only(state.best_weights), keep=keep)
            collected[name] = keep.gather(comm)
        noise = self.noise_levels(state)
        for line in report.closing_table(state.best_epoch, counts, accuracies, noise):
            log(line)
        shown = "validation" if counts["validation"] else "training"
        facts = on_root(comm, self._facts, collected, shown, reason)
        lines = diagnosis.in_words(diagnosis.diagnose(state.curve.columns(), facts))
        for k, line in enumerate(lines):
            log(f"{'' if k else 'judgement:':11s}{line}")

        def write() -> None:
            found = collected[shown]
            assert found is not None  # it is called on rank 0
            report.write_accuracies(directory / "accuracy.json", state, parts, accuracies)
            told = {
                "part": shown,
                "epoch": state.best_epoch,
                "updates": state.update,
                "seconds": state.seconds,
                "reason": reason or "all epochs are done",
                "ranks": comm.size,
                "counts": counts,
                "accuracies": {name: a.numbers() for name, a in accuracies.items()},
                "noise": noise,
                "net": self._net(),
                "data": self._data(),
                "worst": worst_structures(
                    task.dataset.name, {name: c.errors for name, c in collected.items() if c is not None}
                ),
                "diagnosis": facts,
            }
            write_results(directory / results.NAME, Results(found.points, told))
            page.write(directory)

        return write

    def _facts(self, collected, shown, reason):
        """Facts for the diagnosis, from what was collected. On rank 0."""
        task, found = self.task, collected[shown]
        return diagnosis.Facts(
            weights=self._weights(),
            epochs=self.config.run.epochs,
            complete=not reason,
            spreads={name: self._spread(k, task.data.validation if shown == "validation" else task.train) for k, name in enumerate(KINDS)},
            n_label={
                name: len(task.labels[k])
                for k, (name, kind) in enumerate(KINDS.items())
                if kind.always or task.schedule.learns(k)
            },
            n_weight=task.potential.network.n_weight,
            outside=found.outside[:5] if shown == "validation" else (),
            n_outside=found.n_outside,
            n_atom=found.n_atom,
        )

    def _spread(self, k, structures):
        """Standard deviation of labels of kind number k about what the net need not learn, in error_unit;
        infinite if there are too few.
        """
        labels, kind = self.task.observer.labels, list(KINDS.values())[k]
        start = self.task.observer.structures.start
        numbers = labels.of_structures(start, structures)[k]
        if len(numbers) < FEWEST_LABELS:
            return np.inf
        values = labels.targets[k][numbers] * labels.units[k] * MILLI
        if kind.per_atom:
            values = values / np.diff(start)[kind.structure_of(start, numbers)]
        return float(values.std())

    def _data(self):
        """What the data set holds, for the page."""
        d, trained = self.task.dataset, TrainingRange.of(self.task.dataset)
        return {
            "elements": report.symbols(d.elements),
            "atoms": [int(d.n_atom.min()), int(d.n_atom.max())],
            "density": [trained.density_low, trained.density_high],
            "labels": {name: int(np.isfinite(kind.labels_of(d)).sum()) for name, kind in KINDS.items()},
            "hash": self.task.data.hash,
        }

    def _net(self):
        """What the nets look like, for the page."""
        potential = self.task.potential
        return {
            "weights": potential.network.n_weight,
            "r_c": potential.functions.r_c,
            "elements": [
                {"symbol": symbol, "sizes": list(size), "functions": len(potential.functions.of(z))}
                for symbol, z, size in zip(
                    report.symbols(potential.elements), potential.elements, potential.network.sizes
                )
            ],
        }
