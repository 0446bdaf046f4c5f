"""Ensembles of runs, and the comparison of their learning curves."""

import importlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from small import begun, quiet, small_config, write_clusters

from mpnnp.analysis import comparison
from mpnnp.config import make_config, to_toml
from mpnnp.errors import ConfigError, DataError, Interrupted
from mpnnp.training.checkpoint import read_potential
from mpnnp.training.choices import settle
from mpnnp.training.ensemble import is_finished, member_config, run_ensemble, seeds_of
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.run_folder import CHECKPOINT, PREVIOUS
from mpnnp.training.train import train

train_module = importlib.import_module("mpnnp.training.train")  # the package has a function of this name


def test_seeds_are_ranges_and_numbers():
    assert seeds_of("1-3,7, 9-9") == [1, 2, 3, 7, 9]
    for wrong in ("", "3-1", "a", "1,,2", "1-3,2", "-1"):
        with pytest.raises(ConfigError, match="--seeds"):
            seeds_of(wrong)


def split_and_start(config, folder):
    run = begun(config, folder, *quiet())
    return run.task.train.tolist(), run.state.weights.tolist()


def test_only_what_is_asked_for_differs(tmp_path):
    config = small_config(tmp_path, run={"seed": 1})
    (tmp_path / "runs").mkdir()
    split, weights = split_and_start(config, tmp_path / "runs")
    for over, same_split, same_weights in (
        ("both", False, False),
        ("split", False, True),
        ("weights", True, False),
    ):
        other = split_and_start(member_config(config, 5, over), tmp_path / "runs")
        # other structures give other weights only through the number of functions, which is the same here
        assert ((other[0] == split), (other[1] == weights)) == (same_split, same_weights), over
    with pytest.raises(ConfigError, match="--over"):
        member_config(config, 1, "batches")


def test_a_finished_member_is_known_by_what_its_run_chose(tmp_path):
    config = small_config(tmp_path, ekf={"noise": "learned"}, run={"epochs": None})
    _, log = quiet()
    stored = to_toml(settle(config, (9, 200), log))
    assert stored != to_toml(config)
    (tmp_path / "accuracy.json").write_text("{}")
    assert not is_finished(config, tmp_path)
    (tmp_path / "config.toml").write_text(stored, encoding="utf-8")
    assert is_finished(config, tmp_path)
    other = config.with_keys("run", epochs=3)
    assert not is_finished(other, tmp_path)


def test_a_member_is_the_run_of_its_seed(tmp_path):
    comm, log = quiet()
    config = small_config(tmp_path, run={"epochs": 1})
    assert run_ensemble(config, [3, 4], "both", tmp_path / "all", comm, log) == {3: "trained", 4: "trained"}
    train(member_config(config, 4, "both"), tmp_path / "alone", comm, log)
    alone, member = (
        read_potential(tmp_path / folder / "checkpoint.h5").weights for folder in ("alone", "all/seed-4")
    )
    np.testing.assert_array_equal(alone, member)


def test_finished_members_are_left_and_begun_ones_resumed(tmp_path):
    comm, log = quiet()
    config = small_config(tmp_path, run={"epochs": 2})
    begun = config.with_keys("run", updates=3)
    folder = tmp_path / "all"
    run_ensemble(begun, [1], "both", folder, comm, log)
    run_ensemble(config, [2], "both", folder, comm, log)
    before = (folder / "seed-2" / "checkpoint.h5").stat().st_mtime_ns
    assert run_ensemble(config, [1, 2], "both", folder, comm, log) == {1: "trained", 2: "was finished"}
    assert (folder / "seed-2" / "checkpoint.h5").stat().st_mtime_ns == before
    train(member_config(config, 1, "both"), tmp_path / "alone", comm, log)
    resumed, alone = (
        read_potential(f / "checkpoint.h5").weights for f in (folder / "seed-1", tmp_path / "alone")
    )
    np.testing.assert_array_equal(resumed, alone)


