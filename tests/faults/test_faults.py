"""Kills, signals, limits and faults of real runs on two ranks:
an end with one message and a status, never a hang, and a checkpoint that loads.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import folders, interrupts, learning, many_ranks, suite
from launch import find_mpiexec

from mpnnp.data import dataset
from mpnnp.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.skipif(
    find_mpiexec() is None or not Path("/proc").is_dir(), reason="needs an MPI library and Linux"
)
SLOW = ("slow", -1, 0)


def say(label, begin, status, output):
    """What `pytest -s` shows: how long a fault took to end the run, and what was said."""
    message = [line for line in output.splitlines() if line.startswith("mpnnp: ")]
    print(f"\n{label}: status {status} after {time.monotonic() - begin:.1f} s: {' / '.join(message)}")


def messages(output):
    return [line for line in output.splitlines() if line.startswith("mpnnp: ")]


def wait_for(path, text, seconds=120):
    for _ in range(10 * seconds):
        if path.is_file() and text in path.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} does not say '{text}' after {seconds} s")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(configuration, folder of the undisturbed run on two ranks)."""
    folder = tmp_path_factory.mktemp("whole")
    config = suite.make_run(folder)
    status, output = suite.finish(suite.start(2, "train", config, "-o", folder / "run"), 400)
    assert status == 0, output
    return config, folder / "run"


