"""Labels among all that batch jobs leave: outputs of any format, with inputs and other files beside them."""

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.io.formats import UnknownFileTypeError, filetype

from mpnnp.data.compressed import plain_name
from mpnnp.data.dataset import Dataset, concatenate
from mpnnp.data.deepmd import deepmd_systems
from mpnnp.data.formats import FORMATS, format_of, read_sources
from mpnnp.data.paths import PREFIXES, SUFFIXES, expand
from mpnnp.errors import DataError
from mpnnp.progress import AnyLog, Muted, counted
from mpnnp.simulation.frames import frames_of

Keys = Mapping[str, str | None]  # energy_key, forces_key, stress_key
LABELLED, GEOMETRY, SOME, UNREADABLE = "labelled", "geometry", "some", "unreadable"  # what a file is
SHOWN = 6  # names in a line
HEAD = 2000  # bytes that tell a binary file


@dataclass
class Found:
    """What lies in a folder and below it.

    labelled  files with energies and forces, and those that must be read as nothing else in their folder is
    beside    files without labels, or that cannot be read, beside others that have labels
    bare      files of structures without labels where nothing in their folder has any
    unknown   files of no format that is known
    """

    labelled: list[Path] = field(default_factory=list)
    beside: list[Path] = field(default_factory=list)
    bare: list[Path] = field(default_factory=list)
    unknown: list[Path] = field(default_factory=list)

    def tell(self, log: AnyLog) -> None:
        if self.beside:
            log(f"not read, as others in their folders have the labels: {_names(self.beside)}")
        if self.unknown:
            log(f"not read, as their format is not known: {_names(self.unknown)}")
        if self.bare:
            log.warn(f"no labels in {_names(self.bare)}, nor beside: left alone (the first: {self.bare[0]})")


def _names(files):
    names = list(dict.fromkeys(file.name for file in files))
    more = ", ..." if len(names) > SHOWN else ""
    return f"{counted(len(files), 'file')} ({', '.join(names[:SHOWN])}{more})"


def read_labels(source: Path, units: str | None, keys: Keys, log: AnyLog) -> Dataset | None:
    """The structures with labels in a file, or in a folder and below it; None if there is none.

    units  of files that do not state theirs
    keys   names of labels of the data that are learned from: they count in files that have them
    Raises DataError for a file that should hold labels and cannot be read.
    """
    if not source.exists():
        return None
    files = [source]
    if source.is_dir():
        found = find(source, units, keys)
        found.tell(log)
        files = found.labelled
    parts = [read_sources([str(f)], units=units, report=log, **keys_of(f, units, keys)) for f in files]
    return concatenate(parts) if parts else None


def find(source: Path, units: str | None, keys: Keys) -> Found:
    """Found in a folder and below it."""
    found = Found(labelled=deepmd_systems(source))
    systems = set(found.labelled)
    for folder in [source, *sorted(path for path in source.rglob("*") if path.is_dir())]:
        if systems & {folder, *folder.parents}:
            continue
        is_known = {file: _is_known(file) for file in _candidates(folder)}
        found.unknown += [file for file, known in is_known.items() if not known]
        kinds = {file: _kind_of(file, units, keys) for file, known in is_known.items() if known}
        if labelled := [file for file, kind in kinds.items() if kind == LABELLED]:
            found.labelled += labelled
            found.beside += [file for file in kinds if file not in labelled]
            continue
        must_be_read = [f for f, kind in kinds.items() if kind in (SOME, UNREADABLE) and _is_named(f)]
        found.labelled += must_be_read
        found.bare += [file for file, kind in kinds.items() if kind == GEOMETRY]
        found.unknown += [f for f in kinds if kinds[f] != GEOMETRY and f not in must_be_read]
    return found


def _candidates(folder):
    """The files of a folder, without those that are read with others of them, or repeat these."""
    if not any(path.is_file() and not path.name.startswith(".") for path in folder.iterdir()):
        return []
    return expand([f"{glob.escape(str(folder))}/*"], set(), lambda text: None)


def _is_named(file):
    """Whether the name of a file says its format, or its content one that ASE does not know."""
    name = plain_name(file)
    if name.lower().endswith(SUFFIXES) or name.startswith(PREFIXES):
        return True
    try:
        with open(file, "rb") as start:
            if b"\0" in start.read(HEAD):  # wave functions, densities: they may be large, and have no lines
                return False
        return format_of(file) is not FORMATS["ase"]
    except (OSError, DataError):
        return False


def _is_known(file):
    """Whether it is so named, or ASE knows the format by name or content."""
    try:
        return _is_named(file) or bool(filetype(str(file), guess=False))
    except (UnknownFileTypeError, OSError, EOFError):
        return False


def _kind_of(file, units, keys):
    """LABELLED: some structure has its energy and all its forces; SOME: some have one of them; GEOMETRY: none
    has; UNREADABLE.
    """
    try:
        keys = keys_of(file, units, keys)
        data = read_sources([str(file)], units=units, lenient=True, report=Muted(), **keys)
    except DataError:
        return UNREADABLE
    energy, forces = np.isfinite(data.energy), np.isfinite(data.forces).all(axis=1)
    if (energy & np.logical_and.reduceat(forces, data.start[:-1])).any():
        return LABELLED
    return SOME if energy.any() or forces.any() else GEOMETRY


def keys_of(file: Path, units: str | None, keys: Keys) -> dict[str, str]:
    """Those of the names that the first structure of a file has; others are looked for by themselves, as
    programs write them. That no stress is wanted ("none") counts everywhere.
    """
    try:
        atoms = next(frames_of(file, units, Muted())).atoms
    except DataError:
        return {}
    if atoms is None:
        return {}
    there = {*atoms.info, *atoms.arrays, *(atoms.calc.results if atoms.calc else ())}
    return {
        name: key
        for name, key in keys.items()
        if key is not None and (key in there or (name, key) == ("stress_key", "none"))
    }
