"""The lock of a run's folder: one holder at a time, stale ones recognised, nothing overwritten."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from small import quiet

from mpnnp import run_lock
from mpnnp.errors import CheckpointError, FolderError
from mpnnp.run_lock import NAME, RunLock, claim

LOG = quiet()[1]
TRAINING = "a training"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Heartbeats and patience of tenths of seconds."""
    monkeypatch.setattr(run_lock, "BEAT", 0.05)
    monkeypatch.setattr(run_lock, "PATIENCE", 0.6)
    monkeypatch.setattr(run_lock, "ENDING", 0.2)


def forged(folder, **changes):
    """A lock of another process: of this one, with changes."""
    record = run_lock._own_record() | {"token": "of another"} | changes
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_text(json.dumps(record))


def wait_until(condition, seconds=20.0):
    """However busy the machine is: what shall happen within a heartbeat happens in the end."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def check_taken(folder):
    """The lock that lies in a folder is no obstacle: it becomes one's own, and goes with its release."""
    lock = RunLock(folder)
    assert json.loads((folder / NAME).read_text())["token"] == lock.record["token"]
    lock.release()
    assert not (folder / NAME).exists()


def test_a_folder_has_one_holder_at_a_time_and_is_free_afterwards(tmp_path):
    lock = RunLock(tmp_path)
    with pytest.raises(FolderError, match=f"in use by process {os.getpid()} on "):
        RunLock(tmp_path)
    lock.release()
    assert not list(tmp_path.iterdir())
    RunLock(tmp_path).release()


def test_of_many_that_ask_at_once_one_gets_the_lock(tmp_path):
    gate, got, refused = threading.Barrier(8), [], []

    def ask():
        gate.wait()
        try:
            got.append(RunLock(tmp_path))
        except FolderError:
            refused.append(1)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1 and len(refused) == 7
    got[0].release()


def test_the_lock_of_a_process_that_is_gone_is_taken_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "PATIENCE", 1e9)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    forged(tmp_path, process=int(ended.stdout))
    said = []
    RunLock(tmp_path, said.append).release()
    assert "was left behind" in said[0]


def test_a_process_number_that_is_used_again_is_not_its_process(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "PATIENCE", 1e9)
    forged(tmp_path, began=1)
    check_taken(tmp_path)


def test_a_lock_of_another_host_is_taken_when_it_gives_no_sign_of_life(tmp_path):
    forged(tmp_path, host="elsewhere", since="2001-01-01 00:00:00")  # clocks do not matter
    said = []
    RunLock(tmp_path, said.append).release()
    assert "on elsewhere" in said[0] and "may be using it" in said[0] and "was left behind" in said[1]


def test_a_lock_of_another_host_with_a_heart_beat_is_respected(tmp_path, monkeypatch):
    record = run_lock._own_record() | {"host": "elsewhere"}
    monkeypatch.setattr(run_lock, "_own_record", lambda: dict(record, token="holder"))
    holder = RunLock(tmp_path)
    monkeypatch.setattr(run_lock, "_own_record", lambda: dict(record, host="here", token="other"))
    with pytest.raises(FolderError, match="on elsewhere"):
        RunLock(tmp_path)
    holder.release()


def test_an_earlier_start_of_the_same_batch_job_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "PATIENCE", 1e9)
    forged(tmp_path, host="elsewhere", job="17", restarts=0)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    check_taken(tmp_path)


def test_a_lock_of_a_few_broken_bytes_is_stale_in_time(tmp_path):
    (tmp_path / NAME).write_bytes(b"{\0\xff")
    check_taken(tmp_path)


def test_whose_lock_was_taken_writes_nothing_more(tmp_path):
    lock = RunLock(tmp_path)
    lock.check()
    forged(tmp_path, host="elsewhere")
    with pytest.raises(CheckpointError, match="elsewhere.* has taken it over"):
        lock.check()
    lock.release()
    assert (tmp_path / NAME).exists()  # it is the other's


def refuse_to_read(monkeypatch, number):
    """From now on locks cannot be read, for a reason of the file system."""

    def refuse(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(run_lock, "open", refuse, raising=False)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EMFILE])
def test_a_lock_that_cannot_be_read_for_a_while_is_not_lost(tmp_path, monkeypatch, number):
    lock = RunLock(tmp_path)
    with monkeypatch.context() as broken:
        refuse_to_read(broken, number)
        time.sleep(0.3)  # several beats
        lock.check()
    beat = lock.record["beat"]
    wait_until(lambda: lock.record["beat"] > beat)  # it goes on to give signs of life
    # again, as a heartbeat that had looked before writes its own
    wait_until(lambda: forged(tmp_path, host="elsewhere") or lock.taker)
    with monkeypatch.context() as broken, pytest.raises(CheckpointError, match="elsewhere.* has taken it"):
        refuse_to_read(broken, number)
        lock.check()
    lock.release()