def test_a_finished_member_that_goes_on_and_is_stopped_is_not_finished(tmp_path, monkeypatch):
    comm, log = quiet()
    config = small_config(tmp_path, run={"epochs": 2})
    longer = config.with_keys("run", epochs=4)
    folder, evaluate = tmp_path / "all", train_module.evaluate
    run_ensemble(config, [1], "both", folder, comm, log)

    def stop_at_the_end_of_epoch_3(run, epoch):
        if epoch == 3:
            train_module.save(run)
            raise Interrupted("stopped")
        evaluate(run, epoch)

    with monkeypatch.context() as stopping, pytest.raises(Interrupted):
        stopping.setattr(train_module, "evaluate", stop_at_the_end_of_epoch_3)
        run_ensemble(longer, [1], "both", folder, comm, log)
    assert not is_finished(member_config(longer, 1, "both"), folder / "seed-1")
    assert not (folder / "seed-1" / "results.h5").exists()
    assert run_ensemble(longer, [1], "both", folder, comm, log) == {1: "trained"}
    train(member_config(longer, 1, "both"), tmp_path / "alone", comm, log)
    stopped, alone = (
        read_potential(f / "checkpoint.h5").weights for f in (folder / "seed-1", tmp_path / "alone")
    )
    np.testing.assert_array_equal(stopped, alone)


def test_members_that_go_on_from_a_checkpoint_are_known_to_be_finished(tmp_path):
    comm, log = quiet()
    train(small_config(tmp_path, run={"epochs": 1}), tmp_path / "old", comm, log)
    write_clusters(tmp_path / "new.extxyz", 8, seed=5)
    config = make_config(
        {
            "data": {"files": str(tmp_path / "new.extxyz"), "cache": str(tmp_path / "cache")},
            "run": {"from": str(tmp_path / "old" / "checkpoint.h5"), "epochs": 1},
        }
    )
    folder = tmp_path / "all"
    assert run_ensemble(config, [1, 2], "both", folder, comm, log) == {1: "trained", 2: "trained"}
    assert run_ensemble(config, [1, 2], "both", folder, comm, log) == {1: "was finished", 2: "was finished"}
    longer = config.with_keys("run", epochs=2)
    assert not is_finished(member_config(longer, 1, "both"), folder / "seed-1")
    (tmp_path / "old" / "checkpoint.h5").unlink()
    assert is_finished(member_config(config, 1, "both"), folder / "seed-1")  # its own checkpoint says it
    for name in (CHECKPOINT, PREVIOUS):
        (folder / "seed-1" / name).unlink(missing_ok=True)
    assert not is_finished(member_config(config, 1, "both"), folder / "seed-1")


def test_teams_go_on_from_a_checkpoint(tmp_path, mpiexec):
    train(small_config(tmp_path, run={"epochs": 1}), tmp_path / "old", *quiet())
    write_clusters(tmp_path / "new.extxyz", 8, seed=5)
    (tmp_path / "train.toml").write_text(
        'data.files = "new.extxyz"\nrun.epochs = 1\nrun.from = "old/checkpoint.h5"'
    )
    arguments = ["--seeds", "1-2", "--side-by-side", 2, "-o", tmp_path / "teams"]
    out = mpiexec(2, "-m", "mpnnp", "ensemble", tmp_path / "train.toml", *arguments).stdout
    assert out.count(": trained") == 2
    first, second = (
        read_potential(tmp_path / "teams" / f"seed-{k}" / "checkpoint.h5").weights for k in (1, 2)
    )
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    "sections, over, message",
    [
        ({"run": {"weight_seed": 3}}, "both", "run.weight_seed = 3 would give all members the same"),
        ({"run": {"from": "a.h5"}}, "weights", "begin with the weights of a.h5"),
        ({"data": {"validation_fraction": 0.0}}, "split", "leaves nothing to split"),
        ({"data": {"split": "file"}}, "split", "the data say which structures"),
        ({"data": {"validation_files": ["b"]}}, "split", "the data say which structures"),
    ],
)
def test_members_that_would_be_alike_are_refused(sections, over, message):
    config = make_config(
        {"data": {"files": ["a"]}} | sections | {"data": {"files": ["a"]} | sections.get("data", {})}
    )
    comm, log = quiet()
    with pytest.raises(ConfigError, match=f"--over {over}: .*{message}"):
        run_ensemble(config, [1, 2], over, "never", comm, log)


def test_a_seed_of_the_split_alone_is_told(tmp_path):
    comm, log = quiet()
    config = small_config(tmp_path, run={"epochs": 1, "split_seed": 3})
    run_ensemble(config, [1], "both", tmp_path / "all", comm, log)
    assert "run.split_seed = 3: all members have the same structures for validation" in log.kept


