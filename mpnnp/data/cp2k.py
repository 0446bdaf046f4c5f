"""Structures from CP2K: trajectories of its molecular dynamics (PROJECT-pos-1.xyz and what lies beside it)
and outputs of single points.
"""

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mpnnp.data.compressed import SUFFIXES, open_text, plain_name, reading
from mpnnp.data.structure import Structure
from mpnnp.data.voigt import to_voigt
from mpnnp.errors import DataError
from mpnnp.progress import counted
from mpnnp.units import BOHR, HARTREE, parse_units

__all__ = ["beside", "is_cp2k_output", "is_cp2k_trajectory", "read_cp2k_output", "read_cp2k_trajectory"]

COMMENT = re.compile(r"\bi *= *(\d+).*\bE *= *(\S+)")
EXTENDED = re.compile(r"\bStep=(\d+) +Time=\S+ +Energy=(\S+)")  # FORMAT EXTXYZ
LATTICE = re.compile(r'\bLattice="([^"]*)"')
PBC = re.compile(r'\bpbc="([TF]) ([TF]) ([TF])"')
VECTOR = re.compile(r"CELL\| Vector ([abc]) \[angstrom\]:? +(\S+) +(\S+) +(\S+)")
ATOM = re.compile(r"^ +\d+ +\d+ +([A-Z][a-z]?) +\d+((?: +-?\d+\.\d+){3})")
PERIODICITY = re.compile(r"CELL\| Periodicity +(\S+)")
CELL_BLOCK = re.compile(r"&CELL\b(.*?)&END CELL\b", re.DOTALL | re.IGNORECASE)
OTHER_CELL = re.compile(r"&CELL_REF\b.*?&END CELL_REF\b", re.DOTALL | re.IGNORECASE)
ENDINGS = (".xyz", ".extxyz")
CHANGING = ("NPT", "NPE", "MSST", "HYDROSTATICSHOCK")  # how ensembles begin in which the cell changes
PER = re.compile(r"\*(\w+)\^-1")  # hartree*bohr^-1
SAME_ENERGY = 1e-8  # Hartree; the same frame in the files of positions and of forces
ROW = r"((?: +[-+]?\d+\.\d+(?:E[-+]?\d+)?){3})"
# title of the forces on the atoms and their lines, from 2025 on and before
FORCES = {
    re.compile(r"FORCES\| Atomic forces \[(.*)\]"): re.compile(rf"^ *FORCES\| +\d+{ROW}"),
    re.compile(r"ATOMIC FORCES in \[(.*)\]"): re.compile(rf"^ +\d+ +\d+ +[A-Z][a-z]?{ROW}"),
}
# that of the stress, from 8.1 on and before
STRESS = {
    re.compile(r"STRESS\| (?:Analytical|Numerical) stress tensor \[(.*)\]"): re.compile(
        rf"^ *STRESS\| +[xyz]{ROW}"
    ),
    re.compile(r"(?:^|NUMERICAL) +STRESS TENSOR \[(.*)\]"): re.compile(rf"^ +[XYZ]{ROW}"),
}


def is_cp2k_trajectory(path: Path) -> bool:
    """Whether the file is PROJECT-pos-1.xyz: by its name and the comment of its first frame."""
    name = plain_name(path)
    if "-pos-" not in name or not name.endswith(ENDINGS):
        return False
    with open_text(path) as file:
        return any(COMMENT.search(line) or EXTENDED.search(line) for line in itertools.islice(file, 1, 2))


def beside(path: Path) -> tuple[Path, Path, Path]:
    """The files of forces, of cells and of the restart that belong to PROJECT-pos-1.xyz, there or not;
    compressed ones where only they are there.
    """
    project, number = _project(path)
    kinds = ([f"frc-{number}{ending}" for ending in ENDINGS], [f"{number}.cell"], [f"{number}.restart"])
    force_file, cell_file, restart = (
        _found([Path(path).with_name(f"{project}-{name}") for name in names]) for names in kinds
    )
    return force_file, cell_file, restart


def _stress_file(path):
    """The file of stresses that belongs to PROJECT-pos-1.xyz, there or not."""
    project, number = _project(path)
    return _found([Path(path).with_name(f"{project}-{number}.stress")])


def _project(path):
    """PROJECT and number of PROJECT-pos-1.xyz."""
    project, _, number = Path(plain_name(path)).stem.rpartition("-pos-")
    return project, number


def _found(paths):
    """The first of the files that is there, perhaps compressed; the first if none is."""
    packed = (path.with_name(path.name + suffix) for path in paths for suffix in ("", *SUFFIXES))
    return next((found for found in packed if os.path.lexists(found)), paths[0])


