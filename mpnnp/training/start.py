"""All that exists before the first update, made from configuration and data: the Task of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from mpnnp.config import Config
from mpnnp.data.dataset import Dataset, atoms_of, why_no_validation
from mpnnp.data.packed import make_atoms
from mpnnp.data.ranges import TrainingRange
from mpnnp.data.store import load_structures, split
from mpnnp.errors import DataError
from mpnnp.model.baseline import Baseline
from mpnnp.model.label_kinds import KINDS, MILLI
from mpnnp.model.potential import Potential
from mpnnp.model.stored_functions import check_finite, load_symmetry_functions
from mpnnp.model.symmetry_functions import SymmetryFunctions
from mpnnp.optimizers.in_units import InUnits
from mpnnp.optimizers.registry import Filter, Optimizer, check_name, make_optimizer
from mpnnp.parallel import Comm, agree, on_root
from mpnnp.progress import AnyLog, Silent, counted
from mpnnp.training.choices import n_label, settle
from mpnnp.training.common_errors import n_offset
from mpnnp.training.initial_potential import baseline_of, build, statistics_of
from mpnnp.training.noise import NoiseLevels
from mpnnp.training.observations import Observer
from mpnnp.training.schedules import Batch, Epoch, RunnerSchedule, SdnzSchedule, make_schedule


@dataclass(frozen=True, eq=False)
class Part:
    """Chosen structures of a data set whose symmetry functions are stored under its hash."""

    dataset: Dataset
    chosen: np.ndarray
    hash: str
    cache: Path | None

    def functions(self, functions: SymmetryFunctions, comm: Comm, log: AnyLog) -> np.ndarray:
        """Unscaled symmetry functions (n_atom, n_max) of the chosen structures. Collective."""
        structures = agree(comm, make_atoms, self.dataset, functions.elements)
        G = load_symmetry_functions(structures, functions, self.hash, self.cache, comm, log)
        return G[atoms_of(self.dataset.start, self.chosen)]


@dataclass(frozen=True, eq=False)
class RunData:
    """The data of a run, the same on every rank.

    train, validation  indices of structures, ascending
    hash               of labels, geometry and split, without `old`
    cache              folder of computed symmetry functions
    trained            densities and energies of all that was learned; before `assemble` by earlier runs alone

    Of a run that goes on with new data (`continuation`):
    own_hash     of the new data alone
    old          indices of the validation structures of what was learned before
    old_hash     of these structures, "" without
    hash_with_old  of all structures: checkpoints without old_hash have this one
    n_rehearsed  structures at the end of `train` that were learned before
    before       history.Learned of the runs before
    shifts       continuation.fit_shifts of the new data
    parts        that the structures are put together from
    """

    dataset: Dataset
    train: np.ndarray
    validation: np.ndarray
    hash: str
    cache: Path | None = None
    trained: TrainingRange | None = None
    own_hash: str = ""
    old_hash: str = ""
    hash_with_old: str = ""
    old: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    n_rehearsed: int = 0
    before: tuple = ()
    shifts: dict = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    def __post_init__(self):
        for name in ("own_hash", "hash_with_old"):
            if not getattr(self, name):
                object.__setattr__(self, name, self.hash)

    def functions(self, functions: SymmetryFunctions, comm: Comm, log: AnyLog) -> np.ndarray:
        """Unscaled symmetry functions (n_atom, n_max) of all structures. Collective."""
        if self.parts:
            return np.concatenate([part.functions(functions, comm, log) for part in self.parts])
        structures = agree(comm, make_atoms, self.dataset, functions.elements)
        return load_symmetry_functions(structures, functions, self.hash, self.cache, comm, log)


@dataclass(eq=False)
class Task:
    """What is learned, from what, in which order, and by which optimizer;
    nothing in it knows of files or of time.

    potential  with the initial weights
    labels     for each kind of label the numbers of those that are learned from
    n_offset   offsets of simulations that the optimizer carries behind the weights
    """

    potential: Potential
    data: RunData
    observer: Observer
    schedule: RunnerSchedule | SdnzSchedule
    comm: Comm
    optimizer: Optimizer = None  # type: ignore[assignment]  # None: the task is observed, not trained
    n_offset: int = 0
    labels: tuple = field(init=False)

    def __post_init__(self):
        self.labels = self.observer.labels.of_structures(self.observer.structures.start, self.data.train)

    @property
    def dataset(self) -> Dataset:
        return self.data.dataset

    @property
    def train(self) -> np.ndarray:
        return self.data.train

    @property
    def validation(self) -> np.ndarray:
        return self.data.validation

    @property
    def filter(self) -> Filter:
        """The optimizer, where it is the Kalman filter."""
        return cast(Filter, self.optimizer)

    def epoch(self, number: int, errors: Sequence[np.ndarray] | None = None) -> Epoch:
        """The batches of epoch `number` (from 1); errors: per kind |error| of each label,
        for sorted selection (`errors`).
        """
        return self.schedule.epoch(number, errors)

    def observe(
        self, batch: Batch, w: np.ndarray, pause: Callable[[], object] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rows (m, n_weight + n_offset), errors (m,)) of this rank's share of a batch at weights w, in
        training units; new arrays. Collective.

        pause  collective function called before anything is made of the predictions, which may raise
        """
        rows, errors, _ = self.observer.observe(batch, self.potential.network.checked(w), pause)
        return rows, errors

    def errors(self, w: np.ndarray, pause: Callable[[], object] | None = None) -> list[np.ndarray]:
        """Per kind |error| of every label that is learned from, at weights w. Collective."""
        return self.observer.all_errors(self.labels, self.potential.network.checked(w), pause)

    def __repr__(self):
        counts = ", ".join(
            f"{len(n)} {kind.words}"
            for k, (n, kind) in enumerate(zip(self.labels, KINDS.values()))
            if self.schedule.learns(k)
        )
        return (
            f"Task({counted(len(self.train), 'structure')} with {counts}; "
            f"{counted(self.schedule.updates_per_epoch, 'update')} per epoch, schedule "
            f"{self.schedule.config.name}; {self.potential.network.n_weight} weights)"
        )


