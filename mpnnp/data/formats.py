"""Reading structures from files and writing them: the table of formats."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py

from mpnnp.data import dataset as hdf5
from mpnnp.data.aenet import is_aenet, read_aenet
from mpnnp.data.ase_files import read_ase, structures_of
from mpnnp.data.compressed import check_packing, is_packed, plain_name, reading
from mpnnp.data.cp2k import (
    beside,
    is_cp2k_output,
    is_cp2k_trajectory,
    read_cp2k_output,
    read_cp2k_trajectory,
)
from mpnnp.data.dataset import Dataset, concatenate
from mpnnp.data.deepmd import read_deepmd
from mpnnp.data.extxyz import write_extxyz
from mpnnp.data.label_report import tell
from mpnnp.data.labels import Labels
from mpnnp.data.ml_ab import is_ml_ab, read_ml_ab
from mpnnp.data.outputs import look_into_text
from mpnnp.data.paths import expand
from mpnnp.data.plausibility import FIXED, wrong_units
from mpnnp.data.runner import (
    is_runner_data,
    read_runner_data,
    stated_units,
    unread_units,
    write_runner_data,
)
from mpnnp.data.structure import Structure
from mpnnp.data.suspects import several_states
from mpnnp.errors import ConfigError, DataError, MpnnpError
from mpnnp.progress import counted, warner
from mpnnp.units import ATOMIC, METAL, Units, parse_units

__all__ = [
    "FORMATS",
    "Format",
    "as_units",
    "check_target",
    "companions_of",
    "format_of",
    "read_sources",
    "recognised",
    "targets_in_words",
    "write_target",
]


@dataclass(kw_only=True)
class Reading:
    """What a reader is told, and what it tells.

    keys      energy, forces, stress -> name of the label, None (found by itself) or "none"
    units     Units that the user asked for; None: what the file says, else `assumed`
    assumed   Units of an input.data that says none
    strict    for training: labels that may have been overlooked are errors
    lenient   units that cannot be right are only warned of
    report, warn  called with a line of text
    labels    the Labels of files read by ASE
    """

    keys: dict
    units: Units | None = None
    assumed: Units = ATOMIC
    strict: bool = False
    lenient: bool = False
    report: Callable
    warn: Callable
    labels: list = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """One format of data sets.

    name, notes      in words, for the documentation
    recognises(path) by name or content
    read(path, options)  iterable of Structure, or a Dataset; options: a Reading
    write(path, dataset) or None; suffixes, prefixes: names of files that it writes
    units            whether the units of its files may be said (data.units, --units); others state theirs
    companions(path) files that are read with it, if they are there
    """

    name: str
    recognises: Callable
    read: Callable
    notes: str
    write: Callable | None = None
    suffixes: tuple = ()
    prefixes: tuple = ()
    units: bool = False
    companions: Callable = lambda path: ()


def _read_runner(path, options):
    stated = stated_units(path)
    if stated and options.units and not stated.agrees(options.units):
        raise DataError(f"{path}: states the units {stated}, but {options.units} were asked for")
    units = options.units or stated or options.assumed
    isolated: dict[int, float] = {}
    charges: set[float] = set()
    data = Dataset.from_structures(read_runner_data(path, units, isolated, charges))
    if message := several_states("charges of structures", charges):
        options.warn(f"{path}: {message}")
    data = replace(data, isolated=isolated or None)
    said = options.units or stated
    options.report(f"{path}: {counted(len(data), 'structure')} in {units}{'' if said else ' (assumed)'}")
    if not said:
        if message := unread_units(path, units):
            options.warn(f"{path}: {message}")
        _complain(wrong_units(data, units), path, options)
    return data


def _read_ase(path, options):
    """Dataset of a file, or of a list of ase.Atoms and Structures."""
    if isinstance(path, list):
        if all(isinstance(s, Structure) for s in path):
            return Dataset.from_structures(path)
        labels = Labels("atoms", options.keys, options.units, options.warn)
        structures: Iterable = structures_of(path, labels)
    else:
        labels = Labels(path, options.keys, options.units, options.warn)
        structures = read_ase(path, labels)
    data = replace(Dataset.from_structures(structures), isolated=labels.isolated or None)
    tell(labels, options.report)
    options.labels.append(labels)
    if labels.by_format:
        _complain_of_fixed(data, labels.path, options)
    elif options.units is None and labels.stated is None:
        _complain(wrong_units(data, METAL), labels.path, options)
    if options.strict:
        labels.check_for_training()
    return data


def _complain_of_fixed(data, path, options, more=""):
    """As of a file whose units are those of its format, whatever was asked for; who asks for Angstrom is
    believed. `more`: what the message ends with.
    """
    if options.units is None or options.units.length != METAL.length:
        message = wrong_units(data, METAL, FIXED)
        _complain(message and message + more, path, options)


def _read_cp2k_trajectory(path, options):
    data = Dataset.from_structures(read_cp2k_trajectory(path, options.warn))
    more = "; UNIT of MOTION/PRINT/TRAJECTORY in PROJECT-1.restart beside it says the unit of positions"
    _complain_of_fixed(data, path, options, more)
    return data


def _read_cp2k_output(path, options):
    look_into_text(path, path, options.warn)
    return [read_cp2k_output(path, options.warn)]


def _complain(message, path, options):
    """An error where units are certainly wrong; who only looks (`mpnnp info`) is warned."""
    if message and not options.lenient:
        raise DataError(f"{path}: {message}")
    if message:
        options.warn(f"{path}: {message}")


def _is_text(recognises):
    return lambda path: not is_packed(path) and recognises(path)


FORMATS = {
    "deepmd": Format(
        "DeePMD-kit npy folders",
        Path.is_dir,
        lambda path, options: read_deepmd(path, options.warn),
        "a system (with `type.raw`) or a folder of systems; mixed systems; `nopbc`; virials become stress",
    ),
    "hdf5": Format(
        "HDF5 of mpnnp",
        lambda path: path.suffix in (".h5", ".hdf5") or h5py.is_hdf5(path),
        lambda path, options: hdf5.read(path),
        "flat arrays with offsets, a hash; mapped by all ranks of a node",
        write=hdf5.write,
        suffixes=(".h5", ".hdf5"),
    ),
    "runner": Format(
        "`input.data` of n2p2 and RuNNer",
        is_runner_data,
        _read_runner,
        "the units that are said (below), else Hartree and Bohr; `begin set=train`, `begin set=test`; "
        "free spacing, Fortran exponents, comment lines (`#`, `!`); `weight` and `stress` lines are read; "
        "labels may be missing; written in Hartree and Bohr, which a comment says, with weights, stress "
        "and energies of isolated atoms in comments",
        write=write_runner_data,
        suffixes=(".data",),
        prefixes=("input.data",),
        units=True,
    ),
    "ml_ab": Format(
        "VASP's `ML_AB`, `ML_ABN`",
        is_ml_ab,
        lambda path, options: read_ml_ab(path, options.warn),
        "the ab initio data of its machine-learned force fields: total energies, forces, stresses",
    ),
    "cp2k-trajectory": Format(
        "CP2K dynamics",
        is_cp2k_trajectory,
        _read_cp2k_trajectory,
        "`PROJECT-pos-1.xyz`, also `FORMAT EXTXYZ`, with `PROJECT-frc-1.xyz` and `PROJECT-1.cell` or "
        "`PROJECT-1.restart` beside it, whose `PERIODIC` and `UNIT` of positions and forces count (else "
        "Angstrom, Hartree/Bohr); the cells of a run in which they change are those of `PROJECT-1.cell` "
        "alone; stresses (`PROJECT-1.stress`) are not read; steps that were computed again after a restart "
        "are matched in their order; each of them may be compressed",
        companions=beside,
    ),
    "cp2k-output": Format(
        "CP2K single point",
        _is_text(is_cp2k_output),
        _read_cp2k_output,
        "the output, with coordinates (`PRINT_LEVEL MEDIUM`), `FORCE_EVAL/PRINT/FORCES` and perhaps "
        "`STRESS_TENSOR`",
    ),
    "aenet": Format(
        "XSF of aenet",
        is_aenet,
        lambda path, options: [read_aenet(path)],
        "with the comment `# total energy = ...`; forces in eV/Angstrom (those of other XSF files are in "
        "Hartree/Angstrom)",
    ),
    "extxyz": Format(
        "extended XYZ",
        lambda path: Path(plain_name(path)).suffix.lower() in (".xyz", ".extxyz"),
        _read_ase,
        "eV, Angstrom, eV/Angstrom^3 if nothing else is said; `split=train`, `split=validation` or `test`, "
        "`config_weight` in the comment; a column `force_mask` (F: no label); the cell of i-PI; "
        "written with all digits",
        write=write_extxyz,
        suffixes=(".xyz", ".extxyz"),
        units=True,
    ),
    "ase": Format(
        "anything else that ASE reads",
        lambda path: True,
        _read_ase,
        "`.traj`, `.db`, ...; files of programs, whose units ASE knows and converts; VASP's `OUTCAR`, "
        "`vasprun.xml`: the energy extrapolated to sigma = 0, `--energy-key free_energy` for the one that "
        "belongs to the forces; in folders and patterns one output of each calculation is read; steps that "
        "are not converged are named; dumps of LAMMPS with elements (`ITEM: UNITS` is read). Units may be "
        "said for `.traj`, `.db`, `.json`, `.cfg` and dumps",
        units=True,
    ),
}  # the first that recognises a file reads it


def read_sources(
    files: Any,
    *,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    units: str | Units | None = None,
    assumed_units: Units | None = ATOMIC,
    strict: bool = False,
    lenient: bool = False,
    without: Iterable[str | Path] = (),
    report: Callable[[str], object] = print,
) -> Dataset:
    """Read all structures of `files` into one Dataset; files in the order given, frames in order.

    files   path, glob pattern, folder, ase.Atoms or Structure, or a list of these; patterns and folders
            give their files sorted by name
    energy_key, forces_key, stress_key   name of a label in files read by ASE (info, arrays, or result of the
            calculator); by default REF_*, then the calculator's, then other common names; "none": no such
            label
    units   Units or words like "eV Angstrom" of the files that do not state their own, by words or by their
            format; None: those that a file says, else eV and Angstrom, and `assumed_units` for `input.data`
    strict  for training: labels that may have been overlooked are errors
    lenient units that cannot be right are warned of, not refused
    without files that are not read as part of a folder or pattern: those that will be written
    report  called with a line of text: where the labels of a file were found; its `warn`, if it has one,
            with warnings
    Raises DataError naming file and line or frame.
    """
    keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key}
    options = Reading(
        keys=keys,
        units=as_units(units),
        assumed=as_units(assumed_units) or ATOMIC,
        strict=strict,
        lenient=lenient,
        report=report,
        warn=warner(report),
    )
    datasets = []
    for path in expand(files, {Path(path).resolve() for path in without}, report):
        data = _read_ase(path, options) if isinstance(path, list) else _read(path, options)
        if len(data) == 0:
            empty = isinstance(path, Path) and path.is_file() and not path.stat().st_size
            raise DataError(f"{path}: has no structures{': Empty file' if empty else ''}")
        datasets.append(data)
    for kind, key in keys.items():
        if (
            key in (None, "none")
            or not options.labels
            or any(labels.found[kind] for labels in options.labels)
        ):
            continue
        there = ", ".join(sorted(set().union(*(map(str, labels.suspects.seen) for labels in options.labels))))
        raise DataError(
            f"{options.labels[0].path}: {kind}_key = {key!r} is in no frame; found are {there or 'nothing'}"
        )
    return concatenate(datasets)


def as_units(units: str | Units | None) -> Units | None:
    """Units, or words like "eV Angstrom", as Units. Raises ConfigError for what is neither."""
    if not (units is None or isinstance(units, (str, Units))):
        raise ConfigError(f"units = {units!r}: must be Units or words like 'eV Angstrom'")
    try:
        return parse_units(units) if isinstance(units, str) else units
    except ValueError as error:
        raise ConfigError(f"units: {error}") from None


def _read(path, options):
    """Dataset of one file. Raises DataError that names it, whatever a reader meets."""
    with recognised(path) as known:
        read = known.read(path, options)
        return read if isinstance(read, Dataset) else Dataset.from_structures(read)


@contextlib.contextmanager
def recognised(path: Path) -> Iterator[Format]:
    """Context manager that yields the Format that reads a file or folder; whatever goes wrong in its body
    becomes a DataError that names it, but for a lack of memory.
    """
    with reading(path):
        if path.is_file():
            check_packing(path)
        known = format_of(path)
    try:
        with reading(path):
            yield known
    except (MpnnpError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read as {known.name}: {str(error) or 'no reason given'} "
            f"({type(error).__name__})"
        ) from error


def companions_of(path: str | Path) -> list[Path]:
    """Files that are read with a file, there or not. Raises DataError if it cannot be read."""
    path = Path(path)
    with reading(path):
        return list(format_of(path).companions(path))


def format_of(path: Path) -> Format:
    """The Format that reads a file or folder. Raises OSError."""
    return next(f for f in FORMATS.values() if f.recognises(path))


def targets_in_words() -> str:
    """The names of files that can be written: ".h5, .hdf5, ... or input.data"."""
    suffixes = [s for f in FORMATS.values() for s in f.suffixes]
    return f"{', '.join(suffixes)} or {', '.join(p for f in FORMATS.values() for p in f.prefixes)}"


def check_target(path: str | Path, command: str = "convert") -> None:
    """Raise ConfigError if the name of a file to write says no known format."""
    if _writer(path) is None:
        raise ConfigError(
            f"{command}: the file to write must be named {targets_in_words()}, as its name says the "
            f"format; found {path}"
        )


def write_target(path: str | Path, dataset: Dataset, command: str = "convert") -> None:
    """Write a Dataset in the format that the name says, in the place of a file that is there. Raises
    ConfigError, and DataError for what a format cannot hold.
    """
    check_target(path, command)
    _writer(path)(path, dataset)


def _writer(path):
    path = Path(path)
    by_suffix = [f.write for f in FORMATS.values() if path.suffix in f.suffixes]
    by_name = [f.write for f in FORMATS.values() if f.prefixes and path.name.startswith(f.prefixes)]
    return next(iter(by_suffix or (by_name if not is_packed(path) else [])), None)
