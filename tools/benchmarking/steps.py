"""Steps of dynamics on the ranks that this is started on, without LAMMPS:

    python tools/benchmarking/steps.py CASE POTENTIAL STRUCTURE STEPS, or mpiexec -n 2 python ...

prints a line of JSON: seconds on the clock for all STEPS, and CPU seconds of all ranks together. POTENTIAL
is a checkpoint or a folder of n2p2 files, STRUCTURE a file without velocities. CASE is

    kernels   symmetry functions, energies, forces and virial from a list of neighbours that is there already,
              for this rank's share of the atoms: no ghosts, no messages, nothing moves
    md        what `mpnnp md` runs, at constant energy
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from mpnnp import environment

environment.prepare()  # before numpy

import numpy as np  # noqa: E402

from mpnnp.kernels.jit import read_only  # noqa: E402
from mpnnp.kernels.pairs import energy_forces_of_pairs  # noqa: E402
from mpnnp.parallel import maximum, on_root, share, world  # noqa: E402
from mpnnp.progress import Silent  # noqa: E402
from mpnnp.simulation.calculator import SKIN, Calculator  # noqa: E402
from mpnnp.simulation.dynamics import FINISHED, run  # noqa: E402
from mpnnp.simulation.integrators import Protocol  # noqa: E402
from mpnnp.simulation.pair_list import PairList  # noqa: E402
from mpnnp.simulation.trajectories import read_start  # noqa: E402
from mpnnp.training.checkpoint import load_potential  # noqa: E402

TIMESTEP = 0.5  # fs
TEMPERATURE = 300.0  # K
NANOSECOND = 1_000_000_000


class Stopwatch:
    """Seconds on the clock and of the CPU between two calls, which wait for all ranks."""

    def __init__(self, comm):
        self.comm, self.stamps = comm, []

    def __call__(self, *ignored):
        cpu = time.process_time()
        self.comm.Barrier()
        self.stamps.append((time.perf_counter(), cpu))

    def seconds(self):
        """(on the clock, of all ranks' CPUs) from the first call to the last. Collective."""
        clock, cpu = np.subtract(self.stamps[-1], self.stamps[0])
        slowest = maximum(self.comm, [clock * NANOSECOND])[0] / NANOSECOND
        return slowest, self.comm.allreduce(cpu)


def kernels(potential, atoms, structure, comm, n_step, stopwatch):
    """The compiled work of n_step steps, on the geometry of `atoms`."""
    member, mine = Calculator(potential).members[0], share(len(atoms), comm)
    element = read_only(np.searchsorted(potential.elements, atoms.numbers))
    positions, cell = read_only(atoms.positions), read_only(atoms.cell.array)
    pair_list = PairList(member.model.plan, SKIN)
    pairs = pair_list.update(element, positions, cell, atoms.pbc, mine.start, mine.stop)
    G, energies = np.empty((len(mine), member.n_max)), np.empty((1, len(mine)))
    forces, virial = np.empty((1, len(atoms), 3)), np.empty((1, 3, 3))

    def step():
        place = pairs, mine.start, element, positions, cell
        energy_forces_of_pairs(*place, member.model, member.w[None], False, G, energies, forces, virial)

    step()
    stopwatch()
    for _ in range(n_step):
        step()
    stopwatch()


def md(potential, atoms, structure, comm, n_step, stopwatch):
    """n_step steps of `mpnnp md`; the stopwatch is pressed with the first frame and with the last."""
    time_fs = n_step * TIMESTEP
    protocol = Protocol(
        ensemble="nve",
        timestep=TIMESTEP,
        time=time_fs / 1000.0,
        save_every=time_fs,
        temperature=TEMPERATURE,
    )
    folder = on_root(comm, tempfile.mkdtemp, "", "md-", Path(structure).parent)
    calculator = Calculator(potential, comm=comm)
    outcome = run(protocol, atoms, calculator, folder, comm, Silent(), watch=stopwatch)
    if outcome.status != FINISHED:
        raise SystemExit(f"mpnnp md: {outcome.status}: {outcome.reason}")


CASES = {"kernels": kernels, "md": md}


def main():
    case, path, structure, n_step = sys.argv[1:]
    comm = world()
    potential, atoms = load_potential(path), read_start(structure)
    stopwatch = Stopwatch(comm)
    CASES[case](potential, atoms, structure, comm, int(n_step), stopwatch)
    clock, cpu = stopwatch.seconds()
    if comm.rank == 0:
        print(json.dumps({"clock": clock, "cpu": cpu}))


if __name__ == "__main__":
    main()
