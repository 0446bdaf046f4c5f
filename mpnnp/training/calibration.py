"""Standard deviations of predictions from the posterior of the weights, calibrated on labels.

The error of a label is what the weights leave open, h P h^T, and what no weights could say, R. P and R are
the filter's opinion, right as far as its assumptions are; so that standard deviations can be believed,

    sigma^2 = a h P h^T + b n^2,    n = N for energies of N atoms, 1 for components of forces,

with a, b >= 0 of each kind of label by the largest likelihood of errors e ~ N(0, sigma^2) of labels that were
not learned; then both are multiplied by the one factor with which 68.27 % of these errors are within sigma:
errors have longer tails than Gauss's, and the share of labels within sigma is what sigma is read as (split
conformal prediction: Vovk, Gammerman, Shafer 2005). Fewer than FEW labels decide about one number: b = 0, and
a makes the RMS of e/sigma one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpnnp.data.dataset import Dataset
from mpnnp.errors import DataError
from mpnnp.kernels.packs import Structures
from mpnnp.model.label_kinds import KINDS, MILLI
from mpnnp.model.potential import Potential, Predictor
from mpnnp.model.prediction import NO_PREDICTION, refuse_not_finite
from mpnnp.model.spread import Spread, structure_with_spread
from mpnnp.parallel import Comm
from mpnnp.progress import counted

N_MEMBER, SEED = 5, 0  # draws of the weights: five cost less than three times the time without them
ONE_SIGMA = 0.6827
FEW = 30
CALIBRATED = ("energy", "force")  # kinds of labels with a spread


class Sigma(NamedTuple):
    """sigma^2 = inflation h P h^T + noise n^2; noise in eV^2 per atom^2, or (eV/Angstrom)^2."""

    inflation: float = 1.0
    noise: float = 0.0

    def of(self, spread: np.ndarray | float, n: np.ndarray | float = 1.0) -> np.ndarray:
        """Standard deviations of predictions with sqrt(h P h^T) = spread."""
        return np.sqrt(self.inflation * np.square(spread) + self.noise * np.square(n))


@dataclass(frozen=True)
class Calibration:
    """Sigma of each kind of label, and the number of structures that it comes from; 0: not calibrated."""

    energy: Sigma = Sigma()
    force: Sigma = Sigma()
    n_structure: int = 0

    def calibrated(self, spread: Spread) -> Spread:
        """Standard deviations of the energy and the force components of one structure."""
        energy = self.energy.of(spread.energy, len(spread.forces))
        return Spread(float(energy), self.force.of(spread.forces))

    def numbers(self) -> dict[str, float]:
        """As a checkpoint stores them."""
        found: dict[str, float] = {"calibration_structures": self.n_structure}
        for kind in CALIBRATED:
            found |= {f"{kind}_calibration_{k}": v for k, v in getattr(self, kind)._asdict().items()}
        return found

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, float]) -> "Calibration":
        """From what a checkpoint holds; not calibrated if it holds none."""
        if not numbers.get("calibration_structures"):
            return cls()
        sigma = {
            kind: Sigma(*(float(numbers[f"{kind}_calibration_{k}"]) for k in Sigma._fields))
            for kind in CALIBRATED
        }
        return cls(**sigma, n_structure=int(numbers["calibration_structures"]))

    def in_words(self, found: "Found") -> list[str]:
        """Lines for the log: how large standard deviations are, and what share of the labels they cover."""
        lines = []
        for name in CALIBRATED:
            kind, labels, (a, b) = KINDS[name], getattr(found, name), getattr(self, name)
            errors, sigma = labels.errors, labels.sigma(getattr(self, name))
            if len(errors):
                lines.append(
                    f"standard deviation of {kind.words}: mean {MILLI * sigma.mean():.3g} {kind.error_unit}"
                    f" = sqrt({a:.3g} h P h^T + ({MILLI * np.sqrt(b):.3g})^2); "
                    f"{100 * np.mean(np.abs(errors) <= sigma):.0f} % of {counted(len(errors), 'label')} "
                    "within it"
                )
        return lines


class Errors(NamedTuple):
    """Errors and sqrt(h P h^T) of labels of one kind (n,): eV/atom, or eV/Angstrom."""

    errors: np.ndarray
    spread: np.ndarray

    def sigma(self, sigma: Sigma) -> np.ndarray:
        """Standard deviations of these labels, per atom for energies."""
        return sigma.of(self.spread)


class Found(NamedTuple):
    """Errors of each kind of label."""

    energy: Errors
    force: Errors


def errors_and_spread(
    potential: Potential,
    deviations: np.ndarray,
    dataset: Dataset,
    structures: Structures,
    chosen: np.ndarray,
    comm: Comm,
) -> Found:
    """Found of the labels of the chosen structures, on every rank. Collective. Raises DataError that names a
    structure whose prediction is not finite.
    """
    predictor, mine, wrong = Predictor(potential), [], []
    for s in chosen[comm.rank :: comm.size]:
        prediction, spread = structure_with_spread(predictor, deviations, structures, s)
        if not prediction.is_finite():
            wrong.append(s)
            continue
        n, atoms = len(spread.forces), slice(structures.start[s], structures.start[s + 1])
        forces = (np.asarray(dataset.forces[atoms]) - prediction.forces).ravel()
        there = np.isfinite(forces)
        energy = (float(dataset.energy[s]) - prediction.energy) / n
        mine.append((energy, spread.energy / n, forces[there], spread.forces.ravel()[there]))
    refuse_not_finite(wrong, dataset, comm, NO_PREDICTION)
    parts = [part for rank in comm.allgather(mine) for part in rank]
    if not parts:
        return Found(Errors(np.empty(0), np.empty(0)), Errors(np.empty(0), np.empty(0)))
    energies = np.array([part[:2] for part in parts])
    known = np.isfinite(energies[:, 0])
    return Found(
        Errors(*energies[known].T),
        Errors(*(np.concatenate([part[k] for part in parts]) for k in (2, 3))),
    )


def calibrate(found: Found, n_structure: int) -> Calibration:
    """Calibration by labels that were not learned. Raises DataError if there are none."""
    if not len(found.energy.errors) and not len(found.force.errors):
        raise DataError("calibrate: no energies and no forces to calibrate with")
    return Calibration(_fit(found.energy), _fit(found.force), n_structure)


def _fit(labels: Errors) -> Sigma:
    """Sigma of one kind of label; as it is without labels, and where all errors are 0. Where P leaves nothing
    open, as in forces that symmetry makes 0, sigma is that of the errors alone.
    """
    from scipy.optimize import minimize  # only runs that calibrate need to wait for it

    errors, spread = labels
    if not np.any(errors):
        return Sigma()
    square, variance = errors**2, spread**2
    if not np.any(variance):
        return Sigma(1.0, float(np.quantile(square, ONE_SIGMA)))
    if len(errors) < FEW:
        known = variance > 0.0
        return Sigma(float(np.mean(square[known] / variance[known])), 0.0)
    level, width = np.mean(square), np.mean(variance)

    def loss(x):
        s = np.exp(x[0]) * variance / width + np.exp(x[1])
        return np.mean(np.log(s) + square / level / s)

    best = minimize(loss, np.log([0.5, 0.5]), method="L-BFGS-B", bounds=[(-20.0, 20.0)] * 2)
    sigma = Sigma(float(np.exp(best.x[0]) * level / width), float(np.exp(best.x[1]) * level))
    factor = np.quantile(np.abs(errors) / sigma.of(spread), ONE_SIGMA) ** 2
    return Sigma(float(sigma.inflation * factor), float(sigma.noise * factor))
