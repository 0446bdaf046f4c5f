"""Molecular dynamics: conservation, exact resumption, clear ends; boxes of water; labelling."""

import csv
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms, FixBondLengths
from ase.io import read, write
from ase.units import fs
from conftest import DATA
from launch import on_ranks
from simulation.test_calculator import frames, systems
from small import quiet
from typer.testing import CliRunner

from mpnnp import Calculator, load
from mpnnp.analysis import selection
from mpnnp.cli import app
from mpnnp.data import formats
from mpnnp.data.formats import read_sources
from mpnnp.errors import CheckpointError, ConfigError, DataError, FolderError
from mpnnp.files import write_sealed
from mpnnp.model.baseline import parse_baseline
from mpnnp.model.symmetry_functions import SymmetryFunctions
from mpnnp.n2p2.export import write_potential
from mpnnp.simulation import labelling
from mpnnp.simulation.boxes import water_box
from mpnnp.simulation.dynamics import run
from mpnnp.simulation.integrators import Protocol
from mpnnp.simulation.labelling import make_labeller, part_of
from mpnnp.simulation.restart import read_restart
from mpnnp.simulation.run_folder import COLUMNS
from mpnnp.simulation.trajectories import read_start
from mpnnp.units import METAL

RANDOM = load(DATA / "predict_acsf_cos")  # random weights: a smooth potential that knows nothing of water,
MILD = replace(RANDOM, energy_scale=1e-3 * RANDOM.energy_scale)  # with forces as of water


def start():
    return systems()["triclinic"].copy()


def protocol(**settings):
    return Protocol(
        **{"ensemble": "nve", "time": 0.01, "temperature": 300.0, "log_every": 1.0, "save_every": 2.0}
        | settings
    )


def simulate(folder, p, atoms=None, resume=False, calculator=None):
    comm, log = quiet()
    return run(p, atoms or start(), calculator or Calculator(MILD), folder, comm, log, resume), log


