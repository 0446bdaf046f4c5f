"""Training runs on small data: they learn, their files say what is true, they stop when told,
and they resume exactly.
"""

import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import h5py
import matplotlib.image
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from small import begun, quiet, small_config, write_clusters

import mpnnp
from mpnnp.config import Config, read_config
from mpnnp.data.store import load_structures, split
from mpnnp.errors import CheckpointError, DataError
from mpnnp.model.evaluation import evaluate
from mpnnp.training import train as train_module
from mpnnp.training.checkpoint import load_potential, read_checkpoint
from mpnnp.training.description import describe_checkpoint
from mpnnp.training.judgement import Judge
from mpnnp.training.learning_curve import LearningCurve, all_columns
from mpnnp.training.run_state import RunState
from mpnnp.training.start import assemble
from mpnnp.training.train import train

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


def with_run(config, **run):
    return config.with_keys("run", **run)


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
    # the data have no stresses, with fixed noise there are no levels, and nothing was learned before
    told = [
        name for name in all_columns() if not (name.startswith("stress") or name.endswith(("_noise", "_old")))
    ]
    assert header.split(",") == [*told, "energy_unit", "force_unit"]
    assert all(line.endswith(",meV/atom,meV/Angstrom") for line in lines)
    curve = curve_of(trained.directory)
    np.testing.assert_array_equal(curve["epoch"], np.arange(5))
    np.testing.assert_array_equal(curve["update"], 69 * np.arange(5))
    assert all(np.isfinite(values).all() for values in curve.values())
    assert (np.diff(curve["seconds"]) >= 0).all()


def test_the_pictures_are_pictures(trained):
    for name in ("learning-curve.png", "parity.png", "errors.png"):
        picture = matplotlib.image.imread(trained.directory / name)
        assert min(picture.shape[:2]) > 300 and picture.std() > 0.01  # something is drawn


def test_the_configuration_written_is_that_of_the_run(trained):
    assert read_config(trained.directory / "config.toml") == trained.config
    assert (
        read_checkpoint(trained.directory / "checkpoint.h5")[1]
        == (trained.directory / "config.toml").read_text()
    )


def test_the_log_holds_every_line(trained):
    """What the screen shows, in its order, among more lines of the file's own."""
    rest = iter((trained.directory / "train.log").read_text().splitlines())
    assert all(line in rest for line in "\n".join(trained.lines).splitlines())
    assert sum(line.startswith("epoch ") for line in trained.lines) == 5


def test_nothing_is_left_over_in_the_folder(trained):
    expected = (
        "accuracy.json best.h5 checkpoint.h5 config.toml errors.pdf errors.png initial.h5 learning-curve.csv "
        "learning-curve.pdf learning-curve.png parity.pdf parity.png report.html results.h5 train.log"
    )
    assert sorted(path.name for path in trained.directory.iterdir()) == expected.split()


def test_the_checkpoint_holds_the_weights_at_the_end_and_best_those_of_the_best_epoch(trained):
    with h5py.File(trained.directory / "checkpoint.h5") as file:
        np.testing.assert_array_equal(file["weights"][()], trained.state.weights)
    curve = curve_of(trained.directory)
    measure = np.sqrt(curve["energy_rmse_validation"] * curve["force_rmse_validation"])
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
            if key.startswith("stress"):
                assert value is None  # the data have none
            elif key != "structures":
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
        np.testing.assert_allclose(
            forces, evaluation.forces[evaluation.start[k] : evaluation.start[k + 1]], rtol=1e-10, atol=1e-12
        )
    errors = [
        (potential.energy_forces(atoms)[0] - atoms.get_potential_energy()) / len(atoms) for atoms in frames
    ]
    assert evaluation.accuracy.energy_rmse == pytest.approx(
        1000 * math.sqrt(np.mean(np.square(errors))), rel=1e-9
    )


# ---- stopping and going on


