"""Stress as a label: predictions, rows, training and evaluation."""

from dataclasses import replace

import numpy as np
import pytest
from kernels.test_compact import FUNCTIONS as COMPACT
from launch import ROOT
from oracles.rows import check_rows, values_of
from oracles.systems import SYSTEMS, functions_of, make_net
from oracles.systems import evaluate as evaluate_system
from small import FUNCTIONS, begun, quiet, small_config

from mpnnp.config import make_config
from mpnnp.data import dataset as hdf5
from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import read_sources
from mpnnp.data.packed import make_atoms
from mpnnp.data.structure import Structure
from mpnnp.kernels.jacobian import stress_rows, stress_values
from mpnnp.kernels.jit import read_only
from mpnnp.model.evaluation import evaluate
from mpnnp.model.label_kinds import ENERGY, FORCE, position
from mpnnp.model.network import Network
from mpnnp.model.potential import Potential
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.model.symmetry_functions import SymmetryFunction, SymmetryFunctions
from mpnnp.training.checkpoint import read_potential
from mpnnp.training.labels import Labels
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.schedules import Batch, make_schedule
from mpnnp.training.train import train

STRESS = position("stress")
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
PERIODIC = [
    SYSTEMS[name]
    for name in ("three atoms in a cell smaller than the cutoff", "triclinic", "one atom and its images")
]
MODELS = {"all other kinds": make_net(), "compact": make_net(COMPACT)}


def labels_of(systems):
    return np.array([(s, c) for s in range(len(systems)) for c in range(6)])


@pytest.mark.parametrize("kind", MODELS)
def test_stress_is_the_virial_over_the_volume(kind):
    """The virial itself is proven by finite differences in kernels/test_energy_forces.py."""
    model, w = MODELS[kind]
    structures, G = functions_of(PERIODIC, model)
    values = values_of(stress_values, labels_of(PERIODIC), structures, G, model, w).reshape(-1, 6)
    for system, stress in zip(PERIODIC, values, strict=True):
        virial = evaluate_system(system, model, w)[3] / abs(np.linalg.det(system[2]))
        assert stress == pytest.approx(
            [virial[a, b] for a, b in VOIGT], rel=1e-11, abs=1e-12 * np.abs(virial).max()
        )


@pytest.mark.parametrize("kind", MODELS)
def test_stress_rows_are_the_gradient_by_the_weights(kind):
    model, w = MODELS[kind]
    structures, G = functions_of(PERIODIC, model)
    labels = labels_of(PERIODIC)[::2]
    check_rows(stress_rows, stress_values, labels, structures, G, model, w, smallest=1e-14)


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """24 frames of the example data, with stress labels."""
    path = tmp_path_factory.mktemp("water") / "water.h5"
    data = read_sources(ROOT / "jobs" / "water" / "water.extxyz.xz", report=lambda line: None)
    hdf5.write(path, data.take(np.arange(0, 216, 9)))
    return path


def config_of(water, seed=1, **schedule):
    tree = {
        "data": {"files": str(water), "validation_fraction": 0.25, "cache": str(water.parent / "cache")},
        "symmetry_functions": {"functions": FUNCTIONS},
        "network": {"hidden": [8]},
        "schedule": {"force_fraction": 0.004, "streams": 4} | schedule,
        "ekf": {"noise": "fixed"},
        "run": {"epochs": 6, "evaluation_structures": 0, "seed": seed},
    }
    return make_config(tree)


def test_learning_stress_lowers_its_error(water, tmp_path):
    """The mean of the last epochs of two seeds: without stress its error jumps from epoch to epoch."""
    comm, log = quiet()
    last = {}
    for name, fraction in (("without", 0.0), ("with", 1.0)):
        errors = []
        for seed in (1, 2):
            folder = tmp_path / f"{name}-{seed}"
            state = train(config_of(water, seed, stress_fraction=fraction), folder, comm, log)
            curve = LearningCurve.read(folder / "learning-curve.csv")
            assert state.curve.columns()["stress_rmse_validation"] == pytest.approx(
                curve["stress_rmse_validation"], rel=1e-8
            )
            errors += list(curve["stress_rmse_validation"][-3:])
        last[name] = np.mean(errors)
    assert last["with"] < 0.6 * last["without"]
    data = hdf5.read(water)
    potential = read_potential(tmp_path / "with-1" / "best.h5")
    result = evaluate(potential, data, comm, log)
    errors = result.stress - data.stress
    assert result.numbers()["stress_rmse_mev_per_angstrom3"] == pytest.approx(
        1000 * np.sqrt(np.mean(errors**2)), rel=1e-10
    )


