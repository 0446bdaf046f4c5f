"""Out to other programs: inputs that run as they are, CP2K's own committee, i-PI's protocol."""

import itertools
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.socketio import SocketIOCalculator
from ase.io import read
from ase.units import GPa
from conftest import DATA
from launch import ROOT
from n2p2.test_potential_files import FOR_CP2K, make_potential
from oracles.cp2k import COMMITTEE, run_input, stress_of_input
from oracles.cp2k import start as start_cp2k
from oracles.lammps import plugin, start
from typer.testing import CliRunner

import mpnnp
from mpnnp.cli import app
from mpnnp.data.formats import read_sources
from mpnnp.data.structure import Structure
from mpnnp.errors import ConfigError, DataError
from mpnnp.n2p2.engines import write_cp2k, write_lammps
from mpnnp.n2p2.export import write_potential
from mpnnp.units import BAR, BOHR, HARTREE

FRAMES = DATA / "predict_acsf_cos" / "input.data"  # cubic, triclinic and, the last, a cluster


def frames():
    return read_sources(FRAMES, report=lambda _: None)


def triclinic():
    data = frames()
    return next(
        data[k]
        for k in range(len(data))
        if data.pbc[k].all() and abs(data.cell[k] - np.diag(np.diag(data.cell[k]))).max() > 0.1
    )


def cluster():
    data = frames()
    return data[int(np.argmin(data.pbc[:, 0]))]


@pytest.mark.parametrize("structure", [triclinic, cluster])
def test_the_written_cp2k_input_gives_our_energy_and_forces(tmp_path, structure):
    """As a user does it: export with a structure, start cp2k in that folder.

    (The file in between has all digits.)
    """
    s, potential = structure(), make_potential(tables=FOR_CP2K)
    write_potential(potential, tmp_path / "potential")
    mpnnp.data.formats.write_target(
        tmp_path / "start.extxyz", mpnnp.data.dataset.Dataset.from_structures([s])
    )
    command = [
        "export",
        str(tmp_path / "potential"),
        "-o",
        str(tmp_path / "cp2k"),
        "--cp2k",
        "--structure",
        str(tmp_path / "start.extxyz"),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    energy, forces = run_input(tmp_path / "cp2k", "cp2k.inp")
    expected_energy, expected_forces = potential.energy_forces(s)
    assert energy == pytest.approx(expected_energy / HARTREE, rel=1e-10)
    np.testing.assert_allclose(forces, expected_forces * BOHR / HARTREE, rtol=1e-8, atol=1e-10)


def test_stress_is_that_of_cp2k(tmp_path):
    """An oracle for the sign, the unit and the off-diagonal elements in a triclinic cell."""
    s, potential = triclinic(), make_potential(tables=FOR_CP2K)
    write_potential(potential, tmp_path, cp2k=True)
    write_cp2k(tmp_path, potential, s)
    atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc, calculator=mpnnp.Calculator(potential))
    ours = -atoms.get_stress(voigt=False) / GPa
    assert abs(ours).max() > 0.01
    np.testing.assert_allclose(
        stress_of_input(tmp_path, "cp2k.inp"), ours, rtol=1e-6, atol=1e-8 * abs(ours).max()
    )


