"""Learning curves of groups of runs: means and bands, and how many updates and how much time each group
takes to the same error.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpnnp.errors import DataError
from mpnnp.figures import colours, figure, line_style, log_axis, save, style
from mpnnp.files import seems_to_be, write_text
from mpnnp.progress import counted
from mpnnp.training.learning_curve import LearningCurve

UNITS = {"energy": "meV/atom", "force": "meV/Å"}
CLOCKS = {"update": "updates", "seconds": "wall time (s)"}
NONE = "-"  # in the place of numbers that there are not


@dataclass(frozen=True)
class Group:
    """Learning curves (name -> columns) of the runs of a group."""

    name: str
    curves: dict

    @classmethod
    def read(cls, name, folders):
        """From learning-curve.csv of each folder. Raises DataError naming the file."""
        return cls(name, {str(folder): _read(Path(folder)) for folder in folders})

    def mean(self, quantity, clock):
        """(x, mean, standard deviation) of the RMSE of "energy" or "force" against "update" or "seconds",
        without the start of the runs.

        Runs are interpolated on the evaluations of all of them, as far as the shortest goes;
        (None, None, None) without labels, and where the first evaluation of one run comes after the last of
        another.
        """
        lines = [
            (curve[clock][1:], rmse(curve, quantity)[1:])
            for curve in self.curves.values()
            if len(curve[clock]) > 1
        ]
        lines = [(x, y) for x, y in lines if np.isfinite(y).all()]
        if not lines:
            return None, None, None
        first, last = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
        x = np.unique(np.concatenate([x for x, _ in lines]))
        x = x[(x >= first) & (x <= last)]
        if not len(x):
            return None, None, None
        values = np.array([np.interp(x, *line) for line in lines])
        return x, values.mean(axis=0), values.std(axis=0)

    def reached(self, target, quantity, clock):
        """Updates or seconds of each run that gets there, at which the RMSE is first at most `target`."""
        found = []
        for curve in self.curves.values():
            below = np.flatnonzero(rmse(curve, quantity) <= target)
            if len(below):
                found.append(float(curve[clock][below[0]]))
        return found

    def first_below(self, target, quantity, clock):
        """(mean, standard deviation) of `reached`, and how many runs got there."""
        reached = self.reached(target, quantity, clock)
        return (
            (float(np.mean(reached)), float(np.std(reached)), len(reached))
            if reached
            else (np.nan, np.nan, 0)
        )


def rmse(curve, quantity):
    """Column of the validation structures, or of the training structures where there is no validation."""
    values = curve[f"{quantity}_rmse_validation"]
    return values if np.isfinite(values).any() else curve[f"{quantity}_rmse_train"]


def reachable(groups, quantity):
    """The smallest RMSE that every run of every group reaches; NaN without labels."""
    best = [
        np.nanmin(rmse(curve, quantity))
        for group in groups
        for curve in group.curves.values()
        if np.isfinite(rmse(curve, quantity)).any()
    ]
    return float(max(best)) if best else np.nan


def compare(groups):
    """Numbers of the comparison, for JSON: last and best errors of each group,
    and updates and seconds to the errors that all runs reach.
    """
    result = {}
    for group in groups:
        numbers = {"runs": list(group.curves)}
        for clock in CLOCKS:
            numbers[clock] = _statistics([curve[clock][-1] for curve in group.curves.values()])
        for quantity in UNITS:
            columns = [rmse(curve, quantity) for curve in group.curves.values()]
            numbers[f"{quantity}_rmse_last"] = _statistics([y[-1] for y in columns])
            numbers[f"{quantity}_rmse_best"] = _statistics([y.min() for y in columns])
            target = reachable(groups, quantity)
            equal = {clock: group.first_below(target, quantity, clock) for clock in CLOCKS}
            numbers[f"{quantity}_equal"] = {"rmse": target} | {
                clock: values[:2] for clock, values in equal.items()
            }
        result[group.name] = numbers
    return result


def table(groups):
    """The same as lines for people."""
    numbers, width = compare(groups), max(len(group.name) for group in groups)
    lines = []
    for quantity, unit in UNITS.items():
        if all(np.isnan(rmse(curve, quantity)).all() for group in groups for curve in group.curves.values()):
            continue  # there are no such labels
        lines.append(f"RMSE of {quantity} ({unit}), mean +- standard deviation over the runs:")
        for name, n in numbers.items():
            last, best = (_pair(n[f"{quantity}_rmse_{which}"]) for which in ("last", "best"))
            ran = f"{n['update'][0]:.0f} updates, {n['seconds'][0]:.0f} s"
            runs = counted(len(n["runs"]), "run")
            lines.append(f"  {name:{width}s}  {runs}, {ran}: last {last}, best {best}")
        for name, n in numbers.items():
            equal = n[f"{quantity}_equal"]
            updates, seconds = (_pair(equal[clock], ".0f", ".0f") for clock in CLOCKS)
            if updates != NONE:
                lines.append(
                    f"  {name:{width}s}  reaches {equal['rmse']:.4g} after {updates} updates, {seconds} s"
                )
    return "\n".join(lines)


def write_json(path, groups):
    """The numbers of `compare`; null where there is none."""
    write_text(path, json.dumps(_with_null(compare(groups)), indent=2, allow_nan=False) + "\n")


def _with_null(value):
    """What JSON can hold: None for numbers that are not finite, in dicts and lists too."""
    if isinstance(value, dict):
        return {key: _with_null(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_null(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


@style()
def draw(path, groups):
    """Mean and band of each group: energies and forces, against updates and against wall time."""
    picture, axes = figure(4)
    tones = colours([group.name for group in groups])
    panels = [(quantity, clock) for quantity in UNITS for clock in CLOCKS]
    for axis, (quantity, clock) in zip(axes, panels):
        for group in groups:
            x, mean, spread = group.mean(quantity, clock)
            if x is None:
                continue
            tone, label = tones[group.name], f"{group.name} ({len(group.curves)})"
            axis.plot(x, mean, color=tone, label=label, **line_style(x))
            axis.fill_between(
                x,
                np.maximum(mean - spread, 0.1 * mean),
                mean + spread,
                color=tone,
                alpha=0.25,
                linewidth=0,
            )
        axis.set(xlabel=CLOCKS[clock], ylabel=f"RMSE of {quantity} ({UNITS[quantity]})")
        if axis.lines:
            log_axis(axis, "x")
            log_axis(axis, "y")
            axis.legend()
    save(picture, path)


def _read(folder):
    path = folder / "learning-curve.csv" if folder.is_dir() else folder
    try:
        curve = LearningCurve.read(path)
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: no learning curve of a run: {error}{seems_to_be(path)}") from None
    if not len(curve.get("update", ())):
        raise DataError(f"{path}: no learning curve of a run: it has no rows{seems_to_be(path)}")
    return curve


def _statistics(values):
    return [float(np.mean(values)), float(np.std(values))]


def _pair(values, form=".4g", error_form=".2g"):
    """Mean and standard deviation in words, NONE for NaN."""
    return NONE if np.isnan(values[0]) else f"{values[0]:{form}} +- {values[1]:{error_form}}"
