"""Active learning: what is chosen, what stops a simulation, which labels are taken, and the whole loop."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.data import chemical_symbols
from ase.io import write
from cp2k import ATOMS, single_point
from faults import learning as suite
from launch import ROOT, run_on_ranks
from oracles.textbook import dense_update
from small import cluster, quiet

import mpnnp
from mpnnp.config import Ekf, read_config
from mpnnp.data.dataset import Dataset, concatenate
from mpnnp.data.extxyz import write_extxyz
from mpnnp.data.formats import write_target
from mpnnp.data.structure import Structure
from mpnnp.errors import CheckpointError, ConfigError, DataError, DynamicsError, Interrupted
from mpnnp.learning import labels, rounds, table
from mpnnp.learning.choosing import most_telling
from mpnnp.learning.rounds import Loop, learn
from mpnnp.learning.settings import LabelBy, Stop, cases, read_learning
from mpnnp.learning.simulating import candidates
from mpnnp.learning.state import Round, State, read_state, write_state
from mpnnp.learning.uncertainty import Known, Watch, closest
from mpnnp.model.network import Network
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.optimizers.posterior import Posterior
from mpnnp.run_lock import RunLock
from mpnnp.simulation.boxes import at_density, water_box
from mpnnp.simulation.calculator import Calculator
from mpnnp.training.calibration import Sigma
from mpnnp.training.checkpoint import load_potential, read_posterior
from mpnnp.units import BOHR, HARTREE


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Folder with learn.toml, its start data and structures, and a teacher."""
    return suite.make_learning(tmp_path_factory.mktemp("learn"))


@pytest.fixture(scope="module")
def learned(begun):
    """(folder, State) of a whole learning."""
    learning, config = read_learning(begun / "learn.toml")
    return begun / "whole", learn(learning, config, begun / "whole", *quiet())


def test_lists_make_every_combination(tmp_path):
    (tmp_path / "learn.toml").write_text(
        """
        data.files = "start.extxyz"
        [[simulations]]
        start = ["a.xyz", "b.xyz"]
        temperature = [300, 330.0]
        density = [0.8, 1]
        [[simulations]]
        start = "a.xyz"
        ensemble = "npt"
        pressure = [1, 1000]
        copies = 2
        """
    )
    learning, config = read_learning(tmp_path / "learn.toml")
    found = cases(learning)
    assert len(found) == 2 * 2 * 2 + 2 * 2 and len({case.name for case in found}) == len(found)
    assert found[0].start == str(tmp_path / "a.xyz") and config.data.files == [str(tmp_path / "start.extxyz")]
    assert [case.density for case in found[:4]] == [0.8, 1.0, 0.8, 1.0]
    assert found[-1].make_protocol(3, 20.0).pressure == 1000.0


def test_a_labeller_that_is_set_is_relative_to_the_working_directory(tmp_path, monkeypatch):
    toml = 'data.files = "start.extxyz"\nlabel.by = "a.h5,b.h5"\n[[simulations]]\nstart = "a.xyz"\n'
    (tmp_path / "other").mkdir()
    (tmp_path / "learn.toml").write_text(toml)
    monkeypatch.chdir(tmp_path / "other")
    learning, _ = read_learning(tmp_path / "learn.toml")
    assert learning.label.by == f"{tmp_path / 'a.h5'},{tmp_path / 'b.h5'}"
    for by, expected in (
        ("c.h5,d.h5", f"{tmp_path / 'other' / 'c.h5'},{tmp_path / 'other' / 'd.h5'}"),
        ("files", "files"),
        ("ase:emt", "ase:emt"),
    ):
        learning, _ = read_learning(tmp_path / "learn.toml", [f"label.by={by}"])
        assert learning.label.by == expected


@pytest.mark.parametrize(
    "line, message",
    [
        ("[stop]\nforce_st = 1", "stop.force_st: unknown key; did you mean 'force_std'?"),
        ('[choose]\nby = "best"', "choose.by = 'best': must be 'kalman', 'random' or 'farthest'"),
        ('[run]\noptimizer = "adam"', "learn needs the covariance of ekf"),
        ('[[simulations]]\nstart = "a"\ntime = -1', "simulations.1.time = -1"),
        ('[[simulations]]\nstart = "a"\nensmble = "nvt"', "ensmble: unknown key; did you mean 'ensemble'?"),
        (
            '[[simulations]]\nstart = "a"\nensemble = "npt"\nthermostat = "bussi"',
            "thermostat: without effect with ensemble = 'npt'",
        ),
        (
            '[[simulations]]\nstart = "a"\ntemperature = []',
            "simulations.1.temperature = []: must have at least 1",
        ),
        (
            '[[simulations]]\nstart = "a"\nensemble = "npt"\npressure = []',
            "simulations.1.pressure = []: must have at least 1",
        ),
        ("[train]\nx = 1", "train: unknown key"),
        ("[chose]\nframes = 3", "chose: unknown key; did you mean 'choose'?"),
        ('[[simulation]]\nstart = "a"', "simulation: unknown key; did you mean 'simulations'?"),
        (
            '[[simulations]]\nstart = "a"\ndensity = 997',
            "simulations.1.density.0 = 997.0: must be less than or equal to 100",
        ),
    ],
)
def test_bad_settings_are_named(tmp_path, line, message):
    (tmp_path / "learn.toml").write_text(f'data.files = "a"\n[[simulations]]\nstart = "a"\n{line}\n')
    with pytest.raises(ConfigError) as caught:
        read_learning(tmp_path / "learn.toml")
    assert message in str(caught.value) and "learn.toml" in str(caught.value)


