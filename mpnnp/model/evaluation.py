"""Evaluating a potential on data: predictions of every structure, and accuracies where there are labels."""

import json
from dataclasses import dataclass

import numpy as np

from mpnnp.data.packed import make_atoms
from mpnnp.files import write_atomically, write_text
from mpnnp.model.metrics import Accuracy, Errors
from mpnnp.model.prediction import Predictor
from mpnnp.progress import Progress


@dataclass(frozen=True)
class Evaluation:
    """Accuracy, and on rank 0 the predictions:
    energy (n_structure,) eV, forces (n_atom, 3) eV/Angstrom, start (n_structure+1,),
    stress (n_structure, 6) eV/Angstrom^3, NaN where not periodic in all directions.
    """

    n_structures: int
    n_atoms: int
    accuracy: Accuracy
    energy: np.ndarray
    forces: np.ndarray
    start: np.ndarray
    stress: np.ndarray | None = None

    def numbers(self):
        """What `mpnnp evaluate --json` writes; null where there are no labels."""
        finite = lambda x: x if np.isfinite(x) else None  # noqa: E731
        return {
            "n_structures": self.n_structures,
            "n_atoms": self.n_atoms,
            "energy_rmse_mev_per_atom": finite(self.accuracy.energy_rmse),
            "energy_mae_mev_per_atom": finite(self.accuracy.energy_mae),
            "force_rmse_mev_per_angstrom": finite(self.accuracy.force_rmse),
            "force_mae_mev_per_angstrom": finite(self.accuracy.force_mae),
            "stress_rmse_mev_per_angstrom3": finite(self.accuracy.stress_rmse),
            "stress_mae_mev_per_angstrom3": finite(self.accuracy.stress_mae),
        }

    def write_json(self, path):
        write_text(path, json.dumps(self.numbers(), indent=2) + "\n", encoding="ascii")

    def write_predictions(self, path):
        with write_atomically(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, energy=self.energy, forces=self.forces, start=self.start, stress=self.stress)


def evaluate(potential, dataset, comm, log):
    """Evaluation of `potential` on all structures of `dataset`, shared out over the ranks. Collective.

    Raises DataError.
    """
    structures, predictor, errors = make_atoms(dataset, potential.elements), Predictor(potential), Errors()
    start, mine = structures.start, range(comm.rank, len(dataset), comm.size)
    energy, forces, stresses = [], [], []
    with Progress(log, "evaluating structure", len(dataset)) as progress:
        for s in mine:
            prediction = predictor.predict(structures, s)
            atoms = slice(start[s], start[s + 1])
            periodic = structures.pbc[s].all()
            stress = prediction.stress(structures.cell[s]) if periodic else np.full(6, np.nan)
            labelled = dataset.stress[s] if periodic else stress
            errors.add(
                dataset.energy[s],
                dataset.forces[atoms],
                prediction.energy,
                prediction.forces,
                labelled,
                stress,
            )
            energy.append(prediction.energy)
            forces.append(prediction.forces)
            stresses.append(stress)
            progress.update(min(s + comm.size, len(dataset)))
    accuracy = errors.accuracy(comm)
    parts = comm.gather((energy, forces, stresses), root=0)
    all_energy, all_forces, all_stress = (
        np.empty(len(dataset)),
        np.empty((int(start[-1]), 3)),
        np.empty((len(dataset), 6)),
    )
    for rank, part in enumerate(parts or []):
        for s, e, f, stress in zip(range(rank, len(dataset), comm.size), *part):
            all_energy[s], all_forces[start[s] : start[s + 1]], all_stress[s] = e, f, stress
    return Evaluation(
        len(dataset), int(start[-1]), accuracy, all_energy, all_forces, np.asarray(start), all_stress
    )
