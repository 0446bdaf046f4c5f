"""The learning curve: accuracies over the run, as a table that survives kills and as a picture's data."""

from pathlib import Path

import numpy as np

from mpnnp.files import write_text

QUANTITIES = ("energy_rmse", "energy_mae", "force_rmse", "force_mae", "stress_rmse", "stress_mae")
COLUMNS = ("epoch", "update", "seconds") + tuple(
    f"{q}_{part}" for q in QUANTITIES for part in ("train", "validation")
)
UNITS = {"energy_unit": "meV/atom", "force_unit": "meV/Angstrom"}
STRESS_UNIT = {"stress_unit": "meV/Angstrom^3"}


class LearningCurve:
    """Rows of COLUMNS; energies in meV/atom, forces in meV/Angstrom, stresses in meV/Angstrom^3,
    NaN where there are no labels.
    """

    def __init__(self, columns=None):
        # checkpoints of before stresses were compared
        nothing = np.full(len(columns["epoch"]), np.nan) if columns else None
        self.rows = (
            []
            if not columns
            else [list(row) for row in zip(*(columns.get(name, nothing) for name in COLUMNS))]
        )

    def add(self, epoch, update, seconds, train, validation):
        """Append the accuracies (metrics.Accuracy) of training and validation structures."""
        self.rows.append(
            [epoch, update, seconds] + [getattr(a, q) for q in QUANTITIES for a in (train, validation)]
        )

    def columns(self):
        """name -> array, for a checkpoint."""
        values = np.array(self.rows, float).reshape(-1, len(COLUMNS))
        return {name: values[:, k] for k, name in enumerate(COLUMNS)}

    def write(self, path):
        """CSV with one header line; the last columns name the units.

        Stresses have columns if there are labels of them.
        """
        with_stress = any(
            np.isfinite(row[k])
            for row in self.rows
            for k, name in enumerate(COLUMNS)
            if name.startswith("stress")
        )
        chosen = [k for k, name in enumerate(COLUMNS) if with_stress or not name.startswith("stress")]
        units = UNITS | (STRESS_UNIT if with_stress else {})
        lines = [",".join((*(COLUMNS[k] for k in chosen), *units))]
        for row in self.rows:
            numbers = [
                f"{row[0]:.0f}",
                f"{row[1]:.0f}",
                f"{row[2]:.3f}",
                *(f"{row[k]:.9g}" for k in chosen[3:]),
            ]
            lines.append(",".join((*numbers, *units.values())))
        write_text(path, "\n".join(lines) + "\n", encoding="ascii")

    @staticmethod
    def read(path):
        """name -> array of the columns of a file written by `write`."""
        lines = [line.split(",") for line in Path(path).read_text(encoding="ascii").splitlines()]
        return {
            name: np.array([float(line[k]) for line in lines[1:]])
            for k, name in enumerate(lines[0])
            if name in COLUMNS
        }
