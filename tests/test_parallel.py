"""Runs on several ranks, started by mpiexec with a hard time limit:
the same batches, the same weights, and errors that end every rank.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import DATA
from launch import on_ranks
from mpi4py import MPI
from small import begun, quiet, small_config, write_clusters

from mpnnp.errors import LaunchError, OutputError
from mpnnp.model.label_kinds import ENERGY, FORCE
from mpnnp.parallel import check_launch, on_root, serial
from mpnnp.progress import Log
from mpnnp.training.train import train

POTENTIAL = str(DATA / "predict_acsf_cos")
ADAM = {"learning_rate": 0.01, "clip_norm": 1.0}


def shared_folder(comm):
    """A folder of all ranks, kept until the rank that made it is done."""
    keep = tempfile.TemporaryDirectory() if comm.rank == 0 else None
    return keep, Path(comm.bcast(keep and keep.name, root=0))


def follow(config, directory, comm, n_update):
    """Weights after n_update updates, and (kind, labels of all ranks in order) of each update."""
    directory.mkdir(exist_ok=True)
    run = begun(config, directory, comm, Log(comm, stream=open(os.devnull, "w")))
    observe, seen = run.task.observer.observe, []

    def record(batch, w, pause):
        rows, errors, labels = observe(batch, w, pause)
        seen.append((batch.kind, np.concatenate(comm.allgather(labels)).tolist()))
        return rows, errors, labels

    run.task.observer.observe = record
    run.judge.record(run.state, 0, lambda: 0.0)
    while run.state.update < n_update:
        run.epoch()
    return run.state.weights, seen


# ---- the number of ranks changes nothing


@pytest.mark.parametrize("ranks", [2, 3])
def test_weights_do_not_depend_on_the_rank_count(ranks):
    """After 200 updates with EKF and with Adam, beside the same run on one rank:
    the same labels, and weights equal to 1e-9.
    """
    on_ranks(ranks, same_as_on_one_rank)


def same_as_on_one_rank(comm):
    keep, folder = shared_folder(comm)
    if comm.rank == 0:
        write_clusters(folder / "clusters.extxyz", 24, sizes=(2,))
    comm.Barrier()
    sections = {"schedule": {"streams": 4, "force_fraction": 0.2}}
    for optimizer in ("ekf", "adam"):
        run = {"optimizer": optimizer, "updates": 200, "epochs": 100, "checkpoint_epochs": 100}
        config = small_config(folder, adam=ADAM, run=run, **sections)
        together, seen = follow(config, folder / "together", comm, 200)
        assert {kind for kind, _ in seen} == {ENERGY, FORCE} and len(seen) == 200
        assert all(np.array_equal(together, theirs) for theirs in comm.allgather(together))
        if comm.rank == 0:
            alone, expected = follow(config, folder / "alone", MPI.COMM_SELF, 200)
            assert seen == expected
            moved = np.linalg.norm(alone - follow(config, folder / "start", MPI.COMM_SELF, 0)[0])
            assert moved > 0.1 * np.linalg.norm(alone)  # they have learned
            assert np.linalg.norm(together - alone) < 1e-9 * np.linalg.norm(alone)
        comm.Barrier()
    del keep


def test_more_ranks_than_structures():
    on_ranks(4, train_on_three_structures)


def train_on_three_structures(comm):
    """Two structures for training, one for validation; streams without a label on some ranks.

    The files of the run are complete.
    """
    from mpnnp.training.train import train

    keep, folder = shared_folder(comm)
    if comm.rank == 0:
        write_clusters(folder / "clusters.extxyz", 3, sizes=(1,))
    comm.Barrier()
    config = small_config(folder, data={"validation_fraction": 0.34}, schedule={"force_fraction": 1.0})
    together = train(config, folder / "together", comm, Log(comm, stream=open(os.devnull, "w")))
    if comm.rank == 0:
        alone = train(config, folder / "alone", *quiet())
        assert together.update == alone.update == 20  # one of energies, nine of forces, two epochs
        np.testing.assert_allclose(together.weights, alone.weights, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            together.curve.columns()["force_rmse_train"], alone.curve.columns()["force_rmse_train"], rtol=1e-9
        )
        names = [{path.name for path in (folder / name).iterdir()} for name in ("together", "alone")]
        assert names[0] == names[1] and "parity.png" in names[0]
    comm.Barrier()
    del keep


# ---- errors end every rank


def config_file(folder):
    """A configuration for the command line."""
    from mpnnp.config import to_toml

    config = small_config(folder)
    (folder / "carbon.xyz").write_text("2\n\nC 0 0 0\nO 0 0 1.2\n")
    (folder / "train.toml").write_text(to_toml(config))
    return folder / "train.toml"


BREAK = """
import os, sys, time
from mpi4py import MPI
from mpnnp.training.observations import Observer

rank, observe, calls = MPI.COMM_WORLD.rank, Observer.observe, []

