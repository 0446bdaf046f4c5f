"""Noise levels of each kind of label: how large the errors are that the net cannot avoid: what R means.

The filter is Bayes' rule for y = h(w) + v with v of variance R, so R is the square of what is left of an
error when training is done. The level of a kind is today's error by the better of two estimates:
    in the first epoch a running RMS of the innovations, y - h(w) of labels before they are learned for the
    first time, which follows the fast fall at the start;
    then the RMSE over the validation structures at the last evaluation, smoothed: innovations of labels
    seen before do not tell overfitting. Without validation labels of the kind, innovations go on.
Errors and rows of a label are divided by its level, so that R = 1 for all of them. The level of the energy
of N atoms is N times the level per atom, but not more than what the forces already say about it: forces with
independent errors sigma_F give the energy of displacements d of all atoms to sqrt(N) d sigma_F, with d = 0.3
Angstrom, a large thermal displacement. Without this bound few validation structures with bad energies make
bad energies: what is not believed is not learned. Energies of one simulation have errors in common, which the
filter learns as offsets (see offsets), or counts as fewer labels (see common_errors). Both estimates count
labels and are sums over ranks: levels are the same on every rank, and with any number of ranks to rounding.
Filters that find their noise in their innovations: Mohamed and Schwarz, J. Geodesy 73, 193 (1999).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mpnnp.model.label_kinds import ENERGY, FORCE, KINDS, MILLI
from mpnnp.parallel import Comm
from mpnnp.training.common_errors import design_effect

MEMORY = 100.0  # labels that the running RMS of the innovations remembers ...
MAXIMUM_SHARE = 0.5  # ... of which one update replaces at most this share

DISPLACEMENT = 0.3  # Angstrom, over which forces tell the differences of energies
LEAST_OWN = 0.25  # share of the variance of an energy that is its own, whatever its simulation's offset takes


@dataclass
class NoiseLevels:
    """Estimates of each kind in training units, per atom where errors are told so; part of a checkpoint.

    validation  (n_kind,) smoothed RMSE of the last evaluations; NaN before the first, and without labels
    innovation  (n_kind,) running RMS; NaN before the first update of a kind
    passes      evaluations after updates
    correlation of the errors of energies of one simulation, at the last evaluation; 0 where there are offsets
    offsets     (n_offset,) of the energies of each simulation, per atom, where the filter carries them
    offset_variance  of these before any label
    """

    validation: np.ndarray = field(default_factory=lambda: np.full(len(KINDS), np.nan))
    innovation: np.ndarray = field(default_factory=lambda: np.full(len(KINDS), np.nan))
    passes: int = 0
    correlation: float = 0.0
    offsets: np.ndarray = field(default_factory=lambda: np.zeros(0))
    offset_variance: float = 1.0

    def level(self, kind: int) -> float:
        """Level of kind number `kind`; 1, the spread of the labels, where there is no estimate."""
        first, later = self.innovation[kind], self.validation[kind]
        if self.passes > 0 and np.isfinite(later) and later > 0.0:
            return later
        return first if np.isfinite(first) and first > 0.0 else 1.0

    def of_energies(
        self, kind: int, n_atom: np.ndarray, group_size: np.ndarray, units: Sequence[float]
    ) -> np.ndarray:
        """Levels (m,) of labels of a kind that is told per atom, of structures of n_atom (m,) atoms.

        group_size  (m,) structures of the simulation that each is from, itself included
        units       (n_kind,) of training: eV, eV/Angstrom, ...
        """
        level = self.level(kind)
        own = n_atom * level
        if len(self.offsets) and self.passes and np.isfinite(self.validation[kind]):
            # errors of validation hold offsets, which are learned apart; innovations do not
            rest = max(1.0 - self.offset_variance / level**2, LEAST_OWN)
            own = np.where(group_size > 1, own * np.sqrt(rest), own)
        if np.isfinite(self.innovation[FORCE]):  # forces have been learned
            force = self.level(FORCE) * units[FORCE] / units[kind]
            own = np.minimum(own, np.sqrt(n_atom) * DISPLACEMENT * force)
        return own * np.sqrt(design_effect(self.correlation, group_size))

    def observe(self, kind: int, errors: np.ndarray, comm: Comm) -> None:
        """Take notice of this rank's errors (m,) of labels that are about to be learned. Collective."""
        total = np.array([len(errors), float(errors @ errors)])
        if comm.size > 1:
            comm.Allreduce(total.copy(), total)
        count, square = (float(x) for x in total)
        if not (count and np.isfinite(square)):
            return
        share, before = min(MAXIMUM_SHARE, count / MEMORY), self.innovation[kind]
        mean = square / count
        self.innovation[kind] = np.sqrt(
            mean if np.isnan(before) else (1.0 - share) * before**2 + share * mean
        )

    def evaluated(self, rmse: np.ndarray, correlation: float = 0.0) -> None:
        """Take notice of the RMSE (n_kind,) of the validation structures, NaN without labels: a larger one
        than before counts half; and of the correlation of the errors of energies, once some were learned.
        """
        self.passes += bool(np.isfinite(self.innovation).any())
        if np.isfinite(self.innovation[ENERGY]):
            self.correlation = correlation
        for kind, found in enumerate(rmse):
            before = self.validation[kind]
            if np.isfinite(found):
                grown = np.isfinite(before) and found > before
                self.validation[kind] = np.sqrt(before * found) if grown else found

    def in_words(self, units: Sequence[float] | np.ndarray) -> str:
        """Levels of the kinds that are known, for the log. units (n_kind,): of training."""
        told = [
            f"{kind.name} {self.level(k) * units[k] * MILLI:.3g} {kind.short_unit}"
            for k, kind in enumerate(KINDS.values())
            if np.isfinite(self.innovation[k])
        ]
        if told and len(self.offsets) and self.passes:
            spread = np.sqrt(self.offset_variance) * units[ENERGY] * MILLI
            told.append(f"offsets of simulations {spread:.2g} meV/atom")
        return f"noise: {', '.join(told)}" if told else ""
