"""Files of CP2K: single points of its versions, trajectories in the extended XYZ format."""

import numpy as np
import pytest
from ase import units
from cp2k import single_point

from mpnnp.data.formats import companions_of, read_sources
from mpnnp.errors import DataError

FORCE, GPA = units.Hartree / units.Bohr, units.GPa

HEAD = single_point("2025.1", "[hartree]                    -17.068459220358278") + "\n"
NEW_FORCES = """ FORCES| Atomic forces [hartree/bohr]
 FORCES|   Atom     x               y               z               |f|
 FORCES|      1  1.11494962E-02 -1.59816054E-03  2.12988782E-02   2.40937252E-02
 FORCES|      2 -1.63766898E-02 -5.60855684E-03 -8.47386276E-03   1.92732517E-02
 FORCES| Sum    -5.22719360E-03 -7.20671738E-03  1.28250154E-02   1.56101930E-02
 FORCES| Total atomic force     0.156101930017
"""
OLD_FORCES = """ ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      H           0.01114950    -0.00159816     0.02129888
      2      2      O          -0.01637669    -0.00560856    -0.00847386
 SUM OF ATOMIC FORCES          -0.00522719    -0.00720672     0.01282502     0.01561019
"""
NEW_STRESS = """ STRESS| Analytical stress tensor [GPa]
 STRESS|                        x                   y                   z
 STRESS|      x      1.500000000000E+00  4.000000000000E-01  3.000000000000E-01
 STRESS|      y      4.000000000000E-01  2.500000000000E+00  2.000000000000E-01
 STRESS|      z      3.000000000000E-01  2.000000000000E-01  3.500000000000E+00
 STRESS| 1/3 Trace   2.500000000000E+00
 STRESS| Eigenvectors and eigenvalues of the analytical stress tensor [GPa]
 STRESS|      x     -0.999900000000      0.010000000000      0.010000000000
"""
OLD_STRESS = """ STRESS TENSOR [GPa]

            X               Y               Z
  X       1.50000000      0.40000000      0.30000000
  Y       0.40000000      2.50000000      0.20000000
  Z       0.30000000      0.20000000      3.50000000

 1/3 Trace(stress tensor):   2.50000000E+00
"""
END = " PROGRAM ENDED AT 12:00\n"


def read(path):
    lines = []
    return read_sources(path, report=lines.append), "\n".join(lines)


@pytest.mark.parametrize("forces", [NEW_FORCES, OLD_FORCES], ids=["2025", "2024"])
@pytest.mark.parametrize("stress", [NEW_STRESS, OLD_STRESS], ids=["2021", "7.1"])
def test_forces_and_stress_of_all_versions_are_read(tmp_path, forces, stress):
    (tmp_path / "cp2k.out").write_text(HEAD + forces + stress + END)
    data, said = read(tmp_path / "cp2k.out")
    expected = [[0.01114950, -0.00159816, 0.02129888], [-0.01637669, -0.00560856, -0.00847386]]
    np.testing.assert_allclose(data.forces, np.array(expected) * FORCE, atol=1e-8 * FORCE)
    # positive under compression there, negative here; xx yy zz yz xz xy
    np.testing.assert_allclose(data.stress[0], -np.array([1.5, 2.5, 3.5, 0.2, 0.3, 0.4]) * GPA, rtol=1e-12)
    assert data.energy[0] == pytest.approx(-17.068459220358278 * units.Hartree, rel=1e-14)
    assert "warning" not in said


def test_units_that_an_output_says_are_those_of_its_numbers(tmp_path):
    forces = NEW_FORCES.replace("hartree/bohr", "eV/angstrom")
    stress = NEW_STRESS.replace("[GPa]", "[bar]", 1)
    (tmp_path / "cp2k.out").write_text(HEAD + forces + stress + END)
    data, _ = read(tmp_path / "cp2k.out")
    assert data.forces[0, 0] == pytest.approx(1.11494962e-2)
    assert data.stress[0, 0] == pytest.approx(-1.5e-4 * GPA)
    (tmp_path / "cp2k.out").write_text(HEAD + NEW_FORCES.replace("hartree/bohr", "furlong") + END)
    with pytest.raises(DataError, match=r"cp2k.out, line 14: the unit \[furlong\] is not read"):
        read(tmp_path / "cp2k.out")