def command(mpiexec, n, tmp_path, *arguments, check=True):
    (tmp_path / "train.toml").write_text(to_toml(small_config(tmp_path, run={"epochs": 1})))
    return mpiexec(n, "-m", "mpnnp", "ensemble", tmp_path / "train.toml", *arguments, check=check)


def test_teams_train_the_same_members_as_one_rank(tmp_path, mpiexec):
    comm, log = quiet()
    run_ensemble(
        small_config(tmp_path, run={"epochs": 1}), [1, 2, 3], "weights", tmp_path / "alone", comm, log
    )
    out = command(
        mpiexec,
        3,
        tmp_path,
        "--seeds",
        "1-3",
        "--over",
        "weights",
        "--side-by-side",
        2,
        "-o",
        tmp_path / "teams",
    ).stdout
    assert out.count("trained") == 3
    for seed in (1, 2, 3):  # the learning curve of each, and how long it will take, beside the others'
        assert re.search(rf"^seed {seed}: +epoch +update +time +left", out, re.MULTILINE)
        assert re.search(rf"^seed {seed}: epoch +1 .* s ", out, re.MULTILINE)
    for seed in (1, 2, 3):
        one, other = (
            read_potential(tmp_path / folder / f"seed-{seed}" / "checkpoint.h5").weights
            for folder in ("alone", "teams")
        )
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-8)
        assert (tmp_path / "teams" / f"seed-{seed}" / "train.log").is_file()


def test_errors_of_a_team_end_all_ranks_with_one_message(tmp_path, mpiexec):
    too_many = command(
        mpiexec, 2, tmp_path, "--seeds", "1-2", "--side-by-side", 3, "-o", tmp_path / "teams", check=False
    )
    assert too_many.returncode == 2 and too_many.stderr.count("--side-by-side") == 1
    command(mpiexec, 1, tmp_path, "--seeds", "1", "-o", tmp_path / "teams")
    changed = ["--seeds", "1-2", "--side-by-side", 2, "-o", tmp_path / "teams", "--set", "ekf.epsilon=7.0"]
    other = command(mpiexec, 2, tmp_path, *changed, check=False)
    assert other.returncode == 2 and other.stderr.count("is of another run") == 1


def curve(updates, seconds, energy, force):
    columns = {"epoch": updates, "update": updates, "seconds": seconds}
    for kind, of_train, of_validation in (("energy", 9.0, energy), ("force", 90.0, force)):
        for measure in ("rmse", "mae"):
            columns[f"{kind}_{measure}_train"] = np.full(len(updates), of_train)
            columns[f"{kind}_{measure}_validation"] = of_validation
    return LearningCurve({name: np.asarray(values, float) for name, values in columns.items()})


@pytest.fixture
def two_groups(tmp_path):
    """Two runs of `fast`, one of `slow`, whose errors are known."""
    fast = [
        curve([0, 10, 20, 30], [0, 1, 2, 3], [8, 4, 2, 1], [800, 400, 200, 100]),
        curve([0, 10, 20], [0, 2, 4], [8, 6, 3], [800, 500, 90]),
    ]
    slow = [curve([0, 100, 200, 400], [0, 1, 2, 4], [8, 6, 3, 2], [800, 300, 150, 120])]
    for name, runs in (("fast", fast), ("slow", slow)):
        for k, run in enumerate(runs, 1):
            (tmp_path / name / f"seed-{k}").mkdir(parents=True)
            run.write(tmp_path / name / f"seed-{k}" / "learning-curve.csv")
    return tmp_path


def test_mean_and_band_of_a_group(two_groups):
    group = comparison.Group.read("fast", [two_groups / "fast" / f"seed-{k}" for k in (1, 2)])
    x, mean, spread = group.mean("energy", "update")
    np.testing.assert_allclose(x, [10, 20])
    np.testing.assert_allclose(mean, [5, 2.5])
    np.testing.assert_allclose(spread, [1, 0.5])
    x, mean, _ = group.mean("force", "seconds")
    np.testing.assert_allclose(x, [2, 3])  # from where both are to where one ends
    np.testing.assert_allclose(mean, [(200 + 500) / 2, (100 + 295) / 2])


