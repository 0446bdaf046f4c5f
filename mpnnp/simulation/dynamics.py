"""Molecular dynamics: the loop. Integrators are ASE's, forces the calculator's, and the files are those of
`run_folder`; here are the order of events, the end, and going on after it.
"""

import contextlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mpnnp.errors import DataError, DynamicsError
from mpnnp.files import write_atomically, write_text
from mpnnp.model.prediction import NO_PREDICTION
from mpnnp.parallel import agree, maximum, on_root
from mpnnp.progress import Progress, counted, duration
from mpnnp.run_lock import GO_ON
from mpnnp.signals import Signals
from mpnnp.signals import name as name_of
from mpnnp.simulation.calculator import Calculator, NoPrediction
from mpnnp.simulation.integrators import check_start, make_integrator, start_velocities
from mpnnp.simulation.restart import Reached, write_restart
from mpnnp.simulation.run_folder import (
    COLUMNS,
    NEW_FILES,
    PROTOCOL,
    RESTART,
    claim_folder,
    constraints_lost,
    open_folder,
    write_frame,
)
from mpnnp.units import BAR, DENSITY

HOT = 20.0  # times the temperature asked for, or the first one, or ROOM: exploded
ROOM = 300.0  # K
SWOLLEN, SHRUNK = 20.0, 0.2  # times the first volume: the same
NAMED = 5  # extrapolations named in the log
SAVE_SECONDS = 60.0
QUESTION, MOST_STEPS = 0.5, 1000  # seconds, and steps, between two looks for signals
FINISHED, STOPPED, FAILED, UNCERTAIN = "finished", "stopped", "failed", "uncertain"
ENDS = {FAILED: "last-good.xyz", UNCERTAIN: "uncertain.xyz"}  # where the last frame is; else final.xyz


@dataclass(frozen=True)
class Outcome:
    """How a simulation ended: status (finished, stopped by a signal, failed, uncertain), reason,
    and how far and how fast it came.
    """

    status: str
    reason: str
    time_ps: float
    steps: int
    steps_per_second: float
    extrapolations: int


class UncertainForces(DynamicsError):
    """The standard deviation of a force is larger than allowed."""


def run(
    protocol,
    atoms,
    calculator,
    directory,
    comm,
    log,
    resume=False,
    trained=None,
    overwrite=False,
    max_force_std=None,
    watch=None,
):
    """Outcome of a simulation of `atoms` with the Protocol, in the folder `directory`. Collective.

    trained    TrainingRange of the potential, kept for what judges the simulation; None if not known
    overwrite  a run that the folder holds keeps its files under another name
    max_force_std  eV/Angstrom: largest standard deviation of the force on an atom (root of the sum of squares
               over its components), from a calculator that gives forces_std with every evaluation; None: any
    watch      collective function(atoms) called with every frame that was written; it ends the simulation by
               raising DynamicsError
    Raises ConfigError for a start that does not suit the protocol, before the folder is touched;
    FolderError if the folder is in use or holds a run, DataError if there is none to resume, or one
    with another protocol, and for a start whose forces are not finite. A system that explodes, or leaves the
    range of training too often, ends the simulation with status "failed"; files up to the last good frame are
    kept.
    """
    directory = Path(directory)
    on_root(comm, check_start, atoms, protocol)
    with Signals(comm, GO_ON) as signals:
        lock = agree(
            comm,
            lambda: claim_folder(directory, resume, overwrite, log) if comm.rank == 0 else None,
        )
        simulation = None
        try:
            restart = on_root(
                comm, open_folder, directory, protocol, resume, trained, log, atoms, digest_of(calculator)
            )
            simulation = Simulation(
                protocol=protocol,
                atoms=atoms,
                calculator=calculator,
                directory=directory,
                comm=comm,
                log=log,
                restart=restart,
                signals=signals,
                lock=lock,
                max_force_std=max_force_std,
                watch=watch,
            )
            return simulation.run()
        except Exception:
            if comm.rank == 0 and not resume and (simulation is None or simulation.good is None):
                for name in (PROTOCOL, *NEW_FILES):  # nothing was computed: the folder holds no simulation
                    (directory / name).unlink(missing_ok=True)
            raise
        finally:
            if lock is not None:
                lock.release()


