"""Labels that contradict each other, or belong to other atoms than they stand beside."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.units import Bohr, Hartree, kcal, mol
from xyz_frames import CELL, frame, read

from mpnnp.data.formats import read_sources
from mpnnp.errors import DataError

COLUMNS = "Properties=species:S:1:pos:R:3:forces:R:3"
VOLUME = 4.0 * 4.2 * 4.4


def comment(words):
    return frame(f"{CELL} {COLUMNS} {words}")


def test_two_names_of_a_label_with_two_values_are_told(tmp_path):
    data, said = read(
        tmp_path, "".join(comment(f"energy=-5 dft_energy={e}") for e in (-5.0, -5.0001, -6, -7))
    )
    assert (data.energy == -5).all()
    assert "energy: 'dft_energy' contradicts 'energy', which is taken, in 2 frames (the first: " in said
    assert "a.xyz, frame 2); choose one with energy_key" in said
    data, said = read(tmp_path, comment("energy=-5 dft_energy=-5") + comment("energy=-5 free_energy=-5.2"))
    assert "contradicts" not in said


@pytest.mark.parametrize(("sign", "told"), [(-1, False), (1, True)])
def test_a_virial_that_does_not_fit_the_stress_is_told(tmp_path, sign, told):
    virial = f"{sign * 0.01 * VOLUME} 0 0 0 {sign * 0.02 * VOLUME} 0 0 0 {sign * 0.03 * VOLUME}"
    text = comment(f'energy=-5 stress="0.01 0 0 0 0.02 0 0 0 0.03" virial="{virial}"')
    data, said = read(tmp_path, text)
    assert data.stress[0, :3].tolist() == [0.01, 0.02, 0.03]
    assert ("stress: 'virial' contradicts 'stress'" in said) == told


def test_a_name_that_goes_before_the_one_of_earlier_frames_is_an_error_if_the_values_differ(tmp_path):
    first = comment("energy=-5")
    data, _ = read(tmp_path, first + comment("energy=-6 REF_energy=-6"))
    assert data.energy.tolist() == [-5, -6]
    with pytest.raises(DataError, match=r"a.xyz, frame 1: energy is called 'REF_energy' here, and 'energy'"):
        read(tmp_path, first + comment("energy=-6 REF_energy=-7"))


def test_units_that_only_some_frames_state_are_an_error(tmp_path):
    stated = comment("energy=-5 energy_units=Ha force_units=eV/A")
    assert read(tmp_path, stated + stated)[0].energy[1] == pytest.approx(-5 * Hartree)
    for text in (stated + comment("energy=-5"), comment("energy=-5") + stated):
        with pytest.raises(
            DataError, match=r"a.xyz, frame 1: states .*units.*; say those of all: data.units"
        ):
            read(tmp_path, text)
    metal = comment("energy=-5 energy_units=eV")
    assert read(tmp_path, metal + comment("energy=-5"))[0].energy.tolist() == [-5, -5]


def test_gradients_are_minus_the_forces(tmp_path):
    text = frame(f"{CELL} Properties=species:S:1:pos:R:3:gradient:R:3 energy=-5")
    forces, _ = read(tmp_path, comment("energy=-5"))
    (tmp_path / "a.xyz").write_text(text)
    lines = []
    data = read_sources(tmp_path / "a.xyz", forces_key="gradient", report=lines.append)
    np.testing.assert_array_equal(data.forces, -forces.forces)
    assert "forces from minus 'gradient'" in "\n".join(lines)


WORDS = ["IsolatedAtom", "isolated_atom", "isolated-atoms", "isolated", "single_atom"]


@pytest.mark.parametrize("word", WORDS)
def test_a_marked_isolated_atom_in_a_small_periodic_cell_is_one(tmp_path, word):
    alone = (
        '1\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3 config_type={} energy=-3.2\nSi 0 0 0\n'
    )
    data, _ = read(tmp_path, alone.format(word) + comment("energy=-5"))
    assert data.is_isolated.tolist() == [True, False]
    data, _ = read(tmp_path, alone.format("bcc") + comment("energy=-5"))
    assert data.is_isolated.tolist() == [False, False]
    for key, isolated in (("isolated=T", True), ("is_isolated=1", True), ("isolated=F", False)):
        data, _ = read(tmp_path, alone.format(f"bcc {key}") + comment("energy=-5"))
        assert data.is_isolated.tolist() == [isolated, False]


def test_stresses_without_a_volume_are_left_out_with_a_count(tmp_path):
    text = frame('Properties=species:S:1:pos:R:3:forces:R:3 energy=-5 stress="1 0 0 0 1 0 0 0 1"')
    data, said = read(tmp_path, text + comment('energy=-5 stress="1 0 0 0 1 0 0 0 1"'))
    assert np.isfinite(data.stress).all(axis=1).tolist() == [False, True]
    assert "left out, of structures without a volume: 1 stress" in said
    text = "begin\natom 0 0 0 H 0 0\nstress 1 0 0 0 1 0 0 0 1\nend\n"
    with pytest.raises(DataError, match="the structure that began in line 1 has a stress, but no lattice"):
        read(tmp_path, text, "input.data")


def test_frames_of_several_heads_are_told(tmp_path):
    _, said = read(tmp_path, comment("energy=-5 head=pbe") + comment("energy=-5 head=scan"))
    assert "'head' of frames differ (pbe, scan)" in said


# ---- ase.Atoms


def rattled(k):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=k)
    return atoms


def test_results_of_a_calculator_that_several_frames_share_are_refused():
    calculator, frames = EMT(), [rattled(k) for k in range(3)]
    for atoms in frames:
        atoms.calc = calculator
        atoms.get_forces()
    with pytest.raises(
        DataError, match="frame 0: its calculator has the results of other atoms or positions"
    ):
        read_sources(frames, report=lambda text: None)
    for atoms in frames:
        atoms.calc = SinglePointCalculator(
            atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces()
        )
    expected = [a.get_potential_energy() for a in frames]
    assert read_sources(frames, report=lambda text: None).energy.tolist() == expected


@pytest.mark.parametrize("change", ["rattle", "cell", "elements", "repeat"])
def test_results_of_atoms_that_were_changed_are_refused(change):
    atoms = rattled(1)
    atoms.calc = EMT()
    atoms.get_potential_energy()
    if change == "rattle":
        atoms.rattle(0.05, seed=9)
    elif change == "cell":
        atoms.set_cell(atoms.cell * 1.01)
    elif change == "elements":
        atoms.numbers[0] = 47
    else:
        atoms *= (2, 1, 1)
    with pytest.raises(DataError, match="frame 0: its calculator has the results of other atoms"):
        read_sources(atoms, report=lambda text: None)


def test_results_of_atoms_that_were_wrapped_into_the_cell_are_theirs():
    atoms = rattled(1)
    atoms.positions += 3.0
    atoms.calc = EMT()
    energy = atoms.get_potential_energy()
    atoms.wrap()
    assert read_sources(atoms, report=lambda text: None).energy[0] == energy
    molecule = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])
    molecule.calc = EMT()
    energy = molecule.get_potential_energy()
    assert read_sources(molecule, report=lambda text: None).energy[0] == energy


def test_names_and_units_count_for_atoms_as_for_files():
    atoms = Atoms("Si2", [[0, 0, 0], [2.2, 0, 0]], info={"mine": -5.0, "energy": -4.0})
    atoms.arrays["theirs"] = np.ones((2, 3))
    lines = []
    options = {"report": lines.append, "energy_key": "mine", "forces_key": "theirs", "units": "Hartree Bohr"}
    data = read_sources([atoms], **options)
    assert data.energy[0] == pytest.approx(-5 * Hartree)
    assert data.forces[0, 0] == pytest.approx(Hartree / Bohr)
    assert data.positions[1, 0] == pytest.approx(2.2 * Bohr)
    assert "atoms: 1 frame, energy from 'mine', forces from 'theirs'" in "\n".join(lines)
    with pytest.raises(DataError, match="energy_key = 'other' is in no frame"):
        read_sources([atoms], energy_key="other", report=lambda text: None)


# ---- databases of ASE


def write_database(path, metadata=None):
    with connect(str(path)) as database:
        for k in range(3):
            atoms = Atoms("Si2", [[0, 0, 0], [2.2 + 0.1 * k, 0, 0]], cell=[9, 9, 9], pbc=True)
            database.write(
                atoms,
                key_value_pairs={"dft_energy": -5.0 - k},
                data={"forces": np.full((2, 3), k + 0.5), "stress": np.ones((1, 3, 3))},
            )
        if metadata:
            database.metadata = metadata


@pytest.mark.parametrize("name", ["a.db", "a.json"])
def test_labels_in_the_data_of_rows_are_found(tmp_path, name):
    write_database(tmp_path / name)
    data = read_sources(tmp_path / name, report=lambda text: None)
    assert data.energy.tolist() == [-5, -6, -7]
    assert data.forces[::2, 0].tolist() == [0.5, 1.5, 2.5]
    assert (data.stress == 1).all()


def test_units_that_schnetpack_states_count(tmp_path):
    units = {"energy": "kcal/mol", "forces": "kcal/mol/Ang"}
    write_database(tmp_path / "a.db", {"_property_unit_dict": units, "_distance_unit": "Ang"})
    data = read_sources(tmp_path / "a.db", report=lambda text: None)
    assert data.energy[0] == pytest.approx(-5 * kcal / mol)
    assert data.forces[0, 0] == pytest.approx(0.5 * kcal / mol)
    assert data.positions[1, 0] == 2.2
    write_database(tmp_path / "b.db", {"_property_unit_dict": {"energy": "stone"}, "_distance_unit": "Ang"})
    with pytest.raises(DataError, match="b.db: its metadata state the units .*'stone' is no unit known here"):
        read_sources(tmp_path / "b.db", report=lambda text: None)


def calculated(energy=-4.0, **arrays):
    atoms = Atoms("Si2", [[0, 0, 0], [2.2, 0, 0]], cell=[9, 9, 9], pbc=True)
    stress = np.array([0.1, 0.2, 0.3, 0.0, 0.0, 0.0])
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((2, 3)), stress=stress)
    atoms.arrays |= arrays
    return atoms


def told(frames, **options):
    lines = []
    return read_sources(frames, report=lines.append, **options), "\n".join(lines)


def test_a_label_of_the_frame_that_contradicts_that_of_the_calculator_is_told():
    other = calculated(forces=np.full((2, 3), 0.5))
    other.info |= {"energy": -5.0, "stress": np.full(6, 0.1)}
    data, said = told([calculated(), other, other])
    assert data.energy.tolist() == [-4, -4, -4]
    for kind in ("energy", "forces", "stress"):
        assert (
            f"{kind}: '{kind}' of the frame itself contradicts '{kind}' of the calculator, which is taken, "
            f"in 2 frames (the first: atoms, frame 1); remove one of them, or choose with {kind}_key = "
            f"'calculator:{kind}'"
        ) in said
    _, said = told([other], energy_key="energy")
    assert "energy: 'energy' of the frame itself contradicts" in said
    same = calculated(forces=np.zeros((2, 3)))
    same.info["energy"] = -4.0
    assert "contradict" not in told([same])[1] and "also there" not in told([same])[1]


def test_the_place_of_a_label_that_changes_is_named():
    plain = Atoms("Si2", [[0, 0, 0], [2.2, 0, 0]], info={"energy": -5.0})
    with pytest.raises(
        DataError, match="'energy' of the frame itself here but 'energy' of the calculator in"
    ):
        told([calculated(), plain])


def test_a_calculator_is_chosen_by_its_name():
    other = calculated()
    other.info["energy"] = -5.0
    data, said = told([other], energy_key="calculator:energy")
    assert data.energy.tolist() == [-4] and "contradicts" not in said


@pytest.mark.parametrize(
    ("word", "told"), [("IsolatedAtom", True), ("isolated_molecule", False), ("isolated", False)]
)
def test_several_atoms_that_are_marked_as_an_isolated_one_are_told(tmp_path, word, told):
    rows = "Si 0 0 0\nSi 0 0 2.2\n"
    (tmp_path / "a.xyz").write_text(2 * f"2\nenergy=-8 config_type={word}\n{rows}")
    lines = []
    assert len(read_sources(tmp_path / "a.xyz", report=lines.append)) == 2
    said = "\n".join(lines)
    assert ("frame 0: config_type=IsolatedAtom, but it has 2 atoms" in said) is told
    assert said.count("but it has") == told
