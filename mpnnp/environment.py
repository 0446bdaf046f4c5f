"""What a process stands on: settings that must be made before numpy is imported,
and a description for the log of a run.

Imports nothing but the standard library until a function is called.
"""

import os
import platform
import socket
from collections import Counter
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

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
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def prepare():
    """One thread per rank, and the BLAS kernels that fit the CPU, unless the user has set them.

    OpenBLAS does not know the newest AMD cores and then takes its AVX2 kernels; on a CPU with AVX-512 the
    Skylake-X kernels run up to 1.6 times faster.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    if has_avx512():
        os.environ.setdefault("OPENBLAS_CORETYPE", "SKYLAKEX")


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


def describe(comm, log):
    """Versions, hosts and MPI library in the log of a run. Collective."""
    import h5py

    hosts = Counter(comm.allgather(socket.gethostname()))
    log(
        f"mpnnp {__version__}, {datetime.now():%Y-%m-%d %H:%M:%S}, {comm.size} ranks on "
        + ", ".join(f"{h} ({n})" for h, n in hosts.items())
    )
    log(
        f"Python {platform.python_version()}, "
        f"{', '.join(f'{name} {found}' for name, found in versions().items())}, "
        f"HDF5 {h5py.version.hdf5_version}"
    )
    log(f"MPI: {mpi_library()}")


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
