"""Symmetry functions, energies and forces agree with what n2p2 printed (commit 61daa0df)."""

import numpy as np
import pytest
from conftest import DATA

from mpnnp.data.dataset import Dataset
from mpnnp.data.runner import read_runner_data
from mpnnp.kernels.energy_forces import energy_forces
from mpnnp.kernels.packs import make_model, make_structures
from mpnnp.n2p2.potential_files import read_potential
from mpnnp.units import BOHR, HARTREE

OURS = [
    "predict_acsf_cos",
    "predict_acsf_tanh3",
    "predict_acsf_poly2_inner",
    "predict_weighted",
    "predict_compact",
]


def check_folder(folder):
    potential, data = (
        read_potential(folder),
        Dataset.from_structures(list(read_runner_data(folder / "input.data"))),
    )
    element = np.searchsorted(potential.elements, data.numbers)
    structures = make_structures(data.start, element, data.positions, data.cell, data.pbc)
    model = make_model(
        potential.functions.table, *potential.scaling.shift_and_factor(), potential.network.topology
    )
    reference = potential.atomic_energies + potential.mean_energy
    predicted = np.loadtxt(folder / "energy.comp", usecols=3, ndmin=1)
    forces_comp = np.loadtxt(folder / "forces.comp", usecols=3).reshape(-1, 3)
    printed = (
        iter((folder / "function.data").read_text().splitlines())
        if (folder / "function.data").exists()
        else None
    )
    for s in range(len(predicted)):
        atoms = slice(data.start[s], data.start[s + 1])
        n = int(data.start[s + 1] - data.start[s])
        G, energies, forces, virial = (
            np.empty((n, potential.functions.n_max)),
            np.empty(n),
            np.empty((n, 3)),
            np.empty((3, 3)),
        )
        energy_forces(structures, s, model, potential.weights, G, energies, forces, virial)
        total = (energies * potential.energy_scale + reference[element[atoms]]).sum() / HARTREE
        assert total == pytest.approx(predicted[s], rel=1e-8)
        scale = potential.energy_scale * BOHR / HARTREE
        assert forces * scale == pytest.approx(
            forces_comp[atoms], rel=2e-8, abs=2e-8 * np.abs(forces_comp[atoms]).max()
        )
        if printed:
            assert int(next(printed)) == n
            for row in G:
                numbers = np.array(next(printed).split()[1:], float)
                assert row[: len(numbers)] == pytest.approx(
                    numbers, rel=0, abs=6e-11 * max(1, np.abs(numbers).max())
                )
            next(printed)


@pytest.mark.parametrize("name", OURS)
def test_predictions_of_n2p2(name):
    check_folder(DATA / name)


@pytest.mark.parametrize("name", ["predict_h2o_rpbe_d3", "predict_h2o_blyp"])
def test_published_potentials_of_n2p2(name, shared):
    check_folder(shared / "reference" / name)
