"""Exact resume: a run interrupted after any update and continued is bit for bit the uninterrupted run."""

import errno
import shutil

import h5py
import numpy as np
import pytest
from conftest import DATA
from small import quiet, small_config, write_clusters

from mpnnp import files
from mpnnp.config import parse_config, read_config
from mpnnp.errors import CheckpointError, ConfigError, DamagedError, FolderError, TrainingError
from mpnnp.model import stored_functions
from mpnnp.training import checkpoint, page, train
from mpnnp.training.learning_curve import LearningCurve

VARIANTS = {
    "ekf": {},
    "ekf, lazy rows of U": {"ekf": {"r_max": 7}, "schedule": {"streams": 3}},
    "ekf, element": {"ekf": {"coupling": "element"}},
    "ekf, layer": {"ekf": {"coupling": "layer"}},
    "ekf, node": {"ekf": {"coupling": "node"}},
    "ekf, blocks": {"ekf": {"coupling": "block:9", "r_max": 2}},
    "ekf, fading memory": {"ekf": {"fading_memory": True, "r_max": 5}},
    "ekf, summed rows": {"schedule": {"rows": "sum", "streams": 4, "groups": 2}},
    "ekf, sorted": {"schedule": {"selection": "sort"}},
    "ekf, sdnz": {"schedule": {"name": "sdnz", "updates_per_epoch": 17}, "ekf": {"r_max": 30}},
    "adam": {"run": {"optimizer": "adam"}},
    "adam, sorted": {"run": {"optimizer": "adam"}, "schedule": {"selection": "sort"}},
}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(page, "write", lambda *_: None)


def run(tmp_path, directory, resume=False, **sections):
    return train.train(small_config(tmp_path, **sections), tmp_path / directory, *quiet(), resume=resume)


def contents(folder):
    """Everything that must be equal: name -> array of checkpoint and best potential;
    the curve without its times.
    """
    found = {}
    for name in ("checkpoint.h5", "best.h5"):
        with h5py.File(folder / name) as file:
            keys = []
            file.visit(keys.append)
            found |= {f"{name}/{key}": file[key][()] for key in keys if isinstance(file[key], h5py.Dataset)}
            found |= {f"{name}/progress/{key}": value for key, value in file["progress"].attrs.items()}
    curve = LearningCurve.read(folder / "learning-curve.csv")
    found |= {f"csv/{name}": values for name, values in curve.items()}
    return {key: np.asarray(value) for key, value in found.items() if not key.endswith("seconds")}


def assert_same(a, b):
    a, b = contents(a), contents(b)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes(), name


