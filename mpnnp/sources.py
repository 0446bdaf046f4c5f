"""Reading structures from files: RuNNer/n2p2 `input.data`, data sets of our own, and everything ASE reads."""

import glob
from pathlib import Path

import h5py
import numpy as np
from ase.io import iread

from mpnnp import dataset as hdf5
from mpnnp.dataset import Dataset, concatenate
from mpnnp.errors import DataError
from mpnnp.runner_data import is_runner_data, read_runner_data, write_runner_data
from mpnnp.structure import Structure

__all__ = ["read_sources", "write_runner_data"]

# label: names looked for, the first that is found is taken; `calculator:` are results of ASE's calculator, the others info or arrays of Atoms
GUESSES = {
    "energy": ("REF_energy", "calculator:energy", "energy", "calculator:free_energy", "free_energy", "dft_energy", "DFT_energy", "Energy"),
    "forces": ("REF_forces", "calculator:forces", "forces", "force", "dft_forces", "DFT_forces", "dft_force", "Forces"),
    "stress": ("REF_stress", "calculator:stress", "stress", "dft_stress", "DFT_stress"),
}
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
        if h5py.is_hdf5(path):
            data = hdf5.read(path)
        elif _checked(path, is_runner_data):
            data = Dataset.from_structures(_checked_frames(path, read_runner_data(path)))
        else:
            labels = _Labels(path, keys)
            data = Dataset.from_structures(_read_ase(path, labels))
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
            found = [p for p in sorted(path.iterdir()) if _is_data_name(p.name) and p.is_file() and _is_data(p)]
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
    for path in paths:
        _checked(path, lambda p: open(p, "rb").close())
    return paths


def _is_data_name(name):
    stem = name.removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz")
    return not name.startswith(".") and (stem.endswith(SUFFIXES) or name.startswith(PREFIXES))


def _is_data(path):
    """Other files of RuNNer end in .data as well."""
    return ".data" not in path.suffixes or _checked(path, is_runner_data)


def _checked(path, function):
    """function(path), with errors of reading as DataError."""
    try:
        return function(path)
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _checked_frames(path, frames):
    try:
        yield from frames
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _read_ase(path, labels):
    """Yield the Structures of a file that ASE reads."""
    # parallel=False: with mpi4py loaded ASE would broadcast the frames, and wait for ranks that do not read
    frames = iread(str(path), index=slice(None), parallel=False, do_not_split_by_at_sign=True)
    frame = 0
    while True:
        try:
            atoms = next(frames)
        except StopIteration:
            return
        except Exception as error:  # ASE raises whatever its parsers happen to meet
            reason = str(error) or type(error).__name__
            raise DataError(f"{path}, frame {frame}: cannot be read by ASE: {' '.join(reason.split())}") from None
        values = labels.of(atoms, frame)
        yield Structure(
            numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc, source=str(path), frame=frame, **values
        )
        frame += 1


class _Labels:
    """Which names hold the labels in one file: chosen at the first frame that has one, then kept."""

    def __init__(self, path, keys):
        self.path = path
        self.guess = {kind: key is None for kind, key in keys.items()}
        self.names = {kind: GUESSES[kind] if key is None else (f"calculator:{key}", key) for kind, key in keys.items()}
        self.choice = dict.fromkeys(keys)
        self.others = {kind: () for kind in keys}
        self.found = dict.fromkeys(keys, 0)
        self.seen = set()  # all names that could be labels
        self.n_frame = 0

    def of(self, atoms, frame):
        """energy, forces, stress of `atoms` as keywords of Structure."""
        self.n_frame += 1
        there = {f"calculator:{k}": v for k, v in (atoms.calc.results if atoms.calc is not None else {}).items() if v is not None}
        there |= atoms.info | {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
        self.seen.update(name.removeprefix("calculator:") for name in there)
        return {kind: self._label(kind, there, len(atoms), frame) for kind in self.choice}

    def _label(self, kind, there, n_atom, frame):
        present = [name for name in self.names[kind] if name in there]
        if self.choice[kind] is None and present:
            self.choice[kind], *others = present
            self.others[kind] = [name for name in others if self.guess[kind]]
        choice = self.choice[kind]
        where = f"{self.path}, frame {frame}"
        if choice not in present:
            if present:
                raise DataError(
                    f"{where}: {kind} is called {_plain(present[0])!r} here but {_plain(choice)!r} in earlier frames; "
                    f"choose one with {kind}_key, or read them as two files"
                )
            return np.nan if kind == "energy" else None
        value = _as_floats(there[choice], where, kind, choice)
        self.found[kind] += 1
        if kind == "stress":
            return _voigt(value, where, choice)
        shape = () if kind == "energy" else (n_atom, 3)
        if value.size == 1 and kind == "energy":
            value = value.reshape(())
        if value.shape != shape:
            raise DataError(f"{where}: {kind} {_plain(choice)!r} has shape {value.shape}, must be {shape}")
        if not np.isfinite(value).all():
            atom = "" if kind == "energy" else f" of atom {int(np.argmin(np.isfinite(value).all(axis=1)))}"
            raise DataError(f"{where}: {kind} {_plain(choice)!r}{atom} is not finite; remove the label or the frame")
        return value

    def report(self, report):
        """One line: where each label was found, and how often."""
        parts = []
        for kind, choice in self.choice.items():
            if choice is None:
                parts.append(f"no {kind}")
                continue
            count = "" if self.found[kind] == self.n_frame else f" in {self.found[kind]} of them"
            others = [_plain(name) for name in self.others[kind] if _plain(name) != _plain(choice)]
            also = f" (also there: {', '.join(dict.fromkeys(others))}; see {kind}_key)" if others else ""
            parts.append(f"{kind} from {_plain(choice)!r}{count}{also}")
        report(f"{self.path}: {self.n_frame} frames, {', '.join(parts)}")


def _plain(name):
    return name.removeprefix("calculator:")


def _as_floats(value, where, kind, name):
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {kind} {_plain(name)!r} is not a number: {value!r}") from None


def _voigt(value, where, name):
    """Stress as xx yy zz yz xz xy, from 6 or 3x3 numbers; None if a component is NaN."""
    if value.shape in ((9,), (3, 3)):
        full = value.reshape(3, 3)
        full = (full + full.T) / 2
        value = full[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    if value.shape != (6,):
        raise DataError(f"{where}: stress {_plain(name)!r} has shape {value.shape}, must be (6,), (9,) or (3, 3)")
    return None if np.isnan(value).any() else value
