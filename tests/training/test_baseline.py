"""A run with a baseline: the nets learn what it leaves, and whoever predicts adds it."""

import numpy as np
import pytest
from ase.io import read as read_ase
from small import begun, quiet, small_config

import mpnnp
from mpnnp.data.dataset import Dataset
from mpnnp.errors import CheckpointError, ConfigError, DataError
from mpnnp.model.baseline import NONE, Baseline, Zbl
from mpnnp.model.evaluation import evaluate
from mpnnp.n2p2.export import write_potential
from mpnnp.n2p2.potential_files import read_potential
from mpnnp.parallel import serial
from mpnnp.progress import Log, Silent
from mpnnp.training.checkpoint import read_checkpoint
from mpnnp.training.description import describe_checkpoint, describe_folder
from mpnnp.training.initial_potential import baseline_of
from mpnnp.training.train import train

SECTION = {"zbl": [0.8, 1.9]}  # reaches the bonds of these molecules
BASELINE = Baseline((Zbl(0.8, 1.9),))


def run(tmp_path, name, resume=False, **sections):
    config = small_config(tmp_path, baseline=SECTION, **sections)
    return train(config, tmp_path / name, serial(), Log(serial(), stream=open("/dev/null", "w")), resume)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baseline")
    run(folder, "run")
    return folder


def frames(folder):
    return read_ase(folder / "clusters.extxyz", ":", parallel=False)


def test_predictions_are_those_of_the_nets_and_the_baseline(trained):
    potential = read_checkpoint(trained / "run" / "best.h5").potential
    assert potential.baseline == BASELINE
    atoms = frames(trained)[1]
    alone, added = (
        mpnnp.Calculator(p) for p in (potential, potential.__class__(**vars(potential) | {"baseline": NONE}))
    )
    structure = Dataset.from_structures([atoms])[0]
    part = BASELINE.of(structure)
    assert np.abs(part.forces).max() > 0.1
    energies = []
    for calculator in (alone, added):
        atoms.calc = calculator
        energies.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_potential_energies()))
    whole, nets = energies
    assert whole[0] == pytest.approx(nets[0] + part.energy, rel=1e-12)
    np.testing.assert_allclose(whole[1], nets[1] + part.forces, atol=1e-12)
    np.testing.assert_allclose(whole[2], nets[2] + part.energies, atol=1e-12)
    energy, forces = potential.energy_forces(structure)
    assert energy == pytest.approx(whole[0], rel=1e-12)
    np.testing.assert_allclose(forces, whole[1], atol=1e-12)


def test_the_range_of_training_energies_is_that_of_whole_energies(trained):
    """A simulation compares its energies, which hold the baseline, with it."""
    known = read_checkpoint(trained / "run" / "checkpoint.h5").progress
    labels = [atoms.get_potential_energy() / len(atoms) for atoms in frames(trained)]
    for name in ("energy_low", "energy_high"):
        assert np.abs(np.array(labels) - known[name]).min() < 1e-12


def test_the_nets_learn_what_the_baseline_leaves(trained):
    """Errors in training, on labels without it, are those of an evaluation of the whole on all labels."""
    saved = read_checkpoint(trained / "run" / "checkpoint.h5")
    data = mpnnp.read(trained / "clusters.extxyz", report=lambda _: None)
    task = mpnnp.new_task(saved.potential, data)
    best = saved.potential.with_weights(saved.best_weights)
    whole = evaluate(best, data, serial(), Silent()).accuracy.rmse
    nets = task.observer.evaluate(np.arange(len(data)), best.weights).rmse
    for kind in ("energy", "force"):
        assert nets[kind] == pytest.approx(whole[kind], rel=1e-9)
    plain = mpnnp.new_potential(data, functions="default", hidden=[3])
    left = mpnnp.new_potential(data, functions="default", hidden=[3], baseline=SECTION)
    assert left.baseline == BASELINE and left.force_scale != plain.force_scale


def test_forces_are_the_slope_of_the_whole_energy(trained):
    atoms, h = frames(trained)[1], 1e-5
    atoms.calc = mpnnp.Calculator(trained / "run" / "best.h5")
    forces = atoms.get_forces()
    for atom, axis in ((0, 0), (4, 2)):
        x = atoms.positions[atom, axis]
        energies = []
        for step in (h, -h):
            atoms.positions[atom, axis] = x + step
            energies.append(atoms.get_potential_energy())
        atoms.positions[atom, axis] = x
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), rel=1e-5, abs=1e-6)