def read_cp2k_trajectory(path: Path, warn: Callable = lambda text: None) -> Iterator[Structure]:
    """Yield the Structures of PROJECT-pos-1.xyz; forces from PROJECT-frc-1.xyz,
    cells from its comments (FORMAT EXTXYZ), PROJECT-1.cell or the cell of PROJECT-1.restart, the periodicity
    from the comments or the latter.

    Positions are in Angstrom, forces in Hartree/Bohr if the restart says no UNIT of theirs; energies in
    Hartree. Frames are matched by their step; a step that comes again, as CP2K appends to its files where it
    goes on from an older restart, by its order. `warn` is called with a text on forces that are missing and
    on stresses, which are not read.
    Raises DataError naming the file and step where the files do not fit each other.
    """
    path = Path(path)
    force_file, cell_file, restart = beside(path)
    units = _units_of(restart)
    elements: list[str] = []  # of the forces
    forces = _Beside(force_file, path, _forces(force_file, elements))
    periodic, fixed = _of_restart(restart, cell_file)
    cells = _Beside(cell_file, path, _cells(cell_file))
    missing = no_energy = 0
    for frame, (step, energy, symbols, positions, own) in enumerate(_frames(path)):
        force = forces.next(step, energy)
        cell, pbc = own or (cells.next(step) if cells.values else fixed, periodic)
        if cell is None:
            wanted = f"{cell_file.name} or {restart.name}"
            reason = f"{cell_file.name} has none" if cells.values else f"needs {wanted} beside it"
            raise DataError(f"{path}: no cell for step {step}: {reason}")
        missing += force is None
        no_energy += np.isnan(energy)
        _check_symbols(path, step, symbols, elements, force_file)
        yield Structure(
            numbers=[atomic_numbers[symbol] for symbol in symbols],
            positions=positions * units.length,
            cell=cell,
            pbc=periodic if pbc is None else pbc,
            energy=energy * HARTREE,
            forces=None if force is None else force * units.force,
            source=str(path),
            frame=frame,
        )
    forces.check()
    cells.check()
    if missing:
        why = "" if force_file.exists() else ", which is not there"
        warn(f"{path}: {missing} of its frames have no forces in {force_file.name}{why}")
    if no_energy:
        warn(f"{path}: the energies of {no_energy} of its frames are NaN, taken for labels that are missing")
    if (stress := _stress_file(path)).exists():
        warn(f"{path}: the stresses in {stress.name} beside it are not read")


def _check_symbols(path, step, symbols, elements, force_file):
    """Raise DataError for names that are no elements, and for forces on atoms in another order."""
    unknown = next((symbol for symbol in symbols if atomic_numbers.get(symbol, 0) < 1), None)
    if unknown is not None:
        raise DataError(f"{path}: step {step} has an atom {unknown!r}, which is not the symbol of an element")
    if elements and symbols != elements:
        raise DataError(
            f"{path}: step {step} has the atoms {' '.join(symbols)[:40]}, but {force_file.name} "
            f"{' '.join(elements)[:40]}: they are not of one run"
        )


class _Beside:
    """What a file beside a trajectory says of its steps: for the k-th time that a step comes the k-th value.

    file, trajectory   paths, for messages
    entries            (step, energy in Hartree or None, array) in the order of the file
    """

    def __init__(self, file, trajectory, entries):
        self.file, self.trajectory = file, trajectory
        self.values, self.asked = {}, Counter()
        for step, *value in entries:
            self.values.setdefault(step, []).append(value)

    def next(self, step, energy=None):
        """The array of a step that comes in the trajectory, None if the file has none.

        Raises DataError if it belongs to another energy.
        """
        known = self.values.get(step)
        if not known:
            return None
        self.asked[step] += 1
        of_it, array = known[min(self.asked[step], len(known)) - 1]
        if None not in (of_it, energy) and abs(of_it - energy) > SAME_ENERGY:
            raise DataError(
                f"{self.trajectory}: step {step} has the energy {energy:.10f} Hartree here and {of_it:.10f} "
                f"in {self.file.name}, which is that of another run"
            )
        return array

    def check(self):
        """Raise DataError for a step that comes more often in one file than in the other, where it matters
        which of its values is taken.
        """
        everything = [value for values in self.values.values() for value in values]
        if all(energy is None and np.array_equal(a, everything[0][1]) for energy, a in everything):
            return  # one cell, whichever is taken
        for step, n in self.asked.items():
            if n != len(self.values[step]):
                raise DataError(
                    f"{self.trajectory}: step {step} comes {n} times here and {len(self.values[step])} times "
                    f"in {self.file.name}: which belong together is not known; leave out of both files what "
                    "was computed again after a restart"
                )


