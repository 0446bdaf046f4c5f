"""The learning curve: accuracies over the run, as a table that survives kills and as a picture's data."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mpnnp.files import write_table
from mpnnp.model.label_kinds import KINDS, LabelKind
from mpnnp.model.metrics import Accuracy
from mpnnp.progress import counted

PARTS = ("train", "validation", "old")  # old: validation structures of what was learned before


def columns_of(kind: str) -> list[str]:
    """Columns of a kind of label (its name)."""
    return [f"{kind}_{measure}_{part}" for measure in ("rmse", "mae") for part in PARTS]


def noise_of(kind: str) -> str:
    """Column of the learned noise level of a kind (its name)."""
    return f"{kind}_noise"


def all_columns() -> list[str]:
    errors = (column for kind in KINDS for column in columns_of(kind))
    return ["epoch", "update", "seconds", *errors, *map(noise_of, KINDS)]


def shown(columns: Mapping[str, np.ndarray]) -> list[LabelKind]:
    """The kinds that are told of a curve: those that always are, and those with labels in any part."""
    return [
        kind
        for name, kind in KINDS.items()
        if kind.always or not all(np.isnan(columns.get(c, np.nan)).all() for c in columns_of(name))
    ]


class LearningCurve:
    """Rows of epoch, update, seconds, and of each kind of label in its error_unit the errors and the learned
    noise level, NaN where there are no labels or levels.
    """

    def __init__(self, columns: Mapping[str, np.ndarray] | None = None):
        self.rows: list[list] = []
        if columns:
            unknown = np.full(len(columns["epoch"]), np.nan)  # of kinds of labels that came later
            self.rows = [list(row) for row in zip(*(columns.get(name, unknown) for name in all_columns()))]

    def add(
        self,
        epoch: int,
        update: int,
        seconds: float,
        *accuracies: Accuracy,
        noise: Mapping[str, float] | None = None,
    ) -> None:
        """Append the accuracies (metrics.Accuracy) of the PARTS, and the noise level of each kind of label
        that has one.
        """
        errors = [
            values[kind]
            for kind in KINDS
            for values in (*(a.rmse for a in accuracies), *(a.mae for a in accuracies))
        ]
        levels = [(noise or {}).get(kind, np.nan) for kind in KINDS]
        self.rows.append([epoch, update, seconds, *errors, *levels])

    def columns(self) -> dict[str, np.ndarray]:
        """name -> array, for a checkpoint."""
        names = all_columns()
        values = np.array(self.rows, float).reshape(-1, len(names))
        return {name: values[:, k] for k, name in enumerate(names)}

    def write(self, path: str | Path) -> None:
        """CSV with one header line; the last columns name the units.

        Kinds that are not always told have columns if there are labels of them.
        """
        columns = self.columns()
        kinds = shown(columns)
        names = [
            c
            for kind in kinds
            for c in columns_of(kind.name)
            if not c.endswith("_old") or np.isfinite(columns[c]).any()
        ]
        names += [c for c in map(noise_of, KINDS) if np.isfinite(columns[c]).any()]
        units = {f"{kind.name}_unit": kind.error_unit for kind in kinds}
        table = {
            "epoch": [f"{row[0]:.0f}" for row in self.rows],
            "update": [f"{row[1]:.0f}" for row in self.rows],
            "seconds": [f"{row[2]:.3f}" for row in self.rows],
            **{column: columns[column] for column in names},
            **{column: [unit] * len(self.rows) for column, unit in units.items()},
        }
        write_table(path, table)

    def __repr__(self):
        return f"LearningCurve({counted(len(self.rows), 'point')})"

    @staticmethod
    def read(path: str | Path) -> dict[str, np.ndarray]:
        """name -> array of the columns of a file written by `write`."""
        lines = [line.split(",") for line in Path(path).read_text(encoding="ascii").splitlines()]
        return {
            name: np.array([float(line[k]) for line in lines[1:]])
            for k, name in enumerate(lines[0])
            if name in all_columns()
        }
