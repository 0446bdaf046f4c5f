"""Folders of DeePMD-kit that lack something, or hold more than is read: an error with its file, or a word."""

import numpy as np
import pytest

from mpnnp.data.formats import read_sources
from mpnnp.errors import DataError


def make(folder, types="0\n1\n1\n", **arrays):
    part = folder / "set.000"
    part.mkdir(parents=True)
    (folder / "type.raw").write_text(types)
    (folder / "type_map.raw").write_text("O\nH\n")
    rng = np.random.default_rng(1)
    usual = {
        "coord": rng.uniform(0, 9, (2, 9)),
        "box": np.tile(10 * np.eye(3).ravel(), (2, 1)),
        "energy": rng.normal(size=2),
        "force": rng.normal(size=(2, 9)),
        "virial": np.tile(np.eye(3).ravel(), (2, 1)),
    }
    for name, value in (usual | arrays).items():
        np.save(part / f"{name}.npy", value)
    return folder


def read(folder):
    lines = []
    return read_sources(folder, report=lines.append), "\n".join(lines)


def test_labels_that_are_not_read_are_named(tmp_path):
    data, said = read(make(tmp_path / "a", stress=np.ones((2, 9)), atom_pref=np.ones((2, 3))))
    assert "a: not read: atom_pref.npy, stress.npy" in said
    np.testing.assert_allclose(data.stress[0], [-0.001] * 3 + [0.0] * 3, rtol=1e-12)
    assert "not read" not in read(make(tmp_path / "b", fparam=np.ones((2, 1))))[1]


def test_labels_that_are_nan_and_parameters_that_differ_are_told(tmp_path):
    data, said = read(make(tmp_path / "a", energy=np.array([-1.0, np.nan]), fparam=np.array([[0.1], [5.0]])))
    assert np.isnan(data.energy).tolist() == [False, True]
    assert "set.000/energy.npy: 1 of 2 frames have NaN, taken for missing labels" in said
    assert "a: fparam.npy differs from frame to frame (0.1 to 5)" in said
    _, said = read(make(tmp_path / "b", spin=np.arange(18.0).reshape(2, 9)))
    assert (
        "b: spin.npy differs from atom to atom (0 to 17), which potentials of this kind do not know" in said
    )


def test_virials_without_volume_are_left_out_with_a_word(tmp_path):
    folder = make(tmp_path / "a")
    (folder / "nopbc").touch()
    data, said = read(folder)
    assert "virials are left out" in said
    assert np.isnan(data.stress).all() and not data.pbc.any()


def test_labels_behind_a_broken_link_are_not_taken_for_absent(tmp_path):
    folder = make(tmp_path / "a")
    (folder / "set.000" / "force.npy").unlink()
    (folder / "set.000" / "force.npy").symlink_to("gone.npy")
    with pytest.raises(DataError, match="force.npy: cannot be read: it is a symbolic link to .*/gone.npy"):
        read(folder)


@pytest.mark.parametrize(
    ("types", "arrays", "message"),
    [
        ("O\nH\nH\n", {}, "type.raw: must be numbers that count in type_map.raw, found 'O'"),
        ("0\n1\n-1\n", {}, "type.raw: atom type -1, must not be negative"),
        ("\n", {}, "type.raw: is empty"),
        ("0\n1\n1\n", {"coord": np.ones((2, 9)) * 1j}, "coord.npy: must be real numbers"),
        ("0\n1\n1\n", {"real_atom_types": np.full((2, 3), 0.5)}, "real_atom_types.npy: must be numbers that"),
        (
            "0\n1\n1\n",
            {"real_atom_types": np.full((2, 3), -2)},
            "real_atom_types.npy: must be .*or -1 .no atom",
        ),
        ("0\n1\n1\n", {"energy": np.array([{}, {}], object)}, "energy.npy: Object arrays cannot be loaded"),
    ],
)
def test_wrong_systems_are_errors_naming_the_file(tmp_path, types, arrays, message):
    with pytest.raises(DataError, match=message):
        read(make(tmp_path / "a", types, **arrays))


def test_arrays_of_another_number_of_frames_are_errors_that_say_it(tmp_path):
    with pytest.raises(DataError, match=r"energy.npy: has 3 numbers, must have 2"):
        read(make(tmp_path / "a", energy=np.zeros(3)))
    with pytest.raises(DataError, match=r"coord.npy: has 19 numbers, must have a multiple of 9"):
        read(make(tmp_path / "b", coord=np.zeros(19)))


def test_a_cell_of_zeros_is_an_error_that_names_nopbc(tmp_path):
    with pytest.raises(
        DataError, match=r"box.npy: is 0; a system without a cell has an empty file nopbc in "
    ):
        read(make(tmp_path / "a", box=np.zeros((2, 9))))


@pytest.mark.parametrize("content", [b"", b"1.0 2.0"])
def test_what_is_no_array_is_an_error_naming_its_file(tmp_path, content):
    (make(tmp_path / "a") / "set.000/force.npy").write_bytes(content)
    with pytest.raises(DataError, match="force.npy"):
        read(tmp_path / "a")


@pytest.mark.parametrize("system", ["a", ".", "deep/er"])
def test_files_beside_systems_that_are_not_read_are_named(tmp_path, system):
    make(tmp_path / system)
    assert "warning" not in read(tmp_path)[1]
    (tmp_path / "more.xyz").write_text("1\n\nCu 0 0 0\n")
    data, said = read(tmp_path)
    assert len(data) == 2
    assert "warning: " in said and "these alone are read" in said and "not its files more.xyz" in said
    both = read_sources([tmp_path, tmp_path / "more.xyz"], report=lambda text: None)
    assert len(both) == 3
