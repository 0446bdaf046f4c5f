"""The kinds of labels that potentials learn from and are judged by: one table, KINDS,
and whatever concerns labels loops over it.

A label is a number: n_component times its site plus its component. Sites are structures, or atoms counted
over the data set. A kind of one's own is one more entry of KINDS, made before the run; its settings stand in
`[schedule.labels.NAME]`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mpnnp.data.dataset import Dataset, atoms_of
from mpnnp.data.packed import element_counts
from mpnnp.data.voigt import VOIGT
from mpnnp.kernels.jacobian import (
    energy_rows,
    energy_values,
    force_rows,
    force_values,
    stress_rows,
    stress_values,
)
from mpnnp.kernels.packs import Structures
from mpnnp.model.potential import Potential

MILLI = 1000.0  # eV to meV


@dataclass(frozen=True, kw_only=True)
class LabelKind:
    """One kind of label.

    name         in the singular: settings (energy_weight), columns of the learning curve (energy_rmse_train)
                 begin with it
    words        what a message calls a number of them
    per          "structure", "atom", or "cell": a structure that is periodic in all directions, others have
                 no such label
    components   names of the components, () for a scalar
    unit         of a label; its accuracies are in the thousandth, and with per_atom for one atom: error_unit,
                 short_unit
    per_atom     errors are divided by the number of atoms where they are told, compared with thresholds and
                 sorted
    column       its array in a data set (n_site, ...) and in files of predictions; "" if `label` computes it
    label        (dataset) -> (n_site, ...) in `unit`, NaN where there is none
    predicted    (Prediction, Structures, s) -> the same of structure s
    rows, values kernels as in kernels.jacobian
    offset       (structures, potential) -> (n_site,) the part that the net does not predict; None for none
    scale        (potential, labels (n,) of the training structures) -> unit of training, in `unit`
    weight       (dataset) -> (n_structure,): as how many labels one counts
    always       told and judged even where it is not learned
    number       format of an accuracy in a line of the log
    """

    name: str
    words: str
    per: Literal["structure", "atom", "cell"]
    components: tuple[str, ...] = ()
    unit: str
    error_unit: str
    short_unit: str
    per_atom: bool = False
    column: str = ""
    label: Callable | None = None
    predicted: Callable
    rows: Callable
    values: Callable
    offset: Callable | None = None
    scale: Callable | None = None
    weight: Callable | None = None
    always: bool = False
    number: str = "9.3f"

    @property
    def n_component(self) -> int:
        return max(1, len(self.components))

    def labels_of(self, dataset: Dataset) -> np.ndarray:
        """Labels of a data set (n_site, n_component) in `unit`, NaN where there is none."""
        found = getattr(dataset, self.column) if self.label is None else self.label(dataset)
        return np.asarray(found).reshape(-1, self.n_component)

    def sites(self, start: np.ndarray, chosen: Sequence[int] | np.ndarray) -> np.ndarray:
        """Sites of the chosen structures (offsets `start` of their atoms), one structure after the other."""
        return atoms_of(start, chosen) if self.per == "atom" else np.asarray(chosen, np.int64)

    def numbers(self, start: np.ndarray, chosen: Sequence[int] | np.ndarray) -> np.ndarray:
        """Numbers of all labels that the chosen structures may have, ascending within each."""
        sites = self.sites(start, chosen)
        return (self.n_component * sites[:, None] + np.arange(self.n_component)).ravel()

    def exists(self, structures: Structures, s: int) -> bool:
        """Whether structure s can have such labels."""
        return self.per != "cell" or bool(structures.pbc[s].all())

    def of_structure(self, structures: Structures, s: int) -> slice:
        """Slice of the sites of structure s."""
        return slice(structures.start[s], structures.start[s + 1]) if self.per == "atom" else slice(s, s + 1)

    def structure_of(self, start: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Structure (n_label,) of each label."""
        site = labels // self.n_component
        return np.searchsorted(start, site, side="right") - 1 if self.per == "atom" else site

    def places(self, structures: Structures, labels: np.ndarray) -> np.ndarray:
        """Labels as the kernels take them: structure, for atoms the atom in it,
        and the component unless there is only one.
        """
        site, component = np.divmod(labels, self.n_component)
        columns = [site]
        if self.per == "atom":
            structure = np.searchsorted(structures.start, site, side="right") - 1
            columns = [structure, site - structures.start[structure]]
        if self.components:
            columns.append(component)
        return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)

    def describe(self, dataset: Dataset, start: np.ndarray, label: int) -> str:
        """A label in words, for messages."""
        site, component = divmod(int(label), self.n_component)
        what = f"{self.name} {self.components[component]}" if self.components else self.name
        structure = int(self.structure_of(start, np.array([label]))[0])
        where = f"on atom {site - start[structure]} of" if self.per == "atom" else "of"
        return f"{what} {where} {dataset.name(structure)}"

    def unit_of_training(self, potential: Potential, labels: np.ndarray) -> float:
        """Unit of this kind in training: by `scale`, else the standard deviation of the labels (n,);
        1 if there are none or they do not vary.
        """
        if self.scale is not None:
            return self.scale(potential, labels)
        labels = labels[~np.isnan(labels)]
        spread = float(labels.std()) if len(labels) else 0.0
        return spread if spread > 0.0 else 1.0

    def weights(self, dataset: Dataset) -> np.ndarray:
        """Weights (n_structure,) of the labels of each structure."""
        return np.ones(len(dataset)) if self.weight is None else self.weight(dataset)


def _energy_offset(structures, potential):
    return potential.offset(element_counts(structures, len(potential.elements)))


KINDS = {
    kind.name: kind
    for kind in (
        LabelKind(
            name="energy",
            words="energies",
            per="structure",
            unit="eV",
            error_unit="meV/atom",
            short_unit="meV/atom",
            per_atom=True,
            column="energy",
            predicted=lambda prediction, structures, s: np.array([[prediction.energy]]),
            rows=energy_rows,
            values=energy_values,
            offset=_energy_offset,
            scale=lambda potential, labels: potential.energy_scale,
            weight=lambda dataset: np.asarray(dataset.weight)[:, 0],
            always=True,
        ),
        LabelKind(
            name="force",
            words="force components",
            per="atom",
            components=("x", "y", "z"),
            unit="eV/Angstrom",
            error_unit="meV/Angstrom",
            short_unit="meV/A",
            column="forces",
            predicted=lambda prediction, structures, s: prediction.forces,
            rows=force_rows,
            values=force_values,
            scale=lambda potential, labels: potential.force_scale,
            weight=lambda dataset: np.asarray(dataset.weight)[:, 1],
            always=True,
            number="9.2f",
        ),
        LabelKind(
            name="stress",
            words="stress components",
            per="cell",
            components=VOIGT,
            unit="eV/Angstrom^3",
            error_unit="meV/Angstrom^3",
            short_unit="meV/A^3",
            column="stress",
            predicted=lambda prediction, structures, s: prediction.stress(structures.cell[s])[None],
            rows=stress_rows,
            values=stress_values,
            weight=lambda dataset: np.asarray(dataset.weight)[:, 2],
            number="8.3f",
        ),
    )
}
ENERGY, FORCE = 0, 1  # positions in KINDS, by which batches name their kind


def position(name: str) -> int:
    """Position of a kind in KINDS."""
    return list(KINDS).index(name)


def kind_at(position: int) -> LabelKind:
    """The kind at a position in KINDS."""
    return list(KINDS.values())[position]
