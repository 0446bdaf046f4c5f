"""Ctrl-C, SIGTERM and SIGUSR1: python tests/faults/interrupts.py [--repeats 30] [--ranks 2] [--seed 1]

Trains, simulates and labels undisturbed, then again and again with signals at random times: typed at a
terminal, sent to the launcher, to all ranks, or to one. Each must end the program with status 75 and one
message that says how to go on, or with 128 + signal before it has begun; gone on with until it is done, the
results must be equal to the undisturbed ones, bit for bit. Exit status 0 if all are.
"""

import contextlib
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import suite  # noqa: E402
from small import write_clusters  # noqa: E402

from mpnnp import load  # noqa: E402
from mpnnp.data import dataset  # noqa: E402
from mpnnp.n2p2.export import write_potential  # noqa: E402

WAYS = ("terminal", "launcher", "all ranks", "one rank")
CTRL_C = b"\x03"
WATER = HERE.parent / "reference" / "predict_acsf_cos"  # random weights


@dataclass(frozen=True)
class Command:
    """A command that is interrupted.

    arguments  of a start with the results in a folder
    resume     file of that folder that says that it is gone on with by --resume; "": by the same command
    contents   of that folder: what must be equal
    fault      of saboteur.py: what makes it slow
    advice     how to go on, in its message
    """

    arguments: Sequence[object]
    resume: str
    contents: Callable[[Path], dict]
    fault: str
    advice: str = "--resume"

    def start(self, folder):
        """Arguments of mpnnp that begin, or go on with, what lies in the folder."""
        name, *rest = self.arguments
        if not self.resume:
            return (name, *rest, "-o", folder / "labels.h5")
        return (name, *rest, "-o", folder, *(["--resume"] if (folder / self.resume).is_file() else []))


def make_commands(folder):
    """name -> Command, with what they need in a folder."""
    potential = load(WATER)
    mild = replace(potential, energy_scale=1e-3 * potential.energy_scale)  # with forces as of water
    write_potential(mild, folder / "potential")
    write_clusters(folder / "unlabelled.extxyz", 40, labels=False)
    md = ("md", folder / "potential", WATER / "input.data", "--thermostat", "langevin", "--log-every", "1")
    return {
        "train": Command(("train", suite.make_run(folder)), "train.log", suite.contents, "slow"),
        "md": Command((*md, "--time", "0.03"), "protocol.json", of_simulation, "slow-step"),
        "label": Command(
            ("label", folder / "potential", folder / "unlabelled.extxyz"),
            "",
            of_labels,
            "slow-label",
            "the same command goes on",
        ),
    }


def of_simulation(folder):
    """name -> bytes of the files of a simulation."""
    return {name: (folder / name).read_bytes() for name in ("md.csv", "trajectory.xyz", "final.xyz")}


def of_labels(folder):
    """name -> bytes of the labels; nothing else is left in the folder."""
    labelled = dataset.read(folder / "labels.h5")
    files = {"files": sorted(path.name for path in folder.iterdir())}
    return files | {name: getattr(labelled, name).tobytes() for name in ("positions", "energy", "forces")}


def at_terminal(*command):
    """(process, master side of its terminal); the process and its children are in the foreground of it."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=suite.environment(),
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # makes it the controlling terminal
    )
    os.close(slave)
    return process, master


def read_all(master, process, seconds=suite.SECONDS):
    """(exit status, what was written to the terminal)."""
    output, end = b"", time.monotonic() + seconds
    with contextlib.suppress(OSError):  # the other side is closed
        while block := os.read(master, 4096):
            output += block
            assert time.monotonic() < end, f"did not end within {seconds} s: {output[-2000:]}"
    os.close(master)
    return process.wait(seconds), output.decode(errors="replace")


def wait_until_heard(process, n_rank):
    """Process ids of the ranks, when all of them listen to signals."""
    while process.poll() is None:
        ranks = suite.ranks_of(process)
        if len(ranks) == n_rank and all(map(listens, ranks)):
            return ranks
        time.sleep(0.01)
    return []


def listens(pid):
    """Whether a process catches SIGUSR1 (Linux)."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        caught = int(text.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (signal.SIGUSR1 - 1) & 1)
    return False


def interrupt(way, number, n_rank, arguments, fault, seconds):
    """(exit status, output) of a start of `mpnnp arguments` that gets a signal so many seconds after its
    ranks have begun to listen.
    """
    if way == "terminal":
        process, master = at_terminal(*suite.command(n_rank, *arguments, fault=fault))
        wait_until_heard(process, n_rank)
        time.sleep(seconds)
        os.write(master, CTRL_C)
        return read_all(master, process)
    process = suite.start(n_rank, *arguments, fault=fault)
    ranks = wait_until_heard(process, n_rank)
    time.sleep(seconds)
    targets = {"launcher": [process.pid], "all ranks": ranks, "one rank": ranks[-1:]}[way]
    for pid in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return suite.finish(process)


def interrupted_run(rng, command, folder, n_rank, duration):
    """Number of starts of a command with results in `folder` that is interrupted up to three times.

    duration  seconds from when an undisturbed start listens to its end
    Raises AssertionError.
    """
    fault = (command.fault, -1, 0)
    for begun in range(1, 5):
        arguments = command.start(folder)
        if begun == 4:
            status, output = suite.finish(suite.start(n_rank, *arguments, fault=fault))
        else:
            way = rng.choice(WAYS)
            number = signal.SIGINT if way == "terminal" else rng.choice((signal.SIGINT, signal.SIGTERM))
            seconds = rng.uniform(0.0, 1.0) * duration
            status, output = interrupt(way, number, n_rank, arguments, fault, seconds)
        if status == 0:
            return begun
        unbegun = status == 128 + number and f"mpnnp: ended by {number.name}" in output
        assert status == 75 or unbegun, f"{way}, {number.name}: status {status}\n{output[-2000:]}"
        told = [line for line in output.splitlines() if "stopped " in line or "mpnnp: SIG" in line]
        assert unbegun or (len(told) == 1 and command.advice in told[0]), f"{way}: {told}\n{output[-2000:]}"
    raise AssertionError(f"it did not end\n{output[-2000:]}")


def repeat(folder, repeats, n_rank, seed, names=("train", "md", "label")):
    """Number of repeats that were not equal to the undisturbed one."""
    rng, bad, commands = random.Random(seed), 0, make_commands(folder)
    for name in names:
        command, whole = commands[name], folder / f"whole-{name}"
        for _ in range(2):  # compiled and cached the second time
            shutil.rmtree(whole, ignore_errors=True)
            whole.mkdir()
            process = suite.start(n_rank, *command.start(whole), fault=(command.fault, -1, 0))
            wait_until_heard(process, n_rank)
            begin = time.monotonic()
            status, output = suite.finish(process, 600)
            assert status == 0, output
            duration = time.monotonic() - begin
        expected = command.contents(whole)
        for k in range(1, repeats + 1):
            target = folder / f"{name}-{k}"
            target.mkdir()
            try:
                starts = interrupted_run(rng, command, target, n_rank, duration)
                equal = command.contents(target) == expected
                verdict = f"{'equal' if equal else 'DIFFERENT'} after {starts} starts"
            except AssertionError as error:
                equal, verdict = False, f"FAILED: {error}"
            bad += not equal
            print(f"{name} {k:4d}/{repeats} {verdict}", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(suite.run_program(__doc__, repeat, repeats=30, n_rank=2))
