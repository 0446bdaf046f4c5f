"""`mpnnp doctor`: what this installation stands on (MPI, BLAS, HDF5, caches), and what is wrong with it."""

import os
import platform
import socket
import tempfile
import time
from collections import Counter
from typing import Annotated

import typer

from mpnnp import __version__, environment
from mpnnp.commands.common import Debug, examples, start
from mpnnp.progress import counted

LAUNCHERS = {
    "SLURM_STEP_ID": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun of Open MPI",
    "PMI_SIZE": "mpiexec (PMI)",
    "PMIX_RANK": "a launcher with PMIx",
}

app = typer.Typer()


@app.command(
    epilog=examples(
        "mpnnp doctor",
        "mpiexec -n 8 mpnnp doctor",
        "mpiexec -n 8 mpnnp doctor --compile",
    )
)
def doctor(
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="First compile the kernels of training and of simulations into the cache, shared out over "
            "the ranks: no later start on this kind of machine waits for them.",
        ),
    ] = False,
    debug: Debug = False,
):
    """Say what is wrong with this installation.

    And what it stands on: MPI, BLAS, HDF5, caches. Start it as you start a run.
    """
    comm, log = start()
    if compile:
        compile_ahead(comm, log)
    facts, complaints = examine(comm)
    if comm.rank:
        return
    for name, text in facts.items():
        log(f"{name:22s} {text}")
    for message in complaints:
        log.warn(message)
    log("nothing wrong was found" if not complaints else f"{counted(len(complaints), 'thing')} to look at")


def compile_ahead(comm, log):
    """All kernels of training, for every kind of label, and of simulations. Collective."""
    from mpnnp.simulation import warm_up as simulation
    from mpnnp.training import warm_up as training

    training.compile_kernels(comm, log, every_kind=True)
    simulation.compile_kernels(comm, log)


def examine(comm):
    """(facts, complaints): name -> text of what a support request needs, and what is wrong, on rank 0;
    (None, None) elsewhere. Collective.
    """
    import h5py
    import numba
    from mpi4py import MPI

    from mpnnp.kernels.jit import CACHE_FOLDER

    hosts = Counter(comm.allgather(socket.gethostname()))
    shared = _shared_window(comm)
    libraries = _blas()
    complaints = environment.launch_complaints(comm)
    caches = comm.gather(str(CACHE_FOLDER) if CACHE_FOLDER else None, root=0)
    if comm.rank:
        return None, None
    launcher = [name for variable, name in LAUNCHERS.items() if variable in os.environ]
    compiled = any(CACHE_FOLDER.rglob("*.nbi")) if CACHE_FOLDER else False
    facts = {
        "mpnnp": f"{__version__} in {os.path.dirname(environment.__file__)}",
        "Python": (
            f"{platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}"
        ),
        "packages": ", ".join(f"{name} {found}" for name, found in environment.versions().items()),
        "MPI library": environment.mpi_library(),
        "MPI vendor": "{} {}".format(MPI.get_vendor()[0], ".".join(map(str, MPI.get_vendor()[1]))),
        "libmpi": ", ".join(_loaded("libmpi")) or "not found among the loaded libraries",
        "launcher": ", ".join(launcher) or "none (a single process)",
        "ranks": f"{comm.size}: " + ", ".join(f"{n} on {host}" for host, n in hosts.items()),
        "shared memory windows": shared or "work",
        "BLAS": "; ".join(libraries) or "unknown",
        "threads": ", ".join(
            f"{name}={os.environ.get(name, 'not set')}" for name in environment.THREAD_VARIABLES
        ),
        "cores": (
            f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} "
            f"of {os.cpu_count()} usable by rank 0"
        ),
        "HDF5": (
            f"{h5py.version.hdf5_version}, h5py built {'with' if h5py.get_config().mpi else 'without'} MPI "
            "(not needed)"
        ),
        "Numba cache": f"{caches[0]}, kernels {'compiled' if compiled else 'not compiled yet'}",
        "SIMD": f"{numba.config.CPU_NAME or _cpu()}, AVX-512 {'yes' if environment.has_avx512() else 'no'}",
        "temporary files": tempfile.gettempdir(),
    }
    facts |= _job()
    if shared:
        complaints.append(f"shared memory windows do not work ({shared}): is /dev/shm full or not mounted?")
    if (left := _left_behind()) > 20:
        complaints.append(
            f"/dev/shm holds {left} mpich_shm_* files: "
            "those that no run uses any more were left by killed runs and can be deleted"
        )
    if None in caches:
        complaints.append(
            "no folder for compiled kernels can be written: "
            "every start compiles for a minute; set NUMBA_CACHE_DIR"
        )
    return facts, complaints


def _job():
    """What is known of the batch job, as a fact; {} outside of one."""
    from mpnnp.progress import duration
    from mpnnp.training.agenda import end_of_job

    if not (number := os.environ.get("SLURM_JOB_ID")):
        return {}
    end = end_of_job()
    left = (
        f"ends in {duration(max(end - time.time(), 0.0))}"
        if end
        else "its end is not known (SLURM_JOB_END_TIME): --signal=B:USR1@120 and a script as in jobs/slurm "
        "let a run save in time"
    )
    return {"batch job": f"{number}, {left}"}


def _shared_window(comm):
    """ "" if the ranks of a node can share a window of memory, else why not. Collective."""
    import numpy as np
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    reason = ""
    try:
        window = MPI.Win.Allocate_shared(8 if node.rank == 0 else 0, 8, comm=node)
        memory = np.frombuffer(window.Shared_query(0)[0], dtype=np.float64, count=1)
        if node.rank == 0:
            memory[0] = 17.0
        window.Fence()
        node.Barrier()
        if memory[0] != 17.0:
            reason = "what one rank writes the others do not see"
        window.Fence()
        window.Free()
    except (MPI.Exception, ValueError) as error:
        reason = str(error)
    node.Free()
    return next((r for r in comm.allgather(reason) if r), "")


def _left_behind():
    """Segments of shared memory of MPICH on this node, of runs under way and of killed ones."""
    try:
        return sum(name.startswith("mpich_shm_") for name in os.listdir("/dev/shm"))
    except OSError:
        return 0


def _blas():
    """BLAS libraries in this process, with core type and threads."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    import scipy.linalg.blas  # noqa: F401  loads its library

    return sorted(
        {
            f"{found['internal_api']} {found.get('version')}, "
            f"core type {found.get('architecture', 'unknown')}, {counted(found['num_threads'], 'thread')}"
            for found in threadpool_info()
            if found["user_api"] == "blas"
        }
    )


def _loaded(name):
    """Files of loaded shared libraries with this name (Linux)."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return sorted({line.split(maxsplit=5)[-1].strip() for line in file if f"/{name}" in line})
    except OSError:
        return []


def _cpu():
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name()
