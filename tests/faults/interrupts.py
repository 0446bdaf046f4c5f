"""Ctrl-C, SIGTERM and SIGUSR1: python tests/faults/interrupts.py [--repeats 30] [--ranks 2] [--seed 1]

Trains a small run undisturbed, then again and again with signals at random times: typed at a terminal, sent
to the launcher, to all ranks, or to one. Each must end the run with status 75 and one message; resumed until
it is done, the run must be equal to the undisturbed one, bit for bit. Exit status 0 if all are.
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
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import suite  # noqa: E402

SLOW = ("slow", -1, 0)
WAYS = ("terminal", "launcher", "all ranks", "one rank")
CTRL_C = b"\x03"


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


def interrupt(way, number, n_rank, arguments, seconds):
    """(exit status, output) of a start of `mpnnp arguments` that gets a signal after so many seconds."""
    if way == "terminal":
        process, master = at_terminal(*suite.command(n_rank, *arguments, fault=SLOW))
        time.sleep(seconds)
        os.write(master, CTRL_C)
        return read_all(master, process)
    process = suite.start(n_rank, *arguments, fault=SLOW)
    time.sleep(seconds)
    ranks = suite.ranks_of(process)
    targets = {"launcher": [process.pid], "all ranks": ranks, "one rank": ranks[-1:]}[way]
    for pid in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return suite.finish(process)


def interrupted_run(rng, config, folder, n_rank, duration):
    """Number of starts of a run in `folder` that is interrupted up to three times. Raises AssertionError."""
    for begun in range(1, 5):
        resume = ["--resume"] if (folder / "train.log").is_file() else []
        arguments = ("train", config, "-o", folder, *resume)
        if begun == 4:
            status, output = suite.finish(suite.start(n_rank, *arguments, fault=SLOW))
        else:
            way = rng.choice(WAYS)
            number = signal.SIGINT if way == "terminal" else rng.choice((signal.SIGINT, signal.SIGTERM))
            seconds = rng.uniform(0.3, 1.0) * duration
            status, output = interrupt(way, number, n_rank, arguments, seconds)
        if status == 0:
            return begun
        assert status == 75, f"{way}, {number.name}: status {status}\n{output[-2000:]}"
        told = [line for line in output.splitlines() if "mpnnp: SIG" in line]
        assert len(told) == 1 and "--resume" in told[0], f"{way}: {told}\n{output[-2000:]}"
    raise AssertionError(f"the run did not end\n{output[-2000:]}")


def repeat(folder, repeats, n_rank, seed):
    """Number of repeats that were not equal to the undisturbed run."""
    rng, bad = random.Random(seed), 0
    config = suite.make_run(folder)
    for _ in range(2):  # compiled and cached the second time
        shutil.rmtree(folder / "whole", ignore_errors=True)
        begin = time.monotonic()
        status, output = suite.finish(
            suite.start(n_rank, "train", config, "-o", folder / "whole", fault=SLOW), 600
        )
        assert status == 0, output
        duration = time.monotonic() - begin
    expected = suite.contents(folder / "whole")
    for k in range(1, repeats + 1):
        target = folder / f"run-{k}"
        try:
            starts = interrupted_run(rng, config, target, n_rank, duration)
            equal = suite.contents(target) == expected
            verdict = f"{'equal' if equal else 'DIFFERENT'} after {starts} starts"
        except AssertionError as error:
            equal, verdict = False, f"FAILED: {error}"
        bad += not equal
        print(f"{k:4d}/{repeats} {verdict}", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(suite.run_program(__doc__, repeat, repeats=30, n_rank=2))
