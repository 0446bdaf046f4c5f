"""The packs of arrays that the compiled entry points take; build them once and keep them."""

from typing import NamedTuple

import numpy as np

from mpnnp.kernels.jit import read_only
from mpnnp.kernels.plan import make_plan


class Structures(NamedTuple):
    """Many structures, flat and ragged; every array C-contiguous and read-only (make_structures)."""

    start: np.ndarray  # (n_structure+1,) int64; atoms of structure k are start[k]:start[k+1]
    element: np.ndarray  # (n_atom,) int64 element index
    positions: np.ndarray  # (n_atom, 3) Angstrom
    cell: np.ndarray  # (n_structure, 3, 3) Angstrom, rows are the vectors
    # (n_structure, 3, 3) fractional = positions @ inverse; only its columns of periodic directions are read
    inverse: np.ndarray
    pbc: np.ndarray  # (n_structure, 3) bool


class Model(NamedTuple):
    """Functions, scaling and nets without the weights (make_model)."""

    table: NamedTuple  # mpnnp.kernels.table.Table
    plan: NamedTuple  # mpnnp.kernels.plan.Plan
    shift: np.ndarray  # (n_function,) scaled input g = (G - shift) factor
    factor: np.ndarray  # (n_function,)
    topology: NamedTuple  # mpnnp.model.network.Topology


def make_structures(start, element, positions, cell, pbc, inverse=None):
    """Structures from arrays of any kind (views of mapped files are kept where types agree).
    inverse is computed if missing.
    """
    cell = np.asarray(cell, np.float64).reshape(-1, 3, 3)
    pbc = np.asarray(pbc, bool).reshape(-1, 3)
    if inverse is None:
        inverse = inverse_cells(cell, pbc)
    return Structures(
        read_only(np.asarray(start, np.int64)),
        read_only(np.asarray(element, np.int64)),
        read_only(np.asarray(positions, np.float64)),
        read_only(cell),
        read_only(np.asarray(inverse, np.float64).reshape(-1, 3, 3)),
        read_only(pbc),
    )


def make_model(table, shift, factor, topology):
    """Model with read-only arrays."""
    table = type(table)(*(read_only(a) for a in table))
    topology = type(topology)(*(read_only(a) for a in topology))
    return Model(
        table,
        make_plan(table),
        read_only(np.asarray(shift, np.float64)),
        read_only(np.asarray(factor, np.float64)),
        topology,
    )


def inverse_cells(cell, pbc):
    """inverse_cell of many structures: (n_structure, 3, 3)."""
    inverse = np.empty(cell.shape)
    inverse[:] = np.eye(3)  # without periodic directions
    n_periodic = np.count_nonzero(pbc, axis=1)
    inverse[n_periodic == 3] = np.linalg.inv(cell[n_periodic == 3])
    for k in np.flatnonzero((n_periodic == 1) | (n_periodic == 2)):
        inverse[k] = inverse_cell(cell[k], pbc[k])
    return inverse


def inverse_cell(cell, pbc):
    """inverse (3,3) with fractional = positions @ inverse; vectors of directions that are not periodic
    are replaced by normals.
    """
    full = np.array(cell, np.float64)
    q = np.linalg.svd(full[pbc])[2] if np.any(pbc) else np.eye(3)
    full[~np.asarray(pbc)] = q[np.count_nonzero(pbc) :]
    return np.linalg.inv(full)
