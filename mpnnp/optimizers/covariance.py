"""The covariance P of the filter: symmetric tiles shared out over the ranks, in one full block or
in blocks of coupled weights.

Inside, the weights are ordered so that each group of coupled weights is contiguous. A group is cut into
blocks of at most B weights, and every pair of blocks I >= J of one group is a tile T_IJ of B x B, padded with
zeros; on the diagonal T_II = P_II / 2 in full, so that the same product X_I += T H_J, X_J += T^T H_I serves
all tiles.
"""

import math

import numpy as np

from mpnnp.kernels.covariance import (
    aligned_zeros,
    make_fold,
    make_product,
    pack_columns,
    pack_rows,
    unpack_rows,
)
from mpnnp.kernels.jit import read_only
from mpnnp.optimizers.layout import Layout, diagonal_entries, packed_rows, packed_start
from mpnnp.parallel import Comm


class Covariance:
    """This rank's tiles of one symmetric matrix T (not yet P: the filter adds its low-rank part),
    and what can be done to them.

    tiles (n_tile, B, B)
    place (n_tile, 2)      the blocks of each tile, counted among those that this rank touches
    extent (n_block, 2)    positions of those blocks
    """

    def __init__(self, layout: Layout, diagonal: float | np.ndarray):
        """T = diagonal * identity."""
        self.layout = layout
        self.tiles = aligned_zeros((len(layout.mine), layout.B, layout.B))
        blocks, place = np.unique(layout.mine, return_inverse=True)
        self.place = read_only(place.reshape(-1, 2))
        self.extent = read_only(np.stack([layout.block[blocks], layout.block[blocks + 1]], axis=1))
        self.diagonal_position, self.diagonal_at = diagonal_entries(layout)
        self.part, self.scratch = np.empty((0, layout.n)), aligned_zeros(0)
        self.add_to_diagonal(diagonal)

    def multiply(self, H: np.ndarray) -> np.ndarray:
        """This rank's part of H T for rows H (M, n): the sum over the ranks is the product.

        Valid until the next call.
        """
        M = len(H)
        C = min(M, 2)
        shape = (len(self.extent), -(-M // C), 2, C, self.layout.B)
        size = math.prod(shape)
        if M > len(self.part):
            self.part, self.scratch = np.empty((M, self.layout.n)), aligned_zeros(size)
        X, scratch = self.part[:M], self.scratch[:size].reshape(shape)
        pack_rows(read_only(H), self.extent, scratch)
        make_product(self.layout.B, C)(self.tiles, self.place, scratch)
        unpack_rows(scratch, self.extent, X)
        return X

    def fold(self, U: np.ndarray) -> None:
        """T -= U^T U with U (r, n), inside the groups."""
        columns = aligned_zeros((len(self.extent), -(-len(U) // 4) * 4, self.layout.B))
        pack_columns(read_only(U), self.extent, columns)
        make_fold(self.layout.B)(self.tiles, self.place, columns)

    def add_to_diagonal(self, d: float | np.ndarray) -> None:
        d = d[self.diagonal_position] if isinstance(d, np.ndarray) and d.ndim else d
        self.tiles.reshape(-1)[self.diagonal_at] += 0.5 * d

    def diagonal(self) -> np.ndarray:
        """(n,) diagonal of T where this rank holds it, 0 elsewhere."""
        diagonal = np.zeros(self.layout.n)
        diagonal[self.diagonal_position] = 2.0 * self.tiles.reshape(-1)[self.diagonal_at]
        return diagonal


def pack(covariance: Covariance, comm: Comm) -> np.ndarray | None:
    """The lower triangle of T on rank 0, None elsewhere; tile by tile. Collective."""
    layout = covariance.layout
    packed = np.empty(packed_start(layout.group)[-1] if comm.rank == 0 else 0)
    buffer = np.empty((layout.B, layout.B))
    for k, (i, j) in enumerate(layout.tiles):
        owner = layout.owner(k)
        if comm.rank not in (0, owner):
            continue
        tile = covariance.tiles[k - layout.owner_start[owner]] if comm.rank == owner else buffer
        if owner != 0 and comm.rank == owner:
            comm.Send(tile, dest=0, tag=7)
        if comm.rank == 0:
            if owner != 0:
                comm.Recv(tile, source=owner, tag=7)
            for row, at in packed_rows(layout, k):
                packed[at] = tile[row, : at.stop - at.start] * (2.0 if i == j else 1.0)
    return packed if comm.rank == 0 else None


def unpack(covariance: Covariance, packed: np.ndarray | None, comm: Comm) -> None:
    """T from the lower triangle on rank 0 (None elsewhere); tile by tile. Collective."""
    layout = covariance.layout
    buffer = np.zeros((layout.B, layout.B))
    for k, (i, j) in enumerate(layout.tiles):
        owner = layout.owner(k)
        if comm.rank not in (0, owner):
            continue
        tile = covariance.tiles[k - layout.owner_start[owner]] if comm.rank == owner else buffer
        if comm.rank == 0:
            assert packed is not None
            tile[:] = 0.0
            for row, at in packed_rows(layout, k):
                tile[row, : at.stop - at.start] = packed[at]
            if i == j:
                tile += np.tril(tile, -1).T
                tile *= 0.5
            if owner != 0:
                comm.Send(tile, dest=owner, tag=7)
        elif comm.rank == owner:
            comm.Recv(tile, source=0, tag=7)
