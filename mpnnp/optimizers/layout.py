"""Who holds which part of the covariance P: groups of coupled weights,
cut into tiles that are shared out over the ranks.

The weights are ordered so that each group of coupled weights is contiguous; a group is cut into blocks of at
most B weights, and every pair of blocks I >= J of one group is a tile.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mpnnp.errors import ConfigError
from mpnnp.model.network import Segment

TILE_SIZES = (192, 96, 48, 24)
PADDING = 1.2  # a larger tile is taken if it stores at most so many times more than the smallest
TILES_PER_RANK = 4


def coupling_groups(
    coupling: str, n_weight: int, segments: Sequence[Segment]
) -> tuple[np.ndarray, np.ndarray]:
    """Groups of weights with covariances between them, as (order, start):
    group g holds the weights order[start[g]:start[g+1]].

    coupling   full, element, layer, node (the weights into one node and its bias) or block:N (N consecutive
               weights)
    segments   (offset, n_in, n_out, element, layer) of each layer of the weight vector: W (n_in, n_out) in C
               order, then b (n_out,)
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
        size_of: dict[int, int] = {}
        for _, n_in, n_out, element, _ in segments:
            size_of[element] = size_of.get(element, 0) + (n_in + 1) * n_out
        sizes = list(size_of.values())
    elif coupling == "node":
        sizes = [n_in + 1 for _, n_in, n_out, _, _ in segments for _ in range(n_out)]
        layers = [
            order[offset : offset + (n_in + 1) * n_out].reshape(n_in + 1, n_out).T
            for offset, n_in, n_out, _, _ in segments
        ]
        order = np.concatenate([layer.ravel() for layer in layers])
    else:
        raise ConfigError(f"ekf.coupling = {coupling}: must be full, element, layer, node or block:N")
    start = np.concatenate([[0], np.cumsum(sizes)])
    assert start[-1] == n_weight, "the segments do not cover the weights"
    return order, start


@dataclass(frozen=True)
class Layout:
    """Who holds which part of P. Tiles are numbered through all groups, row by row;
    a rank holds consecutive tiles.

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
    def n(self) -> int:
        return int(self.group[-1])

    @property
    def groups(self) -> Iterator[tuple[int, int]]:
        """(first, last + 1) position of each group."""
        return zip(self.group[:-1], self.group[1:], strict=True)

    @property
    def mine(self) -> np.ndarray:
        """The tiles of this rank."""
        return self.tiles[self.owner_start[self.rank] : self.owner_start[self.rank + 1]]

    def owner(self, tile: int) -> int:
        """Rank that holds a tile."""
        return int(np.searchsorted(self.owner_start, tile, side="right")) - 1

    def extent(self, block: int) -> slice:
        """Slice of the positions of a block."""
        return slice(self.block[block], self.block[block + 1])


def make_layout(coupling: str, n_weight: int, segments: Sequence[Segment], rank: int, size: int) -> Layout:
    """Layout of P over `size` ranks: the largest tiles that pad little and give every rank a few."""
    order, group = coupling_groups(coupling, n_weight, segments)
    blocks = {B: -(-np.diff(group) // B) for B in TILE_SIZES}
    n_tile = {B: int((b * (b + 1) // 2).sum()) for B, b in blocks.items()}
    least = min(n_tile[B] * B * B for B in TILE_SIZES)
    fitting = [
        B for B in TILE_SIZES if n_tile[B] * B * B <= PADDING * least and n_tile[B] >= TILES_PER_RANK * size
    ]
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


def diagonal_entries(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Positions whose diagonal element this rank holds, and where it lies in the flat tiles."""
    tile = np.flatnonzero(layout.mine[:, 0] == layout.mine[:, 1])
    block = layout.mine[tile, 0]
    inside = np.arange(layout.B)
    position = layout.block[block][:, None] + inside
    at = (tile[:, None] * layout.B + inside) * layout.B + inside
    held = position < layout.block[block + 1][:, None]
    return position[held], at[held]


def packed_start(group: np.ndarray) -> np.ndarray:
    """Where the lower triangle of each group starts in the packed matrix, row by row,
    group after group (one more: its length).
    """
    size = np.diff(group)
    return np.concatenate([[0], np.cumsum(size * (size + 1) // 2)])


def packed_rows(layout: Layout, tile: int) -> Iterator[tuple[int, slice]]:
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
