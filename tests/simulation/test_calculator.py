"""The calculator for ASE: energies, forces, stress, reused pairs, ensembles, extrapolations,
uncertainty, ranks.
"""

import copy
import os
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_stress
from ase.io import read
from conftest import DATA
from launch import on_ranks
from small import quiet, small_config, write_clusters

from mpnnp import Calculator, load
from mpnnp.data.formats import read_sources
from mpnnp.errors import DataError, DynamicsError
from mpnnp.kernels.atomic_virials import virials_of_pairs
from mpnnp.kernels.pairs import energy_forces_of_pairs, find_pairs
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.parallel import serial
from mpnnp.simulation.calculator import NoPrediction
from mpnnp.training.checkpoint import read_checkpoint
from mpnnp.training.train import train

FOLDER = DATA / "predict_acsf_cos"  # four cubic frames, a triclinic one, a cluster without a cell


def frames():
    data = read_sources(FOLDER / "input.data")
    return [Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc) for s in data]


def tiny():
    """Three atoms in a skew cell smaller than the cutoff."""
    cell = [[3.1, 0.0, 0.0], [0.9, 3.3, 0.0], [-0.7, 0.5, 3.0]]
    return Atoms("OHH", [[0.1, 0.0, 0.2], [0.95, 0.3, 0.1], [-0.2, 0.9, 0.4]], cell=cell, pbc=True)


def systems():
    all_frames = frames()
    periodic = [a for a in all_frames if a.pbc.all()]
    skew = [a for a in periodic if np.abs(a.cell.array - np.diag(np.diag(a.cell.array))).max() > 0]
    return {"cubic": periodic[0], "triclinic": skew[0], "smaller than the cutoff": tiny()}


@pytest.mark.parametrize("k", range(6))
def test_results_are_bitwise_those_of_evaluate(k):
    atoms = frames()[k]
    prediction = load(FOLDER).predict(atoms)
    atoms.calc = Calculator(FOLDER)
    assert atoms.get_potential_energy() == prediction.energy
    assert np.array_equal(atoms.get_forces(), prediction.forces)
    assert np.array_equal(atoms.get_potential_energies(), prediction.energies)
    assert atoms.get_potential_energy(force_consistent=True) == prediction.energy
    assert atoms.get_potential_energies().sum() == pytest.approx(prediction.energy, rel=1e-14)


@pytest.mark.parametrize("name", systems())
def test_stress_is_the_derivative_of_the_energy_by_strain(name):
    atoms = systems()[name]
    atoms.calc = Calculator(FOLDER)
    stress, cell, volume = atoms.get_stress(voigt=False), atoms.cell.array, atoms.get_volume()
    numerical, h = np.zeros((3, 3)), 1e-4
    for i in range(3):
        for j in range(i + 1):
            for k, c in ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)):  # fourth order
                strain = np.eye(3)
                strain[i, j] += 0.5 * k * h
                strain[j, i] += 0.5 * k * h
                strained = atoms.copy()
                strained.set_cell(cell @ strain, scale_atoms=True)
                strained.calc = atoms.calc
                numerical[i, j] += c * strained.get_potential_energy() / (12.0 * h * volume)
            numerical[j, i] = numerical[i, j]
    assert stress == pytest.approx(numerical, abs=2e-7 * np.abs(stress).max())


def test_a_slab_has_the_stress_of_its_cell_and_a_molecule_none():
    atoms = systems()["triclinic"]
    atoms.pbc = [True, True, False]
    atoms.center(vacuum=5.0, axis=2)
    atoms.calc = Calculator(FOLDER)
    stress = atoms.get_stress()
    assert stress == pytest.approx(calculate_numerical_stress(atoms, eps=1e-5), abs=1e-6 * abs(stress).max())
    flat = atoms.cell.array * [[1.0], [1.0], [0.0]]
    for cell, pbc in ((atoms.cell.array.copy(), False), (flat, [True, True, False])):
        atoms.set_cell(cell)
        atoms.pbc = pbc
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()


