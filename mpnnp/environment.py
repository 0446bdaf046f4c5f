"""What a process stands on: settings that must be made before numpy is imported,
and a description for the log of a run.

Imports nothing but the standard library until a function is called.
"""

import contextlib
import math
import os
import platform
import socket
from collections import Counter
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mpnnp import __version__

PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "h5py",
    "mpi4py",
    "ase",
    "pydantic",
    "vesin",
    "threadpoolctl",
)
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
MEMORY = (  # of control groups of version 2 and 1: controller, limit, held, what of memory.stat is files
    ("", "memory.max", "memory.current", ("active_file", "inactive_file")),
    (
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")  # of launchers


def prepare():
    """One thread per rank, and the BLAS kernels that fit the CPU, unless the user has set them.

    OpenBLAS does not know the newest AMD cores and then takes its AVX2 kernels; on a CPU with AVX-512 the
    Skylake-X kernels run up to 1.6 times faster.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    if has_avx512():
        os.environ.setdefault("OPENBLAS_CORETYPE", "SKYLAKEX")


def is_first_process():
    """False if the launcher says that others of the same program come before this process."""
    return all(os.environ.get(name, "0") == "0" for name in RANK_VARIABLES)


def has_avx512():
    """True if the CPU has the AVX-512 instructions that OpenBLAS's Skylake-X kernels use
    (Linux; False where unknown).
    """
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("flags"):
                    flags = set(line.split())
                    return {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"} <= flags
    except OSError:
        pass
    return False


def slow_settings():
    """Environment variables that make this machine slower than it is, as messages."""
    messages = []
    core = os.environ.get("OPENBLAS_CORETYPE", "")
    if has_avx512() and core and core.upper() not in ("SKYLAKEX", "COOPERLAKE", "SAPPHIRERAPIDS", "ZEN5"):
        messages.append(f"OPENBLAS_CORETYPE={core} keeps BLAS from using AVX-512; unset it or set SKYLAKEX")
    for name in THREAD_VARIABLES[:3]:
        if os.environ.get(name, "1") != "1":
            messages.append(f"{name}={os.environ[name]}: mpnnp uses one thread per MPI rank; unset it")
    return messages


def usable_cores():
    """Numbers of the cores that this process may use (Linux; else as many as there are), as a frozenset."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def core_limit(proc=PROC, cgroups=CGROUPS):
    """Cores that the control group of a container or batch job grants, or one that holds it, None without
    limit (Linux).
    """
    limits = []
    for group in control_groups(proc, cgroups):
        with contextlib.suppress(OSError, ValueError):
            quota, period = _text(group / "cpu.max").split()
            limits.append(float(quota) / float(period))  # "max": no number
    for group in control_groups(proc, cgroups, "cpu"):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (float(_text(group / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
            limits += [quota / period] if quota > 0 else []  # -1: no limit
    return min(limits, default=None)


def free_memory(proc=PROC, cgroups=CGROUPS):
    """Bytes that can still be taken on this machine, or by this job if its control group, or one that holds
    it, allows less; inf where neither is known.
    """
    free = [math.inf]
    with contextlib.suppress(OSError, ValueError, KeyError):
        free.append(1024.0 * _numbers(proc / "meminfo")["MemAvailable:"])
    for controller, *names in MEMORY:
        free += [_left_to(group, *names) for group in control_groups(proc, cgroups, controller)]
    return min(free)


def control_groups(proc=PROC, cgroups=CGROUPS, controller=""):
    """Folders of the control group of this process and of those that hold it, innermost first: SLURM limits
    those of the job and of the step, not that of a task. [] where there is none.

    controller  "" for the one tree of version 2; "cpu", "memory": the tree of version 1 for these
    """
    with contextlib.suppress(OSError, ValueError):
        for line in (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                innermost = Path(path.lstrip("/"))
                return [cgroups / controller / group for group in (innermost, *innermost.parents)]
    return []


def _left_to(group, limit, held, given_back):
    """Bytes that a control group still allows: its limit, less what its processes hold; what files they have
    read is given back when it is needed. The names are those of MEMORY.
    """
    try:
        kept = _numbers(group / "memory.stat")
        left = int(_text(group / limit)) - int(_text(group / held)) + sum(kept[name] for name in given_back)
        return max(0.0, float(left))
    except (OSError, ValueError, KeyError):  # "max" is no number; the first group has no limit
        return math.inf


def _text(file):
    return file.read_text(encoding="ascii")


def _numbers(file):
    """name -> number of the lines of a file of the kernel."""
    lines = (line.split() for line in _text(file).splitlines())
    return {name: int(number) for name, number, *_ in lines}


def launch_complaints(comm, variables=os.environ):
    """What is wrong with how this program was started: ranks against cores, threads, launcher; as messages on
    rank 0, [] elsewhere. Collective.
    """
    told = comm.gather((socket.gethostname(), usable_cores(), core_limit(), slow_settings()), root=0)
    if comm.rank:
        return []
    messages = sorted({message for _, _, _, per_rank in told for message in per_rank})
    for host, n_rank in Counter(host for host, *_ in told).items():
        here = [(cores, limit) for h, cores, limit, _ in told if h == host]
        n_core = len(frozenset().union(*(cores for cores, _ in here)))
        limits = [limit for _, limit in here if limit is not None]
        granted = min([n_core, *(max(1, round(limit)) for limit in limits)])
        if n_rank > granted:
            messages.append(
                f"{n_rank} ranks share {granted} usable core{'s' * (granted > 1)} of {host}: they wait for "
                f"each other; start at most {granted} there, or ask the launcher or batch system for more "
                "cores (if the launcher "
                "binds all ranks to the same ones: mpiexec --bind-to none)"
            )
    tasks = variables.get("SLURM_NTASKS", "1") or "1"
    if comm.size == 1 and tasks != "1" and variables.get("SLURM_JOB_ID"):
        messages.append(
            f"SLURM gave {tasks} tasks, but there is one rank: start with srun or mpiexec, and see "
            "`mpnnp doctor` if you did"
        )
    per_task = variables.get("SLURM_CPUS_PER_TASK", "1") or "1"
    if per_task != "1":
        messages.append(
            f"SLURM gave {per_task} cores to each task, of which a rank uses one: ask for more tasks, "
            "and --cpus-per-task=1"
        )
    return messages


def describe(comm, log):
    """Versions, hosts and MPI library in the log of a run, and what is wrong with how it was started.

    Collective.
    """
    import h5py

    hosts = Counter(comm.allgather(socket.gethostname()))
    log(
        f"mpnnp {__version__}, {datetime.now():%Y-%m-%d %H:%M:%S}, "
        f"{comm.size} rank{'s' * (comm.size > 1)} on " + ", ".join(f"{h} ({n})" for h, n in hosts.items())
    )
    log(
        f"Python {platform.python_version()}, "
        f"{', '.join(f'{name} {found}' for name, found in versions().items())}, "
        f"HDF5 {h5py.version.hdf5_version}"
    )
    log(f"MPI: {mpi_library()}")
    for message in launch_complaints(comm):
        log.warn(message)


def versions():
    """Package -> version, of those installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found


def mpi_library():
    from mpi4py import MPI

    lines = [line.strip() for line in MPI.Get_library_version().strip("\0 \n").splitlines()]
    return " ".join(lines[: 1 if lines[0].startswith("Open MPI") else 2])
