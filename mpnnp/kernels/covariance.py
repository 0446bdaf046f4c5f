"""The three loops over the tiles of the covariance: X = P H, P -= U^T U, and the copies into and out of their scratch.

The tile size B is a constant of the compiled code: every offset inside a tile and inside one block of the scratch is then known to the
compiler, which can prove that the stores do not touch the loads and keep 4 rows x 2 observations in registers.
"""

from functools import lru_cache

import numpy as np

try:
    from mpnnp.kernels.jit import kernel
except ImportError:
    from numba import njit

    def kernel(**options):
        return njit(cache=True, error_model="numpy", **options)


FASTMATH = {"contract", "nsz", "arcp", "reassoc"}


@lru_cache(maxsize=None)
def make_product(B):
    """The compiled product of all tiles of a rank with a batch of vectors, for tiles of B x B (B a multiple of 4)."""

    @kernel(fastmath=FASTMATH)
    def product(tiles, place, scratch):
        """X_I += T H_J and X_J += T^T H_I of every tile T = (I, J), each tile read once.

        tiles   (n_tile, B, B)              the tile of block row I and block column J; P_II / 2 on the diagonal
        place   (n_tile, 2)                 I and J: rows of scratch
        scratch (n_block, n_pair, 4, B)     h_0, h_1, x_0, x_1 of each block and each pair of observations; x is accumulated
        """
        T = tiles.reshape(-1)
        s = scratch.reshape(-1)
        n_pair = np.uintp(scratch.shape[1])
        one, two, three, four = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
        b = np.uintp(B)
        for k in range(tiles.shape[0]):
            tile = np.uintp(k) * b * b
            block_i = np.uintp(place[k, 0]) * n_pair * four * b
            block_j = np.uintp(place[k, 1]) * n_pair * four * b
            for pair in range(n_pair):
                p = np.uintp(pair) * four * b
                u = block_j + p
                for i in range(np.uintp(0), b, four):
                    v = block_i + p + i
                    h00, h10, h20, h30 = s[v], s[v + one], s[v + two], s[v + three]
                    h01, h11, h21, h31 = s[v + b], s[v + b + one], s[v + b + two], s[v + b + three]
                    x00 = x10 = x20 = x30 = x01 = x11 = x21 = x31 = 0.0
                    row = tile + i * b
                    for j in range(b):
                        t0, t1, t2, t3 = T[row + j], T[row + b + j], T[row + two * b + j], T[row + three * b + j]
                        g0, g1 = s[u + j], s[u + b + j]
                        x00 += t0 * g0
                        x10 += t1 * g0
                        x20 += t2 * g0
                        x30 += t3 * g0
                        x01 += t0 * g1
                        x11 += t1 * g1
                        x21 += t2 * g1
                        x31 += t3 * g1
                        s[u + two * b + j] += t0 * h00 + t1 * h10 + t2 * h20 + t3 * h30
                        s[u + three * b + j] += t0 * h01 + t1 * h11 + t2 * h21 + t3 * h31
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

    return product


@lru_cache(maxsize=None)
def make_fold(B):
    """The compiled rank-r update of all tiles of a rank, for tiles of B x B (B a multiple of 4)."""

    @kernel(fastmath={"contract"})
    def fold(tiles, place, columns):
        """T_IJ -= U_I^T U_J of every tile; half of it on the diagonal, where the tile is P_II / 2.

        tiles   (n_tile, B, B)        updated; diagonal tiles stay exactly symmetric: the order of the sum is the same for (i, j) and (j, i)
        place   (n_tile, 2)           I and J
        columns (n_block, r, B)       U of each block, r a multiple of 4
        """
        T = tiles.reshape(-1)
        U = columns.reshape(-1)
        r = np.uintp(columns.shape[1])
        one, two, three, four = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
        b = np.uintp(B)
        for k in range(tiles.shape[0]):
            half = 0.5 if place[k, 0] == place[k, 1] else 1.0
            for c in range(np.uintp(0), r, four):
                left = (np.uintp(place[k, 0]) * r + c) * b
                right = (np.uintp(place[k, 1]) * r + c) * b
                for i in range(np.uintp(0), b, four):
                    v = left + i
                    a00, a01, a02, a03 = half * U[v], half * U[v + one], half * U[v + two], half * U[v + three]
                    v += b
                    a10, a11, a12, a13 = half * U[v], half * U[v + one], half * U[v + two], half * U[v + three]
                    v += b
                    a20, a21, a22, a23 = half * U[v], half * U[v + one], half * U[v + two], half * U[v + three]
                    v += b
                    a30, a31, a32, a33 = half * U[v], half * U[v + one], half * U[v + two], half * U[v + three]
                    row = np.uintp(k) * b * b + i * b
                    for j in range(b):
                        u0, u1, u2, u3 = U[right + j], U[right + b + j], U[right + two * b + j], U[right + three * b + j]
                        T[row + j] = T[row + j] - a00 * u0 - a10 * u1 - a20 * u2 - a30 * u3
                        T[row + b + j] = T[row + b + j] - a01 * u0 - a11 * u1 - a21 * u2 - a31 * u3
                        T[row + two * b + j] = T[row + two * b + j] - a02 * u0 - a12 * u1 - a22 * u2 - a32 * u3
                        T[row + three * b + j] = T[row + three * b + j] - a03 * u0 - a13 * u1 - a23 * u2 - a33 * u3

    return fold
