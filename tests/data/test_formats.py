"""Reading structures: RuNNer's input.data, our HDF5, and everything ASE reads."""

import gzip
import lzma
import os
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write as write_ase
from ase.units import Bohr, Hartree

from mpnnp.data import dataset as hdf5
from mpnnp.data.dataset import ARRAYS, Dataset
from mpnnp.data.formats import read_sources
from mpnnp.data.runner import write_runner_data
from mpnnp.data.structure import Structure
from mpnnp.errors import DataError

ROOT = Path(__file__).parents[2]
WATER = ROOT / "jobs/water/water.extxyz.xz"
SHARED = ROOT.parent / "shared"

FRAME = """\
begin set=train
comment anything at all, begin end
lattice 10.0 0.0 0.0
lattice 0.0 11.0 0.0
lattice 1.0 0.0 12.0
atom 1.0 2.0 3.0 O 0.1 0.0 0.5 -0.25 1.0
atom 2.0 2.0 3.0 H 0.1 0.0 -0.5 0.25 -1.0
energy -76.5
charge 0.0
end
"""


def quiet(_):
    pass


def read_text(tmp_path, text, name="input.data"):
    (tmp_path / name).write_text(text, newline="")
    return read_sources(tmp_path / name, report=quiet)


def make_atoms(n_atom=2, results=None, **info):
    rng = np.random.default_rng(n_atom)
    atoms = Atoms("OHHHHHHH"[:n_atom], positions=rng.uniform(-9, 9, (n_atom, 3)), cell=[5, 6, 7], pbc=True)
    atoms.info.update(info)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


# ---- input.data


def test_runner_units_are_converted_from_bohr_and_hartree(tmp_path):
    s = read_text(tmp_path, FRAME)[0]
    assert s.numbers.tolist() == [8, 1]
    np.testing.assert_allclose(s.positions, np.array([[1, 2, 3], [2, 2, 3]]) * Bohr, rtol=1e-15)
    np.testing.assert_allclose(s.cell, np.array([[10, 0, 0], [0, 11, 0], [1, 0, 12]]) * Bohr, rtol=1e-15)
    np.testing.assert_allclose(s.energy, -76.5 * Hartree, rtol=1e-15)
    np.testing.assert_allclose(s.forces[0], np.array([0.5, -0.25, 1.0]) * Hartree / Bohr, rtol=1e-15)
    assert s.pbc.all()
    assert s.split == 1
    assert (s.source, s.frame) == (str(tmp_path / "input.data"), 0)
    assert np.isnan(s.stress).all()


def test_runner_frames_agree_with_the_same_frames_read_by_ase():
    path = SHARED / "reference/train_energy/input.data"
    if not path.exists():
        pytest.skip("../shared/reference is not here")
    runner = read_sources(path)
    # frames of the water example, written there with 12 decimals
    water = read_sources(WATER, report=quiet).take([0, 7, 13, 20, 26, 33, 40, 47, 55, 60])
    np.testing.assert_array_equal(runner.numbers, water.numbers)
    for name, tolerance in (("positions", 1e-12), ("cell", 1e-12), ("energy", 1e-10), ("forces", 1e-10)):
        np.testing.assert_allclose(getattr(runner, name), getattr(water, name), rtol=0, atol=tolerance)
    assert runner.marks.tolist() == [1, 1, 1, 1, 2, 1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace(" ", "\t  ").replace("\n", "\n\n  \n"),
        lambda t: t.replace("-76.5", "-7.65D+01").replace("-0.25", "-2.5d-1").replace("11.0", "0.11E2"),
        lambda t: t.replace("-76.5", "-0.765+2").replace("atom 1.0", "atom 0.1+001"),
        lambda t: t.removesuffix("\n"),
        lambda t: t.replace("set=train", "name=x set=train 7"),
        lambda t: t.replace("charge 0.0\n", "").replace("comment anything at all, begin end\n", ""),
        lambda t: "\n \n" + t,
    ],
)
def test_runner_files_are_free_in_spacing_line_ends_and_exponents(tmp_path, change):
    assert read_text(tmp_path, change(FRAME), "other.txt").hash() == read_text(tmp_path, FRAME).hash()