def merged(variant, run):
    return variant | {"run": variant.get("run", {}) | run}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path, name):
    variant = VARIANTS[name]
    whole = run(tmp_path, "whole", **merged(variant, {"epochs": 3}))
    n = whole.update // 3
    # the first update, an epoch's end, in the middle of an epoch, the first of an epoch
    stops = [1, n, n + n // 2, 2 * n + 1]
    for start, stop in enumerate(stops):
        state = run(tmp_path, "parts", resume=start > 0, **merged(variant, {"epochs": 3, "updates": stop}))
        assert state.update == stop
    run(tmp_path, "parts", resume=True, **merged(variant, {"epochs": 3}))
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_with_more_epochs_is_continued(tmp_path):
    run(tmp_path, "whole", run={"epochs": 4})
    run(tmp_path, "parts", run={"epochs": 2})
    assert (
        run(tmp_path, "parts", resume=True, run={"epochs": 2}).update
        == run(tmp_path, "parts", resume=True, run={"epochs": 4}).update // 2
    )
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_what_was_written_after_the_checkpoint_is_cut_back(tmp_path):
    run(tmp_path, "a", run={"epochs": 2})
    saved = (tmp_path / "a" / "checkpoint.h5").read_bytes()
    best, curve = ((tmp_path / "a" / name).read_bytes() for name in ("best.h5", "learning-curve.csv"))
    run(tmp_path, "a", resume=True, run={"epochs": 5})
    assert len(LearningCurve.read(tmp_path / "a" / "learning-curve.csv")["epoch"]) == 6
    # as if the program had been killed before it wrote the next one
    (tmp_path / "a" / "checkpoint.h5").write_bytes(saved)
    run(tmp_path, "a", resume=True, run={"epochs": 2})
    assert (tmp_path / "a" / "learning-curve.csv").read_bytes() == curve
    old, new = checkpoint.read_potential(tmp_path / "a" / "best.h5"), best
    (tmp_path / "old.h5").write_bytes(new)
    assert np.array_equal(old.weights, checkpoint.read_potential(tmp_path / "old.h5").weights)


CHANGES = {
    "schedule.streams": {"schedule": {"streams": 3}},
    "network.hidden": {"network": {"hidden": [5, 3]}},
    "ekf.epsilon": {"ekf": {"epsilon": 0.5}},
    "ekf.coupling": {"ekf": {"coupling": "layer"}},
    "run.seed": {"run": {"seed": 2}},
    "run.optimizer": {"run": {"optimizer": "adam"}},
    "symmetry_functions.scaling": {"symmetry_functions": {"scaling": "sigma"}},
    "data.validation_fraction": {"data": {"validation_fraction": 0.4}},
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_change_that_makes_no_sense_is_refused_naming_old_and_new(tmp_path, key):
    run(tmp_path, "a", run={"epochs": 1})
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.name != "train.log"}
    with pytest.raises(CheckpointError, match=rf"{key.replace('.', '[.]')}: .*, now "):
        run(tmp_path, "a", resume=True, **merged(CHANGES[key], {"epochs": 2} | CHANGES[key].get("run", {})))
    assert before == {
        path.name: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.name != "train.log"
    }


def test_changed_data_are_refused_and_moved_data_are_not(tmp_path):
    run(tmp_path, "a", run={"epochs": 1})
    moved = tmp_path / "elsewhere.extxyz"
    shutil.move(tmp_path / "clusters.extxyz", moved)
    assert run(tmp_path, "a", resume=True, data={"files": str(moved)}, run={"epochs": 2}).epoch == 3
    text = moved.read_text().splitlines()
    text[2] = text[2].replace("0.", "0.0", 1)  # a position
    moved.write_text("\n".join(text) + "\n")
    with pytest.raises(CheckpointError, match="the data: hash"):
        run(tmp_path, "a", resume=True, data={"files": str(moved)}, run={"epochs": 3})


def test_other_limits_and_another_measure_may_be_chosen(tmp_path):
    first = run(tmp_path, "a", run={"epochs": 2})
    second = run(
        tmp_path,
        "a",
        resume=True,
        run={"epochs": 2, "energy_metric_weight": 0.0, "force_metric_weight": 100.0},
    )
    assert second.best_epoch == first.best_epoch and second.best != first.best  # judged anew
    row = second.curve.rows[second.best_epoch]
    assert second.best == pytest.approx(row[list(second.curve.columns()).index("force_rmse_validation")])


def test_a_measure_without_labels_is_refused(tmp_path):
    write_clusters(tmp_path / "clusters.extxyz", 12)
    with pytest.raises(ConfigError, match="no potential is better"):
        run(tmp_path, "a", run={"energy_metric_weight": 0.0, "force_metric_weight": 0.0})


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "removed", "garbage"])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(tmp_path, damage):
    run(tmp_path, "whole", run={"epochs": 3})
    run(tmp_path, "a", run={"epochs": 3, "updates": 20, "checkpoint_updates": 11})
    path = tmp_path / "a" / "checkpoint.h5"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 4
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-100], "emptied": b"", "garbage": b"x" * 5000}.get(damage, data))
    comm, log = quiet()
    state = train.train(small_config(tmp_path, run={"epochs": 3}), tmp_path / "a", comm, log, resume=True)
    text = "\n".join(log.kept)
    assert "checkpoint-previous.h5, after update 11" in text and str(path) in text and state.epoch == 4
    assert (tmp_path / "a" / "checkpoint-damaged.h5").exists() == (damage != "removed")
    assert_same(tmp_path / "whole", tmp_path / "a")