def test_molecular_dynamics_of_cp2k_at_constant_pressure_is_ours(tmp_path):
    """The last of two steps: energy, forces (a file every so many steps) and pressure."""
    s, potential = triclinic(), make_potential(tables=FOR_CP2K)
    write_potential(potential, tmp_path, cp2k=True)
    write_cp2k(tmp_path, potential, s)
    text = (tmp_path / "cp2k.inp").read_text()
    for old, new in {
        "RUN_TYPE ENERGY_FORCE": "RUN_TYPE MD",
        "ENSEMBLE NVT": "ENSEMBLE NPT_I",
        "STEPS 10000": "STEPS 2",
        "MD 100 ": "MD 2 ",
        "TIMESTEP 0.5": "TIMESTEP 0.01",
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "md.inp").write_text(text)
    printed = start_cp2k(tmp_path, "md.inp")
    assert not (tmp_path / "nnp-forces-1_1.xyz").exists()
    restart = (tmp_path / "nnp-1.restart").read_text()
    numbers = lambda words: np.array([row.split()[1:4] for row in words.strip().split("\n")], float)  # noqa: E731
    cell = re.search(r"&CELL\n((?: *[ABC] .*\n){3})", restart)[1]
    positions = re.search(r"&COORD\n(.*?)&END COORD", restart, re.S)[1]
    positions = "\n".join(row for row in positions.split("\n") if re.match(" *[HO] +[-0-9]", row))
    atoms = Atoms(s.numbers, numbers(positions) * BOHR, cell=numbers(cell), pbc=True)
    assert abs(atoms.cell.array - s.cell).max() > 1e-9  # the cell has moved
    atoms.calc = mpnnp.Calculator(potential)
    *_, last = (tmp_path / "nnp-1.ener").read_text().strip().split("\n")
    _, _, kinetic, _, energy, *_ = map(float, last.split())
    assert atoms.get_potential_energy() / HARTREE == pytest.approx(energy, rel=1e-9)
    rows = [row.split() for row in (tmp_path / "nnp-forces-1_2.xyz").read_text().split("\n")]
    forces = np.array([row[3:] for row in rows if len(row) == 6 and row[0].isdecimal()], float)
    ours = atoms.get_forces() * BOHR / HARTREE
    np.testing.assert_allclose(forces, ours, rtol=0, atol=1e-6 * abs(ours).max())
    pressure = float(re.findall(r"MD\| Pressure \[bar\] +(\S+)", printed)[-1])
    ours = (2 * kinetic * HARTREE / (3 * atoms.get_volume()) - atoms.get_stress()[:3].mean()) / BAR
    assert pressure == pytest.approx(ours, rel=1e-5)


MODEL = "    &MODEL\n      WEIGHTS {}\n    &END MODEL\n"


@pytest.fixture
def committee():
    if not COMMITTEE.is_dir():
        pytest.skip("needs the eight potentials of CP2K's data (Debian: apt-get install cp2k-data)")
    return [COMMITTEE / f"nnp-{k}" for k in range(1, 9)]


def committee_input(folder, potential, structure, models):
    """cp2k.inp with the files of `models`: input.nn and scaling.data of the first, weights of all."""
    write_cp2k(folder, potential, structure)
    text = (folder / "cp2k.inp").read_text()
    text = text.replace("INPUT_FILE_NAME input.nn", f"INPUT_FILE_NAME {models[0]}/input.nn").replace(
        "scaling.data", f"{models[0]}/scaling.data"
    )
    text = text.replace(MODEL.format("weights"), "".join(MODEL.format(m / "weights") for m in models))
    (folder / "cp2k.inp").write_text(text)


def test_the_eight_members_of_cp2ks_committee_are_those_of_cp2k(tmp_path, committee):
    """CP2K adds the atomic energies only with remove_atom_energies, which these files lack."""
    s = frames()[0]
    energies = []
    for k, folder in enumerate(committee):
        potential = mpnnp.load(folder)
        (tmp_path / str(k)).mkdir()
        committee_input(tmp_path / str(k), potential, s, [folder])
        energy, forces = run_input(tmp_path / str(k), "cp2k.inp")
        ours, our_forces = potential.energy_forces(s)
        counts = np.array([np.count_nonzero(s.numbers == z) for z in potential.elements])
        assert energy == pytest.approx((ours - counts @ potential.atomic_energies) / HARTREE, rel=1e-10)
        np.testing.assert_allclose(forces, our_forces * BOHR / HARTREE, rtol=1e-8, atol=1e-10)
        energies.append(ours)
    assert np.std(energies) > 1e-4  # eight different potentials


def test_the_mean_of_a_committee_is_that_of_cp2k(tmp_path, committee):
    """CP2K takes input.nn and scaling.data of one member for all."""
    s, first = frames()[1], mpnnp.load(committee[0])
    members = [replace(mpnnp.load(folder), scaling=first.scaling) for folder in committee]
    committee_input(tmp_path, first, s, committee)
    energy, forces = run_input(tmp_path, "cp2k.inp")
    ours = [m.energy_forces(s) for m in members]
    counts = np.array([np.count_nonzero(s.numbers == z) for z in first.elements])
    expected = np.mean([e for e, _ in ours]) - counts @ first.atomic_energies
    assert energy == pytest.approx(expected / HARTREE, rel=1e-10)
    np.testing.assert_allclose(
        forces, np.mean([f for _, f in ours], axis=0) * BOHR / HARTREE, rtol=1e-8, atol=1e-10
    )


# ---- LAMMPS