def test_one_simulation_is_a_list_too(tmp_path):
    (tmp_path / "learn.toml").write_text('data.files = "a"\n[simulations]\nstart = "a"\n')
    with pytest.raises(ConfigError, match=r"simulations: must be a list, every one of them below \[\[simul"):
        read_learning(tmp_path / "learn.toml")


def test_a_scaled_box_keeps_its_molecules():
    box = water_box(20, 1.0, seed=2)
    box.wrap()
    thin = at_density(box, 0.7)
    density = thin.get_masses().sum() / thin.cell.volume / 0.6022140857
    assert np.isclose(density, 0.7, rtol=1e-6)
    for k in range(0, 60, 3):
        before = [box.get_distance(k, k + 1 + j, mic=True) for j in range(2)]
        after = [thin.get_distance(k, k + 1 + j, mic=True) for j in range(2)]
        assert np.allclose(before, after, atol=1e-10)


def test_a_crystal_is_scaled_atom_by_atom():
    crystal = bulk("Cu", cubic=True) * 2
    moved = at_density(crystal, 0.5 * 8.9)
    assert np.allclose(moved.get_scaled_positions(), crystal.get_scaled_positions())
    crystal.set_constraint(FixAtoms([0, 5]))
    held = at_density(crystal, 0.5 * 8.9)  # what a simulation will hold fast belongs to the crystal
    assert np.array_equal(held.positions, moved.positions) and len(held.constraints) == 1


def filtered(n=7, updates=12, seed=4):
    """(EKF, state) that has learned random rows."""
    rng = np.random.default_rng(seed)
    ekf = make_ekf(Ekf(epsilon=0.3, eta=1.0, eta_max=1.0, q=1e-3, q_min=1e-3), n, (), quiet()[0])
    state = ekf.init()
    for _ in range(updates):
        ekf.update(state, rng.normal(size=(2, n)), rng.normal(size=2))
    return ekf, state


def posterior_of_size(n):
    ekf, state = filtered(n)
    return Posterior(ekf.save_arrays(state), Network([(n - 1, 1)], [("identity",)])), ekf.covariance(state)


def test_the_choice_is_that_of_a_filter_that_learns_one_candidate_after_another():
    posterior, P = posterior_of_size(7)
    rng, m = np.random.default_rng(0), 3
    rows = rng.normal(size=(9, m, 7)) * rng.uniform(0.2, 2.0, 9)[:, None, None]
    R, expected, left = posterior.noise * np.eye(m), [], set(range(9))
    for _ in range(5):
        gain = {s: np.linalg.slogdet(np.eye(m) + rows[s] @ P @ rows[s].T / posterior.noise)[1] for s in left}
        best = max(gain, key=gain.get)
        expected.append(best)
        left.remove(best)
        P = dense_update(P, rows[best], np.zeros(m), R)[1]
    assert most_telling(5, rows, posterior).tolist() == expected


def test_the_same_frame_is_not_chosen_twice_in_a_row():
    posterior, _ = posterior_of_size(7)
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(1, 3, 7)), 5 * rng.normal(size=(1, 3, 7))
    chosen = most_telling(2, np.concatenate([10 * one, 10 * one, other]), posterior)
    assert chosen.tolist() == [0, 2]


def watch(begun, atoms, learned=None, **stop):
    """A Watch after an evaluation of `atoms`, by the teacher."""
    path = begun / "teacher" / "checkpoint.h5"
    potential = load_potential(path)
    deviations = read_posterior(path).members(4, seed=1)
    calculator = Calculator(potential)
    calculator.calculate(atoms)
    off = {"force_std": None, "extrapolations": None, "distance": 0.0}
    known = Known(potential, deviations, Sigma(), learned or frames(1))
    return Watch(Stop(**(off | stop)), calculator, known)


def test_each_reason_stops_a_simulation(begun):
    atoms = cluster(np.random.default_rng(0), 2, labels=False)
    watch(begun, atoms)(atoms)  # nothing is asked for
    far = atoms.copy()
    far.positions[1:3] *= 1.6
    with pytest.raises(DynamicsError, match="outside the range of what was learned"):
        watch(begun, far, extrapolations=0.01)(far)
    with pytest.raises(DynamicsError, match="uncertain by .* more than stop.force_std = 1e-06"):
        watch(begun, atoms, force_std=1e-6)(atoms)
    watch(begun, atoms, force_std=1e6)(atoms)
    watch(begun, atoms, Dataset.from_structures([atoms]), force_std=1e-6)(atoms)  # it was learned
    near = atoms.copy()
    near.positions[1] = near.positions[0] + [0.4, 0.0, 0.0]
    with pytest.raises(DynamicsError, match="atoms [01] and [01] are 0.41 times the sum"):
        watch(begun, near, distance=0.5)(near)


