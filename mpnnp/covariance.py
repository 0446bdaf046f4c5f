"""The covariance P of the filter: symmetric tiles shared out over the ranks, in one full block or in blocks of coupled weights.

Inside, the weights are ordered so that each group of coupled weights is contiguous. A group is cut into blocks of at most B weights, and
every pair of blocks I >= J of one group is a tile T_IJ of B x B, padded with zeros; on the diagonal T_II = P_II / 2 in full, so that the
same product X_I += T H_J, X_J += T^T H_I serves all tiles.
"""

import math
from dataclasses import dataclass

import numpy as np

from mpnnp.errors import ConfigError
from mpnnp.kernels.covariance import aligned_zeros, make_fold, make_product, pack_columns, pack_rows, unpack_rows
from mpnnp.kernels.jit import read_only

TILE_SIZES = (192, 96, 48, 24)
PADDING = 1.2  # a larger tile is taken if it stores at most so many times more than the smallest
TILES_PER_RANK = 4


def coupling_groups(coupling, n_weight, segments):
    """Groups of weights with covariances between them, as (order, start): group g holds the weights order[start[g]:start[g+1]].

    coupling   full, element, layer, node (the weights into one node and its bias) or block:N (N consecutive weights)
    segments   (offset, n_in, n_out, element, layer) of each layer of the weight vector: W (n_in, n_out) in C order, then b (n_out,)
    Raises ConfigError for an unknown coupling.
    """
    order = np.arange(n_weight)
    kind, _, size = coupling.partition(":")
    if coupling == "full":
        sizes = [n_weight]
    elif kind == "block" and size.isdecimal() and int(size) > 0:
        sizes = [min(int(size), n_weight - first) for first in range(0, n_weight, int(size))]
    elif coupling == "layer":
        sizes = [(n_in + 1) * n_out for _, n_in, n_out, _, _ in segments]
    elif coupling == "element":
        size_of = {}
        for _, n_in, n_out, element, _ in segments:
            size_of[element] = size_of.get(element, 0) + (n_in + 1) * n_out
        sizes = list(size_of.values())
    elif coupling == "node":
        sizes = [n_in + 1 for _, n_in, n_out, _, _ in segments for _ in range(n_out)]
        layers = [order[offset : offset + (n_in + 1) * n_out].reshape(n_in + 1, n_out).T for offset, n_in, n_out, _, _ in segments]
        order = np.concatenate([layer.ravel() for layer in layers])
    else:
        raise ConfigError(f"ekf.coupling = {coupling}: must be full, element, layer, node or block:N")
    start = np.concatenate([[0], np.cumsum(sizes)])
    assert start[-1] == n_weight, "the segments do not cover the weights"
    return order, start


@dataclass(frozen=True)
class Layout:
    """Who holds which part of P. Tiles are numbered through all groups, row by row; a rank holds consecutive tiles.

    order       (n,) or None   weight of each position inside; None: the same
    group       (n_group+1,)   positions of each group
    B           int            tile size
    block       (n_block+1,)   positions of each block
    tiles       (n_tile, 2)    blocks I >= J of each tile of P
    owner_start (size+1,)      tiles of each rank
    """

    order: np.ndarray | None
    group: np.ndarray
    B: int
    block: np.ndarray
    tiles: np.ndarray
    owner_start: np.ndarray
    rank: int

    @property
    def n(self):
        return int(self.group[-1])

    @property
    def groups(self):
        """(first, last + 1) position of each group."""
        return zip(self.group[:-1], self.group[1:], strict=True)

    @property
    def mine(self):
        """The tiles of this rank."""
        return self.tiles[self.owner_start[self.rank] : self.owner_start[self.rank + 1]]

    def owner(self, tile):
        """Rank that holds a tile."""
        return int(np.searchsorted(self.owner_start, tile, side="right")) - 1

    def extent(self, block):
        """Slice of the positions of a block."""
        return slice(self.block[block], self.block[block + 1])


