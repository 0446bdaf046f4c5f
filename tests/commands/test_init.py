"""`mpnnp init`, and trainings by what it writes, untouched; `mpnnp schema`."""

import json
import os

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from launch import ROOT
from typer.testing import CliRunner
from vasp import outcar

from mpnnp.cli import app
from mpnnp.config import read_config
from mpnnp.config.schema import schema
from mpnnp.errors import ConfigError
from mpnnp.library import read

pytestmark = pytest.mark.timeout(1200)


def copper(n, seed=0):
    """Frames of 32 atoms of hot copper, labelled by EMT."""
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * (2, 2, 2)
        atoms.rattle(0.1, seed=seed + k)
        atoms.calc = EMT()
        atoms.get_forces(), atoms.get_stress()
        frames.append(atoms)
    return frames


def run(*words):
    result = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    return result.output


def test_from_an_output_of_vasp_to_a_potential_without_touching_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calculation").mkdir()
    (tmp_path / "calculation" / "OUTCAR").write_text(outcar(copper(10)))
    told = run("init", "calculation/OUTCAR", "-o", "copper.toml")
    assert "written to copper.toml; next: mpiexec -n 2 mpnnp train copper.toml" in told
    text = (tmp_path / "copper.toml").read_text()
    assert text.startswith("#:schema file://") and "10 structures of 32 atoms (Cu)" in text
    config = read_config("copper.toml")
    assert config.data.files == [str(tmp_path / "calculation" / "OUTCAR")]
    run("train", "copper.toml", "--set", "run.epochs=2")
    accuracy = json.loads((tmp_path / "runs" / "copper" / "accuracy.json").read_text())
    assert np.isfinite(accuracy["validation"]["force_rmse"])


def test_files_are_named_as_seen_from_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a.extxyz", copper(4))
    (tmp_path / "jobs").mkdir()
    run("init", "a.extxyz", "-o", "jobs/train.toml")
    assert 'files = ["../a.extxyz"]' in (tmp_path / "jobs" / "train.toml").read_text()
    assert read_config("jobs/train.toml").data.files == [str(tmp_path / "a.extxyz")]


def test_a_configuration_in_a_folder_that_is_a_link_names_the_files(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "far" / "away")
    monkeypatch.chdir(tmp_path / "here")
    write("a.extxyz", copper(4))
    run("init", "a.extxyz", "-o", "link/train.toml")
    run("init", "*.extxyz", "-o", "link/pattern.toml")
    assert 'files = ["../../here/a.extxyz"]' in (tmp_path / "far" / "away" / "train.toml").read_text()
    assert read_config("link/train.toml").data.files == [str(tmp_path / "here" / "a.extxyz")]
    assert read_config("link/pattern.toml").data.files == [str(tmp_path / "here" / "*.extxyz")]


def test_a_name_that_is_not_utf_8_is_no_reason_to_fail_but_for_a_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9.extxyz")
    write("a.extxyz", copper(4))
    os.rename("a.extxyz", name)
    for target in ("b.h5", "input.data", "c.extxyz"):
        told = run("convert", name, target)
        assert "caf\\xe9.extxyz: 4 frames" in told
        assert len(read(target, report=lambda _: None)) == 4
    assert read("b.h5").name(0) == "caf\\xe9.extxyz, frame 0"
    result = CliRunner().invoke(app, ["init", name])
    assert isinstance(result.exception, ConfigError) and "its name is not UTF-8" in str(result.exception)
    assert not (tmp_path / "train.toml").exists()


def test_units_of_input_data_are_stated_as_assumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a.extxyz", copper(4))
    run("convert", "a.extxyz", "input.data")
    text = (tmp_path / "input.data").read_text().replace("comment units: Hartree Bohr\n", "")
    (tmp_path / "input.data").write_text(text)
    run("init", "input.data", "-o", "assumed.toml")
    (tmp_path / "input.data").write_text(f"# units: Hartree Bohr\n{text}")
    run("init", "input.data", "-o", "said.toml")
    assert read_config("said.toml").data.units is None
    assert read_config("assumed.toml").data.units == "Hartree Bohr"
    assert "does not say them: check" in (tmp_path / "assumed.toml").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a.extxyz", "-o", "there.toml"], "there.toml: is there already"),
        (["a.extxyz", "-o", "train.yaml"], "must be named FILE.toml; found train.yaml"),
        (["input.nn"], "mpnnp translate input.nn -o train.toml"),
        (["nothing.xyz"], "nothing.xyz: no such file or folder"),
    ],
)
def test_what_cannot_be_is_an_error(tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    write("a.extxyz", copper(1))
    (tmp_path / "there.toml").write_text("")
    result = CliRunner().invoke(app, ["init", *words])
    assert result.exit_code != 0 and told in str(result.exception)
    assert (tmp_path / "there.toml").read_text() == "" and not (tmp_path / "train.toml").exists()


def test_isolated_atoms_are_not_counted_and_do_not_look_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atom = Atoms("Cu")
    atom.calc = SinglePointCalculator(atom, energy=3.5, forces=np.zeros((1, 3)))
    write("a.extxyz", [atom, *copper(8)])
    assert "linear fit" not in run("init", "a.extxyz", "-o", "a.toml")
    text = (tmp_path / "a.toml").read_text()
    assert "8 structures of 32 atoms" in text and "Labels: 8 energies" in text and "Looks wrong" not in text


def test_overwrite_keeps_the_configuration_that_was_there_under_another_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a.extxyz", copper(4))
    (tmp_path / "edited").mkdir()
    (tmp_path / "edited" / "train.toml").write_text("x")
    (tmp_path / "train.toml").symlink_to("edited/train.toml")
    assert "is kept as" in run("init", "a.extxyz", "--overwrite")
    assert read_config("train.toml").symmetry_functions.set == "default"
    assert (tmp_path / "edited" / "train.toml.old-1").read_text() == "x"
    assert "is kept as" not in run("init", "a.extxyz", "--overwrite")  # what reads the same is not kept
    assert (tmp_path / "train.toml").is_symlink() and not list(tmp_path.rglob("*.old-2"))


def test_the_schema_is_shown_and_written(tmp_path):
    assert json.loads(run("schema")) == schema()
    run("schema", "-o", tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text()) == schema()


def test_the_files_of_the_project_name_the_schema():
    files = sorted(set((ROOT / "jobs").rglob("*.toml")) - set((ROOT / "jobs" / "learn").glob("*.toml")))
    assert len(files) >= 5
    for path in files:
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("#:schema ")
        assert (path.parent / first.split()[1]).resolve() == ROOT / "mpnnp" / "config" / "schema.json"
