"""Descriptions of data sets and warnings on what looks wrong in them."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.neighborlist import neighbor_list

from mpnnp.data.dataset import Dataset, concatenate
from mpnnp.data.formats import read_sources
from mpnnp.data.inspection import describe, format_description, warnings
from mpnnp.data.structure import Structure

WATER = Path(__file__).parents[2] / "jobs/water/water.extxyz.xz"


@pytest.fixture(scope="module")
def water():
    return read_sources(WATER, report=lambda _: None).take(range(0, 216, 12))


def change(dataset, k, **values):
    """The data set with values of structure k replaced."""
    structures = list(dataset)
    structures[k] = Structure(**(vars(structures[k]) | values))
    return Dataset.from_structures(structures)


def test_the_description_of_water_says_what_is_known_of_it(water):
    n = describe(water)
    assert (n.n_structure, n.n_atom, n.elements, n.atoms_per_structure) == (18, 18 * 96, (1, 8), (96, 96))
    np.testing.assert_allclose(n.density, (0.7, 1.2), rtol=1e-4)  # masses of 2018 and older ones
    per_atom = water.energy / 96
    assert n.energy_per_atom == (per_atom.min(), per_atom.max(), per_atom.std())
    assert n.max_force == np.abs(water.forces).max()
    np.testing.assert_allclose(n.force_rms, water.forces.std(), rtol=1e-6)
    assert (n.n_without_energy, n.n_without_forces, n.n_without_stress) == (0, 0, 0)
    assert n.splits == {"none": 18, "train": 0, "validation": 0}
    assert n.pbc == {"T T T": 18}
    assert n.sources == {str(WATER): 18}
    assert n.hash == water.hash()
    assert warnings(water) == []


def test_shortest_distances_agree_with_ase(water):
    from ase import Atoms

    few = water.take([0, 7])
    expected = {}
    for s in few:
        atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
        for i, j, r in zip(*neighbor_list("ijd", atoms, 3.2), strict=True):
            pair = tuple(sorted((int(s.numbers[i]), int(s.numbers[j]))))
            expected[pair] = min(r, expected.get(pair, np.inf))
    shortest = describe(few).shortest
    assert list(shortest) == [(1, 1), (1, 8), (8, 8)]
    for pair, r in expected.items():
        np.testing.assert_allclose(shortest[pair], r, rtol=1e-9)


def test_missing_labels_splits_and_cells_are_counted(water):
    h2o = molecule("H2O")
    alone = Structure(numbers=h2o.numbers, positions=h2o.positions, split=2, source="m.xyz")
    partly = Structure(
        numbers=h2o.numbers,
        positions=h2o.positions + 1,
        forces=[[0.1] * 3, [np.nan] * 3, [0] * 3],
        split=1,
        source="m.xyz",
        frame=1,
    )
    n = describe(concatenate([water, Dataset.from_structures([alone, partly])]))
    assert (n.n_without_energy, n.n_without_forces, n.n_without_stress) == (2, 4, 2)
    assert n.atoms_per_structure == (3, 96)
    assert n.splits == {"none": 18, "train": 1, "validation": 1}
    assert n.pbc == {"F F F": 2, "T T T": 18}
    assert n.sources == {str(WATER): 18, "m.xyz": 2}


@pytest.mark.parametrize("pbc", [True, False])
def test_atoms_far_from_the_origin_have_their_neighbours(water, pbc):
    """As those of an open cluster, and of a long simulation whose atoms were not put back into the cell."""
    at = water[0]
    turns = np.random.default_rng(0).integers(-(10**4), 10**4, (96, 3)) if pbc else 10**4
    far = change(water.take([0]), 0, positions=at.positions + turns @ at.cell if pbc else at.positions + 1e5)
    near = water.take([0])
    if not pbc:
        far, near = (change(d, 0, pbc=False, cell=np.zeros((3, 3)), stress=None) for d in (far, near))
    assert describe(far).shortest == pytest.approx(describe(near).shortest, abs=1e-6)
    assert not any("no neighbour" in text for text in warnings(far))


def test_cells_in_which_neighbours_are_not_searched_for_are_told(water):
    wide = change(water.take([0]), 0, cell=np.eye(3) * 1e6)
    said = "\n".join(warnings(wide))
    assert "1 structure whose distances were not looked at: flat cells or some beyond 2000 Angstrom" in said
    assert "no neighbour within" not in said


@pytest.mark.parametrize("count", [0, 1])
def test_data_sets_without_structures_or_labels_are_described(count):
    helium = Structure(numbers=[2], positions=[[0, 0, 0]])
    d = Dataset.from_structures([helium] * count)
    n = describe(d)
    assert (n.density, n.energy_per_atom, n.max_force, n.shortest) == (None, None, None, {})
    assert warnings(d) == []
    assert f"structures      {count}" in format_description(n)


def test_repeated_structures_are_found_up_to_rounding(water):
    moved = water[5].positions + 1e-7 * np.random.default_rng(0).normal(size=(96, 3))
    d = concatenate([water, change(water.take([5]), 0, positions=moved, source="copy.xyz"), water.take([5])])
    (message,) = warnings(d)
    assert message == (
        "2 structures repeated: the same atoms at the same places: structure 18 (copy.xyz, frame 60: "
        f"as structure 5, {WATER}, frame 60), "
        f"structure 19 ({WATER}, frame 60: as structure 5, {WATER}, frame 60)"
    ).replace("frame 60", f"frame {water.frame[5]}")
    other = change(water.take([5]), 0, energy=0.01 + water.energy[5], source="copy.xyz")
    assert "but with another energy" in warnings(concatenate([water, other]))[0]


@pytest.mark.parametrize(
    "values", [{"numbers": [1] * 96}, {"cell": 12.0 * np.eye(3)}, {"pbc": False}, {"positions": 1e-3}]
)
def test_structures_that_differ_are_not_repeated(water, values):
    pair = water.take([0, 0])
    if "positions" in values:
        values = {"positions": pair[1].positions + values["positions"]}
    assert not any("repeated" in message for message in warnings(change(pair, 1, **values)))


def test_many_repeats_are_found_quickly():
    helium = Structure(numbers=[2], positions=[[0, 0, 0]])
    (message,) = warnings(Dataset.from_structures([helium] * 5000))
    assert message.startswith("4999 structures repeated")
    assert message.endswith("and 4996 more")


def test_atoms_too_near_are_found_also_across_the_cell(water):
    positions = water[3].positions.copy()
    positions[10] = positions[20] + water[3].cell[0] + [0, 0.2, 0]
    (message,) = warnings(change(water, 3, positions=positions))
    assert message.startswith("1 structure with atoms nearer than 0.4 Angstrom: structure 3 (")
    assert f"frame {water.frame[3]}: atoms" in message
    assert ", 0.200 Angstrom)" in message
    small = Structure(numbers=[1], positions=[[0, 0, 0]], cell=0.3 * np.eye(3), pbc=True)
    assert "atoms 0 and 0, 0.300 Angstrom" in warnings(Dataset.from_structures([small]))[0]


def test_isolated_atoms_are_found():
    far = Structure(numbers=[1, 1, 1], positions=[[0, 0, 0], [0, 0, 5.9], [0, 0, 12]])
    near = Structure(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 5.9]])
    (message,) = warnings(Dataset.from_structures([near, far]))
    assert message == (
        "1 structure with atoms that have no neighbour within 6 Angstrom: "
        "structure 1 (structure, frame 0: atom 2)"
    )


def test_isolated_atoms_that_are_references_do_not_look_wrong(water):
    atoms = [Structure(numbers=[z], positions=[[0, 0, 0]], energy=e) for z, e in ((1, -13.6), (8, -432.0))]
    data = concatenate([Dataset.from_structures(atoms), water])
    assert warnings(data) == []
    n = describe(data)
    assert (n.n_structure, n.n_isolated, n.n_without_energy) == (20, 2, 0)
    assert n.energy_per_atom == describe(water).energy_per_atom
    assert "2 isolated atoms: references of the energies, not learned" in format_description(n)
    assert "isolated" not in format_description(describe(water))


def test_large_forces_are_found(water):
    forces = water[2].forces.copy()
    forces[7, 1], forces[8, 0] = -60, 55
    (message,) = warnings(change(water, 2, forces=forces))
    assert message.startswith("1 structure with forces above 50 eV/Angstrom: structure 2 (")
    assert ": 60 eV/Angstrom on atom 7)" in message
    assert any("above 1 eV/Angstrom" in text and "more" in text for text in warnings(water, force_limit=1))


def test_an_odd_energy_is_found_at_constant_composition(water):
    assert "structure 4 (" in warnings(change(water, 4, energy=water.energy[4] + 96.0))[0]
    assert "+1" in warnings(change(water, 4, energy=water.energy[4] + 96.0))[0]


def test_odd_energies_are_found_at_varying_composition():
    rng = np.random.default_rng(1)
    structures = []
    for frame in range(40):
        numbers = np.sort(rng.choice([1, 6, 8], rng.integers(4, 9)))
        energy = (
            -13.6 * np.sum(numbers == 1)
            - 1030 * np.sum(numbers == 6)
            - 2040 * np.sum(numbers == 8)
            + rng.normal(0, 0.002)
        )
        energy += 3.0 if frame in (11, 30) else 0.0
        structures.append(
            Structure(
                numbers=numbers,
                positions=1.5 * np.arange(3 * len(numbers)).reshape(-1, 3) % 4.7,
                energy=energy,
                frame=frame,
            )
        )
    messages = [
        text
        for text in warnings(Dataset.from_structures(structures), distance_limit=0.0)
        if "energies" in text
    ]
    assert len(messages) == 1
    assert messages[0].startswith("2 structures with energies more than 0.05 eV/atom")
    assert "structure 11 (" in messages[0]
    assert "structure 30 (" in messages[0]


def test_labels_of_exactly_zero_are_suspicious(water):
    messages = warnings(change(water, 1, energy=0.0, forces=np.zeros((96, 3))))
    assert any("with energy and forces exactly 0" in text and "structure 1 (" in text for text in messages)


def test_the_text_shows_numbers_with_units_and_warnings(water):
    text = format_description(describe(water), ["1 structure is odd"])
    for part in (
        "structures      18\n",
        "H O",
        "0.700 to 1.200 g/cm^3",
        "meV/atom",
        "eV/Angstrom",
        "H-O 0.8",
        "warning: 1 structure is odd",
        water.hash()[:16],
    ):
        assert part in text
    assert max(map(len, text.split("\n"))) < 140
