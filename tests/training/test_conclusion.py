"""The judgement of real trainings: labels of the wrong sign are told, those that are right are not."""

import json

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from small import cluster, pair_energy_forces, quiet, small_config

from mpnnp.training.results import read_results
from mpnnp.training.train import train


def judgement(folder, sign, **run):
    """Lines of the judgement of a short run on clusters whose forces are multiplied by `sign`."""
    rng, frames = np.random.default_rng(3), []
    for _ in range(40):
        atoms = cluster(rng, 2, labels=False)
        energy, forces = pair_energy_forces(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=sign * forces)
        frames.append(atoms)
    write(folder / "clusters.extxyz", frames, parallel=False)
    comm, log = quiet()
    train(small_config(folder, run={"epochs": 8} | run), folder / "run", comm, log)
    first = next(k for k, line in enumerate(log.kept) if line.startswith("judgement: "))
    last = next(k for k, line in enumerate(log.kept) if line.startswith("results in "))
    return [line[11:] for line in log.kept[first:last]]


def test_forces_of_the_wrong_sign_are_told(tmp_path):
    lines = judgement(tmp_path, -1.0)
    assert len(lines) == 2 and lines[1].startswith("first: check sign and unit of the labels")


def test_right_labels_are_not_doubted_and_at_most_five_lines_are_said(tmp_path):
    lines = judgement(tmp_path, 1.0)
    assert len(lines) <= 5 and not any("sign and unit" in line for line in lines)
    kept = read_results(tmp_path / "run" / "results.h5").facts["diagnosis"]
    assert kept["n_label"]["energy"] == 30 and kept["weights"] == {"energy": 1.0, "force": 1.0}
    accuracy = json.loads((tmp_path / "run" / "accuracy.json").read_text())
    assert accuracy["validation"]["force_rmse"] < 0.5 * kept["spreads"]["force"]


def test_a_run_that_was_stopped_while_it_improved_wants_more_time_not_more_epochs(tmp_path):
    lines = judgement(tmp_path, 1.0, updates=300)
    assert lines[0].startswith("still improving")
    assert lines[-1] == "first: more time: the same command with --resume and a later limit"
    assert read_results(tmp_path / "run" / "results.h5").facts["reason"] == "run.updates = 300 reached"


def test_without_validation_the_training_structures_judge(tmp_path):
    comm, log = quiet()
    config = small_config(tmp_path, data={"validation_fraction": 0.0}, run={"epochs": 2})
    train(config, tmp_path / "run", comm, log)
    results = read_results(tmp_path / "run" / "results.h5")
    assert results.facts["part"] == "training" and results.facts["counts"]["validation"] == 0
    assert not any(line.split()[:1] == ["validation"] for line in log.kept)
