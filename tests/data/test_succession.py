"""Labels of another frame, of one atom, or missing, cells in another unit are told; right data are not."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import Bohr

from mpnnp.data.dataset import Dataset, concatenate
from mpnnp.data.plausibility import doubts, wrong_units
from mpnnp.data.structure import Structure
from mpnnp.units import METAL


def labelled(atoms, frame=0):
    atoms.calc = EMT()
    return Structure(
        numbers=atoms.numbers,
        positions=atoms.positions.copy(),
        cell=atoms.cell.array,
        pbc=True,
        energy=atoms.get_potential_energy() - 3.5 * len(atoms),
        forces=atoms.get_forces(),
        stress=atoms.get_stress(),
        frame=frame,
    )


@pytest.fixture(scope="module")
def trajectory():
    """Copper that moves along smooth curves, as in a simulation with short steps."""
    rng = np.random.default_rng(1)
    atoms = bulk("Cu", cubic=True) * 2
    at, amplitude = atoms.positions.copy(), rng.normal(scale=0.1, size=(2, len(atoms), 3))
    frames = []
    for k in range(24):
        phase = 0.25 * k
        atoms.positions = at + amplitude[0] * np.sin(phase) + amplitude[1] * np.cos(1.3 * phase)
        frames.append(labelled(atoms, k))
    return Dataset.from_structures(frames)


@pytest.fixture(scope="module")
def sizes():
    """Rattled copper of 16 and 32 atoms."""
    frames = []
    for k in range(24):
        atoms = bulk("Cu", cubic=True, a=3.6) * ((2, 2, 1) if k % 2 else 2)
        atoms.rattle(0.05, seed=k)
        frames.append(labelled(atoms, k))
    return Dataset.from_structures(frames)


def texts(data):
    return " | ".join(map(str, doubts(data)))


def test_right_data_raise_no_doubts(trajectory, sizes):
    assert texts(trajectory) == ""
    assert texts(sizes) == ""


@pytest.mark.parametrize(("by", "side"), [(1, "after"), (-1, "before")])
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("energy",), "the energies"),
        (("forces",), "the forces"),
        (("energy", "forces"), "energies and forces"),
    ],
)
def test_labels_beside_the_frame_before_or_after_are_told(trajectory, by, side, labels, words):
    moved = {
        name: np.roll(getattr(trajectory, name), by * (32 if name == "forces" else 1), axis=0)
        for name in labels
    }
    data = replace(trajectory, **moved).take(range(1, 23))
    assert f"{words} seem to stand beside the frame {side} their own" in texts(data)


def test_energies_per_atom_are_told(trajectory, sizes):
    per_atom = replace(trajectory, energy=trajectory.energy / trajectory.n_atom)
    assert "are they energies per atom, of 32?" in texts(per_atom)
    per_atom = replace(sizes, energy=sizes.energy / sizes.n_atom)
    assert "energies seem to be energies per atom" in texts(per_atom)
    offset = replace(sizes, energy=sizes.energy + 3.5 * sizes.n_atom)  # against crystals: near 0
    assert "per atom:" not in texts(offset)


def test_stresses_of_zero_are_told(sizes):
    stress = sizes.stress.copy()
    stress[:4] = 0.0
    assert "4 of 24 stresses are exactly 0: are they missing?" in texts(replace(sizes, stress=stress))
    assert "all 24 stresses are exactly 0" in texts(replace(sizes, stress=0.0 * stress))
    stress[:] = np.nan
    assert texts(replace(sizes, stress=stress)) == ""


def test_forces_of_zero_on_some_atoms_are_told(sizes):
    forces = sizes.forces.copy()
    for start in sizes.start[:-1]:
        forces[start : start + 3] = 0.0
    said = texts(replace(sizes, forces=forces))
    assert "72 forces of exactly 0 in 24 structures in which other atoms feel forces" in said
    forces[:] = 0.0  # a crystal in its place
    assert "held fast" not in texts(replace(sizes, forces=forces))


def test_forces_of_zero_on_all_atoms_of_some_structures_are_told(sizes):
    """But not of crystals in their places, where they are."""
    forces = sizes.forces.copy()
    forces[sizes.start[3] : sizes.start[5]] = 0.0
    said = texts(replace(sizes, forces=forces))
    assert (
        "2 of 24 structures have forces of exactly 0 on all atoms" in said
        and f"(e.g. {sizes.name(3)})" in said
    )
    atoms = bulk("Si", cubic=True)
    perfect = Dataset.from_structures([
        Structure(numbers=atoms.numbers, positions=x * atoms.positions, cell=x * atoms.cell.array, pbc=True,
                  energy=-40.0 + x, forces=np.zeros((8, 3)))
        for x in (0.98, 1.0, 1.02)
    ])  # fmt: skip
    assert "forces of exactly 0" not in texts(concatenate([sizes, perfect]))


@pytest.mark.parametrize("wrong", ["other vectors", "shifted", "all the same"])
def test_forces_that_do_not_add_up_to_zero_are_told(sizes, wrong):
    other = np.random.default_rng(1).normal(size=sizes.forces.shape)
    forces = {"other vectors": other, "shifted": sizes.forces + 0.5, "all the same": np.ones_like(other)}[
        wrong
    ]
    assert "forces do not add up to 0" in texts(replace(sizes, forces=forces))
    assert "forces do not add up to 0" not in texts(replace(sizes, forces=sizes.forces + 0.01))


def test_cells_that_some_frames_lack_are_told(trajectory):
    open_ones = replace(trajectory, pbc=np.zeros((24, 3), bool), cell=np.zeros((24, 3, 3)))
    some = concatenate([trajectory.take(range(1)), open_ones.take(range(1, 24))])
    assert "the same 32 atoms are periodic in some structures and not in others" in texts(some)
    assert "are cells missing" not in texts(open_ones)


def test_cells_in_bohr_around_positions_in_angstrom_are_told(trajectory):
    """But not a cluster in vacuum."""
    assert "are cells in Bohr, and positions in Angstrom?" in texts(
        replace(trajectory, cell=trajectory.cell / Bohr)
    )
    assert "are cells in Bohr" not in texts(replace(trajectory, cell=trajectory.cell * 2.5))


def test_positions_in_bohr_in_cells_in_angstrom_are_refused_as_that(trajectory):
    message = wrong_units(replace(trajectory, positions=trajectory.positions / Bohr), METAL)
    assert "if the positions were in Bohr and the cells in Angstrom" in message
    both = replace(trajectory, positions=trajectory.positions / 10, cell=trajectory.cell / 10)
    assert "in nm that would be" in wrong_units(both, METAL)
