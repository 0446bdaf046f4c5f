"""Weights of labels, masked forces, and data sets in which labels are missing here and there."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from ase.io import write
from small import FUNCTIONS, begun, cluster, quiet, small_config

from mpnnp import new_potential
from mpnnp.data import dataset as hdf5
from mpnnp.data.dataset import Dataset, concatenate
from mpnnp.data.formats import read_sources
from mpnnp.data.store import read_weights
from mpnnp.data.structure import Structure
from mpnnp.errors import ConfigError, DataError
from mpnnp.kernels.jit import read_only
from mpnnp.model.label_kinds import ENERGY, FORCE
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.parallel import serial
from mpnnp.training.schedules import Batch
from mpnnp.training.train import train


def run_of(config, tmp_path):
    (tmp_path / "run").mkdir(exist_ok=True)
    return begun(config, tmp_path / "run", *quiet())


def frames(n=6):
    rng = np.random.default_rng(0)
    return [cluster(rng, 1 + k % 2) for k in range(n)]


def config_of(tmp_path, atoms, **sections):
    path = tmp_path / "clusters.extxyz"
    write(path, atoms)
    sections = {"data": {"validation_fraction": 0.0}} | sections
    return small_config(tmp_path, **sections)


def test_a_label_of_weight_two_is_worth_two_labels(tmp_path):
    """One update of the filter with a row of weight 2 is that with the same row twice."""
    config = small_config(tmp_path).ekf
    rng = np.random.default_rng(0)
    row, error = rng.normal(size=(1, 7)), rng.normal(size=1)
    increments = []
    for rows, errors in (
        (np.sqrt(2) * row, np.sqrt(2) * error),
        (np.repeat(row, 2, axis=0), np.repeat(error, 2)),
    ):
        ekf = make_ekf(config, 7, [], serial())
        state = ekf.init()
        increments.append(ekf.update(state, rows, errors).copy())
    assert increments[0] == pytest.approx(increments[1], rel=1e-12)


def test_rows_and_errors_carry_the_root_of_the_weight(tmp_path):
    atoms = frames()
    plain = run_of(config_of(tmp_path, atoms), tmp_path)
    for k, a in enumerate(atoms):
        a.info["config_weight"] = 1.0 + k
        a.info["config_forces_weight"] = 4.0
    (tmp_path / "w").mkdir()
    config = config_of(
        tmp_path / "w", atoms, schedule={"force_fraction": 0.2, "element_force_weights": {"H": 0.25}}
    )
    weighted = run_of(config, tmp_path / "w")
    w = read_only(plain.task.potential.weights)
    structure = np.arange(6)[:, None]
    for kind, labels in ((ENERGY, structure), (FORCE, np.arange(18)[:, None])):  # of 6 atoms: O H H, O H H
        rows, errors, _ = plain.task.observer.observe(Batch(kind, labels), w)
        rows, errors = rows.copy(), errors.copy()
        again, errors_again, _ = weighted.task.observer.observe(Batch(kind, labels), w)
        if kind == ENERGY:
            root = np.sqrt(1.0 + structure[:, 0])
        else:
            atom = labels[:, 0] // 3
            of_structure = np.searchsorted(plain.task.observer.structures.start, atom, side="right") - 1
            root = np.sqrt(
                (1.0 + of_structure)
                * 4.0
                * np.where(np.asarray(plain.task.observer.dataset.numbers)[atom] == 1, 0.25, 1.0)
            )
        assert again == pytest.approx(rows * root[:, None], rel=1e-12)
        assert errors_again == pytest.approx(errors * root, rel=1e-12)


def test_a_label_of_weight_zero_is_none(tmp_path):
    atoms = frames()
    atoms[1].info["config_weight"] = 0.0
    atoms[2].info["config_forces_weight"] = 0.0
    run = run_of(
        config_of(tmp_path, atoms, schedule={"force_fraction": 0.2, "element_force_weights": {"H": 0.0}}),
        tmp_path,
    )
    assert list(run.task.labels[ENERGY]) == [0, 2, 3, 4, 5]
    start, numbers = run.task.observer.structures.start, np.asarray(run.task.observer.dataset.numbers)
    expected = [a for s in (0, 3, 4, 5) for a in range(start[s], start[s + 1]) if numbers[a] == 8]
    assert sorted(set(run.task.labels[FORCE] // 3)) == expected


def test_masked_forces_and_missing_labels_train_together(tmp_path):
    """Structures with energies only, with masked forces and with all labels in one run."""
    atoms = frames()
    for k, a in enumerate(atoms):
        a.new_array("force_mask", np.arange(len(a)) != k % 3)
    data = read_frames(tmp_path, atoms)
    assert [int(np.isnan(data[k].forces).any(axis=1).sum()) for k in range(6)] == [1] * 6
    energies_only = frames(8)[6:]
    for a in energies_only:
        a.calc.results.pop("forces")
    mixed = concatenate([data, read_frames(tmp_path, energies_only)])
    hdf5.write(tmp_path / "mixed.h5", mixed)
    config = small_config(tmp_path, data={"files": str(tmp_path / "mixed.h5")}, run={"epochs": 3})
    comm, log = quiet()
    curve = train(config, tmp_path / "run", comm, log).curve.columns()
    assert (
        curve["energy_rmse_train"][1:].min() < curve["energy_rmse_train"][0]
        and np.isfinite(curve["force_rmse_validation"]).all()
    )
    labels = run_of(config, tmp_path).task.observer.labels
    assert np.count_nonzero(~np.isnan(labels.targets[ENERGY])) == 8
    assert np.count_nonzero(~np.isnan(labels.targets[FORCE])) == 3 * (sum(map(len, atoms)) - 6)


def read_frames(tmp_path, atoms):
    write(tmp_path / "some.extxyz", atoms)
    return read_sources(tmp_path / "some.extxyz", report=lambda line: None)


def test_weights_from_a_file(tmp_path):
    text = "# energies forces stress\n2\n1 0.5 0  # comment\n\n3\n"
    (tmp_path / "weights.txt").write_text(text)
    assert read_weights(tmp_path / "weights.txt", 3).tolist() == [[2, 2, 2], [1, 0.5, 0], [3, 3, 3]]
    (tmp_path / "six.txt").write_text("1\n" * 5 + "9\n")
    data = {"validation_fraction": 0.0, "weights": str(tmp_path / "six.txt")}
    run = run_of(config_of(tmp_path, frames(), data=data), tmp_path)
    assert run.task.observer.labels.roots[ENERGY].tolist() == [1, 1, 1, 1, 1, 3]
    (tmp_path / "six.txt").write_text("4\n" * 6)  # another content is another data set, not the cached one
    run = run_of(config_of(tmp_path, frames(), data=data), tmp_path)
    assert run.task.observer.labels.roots[ENERGY].tolist() == [2] * 6


@pytest.mark.parametrize(
    "text, message",
    [
        ("1\n1 2\n", "line 2: expected one weight, or three"),
        ("1\n-1\n", "line 2"),
        ("1\n", "1 line of weights for 2 structures"),
    ],
)
def test_wrong_weights(tmp_path, text, message):
    (tmp_path / "weights.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_weights(tmp_path / "weights.txt", 2)


def test_an_element_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="element_force_weights.Xe"):
        run_of(config_of(tmp_path, frames(), schedule={"element_force_weights": {"Xe": 2.0}}), tmp_path)


def test_weights_in_data_sets(tmp_path):
    """Kept in HDF5; part of the hash where they are not 1; files of before there were weights are read."""
    structures = [Structure(numbers=[1], positions=np.zeros((1, 3)), weight=w) for w in (1.0, [1, 2, 0])]
    data = Dataset.from_structures(structures)
    hdf5.write(tmp_path / "w.h5", data)
    assert hdf5.read(tmp_path / "w.h5").weight.tolist() == [[1, 1, 1], [1, 2, 0]]
    ones = replace(data, weight=np.ones((2, 3)))
    assert ones.hash() != data.hash()
    hdf5.write(tmp_path / "old.h5", ones)
    with h5py.File(tmp_path / "old.h5", "a") as file:
        del file["weight"]
    assert (hdf5.read(tmp_path / "old.h5").weight == 1).all()
    with pytest.raises(DataError, match="weight"):
        Structure(numbers=[1], positions=np.zeros((1, 3)), weight=-1.0)


def test_labels_of_weight_zero_are_none(tmp_path):
    """Outliers of weight 0 change nothing: not what is learned, not the units, not the errors told."""
    atoms = frames(8)
    for outlier in (atoms[2], atoms[7]):
        outlier.calc.results["energy"] += 500.0
        outlier.calc.results["forces"] *= 100.0
        outlier.info["config_weight"] = 0.0
    data = {"validation_fraction": 0.5}
    config = config_of(tmp_path, atoms, data=data, run={"evaluation_structures": 1, "epochs": 1})
    run = run_of(config, tmp_path)
    kept = np.setdiff1d(np.arange(8), [2, 7])
    energies = run.task.dataset.energy
    assert np.isnan(energies[[2, 7]]).all() and np.isfinite(energies[kept]).all()
    assert run.task.potential.energy_scale < 10.0 and run.task.potential.force_scale < 10.0
    point = run.judge.evaluate(run.state.weights)
    for accuracy in (point.train, point.validation):
        assert accuracy.energy_rmse < 1e4  # meV/atom; an outlier would make it 500 eV / 3 atoms
    state = train(config, tmp_path / "run", *quiet())
    assert np.isfinite(state.curve.columns()["energy_rmse_train"]).all()


def test_labels_of_weight_zero_do_not_make_the_units_of_a_new_potential(tmp_path):
    atoms = frames(8)
    before = new_potential(read_frames(tmp_path, atoms[:7]), FUNCTIONS, hidden=(3,))
    atoms[7].calc.results["energy"] += 500.0
    atoms[7].calc.results["forces"] *= 100.0
    atoms[7].info["config_weight"] = 0.0
    found = new_potential(read_frames(tmp_path, atoms), FUNCTIONS, hidden=(3,))
    assert found.energy_scale == pytest.approx(before.energy_scale)
    assert found.force_scale == pytest.approx(before.force_scale)
    assert found.atomic_energies == pytest.approx(before.atomic_energies)