def make_layout(coupling, n_weight, segments, rank, size):
    """Layout of P over `size` ranks: the largest tiles that pad little and give every rank a few."""
    order, group = coupling_groups(coupling, n_weight, segments)
    blocks = {B: -(-np.diff(group) // B) for B in TILE_SIZES}
    n_tile = {B: int((b * (b + 1) // 2).sum()) for B, b in blocks.items()}
    least = min(n_tile[B] * B * B for B in TILE_SIZES)
    fitting = [B for B in TILE_SIZES if n_tile[B] * B * B <= PADDING * least and n_tile[B] >= TILES_PER_RANK * size]
    B = fitting[0] if fitting else TILE_SIZES[-1]
    block, tiles = [0], []
    for first, last, n_block in zip(group[:-1], group[1:], blocks[B], strict=True):
        base = len(block) - 1
        tiles += [(base + i, base + j) for i in range(n_block) for j in range(i + 1)]
        block += [min(first + (i + 1) * B, last) for i in range(n_block)]
    return Layout(
        order=None if np.array_equal(order, np.arange(n_weight)) else order,
        group=group,
        B=B,
        block=np.array(block, dtype=np.int64),
        tiles=np.array(tiles, dtype=np.int64).reshape(-1, 2),
        owner_start=np.array([k * len(tiles) // size for k in range(size + 1)]),
        rank=rank,
    )


class Covariance:
    """This rank's tiles of one symmetric matrix T (not yet P: the filter adds its low-rank part), and what can be done to them.

    tiles (n_tile, B, B)
    place (n_tile, 2)      the blocks of each tile, counted among those that this rank touches
    extent (n_block, 2)    positions of those blocks
    """

    def __init__(self, layout, diagonal):
        """T = diagonal * identity."""
        self.layout = layout
        self.tiles = aligned_zeros((len(layout.mine), layout.B, layout.B))
        blocks, place = np.unique(layout.mine, return_inverse=True)
        self.place = read_only(place.reshape(-1, 2))
        self.extent = read_only(np.stack([layout.block[blocks], layout.block[blocks + 1]], axis=1))
        self.diagonal_position, self.diagonal_at = diagonal_entries(layout)
        self.part, self.scratch = np.empty((0, layout.n)), aligned_zeros(0)
        self.add_to_diagonal(diagonal)

    def multiply(self, H):
        """This rank's part of H T for rows H (M, n): the sum over the ranks is the product. Valid until the next call."""
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

    def fold(self, U):
        """T -= U^T U with U (r, n), inside the groups."""
        columns = aligned_zeros((len(self.extent), -(-len(U) // 4) * 4, self.layout.B))
        pack_columns(read_only(U), self.extent, columns)
        make_fold(self.layout.B)(self.tiles, self.place, columns)

    def add_to_diagonal(self, d):
        self.tiles.reshape(-1)[self.diagonal_at] += 0.5 * d

    def diagonal(self):
        """(n,) diagonal of T where this rank holds it, 0 elsewhere."""
        diagonal = np.zeros(self.layout.n)
        diagonal[self.diagonal_position] = 2.0 * self.tiles.reshape(-1)[self.diagonal_at]
        return diagonal


def diagonal_entries(layout):
    """Positions whose diagonal element this rank holds, and where it lies in the flat tiles."""
    tile = np.flatnonzero(layout.mine[:, 0] == layout.mine[:, 1])
    block = layout.mine[tile, 0]
    inside = np.arange(layout.B)
    position = layout.block[block][:, None] + inside
    at = (tile[:, None] * layout.B + inside) * layout.B + inside
    held = position < layout.block[block + 1][:, None]
    return position[held], at[held]


def packed_start(group):
    """Where the lower triangle of each group starts in the packed matrix, row by row, group after group (one more: its length)."""
    size = np.diff(group)
    return np.concatenate([[0], np.cumsum(size * (size + 1) // 2)])


def packed_rows(layout, tile):
    """(row of the tile, slice of the packed matrix) for each row of a tile's lower triangle."""
    i, j = layout.tiles[tile]
    rows, columns = layout.extent(i), layout.extent(j)
    g = np.searchsorted(layout.group, rows.start, side="right") - 1
    first = layout.group[g]
    start = packed_start(layout.group)[g]
    for k, row in enumerate(range(rows.start - first, rows.stop - first)):
        width = min(columns.stop - first, row + 1) - (columns.start - first)
        at = start + row * (row + 1) // 2 + columns.start - first
        yield k, slice(at, at + width)


def pack(covariance, comm):
    """The lower triangle of T on rank 0, None elsewhere; tile by tile. Collective."""
    layout = covariance.layout
    packed = np.empty(packed_start(layout.group)[-1]) if comm.rank == 0 else None
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
    return packed


def unpack(covariance, packed, comm):
    """T from the lower triangle on rank 0 (None elsewhere); tile by tile. Collective."""
    layout = covariance.layout
    buffer = np.zeros((layout.B, layout.B))
    for k, (i, j) in enumerate(layout.tiles):
        owner = layout.owner(k)
        if comm.rank not in (0, owner):
            continue
        tile = covariance.tiles[k - layout.owner_start[owner]] if comm.rank == owner else buffer
        if comm.rank == 0:
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