def table(folder):
    """md.csv as arrays by name."""
    with open(folder / "md.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_energy_is_conserved_to_second_order_in_the_time_step(tmp_path):
    spread = []
    for timestep in (0.5, 0.25):
        simulate(tmp_path / f"{timestep}", protocol(timestep=timestep))
        energy = table(tmp_path / f"{timestep}")["energy_total_ev"]
        spread.append(np.ptp(energy))
    kinetic = 0.0259 * 1.5 * len(start())
    assert spread[0] < 0.01 * kinetic
    assert 2.5 < spread[0] / spread[1] < 6.0


def test_table_frames_and_end(tmp_path):
    outcome, _ = simulate(tmp_path, protocol(ensemble="nvt"))
    rows = table(tmp_path)
    assert tuple(rows) == COLUMNS
    assert rows["time_ps"] == pytest.approx(np.arange(11) * 1e-3)
    atoms = start()
    atoms.calc = Calculator(MILD)
    assert rows["energy_potential_ev"][0] == pytest.approx(atoms.get_potential_energy(), rel=1e-9)
    assert rows["temperature_k"][0] == pytest.approx(300.0)
    mass = atoms.get_masses().sum() * 1.66053906660
    assert rows["density_g_cm3"][0] == pytest.approx(mass / atoms.get_volume(), rel=1e-9)
    kinetic_pressure = (
        2.0 / 3.0 * (rows["energy_total_ev"][0] - rows["energy_potential_ev"][0]) / atoms.get_volume()
    )
    pressure = (kinetic_pressure - np.trace(atoms.get_stress(voigt=False)) / 3.0) * 1.602176634e6
    assert rows["pressure_bar"][0] == pytest.approx(pressure, rel=1e-6)
    saved = read(tmp_path / "trajectory.xyz", index=":")
    assert [a.info["time_ps"] for a in saved] == pytest.approx([0, 0.002, 0.004, 0.006, 0.008, 0.01])
    assert outcome.status == "finished" and outcome.steps == 20
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "finished"
    final = read(tmp_path / "final.xyz")
    assert final.get_temperature() == pytest.approx(rows["temperature_k"][-1], rel=1e-4)


PROTOCOLS = {
    "nve": {},
    "nvt berendsen": {"ensemble": "nvt"},
    "nvt langevin": {"ensemble": "nvt", "thermostat": "langevin"},
    "nvt bussi": {"ensemble": "nvt", "thermostat": "bussi"},
    "npt berendsen": {"ensemble": "npt"},
    "npt mtk": {"ensemble": "npt", "barostat": "mtk", "tau_p": 200.0},
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_resumed_simulation_is_the_uninterrupted_one(tmp_path, name):
    whole, half = tmp_path / "whole", tmp_path / "half"
    outcome, _ = simulate(whole, protocol(time=0.012, **PROTOCOLS[name]))
    assert outcome.status == "finished", outcome.reason
    simulate(half, protocol(time=0.0055, **PROTOCOLS[name]))  # between rows and frames
    with open(half / "md.csv", "a", encoding="utf-8") as file:
        file.write("what a killed run wrote after its last restart file\n")
    simulate(half, protocol(time=0.012, **PROTOCOLS[name]), resume=True)
    for file in ("md.csv", "trajectory.xyz", "final.xyz"):
        assert (whole / file).read_bytes() == (half / file).read_bytes(), file


@pytest.mark.parametrize("name", PROTOCOLS)
def test_ensembles_do_what_they_are_for(tmp_path, name):
    settings = PROTOCOLS[name]
    cold = start()
    outcome, _ = simulate(tmp_path, protocol(time=0.03, tau_t=10.0, **settings), cold)
    rows = table(tmp_path)
    volume = np.ptp(rows["density_g_cm3"])
    assert (volume > 0) == (settings.get("ensemble") == "npt")
    assert outcome.steps == 60 and np.isfinite(rows["energy_total_ev"]).all()


def test_resuming_checks_the_protocol(tmp_path):
    simulate(tmp_path / "a", protocol())
    with pytest.raises(FolderError, match="holds a simulation already"):
        simulate(tmp_path / "a", protocol())
    with pytest.raises(DataError, match="temperature = 300.0, not 310"):
        simulate(tmp_path / "a", protocol(temperature=310.0, time=0.02), resume=True)
    with pytest.raises(DataError, match="no simulation"):
        simulate(tmp_path / "b", protocol(), resume=True)


def test_resuming_refuses_other_atoms_and_another_potential(tmp_path):
    simulate(tmp_path, protocol(time=0.005))
    kept = (tmp_path / "md.csv").read_bytes()
    turned, open_cell = start()[::-1], start()
    open_cell.pbc = (True, True, False)
    for atoms, potential, message in (
        (turned, MILD, "of other atoms, or of these in another order: atom 0 was"),
        (start()[:-3], MILD, "the structure has"),
        (open_cell, MILD, "was periodic in the directions T T T, the structure is in T T F"),
        (start(), RANDOM, "another potential"),
        (start(), MILD.with_weights(1.001 * MILD.weights), "another potential"),
    ):
        with pytest.raises(CheckpointError, match=message):
            simulate(tmp_path, protocol(time=0.01), atoms, resume=True, calculator=Calculator(potential))
        assert (tmp_path / "md.csv").read_bytes() == kept
    simulate(tmp_path, protocol(time=0.01), resume=True)
    assert len(table(tmp_path)["time_ps"]) == 11


def test_a_restart_file_without_atoms_and_potential_is_resumed(tmp_path):
    """As versions before 0.2 wrote it."""
    simulate(tmp_path, protocol(time=0.005))
    with h5py.File(tmp_path / "restart.h5") as old, write_sealed(tmp_path / "old.h5") as new:
        for name in old:
            if name not in ("numbers", "pbc", "masses"):
                old.copy(name, new)
        new.attrs.update({k: v for k, v in old.attrs.items() if k not in ("potential", "constraints")})
    (tmp_path / "old.h5").replace(tmp_path / "restart.h5")
    outcome, _ = simulate(tmp_path, protocol(time=0.01), resume=True)
    assert outcome.status == "finished" and outcome.steps == 20


def test_a_digest_tells_potentials_apart_by_what_they_predict(tmp_path):
    """The same after it was written and read; another one where weights, scaling or baseline differ."""
    write_potential(RANDOM, tmp_path / "bohr")
    write_potential(replace(RANDOM, units=METAL), tmp_path / "metal")
    again = load(tmp_path / "bohr")
    assert again.digest() == load(tmp_path / "bohr").digest() != load(tmp_path / "metal").digest()
    statistics = replace(RANDOM.scaling.statistics, maximum=1.1 * RANDOM.scaling.statistics.maximum)
    others = [
        RANDOM.with_weights(RANDOM.weights + 1e-15 * (np.arange(len(RANDOM.weights)) == 3)),
        replace(RANDOM, scaling=replace(RANDOM.scaling, statistics=statistics)),
        replace(RANDOM, mean_energy=0.1),
        replace(RANDOM, baseline=parse_baseline("zbl 0.5 1.0")),
        replace(RANDOM, functions=functions_of(RANDOM, 1.01)),
    ]
    assert len({p.digest() for p in (RANDOM, *others)}) == 6
    a, b = RANDOM, others[0]
    assert Calculator([a, b]).digest() == Calculator([b, a]).digest() != Calculator(a).digest()


def functions_of(potential, factor):
    """The symmetry functions with other cutoff radii."""
    functions = [replace(f, r_c=factor * f.r_c) for f in potential.functions.functions]
    return SymmetryFunctions(potential.elements, functions)


class Unstable(LennardJones):
    """A pair potential whose forces turn wild at the sixth evaluation."""

    n = 0

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.n += 1
        if self.n > 5:
            self.results["forces"] = self.results["forces"] + 1e4 * np.random.default_rng(self.n).normal(
                size=(len(self.atoms), 3)
            )


def test_an_explosion_ends_the_simulation_with_its_last_good_frame(tmp_path):
    outcome, log = simulate(tmp_path, protocol(time=0.1), calculator=Unstable(sigma=1.0, epsilon=0.01))
    assert outcome.status == "failed" and "exploded" in outcome.reason
    assert outcome.steps < 20
    assert "exploded" in "\n".join(log.kept)
    good = read(tmp_path / "last-good.xyz")
    assert good.info["time_ps"] <= 0.003 and good.get_temperature() < 6000
    assert not (tmp_path / "final.xyz").exists()
    assert json.loads((tmp_path / "status.json").read_text())["reason"] == outcome.reason
    assert len(table(tmp_path)["time_ps"]) == 1 + int(good.info["time_ps"] * 1000)


def test_too_many_extrapolations_end_the_simulation(tmp_path):
    from simulation.test_calculator import narrow

    calculator = Calculator(narrow(MILD, 0, 1e-3), max_extrapolations=1000)  # every hydrogen extrapolates
    outcome, log = simulate(tmp_path, protocol(time=0.1), calculator=calculator)
    hydrogens = int(np.sum(start().numbers == 1))
    assert outcome.status == "failed" and "max_extrapolations" in outcome.reason
    assert outcome.extrapolations > 1000
    assert outcome.steps <= 1000 // hydrogens
    assert sum("extrapolation: atom" in line for line in log.kept) == 5


def test_velocities_of_the_start_are_kept(tmp_path):
    simulate(tmp_path / "a", protocol(temperature=200.0))
    continued = read(tmp_path / "a" / "final.xyz")
    simulate(tmp_path / "b", protocol(), continued)
    assert table(tmp_path / "b")["temperature_k"][0] == pytest.approx(
        table(tmp_path / "a")["temperature_k"][-1], rel=1e-4
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"ensemble": "nvp"},
        {"timestep": 0.0},
        {"temperature": -1.0},
        {"ensemble": "npt", "thermostat": "bussi"},
        {"time": float("nan")},
    ],
)
def test_wrong_protocols_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Protocol(**settings)


