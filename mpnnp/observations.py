"""Observations: errors and rows of the Jacobian of this rank's labels of an update, in training units."""

from dataclasses import dataclass

import numpy as np

from mpnnp.dataset import atoms_of
from mpnnp.kernels.jit import read_only
from mpnnp.kernels.rows import energy_rows, energy_values, force_rows, force_values
from mpnnp.metrics import Errors
from mpnnp.parallel import share
from mpnnp.prediction import Predictor
from mpnnp.streams import ENERGY, FORCE, label_scale

ROUND = 32  # structures per rank between two looks for signals


@dataclass(frozen=True)
class Labels:
    """Targets in training units: energy (n_structure,) E*, force (3 n_atom,) F*; NaN where there is no label."""

    energy: np.ndarray
    force: np.ndarray

    @classmethod
    def of(cls, dataset, structures, potential):
        counts = element_counts(structures, len(potential.elements))
        energy = (np.asarray(dataset.energy) - potential.offset(counts)) / potential.energy_scale
        return cls(energy, np.asarray(dataset.forces).reshape(-1) / potential.force_scale)

    def of_structures(self, start, chosen):
        """(energy labels, force labels): numbers of the labels that exist in the chosen structures, ascending."""
        energies = chosen[~np.isnan(self.energy[chosen])]
        components = (3 * atoms_of(start, chosen)[:, None] + np.arange(3)).ravel()
        return energies.astype(np.int64), components[~np.isnan(self.force[components])]


def element_counts(structures, n_element):
    """Atoms of each element in each structure (n_structure, n_element)."""
    counts = [np.add.reduceat(structures.element == e, structures.start[:-1], dtype=np.float64) for e in range(n_element)]
    return np.stack(counts, axis=1)


