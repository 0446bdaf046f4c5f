"""Opening data files that may be compressed (.gz, .bz2, .xz)."""

import bz2
import contextlib
import gzip
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from mpnnp.errors import DataError
from mpnnp.files import reason_not_read

__all__ = [
    "SUFFIXES",
    "check_fetched",
    "check_packing",
    "decompressed",
    "is_packed",
    "open_text",
    "plain_name",
    "reading",
]

OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
SUFFIXES = tuple(OPEN)
OTHERS = (".zip", ".zst", ".z", ".tar", ".tgz", ".tbz", ".txz", ".7z", ".rar", ".lz4", ".lzma")
MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz"} | {b"PK\3\4": "", b"\x28\xb5\x2f\xfd": ""}
_PAGE = "is a page of HTML, perhaps what a server answered in place of the file: fetch it anew"
PLACE_HOLDERS = {  # how what stands in the place of a file begins
    b"version https://git-lfs": "is only the pointer of Git LFS to a file that was not fetched: git lfs pull",
    b"/annex/objects/": "is only the pointer of git-annex to a file that was not fetched: git annex get",
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how such a text begins


def check_fetched(path: str | Path) -> None:
    """Raise DataError for what stands in the place of a file that was not fetched. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(64).lstrip().lower()
    if found := next((words for start, words in PLACE_HOLDERS.items() if head.startswith(start)), None):
        raise DataError(f"{path}: {found}")


def is_packed(path: str | Path) -> bool:
    """Whether the name says a compression that is read, in capitals too."""
    return Path(path).suffix.lower() in OPEN


def check_packing(path: str | Path) -> None:
    """Raise DataError for a file that was not fetched, is packed otherwise than its name says or in a way
    that is not read, and for text in UTF-16. Raises OSError.
    """
    path = Path(path)
    check_fetched(path)
    read = ", ".join(SUFFIXES)
    inner = Path(path.stem).suffix.lower() if is_packed(path) else path.suffix.lower()
    if inner == ".npz":
        raise DataError(
            f"{path}: is an archive of NumPy, whose names and units every program chooses anew: not read; "
            "make ase.Atoms with labels of it, which mpnnp.read takes, or write extended XYZ"
        )
    if inner in OTHERS:
        raise DataError(f"{path}: is packed in a way that is not read (read are {read}); unpack it")
    with open(path, "rb") as file:
        head = file.read(8)
    found = next((suffix for magic, suffix in MAGIC.items() if head.startswith(magic)), None)
    if found is not None and not is_packed(path):
        remedy = f"name it {path.name}{found}" if found else "unpack it"
        raise DataError(f"{path}: is compressed, which its name does not say (read are {read}); {remedy}")
    if head.startswith(UTF_16):
        raise DataError(f"{path}: is text in UTF-16, which is not read; save it in UTF-8")


def plain_name(path: str | Path) -> str:
    """The name of a file without the suffix of a compression."""
    name = Path(path).name
    while is_packed(name):
        name = Path(name).stem
    return name


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Context manager in which errors of reading `path` become DataError naming it."""
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = reason_not_read(error, path) if isinstance(error, OSError) else str(error)
        reason = reason or type(error).__name__
        raise DataError(f"{path}: cannot be read: {reason}") from None


def open_text(path: str | Path) -> IO[str]:
    """Open a text file for reading, decompressed if its name ends so, without a mark of byte order. Raises
    DataError for one that was not fetched.
    """
    check_fetched(path)
    return OPEN.get(Path(path).suffix.lower(), open)(path, "rt", encoding="utf-8-sig", errors="replace")


@contextlib.contextmanager
def decompressed(path: str | Path) -> Iterator[str | Path]:
    """Context manager that yields the path of a plain file: `path` itself, or a temporary copy named
    without the last suffix.
    """
    path = Path(path)
    if not is_packed(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        with reading(path), OPEN[path.suffix.lower()](path, "rb") as packed, open(plain, "wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        yield plain
