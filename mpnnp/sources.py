"""Reading structures from files: RuNNer/n2p2 `input.data`, data sets of our own, and everything ASE reads."""

import glob
from pathlib import Path

import h5py

from mpnnp import dataset as hdf5
from mpnnp.ase_source import Labels, read_ase
from mpnnp.compressed import SUFFIXES as COMPRESSED
from mpnnp.compressed import reading
from mpnnp.dataset import Dataset, concatenate
from mpnnp.errors import DataError
from mpnnp.runner_data import is_runner_data, read_runner_data, write_runner_data

__all__ = ["read_sources", "write_runner_data"]

SUFFIXES = (".h5", ".hdf5", ".data", ".xyz", ".extxyz", ".traj", ".db", ".cfg", ".vasp")  # looked for in folders; also with .gz, .bz2, .xz
PREFIXES = ("OUTCAR", "vasprun", "XDATCAR", "POSCAR", "CONTCAR")


def read_sources(files, *, energy_key=None, forces_key=None, stress_key=None, report=print):
    """Read all structures of `files` into one Dataset; files in the order given, frames in order.

    files   path, glob pattern or folder, or a list of these; patterns and folders give their files sorted by name
    energy_key, forces_key, stress_key   name of a label in files read by ASE (info, arrays, or result of the calculator);
            by default REF_*, then the calculator's, then other common names
    report  called with a line of text: where the labels of a file were found
    Energies in eV, forces in eV/Angstrom, stress in eV/Angstrom^3 except in `input.data` (Hartree, Bohr).
    Raises DataError naming file and line or frame.
    """
    keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key}
    used = dict.fromkeys(keys, False)
    datasets = []
    read_by_ase = []
    for path in _expand(files):
        if _is_hdf5(path):
            data = hdf5.read(path)
        elif _is_runner_data(path):
            with reading(path):
                data = Dataset.from_structures(read_runner_data(path))
        else:
            labels = Labels(path, keys)
            with reading(path):
                data = Dataset.from_structures(read_ase(path, labels))
            labels.report(report)
            used = {kind: used[kind] or labels.found[kind] > 0 for kind in used}
            read_by_ase.append(labels)
        if len(data) == 0:
            raise DataError(f"{path}: has no structures")
        datasets.append(data)
    for kind, key in keys.items():
        if key is not None and read_by_ase and not used[kind]:
            there = ", ".join(sorted(set().union(*(labels.seen for labels in read_by_ase)))) or "nothing"
            raise DataError(f"{read_by_ase[0].path}: {kind}_key = {key!r} is in no frame; found are {there}")
    return concatenate(datasets)


def _expand(files):
    """Existing files of paths, patterns and folders; raises DataError where there is none."""
    files = [files] if isinstance(files, (str, Path)) else list(files)
    if not files:
        raise DataError("no files given to read structures from")
    paths = []
    for file in files:
        path = Path(file).expanduser()
        if path.is_dir():
            found = [p for p in sorted(path.iterdir()) if _is_data(p)]
            if not found:
                raise DataError(f"{file}: is a folder without data files ({', '.join(SUFFIXES)}, also compressed)")
        elif path.exists():
            found = [path]
        elif glob.has_magic(str(path)):
            found = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]
            if not found:
                raise DataError(f"{file}: no file fits this pattern")
        else:
            raise DataError(f"{file}: no such file or folder")
        paths += found
    return paths


def _is_hdf5(path):
    with reading(path), open(path, "rb"):
        return path.suffix in (".h5", ".hdf5") or h5py.is_hdf5(path)


def _is_runner_data(path):
    with reading(path):
        return is_runner_data(path)


def _is_data(path):
    """Whether a file in a folder is to be read: by its name, and by its content where the name is .data as for other files of RuNNer."""
    name = path.name
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    if name.startswith(".") or not path.is_file() or not (name.endswith(SUFFIXES) or name.startswith(PREFIXES)):
        return False
    return not name.endswith(".data") or _is_runner_data(path)
