"""The range of densities and energies that structures lie in: what a potential was trained on,
and what a simulation with it must not leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import atomic_masses

from mpnnp.data.dataset import Dataset
from mpnnp.units import DENSITY

ROUNDING = 1e-6  # relative, of densities


def densities(dataset: Dataset) -> np.ndarray:
    """(n_structure,) g/cm^3; NaN for structures that are not periodic in all directions."""
    found = np.full(len(dataset), np.nan)
    periodic = np.asarray(dataset.pbc).all(axis=1)
    if periodic.any():
        mass = np.add.reduceat(atomic_masses[dataset.numbers], dataset.start[:-1])[periodic]
        found[periodic] = DENSITY * mass / np.abs(np.linalg.det(dataset.cell[periodic]))
    return found


@dataclass(frozen=True, kw_only=True)
class TrainingRange:
    """Smallest and largest values of the structures that a potential was trained on; NaN where not known.

    density_low, density_high  g/cm^3, of periodic structures
    energy_low, energy_high    eV/atom, if all structures have the same composition: an energy above says
                               that a simulation is hotter than the data, which know no temperature
    """

    density_low: float = np.nan
    density_high: float = np.nan
    energy_low: float = np.nan
    energy_high: float = np.nan

    def lacks(self, density: float) -> bool:
        """Whether a density, g/cm^3, is none that was learned; digits that were rounded do not count."""
        return density < self.density_low * (1 - ROUNDING) or density > self.density_high * (1 + ROUNDING)

    @classmethod
    def of(cls, dataset: Dataset, chosen: Sequence[int] | np.ndarray | None = None) -> TrainingRange:
        """Of the chosen structures of a data set, default all."""
        part = slice(None) if chosen is None else chosen
        density, energy = densities(dataset)[part], (np.asarray(dataset.energy) / dataset.n_atom)[part]
        found = {}
        if np.isfinite(density).any():
            found |= {"density_low": float(np.nanmin(density)), "density_high": float(np.nanmax(density))}
        if np.isfinite(energy).any() and _same_composition(dataset, part):
            found |= {"energy_low": float(np.nanmin(energy)), "energy_high": float(np.nanmax(energy))}
        return cls(**found)

    def united(self, other: TrainingRange) -> TrainingRange:
        """The range that holds both. Densities: structures that are not periodic have none; energies are
        known if both are, else there is more than one composition, or none was labelled.
        """
        return TrainingRange(
            density_low=float(np.fmin(self.density_low, other.density_low)),
            density_high=float(np.fmax(self.density_high, other.density_high)),
            energy_low=float(np.minimum(self.energy_low, other.energy_low)),
            energy_high=float(np.maximum(self.energy_high, other.energy_high)),
        )

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, Any]) -> TrainingRange:
        """From `numbers()` among other things; what is missing is not known."""
        return cls(**{name: float(numbers[name]) for name in asdict(cls()) if name in numbers})

    def numbers(self) -> dict[str, float]:
        """Name -> number of what is known, for checkpoints and JSON."""
        return {name: value for name, value in asdict(self).items() if np.isfinite(value)}


def _same_composition(dataset, part):
    """Whether all structures of the part have the same share of each element."""
    numbers, start = np.asarray(dataset.numbers), dataset.start[:-1]
    counts = (np.add.reduceat(numbers == z, start, dtype=float) for z in dataset.elements)
    return all(np.ptp((count / dataset.n_atom)[part]) < 1e-9 for count in counts)
