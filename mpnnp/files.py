"""Files that survive: replaced in one step, so that a reader or a crash sees the old file or the new one;
HDF5 files of ours sealed, and read without trust.

The 512 bytes before the HDF5 part of a sealed file (its user block) hold one line: "mpnnp", the length of the
file and the CRC-32 of all that follows the block. A file that was cut, or in which a single bit changed, is
known as damaged before the HDF5 library looks at it.
"""

import contextlib
import csv
import errno
import io
import mmap
import os
import re
import secrets
import zlib
from pathlib import Path

import h5py
import numpy as np

__all__ = [
    "absence",
    "all_digits",
    "check_heaps",
    "check_seal",
    "check_stored",
    "is_broken_link",
    "keep_aside",
    "lock_reason",
    "number_array",
    "read_number",
    "reason_not_read",
    "reason_of",
    "replace_text",
    "seems_to_be",
    "seen_from",
    "system_reason",
    "write_atomically",
    "write_hdf5",
    "write_sealed",
    "write_table",
    "write_text",
]

CONFIGURATION = "a configuration, which `mpnnp train` takes"
POTENTIAL = "a potential, which `mpnnp evaluate` and `mpnnp export` take"
STRUCTURES = "structures, of which `mpnnp init` makes a configuration"
BY_NAME = {  # how names end -> what such files hold
    (".toml",): CONFIGURATION,
    ("input.nn", ".nn"): "settings of n2p2 or RuNNer, which `mpnnp train` and `mpnnp translate` take",
    ("best.h5", "checkpoint.h5", "initial.h5"): POTENTIAL,
    (".xyz", ".extxyz", ".traj", ".db", ".data", ".xyz.gz", ".xyz.xz"): STRUCTURES,
}
BY_KIND = {  # what HDF5 files of ours say that they are
    "mpnnp checkpoint": POTENTIAL,
    "mpnnp dataset": STRUCTURES,
    "mpnnp results": "the results of a training, whose potential is the best.h5 beside it",
    "mpnnp fisher": "the matrices of `mpnnp fisher`",
}
BY_CONTENT = {  # file of a folder -> what the folder holds
    "train.log": "a training: its potential is best.h5 in it, its configuration config.toml",
    "protocol.json": "a simulation: its structures are trajectory.xyz in it",
    "input.nn": "files of n2p2 or RuNNer: `mpnnp train` takes the input.nn in it, and it is a potential if "
    "weights.NNN.data are there",
}

BLOCK = 512
CHUNK = 1 << 20
HEAP = b"GCOL\1\0\0\0"  # begins a global heap of an HDF5 file, where texts of variable length lie


@contextlib.contextmanager
def write_atomically(path, previous=None):
    """Context manager that yields a temporary path in the folder of `path` to be written
    and closed by the caller.

    When the body ends, file and folder are flushed to disk and the temporary file is renamed to `path`; when
    it raises, the temporary file is removed and `path` stays as it was. The temporary name keeps the suffix
    and starts with a dot. A symbolic link at `path` is followed. previous: name, in the same folder, that the
    file replaced is kept under; at no moment are both names without a whole file. Raises OSError as the
    operating system does.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "its folder does not exist", str(target.parent))
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        yield temporary
        _flush(temporary)
        if previous is not None and target.exists():
            _keep(target, target.with_name(Path(previous).name))
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and str(error.filename) == str(temporary):
            error.filename = str(path)
        raise
    with contextlib.suppress(OSError):  # some file systems do not flush folders
        _flush(target.parent)


def reason_of(error):
    """Why an OSError came, in words; of HDF5's long messages that of the operating system."""
    told_by_hdf5 = re.search(r"error message = '([^']*)'", str(error))
    return told_by_hdf5[1] if told_by_hdf5 else error.strerror or str(error)


def reason_not_read(error, path):
    """Why a file could not be read, in words, as `reason_of`; of a broken link that it is one."""
    link = _broken_link(path) if isinstance(error, FileNotFoundError) else ""
    return f"it {link}" if link.startswith("is") else link or reason_of(error)


def absence(path, words="no such file"):
    """In words, that there is nothing at a path: these, or that it is a link to what does not exist."""
    return _broken_link(path) or words


def is_broken_link(path):
    """Whether a path is itself a symbolic link to what does not exist."""
    return os.path.islink(path) and not os.path.exists(path)


def _broken_link(path):
    """In words, that a path is a symbolic link to what does not exist, or lies in such a one; else ""."""
    path = Path(path)
    link = next(filter(is_broken_link, (path, *path.parents)), None)
    if link is None:
        return ""
    who = "" if link == path else f"{link} "
    return f"{who}is a symbolic link to {os.path.realpath(link)}, which does not exist"


