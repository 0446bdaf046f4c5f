"""Files that a command is to write: whether it can, and may, is asked before anything is computed."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from mpnnp.errors import ConfigError, DataError

OF_POTENTIAL = ("input.nn", "scaling.data", "checkpoint.h5", "best.h5")


def check_targets(
    *files: Path | None,
    pictures: Iterable[Path | None] = (),
    table: Path | None = None,
    data: Iterable = (),
    potentials: Iterable = (),
    overwrite: bool = True,
) -> None:
    """Raise ConfigError or DataError unless all files can be written, each once, and none is read.

    files     None: not asked for
    pictures  with NAME.pdf beside them, see figures.save
    table     NAME.csv, with NAME.png and NAME.pdf beside it
    data        files that the command reads; in its folders and patterns formats.read_sources leaves out what
                will be written (`without`)
    potentials  files and folders that it reads, several with commas between them
    overwrite   False: nor may one of the files be there
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
    known = [Path(source).expanduser() for source in data]
    known += [path for source in potentials for path in _of_potential(str(source))]
    written: set = set()
    for path in wanted:
        _check_place(path)
        if any(_is_same(path, source) for source in known):
            raise ConfigError(f"{path}: is read by the same command, which would write over it")
        if (place := os.path.realpath(path)) in written:
            raise ConfigError(f"{path}: two results would be written to this file")
        if path.exists() and not overwrite:
            raise ConfigError(
                f"{path}: is there already, and would be lost; give another name, or --overwrite to replace "
                "it"
            )
        written.add(place)


def check_holds(path: Path, data, labels: bool = True) -> None:
    """Raise DataError, in the words of who writes it, if the format of the file `path` cannot hold what is in
    a Dataset: periodicity along some vectors, or forces on some atoms of a structure.

    labels  False: its labels will be replaced by those of all atoms
    """
    from dataclasses import replace

    import numpy as np

    from mpnnp.data.formats import write_target

    if not labels:
        data = replace(data, forces=np.full_like(data.forces, np.nan))
    known = np.isfinite(data.forces).all(axis=1)
    n_known = np.add.reduceat(known.astype(int), data.start[:-1]) if len(data) else np.zeros(0, int)
    rare = [data.pbc.any(axis=1) & ~data.pbc.all(axis=1), (n_known > 0) & (n_known < data.n_atom)]
    first = [int(np.argmax(mask)) for mask in rare if mask.any()]
    if first:
        with tempfile.TemporaryDirectory() as folder:
            write_target(Path(folder) / path.name, data.take(first))


def write_data(path: Path, data, overwrite: bool, log) -> None:
    """Write a Dataset. A file that another process has made since `check_targets` found none is kept under
    another name, with a warning.
    """
    from mpnnp.data.formats import write_target
    from mpnnp.files import keep_aside

    if path.exists() and not overwrite:
        kept = keep_aside(path)
        log.warn(f"{path}: was written by another process in the meantime: that file is {kept} now")
    write_target(path, data)


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


def _of_potential(source):
    """Files of a potential: a checkpoint, those read of a folder, or of several with commas between."""
    path = Path(source).expanduser()
    if path.is_dir():
        return [file for file in path.iterdir() if file.name in OF_POTENTIAL or "weights." in file.name]
    if path.exists():
        return [path]
    return [file for part in source.split(",") for file in _of_potential(part)] if "," in source else []


def _is_same(path, source):
    try:
        return os.path.samefile(path, source)
    except OSError:  # one of them is not there
        return False