def break_down(self, batch, w, pause):
    if self.comm.size > 1:  # not while kernels are compiled
        calls.append(batch)
    if rank == {rank} and len(calls) == 5:
        open({stamp!r}, "w").write(str(time.time()))
        {deed}
    return observe(self, batch, w, pause)

Observer.observe = break_down
sys.argv = ["mpnnp", "train", {config!r}, "-o", {output!r}]
from mpnnp.cli import main
main()
"""


@pytest.mark.parametrize(
    "rank, deed, message",
    [
        (
            1,
            "raise RuntimeError('the disk has left')",
            "mpnnp: error on rank 1: RuntimeError: the disk has left (run with --debug",
        ),
        (0, "raise MemoryError('no room')", "mpnnp: error on rank 0: MemoryError: no room"),
        (1, "os.kill(os.getpid(), 9)", ""),
    ],
    ids=["error on rank 1", "error on rank 0", "rank 1 killed"],
)
def test_an_error_on_one_rank_ends_all_ranks(tmp_path, mpiexec, rank, deed, message):
    stamp = tmp_path / "time"
    script = tmp_path / "break.py"
    paths = {"stamp": str(stamp), "config": str(config_file(tmp_path)), "output": str(tmp_path / "run")}
    script.write_text(BREAK.format(rank=rank, deed=deed, **paths))
    result = mpiexec(3, script, timeout=90, check=False)
    assert time.time() - float(stamp.read_text()) < 10
    assert result.returncode != 0
    assert message in result.stderr
    assert result.stderr.count("mpnnp: error") == bool(message)
    assert "Traceback" not in result.stderr


class NotSent(Exception):
    """One that does not survive pickling, as some of other packages."""

    def __init__(self, what, why):
        super().__init__(f"{what}: {why}")


def functions_of_the_user_that_fail(comm):
    """on_update and on_epoch raise on one rank: every rank raises the same, and nobody waits."""
    keep, folder = shared_folder(comm)
    if comm.rank == 0:
        write_clusters(folder / "clusters.extxyz", 12)
    comm.Barrier()
    config, n = small_config(folder), comm.size
    for rank, error in ((n - 1, ValueError("as said")), (0, NotSent("a", "b")), (n - 1, NotSent("a", "b"))):
        for name in ("on_update", "on_epoch"):

            def fail(task, state, *point, rank=rank, error=error):
                middle = state.update == 3 * task.schedule.updates_per_epoch // 2
                if comm.rank == rank and (middle or (point and state.update)):
                    raise error

            log = Log(comm, stream=open(os.devnull, "w"))
            place = folder / f"{name}-{rank}-{type(error).__name__}"
            with pytest.raises(Exception) as caught:
                train(config, place, comm, log, **{name: [fail]})
            own = comm.rank == rank or isinstance(error, ValueError)
            assert type(caught.value) is (type(error) if own else RuntimeError)
            assert str(caught.value) == (str(error) if own else f"NotSent: {error}")
            assert caught.value.told_by == 0 and (caught.value is error) == (comm.rank == rank)


@pytest.mark.parametrize("ranks", [2, 3])
def test_an_error_in_a_function_of_the_user_on_one_rank_is_raised_on_all(ranks):
    on_ranks(ranks, functions_of_the_user_that_fail)


def functions_of_the_user_on_the_first_rank_alone(comm):
    keep, folder = shared_folder(comm)
    if comm.rank == 0:
        write_clusters(folder / "clusters.extxyz", 12)
    comm.Barrier()
    config, seen = small_config(folder), {"on_update": [], "on_epoch": []}
    given = {name: [lambda task, state, *_, u=u: u.append(state.update)] for name, u in seen.items()}
    log = Log(comm, stream=open(os.devnull, "w"))
    state = train(config, folder / "run", comm, log, **(given if comm.rank == 0 else {}))
    if comm.rank == 0:
        assert seen["on_update"] == list(range(1, state.update + 1))
        assert seen["on_epoch"] == [0, state.update // 2, state.update]

    def fail(*_):
        raise ValueError("as said")

    for name in seen:
        with pytest.raises(ValueError, match="as said"):
            train(config, folder / name, comm, log, **({name: [fail]} if comm.rank == 0 else {}))


def test_an_error_of_the_file_system_is_told_in_one_line(tmp_path):
    """HDF5 says half a page of numbers around the words of the operating system."""
    path = tmp_path / "none" / "a.h5"
    with pytest.raises(OutputError) as found:
        on_root(serial(), h5py.File, path, "w")
    assert str(found.value) == "a file: No such file or directory"


def test_functions_of_the_user_may_be_given_on_one_rank_alone():
    on_ranks(2, functions_of_the_user_on_the_first_rank_alone)


def test_numbers_that_go_wrong_end_all_ranks_with_one_message(tmp_path, mpiexec):
    """A TrainingError: it names the label, on whichever rank it is."""
    script = tmp_path / "break.py"
    paths = {
        "stamp": str(tmp_path / "time"),
        "config": str(config_file(tmp_path)),
        "output": str(tmp_path / "run"),
    }
    script.write_text(
        BREAK.format(rank=1, deed="[y.fill(float('nan')) for y in self.labels.targets]", **paths)
    )
    result = mpiexec(2, script, timeout=90, check=False)
    assert result.returncode == 1
    assert result.stderr.count("mpnnp: error") == 1 and "Traceback" not in result.stderr
    assert "clusters.extxyz" in result.stderr and "not finite" in result.stderr


BAD = {
    "no configuration": (("train", "{folder}/nothing.toml"), "nothing.toml: cannot be read"),
    "unknown key": (
        ("train", "{config}", "-o", "{folder}/run", "--set", "run.epoch=3"),
        "run.epoch: unknown key; did you mean 'epochs'?",
    ),
    "no data": (
        ("train", "{config}", "-o", "{folder}/run", "--set", "data.files={folder}/gone.xyz"),
        "gone.xyz: no such file",
    ),
    "no potential": (("evaluate", "{folder}/gone.h5", "{folder}/clusters.extxyz"), "gone.h5: no such file"),
    "one potential to disagree": (
        ("select", "{folder}/clusters.extxyz", "-n", "2", "--by", "disagreement", "-o", "{folder}/s.h5"),
        "two or more --potential",
    ),
    "too many to select": (
        ("select", "{folder}/clusters.extxyz", "-n", "999", "-o", "{folder}/s.h5"),
        "-n 999: must be between 1 and",
    ),
    "an option without another": (
        ("evaluate", "{folder}/gone.h5", "{folder}/clusters.extxyz", "--reliability", "r.png"),
        "--reliability: needs --sigma",
    ),
    "an unknown element": (
        ("evaluate", POTENTIAL, "{folder}/carbon.xyz"),
        "it knows H O",
    ),
    "not a data set": (("convert", "{folder}/train.toml", "{folder}/out.h5"), "train.toml"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_message_and_exit_status_2(tmp_path, mpiexec, name):
    arguments, message = BAD[name]
    config = config_file(tmp_path)
    result = mpiexec(
        2,
        "-m",
        "mpnnp",
        *(a.format(folder=tmp_path, config=config) for a in arguments),
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("mpnnp: error") == 1 and message in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 3 and "Traceback" not in result.stderr


def test_a_wrong_option_is_told_once(mpiexec):
    result = mpiexec(2, "-m", "mpnnp", "train", "--nonsense", timeout=60, check=False)
    assert result.returncode == 2
    assert result.stderr.count("Error: No such option: --nonsense") == 1
    assert result.stderr.count("Usage:") == 1


ALONE = """
import sys, time
from mpi4py import MPI
from mpnnp import parallel
from mpnnp.errors import ConfigError
parallel.PATIENCE = 0.5
if MPI.COMM_WORLD.rank == {rank}:
    sys.exit(parallel.stop_all(MPI.COMM_WORLD, parallel.of_all_ranks(ConfigError("no such file"))))
