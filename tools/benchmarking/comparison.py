"""Two checkouts of mpnnp in alternation: CPU times of the cases, of the start and of the compilation, and
memory, as ratios with their spread.

A process of each checkout stays; in each round both measure the same case, in changing order, so that what
else the machine does meets both alike. CPU time is what is compared, not the time on the clock.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from benchmarking.cases import CASES

WORKER = Path(__file__).with_name("cases.py")
START = "import mpnnp.training.train, mpnnp.commands.training"
COMPILE = (
    "from mpnnp import environment; environment.prepare(); from mpnnp.parallel import serial; "
    "from mpnnp.training.warm_up import compile_kernels; compile_kernels(serial(), lambda line: None)"
)
# of a file of /proc (Linux), the lines that begin with a word: kB
MEMORY = """
print(sum(int(line.split()[1]) for line in open("/proc/self/{}") if line.startswith("{}")) / 1024)
"""


class Worker:
    """The process of one checkout."""

    def __init__(self, checkout):
        self.environment = {**os.environ, "PYTHONPATH": str(checkout)}
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def cpu_ms(self, name, calls):
        self.process.stdin.write(f"{name} {calls}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of {self.environment['PYTHONPATH']} ended in case {name}")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def run(self, code, **variables):
        """CPU seconds of a new Python with this code, and what it prints."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**self.environment, **variables},
            check=True,
            capture_output=True,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def compare(old, new, rounds, seconds, with_compilation):
    """[(words, unit, (n_round, 2) numbers of old and new)] of all cases.

    seconds  the rounds of a case end after this time on the clock, at least three are made
    """
    workers = Worker(old), Worker(new)
    result = []
    try:
        for name, (words, _, calls) in CASES.items():
            print(f"  {words} ...", file=sys.stderr, flush=True)
            for worker in workers:
                worker.cpu_ms(name, 1)
            measure = [partial(worker.cpu_ms, name, calls) for worker in workers]
            result.append((words, "ms", alternate(measure, rounds, seconds)))
        print("  start and memory ...", file=sys.stderr, flush=True)
        measure = [lambda w=w: w.run(START)[0] for w in workers]
        result.append(("imports of a training run", "s", alternate(measure, rounds, seconds)))
        measure = [lambda w=w: w.run(COMPILE)[0] for w in workers]
        result.append(("start with compiled kernels", "s", alternate(measure, rounds, seconds)))
        for words, file, key in (
            ("memory after it", "status", "VmHWM"),
            ("of it not shared with other ranks", "smaps_rollup", "Private_Dirty"),
        ):
            if Path("/proc/self", file).exists():
                code = COMPILE + MEMORY.format(file, key)
                measure = [lambda w=w, code=code: float(w.run(code)[1]) for w in workers]
                result.append((words, "MB", alternate(measure, 2, 0)))
        if with_compilation:
            print("  compilation ...", file=sys.stderr, flush=True)
            measure = [lambda w=w: compilation(w) for w in workers]
            result.append(("compilation for training", "s", alternate(measure, 1, 0)))
    finally:
        for worker in workers:
            worker.close()
    return result


def compilation(worker):
    with tempfile.TemporaryDirectory() as folder:
        return worker.run(COMPILE, NUMBA_CACHE_DIR=folder)[0]


def alternate(measure, rounds, seconds):
    """(n_round, 2) numbers of the two functions, which are called in changing order."""
    begin, numbers = time.monotonic(), []
    while len(numbers) < rounds and (len(numbers) < min(3, rounds) or time.monotonic() - begin < seconds):
        pair = [0.0, 0.0]
        for k in (0, 1) if len(numbers) % 2 else (1, 0):
            pair[k] = measure[k]()
        numbers.append(pair)
    return np.array(numbers)


def print_comparison(result):
    print(f"\n{'CPU time':44s} {'old':>9s} {'new':>9s}      {'old / new':>9s}  middle half of the ratios")
    for words, unit, numbers in result:
        ratio = numbers[:, 0] / numbers[:, 1]
        low, middle, high = np.percentile(ratio, (25, 50, 75))
        old, new = np.median(numbers, axis=0)
        print(f"{words:44s} {old:9.3g} {new:9.3g} {unit:3s}  {middle:9.2f}  {low:.2f} to {high:.2f}")