def test_an_output_without_forces_or_with_some_of_them_says_so(tmp_path):
    (tmp_path / "cp2k.out").write_text(HEAD + END)
    data, said = read(tmp_path / "cp2k.out")
    assert np.isnan(data.forces).all()
    assert np.isnan(data.stress).all()
    assert "has no forces on the atoms; FORCE_EVAL/PRINT/FORCES prints them" in said
    cut = NEW_FORCES[: NEW_FORCES.index(" FORCES|      2")]
    (tmp_path / "cp2k.out").write_text(HEAD + cut)
    with pytest.raises(DataError, match=r"cp2k.out, line 14: 1 line of numbers, must be 2"):
        read(tmp_path / "cp2k.out")


FRAME = (
    '       2\nLattice="9.0 0.0 0.0 0.8 8.5 0.0 -0.6 0.4 9.{0}" Properties=species:S:1:pos:R:3{1} '
    "Step={0} Time=0.500 Energy={2}\n   O   1.0 0.0 0.{0}\n   H  -0.1 0.0 0.2\n"
)


@pytest.mark.parametrize("ending", ["xyz", "extxyz"])
@pytest.mark.parametrize(("pbc", "periodic"), [('pbc="T T F"', [True, True, False]), ("", [True] * 3)])
def test_extended_trajectories_of_cp2k_have_energies_in_hartree_and_cells(tmp_path, ending, pbc, periodic):
    text = "".join(FRAME.format(k, f" {pbc}".rstrip(), -17.0 - k) for k in range(3))
    (tmp_path / f"run-pos-1.{ending}").write_text(text)
    (tmp_path / "run-frc-1.xyz").write_text(text)
    data, _ = read(tmp_path / f"run-pos-1.{ending}")
    np.testing.assert_allclose(data.energy, (-17.0 - np.arange(3)) * units.Hartree, rtol=1e-14)
    np.testing.assert_allclose(data[2].forces[0], np.array([1.0, 0, 0.2]) * FORCE, rtol=1e-9)
    assert data[2].cell.tolist() == [[9, 0, 0], [0.8, 8.5, 0], [-0.6, 0.4, 9.2]]
    assert data[0].pbc.tolist() == periodic
    assert companions_of(tmp_path / f"run-pos-1.{ending}")[0].name == "run-frc-1.xyz"
    assert len(read(tmp_path)[0]) == 3  # in a folder the forces are no structures


def test_trajectories_of_cp2k_under_other_names_are_not_taken_for_electronvolts(tmp_path):
    (tmp_path / "a.xyz").write_text(FRAME.format(0, "", -17.0))
    data, said = read(tmp_path / "a.xyz")
    assert data.energy[0] == pytest.approx(-17.0 * units.Hartree)
    assert "in Hartree Angstrom" in said
    (tmp_path / "b.xyz").write_text("1\n i =        0, time =        0.000, E =       -17.0\nO 0 0 0\n")
    data, said = read(tmp_path / "b.xyz")
    assert (
        "b.xyz, frame 0 (line 1): a trajectory of CP2K: its cell and its forces are in files beside" in said
    )
    found = read_sources(tmp_path / "b.xyz", energy_key="E", report=lambda text: None)
    assert found.energy[0] == pytest.approx(-17.0 * units.Hartree)


