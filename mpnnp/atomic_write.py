"""Replacing a file so that a reader, or a crash, sees either the old file or the new one, never a part of it."""

import contextlib
import errno
import os
import secrets
from pathlib import Path

__all__ = ["write_atomically"]


@contextlib.contextmanager
def write_atomically(path):
    """Context manager that yields a temporary path in the folder of `path` to be written and closed by the caller.

    When the body ends, file and folder are flushed to disk and the temporary file is renamed to `path`; when it raises,
    the temporary file is removed and `path` stays as it was. The temporary name keeps the suffix and starts with a dot.
    A symbolic link at `path` is followed. Raises OSError as the operating system does.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "its folder does not exist", str(target.parent))
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    with contextlib.suppress(OSError):  # some file systems do not flush folders
        _flush(target.parent)


def _flush(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
