"""What limits the machine, and what disturbs it: bandwidth, BLAS speed, a description,
and other jobs' use of the cores.
"""

import os
import resource
import time

import numpy as np

from mpnnp.parallel import idle_barrier

TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def median_ms(call, repeat, calls_each=1, warm_up=1):
    """Median over `repeat` measurements of the time of one call, ms;
    each measurement makes `calls_each` calls.
    """
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        for _ in range(calls_each):
            call()
        times.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(times)) / calls_each


def alone(comm, function, *arguments):
    """Result of `function(*arguments)` on rank 0 while the other ranks sleep; None there. Collective."""
    result = function(*arguments) if comm.rank == 0 else None
    idle_barrier(comm)
    return result


def limits(repeat):
    """Read bandwidth over 32 MB (GB/s) and dgemm of 1024 x 1024 matrices (GF/s), one core."""
    x, n = np.ones(4_194_304), 1024
    a, b, c = np.full((n, n), 0.5), np.full((n, n), 0.5), np.empty((n, n))
    read = median_ms(lambda: np.dot(x, x), 3 * repeat)
    gemm = median_ms(lambda: np.matmul(a, b, out=c), repeat)
    return {"read_gb_per_s": x.nbytes / read / 1e6, "dgemm_gf_per_s": 2e-6 * n**3 / gemm}


def describe(comm):
    """CPU, cores, libraries and load as a dict."""
    import numba
    import scipy
    from mpi4py import MPI

    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ranks": comm.size,
        "mpi": MPI.Get_library_version().split("\n")[0].split(",")[0].strip("\0 "),
        "blas": _blas(),
        "numba": numba.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "load_average": os.getloadavg()[0],
    }


def _cpu_model():
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            name = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
            return name
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def _blas():
    """Library, version and core type of the BLAS of scipy, as OpenBLAS tells them;
    the library's name elsewhere.
    """
    import ctypes

    import scipy.linalg.cython_blas  # loads it

    blas = scipy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    text = f"{blas['name']} {blas['version']}"
    try:
        with open("/proc/self/maps", encoding="utf-8") as file:
            paths = {line.split()[-1] for line in file if "openblas" in line and ".so" in line}
    except OSError:
        paths = ()
    for path in sorted(paths, key=lambda p: "scipy" not in p):
        library = ctypes.CDLL(path)
        for name in (
            "scipy_openblas_get_corename",
            "scipy_openblas_get_corename64_",
            "openblas_get_corename",
        ):
            if hasattr(library, name):
                corename = getattr(library, name)
                corename.restype = ctypes.c_char_p
                return f"{text}, core type {corename().decode()}"
    return text


class Background:
    """Cores that other processes kept busy since this was made (Linux; nan elsewhere)."""

    def __init__(self, comm):
        self.comm = comm
        self.begin = time.monotonic(), _busy(), self._own()

    def _own(self):
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return self.comm.allreduce(sum(u.ru_utime + u.ru_stime for u in used))

    def cores(self):
        """Collective (over the ranks of one node)."""
        begin, busy, own = self.begin
        seconds = time.monotonic() - begin
        return max(0.0, (_busy() - busy) - (self._own() - own)) / seconds


def _busy():
    """Seconds that all cores together have been busy; time stolen by other virtual machines counts."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    except (OSError, ValueError):
        return float("nan")
    return (user + nice + system + irq + softirq + steal) / TICK
