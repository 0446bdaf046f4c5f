"""Kills and resumes: python tests/faults/suite.py [--repeats 100] [--ranks 2] [--seed 1]

Trains a small run undisturbed, then again and again with kills: of all ranks or of one, after a random time,
or by a rank itself at a random call inside the writing of files; resumes until the run is done, and compares
the results bit for bit. What a kill loses is checked too: the run goes on from the last checkpoint that was
whole on disk. Exit status 0 if all are equal.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from launch import find_mpiexec  # noqa: E402
from small import FUNCTIONS, write_clusters  # noqa: E402

from mpnnp.config import make_config, to_toml  # noqa: E402
from mpnnp.training.learning_curve import LearningCurve  # noqa: E402

SECONDS = 120  # for one start of the program
# fault -> largest number of its call
NUMBERS = {"kill-replace": 22, "kill-link": 8, "kill-fsync": 45, "kill-written": 350, "kill-update": 30}


def make_run(folder, epochs=3, **sections):
    """Data and config.toml of a small run that writes a checkpoint every third update;
    returns the path of the configuration.
    """
    write_clusters(folder / "clusters.extxyz", 12)
    tree = {
        "data": {
            "files": str(folder / "clusters.extxyz"),
            "validation_fraction": 0.25,
            "cache": str(folder / "cache"),
        },
        "symmetry_functions": {"functions": FUNCTIONS},
        "network": {"hidden": [4, 3]},
        "schedule": {"force_fraction": 0.2, "streams": 3},
        "ekf": {"r_max": 7},
        "run": {"epochs": epochs, "evaluation_structures": 0, "checkpoint_updates": 3},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    path = folder / "config.toml"
    path.write_text(to_toml(make_config(tree)), encoding="utf-8")
    return path


def command(n_rank, *arguments, fault=None):
    """Command line of `mpnnp` on n ranks; fault: (name, rank, number) of saboteur.py."""
    program = [str(HERE / "saboteur.py"), *map(str, fault)] if fault else ["-m", "mpnnp"]
    return [find_mpiexec(), "-n", str(n_rank), sys.executable, *program, *map(str, arguments)]


def environment(**variables):
    """Variables of a program on several ranks, with those given."""
    found = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("OMPI_", "PMI_", "PMIX_", "HYDRA_", "SLURM_"))
    }
    found |= {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    return found | {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", **variables}


def start(n_rank, *arguments, fault=None, **variables):
    return subprocess.Popen(
        command(n_rank, *arguments, fault=fault),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(**variables),
        start_new_session=True,
    )


def finish(process, seconds=SECONDS):
    """(exit status, output) of a process; a hang is an error."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        kill_group(process)
        output, _ = process.communicate()
        raise AssertionError(f"did not end within {seconds} s:\n{output[-2000:]}") from None
    return process.returncode, output