def system_reason(error):
    """Why the operating system did not let a file be read (no access, no memory, a disk or server that does
    not answer), in words; None of all other errors, which are about what is in the file, or that it is not
    there. HDF5 says the number of the error in its text; of a nonsensical address it is EINVAL.
    """
    if isinstance(error, MemoryError):
        return "not enough memory"
    told_by_hdf5 = re.search(r"errno = (\d+)", str(error))
    number = int(told_by_hdf5[1]) if told_by_hdf5 else getattr(error, "errno", None)
    return None if number in (None, 0, errno.ENOENT, errno.EINVAL) else os.strerror(number)


def seems_to_be(path):
    """What a file or folder holds, and what takes it, to be added to the message of a command that wants
    another: by what it says itself, else by its name; "" if neither tells.
    """
    path = Path(path)
    if not path.exists():
        return ""
    if path.is_dir():
        found = next((what for name, what in BY_CONTENT.items() if (path / name).exists()), "")
        return f"; it is the folder of {found}" if found else ""
    if said := BY_KIND.get(_kind_of(path)):
        return f"; it holds {said}"
    found = next((what for ends, what in BY_NAME.items() if path.name.lower().endswith(ends)), "")
    return f"; by its name it holds {found}" if found else ""


def _kind_of(path):
    """What an HDF5 file of ours says that it is; None for any other file."""
    try:
        if not h5py.is_hdf5(path):
            return None
        check_heaps(path)
        with h5py.File(path, "r") as file:
            return str(file.attrs.get("kind"))
    except Exception:  # whatever the HDF5 library makes of a foreign file
        return None


def seen_from(folder, path):
    """The path relative to a folder, right also where a symbolic link leads to one of them. The last part of
    the path is left as it is: it may be a link itself, or a pattern.
    """
    path = Path(os.path.expanduser(path))
    return os.path.relpath(path.parent.resolve() / path.name, Path(folder).resolve())


def keep_aside(path):
    """Rename a file or folder to NAME.old-1, or with the first number that is free; returns the new path.
    Raises OSError.
    """
    path = Path(path)
    if path.name in ("", ".."):  # no names
        path = path.resolve()
    kept = _free_name(path)
    os.rename(path, kept)
    return kept