@pytest.mark.parametrize("mark", ["set=train", "SET=TRAIN", "set = train", "Set= Train"])
def test_marks_of_runner_files_are_read_in_any_spelling(tmp_path, mark):
    data = read_text(tmp_path, FRAME.replace("set=train", mark))
    assert data.marks.tolist() == [1]


def test_runner_labels_may_be_missing(tmp_path):
    text = (
        FRAME.replace("energy -76.5\n", "")
        .replace(" 0.5 -0.25 1.0", "")
        .replace(" -0.5 0.25 -1.0", "")
        .replace(" set=train", "")
    )
    d = read_text(
        tmp_path,
        text + text.replace(" 0.1 0.0", "") + "\n".join(x for x in FRAME.split("\n") if "lattice" not in x),
    )
    assert np.isnan(d.energy[:2]).all()
    assert np.isnan(d[0].forces).all()
    assert np.isnan(d[1].forces).all()
    assert np.isfinite(d[2].forces).all()
    assert d.marks.tolist() == [0, 0, 1]
    assert d.pbc.tolist() == [[True] * 3, [True] * 3, [False] * 3]
    assert d.frame.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (
            lambda t: t.replace("charge", "charges"),
            9,
            "unknown keyword 'charges', known are begin, comment, lattice, atom, energy, charge, end",
        ),
        (
            lambda t: t.replace("0.1 0.0 0.5 -0.25 1.0", "0.1 0.0 0.5 -0.25"),
            6,
            "atom has 8 columns, must have 9",
        ),
        (lambda t: t.replace("-0.5 0.25 -1.0", "-0.5 0.25 -1.0 7"), 7, "atom has 10 columns, must have 9"),
        (
            lambda t: t.replace("atom 1.0 2.0 3.0 O 0.1 0.0 0.5 -0.25 1.0", "atom 1.0 2.0 3.0"),
            6,
            "atom has 3 columns",
        ),
        (lambda t: t.replace(" -0.5 0.25 -1.0", ""), 7, "atoms with and without forces in one structure"),
        (lambda t: t.replace(" O ", " Oh "), 6, "unknown element symbol 'Oh'"),
        (lambda t: t.replace(" H ", " X "), 7, "unknown element symbol 'X'"),
        (
            lambda t: t.replace("lattice 1.0 0.0 12.0\n", ""),
            9,
            "the structure that began in line 1 has 2 lattice lines, must have 0 or 3",
        ),
        (
            lambda t: t.replace("end\n", "").replace("comment anything at all, begin \n", ""),
            8,
            "the file ends inside the structure that began in line 1",
        ),
        (
            lambda t: t + t[: t.index("H 0.1")],
            17,
            "the file ends inside the structure that began in line 11; its end is missing",
        ),
        (
            lambda t: t.removesuffix("end\n") + t,
            10,
            "begin inside the structure that began in line 1; its end is missing",
        ),
        (lambda t: t + "energy 1.0\n", 11, "energy outside of begin and end"),
        (lambda t: "atom 0 0 0 H\n" + t, 1, "atom outside of begin and end"),
        (lambda t: t + "\nthe end\n", 12, "unknown keyword 'the'"),
        (lambda t: t.replace("-76.5", "nan"), 8, "energy is not finite: nan"),
        (lambda t: t.replace("-76.5", "inf"), 8, "energy is not finite: inf"),
        (lambda t: t.replace("0.5 0.25 -1.0", "0.5 NaN -1.0"), 7, "force is not finite: -0.5 NaN -1.0"),
        (lambda t: t.replace("atom 1.0", "atom inf"), 6, "position is not finite: inf 2.0 3.0"),
        (lambda t: t.replace("-76.5", "****"), 8, "'****' is not a number"),
        (lambda t: t.replace("atom 2.0", "atom two"), 7, "'two' is not a number"),
        (lambda t: t.replace("-76.5", "-76.5 eV"), 8, "energy has 2 numbers, must have 1"),
        (lambda t: t.replace("-76.5", "-76.5\nenergy 1.0"), 9, "second energy of one structure"),
        (
            lambda t: t.replace("lattice 10.0 0.0 0.0", "lattice 10.0"),
            3,
            "lattice has 1 number, must have 3",
        ),
        (
            lambda t: t.replace("lattice 10.0", "lattice 0.0"),
            10,
            "frame 0: is periodic (pbc T T T) but its cell has no volume",
        ),
        (lambda t: t.replace("set=train", "set=valid"), 1, "'set=valid': must be set=train or set=test"),
        (
            lambda t: "\n".join(x for x in t.split("\n") if "atom" not in x),
            8,
            "the structure that began in line 1 has no atoms",
        ),
    ],
)
def test_a_wrong_runner_file_is_an_error_naming_file_and_line(tmp_path, change, line, message):
    with pytest.raises(DataError) as error:
        read_text(tmp_path, change(FRAME))
    assert str(error.value).startswith(f"{tmp_path / 'input.data'}, line {line}: ")
    assert message in str(error.value)


