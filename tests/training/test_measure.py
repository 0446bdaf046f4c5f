"""The measure by which the best potential is kept, and what chance makes of it."""

import numpy as np
import pytest
from small import small_config

from mpnnp.training.learning_curve import all_columns
from mpnnp.training.measure import (
    EVALUATIONS,
    evaluations,
    measure,
    measures,
    part_that_judges,
    settled,
)

WEIGHTS = {"energy": 1.0, "force": 1.0}


def curve(n, **columns):
    """Columns of n rows, NaN where nothing is given."""
    table = {name: np.full(n, np.nan) for name in all_columns()}
    return table | {"epoch": np.arange(float(n))} | {k: np.asarray(v, float) for k, v in columns.items()}


def test_a_weighted_geometric_mean():
    assert measure({"energy": 2.0, "force": 50.0}, WEIGHTS) == pytest.approx(10.0)
    assert measure({"energy": 2.0, "force": 16.0}, {"energy": 2.0, "force": 1.0}) == pytest.approx(4.0)
    assert measure({"energy": 2.0, "force": 16.0}, {"energy": 0.0, "force": 5.0}) == pytest.approx(16.0)
    assert measure({"energy": np.nan, "force": 16.0}, WEIGHTS) == pytest.approx(16.0)
    assert measure({"energy": 0.0, "force": 16.0}, WEIGHTS) == 0.0
    assert measure({"energy": np.inf, "force": 16.0}, WEIGHTS) == np.inf
    assert measure({"energy": np.nan, "force": np.nan}, WEIGHTS) == 0.0


def test_validation_structures_judge_those_of_training_without_them_and_old_ones_too():
    train = {"energy_rmse_train": [8.0, 2.0], "force_rmse_train": [50.0, 50.0]}
    validation = {"energy_rmse_validation": [9.0, 4.0], "force_rmse_validation": [100.0, 100.0]}
    old = {"energy_rmse_old": [1.0, 4.0], "force_rmse_old": [4.0, 25.0]}
    assert measures(curve(2, **train), WEIGHTS) == pytest.approx([20.0, 10.0])
    assert measures(curve(2, **train, **validation), WEIGHTS) == pytest.approx([30.0, 20.0])
    both = measures(curve(2, **train, **validation, **old), WEIGHTS)
    assert both == pytest.approx([np.sqrt(30.0 * 2.0), np.sqrt(20.0 * 10.0)])


def test_validation_stresses_judge_where_they_are_all_there_is():
    weights = {"energy": 1.0, "force": 1.0, "stress": 1.0}
    columns = {"stress_rmse_train": [2.0, 1.0], "stress_rmse_validation": [2.0, 3.0]}
    assert part_that_judges(curve(2, **columns), weights) == "validation"
    assert measures(curve(2, **columns), weights) == pytest.approx([2.0, 3.0])
    assert part_that_judges(curve(2, **columns), WEIGHTS) == "train"


def test_points_are_judged_with_those_before_but_not_with_the_start():
    values = np.array([100.0, 8.0, 2.0, 4.0, 4.0, 9.0])
    assert settled(values, 1) == pytest.approx(values)
    assert settled(values, 2) == pytest.approx([100.0, 8.0, 4.0, 4.0, 4.0, 9.0])  # none below its own
    assert settled(values, 3) == pytest.approx([100.0, 8.0, 4.0, 4.0, 4.0, 9.0])
    assert settled(np.array([5.0, 4.0, 1.0]), 10) == pytest.approx([5.0, 4.0, 2.0])
    assert settled(np.array([5.0, 0.0, 1.0]), 10) == pytest.approx([5.0, 0.0, 1.0])


def test_the_luckiest_of_many_points_is_not_the_best():
    """Errors that fall by a third, and are known to 10 %: the smallest is often an early one."""
    rng, truth = np.random.default_rng(3), np.linspace(1.5, 1.0, 60)
    chosen = {1: [], EVALUATIONS: []}
    for _ in range(400):
        seen = truth * np.exp(0.1 * rng.normal(size=60))
        for n, found in chosen.items():
            found.append(truth[np.argmin(settled(seen, n))] - 1.0)
    assert np.mean(chosen[EVALUATIONS]) < 0.02 < 0.03 < np.mean(chosen[1])


def test_chance_is_averaged_where_weights_come_to_rest(tmp_path):
    def of(**sections):
        return evaluations(small_config(tmp_path, **sections))

    assert of(ekf={"noise": "learned"}) == EVALUATIONS
    assert of(ekf={"noise": "fixed"}) == 1
    assert of(run={"optimizer": "adam"}) == 1
    assert of(ekf={"noise": "learned"}, network={"weights_from": "best.h5"}) == 1
