"""The loops over the tiles of the covariance: X = H P and P -= U^T U.

The tile size B is a constant of the compiled code, and what belongs to one block of weights lies together in
scratch: every offset is then known to the compiler, which can prove that the stores do not touch the loads,
and keeps 4 rows x 2 observations in registers. Tiles and scratch start at multiples of 64 bytes
(`aligned_zeros`): otherwise every second load straddles two cache lines, a third of the speed.

A tile is worked on four rows at a time, with all observations or columns, before the next four, and each time
some of the rows that come two turns later are asked for: memory delivers while the CPU computes. What a CPU
asks for by itself comes in bursts between which memory rests, and the first of the passes waits for it.
"""

from functools import cache

import numpy as np

from mpnnp.kernels.elementwise import copy
from mpnnp.kernels.jit import FASTMATH, kernel
from mpnnp.kernels.prefetch import prefetch

CACHE_LINE = 64
NUMBERS = np.uintp(CACHE_LINE // 8)  # of a cache line
AHEAD = np.uintp(2)  # turns between asking for rows of a tile and working on them


def aligned_zeros(shape):
    """Zeros (float64) that start at a multiple of a cache line."""
    size = int(np.prod(shape))
    raw = np.zeros(size + CACHE_LINE // 8)
    first = -raw.ctypes.data % CACHE_LINE // 8
    return raw[first : first + size].reshape(shape)


@kernel
def pack_rows(rows, extent, scratch):
    """Rows (M, n) into scratch: h of row m is column m % C of set m // C;
    every x, and what pads h, becomes 0.

    extent  (n_block, 2)             first and last + 1 position of each block, ascending
    scratch (n_block, n_set, 2, C, B) h and x of each block and set of C rows, n_set C >= M
    """
    n_block, n_set, _, C, B = scratch.shape
    for k in range(n_block):
        first, last = extent[k]
        for m in range(n_set * C):
            h = scratch[k, m // C, 0, m % C]
            width = 0
            if m < len(rows):
                width = last - first
                copy(h, rows[m, first:last], 0)
            h[width:] = 0.0
            scratch[k, m // C, 1, m % C] = 0.0


@kernel
def pack_columns(U, extent, columns):
    """Rows U (r, n) into columns (n_block, >= r, B), by blocks; what pads them becomes 0."""
    for k in range(len(extent)):
        first, last = extent[k]
        for c in range(len(U)):
            copy(columns[k, c], U[c, first:last], 0)
            columns[k, c, last - first :] = 0.0
        columns[k, len(U) :] = 0.0


@kernel
def unpack_rows(scratch, extent, rows):
    """The x of scratch into rows (M, n); 0 where there is no block."""
    C = scratch.shape[3]
    for m in range(len(rows)):
        done = 0
        for k in range(len(extent)):
            first, last = extent[k]
            rows[m, done:first] = 0.0
            copy(rows[m], scratch[k, m // C, 1, m % C, : last - first], first)
            done = last
        rows[m, done:] = 0.0


@kernel(forceinline=True)
def ask_for_rows(T, row, b, part, n_part):
    """Part number `part` of the four rows that are worked on AHEAD turns after those that begin at T[row]."""
    one, four, last = np.uintp(1), np.uintp(4), np.uintp(T.shape[0] - 1)
    n_line = (four * b // NUMBERS + n_part - one) // n_part
    at = row + AHEAD * four * b + part * n_line * NUMBERS
    for _ in range(n_line):
        prefetch(T, min(at, last))
        at += NUMBERS


def make_product(B, C):
    """The product with C = 1 or 2 rows at a time, compiled for tiles of B x B (B a multiple of 4)."""
    return (_make_product_1, _make_product_2)[C - 1](B)


@cache
def _make_product_2(B):
    @kernel(fastmath=FASTMATH)
    def product_2(tiles, place, scratch):
        """x_I += T h_J and x_J += T^T h_I of every tile T_IJ, each tile read once.

        tiles   (n_tile, B, B)       P_IJ of block row I and block column J; P_II / 2 on the diagonal
        place   (n_tile, 2)          I and J of each tile: rows of scratch
        scratch (n_block, n_pair, 2, 2, B) h_0, h_1, x_0, x_1 of each block and pair of rows
        """
        T = tiles.reshape(-1)
        s = scratch.reshape(-1)
        b = np.uintp(B)
        one, two, three, four = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
        n_pair = np.uintp(scratch.shape[1])
        for k in range(tiles.shape[0]):
            block_i = np.uintp(place[k, 0]) * n_pair * four * b
            block_j = np.uintp(place[k, 1]) * n_pair * four * b
            for i in range(np.uintp(0), b, four):
                row = (np.uintp(k) * b + i) * b
                for pair in range(n_pair):
                    ask_for_rows(T, row, b, np.uintp(pair), n_pair)
                    at_i = block_i + np.uintp(pair) * four * b
                    at_j = block_j + np.uintp(pair) * four * b
                    v = at_i + i
                    h00, h10, h20, h30 = s[v], s[v + one], s[v + two], s[v + three]
                    h01, h11, h21, h31 = s[v + b], s[v + b + one], s[v + b + two], s[v + b + three]
                    x00 = x10 = x20 = x30 = x01 = x11 = x21 = x31 = 0.0
                    for j in range(b):
                        t0, t1, t2, t3 = (
                            T[row + j],
                            T[row + b + j],
                            T[row + two * b + j],
                            T[row + three * b + j],
                        )
                        g0, g1 = s[at_j + j], s[at_j + b + j]
                        x00 += t0 * g0
                        x10 += t1 * g0
                        x20 += t2 * g0
                        x30 += t3 * g0
                        x01 += t0 * g1
                        x11 += t1 * g1
                        x21 += t2 * g1
                        x31 += t3 * g1
                        s[at_j + two * b + j] += t0 * h00 + t1 * h10 + t2 * h20 + t3 * h30
                        s[at_j + three * b + j] += t0 * h01 + t1 * h11 + t2 * h21 + t3 * h31
                    x = v + two * b
                    s[x] += x00
                    s[x + one] += x10
                    s[x + two] += x20
                    s[x + three] += x30
                    x += b
                    s[x] += x01
                    s[x + one] += x11
                    s[x + two] += x21
                    s[x + three] += x31

    return product_2


@cache
def _make_product_1(B):
    @kernel(fastmath=FASTMATH)
    def product_1(tiles, place, scratch):
        """The same for a single row: scratch (n_block, 1, 2, 1, B)."""
        T = tiles.reshape(-1)
        s = scratch.reshape(-1)
        b = np.uintp(B)
        one, two, three, four = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
        for k in range(tiles.shape[0]):
            at_i = np.uintp(place[k, 0]) * two * b
            at_j = np.uintp(place[k, 1]) * two * b
            for i in range(np.uintp(0), b, four):
                row = (np.uintp(k) * b + i) * b
                ask_for_rows(T, row, b, np.uintp(0), one)
                v = at_i + i
                h0, h1, h2, h3 = s[v], s[v + one], s[v + two], s[v + three]
                x0 = x1 = x2 = x3 = 0.0
                for j in range(b):
                    t0, t1, t2, t3 = T[row + j], T[row + b + j], T[row + two * b + j], T[row + three * b + j]
                    g = s[at_j + j]
                    x0 += t0 * g
                    x1 += t1 * g
                    x2 += t2 * g
                    x3 += t3 * g
                    s[at_j + b + j] += t0 * h0 + t1 * h1 + t2 * h2 + t3 * h3
                x = v + b
                s[x] += x0
                s[x + one] += x1
                s[x + two] += x2
                s[x + three] += x3

    return product_1


@cache
def make_fold(B):
    """The rank-r update, compiled for tiles of B x B (B a multiple of 4)."""

    @kernel(fastmath={"contract"})
    def fold(tiles, place, columns):
        """T_IJ -= U_I^T U_J of every tile, half of that on the diagonal, where the tile is P_II / 2.

        Diagonal tiles stay exactly symmetric, since (i, j) and (j, i) are summed in one order.

        tiles, place               as of the product; tiles are updated
        columns (n_block, r, B)    rows of U, by blocks; r is a multiple of 4
        """
        T = tiles.reshape(-1)
        U = columns.reshape(-1)
        b = np.uintp(B)
        one, two, three, four = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
        r = np.uintp(columns.shape[1])
        for k in range(tiles.shape[0]):
            half = 0.5 if place[k, 0] == place[k, 1] else 1.0
            for i in range(np.uintp(0), b, four):
                row = (np.uintp(k) * b + i) * b
                for c in range(np.uintp(0), r, four):
                    ask_for_rows(T, row, b, c // four, r // four)
                    at_j = (np.uintp(place[k, 1]) * r + c) * b
                    v = (np.uintp(place[k, 0]) * r + c) * b + i
                    a00, a01, a02, a03 = (
                        half * U[v],
                        half * U[v + one],
                        half * U[v + two],
                        half * U[v + three],
                    )
                    v += b
                    a10, a11, a12, a13 = (
                        half * U[v],
                        half * U[v + one],
                        half * U[v + two],
                        half * U[v + three],
                    )
                    v += b
                    a20, a21, a22, a23 = (
                        half * U[v],
                        half * U[v + one],
                        half * U[v + two],
                        half * U[v + three],
                    )
                    v += b
                    a30, a31, a32, a33 = (
                        half * U[v],
                        half * U[v + one],
                        half * U[v + two],
                        half * U[v + three],
                    )
                    for j in range(b):
                        u0, u1, u2, u3 = (
                            U[at_j + j],
                            U[at_j + b + j],
                            U[at_j + two * b + j],
                            U[at_j + three * b + j],
                        )
                        T[row + j] = T[row + j] - a00 * u0 - a10 * u1 - a20 * u2 - a30 * u3
                        T[row + b + j] = T[row + b + j] - a01 * u0 - a11 * u1 - a21 * u2 - a31 * u3
                        T[row + two * b + j] = (
                            T[row + two * b + j] - a02 * u0 - a12 * u1 - a22 * u2 - a32 * u3
                        )
                        T[row + three * b + j] = (
                            T[row + three * b + j] - a03 * u0 - a13 * u1 - a23 * u2 - a33 * u3
                        )

    return fold