def test_a_runner_file_comes_back_from_writing(tmp_path):
    water = read_sources(WATER, report=quiet).take([0, 3, 100])
    molecule = Structure(numbers=[8, 1], positions=[[0, 0, 0], [0, 1, 0]], split=2)
    d = hdf5.concatenate([water, Dataset.from_structures([molecule])])
    write_runner_data(tmp_path / "input.data", d)
    again = read_sources(tmp_path / "input.data")
    for name in ARRAYS:
        if name not in ("stress", "source", "frame"):
            np.testing.assert_allclose(
                getattr(again, name), getattr(d, name), rtol=1e-15, atol=1e-300, err_msg=name
            )
    write_runner_data(tmp_path / "second.data", again)
    third = read_sources(tmp_path / "second.data")
    np.testing.assert_allclose(third.positions, again.positions, rtol=1e-15)
    assert third.marks.tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"pbc": [True, True, False], "cell": np.eye(3)},
            "is periodic along 2 vectors, input.data knows only 0 or 3",
        ),
        ({"forces": [[0, 0, 0], [np.nan] * 3]}, "1 of 2 atoms have no force label"),
    ],
)
def test_what_a_runner_file_cannot_say_is_an_error(tmp_path, values, message):
    d = Dataset.from_structures(
        [Structure(numbers=[8, 1], positions=[[0, 0, 0], [0, 1, 0]], source="a.xyz", **values)]
    )
    with pytest.raises(DataError) as error:
        write_runner_data(tmp_path / "input.data", d)
    assert str(error.value).startswith("a.xyz, frame 0: ")
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_large_runner_file_is_read_in_seconds():
    path = SHARED / "data/water_optb88/input.data"
    if not path.exists():
        pytest.skip("../shared/data is not here")
    begin = time.perf_counter()
    d = read_sources(path)
    assert time.perf_counter() - begin < 10  # 0.7 s on one free core
    assert (len(d), len(d.numbers), d.elements) == (815, 156480, (1, 8))


# ---- files that ASE reads


def test_the_water_example_is_read_compressed_with_all_labels():
    lines = []
    d = read_sources(WATER, report=lines.append)
    assert (len(d), len(d.numbers), d.elements) == (216, 20736, (1, 8))
    assert lines == [f"{WATER}: 216 frames, energy from 'energy', forces from 'forces', stress from 'stress'"]
    assert np.isfinite(d.energy).all()
    assert d.energy[0] == -5033.600110309214
    assert d.forces[0].tolist() == [0.08436709, 0.31179546, 0.88253606]
    assert d.stress[0].tolist() == [
        -0.004721072770766089,
        -0.0031084907945693164,
        0.008771602544975417,
        0.004170085402657606,
        0.0005482714794445532,
        -0.0013859465182641973,
    ]
    assert d.pbc.all()


