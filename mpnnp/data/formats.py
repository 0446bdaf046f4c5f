"""Reading structures from files, RuNNer/n2p2 `input.data`, data sets of our own, DeePMD folders, CP2K, everything ASE reads; and writing them."""

import glob
from pathlib import Path

import h5py

from mpnnp.data import dataset as hdf5
from mpnnp.data.ase_files import Labels, read_ase
from mpnnp.data.compressed import SUFFIXES as COMPRESSED
from mpnnp.data.compressed import reading
from mpnnp.data.cp2k import is_cp2k_output, is_cp2k_trajectory, read_cp2k_output, read_cp2k_trajectory
from mpnnp.data.dataset import Dataset, concatenate
from mpnnp.data.deepmd import deepmd_systems, read_deepmd
from mpnnp.data.extxyz import write_extxyz
from mpnnp.data.runner import is_runner_data, read_runner_data, write_runner_data
from mpnnp.errors import ConfigError, DataError

__all__ = ["check_target", "read_sources", "write_target"]

SUFFIXES = (
    ".h5",
    ".hdf5",
    ".data",
    ".xyz",
    ".extxyz",
    ".traj",
    ".db",
    ".cfg",
    ".vasp",
)  # looked for in folders; also with .gz, .bz2, .xz
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
        if path.is_dir():
            data = Dataset.from_structures(read_deepmd(path))
        elif _is_hdf5(path):
            data = hdf5.read(path)
        elif _is_runner_data(path):
            with reading(path):
                data = Dataset.from_structures(read_runner_data(path))
        elif path.suffix not in COMPRESSED and (read := _cp2k_reader(path)):
            with reading(path):
                data = Dataset.from_structures(read(path))
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
            found = deepmd_systems(path) or [p for p in sorted(path.iterdir()) if _is_data(p)]
            if not found:
                raise DataError(
                    f"{file}: is a folder without data files ({', '.join(SUFFIXES)}, also compressed)"
                )
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


def check_target(path):
    """Raise ConfigError if the name of a file to write says no known format."""
    if _writer(path) is None:
        raise ConfigError(
            f"convert: the last argument is the file to write: .h5, .hdf5, .xyz, .extxyz, .data or input.data; found {path}"
        )


def write_target(path, dataset):
    """Write a Dataset in the format that the name says. Raises ConfigError, and DataError for what a format cannot hold."""
    check_target(path)
    _writer(path)(path, dataset)


def _writer(path):
    path = Path(path)
    by_suffix = {
        ".h5": hdf5.write,
        ".hdf5": hdf5.write,
        ".xyz": write_extxyz,
        ".extxyz": write_extxyz,
        ".data": write_runner_data,
    }
    return by_suffix.get(path.suffix) or (
        write_runner_data if path.name.startswith("input.data") and path.suffix not in COMPRESSED else None
    )


def _cp2k_reader(path):
    """The reader of a file of CP2K, or None."""
    with reading(path):
        if is_cp2k_trajectory(path):
            return read_cp2k_trajectory
        return (lambda p: [read_cp2k_output(p)]) if is_cp2k_output(path) else None


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
    if (
        name.startswith(".")
        or not path.is_file()
        or not (name.endswith(SUFFIXES) or name.startswith(PREFIXES))
    ):
        return False
    return not name.endswith(".data") or _is_runner_data(path)