def _free_name(path):
    number = 1
    while (free := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    return free


def write_text(path, text, encoding="utf-8"):
    """Write a text file in one step, see `write_atomically`. Raises OSError."""
    with write_atomically(path) as temporary:
        Path(temporary).write_text(text, encoding=encoding)


def replace_text(path, text):
    """Write a text file in one step (UTF-8); one that is there and reads otherwise is kept as NAME.old-1, or
    with the first number that is free. Returns the path of what is kept, or None. Raises OSError.
    """
    path, content = Path(os.path.realpath(path)), text.encode()
    kept = _free_name(path) if path.exists() and path.read_bytes() != content else None
    with write_atomically(path, previous=kept) as temporary:
        Path(temporary).write_bytes(content)
    return kept


def write_table(path, columns):
    """Write columns {name: values of equal number} as CSV in one step; numbers with 9 digits, texts and
    integers as they are. Raises OSError.
    """
    with write_atomically(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow(f"{x:.9g}" if isinstance(x, float | np.floating) else x for x in row)


def read_number(word, kind=float):
    """A number as C or Fortran writes it: 1.0D-5 is 1.0e-5, 1.0-105 is 1.0e-105; also NaN and infinities.
    Raises ValueError, also for digits with underscores between them, which Python alone reads.
    """
    if "_" in word:
        raise ValueError(word)
    try:
        return kind(word)
    except ValueError:
        if kind is not float:
            raise
    return float(re.sub(r"(?<=[\d.])([+-]\d+)$", r"E\1", re.sub("[dD]", "E", word)))


def all_digits(values):
    """Numbers as text, with spaces between them: 17 digits, which are read back as the same."""
    return " ".join(f"{value:.17g}" for value in values)


@contextlib.contextmanager
def write_sealed(path, previous=None, **options):
    """Context manager that yields an h5py.File; when the body ends, the file is sealed and replaces `path`
    (`write_atomically`).

    Raises OSError, also where the HDF5 library says RuntimeError.
    """
    try:
        with write_atomically(path, previous) as temporary:
            with write_hdf5(temporary, userblock_size=BLOCK, **options) as file:
                yield file
            line = f"mpnnp {os.path.getsize(temporary)} {_checksum(temporary):08x}\n"
            with open(temporary, "r+b") as handle:
                handle.write(line.encode("ascii").ljust(BLOCK, b"\0"))
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # not the library's, but the body's own
            raise
        raise OSError(None, f"the HDF5 library could not write it ({error})", str(path)) from None


@contextlib.contextmanager
def write_hdf5(path, **options):
    """Context manager that yields an h5py.File to be written. Raises OSError, on a full disk when the body
    has ended: there the HDF5 library would end the process (a segmentation fault in what it still holds).
    """
    with _Sink(path, "w+") as sink:
        with h5py.File(sink, "w", **options) as file:
            yield file
        if sink.failure is not None:
            raise OSError(sink.failure.errno, sink.failure.strerror, str(path))


class _Sink(io.FileIO):
    """A file that is written without errors, and keeps the first that there was."""

    failure = None

    def write(self, data):
        rest = memoryview(data).cast("B")
        n_byte = len(rest)
        with self._kept():
            while len(rest):
                rest = rest[super().write(rest) :]
        return n_byte

    def truncate(self, size=None):
        with self._kept():
            return super().truncate(size)
        return size

    @contextlib.contextmanager
    def _kept(self):
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error


def check_seal(path):
    """True if the file is sealed and whole, False if it has no seal.

    Raises ValueError if it is damaged, OSError if it cannot be read.
    """
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


def check_heaps(path):
    """Raise ValueError if a global heap of an HDF5 file is damaged so that the HDF5 library would read it for
    ever: an object that takes no room. For files that nothing else protects, before they are opened.

    HDF5 File Format Specification 3.0, III.E: 16 bytes, then objects: index (2 bytes), references (2), 4
    reserved bytes, size (8), content to a multiple of 8 bytes; index 0 is what is left, head included.
    """
    with open(path, "rb") as handle, contextlib.closing(_mapped(handle)) as data:
        at = data.find(HEAP)
        while at >= 0:
            place, end = at + 16, min(at + int.from_bytes(data[at + 8 : at + 16], "little"), len(data))
            while place + 16 <= end:
                index = int.from_bytes(data[place : place + 2], "little")
                size = int.from_bytes(data[place + 8 : place + 16], "little")
                length = size if index == 0 else 16 + (size + 7) // 8 * 8
                if length < 16 or place + length > end:
                    raise ValueError(f"its global heap at byte {at} is damaged")
                place += length
            at = data.find(HEAP, at + len(HEAP))


def _mapped(handle):
    """The bytes of an open file, mapped; of an empty one, which cannot be mapped, an empty mapping."""
    if os.fstat(handle.fileno()).st_size == 0:
        return mmap.mmap(-1, 1)
    return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)


def lock_reason(error):
    """What to say of an error of the HDF5 library if the file is only locked; None otherwise."""
    text = str(error).lower()
    if "unable to lock file" not in text and not re.search(r"errno = 11\b", text):
        return None
    return (
        "is locked: another process has it open for writing, or its file system knows no locks "
        "(then set HDF5_USE_FILE_LOCKING=FALSE)"
    )


def number_array(group, name):
    """The array of numbers `name` of an HDF5 group.

    Raises ValueError, KeyError or OSError for anything else; see check_stored.
    """
    check_stored(group, name)
    return np.asarray(group[name][()])


def check_stored(group, name):
    """Raise ValueError unless `name` is an array of numbers that lies in this file,
    contiguous and uncompressed.

    Then it is not larger than the file, whatever the file says.
    """
    stored = group[name]
    if not isinstance(stored, h5py.Dataset) or stored.dtype.kind not in "biuf":
        raise ValueError(f"{name} is not an array of numbers")
    if stored.file.id != group.file.id or stored.is_virtual or stored.external or stored.chunks:
        raise ValueError(f"{name} is compressed, or lies in another file")
    if stored.size and stored.id.get_storage_size() != stored.size * stored.dtype.itemsize:
        raise ValueError(
            f"{name} is said to have shape {stored.shape}, "
            f"the file holds {stored.id.get_storage_size()} bytes of it"
        )


def _checksum(path):
    value = 0
    with open(path, "rb") as handle:
        handle.seek(BLOCK)
        while block := handle.read(CHUNK):
            value = zlib.crc32(block, value)
    return value


def _keep(target, previous):
    """`previous` becomes another name of the file `target`; where the file system knows no such links,
    its only name.
    """
    link = target.with_name(f".{previous.stem}.{secrets.token_hex(4)}.part{previous.suffix}")
    try:
        os.link(target, link)
    except OSError:
        os.replace(target, previous)
        return
    os.replace(link, previous)


def _flush(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
