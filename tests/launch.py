"""The one launcher of mpiexec in the tests: programs and test bodies on several ranks,
with a time limit, so that a deadlock fails instead of hanging.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
FOREIGN = ("OMPI_", "PMI_", "PMIX_", "HYDRA_")  # variables of a launcher that the tests themselves run under


def find_program(name):
    """Path of a program of this Python environment, else of the system; None if there is none."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def find_mpiexec():
    """mpiexec of this Python environment, else of the system; None if there is none."""
    return find_program("mpiexec")


def environment():
    """Variables of a program on several ranks."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return own | {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }


def run_on_ranks(n, *arguments, timeout=240, check=True):
    """Run Python with these arguments on n ranks; subprocess.CompletedProcess.

    Skips where there is no MPI library.
    """
    program = find_mpiexec()
    if program is None:
        pytest.skip("needs an MPI library: install mpnnp[mpich] or one of the system")
    process = subprocess.Popen(
        [program, "-n", str(n), sys.executable, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(
            f"{n} ranks did not end within {timeout} s: {' '.join(map(str, arguments))[:300]}\n"
            f"{out[-3000:]}\n{err[-3000:]}"
        )
    if check:
        assert process.returncode == 0, f"exit status {process.returncode}\n{out[-6000:]}\n{err[-6000:]}"
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def on_ranks(n, body, seconds=120):
    """Call the module-level function `body(comm)` on n new MPI ranks;
    an error or a time-out of any of them fails the test.
    """
    file = Path(sys.modules[body.__module__].__file__)
    paths = f"sys.path[:0] = [{str(file.parent)!r}, {str(TESTS)!r}]"
    imports = f"import sys; {paths}; from mpi4py import MPI; from {file.stem} import {body.__name__}"
    run_on_ranks(n, "-m", "mpi4py", "-c", f"{imports}; {body.__name__}(MPI.COMM_WORLD)", timeout=seconds)