READING = "[Errno 5] Can't synchronously read data (file read failed: time = Mon Nov 30, errno = 5, error "
READING += "message = 'Input/output error')"
REFUSALS = {
    "an old file handle": (files, "open", OSError(errno.ESTALE, "..."), "Stale file handle"),
    "too many files": (files, "open", OSError(errno.EMFILE, "..."), "Too many open files"),
    "no access": (files, "open", PermissionError(errno.EACCES, "..."), "Permission denied"),
    "a broken disk": (checkpoint.h5py, "File", OSError(READING), "Input/output error"),
    "a broken disk at an array": (checkpoint.h5py, "File", KeyError(READING), "Input/output error"),
    "no memory": (checkpoint, "number_array", MemoryError("Unable to allocate 9 GiB"), "not enough memory"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_sound_checkpoint_that_cannot_be_read_is_not_replaced_by_the_one_before(
    tmp_path, monkeypatch, refusal
):
    run(tmp_path, "a", run={"epochs": 1, "checkpoint_updates": 5})
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").glob("*.h5")}
    assert "checkpoint-previous.h5" in before
    module, name, error, told = REFUSALS[refusal]
    real = getattr(module, name, open)

    def refuse(first, *arguments, **keys):
        if name == "number_array" or str(first).endswith("checkpoint.h5"):
            raise error
        return real(first, *arguments, **keys)

    with monkeypatch.context() as broken:
        broken.setattr(module, name, refuse, raising=False)
        with pytest.raises(CheckpointError, match=f"checkpoint.h5: cannot be read: {told}") as caught:
            run(tmp_path, "a", resume=True, run={"epochs": 2})
    assert not isinstance(caught.value, DamagedError)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").glob("*.h5")} == before
    assert run(tmp_path, "a", resume=True, run={"epochs": 2}).epoch == 3


def test_a_damaged_potential_names_what_is_whole_beside_it(tmp_path):
    run(tmp_path, "a", run={"epochs": 1})
    best = tmp_path / "a" / "best.h5"
    best.write_bytes(best.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"best.h5: damaged.*beside it: checkpoint.h5, initial.h5$"):
        checkpoint.load_potential(best)


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint.h5"):
        run(tmp_path, "a", resume=True)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "checkpoint.h5").write_bytes(b"nothing")
    with pytest.raises(
        CheckpointError, match="checkpoint.h5: damaged.*\n.*checkpoint-previous.h5: no such file"
    ):
        run(tmp_path, "a", resume=True)
    run(tmp_path, "b", run={"epochs": 1})
    shutil.copy(tmp_path / "b" / "best.h5", tmp_path / "a" / "checkpoint.h5")
    with pytest.raises(CheckpointError, match="a potential alone"):
        run(tmp_path, "a", resume=True)


def test_a_new_run_does_not_take_the_place_of_another_unasked(tmp_path):
    run(tmp_path, "a", run={"epochs": 2, "checkpoint_epochs": 1})
    old = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.is_file()}
    other = small_config(tmp_path, run={"epochs": 1, "seed": 5})
    with pytest.raises(FolderError, match="holds a training already"):
        train.train(other, tmp_path / "a", *quiet())
    assert {name: (tmp_path / "a" / name).read_bytes() for name in old} == old
    train.train(other, tmp_path / "a", *quiet(), overwrite=True)
    assert {name: (tmp_path / "a.old-1" / name).read_bytes() for name in old} == old
    assert (tmp_path / "a" / "checkpoint.h5").read_bytes() != old["checkpoint.h5"]


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(tmp_path):
    run(tmp_path, "whole")
    run(tmp_path, "a")
    for name in ("checkpoint.h5", "checkpoint-previous.h5", "best.h5"):
        (tmp_path / "a" / name).unlink(missing_ok=True)
    run(tmp_path, "a", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "a")


def test_checkpoints_are_written_by_updates_and_epochs_and_never_twice(tmp_path, monkeypatch):
    written = []
    write = checkpoint.write_checkpoint
    monkeypatch.setattr(
        checkpoint,
        "write_checkpoint",
        lambda path, *a, **k: (written.append((path.name, a[0].progress["update"])), write(path, *a, **k)),
    )
    state = run(tmp_path, "a", run={"epochs": 2, "checkpoint_updates": 5, "checkpoint_epochs": 1})
    n = state.update // 2
    # the last one once more, with the calibration of the standard deviations
    expected = [*sorted({*range(5, 2 * n + 1, 5), n, 2 * n}), 2 * n]
    assert [update for name, update in written if name == "checkpoint.h5"] == expected
    written.clear()
    run(tmp_path, "b", run={"epochs": 1})
    # by default at the end only (and every ten minutes)
    assert [update for name, update in written if name == "checkpoint.h5"] == [n]