def test_the_closest_pair_is_that_of_all_distances():
    atoms = Atoms("OHH", [[0, 0, 0], [0.7, 0, 0], [0, 0, 2.0]])
    relative, i, j = closest(atoms, 0.9)
    assert {i, j} == {0, 1} and np.isclose(relative, 0.7 / (0.66 + 0.31))
    assert closest(atoms, 0.5)[0] == np.inf
    assert closest(molecule("H2O"), 0.55)[0] == np.inf


def frames(n, seed=3):
    rng = np.random.default_rng(seed)
    cell = 8.0 * np.eye(3)
    made = []
    for k in range(n):
        atoms = cluster(rng, 2)
        made.append(
            Structure(
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=cell,
                pbc=True,
                energy=atoms.get_potential_energy(),
                forces=atoms.get_forces(),
                source="frames",
                frame=k,
            )
        )
    return Dataset.from_structures(made)


def without_labels(data):
    return Dataset.from_structures(
        [Structure(numbers=s.numbers, positions=s.positions, cell=s.cell, pbc=s.pbc) for s in data]
    )


def moved(data, by):
    """The data set with positions moved, (n_atom, 3) or (3,)."""
    import dataclasses

    return dataclasses.replace(data, positions=data.positions + by)


def test_labels_are_known_by_their_geometry_in_any_order():
    data = frames(4)
    lattice = 8.0 * np.random.default_rng(0).integers(-1, 2, data.positions.shape)
    given = moved(data, lattice + 1e-4).take([2, 0, 3, 1])
    found = labels.match(without_labels(data), given)
    assert [s.energy for s in found] == data.energy.tolist()
    assert all(np.array_equal(s.positions, data[k].positions) for k, s in enumerate(found))


def test_what_was_not_asked_for_and_what_has_no_forces_is_refused():
    data = frames(3)
    with pytest.raises(DataError, match="frames, frame 1: is none of the frames that were asked for"):
        labels.match(without_labels(data), concatenate([data.take([0]), moved(data, 0.01).take([1])]))
    bare = without_labels(data)
    with pytest.raises(DataError, match="has no energy, or not all forces"):
        labels.match(bare, bare.take([1]))


def test_labels_are_known_in_another_order_of_the_atoms():
    data = frames(3)
    by_element = np.concatenate(
        [start + np.argsort(-s.numbers, kind="stable") for start, s in zip(data.start, data)]
    )
    arrays = {name: getattr(data, name)[by_element] for name in ("numbers", "positions", "forces")}
    given = moved(replace(data, **arrays), 8.0)
    assert not np.array_equal(given.numbers, data.numbers)
    for k, s in enumerate(labels.match(without_labels(data), given)):
        assert np.array_equal(s.forces, data[k].forces) and np.array_equal(s.positions, data[k].positions)
    swapped = replace(given, numbers=np.roll(given.numbers, 1))
    with pytest.raises(DataError, match="frames, frame 0: is none of the frames that were asked for"):
        labels.match(without_labels(data), swapped)


def test_which_of_two_atoms_at_one_place_is_meant_is_not_guessed():
    a = Structure(numbers=[1, 1, 8], positions=[[0, 0, 0], [5e-4, 0, 0], [1, 0, 0]])
    b = Structure(numbers=[8, 1, 1], positions=[[1, 0, 0], [0, 0, 0], [5e-4, 0, 0]])
    assert labels.order_of(a, b) is None
    assert labels.order_of(a, a).tolist() == [0, 1, 2]


def test_a_frame_that_was_chosen_twice_gets_its_labels_twice():
    data = frames(2)
    found = labels.match(without_labels(data.take([0, 1, 0])), data)
    assert [s.energy for s in found] == [data.energy[0], data.energy[1], data.energy[0]]


def test_what_one_labeller_could_not_label_another_may(tmp_path, monkeypatch):
    chosen, (comm, log), asked = without_labels(frames(3)), quiet(), []
    label = lambda by: labels.by_calculator(chosen, LabelBy(by=by), tmp_path / "labels", comm, log)  # noqa: E731

    def labels_of(s, calculator):
        asked.append(s)
        if len(asked) == 2:
            raise DataError("it broke")
        return {"energy": 1.0, "forces": np.zeros((len(s.numbers), 3))}

    monkeypatch.setattr(labels, "labels_of", labels_of)
    assert len(label("ase:emt")) == 2 and log.kept[-1] == "warning: left out: it broke"
    assert len(label("ase:emt")) == 2 and len(asked) == 3
    assert len(label("ase:ase.calculators.emt.EMT")) == 3 and len(asked) == 4


def test_a_calculator_that_labels_nothing_may_be_mended(tmp_path, monkeypatch):
    chosen, (comm, log) = without_labels(frames(2)), quiet()

    def fail(s, calculator):
        raise DataError(f"the pseudopotential is not there ({s.name})")

    with monkeypatch.context() as patch:
        patch.setattr(labels, "labels_of", fail)
        with pytest.raises(DataError, match="none of 2 frames could be labelled, .* pseudopotential"):
            labels.by_calculator(chosen, LabelBy(by="ase:emt"), tmp_path / "labels", comm, log)
    assert len(labels.by_calculator(chosen, LabelBy(by="ase:emt"), tmp_path / "labels", comm, log)) == 2