@pytest.mark.parametrize("name", systems())
def test_stresses_of_atoms_add_up_and_are_those_of_the_repeated_cell(name):
    atoms = systems()[name]
    two = [load(FOLDER), load(FOLDER)]
    two[1] = replace(two[1], weights=0.9 * two[1].weights)
    atoms.calc = Calculator(two)
    stress, stresses = atoms.get_stress(), atoms.get_stresses()
    np.testing.assert_allclose(stresses.sum(axis=0), stress, rtol=0, atol=1e-12 * abs(stresses).max())
    large = atoms.repeat((2, 1, 1))
    large.calc = atoms.calc
    expected = np.tile(stresses, (2, 1)) / 2
    np.testing.assert_allclose(large.get_stresses(), expected, rtol=0, atol=1e-10 * abs(stresses).max())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies_give_the_same_bits_and_compile_nothing(again):
    atoms = systems()["cubic"]
    atoms.calc = Calculator([load(FOLDER), load(FOLDER)])
    atoms.get_stresses()
    kernels = energy_forces_of_pairs, find_pairs, virials_of_pairs
    compiled = [len(getattr(kernel, "signatures", ())) for kernel in kernels]
    other = again(atoms)
    assert other.calc is not atoms.calc and other.calc.results.keys() == atoms.calc.results.keys()
    assert np.array_equal(other.calc.get_property("stresses", other), atoms.get_stresses())
    for a in atoms, other:
        a.rattle(0.1, seed=3)
    for name in "energy", "forces", "stresses":
        assert np.array_equal(*(a.calc.get_property(name, a) for a in (atoms, other)))
    assert [len(getattr(kernel, "signatures", ())) for kernel in kernels] == compiled


def test_a_calculator_has_a_name_and_says_what_it_is():
    calculator = Calculator([load(FOLDER)] * 2)
    assert calculator.name == "mpnnp"
    assert repr(calculator).startswith("mpnnp.Calculator(2 potentials for H O; energy, ")


@pytest.mark.parametrize("name", systems())
def test_pairs_are_reused_and_change_nothing(name):
    atoms, rng = systems()[name], np.random.default_rng(1)
    calculator, potential = Calculator(FOLDER, skin=0.6), load(FOLDER)
    atoms.calc = calculator
    for step in range(24):
        atoms.positions += rng.normal(scale=0.01, size=atoms.positions.shape)
        if step % 2:  # a barostat at work
            atoms.set_cell(
                atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.002, size=(3, 3))), scale_atoms=True
            )
        if step == 12:
            atoms.wrap()
        prediction = potential.predict(atoms)
        assert atoms.get_potential_energy() == prediction.energy
        assert np.array_equal(atoms.get_forces(), prediction.forces)
    assert 1 <= calculator.pair_list.n_made < 16


def test_a_compressed_cell_makes_the_pairs_anew():
    atoms = systems()["cubic"]
    atoms.calc = Calculator(FOLDER, skin=0.3)
    atoms.get_potential_energy()
    # no atom moves in fractional coordinates, but pairs come nearer
    atoms.set_cell(0.9 * atoms.cell.array, scale_atoms=True)
    assert atoms.get_potential_energy() == load(FOLDER).predict(atoms).energy
    assert atoms.calc.pair_list.n_made == 2


def test_a_slab_whose_cell_changes_reuses_its_pairs():
    atoms = systems()["triclinic"]
    atoms.pbc = [True, True, False]
    atoms.center(vacuum=5.0, axis=2)
    atoms.calc = calculator = Calculator(FOLDER)
    cell, potential = atoms.cell.array, load(FOLDER)
    for step in range(8):
        atoms.set_cell(cell * (1.0 + 1e-3 * np.sin(step)), scale_atoms=True)
        assert atoms.get_forces() == pytest.approx(potential.predict(atoms).forces, rel=1e-10, abs=1e-9)
    assert calculator.pair_list.n_made == 1


def test_another_structure_of_the_same_size_makes_the_pairs_anew():
    first, second = [a for a in frames() if a.pbc.all()][:2]
    calculator = Calculator(FOLDER)
    for atoms in (first, second, first):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == load(FOLDER).predict(atoms).energy


