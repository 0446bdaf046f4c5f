"""The structures of a training run as every rank sees them: read once, and kept in one HDF5 file.

It is mapped into memory: the ranks of a node share the pages, and what does not fit into memory stays on
disk. It lies in a cache folder, named by a hash of what it was made from. model.stored_functions does the
same for their symmetry functions.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from mpnnp.data import dataset as hdf5
from mpnnp.data.compressed import reading
from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import companions_of, read_sources
from mpnnp.data.inspection import findings
from mpnnp.data.isolated import in_words
from mpnnp.data.paths import CACHE, files_of, place_of
from mpnnp.data.structure import NO_SPLIT, TRAIN, VALIDATION
from mpnnp.errors import DataError
from mpnnp.files import reason_not_read, write_text
from mpnnp.parallel import Comm, on_root
from mpnnp.progress import AnyLog, counted

if TYPE_CHECKING:
    from mpnnp.config import Data

# of what the readers find. 2: frames behind a blank line, labels under more names, units; 3: what was said is
# kept; 4: what was overlooked without a word is an error; 5: outputs of VASP, dumps of LAMMPS; 6: CP2K from
# 2025 on, its EXTXYZ, databases of ASE, contradictions; 7: marks of data.files beside validation files, units
# of outputs and of CP2K, stresses of open structures, periodicity of XSF
FORMAT_VERSION = 7
CHUNK = 1 << 20


def load_structures(config: Data, comm: Comm, log: AnyLog, fallback: str | Path) -> tuple[Dataset, Path]:
    """Dataset of the section [data], mapped, and the cache folder. Collective.

    Text files are read once, by rank 0, and kept as HDF5; a single HDF5 data set is used as it is.
    `fallback`: folder for the cache where the one beside the data is not writable.
    """
    path, cache = on_root(comm, _as_hdf5, config, log, fallback)
    data = hdf5.read(path, map=True)
    on_root(comm, _check, data, log)
    return data, Path(cache)


def _check(data, log):
    """Say what in a data set looks wrong. Raises DataError where nothing can be learned."""
    if data.isolated:
        log(f"energies of isolated atoms, which are not trained on: {in_words(data.isolated)}")
    for finding in findings(data):
        if finding.fatal:
            raise DataError(f"nothing can be learned: {finding}")
        log.warn(str(finding))


def split(dataset: Dataset, config: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the validation structures, ascending.
    Raises DataError if there is nothing to train on.

    The data set's own marks are used if it has any (split = "auto") or must be (split = "file"), else
    validation_fraction is drawn by seed. Those of data.validation_files are for validation in any case.
    """
    kept = dataset.marks == VALIDATION if config.validation_files else None
    return hdf5.split_indices(dataset, config.validation_fraction, seed, config.split, kept)


def _as_hdf5(config, log, fallback):
    files = [*config.files, *config.validation_files]
    cache = _cache_folder(config.cache, files[0], fallback)
    if len(files) == 1 and not config.weights and Path(files[0]).is_file() and h5py.is_hdf5(files[0]):
        whole = hdf5.read(files[0])  # checks every value and the hash
        if whole.without_isolated_atoms() is whole:
            return files[0], cache
    key = key_of(config)
    path = Path(cache) / f"structures-{key[:16]}.h5" if key else None
    if path and path.exists():
        with contextlib.suppress(DataError, OSError, ValueError):
            hdf5.read(path)
            Recorder.repeat(path, log)
            return path, cache
    log = Recorder(log)
    data = read_configured(config, log)
    # another run's data never take this name
    path = path or Path(cache) / f"structures-{data.hash()[:16]}.h5"
    hdf5.write(path, data)
    log.write(path)
    return path, cache


def key_of(config: Data) -> str | None:
    """sha256 (hex) of the section [data] and of all that its files say, with those that are read with them;
    None with patterns and folders, which are read anew each time. Raises DataError.
    """
    named: tuple = (FORMAT_VERSION, config.energy_key, config.forces_key, config.stress_key)
    named += ("random",) if config.validation_files and config.split == "random" else ()
    digest: Any = hashlib.sha256(repr(named + ((config.units,) if config.units else ())).encode())
    for file in [*config.files, *config.validation_files]:
        if not Path(file).is_file():
            return None
        digest.update(f"{file in config.validation_files}".encode() + os.fsencode(Path(file).name))
        _add(digest, file)
        for companion in companions_of(file):
            digest.update(b"with" + os.fsencode(companion.name))
            if companion.is_file():
                _add(digest, companion)
    if config.weights:
        digest.update(b"weights" + _read_bytes(config.weights))
    return digest.hexdigest()


