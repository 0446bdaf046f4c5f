"""Observations: errors and rows of the Jacobian of this rank's labels of an update, in training units."""

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from mpnnp.data.dataset import atoms_of
from mpnnp.data.packed import element_counts
from mpnnp.errors import ConfigError
from mpnnp.kernels.jacobian import (
    energy_rows,
    energy_values,
    force_rows,
    force_values,
    stress_rows,
    stress_values,
)
from mpnnp.kernels.jit import read_only
from mpnnp.model.metrics import Errors
from mpnnp.model.prediction import Predictor
from mpnnp.parallel import share
from mpnnp.training.schedules import ENERGY, FORCE, KIND_NAMES, STRESS, label_scale

ROUND = 32  # structures per rank between two looks for signals


@dataclass(frozen=True)
class Labels:
    """Targets in training units: energy (n_structure,) E*, force (3 n_atom,) F*, stress (6 n_structure,) S*; NaN where there is no label.

    roots  square roots of the labels' weights, of each kind: (n_structure,), (n_atom,), (n_structure,), or None if all are 1. A label of weight
           n counts as n labels: its error and row are multiplied by sqrt(n). One of weight 0 is none.
    """

    energy: np.ndarray
    force: np.ndarray
    stress: np.ndarray
    roots: tuple = (None, None, None)

    @classmethod
    def of(cls, dataset, structures, potential, stress_scale=1.0, element_weights=()):
        """element_weights (n_element,): of the forces on atoms of each element; default 1."""
        counts = element_counts(structures, len(potential.elements))
        energy = (np.asarray(dataset.energy) - potential.offset(counts)) / potential.energy_scale
        force = np.asarray(dataset.forces).reshape(-1) / potential.force_scale
        stress = (
            np.where(np.all(structures.pbc, axis=1)[:, None], dataset.stress, np.nan).reshape(-1)
            / stress_scale
        )
        weight = np.asarray(dataset.weight)
        of_atoms = np.repeat(weight[:, 1], np.diff(structures.start))
        if len(element_weights):
            of_atoms = of_atoms * np.asarray(element_weights)[structures.element]
        weights = (weight[:, 0], of_atoms, weight[:, 2])
        targets = [
            np.where(np.repeat(w, len(y) // len(w)) == 0.0, np.nan, y) if (w == 0.0).any() else y
            for y, w in zip((energy, force, stress), weights)
        ]
        return cls(*targets, tuple(None if (w == 1.0).all() else np.sqrt(w) for w in weights))

    def of_structures(self, start, chosen):
        """(energy labels, force labels, stress labels): numbers of the labels that exist in the chosen structures, ascending."""
        energies = chosen[~np.isnan(self.energy[chosen])]
        components = (3 * atoms_of(start, chosen)[:, None] + np.arange(3)).ravel()
        stresses = (6 * np.asarray(chosen, np.int64)[:, None] + np.arange(6)).ravel()
        return (
            energies.astype(np.int64),
            components[~np.isnan(self.force[components])],
            stresses[~np.isnan(self.stress[stresses])],
        )


def spread_of_stress(dataset, chosen):
    """Standard deviation of the stress labels of the chosen structures, eV/Angstrom^3; 1 if there are none or they do not vary."""
    stress = np.asarray(dataset.stress)[chosen]
    stress = stress[~np.isnan(stress)]
    spread = float(stress.std()) if len(stress) else 0.0
    return spread if spread > 0.0 else 1.0


class Observer:
    """Turns batches into errors and rows; knows the data, the model without its weights, and which labels are this rank's.

    Label m of M belongs to rank r with r M // p <= m < (r+1) M // p: consecutive, and the same labels on any number of ranks.
    """

    def __init__(self, dataset, structures, G, potential, schedule_config, comm, stress_scale=1.0):
        self.dataset, self.structures, self.G = dataset, structures, read_only(G)
        self.predictor = Predictor(potential)
        self.labels = Labels.of(
            dataset,
            structures,
            potential,
            stress_scale,
            _element_weights(schedule_config, potential.elements),
        )
        self.config, self.comm = schedule_config, comm
        self.n_weight = potential.network.n_weight
        self.force_factor = potential.energy_scale / potential.force_scale  # from net units to F*
        self.stress_factor = potential.energy_scale / stress_scale  # to S*
        self.rmse = np.ones(
            3
        )  # of energies per atom, forces, stresses, training units: the unit of the selection thresholds
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
        factor, target, rows_of, _ = self._kind(batch.kind)
        rows_of(
            self._as_kernels_take(batch.kind, labels),
            self.structures,
            self.G,
            self.predictor.model,
            w,
            rows,
            values,
        )
        scale = label_scale(self.config, batch.kind, n_label)
        errors = (target[labels] - values * factor) * scale
        if scale * factor != 1.0:
            rows *= scale * factor
        if (roots := self.labels.roots[batch.kind]) is not None:
            roots = roots[labels // (1, 3, 6)[batch.kind]]
            rows *= roots[:, None]
            errors *= roots
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
        threshold = getattr(self.config, f"{KIND_NAMES[kind]}_threshold")
        above = relative > threshold * self.rmse[kind]
        pick = np.where(above.any(axis=1), above.argmax(axis=1), relative.argmax(axis=1))
        return np.take_along_axis(candidates, pick[:, None], axis=1)[:, 0]

    def errors(self, kind, labels, w):
        """y* - y*_hat (n_label,) of labels of one kind, without their rows."""
        values = np.empty(len(labels))
        factor, target, _, values_of = self._kind(kind)
        values_of(
            self._as_kernels_take(kind, labels), self.structures, self.G, self.predictor.model, w, values
        )
        return target[labels] - values * factor

    def _kind(self, kind):
        """(factor from net units to training units, targets, kernel of rows, kernel of values) of a kind of label."""
        return (
            (1.0, self.labels.energy, energy_rows, energy_values),
            (self.force_factor, self.labels.force, force_rows, force_values),
            (self.stress_factor, self.labels.stress, stress_rows, stress_values),
        )[kind]

    def _as_kernels_take(self, kind, labels):
        """Energies (n_label,) structure; forces (n_label, 3) structure, atom in it, component; stresses (n_label, 2) structure, component."""
        if kind == ENERGY:
            return labels
        return self._places(labels) if kind == FORCE else np.stack(np.divmod(labels, 6), axis=1)

    def _places(self, labels):
        """(n_label, 3) of force labels: structure, atom in it, component."""
        atom, component = np.divmod(labels, 3)
        structure = np.searchsorted(self.structures.start, atom, side="right") - 1
        return np.stack([structure, atom - self.structures.start[structure], component], axis=1)

    def describe(self, kind, label):
        """A label in words, for messages."""
        if kind == ENERGY:
            return f"energy of {self.dataset.name(label)}"
        if kind == STRESS:
            return (
                f"stress {('xx', 'yy', 'zz', 'yz', 'xz', 'xy')[label % 6]} of {self.dataset.name(label // 6)}"
            )
        structure, atom, component = self._places(np.array([label]))[0]
        return f"force {'xyz'[component]} on atom {atom} of {self.dataset.name(structure)}"

    def likely_label(self, kind):
        """In words, the first label of the last batch that is not a finite number, else the one with the largest error. Collective."""
        found = None
        for label, row, error in zip(*self.seen):
            if not (np.isfinite(error) and np.isfinite(row).all()):
                found = (
                    np.inf,
                    f"not finite: {self.describe(kind, label)}; the weights have run away, or two atoms are at the same place",
                )
                break
            if found is None or abs(error) > found[0]:
                found = (
                    abs(error),
                    f"largest error of its labels: {error:.3g} training units, {self.describe(kind, label)}",
                )
        return max((x for x in self.comm.allgather(found) if x is not None), key=lambda x: x[0])[1]

    def first_not_finite(self, chosen, w):
        """The first of the chosen structures whose prediction is not a finite number, in words. Collective."""
        found = len(chosen)
        for k in range(self.comm.rank, len(chosen), self.comm.size):
            s = chosen[k]
            prediction = self.predictor.predict(
                self.structures, s, w, self.G[self.structures.start[s] : self.structures.start[s + 1]]
            )
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
        mine, errors = slice(self.comm.rank, None, self.comm.size), Errors()
        self._add_energies(np.setdiff1d(chosen, forces_of)[mine], w, errors)
        own, n_turn = forces_of[mine], -(-len(forces_of) // self.comm.size)  # as many turns on every rank
        for turn in range(n_turn):
            if pause is not None and turn % ROUND == 0:
                pause()
            if turn >= len(own):
                continue
            s = own[turn]
            atoms = slice(self.structures.start[s], self.structures.start[s + 1])
            prediction = self.predictor.predict(self.structures, s, w, self.G[atoms])
            stress = (
                prediction.stress(self.structures.cell[s])
                if self.structures.pbc[s].all()
                else np.full(6, np.nan)
            )
            labelled = self.dataset.stress[s] if self.structures.pbc[s].all() else stress
            errors.add(
                self.dataset.energy[s],
                self.dataset.forces[atoms],
                prediction.energy,
                prediction.forces,
                labelled,
                stress,
            )
            if keep is not None:
                keep(s, prediction)
        return errors.accuracy(self.comm)

    def _add_energies(self, chosen, w, errors):
        if len(chosen):
            energies, n_atom = np.asarray(self.dataset.energy)[chosen], np.diff(self.structures.start)[chosen]
            errors.add_energies(
                energies,
                energies - self.errors(ENERGY, chosen, w) * self.predictor.potential.energy_scale,
                n_atom,
            )

    def all_errors(self, labels, w, pause=None):
        """|error| of all labels of each kind, per atom for energies, on every rank: the order of sorted selection. Collective.

        pause  as in evaluate
        """
        result, n_round = [], 1 + len(self.dataset) // (ROUND * self.comm.size)
        for kind in (ENERGY, FORCE, STRESS):
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
        if kind == STRESS:
            return self.errors(kind, labels, w)
        errors, start = np.empty(len(labels)), self.structures.start
        structure = np.searchsorted(start, labels // 3, side="right") - 1
        for s in np.unique(structure):
            forces = self.predictor.predict(
                self.structures, s, w, self.G[start[s] : start[s + 1]]
            ).forces.ravel()
            of_s = structure == s
            errors[of_s] = (
                self.labels.force[labels[of_s]] * self.predictor.potential.force_scale
                - forces[labels[of_s] - 3 * start[s]]
            )
        return errors


def _element_weights(config, elements):
    """Weights of the forces on each element's atoms; () if all are 1. Raises ConfigError for an element that is not in the data."""
    given = getattr(config, "element_force_weights", {})
    symbols = [chemical_symbols[z] for z in elements]
    if stranger := next((name for name in given if name not in symbols), None):
        raise ConfigError(
            f"schedule.element_force_weights.{stranger}: this element is not in the data ({' '.join(symbols)})"
        )
    return tuple(given.get(symbol, 1.0) for symbol in symbols) if given else ()