def kill_group(process):
    for pid in [*ranks_of(process), process.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def ranks_of(process):
    """Process ids of the Python processes below a launcher (Linux)."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
            except OSError:
                pass
    found, below = [], {process.pid}
    while below:
        below = {pid for pid, parent in parents.items() if parent in below}
        found += sorted(below)
    is_rank = []
    for pid in found:
        try:
            if "python" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]:
                is_rank.append(pid)
        except OSError:
            pass
    return is_rank


def contents(folder):
    """What must be equal: name -> bytes of every array of checkpoint.h5 and best.h5,
    and of the learning curve without times.
    """
    found = {}
    for name in ("checkpoint.h5", "best.h5"):
        with h5py.File(folder / name) as file:
            keys = []
            file.visit(keys.append)
            found |= {
                f"{name}/{key}": file[key][()].tobytes()
                for key in keys
                if isinstance(file[key], h5py.Dataset)
            }
            if "learned" in file:  # its sections name files, which may lie elsewhere
                entries = json.loads(file["learned"][()].tobytes() or "[]")
                found[f"{name}/learned"] = [entry | {"section": None} for entry in entries]
            found |= {
                f"{name}/{key}": np.asarray(value).tobytes() for key, value in file["progress"].attrs.items()
            }
    curve = LearningCurve.read(folder / "learning-curve.csv")
    found |= {f"curve/{name}": column.tobytes() for name, column in curve.items()}
    return {key: value for key, value in found.items() if not key.endswith("seconds")}


def saved_update(folder):
    """Update of the newest whole checkpoint of a run; 0 if there is none."""
    from mpnnp.errors import CheckpointError
    from mpnnp.training.run_folder import read_saved

    try:
        return read_saved(folder, lambda text: None)[1].progress["update"]
    except (CheckpointError, AttributeError):
        return 0


def one_repeat(rng, config, folder, n_rank, duration, counts):
    """A run with one to three kills in `folder`, resumed until it is done.
    duration: seconds of an undisturbed start.
    """
    killed, wanted = 0, rng.randint(1, 3)
    for begun in range(1, 21):
        before = saved_update(folder)
        resume = ["--resume"] if (folder / "train.log").is_file() else []
        kind = rng.choice(["all", "one", *NUMBERS]) if killed < wanted else "none"
        fault = None
        if kind in NUMBERS:
            rank = rng.randrange(n_rank) if kind == "kill-update" else 0  # rank 0 writes
            fault = (kind, rank, rng.randint(1, NUMBERS[kind]))
        elif kind != "none":
            fault = ("slow", -1, 0)
        process = start(n_rank, "train", config, "-o", folder, *resume, fault=fault)
        if kind in ("all", "one"):
            time.sleep(rng.uniform(0.4, 1.0) * duration)
            ranks = ranks_of(process)
            if kind == "all" or not ranks:
                kill_group(process)
            else:
                try:
                    os.kill(rng.choice(ranks), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        status, output = finish(process)
        if resume and "resuming from" in output:
            at = int(output.split("after update ")[1].split()[0])
            assert at == before, f"{before} updates were saved, resumed at {at}"
        counts[f"{kind}, {'ended before' if status == 0 else 'killed'}"] += 1
        if status == 0 and killed:
            return begun, killed
        if status == 0:  # done before it was killed: again from the beginning
            shutil.rmtree(folder)
        killed += status != 0
        assert kind != "none", f"a start without a kill failed with status {status}:\n{output[-3000:]}"
    raise AssertionError("twenty starts did not finish the run")


def run_program(description, repeat, repeats, n_rank=None):
    """Exit status of a program that repeats a trial in a folder of its own: 0 if all went well.

    n_rank  default of the option --ranks; None: there is no such option
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=repeats)
    if n_rank is not None:
        parser.add_argument("--ranks", type=int, default=n_rank, dest="n_rank")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return min(repeat(Path(folder), **vars(options)), 1)


def repeat(folder, repeats, n_rank, seed):
    """Number of repeats that were not equal to the undisturbed run."""
    rng, counts, bad, kills = random.Random(seed), Counter(), 0, 0
    config = make_run(folder)
    for _ in range(2):  # the second time, compiled and cached, is the one to compare and to time
        shutil.rmtree(folder / "whole", ignore_errors=True)
        begin = time.monotonic()
        status, output = finish(
            start(n_rank, "train", config, "-o", folder / "whole", fault=("slow", -1, 0)), 600
        )
        assert status == 0, output
        duration = time.monotonic() - begin
    expected = contents(folder / "whole")
    for k in range(1, repeats + 1):
        target = folder / f"run-{k}"
        try:
            starts, killed = one_repeat(rng, config, target, n_rank, duration, counts)
            kills += killed
            found = contents(target)
            different = [key for key in expected if found.get(key) != expected[key]] + sorted(
                found.keys() - expected.keys()
            )
            leftover = [path.name for path in target.iterdir() if path.name.endswith(".part")]
            verdict = (
                f"equal after {starts} starts, {killed} kills"
                if not different
                else f"DIFFERENT in {', '.join(different)}"
            )
            if leftover:
                verdict += f", left over: {leftover}"
        except AssertionError as error:
            different, verdict = True, f"FAILED: {error}"
        bad += bool(different)
        print(f"{k:4d}/{repeats} {verdict}", flush=True)
        shutil.rmtree(target, ignore_errors=True)
    for kind in sorted(counts):
        print(f"  {kind}: {counts[kind]}")
    print(
        f"{repeats - bad} of {repeats} equal to the undisturbed run, bit for bit, "
        f"on {n_rank} ranks, after {kills} kills"
    )
    return bad


if __name__ == "__main__":
    sys.exit(run_program(__doc__, repeat, repeats=100, n_rank=2))