@pytest.mark.parametrize("suffix", [".extxyz", ".xyz.gz", ".extxyz.xz", ".extxyz.bz2", ".traj", ".db"])
def test_every_format_gives_the_same_structures(tmp_path, suffix):
    frames = [
        make_atoms(n, results={"energy": -n, "forces": np.full((n, 3), 0.5 * n), "stress": np.arange(6.0)})
        for n in (2, 5)
    ]
    write_ase(tmp_path / f"a{suffix}", frames)
    d = read_sources(tmp_path / f"a{suffix}", report=quiet)
    assert d.n_atom.tolist() == [2, 5]
    assert d.energy.tolist() == [-2, -5]
    assert d.stress[1].tolist() == [0, 1, 2, 3, 4, 5]
    # unwrapped
    np.testing.assert_allclose(d.positions, np.concatenate([a.positions for a in frames]), atol=1e-8)
    np.testing.assert_allclose(d.forces[3], 2.5)
    assert d.frame.tolist() == [0, 1]


def test_constraints_do_not_change_force_labels(tmp_path):
    atoms = make_atoms(3, results={"energy": 1.0, "forces": np.ones((3, 3))})
    atoms.set_constraint(FixAtoms([0]))
    write_ase(tmp_path / "a.traj", [atoms])
    assert (read_sources(tmp_path / "a.traj", report=quiet).forces == 1).all()


def test_frames_without_labels_have_none(tmp_path):
    lines = []
    write_ase(tmp_path / "a.xyz", [make_atoms(2), make_atoms(3, results={"energy": 1.0})])
    d = read_sources(tmp_path / "a.xyz", report=lines.append)
    assert np.isnan(d.energy).tolist() == [True, False]
    assert np.isnan(d.forces).all()
    assert np.isnan(d.stress).all()
    assert lines == [
        f"{tmp_path / 'a.xyz'}: 2 frames, energy from 'energy' in 1 of them, no forces, no stress"
    ]


def test_reference_labels_come_first_and_keys_choose(tmp_path):
    atoms = make_atoms(
        2,
        results={"energy": 1.0, "forces": np.ones((2, 3))},
        REF_energy=2.0,
        mine=3.0,
        REF_stress=np.arange(9.0),
    )
    atoms.arrays["REF_forces"] = 2 * np.ones((2, 3))
    atoms.arrays["my_forces"] = 3 * np.ones((2, 3))
    write_ase(tmp_path / "a.xyz", [atoms])
    lines = []
    d = read_sources(tmp_path / "a.xyz", report=lines.append)
    assert (d.energy[0], d.forces[0, 0]) == (2.0, 2.0)
    assert d.stress[0].tolist() == [0, 4, 8, 6, 4, 2]
    assert "energy from 'REF_energy' (also there: energy; see energy_key)" in lines[0]
    d = read_sources(tmp_path / "a.xyz", energy_key="mine", forces_key="my_forces", report=quiet)
    assert (d.energy[0], d.forces[0, 0]) == (3.0, 3.0)
    d = read_sources(tmp_path / "a.xyz", energy_key="energy", forces_key="forces", report=quiet)
    assert (d.energy[0], d.forces[0, 0]) == (1.0, 1.0)
    with pytest.raises(
        DataError, match=r"a.xyz: energy_key = 'other' is in no frame; found are .*REF_energy.*mine"
    ):
        read_sources(tmp_path / "a.xyz", energy_key="other", report=quiet)


def test_a_label_that_changes_its_name_is_an_error(tmp_path):
    write_ase(tmp_path / "a.xyz", [make_atoms(2, results={"energy": 1.0}), make_atoms(2, REF_energy=2.0)])
    with pytest.raises(
        DataError, match=r"a.xyz, frame 1: energy is called 'REF_energy' here but 'energy' in earlier frames"
    ):
        read_sources(tmp_path / "a.xyz", report=quiet)


@pytest.mark.parametrize("name", ["stress", "virial"])
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_stress_of_which_one_number_is_not_finite_is_an_error(tmp_path, name, number):
    text = f'1\n{CELL} energy=1.0 {name}="1 0 0 0 {number} 0 0 0 1"\nH 0 0 0\n'
    with pytest.raises(DataError, match=f"a.xyz, frame 0: stress '{name}' is not finite"):
        read_text(tmp_path, text, "a.xyz")


