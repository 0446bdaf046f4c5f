"""Files that a command is to write: whether it can, and may, is asked before anything is computed."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from mpnnp.errors import ConfigError, DataError


def check_targets(
    *files: Path | None,
    pictures: Iterable[Path | None] = (),
    table: Path | None = None,
    data: Iterable = (),
    potentials: Iterable = (),
) -> None:
    """Raise ConfigError or DataError unless all files can be written, each once, and none is read.

    files     None: not asked for
    pictures  with NAME.pdf beside them, see figures.save
    table     NAME.csv, with NAME.png and NAME.pdf beside it
    data, potentials  what the command reads: files, folders, patterns, several with commas between them
    """
    from mpnnp.figures import check_name

    wanted = [file for file in files if file is not None]
    if table is not None:
        if table.suffix != ".csv":
            raise ConfigError(f"{table}: the table is written as CSV, with pictures beside it: give NAME.csv")
        wanted.append(table)
        pictures = [*pictures, table.with_suffix(".png")]
    for picture in pictures:
        if picture is not None:
            check_name(picture)
            wanted += dict.fromkeys((picture, picture.with_suffix(".pdf")))
    known = [path for source in data for path in _files(str(source), _is_data)]
    known += [path for source in potentials for path in _files(str(source), _is_of_potential)]
    written: set = set()
    for path in wanted:
        _check_place(path)
        if any(_is_same(path, source) for source in known):
            raise ConfigError(f"{path}: is read by the same command, which would write over it")
        if (place := os.path.realpath(path)) in written:
            raise ConfigError(f"{path}: two results would be written to this file")
        written.add(place)


def check_folder(path: Path) -> None:
    """Raise DataError unless `path` is a folder or one can be made there."""
    there = next((p for p in (path, *path.absolute().parents) if p.exists()), path)
    if not there.is_dir():
        raise DataError(f"{path}: cannot be written: {there} is a file, not a folder")


def _check_place(path):
    if path.is_dir():
        raise DataError(f"{path}: cannot be written: it is a folder")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise DataError(f"{path}: cannot be written: its folder does not exist")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path}: cannot be written: its folder is read-only")


def _files(source, is_read):
    """Paths that a source means: a file, the files of a folder that are read, or what fits a pattern."""
    path = Path(source).expanduser()
    if path.is_dir():
        return [file for file in path.iterdir() if is_read(file)]
    if path.exists():
        return [path]
    if glob.has_magic(source):
        return [Path(file) for file in glob.glob(str(path), recursive=True)]
    return [file for part in source.split(",") for file in _files(part, is_read)] if "," in source else []


def _is_data(file):
    from mpnnp.data.formats import PREFIXES, SUFFIXES

    return file.name.endswith(SUFFIXES) or file.name.startswith(PREFIXES)


def _is_of_potential(file):
    return file.name in ("input.nn", "scaling.data", "checkpoint.h5", "best.h5") or "weights." in file.name


def _is_same(path, source):
    try:
        return os.path.samefile(path, source)
    except OSError:  # one of them is not there
        return False