def test_the_lammps_input_has_the_units_cutoff_and_elements_of_the_potential(tmp_path):
    potential = make_potential()
    write_lammps(tmp_path, potential, triclinic(), "hdnnp")
    text = (tmp_path / "lammps.in").read_text()
    cutoff, cflength, cfenergy = re.search(
        r"pair_style +hdnnp (\S+) dir.*&\n +cflength (\S+) cfenergy (\S+)", text
    ).groups()
    assert float(cflength) * BOHR == pytest.approx(1.0, rel=1e-15) and float(
        cfenergy
    ) * HARTREE == pytest.approx(1.0, rel=1e-15)
    assert 0 <= float(cutoff) - potential.functions.r_c < 1.1e-6
    assert (
        re.search(r"pair_coeff +\* \* H O\n", text)
        and "mass            1 1.0080  # H" in text
        and "boundary        p p p" in text
    )


def left_handed():
    s = triclinic()
    return Structure(
        numbers=s.numbers, positions=s.positions, cell=s.cell[[0, 2, 1]], pbc=s.pbc, source="left.xyz"
    )


def much_tilted():
    s = triclinic()
    cell = s.cell + np.array([[0, 0, 0], 2 * s.cell[0], s.cell[0] - 3 * s.cell[1]])
    return Structure(numbers=s.numbers, positions=s.positions, cell=cell, pbc=s.pbc)


def periodic_in(*pbc):
    """Function that makes a triclinic structure which is periodic along these vectors alone."""

    def structure():
        s = triclinic()
        return Structure(numbers=s.numbers, positions=s.positions, cell=s.cell, pbc=np.array(pbc))

    return structure


SOME = [p for p in itertools.product([True, False], repeat=3) if any(p) and not all(p)]


@pytest.mark.parametrize(
    "structure", [triclinic, cluster, left_handed, much_tilted, *(periodic_in(*pbc) for pbc in SOME)]
)
def test_the_structure_for_lammps_is_the_same_but_turned(tmp_path, structure):
    s, potential = structure(), make_potential()
    notes = write_lammps(tmp_path, potential, s)
    text = (tmp_path / "structure.lammps").read_text()
    rows = np.array([line.split() for line in text.split("Atoms # atomic")[1].split("\n") if line], float)
    bounds = np.array([line.split()[:2] for line in text.splitlines() if line.endswith("hi")], float)
    tilt = next(
        (list(map(float, line.split()[:3])) for line in text.splitlines() if line.endswith("xy xz yz")),
        [0.0] * 3,
    )
    cell = np.diag(bounds[:, 1] - bounds[:, 0])
    cell[1, 0], cell[2, 0], cell[2, 1] = tilt
    assert abs(cell[1, 0]) <= 0.5001 * cell[0, 0] and abs(cell[2, 0]) <= 0.5001 * cell[0, 0]
    assert abs(cell[2, 1]) <= 0.5001 * cell[1, 1]
    numbers = np.array(potential.elements)[rows[:, 1].astype(int) - 1]
    turned = Structure(numbers=numbers, positions=rows[:, 2:], cell=cell if s.pbc.any() else None, pbc=s.pbc)
    for (i, j), value in zip(((0, 1), (0, 2), (1, 2)), tilt):  # LAMMPS refuses others
        assert value == 0.0 or (s.pbc[i] and s.pbc[j])
    boundary = " ".join("p" if periodic else "s" for periodic in s.pbc)
    assert f"boundary        {boundary}" in (tmp_path / "lammps.in").read_text()
    for axis in np.flatnonzero(~s.pbc):
        assert (rows[:, 2 + axis] > bounds[axis, 0]).all() and (rows[:, 2 + axis] < bounds[axis, 1]).all()
    energy, forces = potential.energy_forces(turned)
    expected, expected_forces = potential.energy_forces(s)
    assert energy == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(
        np.linalg.norm(forces, axis=1), np.linalg.norm(expected_forces, axis=1), rtol=1e-8, atol=1e-10
    )
    swapped = (
        "left.xyz, frame 0: its cell is left-handed, which LAMMPS does not know: the first two vectors are"
    )
    assert [n[: len(swapped)] for n in notes] == ([swapped] if structure is left_handed else [])
    assert ("swapped" in text.splitlines()[0]) == (structure is left_handed)