def test_stress_that_is_nan_is_missing(tmp_path):
    write_ase(tmp_path / "a.traj", [make_atoms(2, results={"energy": 1.0, "stress": np.full(6, np.nan)})])
    assert np.isnan(read_sources(tmp_path / "a.traj", report=quiet).stress).all()


CELL = 'Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3'
GOOD = f"1\n{CELL} energy=1.0\nH 0 0 0\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + GOOD.replace("1.0", "nan"), "frame 1: energy 'energy' is not finite"),
        (GOOD + GOOD.replace("1.0", "abc"), "frame 1: energy 'energy' is not a number: 'abc'"),
        (
            GOOD.replace("R:3 energy", "R:3:forces:R:3 energy").replace("0 0 0\n", "0 0 0 1 nan 1\n"),
            "frame 0: forces 'forces' of atom 0 is not finite",
        ),
        (
            GOOD.replace("R:3 energy", "R:3:forces:R:1 energy").replace("0 0 0\n", "0 0 0 1\n"),
            "frame 0: forces 'forces' has shape (1,), must be (1, 3)",
        ),
        (
            GOOD.replace("energy=1.0", 'REF_stress="1 2 3 4"'),
            "frame 0: stress 'REF_stress' has shape (4,), must be (6,), (9,) or (3, 3)",
        ),
        (GOOD + GOOD.replace("H 0", "X 0"), "frame 1: atom 0 has no known element"),
        (GOOD + GOOD.replace("H 0", "Hx 0"), "frame 1: cannot be read by ASE: unknown name 'Hx'"),
        (GOOD.replace("0 0 0\n", "0 0 nan\n"), "frame 0: position of atom 0 is not finite"),
        (
            GOOD.replace("0 0 0\n", "0 0 zz\n"),
            "frame 0: cannot be read by ASE: could not convert string to float: 'zz'",
        ),
        (GOOD.replace("0 0 5", "0 0 0"), "frame 0: is periodic (pbc T T T) but its cell has no volume"),
        (
            '1\nProperties=species:S:1:pos:R:3 pbc="T T T"\nH 0 0 0\n',
            "frame 0: is periodic (pbc T T T) but its cell has no volume",
        ),
        (GOOD + "3\nenergy=1\nH 0 0 0\n", "frame 1: announces 3 atoms, but the file ends before"),
        (
            GOOD + "99999999999999999999\n\nH 0 0 0\n",
            "frame 1: announces 99999999999999999999 atoms, but the file ends before",
        ),
        ("0\n\n", "frame 0: has no atoms"),
        ("", "Empty file"),
    ],
)
def test_a_wrong_extxyz_file_is_one_message_naming_file_and_frame(tmp_path, text, message):
    with pytest.raises(DataError) as error:
        read_text(tmp_path, text, "a.xyz")
    assert str(error.value).startswith(str(tmp_path / "a.xyz"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_compressed_files_are_errors(tmp_path):
    packed = lzma.compress(50 * GOOD.encode())
    (tmp_path / "cut.xyz.xz").write_bytes(packed[:-30])
    (tmp_path / "bad.xyz.xz").write_bytes(packed[:40] + b"xxxxxx" + packed[46:])
    (tmp_path / "no.xyz.xz").write_bytes(b"abc" + packed)
    (tmp_path / "cut.xyz.gz").write_bytes(gzip.compress(50 * GOOD.encode())[:-12])
    for name in ("cut.xyz.xz", "bad.xyz.xz", "no.xyz.xz", "cut.xyz.gz"):
        with pytest.raises(DataError, match=f"{name}: cannot be read: "):
            read_sources(tmp_path / name, report=quiet)
    (tmp_path / "input.data.gz").write_bytes(gzip.compress(FRAME.encode()))
    assert len(read_sources(tmp_path / "input.data.gz")) == 1


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.xyz")
    for path in (tmp_path / "pipe.xyz", Path(os.devnull)):
        with pytest.raises(DataError, match=f"{path}: is a pipe or a device"):
            read_sources(path)


BROKEN = "a.xyz: is a symbolic link to .*/gone.xyz, which does not exist"


@pytest.mark.parametrize("source", ["a.xyz", "*.xyz", "."], ids=["file", "pattern", "folder"])
def test_a_link_to_what_does_not_exist_is_told_as_one(tmp_path, source):
    (tmp_path / "b.xyz").write_text(GOOD)
    (tmp_path / "a.xyz").symlink_to("gone.xyz")
    with pytest.raises(DataError, match=BROKEN):
        read_sources(tmp_path / source, report=quiet)


@pytest.mark.parametrize("source", ["*.xyz", "."], ids=["pattern", "folder"])
def test_links_to_what_will_be_written_are_not_asked_for(tmp_path, source):
    (tmp_path / "b.xyz").write_text(GOOD)
    (tmp_path / "a-pos-1.xyz").symlink_to("gone.xyz")
    assert len(read_sources(tmp_path / source, report=quiet, without=[tmp_path / "a-pos-1.xyz"])) == 1


@pytest.mark.parametrize("name", ["notes.txt", "script.py", "a.foo"])
def test_files_of_no_known_kind_are_errors(tmp_path, name):
    with pytest.raises(DataError, match=f"{name}, frame 0: cannot be read by ASE"):
        read_text(tmp_path, "hello\n", name)


# ---- files, patterns, folders


def test_sources_keep_the_order_of_files_and_frames(tmp_path):
    for name, energies in (("b.xyz", (1.0, 2.0)), ("a.xyz", (3.0,))):
        write_ase(tmp_path / name, [make_atoms(2, results={"energy": e}) for e in energies])
    (tmp_path / "input.data").write_text(FRAME)
    (tmp_path / "scaling.data").write_text("# not structures\n1 2 3\n")
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / ".hidden.xyz").write_text("hello\n")
    a, b, r = (str(tmp_path / name) for name in ("a.xyz", "b.xyz", "input.data"))
    runner = -76.5 * Hartree
    for files, energies in (
        ([b, r, a], [1, 2, runner, 3]),
        (str(tmp_path / "*.xyz"), [3, 1, 2]),
        (tmp_path, [3, 1, 2, runner]),
    ):
        d = read_sources(files, report=quiet)
        np.testing.assert_allclose(d.energy, energies)
    assert d.source_names == (a, b, r)
    hdf5.write(tmp_path / "all.h5", d)
    again = read_sources([tmp_path / "all.h5", a], report=quiet)
    np.testing.assert_allclose(again.energy, [3, 1, 2, runner, 3])
    assert again.source_names == (a, b, r)  # names in the HDF5 file are kept
    assert again.take(range(4)).hash() == d.hash()


def test_sources_that_are_not_there_or_hold_nothing_are_errors(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("hello")
    hdf5.write(tmp_path / "none.h5", Dataset.from_structures([]))
    (tmp_path / "input.data").write_text("\n\n")
    (tmp_path / "text.h5").write_text("hello")
    for files, message in (
        (tmp_path / "none.xyz", "none.xyz: no such file or folder"),
        (tmp_path / "*.traj", "no file fits this pattern"),
        (empty, "is a folder without data files"),
        ([], "no files given"),
        (tmp_path / "none.h5", "none.h5: has no structures"),
        (tmp_path / "input.data", "input.data: has no structures"),
        (
            tmp_path / "text.h5",
            "text.h5: cannot be read as a data set of mpnnp, truncated or not an HDF5 file",
        ),
    ):
        with pytest.raises(DataError) as error:
            read_sources(files, report=quiet)
        assert message in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_an_error(tmp_path):
    for name in ("a.xyz", "input.data", "a.h5"):
        (tmp_path / name).write_text(FRAME)
        (tmp_path / name).chmod(0)
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            read_sources(tmp_path / name, report=quiet)
