"""What the optimisers send: rows of labels gathered in label order, sums over ranks;
calls and bytes are counted.
"""

from dataclasses import dataclass

import numpy as np

from mpnnp.parallel import Comm


@dataclass
class Traffic:
    """Collective calls of a rank and the bytes of their results since the start;
    `last_calls`, `last_bytes` of the last update alone.
    """

    calls: int = 0
    bytes: int = 0
    updates: int = 0
    last_calls: int = 0
    last_bytes: int = 0

    def start_update(self) -> None:
        self.updates += 1
        self.last_calls = self.last_bytes = 0

    def count(self, array: np.ndarray) -> None:
        self.calls += 1
        self.bytes += array.nbytes
        self.last_calls += 1
        self.last_bytes += array.nbytes


def gather_labels(
    comm: Comm, rows: np.ndarray, errors: np.ndarray, traffic: Traffic
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (M, n) and errors (M,) of the labels of all ranks, rank 0's first. Collective.

    On one rank: the arrays themselves.
    """
    if comm.size == 1:
        return rows, errors
    n = rows.shape[1]
    counts = np.empty(comm.size, dtype=np.int64)
    comm.Allgather(np.array([len(errors)], dtype=np.int64), counts)
    all_rows = np.empty((counts.sum(), n))
    all_errors = np.empty(len(all_rows))
    comm.Allgatherv(rows, [all_rows, counts * n])
    comm.Allgatherv(errors, [all_errors, counts])
    for array in (counts, all_rows, all_errors):
        traffic.count(array)
    return all_rows, all_errors


def sum_over_ranks(comm: Comm, part: np.ndarray, total: np.ndarray, traffic: Traffic) -> np.ndarray:
    """total = sum over ranks of part, the same on every rank. Collective."""
    comm.Allreduce(part, total)
    traffic.count(total)
    return total
