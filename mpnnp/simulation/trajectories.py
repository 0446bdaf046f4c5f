"""Simulations as they lie on disk: a folder of `mpnnp md`, or any trajectory that ASE reads."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.io import iread, read

from mpnnp.errors import DataError
from mpnnp.units import DENSITY


@dataclass(frozen=True)
class Trajectory:
    """Frames of one simulation.

    times (n,) ps;  numbers (n_atom,);  positions (n, n_atom, 3) and cells (n, 3, 3), Angstrom;  pbc (3,) bool
    """

    name: str
    times: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray

    def after(self, fraction):
        """The frames of the last part, from `fraction` of the time covered on."""
        first = self.times[0] + fraction * (self.times[-1] - self.times[0])
        keep = self.times >= first - 1e-9
        return Trajectory(
            self.name, self.times[keep], self.numbers, self.positions[keep], self.cells[keep], self.pbc
        )


@dataclass(frozen=True)
class Series:
    """Densities (n,) g/cm^3 at times (n,) ps of one simulation; `ending`: why it ended early, or ""."""

    name: str
    times: np.ndarray
    values: np.ndarray
    ending: str


def read_trajectory(path, frame_time):
    """Trajectory of a folder or file; frame_time: ps between frames that do not tell their time.

    Raises DataError.
    """
    file = _file(path)
    times, numbers, positions, cells, pbc = [], None, [], [], None
    try:
        for k, atoms in enumerate(
            iread(str(file), index=slice(None), parallel=False, do_not_split_by_at_sign=True)
        ):
            if numbers is None:
                numbers, pbc = atoms.numbers, atoms.pbc
            elif not np.array_equal(numbers, atoms.numbers):
                raise DataError(f"{file}, frame {k}: has other atoms than the first frame")
            times.append(atoms.info.get("time_ps", k * frame_time))
            positions.append(atoms.positions)
            cells.append(atoms.cell.array)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{file}: cannot be read by ASE: {error}") from None
    if not times:
        raise DataError(f"{file}: has no frames")
    return Trajectory(
        str(path), np.array(times, float), numbers, np.array(positions), np.array(cells), np.array(pbc)
    )


def read_start(path):
    """ase.Atoms to start from: the last frame of a file. Raises DataError."""
    try:
        atoms = read(path, index=-1, parallel=False)
    except Exception as error:
        raise DataError(f"{path}: cannot be read by ASE: {error}") from None
    atoms.calc = None
    return atoms


def read_densities(path, frame_time):
    """Series of a folder (from md.csv) or of a trajectory. Raises DataError."""
    table = Path(path) / "md.csv"
    if not table.exists():
        t = read_trajectory(path, frame_time)
        if not t.pbc.all():
            raise DataError(f"{path}: is not periodic in all directions: it has no density")
        return Series(
            str(path), t.times, _mass(t.numbers) * DENSITY / np.abs(np.linalg.det(t.cells)), _ending(path)
        )
    with open(table, encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("density_g_cm3")]
    try:
        times, values = (
            np.array([float(row[name]) for row in rows]) for name in ("time_ps", "density_g_cm3")
        )
    except (KeyError, ValueError) as error:
        raise DataError(f"{table}: is not a table of mpnnp md: {error}") from None
    if not len(times):
        raise DataError(f"{table}: has no densities: the system had no cell, or nothing was simulated")
    return Series(str(path), times, values, _ending(path))


def _file(path):
    path = Path(path)
    if path.is_dir():
        path = path / "trajectory.xyz"
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a folder of `mpnnp md` or a trajectory")
    return path


def _mass(numbers):
    from ase.data import atomic_masses

    return atomic_masses[numbers].sum()


def _ending(path):
    """Why the simulation in a folder failed, else ""."""
    try:
        status = json.loads((Path(path) / "status.json").read_text(encoding="utf-8"))
        return f"at {status['time_ps']:.6g} ps: {status['reason']}" if status["status"] == "failed" else ""
    except (OSError, ValueError, KeyError):
        return ""
