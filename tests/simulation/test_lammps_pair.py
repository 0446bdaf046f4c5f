"""pair_style mpnnp in LAMMPS against the calculator: systems, ranks, dynamics, restart, errors."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from oracles.lammps import (
    ENERGY,
    PRESSURE,
    System,
    lmp,
    make_potentials,
    make_systems,
    plugin,
    read_result,
    start,
)
from simulation.test_calculator import frames, narrow, systems, tiny

import mpnnp
from mpnnp.data.structure import Structure
from mpnnp.errors import ConfigError
from mpnnp.model.baseline import parse_baseline
from mpnnp.n2p2.engines import write_lammps
from mpnnp.simulation.calculator import Calculator
from mpnnp.simulation.lammps_pair import PairStyle, make_exchange

SYSTEMS = make_systems()
VIRIAL = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])  # xx yy zz xy xz yz
NINE = ([0, 1, 2, 0, 0, 1, 1, 2, 2], [0, 1, 2, 1, 2, 2, 0, 0, 1])  # and yx zx zy


@pytest.fixture(scope="module")
def potentials(tmp_path_factory):
    return make_potentials(tmp_path_factory.mktemp("potentials"))


@pytest.fixture(scope="module", params=(1, 2, 3))
def results(request, tmp_path_factory, potentials):
    """Folder with the results of all systems, of one start of lmp on 1, 2 and 3 ranks."""
    folder = tmp_path_factory.mktemp("results")
    for name, system in SYSTEMS.items():
        (folder / f"{name.replace(' ', '_')}.lammps").write_text(system.data())
    scripts = [system.script(name.replace(" ", "_"), potentials[0]) for name, system in SYSTEMS.items()]
    lmp(request.param, folder, "\n".join(scripts))
    return folder


def lennard_jones(atoms, active):
    """(energy, forces, virial) of pairs with an active atom: 4 eps ((sigma/r)^12 - (sigma/r)^6) below 4."""
    i, j, r, d = neighbor_list("ijdD", atoms, 4.0)
    keep = active[i] | active[j]
    i, r, d = i[keep], r[keep], d[keep]
    s6 = (1.5 / r) ** 6
    force = -(0.04 * (12 * s6**2 - 6 * s6) / r**2)[:, None] * d  # on i
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, i, force)
    return 0.5 * (0.04 * (s6**2 - s6)).sum(), forces, 0.5 * d.T @ force


@pytest.mark.parametrize("name", SYSTEMS)
def test_energies_forces_and_pressure_are_those_of_the_calculator(results, potentials, name):
    system = SYSTEMS[name]
    expected = system.expected([potentials[1][p] for p in system.potentials])
    energy, pressure, dump = read_result(results, name.replace(" ", "_"))
    unit, seen = ENERGY[system.units], system.seen()
    total, forces, virial = expected.results["energy"], np.zeros((len(system.atoms), 3)), expected.virial
    energies = np.zeros(len(system.atoms))
    forces[seen], energies[seen] = expected.results["forces"], expected.results["energies"]
    if name == "hybrid":
        e, f, v = lennard_jones(system.atoms, system.types == 3)
        total, forces, virial = total + e, forces + f, virial + v
    assert energy == pytest.approx(unit * total, rel=1e-12)
    largest = abs(forces).max()
    assert largest > 0.1
    np.testing.assert_allclose(dump[:, 5:8], unit * forces, rtol=0, atol=1e-10 * unit * largest)
    ours = -virial[VIRIAL] * unit * PRESSURE[system.units] / np.linalg.det(system.box)
    np.testing.assert_allclose(pressure, ours, rtol=0, atol=1e-6 * abs(ours).max())
    if name != "hybrid":
        np.testing.assert_allclose(dump[:, 8], unit * energies, rtol=1e-12)


def test_a_rank_without_atoms_was_among_them():
    system = SYSTEMS["slab"]
    assert system.atoms.positions[:, 2].max() < system.box[2, 2] / 3 - 8  # LAMMPS cuts the box in equal parts
    assert SYSTEMS["lonely"].atoms.get_all_distances()[-1, :-1].min() > 10


@pytest.mark.parametrize("name", ["triclinic", "lonely"])
def test_stresses_of_the_atoms_add_up_to_the_virial(results, potentials, name):
    system = SYSTEMS[name]
    virial = -system.expected([potentials[1]["one"]]).virial * PRESSURE["metal"]
    dump = read_result(results, name)[2]
    stress, centroid = dump[:, 9:15], dump[:, 15:24]
    largest = abs(stress).max()
    np.testing.assert_allclose(-stress.sum(axis=0), virial[VIRIAL], atol=1e-6 * abs(virial).max(), rtol=0)
    np.testing.assert_allclose(-centroid.sum(axis=0), virial[NINE], atol=1e-6 * abs(virial).max(), rtol=0)
    np.testing.assert_allclose(stress[:, :3], centroid[:, :3], atol=1e-9 * largest, rtol=0)
    np.testing.assert_allclose(stress[:, 3:], 0.5 * (centroid[:, 3:6] + centroid[:, 6:]), atol=1e-9 * largest)
    assert abs(centroid[:, 3:6] - centroid[:, 6:]).max() > 1e-3 * largest  # nine numbers, not six


def test_the_spread_of_a_committee_and_extrapolations_are_those_of_the_calculator(results, potentials):
    system = SYSTEMS["committee"]
    expected = system.expected([potentials[1][p] for p in system.potentials])
    dump = read_result(results, "committee")[2]
    spread = expected.results["forces_std"]
    assert spread.max() > 1e-3 and expected.extrapolations > 10
    np.testing.assert_allclose(dump[:, 9:12], spread, rtol=1e-8, atol=1e-10 * spread.max())
    assert dump[:, 12].sum() == expected.extrapolations
    of_atoms = np.bincount([x.atom for x in expected.extrapolating()], minlength=len(system.atoms))
    np.testing.assert_array_equal(dump[:, 12], of_atoms)
    count, energy_std, largest = map(float, (results / "committee.spread").read_text().split())
    assert count == expected.extrapolations
    assert energy_std == pytest.approx(expected.results["energy_std"], rel=1e-6)
    assert largest == pytest.approx(np.linalg.norm(spread, axis=1).max(), rel=1e-8)


def test_virials_of_atoms_are_derivatives_of_atomic_energies(potentials):
    """v_j = sum_i dE_i/dx_j (x_j - x_i)^T over all other atoms i of a cluster, by finite differences."""
    atoms = frames()[5][:7]
    atoms.calc = Calculator(potentials[1]["one"])
    n, h, x = len(atoms), 1e-4, atoms.positions.copy()
    expected = np.zeros((n, 3, 3))
    for j in range(n):
        for a in range(3):
            change = np.zeros(n)
            for k, c in ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)):  # fourth order
                atoms.positions[:] = x
                atoms.positions[j, a] += k * h
                change += c * atoms.get_potential_energies() / (12.0 * h)
            expected[j, a] = change @ (x[j] - x)
    pair_style = PairStyle(str(potentials[0]["one"]))
    element = np.searchsorted(pair_style.elements, atoms.numbers)
    e, arrays = make_exchange(x, element, [[j for j in range(n) if j != i] for i in range(n)])
    e.want_virials = 1
    pair_style.compute(e)
    largest = abs(expected).max()
    np.testing.assert_allclose(arrays["virials"], expected, rtol=0, atol=1e-6 * largest)


# ---- baselines, which LAMMPS adds


@pytest.mark.parametrize(
    "text, near",
    [("zbl 0.8 2.1", 1e-10), ("d3 pbe bj", 1e-6), ("zbl 0.8 2.1; d3 pbe zero", 1e-6)],
)
def test_what_export_writes_gives_the_nets_and_the_baseline(tmp_path, potentials, text, near):
    if "d3" in text:
        pytest.importorskip("dftd3", reason="needs the package dftd3")
    potential = replace(potentials[1]["mild"], baseline=parse_baseline(text))
    mpnnp.export(potential, tmp_path / "folder")
    s = SYSTEMS["cubic"].atoms
    structure = Structure(numbers=s.numbers, positions=s.positions, cell=s.cell.array, pbc=True)
    write_lammps(tmp_path / "folder", potential, structure, "mpnnp")
    text = (tmp_path / "folder" / "lammps.in").read_text().split("\n# a short")[0]
    text += "\nvariable e equal pe\nvariable p equal pxx\nrun 0 post no\n"
    text += 'print "$(v_e:%.17g) $(v_p:%.17g)" file result\n'
    _, output = lmp(1, tmp_path / "folder", text)
    if "dispersion/d3" in output and "Unrecognized pair style" in output:
        pytest.skip("this LAMMPS has no dispersion/d3")
    energy, pressure = map(float, (tmp_path / "folder" / "result").read_text().split())
    dump = np.loadtxt(tmp_path / "folder" / "forces.dump", skiprows=9, usecols=(5, 6, 7))
    s = s.copy()
    s.calc = Calculator(potential)
    forces, plain = s.get_forces(), potentials[1]["mild"].energy_forces(structure)
    assert abs(forces - plain[1]).max() > 1e-3 * abs(forces).max()
    assert energy == pytest.approx(s.get_potential_energy(), rel=near)
    np.testing.assert_allclose(dump[: len(s)], forces, rtol=0, atol=10 * near * abs(forces).max())
    ours = -s.get_stress()[0] * PRESSURE["metal"]
    assert pressure == pytest.approx(ours, rel=1e-5, abs=1e-4 * abs(ours))


def test_a_baseline_that_no_one_would_add_is_refused(tmp_path, potentials):
    potential = replace(potentials[1]["one"], baseline=parse_baseline("zbl 0.8 2.1"))
    mpnnp.export(potential, tmp_path / "with")
    with pytest.raises(ConfigError, match="hybrid/overlay mpnnp POTENTIAL baseline overlay zbl 0.8 2.1"):
        PairStyle(str(tmp_path / "with"))
    PairStyle(str(tmp_path / "with"), overlay=True)
    with pytest.raises(ConfigError, match="this one has none"):
        PairStyle(str(potentials[0]["one"]), overlay=True)
    with pytest.raises(ConfigError, match="different baselines"):
        PairStyle(f"{tmp_path / 'with'},{potentials[0]['one']}", overlay=True)


# ---- dynamics


def moving():
    """24 atoms in a triclinic cell."""
    return System(tiny().repeat(2))


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory, potentials):
    """Folder and output of a run on 2 ranks: 1 ps NVE, a restart on the way, its continuation, NPT."""
    folder, system = tmp_path_factory.mktemp("dynamics"), moving()
    (folder / "start.lammps").write_text(system.data())
    pair = f"pair_style mpnnp {potentials[0]['mild']}\npair_coeff * * H O\n"
    dump = "write_dump all custom {} id type x y z fx fy fz modify sort id format float %.17g\n"
    thermo = "timestep 0.0005\nthermo 20\nthermo_style custom step temp pe etotal\n"
    thermo += "thermo_modify format float %.12f\n"
    script = "units metal\natom_style atomic\nread_data start.lammps\n" + pair + thermo
    script += "velocity all create 300.0 17 mom yes rot no\nfix 1 all nve\nneighbor 0.6 bin\n"
    script += "run 400\nwrite_restart half.restart\nrun 100\n" + dump.format("straight.dump") + "run 1500\n"
    script += "clear\nread_restart half.restart\n" + pair + thermo + "fix 1 all nve\nneighbor 0.6 bin\n"
    script += "run 100\n" + dump.format("continued.dump")
    script += "unfix 1\nfix 2 all npt temp 300 300 0.05 tri 0 0 0.5\nrun 200\n" + dump.format("npt.dump")
    script += 'print "$(lx:%.17g) $(ly:%.17g) $(lz:%.17g) $(xy:%.17g) $(xz:%.17g) $(yz:%.17g)" file npt.box\n'
    script += 'print "$(pe:%.17g)" file npt.energy\n'
    _, output = lmp(2, folder, script)
    return folder, output


def test_energy_does_not_drift_over_a_picosecond(trajectory):
    """The slope of a straight line through the total energy, below 1e-5 eV per atom and picosecond."""
    rows = re.findall(r"^ +(\d+) +\d+\.\d{12} +-?\d+\.\d{12} +(-?\d+\.\d{12})", trajectory[1], re.M)
    steps, energy = np.array(rows, float).T
    first = slice(0, int(np.argmax(steps >= 2000)) + 1)
    steps, energy = steps[first], energy[first] / len(moving().atoms)
    assert steps[-1] == 2000 and len(steps) > 90
    assert abs(np.polyfit(steps * 0.0005, energy, 1)[0]) < 1e-5
    assert np.ptp(energy) > 1e-9  # there is motion


def test_a_restart_continues(trajectory):
    straight, continued = (
        np.loadtxt(trajectory[0] / f"{name}.dump", skiprows=9) for name in ("straight", "continued")
    )
    np.testing.assert_allclose(continued[:, 2:5], straight[:, 2:5], rtol=0, atol=1e-9)
    np.testing.assert_allclose(continued[:, 5:], straight[:, 5:], rtol=0, atol=1e-9)


def test_after_a_barostat_the_forces_are_those_of_the_last_box(trajectory, potentials):
    dump = np.loadtxt(trajectory[0] / "npt.dump", skiprows=9)
    lx, ly, lz, xy, xz, yz = map(float, (trajectory[0] / "npt.box").read_text().split())
    atoms = moving().atoms
    cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
    assert abs(cell - atoms.cell.array).max() > 1e-3
    atoms.set_cell(cell)
    atoms.positions[:] = dump[:, 2:5]
    atoms.calc = Calculator(potentials[1]["mild"])
    forces = atoms.get_forces()
    assert float((trajectory[0] / "npt.energy").read_text()) == pytest.approx(
        atoms.get_potential_energy(), rel=1e-12
    )
    np.testing.assert_allclose(dump[:, 5:], forces, rtol=0, atol=1e-10 * abs(forces).max())


# ---- what goes wrong

IN_PROCESS = """
import sys
from mpi4py import MPI
import lammps
L = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
L.command("plugin load {plugin}/mpnnpplugin.so")
for k, script in enumerate(open("scripts").read().split("@@")):
    L.command("clear")
    try:
        L.commands_string(script)
        print("NOTHING", k)
    except Exception as error:
        print("FOUND", k, str(error).replace(chr(10), " "))
