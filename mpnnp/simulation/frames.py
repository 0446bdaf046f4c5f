"""Frames of simulations, read as data sets are, with what a simulation needs beside the geometry: times,
velocities, masses, atoms that are held fast.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.lammps import convert

from mpnnp.data.ase_files import read_ase
from mpnnp.data.compressed import open_text, plain_name, reading
from mpnnp.data.cp2k import is_cp2k_trajectory
from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import FORMATS, as_units, read_sources, recognised
from mpnnp.data.labels import Labels
from mpnnp.data.outputs import UNITS_OF_LAMMPS
from mpnnp.data.plausibility import wrong_units
from mpnnp.data.structure import Structure
from mpnnp.errors import DataError
from mpnnp.progress import warner
from mpnnp.units import METAL, Units

LABELS = ("energy", "forces", "stress")
HEAD = 2000  # characters that tell a dump
LOOKED_AT = 40  # structures whose distances tell whether the units can be right
# the time in comments of CP2K, fs
CP2K_TIME = re.compile(r"\bi *= *\d+, *time *= *([-+.\deE]+)|\bStep=\d+ +Time=(\S+) +Energy=")


@dataclass(frozen=True)
class Frame:
    """One frame.

    structure  its geometry, without labels
    atoms      the same as ASE reads it, in `units`; None where another reader is needed
    units      Units of its lengths, which the user or the file said
    """

    structure: Structure
    atoms: Atoms | None = None
    units: Units = METAL


class _Geometry(Labels):
    """No labels, but the ase.Atoms and Units of the frame that was read last."""

    def of(self, atoms: Atoms, frame: int, units: Units = METAL) -> dict:
        vectors = atoms.cell.array[atoms.pbc]
        if np.linalg.matrix_rank(vectors) < len(vectors):
            raise DataError(
                f"{self.path}, frame {frame}: is periodic, but has no cell in these directions (found "
                f"{vectors.tolist()})"
            )
        self.n_frame += 1
        self.last = atoms, units
        return {}


def frames_of(file: Path, units: str | Units | None, report: Callable[[str], object]) -> Iterator[Frame]:
    """Yield the Frames of a file of any format.

    units   of a file that does not state its own;  report: as of formats.read_sources
    Raises DataError, also for a file without frames; warns of units that cannot be right.
    """
    labels = _Geometry(file, dict.fromkeys(LABELS, "none"), as_units(units), warner(report))
    first = []
    with recognised(file) as known:
        if known.read is not FORMATS["ase"].read:
            for s in read_sources([str(file)], units=units, lenient=True, report=report):
                yield Frame(s)
            return
        for s in read_ase(file, labels):
            first += [s] if len(first) < LOOKED_AT else []
            yield Frame(s, *labels.last)
    if not first:
        raise DataError(f"{file}: has no frames")
    if said := labels.units or labels.stated:
        report(f"{file}: in {said}")
    elif message := wrong_units(Dataset.from_structures(first), METAL):
        labels.warn(f"{file}: {message}")


def carry(frame: Frame, file: Path, atoms: Atoms, warn: Callable[[str], object]) -> None:
    """Give `atoms`, of the same geometry, the masses, constraints and momenta of a Frame of the file.
    Velocities in a unit that is not known are left out, with a warning.
    """
    same = frame.atoms
    if same is None:
        if is_cp2k_trajectory(file) and (beside := _velocities_beside(file)).exists():
            warn(f"{file}: the velocities in {beside.name} are not read: the start has none")
        return
    atoms.set_masses(same.get_masses())
    atoms.set_constraint(same.constraints)
    if not same.has("momenta"):
        return
    factor = _ases_velocities(file, frame.units)
    if factor is None:
        warn(f"{file}: in {frame.units}, and in what its velocities are is not known: they are left out")
        return
    atoms.set_momenta(factor * same.get_momenta())


def _ases_velocities(file, units):
    """What velocities as ASE reads them are to be multiplied with; None if not known. ASE takes those in
    dumps of LAMMPS for Angstrom/ps.
    """
    if not _is_dump(file):
        return 1.0 if units.length == 1.0 else None
    name = next((name for name, of_name in UNITS_OF_LAMMPS.items() if of_name == units), None)
    if name is None:
        return None
    return convert(1.0, "velocity", name, "ASE") / convert(1.0, "velocity", "metal", "ASE")


def _velocities_beside(file):
    name = plain_name(file)
    return file.with_name(name.replace("-pos-", "-vel-"))


def _is_dump(file):
    """Whether a file is a dump of LAMMPS."""
    if not file.is_file():
        return False
    with open_text(file) as text:
        return "ITEM: TIMESTEP" in text.read(HEAD)


def told_by(frame: Frame) -> tuple[str, float] | None:
    """("ps", time) or ("step", number) of a frame, as `mpnnp md`, or dumps of LAMMPS, tell them; None if it
    tells neither.
    """
    info = {} if frame.atoms is None else frame.atoms.info
    time, step = info.get("time_ps"), info.get("timestep", info.get("Timestep"))
    if isinstance(time, (int, float, np.number)):
        return "ps", float(time)
    return ("step", float(step)) if isinstance(step, (int, np.integer)) else None


def times_of_cp2k(file: Path) -> list[float]:
    """Times (ps) in the comments of an xyz file of CP2K; [] for other files."""
    if Path(plain_name(file)).suffix.lower() not in (".xyz", ".extxyz"):
        return []
    times = []
    with reading(file), open_text(file) as lines:
        for line in lines:
            if not line.strip():
                continue
            found = CP2K_TIME.search(next(lines, ""))
            if not found or not line.strip().isdecimal():
                return []
            times.append(1e-3 * float(found[1] or found[2]))
            next(itertools.islice(lines, int(line), int(line)), None)
    return times