def test_pressure_needs_a_cell(tmp_path):
    cluster = next(a for a in frames() if not a.pbc.any())
    with pytest.raises(ConfigError, match="no cell"):
        simulate(tmp_path, protocol(ensemble="npt"), cluster)
    simulate(tmp_path / "b", protocol(), cluster)
    rows = list(csv.DictReader(open(tmp_path / "b" / "md.csv", encoding="utf-8")))
    assert rows[0]["pressure_bar"] == rows[0]["density_g_cm3"] == ""


def held_and_heavy():
    """Atoms of which ten are held fast, with deuterium."""
    atoms = start()
    atoms.set_constraint(FixAtoms(range(10)))
    atoms.set_masses(np.where(atoms.numbers == 1, 2.014, atoms.get_masses()))
    return atoms


def test_the_last_frame_keeps_masses_and_which_atoms_are_held_fast(tmp_path):
    atoms = held_and_heavy()
    simulate(tmp_path / "a", protocol(), atoms.copy())
    final = read_start(tmp_path / "a" / "final.xyz")
    assert np.array_equal(final.get_masses(), atoms.get_masses())
    assert list(final.constraints[0].index) == list(range(10))
    simulate(tmp_path / "b", protocol(), final)
    assert table(tmp_path / "b")["temperature_k"][0] == pytest.approx(
        table(tmp_path / "a")["temperature_k"][-1], rel=1e-4
    )
    simulate(tmp_path / "c", protocol())
    assert read(tmp_path / "c" / "final.xyz").arrays.keys() == {"numbers", "positions", "momenta"}


def test_constraints_that_the_last_frame_cannot_hold_are_told(tmp_path):
    atoms = start()
    atoms.set_constraint(FixBondLengths([[0, 1]]))
    _, log = simulate(tmp_path, protocol(), atoms)
    assert any("final.xyz cannot hold FixBondLengths" in line for line in log.kept)


def test_atoms_held_fast_are_resumed_where_a_barostat_has_moved_them(tmp_path):
    p = {"ensemble": "npt", "tau_p": 100.0}
    simulate(tmp_path / "whole", protocol(time=0.012, **p), held_and_heavy())
    simulate(tmp_path / "half", protocol(time=0.0055, **p), held_and_heavy())
    simulate(tmp_path / "half", protocol(time=0.012, **p), held_and_heavy(), resume=True)
    for file in ("md.csv", "trajectory.xyz", "final.xyz"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "half" / file).read_bytes(), file