def test_a_large_structure_is_the_sum_of_its_cells():
    cell = tiny()
    cell.calc = Calculator(FOLDER)
    large = cell.repeat((9, 9, 9))
    large.calc = Calculator(FOLDER)
    assert len(large) == 2187
    assert large.get_potential_energy() == pytest.approx(729 * cell.get_potential_energy(), rel=1e-12)
    assert large.get_forces() == pytest.approx(np.tile(cell.get_forces(), (729, 1)), abs=1e-10)
    assert large.get_stress() == pytest.approx(cell.get_stress(), rel=1e-10, abs=1e-14)


def test_a_potential_that_fits_no_ensemble_is_told_by_its_place():
    potential = load(FOLDER)
    other = copy.copy(potential)
    object.__setattr__(other, "functions", SimpleNamespace(elements=(29,)))
    with pytest.raises(DataError, match=r"^potential 2: is for Cu, the first potential for .*: they are no"):
        Calculator([potential, other])


def test_an_ensemble_gives_means_and_standard_deviations():
    potential, rng = load(FOLDER), np.random.default_rng(2)
    members = [
        potential.with_weights(potential.weights + rng.normal(scale=0.01, size=len(potential.weights)))
        for _ in range(3)
    ]
    atoms = systems()["triclinic"]
    single = []
    for member in members:
        atoms.calc = Calculator(member)
        single.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    atoms.calc = Calculator(members)
    energy, forces, stress = (np.array(x) for x in zip(*single))
    assert atoms.get_potential_energy() == pytest.approx(energy.mean(), rel=1e-14)
    assert atoms.get_forces() == pytest.approx(forces.mean(axis=0), abs=1e-12)
    assert atoms.get_stress() == pytest.approx(stress.mean(axis=0), abs=1e-14)
    assert atoms.calc.results["energy_std"] == pytest.approx(energy.std(ddof=1), rel=1e-8)
    assert atoms.calc.results["forces_std"] == pytest.approx(forces.std(axis=0, ddof=1), abs=1e-12)


def test_members_with_other_functions_keep_their_own():
    other = DATA / "predict_acsf_tanh3"
    atoms = systems()["cubic"]
    atoms.calc = Calculator([FOLDER, other])
    expected = [load(path).predict(atoms).energy for path in (FOLDER, other)]
    assert atoms.get_potential_energy() == pytest.approx(np.mean(expected), rel=1e-14)


def narrow(potential, function, width):
    """The potential, as if function number `function` had been trained up to its mean + width only."""
    statistics = potential.scaling.statistics
    maximum = statistics.maximum.copy()
    maximum[function] = width
    return replace(
        potential,
        scaling=replace(potential.scaling, kind="none", statistics=replace(statistics, maximum=maximum)),
    )


def test_extrapolations_are_counted_and_named_and_stop():
    potential, atoms = load(FOLDER), systems()["cubic"]
    hydrogens = np.flatnonzero(atoms.numbers == 1)
    atoms.calc = calculator = Calculator(potential)
    atoms.get_potential_energy()
    before = calculator.extrapolations
    values = calculator.members[0].G[hydrogens, 0]
    limit = np.sort(values)[-3] * (1 + 1e-6)  # two hydrogens above
    atoms.calc = calculator = Calculator(narrow(potential, 0, limit))
    atoms.get_potential_energy()
    own = [e for e in calculator.extrapolating() if e.function == str(potential.functions.functions[0])]
    assert calculator.extrapolations == calculator.extrapolations_in_all >= before + 2 - 1
    assert {e.atom for e in own} == set(hydrogens[values > limit]) and len(own) == 2
    assert all(e.value > e.high == limit for e in own)
    atoms.calc = Calculator(narrow(potential, 0, limit), max_extrapolations=calculator.extrapolations + 1)
    atoms.get_potential_energy()
    atoms.rattle(1e-4)
    for _ in range(2):  # nor is it given when asked again
        with pytest.raises(DynamicsError, match="max_extrapolations"):
            atoms.get_potential_energy()


def test_a_box_without_atoms_has_no_energy_however_often_it_is_asked():
    """As simulations that put in atoms begin."""
    calculator = Calculator(load(FOLDER))
    for _ in range(2):
        calculator.calculate(Atoms(cell=[5.0, 5.0, 5.0], pbc=True))
        assert calculator.results["energy"] == 0.0 and calculator.results["forces"].shape == (0, 3)
        assert calculator.extrapolations == 0 and not calculator.results["stress"].any()


