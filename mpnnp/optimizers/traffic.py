"""What the optimisers send: rows of labels gathered in label order, sums over ranks;
calls and bytes are counted.
"""

from dataclasses import dataclass

import numpy as np

from mpnnp.kernels.jit import cache_key
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


class LabelGather:
    """Rows and errors of the labels of all ranks in one collective call.

    Each rank sends one block of numbers: how many labels it has, then as many errors and rows as it is
    expected to have: as last time. If the counts that arrive are others, the same call is made once more with
    these: every rank sees the same counts.

    counts  (size,) labels expected of each rank, the same on all ranks
    """

    def __init__(self, comm: Comm, n_weight: int, traffic: Traffic):
        self.comm, self.n_weight, self.traffic = comm, n_weight, traffic
        self.counts = np.zeros(comm.size, np.int64)

    def __call__(self, rows: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (M, n) and errors (M,) of the labels of all ranks, rank 0's first. Collective.

        On one rank: the arrays themselves.
        """
        if self.comm.size == 1:
            return rows, errors
        blocks = self._exchange(rows, errors)
        found = np.array([int(block[0]) for block in blocks])
        if not np.array_equal(found, self.counts):
            self.counts = found
            blocks = self._exchange(rows, errors)
        all_errors = np.concatenate([block[1 : m + 1] for block, m in zip(blocks, self.counts)])
        all_rows = np.concatenate([block[m + 1 :] for block, m in zip(blocks, self.counts)])
        return all_rows.reshape(len(all_errors), self.n_weight), all_errors

    def _exchange(self, rows, errors):
        """The blocks of all ranks, sized for `counts`; what does not fit is left out."""
        sizes = 1 + self.counts * (self.n_weight + 1)
        mine = np.zeros(sizes[self.comm.rank])
        mine[0] = len(errors)
        if len(errors) == self.counts[self.comm.rank]:
            mine[1 : len(errors) + 1] = errors
            mine[len(errors) + 1 :] = rows.ravel()
        received = np.empty(sizes.sum())
        self.comm.Allgatherv(mine, [received, sizes])
        self.traffic.count(received)
        return np.split(received, np.cumsum(sizes)[:-1])


def sum_over_ranks(comm: Comm, part: np.ndarray, total: np.ndarray, traffic: Traffic) -> np.ndarray:
    """total = sum over ranks of part, the same on every rank. Collective; on one rank nothing is sent."""
    if comm.size == 1:
        total[...] = part
        return total
    comm.Allreduce(part, total)
    traffic.count(total)
    return total


class FailureOfAny:
    """Whether something failed on any rank.

    Ranks on equal machines compute from equal numbers with equal machine code: they fail together, and
    nothing is sent. Only among different machines, which round differently, the ranks ask each other.
    """

    def __init__(self, comm: Comm, traffic: Traffic):
        self.comm, self.traffic = comm, traffic
        self.equal: bool | None = None

    def __call__(self, failure: bool) -> bool:
        """True on every rank if `failure` on one. Collective."""
        if self.comm.size == 1:
            return failure
        if self.equal is None:
            self.equal = len(set(self.comm.allgather(cache_key()))) == 1
        if self.equal:
            return failure
        return sum_over_ranks(self.comm, np.array([float(failure)]), np.empty(1), self.traffic)[0] > 0