def test_nets_that_n2p2_reads_otherwise_are_refused_for_hdnnp_and_told_elsewhere(tmp_path):
    potential = make_potential(hidden=((5, 4), (3,)), names=(("tanh", "tanh"), ("softplus",)))
    reason = "the nets differ between elements (H 5-4 tanh tanh, O 3 softplus)"
    with pytest.raises(DataError, match=re.escape(f"--lammps hdnnp: {reason}") + ".*Take mpnnp or external"):
        write_lammps(tmp_path, potential, kind="hdnnp")
    assert not list(tmp_path.iterdir())
    (note,) = write_lammps(tmp_path, potential)
    assert note.startswith(f"for n2p2 these files are no use: {reason}")
    assert write_lammps(tmp_path, make_potential(), kind="hdnnp") == []
    with pytest.raises(ConfigError, match="--lammps eam: allowed are mpnnp, external, hdnnp"):
        write_lammps(tmp_path, make_potential(), kind="eam")


@pytest.mark.parametrize("kind, ranks", [("mpnnp", 1), ("external", 2)])
def test_the_written_lammps_input_runs_as_it_is(tmp_path, kind, ranks):
    """As a user does it: export with a structure, type what it says; here with 20 steps instead of 1000."""
    random = mpnnp.load(FRAMES.parent)
    potential = replace(random, energy_scale=1e-3 * random.energy_scale)  # with forces as of water
    write_potential(potential, tmp_path / "potential")
    mpnnp.data.formats.write_target(
        tmp_path / "start.extxyz", mpnnp.data.dataset.Dataset.from_structures([left_handed()])
    )
    folder = tmp_path / "lammps"
    command = [
        "export",
        str(tmp_path / "potential"),
        "-o",
        str(folder),
        "--structure",
        str(tmp_path / "start.extxyz"),
    ]
    result = CliRunner().invoke(app, [*command, "--lammps", kind])
    assert result.exit_code == 0 and "the first two vectors are swapped" in result.output, result.output
    text = (folder / "lammps.in").read_text()
    assert "run             1000 " in text
    (folder / "lammps.in").write_text(text.replace("run             1000 ", "run 20 #"))
    variables = {"LAMMPS_PLUGIN_PATH": str(plugin())}
    words = text.splitlines()[0].split("type: ")[1].split()
    assert f"start it in {folder}: {' '.join(words)}" in result.output
    _, output = start(ranks, *words, cwd=folder, **variables)
    rows = re.findall(r"^ +(\d+) +(\S+) +(-\S+) +-\S+ +\S+ +\S+ *$", output, re.M)
    assert [int(step) for step, _, _ in rows] == [0, 0, 20]
    expected, forces = potential.energy_forces(left_handed())
    assert float(rows[0][2]) == pytest.approx(expected, rel=1e-7)  # eight digits are printed
    assert float(rows[1][1]) == pytest.approx(300.0)
    dump = (folder / "forces.dump").read_text().splitlines()[9 : 9 + len(forces)]
    found = np.array([line.split()[5:8] for line in dump], float)
    largest = np.linalg.norm(forces, axis=1)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), largest, rtol=1e-7, atol=1e-8)


def test_the_options_for_two_engines_exclude_each_other(tmp_path):
    write_potential(make_potential(), tmp_path / "potential")
    arguments = [
        "export",
        str(tmp_path / "potential"),
        "-o",
        str(tmp_path / "new"),
        "--cp2k",
        "--lammps",
        "mpnnp",
    ]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigError) and "one of --cp2k and --lammps" in str(result.exception)


def test_a_structure_of_other_elements_is_an_error(tmp_path):
    gold = Structure(numbers=[79], positions=np.zeros((1, 3)), source="gold.xyz")
    for write in (write_lammps, write_cp2k):
        with pytest.raises(DataError, match="gold.xyz, frame 0: has Au, which the potential does not know"):
            write(tmp_path, make_potential(), gold)