def test_resuming_refuses_other_masses_and_constraints(tmp_path):
    simulate(tmp_path, protocol(time=0.005), held_and_heavy())
    light, loose = held_and_heavy(), held_and_heavy()
    light.set_masses(start().get_masses())
    loose.set_constraint(FixAtoms(range(9)))
    for atoms, message in ((light, "had 2.014, in the structure it has 1.008"), (loose, "held fast")):
        with pytest.raises(CheckpointError, match=message):
            simulate(tmp_path, protocol(time=0.01), atoms, resume=True)


def test_a_barostat_that_knows_no_constraints_says_so_before_the_folder_is_made(tmp_path):
    with pytest.raises(ConfigError, match=r"barostat = mtk: .*FixAtoms.*take berendsen"):
        simulate(tmp_path / "a", protocol(ensemble="npt", barostat="mtk"), held_and_heavy())
    assert not (tmp_path / "a").exists()


def test_a_start_with_two_atoms_at_one_place_leaves_no_folder_that_looks_like_a_simulation(tmp_path):
    atoms = start()
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(DataError, match=r"the start of the simulation: .*two atoms at the same place"):
        simulate(tmp_path, protocol(), atoms)
    assert not any(tmp_path.iterdir())


def test_a_start_in_which_nothing_can_move_is_refused(tmp_path):
    atoms = start()
    with pytest.raises(ConfigError, match="one atom"):
        simulate(tmp_path, protocol(ensemble="nvt"), atoms[:1])
    atoms.set_constraint(FixAtoms(range(len(atoms))))
    with pytest.raises(ConfigError, match="held fast"):
        simulate(tmp_path, protocol(ensemble="nvt"), atoms)


def ranks_simulate(comm):
    import tempfile

    from mpnnp.progress import Log

    folder = Path(comm.bcast(tempfile.mkdtemp() if comm.rank == 0 else None))
    p = protocol(ensemble="nvt", thermostat="langevin")
    run(
        p,
        start(),
        Calculator(MILD, comm=comm),
        folder / "many",
        comm,
        Log(comm, stream=open("/dev/null", "w")),
    )
    simulate(folder / f"alone{comm.rank}", p)  # on every rank: ASE's Langevin sends its random numbers
    many, one = table(folder / "many"), table(folder / f"alone{comm.rank}")
    for name in COLUMNS:
        assert many[name] == pytest.approx(one[name], rel=1e-7, abs=1e-7), name


def test_the_number_of_ranks_does_not_change_a_simulation():
    on_ranks(2, ranks_simulate, seconds=240)


@pytest.mark.parametrize("n_molecule, density", [(1, 0.2), (17, 1.0), (64, 1.0), (64, 1.3)])
def test_a_box_of_water(n_molecule, density):
    atoms = water_box(n_molecule, density, seed=3)
    assert len(atoms) == 3 * n_molecule and atoms.pbc.all()
    assert atoms.get_masses().sum() * 1.66053906660 / atoms.get_volume() == pytest.approx(density, rel=1e-3)
    distances = atoms.get_all_distances(mic=True)
    for k in range(n_molecule):
        o, h = 3 * k, (3 * k + 1, 3 * k + 2)
        assert distances[o, h[0]] == pytest.approx(0.9572) and distances[o, h[1]] == pytest.approx(0.9572)
        assert atoms.get_angle(h[0], o, h[1], mic=True) == pytest.approx(104.52)
    molecule = np.arange(len(atoms)) // 3
    between = distances[molecule[:, None] != molecule]
    if n_molecule > 1:
        assert between.min() > (1.35 if density <= 1.0 else 1.2)
    assert np.array_equal(atoms.positions, water_box(n_molecule, density, seed=3).positions)


def test_which_of_several_structures_is_the_start_is_told(tmp_path):
    lines = []
    write(tmp_path / "two.xyz", [water_box(2, 0.5), water_box(3, 0.5)])
    start = read_start(tmp_path / "two.xyz", report=lines.append)
    assert len(start) == 9
    assert f"of the 2 structures of {tmp_path / 'two.xyz'} the last one is the start" in "\n".join(lines)