class Observer:
    """Turns batches into errors and rows; knows the data, the model without its weights, and which labels are this rank's.

    Label m of M belongs to rank r with r M // p <= m < (r+1) M // p: consecutive, and the same labels on any number of ranks.
    """

    def __init__(self, dataset, structures, G, potential, schedule_config, comm):
        self.dataset, self.structures, self.G = dataset, structures, read_only(G)
        self.predictor = Predictor(potential)
        self.labels = Labels.of(dataset, structures, potential)
        self.config, self.comm = schedule_config, comm
        self.n_weight = potential.network.n_weight
        self.force_factor = potential.energy_scale / potential.force_scale  # from net units to F*
        self.rmse = np.ones(2)  # of energies per atom and forces, training units: the unit of the selection thresholds
        self.rows = {}
        self.seen = None  # labels, rows and errors of this rank's share of the last batch

    def observe(self, batch, w):
        """(rows (m, n), errors (m,), labels (m,)) of this rank's share of the batch: s d y*_hat / dw, s (y* - y*_hat), and of what."""
        n_label = len(batch.candidates)
        mine = share(n_label, self.comm)
        candidates = batch.candidates[mine.start : mine.stop]
        labels = candidates[:, 0] if candidates.shape[1] == 1 else self._select(batch.kind, candidates, w)
        m = len(labels)
        if m not in self.rows:
            self.rows[m] = np.empty((m, self.n_weight))
        rows, values = self.rows[m], np.empty(m)
        scale = label_scale(self.config, batch.kind, n_label)
        if batch.kind == ENERGY:
            energy_rows(labels, self.structures, self.G, self.predictor.model, w, rows, values)
            errors = self.labels.energy[labels] - values
            if scale != 1.0:
                rows *= scale
        else:
            force_rows(self._places(labels), self.structures, self.G, self.predictor.model, w, rows, values)
            errors = self.labels.force[labels] - values * self.force_factor
            rows *= scale * self.force_factor
        errors *= scale
        self.seen = labels, rows, errors
        if self.config.rows == "sum":
            return *self._sum_groups(rows, errors, mine, n_label), labels
        return rows, errors, labels

    def _sum_groups(self, rows, errors, mine, n_label):
        """One observation per group of k streams, sum of rows / sqrt(k) and sum of errors / sqrt(k), on rank 0 (none elsewhere). Collective.

        The noise of a sum of k independent labels has k times the variance: with 1/sqrt(k) the R of one label stays right.
        """
        n_group = min(self.config.groups, n_label)
        group = np.arange(mine.start, mine.stop) * n_group // n_label
        size = np.bincount(np.arange(n_label) * n_group // n_label)
        part = np.zeros((n_group, self.n_weight + 1))
        for k, g in enumerate(group):
            part[g, :-1] += rows[k]
            part[g, -1] += errors[k]
        part /= np.sqrt(size)[:, None]
        total = np.empty_like(part)
        self.comm.Reduce(part, total, root=0)
        if self.comm.rank:
            total = total[:0]
        return np.ascontiguousarray(total[:, :-1]), total[:, -1].copy()

    def _select(self, kind, candidates, w):
        """Of each stream's candidates the first whose error exceeds the threshold, else the worst."""
        relative = np.abs(self.errors(kind, candidates.ravel(), w)).reshape(candidates.shape)
        if kind == ENERGY:
            relative /= np.diff(self.structures.start)[candidates]
        threshold = (self.config.energy_threshold, self.config.force_threshold)[kind]
        above = relative > threshold * self.rmse[kind]
        pick = np.where(above.any(axis=1), above.argmax(axis=1), relative.argmax(axis=1))
        return np.take_along_axis(candidates, pick[:, None], axis=1)[:, 0]

    def errors(self, kind, labels, w):
        """y* - y*_hat (n_label,) of labels of one kind, without their rows."""
        values = np.empty(len(labels))
        if kind == ENERGY:
            energy_values(labels, self.structures, self.G, self.predictor.model, w, values)
            return self.labels.energy[labels] - values
        force_values(self._places(labels), self.structures, self.G, self.predictor.model, w, values)
        return self.labels.force[labels] - values * self.force_factor

    def _places(self, labels):
        """(n_label, 3): structure, atom in it, component."""
        atom, component = np.divmod(labels, 3)
        structure = np.searchsorted(self.structures.start, atom, side="right") - 1
        return np.stack([structure, atom - self.structures.start[structure], component], axis=1)

    def describe(self, kind, label):
        """A label in words, for messages."""
        if kind == ENERGY:
            return f"energy of {self.dataset.name(label)}"
        structure, atom, component = self._places(np.array([label]))[0]
        return f"force {'xyz'[component]} on atom {atom} of {self.dataset.name(structure)}"

    def likely_label(self, kind):
        """In words, the first label of the last batch that is not a finite number, else the one with the largest error. Collective."""
        found = None
        for label, row, error in zip(*self.seen):
            if not (np.isfinite(error) and np.isfinite(row).all()):
                found = (np.inf, f"not finite: {self.describe(kind, label)}; the weights have run away, or two atoms are at the same place")
                break
            if found is None or abs(error) > found[0]:
                found = (abs(error), f"largest error of its labels: {error:.3g} training units, {self.describe(kind, label)}")
        return max((x for x in self.comm.allgather(found) if x is not None), key=lambda x: x[0])[1]

    def first_not_finite(self, chosen, w):
        """The first of the chosen structures whose prediction is not a finite number, in words. Collective."""
        found = len(chosen)
        for k in range(self.comm.rank, len(chosen), self.comm.size):
            s = chosen[k]
            prediction = self.predictor.predict(self.structures, s, w, self.G[self.structures.start[s] : self.structures.start[s + 1]])
            if not (np.isfinite(prediction.energy) and np.isfinite(prediction.forces).all()):
                found = k
                break
        first = min(self.comm.allgather(found))
        return self.dataset.name(chosen[first]) if first < len(chosen) else "an error too large for a number"

    def evaluate(self, chosen, w, forces_of=None, keep=None, pause=None):
        """Accuracy over the chosen structures, shared out over the ranks. Collective.

        forces_of  those of the chosen structures whose forces are compared too, default all: energies need no geometry and cost next to nothing
        keep       function(structure, Prediction) called for the structures of forces_of that are this rank's
        pause      collective function called every ROUND structures of a rank
        """
        forces_of = chosen if forces_of is None else forces_of
        errors, start = Errors(), self.structures.start
        self._add_energies(np.setdiff1d(chosen, forces_of)[self.comm.rank :: self.comm.size], w, errors)
        mine = forces_of[self.comm.rank :: self.comm.size]
        n_turn = -(-len(forces_of) // self.comm.size)  # the same on every rank
        for turn in range(n_turn):
            if pause is not None and turn and turn % ROUND == 0:
                pause()
            if turn >= len(mine):
                continue
            s = mine[turn]
            atoms = slice(start[s], start[s + 1])
            prediction = self.predictor.predict(self.structures, s, w, self.G[atoms])
            errors.add(self.dataset.energy[s], self.dataset.forces[atoms], prediction.energy, prediction.forces)
            if keep is not None:
                keep(s, prediction)
        return errors.accuracy(self.comm)

    def _add_energies(self, chosen, w, errors):
        if len(chosen):
            energies, n_atom = np.asarray(self.dataset.energy)[chosen], np.diff(self.structures.start)[chosen]
            errors.add_energies(energies, energies - self.errors(ENERGY, chosen, w) * self.predictor.potential.energy_scale, n_atom)

    def all_errors(self, labels, w, pause=None):
        """|error| of all energy and force labels, per atom for energies, on every rank: the order of sorted selection. Collective.

        pause  as in evaluate
        """
        result, n_round = [], 1 + len(self.dataset) // (ROUND * self.comm.size)
        for kind in (ENERGY, FORCE):
            mine = share(len(labels[kind]), self.comm)
            parts = []
            for some in np.array_split(labels[kind][mine.start : mine.stop], n_round):
                parts.append(np.abs(self._all_errors(kind, some, w)))
                if pause is not None:
                    pause()
            result.append(np.concatenate(self.comm.allgather(np.concatenate(parts))))
        return result

    def _all_errors(self, kind, labels, w):
        if kind == ENERGY:
            return self.errors(kind, labels, w) / np.diff(self.structures.start)[labels]
        errors, start = np.empty(len(labels)), self.structures.start
        structure = np.searchsorted(start, labels // 3, side="right") - 1
        for s in np.unique(structure):
            forces = self.predictor.predict(self.structures, s, w, self.G[start[s] : start[s + 1]]).forces.ravel()
            of_s = structure == s
            errors[of_s] = (self.labels.force[labels[of_s]] * self.predictor.potential.force_scale - forces[labels[of_s] - 3 * start[s]])
        return errors
