"""Conversion: round trips of every format that is written, and readers of the files of other programs."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from conftest import DATA
from cp2k import single_point
from typer.testing import CliRunner
from vasp import VASPRUN, outcar, oxygen_and_hydrogen

from mpnnp.cli import app
from mpnnp.data.compressed import OPEN
from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import companions_of, read_sources, write_target
from mpnnp.data.structure import TRAIN, VALIDATION, Structure
from mpnnp.errors import ConfigError, DataError
from mpnnp.units import METAL


def structures():
    """A periodic triclinic cell with all labels, a cluster without a cell, one without energy,
    one without forces and pbc in one direction.
    """
    rng = np.random.default_rng(2)
    cell = np.array([[7.1, 0.1, 0.0], [0.3, 6.8, 0.2], [-0.2, 0.4, 7.7]])
    water = np.array([8, 1, 1])
    return [
        Structure(numbers=water, positions=rng.normal(size=(3, 3)), cell=cell, pbc=True,
                  energy=-450.123456789012345, forces=rng.normal(size=(3, 3)),
                  stress=rng.normal(size=6) * 1e-3, split=TRAIN, source="a", frame=0),
        Structure(numbers=[1, 1], positions=rng.normal(size=(2, 3)), energy=-31.7,
                  forces=rng.normal(size=(2, 3)), split=VALIDATION, source="a", frame=1),
        Structure(numbers=water, positions=rng.normal(size=(3, 3)), cell=cell, pbc=True,
                  forces=rng.normal(size=(3, 3)), source="a", frame=2),
        Structure(numbers=[6], positions=np.zeros((1, 3)), energy=1e-7, source="a", frame=3),
    ]  # fmt: skip


def check_same(found, expected, rtol=1e-15):
    assert len(found) == len(expected)
    for name in ("numbers", "positions", "cell", "pbc", "energy", "forces", "marks", "stress", "weight"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=rtol, atol=1e-300, err_msg=name
        )


@pytest.mark.parametrize("name", ["x.h5", "x.extxyz", "x.xyz", "input.data", "x.data"])
def test_what_is_written_is_read_back(tmp_path, name):
    expected = Dataset.from_structures(structures())
    write_target(tmp_path / name, expected)
    check_same(read_sources(tmp_path / name, report=lambda _: None), expected)


@pytest.mark.parametrize("name", ["x.h5", "x.extxyz", "input.data"])
def test_energies_of_isolated_atoms_are_kept(tmp_path, name):
    data = replace(Dataset.from_structures(structures()), isolated={1: -13.6, 8: -432.123456789012345})
    write_target(tmp_path / "a.h5", data)
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "a.h5"), str(tmp_path / name)])
    assert result.exit_code == 0 and "H -13.6 eV, O -432.123 eV" in result.output
    again = read_sources(tmp_path / name, report=lambda _: None)
    assert again.isolated == pytest.approx(data.isolated, rel=1e-15)
    check_same(again, data)
    write_target(tmp_path / f"again-{name}", again)  # and from there
    if name == "input.data":
        assert {line.split()[0] for line in (tmp_path / name).read_text().splitlines()} <= {
            *("begin", "comment", "lattice", "atom", "energy", "charge", "end")
        }
    if name != "x.h5":
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace("isolated_atoms H", "isolated_atoms H O").replace(
            'isolated_atoms="H', 'isolated_atoms="H O'
        ))  # fmt: skip
        with pytest.raises(DataError, match=f"{name}, .*isolated atoms 'H O"):
            read_sources(tmp_path / name, report=lambda _: None)


def test_label_weights_are_kept(tmp_path):
    data = Dataset.from_structures(
        [Structure(numbers=[1], positions=np.zeros((1, 3)), energy=-1.0, weight=np.array([0.5, 2.0, 0.0]))]
    )
    for name in ("x.extxyz", "x.h5", "input.data"):
        write_target(tmp_path / name, data)
        assert read_sources(tmp_path / name, report=lambda _: None).weight.tolist() == [[0.5, 2.0, 0.0]]


def test_input_data_has_only_words_of_n2p2_and_says_its_units(tmp_path):
    data = Dataset.from_structures([replace(structures()[0], weight=[0.5, 2.0, 0.0])])
    write_target(tmp_path / "input.data", data)
    text = (tmp_path / "input.data").read_text()
    words = {line.split()[0] for line in text.splitlines()}
    assert words <= {"begin", "comment", "lattice", "atom", "energy", "charge", "end"}  # it refuses others
    metal = read_sources(tmp_path / "input.data", assumed_units=METAL, report=lambda _: None)
    check_same(metal, data)
    for wrong in ("0.5 2", "0.5 -2 0", "0.5 2 x"):
        (tmp_path / "input.data").write_text(text.replace("weight 0.5 2 0", f"weight {wrong}"))
        with pytest.raises(DataError, match="input.data, line 3: "):
            read_sources(tmp_path / "input.data")


def test_from_format_to_format_and_back_nothing_changes(tmp_path):
    steps = ["a.h5", "b.extxyz", "input.data", "c.xyz", "d.h5"]
    source = DATA / "train_energy_force" / "input.data"
    for target in steps:
        result = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / target)])
        assert result.exit_code == 0, result.output
        source = tmp_path / target
    check_same(read_sources(source), read_sources(DATA / "train_energy_force" / "input.data"))


@pytest.mark.parametrize("source", [".", "*.*", "*.h5"])
def test_what_is_written_is_not_read_with_a_folder_or_a_pattern(tmp_path, source):
    write_target(tmp_path / "a.h5", Dataset.from_structures(structures()))
    words = ["convert", str(tmp_path / source), str(tmp_path / "all.h5")]
    for k in range(2):
        result = CliRunner().invoke(app, [*words, "--overwrite"])
        assert result.exit_code == 0, result.output
        assert len(read_sources(tmp_path / "all.h5")) == 4
        assert ("all.h5: is not read, as it will be written" in result.output) == (k == 1)
    (tmp_path / "a.h5").unlink()
    result = CliRunner().invoke(app, [*words, "--overwrite"])
    assert isinstance(result.exception, DataError) and len(read_sources(tmp_path / "all.h5")) == 4
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "all.h5"), str(tmp_path / "all.h5")])
    assert isinstance(result.exception, ConfigError) and "is read by the same command" in str(
        result.exception
    )


def test_ase_reads_the_extxyz_with_its_labels(tmp_path):
    data = Dataset.from_structures(structures())
    write_target(tmp_path / "x.extxyz", data)
    atoms = read(tmp_path / "x.extxyz", index=0)
    assert atoms.get_potential_energy() == data.energy[0] and atoms.pbc.all()
    np.testing.assert_allclose(atoms.get_forces(), data[0].forces, rtol=1e-15)
    np.testing.assert_allclose(atoms.get_stress(), data.stress[0], rtol=1e-15)


def test_a_name_without_a_known_format_is_an_error(tmp_path):
    result = CliRunner().invoke(
        app, ["convert", str(DATA / "train_energy" / "input.data"), str(tmp_path / "x.npz")]
    )
    assert (
        isinstance(result.exception, ConfigError)
        and ".extxyz" in str(result.exception)
        and not (tmp_path / "x.npz").exists()
    )


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "x.h5"],
        ["select", "x.h5", "-n", "1", "--by", "interval", "-o"],
        ["label", "ase:emt", "x.h5", "-o"],
    ],
)
@pytest.mark.parametrize("name", ["input.data", "mine.xyz", "mine.h5", "mine.data"])
def test_a_file_that_is_there_is_not_written_over(words, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Dataset.from_structures([Structure(numbers=[29, 29], positions=2.5 * np.eye(3)[:2])])
    write_target("x.h5", data)
    Path(name).write_text("my own\n")
    result = CliRunner().invoke(app, [*words, name])
    assert isinstance(result.exception, ConfigError), result.output
    assert f"{name}: is there already, and would be lost" in str(result.exception)
    assert Path(name).read_text() == "my own\n"
    assert sorted(os.listdir()) == sorted([name, "x.h5"])
    result = CliRunner().invoke(app, [*words, name, "--overwrite"])
    assert result.exit_code == 0, result.output
    assert len(read_sources(name)) == 1


def test_forces_on_some_atoms_are_kept_in_extxyz_and_refused_by_input_data(tmp_path):
    forces = np.array([[1.0, 2.0, 3.0], [np.nan] * 3])
    data = Dataset.from_structures([Structure(numbers=[1, 1], positions=np.eye(3)[:2], forces=forces)])
    write_target(tmp_path / "x.extxyz", data)
    np.testing.assert_array_equal(read_sources(tmp_path / "x.extxyz", report=lambda _: None).forces, forces)
    with pytest.raises(DataError, match="1 of 2 atoms have no force label"):
        write_target(tmp_path / "input.data", data)


# ---- DeePMD


def write_deepmd(folder, mixed=False, nopbc=False):
    """Two sets of 2 and 1 frames of OHH; returns the arrays of all frames."""
    rng = np.random.default_rng(4)
    arrays = {
        "coord": rng.normal(size=(3, 9)),
        "box": np.tile(np.diag([5.0, 6.0, 7.0]).ravel(), (3, 1)) + 0.1 * rng.random((3, 9)),
        "energy": rng.normal(size=3),
        "force": rng.normal(size=(3, 9)),
        "virial": rng.normal(size=(3, 9)),
    }
    virial = arrays["virial"].reshape(3, 3, 3)
    arrays["virial"] = (virial + virial.transpose(0, 2, 1)).reshape(3, 9)
    folder.mkdir(parents=True)
    (folder / "type.raw").write_text("0 0 0\n" if mixed else "1\n0\n0\n")
    (folder / "type_map.raw").write_text("H\nO\n")
    if nopbc:
        (folder / "nopbc").touch()
    for name, part in (("set.000", slice(0, 2)), ("set.001", slice(2, 3))):
        (folder / name).mkdir()
        for key, values in arrays.items():
            np.save(
                folder / name / f"{key}.npy",
                values[part].astype(np.float32) if key == "force" else values[part],
            )
        if mixed:
            np.save(folder / name / "real_atom_types.npy", np.tile([1, 0, -1], (part.stop - part.start, 1)))
    return arrays


def test_deepmd_folders_are_read(tmp_path):
    arrays = write_deepmd(tmp_path / "water" / "sys")
    data = read_sources(tmp_path / "water")
    assert data.numbers.tolist() == [8, 1, 1] * 3 and data.pbc.all()
    np.testing.assert_array_equal(data.positions.ravel(), arrays["coord"].ravel())
    np.testing.assert_array_equal(data.cell.reshape(3, 9), arrays["box"])
    np.testing.assert_array_equal(data.energy, arrays["energy"])
    np.testing.assert_allclose(data.forces.ravel(), arrays["force"].ravel(), rtol=1e-6)
    volume = np.linalg.det(data.cell)
    np.testing.assert_allclose(data.stress[:, 0] * volume, -arrays["virial"][:, 0], rtol=1e-14)
    np.testing.assert_allclose(data.stress[:, 3] * volume, -arrays["virial"][:, 5], rtol=1e-14)


def test_mixed_and_open_deepmd_systems_are_read(tmp_path):
    write_deepmd(tmp_path / "sys", mixed=True, nopbc=True)
    (tmp_path / "sys" / "set.000" / "energy.npy").unlink()
    data = read_sources(tmp_path / "sys")
    assert (
        data.numbers.tolist() == [8, 1] * 3
        and not data.pbc.any()
        and np.isnan(data.energy).tolist() == [True, True, False]
    )
    assert np.isnan(data.stress).all()


DEEPMD_ERRORS = {
    "type_map.raw": "type_map.raw: cannot be read",
    "set.000/coord.npy": "coord.npy: cannot be read",
    "set.000/box.npy": "box.npy: cannot be read",
}


@pytest.mark.parametrize("name", DEEPMD_ERRORS)
def test_an_incomplete_deepmd_folder_is_an_error(tmp_path, name):
    write_deepmd(tmp_path / "sys")
    (tmp_path / "sys" / name).unlink()
    with pytest.raises(DataError, match=DEEPMD_ERRORS[name]):
        read_sources(tmp_path / "sys")


def test_arrays_of_objects_are_refused(tmp_path):
    write_deepmd(tmp_path / "sys")
    np.save(tmp_path / "sys" / "set.000" / "energy.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="energy.npy: Object arrays cannot be loaded"):
        read_sources(tmp_path / "sys")


# ---- names of MACE


def test_virials_become_stress(tmp_path):
    (tmp_path / "mace.xyz").write_text(
        '1\nLattice="2 0 0 0 3 0 0 0 4" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-5.0 '
        'REF_virials="1 2 3 2 4 5 3 5 6" pbc="T T T"\nH 0 0 0 0.1 0.2 0.3\n'
    )
    data = read_sources(tmp_path / "mace.xyz")
    assert data.energy[0] == -5.0 and data.forces[0].tolist() == [0.1, 0.2, 0.3]
    np.testing.assert_allclose(data.stress[0], -np.array([1, 4, 6, 5, 3, 2]) / 24, rtol=1e-15)


# ---- CP2K

OUTPUT = single_point("2023.1", "[a.u.]:               -1.068459220358278").replace(
    " CELL| Vector a",
    " CELL| Volume [angstrom^3]:                                           150.000000\n CELL| Vector a",
)
OUTPUT += """ ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      H           0.00000000     0.01125928     0.08372388
      2      2      O           0.00000000    -0.01732729    -0.08881414
 SUM OF ATOMIC FORCES           0.00000000    -0.00606801    -0.00509026     0.00792032
