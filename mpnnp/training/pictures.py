"""Pictures of a run: its learning curve, predictions against labels, errors by element."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mpnnp.figures import (
    PALETTE,
    by_density,
    colours,
    figure,
    line_style,
    log_axis,
    style,
    whole_numbers,
    with_signs,
)
from mpnnp.model.label_kinds import KINDS
from mpnnp.progress import counted
from mpnnp.training.learning_curve import PARTS, shown
from mpnnp.training.results import Points

MAXIMUM_POINTS = 20_000  # drawn of each kind
SIDE_BY_SIDE = 2  # kinds in one picture of predictions
BINS = 81
LABELS = {"train": "training", "validation": "validation", "old": "validation, learned before"}


@style()
def learning_curve(columns: Mapping[str, np.ndarray]) -> Any:
    """RMSE of each kind of label that there is, training and validation, and the noise level where it is
    learned, against epochs. Figure.
    """
    nothing, kinds = np.array([np.nan]), shown(columns)
    picture, axes = figure(len(kinds))
    tones, epochs = colours(PARTS), columns["epoch"]
    for axis, kind in zip(axes, kinds):
        for part in PARTS:
            values = columns[f"{kind.name}_rmse_{part}"]
            if np.isfinite(values).any():
                axis.plot(epochs, values, color=tones[part], label=LABELS[part], **line_style(epochs))
        noise = columns.get(f"{kind.name}_noise", nothing)
        if np.isfinite(noise).any():
            axis.plot(epochs, noise, ":", color=PALETTE[-1], label="noise level")
        axis.set(xlabel="epoch", ylabel=f"RMSE of {kind.name} ({with_signs(kind.error_unit)})")
        whole_numbers(axis)
        if axis.lines:
            log_axis(axis)
            axis.legend()
    return picture


def finite(points: Mapping[str, Points]) -> dict[str, Points]:
    """The points that can be drawn, of the kinds that have some."""
    there = {name: np.isfinite(p.labels + p.predictions) for name, p in points.items()}
    return {name: Points(*(c[there[name]] for c in p)) for name, p in points.items() if there[name].any()}


def parity(points: Mapping[str, Points], what: str) -> dict[str, Any]:
    """Predicted against labelled values, coloured by density, and their errors below: name of the file ->
    Figure, the kinds that are always told in the first.

    what  whose labels they are
    """
    points = finite(points)
    kinds = [kind for name, kind in KINDS.items() if kind.always or name in points]
    groups = [kinds[k : k + SIDE_BY_SIDE] for k in range(0, len(kinds), SIDE_BY_SIDE)]
    names = ["parity", *("-".join(["parity", *(kind.name for kind in group)]) for group in groups[1:])]
    return {name: _parity(group, points, what) for name, group in zip(names, groups)}


@style()
def _parity(kinds, points, what):
    picture, axes = figure(2 * len(kinds), columns=len(kinds), height=2.6, height_ratios=[2.1, 1.0])
    rng = np.random.default_rng(0)
    for upper, lower, kind in zip(axes, axes[len(kinds) :], kinds):
        quantity = f"{kind.name}{' per atom' if kind.per_atom else ''}"
        upper.set(ylabel=f"predicted ({with_signs(kind.unit)})")
        lower.set(
            xlabel=f"labelled {quantity} ({with_signs(kind.unit)})",
            ylabel=f"error ({with_signs(kind.error_unit)})",
        )
        if kind.name not in points:
            upper.set_title(f"{kind.name}: no labels")
            continue
        there = points[kind.name]
        few = len(there.labels) <= MAXIMUM_POINTS
        chosen = slice(None) if few else rng.choice(len(there.labels), MAXIMUM_POINTS, replace=False)
        labels, errors = there.labels[chosen], there.errors[chosen]
        order, tones = by_density(labels, errors)
        dots = {"c": tones, "s": 9.0 if len(labels) < 1000 else 3.0, "linewidths": 0, "rasterized": True}
        upper.scatter(labels[order], there.predictions[chosen][order], **dots)
        upper.axline((labels[0], labels[0]), slope=1, color=PALETTE[-1], linewidth=0.8)
        lower.scatter(labels[order], errors[order], **dots)
        rmse = float(np.sqrt(np.mean(there.errors**2)))
        for level in (-rmse, 0.0, rmse):
            lower.axhline(level, color=PALETTE[-1], linewidth=0.8, linestyle="--" if level else "-")
        upper.set_title(
            f"{what}: RMSE {rmse:.3g} {with_signs(kind.error_unit)}, {counted(len(there.labels), 'label')}"
        )
        lower.sharex(upper)
        upper.tick_params(labelbottom=False)
        for axis in (upper, lower):
            axis.locator_params(nbins=5)
            axis.ticklabel_format(useOffset=False, style="plain")
    return picture


@style()
def errors(points: Mapping[str, Points], what: str) -> Any:
    """Histograms of the errors: those of atoms by element, the others together. Figure."""
    points = finite(points)
    kinds = [kind for name, kind in KINDS.items() if name in points]
    picture, axes = figure(max(len(kinds), 1))
    for axis, kind in zip(axes, kinds):
        there = points[kind.name]
        elements = sorted(set(there.elements.tolist()))
        names = [chemical_symbols[z] if z else what for z in elements]
        tones, limit = colours(names), float(np.abs(there.errors).max()) or 1.0
        highest = 1
        edges = np.linspace(-limit, limit, min(BINS, 11 + len(there.labels) // 10))
        for z, name in zip(elements, names):
            of_element = there.errors[there.elements == z]
            rmse = float(np.sqrt(np.mean(of_element**2)))
            counts = np.histogram(of_element, edges)[0]
            highest = max(highest, counts.max())
            axis.stairs(
                counts,
                edges,
                color=tones[name],
                fill=len(elements) == 1,
                linewidth=1.4,
                label=f"{name}: RMSE {rmse:.3g}, {counted(len(of_element), 'label')}",
            )
        axis.set(xlabel=f"error of {kind.name} ({with_signs(kind.error_unit)})", ylabel="labels per bin")
        if len(there.labels) > 1000:
            axis.set_yscale("log")
            axis.set_ylim(0.5, 30.0 * highest)
        else:
            axis.set_ylim(0.0, 1.35 * highest)
        axis.legend(loc="upper right")
    return picture
