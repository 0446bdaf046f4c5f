"""Run a test body under mpiexec, with a time limit: a deadlock fails instead of hanging."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def on_ranks(n, body, seconds=120):
    """Call the module-level function `body(comm)` on n new MPI ranks; an error or a time-out of any of them fails the test."""
    mpiexec = shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("no mpiexec")
    file = Path(sys.modules[body.__module__].__file__)
    imports = f"import sys; sys.path.insert(0, {str(file.parent)!r}); from mpi4py import MPI; from {file.stem} import {body.__name__}"
    code = f"{imports}; {body.__name__}(MPI.COMM_WORLD)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [mpiexec, "-n", str(n), sys.executable, "-m", "mpi4py", "-c", code]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=file.parents[1], start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"{body.__name__} did not end on {n} ranks within {seconds} s:\n{output[-3000:]}")
    assert process.returncode == 0, f"{body.__name__} on {n} ranks:\n{output[-6000:]}"