def test_no_extrapolation_is_named_that_is_not_counted():
    """Beyond its range by less than n2p2's tolerance a function counts as inside."""
    potential, atoms = load(FOLDER), systems()["cubic"]
    atoms.calc = calculator = Calculator(potential)
    atoms.get_potential_energy()
    *_, second, _ = np.sort(calculator.members[0].G[atoms.numbers == 1, 0])
    atoms.calc = calculator = Calculator(narrow(potential, 0, second - 100 * np.finfo(float).eps))
    atoms.get_potential_energy()
    assert len(calculator.extrapolating()) == calculator.extrapolations == 1


def ranks_name_those_of_others(comm):
    """Only the last atom extrapolates, which is none of rank 0's."""
    potential, atoms = load(FOLDER), systems()["cubic"]
    calculator = Calculator(potential, comm=comm)
    calculator.calculate(atoms)
    values = np.concatenate(comm.allgather(calculator.members[0].G[:, 0]))
    last, alike = len(atoms) - 1, np.flatnonzero(atoms.numbers == atoms.numbers[-1])
    *_, second, first = alike[np.argsort(values[alike])]
    atoms.positions[[first, last]] = atoms.positions[[last, first]]
    column = potential.functions.table.start[potential.elements.index(atoms.numbers[-1])]
    low = np.full(len(potential.functions.functions), -1e9)
    high = -low
    high[column] = 0.5 * (values[first] + values[second])
    calculator = Calculator(replace(potential, seen=(low, high)), max_extrapolations=0, comm=comm)
    with pytest.raises(DynamicsError, match=f"the last ones: atom {last}: "):
        calculator.calculate(atoms)
    assert [e.atom for e in calculator.first_extrapolating(5)] == [last]
    assert bool(calculator.extrapolating()) == (comm.rank == comm.size - 1)


def test_extrapolations_are_named_whatever_rank_has_them():
    on_ranks(2, ranks_name_those_of_others)


def test_bad_geometries_and_elements_are_told():
    atoms = systems()["cubic"]
    atoms.calc = Calculator(FOLDER)
    atoms.positions[3, 1] = np.nan
    with pytest.raises(DynamicsError, match="finite"):
        atoms.get_potential_energy()
    atoms = systems()["cubic"]
    atoms.calc = Calculator(FOLDER)
    atoms.positions[3] = atoms.positions[4]
    for _ in range(2):
        with pytest.raises(NoPrediction, match="two atoms at the same place"):
            atoms.get_potential_energy()
    collapsed = tiny()
    collapsed.set_cell(collapsed.cell.array * 0.02, scale_atoms=True)
    collapsed.calc = Calculator(FOLDER)
    with pytest.raises(DynamicsError, match="collapsed"):
        collapsed.get_potential_energy()


@pytest.mark.parametrize(
    ("cell", "pbc", "told"),
    [
        (np.zeros((3, 3)), True, "is periodic, but has no cell in these directions"),
        ([[5.0, 0, 0], [10.0, 0, 0], [0, 0, 5.0]], [True, True, False], "has no cell in these directions"),
        (np.diag([1e-4, 1e-4, 1.0]), [True, True, False], r"collapsed to 1e-08 A\^2 for 3 atoms"),
        (np.diag([1e-5, 1.0, 1.0]), [True, False, False], "collapsed to 1e-05 A for 3 atoms"),
    ],
)
def test_cells_that_hold_no_structure_are_refused(cell, pbc, told):
    atoms = tiny()
    atoms.set_cell(cell)
    atoms.pbc = pbc
    atoms.calc = Calculator(FOLDER)
    with pytest.raises(DynamicsError, match=told):
        atoms.get_potential_energy()
    carbon = Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])
    carbon.calc = Calculator(FOLDER)
    with pytest.raises(DataError, match="C; the potential knows H O"):
        carbon.get_potential_energy()


