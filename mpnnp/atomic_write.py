"""Replacing a file so that a reader, or a crash, sees either the old file or the new one, never a part of it."""

import contextlib
import errno
import os
import secrets
from pathlib import Path

__all__ = ["write_atomically"]


@contextlib.contextmanager
def write_atomically(path, previous=None):
    """Context manager that yields a temporary path in the folder of `path` to be written and closed by the caller.

    When the body ends, file and folder are flushed to disk and the temporary file is renamed to `path`; when it raises,
    the temporary file is removed and `path` stays as it was. The temporary name keeps the suffix and starts with a dot.
    A symbolic link at `path` is followed. previous: name, in the same folder, that the file replaced is kept under; at no
    moment are both names without a whole file. Raises OSError as the operating system does.
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
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    with contextlib.suppress(OSError):  # some file systems do not flush folders
        _flush(target.parent)


def _keep(target, previous):
    """`previous` becomes another name of the file `target`; where the file system knows no such links, its only name."""
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