@pytest.mark.parametrize("name, more", [("lammps.in", []), ("cp2k.inp", ["--cp2k"])])
def test_an_input_that_was_edited_stays_when_the_potential_is_exported_again(tmp_path, name, more):
    write_potential(make_potential(tables=FOR_CP2K), tmp_path / "potential")
    words = ["export", str(tmp_path / "potential"), "-o", str(tmp_path / "new"), *more]
    path = tmp_path / "new" / name
    beside = path.with_name(name.replace(".", "-new."))

    def export(*options):
        result = CliRunner().invoke(app, [*words, *options])
        assert result.exit_code == 0, result.output
        return path.read_text(), result.output

    written, output = export()
    again, _ = export()
    assert written == again and f"and {name} written" in output and not beside.exists()
    for edited in (
        written + "# more\n",
        written.replace("300", "350", 1),
        written.split("\n")[0] + "\nrun 0\n",
    ):
        path.write_text(edited)
        kept, output = export()
        assert kept == edited and beside.read_text() == written
        assert f"{name}: was edited" in output and f"and {name} written" not in output
    beside.write_text("mine\n")
    export()
    assert beside.read_text() == written and beside.with_name(f"{beside.name}.old-1").read_text() == "mine\n"
    replaced, _ = export("--overwrite")
    assert replaced == written and path.with_name(f"{name}.old-1").read_text() == edited
    export("--overwrite")
    assert not path.with_name(f"{name}.old-2").exists()


def test_export_says_that_a_structure_is_missing(tmp_path):
    write_potential(make_potential(), tmp_path / "potential")
    result = CliRunner().invoke(app, ["export", str(tmp_path / "potential"), "-o", str(tmp_path / "new")])
    assert (
        result.exit_code == 0
        and "--structure DATA writes one" in result.output
        and (tmp_path / "new" / "lammps.in").exists()
    )


# ---- OpenMM


@pytest.mark.parametrize("structure", [triclinic, cluster])
def test_the_script_for_openmm_runs_and_has_our_energy_and_forces(tmp_path, structure):
    """The one of docs/engines.md, with its files replaced."""
    openmm = pytest.importorskip("openmm", reason="needs OpenMM")
    if not hasattr(openmm, "PythonForce"):
        pytest.skip("needs an OpenMM with PythonForce")
    s = structure()
    cell = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
    if s.pbc.all():
        triangle, turn = cell.cell.standard_form()
        cell.positions[:] = cell.positions @ turn.T
        cell.set_cell(triangle)
    cell.write(tmp_path / "start.extxyz")
    text = (ROOT / "docs" / "engines.md").read_text()
    code = text.split("## OpenMM")[1].split("```python\n")[1].split("```")[0]
    code = code.replace("start.extxyz", str(tmp_path / "start.extxyz")).replace(
        "runs/a/best.h5", str(FRAMES.parent)
    )
    names = {}
    exec(code.replace("integrator.step(10)", "integrator.step(0)"), names)
    found = names["context"].getState(getEnergy=True, getForces=True)
    potential = mpnnp.load(FRAMES.parent)
    energy, forces = potential.energy_forces(read(tmp_path / "start.extxyz"))
    kj, nm = openmm.unit.kilojoules_per_mole, openmm.unit.nanometer
    assert found.getPotentialEnergy().value_in_unit(kj) / names["EV"] == pytest.approx(energy, rel=1e-12)
    ours = found.getForces(asNumpy=True).value_in_unit(kj / nm) * names["ANGSTROM"] / names["EV"]
    np.testing.assert_allclose(ours, forces, rtol=0, atol=1e-10 * abs(forces).max())


# ---- i-PI


def test_the_driver_of_i_pi_answers_a_server_with_our_forces(tmp_path):
    """jobs/i-pi/driver.py with ASE's own server in the place of i-PI. The first frame of a file counts."""
    s, potential = triclinic(), make_potential()
    write_potential(potential, tmp_path / "potential")
    mpnnp.data.formats.write_target(
        tmp_path / "start.extxyz", mpnnp.data.dataset.Dataset.from_structures([s])
    )
    atoms = read(tmp_path / "start.extxyz")
    atoms[:-1].write(tmp_path / "start.extxyz", append=True)
    socket = f"mpnnp_{tmp_path.name}"
    driver = [
        sys.executable,
        ROOT / "jobs" / "i-pi" / "driver.py",
        tmp_path / "potential",
        tmp_path / "start.extxyz",
        "--unix",
        socket,
    ]
    with SocketIOCalculator(unixsocket=socket, timeout=100) as server:
        process = subprocess.Popen(driver, cwd=ROOT)
        try:
            atoms.calc = server
            for _ in range(2):
                energy, forces = atoms.get_potential_energy(), atoms.get_forces()
                expected, expected_forces = potential.energy_forces(atoms)
                assert energy == pytest.approx(expected, rel=1e-12)
                np.testing.assert_allclose(forces, expected_forces, rtol=1e-9, atol=1e-10)
                atoms.positions[0] += 0.1
        finally:
            server.close()
            assert process.wait(timeout=60) == 0
