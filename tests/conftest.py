import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
DATA = ROOT / "tests" / "data"


@pytest.fixture
def shared():
    """Folder of data sets that are not part of the project; the test skips where it is absent."""
    if not (SHARED / "data" / "README.md").is_file():
        pytest.skip("needs the data sets of ../shared, which are not part of the project")
    return SHARED


def find_mpiexec():
    """mpiexec of this Python environment, else of the system."""
    own = Path(sys.executable).parent / "mpiexec"
    return str(own) if own.exists() else shutil.which("mpiexec")


@pytest.fixture
def mpiexec():
    """Function(n, *arguments, timeout=120) that runs Python with arguments on n ranks; a deadlock is killed by the time limit."""
    program = find_mpiexec()
    if program is None:
        pytest.skip("needs an MPI library: install mpnnp[mpich] or one of the system")

    def run(n, *arguments, timeout=240, check=True):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI_", "PMIX_", "HYDRA_"))}
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
        process = subprocess.Popen(
            [program, "-n", str(n), sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.communicate()
            pytest.fail(f"{n} ranks did not end within {timeout} s: {' '.join(map(str, arguments))}")
        if check:
            assert process.returncode == 0, f"exit status {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run