def ranks_agree_on_the_kalman_std(comm):
    """Rank 0 alone holds the covariance."""
    folder = Path(os.environ["MPNNP_TEST_RUN"])
    atoms = read(folder / "other.extxyz", parallel=False)
    atoms.calc = Calculator(folder / "run" / "checkpoint.h5", comm=comm)
    std = atoms.calc.get_property("energy_kalman_std", atoms)
    assert std == pytest.approx(float(os.environ["MPNNP_TEST_STD"]), rel=1e-9)
    assert (atoms.calc.posterior is None) == (comm.rank != 0)


@pytest.mark.parametrize("coupling", ["full", "node"])
def test_kalman_variance_is_the_quadratic_form_of_the_covariance(tmp_path, coupling, monkeypatch):
    comm, log = quiet()
    config = small_config(tmp_path, ekf={"coupling": coupling})
    train(config, tmp_path / "run", comm, log)
    path = tmp_path / "run" / "checkpoint.h5"
    checkpoint = read_checkpoint(path)
    potential, arrays = checkpoint.potential, checkpoint.optimizer
    ekf = make_ekf(config.ekf, potential.network.n_weight, potential.network.segments, serial())
    state = ekf.load_arrays(arrays)
    n = potential.network.n_weight
    inside = state.factor * (
        state.T.multiply(np.eye(n)) - state.U[: state.r].T @ state.U[: state.r] + state.d * np.eye(n)
    )
    P = np.array([ekf._by_weight(row) for row in inside])  # columns in the order of the weights
    P = np.array([ekf._by_weight(column) for column in P.T]).T
    if coupling == "node":  # U couples groups that P does not
        group = np.empty(n, int)
        for g, (a, b) in enumerate(ekf.layout.groups):
            group[ekf.layout.order[a:b]] = g
        P = np.where(group[:, None] == group, P, 0.0)
    atoms = write_clusters(tmp_path / "other.extxyz", n=1, seed=5)[0]
    gradient, h = np.empty(n), 1e-5
    for k in range(n):
        w = potential.weights.copy()
        w[k] += h
        above = potential.with_weights(w).predict(atoms).energy
        w[k] -= 2 * h
        gradient[k] = (above - potential.with_weights(w).predict(atoms).energy) / (
            2 * h * potential.energy_scale
        )
    atoms.calc = Calculator(path)
    energy = atoms.get_potential_energy()
    std = atoms.calc.get_property("energy_kalman_std", atoms)
    assert std == pytest.approx(potential.energy_scale * np.sqrt(gradient @ P @ gradient), rel=1e-5)
    assert std > 0 and atoms.get_potential_energy() == energy
    assert Calculator(path).extrapolating() == []  # before the first evaluation
    monkeypatch.setenv("MPNNP_TEST_RUN", str(tmp_path))
    monkeypatch.setenv("MPNNP_TEST_STD", repr(std))
    on_ranks(2, ranks_agree_on_the_kalman_std)
    listed = Calculator([path], uncertainty=True)  # a list of one is that one
    assert listed.implemented_properties == atoms.calc.implemented_properties
    assert "energy_kalman_std" not in Calculator(tmp_path / "run" / "best.h5").implemented_properties


def ranks_agree(comm):
    for atoms in (systems()["triclinic"], tiny()):  # of the second, some ranks have no atom
        atoms.calc = Calculator(FOLDER, comm=comm)
        own = atoms.copy()
        own.calc = Calculator(FOLDER)
        for _ in range(3):
            assert atoms.get_potential_energy() == pytest.approx(own.get_potential_energy(), rel=1e-13)
            assert atoms.get_forces() == pytest.approx(own.get_forces(), abs=1e-11)
            assert atoms.get_stress() == pytest.approx(own.get_stress(), abs=1e-12)
            assert atoms.get_stresses() == pytest.approx(own.get_stresses(), abs=1e-12)
            assert atoms.calc.extrapolations == own.calc.extrapolations
            everywhere = comm.allgather(atoms.get_forces().tobytes())
            assert len(set(everywhere)) == 1
            atoms.rattle(0.01, seed=comm.rank + 1)  # only rank 0's counts
            own.positions = comm.bcast(atoms.positions)


@pytest.mark.parametrize("n", [2, 4])
def test_ranks_share_out_the_atoms(n):
    on_ranks(n, ranks_agree, seconds=240)
