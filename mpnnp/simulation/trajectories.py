"""Simulations as they lie on disk: a folder of `mpnnp md`, or a trajectory of any format."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from mpnnp.data.paths import expand
from mpnnp.data.ranges import TrainingRange
from mpnnp.errors import DataError
from mpnnp.files import absence
from mpnnp.progress import Silent, counted, warner
from mpnnp.simulation.frames import carry, frames_of, times_of_cp2k, told_by
from mpnnp.units import DENSITY

DESCRIBED = {"ensemble": "", "temperature": " K", "time": " ps asked for"}  # of a protocol, with units
ASSUMED = 0.05  # ps between frames of which nothing tells the time
SAME_DENSITY = 1e-6  # relative; more is no constant volume


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
    """Densities of one simulation, and what tells whether they can be trusted.

    times           (n,) ps
    values          (n,) g/cm^3
    ending          why it ended early, or ""
    energies        (n,) potential energy, eV/atom; None if not known
    extrapolations  (n,) symmetry functions outside of their range of training, per atom and step since the
                    row before; None if not known
    trained         of the potential
    """

    name: str
    times: np.ndarray
    values: np.ndarray
    ending: str
    energies: np.ndarray | None = None
    extrapolations: np.ndarray | None = None
    trained: TrainingRange = field(default_factory=TrainingRange)


@dataclass(frozen=True)
class Pressures:
    """Pressures of one simulation at constant volume.

    times, values  (n,) ps, bar
    density        g/cm^3
    temperature    K, that was asked for; None if not known
    ending         why it ended early, or ""
    """

    name: str
    times: np.ndarray
    values: np.ndarray
    density: float
    temperature: float | None
    ending: str


def read_trajectory(path, frame_time=None, timestep=None, units=None, report=None, needs_times=False):
    """Trajectory of a folder or file of any format. Raises DataError.

    frame_time   ps between frames that tell neither their time nor, with `timestep` (ps), their step
    units        of a file that does not state its own;  report: as of formats.read_sources
    needs_times  it is an error if the times are not known; else ASSUMED is told and taken
    """
    report = report or Silent()
    file = _file(path)
    numbers, positions, cells, told = None, [], [], []
    for k, frame in enumerate(frames_of(file, None if Path(path).is_dir() else units, report)):
        s = frame.structure
        if numbers is None:
            numbers, pbc = s.numbers, s.pbc
        elif not np.array_equal(numbers, s.numbers):
            raise DataError(f"{file}, frame {k}: has other atoms than the first frame")
        elif not np.array_equal(pbc, s.pbc):
            raise DataError(f"{file}, frame {k}: is periodic in other directions than the first frame")
        told.append(told_by(frame))
        positions.append(s.positions)
        cells.append(s.cell)
    if told[0] is None and len(times := times_of_cp2k(file)) == len(told):
        told = [("ps", time) for time in times]
    times = _times(file, told, frame_time, timestep, report, needs_times)
    return Trajectory(str(path), times, numbers, np.array(positions), np.array(cells), pbc)


def _times(file, told, frame_time, timestep, report, needs_times):
    """(n,) ps of frames that told what `told_by` says. Raises DataError."""
    kinds = [None if found is None else found[0] for found in told]
    if (k := next((k for k, kind in enumerate(kinds) if kind != kinds[0]), None)) is not None:
        raise DataError(f"{file}, frame {k}: tells {_what(kinds[k])}, the first frame {_what(kinds[0])}")
    values = np.arange(len(told), dtype=float) if kinds[0] is None else np.array([v for _, v in told])
    if kinds[0] == "step" and len(values) > 1 and not np.ptp(values):  # the length of a step, perhaps
        return _times(file, [None] * len(told), frame_time, timestep, report, needs_times)
    if kinds[0] == "ps":
        if frame_time is not None:
            report(f"{file}: tells the times of its frames: --frame-time is not used")
        return values
    if kinds[0] == "step" and timestep is not None:
        return values * timestep
    if frame_time is None and needs_times:
        way = "--timestep says the fs of a step, or " if kinds[0] == "step" else ""
        raise DataError(
            f"{file}: its frames do not tell their times, {'only steps' if way else 'nor steps'}: {way}"
            "--frame-time says the fs between two frames"
        )
    if frame_time is None:
        report(
            f"{file}: {1000 * ASSUMED:g} fs between frames are assumed, as it does not tell (--frame-time)"
        )
    values = values - values[0]
    step = values[1] if len(values) > 1 and values[1] > 0 else 1.0
    return values / step * (frame_time or ASSUMED)


def _what(kind):
    return {"ps": "its time", "step": "its step alone", None: "neither time nor step"}[kind]


def read_start(path, units=None, report=None):
    """ase.Atoms to start from: the last frame of a file of any format, with the momenta, masses and
    constraints that this frame has. Raises DataError.

    units   of a file that does not state its own;  report: as of formats.read_sources
    """
    report = report or Silent()
    n, last, file = 0, None, None
    for file in expand([str(path)], set(), report):
        for frame in frames_of(file, units, report):
            n, last = n + 1, frame
    start = last.structure
    if n > 1:
        report(f"of the {n} structures of {path} the last one is the start: {start.name}")
    atoms = Atoms(start.numbers, start.positions, cell=start.cell, pbc=start.pbc)
    carry(last, file, atoms, warner(report))
    return atoms


def read_densities(path, frame_time=None, timestep=None, units=None, report=None):
    """Series of a folder (from md.csv) or of a trajectory. Raises DataError.

    frame_time, timestep, units, report  as of read_trajectory
    """
    table = Path(path) / "md.csv"
    if not table.exists():
        t = read_trajectory(path, frame_time, timestep, units, report)
        if not t.pbc.all():
            raise DataError(f"{path}: is not periodic in all directions: it has no density")
        densities = atomic_masses[t.numbers].sum() * DENSITY / np.abs(np.linalg.det(t.cells))
        return Series(str(path), t.times, densities, _ending(path))
    columns = _read_table(path, "density_g_cm3")
    times = columns["time_ps"]
    if not len(times):
        raise DataError(f"{table}: has no densities: the system had no cell, or nothing was simulated")
    protocol, n_atom = _protocol(path), _count_atoms(path)
    energies = extrapolations = None
    if n_atom:
        energies = columns["energy_potential_ev"] / n_atom
        if step := 1e-3 * protocol.get("timestep", 0.0):
            steps = np.maximum(np.diff(times, prepend=times[0] - step) / step, 1.0)
            extrapolations = columns["extrapolations"] / (steps * n_atom)
    trained = TrainingRange.from_numbers(protocol.get("trained_on", {}))
    return Series(
        str(path), times, columns["density_g_cm3"], _ending(path), energies, extrapolations, trained
    )


def read_pressures(path):
    """Pressures of a folder, from md.csv. Raises DataError, also where the volume is not constant."""
    _needs_table(path, "pressure")
    columns = _read_table(path, "pressure_bar")
    times, density = columns["time_ps"], columns["density_g_cm3"]
    if not len(times):
        raise DataError(f"{path}: has no pressures: the system had no cell, or nothing was simulated")
    if np.ptp(density) > SAME_DENSITY * density.mean():
        raise DataError(
            f"{path}: has densities from {density.min():.4g} to {density.max():.4g} g/cm^3; "
            "expected a simulation at constant volume (nvt, nve)"
        )
    temperature = _protocol(path).get("temperature")
    return Pressures(
        str(path), times, columns["pressure_bar"], float(density.mean()), temperature, _ending(path)
    )


def mean_temperature(path, fraction):
    """Mean temperature (K) in a folder's md.csv from `fraction` of the time on. Raises DataError."""
    _needs_table(path, "temperature")
    columns = _read_table(path, "temperature_k")
    times = columns["time_ps"]
    if not len(times):
        raise DataError(f"{path}: has no temperatures: nothing was simulated")
    return float(columns["temperature_k"][times >= times[0] + fraction * (times[-1] - times[0])].mean())


