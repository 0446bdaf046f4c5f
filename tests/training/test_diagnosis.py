"""A run judges itself: every rule on learning curves made for it."""

import numpy as np
import pytest

from mpnnp.training.diagnosis import (
    MOST_LINES,
    Facts,
    Outside,
    StandingOut,
    best_long_ago,
    diagnose,
    extrapolates,
    few_stand_out,
    in_words,
    labels_are_wrong,
    overfits,
    standing_out,
    still_improving,
)
from mpnnp.training.learning_curve import all_columns
from mpnnp.training.results import Points, correlation_within

WEIGHTS = {"energy": 1.0, "force": 1.0}


def curve(energy, force=None, train=1.0, validation=True):
    """Columns with these validation errors, and `train` times them as training errors."""
    n = len(energy)
    columns = {name: np.full(n, np.nan) for name in all_columns()}
    columns["epoch"] = np.arange(n, dtype=float)
    for name, values in (("energy", energy), ("force", energy if force is None else force)):
        values = np.asarray(values, float)
        columns[f"{name}_rmse_train"] = train * values
        if validation:
            columns[f"{name}_rmse_validation"] = values
    return columns


def facts(**other):
    return Facts(**{"weights": WEIGHTS, "epochs": 20} | other)


FALLING = 10.0 * 0.8 ** np.arange(21)
CONVERGED = np.concatenate([[10.0, 3.0, 1.5], np.full(18, 1.0)])
RISEN = np.concatenate([10.0 * 0.5 ** np.arange(5), np.linspace(0.7, 2.0, 16)])


def test_nothing_is_wrong_with_a_curve_that_has_converged():
    assert diagnose(curve(CONVERGED), facts()) == []
    assert in_words([]) == ["nothing looks wrong: smaller errors need more structures or a larger net"]
    assert diagnose(curve([]), facts()) == []


def test_still_improving():
    found = still_improving(curve(FALLING), facts())
    assert found.text == "still improving: errors fell by 59 % in the last 4 of 20 epochs"
    assert found.remedy == "more epochs: --resume --set run.epochs=40"
    assert still_improving(curve(CONVERGED), facts()) is None
    stopped = still_improving(curve(FALLING), facts(complete=False))
    assert "--resume" in stopped.remedy and "run.epochs" not in stopped.remedy
    assert still_improving(curve([*FALLING, 2 * FALLING[-1]]), facts(complete=False)) is None  # of patience
    few = still_improving(curve(FALLING[:4]), facts())
    assert few.text == "3 epochs, and the last one is the best: too few to judge"
    assert still_improving(curve([*FALLING[:3], FALLING[0]]), facts()) is None
    assert still_improving(curve(FALLING[:1]), facts()) is None
    started = still_improving(curve(FALLING[:1]), facts(complete=False))
    assert started.text == "ended within the first epoch: too early to judge" and "--resume" in started.remedy


def test_the_best_epoch_was_long_ago():
    found = best_long_ago(curve(RISEN), facts())
    assert found.text == "the best epoch, 4 of 20, was long ago: errors have risen by 220 % since"
    assert best_long_ago(curve(CONVERGED), facts()) is None  # the first of many equal ones
    assert best_long_ago(curve(FALLING), facts()) is None
    assert best_long_ago(curve(RISEN[:8]), facts()) is None  # three epochs are not long


def test_the_best_epoch_is_the_one_that_was_kept():
    """With learned noise: not the luckiest one."""
    lucky = np.array([10.0, 3.0, 2.0, 0.5, 2.0, *np.full(16, 1.5)])
    assert best_long_ago(curve(lucky), facts()).text.startswith("the best epoch, 3 of 20, was long ago")
    assert best_long_ago(curve(lucky), facts(evaluations=10)) is None


def test_the_start_is_the_best():
    found = diagnose(curve(np.linspace(5.0, 9.0, 21)), facts())
    assert [f.text for f in found] == ["the start is the best: no epoch came below it"]
    assert "sign and unit" in in_words(found)[-1]


def test_one_kind_of_labels_gets_worse():
    found = labels_are_wrong(curve(FALLING, np.linspace(100.0, 160.0, 21)), facts())
    assert found.text.startswith("the force error grew from 100 to ")
    assert labels_are_wrong(curve(FALLING, 100 * FALLING), facts()) is None
    few = facts(spreads={"force": np.inf})
    assert labels_are_wrong(curve(FALLING, np.linspace(100.0, 160.0, 21)), few) is None


def test_as_good_as_predicting_the_mean():
    force = np.concatenate([[900.0], np.full(20, 640.0)])
    found = labels_are_wrong(curve(CONVERGED, force), facts(spreads={"force": 650.0}))
    assert "640 meV/A are as good as predicting the mean (the labels spread by 650)" in found.text
    assert labels_are_wrong(curve(CONVERGED, force), facts(spreads={"force": 1300.0})) is None
    assert labels_are_wrong(curve(CONVERGED, force), facts(spreads={"force": np.inf})) is None  # too few


