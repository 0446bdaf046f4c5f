"""Accuracies: root mean square and mean absolute errors of each kind of label."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mpnnp.data.dataset import Dataset
from mpnnp.kernels.packs import Structures
from mpnnp.model.label_kinds import KINDS, MILLI, LabelKind, kind_at
from mpnnp.model.prediction import Prediction
from mpnnp.parallel import Comm


@dataclass(frozen=True)
class Accuracy:
    """Errors by kind of label in its error_unit (meV/atom, meV/Angstrom, ...); NaN where there are no labels.

    rmse, mae  name of the kind -> number; `accuracy.energy_rmse` and the like name one of them
    """

    rmse: dict
    mae: dict

    def __getattr__(self, name):
        kind, _, measure = name.rpartition("_")
        if measure in ("rmse", "mae") and kind in self.__dict__.get(measure, ()):
            return self.__dict__[measure][kind]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def has_labels(self) -> bool:
        """True if there are labels of a kind that every potential is judged by."""
        return self.has_labels_of(name for name, kind in KINDS.items() if kind.always)

    def has_labels_of(self, kinds: Iterable[str]) -> bool:
        """True if there are labels of one of these kinds."""
        return not all(np.isnan(self.rmse[name]) for name in kinds)

    def kinds(self) -> list[LabelKind]:
        """The kinds that are told of it, see `shown`."""
        return shown(self)

    def numbers(self) -> dict[str, float]:
        """energy_rmse, energy_mae, ... -> number."""
        return {
            f"{name}_{what}": values[name]
            for name in KINDS
            for what, values in (("rmse", self.rmse), ("mae", self.mae))
        }

    def __str__(self):
        told = (
            f"{k.name} {self.rmse[k.name]:.4g} {k.short_unit} (MAE {self.mae[k.name]:.4g})"
            for k in self.kinds()
            if self.has_labels_of([k.name])
        )
        return ", ".join(told) or "no labels"

    def __repr__(self):
        return f"Accuracy(RMSE {self})"


def shown(*accuracies: Accuracy) -> list[LabelKind]:
    """The kinds that are told: those that always are, and those with labels in one of the accuracies."""
    return [k for k in KINDS.values() if k.always or not all(np.isnan(a.rmse[k.name]) for a in accuracies)]


class ErrorSums:
    """Sums over errors; `add` structures of this rank, then `accuracy` over all ranks."""

    def __init__(self):
        self.sums = np.zeros((len(KINDS), 3))  # of each kind: count, square, absolute

    def add(self, dataset: Dataset, structures: Structures, s: int, prediction: Prediction) -> None:
        """Labels of structure s of a data set, and the Prediction for it; a NaN label is none,
        a NaN prediction wrong.
        """
        n_atom = structures.start[s + 1] - structures.start[s]
        for k, kind in enumerate(KINDS.values()):
            if kind.exists(structures, s):
                labels = kind.labels_of(dataset)[kind.of_structure(structures, s)]
                self.add_labels(
                    k, labels.ravel(), np.ravel(kind.predicted(prediction, structures, s)), n_atom
                )

    def add_labels(
        self, k: int, labels: np.ndarray, predictions: np.ndarray, n_atom: int | np.ndarray
    ) -> None:
        """Labels and predictions (n,) of kind number k, in its unit; n_atom: atoms of their structures,
        a number or (n,).
        """
        kind = kind_at(k)
        factor = MILLI / n_atom if kind.per_atom else MILLI
        errors = ((labels - predictions) * factor)[~np.isnan(labels)]
        errors = np.nan_to_num(errors, nan=np.inf, posinf=np.inf, neginf=-np.inf)
        self.sums[k] += len(errors), errors @ errors, np.abs(errors).sum()

    def accuracy(self, comm: Comm) -> Accuracy:
        """Accuracy over all ranks. Collective."""
        total = np.empty_like(self.sums)
        comm.Allreduce(self.sums, total)
        count, square, absolute = total.T
        with np.errstate(invalid="ignore"):
            rmse, mae = np.sqrt(square / count), absolute / count
        return Accuracy(
            {name: float(x) for name, x in zip(KINDS, rmse)}, {name: float(x) for name, x in zip(KINDS, mae)}
        )
