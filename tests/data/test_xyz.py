"""Frames of xyz files and packed files as other programs write them: read, or an error with its line."""

import gzip

import numpy as np
import pytest
from xyz_frames import CELL, frame, read

from mpnnp.data.formats import read_sources
from mpnnp.errors import DataError
from mpnnp.units import HARTREE

COLUMNS = "Properties=species:S:1:pos:R:3:forces:R:3"


@pytest.mark.parametrize(
    "columns",
    [
        "species:S:1:x:R:1:y:R:1:z:R:1:fx:R:1:fy:R:1:fz:R:1",
        "species:S:1:pos:R:3:force_x:R:1:force_y:R:1:force_z:R:1",
        "element:S:1:coordinates:R:3:forces:R:3",
        "Species:S:1:Position:R:3:forces:R:3",
    ],
)
def test_columns_are_found_under_other_names_and_as_three(tmp_path, columns):
    data, _ = read(tmp_path, frame(f"{CELL} Properties={columns} energy=-5"))
    assert data.numbers.tolist() == [14, 8]
    np.testing.assert_allclose(data.positions[1], [1.6, 0, 0])
    np.testing.assert_allclose(data.forces[1], [-0.1, -0.2, -0.3])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("species:S:1:u:R:3:forces:R:3", "no column says the positions"),
        ("kind:S:1:pos:R:3:forces:R:3", "no column says the elements"),
        ("species:I:1:pos:R:3:forces:R:3", "if these are atomic numbers, call the column Z"),
        ("species:S:1:pos:R:3:forces:R", "must be name:type:count of each column"),
        ("species:S:1:pos:F:3:forces:R:3", "must be name:type:count of each column"),
    ],
)
def test_frames_without_elements_or_positions_are_errors(tmp_path, columns, message):
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, frame(f"{CELL} Properties={columns} energy=-5"))
    assert "a.xyz, frame 0 (line 1)" in str(error.value)