def test_forces_that_are_all_too_large_leave_nothing():
    data, (_, log) = frames(3), quiet()
    largest = np.abs(data.forces).max()
    assert labels.without_large_forces(data, largest, log) is data
    with pytest.raises(DataError, match=f"label.max_force = 0.0001 .* the largest is {largest:.4g}"):
        labels.without_large_forces(data, 1e-4, log)


def test_that_no_more_labels_will_come_where_there_is_none_is_an_error(tmp_path):
    (tmp_path / "labels-complete").touch()
    with pytest.raises(DataError, match="labels-complete: says that no more labels .* any of the 3 frames"):
        labels.by_files(without_labels(frames(3)), LabelBy(), tmp_path, quiet()[1])


def test_labels_may_come_one_after_the_other(tmp_path):
    data, (_, log) = frames(3), quiet()
    chosen = without_labels(data)
    with pytest.raises(Interrupted, match="of the 3 frames in .*to-label.extxyz.* none is there yet"):
        labels.by_files(chosen, LabelBy(), tmp_path, log)
    wanted = mpnnp.read(tmp_path / "to-label.extxyz")
    assert np.array_equal(wanted.positions, data.positions)
    (tmp_path / "labels").mkdir()
    write_extxyz(tmp_path / "labels" / "b.extxyz", data.take([2]))
    with pytest.raises(Interrupted, match=r"1 of 3 are there, missing are frames 0, 1 \(from 0\)"):
        labels.by_files(chosen, LabelBy(), tmp_path, log)
    (tmp_path / "labels-complete").touch()
    assert len(labels.by_files(chosen, LabelBy(), tmp_path, log)) == 1
    write_extxyz(tmp_path / "labelled.extxyz", data.take([1, 0]))
    assert np.array_equal(labels.by_files(chosen, LabelBy(), tmp_path, log).energy, data.energy)
    (tmp_path / "round").mkdir()
    labels.put_away(tmp_path, tmp_path / "round")
    labels.put_away(tmp_path, tmp_path / "round")  # a second time, after a kill
    assert [path.name for path in tmp_path.iterdir()] == ["round"]


def job(folder, data, k, name="job.out"):
    """A folder as a batch job of CP2K leaves it: input, its coordinates, output, forces in a file."""
    folder.mkdir(parents=True)
    s = data[k]
    rows = [f"{chemical_symbols[z]} {x} {y} {w}" for z, (x, y, w) in zip(s.numbers, s.positions)]
    (folder / "coord.xyz").write_text("\n".join([f"{len(s)}", "frame", *rows, ""]))
    (folder / "include.xyz").write_text("\n".join(rows) + "\n")  # without the number of atoms
    (folder / "job.inp").write_text("&GLOBAL\n  PROJECT w\n&END GLOBAL\n")
    (folder / "job.sh").write_text("#!/bin/bash\ncp2k.popt job.inp > job.out\n")
    forces = [f"{row.split()[0]} {x} {y} {w}" for row, (x, y, w) in zip(rows, s.forces)]
    comment = f" i = 0, time = 0.000, E = {s.energy / HARTREE}"
    (folder / "w-frc-1.xyz").write_text("\n".join([f"{len(s)}", comment, *forces, ""]))
    (folder / name).write_text(cp2k_output(s))


def cp2k_output(s):
    """A single point of CP2K with the labels of a Structure."""
    head = single_point("2024.1", f"[a.u.]: {s.energy / HARTREE:20.14f}")
    before, _, after = head.partition(ATOMS)
    for axis, row in zip("abc", s.cell):
        at = before.index(f"Vector {axis}")
        line = before[at : before.index("\n", at)]
        before = before.replace(line, f"Vector {axis} [angstrom]:  {' '.join(f'{x:.6f}' for x in row)}  |")
    symbols = [chemical_symbols[z] for z in s.numbers]
    atoms = ["", "   Atom Kind Element X Y Z Z(eff) Mass"]
    atoms += [
        f"   {i + 1:4d}    1 {e:2s} {z:4d} {' '.join(f'{x:14.8f}' for x in row)}  1.0  1.0"
        for i, (e, z, row) in enumerate(zip(symbols, s.numbers, s.positions))
    ]
    unit = HARTREE / BOHR
    forces = [
        "",
        " ATOMIC FORCES in [a.u.]",
        "",
        " # Atom   Kind   Element          X              Y            Z",
    ]
    forces += [
        f"   {i + 1:4d}    1      {e:2s} {' '.join(f'{x / unit:16.10f}' for x in row)}"
        for i, (e, row) in enumerate(zip(symbols, s.forces))
    ]
    return before + "\n".join(atoms) + "\n" + after + "\n".join(forces) + "\n\n PROGRAM ENDED AT\n"


def test_inputs_beside_outputs_are_no_labels(tmp_path):
    """Whole folders of jobs are given; outputs are known by what they are, whatever their names."""
    data, (_, log) = frames(3), quiet()
    chosen = without_labels(data)
    for k, name in enumerate(("job.out", "cp2k.log", "w.result")):
        job(tmp_path / "labels" / f"job-{k}", data, k, name)
    found = labels.by_files(chosen, LabelBy(), tmp_path, log)
    assert found.energy == pytest.approx(data.energy, abs=1e-8)
    assert found.forces == pytest.approx(data.forces, abs=1e-6)
    told = "\n".join(log.kept)
    assert "not read, as others in their folders have the labels: " in told and "coord.xyz" in told
    assert "not read, as their format is not known: " in told and "job.sh" in told


