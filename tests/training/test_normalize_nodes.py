"""n2p2's keyword normalize_nodes: each node's sum is divided by the number of its inputs."""

import shutil

import numpy as np
import pytest
from conftest import DATA
from small import begun, quiet, small_config

from mpnnp.data.formats import read_sources
from mpnnp.kernels.activation import activation
from mpnnp.kernels.jit import read_only
from mpnnp.model.network import ACTIVATIONS
from mpnnp.n2p2.export import write_potential
from mpnnp.n2p2.potential_files import read_potential
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.parallel import serial
from mpnnp.training.train import one_update

FOLDER = DATA / "predict_acsf_cos"


@pytest.fixture
def normalized(tmp_path):
    """The folder with the keyword."""
    folder = tmp_path / "normalized"
    shutil.copytree(FOLDER, folder)
    with open(folder / "input.nn", "a") as file:
        file.write("\nnormalize_nodes\n")
    return folder


def net_by_hand(network, e, weights, g):
    """Output of the net of element e with n2p2's normalised nodes, from the weights of the files."""
    y = g
    for s in [s for s in network.segments if s.element == e]:
        w = weights[s.offset : s.offset + (s.n_in + 1) * s.n_out]
        z = (y @ w[: s.n_in * s.n_out].reshape(s.n_in, s.n_out) + w[s.n_in * s.n_out :]) / s.n_in
        code = ACTIVATIONS.index(network.activations[e][s.layer])
        y = np.array([activation(code, x)[0] for x in z])
    return float(y[0])


def test_energies_are_those_of_normalised_nodes(normalized):
    plain, potential = read_potential(FOLDER), read_potential(normalized)
    structure = read_sources(FOLDER / "input.data", report=lambda line: None)[5]
    G = functions_of(potential, structure)
    shift, factor = potential.scaling.shift_and_factor()
    start, energies = potential.functions.table.start, potential.predict(structure).energies
    for i, z in enumerate(structure.numbers):
        e = potential.elements.index(z)
        part = slice(start[e], start[e + 1])
        g = (G[i, : start[e + 1] - start[e]] - shift[part]) * factor[part]
        expected = (
            net_by_hand(plain.network, e, plain.weights, g) * potential.energy_scale
            + potential.atomic_energies[e]
            + potential.mean_energy
        )
        assert energies[i] == pytest.approx(expected, rel=1e-12)


def functions_of(potential, structure):
    from mpnnp.data.dataset import Dataset
    from mpnnp.data.packed import make_atoms
    from mpnnp.kernels.energy_forces import symmetry_functions

    G = np.empty((len(structure), potential.functions.n_max))
    symmetry_functions(
        make_atoms(Dataset.from_structures([structure]), potential.elements), 0, potential.functions.table, G
    )
    return G


def test_export_carries_the_division_in_the_weights(normalized, tmp_path):
    potential = read_potential(normalized)
    write_potential(potential, tmp_path / "again")
    assert "normalize_nodes" not in (tmp_path / "again" / "input.nn").read_text()
    assert read_potential(tmp_path / "again").weights == pytest.approx(potential.weights, rel=1e-15)


def test_the_filter_works_in_the_weights_of_the_files(tmp_path):
    """An update of a run with normalize_nodes is that of the plain filter with rows by W n_in and b n_in."""
    comm, log = quiet()
    config = small_config(tmp_path, network={"hidden": [4, 3], "activation": "tanh", "normalize_nodes": True})
    run = begun(config, tmp_path, comm, log)
    plain = begun(
        small_config(tmp_path, network={"hidden": [4, 3], "activation": "tanh"}), tmp_path, comm, log
    )
    units = run.task.potential.network.units()
    assert run.state.weights == pytest.approx(plain.state.weights * units)
    batch = run.task.schedule.epoch(1)[0]
    before = run.state.weights.copy()
    rows, errors, _ = run.task.observer.observe(batch, read_only(before))
    ekf = make_ekf(run.task.optimizer.config, len(before), run.task.potential.network.segments, serial())
    expected = ekf.update(ekf.init(), rows * units, errors.copy())
    one_update(run.task, run.state, batch)
    assert (run.state.weights - before) / units == pytest.approx(expected, rel=1e-9, abs=1e-12)
