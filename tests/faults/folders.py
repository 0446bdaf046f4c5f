"""Several runs in one folder at once: python tests/faults/folders.py [--repeats 20] [--seed 1]

Two to four trainings and simulations are started in one folder within a second, some with --resume or
--overwrite, some are killed. One at a time may hold the folder: the others end with status 2 and one message
that names the holder or what the folder holds; whatever a run has written is of that run alone. Exit status
0 if all of that holds.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import suite  # noqa: E402

from mpnnp.config import parse_config  # noqa: E402
from mpnnp.errors import CheckpointError  # noqa: E402
from mpnnp.training.checkpoint import read_summary  # noqa: E402
from mpnnp.training.run_folder import read_saved  # noqa: E402

REFUSED = (" is in use by process ", " already: ", "is of another run", "holds no ", "there is no ")


def one_repeat(rng, folder, config, potential, counts):
    """Raises AssertionError where two runs have got into each other's way."""
    run, started = folder / "run", []
    for k in range(rng.randint(2, 4)):
        seed = 10 + k
        option = rng.choice([[], [], ["--resume"], ["--overwrite"]])
        if rng.random() < 0.25:
            arguments = ("md", potential, folder / "clusters.extxyz", "-o", run, "--time", "0.2", *option)
        else:
            arguments = ("train", config, "-o", run, "--set", f"run.seed={seed}", *option)
        started.append(suite.start(1, *arguments, fault=("slow", -1, 0)))
        time.sleep(rng.uniform(0.0, 1.0))
    if rng.random() < 0.3:
        for pid in suite.ranks_of(rng.choice(started)):
            os.kill(pid, signal.SIGKILL)
    for process in started:
        status, output = suite.finish(process)
        counts[status] += 1
        told = [line for line in output.splitlines() if line.startswith("mpnnp: ")]
        if status == 2:
            assert len(told) == 1 and any(text in output for text in REFUSED), output[-2000:]
        else:
            assert status in (0, 137, -9, 9), f"status {status}\n{output[-2000:]}"
    for place in [run, *folder.glob("run.old-*")]:
        assert not list(place.glob(".run.lock*")), "a half-made lock was left behind"
        check_whole(place)


def check_whole(place):
    """The files of a training are those of one: checkpoint, best potential and configuration agree."""
    try:
        _, saved = read_saved(place, lambda text: None)
    except CheckpointError:
        return  # stopped before the first
    seed = parse_config(saved.config_text, "checkpoint").run.seed
    texts = (place / "config.toml").read_text(), read_summary(place / "best.h5").config_text
    assert [parse_config(text, "").run.seed for text in texts] == [seed, seed], f"{place}: files of two runs"


def repeat(folder, repeats, seed):
    """Number of repeats that failed."""
    rng, bad, counts = random.Random(seed), 0, Counter()
    config = suite.make_run(folder, epochs=1)
    status, output = suite.finish(suite.start(1, "train", config, "-o", folder / "first"), 600)
    assert status == 0, output
    for k in range(1, repeats + 1):
        try:
            one_repeat(rng, folder, config, folder / "first" / "initial.h5", counts)
            verdict = "as it should be"
        except AssertionError as error:
            bad, verdict = bad + 1, f"FAILED: {error}"
        print(f"{k:4d}/{repeats} {verdict}", flush=True)
    print(f"{repeats - bad} of {repeats} as they should be; ends by status: {dict(counts)}")
    return bad


if __name__ == "__main__":
    sys.exit(suite.run_program(__doc__, repeat, repeats=20))