def _forces(path, elements):
    """Yield (step, energy, (n, 3) forces) of a file of forces, if it is there; `elements` gets its
    symbols.
    """
    if os.path.lexists(path):
        for step, energy, symbols, values, _ in _frames(path):
            elements[:] = symbols
            yield step, energy, values


def _frames(path):
    """(step, energy, symbols, (n, 3) numbers, None or cell and periodicity that the comment says) of each
    frame of an xyz file of CP2K.
    """
    with reading(path), open_text(path) as file:
        number = 1
        for line in file:
            try:
                n = int(line)
                comment = next(file)
                found = COMMENT.search(comment) or EXTENDED.search(comment)
                rows = [next(file).split() for _ in range(n)]
                yield (
                    int(found[1]),  # type: ignore[index]  # None is a TypeError, caught below
                    float(found[2]),  # type: ignore[index]
                    [row[0] for row in rows],
                    np.array([row[1:4] for row in rows], float),
                    _cell_of(comment),
                )
            except (ValueError, TypeError, IndexError, KeyError, StopIteration, RuntimeError):
                raise DataError(
                    f"{path}: is no complete trajectory of CP2K near the line '{line.strip()[:60]}' "
                    f"(line {number})"
                ) from None
            number += n + 2


def _cell_of(comment):
    """(cell (3, 3) Angstrom, periodicity or None) of Lattice="..." in a comment; None without it."""
    lattice, pbc = LATTICE.search(comment), PBC.search(comment)
    if not lattice:
        return None
    cell = np.array(lattice[1].split(), float).reshape(3, 3)
    return cell, [flag == "T" for flag in pbc.groups()] if pbc else None


def _text(path):
    with reading(path), open_text(path) as file:
        return file.read()


def _cells(cell_file):
    """Yield (step, None, (3, 3) Angstrom) of a .cell file, if it is there."""
    if not os.path.lexists(cell_file):
        return
    for line in _text(cell_file).splitlines():
        words = line.split()
        if words and words[0].isdigit():
            try:
                yield int(words[0]), None, np.array(words[2:11], float).reshape(3, 3)
            except ValueError:
                raise DataError(
                    f"{cell_file}: expected step, time and nine numbers of a cell, found "
                    f"'{line.strip()[:60]}'"
                ) from None


def _of_restart(restart, cell_file):
    """((3,) bool periodic, (3, 3) Angstrom the cell of all frames or None) of a restart file that may not be
    there. Raises DataError for one cell of a run in which it changes, without a file of all cells.
    """
    if not os.path.lexists(restart):
        return (True, True, True), None
    text = _text(restart)
    for block in CELL_BLOCK.finditer(text):  # one without vectors is that of the output
        lines = OTHER_CELL.sub("", block[1])
        vectors = dict(re.findall(r"^ *([ABC]) +(.*)$", lines, re.MULTILINE))
        if len(vectors) == 3:
            break
    else:
        return (True, True, True), None
    periodic = _periodic(_word(lines, "PERIODIC") or "XYZ", restart)
    if os.path.lexists(cell_file):
        return periodic, None
    run, ensemble = _word(text, "RUN_TYPE") or "MD", _word(text, "ENSEMBLE") or ""
    changing = run == "CELL_OPT" or (run in ("MD", "MOLECULAR_DYNAMICS") and ensemble.startswith(CHANGING))
    if changing:
        raise DataError(
            f"{restart}: its cell is that of one step, but the cell changes in this run "
            f"({run if run == 'CELL_OPT' else ensemble}): {cell_file.name} is wanted beside it, "
            "which MOTION/PRINT/CELL writes"
        )
    return periodic, np.array([vectors[name].split()[:3] for name in "ABC"], float)


def _units_of(restart):
    """Units of the files of positions and forces: UNIT of MOTION/PRINT/TRAJECTORY and of FORCES there in a
    restart file that may not be there, else those of CP2K. Raises DataError for others than are read.
    """
    text = _text(restart) if os.path.lexists(restart) else ""
    said = []
    for section, usual in (("TRAJECTORY", "Angstrom"), ("FORCES", "Hartree/Bohr")):
        blocks = re.findall(
            rf"^ *&{section}\b(.*?)^ *&END {section}\b", text, re.DOTALL | re.MULTILINE | re.IGNORECASE
        )
        word = next(filter(None, (_word(block, "UNIT") for block in blocks)), usual)
        said.append(PER.sub(r"/\1", word))
    try:
        return parse_units(f"Hartree {' '.join(said)}")
    except ValueError as error:
        raise DataError(f"{restart}: UNIT of its positions or forces: {error}") from None


