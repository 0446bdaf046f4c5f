"""The simulations of a round, side by side on the ranks, and the frames that they leave."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from mpnnp.data.dataset import Dataset
from mpnnp.data.structure import Structure
from mpnnp.errors import DataError, Interrupted
from mpnnp.learning.settings import Case, Stop
from mpnnp.learning.uncertainty import Known, Watch, closest, is_learned, is_same
from mpnnp.parallel import Comm, agree, of_all_ranks, of_team, on_root, raise_if, share_teams
from mpnnp.progress import AnyLog, Log, Muted
from mpnnp.simulation.boxes import at_density
from mpnnp.simulation.calculator import Calculator
from mpnnp.simulation.dynamics import FAILED, FINISHED, STOPPED, run
from mpnnp.simulation.trajectories import read_start

STATUS = "status.json"


def simulate(
    cases: Sequence[Case],
    numbers: Sequence[int],
    known: Known,
    stop: Stop,
    folder: Path,
    seed: int,
    comm: Comm,
    log: AnyLog,
) -> dict[int, dict]:
    """status.json of the cases of these numbers, those that were done before included, on every rank.
    Collective.

    seed  of the round
    Raises Interrupted after a signal, with every simulation saved.
    """
    todo = on_root(  # asked once: a fast team may be done before another has looked
        comm, lambda: [k for k in numbers if not is_done(folder / cases[k].name)]
    )
    n_team = max(1, min(comm.size, len(todo)))
    team, own = share_teams(comm, n_team)

    def simulate_mine():
        for k in todo[team::n_team]:
            calculator = Calculator(known.potential, comm=own)
            watch = Watch(stop, calculator, known)
            if _one(cases[k], calculator, watch, folder / cases[k].name, seed, stop.every, own):
                return True
        return False

    interrupted, error = of_team(own, simulate_mine)
    own.Free()
    agree(comm, raise_if, error)
    if any(comm.allgather(bool(interrupted))):
        raise of_all_ranks(Interrupted("stopped by a signal; start the same command again"))
    outcomes = agree(comm, lambda: {k: read_status(folder / cases[k].name) for k in numbers})
    for k, outcome in outcomes.items():
        log.record(_in_words(cases[k], outcome))
    return outcomes


def is_done(folder: Path) -> bool:
    """Whether the simulation in a folder came to its end, or to a frame that is not known."""
    return (folder / STATUS).exists() and read_status(folder)["status"] != STOPPED


def read_status(folder: Path) -> dict:
    """How the simulation in a folder ended."""
    return json.loads((folder / STATUS).read_text(encoding="utf-8"))


def start_of(case: Case) -> Atoms:
    """What the simulation of a case starts from. Raises DataError."""
    atoms = read_start(case.start)
    return atoms if case.density is None else at_density(atoms, case.density)


def _one(case, calculator, watch, folder, seed, every, comm):
    """Simulate one case to its end or to a signal: True then."""

    def begin():
        resume = (folder / "restart.h5").exists()
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        return resume

    resume = on_root(comm, begin)
    outcome = run(
        case.make_protocol(seed, every),
        start_of(case),
        calculator,
        folder,
        comm,
        Muted(),
        resume,
        watch=watch,
    )
    if outcome.status == STOPPED:
        return True
    Log(comm)(_in_words(case, asdict(outcome)))
    return False


def _in_words(case, outcome):
    what = "lasted" if outcome["status"] == FINISHED else f"stopped: {outcome['reason']}"
    return f"  {case.name}: {outcome['time_ps']:.4g} ps, {what}"


def _is_frame(atoms, other):
    """Whether a Structure is the frame `atoms`."""
    return np.array_equal(other.numbers, atoms.numbers) and is_same(
        atoms, other.positions, other.cell, other.pbc
    )


def candidates(folders: Sequence[Path], stop: Stop, learned: Dataset) -> Dataset:
    """Frames of simulations that may be labelled: the last ones before a stop; of a simulation that lasted
    some that are spread evenly over it. Frames with atoms too near each other are no candidates, nor are
    those that were learned; a start that several simulations have in common is one candidate.

    Raises DataError if there is none.
    """
    found = []
    for folder in folders:
        frames = read(folder / "trajectory.xyz", index=":", parallel=False)
        n = min(stop.frames, len(frames))
        numbers = range(len(frames) - n, len(frames))
        if read_status(folder)["status"] != FAILED:
            numbers = np.unique(np.linspace(0, len(frames) - 1, n + 1).astype(int))[1:]
        for k in numbers:
            atoms = frames[k]
            if stop.distance and closest(atoms, stop.distance)[0] < stop.distance:
                continue
            if is_learned(atoms, learned) or any(_is_frame(atoms, other) for other in found):
                continue
            source = f"{folder.parent.parent.name}/{folder.name}"
            found.append(Structure.from_atoms(atoms, source=source, frame=k))
    if not found:
        raise DataError(
            f"{folders[0].parent}: no frame can be labelled: all were learned, or have atoms nearer than "
            "stop.distance; start from structures that are nearer to what the potential knows, or raise "
            "stop.force_std"
        )
    return Dataset.from_structures(found)