def test_observations_of_stress_in_training_units(water, tmp_path):
    """Errors and rows of the observer are those of the predicted stress, in units of the spread
    of the labels, times the weight.
    """
    comm, log = quiet()
    run = begun(config_of(water, stress_fraction=1.0, stress_weight=3.0), tmp_path, comm, log)
    assert len(run.task.labels[STRESS]) == 6 * len(run.task.train)
    w, labels = run.task.potential.weights, run.task.labels[STRESS][:9]
    rows, errors, _ = run.task.observer.observe(Batch(STRESS, labels[:, None]), read_only(w))
    rows, errors = rows.copy(), errors.copy()
    spread = run.task.observer.dataset.stress[run.task.train].std()
    for label, error in zip(labels, errors, strict=True):
        structure = run.task.observer.dataset[label // 6]
        predicted = run.task.potential.predict(structure).stress(structure.cell)[label % 6]
        assert error == pytest.approx(3.0 * (structure.stress[label % 6] - predicted) / spread, rel=1e-9)
    direction = np.random.default_rng(0).normal(size=len(w))
    high, low = (
        run.task.observer.errors(STRESS, labels, read_only(w + h * direction)) for h in (1e-5, -1e-5)
    )
    assert rows @ direction == pytest.approx(
        -3.0 * (high - low) / 2e-5, rel=1e-5, abs=1e-6 * np.abs(rows @ direction).max()
    )


def test_structures_without_three_periodic_directions_have_no_stress_label():
    atom = {"numbers": [1], "positions": np.zeros((1, 3)), "cell": np.eye(3) * 5, "stress": np.ones(6)}
    dataset = Dataset.from_structures([Structure(pbc=p, **atom) for p in (True, [True, True, False])])
    potential = potential_of_one_function()
    labels = Labels.of(dataset, make_atoms(dataset, (1,)), potential)
    targets = labels.targets[STRESS]
    assert (targets[:6] == 1.0).all() and np.isnan(targets[6:]).all()


def potential_of_one_function():
    one = np.ones(1)
    return Potential(
        functions=SymmetryFunctions([1], [SymmetryFunction(center=1, kind=2, neighbour1=1, r_c=3.0)]),
        scaling=Scaling("none", 0.0, 1.0, Statistics(one, one, one, one, one)),
        network=Network([(1, 1)], [("identity",)]),
        weights=np.zeros(2),
        atomic_energies=np.zeros(1),
        mean_energy=0.0,
        energy_scale=1.0,
        force_scale=1.0,
    )


def test_sdnz_schedule_takes_stresses():
    config = make_config(
        {
            "data": {"files": "a"},
            "schedule": {"name": "sdnz", "stress_probability": 0.3, "updates_per_epoch": 1000},
        }
    ).schedule
    labels = (np.arange(5), np.arange(30), np.arange(30))
    epoch = make_schedule(config, labels, 1).epoch(1)
    assert 240 < np.count_nonzero(epoch.kinds == STRESS) < 360
    sizes = {(b.kind, len(b.candidates)) for b in (epoch[u] for u in range(1000))}
    assert sizes == {(ENERGY, 1), (FORCE, 10), (STRESS, 6)}


def test_a_run_with_stress_goes_on_after_its_checkpoint(water, tmp_path):
    comm, log = quiet()
    config = config_of(water, stress_fraction=0.5, selection="sort")
    whole = train(
        make_config(config.model_dump() | {"run": config.run.model_dump() | {"epochs": 2}}),
        tmp_path / "whole",
        comm,
        log,
    )
    parts = {"epochs": 2, "updates": 20}
    train(
        make_config(config.model_dump() | {"run": config.run.model_dump() | parts}),
        tmp_path / "parts",
        comm,
        log,
    )
    again = train(
        make_config(config.model_dump() | {"run": config.run.model_dump() | {"epochs": 2}}),
        tmp_path / "parts",
        comm,
        log,
        resume=True,
    )
    assert whole.update > 20 and (again.weights == whole.weights).all()


@pytest.mark.parametrize(
    "schedule",
    [{"stress_fraction": 1.0}, {"name": "sdnz", "stress_probability": 0.5, "updates_per_epoch": 60}],
)
def test_data_with_stresses_alone_are_learned(water, tmp_path, schedule):
    data = hdf5.read(water)
    without = {"energy": np.full(len(data), np.nan), "forces": np.full_like(data.forces, np.nan)}
    hdf5.write(tmp_path / "stress.h5", replace(data, **without))
    config = config_of(tmp_path / "stress.h5")
    keys = schedule if "name" in schedule else config.schedule.model_dump() | schedule
    config = make_config(config.model_dump() | {"schedule": keys})
    state = train(config, tmp_path / "run", *quiet())
    curve = state.curve.columns()
    assert curve["stress_rmse_train"][-1] < 0.7 * curve["stress_rmse_train"][0]
    assert np.isnan(curve["energy_rmse_train"]).all()


def test_stresses_that_are_to_be_learned_and_are_not_there_are_told(tmp_path):
    """Of molecules there are none."""
    config = small_config(tmp_path, schedule={"stress_fraction": 0.5}, run={"updates": 1})
    train(config, tmp_path / "run", *quiet())
    told = (tmp_path / "run" / "train.log").read_text()
    assert "warning: schedule.stress_fraction = 0.5, but there are no stress components to learn" in told
