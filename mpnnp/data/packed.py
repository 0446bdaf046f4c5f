"""A data set as the kernels take it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from mpnnp.errors import DataError
from mpnnp.kernels.packs import Structures, make_structures

if TYPE_CHECKING:
    from mpnnp.data.dataset import Dataset


def make_atoms(dataset: Dataset, elements: Sequence[int]) -> Structures:
    """Structures of a data set as the kernels take them.

    Raises DataError naming the first structure with another element.
    """
    number = np.asarray(dataset.numbers)
    element = np.searchsorted(elements, number)
    known = np.array(elements)[np.minimum(element, len(elements) - 1)] == number
    if not known.all():
        atom = int(np.argmin(known))
        structure = int(np.searchsorted(dataset.start, atom, side="right")) - 1
        raise DataError(
            f"{dataset.name(structure)}: the potential has no functions and net for "
            f"{chemical_symbols[number[atom]]}; "
            f"it knows {' '.join(chemical_symbols[z] for z in elements)}"
        )
    return make_structures(dataset.start, element, dataset.positions, dataset.cell, dataset.pbc)


def element_counts(structures: Structures, n_element: int) -> np.ndarray:
    """Atoms of each element in each structure (n_structure, n_element)."""
    counts = [
        np.add.reduceat(structures.element == e, structures.start[:-1], dtype=np.float64)
        for e in range(n_element)
    ]
    return np.stack(counts, axis=1)
