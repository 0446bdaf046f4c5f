"""The plugin: found by lmp through its entry point, compiled once, silent for others; and without it."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest
from launch import ROOT
from oracles.lammps import make_potentials, make_systems, needs_lammps, plugin, start

from mpnnp.errors import LaunchError
from mpnnp.simulation import lammps_build


@pytest.fixture
def installed(tmp_path):
    """Folder to put on PYTHONPATH: metadata of a package with the entry point of setup.cfg."""
    needs_lammps()
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    folder = tmp_path / "site" / "mpnnp_of_the_test-0.1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mpnnp-of-the-test\nVersion: 0.1\n")
    entry = config["options.entry_points"]["lammps.plugins"]
    (folder / "entry_points.txt").write_text(f"[lammps.plugins]{entry}\n")
    return str(folder.parent)


def test_lmp_compiles_and_finds_the_pair_style_when_its_input_names_it(tmp_path, installed):
    """The first use, on two ranks at once, with a cache that is empty."""
    plugin()  # or skip
    paths, _ = make_potentials(tmp_path)
    system = make_systems()["cubic"]
    (tmp_path / "cubic.lammps").write_text(system.data())
    (tmp_path / "lammps.in").write_text(system.script("cubic", paths))
    variables = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), installed]),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    _, output = start(2, "lmp", "-in", "lammps.in", cwd=tmp_path, **variables)
    assert "Loaded 1 plugins" in output
    built = list((tmp_path / "cache").rglob("*.so"))
    assert [p.name for p in built] == [lammps_build.NAME]
    assert not list(built[0].parent.glob("tmp*"))  # nothing is left of the compilation


def test_lmp_for_something_else_compiles_nothing(tmp_path, installed):
    (tmp_path / "lammps.in").write_text("units lj\n")
    variables = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), installed]),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    _, output = start(1, "lmp", "-in", "lammps.in", cwd=tmp_path, **variables)
    assert "mpnnp: " not in output and not list(tmp_path.rglob("*.so"))


def test_the_entry_point_loads_the_standard_library_alone():
    heavy = ("numpy", "numba", "h5py", "mpi4py", "ase", "typer", "mpnnp.files")
    code = "import sys; from mpnnp.simulation import lammps_build as b; b.plugin_folder()\n"
    code += f"print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.stdout == "[]\n", result.stderr


def test_the_entry_point_never_fails(monkeypatch, tmp_path, capsys):
    def fail():
        raise LaunchError("no LAMMPS in this test")

    monkeypatch.setattr(lammps_build, "find_folder", fail)
    assert lammps_build.plugin_folder() == os.devnull and capsys.readouterr().err == ""
    (tmp_path / "lammps.in").write_text("pair_style mpnnp x\n")
    monkeypatch.setattr(sys, "argv", ["lmp", "-in", str(tmp_path / "lammps.in")])
    assert lammps_build.plugin_folder() == os.devnull
    assert capsys.readouterr().err == "mpnnp: pair_style mpnnp is not available: no LAMMPS in this test\n"


def test_without_a_compiler_the_other_way_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(
        LaunchError,
        match=r"no C\+\+ compiler is found \(c\+\+, g\+\+, clang\+\+\).*mpnnp lammps POTENTIAL -in",
    ):
        lammps_build.find_compiler()
    monkeypatch.setenv("CXX", "icpx -O3")
    with pytest.raises(LaunchError, match=r"\$CXX = icpx -O3"):
        lammps_build.find_compiler()


def fake_lammps(folder, release, headers=True):
    """A package lammps of another release, on sys.path."""
    package = folder / "lammps"
    (package / "include" / "lammps").mkdir(parents=True)
    (package / "__init__.py").write_text(f"__version__ = {release}\n")
    if headers:
        (package / "include" / "lammps" / "pair.h").write_text("")


@pytest.mark.parametrize(
    "release, headers, message",
    [
        (20220623, True, "LAMMPS of release 20220623; pair_style mpnnp needs 2"),
        (20250722, False, "has no headers in .*only the package lammps of the package index has"),
    ],
)
def test_a_lammps_that_does_not_fit_is_refused(monkeypatch, tmp_path, release, headers, message):
    fake_lammps(tmp_path, release, headers)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [m for m in sys.modules if m.split(".")[0] == "lammps"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(LaunchError, match=message):
        lammps_build.find_lammps()


def test_a_compilation_that_fails_shows_the_compiler_and_leaves_nothing(monkeypatch, tmp_path):
    plugin()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(
        LaunchError, match="pair_style mpnnp cannot be compiled for LAMMPS 20[0-9]{6}:\nfalse -std=c"
    ):
        lammps_build.build()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["lock"]


def test_a_plugin_of_another_release_registers_nothing(monkeypatch, tmp_path):
    plugin()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    release, headers = lammps_build.find_lammps()
    monkeypatch.setattr(lammps_build, "find_lammps", lambda: (release + 1, headers))
    folder = lammps_build.build().parent
    # an installed mpnnp would serve its own plugin where the input names it
    (tmp_path / "lammps.in").write_text("variable name string mpn\npair_style ${name}np x\n")
    status, output = start(
        1, "lmp", "-in", "lammps.in", cwd=tmp_path, check=False, LAMMPS_PLUGIN_PATH=str(folder)
    )
    assert status != 0 and f"compiled for LAMMPS {release + 1} and cannot serve LAMMPS {release}" in output
    assert "Unrecognized pair style 'mpnnp'" in output


def test_the_license_of_the_shim_is_in_its_header_and_in_the_wheel():
    assert "GNU General Public License, version 2" in lammps_build.SOURCE.read_text()
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert Path(lammps_build.SOURCE).name == config["options.package_data"]["mpnnp.simulation"]