def _word(text, keyword):
    """The first word behind a keyword of CP2K, in capitals; None if it is not there."""
    found = re.search(rf"^ *{keyword} +(\S+)", text, re.MULTILINE | re.IGNORECASE)
    return found[1].upper() if found else None


def _periodic(word, path):
    """(3,) bool of XYZ, XY, ..., NONE. Raises DataError."""
    word = word.upper()
    if word != "NONE" and not set(word) <= set("XYZ"):
        raise DataError(f"{path}: PERIODIC {word}: must be NONE or some of X, Y and Z")
    return tuple(axis in word for axis in "XYZ") if word != "NONE" else (False,) * 3


def is_cp2k_output(path: Path) -> bool:
    """Whether the file is the output of CP2K: by its first 200 lines."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return any(
            "CP2K| version string" in line or line.startswith(" DBCSR| ")
            for line in itertools.islice(file, 200)
        )


def read_cp2k_output(path: Path, warn: Callable = lambda text: None) -> Structure:
    """The Structure of a single point (RUN_TYPE ENERGY_FORCE, with the coordinates, FORCE_EVAL/PRINT/FORCES
    and perhaps FORCE_EVAL/PRINT/STRESS_TENSOR in the output).

    `warn` is called with a text if there are no forces. Raises DataError naming what is missing, and for
    outputs of several geometries, whose trajectory is to be read instead.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    energies = [float(line.split()[-1]) for line in lines if "ENERGY| Total FORCE_EVAL" in line]
    if len(energies) != 1:
        raise DataError(
            f"{path}: has {len(energies)} energies, must be a single point; "
            "for dynamics read PROJECT-pos-1.xyz"
        )
    vectors = {found[1]: found.groups()[1:] for line in lines if (found := VECTOR.search(line))}
    start = next((k for k, line in enumerate(lines) if "ATOMIC COORDINATES IN" in line), len(lines))
    atoms = _block(lines, start, ATOM)
    if len(vectors) != 3 or not atoms:
        raise DataError(
            f"{path}: has no {'atomic coordinates' if len(vectors) == 3 else 'cell'} in it; "
            "raise PRINT_LEVEL to MEDIUM"
        )
    scale = BOHR if "BOHR" in lines[start].upper() else 1.0
    periodicity = next((found[1] for line in lines if (found := PERIODICITY.search(line))), "XYZ")
    forces = _table(path, lines, FORCES, len(atoms), lambda unit: parse_units(f"Hartree Bohr {unit}").force)
    stress = _table(path, lines, STRESS, 3, lambda unit: -parse_units(f"Hartree Bohr {unit}").stress)
    pbc = _periodic(periodicity, path)
    if stress is not None and not all(pbc):
        warn(f"{path}: its stress is left out, as it is not periodic in all directions")
        stress = None
    if forces is None:
        warn(f"{path}: has no forces on the atoms; FORCE_EVAL/PRINT/FORCES prints them")
    return Structure(
        numbers=[atomic_numbers[found[1]] for found in atoms],
        positions=np.array([found[2].split() for found in atoms], float) * scale,
        cell=np.array([vectors[name] for name in "abc"], float),
        pbc=pbc,
        energy=energies[0] * HARTREE,
        forces=forces,
        stress=None if stress is None else to_voigt(stress),
        source=str(path),
    )


def _table(path, lines, titles, n_row, factor):
    """(n_row, 3) numbers below the last of the lines that one of `titles` fits, times `factor` of the unit
    that it says in brackets; None without such a line. Raises DataError.
    """
    for title, pattern in titles.items():
        found = [(k, match[1]) for k, line in enumerate(lines) if (match := title.search(line))]
        if not found:
            continue
        start, unit = found[-1]
        try:
            unit_of_it = factor("" if unit == "a.u." else unit)
        except ValueError:
            raise DataError(f"{path}, line {start + 1}: the unit [{unit}] is not read") from None
        rows = _block(lines, start, pattern)
        if len(rows) != n_row:
            raise DataError(
                f"{path}, line {start + 1}: {counted(len(rows), 'line')} of numbers, must be {n_row}: is the "
                "output whole?"
            )
        return np.array([row[1].split() for row in rows], float) * unit_of_it
    return None


def _block(lines, start, pattern):
    """Matches of the lines that follow one, up to the first that does not fit after one that did."""
    found = []
    for line in lines[start + 1 :]:
        match = pattern.match(line)
        if match:
            found.append(match)
        elif found:
            break
    return found
