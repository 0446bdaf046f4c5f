"""How fast mpnnp is on this machine:

    python tools/benchmark.py [--quick] [--json FILE], or mpiexec -n 2 python tools/benchmark.py ...
    python tools/benchmark.py --against PATH [--quick]

Everything is measured through the code that `mpnnp train` runs. Liquid water, 192 atoms, 57 symmetry
functions, 2827 weights (double cells of the example data, or --data). All times are medians. Lines
marked * use all ranks, the others one of them while the rest sleep. Without --quick also the start-up with
800 structures, and on one rank the compilation of the kernels.

--against compares this checkout with another one: CPU times of both in alternation, also of compact
functions, steps of dynamics and the parts of an update (tools/benchmarking/cases.py), and their ratios.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from mpnnp import environment

environment.prepare()  # before numpy

import numpy as np  # noqa: E402
from benchmarking.comparison import compare, print_comparison  # noqa: E402
from benchmarking.machine import Background, alone, describe, limits  # noqa: E402
from benchmarking.parts import (  # noqa: E402
    covariance_bytes,
    filter_ms,
    make_run,
    memory,
    model_parts,
    opponents_ms,
    traffic,
    update_ms,
)
from benchmarking.perturbed import water_192  # noqa: E402

from mpnnp.data import dataset  # noqa: E402
from mpnnp.data.formats import read_sources  # noqa: E402
from mpnnp.parallel import on_root, world  # noqa: E402
from mpnnp.progress import Log  # noqa: E402
from mpnnp.training.train import evaluate  # noqa: E402
from mpnnp.training.warm_up import compile_kernels  # noqa: E402

STREAMS = (1, 2, 10, 32)
# n2p2, two tasks, its settings for water
TWO_STREAMS = {"schedule": {"streams": 2, "force_fraction": 0.0041}}
SDNZ = {
    "schedule": {"name": "sdnz", "updates_per_epoch": 1000},
    "ekf": {"epsilon": 1.0, "eta": 1e-3, "eta_tau": 0.0, "eta_max": 1e-3, "q": 0.0, "q_min": 0.0},
}
MB, KB = 1e6, 1e3

# what, key, M, factor from the unit of the key to the printed one, unit, n2p2 on the machine of the targets,
# target, stretch, all ranks
TABLE = [
    ("symmetry functions G, 192 atoms", "g_ms", None, 1, "ms", "81", 4, 2.2, ""),
    ("energy + forces, nothing stored", "energy_forces_ms", None, 1, "ms", "> 81", 8, 5.2, ""),
    ("force row, one of ten", "force_row_ms", None, 1, "ms", "10", 0.15, 0.08, ""),
    ("energy row, one of ten", "energy_row_ms", None, 1, "ms", "-", 0.05, 0.026, ""),
    ("EKF update, M = 1", "ekf_update_ms", "1", 1, "ms", "27", 1.6, 1.0, "*"),
    ("EKF update, M = 2", "ekf_update_ms", "2", 1, "ms", "39", 2.0, 1.1, "*"),
    ("EKF update, M = 10", "ekf_update_ms", "10", 1, "ms", "-", 5, 3, "*"),
    ("EKF update, M = 32", "ekf_update_ms", "32", 1, "ms", "-", 11, 8, "*"),
    (
        "update in training, 2 streams (target: 2 ranks)",
        *("train_update_ms", None, 1, "ms", "40", 2.5, 1.2, "*"),
    ),
    ("SDNZ step, EKF (paper: 28 cores)", "sdnz_ekf_step_ms", None, 1, "ms", "14.4", 4, 3, "*"),
    ("SDNZ step, Adam (paper: 28 cores)", "sdnz_adam_step_ms", None, 1, "ms", "3.6", 1, 0.5, "*"),
    ("E and F of 400 structures", "evaluate_400_s", None, 1, "s", "-", 4, 2.5, ""),
    ("data per structure, all ranks", "bytes_per_structure", None, 1 / MB, "MB", "12", 0.15, 0.06, "*"),
    ("P per rank / (n^2 / ranks)", "p_bytes_per_rank", None, None, "B", "8", 5, 4, "*"),
    ("start-up, 800 structures (target: 2 ranks)", "startup_s", None, 1, "s", "33", 6, 3, "*"),
    ("compilation, once", "compile_s", None, 1, "s", "-", 60, 20, ""),
]


def process_age():
    """Seconds since this process was started (Linux; since the imports elsewhere)."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rsplit(")", 1)[1].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return 0.0