def _needs_table(path, what):
    """Raise DataError if there is no md.csv to tell `what`."""
    if not (Path(path) / "md.csv").exists():
        raise DataError(f"{path}: has no md.csv, which would tell its {what}")


def _read_table(path, needed):
    """Name -> column of md.csv, without the rows that have no value of `needed`. Raises DataError."""
    table = Path(path) / "md.csv"
    with open(table, encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get(needed)]
    try:
        return {
            name: np.array([float(row[name] or "nan") for row in rows])
            for name in (
                "time_ps",
                "energy_potential_ev",
                "temperature_k",
                "pressure_bar",
                "density_g_cm3",
                "extrapolations",
            )
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{table}: is not a table of mpnnp md: {error}") from None


def _protocol(path):
    """What protocol.json of a folder says, {} if there is none."""
    return _json(Path(path) / "protocol.json")


def _json(path):
    """A JSON object, {} if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _count_atoms(path):
    """Atoms of the simulation in a folder, None if it has no trajectory."""
    try:
        with open(Path(path) / "trajectory.xyz", encoding="utf-8") as file:
            return int(file.readline())
    except (OSError, ValueError):
        return None


def _file(path):
    path = Path(path)
    if path.is_dir():
        path = path / "trajectory.xyz"
    if not path.is_file():
        raise DataError(f"{path}: {absence(path)}; expected a folder of `mpnnp md` or a trajectory")
    return path


def _ending(path):
    """Why the simulation in a folder failed, else ""."""
    status = _json(Path(path) / "status.json")
    if status.get("status") != "failed" or not {"time_ps", "reason"} <= status.keys():
        return ""
    return f"at {status['time_ps']:.6g} ps: {status['reason']}"


def describe_run(folder):
    """What the simulation in a folder is and how it ended, for people."""
    asked, status, n_atom = _protocol(folder), _json(Path(folder) / "status.json"), _count_atoms(folder)
    of_atoms = f" of {counted(n_atom, 'atom')}" if n_atom else ""
    words = [f"{folder}: folder of a simulation{of_atoms}"]
    words += [f"{asked[key]}{unit}" for key, unit in DESCRIBED.items() if key in asked]
    ended = "under way, or ended without a word"
    if status:
        ended = f"{status.get('status')} at {status.get('time_ps')} ps"
        ended += f": {status['reason']}" if status.get("reason") else ""
    return (
        f"{', '.join(words)}: {ended}\nits frames: mpnnp info {Path(folder) / 'trajectory.xyz'}; "
        f"what they say: mpnnp analyze density {folder}"
    )