def write_md(folder, length=1.0, unit="", forces=""):
    """Copper, whose positions are `length` of the unit that CP2K writes, and what lies beside it."""
    x = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1, 2)]) * 2.5 / length
    rows = "".join(f"Cu {a} {b} {c}\n" for a, b, c in x.tolist())
    head = "12\n i = 0, time = 0.0, E = -10.0\n"
    (folder / "w-pos-1.xyz").write_text(head + rows)
    (folder / "w-frc-1.xyz").write_text(head + 12 * "Cu 0.5 0 0\n")
    sections = f"&TRAJECTORY\n {unit}\n&END TRAJECTORY\n&FORCES\n {forces}\n&END FORCES\n"
    cell = "&CELL\n A 5 0 0\n B 0 5 0\n C 0 0 7.5\n&END CELL\n"
    (folder / "w-1.restart").write_text(f"&MOTION\n&PRINT\n{sections}&END PRINT\n&END MOTION\n{cell}")
    return folder / "w-pos-1.xyz"


@pytest.mark.parametrize("name", ["w-frc-1.xyz", "w-1.restart", "w-1.cell"])
def test_files_beside_a_trajectory_that_are_broken_links_are_not_taken_for_absent(tmp_path, name):
    path = write_md(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("gone")
    with pytest.raises(DataError, match=f"{name}: cannot be read: it is a symbolic link to .*/gone"):
        read_sources(path, report=lambda text: None)


def test_energies_that_are_nan_are_told(tmp_path):
    path = write_md(tmp_path)
    for file in (path, tmp_path / "w-frc-1.xyz"):
        file.write_text(file.read_text().replace("E = -10.0", "E = NaN"))
    data, said = read(path)
    assert np.isnan(data.energy).all() and "the energies of 1 of its frames are NaN" in said


@pytest.mark.parametrize(
    ("length", "unit", "forces", "force"),
    [
        (1.0, "", "", FORCE),
        (1.0, "UNIT angstrom", "UNIT hartree*bohr^-1", FORCE),
        (units.Bohr, "UNIT bohr", "", FORCE),
        (units.Bohr, "UNIT  BOHR", "UNIT eV*angstrom^-1", 1.0),
    ],
)
def test_units_of_positions_and_forces_are_those_of_the_restart(tmp_path, length, unit, forces, force):
    data, _ = read(write_md(tmp_path, length, unit, forces))
    assert np.abs(data.positions).max() == pytest.approx(5.0)
    assert data.forces[0, 0] == pytest.approx(0.5 * force)
    assert data.energy[0] == pytest.approx(-10 * units.Hartree)


def test_units_of_the_restart_that_are_not_read_are_an_error(tmp_path):
    with pytest.raises(DataError, match="w-1.restart: UNIT of its positions or forces: 'FURLONG' is no unit"):
        read(write_md(tmp_path, 1.0, "UNIT furlong"))


def test_positions_in_bohr_of_which_nobody_says_so_are_an_error(tmp_path):
    path = write_md(tmp_path, units.Bohr)
    for asked in (None, "Hartree Bohr"):
        with pytest.raises(
            DataError, match="w-pos-1.xyz: its positions are hardly in .*positions were in Bohr.*UNIT"
        ):
            read_sources(path, units=asked, report=lambda text: None)
    assert len(read_sources(path, units="Hartree Angstrom", report=lambda text: None)) == 1
    lines = []
    assert len(read_sources(path, lenient=True, report=lines.append)) == 1
    assert any("hardly in the unit of its cells" in line for line in lines)


def test_a_file_of_stresses_beside_a_trajectory_is_named(tmp_path):
    path = write_md(tmp_path)
    assert "stress" not in read(path)[1].replace("no stress", "")
    (tmp_path / "w-1.stress").write_text("#\n")
    data, said = read(path)
    assert "w-pos-1.xyz: the stresses in w-1.stress beside it are not read" in said
    assert np.isnan(data.stress).all()


def test_the_stress_of_an_open_single_point_is_left_out_with_a_word(tmp_path):
    text = HEAD + NEW_FORCES + NEW_STRESS + END
    (tmp_path / "cp2k.out").write_text(text + " CELL| Periodicity  NONE\n")
    data, said = read(tmp_path / "cp2k.out")
    assert np.isnan(data.stress).all()
    assert "cp2k.out: its stress is left out, as it is not periodic" in said
