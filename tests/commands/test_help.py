"""The help: commands in families, examples that are valid, choices and defaults; completion of the shell."""

import os
import re
import shlex
import subprocess
import sys
import typing

import pytest
import typer
from typer.testing import CliRunner

from mpnnp.cli import FAMILIES, app
from mpnnp.commands import data, dynamics, potentials, symmetry_functions

PROGRAM = typer.main.get_command(app)
COMMANDS = {name: c for name, c in PROGRAM.commands.items() if not hasattr(c, "commands")}
COMMANDS |= {f"analyze {name}": c for name, c in PROGRAM.commands["analyze"].commands.items()}


def help_of(*words):
    result = CliRunner().invoke(app, [*words, "-h"], terminal_width=100)
    assert result.exit_code == 0, result.output
    return result.output


def examples_of(command):
    """The words of each example behind the name of the program."""
    lines = [line for line in (command.epilog or "").splitlines() if " mpnnp " in f" {line}"]
    return [shlex.split(re.sub(r"^.*?\bmpnnp ", "", line)) for line in lines]


def test_every_command_is_in_one_family():
    names = [name for family in FAMILIES.values() for name in family]
    assert len(names) == len(set(names))
    assert sorted(set(PROGRAM.commands) - set(names)) == []


def test_the_help_shows_families_and_exit_statuses():
    text = help_of()
    for title in FAMILIES:
        assert f"\n{title}:\n" in text
    for status in (0, 1, 2, 75, 130):
        assert re.search(rf"^ +{status}  ", text, re.MULTILINE)
    assert "..." not in text.split("Train:")[1]  # no summary is cut off
    assert help_of("train") == CliRunner().invoke(app, ["train", "--help"], terminal_width=100).output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_examples_of_it(name):
    assert "Examples:\n    " in help_of(*name.split())
    examples = examples_of(COMMANDS[name])
    assert len(examples) >= 1
    for words in examples:
        assert " ".join(words).startswith(f"{name} ") or words == [name]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_have_arguments_that_the_command_takes(name):
    for words in examples_of(COMMANDS[name]):
        COMMANDS[name].make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_shown(name):
    text = " ".join(help_of(*name.split()).split())
    for option in COMMANDS[name].params:
        if type(option.default) in (int, float, str):
            assert f"[default: {option.default}" in text, option.name


READERS = (
    *("convert", "info", "select", "evaluate", "calibrate", "export", "label", "disagree", "check", "fisher"),
    *("sensitivity", "prepare", "prune", "init", "analyze density", "analyze energy-density"),
)


@pytest.mark.parametrize("name", READERS)
def test_commands_that_read_data_have_the_same_options_for_it(name):
    options = {word for option in COMMANDS[name].params for word in option.opts}
    assert options >= {"--units", "--energy-key", "--forces-key", "--stress-key"}


def choices(function, option):
    """The words of the Literal in the annotation of an option."""
    hint = typing.get_type_hints(function)[option]
    parts = [hint] if typing.get_origin(hint) is typing.Literal else typing.get_args(hint)
    return [word for part in parts for word in typing.get_args(part)]


def test_choices_are_those_of_the_code():
    from mpnnp.analysis.selection import METHODS
    from mpnnp.analysis.sensitivity import MEASURES
    from mpnnp.n2p2.engines import STARTS

    assert choices(data.select, "by") == list(METHODS)
    assert choices(symmetry_functions.prune, "measure") == list(MEASURES)
    assert choices(potentials.export, "lammps") == list(STARTS)
    assert "--ensemble <nve|nvt|npt>" in help_of("md") or "[nve|nvt|npt]" in help_of("md")


def test_the_help_promises_no_thermostat_to_npt_that_is_an_error():
    from mpnnp.errors import ConfigError
    from mpnnp.simulation.integrators import Protocol

    option = next(o for o in COMMANDS["md"].params if "--thermostat" in o.opts)
    assert option.help == "Of nvt; npt has that of its barostat."
    for thermostat in set(choices(dynamics.md, "thermostat")) - {option.default}:
        with pytest.raises(ConfigError, match="the barostats bring their own thermostat"):
            Protocol(ensemble="npt", thermostat=thermostat)


def test_a_wrong_choice_is_answered_with_the_choices():
    result = CliRunner().invoke(app, ["md", "a.h5", "b.xyz", "-o", "c", "--ensemble", "npv"])
    assert result.exit_code == 2
    assert all(f"'{word}'" in result.output for word in ("npv", "nve", "nvt", "npt"))


def completions(words):
    environment = os.environ | {
        "_MPNNP_COMPLETE": "complete_bash",
        "COMP_WORDS": f"mpnnp {words}",
        "COMP_CWORD": str(len(words.split(" "))),
    }
    program = "import sys; sys.argv = ['mpnnp']; from mpnnp.cli import main; main()"
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    return found.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("tra", ["train", "translate"]),
        ("md --ense", ["--ensemble"]),
        ("md --ensemble n", ["nve", "nvt", "npt"]),
    ],
)
def test_the_shell_completes_commands_options_and_choices(words, found):
    assert completions(words) == found