def test_a_lock_of_ones_own_that_was_broken_is_written_anew(tmp_path):
    lock = RunLock(tmp_path)
    (tmp_path / NAME).write_bytes(b"{\0\xff")
    lock.check()
    wait_until(lambda: lock.record["token"] in (tmp_path / NAME).read_text(errors="replace"))
    lock.release()


def test_a_lock_that_cannot_be_read_is_not_taken_for_a_stale_one(tmp_path, monkeypatch):
    forged(tmp_path, host="elsewhere")
    with monkeypatch.context() as broken:
        refuse_to_read(broken, errno.EIO)
        with pytest.raises(FolderError, match=r"run.lock: cannot be read \(Input/output error\)"):
            RunLock(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    check_taken(tmp_path)


def test_a_lock_that_cannot_be_read_any_more_is_put_back(tmp_path, monkeypatch):
    forged(tmp_path, host="elsewhere")
    content = (tmp_path / NAME).read_text()
    rename = os.rename

    def rename_and_break(source, target):
        rename(source, target)
        refuse_to_read(monkeypatch, errno.EIO)

    monkeypatch.setattr(os, "rename", rename_and_break)
    with pytest.raises(FolderError, match="cannot be read"):
        RunLock(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).read_text() == content


def test_where_hard_links_are_not_known_the_lock_holds_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    lock = RunLock(tmp_path)
    with pytest.raises(FolderError, match="is in use by"):
        RunLock(tmp_path)
    lock.release()


def test_a_used_folder_is_refused_unless_it_is_resumed_or_kept_under_another_name(tmp_path):
    folder = tmp_path / "run"
    claim(folder, TRAINING, False, False, LOG).release()
    claim(folder, TRAINING, False, False, LOG).release()  # nothing was computed in it
    (folder / "initial.h5").write_text("weights")
    told = r"holds a training already: go on with --resume \(in Python resume=True\), .* \(overwrite=True\)"
    with pytest.raises(FolderError, match=told):
        claim(folder, TRAINING, False, False, LOG)
    with pytest.raises(FolderError, match="holds a training already: choose another folder"):
        claim(folder, "a simulation", True, False, LOG)
    claim(folder, TRAINING, True, False, LOG).release()
    for number in (1, 2):
        claim(folder, TRAINING, False, True, LOG).release()
        assert (tmp_path / f"run.old-{number}" / "initial.h5").read_text() == "weights"
        assert not list(folder.iterdir())
        (folder / "initial.h5").write_text("weights")


def test_a_folder_in_use_is_not_moved_either(tmp_path):
    lock = claim(tmp_path / "run", TRAINING, False, False, LOG)
    (tmp_path / "run" / "initial.h5").touch()
    with pytest.raises(FolderError, match="in use"):
        claim(tmp_path / "run", TRAINING, False, True, LOG)
    lock.release()


@pytest.mark.parametrize("name", [".", "..", "../../run", "/"])
def test_the_working_directory_is_not_moved_nor_what_holds_it(tmp_path, monkeypatch, name):
    inside = tmp_path / "run" / "inside"
    inside.mkdir(parents=True)
    for folder in (inside, inside.parent):
        (folder / "initial.h5").write_text("weights")
    monkeypatch.chdir(inside)
    folder = run_lock.Path(name).resolve()
    monkeypatch.setattr(run_lock, "held_by", lambda directory: [TRAINING])
    if name == "/":
        monkeypatch.setattr(run_lock, "RunLock", lambda *_: SimpleNamespace(release=lambda: None))
    with pytest.raises(FolderError, match=f"^{folder} cannot be kept under another name: it is the working"):
        claim(name, TRAINING, False, True, LOG)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["initial.h5", "initial.h5", "inside", "run"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "best.h5").touch()
    with pytest.raises(FolderError, match="best.h5: is a file, and the results need a folder"):
        claim(tmp_path / "best.h5", TRAINING, False, False, LOG)


def holder_that(then):
    """A process that locks the folder of its argument, prints a line, and does `then`."""
    body = "import os, sys, time; from mpnnp.run_lock import RunLock; RunLock(sys.argv[1]); "
    return ["-c", body + f"print(1, flush=True); {then}; os._exit(1)"]


def test_a_process_that_has_ended_but_was_not_waited_for_holds_nothing(tmp_path):
    holder = subprocess.Popen([sys.executable, *holder_that("pass"), tmp_path], stdout=subprocess.PIPE)
    while run_lock._stat_of(holder.pid)[0] != "Z":
        time.sleep(0.05)
    assert (tmp_path / NAME).exists()
    RunLock(tmp_path).release()
    holder.wait()


def test_a_run_that_is_about_to_end_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "ENDING", 20.0)
    holder = subprocess.Popen(
        [sys.executable, *holder_that("time.sleep(0.7)"), tmp_path], stdout=subprocess.PIPE
    )
    holder.stdout.readline()
    RunLock(tmp_path).release()
    assert holder.wait() == 1