def test_killed_runs_resume_to_the_undisturbed_one():
    """The short form of tests/faults/suite.py."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        assert suite.repeat(Path(folder), repeats=2, n_rank=2, seed=5) == 0


def test_a_killed_learning_comes_to_the_data_and_weights_of_the_undisturbed_one(tmp_path):
    """The short form of tests/faults/learning.py."""
    assert learning.repeat(tmp_path, repeats=1, n_rank=2, seed=3) == 0


@pytest.mark.parametrize(
    "number, who",
    [
        (signal.SIGUSR1, "all"),
        (signal.SIGTERM, "one"),
        (signal.SIGUSR1, "launcher"),
        (signal.SIGINT, "launcher"),
        (signal.SIGINT, "one"),
    ],
)
def test_a_signal_ends_all_ranks_with_a_checkpoint_and_status_75(tmp_path, whole, number, who):
    config, reference = whole
    process = suite.start(2, "train", config, "-o", tmp_path / "run", fault=SLOW)
    wait_for(tmp_path / "run" / "train.log", "epoch    1")
    ranks, begin = suite.ranks_of(process), time.monotonic()
    for pid in {"all": ranks, "one": ranks[1:], "launcher": [process.pid]}[who]:
        os.kill(pid, number)
    status, output = suite.finish(process)
    say(f"{number.name} to {who}", begin, status, output)
    assert (
        status == 75
        and len(messages(output)) == 1
        and f"mpnnp: {number.name}: stopped after update" in output
    )
    update = read_checkpoint(tmp_path / "run" / "checkpoint.h5").progress["update"]
    assert f"after update {update} " in output
    assert suite.finish(suite.start(2, "train", config, "-o", tmp_path / "run", "--resume"))[0] == 0
    assert suite.contents(tmp_path / "run") == suite.contents(reference)


@pytest.mark.parametrize("n_rank", [1, 2])
def test_ctrl_c_at_a_terminal_saves(tmp_path, whole, n_rank):
    config, reference = whole
    command = suite.command(n_rank, "train", config, "-o", tmp_path / "run", fault=SLOW)
    process, terminal = interrupts.at_terminal(*(command if n_rank > 1 else command[3:]))
    wait_for(tmp_path / "run" / "train.log", "seed 1;")
    os.write(terminal, interrupts.CTRL_C)
    status, output = interrupts.read_all(terminal, process)
    assert status == 75 and output.count("mpnnp: SIGINT") == 1 and "--resume" in output, output
    assert suite.finish(suite.start(2, "train", config, "-o", tmp_path / "run", "--resume"))[0] == 0
    if n_rank == 2:  # another number of ranks continues to rounding
        assert suite.contents(tmp_path / "run") == suite.contents(reference)


def test_a_long_update_is_broken_off_and_the_state_before_it_saved(tmp_path, whole):
    config, reference = whole
    process = suite.start(2, "train", config, "-o", tmp_path / "run", fault=("crawl", -1, 0))
    wait_for(tmp_path / "run" / "train.log", "seed 1;")
    time.sleep(6.0)
    for pid in suite.ranks_of(process):
        os.kill(pid, signal.SIGINT)
    status, output = suite.finish(process)
    assert status == 75 and "stopped after update" in output, output
    assert suite.finish(suite.start(2, "train", config, "-o", tmp_path / "run", "--resume"))[0] == 0
    assert suite.contents(tmp_path / "run") == suite.contents(reference)


@pytest.mark.parametrize("command, repeats", [("train", 2), ("md", 2), ("label", 2)])
def test_what_was_interrupted_goes_on_to_the_undisturbed_end(tmp_path, command, repeats):
    """The short form of tests/faults/interrupts.py."""
    assert interrupts.repeat(tmp_path, repeats, n_rank=2, seed=3, names=[command]) == 0


def test_runs_in_one_folder_do_not_mix(tmp_path):
    """The short form of tests/faults/folders.py."""
    assert folders.repeat(tmp_path, repeats=2, seed=4) == 0


def test_a_second_run_in_the_folder_is_refused_from_the_first_second_on(tmp_path, whole):
    config, reference = whole
    first = suite.start(2, "train", config, "-o", tmp_path / "run", fault=SLOW)
    wait_for(tmp_path / "run" / "train.log", "ranks on")
    status, output = suite.finish(suite.start(2, "train", config, "-o", tmp_path / "run", "--overwrite"))
    assert status == 2 and len(messages(output)) == 1 and "run is in use by process " in output
    assert suite.finish(first)[0] == 0
    assert suite.contents(tmp_path / "run") == suite.contents(reference)
    status, output = suite.finish(suite.start(2, "train", config, "-o", tmp_path / "run"))
    assert status == 2 and "holds a training already" in output
    assert suite.finish(suite.start(2, "train", config, "-o", tmp_path / "run", "--overwrite"))[0] == 0
    for folder in ("run", "run.old-1"):
        assert suite.contents(tmp_path / folder) == suite.contents(reference)


def test_the_folder_is_named_after_the_configuration_file(tmp_path, whole, monkeypatch):
    shutil.copy(whole[0], tmp_path / "copper.toml")
    text = (tmp_path / "copper.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("directory =")]
    (tmp_path / "copper.toml").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    assert suite.finish(suite.start(1, "train", "copper.toml", "--set", "run.updates=3"))[0] == 0
    assert (tmp_path / "runs" / "copper" / "checkpoint.h5").exists()


def test_labels_survive_a_signal_and_the_same_command_goes_on(tmp_path):
    suite.write_clusters(tmp_path / "c.extxyz", 40, labels=False)
    (tmp_path / "slowly.py").write_text(
        "import time\nfrom ase.calculators.lj import LennardJones\n"
        "class Slow(LennardJones):\n"
        "    def calculate(self, *arguments, **keywords):\n"
        "        time.sleep(0.6)\n"
        "        super().calculate(*arguments, **keywords)\n"
    )
    arguments = ("label", "ase:slowly.Slow", tmp_path / "c.extxyz", "-o", tmp_path / "l.h5")
    process = suite.start(2, *arguments, PYTHONPATH=path_with(tmp_path))
    while not suite.ranks_of(process):
        time.sleep(0.1)
    time.sleep(10.0)
    os.kill(process.pid, signal.SIGINT)
    status, output = suite.finish(process)
    assert status == 75, output
    kept = list(tmp_path.glob("l.*.part.h5"))
    assert not (tmp_path / "l.h5").exists() and (kept or "before there was anything" in output)
    status, output = suite.finish(suite.start(2, *arguments, PYTHONPATH=path_with(tmp_path)))
    assert status == 0 and ("they are taken from there" in output) == bool(kept)
    assert not list(tmp_path.glob("*.part.h5")) and len(dataset.read(tmp_path / "l.h5")) == 40


def path_with(folder):
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_a_signal_before_training_ends_all_ranks_too(tmp_path, whole):
    process = suite.start(2, "train", whole[0], "-o", tmp_path / "run", fault=SLOW)
    wait_for(tmp_path / "run" / "train.log", "ranks on")
    os.kill(suite.ranks_of(process)[1], signal.SIGTERM)
    status, output = suite.finish(process)
    assert status == 75 and "SIGTERM" in output


def test_the_end_of_a_batch_job_is_known(tmp_path, whole):
    config, reference = whole
    end = str(int(time.time()) + 30)  # within the margin: after the first update
    status, output = suite.finish(
        suite.start(2, "train", config, "-o", tmp_path / "run", SLURM_JOB_END_TIME=end)
    )
    assert status == 75 and "SLURM_JOB_END_TIME" in messages(output)[0] and "go on with --resume" in output
    far = str(int(time.time()) + 36000)
    assert (
        suite.finish(
            suite.start(2, "train", config, "-o", tmp_path / "run", "--resume", SLURM_JOB_END_TIME=far)
        )[0]
        == 0
    )
    assert suite.contents(tmp_path / "run") == suite.contents(reference)


def test_the_time_limit_counts_from_this_start(tmp_path):
    config = suite.make_run(tmp_path, epochs=1000, run={"time_limit": 0.05, "checkpoint_updates": 1000})
    last = 0
    for start in range(2):
        status, output = suite.finish(
            suite.start(
                1, "train", config, "-o", tmp_path / "run", *(["--resume"] if start else []), fault=SLOW
            )
        )
        assert status == 0 and "run.time_limit = 0.05 min reached" in output
        progress = read_checkpoint(tmp_path / "run" / "checkpoint.h5").progress
        assert progress["update"] > last + 20 and progress["seconds"] > 2 * (start + 1)
        last = progress["update"]


@pytest.mark.parametrize("fault", ["kill-update", "raise-update", "exit-update"])
def test_one_rank_that_fails_ends_all(tmp_path, whole, fault):
    begin = time.monotonic()
    status, output = suite.finish(
        suite.start(2, "train", whole[0], "-o", tmp_path / "run", fault=(fault, 1, 20)), 60
    )
    say(fault, begin, status, output)
    assert status != 0
    if fault == "raise-update":
        assert messages(output) == [
            "mpnnp: error on rank 1: ZeroDivisionError: division by zero (run with --debug for the traceback)"
        ]
    assert read_checkpoint(tmp_path / "run" / "checkpoint.h5").progress["update"] == 18
    assert suite.finish(suite.start(2, "train", whole[0], "-o", tmp_path / "run", "--resume"))[0] == 0
    assert suite.contents(tmp_path / "run") == suite.contents(whole[1])


@pytest.fixture
def small_disk(tmp_path):
    """A mounted file system of 3 MB; needs to be root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(whole, small_disk):
    config = whole[0]
    process = suite.start(2, "train", config, "-o", small_disk / "run", "--set", "run.epochs=50", fault=SLOW)
    wait_for(small_disk / "run" / "train.log", "epoch    1")
    begin = time.monotonic()
    with open(small_disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    status, output = suite.finish(process, 60)
    say("disk full", begin, status, output)
    assert status != 0 and len(messages(output)) == 1
    assert "the results cannot be written" in messages(output)[0] and "No space left" in messages(output)[0]
    assert read_checkpoint(small_disk / "run" / "checkpoint.h5").progress["update"] > 0
    assert not list((small_disk / "run").glob(".*.part*"))
    (small_disk / "filler").unlink()
    status, output = suite.finish(
        suite.start(2, "train", config, "-o", small_disk / "run", "--resume", "--set", "run.epochs=3")
    )
    assert status == 0 or "No space left" in output, output  # the pictures may not fit


def test_a_folder_that_cannot_be_written_is_said(tmp_path, whole, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    status, output = suite.finish(suite.start(2, "train", whole[0], "-o", small_disk / "run"), 60)
    assert (
        status != 0
        and len(messages(output)) == 1
        and "Read-only file system" in messages(output)[0]
        and str(small_disk) in messages(output)[0]
    )


def test_a_folder_that_is_removed_while_running_is_said(tmp_path, whole):
    process = suite.start(2, "train", whole[0], "-o", tmp_path / "run", "--set", "run.epochs=50", fault=SLOW)
    wait_for(tmp_path / "run" / "train.log", "epoch    1")
    begin = time.monotonic()
    shutil.move(tmp_path / "run", tmp_path / "moved")
    status, output = suite.finish(process, 60)
    say("folder removed", begin, status, output)
    assert (
        status != 0 and len(messages(output)) == 1 and "the results cannot be written" in messages(output)[0]
    )
    assert read_checkpoint(tmp_path / "moved" / "checkpoint.h5").progress["update"] > 0


@pytest.mark.parametrize("change", ["a number", "cut"])
def test_data_changed_between_two_starts_are_refused(tmp_path, change):
    config = suite.make_run(tmp_path)
    assert (
        suite.finish(suite.start(2, "train", config, "-o", tmp_path / "run", "--set", "run.updates=7"))[0]
        == 0
    )
    data = tmp_path / "clusters.extxyz"
    text = data.read_text()
    data.write_text(
        text[: 2 * len(text) // 3] if change == "cut" else text.replace("energy=-", "energy=-1", 1)
    )
    status, output = suite.finish(suite.start(2, "train", config, "-o", tmp_path / "run", "--resume"), 60)
    assert status == 2 and len(messages(output)) == 1
    assert (
        "clusters.extxyz" in messages(output)[0] or "checkpoint.h5 is of another run" in messages(output)[0]
    )
    assert read_checkpoint(tmp_path / "run" / "checkpoint.h5").progress["update"] == 7


def test_a_data_set_that_was_cut_is_refused(tmp_path):
    config = suite.make_run(tmp_path)
    subprocess.run(
        [sys.executable, "-m", "mpnnp", "convert", tmp_path / "clusters.extxyz", tmp_path / "data.h5"],
        check=True,
        capture_output=True,
    )
    data = (tmp_path / "data.h5").read_bytes()
    (tmp_path / "data.h5").write_bytes(data[: len(data) - 1000])
    status, output = suite.finish(
        suite.start(2, "train", config, "-o", tmp_path / "run", "--set", f"data.files={tmp_path}/data.h5"), 60
    )
    assert status == 2 and len(messages(output)) == 1 and "data.h5" in messages(output)[0]


@pytest.mark.parametrize("cut", [True, False])
def test_cached_symmetry_functions_that_are_damaged_are_computed_anew(tmp_path, whole, cut):
    config = suite.make_run(tmp_path)
    assert (
        suite.finish(suite.start(1, "train", config, "-o", tmp_path / "run", "--set", "run.updates=3"))[0]
        == 0
    )
    (cache,) = (tmp_path / "cache").glob("symmetry-functions-*.h5")
    data = bytearray(cache.read_bytes())
    data[len(data) // 2] ^= 1
    cache.write_bytes(data[:-8] if cut else data)
    assert suite.finish(suite.start(2, "train", config, "-o", tmp_path / "again"))[0] == 0
    assert suite.contents(tmp_path / "again") == suite.contents(whole[1])


@pytest.mark.parametrize(
    "fault, cause", [("nan-error", "not finite: "), ("inf-weights", "the weights run away"), ("bad-P", "")]
)
def test_numbers_that_go_wrong_stop_the_run_where_it_happens(tmp_path, whole, fault, cause):
    begin = time.monotonic()
    status, output = suite.finish(
        suite.start(2, "train", whole[0], "-o", tmp_path / "run", fault=(fault, -1, 20)), 60
    )
    say(fault, begin, status, output)
    assert (
        status == 1 and len(messages(output)) == 1 and "update 20" in messages(output)[0] and cause in output
    )
    # the structure and the label
    assert "frame " in output and (" on atom " in output or "energy of " in output)
    assert read_checkpoint(tmp_path / "run" / "checkpoint.h5").progress["update"] == 18  # the last good one
    assert "error: " in (tmp_path / "run" / "train.log").read_text()


def test_updates_that_go_wrong_can_be_left_out_and_are_counted(tmp_path, whole):
    skip = ["--set", "run.on_divergence=skip"]
    status, output = suite.finish(
        suite.start(2, "train", whole[0], "-o", tmp_path / "run", *skip, fault=("nan-error", -1, 10))
    )
    assert status == 0 and "updates left out so far: 3 of " in output
    assert read_checkpoint(tmp_path / "run" / "checkpoint.h5").progress["skipped"] == 3
    every = [*skip, "--set", "run.epochs=30"]
    status, output = suite.finish(
        suite.start(2, "train", whole[0], "-o", tmp_path / "all", *every, fault=("nan-error", -1, 1))
    )
    assert status == 1 and "100 updates in a row were left out" in output


def test_more_ranks_than_streams_take_the_same_batches_to_the_same_weights(tmp_path):
    """The short form of tests/faults/many_ranks.py."""
    for weights, P in many_ranks.compare(tmp_path, [1, 5], epochs=2).values():
        assert weights < 1e-7 and P < 1e-7  # of 22 updates, which amplify rounding; 1e-13 in one
