"""Labels under other names, frames between blank lines, virials without volume: read, or a word."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read as ase_read
from ase.io import write
from launch import ROOT
from xyz_frames import CELL, frame, read

from mpnnp.commands.common import TARGETS
from mpnnp.config import Data, read_config
from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import FORMATS, read_sources, targets_in_words, write_target
from mpnnp.data.store import split
from mpnnp.data.structure import Structure
from mpnnp.data.voigt import VOIGT, stress_of_virial, to_tensor, to_voigt
from mpnnp.errors import DataError

COLUMNS = "Properties=species:S:1:pos:R:3:{}:R:3"


@pytest.mark.parametrize(
    "energy", ["REF_energy", "TotEnergy", "total_energy", "ENERGY", "Etot", "energy_ref"]
)
@pytest.mark.parametrize("forces", ["REF_force", "forces_REF", "Forces", "FORCE", "DFT_forces", "force"])
def test_labels_are_found_under_many_names_in_any_case(tmp_path, energy, forces):
    data, said = read(tmp_path, frame(f"{CELL} {COLUMNS.format(forces)} {energy}=-10"))
    assert data.energy[0] == -10 and np.allclose(data.forces[0], [0.1, 0.2, 0.3])
    assert "warning" not in said


@pytest.mark.parametrize("name", ["Virial", "virials", "REF_virial", "dft_virial", "VIRIAL"])
def test_virials_become_stresses_under_any_name(tmp_path, name):
    data, _ = read(tmp_path, frame(f'{CELL} {COLUMNS.format("force")} {name}="1 0 0 0 2 0 0 0 3" energy=1'))
    np.testing.assert_allclose(data.stress[0], -np.array([1, 2, 3, 0, 0, 0]) / (4 * 4.2 * 4.4))


@pytest.mark.parametrize("word", ["Weight", "weight", "config_weight", "CONFIG_WEIGHT"])
def test_weights_of_frames_in_any_case(tmp_path, word):
    data, said = read(tmp_path, frame(f"{CELL} {COLUMNS.format('force')} energy=1 {word}=5.0"))
    assert data.weight[0].tolist() == [5, 5, 5] and f"weights from {word}" in said


def test_header_keys_may_be_in_lower_case(tmp_path):
    text = frame(f"{CELL} {COLUMNS.format('force')} energy=1")
    expected, _ = read(tmp_path, text)
    for change in (str.lower, lambda t: t.replace("Lattice", "LATTICE").replace("Properties", "PROPERTIES")):
        header = (
            change(text.split("\n")[1]).replace(":s:", ":S:").replace(":r:", ":R:").replace("t t t", "T T T")
        )
        found, _ = read(tmp_path, text.replace(text.split("\n")[1], header))
        assert found.hash() == expected.hash()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (frame(f"{CELL} Properties=species:S:1:pos:R:3:my_f:R:3 energy=1"), "'my_f' (2x3)"),
        (
            frame(f"{CELL} Properties=species:S:1:pos:R:3:grad:R:3 energy=1 free_Energy_x=3"),
            "'free_Energy_x'",
        ),
        (frame(f"{CELL} {COLUMNS.format('forces')} E_energy=1"), "'E_energy'"),
        (frame(f'{CELL} {COLUMNS.format("forces")} energy=1 cell_stress="1 2 3 4 5 6"'), "'cell_stress'"),
        (frame(f"{CELL} {COLUMNS.format('forces')} energy=1 frame_weight=3"), "'frame_weight'"),
        (frame("energy=1"), "3 columns behind those that Properties names are not read"),
    ],
)
def test_what_looks_like_a_label_and_is_not_read_is_named(tmp_path, text, named):
    _, said = read(tmp_path, text)
    assert "warning" in said and named in said


def test_momenta_and_positions_of_other_kinds_are_no_labels(tmp_path):
    for name in ("momenta", "velo", "dipoles", "magmoms"):
        _, said = read(tmp_path, frame(f"{CELL} {COLUMNS.format(name)} energy=1"))
        assert "perhaps labels" not in said, name


def test_energies_of_single_atoms_that_a_calculator_of_ase_wrote_are_no_labels(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.get_forces(), atoms.get_stress()
    write(tmp_path / "emt.extxyz", atoms)
    said = []
    assert "energies" in ase_read(tmp_path / "emt.extxyz").calc.results
    read_sources(tmp_path / "emt.extxyz", report=said.append)
    assert len(said) == 1 and "perhaps labels" not in said[0]
    _, told = read(tmp_path, frame(f'{CELL} {COLUMNS.format("forces")} energy=1 energies="1 2 3"'))
    assert "perhaps labels: 'energies' (3)" in told


def test_training_without_forces_beside_a_column_of_them_needs_a_word(tmp_path):
    text = frame(f"{CELL} Properties=species:S:1:pos:R:3:my_f:R:3 energy=1")
    with pytest.raises(DataError, match="data.forces_key = 'my_f', or data.forces_key = 'none'"):
        read(tmp_path, text, strict=True)
    data, _ = read(tmp_path, text, strict=True, forces_key="none")
    assert np.isnan(data.forces).all()
    data, _ = read(tmp_path, text, strict=True, forces_key="my_f")
    assert np.isfinite(data.forces).all()


@pytest.mark.parametrize("blank", ["\n", "\n\n  \n", "\t\n"])
def test_blank_lines_between_frames_end_nothing(tmp_path, blank):
    one = frame(f"{CELL} {COLUMNS.format('forces')} energy=1")
    data, _ = read(tmp_path, one * 3 + blank + one * 6 + blank + one + blank)
    assert len(data) == 10


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("end of file\n", "line 9: expected the number of atoms of frame 2, found 'end of file'"),
        ("2\n\nO 0 0 0\n", "frame 2: announces 2 atoms, but the file ends before"),
        ("-1\n\n", "line 9: expected the number of atoms"),
        ("1\n\nXq 0 0 0\n", "frame 2: cannot be read by ASE: unknown name"),
        ("2\n\nO 0 0 0\nO 0 0\n", "frame 2: line 12 has 3 columns, others of the frame 4"),
    ],
)
def test_what_follows_the_last_frame_is_an_error_with_its_line(tmp_path, tail, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, frame("energy=1", 0) * 2 + tail)


def test_a_time_is_no_label(tmp_path):
    _, told = read(tmp_path, "1\ntime_ps=0.5 temperature=300.1\nO 0 0 0\n")
    assert "labels" not in told
    _, told = read(tmp_path, "1\ntime_ps=0.5 E0=-14.2\nO 0 0 0\n")
    assert "perhaps labels: 'E0'" in told


def test_a_word_of_the_comment_without_a_value_is_no_label(tmp_path):
    data, told = read(tmp_path, "1\nThe energy of run 3 was -14.2\nO 0 0 0\n")
    assert np.isnan(data.energy).all()
    assert "not read, but perhaps labels: 'energy' (without \"=\")" in told


def test_virials_without_volume_are_left_out_with_a_count(tmp_path):
    crystal = frame(f'{CELL} {COLUMNS.format("forces")} energy=1 virials="1 0 0 0 2 0 0 0 3"')
    molecule = frame(f'{COLUMNS.format("forces")} pbc="F F F" energy=1 virials="0 0 0 0 0 0 0 0 0"')
    data, said = read(tmp_path, crystal + molecule * 2)
    assert np.isfinite(data.stress[0]).all() and np.isnan(data.stress[1:]).all()
    assert "left out, of structures without a volume: 2 virials" in said


def test_six_numbers_and_tensors_are_each_others_inverse():
    rng = np.random.default_rng(0)
    six = rng.normal(size=(5, 6))
    np.testing.assert_array_equal(to_voigt(to_tensor(six)), six)
    tensor = to_tensor(np.arange(6.0))
    assert [tensor["xyz".index(a), "xyz".index(b)] for a, b in VOIGT] == list(range(6))
    assert (tensor == tensor.T).all()
    cell = rng.normal(size=(3, 3))
    np.testing.assert_allclose(stress_of_virial(tensor, cell), -np.arange(6) / abs(np.linalg.det(cell)))
    assert stress_of_virial(tensor, np.zeros((3, 3))) is None


# ---- input.data


BLOCK = (
    "begin\nlattice 8 0 0\nlattice 0 8.4 0\nlattice 0 0 8.8\natom 0 0 0 Si 0 0 .1 .2 .3\n{}energy -10\nend\n"
)


def test_weight_and_stress_lines_capitals_and_comments_are_read(tmp_path):
    extra = "weight 2.5\nstress 1 2 3 2 4 5 3 5 6\n# a comment\n! another\n"
    data, _ = read(tmp_path, BLOCK.format(extra), "input.data", units="eV Angstrom")
    assert data.weight[0].tolist() == [2.5] * 3
    np.testing.assert_allclose(data.stress[0], [1, 4, 6, 5, 3, 2])
    capitals = BLOCK.format("").replace("begin", "BEGIN").replace("end", "END").replace("atom", "ATOM")
    assert (
        read(tmp_path, capitals, "b.data")[0].hash() == read(tmp_path, BLOCK.format(""), "c.data")[0].hash()
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("weight -1\n", "line 6: weight is -1, must not be negative"),
        ("weight 1\nweight 2\n", "line 7: second weight of one structure"),
        ("stress 1 2 3\n", "line 6: stress has 3 numbers, must have 9"),
    ],
)
def test_wrong_weights_and_stresses_are_errors_with_their_line(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, BLOCK.format(line), "input.data")


@pytest.mark.parametrize("name", ["input.data", "a.xyz", "a.traj"])
def test_pointers_of_git_lfs_are_called_so(tmp_path, name):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 416025528\n"
    with pytest.raises(DataError, match="is only the pointer of Git LFS"):
        read(tmp_path, text, name)


@pytest.mark.parametrize(
    "name", ["a.xyz", "a.h5", "a.db", "a.npz", "a.xyz.gz", "input.data", "OUTCAR", "ML_AB"]
)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/annex/objects/MD5E-s123--abc.xyz\n", "is only the pointer of git-annex"),
        ("\n<!DOCTYPE html>\n<html></html>\n", "is a page of HTML"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n",
            "is only the pointer of Git LFS",
        ),
    ],
)
def test_what_stands_in_the_place_of_a_file_is_called_so(tmp_path, name, text, message):
    with pytest.raises(DataError, match=f"{name}: {message}"):
        read(tmp_path, text, name)


def test_parts_of_data_that_were_not_fetched_are_called_so(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n"
    frame = "1\n i = 0, time = 0.0, E = -1.0\nH 0 0 0\n"
    (tmp_path / "run-pos-1.xyz").write_text(frame)
    (tmp_path / "run-1.cell").write_text(" 0 0.0 9 0 0 0 9 0 0 0 9 729\n")
    (tmp_path / "run-frc-1.xyz").write_text(pointer)
    with pytest.raises(DataError, match="run-frc-1.xyz: is only the pointer of Git LFS"):
        read_sources(tmp_path / "run-pos-1.xyz")
    part = tmp_path / "system" / "set.000"
    part.mkdir(parents=True)
    (part.parent / "type.raw").write_text("0\n")
    (part.parent / "type_map.raw").write_text("H\n")
    np.save(part / "coord.npy", np.zeros((1, 3)))
    (part / "box.npy").write_text(pointer)
    with pytest.raises(DataError, match=r"^\S*box.npy: is only the pointer of Git LFS"):
        read_sources(tmp_path / "system")


# ---- ase.Atoms and the library


def labelled(energy, **info):
    atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.97]], cell=[5, 6, 7], pbc=True, info=info)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.ones((2, 3)), stress=np.arange(6.0))
    return atoms


def test_atoms_are_data_with_the_labels_that_files_have(tmp_path):
    frames = [labelled(-1.0, config_weight=2.0), labelled(-2.0, split="validation")]
    for data in (Dataset.from_structures(frames), read_sources(frames), read_sources(iter(frames))):
        assert data.energy.tolist() == [-1, -2] and data.marks.tolist() == [0, 2]
        assert data.weight.tolist() == [[2] * 3, [1] * 3]
        np.testing.assert_array_equal(data.stress[0], np.arange(6))
        assert (data.forces == 1).all()
    assert len(read_sources(frames[0])) == 1
    mixed = read_sources([frames[0], Structure(numbers=[1], positions=[[0, 0, 0]])])
    assert mixed.n_atom.tolist() == [2, 1]
    frames[1].info["energy"], frames[1].calc = "nothing", None
    with pytest.raises(DataError, match="frame 1.*energy"):
        Dataset.from_structures(frames)


@pytest.mark.parametrize(
    ("word", "mark"),
    [("train", 1), ("Training", 1), ("val", 2), ("valid", 2), ("validation", 2), ("TEST", 2), ("none", 0)],
)
def test_words_of_other_programs_say_what_is_for_validation(word, mark):
    assert Dataset.from_structures([labelled(-1.0, split=word)]).marks.tolist() == [mark]


def test_an_unknown_split_is_an_error_and_a_number_is_warned_of(tmp_path):
    frame = "1\nProperties=species:S:1:pos:R:3 energy=-1 split={}\nH 0 0 0\n"
    with pytest.raises(
        DataError, match="a.xyz, frame 1: split='holdout': must be one of train, training, val"
    ):
        read(tmp_path, frame.format("train") + frame.format("holdout"))
    data, said = read(tmp_path, frame.format(0) + frame.format(3) + frame.format("test"))
    assert data.marks.tolist() == [0, 0, 2]
    assert "split = 0, 3: does not say what is for validation" in said


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.34])
def test_a_split_is_that_of_a_run_with_this_seed(fraction):
    data = Dataset.from_structures([labelled(-float(k), number=k) for k in range(30)])
    training, validation = data.split(fraction, seed=7)
    config = Data(files=["x"], validation_fraction=fraction)
    for found, indices in zip((training, validation), split(data, config, 7)):
        assert found.energy.tolist() == data.energy[indices].tolist()
    assert len(validation) == round(30 * fraction)


def test_data_and_structures_show_what_they_are():
    data = Dataset.from_structures([labelled(-3.0), labelled(-4.0)])
    assert repr(data) == (
        "Dataset(2 structures, 4 atoms, H O, energies -2.000 to -1.500 eV/atom, forces up to 1.00 "
        "eV/Angstrom, "
        "stresses, periodic)"
    )
    assert repr(data[0]).startswith(
        "Structure(HO, 210.0 Angstrom^3, periodic T T T, energy -3 eV, forces up to 1"
    )
    assert "array" not in repr(data[0]) and repr(data.take([])) == "Dataset(0 structures)"


def test_the_help_names_the_formats_that_are_written_and_the_page_all():
    assert sorted(TARGETS.replace(" or ", ", ").split(", ")) == sorted(
        targets_in_words().replace(" or ", ", ").split(", ")
    )
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    for known in FORMATS.values():
        assert f"| {known.name} | yes | {'yes' if known.write else ''} |" in page


def test_label_weights_are_relative_to_the_configuration(tmp_path, monkeypatch):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.toml").write_text('[data]\nfiles = "a.xyz"\nweights = "w.txt"\n')
    monkeypatch.chdir(tmp_path)
    assert read_config("jobs/a.toml").data.weights == str(tmp_path / "jobs" / "w.txt")
    assert read_config("jobs/a.toml", ["data.weights=w.txt"]).data.weights == str(tmp_path / "w.txt")


FRAME = "2\n{}\nSi 0 0 0 .1 .2 .3\nO 1.6 0 0 -.1 -.2 -.3\n"
COLUMNS = "Properties=species:S:1:pos:R:3:forces:R:3 "
CELL = 'Lattice="4 0 0 0 4.2 0 0 0 4.4" '


class Said(list):
    """A report that keeps lines and warnings."""

    def __call__(self, text):
        self.append(text)

    warn = __call__


def reading_of(tmp_path, comment, before=b""):
    path = tmp_path / "frame.xyz"
    path.write_bytes(before + FRAME.format(comment).encode())
    said = Said()
    return read_sources([str(path)], report=said), "\n".join(said)


def test_a_mark_of_byte_order_is_no_part_of_the_file(tmp_path):
    data, _ = reading_of(tmp_path, CELL + COLUMNS + "energy=-5", before=b"\xef\xbb\xbf")
    assert data.energy[0] == -5.0
    text = "begin\natom 0 0 0 H 0 0 0 0 0\natom 0 0 1.4 H 0 0 0 0 0\nenergy -1\nend\n"
    (tmp_path / "input.data").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(read_sources([str(tmp_path / "input.data")], report=lambda _: None)) == 1


@pytest.mark.parametrize("name", ["toten", "potential_energy", "TotEnergy", "Potential_Energy"])
def test_energies_of_these_names_are_found(tmp_path, name):
    assert reading_of(tmp_path, f"{CELL}{COLUMNS}{name}=-5")[0].energy[0] == -5.0


@pytest.mark.parametrize("name", ["E", "U0", "pbe0"])
def test_where_no_energy_is_found_every_number_is_named(tmp_path, name):
    data, said = reading_of(tmp_path, f"{CELL}{COLUMNS}{name}=-5.5")
    assert np.isnan(data.energy[0]) and f"perhaps labels: {name!r}" in said
    assert name not in reading_of(tmp_path, f"{CELL}{COLUMNS}{name}=-5.5 energy=-5")[1].split("perhaps")[-1]


def test_where_no_stress_is_found_six_or_nine_numbers_are_named(tmp_path):
    for numbers in ("1 2 3 4 5 6", "1 2 3 4 5 6 7 8 9"):
        said = reading_of(tmp_path, f'{CELL}{COLUMNS}energy=-5 sigma="{numbers}"')[1]
        assert "perhaps labels: 'sigma'" in said
    assert "perhaps" not in reading_of(tmp_path, f'{CELL}{COLUMNS}energy=-5 polar="{numbers}"')[1]


@pytest.mark.parametrize("name", ["stress", "Stress", "REF_stress"])
def test_six_numbers_of_stress_are_in_the_order_of_voigt(tmp_path, name):
    data, said = reading_of(tmp_path, f'{CELL}{COLUMNS}energy=-5 {name}=".1 .2 .3 .01 .02 .03"')
    np.testing.assert_allclose(data.stress[0], [0.1, 0.2, 0.3, 0.01, 0.02, 0.03])
    assert name == "REF_stress" or "are taken as xx yy zz yz xz xy" in said


def test_six_numbers_of_a_virial_too(tmp_path):
    data, _ = reading_of(tmp_path, f'{CELL}{COLUMNS}energy=-5 virial="1 2 3 .1 .2 .3"')
    np.testing.assert_allclose(data.stress[0], -np.array([1, 2, 3, 0.1, 0.2, 0.3]) / (4 * 4.2 * 4.4))


@pytest.mark.parametrize(
    "words",
    [
        "a=4 b=4.2 c=4.4",
        "boxvectors 4 0 0 0 4.2 0 0 0 4.4",
        "step 7 4.0, 0, 0, 0, 4.2, 0, 0, 0, 4.4",
        'box="4 4.2 4.4"',
    ],
)
def test_a_cell_in_other_words_is_not_overlooked(tmp_path, words):
    with pytest.raises(DataError, match="its cell is not told by Lattice"):
        reading_of(tmp_path, f"{COLUMNS}energy=-5 {words}")


def test_nine_numbers_of_a_label_are_no_cell(tmp_path):
    data, _ = reading_of(tmp_path, f'{COLUMNS}energy=-5 polarizability="1 0 0 0 1 0 0 0 1"')
    assert not data.pbc.any()


def test_units_of_a_comment_count_or_are_refused(tmp_path):
    data, _ = reading_of(tmp_path, f'{CELL}{COLUMNS}energy=-5 units="Hartree Bohr"')
    assert data.energy[0] == pytest.approx(-5 * 27.211386, rel=1e-6)
    assert reading_of(tmp_path, f"{CELL}{COLUMNS}energy=-5 units=metal")[0].energy[0] == -5.0
    with pytest.raises(DataError, match=r"frame 0 \(line 1\): units='bohr'"):
        reading_of(tmp_path, f"{CELL}{COLUMNS}energy=-5 units=bohr")


@pytest.mark.parametrize(
    "values, warned",
    [(("charge=0", "charge=1"), "'charge' of frames differ (0, 1)"), (("charge=1", "charge=1"), None)]
    + [
        (("Spin=1", "Spin=3"), "'Spin' of frames differ (1, 3)"),
        (("total_charge=0.01", "total_charge=0"), None),
    ]
    + [(("multiplicity=singlet", "multiplicity=triplet"), "differ (singlet, triplet)")],
)
def test_charges_and_spins_that_differ_are_told(tmp_path, values, warned):
    text = "".join(frame(f"{CELL} energy={-1.0 - k} {value}", 0) for k, value in enumerate(values))
    _, said = read(tmp_path, text)
    assert (warned in said) if warned else ("differ" not in said)


@pytest.mark.parametrize("charges, warned", [(("0", "-1"), True), (("0.01", "-0.02"), False)])
def test_charges_of_input_data_that_differ_are_told(tmp_path, charges, warned):
    text = "".join(
        f"begin\natom 0 0 {k} H 0 0 0 0 0\nenergy -0.5\ncharge {charge}\nend\n"
        for k, charge in enumerate(charges)
    )
    _, said = read(tmp_path, text, "input.data")
    assert ("charges of structures differ (-1, 0)" in said) == warned


def test_energies_of_single_atoms_are_named_where_there_is_no_other(tmp_path):
    columns = "Properties=species:S:1:pos:R:3:energies:R:1"
    text = f"2\n{CELL} {columns}\nSi 0 0 0 -5.0\nO 1.6 0 0 -4.0\n"
    assert "perhaps labels: 'energies' (of single atoms)" in read(tmp_path, text)[1]
    assert "perhaps" not in read(tmp_path, text.replace(columns, f"{columns} energy=-9.0"))[1]


STRESSED = (
    'Lattice="9 0 0 0 9 0 0 0 9" pbc="{}" Properties=species:S:1:pos:R:3 energy=-1 {}="1 0 0 0 1 0 0 0 1"'
)


@pytest.mark.parametrize("name", ["stress", "REF_stress", "virial"])
@pytest.mark.parametrize("pbc", ["F F F", "T T F"])
def test_stresses_of_structures_that_are_not_periodic_are_left_out_with_a_count(tmp_path, name, pbc):
    atoms = "Cu 0 0 0\nCu 0 0 2.4\n"
    text = "".join(f"2\n{STRESSED.format(p, name)}\n{atoms}" for p in ("T T T", pbc, pbc))
    (tmp_path / "a.xyz").write_text(text)
    lines = []
    data = read_sources(tmp_path / "a.xyz", report=lines.append)
    assert np.isfinite(data.stress).all(axis=1).tolist() == [True, False, False]
    assert f"left out, of structures that are not periodic in all directions: 2 {name}" in "\n".join(lines)
    assert "stresss" not in "\n".join(lines)
    if pbc == "F F F":  # what is written is read again
        write_target(tmp_path / "input.data", data)
        again = read_sources(tmp_path / "input.data", report=lines.append)
        np.testing.assert_allclose(again.stress, data.stress, rtol=1e-12)


def test_the_stress_of_a_marked_isolated_atom_is_none(tmp_path):
    alone = f"1\n{STRESSED.format('T T T', 'stress')} config_type=IsolatedAtom\nCu 0 0 0\n"
    (tmp_path / "a.xyz").write_text(alone + alone.replace("IsolatedAtom", "bcc"))
    data = read_sources(tmp_path / "a.xyz", report=lambda text: None)
    assert np.isfinite(data.stress).all(axis=1).tolist() == [False, True]


def test_the_stress_of_an_open_structure_is_not_written_into_input_data(tmp_path):
    s = Structure(numbers=[29, 29], positions=[[0, 0, 0], [0, 0, 2.4]], cell=9 * np.eye(3), stress=np.ones(6))
    write_target(tmp_path / "input.data", Dataset.from_structures([s]))
    again = read_sources(tmp_path / "input.data", report=lambda text: None)
    assert np.isnan(again.stress).all() and len(again) == 1
