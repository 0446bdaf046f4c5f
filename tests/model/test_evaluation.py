"""Accuracies of the learning curve: energies of all structures, forces of some, as plain NumPy has them."""

import numpy as np
import pytest
from small import begun, quiet, small_config

from mpnnp.model.evaluation import Evaluation
from mpnnp.model.label_kinds import KINDS
from mpnnp.model.metrics import Accuracy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("run")
    return begun(small_config(tmp_path), tmp_path, *quiet())


def errors(run, structures):
    """Errors of the energies in meV/atom, and of the force components in meV/Angstrom."""
    start, data, w = run.task.observer.structures.start, run.task.observer.dataset, run.state.weights
    atoms, predict = run.task.observer.structures, run.task.observer.predictor.predict
    predictions = [predict(atoms, s, w) for s in structures]
    energies = [
        1000 * (data.energy[s] - p.energy) / (start[s + 1] - start[s])
        for s, p in zip(structures, predictions)
    ]
    forces = [
        1000 * (data.forces[start[s] : start[s + 1]] - p.forces).ravel()
        for s, p in zip(structures, predictions)
    ]
    return np.array(energies), np.concatenate(forces)


def test_accuracy_is_the_mean_over_energies_of_all_and_forces_of_some(run):
    some = run.task.train[[1, 4, 5]]
    found = run.task.observer.evaluate(run.task.train, run.state.weights, forces_of=some)
    energies, forces = errors(run, run.task.train)[0], errors(run, some)[1]
    assert found.energy_rmse == pytest.approx(np.sqrt(np.mean(energies**2)), rel=1e-10)
    assert found.energy_mae == pytest.approx(np.mean(np.abs(energies)), rel=1e-10)
    assert found.force_rmse == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-10)
    assert found.force_mae == pytest.approx(np.mean(np.abs(forces)), rel=1e-10)


def test_a_prediction_that_is_no_number_is_an_infinite_error_whether_forces_are_compared_or_not(run):
    w = np.full_like(run.state.weights, np.nan)
    for forces_of in (run.task.train, run.task.train[:0]):
        assert run.task.observer.evaluate(run.task.train, w, forces_of=forces_of).energy_rmse == np.inf
    assert np.isnan(run.task.observer.evaluate(run.task.train, w, forces_of=run.task.train[:0]).force_rmse)


def test_an_infinite_error_is_not_told_as_no_labels():
    nothing = dict.fromkeys(KINDS, np.nan)
    found = Evaluation(
        Accuracy(nothing | {"energy": np.inf, "stress": np.inf}, nothing), {}, np.array([0, 3])
    )
    numbers = found.numbers()
    assert numbers["energy_rmse_mev_per_atom"] == np.inf and numbers["force_rmse_mev_per_angstrom"] is None
    assert [kind.name for kind in found.accuracy.kinds()] == ["energy", "force", "stress"]