def test_folders_of_jobs_that_have_not_ended_are_waited_for(tmp_path):
    data, (_, log) = frames(2), quiet()
    for k in range(2):
        job(tmp_path / "labels" / f"job-{k}", data, k)
    (tmp_path / "labels" / "job-1" / "job.out").unlink()
    for name in ("include.xyz", "w-frc-1.xyz"):
        (tmp_path / "labels" / "job-1" / name).unlink()
    with pytest.raises(Interrupted, match="1 of 2 are there, missing is frame 1"):
        labels.by_files(without_labels(data), LabelBy(), tmp_path, log)
    assert any("no labels in 1 file (coord.xyz)" in line for line in log.kept)


def test_a_file_of_labels_that_cannot_be_read_is_an_error_where_nothing_else_has_them(tmp_path):
    data, (_, log) = frames(1), quiet()
    (tmp_path / "labels" / "a").mkdir(parents=True)
    write_extxyz(tmp_path / "labels" / "a" / "b.extxyz", data)
    text = (tmp_path / "labels" / "a" / "b.extxyz").read_text()
    (tmp_path / "labels" / "a" / "b.extxyz").write_text(text[:-200])
    with pytest.raises(DataError, match="b.extxyz, frame 0"):
        labels.by_files(without_labels(data), LabelBy(), tmp_path, log)
    write_extxyz(tmp_path / "labels" / "a" / "b.extxyz", replace(data, forces=np.nan * data.forces))
    with pytest.raises(DataError, match="has no energy, or not all forces"):
        labels.by_files(without_labels(data), LabelBy(), tmp_path, log)


def test_labels_are_looked_for_under_the_names_of_the_data(tmp_path):
    """Names that nobody would guess; outputs that do not have them keep their own."""
    data, (_, log) = frames(2), quiet()
    atoms = Atoms(data[0].numbers, data[0].positions, cell=data[0].cell, pbc=True)
    atoms.info["my_e"], atoms.arrays["my_f"] = data.energy[0], data[0].forces
    write(tmp_path / "labelled.extxyz", atoms)
    job(tmp_path / "labels" / "job", data, 1)
    keys = {"energy_key": "my_e", "forces_key": "my_f", "stress_key": None}
    with pytest.raises(DataError, match="has no energy"):
        labels.by_files(without_labels(data), LabelBy(), tmp_path, log)
    found = labels.by_files(without_labels(data), LabelBy(), tmp_path, log, keys)
    assert found.energy == pytest.approx(data.energy, abs=1e-7)
    assert found.forces == pytest.approx(data.forces, abs=1e-6)


def test_the_state_survives_its_file(tmp_path):
    state = State(
        phase="label", inflation=2.0, rounds=(Round(0, 20, stops=3, simulated_ps=1.5), Round(1, 26))
    )
    write_state(tmp_path / "state.json", state)
    assert read_state(tmp_path / "state.json") == state
    assert state.rounds[0].stops_per_ps == 2.0 and Round(0, 1, stops=1).stops_per_ps == float("inf")
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(mpnnp.errors.CheckpointError, match="state.json"):
        read_state(tmp_path / "state.json")


def simulations_of_a_round(loop, monkeypatch, stopped):
    """(numbers of the cases that simulate_phase asked for, its State); those in `stopped` are stopped."""
    asked = []

    def simulate(all_cases, numbers, *arguments):
        asked.append(list(numbers))
        found = {k: {"status": "failed" if k in stopped else "finished", "time_ps": 0.5} for k in numbers}
        for k, outcome in found.items():
            folder = loop.round_folder / rounds.SIMULATIONS / all_cases[k].name
            folder.mkdir(parents=True)
            (folder / "status.json").write_text(json.dumps(outcome))
        return found

    for name in ("checkpoint_of", "draw_deviations", "everything"):
        monkeypatch.setattr(rounds, name, lambda *arguments: SimpleNamespace(potential=None))
    monkeypatch.setattr(table, "mean_density", lambda *arguments: None)
    monkeypatch.setattr(rounds, "simulate", simulate)
    return asked, rounds.simulate_phase(loop)


def test_what_was_stopped_is_simulated_first_and_the_rest_only_if_it_can_be_the_end(
    begun, tmp_path, monkeypatch
):
    learning, config = read_learning(begun / "learn.toml")
    n = len(cases(learning))
    assert n > 1
    loop = Loop(learning, config, tmp_path, *quiet(), State(rounds=(Round(0, 8),)))
    asked, state = simulations_of_a_round(loop, monkeypatch, stopped={1})
    assert asked == [list(range(n))] and state.current.stops == 1
    for stopped, expected, ending in (
        ({1}, [[1]], ""),
        ((), [[1], [0, *range(2, n)]], "the simulations last"),
    ):
        loop.state = state.with_current(new_labels=1).next_round()
        asked, state = simulations_of_a_round(loop, monkeypatch, stopped)
        assert asked == expected and state.ending == ending
    folders = [rounds.last_folder(loop, case, 2).parts[-3] for case in cases(learning)]
    assert folders == ["002"] * n
    assert rounds.last_folder(loop, cases(learning)[0], 1).parts[-3] == "000"


