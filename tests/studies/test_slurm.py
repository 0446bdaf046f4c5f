"""The batch scripts of jobs/slurm in a SLURM of one node: jobs that are signalled go back to the queue, and
end as undisturbed ones do.
"""

import json
import os
import sys

import pytest
import slurm
from faults import suite
from launch import ROOT, TESTS
from slurm import one_node

SCRIPTS = ROOT / "jobs" / "slurm"
PROGRAM = f"""#!/bin/bash
exec {sys.executable} {TESTS / "faults" / "saboteur.py"} slow -1 0 "$@"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Slurm in which `mpnnp` takes 0.05 s more for every update."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "mpnnp").write_text(PROGRAM)
    (folder / "mpnnp").chmod(0o755)
    environment = suite.environment(PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with one_node(environment | {"PATH": f"{folder}:{environment['PATH']}"}, cpus=3) as found:
        yield found


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A configuration of about sixty updates."""
    return suite.make_run(tmp_path_factory.mktemp("data"), epochs=6)


def signal_and_requeue(cluster, job, log):
    """Send a job the signal that SLURM sends before its time is over, when it has begun to train."""
    slurm.wait_for(lambda: log.is_file() and "epoch    1" in log.read_text(), cluster, 240)
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    cluster.wait(job, ["PENDING"])
    cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")  # SLURM would wait for two minutes


def test_a_job_goes_back_to_the_queue_and_to_the_undisturbed_end(cluster, config, tmp_path):
    status, output = suite.finish(suite.start(2, "train", config, "-o", tmp_path / "whole"), 600)
    assert status == 0, output
    job = cluster.submit("--ntasks=2", SCRIPTS / "requeue.sbatch", config, tmp_path / "run")
    signal_and_requeue(cluster, job, tmp_path / "run" / "train.log")
    assert cluster.wait(job)["JobState"] == "COMPLETED", cluster.outputs()
    told = (cluster.folder / f"mpnnp-{job}.out").read_text()
    assert "SIGUSR1: stopped after update " in told and "requeued at " in told and "resuming from" in told
    assert suite.contents(tmp_path / "run") == suite.contents(tmp_path / "whole")


def test_an_array_of_members_is_trained_and_then_compared(cluster, config, tmp_path):
    runs = tmp_path / "runs"
    array = cluster.submit("--array=1-2", "--ntasks=1", SCRIPTS / "ensemble.sbatch", config, runs)
    compare = cluster.submit(f"--dependency=afterok:{array}", SCRIPTS / "compare.sbatch", runs)
    signal_and_requeue(cluster, f"{array}_2", runs / "seed-2" / "train.log")
    assert cluster.wait(compare)["JobState"] == "COMPLETED", cluster.outputs()
    assert (runs / "compare.png").is_file()
    (group,) = json.loads((runs / "compare.json").read_text()).values()
    assert len(group["runs"]) == 2
    first, second = ((cluster.folder / f"mpnnp-ensemble-{array}-{task}.out").read_text() for task in (1, 2))
    assert "requeued at " in second and "resuming from" in second
    assert "requeued at " not in first and "REQUEUE" not in first  # the signal was to the other task
