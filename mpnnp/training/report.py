"""What people look at: lines of the learning curve, and pictures of it and of predictions against labels."""

import json
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mpnnp.figures import figure, save
from mpnnp.files import write_text
from mpnnp.model.label_kinds import KINDS, MILLI, LabelKind
from mpnnp.model.metrics import Accuracy
from mpnnp.model.prediction import Prediction
from mpnnp.parallel import Comm
from mpnnp.training.learning_curve import PARTS, LearningCurve
from mpnnp.training.observations import Observer
from mpnnp.training.run_state import RunState

MAXIMUM_POINTS = 20_000  # drawn of each kind


def symbols(elements: Sequence[int]) -> list[str]:
    return [chemical_symbols[z] for z in elements]


def shown(*accuracies: Accuracy) -> list[LabelKind]:
    """The kinds that are told: always, or because there are labels in one of the accuracies."""
    return [k for k in KINDS.values() if k.always or any(np.isfinite(a.rmse[k.name]) for a in accuracies)]


def progress_line(epoch: int, state: RunState, *accuracies: Accuracy, better: bool) -> str:
    """One line of the log per evaluation; train | validation, and | old where there was something before."""
    told = [a for k, a in enumerate(accuracies) if k < 2 or a.has_labels]
    errors = "  ".join(
        f"{kind.name} {' |'.join(f'{a.rmse[kind.name]:{kind.number}}' for a in told)} {kind.short_unit}"
        for kind in shown(*told)
    )
    where = f"epoch {epoch:4d} update {state.update:8d} {state.seconds:8.1f} s"
    return f"{where}  RMSE {errors}{'  best' if better else ''}"


def accuracy_line(name: str, n_structure: int, accuracy: Accuracy) -> str:
    """One line about all structures of a part of the data."""
    return f"  {name} ({n_structure} structures): RMSE {accuracy}"


def write_accuracies(
    path: str | Path, state: RunState, structures: Mapping[str, Sized], accuracies: Mapping[str, Accuracy]
) -> None:
    """accuracy.json: errors of best.h5 on all structures, and where in the run it was found."""
    numbers = {
        name: {"structures": len(structures[name])}
        | {key: value if np.isfinite(value) else None for key, value in accuracy.numbers().items()}
        for name, accuracy in accuracies.items()
    }
    units = {kind.name: kind.error_unit for kind in KINDS.values()}
    found = {"epoch": state.best_epoch, "updates_of_the_run": state.update, "units": units}
    write_text(path, json.dumps(found | numbers, indent=2) + "\n", encoding="ascii")


class Parity:
    """Labels and predictions, collected while structures are evaluated."""

    def __init__(self, observer: Observer):
        self.observer = observer
        self.points = {name: [np.zeros((0, 2))] for name in KINDS}

    def __call__(self, s: int, prediction: Prediction) -> None:
        structures = self.observer.structures
        n_atom = structures.start[s + 1] - structures.start[s]
        for name, kind in KINDS.items():
            if kind.exists(structures, s):
                labels = kind.labels_of(self.observer.dataset)[kind.of_structure(structures, s)]
                pair = np.stack(
                    [np.ravel(labels), np.ravel(kind.predicted(prediction, structures, s))], axis=1
                )
                self.points[name].append(pair / n_atom if kind.per_atom else pair)

    def gather(self, comm: Comm) -> dict[str, np.ndarray] | None:
        """Kind -> label and prediction (n, 2) in its unit, per atom where it is told so, on rank 0;
        None elsewhere. Collective.
        """
        parts = comm.gather({name: np.concatenate(points) for name, points in self.points.items()}, root=0)
        if parts is None:
            return None
        return {name: np.concatenate([part[name] for part in parts]) for name in KINDS}


def draw(directory: Path, curve: LearningCurve, points: Mapping[str, np.ndarray], what: str) -> None:
    """learning-curve.png and parity.png in the run's folder."""
    draw_learning_curve(directory / "learning-curve.png", curve.columns())
    draw_parity(directory / "parity.png", points, what)


def draw_learning_curve(path: str | Path, columns: Mapping[str, np.ndarray]) -> None:
    """RMSE of each kind of label that there is, training and validation, against epochs."""
    nothing = np.array([np.nan])
    kinds = [
        kind
        for kind in KINDS.values()
        if kind.always
        or any(np.isfinite(columns.get(f"{kind.name}_rmse_{part}", nothing)).any() for part in PARTS)
    ]
    picture, axes = figure(len(kinds))
    for axis, kind in zip(axes, kinds):
        for part, style in zip(PARTS, ("o-", "s--", "^:")):
            values = columns.get(f"{kind.name}_rmse_{part}", nothing)
            if np.isfinite(values).any():
                axis.plot(columns["epoch"], values, style, markersize=3, label=part)
        axis.set(xlabel="epoch", ylabel=f"RMSE of {kind.name} ({with_signs(kind.error_unit)})")
        if axis.lines:
            axis.set_yscale("log")
            axis.legend()
        axis.grid(True, which="both", alpha=0.3)
    picture.suptitle(f"{columns['update'][-1]:.0f} updates, {columns['seconds'][-1]:.0f} s")
    save(picture, path)


def draw_parity(path: str | Path, points: Mapping[str, np.ndarray], what: str) -> None:
    """Predicted against labelled values of each kind of label (n, 2) that there is."""
    kinds = [
        kind for name, kind in KINDS.items() if kind.always or np.isfinite(points[name]).all(axis=1).any()
    ]
    picture, axes = figure(len(kinds), height=4.6)
    rng = np.random.default_rng(0)
    for axis, kind in zip(axes, kinds):
        quantity = f"{kind.name}{' per atom' if kind.per_atom else ''} ({with_signs(kind.unit)})"
        axis.set(xlabel=f"labelled {quantity}", ylabel=f"predicted {quantity}")
        there = points[kind.name][~np.isnan(points[kind.name]).any(axis=1)]
        if not len(there):
            axis.set_title("no labels")
            continue
        rmse = MILLI * np.sqrt(np.mean((there[:, 0] - there[:, 1]) ** 2))
        few = len(there) <= MAXIMUM_POINTS
        drawn = there if few else there[rng.choice(len(there), MAXIMUM_POINTS, replace=False)]
        axis.plot(drawn[:, 0], drawn[:, 1], ".", markersize=2, alpha=0.5)
        axis.axline((there[0, 0], there[0, 0]), slope=1, color="black", linewidth=0.7)
        axis.set_title(f"{what}: RMSE {rmse:.4g} {with_signs(kind.error_unit)}, {len(there)} labels")
        axis.ticklabel_format(useOffset=True, style="plain")
        axis.grid(True, alpha=0.3)
    save(picture, path)


def with_signs(unit: str) -> str:
    """A unit as pictures show it."""
    return unit.replace("Angstrom", "Å").replace("^2", "²").replace("^3", "³")
