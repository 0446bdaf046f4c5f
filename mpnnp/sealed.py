"""HDF5 files of ours: sealed when they are written, and read without trust.

The 512 bytes before the HDF5 part (its user block) hold one line: "mpnnp", the length of the file and the CRC-32 of all that follows the block.
A file that was cut, or in which a single bit changed, is known as damaged before the HDF5 library looks at it.
"""

import contextlib
import os
import zlib

import h5py
import numpy as np

from mpnnp.atomic_write import write_atomically

__all__ = ["check_seal", "check_stored", "number_array", "write_sealed"]

BLOCK = 512
CHUNK = 1 << 20


@contextlib.contextmanager
def write_sealed(path, previous=None, **options):
    """Context manager that yields an h5py.File; when the body ends, the file is sealed and replaces `path` (`write_atomically`).

    Raises OSError, also where the HDF5 library says RuntimeError (a full disk).
    """
    try:
        with write_atomically(path, previous) as temporary:
            with h5py.File(temporary, "w", userblock_size=BLOCK, **options) as file:
                yield file
            line = f"mpnnp {os.path.getsize(temporary)} {_checksum(temporary):08x}\n"
            with open(temporary, "r+b") as handle:
                handle.write(line.encode("ascii").ljust(BLOCK, b"\0"))
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # not the library's, but the body's own
            raise
        raise OSError(None, f"the HDF5 library could not write it ({error})", str(path)) from None


def check_seal(path):
    """True if the file is sealed and whole, False if it has no seal. Raises ValueError if it is damaged, OSError if it cannot be read."""
    with open(path, "rb") as handle:
        head = handle.read(BLOCK)
    if not head.startswith(b"mpnnp "):
        return False
    line, newline, rest = head.partition(b"\n")
    words = line.split(b" ")
    try:
        length, checksum = int(words[1]), int(words[2], 16)
    except (IndexError, ValueError):
        raise ValueError("its seal is damaged") from None
    if len(words) != 3 or not newline or rest.strip(b"\0"):
        raise ValueError("its seal is damaged")
    if os.path.getsize(path) != length:
        raise ValueError(f"it has {os.path.getsize(path)} bytes of {length}: it was cut or added to")
    if _checksum(path) != checksum:
        raise ValueError("its content does not fit its checksum")
    return True


def number_array(group, name):
    """The array of numbers `name` of an HDF5 group. Raises ValueError, KeyError or OSError for anything else; see check_stored."""
    check_stored(group, name)
    return np.asarray(group[name][()])


def check_stored(group, name):
    """Raise ValueError unless `name` is an array of numbers that lies in this file, contiguous and uncompressed.

    Then it is not larger than the file, whatever the file says.
    """
    stored = group[name]
    if not isinstance(stored, h5py.Dataset) or stored.dtype.kind not in "biuf":
        raise ValueError(f"{name} is not an array of numbers")
    if stored.file.id != group.file.id or stored.is_virtual or stored.external or stored.chunks:
        raise ValueError(f"{name} is compressed, or lies in another file")
    if stored.size and stored.id.get_storage_size() != stored.size * stored.dtype.itemsize:
        raise ValueError(f"{name} is said to have shape {stored.shape}, the file holds {stored.id.get_storage_size()} bytes of it")


def _checksum(path):
    value = 0
    with open(path, "rb") as handle:
        handle.seek(BLOCK)
        while block := handle.read(CHUNK):
            value = zlib.crc32(block, value)
    return value
