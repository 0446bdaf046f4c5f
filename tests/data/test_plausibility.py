"""Labels that cannot be: findings at the start of a training and of `mpnnp info`; isolated atoms."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import GPa, Hartree, kcal, mol
from launch import ROOT

from mpnnp.data.dataset import Dataset, concatenate, read, write
from mpnnp.data.formats import read_sources, write_target
from mpnnp.data.inspection import findings
from mpnnp.data.plausibility import doubts
from mpnnp.data.structure import Structure
from mpnnp.errors import DataError


@pytest.fixture(scope="module")
def water():
    return read_sources(ROOT / "jobs/water/water.extxyz.xz", report=lambda _: None).take(range(0, 216, 6))


@pytest.fixture(scope="module")
def copper():
    """Rattled and strained, labelled by EMT with energies, forces and stresses."""
    frames = []
    for k in range(24):
        atoms = bulk("Cu", cubic=True, a=3.4 + 0.02 * k) * (2, 2, 1)
        atoms.rattle(0.05, seed=k)
        atoms.calc = EMT()
        frames.append(
            Structure(numbers=atoms.numbers, positions=atoms.positions.copy(),
                      cell=atoms.cell.array, pbc=True,
                      energy=atoms.get_potential_energy(), forces=atoms.get_forces(),
                      stress=atoms.get_stress(),
                      frame=k)
        )  # fmt: skip
    return Dataset.from_structures(frames)


@pytest.fixture(scope="module")
def trajectory():
    """Copper at one cell, frame after frame close to each other."""
    rng, frames = np.random.default_rng(1), []
    atoms = bulk("Cu", cubic=True) * 2
    atoms.rattle(0.1, seed=1)
    for k in range(20):
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
        atoms.calc = EMT()
        frames.append(
            Structure(numbers=atoms.numbers, positions=atoms.positions.copy(),
                      cell=atoms.cell.array, pbc=True,
                      energy=atoms.get_potential_energy(), forces=atoms.get_forces(), frame=k)
        )  # fmt: skip
    return Dataset.from_structures(frames)


def texts(data):
    return " | ".join(map(str, doubts(data)))


def test_right_data_raise_no_doubts(water, copper, trajectory):
    assert [texts(d) for d in (water, copper, trajectory)] == ["", "", ""]


def test_fractional_coordinates_are_refused_and_not_taken_for_nanometres(water, copper, tmp_path):
    for data in (water, copper):
        structures = [replace(s, positions=s.positions @ np.linalg.inv(s.cell) % 1.0) for s in data]
        fractional = Dataset.from_structures(structures)
        write_target(tmp_path / "a.xyz", fractional)
        text = (tmp_path / "a.xyz").read_text()
        (tmp_path / "a.xyz").write_text(text.replace("eV Angstrom", ""))
        assert "are they fractional coordinates?" in texts(fractional)
        with pytest.raises(DataError, match="a.xyz: its positions .* are they fractional coordinates"):
            read_sources(tmp_path / "a.xyz", report=lambda _: None)
        assert len(read_sources(tmp_path / "a.xyz", report=lambda _: None, units="eV Angstrom")) == len(data)


def test_atoms_that_are_too_close_in_every_unit_are_doubted(copper):
    squeezed = replace(copper, positions=0.3 * copper.positions, cell=0.3 * copper.cell)
    assert "none of Angstrom, Bohr, nm as unit of lengths would make that right" in texts(squeezed)
    taken = replace(copper, positions=0.529 * copper.positions, cell=0.529 * copper.cell)
    assert "as if lengths in Angstrom were read as Bohr" in texts(taken)


def test_energies_that_are_all_zero_are_doubted_and_fatal_without_forces(copper):
    zero = replace(copper, energy=np.zeros(len(copper)))
    (finding, *_) = [f for f in doubts(zero) if "exactly 0" in str(f)]
    assert not finding.fatal
    (finding, *_) = doubts(replace(zero, forces=np.full_like(copper.forces, np.nan)))
    assert finding.fatal and "no forces either" in str(finding)
    assert "all 24 energies are the same" in texts(replace(copper, energy=np.full(24, -3.0)))
    some = copper.energy.copy()
    some[:4] = 0
    assert "4 of 24 energies are exactly 0" in texts(replace(copper, energy=some))
    assert "all forces are exactly 0" in texts(replace(copper, forces=np.zeros_like(copper.forces)))


def test_forces_of_the_wrong_sign_are_doubted(water, copper, trajectory):
    for data in (water, copper, trajectory):
        assert "wrong sign" in texts(replace(data, forces=-data.forces))


@pytest.mark.filterwarnings("error")
def test_atoms_at_one_place_do_not_disturb_the_sign_of_the_forces(copper):
    positions = copper.positions.copy()
    positions[1] = positions[0]
    same = replace(copper, positions=positions)
    assert texts(same) == ""
    assert "wrong sign" in texts(replace(same, forces=-copper.forces))


@pytest.mark.parametrize("factor", [1 / Hartree, 51.42, kcal / mol, 627.5, 96.5])
def test_forces_and_energies_of_different_units_are_doubted(trajectory, factor):
    assert "times as much" in texts(replace(trajectory, forces=trajectory.forces * factor))
    assert "times as much" in texts(replace(trajectory, energy=trajectory.energy * factor))


def test_a_part_of_the_forces_in_another_unit_is_doubted(water, trajectory):
    for data in (water, trajectory):
        forces = data.forces.copy()
        forces[: data.start[len(data) // 4]] /= 51.42
        assert "forces fall into two groups" in texts(replace(data, forces=forces))


def test_a_part_of_another_level_of_theory_is_doubted(water, copper):
    for data in (water, copper):
        for shift in (0.7, -5.0, 300.0):
            energy = data.energy.copy()
            energy[: len(data) // 3] += shift * data.n_atom[: len(data) // 3]
            assert "energies fall into two groups" in texts(replace(data, energy=energy)), shift


@pytest.mark.parametrize(
    ("z", "hartree"),
    [((8, 1, 1), -76.4), ((6, 1, 1, 1, 1), -40.5), ((7, 7), -109.5), ((6, 8), -113.3), ((14, 14), -578.7)],
)
def test_total_energies_of_all_electrons_tell_their_unit(z, hartree):
    rng = np.random.default_rng(0)
    make = lambda energy: Dataset.from_structures(  # noqa: E731
        [
            Structure(numbers=z, positions=rng.normal(size=(len(z), 3)), energy=energy + 1e-3 * k)
            for k in range(3)
        ]
    )
    assert "are they in" not in texts(make(hartree * Hartree))
    assert "are they in Hartree" in texts(make(hartree))
    assert "are they in kcal/mol" in texts(make(hartree * Hartree / (kcal / mol)))


def test_stresses_in_other_units_and_of_the_wrong_sign_are_doubted(copper):
    assert "stresses are large" in texts(replace(copper, stress=copper.stress / GPa))
    assert "stresses are large" in texts(replace(copper, stress=copper.stress / GPa * 10))
    volume = np.abs(np.linalg.det(copper.cell))[:, None]
    assert "stresses are large" in texts(replace(copper, stress=-copper.stress * volume))
    assert "wrong sign" in texts(replace(copper, stress=-copper.stress))


def test_findings_look_at_all_structures_but_for_distances(water):
    many = concatenate([water] * 3)
    assert any("repeated" in str(f) for f in findings(many))
    assert findings(water) == []
    forces, k = water.forces.copy(), 5
    forces[water.start[k]] = 99.0
    (large,) = findings(replace(water, forces=forces), at_most=3)
    assert f"structure {k} " in str(large) and "forces above" in str(large)
    positions, last = water.positions.copy(), len(water) - 1
    positions[water.start[last] + 1] = positions[water.start[last]] + 0.1
    messages = [str(f) for f in findings(replace(water, positions=positions), at_most=2)]
    (near,) = [m for m in messages if "nearer than" in m]
    assert f"(of the 2 that were looked at, of {len(water)})" in near and f"structure {last} " in near


def atom(z, energy, **changes):
    return Structure(numbers=[z], positions=[[0, 0, 0]], energy=energy, forces=[[0, 0, 0]], **changes)


def test_isolated_atoms_become_references_and_leave(tmp_path, copper):
    in_a_box = {"cell": 20 * np.eye(3), "pbc": True}
    data = Dataset.from_structures([atom(29, 3.5), *copper, atom(1, -13.6, **in_a_box), atom(29, 3.5)])
    left = data.without_isolated_atoms()
    assert left.isolated == {29: 3.5, 1: -13.6} and len(left) == len(copper)
    assert left.hash() == copper.hash()
    write(tmp_path / "d.h5", left)
    assert read(tmp_path / "d.h5").isolated == left.isolated
    assert "2 energies of isolated atoms" in repr(left)
    training, validation = data.split(0.25, seed=3)
    assert len(training) + len(validation) == len(copper) and training.isolated == left.isolated


def test_a_crystal_of_one_atom_and_a_set_of_atoms_alone_stay(copper):
    crystal = atom(29, -3.5, cell=2.5 * np.eye(3), pbc=True)
    data = Dataset.from_structures([crystal, *copper])
    assert data.without_isolated_atoms() is data
    skewed = atom(29, -3.5, cell=[[10, 0, 0], [9.9, 2.5, 0], [0, 0, 10]], pbc=True)  # repeats within 2.5 A
    data = Dataset.from_structures([skewed, *copper])
    assert data.without_isolated_atoms() is data
    only = Dataset.from_structures([atom(1, -13.6), atom(29, 3.5)])
    assert only.without_isolated_atoms() is only


def test_conflicting_isolated_atoms_are_an_error(copper):
    data = Dataset.from_structures([atom(29, 3.5), *copper, atom(29, 3.6, source="b.xyz")])
    with pytest.raises(DataError, match="isolated atoms of Cu contradict each other: 3.5 eV .* b.xyz|b.xyz"):
        data.without_isolated_atoms()