def with_another(learning):
    """The settings with a simulation before the others."""
    new = learning.simulations[0].model_copy(update={"temperature": [450.0]})
    return learning.model_copy(update={"simulations": [new, *learning.simulations]})


def test_a_new_simulation_renames_no_other_and_is_simulated_first(begun, tmp_path, monkeypatch):
    learning, config = read_learning(begun / "learn.toml")
    before, after = cases(learning), cases(with_another(learning))
    assert after[-len(before) :] == before
    longer = learning.simulations[0].model_copy(update={"time": 2.0})
    same = cases(learning.model_copy(update={"simulations": [longer]}))
    assert [case.name for case in same] == [case.name for case in before]
    twice = cases(learning.model_copy(update={"simulations": 2 * learning.simulations}))
    assert len({case.seed for case in twice}) == len(twice)
    loop = Loop(learning, config, tmp_path, *quiet(), State(rounds=(Round(0, 8),)))
    _, state = simulations_of_a_round(loop, monkeypatch, stopped={1})
    loop = replace(loop, learning=with_another(learning), state=state)
    n_new = len(after) - len(before)
    assert [rounds.last_folder(loop, case, 0) is None for case in after] == [True] * n_new + [False] * len(
        before
    )
    loop.state = state.with_current(new_labels=1).next_round()
    asked, _ = simulations_of_a_round(loop, monkeypatch, stopped={0})
    assert asked == [[*range(n_new), n_new + 1]]


def test_a_start_that_simulations_have_in_common_is_labelled_once(tmp_path):
    box, learned = water_box(4, 1.0, seed=1), Dataset.from_structures([])
    wide = box.copy()
    wide.set_cell(1.01 * box.cell.array)  # the same positions, another structure
    for k, first in enumerate((box, box, wide)):
        folder = tmp_path / "rounds" / "simulations" / f"case-{k}"
        folder.mkdir(parents=True)
        later = first.copy()
        later.rattle(0.01, seed=k)
        write(folder / "trajectory.xyz", [first, later], format="extxyz", parallel=False)
        (folder / "status.json").write_text('{"status": "failed"}')
    folders = sorted((tmp_path / "rounds" / "simulations").iterdir())
    found = candidates(folders, Stop(distance=0.1), learned)
    assert [s.frame for s in found] == [0, 1, 1, 0, 1]
    known = found.take([0])
    assert [s.frame for s in candidates(folders, Stop(distance=0.1), known)] == [1, 1, 0, 1]


def test_a_learning_leaves_table_data_and_potential(learned):
    folder, state = learned
    assert state.ending and state.current.labels == 12 and len(state.rounds) >= 2
    data = mpnnp.read(folder / "data.extxyz")
    assert len(data) == state.current.labels and np.isfinite(data.forces).all()
    potential = mpnnp.load(folder / "checkpoint.h5")
    assert potential.elements == (1, 8)
    rows = (folder / "rounds.csv").read_text().splitlines()
    assert len(rows) == 1 + len(state.rounds) and rows[0].startswith("round,labels,")
    assert (folder / "rounds.png").stat().st_size > 5000
    assert all(row.new_labels and row.force_error > 0 for row in state.rounds[:-1])


def test_the_data_of_a_learning_keep_marks_and_energies_of_isolated_atoms(begun, tmp_path):
    learning, config = read_learning(begun / "learn.toml")
    data = mpnnp.read(begun / "start.extxyz")
    marked = replace(data, marks=np.where(np.arange(len(data)) < 2, 2, 1), isolated={1: -1.0, 8: -3.0})
    write_extxyz(tmp_path / "marked.extxyz", marked)
    section = {"files": [str(tmp_path / "marked.extxyz")], "cache": str(tmp_path / "cache")}
    config = config.with_keys("data", **section)
    loop = Loop(learning, config, tmp_path, *quiet(), State(rounds=(Round(0, 8),)))
    loop.folder_of(0).mkdir(parents=True)
    rounds.train_phase(loop)
    found = mpnnp.read(tmp_path / "data.extxyz")
    assert found.marks.tolist() == marked.marks.tolist() and found.isolated == marked.isolated


def test_the_picture_of_the_rounds_has_errors_also_where_all_simulations_were_stopped_at_once(
    tmp_path, monkeypatch
):
    drawn = []
    monkeypatch.setattr(table, "save", lambda picture, path: drawn.append(picture))
    rows = (
        Round(
            0, 20, simulated_ps=0.0, stops=2, new_labels=2, energy_error=1.1, force_error=168.0, density=1.0
        ),
        Round(1, 22, simulated_ps=0.2, density=1.02),
    )
    table.draw(tmp_path / "rounds.png", State(rounds=rows))
    shown = [axis.lines[0].get_xydata().tolist() for axis in drawn[0].axes[:4]]
    assert shown == [[[20, 1.1]], [[20, 168.0]], [[22, 0.0]], [[20, 1.0], [22, 1.02]]]


def test_new_labels_are_those_of_the_teacher(begun, learned):
    labelled = mpnnp.read(learned[0] / "rounds" / "000" / "labelled.h5")
    said = mpnnp.evaluate(mpnnp.load(begun / "teacher" / "checkpoint.h5"), labelled)
    assert np.allclose(said.energy, labelled.energy, atol=1e-8)


