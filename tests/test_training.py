"""Training runs on small data: they learn, their files say what is true, they stop when told, and they resume exactly."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import matplotlib.image
import numpy as np
import pytest
from ase.io import read
from small import quiet, small_config, write_clusters

import mpnnp
from mpnnp.checkpoint import read_checkpoint
from mpnnp.config import Config, read_config
from mpnnp.evaluation import evaluate
from mpnnp.learning_curve import COLUMNS, LearningCurve
from mpnnp.train import RunState, train
from mpnnp.training_data import load_structures, split

OPTIMIZERS = ("ekf", "adam")
N_STRUCTURE = 40  # 30 for training: 30 energies and 540 force components; 69 updates of two streams per epoch
SECTIONS = {
    "ekf": {"run": {"optimizer": "ekf", "epochs": 4}},
    "adam": {"run": {"optimizer": "adam", "epochs": 4}, "adam": {"learning_rate": 0.02, "clip_norm": 1.0}},
}


def make_config(folder, optimizer, **run):
    """Config of a run on clusters of two molecules in folder/clusters.extxyz."""
    if not (folder / "clusters.extxyz").exists():
        write_clusters(folder / "clusters.extxyz", N_STRUCTURE, sizes=(2,))
    sections = SECTIONS[optimizer]
    return small_config(folder, **sections | {"run": sections["run"] | {"evaluation_structures": 0} | run})


@dataclass
class Trained:
    config: Config
    directory: Path
    state: RunState
    lines: list


def run(config, directory, resume=False):
    comm, log = quiet()
    state = train(config, directory, comm, log, resume)
    log.close()
    return Trained(config, directory, state, log.kept)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module", params=OPTIMIZERS)
def trained(request, folder):
    """A finished run with each optimiser."""
    return run(make_config(folder, request.param), folder / request.param)


def curve_of(directory):
    return LearningCurve.read(directory / "learning-curve.csv")


# ---- it learns, and says so


def test_training_lowers_the_validation_errors(trained):
    curve = curve_of(trained.directory)
    for quantity, factor in (("energy", 2.0), ("force", 3.0)):
        start, *later = curve[f"{quantity}_rmse_validation"]
        assert min(later) < start / factor


def test_the_learning_curve_has_its_columns_and_units(trained):
    header, *lines = (trained.directory / "learning-curve.csv").read_text().splitlines()
    assert header.split(",") == [*COLUMNS, "energy_unit", "force_unit"]
    assert all(line.endswith(",meV/atom,meV/Angstrom") for line in lines)
    curve = curve_of(trained.directory)
    np.testing.assert_array_equal(curve["epoch"], np.arange(5))
    np.testing.assert_array_equal(curve["update"], 69 * np.arange(5))
    assert all(np.isfinite(values).all() for values in curve.values())
    assert (np.diff(curve["seconds"]) >= 0).all()


def test_the_pictures_are_pictures(trained):
    for name in ("learning-curve.png", "parity.png"):
        picture = matplotlib.image.imread(trained.directory / name)
        assert min(picture.shape[:2]) > 300 and picture.std() > 0.01  # something is drawn


def test_the_configuration_written_is_that_of_the_run(trained):
    assert read_config(trained.directory / "config.toml") == trained.config
    assert read_checkpoint(trained.directory / "checkpoint.h5")[1] == (trained.directory / "config.toml").read_text()


def test_the_log_holds_every_line(trained):
    assert (trained.directory / "train.log").read_text().splitlines() == trained.lines
    assert sum(line.startswith("epoch ") for line in trained.lines) == 5


def test_nothing_is_left_over_in_the_folder(trained):
    expected = "accuracy.json best.h5 checkpoint.h5 config.toml learning-curve.csv learning-curve.png parity.png train.log"
    assert sorted(path.name for path in trained.directory.iterdir()) == expected.split()


def test_the_checkpoint_holds_the_weights_at_the_end_and_best_those_of_the_best_epoch(trained):
    with h5py.File(trained.directory / "checkpoint.h5") as file:
        np.testing.assert_array_equal(file["weights"][()], trained.state.weights)
    curve = curve_of(trained.directory)
    measure = curve["energy_rmse_validation"] + curve["force_rmse_validation"] / 100
    assert trained.state.best_epoch == np.argmin(measure)
    assert trained.state.best == pytest.approx(measure.min(), rel=1e-8)  # digits of the file
    with h5py.File(trained.directory / "best.h5") as file:
        assert file["progress"].attrs["epoch"] == np.argmin(measure)
        assert (trained.state.best_epoch == 4) == np.array_equal(file["weights"][()], trained.state.weights)


# ---- what is written is what others compute


def test_accuracies_of_the_run_are_those_of_evaluate(trained):
    """accuracy.json, and the last line of the learning curve that is the best epoch's."""
    dataset, _ = load_structures(trained.config.data, *quiet(), trained.directory)
    potential = mpnnp.load(trained.directory / "best.h5")
    accuracies = json.loads((trained.directory / "accuracy.json").read_text())
    curve, parts = curve_of(trained.directory), split(dataset, trained.config.data, trained.config.run.seed)
    for name, short, structures in zip(("training", "validation"), ("train", "validation"), parts):
        numbers = evaluate(potential, dataset.take(structures), *quiet()).numbers()
        assert accuracies[name]["structures"] == numbers["n_structures"] == len(structures)
        for key, value in accuracies[name].items():
            if key != "structures":
                unit = "mev_per_atom" if key.startswith("energy") else "mev_per_angstrom"
                assert value == pytest.approx(numbers[f"{key}_{unit}"], rel=1e-10)
                assert curve[f"{key}_{short}"][trained.state.best_epoch] == pytest.approx(value, rel=1e-8)


