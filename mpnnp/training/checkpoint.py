"""Checkpoints: everything a run needs to go on exactly where it stood, in one sealed HDF5 file."""

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from mpnnp.config import Config, parse_config
from mpnnp.errors import CheckpointError, ConfigError, DamagedError, DataError
from mpnnp.files import (
    absence,
    check_heaps,
    check_seal,
    lock_reason,
    number_array,
    seems_to_be,
    system_reason,
    write_sealed,
)
from mpnnp.model.potential import Potential
from mpnnp.n2p2 import potential_files
from mpnnp.optimizers.posterior import Posterior
from mpnnp.parallel import Comm, on_root
from mpnnp.units import Units

KIND = "mpnnp checkpoint"
FORMAT_VERSION = 2  # 2: the file is sealed, data hash and best weights are stored


class Checkpoint(NamedTuple):
    """What a file holds.

    potential     Potential with the weights of the moment
    config_text   TOML of the run
    progress      name -> number or text: where the run stands
    optimizer     name -> array: the optimiser's state; empty in best.h5
    curve         name -> column of the learning curve
    arrays        name -> array: what a schedule must remember, offsets of simulations
    best_weights  (n_weight,) of the best potential so far; None if not known
    learned       what was learned from which data (history.to_text); "" in files that do not say
    """

    potential: Potential
    config_text: str
    progress: dict = {}
    optimizer: dict = {}
    curve: dict = {}
    arrays: dict = {}
    best_weights: np.ndarray | None = None
    learned: str = ""


def write_checkpoint(path: str | Path, content: Checkpoint, previous: str | None = None) -> None:
    """Write a Checkpoint, replacing `path` in one step. Raises OSError.

    previous  name that the replaced file is kept under
    """
    with write_sealed(path, previous) as file:
        file.attrs["kind"], file.attrs["format_version"] = KIND, FORMAT_VERSION
        file.attrs["config"] = content.config_text
        file["weights"] = content.potential.weights
        content.potential.write(file.create_group("model"))
        file.create_group("progress").attrs.update(content.progress)
        file["learned"] = np.frombuffer(content.learned.encode("utf-8"), np.uint8)
        best = {} if content.best_weights is None else {"weights": content.best_weights}
        groups = {
            "optimizer": content.optimizer,
            "learning_curve": content.curve,
            "schedule": content.arrays,
            "best": best,
        }
        for name, columns in groups.items():
            group = file.create_group(name)
            for key, values in columns.items():
                group[key] = values


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The Checkpoint in a file, brought to the present format version.

    Raises DamagedError if the file is not there or not as it was written, CheckpointError if it is of another
    kind or version, or if the operating system does not let it be read; all name it.
    """
    return _read(path, _numbers)


def read_shared(comm: Comm, read: Callable[[], Checkpoint]) -> Checkpoint:
    """What `read` gives on rank 0, on every rank; the optimizer's arrays, which may be large, on rank 0
    alone. Collective. Raises what `read` raises, on every rank.
    """
    arrays: dict[str, np.ndarray] = {}

    def read_and_keep() -> Checkpoint:
        saved = read()
        arrays.update(saved.optimizer)
        return saved._replace(optimizer={})

    saved = on_root(comm, read_and_keep)
    return saved._replace(optimizer=arrays)


def read_summary(path: str | Path) -> Checkpoint:
    """The same with the shapes of the optimiser's arrays, which may be large, in place of the arrays."""
    return _read(path, lambda group: {key: values.shape for key, values in group.items()})


def read_potential(path: str | Path) -> Potential:
    """The Potential of a checkpoint. Raises as read_checkpoint."""
    return _opened(path, lambda file, version: _potential(file))


