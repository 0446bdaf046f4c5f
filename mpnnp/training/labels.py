"""Labels as a run sees them: targets in training units, their weights, and the scale of errors and rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from mpnnp.config import Schedule
from mpnnp.data.dataset import Dataset
from mpnnp.errors import ConfigError
from mpnnp.kernels.packs import Structures
from mpnnp.model.label_kinds import KINDS, kind_at
from mpnnp.model.potential import Potential

DEFAULTS = Schedule()


@dataclass(frozen=True)
class Labels:
    """Targets of each kind of KINDS, in training units; NaN where there is no label.

    targets  (n_site n_component,) of each kind: y* = (y - what the net does not predict) / unit
    units    unit of training of each kind: eV, eV/Angstrom, ...
    roots    square roots (n_site,) of the labels' weights of each kind, or None if all are 1. A label of
             weight n counts as n labels: its error and row are multiplied by sqrt(n). One of weight 0 is
             none.
    """

    kinds: tuple
    targets: tuple
    units: tuple
    roots: tuple

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        structures: Structures,
        potential: Potential,
        config: Schedule = DEFAULTS,
        train: Sequence[int] | np.ndarray = (),
    ) -> "Labels":
        """Labels of a data set.

        config  section [schedule]: weights of the labels on atoms of each element
        train   structures whose labels give the unit of the kinds that the potential has none for
        """
        kinds, targets, units, roots = tuple(KINDS.values()), [], [], []
        for kind in kinds:
            y = kind.labels_of(dataset)
            if kind.per == "cell":
                y = np.where(np.all(structures.pbc, axis=1)[:, None], y, np.nan)
            unit = kind.unit_of_training(potential, y[kind.sites(structures.start, train)].ravel())
            if kind.offset is not None:
                y = y - np.reshape(kind.offset(structures, potential), (-1, 1))
            weight = _weights(kind, dataset, structures, potential.elements, config)
            y = y.reshape(-1) / unit
            if (weight == 0.0).any():
                y = np.where(np.repeat(weight == 0.0, kind.n_component), np.nan, y)
            targets.append(y)
            units.append(unit)
            roots.append(None if (weight == 1.0).all() else np.sqrt(weight))
        return cls(kinds, tuple(targets), tuple(units), tuple(roots))

    def of_structures(self, start: np.ndarray, chosen: Sequence[int] | np.ndarray) -> tuple[np.ndarray, ...]:
        """For each kind the numbers of the labels that exist in the chosen structures,
        one structure after the other; int64.
        """
        numbers = [kind.numbers(start, chosen) for kind in self.kinds]
        return tuple(n[~np.isnan(y[n])].astype(np.int64) for n, y in zip(numbers, self.targets))


def labels_per_update(config: Schedule, kind: int) -> int:
    """Labels of a kind (its position in KINDS) that an update takes."""
    return config.of_kind(kind_at(kind).name, "streams" if config.name == "runner" else "per_update")


def label_scale(config: Schedule, kind: str, n_label: int) -> float:
    """Factor s of errors and rows of a kind (its name): its weight (runner), or sqrt(weight / n)
    for n labels in the batch (sdnz).
    """
    weight = config.of_kind(kind, "weight")
    return weight if config.name == "runner" else float(np.sqrt(weight / n_label))


def _weights(kind, dataset, structures, elements, config):
    """(n_site,) of a kind: the structures', times those of the elements of the atoms."""
    weight = np.asarray(kind.weights(dataset))
    if kind.per != "atom":
        return weight
    weight = np.repeat(weight, np.diff(structures.start))
    of_elements = _element_weights(config, kind.name, elements)
    return weight * np.asarray(of_elements)[structures.element] if of_elements else weight


def _element_weights(config, kind, elements):
    """Weights of the labels on each element's atoms; () if all are 1.

    Raises ConfigError for an element that is not in the data.
    """
    given = config.of_kind(kind, "element_weights")
    symbols = [chemical_symbols[z] for z in elements]
    if stranger := next((name for name in given if name not in symbols), None):
        raise ConfigError(
            f"schedule.element_{kind}_weights.{stranger}: "
            f"this element is not in the data ({' '.join(symbols)})"
        )
    return tuple(given.get(symbol, 1.0) for symbol in symbols) if given else ()