"""
HARTREE, BOHR = 27.211386024367243, 0.5291772105638411


def test_the_output_of_a_single_point_of_cp2k_is_read(tmp_path):
    (tmp_path / "cp2k.out").write_text(OUTPUT)
    s = read_sources(tmp_path / "cp2k.out")[0]
    assert s.numbers.tolist() == [1, 8] and s.cell[2].tolist() == [0.5, 0.0, 6.0] and s.pbc.all()
    assert s.energy == pytest.approx(-1.068459220358278 * HARTREE, rel=1e-14)
    assert s.forces[1, 2] == pytest.approx(-0.08881414 * HARTREE / BOHR, rel=1e-9) and s.positions[
        1
    ].tolist() == [0.0, 0.1, -0.74]
    (tmp_path / "md.out").write_text(OUTPUT + " ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:   -1.0\n")
    with pytest.raises(DataError, match="has 2 energies, must be a single point"):
        read_sources(tmp_path / "md.out")


def test_an_output_of_cp2k_without_convergence_is_told(tmp_path):
    lines = []
    (tmp_path / "cp2k.out").write_text(f"{OUTPUT} *** SCF run NOT converged ***\n PROGRAM ENDED AT 12:00\n")
    read_sources(tmp_path / "cp2k.out", report=lines.append)
    (told,) = lines
    assert "1 self-consistency cycle did not converge" in told


def write_trajectory(folder):
    frame = "       2\n i = {0:8d}, time = {0:12.3f}, E = {1:20.10f}\n  H  0.0 0.0 0.{0}\n  O  1.0 0.0 0.5\n"
    (folder / "run-pos-1.xyz").write_text(frame.format(0, -1.5) + frame.format(5, -1.6))
    (folder / "run-frc-1.xyz").write_text(frame.format(5, -1.6).replace("1.0 0.0 0.5", "-0.1 0.0 0.2"))
    (folder / "run-1.restart").write_text(
        " &SUBSYS\n     &CELL\n       A 5.0E+00 0.0 0.0\n       B 0.0 6.0 0.0\n       C 0.0 0.5 7.0\n"
        "     &END CELL\n &END SUBSYS\n"
    )


def test_a_trajectory_of_cp2k_is_read_with_the_forces_beside_it(tmp_path):
    write_trajectory(tmp_path)
    data = read_sources(tmp_path / "run-pos-1.xyz")
    np.testing.assert_allclose(data.energy, np.array([-1.5, -1.6]) * HARTREE, rtol=1e-14)
    assert np.isnan(data[0].forces).all() and data[1].forces[1].tolist() == pytest.approx(
        np.array([-0.1, 0, 0.2]) * HARTREE / BOHR
    )
    assert data[0].cell[2].tolist() == [0.0, 0.5, 7.0]
    (tmp_path / "run-1.cell").write_text(
        "# Step Time Ax ...\n 0 0.0 9 0 0 0 9 0 0 0 9 729\n 5 2.5 8 0 0 0 8 0 0 0 8 512\n"
    )
    assert read_sources(tmp_path / "run-pos-1.xyz")[1].cell[0, 0] == 8.0


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("packed", [("pos-1.xyz", "frc-1.xyz", "1.cell"), ("pos-1.xyz",), ("frc-1.xyz",)])
def test_a_compressed_trajectory_of_cp2k_has_its_forces_and_cells(tmp_path, packed, suffix):
    append_cp2k(tmp_path, range(4), 0.0)
    plain = read_sources(tmp_path / "run-pos-1.xyz")
    assert np.isfinite(plain.forces).all()
    for name in packed:
        path = tmp_path / f"run-{name}"
        with OPEN[suffix](f"{path}{suffix}", "wb") as file:
            file.write(path.read_bytes())
        path.unlink()
    path = next(tmp_path.glob("run-pos-1.xyz*"))
    data = read_sources(path)
    for column in ("energy", "positions", "forces", "cell", "numbers"):
        assert np.array_equal(getattr(data, column), getattr(plain, column)), column
    forces = next(tmp_path.glob("run-frc-1.xyz*"))
    assert forces in companions_of(path)
    if forces.suffix == suffix:
        forces.write_bytes(forces.read_bytes()[:40])
        with pytest.raises(DataError, match=re.escape(str(forces))):
            read_sources(path)


def test_forces_of_cp2k_in_a_folder_are_no_structures(tmp_path):
    append_cp2k(tmp_path, range(4), 0.0)
    for files in (tmp_path, str(tmp_path / "*.xyz")):
        data = read_sources(files)
        assert len(data) == 4 and np.isfinite(data.forces).all()


def test_a_trajectory_of_cp2k_without_a_cell_or_cut_off_is_an_error(tmp_path):
    write_trajectory(tmp_path)
    path = tmp_path / "run-pos-1.xyz"
    path.write_text(path.read_text()[:-25])
    with pytest.raises(DataError, match="no complete trajectory"):
        read_sources(path)
    write_trajectory(tmp_path)
    (tmp_path / "run-1.restart").unlink()
    with pytest.raises(DataError, match="no cell for step 0: needs run-1.cell or run-1.restart"):
        read_sources(path)


def append_cp2k(folder, steps, shift, name="run"):
    """Frames of a run of CP2K behind what its files hold: x and the force on H are step + shift."""
    for kind in ("pos", "frc"):
        with open(folder / f"{name}-{kind}-1.xyz", "a") as file:
            for step in steps:
                file.write(f"2\n i = {step}, time = 0.0, E = {-1.0 - 0.01 * step - 0.001 * shift:.10f}\n")
                file.write(f"H {step + shift} 0 0\nO 9 9 9\n")
    with open(folder / f"{name}-1.cell", "a") as file:
        file.writelines(f" {k} 0.0 {20 + k + shift} 0 0 0 20 0 0 0 20 0\n" for k in steps)


def test_what_cp2k_computed_again_after_a_restart_has_its_own_forces_and_cells(tmp_path):
    append_cp2k(tmp_path, range(4), 0.0)
    append_cp2k(tmp_path, range(2, 5), 0.5)
    data = read_sources(tmp_path / "run-pos-1.xyz")
    first = [0, 1, 2, 3, 2.5, 3.5, 4.5]
    assert data.positions[::2, 0].tolist() == first
    np.testing.assert_allclose(data.forces[::2, 0] * BOHR / HARTREE, first, rtol=1e-14)
    np.testing.assert_allclose(data.cell[:, 0, 0], np.add(first, 20), rtol=1e-14)


def test_files_of_cp2k_that_do_not_fit_each_other_are_an_error(tmp_path):
    path, forces, cells = (tmp_path / f"run-{name}" for name in ("pos-1.xyz", "frc-1.xyz", "1.cell"))
    append_cp2k(tmp_path, range(4), 0.0)
    forces.unlink()
    append_cp2k(tmp_path, range(2, 5), 0.5)
    with pytest.raises(DataError, match="step 2 has the energy -1.02.* and -1.02.* in run-frc-1.xyz"):
        read_sources(path)  # the forces of the first run are not there
    forces.unlink()
    lines = cells.read_text().splitlines(keepends=True)
    cells.write_text("".join(lines[:5] + lines[6:]))
    with pytest.raises(DataError, match="step 3 comes 2 times here and 1 times in run-1.cell"):
        read_sources(path)
    cells.write_text("".join(f"{k} 0.0 9 0 0 0 9 0 0 0 9 0\n" for k in range(5)))
    assert (read_sources(path).cell == 9 * np.eye(3)).all()  # one cell, whichever is taken
    cells.write_text("2 0.0 9 0 0 0 x 0 0 0 9 0\n")
    with pytest.raises(DataError, match="run-1.cell: expected step, time and nine numbers"):
        read_sources(path)


def test_forces_of_cp2k_may_be_written_less_often(tmp_path):
    append_cp2k(tmp_path, range(4), 0.0)
    lines = (tmp_path / "run-frc-1.xyz").read_text().splitlines(keepends=True)
    (tmp_path / "run-frc-1.xyz").write_text("".join(lines[:4] + lines[8:12]))
    warned = []
    data = read_sources(tmp_path / "run-pos-1.xyz", report=warned.append)
    assert np.isfinite(data.forces[::2, 0]).tolist() == [True, False, True, False]
    assert "2 of its frames have no forces" in warned[0]


def test_forces_of_cp2k_that_are_missing_are_told_and_those_on_other_atoms_refused(tmp_path):
    write_trajectory(tmp_path)
    forces = tmp_path / "run-frc-1.xyz"
    text = forces.read_text()
    forces.write_text(text.replace("  H ", "  X ").replace("  O ", "  H ").replace("  X ", "  O "))
    with pytest.raises(DataError, match="step 0 has the atoms H O, but run-frc-1.xyz O H"):
        read_sources(tmp_path / "run-pos-1.xyz")
    forces.write_text(text.replace("0.2", "***"))
    with pytest.raises(DataError, match=r"run-frc-1.xyz: is no complete trajectory .* \(line 1\)"):
        read_sources(tmp_path / "run-pos-1.xyz")
    for change, words in (
        (lambda: forces.write_text(""), "frc-1.xyz"),
        (forces.unlink, "which is not there"),
    ):
        change()
        warned = []
        read_sources(tmp_path / "run-pos-1.xyz", report=warned.append)
        assert "2 of its frames have no forces" in warned[0] and words in warned[0]


RESTART = """ &GLOBAL
   RUN_TYPE  {run}
 &END GLOBAL
 &MOTION
   &MD
     ENSEMBLE  {ensemble}
   &END MD
   &PRINT
     &CELL  SILENT
     &END CELL
   &END PRINT
 &END MOTION
 &CELL
   A 5.0E+00 0.0 0.0
   B 0.0 6.0 0.0
   C 0.0 0.5 7.0
   PERIODIC  {periodic}
   &CELL_REF
     A 1.0 0.0 0.0
     B 0.0 1.0 0.0
     C 0.0 0.0 1.0
   &END CELL_REF
 &END CELL
