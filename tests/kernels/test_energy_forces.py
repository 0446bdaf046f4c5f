"""Symmetry functions, energies, forces and virial of one structure."""

import numpy as np
import pytest
from oracles import plain
from oracles.systems import FUNCTIONS, SYSTEMS, evaluate, make_net, n_max, pack, plain_list

from mpnnp.kernels.atomic_energies import energies_and_gradient
from mpnnp.kernels.energy_forces import energy_forces_stored, symmetry_functions
from mpnnp.model.symmetry_functions import SymmetryFunctions, parse_line

MODEL, W = make_net()
everywhere = pytest.mark.parametrize("name", SYSTEMS)


def moved(system, positions=None, cell=None):
    return (
        system[0],
        system[1] if positions is None else positions,
        system[2] if cell is None else cell,
        system[3],
    )


def energy(system):
    return evaluate(system, MODEL, W)[1].sum()


def check_against_plain(system, model, w):
    G, energies, forces, virial = evaluate(system, model, w)
    element, *pairs = plain_list(system, model)
    G_plain, dE_dG, forces_plain, virial_plain = (
        np.empty_like(G),
        np.empty_like(G),
        np.empty_like(forces),
        np.empty((3, 3)),
    )
    plain.symmetry_functions(element, *pairs, model.table, G_plain)
    assert G == pytest.approx(G_plain, rel=1e-12, abs=1e-12 * np.abs(G_plain).max())
    energies_and_gradient(element, G_plain, model, w, energies, dE_dG)
    plain.forces(element, *pairs, model.table, dE_dG, forces_plain, virial_plain)
    terms = np.abs(forces_plain).max() + np.abs(virial_plain).max() + 1e-300
    assert forces == pytest.approx(forces_plain, rel=1e-12, abs=1e-12 * terms)
    assert virial == pytest.approx(virial_plain, rel=1e-12, abs=1e-12 * terms)


@everywhere
def test_fast_kernels_equal_plain_ones(name):
    check_against_plain(SYSTEMS[name], MODEL, W)


def test_lists_longer_than_a_chunk():
    lines = ["H 2 O 0.1 0 8.0", "H 3 O H 0.02 1 1 7.5", "O 3 H H 0.02 -1 2 7.5", "O 13 0.05 0 1 1 6.0"]
    functions = SymmetryFunctions((1, 8), [parse_line(line, 1, length=1.0) for line in lines])
    model, w = make_net(functions)
    element, positions, cell, pbc = SYSTEMS["three atoms in a cell smaller than the cutoff"]
    system = (np.minimum(element, 1), positions * 0.7, cell * 0.7, pbc)
    assert np.diff(plain_list(system, model)[1]).max() > 600
    check_against_plain(system, model, w)


@everywhere
def test_forces_are_minus_the_gradient_of_the_energy(name):
    system = SYSTEMS[name]
    forces, h = evaluate(system, MODEL, W)[2], 2e-4
    numerical = np.zeros_like(forces)
    for i in range(len(forces)):
        for a in range(3):
            for k, c in ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)):  # fourth order
                positions = system[1].copy()
                positions[i, a] += k * h
                numerical[i, a] -= c * energy(moved(system, positions)) / (12 * h)
    assert forces == pytest.approx(numerical, rel=1e-7, abs=1e-7 * np.abs(forces).max() + 1e-10)
    assert forces.sum(axis=0) == pytest.approx(0, abs=1e-12 * (1 + np.abs(forces).max()))


@everywhere
def test_virial_is_the_derivative_by_strain(name):
    system, h = SYSTEMS[name], 1e-4
    virial, numerical = evaluate(system, MODEL, W)[3], np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            for k, c in ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)):
                strain = np.eye(3)
                strain[a, b] += k * h
                numerical[a, b] += (
                    c * energy(moved(system, system[1] @ strain, system[2] @ strain)) / (12 * h)
                )
    assert virial == pytest.approx(numerical, rel=1e-7, abs=1e-7 * np.abs(virial).max() + 1e-10)
    assert virial == pytest.approx(virial.T, abs=1e-12 * (1 + np.abs(virial).max()))


@everywhere
def test_rotation_translation_permutation_and_wrapping_change_nothing(name):
    element, positions, cell, pbc = system = SYSTEMS[name]
    rng = np.random.default_rng(3)
    G, _, forces, _ = evaluate(system, MODEL, W)
    close = dict(rel=1e-10, abs=1e-11)
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotated = evaluate((element, positions @ q, cell @ q, pbc), MODEL, W)
    assert rotated[0] == pytest.approx(G, **close)
    assert rotated[2] == pytest.approx(forces @ q, rel=1e-9, abs=1e-10 * (1 + np.abs(forces).max()))
    assert evaluate(moved(system, positions + rng.normal(size=3)), MODEL, W)[0] == pytest.approx(G, **close)
    order = rng.permutation(len(element))
    assert evaluate((element[order], positions[order], cell, pbc), MODEL, W)[0] == pytest.approx(
        G[order], **close
    )
    images = rng.integers(-3, 4, positions.shape) * np.array(pbc)
    assert evaluate(moved(system, positions + images @ cell), MODEL, W)[0] == pytest.approx(G, **close)


def test_a_larger_cell_has_the_same_energies():
    element, positions, cell, pbc = SYSTEMS["three atoms in a cell smaller than the cutoff"]
    G = evaluate((element, positions, cell, pbc), MODEL, W)[0]
    images = [(i, j, k) for i in range(2) for j in range(3) for k in range(2)]
    large = (
        np.tile(element, 12),
        np.concatenate([positions + np.array(n) @ cell for n in images]),
        cell * np.array([[2], [3], [2]]),
        pbc,
    )
    assert evaluate(large, MODEL, W)[0] == pytest.approx(np.tile(G, (12, 1)), rel=1e-11, abs=1e-12)


def test_stored_functions_give_the_same_forces():
    system = SYSTEMS["triclinic"]
    G, energies, forces, virial = evaluate(system, MODEL, W)
    again = np.empty_like(energies), np.empty_like(forces), np.empty((3, 3))
    energy_forces_stored(pack(system), 0, MODEL, W, G, *again)
    assert (again[0] == energies).all() and (again[1] == forces).all() and (again[2] == virial).all()


def test_an_isolated_atom_has_no_functions_and_no_force():
    G, energies, forces, virial = evaluate(SYSTEMS["isolated atom"], MODEL, W)
    assert (G == 0).all() and (forces == 0).all() and (virial == 0).all() and np.isfinite(energies).all()


def test_at_the_cutoff_a_neighbour_does_not_count():
    functions = SymmetryFunctions((1,), [parse_line("H 2 H 0 0 4.0", 0, length=1.0)])
    G = np.empty((2, 1))
    for distance, count in ((4.0, 0.0), (np.nextafter(4.0, 0.0), 1.0)):
        system = (
            np.zeros(2, np.int64),
            np.array([[0.0, 0, 0], [distance, 0, 0]]),
            np.zeros((3, 3)),
            (False,) * 3,
        )
        symmetry_functions(pack(system), 0, functions.table, G)
        assert (G == count).all()


def test_many_atoms_equal_plain():
    rng = np.random.default_rng(0)
    grid = np.array([(i, j, k) for i in range(7) for j in range(7) for k in range(6)]) * 2.5
    system = (
        rng.integers(0, 3, 294),
        grid + rng.uniform(-0.5, 0.5, grid.shape),
        np.diag([17.5, 17.5, 15.0]),
        (True, True, True),
    )
    check_against_plain(system, MODEL, W)
    assert len(FUNCTIONS) > n_max(MODEL)
