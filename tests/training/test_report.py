"""Lines of a run: at most 100 columns, a header every twenty, the best marked, a closing table."""

from types import SimpleNamespace

import numpy as np
import pytest

from mpnnp.model.label_kinds import KINDS
from mpnnp.model.metrics import Accuracy
from mpnnp.training import report
from mpnnp.training.report import WIDTH, CurveTable, closing_table


def accuracy(*values):
    """Accuracy with these RMSE of energy, force, stress; NaN for the rest."""
    rmse = dict(zip(KINDS, [*values, *[np.nan] * len(KINDS)]))
    return Accuracy(rmse, {name: 0.7 * x for name, x in rmse.items()})


def both(*values):
    """Accuracies of the columns of a line."""
    return {"train": accuracy(*values), "valid": accuracy(*values)}


def lines_of(n, *values, noise=""):
    table, found = CurveTable(), []
    for epoch in range(n):
        state = SimpleNamespace(update=1000 * epoch, seconds=37.0 * epoch)
        lines = table.lines(epoch, state, both(*values), epoch == 3, 60.0 * (n - epoch), noise)
        found.append(list(lines))
    return found


def test_a_line_for_each_evaluation_under_a_header_with_parts_and_units():
    (units, parts, first), *rest = lines_of(5, 1.956, 211.74)
    assert units.split() == ["RMSE", "energy", "(meV/atom)", "force", "(meV/A)"]
    assert parts.split() == ["epoch", "update", "time", "left", *2 * ["train", "valid"]]
    assert first.split() == ["epoch", "0", "0", "0", "s", "5:00", "min", *2 * ["1.956"], *2 * ["211.74"]]
    assert [len(lines) for lines in rest] == [1] * 4
    assert [line.endswith("  best") for (line,) in rest] == [False, False, True, False]
    # numbers stand under their heads
    assert {len(parts), len(first)} == {len(units)}


def test_the_header_comes_again_after_twenty_lines_with_the_noise():
    found = lines_of(45, 1.0, 2.0, noise="noise: energy 0.6 meV/atom")
    assert [k for k, lines in enumerate(found) if len(lines) > 1] == [0, 20, 40]
    assert found[20][0].strip() == "noise: energy 0.6 meV/atom" and "RMSE" in found[20][1]


def test_after_a_hundred_lines_not_more_than_one_in_a_second(monkeypatch):
    now, told = [0.0], 0
    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    table = CurveTable()
    for epoch in range(1000):
        if table.is_due():
            told += 1
            list(table.lines(epoch, SimpleNamespace(update=epoch, seconds=0.0), both(1.0), True, None))
        now[0] += 0.25
    assert told == 100 + 900 // 4


@pytest.mark.parametrize(
    "values",
    [(0.061, 46.05, 0.431), (17.451, 917.43, 5.5), (1e7, 1e9, 1e12), (np.nan, 3.0), (np.inf, np.inf, np.inf)],
)
def test_no_line_is_longer_than_a_hundred_columns(values):
    state = SimpleNamespace(update=999_999_99, seconds=35_999.0)
    lines = [*CurveTable().lines(9999, state, both(*values), True, 35_999.0)]
    lines += closing_table(
        9999,
        {"training": 10**7, "validation": 10**6},
        {"training": accuracy(*values), "validation": accuracy(*values)},
    )
    assert max(map(len, lines)) <= WIDTH
    # and no two numbers run into each other
    assert len(lines[2].split()) == 2 + 1 + 2 + 2 + 2 * len(report.shown(accuracy(*values))) + 1


def test_kinds_that_do_not_fit_stand_in_the_learning_curve_alone(monkeypatch):
    more = {f"kind{k}": SimpleNamespace(**vars(KINDS["stress"]) | {"name": f"kind{k}"}) for k in range(3)}
    monkeypatch.setattr(report, "KINDS", KINDS | more)
    values = {name: 1.0 for name in KINDS | more}
    found = Accuracy(values, values)
    state = SimpleNamespace(update=1, seconds=1.0)
    lines = [*CurveTable().lines(1, state, {"train": found, "valid": found}, True, None)]
    assert max(map(len, lines)) <= WIDTH
    assert "stress" in lines[0] and "kind0" not in lines[0]


def test_the_closing_table_has_a_row_for_each_part_with_structures():
    parts = {"training": accuracy(0.0615, 49.13), "validation": accuracy(np.nan, np.nan)}
    lines = list(closing_table(20, {"training": 173, "validation": 0}, parts, {"energy": 0.3, "force": 60.0}))
    assert lines[0] == "best.h5, the potential after epoch 20, on all structures:"
    assert lines[2].split() == ["RMSE", "MAE", "RMSE", "MAE"]
    assert lines[3].split() == ["training", "173", "0.0615", "0.04305", "49.13", "34.39"]
    assert lines[4].split() == ["noise", "level", "0.3", "60"] and len(lines) == 5


@pytest.mark.parametrize(
    "epoch, done, told",
    [(1, 0, "epoch 1"), (1, 7, "epoch 1"), (2, 0, "epoch 1 done"), (26, 0, "epoch 25 done")],
)
def test_a_run_stands_in_the_epoch_under_way_or_after_the_last_that_is_done(epoch, done, told):
    assert report.place_in_run(epoch, done) == told


def test_kinds_without_labels_have_a_dash_in_the_tables():
    """Energies alone, or a part without them: where nothing is known nothing is told as a number."""
    state = SimpleNamespace(update=1, seconds=1.0)
    parts = {"training": accuracy(0.5, np.nan), "validation": accuracy(np.nan, np.nan)}
    lines = [*CurveTable().lines(1, state, parts, False, None)]
    lines += closing_table(20, {"training": 2, "validation": 1}, parts, {"energy": 0.3})
    assert "nan" not in "\n".join(lines)
    assert lines[2].split()[-4:] == ["0.500", "-", "-", "-"]
    assert lines[6].split() == ["training", "2", "0.5", "0.35", "-", "-"]
    assert lines[7].split() == ["validation", "1", "-", "-", "-", "-"]
    assert lines[8].split() == ["noise", "level", "0.3", "-"]


def test_an_accuracy_tells_the_kinds_that_have_labels():
    assert str(accuracy(0.5, np.nan)) == "energy 0.5 meV/atom (MAE 0.35)"
    assert str(accuracy(np.nan, 2.0)) == "force 2 meV/A (MAE 1.4)"
    assert str(accuracy()) == "no labels"