def test_box_md_and_label_as_commands(tmp_path):
    box, lab, folder = tmp_path / "box.xyz", tmp_path / "labelled.h5", tmp_path / "potential"
    write_potential(MILD, folder)
    runner = CliRunner()
    result = runner.invoke(app, ["box", "water", "--molecules", "8", "-o", str(box)])
    assert result.exit_code == 0, result.output
    md = ["md", str(folder), str(box), "-o", str(tmp_path / "md"), "--time", "0.002", "--log-every", "0.5"]
    result = runner.invoke(app, md)
    assert result.exit_code == 0 and "finished" in result.output
    assert len(table(tmp_path / "md")["time_ps"]) == 5
    result = runner.invoke(app, ["label", str(folder), str(box), "-o", str(lab)])
    assert result.exit_code == 0, result.output
    (labelled,) = read_sources(lab, report=print)
    prediction = load(folder).predict(labelled)
    assert labelled.energy == prediction.energy and np.array_equal(labelled.forces, prediction.forces)
    atoms = read(box)
    atoms.calc = Calculator(folder)
    assert np.array_equal(labelled.stress, atoms.get_stress())


def test_info_says_what_the_folder_of_a_simulation_is(tmp_path):
    simulate(tmp_path / "md", protocol(ensemble="nvt"))
    result = CliRunner().invoke(app, ["info", str(tmp_path / "md")])
    assert result.exit_code == 0, result.exception
    words = (
        f"md: folder of a simulation of {len(start())} atoms, nvt, 300.0 K, 0.01 ps asked for: finished at"
    )
    assert words in result.output and "md/trajectory.xyz" in result.output
    simulate(tmp_path / "md", protocol(ensemble="nvt", time=0.012), resume=True)
    result = CliRunner().invoke(app, ["info", str(tmp_path / "md")])
    assert "0.012 ps asked for: finished at 0.012 ps" in result.output
    (tmp_path / "md" / "status.json").unlink()
    result = CliRunner().invoke(app, ["info", str(tmp_path / "md")])
    assert "under way" in result.output


def test_labels_of_a_calculator_of_ase(tmp_path):
    source, target = tmp_path / "in.xyz", tmp_path / "out.data"
    write(source, [water_box(3, 0.3, seed) for seed in range(3)])
    result = CliRunner().invoke(
        app, ["label", "ase:lj:sigma=1.5,epsilon=0.2,rc=3.0", str(source), "-o", str(target)]
    )
    assert result.exit_code == 0, result.output
    for k, structure in enumerate(read_sources(target)):
        atoms = read(source, index=k)
        atoms.calc = LennardJones(sigma=1.5, epsilon=0.2, rc=3.0)
        assert structure.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        assert structure.forces == pytest.approx(atoms.get_forces(), rel=1e-9, abs=1e-12)
    for name, message in (("ase:nothing", "no such calculator"), ("ase:lj:sigma", "key=value")):
        result = CliRunner().invoke(app, ["label", name, str(source), "-o", str(tmp_path / "x.data")])
        assert isinstance(result.exception, ConfigError) and message in str(result.exception)


def test_half_done_labels_belong_to_a_potential_not_to_its_name(tmp_path):
    folder, other, target = tmp_path / "a", tmp_path / "b", tmp_path / "out.h5"

    def part(name, units=None):
        return part_of(target, name, make_labeller(name, units))

    write_potential(MILD, folder)
    write_potential(RANDOM, other)
    of_mild, of_both = part(str(folder)), part(f"{folder},{other}")
    assert of_mild == part(str(folder)) == part(f"{tmp_path}/./a") and of_mild != of_both
    silent = folder / "input.nn"  # as other programs write it, without a line that states the units
    silent.write_text("".join(line for line in silent.open() if "units" not in line.lower()))
    assert part(str(folder), "eV Angstrom") != part(str(folder)) == of_mild
    write_potential(MILD.with_weights(1.01 * MILD.weights), folder)
    assert of_mild != part(str(folder)) and of_both != part(f"{folder},{other}")
    assert part("ase:lj:rc=3.0") == part("ase:lj:rc=3.0") != part("ase:lj:rc=3.5")


@pytest.mark.parametrize("name", ["", " ", ",", "POTENTIAL,", "POTENTIAL, "])
def test_an_empty_name_of_a_potential_is_not_the_working_directory(name, tmp_path):
    write_potential(MILD, tmp_path / "p")
    write(tmp_path / "in.xyz", start())
    name = name.replace("POTENTIAL", str(tmp_path / "p"))
    for command in ("label", "md"):
        words = [command, name, str(tmp_path / "in.xyz"), "-o", str(tmp_path / "out.h5")]
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, ConfigError)
        assert "a name of a potential is empty" in str(result.exception)


@pytest.mark.parametrize(
    "name", ["ase:emt:asap_cutof=True", "ase:lj:sigam=3", "ase:ase.calculators.lj.LennardJones:r=3"]
)
def test_a_setting_that_a_calculator_of_ase_would_not_read_is_an_error(name):
    wrong = name.rpartition(":")[2].partition("=")[0]
    with pytest.raises(ConfigError, match=f"{wrong} is no setting of .*; known are"):
        make_labeller(name)


