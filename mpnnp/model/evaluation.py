"""Evaluating a potential on data: predictions of every structure, and accuracies where there are labels."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mpnnp.data.dataset import Dataset
from mpnnp.data.packed import make_atoms
from mpnnp.files import write_atomically, write_text
from mpnnp.kernels.packs import Structures
from mpnnp.model.label_kinds import KINDS
from mpnnp.model.metrics import Accuracy, ErrorSums
from mpnnp.model.potential import Potential, Predictor
from mpnnp.model.prediction import NO_PREDICTION, Prediction, refuse_not_finite
from mpnnp.model.spread import Spread
from mpnnp.parallel import Comm
from mpnnp.progress import AnyLog, Progress, counted

ROUND = 32  # structures per rank between two looks for signals


@dataclass(frozen=True)
class Evaluation:
    """Accuracy, and on rank 0 the predictions.

    predictions  column of a data set -> array as there: energy (n_structure,) eV, forces (n_atom, 3)
                 eV/Angstrom, ...; NaN where a structure has none (no stress unless periodic in all
                 directions)
    start        (n_structure+1,) offsets of the atoms
    labels       column -> array of the same shape; NaN where there is no label
    """

    accuracy: Accuracy
    predictions: dict
    start: np.ndarray
    labels: dict = field(default_factory=dict)

    def __getattr__(self, name):
        if name in self.__dict__.get("predictions", ()):
            return self.__dict__["predictions"][name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def n_structures(self) -> int:
        return len(self.start) - 1

    @property
    def n_atoms(self) -> int:
        return int(self.start[-1])

    def __repr__(self):
        counts = f"{counted(self.n_structures, 'structure')}, {counted(self.n_atoms, 'atom')}"
        return f"Evaluation({counts}; RMSE {self.accuracy})"

    def numbers(self) -> dict:
        """What `mpnnp evaluate --json` writes; null where there are no labels."""
        found: dict[str, Any] = {"n_structures": self.n_structures, "n_atoms": self.n_atoms}
        for name, kind in KINDS.items():
            unit = kind.error_unit.lower().replace("/", "_per_").replace("^", "")
            for what, values in (("rmse", self.accuracy.rmse), ("mae", self.accuracy.mae)):
                found[f"{name}_{what}_{unit}"] = None if np.isnan(values[name]) else values[name]
        return found

    def write_json(self, path: str | Path) -> None:
        write_text(path, json.dumps(self.numbers(), indent=2) + "\n", encoding="ascii")

    def write_predictions(self, path: str | Path) -> None:
        with write_atomically(path) as temporary, open(temporary, "wb") as file:
            labels = {f"{column}_label": values for column, values in self.labels.items()}
            np.savez(file, **self.predictions, **labels, start=self.start)


def accuracy_over(
    predict: Callable[[int], Prediction],
    dataset: Dataset,
    structures: Structures,
    chosen: np.ndarray,
    comm: Comm,
    errors: ErrorSums | None = None,
    keep: Callable[[int, Prediction], None] | None = None,
    pause: Callable[[], object] | None = None,
) -> Accuracy:
    """Accuracy of predictions of the chosen structures, shared out over the ranks. Collective.

    predict  function(s) -> Prediction
    errors   ErrorSums of this rank to add to
    keep     function(s, Prediction) called for this rank's structures
    pause    collective function called every ROUND structures of a rank, and at the end
    """
    errors, mine = ErrorSums() if errors is None else errors, chosen[comm.rank :: comm.size]
    for turn in range(-(-len(chosen) // comm.size)):  # as many turns on every rank
        if pause is not None and turn % ROUND == 0:
            pause()
        if turn < len(mine):
            s = mine[turn]
            prediction = predict(s)
            errors.add(dataset, structures, s, prediction)
            if keep is not None:
                keep(s, prediction)
    if pause is not None:
        pause()
    return errors.accuracy(comm)


def judged(dataset: Dataset) -> Dataset:
    """The data set with the labels that a potential is judged by: without those of isolated atoms, which are
    references that no run learns.
    """
    alone = dataset.is_isolated
    if not alone.any():
        return dataset
    of_atoms = np.repeat(alone, dataset.n_atom)[:, None]
    return replace(
        dataset,
        energy=np.where(alone, np.nan, dataset.energy),
        forces=np.where(of_atoms, np.nan, dataset.forces),
        stress=np.where(alone[:, None], np.nan, dataset.stress),
    )


def evaluate(
    potential: Potential,
    dataset: Dataset,
    comm: Comm,
    log: AnyLog,
    with_sigma: Callable[[Structures, int], tuple[Prediction, Spread]] | None = None,
) -> Evaluation:
    """Evaluation of `potential` on all structures of `dataset`, shared out over the ranks.

    with_sigma  (structures, s) -> Prediction and standard deviations of structure s: these are then among
                the predictions, energy_std (n_structure,) and forces_std (n_atom, 3)
    Isolated atoms are predicted, and have no part in the accuracy. Collective. Raises DataError, also for a
    structure whose prediction is not finite.
    """
    if n_alone := int(dataset.is_isolated.sum()):
        log(f"{counted(n_alone, 'isolated atom')}: references of the energies, predicted but not judged")
    structures, predictor = make_atoms(dataset, potential.elements), Predictor(potential)
    start, kinds = np.asarray(structures.start), [kind for kind in KINDS.values() if kind.column]
    mine: list = []
    sigmas: list = []
    wrong: list[int] = []

    def predict(s):
        if with_sigma is None:
            return predictor.predict(structures, s)
        prediction, spread = with_sigma(structures, s)
        sigmas.append((s, spread))
        return prediction

    with Progress(log, "evaluating structure", len(dataset)) as progress:

        def keep(s, prediction):
            if not prediction.is_finite():
                wrong.append(int(s))
            values = [
                kind.predicted(prediction, structures, s) if kind.exists(structures, s) else np.nan
                for kind in kinds
            ]
            mine.append((s, values))
            progress.update(min(s + comm.size, len(dataset)))

        accuracy = accuracy_over(
            predict,
            judged(dataset),
            structures,
            np.arange(len(dataset)),
            comm,
            keep=keep,
        )
    refuse_not_finite(wrong, dataset, comm, NO_PREDICTION)
    parts = comm.gather(mine, root=0) or []
    predictions = _as_vectors(_by_column(kinds, dataset, structures, parts))
    labels = _as_vectors({kind.column: kind.labels_of(dataset) for kind in kinds})
    if with_sigma is not None:
        predictions |= _standard_deviations(start, comm.gather(sigmas, root=0) or [])
    return Evaluation(accuracy, predictions, start, labels)


def _by_column(kinds, dataset, structures, parts):
    """Columns {name: (n_site, n_component)} from (s, values of each kind) of each rank; NaN where there are
    none.
    """
    columns = {
        kind.column: np.full((len(kind.labels_of(dataset)), kind.n_component), np.nan) for kind in kinds
    }
    for part in parts:
        for s, values in part:
            for kind, value in zip(kinds, values):
                columns[kind.column][kind.of_structure(structures, s)] = value
    return columns


def _as_vectors(columns):
    """Columns whose labels have one component without that axis, as in a data set."""
    return {name: values if values.shape[1] > 1 else values[:, 0] for name, values in columns.items()}


def _standard_deviations(start, parts):
    """Columns energy_std (n_structure,) and forces_std (n_atom, 3) from (s, Spread) of each rank."""
    energy, forces = np.full(len(start) - 1, np.nan), np.full((start[-1], 3), np.nan)
    for part in parts:
        for s, spread in part:
            energy[s], forces[start[s] : start[s + 1]] = spread.energy, spread.forces
    return {"energy_std": energy, "forces_std": forces}
