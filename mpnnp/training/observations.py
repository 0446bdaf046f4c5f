"""Observations: errors and rows of the Jacobian of this rank's labels of an update, in training units."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from mpnnp.config import Schedule
from mpnnp.data.dataset import Dataset
from mpnnp.kernels.jit import read_only
from mpnnp.kernels.packs import Structures
from mpnnp.model.baseline import NONE
from mpnnp.model.evaluation import ROUND, accuracy_over
from mpnnp.model.label_kinds import ENERGY
from mpnnp.model.metrics import Accuracy, ErrorSums
from mpnnp.model.potential import Potential, Predictor
from mpnnp.model.prediction import Prediction
from mpnnp.parallel import Comm, share
from mpnnp.training.common_errors import Groups
from mpnnp.training.labels import Labels, label_scale
from mpnnp.training.noise import NoiseLevels
from mpnnp.training.schedules import Batch


class Observer:
    """Turns batches into errors and rows; knows the data, the model without its weights,
    and which labels are this rank's.

    Label m of M belongs to rank r with r M // p <= m < (r+1) M // p: consecutive, and the same labels on any
    number of ranks.

    dataset  with the labels that the nets are to give: those of the data less the potential's baseline
    train  structures that are learned from, see Labels.of
    noise  NoiseLevels that errors and rows are divided by, instead of the scales of [schedule]; None: these
    rmse   (n_kind,) of the last evaluation, training units: the unit of the selection thresholds
    seen   labels, rows and errors of this rank's share of the last batch, for messages
    """

    def __init__(
        self,
        dataset: Dataset,
        structures: Structures,
        G: np.ndarray,
        potential: Potential,
        schedule_config: Schedule,
        comm: Comm,
        train: Sequence[int] | np.ndarray = (),
    ):
        self.dataset, self.structures, self.G = dataset, structures, read_only(G)
        self.predictor = Predictor(replace(potential, baseline=NONE))
        self.labels = Labels.of(dataset, structures, potential, schedule_config, train)
        self.config, self.comm, self.train = schedule_config, comm, train
        self.n_weight = potential.network.n_weight
        # from units of the nets to those of training
        self.factors = [potential.energy_scale / unit for unit in self.labels.units]
        self.noise: NoiseLevels | None = None
        self.rmse = np.ones(len(self.labels.kinds))
        self.seen: tuple = ()

    def follow(self, rmse: np.ndarray, noise: NoiseLevels | None) -> None:
        """Take selection thresholds and noise levels from these from now on: a run changes them in place."""
        self.rmse, self.noise = rmse, noise

    @cached_property
    def groups(self) -> Groups:
        """Structures for training whose energies have errors in common: learned noise alone asks for them."""
        return Groups.of(self.dataset, self.labels.of_structures(self.structures.start, self.train)[ENERGY])

    def observe(
        self, batch: Batch, w: np.ndarray, pause: Callable[[], object] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows (m, n), errors (m,), labels (m,)) of this rank's share of the batch: s d y*_hat / dw,
        s (y* - y*_hat), and of what. Where offsets of simulations are learned y*_hat holds them, and n counts
        them behind the weights.

        The arrays are new ones. pause: as in Task.observe
        """
        kind, n_label = self.labels.kinds[batch.kind], len(batch.candidates)
        mine = share(n_label, self.comm)
        candidates = batch.candidates[mine.start : mine.stop]
        if candidates.shape[1] == 1:
            labels = candidates[:, 0]
            rows, errors = self._rows(batch.kind, labels, w)
        else:
            labels, rows, errors = self._select(batch.kind, candidates, w)
        if pause is not None:
            pause()
        factor = self.factors[batch.kind]
        if self.noise is not None and len(self.noise.offsets):
            columns = self._offset_columns(batch.kind, labels, len(self.noise.offsets))
            errors -= columns @ self.noise.offsets
            rows = np.concatenate([rows, columns / factor], axis=1)
        scale = self._scale(batch.kind, labels, errors, n_label)
        errors *= scale
        if np.ndim(scale):
            rows *= (scale * factor)[:, None]
        elif scale * factor != 1.0:
            rows *= scale * factor
        if (roots := self.labels.roots[batch.kind]) is not None:
            roots = roots[labels // kind.n_component]
            rows *= roots[:, None]
            errors *= roots
        self.seen = labels, rows, errors
        if self.config.rows == "sum":
            return *self._sum_groups(rows, errors, mine, n_label), labels
        return rows, errors, labels

    def _scale(self, k, labels, errors, n_label):
        """Factor s of errors and rows: a number, or with learned noise (m,) numbers. Collective then."""
        kind = self.labels.kinds[k]
        if self.noise is None:
            return label_scale(self.config, kind.name, n_label)
        if not kind.per_atom:
            self.noise.observe(k, errors, self.comm)
            return np.full(len(labels), 1.0 / self.noise.level(k))
        n_atom = self._n_atom(kind, labels)
        self.noise.observe(k, errors / n_atom, self.comm)
        group_size = self.groups.size_of(kind.structure_of(self.structures.start, labels))
        return 1.0 / self.noise.of_energies(k, n_atom, group_size, self.labels.units)

    def _offset_columns(self, k, labels, n_offset):
        """d y*_hat / d offset (m, n_offset) in training units: the atoms of the structure of an energy."""
        kind, columns = self.labels.kinds[k], np.zeros((len(labels), n_offset))
        if k == ENERGY:
            group = self.groups.group[kind.structure_of(self.structures.start, labels)]
            inside = np.flatnonzero(group >= 0)
            columns[inside, group[inside]] = self._n_atom(kind, labels[inside])
        return columns

    def _sum_groups(self, rows, errors, mine, n_label):
        """One observation per group of k streams, sum of rows / sqrt(k) and sum of errors / sqrt(k),
        on rank 0 (none elsewhere). Collective.

        The noise of a sum of k independent labels has k times the variance: with 1/sqrt(k) the R of one label
        stays right.
        """
        n_group = min(self.config.groups, n_label)
        group = np.arange(mine.start, mine.stop) * n_group // n_label
        size = np.bincount(np.arange(n_label) * n_group // n_label)
        part = np.zeros((n_group, rows.shape[1] + 1))
        for k, g in enumerate(group):
            part[g, :-1] += rows[k]
            part[g, -1] += errors[k]
        part /= np.sqrt(size)[:, None]
        total = np.empty_like(part)
        self.comm.Reduce(part, total, root=0)
        if self.comm.rank:
            total = total[:0]
        return np.ascontiguousarray(total[:, :-1]), total[:, -1].copy()

    def _rows(self, k, labels, w):
        """d y_hat / dw (n_label, n_weight) in units of the nets, and y* - y*_hat (n_label,),
        of labels of kind number k.
        """
        kind = self.labels.kinds[k]
        rows, values = np.empty((len(labels), self.n_weight)), np.empty(len(labels))
        places = kind.places(self.structures, labels)
        kind.rows(places, self.structures, self.G, self.predictor.model, w, rows, values)
        return rows, self.labels.targets[k][labels] - values * self.factors[k]

    def _select(self, k, candidates, w):
        """Of each stream's candidates the first whose error exceeds the threshold, or is not a number, else
        the worst: labels, and rows and errors as of _rows.

        Candidates are tried one after the other, with their rows: these take little more than the errors
        alone, and those of the chosen one need not be made again.
        """
        kind, n_stream = self.labels.kinds[k], len(candidates)
        threshold = self.config.of_kind(kind.name, "threshold") * self.rmse[k]
        labels = candidates[:, 0].copy()
        rows, errors = np.empty((n_stream, self.n_weight)), np.empty(n_stream)
        largest, left = np.full(n_stream, -np.inf), np.arange(n_stream)
        for trial in candidates.T:
            tried = trial[left]
            new_rows, new_errors = self._rows(k, tried, w)
            relative = np.abs(new_errors)
            if kind.per_atom:
                relative /= self._n_atom(kind, tried)
            worse = ~(relative <= largest[left])
            at = left[worse]
            labels[at], largest[at] = tried[worse], relative[worse]
            rows[at], errors[at] = new_rows[worse], new_errors[worse]
            left = left[relative <= threshold]
            if not len(left):
                break
        return labels, rows, errors

    def errors(self, k: int, labels: np.ndarray, w: np.ndarray) -> np.ndarray:
        """y* - y*_hat (n_label,) of labels of kind number k, without their rows."""
        kind, values = self.labels.kinds[k], np.empty(len(labels))
        places = kind.places(self.structures, labels)
        kind.values(places, self.structures, self.G, self.predictor.model, w, values)
        return self.labels.targets[k][labels] - values * self.factors[k]

    def correlation_of_energies(self, w: np.ndarray) -> float:
        """Correlation of the errors per atom of energies that are from the same simulation. Collective."""
        return self.groups.correlation(*self._errors_in_groups(w), self.comm)

    def common_variance(self, w: np.ndarray) -> float:
        """Variance per atom of what errors of energies have in common, training units. Collective."""
        return self.groups.variances(*self._errors_in_groups(w), self.comm)[0]

    def _errors_in_groups(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Structures (m,) of groups that are this rank's, and the errors per atom of their energies."""
        members = self.groups.members()
        mine = members[self.comm.rank :: self.comm.size]
        return mine, self.errors(ENERGY, mine, w) / np.diff(self.structures.start)[mine]

    def _n_atom(self, kind, labels):
        """Atoms of the structures of labels."""
        return np.diff(self.structures.start)[kind.structure_of(self.structures.start, labels)]

    def describe(self, k: int, label: int) -> str:
        """A label of kind number k in words, for messages."""
        return self.labels.kinds[k].describe(self.dataset, self.structures.start, label)

    def suspect_label(self, k: int) -> str:
        """In words, the first label of the last batch that is not a finite number,
        else the one with the largest error. Collective.
        """
        found = None
        for label, row, error in zip(*self.seen):
            if not (np.isfinite(error) and np.isfinite(row).all()):
                reason = "the weights have run away, or two atoms are at the same place"
                found = (np.inf, f"not finite: {self.describe(k, label)}; {reason}")
                break
            if found is None or abs(error) > found[0]:
                words = f"largest error of its labels: {error:.3g} training units, {self.describe(k, label)}"
                found = (abs(error), words)
        everywhere = [x for x in self.comm.allgather(found) if x is not None]
        return max(everywhere, key=lambda x: x[0])[1] if everywhere else "no label was looked at"

    def predict(self, s: int, w: np.ndarray) -> Prediction:
        """Prediction for structure s with weights w."""
        return self.predictor.predict(
            self.structures, s, w, self.G[self.structures.start[s] : self.structures.start[s + 1]]
        )

    def first_not_finite(self, chosen: np.ndarray, w: np.ndarray) -> str:
        """The first of the chosen structures whose prediction is not a finite number, in words.

        Collective.
        """
        found = len(chosen)
        for k in range(self.comm.rank, len(chosen), self.comm.size):
            if not self.predict(chosen[k], w).is_finite():
                found = k
                break
        first = min(self.comm.allgather(found))
        return self.dataset.name(chosen[first]) if first < len(chosen) else "an error too large for a number"

    def evaluate(
        self,
        chosen: np.ndarray,
        w: np.ndarray,
        forces_of: np.ndarray | None = None,
        keep: Callable[[int, Prediction], None] | None = None,
        pause: Callable[[], object] | None = None,
    ) -> Accuracy:
        """Accuracy over the chosen structures, shared out over the ranks. Collective.

        forces_of  those of the chosen structures that are predicted in full, default all: energies alone need
                   no geometry and cost next to nothing
        keep, pause  as in model.evaluation.accuracy_over
        """
        forces_of = chosen if forces_of is None else forces_of
        errors = ErrorSums()
        energies_of = np.setdiff1d(chosen, forces_of)[self.comm.rank :: self.comm.size]
        if len(energies_of):
            energies = np.asarray(self.dataset.energy)[energies_of]
            predicted = energies - self.errors(ENERGY, energies_of, w) * self.labels.units[ENERGY]
            errors.add_labels(ENERGY, energies, predicted, np.diff(self.structures.start)[energies_of])
        return accuracy_over(
            lambda s: self.predict(s, w),
            self.dataset,
            self.structures,
            forces_of,
            self.comm,
            errors,
            keep,
            pause,
        )

    def all_errors(
        self, labels: Sequence[np.ndarray], w: np.ndarray, pause: Callable[[], object] | None = None
    ) -> list[np.ndarray]:
        """|error| of all labels of each kind, per atom for energies, on every rank:
        the order of sorted selection. Collective.

        pause  as in evaluate
        """
        result, n_round = [], 1 + len(self.dataset) // (ROUND * self.comm.size)
        for k in range(len(self.labels.kinds)):
            mine = share(len(labels[k]), self.comm)
            parts = []
            for some in np.array_split(labels[k][mine.start : mine.stop], n_round):
                parts.append(np.abs(self._all_errors(k, some, w)))
                if pause is not None:
                    pause()
            result.append(np.concatenate(self.comm.allgather(np.concatenate(parts))))
        return result

    def _all_errors(self, k, labels, w):
        kind = self.labels.kinds[k]
        if kind.per != "atom":
            errors = self.errors(k, labels, w)
            return errors / self._n_atom(kind, labels) if kind.per_atom else errors
        errors, structure = np.empty(len(labels)), kind.structure_of(self.structures.start, labels)
        for s in np.unique(structure):  # all labels of a structure from one prediction
            predicted = np.ravel(kind.predicted(self.predict(s, w), self.structures, s))
            of_s, first = structure == s, kind.n_component * self.structures.start[s]
            target = self.labels.targets[k][labels[of_s]] * self.labels.units[k]
            errors[of_s] = target - predicted[labels[of_s] - first]
        return errors