def load_data(config: Config, comm: Comm, log: AnyLog, fallback: str | Path) -> RunData:
    """RunData of a configuration. Collective; errors on every rank alike.

    fallback  folder for what is computed once, where the one beside the data cannot be written
    """
    dataset, cache = load_structures(config.data, comm, log, fallback)
    found = on_root(comm, dataset.hash)
    dataset = without_ignored_labels(dataset)
    train, validation = agree(comm, split, dataset, config.data, config.run.seed_of("split"))
    reason = why_no_validation(dataset, config.data.validation_fraction, config.data.split)
    if reason and not len(validation):
        log.warn(reason)
    on_root(comm, _check_labels, dataset, train)
    return RunData(dataset, train, validation, found, cache)


def without_ignored_labels(dataset: Dataset) -> Dataset:
    """The data set without its labels of weight 0, which are none: neither learned nor judged by, and not
    among those that units of training and atomic energies come from.
    """
    kept: dict[str, Any] = {}
    for kind in KINDS.values():
        ignored = np.asarray(kind.weights(dataset)) == 0.0
        if kind.column and ignored.any():
            labels = np.array(getattr(dataset, kind.column), float)
            labels[kind.sites(dataset.start, np.flatnonzero(ignored))] = np.nan
            kept[kind.column] = labels
    return replace(dataset, **kept) if kept else dataset


def _check_labels(dataset, train):
    """Raise DataError if the training structures have no label of any kind."""
    for kind in KINDS.values():
        sites = kind.sites(dataset.start, train)
        if np.isfinite(kind.labels_of(dataset)[sites]).any():
            return
    words = ", ".join(kind.words for kind in KINDS.values())
    raise DataError(
        f"there is nothing to learn from: no structure for training has a label ({words}); "
        "data.energy_key, data.forces_key and data.stress_key say under which names labels are; those of "
        "weight 0 are none"
    )


def subtract(baseline: Baseline, dataset: Dataset, comm: Comm, log: AnyLog) -> Dataset:
    """The data set less a baseline, and what it is, in the log. Collective."""
    if not baseline:
        return dataset
    rest = baseline.subtract(dataset, comm)
    energy = np.abs(dataset.energy - rest.energy) / dataset.n_atom
    force = np.abs(dataset.forces - rest.forces)
    largest = [f"{np.nanmax(x, initial=0.0):.4g}" for x in (MILLI * energy, force)]
    log(
        f"baseline {baseline}: up to {largest[0]} meV/atom and {largest[1]} eV/A are subtracted from the "
        "labels; accuracies do not depend on it, pictures show what is left"
    )
    return rest


def assemble(
    config: Config,
    comm: Comm,
    log: AnyLog,
    fallback: str | Path = ".",
    data: RunData | None = None,
    potential: Potential | None = None,
) -> Task:
    """Task of a configuration.

    Collective; no file of a run is touched. Raises ConfigError, DataError on every rank alike.

    data       from `load_data`, if it is there; the configuration is settled for it then
    potential  to go on with instead of a new one
    """
    check_name(config.run.optimizer)
    if data is None:
        data = load_data(config, comm, log, fallback)
        config = settle(config, agree(comm, n_label, data.dataset, data.train), Silent())
    baseline = on_root(comm, baseline_of, config) if potential is None else potential.baseline
    trained = TrainingRange.of(data.dataset, data.train)
    if data.trained is not None:
        trained = trained.united(data.trained)
    data = replace(data, dataset=subtract(baseline, data.dataset, comm, log), trained=trained)
    if potential is None:
        potential, structures, G = build(config, data.dataset, data.train, data.cache, comm, log, data.hash)
        potential = replace(potential, baseline=baseline)
    else:
        structures = agree(comm, make_atoms, data.dataset, potential.elements)
        G = data.functions(potential.functions, comm, log)
        if data.parts:
            new = statistics_of(data.dataset, structures, G, data.train, potential.functions, comm)
            potential = potential.that_saw(new.minimum, new.maximum)
    judged = np.concatenate([data.validation, data.old])
    check_finite(G, structures, data.dataset, comm, judged)
    observer = Observer(data.dataset, structures, G, potential, config.schedule, comm, data.train)
    n = 0
    if config.learns_noise:
        n = n_offset(config, observer.groups, potential.network.n_weight)
        observer.noise = NoiseLevels(offsets=np.zeros(n))
    labels = observer.labels.of_structures(structures.start, data.train)
    schedule = agree(comm, make_schedule, config.schedule, labels, config.run.seed)
    optimizer = make_optimizer(config, potential.network, schedule.updates_per_epoch, comm, n)
    if config.network.normalize_nodes:
        optimizer = InUnits(optimizer, np.append(potential.network.units(), np.ones(n)))
    return Task(potential, data, observer, schedule, comm, optimizer, n)
