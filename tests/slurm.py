"""A SLURM of one node, in a folder of its own, for the tests of batch scripts; that of the system, if there
is one, is not touched.
"""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control_port}
SlurmdPort={node_port}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=pmi2
FirstJobId={first_job}
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus}
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
DAEMONS = ("munged", "slurmctld", "slurmd")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Slurm:
    """What is asked of it, by its own commands.

    environment  variables of jobs and commands
    """

    def __init__(self, folder, environment):
        self.folder, self.environment = folder, environment | {"SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, *words, check=True):
        """What a command of SLURM prints."""
        done = subprocess.run(
            [str(word) for word in words],
            env=self.environment,
            capture_output=True,
            text=True,
            cwd=self.folder,
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, *words):
        """Number of the job."""
        return self.call("sbatch", "--parsable", *words)

    def describe(self, job):
        """Key -> value of a job, or of one task of an array: JOB_TASK."""
        words = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job, states=ENDED, seconds=240):
        """Description of a job when it is in one of the states."""
        for _ in range(5 * seconds):
            found = self.describe(job)
            if found["JobState"] in states:
                return found
            time.sleep(0.2)
        raise AssertionError(f"job {job} is not in {states} after {seconds} s: {found}\n{self.outputs()}")

    def outputs(self):
        """What the jobs have written."""
        return "\n".join(f"{path.name}:\n{path.read_text()}" for path in sorted(self.folder.glob("*.out")))


@contextlib.contextmanager
def one_node(environment, cpus=2):
    """A Slurm whose node is idle; skips where it cannot be started."""
    missing = [name for name in DAEMONS if shutil.which(name, path=PATH) is None]
    if missing or os.geteuid():
        pytest.skip("needs SLURM (apt-get install slurm-wlm) and to be root")
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, contextlib.ExitStack() as ends:
        folder, host = Path(name), socket.gethostname().split(".")[0]
        control_port, node_port = free_port(), free_port()
        # MPICH names shared memory after job and step, and finds what a killed one of the same name left
        first_job = random.SystemRandom().randrange(10**5, 10**7)
        (folder / "slurm.conf").write_text(CONFIG.format(**locals()))
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        for part in ("state", "spool"):
            (folder / part).mkdir()
        slurm = Slurm(folder, environment | {"PATH": f"{environment['PATH']}:{PATH}"})
        munged = [f"--{part}-file={folder}/munge.{part}" for part in ("key", "log", "pid", "seed")]
        daemon(ends, slurm, "munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munged)
        wait_for(lambda: (folder / "munge.socket").exists(), slurm)
        daemon(ends, slurm, "slurmctld", "-D")
        daemon(ends, slurm, "slurmd", "-D")
        wait_for(lambda: slurm.call("sinfo", "--noheader", "--format=%T", check=False) == "idle", slurm)
        try:
            yield slurm
        finally:
            slurm.call("scancel", "--user=root", check=False)
            wait_for(lambda: not slurm.call("squeue", "--noheader", "--states=running,completing"), slurm)


def daemon(ends, slurm, program, *options):
    """Start a program that `ends` ends; what it says goes to a file."""
    file = ends.enter_context(open(slurm.folder / f"{program}.log", "w"))
    process = subprocess.Popen(
        [shutil.which(program, path=PATH), *options],
        env=slurm.environment,
        stdout=file,
        stderr=subprocess.STDOUT,
    )
    ends.callback(process.wait, 30)
    ends.callback(process.terminate)


def wait_for(condition, slurm, seconds=30):
    """Wait until a condition holds; an AssertionError with what the daemons say if it does not."""
    for _ in range(5 * seconds):
        if condition():
            return
        time.sleep(0.2)
    logs = {path.name: path.read_text()[-1000:] for path in slurm.folder.glob("*.log")}
    raise AssertionError(f"SLURM: {logs}\n{slurm.outputs()}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
