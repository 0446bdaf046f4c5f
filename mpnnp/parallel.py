"""The only door to MPI: the communicator, collective errors, shares of work."""

import os
import pickle
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from mpnnp.environment import is_first_process
from mpnnp.errors import (
    ConfigError,
    DataError,
    Interrupted,
    LaunchError,
    MpnnpError,
    OutputError,
    TrainingError,
)

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm as Comm
else:
    Comm = object  # a communicator, for annotations alone: importing this must not start MPI

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
OF_EVERYONE = TrainingError, ConfigError, DataError  # every rank has the same arguments and data
PATIENCE = 10.0  # seconds that ranks wait for each other to end with one message
LAUNCH_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MV2_COMM_WORLD_SIZE")


def world() -> Comm:
    """COMM_WORLD, after checking that launcher and MPI library belong together. Raises LaunchError."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"MPI cannot be loaded ({str(error).splitlines()[0]}): "
            "install an MPI library, or `pip install 'mpnnp[mpich]'` for one here"
        ) from None
    check_launch(MPI.COMM_WORLD.size, MPI.Get_library_version())
    return MPI.COMM_WORLD


def check_launch(size: int, library: str, environment: Mapping[str, str] = os.environ) -> None:
    """Raise LaunchError if a launcher started several processes but MPI sees only one:
    each would do the whole job alone.
    """
    if size > 1:
        return
    found = _launch_sizes(environment)
    if found:
        name, value = next(iter(found.items()))
        raise LaunchError(
            f"the launcher started {value} processes ({name}={value}), "
            "but the MPI library of mpi4py sees only 1:\n"
            f"launcher and library do not belong together. mpi4py uses: {library.splitlines()[0].strip()}\n"
            "Start with the mpiexec of that library (the one in the bin folder "
            "of this Python environment, if MPI came from pip)."
        )


def _launch_sizes(environment):
    """Variable -> value of those by which a launcher says that it started several processes."""
    found = {name: environment[name] for name in LAUNCH_SIZES if environment.get(name, "1") not in ("1", "")}
    if environment.get("SLURM_STEP_ID") and environment.get("SLURM_STEP_NUM_TASKS", "1") not in ("1", ""):
        found["SLURM_STEP_NUM_TASKS"] = environment["SLURM_STEP_NUM_TASKS"]
    return found


def launched() -> Comm | None:
    """COMM_WORLD of a program that ends before it needs MPI, None if it is one process alone."""
    if not _launch_sizes(os.environ):
        return None
    try:
        return world()
    except LaunchError:
        return None


def serial() -> Comm:
    """COMM_SELF: the communicator of a run on one rank."""
    from mpi4py import MPI

    return MPI.COMM_SELF


def share(n: int, comm: Comm) -> range:
    """Range of the n items that belong to this rank: rank*n//size to (rank+1)*n//size."""
    return range(comm.rank * n // comm.size, (comm.rank + 1) * n // comm.size)


def on_root(comm: Comm, function: Callable[..., T], *arguments: Any) -> T:
    """Result of `function(*arguments)`, called on rank 0 and broadcast.

    Collective: an error of rank 0 is raised on every rank.
    """
    result = error = None
    if comm.rank == 0:
        try:
            result = function(*arguments)
        except Exception as exception:
            error = exception
    result, told = comm.bcast((result, _as_sent(error)), root=0)
    return _outcome(result, told if error is None else error)


def agree(comm: Comm, function: Callable[..., T], *arguments: Any) -> T:
    """Result of `function(*arguments)` of this rank.

    Collective: an error of the lowest rank that has one is raised on every rank.
    """
    result: Any = None
    error: Exception | None = None
    try:
        result = function(*arguments)
    except Exception as exception:
        error = exception
    errors = comm.allgather(_as_sent(error))
    first = next((rank for rank, e in enumerate(errors) if e is not None), None)
    if first is None:
        return result
    return _outcome(None, error if first == comm.rank else errors[first])


def _as_sent(error):
    """An error that travels to other ranks: as it is, or one with the same words where it does not survive
    that, as some of other packages and of scripts do not.
    """
    if error is None:
        return None
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def of_team(comm: Comm, function: Callable[..., T], *arguments: Any) -> tuple[T | None, Exception | None]:
    """(result, None) of this team of ranks, or (None, error) if every rank of it has the error.

    That of one rank alone is raised at once: the others of the team wait for it.
    """
    try:
        return function(*arguments), None
    except Exception as error:
        if comm.size > 1 and getattr(error, "told_by", None) != 0:
            raise
        return None, error


def maximum(comm: Comm, values: Sequence[int]) -> np.ndarray:
    """Element by element the largest value of all ranks (n,) int64. Collective."""
    from mpi4py import MPI

    total = np.empty(len(values), np.int64)
    comm.Allreduce(np.array(values, np.int64), total, op=MPI.MAX)
    return total


def sum_in_place(comm: Comm | None, values: np.ndarray) -> None:
    """Make an array its sum over the ranks, added up on rank 0 alone: the same bits on every rank.

    Collective; comm None is one rank.
    """
    if comm is not None and comm.size > 1:
        part = values.copy()
        comm.Reduce(part, values, root=0)
        comm.Bcast(values, root=0)


def spread_over_each_node(comm: Comm, functions: Sequence[Callable[[], object]]) -> None:
    """Call each of the functions on one rank of each node, at the same time; then all on all.

    Collective; errors as in `agree`.
    """
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    mine = functions[node.rank :: node.size]
    node.Free()
    for turn in (mine, functions):
        error = None
        try:
            for function in turn:
                function()
        except Exception as exception:
            error = exception
        idle_barrier(comm)
        agree(comm, raise_if, error)


def idle_barrier(comm: Comm) -> None:
    """A barrier that leaves the core to others while it waits. Collective."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.02)


def of_all_ranks(error: E) -> E:
    """The error, known as one that every rank raises: rank 0 tells it."""
    error.told_by = 0  # type: ignore[attr-defined]
    return error


def share_teams(comm: Comm, n_team: int) -> tuple[int, Comm]:
    """(number of this rank's team, its communicator) of n_team teams of consecutive ranks. Collective."""
    team = comm.rank * n_team // comm.size
    return team, cast(Comm, comm.Split(team, comm.rank))


def raise_if(error: BaseException | None) -> None:
    """Raise an error, if there is one."""
    if error is not None:
        raise error


def _outcome(result, error):
    """What every rank gets of a collective call: the result, or the error, raised."""
    if error is None:
        return result
    if isinstance(error, OSError) and not isinstance(error, (MpnnpError, BrokenPipeError)):
        from mpnnp.files import reason_of  # with h5py, which takes its time

        error = OutputError(f"{error.filename or 'a file'}: {reason_of(error)}")
    error.told_by = 0  # every rank has it: rank 0 tells
    raise error


def stop_all(comm: Comm | None, error: BaseException, debug: bool = False) -> int:
    """End every rank because of `error`: one message, a non-zero exit status, no hang.

    An error that every rank raised (on_root, agree) is told by rank 0 and ends with its own status. Any other
    error is told by the rank that met it, which then aborts the others. So does a rank that waits in vain for
    the others to end with the same error. Kinds of error that are mostly everyone's are thought to be so.
    """
    status = getattr(error, "exit_status", getattr(error, "exit_code", 1))
    if comm is None or comm.size == 1:
        if comm is None and not is_first_process():
            time.sleep(1.0)  # the first tells the same before the launcher sees one end
        else:
            _tell(error, debug)
        return status
    collective = isinstance(error, OF_EVERYONE) or getattr(error, "told_by", None) == 0
    if collective and comm.rank != 0 and _all_arrive(comm):
        return status
    _tell(error, debug, f" on rank {comm.rank}")
    if not (collective and comm.rank == 0 and _all_arrive(comm)):
        time.sleep(0.3)  # the launcher has been seen to lose what it had not passed on at an abort
        comm.Abort(status)
    return status


def _tell(error: Any, debug: bool, where: str = "") -> None:
    """What the user sees of an error; `where` it came, if it is none that says so itself."""
    if debug:
        import traceback

        traceback.print_exception(error)
    elif isinstance(error, MpnnpError):
        print(f"mpnnp: {'' if isinstance(error, Interrupted) else 'error: '}{error}", file=sys.stderr)
    elif hasattr(error, "show"):  # of the command line
        error.show()
    else:
        print(
            f"mpnnp: error{where}: {type(error).__name__}: {error} (run with --debug for the traceback)",
            file=sys.stderr,
        )
    sys.stderr.flush()


def _all_arrive(comm: Comm) -> bool:
    """True when all ranks are here, with the message out before the launcher sees one end; False if some
    do not come.
    """
    request, end = comm.Ibarrier(), time.monotonic() + PATIENCE
    while not request.Test():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