def measure(arguments, comm, folder, age):
    """All numbers as a dict; complete on rank 0. Collective."""
    quick = arguments.quick
    repeat = 10 if quick else 40

    def say(text):
        if comm.rank == 0:
            print(f"  {text} ...", file=sys.stderr, flush=True)

    result = {"quick": quick}
    compile_kernels(comm, Log(comm, sys.stderr))
    say("data and start-up")
    data = folder / "water.h5"
    on_root(comm, write_data, arguments.data, data, 80 if quick else 800)
    comm.Barrier()
    begin = time.perf_counter()
    run = make_run(data, folder, comm, **TWO_STREAMS)
    evaluate(run, epoch=0)
    if not quick:
        result["startup_s"] = age + time.perf_counter() - begin
        begin = time.perf_counter()
        make_run(data, folder, comm, **TWO_STREAMS)
        result["startup_functions_on_disk_s"] = age + time.perf_counter() - begin
    n_weight = run.task.potential.network.n_weight
    result["n_weight"], result["n_atom"] = n_weight, int(np.median(run.task.dataset.n_atom))
    say("limits of the machine")
    result["limits"] = alone(comm, limits, repeat)
    say("symmetry functions, rows, evaluation")
    result |= alone(comm, model_parts, run, repeat) or {}
    say("filters")
    result["ekf_update_ms"] = {str(M): filter_ms(run.task.potential, M, comm, repeat) for M in STREAMS}
    opponents = alone(comm, lambda: {str(M): opponents_ms(n_weight, M, repeat // 2) for M in STREAMS}) or {}
    result["textbook_update_ms"] = {M: times[0] for M, times in opponents.items()}
    result["symmetric_update_ms"] = {M: times[1] for M, times in opponents.items()}
    say("training")
    result["train_update_ms"] = update_ms(run, 40 * repeat)
    result["calls_per_update"], result["bytes_communicated_per_update"] = traffic(run)
    result |= memory(run)
    result["p_bytes_per_rank"] = covariance_bytes(run)
    for optimizer in ("ekf", "adam"):
        run = make_run(data, folder, comm, **SDNZ, run={"optimizer": optimizer})
        result[f"sdnz_{optimizer}_step_ms"] = update_ms(run, 1000)
    return result


def write_data(source, path, n):
    dataset.write(path, read_sources([source], report=lambda line: None) if source else water_192(n))


def compile_seconds():
    """Seconds that a process takes with an empty cache of machine code,
    beyond what it takes with a full one.
    """
    code = (
        "from mpnnp import environment; environment.prepare(); from mpnnp.parallel import serial; "
        "from mpnnp.training.warm_up import compile_kernels; "
        "compile_kernels(serial(), lambda line: None)"
    )
    times = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", code], env={**os.environ, "NUMBA_CACHE_DIR": cache}, check=True
            )
            times.append(time.perf_counter() - begin)
    return times[0] - times[1]


def verdict_of(value, target, stretch):
    """Which of its two goals a number reaches, in words."""
    if value <= stretch:
        return "stretch"
    return "target" if value <= target else f"missed: x {value / target:.2f}"


def print_table(result):
    n, p = result["n_weight"], result["machine"]["ranks"]
    print(
        f"\n{result['n_atom']} atoms, {n} weights, {p} rank(s); "
        "targets: one core (ranks where said) of the machine they were set for\n"
    )
    print(f"{'':48s} {'n2p2':>6s} {'target':>7s} {'stretch':>7s} {'here':>9s}")
    for what, key, M, factor, unit, n2p2, target, stretch, ranks in TABLE:
        value = result.get(key) if M is None else result[key].get(M)
        if value is None:
            continue
        value *= p / n**2 if factor is None else factor
        verdict = verdict_of(value, target, stretch)
        print(
            f"{what + ' ' + ranks:48s} {n2p2:>6s} {target:7g} {stretch:7g} {value:9.3g} {unit:3s} {verdict}"
        )
    print(f"\n{'EKF update, ms; M =':30s}" + "".join(f"{M:>9d}" for M in STREAMS))
    for name, key in (
        ("mpnnp *", "ekf_update_ms"),
        ("symmetric, BLAS", "symmetric_update_ms"),
        ("textbook, BLAS", "textbook_update_ms"),
    ):
        print(f"{name:30s}" + "".join(f"{result[key][str(M)]:9.2f}" for M in STREAMS))
    bound = [
        max(
            4 * n**2 / result["limits"]["read_gb_per_s"] / 1e6,
            3 * n**2 * M / result["limits"]["dgemm_gf_per_s"] / 1e6,
        )
        for M in STREAMS
    ]
    print(f"{'limit of one core':30s}" + "".join(f"{ms:9.2f}" for ms in bound))
    print(
        "(4 n^2 bytes read at the bandwidth, or 2 n^2 M + n^2 M flops at the speed of dgemm, "
        "whichever takes longer)\n"
    )
    print(
        f"read bandwidth {result['limits']['read_gb_per_s']:.1f} GB/s (32 MB), "
        f"dgemm {result['limits']['dgemm_gf_per_s']:.1f} GF/s"
    )
    kept = result["private_bytes_per_structure_and_rank"] / KB
    print(
        f"data per structure: {result['mapped_bytes_per_structure'] / KB:.1f} kB mapped, once per node, "
        f"and {kept:.1f} kB in each rank"
    )
    if p > 1:
        print(
            f"communication per update: {result['calls_per_update']:.1f} calls, "
            f"{result['bytes_communicated_per_update'] / KB:.1f} kB a rank"
        )
    if "startup_s" in result:
        print(f"start-up with the symmetry functions on disk: {result['startup_functions_on_disk_s']:.2f} s")
    print("evaluation: extrapolated from the time of 8 structures with stored symmetry functions")


def compare_checkouts(arguments):
    if not (arguments.against / "mpnnp" / "__init__.py").exists():
        raise SystemExit(f"{arguments.against}: is not a checkout of mpnnp (there is no mpnnp/__init__.py)")
    rounds, seconds = (5, 8) if arguments.quick else (15, 20)
    old, new = arguments.against.resolve(), Path(__file__).resolve().parents[1]
    result = compare(old, new, rounds, seconds, with_compilation=not arguments.quick)
    print_comparison(result)
    if arguments.json:
        numbers = {words: {"unit": unit, "old_new": pairs.tolist()} for words, unit, pairs in result}
        Path(arguments.json).write_text(json.dumps(numbers, indent=2) + "\n", encoding="ascii")


def main():
    age = process_age()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="under a minute: fewer repetitions, 80 structures, no start-up, no compilation",
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers to FILE")
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="structures of H and O with energies and forces instead of the example's",
    )
    parser.add_argument(
        "--against",
        metavar="PATH",
        type=Path,
        help="compare with the checkout in folder PATH, on one rank; --quick: without the compilation",
    )
    arguments = parser.parse_args()
    comm = world()
    if arguments.against:
        compare_checkouts(arguments)
        return
    background, load = Background(comm), os.getloadavg()[0]
    folder = Path(comm.bcast(tempfile.mkdtemp() if comm.rank == 0 else None, root=0))
    warnings.simplefilter("ignore")
    try:
        result = measure(arguments, comm, folder, age)
    finally:
        comm.Barrier()
        if comm.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
    result["machine"] = describe(comm) | {"load_average": load, "background_cores": background.cores()}
    if comm.rank:
        return
    if comm.size == 1 and not arguments.quick:
        result["compile_s"] = compile_seconds()
    machine = result["machine"]
    print("; ".join(f"{name} {value}" for name, value in machine.items() if isinstance(value, str)))
    print_table(result)
    result["warnings"] = environment.slow_settings()
    if machine["background_cores"] > 0.1 or load > 0.5 + comm.size:
        result["warnings"].append(
            f"other processes kept {machine['background_cores']:.2f} of {machine['cores']} cores busy "
            f"(load at the start {load:.2f}): times too long"
        )
    for message in result["warnings"]:
        print(f"warning: {message}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
