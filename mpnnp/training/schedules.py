"""Batch schedules: which labels are observed in each update.

All of it follows from the seed, the same on every rank.

Labels are numbers, see model.label_kinds; kinds are their positions in KINDS. An epoch's batches depend on
nothing but seed, epoch number and, for sorted selection, the errors at its start: the position in the run is
(epoch, update), and resuming is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mpnnp.config import Schedule
from mpnnp.config.training_sections import PLURALS
from mpnnp.errors import ConfigError
from mpnnp.model.label_kinds import ENERGY, FORCE, KINDS, kind_at
from mpnnp.progress import counted

MOST_REPEATS = 100  # of a label in one update; the square of its labels must fit into memory


@dataclass(frozen=True)
class Batch:
    """Candidates of one update.

    kind        position in KINDS; never mixed
    candidates  (M, n_trial) int64 labels; each of the M streams takes one of its candidates
    """

    kind: int
    candidates: np.ndarray

    def __repr__(self):
        streams, trials = self.candidates.shape
        choice = f" of {trials} candidates" if trials > 1 else ""
        return f"Batch({kind_at(self.kind).name}, {counted(streams, 'stream')}{choice})"


@dataclass(frozen=True)
class Epoch:
    """All updates of an epoch: kinds (n_update,) and, kind by kind, candidates
    (n_update_of_kind, M, n_trial).
    """

    kinds: np.ndarray
    candidates: tuple

    @cached_property
    def place(self) -> np.ndarray:
        """(n_update,) position of each update among those of its kind."""
        place = np.empty(len(self.kinds), np.int64)
        for kind in range(len(self.candidates)):
            of_kind = self.kinds == kind
            place[of_kind] = np.arange(np.count_nonzero(of_kind))
        return place

    def __len__(self):
        return len(self.kinds)

    def __getitem__(self, u):
        kind = int(self.kinds[u])
        return Batch(kind, self.candidates[kind][self.place[u]])


class RunnerSchedule:
    """RuNNer's and n2p2's schedule: per epoch a fraction of the labels of each kind,
    updates shuffled together.

    Each update takes M = streams labels of one kind: at random, in descending order of the error at the
    epoch's start (sort), or each stream the first of up to `trials` random candidates whose error exceeds a
    threshold (the worst of them if none does).

    sizes   (n_kind,) labels per update of each kind
    shares  (n_kind,) expected share of the updates
    """

    def __init__(self, config: Schedule, labels: Sequence[np.ndarray], seed: int):
        self.config, self.labels, self.seed = config, labels, seed
        fractions = [config.of_kind(kind, "fraction") for kind in KINDS]
        self.sizes = tuple(config.of_kind(kind, "streams") for kind in KINDS)
        self.n_update = tuple(
            max(1, round(f * len(candidates) / m)) if f > 0 and len(candidates) else 0
            for f, candidates, m in zip(fractions, labels, self.sizes)
        )
        if not any(self.n_update):
            raise ConfigError(_nothing_to_learn(config, labels))
        for kind, n, candidates, m in zip(KINDS.values(), self.n_update, labels, self.sizes):
            if n and m > MOST_REPEATS * len(candidates):
                key = "force_streams" if kind.name == "force" and config.force_streams else "streams"
                raise ConfigError(
                    f"schedule.{key}: {m:,} labels in one update, but for training there are "
                    f"{len(candidates)} {kind.words}: must not be more than {MOST_REPEATS} times as many"
                )

    @property
    def updates_per_epoch(self) -> int:
        return sum(self.n_update)

    @property
    def shares(self) -> tuple[float, ...]:
        return tuple(n / self.updates_per_epoch for n in self.n_update)

    def learns(self, kind: int) -> bool:
        """True if there are updates of this kind."""
        return self.n_update[kind] > 0

    def order(self, number: int, rng: np.random.Generator) -> np.ndarray:
        """Kind of each update of epoch `number`; comparisons with other programs put theirs in its place."""
        kinds = np.repeat(np.arange(len(self.n_update)), self.n_update)
        rng.shuffle(kinds)
        return kinds

    def epoch(self, number: int, errors: Sequence[np.ndarray] | None = None) -> Epoch:
        """The updates of epoch `number` (from 1). errors: per kind, |error| of each label at its start,
        for sorted selection. Raises ConfigError without them.
        """
        rng = np.random.default_rng([self.seed, 2, number])
        kinds = self.order(number, rng)
        candidates = []
        for kind, (labels, n, m) in enumerate(zip(self.labels, self.n_update, self.sizes)):
            n_trial = self.config.trials if self.config.selection == "threshold" else 1
            size = n * m * n_trial
            if self.config.selection == "sort":
                if errors is None:
                    raise ConfigError(
                        "schedule.selection = 'sort': an epoch needs the errors of all labels at its start: "
                        "task.epoch(number, task.errors(w))"
                    )
                order = np.argsort(-errors[kind], kind="stable") if n else np.zeros(0, np.int64)
                picks = np.resize(order, size)
            else:
                picks = _draw(rng, len(labels), size)
            candidates.append(labels[picks].reshape(n, m, n_trial))
        return Epoch(kinds, tuple(candidates))


class SdnzSchedule:
    """The schedule of J. Chem. Phys. 155, 204108 (2021):
    every update takes either energies or force components of random structures.

    Further kinds take the place of such an update with a probability of their own; where there are neither
    energies nor forces to learn, the first of them that has one takes the place of each. sizes, shares as in
    RunnerSchedule.
    """

    def __init__(self, config: Schedule, labels: Sequence[np.ndarray], seed: int):
        self.config, self.labels, self.seed = config, labels, seed
        self.sizes = tuple(config.of_kind(kind, "per_update") for kind in KINDS)
        energies, forces = len(labels[ENERGY]) > 0, config.forces and len(labels[FORCE]) > 0
        if not forces:
            self.probability = 1.0
        elif not energies:
            self.probability = 0.0
        else:
            self.probability = config.of_kind("energy", "probability")
        self.others = {  # kind -> probability that it takes an update's place
            kind: config.of_kind(name, "probability") if len(labels[kind]) else 0.0
            for kind, name in enumerate(list(KINDS)[: len(labels)])
            if kind not in (ENERGY, FORCE)
        }
        if not (energies or forces):
            first = next((kind for kind, probability in self.others.items() if probability > 0), None)
            if first is None:
                raise ConfigError(_nothing_to_learn(config, labels))
            self.others[first] = 1.0

    @property
    def updates_per_epoch(self) -> int:
        return self.config.updates_per_epoch

    @property
    def shares(self) -> tuple[float, ...]:
        shares = np.zeros(len(self.labels))
        shares[ENERGY], shares[FORCE] = self.probability, 1.0 - self.probability
        for kind, probability in self.others.items():
            shares *= 1.0 - probability
            shares[kind] = probability
        return tuple(float(x) for x in shares)

    def learns(self, kind: int) -> bool:
        """True if there are updates of this kind."""
        return self.shares[kind] > 0

    def epoch(self, number: int, errors: Sequence[np.ndarray] | None = None) -> Epoch:
        """The updates of epoch `number` (from 1)."""
        rng = np.random.default_rng([self.seed, 2, number])
        kinds = np.where(rng.random(self.updates_per_epoch) < self.probability, ENERGY, FORCE)
        for kind, probability in self.others.items():
            if probability > 0:
                kinds = np.where(rng.random(self.updates_per_epoch) < probability, kind, kinds)
        candidates = []
        for kind, (labels, size) in enumerate(zip(self.labels, self.sizes)):
            n = np.count_nonzero(kinds == kind)
            picks = rng.integers(0, max(len(labels), 1), (n, size, 1))
            candidates.append(labels[picks] if n else np.zeros((0, size, 1), np.int64))
        return Epoch(kinds, tuple(candidates))


SCHEDULES: dict[str, type[RunnerSchedule] | type[SdnzSchedule]] = {
    "runner": RunnerSchedule,
    "sdnz": SdnzSchedule,
}


def make_schedule(config: Schedule, labels: Sequence[np.ndarray], seed: int) -> RunnerSchedule | SdnzSchedule:
    """Schedule of the section [schedule]; labels: those of each kind of the training structures, int64.

    Raises ConfigError.
    """
    if strange := [name for name in config.labels if name not in KINDS or name in PLURALS]:
        name = strange[0]
        own = f": the keys of {PLURALS[name]} are schedule.{name}_fraction, ..." if name in PLURALS else ""
        raise ConfigError(f"schedule.labels.{name}: there is no further kind of label of this name{own}")
    return SCHEDULES[config.name](config, labels, seed)


def _draw(rng, n, size):
    """`size` numbers below n: permutations of all of them, one after the other, the last one cut."""
    parts = [rng.permutation(n) for _ in range(size // n)] if n else []
    rest = size - n * len(parts)
    if rest:
        parts.append(rng.choice(n, rest, replace=False))
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _nothing_to_learn(config, labels):
    """What there is of each kind, and which keys leave it out, in words."""
    there = [f"{len(numbers)} {kind}" for kind, numbers in zip(KINDS, labels)]
    left_out = [
        f"; {share_in_words(config, kind)} leaves out the {kind} labels"
        for kind, numbers in zip(KINDS, labels)
        if len(numbers)
    ]
    return (
        f"schedule: there is nothing to learn from: {', '.join(there[:-1])} and {there[-1]} labels for "
        f"training, forces are {'on' if config.forces else 'off'}{''.join(left_out)}"
    )


def share_in_words(config: Schedule, kind: str) -> str:
    """The key of [schedule], with its value, by which labels of a kind (its name) have updates or none."""
    if kind == "force" and not config.forces:
        return "schedule.forces = false"
    what = "fraction" if config.name == "runner" else "probability"
    own = f"{kind}_{what}"
    key = own if own in type(config).model_fields else f"labels.{kind}.{what}"
    return f"schedule.{key} = {config.of_kind(kind, what):g}"
