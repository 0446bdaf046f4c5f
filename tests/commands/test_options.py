"""Numbers and names that the options of commands refuse, before anything is computed or written."""

import shutil

import h5py
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from conftest import DATA
from typer.testing import CliRunner

from mpnnp import load
from mpnnp.cli import app
from mpnnp.commands.common import write_result
from mpnnp.errors import DataError, MpnnpError, OutputError
from mpnnp.n2p2.export import write_potential

POTENTIAL, INPUT_DATA = DATA / "predict_acsf_cos", DATA / "predict_acsf_cos" / "input.data"


def refused(folder, *words):
    """What a command says that ends with status 2 and leaves the folder as it was."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = CliRunner().invoke(app, [str(word) for word in words])
    error = result.exception
    assert isinstance(error, MpnnpError | SystemExit), repr(error)
    status = error.exit_status if isinstance(error, MpnnpError) else result.exit_code
    assert status == 2, result.output
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return f"{result.output} {error}"


NUMBERS = (
    ("--structures", 0, ["check", POTENTIAL, INPUT_DATA]),
    ("--structures", -3, ["check", POTENTIAL, INPUT_DATA]),
    ("--components", 0, ["check", POTENTIAL, INPUT_DATA]),
    ("--components", -1, ["check", POTENTIAL, INPUT_DATA]),
    ("--seed", -1, ["box", "water", "-o", "OUT.xyz"]),
    ("--seed", -1, ["select", INPUT_DATA, "-n", 2, "-o", "OUT.xyz"]),
    ("--seed", -1, ["fisher", "x.h5", "--data", INPUT_DATA, "-o", "OUT.h5"]),
    ("--batches", 0, ["fisher", "x.h5", "--data", INPUT_DATA, "-o", "OUT.h5"]),
    ("--batches", -1, ["fisher", "x.h5", "--data", INPUT_DATA, "-o", "OUT.h5"]),
    ("--seed", -1, ["md", POTENTIAL, "start.xyz", "-o", "OUT"]),
    ("--max-extrapolations", -1, ["md", POTENTIAL, "start.xyz", "-o", "OUT"]),
    ("--max-extrapolations", -1, ["lammps", POTENTIAL, "-in", "lammps.in"]),
    ("--max-force-std", 0.0, ["md", POTENTIAL, "start.xyz", "-o", "OUT"]),
    ("--viscosity", 0.0, ["analyze", "msd", "cell.xyz", "-o", "OUT"]),
    ("--temperature", 0.0, ["analyze", "msd", "cell.xyz", "--viscosity", 0.3, "-o", "OUT"]),
    ("--frame-time", 0.0, ["analyze", "msd", "cell.xyz", "-o", "OUT"]),
    ("--r-max", "inf", ["analyze", "rdf", "cell.xyz", "-o", "OUT"]),
)


@pytest.mark.parametrize(("option", "value", "words"), NUMBERS)
def test_numbers_out_of_range_are_refused(option, value, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    water = molecule("H2O")
    write("start.xyz", water)
    water.set_cell([5.0] * 3)
    water.pbc = True
    write("cell.xyz", [water] * 8)
    assert option in refused(tmp_path, *words, option, value)


@pytest.mark.parametrize("analysis", ["rdf", "density", "msd"])
def test_a_periodic_trajectory_without_a_cell_is_refused(analysis, tmp_path):
    water = molecule("H2O")
    water.pbc = True
    write(tmp_path / "zero.traj", [water] * 8)
    found = refused(tmp_path, "analyze", analysis, tmp_path / "zero.traj", "-o", tmp_path / "out")
    assert "zero.traj, frame 0: is periodic, but has no cell" in found


@pytest.mark.parametrize("name", ["start.foo", "start", "OUTCAR"])
def test_box_refuses_a_name_that_says_no_format(name, tmp_path):
    assert name in refused(tmp_path, "box", "water", "--molecules", 1, "-o", tmp_path / name)


def test_a_simulation_does_not_begin_with_two_atoms_at_one_place(tmp_path):
    water = molecule("H2O")
    water.positions[2] = water.positions[1]
    write(tmp_path / "bad.xyz", water)
    found = refused(tmp_path, "md", POTENTIAL, tmp_path / "bad.xyz", "-o", tmp_path / "out")
    assert "two atoms at the same place" in found


def test_a_simulation_that_cannot_begin_leaves_a_free_folder(tmp_path):
    write(tmp_path / "co2.xyz", Atoms("CO2", [[0, 0, 0], [1.2, 0, 0], [-1.2, 0, 0]]))
    write(tmp_path / "h2o.xyz", molecule("H2O"))
    words = ["-o", tmp_path / "out", "--time", 0.001]
    assert "the potential knows H O" in refused(tmp_path, "md", POTENTIAL, tmp_path / "co2.xyz", *words)
    right = ["md", POTENTIAL, tmp_path / "h2o.xyz", *words]
    result = CliRunner().invoke(app, [str(word) for word in right])
    assert (tmp_path / "out" / "status.json").exists(), result.output


NOTHING = "none.h5"  # neither potential nor data: what is said of targets is said before anything is read
TARGETS = (  # what must be said, and the command
    ("nofolder/a.json: cannot be written", f"evaluate {NOTHING} {NOTHING} --json nofolder/a.json"),
    ("nofolder/a.npz: cannot be written", f"evaluate {NOTHING} {NOTHING} --predictions nofolder/a.npz"),
    ("give NAME.npz", f"evaluate {NOTHING} {NOTHING} --predictions p.csv"),
    ("pictures are written as", f"evaluate {NOTHING} {NOTHING} --sigma --reliability r.jpg"),
    ("two results", f"evaluate {NOTHING} {NOTHING} --json a.json --predictions a.json"),
    ("nofolder/s.h5: cannot be written", f"select {NOTHING} -n 3 -o nofolder/s.h5"),
    ("nofolder/s.h5: cannot be written", f"label {NOTHING} {NOTHING} -o nofolder/s.h5"),
    ("nofolder/s.h5: cannot be written", f"convert {NOTHING} nofolder/s.h5"),
    ("nofolder/f.h5: cannot be written", f"fisher {NOTHING} --data {NOTHING} -o nofolder/f.h5"),
    ("pictures are written as", f"fisher {NOTHING} --data {NOTHING} --plot f.jpg"),
    ("two results", f"fisher {NOTHING} --data {NOTHING} -o f.pdf --plot f.png"),
    ("nofolder/c.json: cannot be written", f"compare {NOTHING} --json nofolder/c.json"),
    ("give NAME.csv", f"sensitivity {NOTHING} {NOTHING} -o s.png"),
    ("give NAME.csv", f"disagree {NOTHING} {NOTHING} {NOTHING} -o d.pdf"),
    ("nofolder/d.csv: cannot be written", f"disagree {NOTHING} {NOTHING} {NOTHING} -o nofolder/d.csv"),
    ("folder: cannot be written: it is a folder", f"prune {NOTHING} {NOTHING} --range 1 -o folder"),
    ("file/out: cannot be written", f"prepare {NOTHING} {NOTHING} -o file/out"),
    ("nofolder/o.toml: cannot be written", f"translate {NOTHING} -o nofolder/o.toml"),
    ("nofolder/o.toml: cannot be written", f"init {NOTHING} -o nofolder/o.toml"),
    ("nofolder/o.xyz: cannot be written", "box water -o nofolder/o.xyz"),
    ("nofolder/o.csv: cannot be written", f"analyze rdf {NOTHING} -o nofolder/o"),
    ("nofolder/o.csv: cannot be written", f"analyze energy-density {NOTHING} -o nofolder/o"),
)


@pytest.mark.parametrize(("said", "words"), TARGETS)
def test_what_cannot_be_written_is_told_before_anything_is_read(said, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("not a folder\n")
    assert said in refused(tmp_path, *words.split())


SOURCES = (
    "convert x.extxyz x.extxyz",
    "convert x.extxyz ./folder/../x.extxyz",
    "convert x.extxyz link.extxyz",
    "select x.extxyz -n 1 -o x.extxyz",
    "select x.extxyz -n 1 -o folder/link.extxyz",
    "label p x.extxyz -o x.extxyz",
    "label p,p x.extxyz -o p/scaling.data",
    "translate p/input.nn -o p/input.nn",
    "prune x.extxyz p/input.nn --range 1e-3 -o p/input.nn",
    "prune x.extxyz p/input.nn --range 1e-3 -o x.extxyz",
    "evaluate p x.extxyz --json x.extxyz",
    "evaluate p x.extxyz --predictions p/weights.001.data",
    "sensitivity p x.csv -o x.csv",
    "prepare x.extxyz p/input.nn -o p",
)


@pytest.mark.parametrize("words", SOURCES)
def test_no_command_writes_over_what_it_reads(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(POTENTIAL, "p")
    (tmp_path / "folder").mkdir()
    for name in ("x.extxyz", "x.csv", "folder/y.extxyz"):
        write(name, molecule("H2O"), format="extxyz")
    (tmp_path / "link.extxyz").symlink_to("x.extxyz")
    (tmp_path / "folder" / "link.extxyz").hardlink_to("x.extxyz")
    found = refused(tmp_path, *words.split())
    assert "is read by the same command" in found or "scaling.data: not written by mpnnp" in found


def test_prepare_leaves_the_scaling_of_a_potential(tmp_path):
    write_potential(load(POTENTIAL), tmp_path / "p")
    words = ["prepare", INPUT_DATA, tmp_path / "p" / "input.nn", "-o", tmp_path / "p"]
    assert "holds a potential, whose scaling.data would be replaced" in refused(tmp_path, *words)


def test_a_folder_that_is_read_may_hold_what_is_written_anew(tmp_path, monkeypatch):
    """Accuracies beside data, labels beside a potential: again and again."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(POTENTIAL, "p")
    (tmp_path / "data").mkdir()
    write("data/x.extxyz", molecule("H2O"))
    for words in 2 * ("evaluate p data --json data/a.json", "label p data -o p/labelled.h5 --overwrite"):
        result = CliRunner().invoke(app, words.split())
        assert result.exit_code == 0, result.exception


def test_an_error_of_writing_is_told_in_one_line(tmp_path):
    """HDF5 says half a page of numbers around the words of the operating system."""
    path = tmp_path / "none" / "fisher.h5"
    with pytest.raises(DataError) as found:
        write_result(path, lambda path: h5py.File(path, "w"))
    assert str(found.value) == f"{path}: cannot be written: No such file or directory"


def test_an_error_that_was_told_already_stays_as_it_is(tmp_path):
    def refuse(path):
        raise OutputError(f"{path}: is kept by another")

    with pytest.raises(OutputError, match="is kept by another"):
        write_result(tmp_path / "a", refuse)
