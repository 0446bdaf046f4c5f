"""XSF files of aenet, and files that are refused by what they are."""

import numpy as np
import pytest
from ase.units import Hartree

from mpnnp.data.formats import read_sources
from mpnnp.errors import DataError

CRYSTAL = """# total energy =  -16688.9969866290994105 eV

CRYSTAL
PRIMVEC
    4.0    0.0    0.0
    0.0    5.0    0.0
    1.0    0.0    6.0D+00
PRIMCOORD
 2 1
Ti      0.0   0.1    0.2   0.5 -0.25  1.0
O       2.0   0.1    0.2  -0.5  0.25 -1.0
"""
MOLECULE = "# total energy = -17.5 eV\n\nATOMS\nH 0 0 0 0.1 0.2 0.3\nO 0 0 0.97 -0.1 -0.2 -0.3\n"


def quiet(_):
    pass


def test_the_labels_of_aenet_are_in_electronvolts(tmp_path):
    (tmp_path / "a.xsf").write_text(CRYSTAL)
    (tmp_path / "b.xsf").write_bytes(MOLECULE.replace("\n", "\r\n").encode())
    data = read_sources(tmp_path, report=quiet)
    assert data.energy.tolist() == [-16688.9969866290994105, -17.5]
    assert data.forces[:, 2].tolist() == [1.0, -1.0, 0.3, -0.3]
    assert data.cell[0].tolist() == [[4, 0, 0], [0, 5, 0], [1, 0, 6]]
    assert data.pbc.all(axis=1).tolist() == [True, False]
    assert data.numbers.tolist() == [22, 8, 1, 8]
    assert data.positions[3].tolist() == [0, 0, 0.97]


def test_other_xsf_files_have_forces_in_hartree_per_angstrom(tmp_path):
    (tmp_path / "a.xsf").write_text(CRYSTAL.partition("\n")[2].replace("D+00", ""))
    data = read_sources(tmp_path / "a.xsf", report=quiet)
    assert np.isnan(data.energy).all()
    assert data.forces[0, 0] == pytest.approx(0.5 * Hartree)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" eV", " Ha", "a.xsf, line 1: energies in 'Ha' are not read"),
        ("-16688", "x16688", "a.xsf, line 1: expected 1 finite number, found 'x16688"),
        ("0.25 -1.0", "0.25", "a.xsf, line 11: expected 6 finite numbers, found '2.0 0.1"),
        ("Ti ", "Tx ", "a.xsf, line 10: 'Tx' is not the symbol of an element"),
        (" 2 1", " 3 1", "a.xsf: has 2 atoms, must have 3"),
        ("PRIMCOORD", "CONVCOORD", "a.xsf: has neither ATOMS nor PRIMVEC and PRIMCOORD"),
        ("0.5 -0.25", "nan -0.25", "a.xsf, line 10: expected 6 finite numbers"),
    ],
)
def test_what_is_wrong_in_a_file_of_aenet_is_told(tmp_path, old, new, message):
    assert old in CRYSTAL
    (tmp_path / "a.xsf").write_text(CRYSTAL.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read_sources(tmp_path / "a.xsf", report=quiet)


def test_archives_of_numpy_and_files_of_mlip_are_refused_as_what_they_are(tmp_path):
    np.savez(tmp_path / "a.npz", R=np.zeros((2, 3)))
    (tmp_path / "a.cfg").write_text("BEGIN_CFG\n Size\n    1\nEND_CFG\n")
    for name, words in (("a.npz", "is an archive of NumPy"), ("a.cfg", "is a file of MLIP")):
        with pytest.raises(DataError, match=f"{name}: {words}"):
            read_sources(tmp_path / name, report=quiet)


@pytest.mark.parametrize(
    ("kind", "pbc"),
    [
        ("CRYSTAL", [True] * 3),
        ("SLAB", [True, True, False]),
        ("polymer", [True, False, False]),
        ("MOLECULE", [False] * 3),
        ("# nothing", [True] * 3),
    ],
)
def test_structures_are_periodic_along_the_vectors_of_their_kind(tmp_path, kind, pbc):
    (tmp_path / "a.xsf").write_text(CRYSTAL.replace("CRYSTAL", kind))
    data = read_sources(tmp_path / "a.xsf", report=quiet)
    assert data.pbc[0].tolist() == pbc
    assert data.cell[0].tolist() == [[4, 0, 0], [0, 5, 0], [1, 0, 6]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"ANIMSTEPS 2\n{CRYSTAL}", 1),
        (f"{CRYSTAL}PRIMCOORD{CRYSTAL.partition('PRIMCOORD')[2]}", 12),
        (CRYSTAL + CRYSTAL, 14),
        (MOLECULE + MOLECULE, 8),
    ],
)
def test_several_frames_in_one_file_are_an_error(tmp_path, text, line):
    (tmp_path / "a.xsf").write_text(text)
    with pytest.raises(DataError, match=rf"a.xsf, line {line}: .*: has several frames"):
        read_sources(tmp_path / "a.xsf", report=quiet)


def test_a_cell_of_atoms_without_periodicity_is_not_lost(tmp_path):
    vectors = "PRIMVEC\n4 0 0\n0 4 0\n0 0 4\n"
    (tmp_path / "a.xsf").write_text(MOLECULE.replace("ATOMS", f"{vectors}ATOMS"))
    with pytest.raises(DataError, match="a.xsf: has PRIMVEC and ATOMS, which do not go together"):
        read_sources(tmp_path / "a.xsf", report=quiet)