def test_energies_that_contradict_the_forces():
    found = labels_are_wrong(curve(FALLING), facts(correlation=-0.8))
    assert "correlation -0.80" in found.text and found.remedy.startswith("check sign and unit")
    assert labels_are_wrong(curve(FALLING), facts(correlation=0.9)) is None
    # what lies between compositions says nothing about the sign
    labels, groups = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0]), np.array([0, 0, 0, 1, 1, 1])
    predictions = np.array([3.0, 2.0, 1.0, 13.0, 12.0, 11.0])
    points = Points(labels, predictions, np.zeros(6), np.arange(6))
    assert np.corrcoef(labels, predictions)[0, 1] > 0.9
    assert correlation_within(points, groups) == pytest.approx(-1.0)
    assert np.isnan(correlation_within(points, np.arange(6)))


def test_training_far_below_validation():
    told = facts(n_label={"energy": 173}, n_weight=2827)
    found = overfits(curve(CONVERGED, train=0.2), told)
    assert found.text == (
        "energy: training 0.2, validation 1 meV/atom: overfitting; 173 labels, 2827 weights"
    )
    assert overfits(curve(CONVERGED, train=0.8), told) is None
    assert overfits(curve(CONVERGED, train=0.2, validation=False), told) is None
    assert overfits(curve(CONVERGED, train=0.2), facts(weights={"force": 1.0})).text.startswith("force")


def test_functions_that_extrapolate():
    worst = Outside("O type 2 O eta 1", 7, 1000, 0.8)
    found = extrapolates(curve(CONVERGED), facts(outside=[worst], n_outside=30, n_atom=1500))
    assert found.text == (
        "2 % of the validation atoms are outside of training, "
        "furthest (by 80 % of its range) in O type 2 O eta 1"
    )
    few = Outside("O type 2 O eta 1", 1, 1000, 0.02)
    assert extrapolates(curve(CONVERGED), facts(outside=[few], n_outside=1, n_atom=1500)) is None
    assert extrapolates(curve(CONVERGED), facts()) is None


def errors_of(*energies):
    """As of Collected: number of a structure, errors of energies, forces that are all alike, no stresses."""
    n = len(energies)
    return np.stack([10.0 + np.arange(n), energies, np.full(n, 50.0), np.full(n, np.nan)], axis=1)


def test_a_few_structures_that_have_most_of_the_error_are_named():
    errors = errors_of(*np.linspace(0.1, 1.9, 38), 40.0, 60.0)
    (found,) = standing_out("frame {}".format, errors)
    assert found == StandingOut(
        "energy", 2, 40, found.share, "frame 49", 60.0, pytest.approx(60 / 1.05, 0.05)
    )
    assert found.share == pytest.approx(5200 / (5200 + np.sum(np.linspace(0.1, 1.9, 38) ** 2)))
    finding = few_stand_out(curve(CONVERGED), facts(standing_out=[found]))
    assert finding.text == (
        "energy: 2 of 40 training structures have 99 % of the squared error, "
        "most of all frame 49: 60 meV/atom, 57 times the median"
    )
    assert finding.remedy.endswith("are their labels right?")
    assert diagnose(curve(CONVERGED, train=0.1), facts(standing_out=[found]))[0] == finding
    assert few_stand_out(curve(CONVERGED[:1]), facts(standing_out=[found])) is None  # nothing was learned yet


@pytest.mark.parametrize(
    "energies",
    [
        np.abs(np.random.default_rng(1).standard_normal(2000)),  # errors of a net that has learned
        [*np.full(16, 1.0), 60.0, 60.0],  # too few to know
        [*np.full(40, 1.0), *np.full(5, 60.0)],  # a tenth of the data: another kind of structures
        [*np.full(400, 1.0), 7.0],  # far away, and of no weight
        np.zeros(40),
    ],
)
def test_errors_in_which_no_few_structures_stand_out(energies):
    assert standing_out(str, errors_of(*energies)) == []


def test_five_lines_at_most_the_most_urgent_first_and_what_to_change():
    worst = Outside("O type 2 O eta 1", 7, 1000, 0.8)
    told = facts(outside=[worst], n_outside=30, n_atom=1500)
    lines = in_words(diagnose(curve(RISEN, train=0.1), told))
    assert len(lines) == 4 <= MOST_LINES
    assert lines[0].startswith("the best epoch") and lines[-1].startswith(
        "first: more structures or a smaller"
    )
    assert max(map(len, lines)) < 110


@pytest.mark.parametrize("n", [1, 2, 3])
def test_short_curves_say_nothing_that_is_not_so(n):
    for forces in ((), (np.linspace(100.0, 110.0, n),)):
        found = diagnose(curve(FALLING[:n], *forces), facts())
        assert [finding.text.endswith("too few to judge") for finding in found] == [True] * (n > 1)


def test_a_trained_start_that_stays_the_best_does_not_blame_the_labels():
    risen = np.concatenate([[1.0], np.full(10, 1.5)])
    first = diagnose(curve(risen), facts(trained=True))[0]
    assert "the potential that this run began with" in first.text and "sign" not in first.remedy
    assert "sign" in diagnose(curve(risen), facts())[0].remedy
