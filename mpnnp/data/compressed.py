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

__all__ = ["SUFFIXES", "decompressed", "open_text", "plain_name", "reading"]

OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
SUFFIXES = tuple(OPEN)


def plain_name(path: str | Path) -> str:
    """The name of a file without the suffix of a compression."""
    name = Path(path).name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Context manager in which errors of reading `path` become DataError naming it."""
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read: {reason}") from None


def open_text(path: str | Path) -> IO[str]:
    """Open a text file for reading, decompressed if its name ends so, without a mark of byte order."""
    return OPEN.get(Path(path).suffix, open)(path, "rt", encoding="utf-8-sig", errors="replace")


@contextlib.contextmanager
def decompressed(path: str | Path) -> Iterator[str | Path]:
    """Context manager that yields the path of a plain file: `path` itself, or a temporary copy named
    without the last suffix.
    """
    path = Path(path)
    if path.suffix not in OPEN:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        with reading(path), OPEN[path.suffix](path, "rb") as packed, open(plain, "wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        yield plain