def test_label_names_the_structure_that_fails(tmp_path):
    source = tmp_path / "in.xyz"
    write(source, start())
    result = CliRunner().invoke(
        app, ["label", "ase:emt:asap_cutoff=True", str(source), "-o", str(tmp_path / "x.h5")]
    )
    if result.exception is None or isinstance(result.exception, SystemExit):
        assert result.exit_code == 0  # EMT knows H and O
    else:
        assert isinstance(result.exception, DataError) and "frame 0" in str(result.exception)


def label_on_ranks(comm):
    from mpnnp.data.dataset import Dataset
    from mpnnp.data.dataset import write as write_dataset
    from mpnnp.data.structure import Structure
    from mpnnp.progress import Log
    from mpnnp.simulation.labelling import label

    data = Dataset.from_structures(
        [
            Structure(numbers=a.numbers, positions=a.positions, cell=a.cell.array, pbc=a.pbc, frame=k)
            for k, a in enumerate(frames()[:5])
        ]
    )
    calculator, log = Calculator(MILD, skin=0.0), Log(comm, stream=open("/dev/null", "w"))
    labelled = label(data, calculator, comm, log)
    part = Path(comm.bcast(tempfile.mkdtemp(), root=0)) / "labelled.part.h5"
    exact = [MILD.predict(s).energy for s in data]
    if comm.rank == 0:
        assert [s.energy for s in labelled] == exact
        write_dataset(part, Dataset.from_structures([replace(labelled[k], energy=7.0) for k in (1, 3)]))
    comm.Barrier()
    again = label(data, calculator, comm, log, part)  # what is in the file is not labelled again
    assert (labelled is None) == (again is None) == (comm.rank != 0)
    if comm.rank == 0:
        shutil.rmtree(part.parent)
        assert [s.energy for s in again] == [exact[0], 7.0, exact[2], 7.0, exact[4]]


def test_ranks_share_out_the_structures_to_label():
    on_ranks(3, label_on_ranks, seconds=240)


def test_a_temperature_that_no_potential_describes_is_refused():
    with pytest.raises(ConfigError, match=r"temperature = 1000000000.0: must be at most 1e\+06 K"):
        Protocol(temperature=1e9)


def write_moving(path, units):
    """A dump of LAMMPS of two atoms that move by one Angstrom per ps, in its units "metal" or "real"."""
    v = {"metal": 1.0, "real": 1e-3}[units]
    lines = [f"ITEM: UNITS\n{units}\nITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp"]
    lines += ["0 8"] * 3 + ["ITEM: ATOMS id element x y z vx vy vz"]
    lines += [f"1 O 0 0 0 {v} 0 0", f"2 H 0.96 0 0 0 {-v} 0", ""]
    path.write_text("\n".join(lines))
    return path


def test_velocities_of_a_dump_are_in_its_units(tmp_path):
    expected = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]) / (1000 * fs)
    for units in ("metal", "real"):
        found = read_start(write_moving(tmp_path / "a.dump", units)).get_velocities()
        assert found == pytest.approx(expected, rel=1e-6), units


def test_velocities_in_an_unknown_unit_are_left_out_and_told(tmp_path):
    atoms = Atoms("OH", [[0, 0, 0], [1.8, 0, 0]], momenta=np.ones((2, 3)))
    write(tmp_path / "a.extxyz", atoms)
    lines = []
    start = read_start(tmp_path / "a.extxyz", "Hartree Bohr", lines.append)
    assert not start.has("momenta") and start.positions[1, 0] == pytest.approx(1.8 * 0.529177210903)
    assert "in what its velocities are is not known: they are left out" in "\n".join(lines)


def test_a_start_that_ase_alone_cannot_read_keeps_which_atoms_are_held_fast(tmp_path):
    """A blank line between frames, and Fortran's exponents."""
    atoms = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [0, 0.96, 0]], masses=[16.0, 2.0, 2.0])
    atoms.set_constraint(FixAtoms([1]))
    write(tmp_path / "a.extxyz", atoms, columns=["symbols", "positions", "move_mask", "masses"])
    text = (tmp_path / "a.extxyz").read_text().replace("0.96000000", "9.6D-01")
    (tmp_path / "a.extxyz").write_text(f"{text}\n\n{text}")
    start = read_start(tmp_path / "a.extxyz", report=lambda text: None)
    assert list(start.constraints[0].index) == [1] and start.get_masses().tolist() == [16.0, 2.0, 2.0]