def test_an_interrupted_run_goes_on_exactly(tmp_path, trained):
    run(tmp_path, "run", run={"updates": 4})
    run(tmp_path, "run", resume=True)
    a, b = (read_checkpoint(folder / "run" / "checkpoint.h5") for folder in (tmp_path, trained))
    np.testing.assert_array_equal(a.potential.weights, b.potential.weights)
    assert a.progress["data"] == b.progress["data"]


def test_another_baseline_is_another_run(tmp_path):
    run(tmp_path, "run", run={"updates": 2})
    config = small_config(tmp_path, baseline={"zbl": [0.7, 1.9]})
    with pytest.raises(CheckpointError, match="baseline.zbl"):
        train(config, tmp_path / "run", serial(), Log(serial(), stream=open("/dev/null", "w")), True)


def test_files_of_n2p2_remember_it_in_a_comment(trained, tmp_path):
    potential = read_checkpoint(trained / "run" / "best.h5").potential
    write_potential(potential, tmp_path / "pot")
    assert "# baseline: zbl 0.8 1.9\n" in (tmp_path / "pot" / "input.nn").read_text()
    again = read_potential(tmp_path / "pot")
    atoms = frames(trained)[1]
    assert again.energy_forces(atoms)[0] == pytest.approx(potential.energy_forces(atoms)[0], rel=1e-10)
    for text in (describe_folder(tmp_path / "pot"), describe_checkpoint(trained / "run" / "best.h5")):
        assert "added to what the nets predict: zbl 0.8 1.9" in text
    lines = (tmp_path / "pot" / "input.nn").read_text().replace("zbl 0.8 1.9", "zbl 2 1")
    (tmp_path / "pot" / "input.nn").write_text(lines)
    number = 1 + next(k for k, line in enumerate(lines.splitlines()) if "zbl 2 1" in line)
    with pytest.raises(DataError, match=rf"input.nn, line {number}: baseline.zbl"):
        read_potential(tmp_path / "pot")


def test_cp2k_is_refused_with_the_reason(trained, tmp_path):
    potential = read_checkpoint(trained / "run" / "best.h5").potential
    with pytest.raises(DataError, match=r"no baseline \(zbl 0.8 1.9\)"):
        write_potential(potential, tmp_path / "cp2k", cp2k=True)
    assert not (tmp_path / "cp2k").exists()


def test_weights_keep_the_baseline_that_they_were_trained_with(trained, tmp_path):
    network = {"initializer": "files", "weights_from": str(trained / "run" / "best.h5")}
    assert baseline_of(small_config(tmp_path, network=network)) == BASELINE
    with pytest.raises(ConfigError, match="its weights fit no other"):
        baseline_of(small_config(tmp_path, network=network, baseline={"zbl": [0.5, 0.9]}))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"hidden": [9], "activation": "tanh"}, ["network.hidden = [9] ([4, 3] there, of O)"]),
        ({"elements": {"O": {"hidden": [7]}}}, ["network.elements.O.hidden = [7] ([4, 3] there)"]),
        ({"elements": {"O": {"hidden": [4, 3]}}}, []),
        ({"atomic_energies": {"H": -13.5}}, ["network.atomic_energies.H = -13.5 ("]),
    ],
)
def test_keys_that_the_potential_of_weights_from_overrules_are_told(trained, tmp_path, keys, told):
    network = {"initializer": "files", "weights_from": str(trained / "run" / "best.h5")} | keys
    _, log = quiet()
    begun(small_config(tmp_path, network=network), tmp_path / "cache", serial(), log)
    lines = [line for line in log.kept if "not used with network.weights_from" in line]
    assert len(lines) == bool(told) and all(part in lines[0] for part in told)


@pytest.mark.parametrize(
    "section, part",
    [
        ({"zbl": [0.5]}, "baseline.zbl"),
        ({"zbl": [1.0, 0.5]}, "0 < inner < outer"),
        ({"d3_damping": "x"}, "bj"),
    ],
)
def test_wrong_settings_are_named(tmp_path, section, part):
    with pytest.raises(ConfigError, match=part):
        baseline_of(small_config(tmp_path, baseline=section))
