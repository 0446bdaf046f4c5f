"""Kills of `mpnnp learn`: python tests/faults/learning.py [--repeats 10] [--ranks 2] [--seed 1]

A small learning runs undisturbed, then again and again with kills of all ranks after a random time or inside
the writing of files, in whatever phase that hits; started again until it is done, it must come to the same
data set and the same weights, bit for bit. Exit status 0 if all do.
"""

import random
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from small import FUNCTIONS, quiet, small_config, write_clusters  # noqa: E402
from suite import finish, kill_group, run_program, start  # noqa: E402

from mpnnp.config import toml_value  # noqa: E402
from mpnnp.data.formats import read_sources  # noqa: E402
from mpnnp.training.checkpoint import read_checkpoint  # noqa: E402
from mpnnp.training.train import train  # noqa: E402

NUMBERS = {"kill-replace": 60, "kill-fsync": 120, "kill-written": 600}  # largest number of the call

LEARN = """
[data]
files = "start.extxyz"
validation_fraction = 0.0
cache = "cache"
[symmetry_functions]
functions = {functions}
[network]
hidden = [4, 3]
[schedule]
force_fraction = 0.3
streams = 3
[run]
epochs = 3
evaluation_structures = 0
checkpoint_updates = 5
[[simulations]]
start = ["one.xyz", "two.xyz"]
temperature = 600
thermostat = "langevin"
time = 0.06
[stop]
every = 5.0
frames = 3
force_std = 0.5
extrapolations = 0.2
[choose]
frames = 2
forces = 4
[label]
by = "teacher/checkpoint.h5"
[update]
epochs = 2
[end]
labels = 12
"""


def make_learning(folder):
    """Start data, structures, teacher and learn.toml in a folder, which is returned."""
    frames = write_clusters(folder / "start.extxyz", 8, seed=2)
    for name, atoms in (("one", frames[0]), ("two", frames[1])):
        atoms.write(folder / f"{name}.xyz", parallel=False)
    (folder / "school").mkdir()
    train(small_config(folder / "school", n=30, run={"epochs": 12}), folder / "teacher", *quiet())
    (folder / "learn.toml").write_text(LEARN.format(functions=toml_value(FUNCTIONS)), encoding="utf-8")
    return folder


def data_of(folder):
    """Energies and positions of all that was learned, one after another."""
    data = read_sources([folder / "data.extxyz"], report=lambda text: None)
    return np.concatenate([data.energy, data.positions.ravel(), data.forces.ravel()])


def contents(folder):
    """What must be equal."""
    saved = read_checkpoint(folder / "checkpoint.h5")
    found = {name: values.tobytes() for name, values in saved.optimizer.items()}
    return found | {
        "weights": saved.potential.weights.tobytes(),
        "data": data_of(folder).tobytes(),
        "learned": saved.learned.replace(str(folder), ""),
    }


def one_repeat(rng, toml, folder, n_rank, duration):
    """A learning with one to three kills; (starts, kills)."""
    killed, wanted = 0, rng.randint(1, 3)
    for begun in range(1, 21):
        kind = rng.choice(["time", "time", *NUMBERS]) if killed < wanted else "none"
        fault = (kind, 0, rng.randint(1, NUMBERS[kind])) if kind in NUMBERS else None
        process = start(n_rank, "learn", toml, "-o", folder, fault=fault)
        if kind == "time":
            time.sleep(rng.uniform(0.2, 1.0) * duration)
            kill_group(process)
        status, output = finish(process, 300 + 10 * duration)
        if status == 0:
            return begun, killed
        killed += 1
        assert kind != "none", f"a start without a kill failed with status {status}:\n{output[-3000:]}"
    raise AssertionError("twenty starts did not finish the learning")


def repeat(folder, repeats, n_rank, seed):
    """Number of repeats that did not come to the same end as the undisturbed one."""
    rng, bad, kills = random.Random(seed), 0, 0
    make_learning(folder)
    begin = time.monotonic()
    status, output = finish(start(n_rank, "learn", folder / "learn.toml", "-o", folder / "whole"), 1500)
    assert status == 0, output
    duration, expected = time.monotonic() - begin, contents(folder / "whole")
    for k in range(1, repeats + 1):
        target = folder / f"run-{k}"
        try:
            starts, killed = one_repeat(rng, folder / "learn.toml", target, n_rank, duration)
            kills += killed
            found = contents(target)
            different = [key for key in expected if found.get(key) != expected[key]]
            verdict = f"equal after {starts} starts, {killed} kills"
            if different:
                verdict = f"DIFFERENT in {', '.join(different)}"
        except AssertionError as error:
            different, verdict = True, f"FAILED: {error}"
        bad += bool(different)
        print(f"{k:4d}/{repeats} {verdict}", flush=True)
    print(f"{repeats - bad} of {repeats} came to the same data and weights, after {kills} kills")
    return bad


if __name__ == "__main__":
    sys.exit(run_program(__doc__, repeat, repeats=10, n_rank=2))