"""
BEFORE = "atom_style atomic\nread_data start.lammps\n"
ERRORS = {  # script -> message
    "units lj": (
        "units lj\n" + BEFORE + "pair_style mpnnp {one}",
        "units lj are not known, use metal or real",
    ),
    "no such potential": (
        "units metal\n" + BEFORE + "pair_style mpnnp nowhere.h5",
        "nowhere.h5: no such file or folder; expected a checkpoint or a folder of n2p2 files",
    ),
    "unknown word": (
        "units metal\n" + BEFORE + "pair_style mpnnp {one} sotp 3",
        "found sotp, allowed after the potential: every N, stop K",
    ),
    "unknown element": (
        "units metal\n" + BEFORE + "pair_style mpnnp {one}\npair_coeff * * H Au",
        "type 2 is Au; the potential knows H O, and NULL leaves a type out",
    ),
    "too few elements": (
        "units metal\n" + BEFORE + "pair_style mpnnp {one}\npair_coeff * * H",
        "one element, or NULL, for each of the 2 atom types",
    ),
    "only NULL": (
        "units metal\n" + BEFORE + "pair_style mpnnp {one}\npair_coeff * * NULL NULL",
        "no type has an element of the potential",
    ),
    "elements of the potential before": (
        "units metal\n" + BEFORE + "pair_style mpnnp {one}\npair_coeff * * H O\nrun 0\n"
        "pair_style mpnnp {of_carbon}\nrun 0",
        "the potential was replaced by one of other elements (C O), and pair_coeff is not said again",
    ),
    "newton off": (
        "units metal\nnewton off\n" + BEFORE + "pair_style mpnnp {one}\npair_coeff * * H O\nrun 0",
        "needs newton on",
    ),
}


def of_other_elements(folder, copy):
    """A copy of a potential of H and O that calls its hydrogen carbon."""
    shutil.copytree(folder, copy)
    text = (copy / "input.nn").read_text()
    (copy / "input.nn").write_text(re.sub(r"\bH\b", "C", text))
    (copy / "weights.001.data").rename(copy / "weights.006.data")
    return copy


def test_errors_say_what_is_allowed_and_leave_a_running_python_alive(tmp_path, potentials):
    """LAMMPS within Python: its interpreter is used, and LAMMPS goes on after each error."""
    (tmp_path / "start.lammps").write_text(SYSTEMS["cubic"].data())
    of_carbon = of_other_elements(potentials[0]["one"], tmp_path / "of_carbon")
    (tmp_path / "scripts").write_text(
        "@@".join(script for script, _ in ERRORS.values()).format(of_carbon=of_carbon, **potentials[0])
    )
    (tmp_path / "run.py").write_text(IN_PROCESS.format(plugin=plugin()))
    _, output = start(1, "python3", "run.py", cwd=tmp_path)
    for k, (name, (_, message)) in enumerate(ERRORS.items()):
        line = next(line for line in output.splitlines() if line.startswith((f"FOUND {k} ", f"NOTHING {k}")))
        assert message in line, (name, line)


FAULT = """
from mpi4py import MPI
import lammps
from mpnnp.simulation.lammps_pair import PairStyle
def fail(self, e):
    raise ZeroDivisionError("a fault of the test")