def test_updates_and_time_to_the_error_that_all_runs_reach(two_groups):
    read = comparison.Group.read
    groups = [
        read("fast", [two_groups / "fast/seed-1", two_groups / "fast/seed-2"]),
        read("slow", [two_groups / "slow/seed-1"]),
    ]
    numbers = comparison.compare(groups)
    assert numbers["fast"]["energy_equal"] == {"rmse": 3.0, "update": (20.0, 0.0), "seconds": (3.0, 1.0)}
    assert numbers["slow"]["energy_equal"] == {"rmse": 3.0, "update": (200.0, 0.0), "seconds": (2.0, 0.0)}
    assert numbers["slow"]["force_equal"] == {"rmse": 120.0, "update": (400.0, 0.0), "seconds": (4.0, 0.0)}
    assert numbers["fast"]["energy_rmse_best"] == [2.0, 1.0]


def test_compare_draws_and_tells(two_groups):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PMI_")}
    arguments = ["fast", "--group", "S=slow/seed-*", "-o", "c.png", "--json", "c.json"]
    result = subprocess.run(
        [sys.executable, "-m", "mpnnp", "compare", *arguments],
        cwd=two_groups,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "fast" in result.stdout and "reaches 3 after 200 +- 0 updates" in result.stdout
    assert (two_groups / "c.png").stat().st_size > 10_000
    assert json.loads((two_groups / "c.json").read_text())["S"]["update"] == [400.0, 0.0]


def test_the_numbers_of_a_comparison_are_null_where_there_are_none(tmp_path):
    """Names of runs and groups may be anything."""
    curve = {"update": np.array([0.0, 10.0]), "seconds": np.array([0.0, 1.0])}
    for kind, errors in (("energy", [np.inf, 2.0]), ("force", [np.nan, np.nan])):
        curve |= {f"{kind}_rmse_{part}": np.array(errors) for part in ("train", "validation")}
    comparison.write_json(tmp_path / "c.json", [comparison.Group("NaN", {"runs/NaN": curve})])
    found = json.loads((tmp_path / "c.json").read_text(), parse_constant=pytest.fail)["NaN"]
    assert found["runs"] == ["runs/NaN"] and found["force_rmse_last"] == [None, None]
    assert found["energy_equal"] == {"rmse": 2.0, "update": [10.0, 0.0], "seconds": [1.0, 0.0]}


def test_labels_that_no_run_has_are_not_compared():
    def curve(force):
        errors = {"energy": np.array([2.0, 1.0]), "force": np.array([force, force])}
        there = {f"{q}_rmse_{part}": errors[q] for q in errors for part in ("train", "validation")}
        return {"update": np.array([0.0, 10.0]), "seconds": np.array([0.0, 1.0])} | there

    alone = comparison.table([comparison.Group("a", {"one": curve(np.nan)})])
    assert "nan" not in alone and "force" not in alone and "  a  1 run, 10 updates" in alone
    of_one = comparison.table(
        [comparison.Group("a", {"one": curve(np.nan)}), comparison.Group("b", {"one": curve(7.0)})]
    )
    assert "nan" not in of_one and "last -, best -" in of_one
    assert of_one.count("reaches") == 3 and "b  reaches 7 after" in of_one


def test_a_folder_without_a_learning_curve_is_named(tmp_path):
    with pytest.raises(DataError, match="learning-curve.csv"):
        comparison.Group.read("x", [tmp_path])


def test_runs_whose_times_do_not_overlap_are_drawn_against_updates(tmp_path):
    def curve(seconds):
        errors = {
            f"{q}_rmse_{s}": np.array([9.0, 1.0])
            for q in ("energy", "force")
            for s in ("train", "validation")
        }
        return {"update": np.array([0.0, 100.0]), "seconds": np.array(seconds)} | errors

    group = comparison.Group("a", {"one": curve([0.0, 5.0]), "two": curve([0.0, 7.0])})
    assert group.mean("energy", "seconds") == (None, None, None)
    assert [v.tolist() for v in group.mean("energy", "update")] == [[100.0], [1.0], [0.0]]
    comparison.draw(tmp_path / "c.png", [group])
    assert (tmp_path / "c.png").stat().st_size > 1000