def test_a_loaded_potential_predicts_what_evaluate_does(trained):
    dataset, _ = load_structures(trained.config.data, *quiet(), trained.directory)
    potential = mpnnp.load(trained.directory / "best.h5")
    evaluation = evaluate(potential, dataset, *quiet())
    frames = read(trained.config.data.files[0], ":")
    for k in (0, 17, N_STRUCTURE - 1):
        energy, forces = potential.energy_forces(frames[k])
        assert energy == pytest.approx(evaluation.energy[k], rel=1e-12)
        np.testing.assert_allclose(forces, evaluation.forces[evaluation.start[k] : evaluation.start[k + 1]], rtol=1e-10, atol=1e-12)
    errors = [(potential.energy_forces(atoms)[0] - atoms.get_potential_energy()) / len(atoms) for atoms in frames]
    assert evaluation.accuracy.energy_rmse == pytest.approx(1000 * math.sqrt(np.mean(np.square(errors))), rel=1e-9)


# ---- stopping and going on


def assert_same(resumed, whole):
    """Weights, state of the optimiser, learning curve (but for its seconds) and the measures of two runs are equal bit for bit."""
    saved = [read_checkpoint(one.directory / "checkpoint.h5") for one in (resumed, whole)]
    assert np.array_equal(saved[0][0].weights, saved[1][0].weights)
    numbers = [{k: v for k, v in one[2].items() if k != "seconds"} for one in saved]
    assert numbers[0] == numbers[1]
    for a, b in zip([saved[0][3], saved[0][4]], [saved[1][3], saved[1][4]]):
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[key], b[key]) for key in a if key != "seconds")
    lines = [(one.directory / "learning-curve.csv").read_text().splitlines() for one in (resumed, whole)]
    without_seconds = [[[*row.split(",")[:2], *row.split(",")[3:]] for row in rows] for rows in lines]
    assert without_seconds[0] == without_seconds[1]


@pytest.mark.parametrize("selection", ["threshold", "sort"])
def test_a_run_resumed_in_the_middle_of_an_epoch_is_the_uninterrupted_run(trained, folder, tmp_path, selection):
    optimizer = trained.config.run.optimizer
    change = {"schedule": trained.config.schedule.model_copy(update={"selection": selection})}
    whole = trained if selection == "threshold" else run(trained.config.model_copy(update=change), tmp_path / "whole")
    config = whole.config.model_copy(update={"run": whole.config.run.model_copy(update={"updates": 100})})  # 31 into epoch 2
    first = run(config, tmp_path / "run")
    assert (first.state.update, first.state.epoch, first.state.done) == (100, 2, 31)
    assert first.lines[-5].startswith("run.updates = 100 reached")
    second = run(whole.config, tmp_path / "run", resume=True)
    assert "resuming after update 100 (epoch 2)" in second.lines
    assert optimizer == second.config.run.optimizer
    assert_same(second, whole)