def test_a_finished_learning_is_left_as_it_is(begun, learned):
    folder, state = learned
    before = (folder / "checkpoint.h5").read_bytes()
    learning, config = read_learning(begun / "learn.toml")
    comm, log = quiet()
    assert learn(learning, config, folder, comm, log) == state
    assert (folder / "checkpoint.h5").read_bytes() == before
    assert not [line for line in log.kept if line.startswith("warning")]
    assert learn(with_another(learning), config, folder, comm, log) == state
    assert any("this learning has ended without nvt-450K-" in line for line in log.kept)


def give_labels(begun, folder):
    """labelled.extxyz in the folder of a learning, by the teacher."""
    teacher, given = mpnnp.load(begun / "teacher" / "checkpoint.h5"), []
    for s in mpnnp.read(folder / "to-label.extxyz"):
        energy, forces = teacher.energy_forces(s)
        given.append(Structure(numbers=s.numbers, positions=s.positions, energy=energy, forces=forces))
    write_extxyz(folder / "labelled.extxyz", Dataset.from_structures(given))


def test_labels_from_files_lead_to_the_same_potential(begun, learned, tmp_path):
    """The loop ends with status 75 until the labels of each round are there."""
    learning, config = read_learning(begun / "learn.toml", ["label.by=files"])
    for _ in range(10):
        try:
            learn(learning, config, tmp_path, *quiet())
            break
        except Interrupted as error:
            assert error.exit_status == 75 and "to-label.extxyz" in str(error)
            give_labels(begun, tmp_path)
    assert suite.data_of(tmp_path) == pytest.approx(suite.data_of(learned[0]), abs=1e-9)


def test_the_command_runs_on_two_ranks_and_ends_with_75_while_labels_are_missing(begun, tmp_path):
    result = run_on_ranks(
        2,
        "-m",
        "mpnnp",
        "learn",
        begun / "learn.toml",
        "-o",
        tmp_path / "x",
        "--set",
        "label.by=files",
        check=False,
    )
    assert result.returncode == 75, result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("mpnnp: ")]
    assert len(said) == 1 and "labels are wanted" in said[0]
    assert json.loads((tmp_path / "x" / "state.json").read_text())["phase"] == "label"


def test_wrong_labels_lose_nothing(begun, tmp_path):
    learning, config = read_learning(begun / "learn.toml", ["label.by=files"])
    with pytest.raises(Interrupted):
        learn(learning, config, tmp_path, *quiet())
    shutil.copy(begun / "start.extxyz", tmp_path / "labelled.extxyz")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.h5")}
    with pytest.raises(
        DataError, match="labelled.extxyz, frame 0: is none of the frames that were asked for"
    ):
        learn(learning, config, tmp_path, *quiet())
    assert (tmp_path / "labelled.extxyz").exists() and (tmp_path / "to-label.extxyz").exists()
    assert all(path.read_bytes() == content for path, content in before.items())


def test_labels_that_are_all_left_out_may_be_taken_by_another_limit(begun, learned, tmp_path):
    learning, config = read_learning(begun / "learn.toml", ["label.max_force=0.0001"])
    with pytest.raises(DataError, match="all 2 labelled frames have forces above label.max_force"):
        learn(learning, config, tmp_path, *quiet())
    assert not (tmp_path / "rounds" / "000" / "labelled.h5").exists()
    learn(*read_learning(begun / "learn.toml"), tmp_path, *quiet())
    assert suite.data_of(tmp_path).tolist() == suite.data_of(learned[0]).tolist()


def test_marks_of_the_first_data_are_not_asked_of_new_labels(begun, tmp_path):
    data = mpnnp.read(begun / "start.extxyz")
    write_target(tmp_path / "marked.h5", replace(data, marks=np.array([1] * 7 + [2])))
    files = f"data.files={tmp_path / 'marked.h5'}"
    learning, config = read_learning(begun / "learn.toml", [files, "data.split=file", "end.rounds=1"])
    assert len(learn(learning, config, tmp_path / "run", *quiet()).rounds) == 2
    config = read_config(tmp_path / "run" / "rounds" / "000" / "training" / "config.toml")
    assert config.data.split == "file"