def digest_of(calculator):
    """Calculator.digest, "" of a calculator of ASE."""
    return calculator.digest() if isinstance(calculator, Calculator) else ""


class Simulation:
    """One run of a simulation, from its start or from a restart file to its end. What survives a step is in
    the atoms, the integrator with its random numbers, and `reached`.

    signals  the Signals of the program;  lock  RunLock of the folder, on rank 0
    The others are those of `run`.
    """

    def __init__(
        self,
        *,
        protocol,
        atoms,
        calculator,
        directory,
        comm,
        log,
        restart,
        signals,
        lock,
        max_force_std,
        watch,
    ):
        self.protocol, self.atoms, self.calculator = protocol, atoms, calculator
        self.directory, self.comm, self.log = directory, comm, log
        self.restart, self.signals, self.lock = restart, signals, lock
        self.max_force_std, self.watch = max_force_std, watch
        self.digest = digest_of(calculator)
        self.slow, self.broken = True, False  # steps may take long; the last one was broken off
        self.last_question, self.next_question, self.interval = time.monotonic(), 0, 1
        self.named, self.good = 0, None
        self.rng = np.random.default_rng([protocol.seed, 2])
        atoms.calc = calculator
        volume = atoms.cell.volume
        if restart is None:
            start_velocities(atoms, protocol, self.rng, log)
        else:
            restart.set_atoms(atoms)
        hottest = HOT * max(protocol.temperature, atoms.get_temperature(), ROOM)
        self.integrator = make_integrator(atoms, protocol, self.rng)
        if restart is None:
            self.reached = Reached(0, volume, hottest, dict.fromkeys(NEW_FILES, 0))
        else:
            restart.set_integrator(self.integrator, self.rng)
            self.reached = replace(restart.reached, hottest=restart.reached.hottest or hottest)
        self.first_step = self.reached.step
        self.steps = max(1, round(1000.0 * protocol.time / protocol.timestep))
        self.row_steps = max(1, round(protocol.log_every / protocol.timestep))
        self.frame_steps = max(1, round(protocol.save_every / protocol.timestep))

    @property
    def step(self):
        """Steps done."""
        return self.reached.step

    def run(self):
        agree(self.comm, self._open_files)
        self.begin, status, reason = time.monotonic(), FINISHED, ""
        with Progress(self.log, "md step", self.steps, done=self.step) as progress:
            received = 0
            try:
                forces = self._first_forces()
                self.signals.holding = True
                self.last_question, self.next_question = time.monotonic(), self.step + 1
                while self.step < self.steps and not received:
                    forces = self._advance(forces)
                    received = self._heard()
                    if not self.broken:
                        self._after_step()
                        progress.update(self.step)
            except UncertainForces as error:
                status, reason = UNCERTAIN, str(error)
            except (DynamicsError, FloatingPointError, np.linalg.LinAlgError) as error:
                status, reason = FAILED, str(error)
                received = self.slow and self._heard(now=True)  # a step that was broken off may look like it
        if received:
            status, reason = STOPPED, f"by {name_of(received)}"
        return self._close(status, reason)

    def _advance(self, forces):
        """Forces after one step. Where steps take long a signal breaks it off."""
        with self.signals.breaking() if self.slow else contextlib.nullcontext():
            forces = self.integrator.advance(forces)
        self.reached.step += 1
        return forces

    def _heard(self, now=False):
        """Number of a signal that any rank has received, else 0; asked every QUESTION seconds by the clock of
        rank 0, or now. Collective.
        """
        if self.step < self.next_question and not now:
            return 0
        last, self.last_question = self.last_question, time.monotonic()
        per_step = (self.last_question - last) / self.interval
        steps = int(min(max(QUESTION / max(per_step, 1e-9), 1), MOST_STEPS)) * (self.comm.rank == 0)
        received, self.interval = (int(n) for n in maximum(self.comm, [self.signals.received, steps]))
        self.broken = self.slow and received != 0
        self.slow, self.next_question = self.interval == 1, self.step + self.interval
        return received

    def _first_forces(self):
        try:
            forces = self.atoms.get_forces(md=True)
        except NoPrediction:
            if self.restart is not None:
                raise
            forces = np.full((len(self.atoms), 3), np.nan)
        if self.restart is None and not np.isfinite(forces).all():
            raise DataError(f"the start of the simulation: {NO_PREDICTION}")
        self._check_std()
        self._remember()
        if self.restart is None:
            self._write_row()
            self._write_frame()
        else:  # that evaluation was counted before
            self.calculator.extrapolations_in_all = self.reached.extrapolations
        return forces

    def _after_step(self):
        self._name_extrapolations()
        self._check()
        if self.step % self.row_steps == 0:
            self._remember()
            self._write_row()
        if self.step % self.frame_steps == 0:
            self._write_frame()
        if self.slow:
            self._remember()
        if self.slow or time.monotonic() - self.last_save > SAVE_SECONDS:
            self._save()

    def _name_extrapolations(self):
        if self.named < NAMED and getattr(self.calculator, "extrapolations", 0):
            for extrapolation in self.calculator.first_extrapolating(NAMED - self.named):
                self.named += 1
                self.log.warn(
                    f"step {self.step}: extrapolation: "
                    f"{extrapolation}{' (more are only counted)' if self.named == NAMED else ''}"
                )

    def _check(self):
        """Raise DynamicsError if the system has exploded."""
        temperature = self.atoms.get_temperature()
        if not np.isfinite(self.atoms.get_potential_energy()) or not temperature < self.reached.hottest:
            raise DynamicsError(
                f"exploded: temperature {temperature:.4g} K, "
                f"potential energy {self.atoms.get_potential_energy():.6g} eV"
            )
        if (
            self.protocol.ensemble == "npt"
            and not SHRUNK < (ratio := self.atoms.cell.volume / self.reached.first_volume) < SWOLLEN
        ):
            raise DynamicsError(f"exploded: the volume is {ratio:.3g} times that of the start")
        self._check_std()

    def _check_std(self):
        """Raise UncertainForces if a force is not known well enough."""
        if self.max_force_std is None:
            return
        std = np.linalg.norm(self.calculator.results["forces_std"], axis=1)
        worst = int(np.argmax(std))
        if not std[worst] <= self.max_force_std:
            raise UncertainForces(
                f"step {self.step}: the force on atom {worst} "
                f"({self.atoms.get_chemical_symbols()[worst]}) has a standard deviation of "
                f"{std[worst]:.4g} eV/Angstrom, more than {self.max_force_std:g}"
            )

    def _remember(self):
        """Keep this frame as the last good one."""
        self.good = self.atoms.copy(), self.step

    def _open_files(self):
        """Files up to where the restart file stands; what came later is computed again."""
        self.files = {}
        self.last_save = time.monotonic()
        if self.comm.rank:
            return
        for key, size in self.reached.sizes.items():
            path = self.directory / key
            if size and (not path.exists() or path.stat().st_size < size):
                raise DataError(
                    f"{path}: is shorter than when restart.h5 was written; it cannot be continued"
                )
            file = open(path, "r+" if size else "w+", encoding="utf-8")
            file.truncate(size)
            file.seek(size)
            self.files[key] = file
        if not self.reached.sizes["md.csv"]:
            self.files["md.csv"].write(",".join(COLUMNS) + "\n")
        for key in ("final.xyz", *ENDS.values(), "status.json"):
            (self.directory / key).unlink(missing_ok=True)

    def _write_row(self):
        atoms = self.atoms
        potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
        pressure = density = np.nan
        if atoms.pbc.all():
            with contextlib.suppress(NotImplementedError):  # a calculator of ASE without a stress
                pressure = -np.trace(atoms.get_stress(voigt=False, include_ideal_gas=True)) / 3.0 / BAR
            density = atoms.get_masses().sum() / atoms.cell.volume * DENSITY
        values = [
            self._time(self.step),
            potential + kinetic,
            potential,
            atoms.get_temperature(),
            pressure,
            density,
        ]
        if self.files:
            self.files["md.csv"].write(
                ",".join(
                    [f"{v:.12g}" if np.isfinite(v) else "" for v in values]
                    + [str(self._counted() - self.reached.in_rows)]
                )
                + "\n"
            )
            self.files["md.csv"].flush()
        self.reached.in_rows = self._counted()

    def _write_frame(self):
        if self.files:
            write_frame(
                self.files["trajectory.xyz"],
                self.atoms,
                self._time(self.step),
                self.atoms.get_potential_energy(),
            )
            self.files["trajectory.xyz"].flush()
        if self.watch is not None:
            self.watch(self.atoms)

    def _counted(self):
        """Extrapolations of all evaluations; calculators of ASE count none."""
        return int(getattr(self.calculator, "extrapolations_in_all", 0))

    def _time(self, step):
        return step * self.protocol.timestep / 1000.0

    def _save(self):
        if self.files:
            if self.lock is not None:
                self.lock.check()
            for key, file in self.files.items():
                file.flush()
                self.reached.sizes[key] = file.tell()
            self.reached.extrapolations = self._counted()
            path = self.directory / RESTART
            write_restart(path, self.atoms, self.integrator, self.rng, self.reached, self.digest)
        self.last_save = time.monotonic()

    def _close(self, status, reason):
        """Outcome of the simulation, which is written and told."""
        seconds = time.monotonic() - self.begin
        if self.broken:  # restart.h5 is of the step before
            self.atoms, self.reached.step = self.good
        elif status not in ENDS:
            self._save()
        steps = self.step - self.first_step
        outcome = Outcome(
            status,
            reason,
            self._time(self.step),
            self.step,
            steps / seconds if steps else 0.0,
            self._counted(),
        )
        if self.files:
            self._write_end(outcome)
        self._tell(outcome, seconds)
        return outcome

    def _write_end(self, outcome):
        """The last frame, and status.json."""
        for file in self.files.values():
            file.close()
        frame, step = self.good if outcome.status == FAILED and self.good else (self.atoms, self.step)
        name = ENDS.get(outcome.status, "final.xyz")
        if lost := constraints_lost(frame):
            self.log.warn(f"{name} cannot hold {', '.join(lost)}: who starts from it sets them again")
        with write_atomically(self.directory / name) as temporary:
            with open(temporary, "w", encoding="utf-8") as file:
                write_frame(file, frame, self._time(step), None, velocities=True)
        write_text(self.directory / "status.json", json.dumps(asdict(outcome), indent=2) + "\n")

    def _tell(self, outcome, seconds):
        status, ending = outcome.status, f"{outcome.status} {outcome.reason}".strip()
        if status in ENDS:
            frame = "the last good frame" if status == FAILED else "this frame"
            ending = f"{status}: {outcome.reason}; {frame} is {ENDS[status]}"
        self.log(
            f"{ending} at {outcome.time_ps:.6g} ps after {duration(seconds)}: "
            f"{outcome.steps_per_second:.1f} steps per second"
            + (f"; {self.signals.advice}" if status == STOPPED else "")
        )
        if outcome.extrapolations:
            self.log(
                "symmetry functions were outside their range of training "
                f"{counted(outcome.extrapolations, 'time')}, over all steps"
            )