"""


@pytest.mark.parametrize("word, pbc", [("NONE", [0, 0, 0]), ("XY", [1, 1, 0]), ("xyz", [1, 1, 1])])
def test_the_periodicity_that_cp2k_says_is_kept(tmp_path, word, pbc):
    write_trajectory(tmp_path)
    restart = tmp_path / "run-1.restart"
    restart.write_text(RESTART.format(run="MD", ensemble="NVT", periodic=word))
    data = read_sources(tmp_path / "run-pos-1.xyz")
    assert data.pbc.tolist() == [pbc, pbc] and data.cell[1].diagonal().tolist() == [5.0, 6.0, 7.0]
    output = OUTPUT.replace(
        " MODULE QUICKSTEP", f" CELL| Periodicity          {word:>10s}\n MODULE QUICKSTEP"
    )
    (tmp_path / "cp2k.out").write_text(output)
    assert read_sources(tmp_path / "cp2k.out").pbc.tolist() == [pbc]
    restart.write_text(RESTART.format(run="MD", ensemble="NVT", periodic="ABC"))
    with pytest.raises(DataError, match="run-1.restart: PERIODIC ABC: must be NONE or some of X, Y and Z"):
        read_sources(tmp_path / "run-pos-1.xyz")


@pytest.mark.parametrize("run, ensemble", [("MD", "NPT_I"), ("MD", "NPE_F"), ("CELL_OPT", "NVE")])
def test_one_cell_is_not_taken_for_all_frames_of_a_run_in_which_it_changes(tmp_path, run, ensemble):
    write_trajectory(tmp_path)
    (tmp_path / "run-1.restart").write_text(RESTART.format(run=run, ensemble=ensemble, periodic="XY"))
    with pytest.raises(DataError, match="the cell changes in this run .*: run-1.cell is wanted beside it"):
        read_sources(tmp_path / "run-pos-1.xyz")
    (tmp_path / "run-1.cell").write_text(" 0 0.0 9 0 0 0 9 0 0 0 9 729\n 5 2.5 8 0 0 0 8 0 0 0 8 512\n")
    data = read_sources(tmp_path / "run-pos-1.xyz")
    assert data.cell[:, 2, 2].tolist() == [9.0, 8.0] and data.pbc.tolist() == [[1, 1, 0]] * 2


# ---- VASP, through ASE


@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_outputs_of_vasp_are_read(tmp_path, name):
    (tmp_path / name).write_text(VASPRUN if name == "vasprun.xml" else outcar([oxygen_and_hydrogen()]))
    data = read_sources(tmp_path / name)
    assert (
        sorted(data.numbers.tolist()) == [1, 8]
        and data.energy[0] == -10.45
        and data.cell[0].diagonal().tolist() == [4.0, 5.0, 6.0]
    )
    oxygen = int(np.argmax(data.numbers))
    assert data.forces[oxygen].tolist() == [0.1, 0.2, 0.3]
    assert data.positions[1 - oxygen].tolist() == [1.0, 0.0, 0.0]


def test_a_file_that_another_process_made_in_the_meantime_is_kept(tmp_path, monkeypatch):
    """It was not there when the command looked, and would be lost."""
    write_target(tmp_path / "a.xyz", Dataset.from_structures(structures()[:2]))
    target = tmp_path / "b.xyz"
    monkeypatch.setattr("mpnnp.commands.data.check_holds", lambda path, data: path.write_text("of another"))
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "a.xyz"), str(target)])
    assert result.exit_code == 0
    assert "was written by another process in the meantime: that file is" in result.output
    assert (tmp_path / "b.xyz.old-1").read_text() == "of another"
    assert len(read_sources(target, report=lambda _: None)) == 2
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "a.xyz"), str(target), "--overwrite"])
    assert result.exit_code == 0 and not (tmp_path / "b.xyz.old-2").exists()