def test_a_simulation_may_be_added_while_labels_are_awaited(begun, tmp_path):
    learning, config = read_learning(begun / "learn.toml", ["label.by=files", "end.rounds=1"])
    with pytest.raises(Interrupted):
        learn(learning, config, tmp_path, *quiet())
    give_labels(begun, tmp_path)
    more = with_another(learning)
    state = learn(more, config, tmp_path, *quiet())
    folder = tmp_path / "rounds" / "001" / "simulations"
    new = {case.name for case in cases(more)} - {case.name for case in cases(learning)}
    assert len(state.rounds) == 2 and new <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"start": "gone.xyz"}, "gone.xyz: no such file"),
        ({"start": "salt.xyz"}, "salt.xyz: contains Na Cl, the data to learn from only H O"),
        ({"ensemble": "npt"}, "npt"),
        ({"by": "ase:nonsense"}, "ase:nonsense: no such calculator"),
        ({"by": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_start_or_label_is_noticed_before_anything_is_learned(begun, tmp_path, change, message):
    Atoms("NaCl", [[0, 0, 0], [2.4, 0, 0]]).write(tmp_path / "salt.xyz", parallel=False)
    learning, config = read_learning(begun / "learn.toml")
    if "by" in change:
        how = learning.label.model_copy(update=change)
        learning = learning.model_copy(update={"label": how})
    else:
        if "start" in change:
            change = {"start": [str(tmp_path / change["start"])]}
        first = learning.simulations[0].model_copy(update=change)
        learning = learning.model_copy(update={"simulations": [first]})
    with pytest.raises((DataError, ConfigError, CheckpointError), match=message):
        learn(learning, config, tmp_path / "run", *quiet())
    assert list((tmp_path / "run" / "rounds").iterdir()) == []


def test_a_learning_that_has_lost_its_folder_writes_nothing(begun, tmp_path, monkeypatch):
    def lost(lock):
        raise CheckpointError("another process has taken it over")

    monkeypatch.setattr(RunLock, "check", lost)
    with pytest.raises(CheckpointError, match="taken it over"):
        learn(*read_learning(begun / "learn.toml"), tmp_path, *quiet())
    assert not (tmp_path / "state.json").exists() and list((tmp_path / "rounds").iterdir()) == []


def test_a_learner_whose_next_job_is_refused_has_failed(tmp_path):
    """The batch script ends with an error, and asks for the same labels when it is submitted again: those of
    all frames, also of molecules without a cell. An array of labels for which no one would wait is ended.
    """
    run, frames = tmp_path / "run", tmp_path / "frames.extxyz"
    run.mkdir()
    molecule = Structure(numbers=[8, 1], positions=np.eye(3)[:2], cell=np.zeros((3, 3)), pbc=False)
    crystal = replace(molecule, cell=5.0 * np.eye(3), pbc=np.full(3, True))
    write_extxyz(frames, Dataset.from_structures([molecule, crystal, molecule]))
    programs = {
        "mpnnp": f"cp {frames} {run / 'to-label.extxyz'}; exit 75",
        "sbatch": f"echo sbatch $@ >> {run / 'submitted'}; exit 1",
        "scancel": f"echo $@ >> {run / 'cancelled'}",
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MPNNP_LAUNCH": "env"}
    for _ in range(2):
        words = ["bash", "jobs/learn/learn.sbatch", "learn.toml", run, "ase:emt"]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "could not be submitted: submit it again" in done.stdout
        assert not (run / "labels-asked").exists()
    assert (run / "submitted").read_text().count("--array=0-2 ") == 2
    assert not (run / "cancelled").exists()
    (tmp_path / "sbatch").write_text('#!/bin/bash\n[[ "$*" == *label.sh* ]] && echo "7;here"\n')
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "could not be submitted: submit it again" in done.stdout
    assert (run / "cancelled").read_text() == "7\n" and not (run / "labels-asked").exists()


def test_what_sbatch_was_told_is_handed_on_to_the_jobs_behind(tmp_path):
    """On its command line: the file need not say it. The labels have a size and a time of their own."""
    run, submitted = tmp_path / "run", tmp_path / "submitted"
    run.mkdir()
    structure = Structure(numbers=[8, 1], positions=np.eye(3)[:2], cell=np.zeros((3, 3)), pbc=False)
    write_extxyz(tmp_path / "frames.extxyz", Dataset.from_structures([structure]))
    programs = {
        "mpnnp": f"cp {tmp_path}/frames.extxyz {run}/to-label.extxyz; exit 75",
        "sbatch": f'printf "%s|" "$@" >> {submitted}; echo >> {submitted}; echo 7',
        "squeue": '[ "$2" = --jobs=3 ] && echo 1-06:00:00',
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    jobs = tmp_path / "jobs" / "learn"
    shutil.copytree(ROOT / "jobs" / "learn", jobs)
    of_slurm = {"JOB_ID": "3", "JOB_ACCOUNT": "chem", "JOB_PARTITION": "long", "JOB_QOS": "(null)"}
    of_slurm |= {"NTASKS": "32", "MEM_PER_CPU": "2000"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {f"SLURM_{name}": value for name, value in of_slurm.items()}
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MPNNP_LAUNCH": "env"}

    def options():
        submitted.write_text("")
        words = ["bash", "jobs/learn/learn.sbatch", "learn.toml", run, "ase:emt"]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        shutil.rmtree(run / "labels")
        (run / "labels-asked").unlink()
        return [
            {word for word in line.split("|") if word.startswith("--")}
            for line in submitted.read_text().splitlines()
        ]

    labels, learner = options()
    assert labels == {"--parsable", "--array=0-0", "--account=chem", "--partition=long"}
    assert learner == {
        "--dependency=afterany:7",
        "--account=chem",
        "--partition=long",
        "--time=1-06:00:00",
        "--ntasks=32",
        "--mem-per-cpu=2000",
    }
    script = jobs / "label.sh"
    script.write_text(script.read_text().replace("##SBATCH --partition=PARTITION", "#SBATCH --partition=dft"))
    labels, learner = options()
    assert "--partition=long" not in labels and {"--account=chem"} < labels and "--partition=long" in learner
