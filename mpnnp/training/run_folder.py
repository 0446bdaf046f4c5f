"""The files of a run: two checkpoints, the best potential, configuration, log and learning curve.

Rank 0 calls this, all ranks `held` alone; errors name the file.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpnnp.config import Config
from mpnnp.errors import CheckpointError, DamagedError, Interrupted, MpnnpError, OutputError
from mpnnp.files import write_text
from mpnnp.model.potential import Potential
from mpnnp.parallel import Comm, agree
from mpnnp.progress import AnyLog, Log
from mpnnp.run_lock import RunLock, claim, writing
from mpnnp.training import checkpoint
from mpnnp.training.checkpoint import Checkpoint

CHECKPOINT, PREVIOUS, BEST, INITIAL = "checkpoint.h5", "checkpoint-previous.h5", "best.h5", "initial.h5"
DAMAGED = "checkpoint-damaged.h5"
END = "accuracy.json", "results.h5"  # of a run that came to its end, written then
LOG, CONFIG = "train.log", "config.toml"
KIND = "a training"  # of run_lock.USED


def open_folder(directory: Path, log: Log, resume: bool, overwrite: bool = False) -> tuple[RunLock, bool]:
    """(lock of the folder, whether there is a checkpoint to go on from); its log is open.

    Raises FolderError if the folder is in use, or holds a run and neither resume nor overwrite (which keeps
    that under another name) is asked for; CheckpointError if there is nothing to resume; OutputError.
    """
    if resume and not was_begun(directory):
        raise CheckpointError(f"{directory}: there is no {CHECKPOINT} to resume from")
    lock = claim(directory, KIND, resume, overwrite, log)
    try:
        with writing(directory):
            log.open(directory / LOG, append=True)
            for torn in directory.glob(".*.part*"):  # of a program that was killed while it wrote
                torn.unlink()
    except OutputError:
        lock.release()
        raise
    if resume and not has_checkpoint(directory):
        log.warn(f"{directory}: the run was stopped before its first checkpoint: it begins anew")
        resume = False
    return lock, resume


def in_own_folder(config: Config, path: str | Path, settings: Sequence[str] = ()) -> Config:
    """The configuration of a file with the folder that its results go to. config.toml of a run is that run's,
    whatever run.directory says: -o, or a move of the folder, may have made it another.

    settings  "section.key=value" that have changed the configuration: run.directory among them is kept
    """
    path = Path(path)
    given = any(setting.partition("=")[0].strip() == "run.directory" for setting in settings)
    if given or path.name != CONFIG or not (path.parent / LOG).is_file():
        return config
    return config.with_keys("run", directory=str(path.parent))


class Held(NamedTuple):
    """The folder of a run, which is this run's.

    resume  there is a checkpoint to go on from
    check   called on rank 0 before a file is replaced: raises if another process has taken the folder over
    """

    directory: Path
    resume: bool = False
    check: Callable[[], object] = lambda: None


@contextlib.contextmanager
def held(directory: Path, comm: Comm, log: Log, resume: bool, overwrite: bool) -> Iterator[Held]:
    """Context manager in which the folder of a run is this run's, as it says. An error that ends the run goes
    to its log. Collective; raises as `open_folder`.
    """
    lock, resume = agree(
        comm, lambda: open_folder(directory, log, resume, overwrite) if comm.rank == 0 else (None, resume)
    )
    try:
        resume = comm.bcast(resume, root=0)
        yield Held(directory, resume) if lock is None else Held(directory, resume, lock.check)
    except MpnnpError as error:
        log.record(str(error) if isinstance(error, Interrupted) else f"error: {error}")
        raise
    finally:
        if lock is not None:
            lock.release()


def has_checkpoint(directory: Path) -> bool:
    return any((directory / name).is_file() for name in (CHECKPOINT, PREVIOUS))


def was_begun(directory: Path) -> bool:
    """True if a training was started in this folder, however far it came."""
    return (directory / LOG).is_file() or has_checkpoint(directory)


def came_to_its_end(directory: Path) -> bool:
    """True if a run ended here, and none has gone on since."""
    return (directory / END[0]).is_file()


def forget_end(directory: Path) -> None:
    """The run goes on: what its last end left is no longer what it says."""
    with writing(directory):
        for name in END:
            (directory / name).unlink(missing_ok=True)


def write_config(directory: Path, text: str) -> None:
    with writing(directory / CONFIG):
        write_text(directory / CONFIG, text)


def write_checkpoint(directory: Path, content: Checkpoint) -> None:
    """checkpoint.h5 of a Checkpoint; the file before becomes checkpoint-previous.h5."""
    with writing(directory / CHECKPOINT):
        checkpoint.write_checkpoint(directory / CHECKPOINT, content, previous=PREVIOUS)


def write_potential(
    directory: Path, name: str, potential: Potential, config_text: str, progress: dict, learned: str
) -> None:
    """A potential alone as checkpoint `name` (BEST, INITIAL); learned: what, from which data."""
    found = checkpoint.Checkpoint(potential, config_text, progress, learned=learned)
    with writing(directory / name):
        checkpoint.write_checkpoint(directory / name, found)


def read_saved(
    directory: Path, log: AnyLog, read: Callable[[Path], Checkpoint] = checkpoint.read_checkpoint
) -> tuple[str, Checkpoint]:
    """(name, Checkpoint) of the newest checkpoint that is whole. Raises CheckpointError.

    read  read_checkpoint or read_summary
    """
    reasons = []
    for name in (CHECKPOINT, PREVIOUS):
        try:
            saved = read(directory / name)
        except DamagedError as error:
            reasons.append(str(error))
            continue
        if reasons:
            log.warn(f"{reasons[0]}: resuming from {name}")
        return name, saved
    raise CheckpointError("\n".join(reasons))


def set_aside(directory: Path, name: str) -> None:
    """After resuming from the previous checkpoint: the damaged newest one
    must not become the previous one.
    """
    newest = directory / CHECKPOINT
    if name == PREVIOUS and newest.exists():
        with writing(newest):
            os.replace(newest, directory / DAMAGED)


def weights_of_best(directory: Path, epoch: int) -> np.ndarray | None:
    """Weights of best.h5 if it is of epoch `epoch`, else None: for checkpoints that do not hold them.

    Raises CheckpointError if the file cannot be read for another reason than that it is damaged or missing.
    """
    try:
        found = checkpoint.read_summary(directory / BEST)
    except DamagedError:
        return None
    return found.potential.weights if found.progress.get("epoch") == epoch else None