def _add(digest, path):
    with reading(path), open(path, "rb") as handle:
        while block := handle.read(CHUNK):
            digest.update(block)


def read_configured(config: Data, report: Callable) -> Dataset:
    """Dataset of the section [data] as it is trained on: labels and units as it says, the validation files
    marked, weighted by `data.weights`, without the isolated atoms. Raises DataError.

    Beside validation files the structures of data.files keep their marks, and are for training without one;
    with split = "random" they have none.

    report  as of formats.read_sources
    """
    keys = {name: getattr(config, name) for name in ("energy_key", "forces_key", "stress_key", "units")}
    without = [config.cache] if config.cache else []
    keys |= {"strict": True, "report": report, "without": without}
    if config.validation_files:
        both = files_of(config.files, without) & files_of(config.validation_files, without)
        if both:
            raise DataError(
                f"{min(both)}: is read by data.files and by data.validation_files, so that its structures "
                "would be trained on and validate"
            )
    data = read_sources(config.files, **keys)
    if config.validation_files:
        held_out = read_sources(config.validation_files, **keys)
        own = NO_SPLIT if config.split == "random" else np.where(data.marks == NO_SPLIT, TRAIN, data.marks)
        marks = np.append(np.broadcast_to(own, len(data)), np.repeat(VALIDATION, len(held_out)))
        data = replace(hdf5.concatenate([data, held_out]), marks=marks)
    if config.weights:
        data = replace(data, weight=data.weight * read_weights(config.weights, len(data)))
    return data.without_isolated_atoms()


class Recorder:
    """A log that keeps what the readers say, so that it is said again when their result is in the cache."""

    def __init__(self, log: AnyLog):
        self.log, self.said = log, []

    def __call__(self, text: str) -> None:
        self.said.append(["log", text])
        self.log(text)

    def warn(self, text: str) -> None:
        self.said.append(["warn", text])
        self.log.warn(text)

    def write(self, path: str | Path) -> None:
        """Beside the data set at `path`."""
        write_text(Path(path).with_suffix(".json"), json.dumps(self.said, indent=1) + "\n")

    @staticmethod
    def repeat(path: str | Path, log: AnyLog) -> None:
        """Say what was said when the data set at `path` was read. Raises OSError, ValueError."""
        for kind, text in json.loads(Path(path).with_suffix(".json").read_text(encoding="utf-8")):
            (log.warn if kind == "warn" else log)(text)


def read_weights(path: str | Path, n_structure: int) -> np.ndarray:
    """Label weights (n_structure, 3) for energies, forces and stresses from a text file:
    one or three numbers per line, # begins a comment.

    Raises DataError naming the file and line.
    """
    lines = [
        (n, line.split("#", 1)[0].split())
        for n, line in enumerate(_read_bytes(path).decode(errors="replace").splitlines(), 1)
    ]
    rows = []
    for n, words in lines:
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) not in (1, 3) or not all(0 <= weight < np.inf for weight in row):
            raise DataError(
                f"{path}, line {n}: expected one weight, or three for energy, forces and stress, "
                f"not negative; found '{' '.join(words)}'"
            )
        rows.append(row * (3 // len(row)))
    if len(rows) != n_structure:
        raise DataError(
            f"{path}: {counted(len(rows), 'line')} of weights for {counted(n_structure, 'structure')}"
        )
    return np.array(rows)


def _read_bytes(path):
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {reason_not_read(error, path)}") from None


def _cache_folder(chosen, first_file, fallback):
    for folder in [chosen] if chosen else [place_of(first_file) / CACHE, Path(fallback) / CACHE]:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return str(folder)
        except OSError:
            pass
    raise DataError(
        f"{folder}: cannot be written: set data.cache to a folder for the computed symmetry functions"
    )
