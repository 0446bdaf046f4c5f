"""Structures from CP2K: trajectories of its molecular dynamics (PROJECT-pos-1.xyz and what lies beside it)
and outputs of single points.
"""

import itertools
import re
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mpnnp.data.structure import Structure
from mpnnp.errors import DataError
from mpnnp.units import ATOMIC, BOHR, HARTREE

__all__ = ["is_cp2k_output", "is_cp2k_trajectory", "read_cp2k_output", "read_cp2k_trajectory"]

COMMENT = re.compile(r"\bi *= *(\d+).*\bE *= *(\S+)")
VECTOR = re.compile(r"CELL\| Vector ([abc]) \[angstrom\]:? +(\S+) +(\S+) +(\S+)")
ATOM = re.compile(r"^ +\d+ +\d+ +([A-Z][a-z]?) +\d+((?: +-?\d+\.\d+){3})")
FORCE_LINE = re.compile(r"^ +\d+ +\d+ +([A-Z][a-z]?)((?: +-?\d+\.\d+){3})")


def is_cp2k_trajectory(path: Path) -> bool:
    """Whether the file is PROJECT-pos-1.xyz: by its name and the comment of its first frame."""
    if "-pos-" not in Path(path).name or Path(path).suffix != ".xyz":
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        return any(COMMENT.search(line) for line in itertools.islice(file, 1, 2))


def read_cp2k_trajectory(path, warn=lambda text: None):
    """Yield the Structures of PROJECT-pos-1.xyz; forces from PROJECT-frc-1.xyz,
    cells from PROJECT-1.cell or the cell of PROJECT-1.restart.

    Positions in Angstrom, energies and forces in Hartree and Bohr. Frames are matched by their step. Raises
    DataError naming the file.
    """
    path = Path(path)
    project, _, number = path.stem.rpartition("-pos-")
    beside = lambda name: path.with_name(f"{project}-{name}")  # noqa: E731
    force_file = beside(f"frc-{number}.xyz")
    forces = {step: values for step, _, _, values in _frames(force_file)} if force_file.exists() else {}
    cells = _cells(beside(f"{number}.cell"), beside(f"{number}.restart"))
    missing = 0
    for frame, (step, energy, symbols, positions) in enumerate(_frames(path)):
        cell = cells.get(step, cells.get(None))
        if cell is None:
            raise DataError(
                f"{path}: no cell for step {step}: needs {project}-{number}.cell "
                f"or {project}-{number}.restart beside it"
            )
        force = forces.get(step)
        missing += force is None
        yield Structure(
            numbers=[atomic_numbers[symbol] for symbol in symbols],
            positions=positions,
            cell=cell,
            pbc=True,
            energy=energy * HARTREE,
            forces=None if force is None else force * ATOMIC.force,
            source=str(path),
            frame=frame,
        )
    if forces and missing:
        warn(f"{path}: {missing} of its frames have no forces in {force_file.name}")


def _frames(path):
    """(step, energy, symbols, (n, 3) numbers) of each frame of an xyz file of CP2K."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                n = int(line)
                found = COMMENT.search(next(file))
                rows = [next(file).split() for _ in range(n)]
                yield (
                    int(found[1]),  # type: ignore[index]  # None is a TypeError, caught below
                    float(found[2]),  # type: ignore[index]
                    [row[0] for row in rows],
                    np.array([row[1:4] for row in rows], float),
                )
            except (ValueError, TypeError, IndexError, KeyError, StopIteration, RuntimeError):
                raise DataError(
                    f"{path}: is no complete trajectory of CP2K near the line '{line.strip()[:60]}'"
                ) from None


def _cells(cell_file, restart):
    """{step: (3, 3) Angstrom} of a .cell file, or {None: cell} of a restart file."""
    if cell_file.exists():
        rows = [
            line.split()
            for line in cell_file.read_text(encoding="utf-8").splitlines()
            if line.split() and line.split()[0].isdigit()
        ]
        return {int(row[0]): np.array(row[2:11], float).reshape(3, 3) for row in rows}
    if restart.exists():
        block = re.search(
            r"&CELL\b(.*?)&END CELL", restart.read_text(encoding="utf-8", errors="replace"), re.DOTALL
        )
        vectors = dict(re.findall(r"^ +([ABC]) +(.*)$", block[1], re.MULTILINE)) if block else {}
        if len(vectors) == 3:
            return {None: np.array([vectors[name].split()[:3] for name in "ABC"], float)}
    return {}


def is_cp2k_output(path: Path) -> bool:
    """Whether the file is the output of CP2K: by its first 200 lines."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return any(
            "CP2K| version string" in line or line.startswith(" DBCSR| ")
            for line in itertools.islice(file, 200)
        )


def read_cp2k_output(path: Path) -> Structure:
    """The Structure of a single point (RUN_TYPE ENERGY_FORCE, with the coordinates
    and FORCE_EVAL/PRINT/FORCES in the output).

    Raises DataError naming what is missing, and for outputs of several geometries, whose trajectory is to be
    read instead.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    energies = [float(line.split()[-1]) for line in lines if "ENERGY| Total FORCE_EVAL" in line]
    if len(energies) != 1:
        raise DataError(
            f"{path}: has {len(energies)} energies, must be a single point; "
            "for dynamics read PROJECT-pos-1.xyz"
        )
    vectors = {found[1]: found.groups()[1:] for line in lines if (found := VECTOR.search(line))}
    atoms = _block(lines, "ATOMIC COORDINATES IN", ATOM)
    if len(vectors) != 3 or not atoms:
        raise DataError(
            f"{path}: has no {'atomic coordinates' if len(vectors) == 3 else 'cell'} in it; "
            "raise PRINT_LEVEL to MEDIUM"
        )
    scale = BOHR if any("ATOMIC COORDINATES IN" in line and "BOHR" in line.upper() for line in lines) else 1.0
    forces = [found[2].split()[:3] for found in _block(lines, "ATOMIC FORCES in", FORCE_LINE)]
    return Structure(
        numbers=[atomic_numbers[found[1]] for found in atoms],
        positions=np.array([found[2].split() for found in atoms], float) * scale,
        cell=np.array([vectors[name] for name in "abc"], float),
        pbc=True,
        energy=energies[0] * HARTREE,
        forces=np.array(forces, float) * ATOMIC.force if forces else None,
        source=str(path),
    )


def _block(lines, title, pattern):
    """Matches of the lines that follow a title, up to the first that does not fit after one that did."""
    found = []
    start = next((k for k, line in enumerate(lines) if title in line), len(lines))
    for line in lines[start + 1 :]:
        match = pattern.match(line)
        if match:
            found.append(match)
        elif found:
            break
    return found