time.sleep(60)
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_thought_common_that_one_rank_alone_has_is_told_and_ends_all(tmp_path, mpiexec, rank):
    (tmp_path / "alone.py").write_text(ALONE.format(rank=rank))
    result = mpiexec(2, tmp_path / "alone.py", timeout=30, check=False)
    assert result.returncode != 0
    assert result.stderr.count("mpnnp: error: no such file") == 1


# ---- launcher and library


def test_a_launcher_of_another_library_is_refused(tmp_path):
    """Each of its processes would do the whole job alone: the first one tells, all end with exit status 2."""
    write_clusters(tmp_path / "clusters.extxyz", 2)
    other = "PMI" if "Open MPI" in MPI.Get_library_version() else "OMPI_COMM_WORLD"
    results = []
    for rank in range(2):
        environment = {**os.environ, f"{other}_SIZE": "2", f"{other}_RANK": str(rank)}
        command = [sys.executable, "-m", "mpnnp", "info", str(tmp_path / "clusters.extxyz")]
        results.append(subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60))
    assert [r.returncode for r in results] == [2, 2]
    assert f"the launcher started 2 processes ({other}_SIZE=2)" in results[0].stderr
    assert "".join(r.stdout + r.stderr for r in results).count("mpnnp: error") == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"PMI_SIZE": "4"},
        {"PMIX_SIZE": "3"},
        {"MV2_COMM_WORLD_SIZE": "2"},
        {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8"},
    ],
    ids=lambda e: next(iter(e)),
)
def test_every_launcher_is_known(environment):
    with pytest.raises(LaunchError, match="launcher and library do not belong together"):
        check_launch(1, "MPICH Version: 4\nmore", environment)
    check_launch(2, "MPICH", environment)
    check_launch(1, "MPICH", {name: "1" for name in environment})
    check_launch(1, "MPICH", {"SLURM_NTASKS": "8"})  # inside an allocation, without srun
