"""Whether the covariance of the filter fits into the memory that is there."""

from collections.abc import Sequence

import numpy as np

from mpnnp.environment import free_memory
from mpnnp.errors import ConfigError
from mpnnp.model.network import Segment
from mpnnp.optimizers.layout import coupling_groups
from mpnnp.parallel import Comm, of_all_ranks

OTHERS = ("element", "layer", "node", "block:5000")  # couplings that are proposed if one does not fit
GB = 1e9


def bytes_of(coupling: str, n_weight: int, segments: Sequence[Segment]) -> float:
    """Bytes of the covariance, all ranks together: half of each block of coupled weights."""
    sizes = np.diff(coupling_groups(coupling, n_weight, segments)[1]).astype(float)
    return float(4.0 * (sizes * (sizes + 1.0)).sum())


def check_memory(
    coupling: str, n_weight: int, segments: Sequence[Segment], comm: Comm, n_offset: int = 0
) -> None:
    """Raise ConfigError on every rank if a node has not the memory for its ranks' share of the covariance,
    and for all of it where rank 0 gathers it for a checkpoint. Collective.

    n_offset  offsets behind the weights, with full coupling: the couplings that are proposed carry none
    """
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    holders = node.size / comm.size + node.allreduce(int(comm.rank == 0))
    node.Free()
    total = bytes_of(coupling, n_weight + n_offset, segments)
    free, holders = min(comm.allgather((free_memory() / holders, holders)))
    if total <= free:
        return
    fitting = [
        f"{name!r} ({size / GB:.3g} GB)"
        for name, size in ((name, bytes_of(name, n_weight, segments)) for name in OTHERS)
        if size <= free
    ]
    blocks = f", or ekf.coupling = {' or '.join(fitting)}" if fitting else ""
    raise of_all_ranks(
        ConfigError(
            f"the covariance of {n_weight} weights takes {total / GB:.3g} GB, and as much again while a "
            f"checkpoint is written; the memory that is free is enough for {free / GB:.3g} GB: fewer nodes "
            f"(network.hidden), more machines{blocks}"
        )
    )