L = lammps.lammps(cmdargs=["-log", "none"])
L.command("plugin load {plugin}/mpnnpplugin.so")
L.commands_string(open("setup").read())
if MPI.COMM_WORLD.rank == 1:
    PairStyle.compute = fail
try:
    L.command("run 0")
except lammps.core.MPIAbortException as error:
    print("ABORT", error, flush=True)
    MPI.COMM_WORLD.Abort(3)
"""


def test_an_exception_on_one_rank_becomes_an_error_of_lammps(tmp_path, potentials):
    (tmp_path / "cubic.lammps").write_text(SYSTEMS["cubic"].data())
    (tmp_path / "setup").write_text(SYSTEMS["cubic"].setup("cubic", potentials[0]))
    (tmp_path / "run.py").write_text(FAULT.format(plugin=plugin()))
    status, output = start(2, "python3", "run.py", cwd=tmp_path, check=False)
    assert status != 0
    assert "ERROR on proc 1: pair_style mpnnp, step 0: ZeroDivisionError: a fault of the test" in output, (
        output
    )


def test_extrapolations_are_reported_and_stop_a_run(tmp_path, potentials):
    system = SYSTEMS["committee"]
    expected = system.expected([potentials[1]["one"]]).extrapolations
    (tmp_path / "start.lammps").write_text(system.data())
    script = "units metal\n" + BEFORE + f"pair_style mpnnp {potentials[0]['one']} every 2 stop {{}}\n"
    script += "pair_coeff * * H O\nrun 3\n"
    status, output = lmp(2, tmp_path, script.format(4 * expected), check=False)
    assert status == 0, output
    assert f"step 0: {expected} symmetry functions outside their range of training" in output
    assert f"step 2: {2 * expected} symmetry functions" in output and f", {4 * expected} in all" in output
    status, output = lmp(2, tmp_path, script.format(2 * expected), check=False)
    assert status != 0
    assert f"{3 * expected} symmetry functions were outside their range of training, more than stop" in output
    assert re.search(r"some of this step: .* is \S+, in training \S+ to \S+", output), output


def test_extrapolations_of_an_ensemble_do_not_depend_on_the_rank_count(tmp_path, potentials):
    """Those of the member that has most on all ranks together count, not of another one on each rank."""
    system, one = SYSTEMS["cubic"], potentials[1]["one"]
    G = system.expected([one]).members[0].G[system.atoms.numbers == 1]
    paths = [tmp_path / "first", tmp_path / "second"]
    for k, path in zip((0, 5), paths):  # each extrapolates where one function is above its median
        mpnnp.export(narrow(one, k, np.median(G[:, k])), path)
    expected = system.expected([mpnnp.load(path) for path in paths])
    of_atoms = np.bincount([x.atom for x in expected.extrapolating()], minlength=len(system.atoms))
    (tmp_path / "start.lammps").write_text(system.data())
    script = "units metal\n" + BEFORE + f"pair_style mpnnp {paths[0]},{paths[1]}\npair_coeff * * H O\n"
    script += "fix s all pair 1 mpnnp extrapolations 1\ncompute m all pair mpnnp\n"
    script += (
        "dump out all custom 1 dump id f_s\ndump_modify out sort id\nthermo_style custom step pe c_m[1]\n"
    )
    script += 'run 0 post no\nprint "$(c_m[1])" file count\n'
    for n in (1, 3):
        _, output = lmp(n, tmp_path, script)
        assert int(float((tmp_path / "count").read_text())) == expected.extrapolations > 20
        np.testing.assert_array_equal(np.loadtxt(tmp_path / "dump", skiprows=9)[:, 1], of_atoms)
        assert f"step 0: {expected.extrapolations} symmetry functions outside" in output


def test_lists_without_bonded_neighbours_are_refused(tmp_path, potentials):
    atoms = systems()["cubic"]
    data = (
        SYSTEMS["cubic"]
        .data()
        .replace("2 atom types", "2 atom types\n1 bonds\n1 bond types\n1 extra bond per atom")
    )
    head, rows = data.split("Atoms\n\n")
    rows = [line.split() for line in rows.splitlines() if line]
    data = (
        head + "Atoms\n\n" + "\n".join(" ".join([r[0], "1", *r[1:]]) for r in rows) + "\n\nBonds\n\n1 1 1 2\n"
    )
    (tmp_path / "start.lammps").write_text(data)
    script = "units metal\natom_style bond\nbond_style zero\nread_data start.lammps\nbond_coeff *\n{}"
    script += (
        f"pair_style mpnnp {potentials[0]['one']}\npair_coeff * * H O\nrun 0\nprint '$(pe:%.17g)' file e\n"
    )
    status, output = lmp(1, tmp_path, script.format(""), check=False)
    assert status != 0 and "special_bonds lj/coul 1.0 1.0 1.0" in output
    lmp(1, tmp_path, script.format("special_bonds lj/coul 1.0 1.0 1.0\n"))
    atoms.calc = Calculator(potentials[1]["one"])
    assert float((tmp_path / "e").read_text()) == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