def assert_same(resumed, whole):
    """Weights, state of the optimiser, learning curve (but for its seconds) and the measures of two runs
    are equal bit for bit.
    """
    saved = [read_checkpoint(one.directory / "checkpoint.h5") for one in (resumed, whole)]
    assert np.array_equal(saved[0][0].weights, saved[1][0].weights)
    numbers = [{k: v for k, v in one[2].items() if k != "seconds"} for one in saved]
    assert numbers[0] == numbers[1]
    for a, b in zip([saved[0][3], saved[0][4]], [saved[1][3], saved[1][4]]):
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[key], b[key], equal_nan=True) for key in a if key != "seconds")
    lines = [(one.directory / "learning-curve.csv").read_text().splitlines() for one in (resumed, whole)]
    without_seconds = [[[*row.split(",")[:2], *row.split(",")[3:]] for row in rows] for rows in lines]
    assert without_seconds[0] == without_seconds[1]


@pytest.mark.parametrize("selection", ["threshold", "sort"])
def test_a_run_resumed_in_the_middle_of_an_epoch_is_the_uninterrupted_run(trained, tmp_path, selection):
    config = trained.config.with_keys("schedule", selection=selection)
    whole = trained if selection == "threshold" else run(config, tmp_path / "whole")
    first = run(with_run(whole.config, updates=100), tmp_path / "run")
    assert (first.state.update, first.state.epoch, first.state.done) == (100, 2, 31)
    assert any(line.startswith("run.updates = 100 reached") for line in first.lines)
    second = run(whole.config, tmp_path / "run", resume=True)
    assert "resuming from checkpoint.h5, after update 100 (epoch 2)" in second.lines
    assert_same(second, whole)


def test_a_finished_run_resumed_stays_as_it_is_and_goes_on_with_more_epochs(trained, tmp_path):
    shutil.copytree(trained.directory, tmp_path / "run")
    assert_same(run(trained.config, tmp_path / "run", resume=True), trained)
    more = run(with_run(trained.config, epochs=5), tmp_path / "run", resume=True)
    assert_same(more, run(with_run(trained.config, epochs=5), tmp_path / "whole"))
    assert more.state.update == 5 * 69


def test_a_run_resumed_at_its_last_update_does_no_more(trained, tmp_path):
    config = with_run(trained.config, updates=40)
    whole = run(config, tmp_path / "run")
    again = run(config, tmp_path / "run", resume=True)
    assert again.state.update == 40
    assert np.array_equal(again.state.weights, whole.state.weights)


def test_a_checkpoint_of_another_optimiser_is_refused(trained, tmp_path):
    shutil.copytree(trained.directory, tmp_path / "run")
    other = {"ekf": "adam", "adam": "ekf"}[trained.config.run.optimizer]
    with pytest.raises(
        CheckpointError, match=f"is of another run.*\n.*'{trained.config.run.optimizer}', now '{other}'"
    ):
        run(with_run(trained.config, optimizer=other), tmp_path / "run", resume=True)


