"""The command line: every command on small data, and bad input:
a message that names it, exit status 2, no traceback.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass

import h5py
import numpy as np
import pytest
import typer
from ase.io import read
from small import quiet, small_config, write_clusters

import mpnnp
from mpnnp.cli import app, main
from mpnnp.config import read_config, to_toml
from mpnnp.data import dataset


@dataclass
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def command(capfd, monkeypatch):
    """Function(*arguments) that runs the program `mpnnp` in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mpnnp", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        return Result(status, *capfd.readouterr())

    return run


@pytest.fixture
def succeed(command):
    """The same for commands that must end well: returns what they print."""

    def run(*arguments):
        result = command(*arguments)
        assert result.status == 0 and result.err == "", result
        return result.out

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, a configuration for the command line, and the results of a run of two epochs in `run`."""
    path = tmp_path_factory.mktemp("cli")
    (path / "train.toml").write_text(to_toml(small_config(path)))
    result = subprocess.run(
        [sys.executable, "-m", "mpnnp", "train", "train.toml", "-o", "run"],
        cwd=path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert "results in run" in result.stdout.splitlines()[-1]
    return path


# ---- the program


def test_version_and_help_by_both_ways_to_start_it():
    for start in (
        [sys.executable, "-m", "mpnnp"],
        [sys.executable, "-c", "from mpnnp.cli import main; main()"],
    ):
        version, help = (
            subprocess.run([*start, option], capture_output=True, text=True, timeout=60)
            for option in ("--version", "--help")
        )
        assert (version.returncode, version.stdout, version.stderr) == (0, f"mpnnp {mpnnp.__version__}\n", "")
        assert help.returncode == 0 and "train" in help.stdout


def all_commands(group=None, path=()):
    """Every command as a tuple of words, ("analyze", "rdf")."""
    for name, one in (group or typer.main.get_command(app)).commands.items():
        yield from all_commands(one, (*path, name)) if hasattr(one, "commands") else [(*path, name)]


@pytest.mark.parametrize("words", list(all_commands()), ids=" ".join)
def test_every_command_has_help_and_refuses_what_it_does_not_know(command, words):
    help = command(*words, "--help")
    assert help.status == 0 and "Usage:" in help.out and "--debug" in help.out
    wrong = command(*words, "--no-such-option")
    assert wrong.status == 2 and "--no-such-option" in wrong.err and "Traceback" not in wrong.err


def test_an_unknown_command_is_refused(command):
    result = command("trian")
    assert result.status == 2 and "trian" in result.err


# ---- data


def test_an_empty_argument_is_not_the_working_directory(folder, command):
    result = command("train", folder / "config.toml", "-o", "")
    assert result.status == 2 and "-o' is empty: a variable of the shell" in result.err


def test_convert_and_info(folder, succeed, tmp_path):
    out = succeed("convert", folder / "clusters.extxyz", folder / "clusters.extxyz", tmp_path / "both.h5")
    assert "24 structures" in out and f"written to {tmp_path / 'both.h5'}" in out
    frames, both = read(folder / "clusters.extxyz", ":"), dataset.read(tmp_path / "both.h5")
    np.testing.assert_allclose(both[13].forces, frames[1].get_forces(), rtol=1e-12)
    told = succeed("info", tmp_path / "both.h5")
    assert "24 structures" in told and "O" in told
    assert "as structure 2" in told  # warned of: each structure is there twice


def test_info_takes_several_files(folder, succeed, tmp_path):
    write_clusters(tmp_path / "more.extxyz", 3, labels=False)
    out = succeed("info", folder / "clusters.extxyz", tmp_path / "more.extxyz")
    assert re.search(r"^structures +15$", out, re.M) and "energy 3 structures" in out
    out = succeed("info", folder / "run" / "best.h5", tmp_path / "more.extxyz")
    assert "checkpoint of mpnnp" in out and re.search(r"^structures +3$", out, re.M)


@pytest.mark.parametrize("limit", ["nan", "-1", "0"])
def test_a_limit_of_forces_that_limits_nothing_is_refused(folder, command, limit):
    result = command("info", folder / "config.toml", f"--force-limit={limit}")
    assert result.status == 2 and f"--force-limit {limit}: must be positive" in result.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["prune", "clusters.extxyz", "input.nn", "--range", "nan", "-o", "f.nn"],
            "--range nan: must be pos",
        ),
        (["check", "best.h5", "clusters.extxyz", "--tolerance", "nan"], "--tolerance nan: must be positive"),
        (["analyze", "density", "md", "--low", "nan", "--high", "2"], "--low nan --high 2: must be numbers"),
        (["analyze", "density", "md", "--low", "3", "--high", "2"], "--low 3 --high 2: must be numbers, the"),
    ],
)
def test_limits_that_are_no_numbers_or_exchanged_are_refused(command, words, told):
    result = command(*words)
    assert result.status == 2 and told in result.err


def test_info_of_a_checkpoint(folder, succeed):
    out = succeed("info", folder / "run" / "checkpoint.h5")
    assert "weights: 82" in out and "H  net 4-4-3-1" in out
    assert "optimizer: ekf; P 82 x 82" in out
    best = succeed("info", folder / "run" / "best.h5")
    assert "optimizer: none" in best
    entry = re.search(r"  1[.] .*clusters.extxyz [(]hash [0-9a-f]{16}[)]: \d+ structures, \d+ updates", out)
    assert entry and entry[0] in best
    assert "learned: nothing yet" in succeed("info", folder / "run" / "initial.h5")


@pytest.mark.parametrize("words", ["info {}", "evaluate {} {}/../clusters.extxyz", "export {} -o {}/../e"])
def test_a_folder_of_a_run_is_no_potential_but_its_checkpoints_are_named(folder, command, words):
    run = folder / "run"
    result = command(*words.format(run, run).split())
    assert result.status == 2
    assert f"{run}: a folder with several potentials: name one of {run}/best.h5" in result.err


# ---- training


def test_set_changes_a_key(folder, succeed, tmp_path):
    changes = {
        "run.optimizer": "adam",
        "run.epochs": "1",
        "schedule.streams": "3",
        "adam.learning_rate": "1e-2",
        "network.hidden": "[3, 2]",
    }
    settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    succeed("train", folder / "train.toml", "-o", tmp_path / "run", *settings)
    config = read_config(tmp_path / "run" / "config.toml")
    assert (config.run.optimizer, config.run.epochs, config.schedule.streams) == ("adam", 1, 3)
    assert config.adam.learning_rate == 0.01 and config.network.hidden == [3, 2]
    assert "O  net 5-3-2-1" in succeed("info", tmp_path / "run" / "checkpoint.h5")


def test_the_directory_of_the_configuration_is_used_without_o(folder, succeed, tmp_path):
    succeed(
        "train", folder / "train.toml", "--set", f"run.directory={tmp_path / 'here'}", "--set", "run.epochs=1"
    )
    assert (tmp_path / "here" / "best.h5").is_file()


def test_resume(folder, succeed, tmp_path):
    """Stopped after three updates and resumed: the weights of the run without a break."""
    train = ("train", folder / "train.toml", "-o", tmp_path / "run")
    succeed(*train, "--set", "run.updates=3")
    assert "after update 3" in succeed(*train, "--resume")
    weights = [
        h5py.File(path / "checkpoint.h5")["weights"][()] for path in (folder / "run", tmp_path / "run")
    ]
    assert np.array_equal(*weights)


def test_the_configuration_of_a_run_is_of_its_folder(folder, succeed, command, tmp_path, monkeypatch):
    """It does not know of -o, nor that the folder was moved."""
    monkeypatch.chdir(tmp_path)
    succeed("train", folder / "train.toml", "-o", "runs/b", "--set", "run.epochs=1")
    (tmp_path / "runs" / "b").rename(tmp_path / "c")
    again = ("train", "c/config.toml")
    assert "c holds a training already" in command(*again).err
    assert "results in c" in succeed(*again, "--resume", "--set", "run.epochs=2")
    assert read_config("c/config.toml").run.directory == "c"
    succeed(*again, "--set", "run.directory=d", "--set", "run.epochs=1")
    succeed(*again, "-o", "e", "--set", "run.epochs=1")
    mpnnp.train("e/config.toml", resume=True, log=quiet()[1])
    names = sorted(path.name for path in tmp_path.iterdir() if (path / "best.h5").exists())
    assert names == ["c", "d", "e"] and not list((tmp_path / "runs").iterdir())


# ---- potentials


def test_evaluate_writes_accuracies_and_predictions(folder, succeed, tmp_path):
    files = ("--json", tmp_path / "accuracy.json", "--predictions", tmp_path / "predictions.npz")
    out = succeed("evaluate", folder / "run" / "best.h5", folder / "clusters.extxyz", *files)
    numbers = json.loads((tmp_path / "accuracy.json").read_text())
    quantities = (
        "energy_rmse_mev_per_atom energy_mae_mev_per_atom force_rmse_mev_per_angstrom "
        "force_mae_mev_per_angstrom"
    )
    assert list(numbers)[:6] == ["n_structures", "n_atoms", *quantities.split()]
    assert numbers["n_structures"] == 12 and f"{numbers['energy_rmse_mev_per_atom']:.6g}" in out
    arrays, frames = np.load(tmp_path / "predictions.npz"), read(folder / "clusters.extxyz", ":")
    assert arrays["start"].tolist() == np.cumsum([0] + [len(atoms) for atoms in frames]).tolist()
    potential = mpnnp.load(folder / "run" / "best.h5")
    for k, atoms in enumerate(frames):
        energy, forces = potential.energy_forces(atoms)
        assert arrays["energy"][k] == pytest.approx(energy, rel=1e-12)
        np.testing.assert_allclose(
            arrays["forces"][arrays["start"][k] : arrays["start"][k + 1]], forces, rtol=1e-10, atol=1e-12
        )
    labels = [atoms.get_potential_energy() for atoms in frames]
    np.testing.assert_allclose(arrays["energy_label"], labels, rtol=1e-12)
    np.testing.assert_allclose(arrays["forces_label"], np.vstack([atoms.get_forces() for atoms in frames]))
    assert arrays["stress_label"].shape == arrays["stress"].shape and np.isnan(arrays["stress_label"]).all()
    errors = [
        1000 * (arrays["energy"][k] - atoms.get_potential_energy()) / len(atoms)
        for k, atoms in enumerate(frames)
    ]
    assert numbers["energy_rmse_mev_per_atom"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-9)


def test_evaluate_predicts_without_labels(folder, succeed, tmp_path):
    write_clusters(tmp_path / "bare.extxyz", 2, labels=False)
    succeed(
        "evaluate",
        folder / "run" / "best.h5",
        tmp_path / "bare.extxyz",
        "--json",
        tmp_path / "a.json",
        "--predictions",
        tmp_path / "p.npz",
    )
    assert json.loads((tmp_path / "a.json").read_text())["energy_rmse_mev_per_atom"] is None
    assert np.isfinite(np.load(tmp_path / "p.npz")["forces"]).all()


def test_an_exported_potential_evaluates_alike(folder, succeed, tmp_path):
    succeed("export", folder / "run" / "best.h5", "-o", tmp_path / "potential")
    assert {"input.nn", "scaling.data", "weights.001.data", "weights.008.data"} <= {
        path.name for path in (tmp_path / "potential").iterdir()
    }
    for k, potential in enumerate((folder / "run" / "best.h5", tmp_path / "potential")):
        succeed("evaluate", potential, folder / "clusters.extxyz", "--predictions", tmp_path / f"{k}.npz")
    a, b = (np.load(tmp_path / f"{k}.npz") for k in (0, 1))
    np.testing.assert_allclose(a["energy"], b["energy"], rtol=1e-10)
    np.testing.assert_allclose(a["forces"], b["forces"], rtol=1e-10, atol=1e-10)


# ---- bad input


def damaged(source, target, part):
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * part)])


BAD = {  # arguments, what the message holds; {f}: folder of the run, {t}: a new folder
    "no configuration": ("train {t}/no.toml", "{t}/no.toml: cannot be read"),
    "configuration is a folder": ("train {f} -o {t}/run", "{f}: cannot be read"),
    "not TOML": ("train {f}/clusters.extxyz -o {t}/run", "{f}/clusters.extxyz: not valid TOML"),
    "data for a configuration": (
        "train {f}/clusters.extxyz -o {t}/run",
        "holds structures, of which `mpnnp init` makes a configuration",
    ),
    "a potential for a configuration": (
        "train {f}/run/checkpoint.h5 -o {t}/run",
        "it holds a potential, which",
    ),
    "data for a potential": ("evaluate {f}/clusters.extxyz {f}/run/checkpoint.h5", "it holds structures"),
    "a configuration for data": (
        "info {f}/train.toml",
        "it holds a configuration, which `mpnnp train` takes",
    ),
    "unknown key": (
        "train {f}/train.toml -o {t}/run --set run.epoch=3",
        "run.epoch: unknown key; did you mean 'epochs'?",
    ),
    "unknown section": ("train {f}/train.toml -o {t}/run --set kalman.q=3", "kalman: unknown key"),
    "wrong type": ("train {f}/train.toml -o {t}/run --set run.epochs=many", "run.epochs = 'many'"),
    "out of range": ("train {f}/train.toml -o {t}/run --set ekf.epsilon=-1", "ekf.epsilon = -1"),
    "not a setting": (
        "train {f}/train.toml -o {t}/run --set epochs",
        "--set epochs: expected section.key=value",
    ),
    "no data": ("train {f}/train.toml -o {t}/run --set data.files={t}/no.xyz", "{t}/no.xyz: no such file"),
    "data of no structures": (
        "train {f}/train.toml -o {t}/run --set data.files={t}/empty.xyz",
        "{t}/empty.xyz",
    ),
    "wrong HDF5 as data": (
        "train {f}/train.toml -o {t}/run --set data.files={f}/run/best.h5",
        "{f}/run/best.h5",
    ),
    "truncated data set": ("info {t}/cut.h5", "{t}/cut.h5"),
    "results cannot be written": ("train {f}/train.toml -o {t}/file/run", "{t}/file/run"),
    "nothing to resume": ("train {f}/train.toml -o {t}/run --resume", "{t}/run"),
    "truncated checkpoint to resume": ("train {f}/train.toml -o {t}/cut --resume", "{t}/cut/checkpoint.h5"),
    "no potential": ("evaluate {t}/no.h5 {f}/clusters.extxyz", "{t}/no.h5: no such file"),
    "truncated checkpoint": ("evaluate {t}/cut/checkpoint.h5 {f}/clusters.extxyz", "{t}/cut/checkpoint.h5"),
    "text as checkpoint": ("evaluate {f}/train.toml {f}/clusters.extxyz", "{f}/train.toml"),
    "other HDF5 as checkpoint": (
        "evaluate {t}/other.h5 {f}/clusters.extxyz",
        "{t}/other.h5: is not a checkpoint of mpnnp",
    ),
    "folder without potential": ("evaluate {t} {f}/clusters.extxyz", "{t}: a folder without input.nn"),
    "no data to evaluate": ("evaluate {f}/run/best.h5 {t}/no.xyz", "{t}/no.xyz: no such file"),
    "accuracies cannot be written": (
        "evaluate {f}/run/best.h5 {f}/clusters.extxyz --json {t}/no/a.json",
        "{t}/no/a.json",
    ),
    "predictions cannot be written": (
        "evaluate {f}/run/best.h5 {f}/clusters.extxyz --predictions {t}/no/a.npz",
        "{t}/no/a.npz",
    ),
    "another element": ("evaluate {f}/run/best.h5 {t}/carbon.xyz", "no functions and net for C"),
    "export cannot be written": ("export {f}/run/best.h5 -o {t}/file/new", "{t}/file/new"),
    "info of nothing": ("info {t}/no.h5", "{t}/no.h5: no such file"),
    "info of a truncated checkpoint": ("info {t}/cut/checkpoint.h5", "{t}/cut/checkpoint.h5"),
    "info of other HDF5": ("info {t}/other.h5", "{t}/other.h5"),
    "convert without target": ("convert {f}/clusters.extxyz", "convert: give at least one source"),
    "convert to text": ("convert {f}/clusters.extxyz {t}/new.txt", "{t}/new.txt"),
    "convert cannot write": ("convert {f}/clusters.extxyz {t}/no/new.h5", "{t}/no/new.h5"),
}


@pytest.fixture
def wrong(folder, tmp_path):
    """A folder of wrong files."""
    (tmp_path / "file").write_text("not a folder\n")
    (tmp_path / "empty.xyz").write_text("")
    (tmp_path / "carbon.xyz").write_text("2\n\nC 0 0 0\nO 0 0 1.2\n")
    (tmp_path / "cut").mkdir()
    damaged(folder / "run" / "checkpoint.h5", tmp_path / "cut" / "checkpoint.h5", 0.6)
    dataset.write(tmp_path / "whole.h5", dataset.read(next((folder / "cache").glob("structures-*.h5"))))
    damaged(tmp_path / "whole.h5", tmp_path / "cut.h5", 0.7)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1.0
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_with_exit_status_2(folder, wrong, command, name):
    arguments, message = (text.format(f=folder, t=wrong) for text in BAD[name])
    result = command(*arguments.split())
    # a folder of a run may become unwritable later too
    assert result.status == (1 if name == "results cannot be written" else 2), result
    assert result.err.startswith("mpnnp: error: ") and message in result.err
    assert len(result.err.splitlines()) <= 4 and "Traceback" not in result.err + result.out


def test_debug_shows_the_traceback(folder, command):
    result = command("train", folder / "no.toml", "--debug")
    assert result.status == 2
    assert "Traceback (most recent call last)" in result.err and "ConfigError" in result.err


def test_an_error_of_our_own_is_told_in_one_line_with_exit_status_1(folder, command, monkeypatch):
    monkeypatch.setattr("mpnnp.model.evaluation.evaluate", lambda *_: 1 / 0)
    result = command("evaluate", folder / "run" / "best.h5", folder / "clusters.extxyz")
    assert result.status == 1
    assert (
        result.err
        == "mpnnp: error: ZeroDivisionError: division by zero (run with --debug for the traceback)\n"
    )