def test_a_file_of_version_1_is_read_and_continued(tmp_path, monkeypatch):
    """Written by the code of format version 1, stopped in the second of three epochs;
    the weights are those it reached by itself.
    """
    source = DATA / "version_1"
    (tmp_path / "run").mkdir()
    shutil.copy(source / "clusters.extxyz", tmp_path)
    shutil.copy(source / "checkpoint.h5", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    found = checkpoint.read_checkpoint("run/checkpoint.h5")
    with h5py.File("run/checkpoint.h5") as file:
        assert file.attrs["format_version"] == 1 and np.array_equal(
            found.potential.weights, file["weights"][()]
        )
    assert (
        found.progress["update"] == 25
        and found.progress["data"] == ""
        and found.best_weights is None
        and found.optimizer["T"].size > 1000
    )
    config = parse_config(found.config_text, "version 1")
    config = config.with_keys("run", updates=None)
    state = train.train(config, "run", *quiet(), resume=True)
    # to rounding: BLAS may take other kernels on another machine
    assert state.weights == pytest.approx(np.loadtxt(source / "weights-after-3-epochs.txt"), rel=1e-6)
    with h5py.File("run/checkpoint.h5") as file:
        assert file.attrs["format_version"] == checkpoint.FORMAT_VERSION


def test_an_unknown_version_is_not_taken_for_damage(tmp_path):
    run(tmp_path, "a", run={"epochs": 2, "checkpoint_epochs": 1})
    path = tmp_path / "a" / "checkpoint.h5"
    data = path.read_bytes()
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99
    path.write_bytes(bytes(512) + path.read_bytes()[512:])  # unsealed, so that the version is what is seen
    with pytest.raises(CheckpointError, match="version 99"):
        run(tmp_path, "a", resume=True, run={"epochs": 3})
    path.write_bytes(bytes(512) + data[512:])
    with pytest.raises(CheckpointError, match="seal is missing"):
        checkpoint.read_checkpoint(path)


def test_the_folder_holds_a_configuration_that_reads_back(tmp_path):
    run(tmp_path, "a", run={"epochs": 1})
    assert read_config(tmp_path / "a" / "config.toml") == small_config(tmp_path, run={"epochs": 1})


def test_a_broken_filter_never_replaces_a_checkpoint(tmp_path, monkeypatch):
    run(tmp_path, "a", run={"epochs": 1})
    before = (tmp_path / "a" / "checkpoint.h5").read_bytes()
    save = train.save

    def broken(run):
        run.state.optimizer.T.add_to_diagonal(-1e9)
        save(run)

    monkeypatch.setattr(train, "save", broken)
    with pytest.raises(TrainingError, match="no longer positive"):
        run(tmp_path, "a", resume=True, run={"epochs": 2})
    assert (tmp_path / "a" / "checkpoint.h5").read_bytes() == before


@pytest.mark.parametrize("optimizer", ["ekf", "adam"])
def test_runs_data_sets_and_caches_of_the_flat_package_go_on(tmp_path, monkeypatch, optimizer):
    """Written by version 0.1, all of whose modules lay in one folder; stopped in the second of three epochs.

    The weights are those that it reached by itself. The data have stresses, weights and marks, the filter
    sorted labels.
    """
    source = DATA / "flat_version"
    shutil.copytree(source / "cache", tmp_path / "cache")
    shutil.copy(source / "data.h5", tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(source / f"{optimizer}.h5", tmp_path / "run" / "checkpoint.h5")
    monkeypatch.chdir(tmp_path)
    found = checkpoint.read_checkpoint("run/checkpoint.h5")
    assert found.progress["update"] == 30 and found.curve["epoch"].tolist() == [0, 1]
    config = parse_config(found.config_text, "version 0.1")
    config = config.with_keys("run", updates=None)
    monkeypatch.setattr(stored_functions, "_compute", None)  # the cache must be taken as it is
    state = train.train(config, "run", *quiet(), resume=True)
    expected = np.loadtxt(source / f"{optimizer}-weights-after-3-epochs.txt")
    # to rounding: BLAS may take other kernels on another machine
    assert state.weights == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", [".checkpoint.00.part.h5", ".learning-curve.00.part.csv", ".train.00.part"])
def test_what_a_killed_run_was_writing_is_removed_when_it_goes_on(tmp_path, name):
    run(tmp_path, "killed", run={"epochs": 1})
    torn = tmp_path / "killed" / name
    torn.write_text("half")
    run(tmp_path, "killed", resume=True, run={"epochs": 2})
    assert not torn.exists()