def test_a_quench_is_no_explosion_and_goes_on_as_it_began(tmp_path):
    """A start at 9000 K, 30 times what is asked for."""
    hot = start()
    hot.set_momenta(np.sqrt(hot.get_masses())[:, None] * np.random.default_rng(0).normal(size=(len(hot), 3)))
    hot.set_momenta(hot.get_momenta() * np.sqrt(9000.0 / hot.get_temperature()))
    quench = protocol(ensemble="nvt", tau_t=2.0, temperature=10.0, time=0.004)
    outcome, _ = simulate(tmp_path / "a", quench, hot.copy())
    assert outcome.status == "finished", outcome.reason
    limit = read_restart(tmp_path / "a" / "restart.h5").reached.hottest
    assert limit == pytest.approx(20 * 9000.0, rel=1e-6)
    outcome, _ = simulate(tmp_path / "a", replace(quench, time=0.008), hot.copy(), resume=True)
    assert outcome.status == "finished", outcome.reason
    assert read_restart(tmp_path / "a" / "restart.h5").reached.hottest == limit


def test_a_restart_without_the_limit_of_the_temperature_is_gone_on_with(tmp_path):
    simulate(tmp_path, protocol())
    with h5py.File(tmp_path / "restart.h5") as old, write_sealed(tmp_path / "older.h5") as file:
        for name in old:
            old.copy(name, file)
        file.attrs.update({k: v for k, v in old.attrs.items() if k not in ("hottest", "seal")})
    shutil.move(tmp_path / "older.h5", tmp_path / "restart.h5")
    assert read_restart(tmp_path / "restart.h5").reached.hottest is None
    outcome, _ = simulate(tmp_path, protocol(time=0.012), resume=True)
    assert outcome.status == "finished"
    assert read_restart(tmp_path / "restart.h5").reached.hottest >= 20 * 300.0


class WithoutStress(AseCalculator):
    """A calculator of ASE that knows no stress: springs to where the atoms were first."""

    implemented_properties = ["energy", "forces"]
    first = None

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.first = self.atoms.positions.copy() if self.first is None else self.first
        d = self.atoms.positions - self.first
        self.results = {"energy": 0.5 * np.sum(d**2), "forces": -d}


def test_without_a_stress_the_pressure_is_left_empty(tmp_path):
    outcome, _ = simulate(tmp_path, protocol(time=0.002), calculator=WithoutStress())
    assert outcome.status == "finished"
    rows = list(csv.DictReader(open(tmp_path / "md.csv", encoding="utf-8")))
    assert {row["pressure_bar"] for row in rows} == {""} and float(rows[0]["density_g_cm3"]) > 0


