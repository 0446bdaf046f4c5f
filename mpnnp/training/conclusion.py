"""The last word of a run: how good its best potential is, on all structures, what would make it better,
and the files that tell it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mpnnp.data.packed import element_counts
from mpnnp.data.ranges import TrainingRange
from mpnnp.kernels.jit import read_only
from mpnnp.model.label_kinds import ENERGY, KINDS, MILLI, kind_at
from mpnnp.parallel import on_root
from mpnnp.progress import AnyLog, counted
from mpnnp.training import diagnosis, page, report, results
from mpnnp.training.diagnosis import Facts
from mpnnp.training.judgement import Judge
from mpnnp.training.measure import evaluations, has_learned_before, part_that_judges
from mpnnp.training.offsets import LEAST
from mpnnp.training.results import (
    Collected,
    Collector,
    Results,
    correlation_within,
    worst_structures,
    write_results,
)
from mpnnp.training.run_state import RunState
from mpnnp.training.start import Task

FEWEST_LABELS = 10  # that have a spread worth comparing with
MOST_OUTSIDE = 5  # symmetry functions that are named


def conclude(
    judge: Judge, state: RunState, directory: Path, log: AnyLog, reason: str = ""
) -> Callable[[], None]:
    """Evaluate the best potential on all structures, say how good it is and what would make it better;
    returns what writes accuracy.json, results.h5, pictures and page, for rank 0.

    reason  why the run ended before its last epoch, "" if it did not
    Collective.
    """
    task, config = judge.task, judge.config
    parts = {"training": task.train, "validation": task.validation}
    if len(task.data.old):
        parts["old"] = task.data.old
    counts = {name: len(structures) for name, structures in parts.items()}
    judged_by = part_that_judges(state.curve.columns(), judge.weights())
    part = "training" if judged_by == "train" else judged_by
    accuracies, collected = {}, {}
    for name, structures in parts.items():
        keep = Collector(task.observer, judged=name == part)
        accuracies[name] = task.observer.evaluate(structures, read_only(state.best_weights), keep=keep)
        collected[name] = keep.gather(task.comm)
    noise = judge.noise_levels(state)
    for line in report.closing_table(state.best_epoch, counts, accuracies, noise):
        log(line)
    if line := _of_simulations(judge, state):
        log(line)
    facts = on_root(task.comm, _facts, judge, collected, part, reason)
    for k, line in enumerate(diagnosis.in_words(diagnosis.diagnose(state.curve.columns(), facts))):
        log(f"{'' if k else 'judgement:':11s}{line}")

    def write() -> None:
        report.write_accuracies(directory / "accuracy.json", state, parts, accuracies)
        told = {
            "part": part,
            "epoch": state.best_epoch,
            "updates": state.update,
            "seconds": state.seconds,
            "reason": reason or "all epochs are done",
            "ranks": task.comm.size,
            "optimizer": config.run.optimizer,
            "counts": counts,
            "accuracies": {name: a.numbers() for name, a in accuracies.items()},
            "noise": noise,
            "net": _net(task),
            "data": _data(task),
            "worst": worst_structures(task.dataset.name, {n: c.errors for n, c in collected.items()}),
            "diagnosis": facts,
        }
        write_results(directory / results.NAME, Results(collected[part].points, told))
        page.write(directory)

    return write


def _of_simulations(judge: Judge, state: RunState) -> str:
    """What the energies of simulations were taken for, in words; "" if there are none."""
    noise, groups = state.noise, judge.task.observer.groups
    if noise is None or not (noise.correlation > 0.0 or len(noise.offsets)):
        return ""
    told = (
        f"errors in common: {int(groups.size.sum())} energies are of "
        f"{counted(len(groups.size), 'simulation')} (same atoms, same cell), "
    )
    if not len(noise.offsets):
        worth = groups.worth(noise.correlation)
        return told + f"correlation {noise.correlation:.2f}: they counted as {worth:.0f}"
    spread = float(np.sqrt(np.mean(noise.offsets**2)))
    if spread < LEAST * noise.level(ENERGY):
        return told + "which have none"
    spread *= judge.units[ENERGY]
    return told + f"whose offsets are learned beside the potential: {spread:.2g} meV/atom (RMS)"


def _facts(judge: Judge, collected: Mapping[str, Collected], part: str, reason: str) -> Facts:
    """Facts for the diagnosis, from what was collected. On rank 0."""
    task, found = judge.task, collected[part]
    structures = task.validation if part == "validation" else task.train
    learned = [k for k, kind in enumerate(KINDS.values()) if kind.always or task.schedule.learns(k)]
    return Facts(
        weights=judge.weights(),
        evaluations=evaluations(judge.config),
        epochs=judge.config.run.last_epoch,
        complete=not reason,
        trained=has_learned_before(judge.config),
        spreads={name: _spread(task, k, structures) for k, name in enumerate(KINDS)},
        correlation=_correlation(task, found),
        standing_out=diagnosis.standing_out(task.dataset.name, collected["training"].errors),
        n_label={kind_at(k).name: len(task.labels[k]) for k in learned},
        n_weight=task.potential.network.n_weight,
        outside=found.outside[:MOST_OUTSIDE] if part == "validation" else (),
        n_outside=found.n_outside,
        n_atom=found.n_atom,
    )


def _spread(task: Task, k: int, structures: np.ndarray) -> float:
    """Standard deviation of the labels of kind number k about what is known without a net, in error_unit;
    infinite if there are too few.
    """
    labels, kind, start = task.observer.labels, kind_at(k), task.observer.structures.start
    numbers = labels.of_structures(start, structures)[k]
    if len(numbers) < FEWEST_LABELS:
        return np.inf
    values = labels.targets[k][numbers] * labels.units[k] * MILLI
    if kind.per_atom:
        values = values / np.diff(start)[kind.structure_of(start, numbers)]
    return float(values.std())


def _correlation(task: Task, found: Collected) -> float:
    """Correlation of predicted with labelled energies within compositions; NaN if there are too few."""
    energies = found.points.get("energy")
    if energies is None or len(energies.labels) < FEWEST_LABELS:
        return np.nan
    counts = element_counts(task.observer.structures, len(task.potential.elements))
    _, composition = np.unique(counts, axis=0, return_inverse=True)
    return correlation_within(energies, composition.ravel())


def _data(task: Task) -> dict:
    """What the data set holds, for the page."""
    d, known = task.dataset, TrainingRange.of(task.dataset)
    return {
        "elements": report.symbols(d.elements),
        "atoms": [int(d.n_atom.min()), int(d.n_atom.max())],
        "density": [known.density_low, known.density_high],
        "labels": {name: int(np.isfinite(kind.labels_of(d)).sum()) for name, kind in KINDS.items()},
        "hash": task.data.hash,
    }


def _net(task: Task) -> dict:
    """What the nets look like, for the page."""
    p = task.potential
    return {
        "weights": p.network.n_weight,
        "r_c": p.functions.r_c,
        "elements": [
            {"symbol": symbol, "sizes": list(sizes), "functions": len(p.functions.of(z))}
            for symbol, z, sizes in zip(report.symbols(p.elements), p.elements, p.network.sizes)
        ],
    }