def test_exponents_of_fortran_are_read_in_xyz_too(tmp_path):
    plain = frame(f'Lattice="4 0 0 0 5 0 0 0 6" {COLUMNS} energy=-5 virial="1 0 0 0 2 0 0 0 3"')
    fortran = plain.replace("0.1", "1.0D-01").replace("-5", "-5.0d0").replace('"4', '"4.0D+00')
    found, _ = read(tmp_path, fortran.replace('"1 0', '"1.0D0 0'))
    expected, _ = read(tmp_path, plain)
    for name in ("cell", "positions", "forces", "energy", "stress"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(("word", "other"), [("0.1", "*****"), ("Si", "Si1"), ("0.3", "1.0-")])
def test_a_word_that_cannot_be_read_is_an_error_with_its_line(tmp_path, word, other):
    text = frame(f"{CELL} {COLUMNS} energy=-5")
    with pytest.raises(DataError, match=r"frame 1: .*\(line 7\)"):
        read(tmp_path, text + text.replace(word, other, 1))


@pytest.mark.parametrize("key", ["energy=-5 energy=-6", 'Lattice="9 0 0 0 9 0 0 0 9"', "pbc=F"])
def test_what_is_said_twice_in_a_comment_is_an_error(tmp_path, key):
    with pytest.raises(DataError, match=r"frame 0 \(line 1\): \w+ is said twice"):
        read(tmp_path, frame(f"{CELL} {COLUMNS} {key}"))
    said_twice_alike = f"{CELL} {COLUMNS} energy=-5 energy=-5.0 comment='energy=-7'"
    assert read(tmp_path, frame(said_twice_alike))[0].energy[0] == -5.0


@pytest.mark.parametrize("pbc", ['"T T F"', '"[T, T, F]"', '"True True False"', '"1 1 0"', "[T,T,F]", "TTF"])
def test_periodicity_is_read_in_many_spellings(tmp_path, pbc):
    data, _ = read(tmp_path, frame(f'Lattice="4 0 0 0 4 0 0 0 9" pbc={pbc} energy=-5', 0))
    assert data.pbc[0].tolist() == [True, True, False]


@pytest.mark.parametrize(
    "words", ['pbc="T T"', 'pbc="xy"', 'periodic="T T F"', 'boundary="p p f"', "pbcs=TTF"]
)
def test_periodicity_in_words_that_are_not_read_is_an_error(tmp_path, words):
    with pytest.raises(DataError, match=r"frame 0 \(line 1\): .*T T F"):
        read(tmp_path, frame(f'Lattice="4 0 0 0 4 0 0 0 9" {words} energy=-5', 0))


@pytest.mark.parametrize(
    "lattice", ["[[4,0,0],[0,5,0],[1,0,6]]", "{4 0 0 0 5 0 1 0 6}", "'4,0,0, 0,5,0, 1,0,6'"]
)
def test_lattices_are_read_in_many_spellings(tmp_path, lattice):
    data, _ = read(tmp_path, frame(f"Lattice={lattice} energy=-5", 0))
    np.testing.assert_array_equal(data.cell[0], [[4, 0, 0], [0, 5, 0], [1, 0, 6]])
    assert data.pbc.all()


@pytest.mark.parametrize(
    "words",
    [
        "box: 4 5 6",
        "Box 4 5 6",
        "CRYST1 4.0 5.0 6.0 90 90 90",
        'lattice_vectors="4 0 0 0 5 0 0 0 6"',
        'cell_lengths="4 5 6" cell_angles="90 90 90"',
        "Lx=4 Ly=5 Lz=6",
        "A=4.0 B=5.0 C=6.0",
        "boxlength=4.0",
        "jmolscript: load unitcell {4 5 6 90 90 90}",
        "VEC1 4 0 0 VEC2 0 5 0",
    ],
)
def test_cells_of_other_programs_are_not_overlooked(tmp_path, words):
    with pytest.raises(DataError, match="its cell is not told by Lattice"):
        read(tmp_path, frame(words, 0))


def test_a_tensor_that_is_not_symmetric_and_a_mask_of_another_name_are_warned_of(tmp_path):
    text = f"{CELL} {COLUMNS} energy=-5 stress="
    assert "its stress is not symmetric" in read(tmp_path, frame(text + '"1 2 3 4 5 6 7 8 9"'))[1]
    virial = frame(text.replace("stress=", "virials=") + '"1 2 3 4 5 6 7 8 9"')
    assert "1 tensor under 'virials' is not symmetric" in read(tmp_path, virial)[1]
    assert "warning" not in read(tmp_path, frame(text + '"1 2 3 2 5 6.001 3 6 9"'))[1]
    rows = frame(f"{CELL} {COLUMNS}:forces_mask:L:1 energy=-5").replace("0.3\n", "0.3 T\n")
    assert "a mask is called 'force_mask'" in read(tmp_path, rows)[1]


@pytest.mark.parametrize("comment", ["-97208.406", "-9.72D+04"])
def test_a_number_alone_is_warned_of(tmp_path, comment):
    data, said = read(tmp_path, frame(comment, 0) * 2)
    assert np.isnan(data.energy).all()
    assert said.count(f"if it is the energy, write energy={comment}") == 1
    assert "write energy=" not in read(tmp_path, frame("17", 0))[1]  # a step


# ---- packed files


@pytest.mark.parametrize("name", ["A.XYZ.GZ", "a.xyz.gz"])
def test_compression_is_known_by_its_suffix_in_any_case(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(frame(f"{CELL} energy=-5", 0).encode()))
    assert read_sources(tmp_path / name, report=lambda _: None).energy[0] == -5.0
    assert len(read_sources(tmp_path, report=lambda _: None)) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xyz.zst", b"", "is packed in a way that is not read .* unpack it"),
        ("a.tar.gz", b"", "is packed in a way that is not read"),
        ("input.data.zip", b"", "is packed in a way that is not read"),
        ("input.data", gzip.compress(b"begin"), "is compressed, .* name it input.data.gz"),
        ("a.xyz", b"PK\3\4 a.xyz", "is compressed, .* unpack it"),
        ("input.data", "begin\nend\n".encode("utf-16"), "is text in UTF-16"),
    ],
)
def test_files_that_are_packed_in_other_ways_are_called_so(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {message}"):
        read_sources(tmp_path / name, report=lambda _: None)


def test_the_pressure_in_dumps_of_lammps_is_no_stress(tmp_path):
    comment = (
        'Timestep=5 Time=0.5 pbc="T T T" Lattice="5 0 0 0 5 0 0 0 5" Potential_energy=-3.5 Temperature=300 '
        'Stress="1000 1 2 1 2000 3 2 3 3000" Properties=species:S:1:pos:R:3:forces:R:3'
    )
    (tmp_path / "a.xyz").write_text(f"1\n{comment}\nCu 0 0 0 1 2 3\n")
    lines = []
    data = read_sources(tmp_path / "a.xyz", report=lines.append)
    assert np.isnan(data.stress).all()
    assert data.energy[0] == -3.5
    assert data.forces[0].tolist() == [1, 2, 3]
    said = "\n".join(lines)
    assert "a.xyz, frame 0 (line 1): a dump of LAMMPS, which does not say its units" in said
    assert "perhaps labels" not in said


@pytest.mark.parametrize("comment", ["Coordinates from ORCA-job x E -76.3", "energy: -5.07 gnorm: 0.0003"])
def test_energies_without_a_sign_of_equality_are_told(tmp_path, comment):
    (tmp_path / "a.xyz").write_text(f"1\n{comment}\nCu 0 0 0\n")
    lines = []
    assert np.isnan(read_sources(tmp_path / "a.xyz", report=lines.append).energy).all()
    assert 'without "="' in "\n".join(lines)


@pytest.mark.parametrize("name", ["virial", "dft_virial", "stress"])
@pytest.mark.parametrize(
    "value",
    [
        "[1.0, 0.1, 0.2, 0.1, 2.0, 0.3, 0.2, 0.3, 3.0]",
        '"[1.0, 0.1, 0.2, 0.1, 2.0, 0.3, 0.2, 0.3, 3.0]"',
        "(1.0,0.1,0.2,0.1,2.0,0.3,0.2,0.3,3.0)",
        '"1.0, 0.1, 0.2, 0.1, 2.0, 0.3, 0.2, 0.3, 3.0"',
        "[1.0 2.0 3.0 0.3 0.2 0.1]",
    ],
)
def test_tensors_may_be_lists_of_numbers(tmp_path, name, value):
    data, _ = read(tmp_path, frame(f"{CELL} {COLUMNS} {name}={value} energy=-5"))
    six = np.array([1.0, 2.0, 3.0, 0.3, 0.2, 0.1])
    expected = six if name == "stress" else -six / (4 * 4.2 * 4.4)
    np.testing.assert_allclose(data.stress[0], expected, rtol=1e-12)
    assert data.energy[0] == -5


@pytest.mark.parametrize("name", ["virial", "REF_virials", "stress"])
@pytest.mark.parametrize("value", ["{}", '"{}"', '"_JSON {}"'])
def test_matrices_may_be_nested_lists(tmp_path, name, value):
    matrix = value.format("[[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]]")
    data, _ = read(tmp_path, frame(f"{CELL} {COLUMNS} energy=-5 {name}={matrix}"))
    six = np.array([1.0, 2.0, 3.0, 0.3, 0.2, 0.1])
    expected = six if name == "stress" else -six / (4 * 4.2 * 4.4)
    np.testing.assert_allclose(data.stress[0], expected, rtol=1e-12)


def test_six_numbers_under_any_name_are_told_to_be_in_the_order_of_voigt(tmp_path):
    data, said = read(tmp_path, frame(f'{CELL} {COLUMNS} energy=-5 REF_stress="1 2 3 4 5 6"'))
    assert data.stress[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert "the six numbers of 'REF_stress' are taken as xx yy zz yz xz xy" in said


@pytest.mark.parametrize("comment", ["water, units bohr", "coordinates in a.u.", "atomic units"])
def test_a_comment_that_speaks_of_bohr_is_not_overlooked(tmp_path, comment):
    text = f"3\n{comment}\nO 0 0 0\nH 0 0 1.81\nH 0 1.75 -0.45\n"
    _, said = read(tmp_path, text)
    assert "a.xyz, frame 0 (line 1): its comment says" in said
    assert "lengths are taken for Angstrom" in said
    _, said = read(tmp_path, text.replace(comment, "energy_units=eV length_units=bohr"))
    assert "its comment says" not in said


@pytest.mark.parametrize(
    ("comment", "energy"),
    [
        ("[geom 1] SCF energy = -1.5 Eh", -1.5 * HARTREE),
        ("total_energy=-3 Ry converged=T", -1.5 * HARTREE),
        ("energy = -5.0 eV", -5.0),
        ("energy=-5.0 cutoff = 30.0 Ry", -5.0),
    ],
)
def test_the_unit_behind_an_energy_counts(tmp_path, comment, energy):
    data, _ = read(tmp_path, f"1\n{comment}\nCu 0 0 0\n")
    assert data.energy[0] == pytest.approx(energy)


def test_the_unit_behind_an_energy_leaves_forces_without_one(tmp_path):
    with pytest.raises(DataError, match="line 1.*: energies are in Hartree.*nothing says in what the forces"):
        read(tmp_path, frame(f"{CELL} {COLUMNS} energy = -5.0 Ha"))


def test_a_cell_in_a_comment_of_json_is_not_overlooked(tmp_path):
    comment = '{"energy": -30.0, "cell": [[5.0, 0, 0], [0, 5.0, 0], [0, 0, 5.0]]}'
    with pytest.raises(DataError, match="frame 0 .line 1.: its cell is not told by Lattice"):
        read(tmp_path, f"1\n{comment}\nCu 0 0 0\n")


@pytest.mark.parametrize("angles", ["60 60 150", "120 120 120", "90 90 180"])
def test_angles_that_no_cell_has_are_an_error_with_the_frame(tmp_path, angles):
    comment = f"# CELL(abcABC): 10 10 10 {angles} positions{{angstrom}} cell{{angstrom}}"
    with pytest.raises(DataError, match=f"frame 0 .line 1.: 10 10 10 {angles} are no lengths and angles"):
        read(tmp_path, f"1\n{comment}\nCu 0 0 0\n")