class InAFolder(LennardJones):
    """A calculator of ASE that works with a file of a fixed name, as those of programs do."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        Path(self.directory).mkdir(parents=True, exist_ok=True)
        file = Path(self.directory) / "job.out"
        file.write_text(repr(float(self.results["energy"])))
        time.sleep(0.1)
        self.results["energy"] = float(file.read_text())


def label_in_folders(comm):
    from mpnnp.data.dataset import Dataset
    from mpnnp.progress import Log
    from mpnnp.simulation.labelling import label

    folder = Path(comm.bcast(tempfile.mkdtemp(), root=0))
    calculator = make_labeller(f"ase:test_dynamics.InAFolder:rc=3.0,directory='{folder}'", comm=comm)
    boxes = [water_box(3, 0.3, seed) for seed in range(8)]
    log = Log(comm, stream=open("/dev/null", "w"))
    labelled = label(Dataset.from_structures(boxes), calculator, comm, log)
    if comm.rank == 0:
        assert sorted(path.name for path in folder.iterdir()) == ["rank-0", "rank-1"]
        shutil.rmtree(folder)
        for s, atoms in zip(labelled, boxes, strict=True):
            atoms.calc = LennardJones(rc=3.0)
            assert s.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)


def test_ranks_do_not_share_the_folder_that_a_calculator_works_in(monkeypatch):
    on_ranks(2, label_in_folders)
    alone = make_labeller("ase:lj:rc=3.0", comm=SimpleNamespace(rank=0, size=1))
    assert alone.directory == "."


def test_what_a_format_cannot_hold_is_refused_before_labels_are_computed(tmp_path, monkeypatch):
    slab = water_box(3, 0.3)
    slab.pbc = [True, True, False]
    write(tmp_path / "slab.xyz", slab)
    monkeypatch.setattr(labelling, "label", lambda *arguments: pytest.fail("it was labelled"))
    words = ["label", "ase:lj:rc=3.0", str(tmp_path / "slab.xyz"), "-o", str(tmp_path / "out.data")]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, DataError), result.output
    assert "slab.xyz, frame 0: is periodic along 2 vectors, input.data knows only 0 or 3" in str(
        result.exception
    )
    monkeypatch.setattr(selection, "select_structures", lambda *arguments: pytest.fail("it was selected"))
    words = ["select", str(tmp_path / "slab.xyz"), "-n", "1", "-o", str(tmp_path / "out.data")]
    result = CliRunner().invoke(app, words)
    assert "input.data knows only 0 or 3" in str(result.exception)


def test_labels_that_could_not_be_written_are_found_under_any_name_of_the_output(tmp_path, monkeypatch):
    write(tmp_path / "in.xyz", [water_box(3, 0.3, seed) for seed in range(3)])
    words = ["label", "ase:lj:rc=3.0", str(tmp_path / "in.xyz"), "-o"]

    def fail(path, dataset):
        raise DataError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(formats, "write_target", fail)
        result = CliRunner().invoke(app, [*words, str(tmp_path / "input.data")])
        assert "the disk is full" in str(result.exception)
    (part,) = tmp_path.glob("*.part.h5")
    assert f"all labels are kept in {tmp_path}: the same command goes on" in str(result.exception)
    monkeypatch.setattr(labelling, "labels_of", lambda *arguments: pytest.fail("labelled again"))
    result = CliRunner().invoke(app, [*words, str(tmp_path / "labelled.extxyz")])
    assert result.exit_code == 0, result.output
    assert f"3 of 3 structures are labelled in {part}" in result.output
    assert len(read_sources(tmp_path / "labelled.extxyz", report=lambda text: None)) == 3
    assert not list(tmp_path.glob("*.part.h5"))


@pytest.mark.parametrize("room", [2, 0], ids=["for a few", "for none"])
def test_labels_for_which_a_full_disk_has_no_room_go_elsewhere_and_are_found_again(
    tmp_path, monkeypatch, room
):
    """On a disk with little room the old part and the new one do not fit beside each other, the last labels
    alone may; on a full one the folder of temporary files may take them.
    """
    place, elsewhere, computed = tmp_path / "full", tmp_path / "tmp", []
    place.mkdir()
    elsewhere.mkdir()
    write(tmp_path / "in.xyz", [water_box(3, 0.3, seed) for seed in range(5)])
    words = ["label", "ase:lj:rc=3.0", str(tmp_path / "in.xyz"), "-o", str(place / "out.h5")]
    real, labels_of = labelling.write, labelling.labels_of

    def limited(path, dataset):
        if path.parent == place and len(dataset) > room:
            raise DataError(f"{path}: cannot be written: No space left on device")
        real(path, dataset)

    def slowly(structure, calculator):
        computed.append(structure.frame)
        time.sleep(0.02)
        return labels_of(structure, calculator)

    monkeypatch.setattr(labelling, "labels_of", slowly)
    monkeypatch.setattr(labelling.tempfile, "tempdir", str(elsewhere))
    with monkeypatch.context() as patch:
        patch.setattr(labelling, "SAVE_SECONDS", 0.01)  # one label at a time
        patch.setattr(labelling, "write", limited)
        result = CliRunner().invoke(app, words)
    (rest,) = tmp_path.glob("*/out.rest-*.part.h5")
    assert computed == list(range(room + 1)) and rest.parent == (place if room else elsewhere)
    told = f"part.h5: cannot be written: No space left on device; the last 1 label went to {rest}: make room"
    assert told in str(result.exception) and str(result.exception).endswith("the same command goes on")
    if not room:
        assert f"move it to {place}" in str(result.exception)
        shutil.move(rest, place)
    assert CliRunner().invoke(app, words).exit_code == 0
    assert computed == list(range(5)) and len(read_sources(place / "out.h5")) == 5
    assert [path.name for path in place.iterdir()] == ["out.h5"] and not list(elsewhere.iterdir())


def test_what_no_disk_takes_is_told_and_earlier_parts_stay(tmp_path, monkeypatch):
    write(tmp_path / "in.xyz", [water_box(3, 0.3, seed) for seed in range(3)])
    words = ["label", "ase:lj:rc=3.0", str(tmp_path / "in.xyz"), "-o", str(tmp_path / "out.h5")]
    real, labels_of, n = labelling.write, labelling.labels_of, []

    def once(path, dataset):
        n.append(path)
        if len(n) > 1:
            raise DataError(f"{path}: cannot be written: No space left on device")
        real(path, dataset)

    def slowly(structure, calculator):
        time.sleep(0.02)
        return labels_of(structure, calculator)

    monkeypatch.setattr(labelling, "labels_of", slowly)
    monkeypatch.setattr(labelling, "SAVE_SECONDS", 0.01)
    monkeypatch.setattr(labelling, "write", once)
    told = str(CliRunner().invoke(app, words).exception)
    (part,) = tmp_path.glob("*.part.h5")
    assert f"the last 1 label could not be kept anywhere; kept before: 1, in {tmp_path}: make room" in told
    assert len(read_sources(part)) == 1
