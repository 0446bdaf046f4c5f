"""Numbers and names that the options of commands refuse, before anything is computed or written."""

import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from conftest import DATA
from typer.testing import CliRunner

from mpnnp.cli import app
from mpnnp.errors import MpnnpError

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


def test_a_simulation_that_cannot_begin_leaves_a_free_folder(tmp_path):
    write(tmp_path / "co2.xyz", Atoms("CO2", [[0, 0, 0], [1.2, 0, 0], [-1.2, 0, 0]]))
    write(tmp_path / "h2o.xyz", molecule("H2O"))
    words = ["-o", tmp_path / "out", "--time", 0.001]
    assert "the potential knows H O" in refused(tmp_path, "md", POTENTIAL, tmp_path / "co2.xyz", *words)
    right = ["md", POTENTIAL, tmp_path / "h2o.xyz", *words]
    result = CliRunner().invoke(app, [str(word) for word in right])
    assert (tmp_path / "out" / "status.json").exists(), result.output
