import signal

import pytest
from launch import ROOT, TESTS, find_mpiexec, run_on_ranks  # noqa: F401  found here by tests

from mpnnp.signals import WATCHED, Signals

SHARED = ROOT.parent / "shared"
DATA = TESTS / "reference"


@pytest.fixture
def shared():
    """Folder of data sets that are not part of the project; the test skips where it is absent."""
    if not (SHARED / "data" / "README.md").is_file():
        pytest.skip("needs the data sets of ../shared, which are not part of the project")
    return SHARED


@pytest.fixture
def mpiexec():
    """Function(n, *arguments, timeout=240, check=True) that runs Python with arguments on n ranks
    (`launch.run_on_ranks`).
    """
    return run_on_ranks


@pytest.fixture(autouse=True)
def no_program():
    """A test that calls the entry point of the command leaves no trace: Ctrl-C is pytest's again."""
    handlers = {number: signal.getsignal(number) for number in WATCHED}
    yield
    Signals.of_program = False
    for number, handler in handlers.items():
        signal.signal(number, handler)
