"""Checkpoints: everything a run needs to go on exactly where it stood, in one HDF5 file."""

from pathlib import Path

import h5py
import numpy as np

from mpnnp.atomic_write import write_atomically
from mpnnp.errors import CheckpointError
from mpnnp.potential import Potential

KIND = "mpnnp checkpoint"
FORMAT_VERSION = 1


def write_checkpoint(path, potential, config_text, progress=None, optimizer=None, curve=None, arrays=None):
    """Write a checkpoint, replacing `path` in one step.

    potential    its weights become the data set /weights (n_weight,)
    config_text  TOML of the run
    progress     numbers that say where the run stands: attributes of /progress
    optimizer    arrays of the optimiser's state: /optimizer
    curve        columns of the learning curve: /learning_curve
    arrays       anything else that a schedule must remember: /schedule
    """
    with write_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["kind"], file.attrs["format_version"] = KIND, FORMAT_VERSION
        file.attrs["config"] = config_text
        file["weights"] = potential.weights
        potential.write(file.create_group("model"))
        file.create_group("progress").attrs.update(progress or {})
        for name, columns in (("optimizer", optimizer), ("learning_curve", curve), ("schedule", arrays)):
            group = file.create_group(name)
            for key, values in (columns or {}).items():
                group[key] = values


def read_checkpoint(path):
    """(potential, config_text, progress, optimizer, curve, arrays) as given to write_checkpoint.

    Raises CheckpointError naming the file and what is wrong with it.
    """
    return _read(path, lambda group: {key: values[()] for key, values in group.items()})


def read_summary(path):
    """The same with the shapes of the optimiser's arrays, which may be large, in place of the arrays."""
    return _read(path, lambda group: {key: values.shape for key, values in group.items()})


def _read(path, read_optimizer):
    with _opened(path) as file:
        try:
            potential = _potential(file)
            curve, arrays = ({key: values[()] for key, values in file[name].items()} for name in ("learning_curve", "schedule"))
            progress = {key: value.item() if isinstance(value, np.generic) else value for key, value in file["progress"].attrs.items()}
            return potential, str(file.attrs["config"]), progress, read_optimizer(file["optimizer"]), curve, arrays
        except (KeyError, ValueError, TypeError, AttributeError, OSError) as error:
            raise CheckpointError(f"{path}: damaged checkpoint: {error}") from None


def read_potential(path):
    """The Potential of a checkpoint. Raises CheckpointError."""
    with _opened(path) as file:
        try:
            return _potential(file)
        except (KeyError, ValueError, TypeError, AttributeError, OSError) as error:
            raise CheckpointError(f"{path}: damaged checkpoint: {error}") from None


def _potential(file):
    weights = file["weights"][()]
    if not np.isfinite(weights).all():
        raise ValueError("weights that are not finite numbers")
    potential = Potential.read(file["model"], weights)
    if len(weights) != potential.network.n_weight:
        raise ValueError(f"{len(weights)} weights for a net of {potential.network.n_weight}")
    return potential


def is_checkpoint(path):
    """True if the file is an HDF5 file that says it is a checkpoint."""
    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("kind") == KIND
    except OSError:
        return False


def _opened(path):
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise CheckpointError(f"{path}: not a checkpoint, or damaged: {error}") from None
    if file.attrs.get("kind") != KIND:
        file.close()
        raise CheckpointError(f"{path}: is not a checkpoint of mpnnp")
    version = file.attrs.get("format_version")
    if version != FORMAT_VERSION:
        file.close()
        raise CheckpointError(f"{path}: checkpoint format version {version}; this mpnnp reads version {FORMAT_VERSION}")
    return file
