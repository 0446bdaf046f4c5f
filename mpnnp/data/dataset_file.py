"""The arrays of a data set, and the HDF5 file that holds them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from mpnnp.errors import DataError
from mpnnp.files import (
    absence,
    check_heaps,
    check_stored,
    lock_reason,
    reason_of,
    system_reason,
    write_atomically,
    write_hdf5,
)

__all__ = [
    "ARRAYS",
    "KIND",
    "OPTIONAL",
    "OTHER_NAMES",
    "PER_ATOM",
    "Content",
    "read_content",
    "as_data_errors",
    "write_content",
]

KIND = "mpnnp dataset"
FORMAT_VERSION = 1

# array: (dtype, shape after the first axis, unit); the order is that of the hash
ARRAYS = {
    "start": (np.int64, (), "1"),
    "numbers": (np.int32, (), "1"),
    "positions": (np.float64, (3,), "Angstrom"),
    "cell": (np.float64, (3, 3), "Angstrom"),
    "pbc": (np.bool_, (3,), "1"),
    "energy": (np.float64, (), "eV"),
    "forces": (np.float64, (3,), "eV/Angstrom"),
    "stress": (np.float64, (6,), "eV/Angstrom^3"),
    "weight": (np.float64, (3,), "1"),
    "marks": (np.int8, (), "1"),
    "source": (np.int32, (), "1"),
    "frame": (np.int64, (), "1"),
}
OTHER_NAMES = {"marks": "split"}  # in the file, in the hash and of a Structure
PER_ATOM = ("numbers", "positions", "forces")
OPTIONAL = ("weight",)  # ones where a file does not have it


class Content(NamedTuple):
    """What the file of a data set holds; see `dataset.Dataset`."""

    arrays: dict[str, np.ndarray]  # by the names of ARRAYS
    source_names: tuple[str, ...]
    isolated: dict[int, float] | None  # eV of isolated atoms by atomic number
    hash: str  # of the arrays


def write_content(path: str | Path, content: Content) -> None:
    """Write HDF5 (contiguous, uncompressed), replacing `path` in one step.

    Raises DataError naming the file.
    """
    try:
        # aligned, so that a mapped array can be handed to compiled code
        with (
            write_atomically(path) as temporary,
            write_hdf5(temporary, alignment_threshold=1, alignment_interval=64) as file,
        ):
            file.attrs["kind"] = KIND
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["hash"] = content.hash
            if content.isolated:
                file.attrs["isolated_atoms"] = json.dumps(content.isolated)
            for name, (_, _, unit) in ARRAYS.items():
                array = content.arrays[name]
                stored = file.create_dataset(
                    OTHER_NAMES.get(name, name), data=array.view(np.uint8) if array.dtype == bool else array
                )
                stored.attrs["units"] = unit
            file.create_dataset(
                "source_names",
                data=list(content.source_names),
                dtype=h5py.string_dtype(),
                shape=len(content.source_names),
            )
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason_of(error)}") from None


@contextlib.contextmanager
def as_data_errors(path: Path) -> Iterator[None]:
    """Context manager in which whatever goes wrong with the content of a file is a DataError naming it."""
    if not path.is_file():
        raise DataError(f"{path}: " + ("is not a file" if path.exists() else absence(path)))
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # h5py raises nearly anything on damaged files
        if locked := lock_reason(error):
            raise DataError(f"{path}: {locked}") from None
        if told := system_reason(error):
            raise DataError(f"{path}: cannot be read: {told}") from None
        reason = "truncated or not an HDF5 file" if not h5py.is_hdf5(path) else "damaged"
        raise DataError(
            f"{path}: cannot be read as a data set of mpnnp, {reason} ({str(error).strip(chr(34))})"
        ) from None


def read_content(path: Path, map: bool) -> Content:
    """Content of a file, inside of `as_data_errors`; map: as of `dataset.read`."""
    if not map:
        check_heaps(path)
    with h5py.File(path, "r", locking="best-effort") as file:
        _check_header(file)
        arrays = {
            name: _read_array(path, file, name, map) for name in ARRAYS if OTHER_NAMES.get(name, name) in file
        }
        if file["source_names"].size > path.stat().st_size:
            raise DataError("has more source names than bytes")
        names = tuple(file["source_names"].asstr()[()])
        stored_hash = file.attrs["hash"]
        isolated = json.loads(file.attrs.get("isolated_atoms", "{}"))
    isolated = {int(z): float(energy) for z, energy in isolated.items()} or None
    return Content(arrays, names, isolated, stored_hash)


def _check_header(file):
    kind = file.attrs.get("kind")
    if kind != KIND:
        raise DataError(f"is an HDF5 file but not a data set of mpnnp (kind {kind!r}, must be {KIND!r})")
    version = file.attrs.get("format_version")
    if not isinstance(version, (int, np.integer)) or not 1 <= version <= FORMAT_VERSION:
        raise DataError(
            f"has format version {version}, this mpnnp reads 1 to {FORMAT_VERSION}; "
            "convert the data again or update mpnnp"
        )
    for name in (*(OTHER_NAMES.get(name, name) for name in ARRAYS), "source_names"):
        if name not in file and name not in OPTIONAL:
            raise DataError(f"array {name} is missing")
    if "hash" not in file.attrs:
        raise DataError("attribute hash is missing")


def _read_array(path, file, name, map):
    """Array `name`; a read-only view of the mapped file if wanted and possible."""
    dtype, shape, _ = ARRAYS[name]
    name = OTHER_NAMES.get(name, name)
    stored = file[name]
    file_dtype = np.dtype(np.uint8 if dtype is np.bool_ else dtype)
    if stored.dtype != file_dtype or stored.ndim != 1 + len(shape):
        raise DataError(
            f"array {name} is {stored.dtype} {stored.shape}, must be {file_dtype} with {1 + len(shape)} axes"
        )
    check_stored(file, name)
    offset = stored.id.get_offset()
    if map and offset is not None and offset % file_dtype.itemsize == 0:
        array = np.memmap(path, file_dtype, mode="r", offset=offset, shape=stored.shape)
    else:
        array = stored[()]
        array.setflags(write=not map)
    return array.view(np.bool_) if dtype is np.bool_ else array
