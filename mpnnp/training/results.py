"""What a finished run found out: predictions of its best potential against labels, the error of each
structure, what extrapolates, and the facts that its page tells; kept in results.h5.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from mpnnp.errors import CheckpointError
from mpnnp.files import check_seal, number_array, write_sealed
from mpnnp.model.label_kinds import KINDS, MILLI
from mpnnp.model.prediction import Prediction
from mpnnp.parallel import Comm
from mpnnp.training.diagnosis import Outside
from mpnnp.training.observations import Observer

NAME, KIND, FORMAT_VERSION = "results.h5", "mpnnp results", 1
MOST_POINTS = 100_000  # of each kind that are kept, drawn at random
EDGE = 1e-9  # of the range of a symmetry function; less is rounding


class Points(NamedTuple):
    """Labels and predictions (n,) of a kind in its unit, per atom where it is told so; atomic numbers (n,)
    of the atoms they belong to, 0 where they belong to none; numbers (n,) of their structures.
    """

    labels: np.ndarray
    predictions: np.ndarray
    elements: np.ndarray
    structures: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """(n,) thousandths of the unit: prediction minus label."""
        return MILLI * (self.predictions - self.labels)


@dataclass(frozen=True)
class Results:
    """points: kind of label -> Points of the structures that judge; facts: what the page tells, of what JSON
    can hold, as `conclusion.conclude` collects them.
    """

    points: Mapping[str, Points]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Collector:
    """Collects what is predicted while structures are evaluated (`keep` of Observer.evaluate).

    judged  whether these structures judge: points and extrapolations are collected too, not errors alone
    """

    def __init__(self, observer: Observer, judged: bool):
        self.observer, self.judged = observer, judged
        self.points: dict[str, list] = {name: [] for name in KINDS}
        self.errors: list[tuple] = []  # structure, RMS error of each kind
        self.outside = _Outside(observer)

    def __call__(self, s: int, prediction: Prediction) -> None:
        structures, row = self.observer.structures, []
        n_atom = int(structures.start[s + 1] - structures.start[s])
        for name, kind in KINDS.items():
            error = np.nan
            if kind.exists(structures, s):
                found = _pairs(self.observer, kind, structures, s, prediction, n_atom)
                if self.judged:
                    self.points[name].append(found)
                if len(found.labels):
                    error = float(np.sqrt(np.mean(found.errors**2)))
            row.append(error)
        self.errors.append((s, *row))
        if self.judged:
            self.outside.add(s)

    def gather(self, comm: Comm) -> "Collected":
        """Of all ranks, on rank 0; nothing elsewhere. Collective."""
        mine = {
            name: Points(*(np.concatenate(column) for column in zip(*parts)))
            for name, parts in self.points.items()
            if parts
        }
        outside = self.outside.gather(comm)
        parts = comm.gather((mine, self.errors), root=0) or []
        points = {}
        for name in KINDS:
            there = [part[name] for part, _ in parts if name in part]
            if there and sum(len(p.labels) for p in there):
                points[name] = Points(*(np.concatenate(column) for column in zip(*there)))
        errors = np.array([row for _, rows in parts for row in rows]).reshape(-1, 1 + len(KINDS))
        return Collected(points, errors[np.argsort(errors[:, 0])], *outside)


class Collected(NamedTuple):
    """Points of each kind that there is; errors (n_structure, 1 + n_kind): number of a structure and its RMS
    error of each kind, in error_unit; what extrapolates, on how many atoms, of how many.
    """

    points: dict
    errors: np.ndarray
    outside: list
    n_outside: int
    n_atom: int


class _Outside:
    """Counts symmetry functions outside of their range over the training structures."""

    def __init__(self, observer):
        self.observer, potential = observer, observer.predictor.potential
        self.low, self.high = potential.range
        self.functions, self.start = potential.functions, potential.functions.table.start
        self.spread = np.maximum(self.high - self.low, 1e-12)
        self.elements = potential.elements
        self.counts, self.excess = np.zeros(len(self.low), int), np.zeros(len(self.low))
        self.atoms = np.zeros(len(self.elements), int)
        self.n_outside = 0

    def add(self, s):
        atoms = slice(*self.observer.structures.start[s : s + 2])
        element, G = self.observer.structures.element[atoms], self.observer.G[atoms]
        for e in range(len(self.elements)):
            part = slice(*self.start[e : e + 2])
            g = G[element == e, : part.stop - part.start]
            if not len(g):
                continue
            excess = np.maximum(self.low[part] - g, g - self.high[part]) / self.spread[part]
            over = excess > EDGE
            self.counts[part] += over.sum(axis=0)
            self.excess[part] = np.maximum(self.excess[part], excess.max(axis=0))
            self.n_outside += int(over.any(axis=1).sum())
            self.atoms[e] += len(g)

    def gather(self, comm):
        """(list of Outside, the furthest first, atoms with one outside, atoms) over all ranks. Collective."""
        parts = comm.allgather((self.counts, self.excess, self.atoms, self.n_outside))
        counts, atoms = sum(p[0] for p in parts), sum(p[2] for p in parts)
        excess = np.max([p[1] for p in parts], axis=0)
        found = []
        for k in np.argsort(-excess):
            if counts[k]:
                e = int(np.searchsorted(self.start, k, side="right")) - 1
                name = str(self.functions.functions[k])
                found.append(Outside(name, int(counts[k]), int(atoms[e]), float(excess[k])))
        return found, sum(p[3] for p in parts), int(atoms.sum())


def _pairs(observer, kind, structures, s, prediction, n_atom):
    """Points of a kind in structure s, without labels that are not there."""
    labels = np.asarray(kind.labels_of(observer.dataset)[kind.of_structure(structures, s)], float)
    predictions = np.reshape(kind.predicted(prediction, structures, s), labels.shape)
    elements = np.zeros(len(labels), np.int16)
    if kind.per == "atom":
        atoms = slice(structures.start[s], structures.start[s + 1])
        elements = np.array(observer.predictor.potential.elements, np.int16)[structures.element[atoms]]
    factor = 1.0 / n_atom if kind.per_atom else 1.0
    there = ~np.isnan(labels)
    return Points(
        labels[there] * factor,
        predictions[there] * factor,
        np.repeat(elements[:, None], labels.shape[1], axis=1)[there],
        np.full(int(there.sum()), s),
    )


def correlation_within(points: Points, groups: np.ndarray) -> float:
    """Correlation of predictions with labels in each group (n_structure,) of structures, mean over points;
    NaN where nothing varies within a group.
    """
    correlations, sizes = [], []
    of_point = groups[points.structures]
    for group in np.unique(of_point):
        both = np.array([points.labels, points.predictions])[:, of_point == group]
        if np.isfinite(both).all() and (np.ptp(both, axis=1) > 0).all():
            correlations.append(np.corrcoef(both)[0, 1])
            sizes.append(both.shape[1])
    return float(np.average(correlations, weights=sizes)) if sizes else np.nan


def worst_structures(
    name_of: Callable[[int], str], parts: Mapping[str, np.ndarray], n: int = 10
) -> list[dict]:
    """The n structures with the largest errors, in units of the RMS error of their kind over all structures:
    name, part, error of each kind.

    name_of  name of the structure with a number
    parts    part of the data -> errors as in Collected
    """
    rows = [(part, row) for part, errors in parts.items() for row in errors]
    if not rows:
        return []
    values = np.array([row[1:] for _, row in rows])
    with np.errstate(invalid="ignore"):
        square = np.nansum(values**2, axis=0) / np.maximum(np.isfinite(values).sum(axis=0), 1)
        badness = np.nan_to_num(values / np.sqrt(np.where(square > 0, square, 1.0))).max(axis=1)
    found = []
    for k in np.argsort(-badness)[:n]:
        part, row = rows[k]
        errors = {name: float(x) for name, x in zip(KINDS, row[1:]) if np.isfinite(x)}
        found.append({"name": name_of(int(row[0])), "part": part, "errors": errors})
    return found


def write_results(path: str | Path, results: Results) -> None:
    """results.h5, with at most MOST_POINTS of each kind. Raises OSError."""
    rng = np.random.default_rng(0)
    with write_sealed(path) as file:
        file.attrs["kind"], file.attrs["format_version"] = KIND, FORMAT_VERSION
        text = json.dumps(results.facts, default=_plain)
        file["facts"] = np.frombuffer(text.encode(), np.uint8)
        for name, points in results.points.items():
            n = len(points.labels)
            chosen = np.sort(rng.choice(n, min(n, MOST_POINTS), replace=False))
            group = file.create_group(f"points/{name}")
            for column, values in points._asdict().items():
                group[column] = values[chosen]


def read_results(path: str | Path) -> Results:
    """Results of a file. Raises CheckpointError naming it."""
    try:
        check_seal(path)
        with h5py.File(path, "r") as file:
            if file.attrs.get("kind") != KIND or file.attrs.get("format_version") != FORMAT_VERSION:
                raise ValueError("is not results of a run, or of another version of mpnnp")
            facts = json.loads(number_array(file, "facts").tobytes().decode())
            points = {
                name: Points(*(number_array(group, column) for column in Points._fields))
                for name, group in file.get("points", {}).items()
                if name in KINDS
            }
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    return Results(points, facts)


def _plain(value):
    """What JSON makes of numpy's numbers and of records."""
    return value.item() if isinstance(value, np.generic) else asdict(value)