def load_potential(path: str | Path, units: Units | str | None = None) -> Potential:
    """Potential from a checkpoint or a folder of n2p2 files.

    units  of a folder that does not state them, as in "eV Angstrom"
    Raises DataError or CheckpointError naming the file, ConfigError for what is no path, or no units.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"{path!r}: must name a checkpoint or a folder of n2p2 files")
    path = Path(path)
    if not path.exists():
        told = absence(path, "no such file or folder")
        raise DataError(f"{path}: {told}; expected a checkpoint or a folder of n2p2 files")
    refuse_run_folder(path)
    if path.is_dir() and not any(path.glob("*.nn")) and not any(path.glob("*weights.*")):
        raise DataError(f"{path}: a folder without input.nn; expected a checkpoint or a folder of n2p2 files")
    return potential_files.read_potential(path, units=units) if path.is_dir() else read_potential(path)


def refuse_run_folder(path: Path) -> None:
    """Raise DataError that names the checkpoints in a folder, if there are some and no potential of n2p2."""
    if path.is_dir() and not (path / "input.nn").exists():
        if found := sorted(str(file) for file in path.glob("*.h5") if is_checkpoint(file)):
            raise DataError(f"{path}: a folder with several potentials: name one of {', '.join(found)}")


def config_of(saved: Checkpoint, path: str | Path) -> Config:
    """The Config of a Checkpoint. Raises CheckpointError."""
    try:
        return parse_config(saved.config_text, str(path))
    except ConfigError as error:
        raise CheckpointError(
            f"{path}: the configuration in it is not of this version of mpnnp: {error}"
        ) from None


def read_posterior(path: str | Path) -> Posterior:
    """Posterior of the weights in a checkpoint with the state of a Kalman filter:
    half of n^2 numbers are read. Raises CheckpointError.
    """
    return posterior_of(read_checkpoint(path), path)


def posterior_of(saved: Checkpoint, path: str | Path) -> Posterior:
    """The same of a Checkpoint; `path` is for messages."""
    config = config_of(saved, path)
    try:
        return Posterior(
            saved.optimizer,
            saved.potential.network,
            config.ekf.coupling,
            config.ekf.fading_memory,
            config.network.normalize_nodes,
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def is_checkpoint(path: str | Path) -> bool:
    """True if the file is an HDF5 file that says it is a checkpoint."""
    try:
        check_heaps(path)
        with h5py.File(path, "r") as file:
            return file.attrs.get("kind") == KIND
    except Exception:  # whatever the HDF5 library makes of a foreign file
        return False


def _read(path, read_optimizer):
    def content(file, version):
        found = Checkpoint(
            potential=_potential(file),
            config_text=str(file.attrs["config"]),
            progress={
                key: value.item() if isinstance(value, np.generic) else value
                for key, value in file["progress"].attrs.items()
            },
            optimizer=read_optimizer(file["optimizer"]),
            curve=_numbers(file["learning_curve"]),
            arrays=_numbers(file["schedule"]),
            best_weights=_numbers(file["best"]).get("weights") if "best" in file else None,
            learned=bytes(number_array(file, "learned")).decode("utf-8") if "learned" in file else "",
        )
        for old in range(version, FORMAT_VERSION):
            found = UPGRADES[old](found)
        return found

    return _opened(path, content)


def _from_version_1(c):
    """Version 1 did not know the data's hash, the best weights and what was skipped."""
    return c._replace(progress=c.progress | {"data": "", "n_rank": 0, "skipped": 0, "skipped_in_row": 0})


UPGRADES = {1: _from_version_1}  # version n -> function from a Checkpoint of version n to one of n + 1


def _numbers(group):
    return {key: number_array(group, key) for key in group}


def _potential(file):
    weights = number_array(file, "weights")
    if not np.isfinite(weights).all():
        raise ValueError("weights that are not finite numbers")
    p = Potential.read(file["model"], weights)
    n_function = [len(p.functions.of(z)) for z in p.elements]
    for found, expected, what in (
        (len(weights), p.network.n_weight, "weights"),
        ([size[0] for size in p.network.sizes], n_function, "inputs of the nets"),
        ([size[-1] for size in p.network.sizes], [1] * len(n_function), "outputs of the nets"),
        (
            [len(names) + 1 for names in p.network.activations],
            [len(size) for size in p.network.sizes],
            "layers",
        ),
        (
            {len(column) for column in (*vars(p.scaling.statistics).values(), *p.range)},
            {sum(n_function)},
            "statistics of functions",
        ),
        (p.atomic_energies.shape, (len(n_function),), "atomic energies"),
    ):
        if found != expected:
            raise ValueError(f"{what}: {found} found, {expected} expected")
    return p


def _opened(path, content):
    """content(file, version) of a checkpoint that is known to be whole."""
    try:
        if not _is_file(path):
            what = "is a folder: name the checkpoint.h5 in it" if Path(path).is_dir() else absence(path)
            raise DamagedError(f"{path}: {what}")
        sealed = check_seal(path)
        check_heaps(path)
        with h5py.File(path, "r") as file:
            if file.attrs.get("kind") != KIND:
                raise CheckpointError(f"{path}: is not a checkpoint of mpnnp{seems_to_be(path)}")
            version = file.attrs.get("format_version")
            if not isinstance(version, int | np.integer) or not 1 <= version <= FORMAT_VERSION:
                raise CheckpointError(
                    f"{path}: checkpoint format version {version}; "
                    f"this mpnnp reads 1 to {FORMAT_VERSION}: update it"
                )
            if version > 1 and not sealed:
                raise ValueError("its seal is missing")
            return content(file, int(version))
    except CheckpointError:
        raise
    except Exception as error:  # h5py raises nearly anything on damaged files
        if locked := lock_reason(error):
            raise CheckpointError(f"{path}: {locked}") from None
        if reason := system_reason(error):
            raise CheckpointError(
                f"{path}: cannot be read: {reason}; it may be sound, so no other is taken: try again"
            ) from None
        hint = _whole_beside(Path(path)) if Path(path).suffix == ".h5" else seems_to_be(path)
        reason = str(error) or type(error).__name__
        raise DamagedError(f"{path}: damaged, or not a checkpoint: {reason}{hint}") from None


def _is_file(path):
    """True if there is such a file, False if not. Raises OSError if that cannot be told."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _whole_beside(path: Path) -> str:
    """Which checkpoints in the folder of a damaged one are whole, as the end of a message."""
    found = []
    for other in sorted(path.parent.glob("*.h5")):
        with contextlib.suppress(OSError, ValueError):
            if other != path and is_checkpoint(other) and check_seal(other):
                found.append(other.name)
    return f"; whole beside it: {', '.join(found)}" if found else ""
