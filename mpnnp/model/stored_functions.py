"""Symmetry functions of a data set, computed once by all ranks and kept in a mapped file that is named by
a hash of what they were made from.
"""

import contextlib
import hashlib
from pathlib import Path

import h5py
import numpy as np

from mpnnp.data.dataset import Dataset
from mpnnp.errors import DataError
from mpnnp.files import check_seal, write_sealed
from mpnnp.kernels.energy_forces import functions_of_structure
from mpnnp.kernels.packs import Structures
from mpnnp.kernels.plan import plan_of
from mpnnp.model.cost import cost_of
from mpnnp.model.prediction import refuse_not_finite
from mpnnp.model.scaling import NOT_FINITE
from mpnnp.model.symmetry_functions import SymmetryFunctions
from mpnnp.parallel import Comm, agree, on_root, share
from mpnnp.progress import AnyLog, Progress, duration

FORMAT_VERSION = 1
BLOCK = 64  # structures per rank between two writes
WORTH_TELLING = 10.0  # seconds
MOST_PAIRS = 1_000_000  # per atom; a cutoff of 12 Angstrom in a dense metal has 600


def load_symmetry_functions(
    atoms: Structures, functions: SymmetryFunctions, key: str, cache: Path | None, comm: Comm, log: AnyLog
) -> np.ndarray:
    """Unscaled symmetry functions G (n_atom, n_max) of a data set, mapped from a file that is made if it
    is not there. Collective.

    cache  folder of these files; None: nothing is written
    """
    if cache is None:
        mine = share(len(atoms.start) - 1, comm)
        return np.concatenate(comm.allgather(agree(comm, _block, atoms, functions, mine.start, mine.stop)))
    digest = hashlib.sha256(
        f"{FORMAT_VERSION} {key} {functions.elements} {functions.functions}".encode()
    ).hexdigest()
    path = cache / f"symmetry-functions-{digest[:16]}.h5"
    shape = (int(atoms.start[-1]), functions.n_max)
    there = on_root(comm, _is_complete, path, shape)
    cost = cost_of(atoms, functions)
    agree(comm, _check_cost, cost, functions)
    effort = "" if there else _in_words(cost, shape, comm)
    log(f"symmetry functions up to {functions.r_c:.4g} A: {cost}{effort}")
    if not there:
        _compute(path, atoms, functions, shape, comm, log)
    return agree(comm, _map, path)


def check_finite(
    G: np.ndarray, atoms: Structures, dataset: Dataset, comm: Comm, chosen: np.ndarray | None = None
) -> None:
    """Raise DataError that names one of the chosen structures, default all, whose functions G (n_atom, n_max)
    are not finite. Collective.
    """
    start = atoms.start
    mine = share(len(dataset), comm) if chosen is None else chosen[comm.rank :: comm.size]
    wrong = [s for s in mine if not np.isfinite(G[start[s] : start[s + 1]]).all()]
    refuse_not_finite(wrong, dataset, comm, NOT_FINITE)


def _check_cost(cost, functions):
    """Raise DataError for a cutoff that can only be a mistake: what follows would fill the memory."""
    if cost.pairs > MOST_PAIRS:
        raise DataError(
            f"symmetry functions up to {functions.r_c:.4g} Angstrom: {cost}, more than {MOST_PAIRS:,} pairs "
            "cannot be meant: is the cutoff in Angstrom, are the cells right?"
        )


def _in_words(cost, shape, comm):
    seconds = shape[0] * cost.of_functions() / comm.size
    return f"; computing them takes about {duration(seconds)}" if seconds > WORTH_TELLING else ""


def _is_complete(path, shape):
    """Whether the file is there as it was written: sealed, whole, and of this shape.

    Anything else is computed anew.
    """
    try:
        if not check_seal(path):
            return False
        with h5py.File(path, "r") as file:
            return file["G"].shape == shape and file.attrs["format_version"] == FORMAT_VERSION
    except Exception:  # h5py raises nearly anything on foreign files
        return False


def _compute(path, atoms, functions, shape, comm, log):
    """Each rank computes BLOCK structures in turn; rank 0 collects and writes them."""
    n_structure = len(atoms.start) - 1
    with contextlib.ExitStack() as stack:
        target = agree(comm, lambda: _open_target(stack, path, shape) if comm.rank == 0 else None)
        progress = stack.enter_context(Progress(log, "symmetry functions: structure", n_structure))
        for first in range(0, n_structure, BLOCK * comm.size):
            last = min(first + BLOCK * comm.size, n_structure)
            mine = share(last - first, comm)
            blocks = comm.gather(
                agree(comm, _block, atoms, functions, first + mine.start, first + mine.stop), root=0
            )
            agree(comm, _store, target, slice(atoms.start[first], atoms.start[last]), blocks)
            progress.update(last)
        agree(comm, stack.close)


def _open_target(stack, path, shape):
    file = stack.enter_context(write_sealed(path, alignment_threshold=1, alignment_interval=64))
    file.attrs["kind"], file.attrs["format_version"] = "mpnnp symmetry functions", FORMAT_VERSION
    target = file.create_dataset("G", shape, np.float64)
    target.attrs["units"] = "1, unscaled"
    return target


def _store(target, rows, blocks):
    if target is not None:
        target[rows] = np.concatenate(blocks)


def _block(atoms, functions, first, last):
    """Unscaled G of structures first to last."""
    G = np.zeros((int(atoms.start[last] - atoms.start[first]), functions.n_max))
    if first < last:
        plan = plan_of(functions.table)
        for s in range(first, last):
            functions_of_structure(
                atoms,
                s,
                plan,
                G[atoms.start[s] - atoms.start[first] : atoms.start[s + 1] - atoms.start[first]],
            )
    return G


def _map(path):
    with h5py.File(path, "r") as file:
        stored = file["G"]
        return np.memmap(path, stored.dtype, "r", stored.id.get_offset(), stored.shape)
