"""Who may write into the folder of a run: a lock file that survives crashes, and the rules for a folder that
was used before.

The lock is the file run.lock: host, process, batch job and a number that is raised every BEAT seconds. It
is made by a hard link, which is atomic on network file systems too (else by O_EXCL). A lock that is found is
stale if
- its process is gone, where it can be looked up: on this host, since the same boot, in the same name space;
- it is of an earlier start of this same batch job, which the batch system has ended;
- its number does not change for PATIENCE seconds by the clock of whoever waits: the clocks of two hosts are
  never compared.
A process whose lock was taken away, because it had been suspended say, writes nothing more.

Called on rank 0 alone.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mpnnp import signals
from mpnnp.errors import CheckpointError, FolderError, MpnnpError, OutputError
from mpnnp.files import keep_aside, reason_of
from mpnnp.progress import AnyLog

NAME = "run.lock"
# what messages advise, to users of the command line and of Python
GO_ON = "go on with --resume (in Python resume=True)"
START_ANEW = "start anew with --overwrite (overwrite=True)"
BEAT, PATIENCE, ENDING = 5.0, 20.0, 2.0  # seconds: between signs of life, without one, to end
# files that tell what a folder holds, and what that is called
USED = {
    "a training": ("checkpoint.h5", "checkpoint-previous.h5", "best.h5", "initial.h5", "learning-curve.csv"),
    "a simulation": ("protocol.json", "restart.h5", "md.csv", "trajectory.xyz"),
}


class RunLock:
    """The lock of `directory`, held from the start until `release`. Raises FolderError, OSError."""

    def __init__(self, directory: str | Path, say: Callable[[str], object] = lambda text: None):
        self.path = Path(directory) / NAME
        self.record = _own_record()
        while not self._make():
            self._remove_stale(say)
        self.taker: dict | None = None  # the record of another process that has taken the folder over
        self.done = threading.Event()
        self.beat = threading.Thread(target=self._keep_alive, daemon=True)
        self.beat.start()
        signals.at_exit.append(self.release)

    def _make(self):
        """True if the lock is ours now, False if there is another."""
        temporary = self.path.with_name(f".{NAME}.{self.record['token']}")
        _write(temporary, self.record, os.O_EXCL)
        try:
            os.link(temporary, self.path)
            return True
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            try:
                _write(self.path, self.record, os.O_EXCL)
            except FileExistsError:
                return False
            return True
        finally:
            temporary.unlink(missing_ok=True)

    def _remove_stale(self, say):
        """Remove the lock that is there if nobody holds it. Raises FolderError if somebody does, or if the
        lock cannot be read.
        """
        found = self._found()
        if found is None:
            return
        self._wait_for_end(found, say)
        if self._take_away(found):
            say(f"{self.path.parent}: the lock of {_who(found)} was left behind and is removed")

    def _found(self):
        """The lock that is there, see `_read`. Raises FolderError if it cannot be read."""
        try:
            return _read(self.path)
        except OSError as error:
            raise FolderError(
                f"{self.path}: cannot be read ({error.strerror or error}), so that nothing tells whether "
                "another process uses the folder: choose another folder, or try again"
            ) from None

    def _wait_for_end(self, found, say):
        """Raise FolderError unless the process of a lock has ended, or gives no sign of life."""
        gone = _is_gone(found, self.record)
        end = time.monotonic() + ENDING
        while gone is False and time.monotonic() < end:  # a run that was just ended may not be gone yet
            time.sleep(0.1)
            gone = _is_gone(found, self.record)
        if gone is None:
            say(
                f"{self.path.parent}: {_who(found)} may be using it: "
                f"waiting {PATIENCE:.0f} s for a sign of life"
            )
            gone = self._is_silent(found)
        if not gone:
            raise FolderError(
                f"{self.path.parent} is in use by {_who(found)}: "
                "choose another folder, or wait until it has ended"
            )

    def _take_away(self, found):
        """Remove the lock `found`; True if it was that one. Any other, and one that cannot be read, is put
        back.
        """
        aside = self.path.with_name(f".{NAME}.{self.record['token']}.stale")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return False
        try:
            same = (_read(aside) or {}).get("token") == found.get("token")
        except OSError:
            same = False
        if not same:  # somebody was faster, or may have been
            with contextlib.suppress(OSError):
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)
        return same

    def _is_silent(self, found):
        """True if the lock does not change for PATIENCE seconds."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            time.sleep(BEAT / 4)
            if self._found() != found:
                return False
        return True

    def _keep_alive(self):
        while not self.done.wait(BEAT):
            try:
                self.taker = self.taker or self._other_holder()
                if self.taker:
                    return
                self.record["beat"] += 1
                _write(self.path, self.record)
            except OSError:  # a full disk, a folder that was moved: the run's own files tell
                continue

    def _other_holder(self):
        """The record of another process in the lock; None if it is ours, not there, or makes no sense.
        Raises OSError.
        """
        found = _read(self.path)
        return found if found and found.get("token", "") not in ("", self.record["token"]) else None

    def check(self) -> None:
        """Raise CheckpointError if another process has taken the folder over: called before files of the run
        are replaced. A lock that cannot be read at this moment is no other's.
        """
        with contextlib.suppress(OSError):
            self.taker = self.taker or self._other_holder()
        if self.taker:
            raise CheckpointError(
                f"{self.path.parent}: {_who(self.taker)} has taken it over, as this one gave no sign of life "
                "for some time (was it suspended?): nothing more is written"
            )

    def release(self) -> None:
        self.done.set()
        if threading.current_thread() is not self.beat:
            self.beat.join(timeout=2.0)
        with contextlib.suppress(OSError):
            found = _read(self.path)
            if found is not None and found.get("token") == self.record["token"]:
                self.path.unlink()
        with contextlib.suppress(ValueError):
            signals.at_exit.remove(self.release)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Context manager in which errors of the file system become OutputError naming `path`."""
    try:
        yield
    except MpnnpError:  # OutputError and FolderError are errors of the file system, too
        raise
    except OSError as error:
        raise OutputError(
            f"{error.filename or path}: the results cannot be written: {reason_of(error)}"
        ) from None


def claim(directory: str | Path, kind: str, resume: bool, overwrite: bool, log: AnyLog) -> RunLock:
    """The lock of the folder of a run, which is made if it is not there.

    kind       of USED: what will be written
    resume     go on with a run of this kind
    overwrite  a run that is there keeps its files under another name, which the log tells
    Raises FolderError: in use, used before, a file; OutputError: cannot be written.
    """
    directory = Path(directory)
    if resume and overwrite:
        raise FolderError("resume goes on, overwrite starts anew: give one of them")
    if directory.exists() and not directory.is_dir():
        raise FolderError(f"{directory}: is a file, and the results need a folder")
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = RunLock(directory, log.warn)
        try:
            found = held_by(directory)
            if found and overwrite:
                lock = _keep_aside(directory, lock, log)
            elif found and not (resume and kind in found):
                way = f"{GO_ON}, choose" if kind in found else "choose"
                raise FolderError(
                    f"{directory} holds {' and '.join(found)} already: {way} another folder, or "
                    f"{START_ANEW}, which keeps what is there under another name"
                )
        except BaseException:
            lock.release()
            raise
    return lock


def held_by(directory: str | Path) -> list[str]:
    """Kinds of run (keys of USED) that a folder holds."""
    return [kind for kind, names in USED.items() if any((Path(directory) / name).exists() for name in names)]


def _keep_aside(directory, lock, log):
    """Rename the folder, and make a new one: its lock. Raises FolderError, OSError."""
    here = Path.cwd()
    if directory.resolve() in (here, *here.parents):
        raise FolderError(
            f"{directory.resolve()} cannot be kept under another name: it is the working directory, or holds "
            "it: start from outside of it, or choose another folder"
        )
    lock.release()
    kept = keep_aside(directory)
    directory.mkdir()
    log(f"{directory} held {' and '.join(held_by(kept))}, which is now in {kept}")
    return RunLock(directory, log.warn)


def _own_record():
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID") or os.environ.get("LSB_JOBID") or ""
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "began": _start_of(os.getpid()),
        "machine": _machine(),
        "job": job,
        "restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "token": secrets.token_hex(8),
        "beat": 0,
    }


def _machine():
    """What says where a process number means something: boot and name space (Linux), "" if not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _stat_of(process):
    """State and the fields after it in /proc/PROCESS/stat (Linux); [] where not known."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()


def _start_of(process):
    """Clock ticks from boot at which a process began (Linux): numbers of processes are used again.
    0 where not known.
    """
    try:
        return int(_stat_of(process)[19])
    except (IndexError, ValueError):
        return 0


def _is_gone(found, own):
    """True if the process of a lock is known to have ended, False if it runs, None if that cannot be told."""
    if found.get("job") and found["job"] == own["job"] and found.get("restarts", 0) < own["restarts"]:
        return True
    if found.get("host") != own["host"] or found.get("machine") != own["machine"]:
        return None
    try:
        os.kill(int(found["process"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, KeyError, TypeError, ValueError):
        return None
    if _stat_of(found["process"])[:1] == ["Z"]:  # it has ended, and nobody has asked how
        return True
    return bool(found.get("began")) and found["began"] != _start_of(found["process"])


def _who(found):
    job = f", job {found['job']}" if found.get("job") else ""
    since = f", since {found['since']}" if found.get("since") else ""
    return f"process {found.get('process', '?')} on {found.get('host', 'an unknown host')}{job}{since}"


def _read(path):
    """Contents of a lock; {} if they make no sense, None if there is none. Raises OSError if it cannot be
    read, which says nothing about what it holds.
    """
    try:
        with open(path, encoding="utf-8") as file:  # opening it makes NFS ask the server
            found = json.load(file)
        return found if isinstance(found, dict) else {}
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def _write(path, record, flags=0):
    """Write in place, one block at once: the name never disappears."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    try:
        os.pwrite(handle, json.dumps(record).ljust(512).encode(), 0)
        os.fsync(handle)
    finally:
        os.close(handle)
