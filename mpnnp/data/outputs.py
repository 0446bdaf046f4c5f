"""What ASE does not tell of the files of VASP, LAMMPS and others that it reads: steps that did not converge
or are not whole, labels that are no ab initio ones, elements that are only numbers of types, whether it knows
the units.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_masses

from mpnnp.data.ase_database import is_database, units_of_database
from mpnnp.errors import DataError
from mpnnp.progress import counted
from mpnnp.units import METAL, Units, parse_units

__all__ = ["AS_DATABASE", "AS_DUMP", "AS_OUTCAR", "Source", "look_into_text", "prepared"]

OUTCAR, VASPRUN, DUMP, DATA = "OUTCAR", "vasprun.xml", "dump of LAMMPS", "data file of LAMMPS"
DATABASE, MLIP = "database of ASE", "file of MLIP (moment tensor potentials)"
# ASE's names of their formats
AS_OUTCAR, AS_VASPRUN, AS_DUMP, AS_DATABASE = "vasp-out", "vasp-xml", "lammps-dump-text", "db"
# formats that keep numbers in whatever units they were given; those of others are known to ASE
WITHOUT_UNITS = ("traj", "bundletrajectory", "netcdftrajectory", "db", "json", "cfg", "xyz", "extxyz") + (
    "lammps-dump-text",
    "lammps-dump-binary",
)
# ASE takes files with these words in their names for VASP's, whatever they are: "POSCAR.cif"
NAMES_OF_VASP = ("OUTCAR", "POSCAR", "CONTCAR", "CENTCAR", "XDATCAR")
BY_SUFFIX = {".traj": "traj", ".json": "json", ".cif": "cif", ".cfg": "cfg", ".xsf": "xsf"}
# what tells an output of a program, its end, and a cycle that did not converge
PROGRAMS = {
    "Quantum ESPRESSO": (b"Program PWSCF", b"JOB DONE", b"convergence NOT achieved"),
    "FHI-aims": (b"Invoking FHI-aims", b"Have a nice day", b"Self-consistency cycle not converged"),
    "CP2K": (b"CP2K| version string", b"PROGRAM ENDED", b"SCF run NOT converged"),
}
HEAD = 20000  # bytes that tell the kind
ITERATION = re.compile(rb"-+ +Iteration +(\d+) *\( *(\d+) *\)")
CUT = "the calculation did not end by itself; if its last step is not whole, it is left out"
SHOWN = 5  # steps named in a warning
SAME_MASS = 0.1  # u; elements are nearer than this to the masses that are written
UNITS_OF_LAMMPS = {"metal": METAL} | {
    "real": parse_units("kcal/mol Angstrom"),
    "electron": parse_units("Hartree Bohr"),
}


@dataclass(frozen=True)
class Source:
    """What ASE shall read.

    file       a plain one
    name       ASE's of its format, or None
    units      Units that it states, or None
    by_format  its format says its units, which ASE converts
    """

    file: Path
    name: str | None = None
    units: Units | None = None
    by_format: bool = False


def _kind_of(plain):
    """Which of these kinds a plain file is, by name and content; None if it is none of them."""
    if not plain.is_file():
        return None
    with open(plain, "rb") as file:
        head = file.read(HEAD)
    if head.startswith((b" vasp.", b"vasp.")):
        return OUTCAR
    if plain.suffix == ".xml" and b"<modeling>" in head:
        return VASPRUN
    if head.lstrip().startswith(b"BEGIN_CFG"):
        return MLIP
    if is_database(plain, head):
        return DATABASE
    if re.search(rb"^ITEM: TIMESTEP", head, re.MULTILINE):
        return DUMP
    if re.search(rb"^\s*\d+\s+atoms\b", head, re.MULTILINE) and re.search(rb"\bxlo\s+xhi\b", head):
        return DATA
    if "OUTCAR" in plain.name and plain.suffix.lower() not in BY_SUFFIX:
        return OUTCAR
    return None


@contextlib.contextmanager
def prepared(plain: Path, path: Path, warn: Callable) -> Iterator[Source]:
    """Context manager that yields the Source that ASE shall read.

    plain   uncompressed file; path: its name in messages
    Warns of steps that did not converge and of calculations that did not end. Raises DataError for what
    would be read wrongly.
    """
    kind = _kind_of(plain)
    if kind == MLIP:
        raise DataError(
            f"{path}: is a {MLIP}, which tells types of atoms, not their elements: not read; write it as "
            "extended XYZ"
        )
    if kind == DATA:
        raise DataError(
            f"{path}: is a {DATA}, which is not read, as it says neither elements nor labels for certain; "
            "write it as extended XYZ, e.g. by LAMMPS: dump ... element x y z, dump_modify ... element O H"
        )
    if kind == DUMP:
        yield Source(plain, AS_DUMP, _look_into_dump(plain, path, warn))
    elif kind == DATABASE:
        yield Source(plain, AS_DATABASE, units_of_database(plain, path))
    elif kind == VASPRUN:
        _look_into_vasprun(plain, path, warn)
        yield Source(plain, AS_VASPRUN, by_format=True)
    elif kind == OUTCAR:
        with open(plain, "rb") as file:
            end = _look_into_outcar(file, path, warn)
        if end is None:
            yield Source(plain, AS_OUTCAR, by_format=True)
            return
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / plain.name
            shutil.copyfile(plain, whole)
            os.truncate(whole, end)
            yield Source(whole, AS_OUTCAR, by_format=True)
    else:
        look_into_text(plain, path, warn)
        yield _known_to_ase(plain)


def _known_to_ase(plain):
    """The Source of a file of another kind."""
    from ase.io.formats import UnknownFileTypeError, filetype  # 0.2 s, which other data need not wait for

    if any(word in plain.name for word in NAMES_OF_VASP) and plain.suffix.lower() in BY_SUFFIX:
        name = BY_SUFFIX[plain.suffix.lower()]
        return Source(plain, name, by_format=name not in WITHOUT_UNITS)
    try:
        known = filetype(str(plain))
    except (UnknownFileTypeError, OSError):  # which ASE says when it reads
        return Source(plain)
    return Source(plain, by_format=known not in WITHOUT_UNITS)


def look_into_text(plain: Path, path: Path, warn: Callable) -> None:
    """Warn of cycles that did not converge, and of a calculation that did not end, in an output of one of the
    PROGRAMS.
    """
    if not plain.is_file():
        return
    with open(plain, "rb") as file:
        head = file.read(HEAD)
        found = next((marks for marks in PROGRAMS.values() if marks[0] in head), None)
        if found is None:
            return
        _, end, loose = found
        file.seek(0)
        n_loose, ended = 0, False
        for line in file:
            n_loose += loose in line
            ended = ended or end in line
    if n_loose:
        warn(
            f"{path}: {counted(n_loose, 'self-consistency cycle')} did not converge "
            f"({loose.decode()!r}): labels from such a cycle are wrong"
        )
    if not ended:
        warn(f"{path}: the calculation did not end by itself; labels may be missing")


def _look_into_outcar(file, path, warn):
    """Number of bytes up to the end of the last whole step if the calculation did not end, else None. Warns,
    and raises DataError for a machine-learned force field's steps.
    """
    step, position, end, ended = 0, 0, None, False
    n_whole = 0
    loose, converged, of_energy = [], True, False  # steps without convergence; whether this one has it
    for number, line in enumerate(file, 1):
        position += len(line)
        if b"Iteration" in line and (found := ITERATION.search(line)):
            if int(found[1]) != step:
                step, converged = int(found[1]), False
        elif b"EDIFF is reached" in line:
            converged = True
        elif b"TOTAL-FORCE (eV/Angst) (ML)" in line:
            raise DataError(
                f"{path}, line {number}: energies and forces of VASP's own machine-learned force field "
                "(ML_LMLFF), which are no labels: OUTCAR files of such runs are not read; their ML_ABN holds "
                "what was computed ab initio"
            )
        elif b"FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
            of_energy = True
        elif of_energy and b"energy(sigma->0)" in line and line.endswith(b"\n"):
            if _is_number(line.split()[-1]):
                end, of_energy = position, False
                if not converged and step:
                    loose.append(n_whole)
                n_whole += 1
        elif b"General timing and accounting" in line:
            ended = True
    _warn_of_steps(loose, n_whole, "the electronic steps did not reach EDIFF", path, warn)
    if ended or not n_whole:
        return None
    warn(f"{path}: {CUT}")
    return end


def _is_number(word):
    try:
        float(word)
    except ValueError:
        return False
    return True


def _look_into_vasprun(plain, path, warn):
    most, n_scf, n_step, ended, learned = None, 0, 0, False, False
    loose = []
    with open(plain, "rb") as file:
        for line in file:
            if b"<scstep>" in line:
                n_scf += line.count(b"<scstep>")
            elif b"</calculation>" in line:
                if most and n_scf >= most:
                    loose.append(n_step)
                n_step, n_scf = n_step + 1, 0
            elif most is None and (found := re.search(rb'name="NELM" *> *(\d+)', line)):
                most = int(found[1])
            elif re.search(rb'name="ML_LMLFF" *> *T', line):
                learned = True
            ended = ended or b"</modeling>" in line
    if most != 1:
        _warn_of_steps(loose, n_step, f"all {most} electronic steps (NELM) were taken", path, warn)
    if learned:
        warn(
            f"{path}: is of a run with VASP's machine-learned force field (ML_LMLFF): are its energies and "
            "forces ab initio ones? Its ML_ABN holds those that are"
        )
    if not ended and n_step:
        warn(f"{path}: {CUT}")


def _warn_of_steps(steps, n, why, path, warn):
    if steps:
        named = ", ".join(map(str, steps[:SHOWN])) + (", ..." if len(steps) > SHOWN else "")
        warn(
            f"{path}: {len(steps)} of {counted(n, 'step')} {'is' if len(steps) == 1 else 'are'} perhaps not "
            f"converged ({why}): {'frame' if len(steps) == 1 else 'frames'} {named}"
        )


def _look_into_dump(plain, path, warn):
    """Units that a dump states, or None. Raises DataError where it does not tell the elements, states units
    that are not read, or has fewer atoms than it announces.
    """
    units, stated, looked = None, False, set()
    n_atom, frame = 0, -1
    with open(plain, encoding="utf-8", errors="replace") as file:
        lines = enumerate(file, 1)
        for number, line in lines:
            if line.startswith("ITEM: UNITS"):
                units, stated = _units_of_dump(next(lines, (0, ""))[1].strip(), path, number), True
            elif line.startswith("ITEM: NUMBER OF ATOMS"):
                word = next(lines, (0, ""))[1].strip()
                n_atom = int(word) if word.isdecimal() else 0  # (ASE refuses it)
            elif line.startswith("ITEM: BOX BOUNDS") and not line.split()[3:]:
                raise DataError(
                    f"{path}, line {number}: does not say along which vectors it is periodic, as dumps of "
                    "LAMMPS since 2011 do: ITEM: BOX BOUNDS pp pp pp"
                )
            elif line.startswith("ITEM: ATOMS"):
                frame += 1
                columns = line.split()[2:]
                if line not in looked:
                    looked.add(line)
                    _look_at_columns(columns, stated, path, number, warn)
                rows = [text for _, text in itertools.islice(lines, n_atom)]
                _check_rows(rows, columns, n_atom, f"{path}, frame {frame} (line {number})")
    return units


def _units_of_dump(name, path, number):
    if name not in UNITS_OF_LAMMPS:
        raise DataError(
            f"{path}, line {number}: units {name!r} of LAMMPS are not read, only {', '.join(UNITS_OF_LAMMPS)}"
        )
    return UNITS_OF_LAMMPS[name]


def _look_at_columns(columns, stated, path, number, warn):
    """Warn of forces without units. Raises DataError where no column tells the elements."""
    if not {"element", "mass"} & set(columns):
        raise DataError(
            f"{path}, line {number}: a {DUMP} that tells types of atoms, not their elements "
            f"(columns {' '.join(columns)}): write it with a column element (dump_modify ... element O H)"
        )
    if "fx" in columns and not stated:
        warn(
            f"{path}: does not say its units; eV and Angstrom are taken if nothing else is asked for "
            "(dump_modify ... units yes says them)"
        )


def _check_rows(rows, columns, n_atom, where):
    """Raise DataError where there are fewer rows than atoms, of which ASE reads those that are there, or
    where the elements, which ASE takes for those of the nearest mass, are other masses.
    """
    n_row = next((k for k, row in enumerate(rows) if row.startswith("ITEM:") or not row.strip()), len(rows))
    if n_row < n_atom:
        raise DataError(
            f"{where}: announces {counted(n_atom, 'atom')}, has {n_row}: was it cut off? Remove the frame"
        )
    if "element" in columns:
        return
    at = columns.index("mass")
    for word in {words[at] for words in map(str.split, rows) if len(words) > at}:
        mass = float(word) if _is_number(word) else 0.0
        nearest = float(np.abs(atomic_masses[1:] - mass).min())
        if not nearest < SAME_MASS:
            raise DataError(
                f"{where}: an atom has the mass {word}, which is that of no element: write the dump with a "
                "column element (dump_modify ... element O H)"
            )