def test_a_run_without_checkpoint_cannot_be_resumed(folder, tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint.h5"):
        run(make_config(folder, "ekf"), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_run_ends_after_epochs_without_a_better_validation_error(folder, tmp_path):
    """With a learning rate far too large: it ends at the first epoch that is `patience` epochs after
    the best one so far.
    """
    config = make_config(folder, "adam", epochs=50, patience=3)
    config = config.with_keys("adam", learning_rate=3.0)
    ended = run(config, tmp_path / "run")
    curve = curve_of(tmp_path / "run")
    measure = np.sqrt(curve["energy_rmse_validation"] * curve["force_rmse_validation"])
    since_best = [k - np.argmin(measure[: k + 1]) for k in range(len(measure))]
    assert since_best.index(3) == len(measure) - 1 < 50
    assert "no better validation error for 3 epochs: " in "\n".join(ended.lines)


@pytest.mark.parametrize("updates, epoch, done", [(10, 1, 10), (69, 2, 0), (138, 3, 0)])
def test_a_run_ends_after_its_updates(folder, tmp_path, updates, epoch, done):
    ended = run(make_config(folder, "ekf", updates=updates), tmp_path / "run")
    assert (ended.state.update, ended.state.epoch, ended.state.done) == (updates, epoch, done)
    assert ended.state.curve.columns()["epoch"][-1] == epoch - 1
    assert any(line.startswith(f"run.updates = {updates} reached: {updates} updates") for line in ended.lines)


def test_the_best_potential_may_be_that_of_the_last_update_within_an_epoch(folder, tmp_path):
    """And the checkpoint does not know of it: the resumed run is the uninterrupted one."""
    ended = run(make_config(folder, "ekf", updates=10), tmp_path / "run")
    best = load_potential(tmp_path / "run" / "best.h5")
    assert np.array_equal(best.weights, ended.state.weights)
    assert curve_of(tmp_path / "run")["update"].tolist() == [0, 10]
    told = json.loads((tmp_path / "run" / "accuracy.json").read_text())
    assert told["epoch"] == 1 and any("within epoch 1, are the best" in line for line in ended.lines)
    saved = read_checkpoint(tmp_path / "run" / "checkpoint.h5")
    assert saved.progress["best_epoch"] == 0 and saved.curve["update"].tolist() == [0]
    resumed = run(make_config(folder, "ekf"), tmp_path / "run", resume=True)
    whole = run(make_config(folder, "ekf"), tmp_path / "whole")
    assert np.array_equal(resumed.state.weights, whole.state.weights)
    assert resumed.state.curve.columns()["update"].tolist() == whole.state.curve.columns()["update"].tolist()


def test_a_run_that_patience_ended_does_nothing_when_resumed(folder, tmp_path):
    config = make_config(folder, "adam", epochs=50, patience=3)
    config = config.with_keys("adam", learning_rate=3.0)
    ended = run(config, tmp_path / "run")
    resumed = run(config, tmp_path / "run", resume=True)
    assert resumed.state.update == ended.state.update
    assert "no better validation error for 3 epochs: " in "\n".join(resumed.lines)


def test_a_run_without_validation_structures_ends_by_its_training_errors_and_says_so(tmp_path):
    config = make_config(tmp_path, "adam", epochs=50, patience=3).with_keys("adam", learning_rate=3.0)
    ended = run(config.with_keys("data", validation_fraction=0.0), tmp_path / "run")
    assert ended.state.epoch < 50
    assert "no better training error for 3 epochs: " in "\n".join(ended.lines)


@pytest.mark.parametrize(
    "updates, told", [(100, "epoch 2, 31 updates into it"), (69, "epoch 1 done"), (10**6, "epoch 6 done")]
)
def test_where_a_run_stands_is_told_by_what_is_done(folder, tmp_path, updates, told):
    config = make_config(folder, "ekf", updates=updates, epochs=6)
    ended = run(config, tmp_path / "run")
    lines = describe_checkpoint(tmp_path / "run" / "checkpoint.h5").splitlines()
    assert f"state: {told}, {ended.state.update} updates in all" in lines
    initial = describe_checkpoint(tmp_path / "run" / "initial.h5").splitlines()
    assert "state: epoch 0, 0 updates in all" in initial
    resumed = run(config, tmp_path / "run", resume=True)
    place = told.partition(",")[0]
    assert f"resuming from checkpoint.h5, after update {ended.state.update} ({place})" in resumed.lines


@pytest.mark.parametrize("keys", [{"name": "sdnz", "forces_per_update": 7}, {"streams": 7}])
def test_an_update_of_forces_is_estimated_by_the_labels_that_it_takes(tmp_path, monkeypatch, keys):
    config = small_config(tmp_path, schedule=keys)
    task = begun(config, tmp_path / "run", *quiet()).task
    monkeypatch.setattr(train_module, "cost_of", lambda *_: SimpleNamespace(of_force_row=lambda: 0.5))
    assert train_module.expected_update(SimpleNamespace(config=config, task=task)) == 3.5


def test_more_streams_than_labels_are_told(tmp_path):
    log = run(small_config(tmp_path, schedule={"streams": 100}), tmp_path / "run").lines
    assert any("100 streams, but 9 energies for training" in line for line in log)


def test_a_run_ends_at_its_time_limit_and_can_be_resumed(folder, tmp_path):
    begin = time.monotonic()
    ended = run(make_config(folder, "ekf", epochs=10**6, time_limit=0.9 / 60), tmp_path / "run")
    took = time.monotonic() - begin
    assert any(line.startswith("run.time_limit = 0.015 min reached") for line in ended.lines)
    assert took > 0.9 > ended.state.seconds  # which the reading of data, before the updates, is not part of
    assert ended.state.update > 0
    resumed = run(
        make_config(folder, "ekf", epochs=10**6, updates=ended.state.update + 5),
        tmp_path / "run",
        resume=True,
    )
    assert resumed.state.update == ended.state.update + 5
    assert resumed.state.seconds > ended.state.seconds


def test_checkpoints_are_written_every_so_many_updates(folder, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(train_module, "save", lambda run: saved.append(run.state.update))
    train(make_config(folder, "adam", epochs=2, checkpoint_updates=30), tmp_path / "run", *quiet())
    assert sorted(set(saved)) == [30, 60, 90, 120, 138]


@pytest.mark.parametrize("what", ["labels", "places"])
def test_data_that_cannot_be_learned_are_named_before_anything_is_computed(tmp_path, what):
    config = make_config(tmp_path, "ekf")
    frames = read(tmp_path / "clusters.extxyz", ":")
    for atoms in frames:
        if what == "labels":
            atoms.calc = None
        else:
            atoms.positions[1] = atoms.positions[0]
    write(tmp_path / "clusters.extxyz", frames)
    message = {
        "labels": "no structure for training has a label .*data.energy_key",
        "places": "clusters.extxyz, frame [0-9]+: .*two atoms at the same place",
    }[what]
    with pytest.raises(DataError, match=message):
        run(config, tmp_path / "run")


def test_a_broken_structure_for_validation_is_named_before_anything_is_learned(tmp_path):
    config = make_config(tmp_path, "ekf")
    frames = read(tmp_path / "clusters.extxyz", ":")
    frames[3].positions[1] = frames[3].positions[0]
    for k, atoms in enumerate(frames):
        atoms.info["split"] = "test" if k in (1, 3) else "train"
    write(tmp_path / "clusters.extxyz", frames)
    with pytest.raises(DataError, match="clusters.extxyz, frame 3: .*two atoms at the same place"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run" / "learning-curve.csv").exists()


def test_structures_with_energies_alone_are_not_predicted_in_full(tmp_path):
    config = make_config(tmp_path, "ekf")
    frames = read(tmp_path / "clusters.extxyz", ":")
    for atoms in frames[::2]:
        energy = atoms.get_potential_energy()
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    write(tmp_path / "clusters.extxyz", frames)
    comm, log = quiet()
    task = assemble(config, comm, log)
    judge = Judge(task, config)
    assert np.array_equal(judge.train_subset, task.train[task.train % 2 == 1])
    found = judge.evaluate(task.potential.weights).train
    all_in_full = evaluate(task.potential, task.dataset.take(task.train), comm, log).accuracy
    assert found.energy_rmse == pytest.approx(all_in_full.energy_rmse, rel=1e-12)
    assert found.force_rmse == pytest.approx(all_in_full.force_rmse, rel=1e-12)


def test_epochs_that_take_no_time_are_all_in_the_files_at_the_end(tmp_path, monkeypatch):
    written = []
    original = LearningCurve.write
    monkeypatch.setattr(LearningCurve, "write", lambda *args: written.append(original(*args)))
    comm, log = quiet()
    state = train(make_config(tmp_path, "ekf", epochs=12), tmp_path / "run", comm, log)
    log.close()
    assert len(written) < 12
    curve = LearningCurve.read(tmp_path / "run" / "learning-curve.csv")
    assert curve["epoch"].tolist() == list(range(13))
    best = read_checkpoint(tmp_path / "run" / "best.h5")
    assert best.progress["epoch"] == state.best_epoch
    assert np.array_equal(best.potential.weights, state.best_weights)
