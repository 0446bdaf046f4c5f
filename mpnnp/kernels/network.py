"""Nets of one element on a stack of atoms: values, tangents, and the reverse passes to inputs
and weights, as matrix products.

Rows of a stack are atoms. With tangents a stack has twice the rows: values y on top, d/de y(g + e v) below,
so that one product serves both:
    Z = Y W + b,  dZ = dY W,  Y' = f(Z),  dY' = f'(Z) dZ.
Backwards, with adjoints Ybar, dYbar of a layer's output:
    dZbar = f' dYbar,  Zbar = f' Ybar + f'' dZ dYbar,  Wbar = Y^T Zbar + dY^T dZbar,  bbar = sum Zbar,  and
    the layer before gets [Zbar; dZbar] W^T.
"""

from typing import NamedTuple

import numpy as np

from mpnnp.kernels.activation import activation
from mpnnp.kernels.elementwise import exp, log_ratio
from mpnnp.kernels.jit import FASTMATH, kernel


class Workspace(NamedTuple):
    """Scratch of one element at a time; layer l of a stack starts where layer() says."""

    Y: np.ndarray  # outputs of the layers, layer 0 are the inputs
    S: np.ndarray  # f'
    T: np.ndarray  # f'' dZ
    B: np.ndarray  # adjoints
    W: np.ndarray  # one matrix, transposed


@kernel(makes_arrays=True)
def make_workspace(topology, n_row):
    """Workspace for stacks of up to n_row rows (tangents counted)."""
    width = largest = 0
    for e in range(topology.n_layer.shape[0]):
        width = max(width, np.sum(topology.size[e]))
        for l in range(topology.n_layer[e]):
            largest = max(largest, topology.size[e, l] * topology.size[e, l + 1])
    n = n_row * width
    return Workspace(np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(largest))


@kernel(inline="always")
def layer(stack, n_row, topology, e, l):
    """View (n_row, nodes) of layer l in a stack of element e."""
    start, n = 0, topology.size[e, l]
    for k in range(l):
        start += n_row * topology.size[e, k]
    return stack[start : start + n_row * n].reshape((n_row, n))


@kernel(inline="always")
def matrix(w, topology, e, l):
    """View (n_in, n_out) of W of layer l (0: from the inputs) in the flat weights w."""
    start = topology.start[e]
    for k in range(l):
        start += (topology.size[e, k] + 1) * topology.size[e, k + 1]
    n_in, n_out = topology.size[e, l], topology.size[e, l + 1]
    return w[start : start + n_in * n_out].reshape((n_in, n_out))


@kernel(inline="always")
def bias(w, topology, e, l):
    """View (n_out,) of b of layer l."""
    start = topology.start[e]
    for k in range(l):
        start += (topology.size[e, k] + 1) * topology.size[e, k + 1]
    n_in, n_out = topology.size[e, l], topology.size[e, l + 1]
    return w[start + n_in * n_out : start + (n_in + 1) * n_out]


@kernel
def forward(e, n, tangent, topology, w, work):
    """Fill layers 1.. of work.Y from layer 0: n rows of values and, if tangent, n rows of tangents below."""
    total = 2 * n if tangent else n
    for l in range(topology.n_layer[e]):
        Y = layer(work.Y, total, topology, e, l + 1)
        multiply(layer(work.Y, total, topology, e, l), matrix(w, topology, e, l), Y)
        add_bias(Y, np.uintp(n), bias(w, topology, e, l))
        size = np.uintp(n * topology.size[e, l + 1])
        S, T = (
            layer(work.S, n, topology, e, l + 1).reshape(-1),
            layer(work.T, n, topology, e, l + 1).reshape(-1),
        )
        activate(topology.activation[e, l], size, Y.reshape(-1), S, T)
        if tangent:
            activate_tangents(size, Y.reshape(-1), S, T)


@kernel(forceinline=True)
def multiply(Y, W, out):
    """out = Y W; of one row by a loop, which a call of BLAS would take longer than."""
    if out.shape[0] == 1:
        multiply_row(Y[0], W, out[0])
    else:
        dot(Y, W, out)


@kernel(forceinline=True)
def multiply_transposed(B, W, scratch, out):
    """out = B W^T, of a copy of W^T in scratch: BLAS takes twice as long where it sums along rows of both."""
    if out.shape[0] == 1:
        multiply_row_transposed(B[0], W, out[0])
    else:
        n_in, n_out = W.shape
        transposed = scratch[: n_in * n_out].reshape((n_out, n_in))
        transpose(W, transposed)
        dot(B, transposed, out)


@kernel(apart=True)
def transpose(W, out):
    """out = W^T."""
    for k in range(np.uintp(out.shape[0])):
        for m in range(np.uintp(out.shape[1])):
            out[k, m] = W[m, k]


@kernel(makes_arrays=True)
def dot(A, B, out):
    """out = A B by BLAS; NumPy's function returns `out`, too."""
    np.dot(A, B, out)


@kernel(fastmath=FASTMATH, apart=True)
def multiply_row(y, W, out):
    n = np.uintp(out.shape[0])
    for k in range(n):
        out[k] = 0.0
    for m in range(np.uintp(y.shape[0])):
        for k in range(n):
            out[k] += y[m] * W[m, k]


@kernel(fastmath=FASTMATH, apart=True)
def multiply_row_transposed(b, W, out):
    n = np.uintp(b.shape[0])
    for m in range(np.uintp(out.shape[0])):
        total = 0.0
        for k in range(n):
            total += b[k] * W[m, k]
        out[m] = total


@kernel
def add_bias(Y, n, b):
    for r in range(n):
        for k in range(np.uintp(b.shape[0])):
            Y[r, k] += b[k]


@kernel(fastmath=FASTMATH, apart=True)
def activate(code, n, Y, S, T):
    """The first n numbers of Y: z -> f(z); S = f', T = f''.

    Loops of two steps, as in a long one too few turns run at once.
    """
    if code == 1:
        for t in range(n):
            S[t] = exp(2.0 * Y[t])
        for t in range(n):
            y = 1.0 - 2.0 / (S[t] + 1.0)
            d = 1.0 - y * y
            Y[t] = y
            S[t] = d
            T[t] = -2.0 * y * d
    elif code == 2:
        for t in range(n):
            y = 1.0 / (exp(-Y[t]) + 1.0)
            d = y * (1.0 - y)
            Y[t] = y
            S[t] = d
            T[t] = (1.0 - 2.0 * y) * d
    elif code == 3:
        for t in range(n):
            S[t] = exp(-abs(Y[t]))
        for t in range(n):
            z, e = Y[t], S[t]
            both = 1.0 / ((1.0 + e) * (2.0 + e))
            f = both * (2.0 + e)  # 1/(1 + e)
            Y[t] = (z if z > 0.0 else 0.0) + log_ratio(both * (1.0 + e) * e)
            S[t] = f if z >= 0.0 else e * f
            T[t] = e * f * f
    elif code == 5:
        for t in range(n):
            z = Y[t]
            y = exp(-0.5 * z * z)
            Y[t] = y
            S[t] = -z * y
            T[t] = (z * z - 1.0) * y
    elif code == 0:
        for t in range(n):
            S[t] = 1.0
            T[t] = 0.0
    else:
        each_activation(code, n, Y, S, T)


@kernel
def each_activation(code, n, Y, S, T):
    """The rarer functions, number by number."""
    for t in range(n):
        Y[t], S[t], T[t] = activation(code, Y[t])


@kernel(fastmath=FASTMATH, apart=True)
def activate_tangents(n, Y, S, T):
    """The n numbers of Y behind the first n: dZ -> f' dZ; T = f'' dZ."""
    for t in range(n):
        dz = Y[n + t]
        T[t] *= dz
        Y[n + t] = S[t] * dz


@kernel
def backward(e, n, tangent, topology, w, work, to_inputs, to_weights, row):
    """Reverse pass from the adjoints in the last layer of work.B.

    to_inputs   layer 0 of work.B receives the adjoints of the inputs
    to_weights  the part of element e in row (n_weight,) is overwritten with the gradient by its weights
    """
    total = 2 * n if tangent else n
    for l in range(topology.n_layer[e] - 1, -1, -1):
        B = layer(work.B, total, topology, e, l + 1)
        S, T = (
            layer(work.S, n, topology, e, l + 1).reshape(-1),
            layer(work.T, n, topology, e, l + 1).reshape(-1),
        )
        through_activation(np.uintp(n * topology.size[e, l + 1]), tangent, B.reshape(-1), S, T)
        if to_weights:
            dot(layer(work.Y, total, topology, e, l).T, B, matrix(row, topology, e, l))
            sum_rows(np.uintp(n), B, bias(row, topology, e, l))
        if l > 0 or to_inputs:
            multiply_transposed(B, matrix(w, topology, e, l), work.W, layer(work.B, total, topology, e, l))


@kernel(fastmath=FASTMATH, apart=True)
def through_activation(n, tangent, B, S, T):
    """Adjoints of outputs -> adjoints of Z (the first n numbers of B) and dZ (the n behind)."""
    if tangent:
        for t in range(n):
            b, db = B[t], B[n + t]
            B[t] = b * S[t] + T[t] * db
            B[n + t] = db * S[t]
    else:
        for t in range(n):
            B[t] *= S[t]


@kernel(fastmath=FASTMATH, apart=True)
def sum_rows(n, B, out):
    """out = sum of the first n rows of B, four at a time: each sum waits for the one before."""
    n_out, fours = np.uintp(out.shape[0]), n - n % np.uintp(4)
    for k in range(n_out):
        out[k] = 0.0
    for r in range(np.uintp(0), fours, np.uintp(4)):
        for k in range(n_out):
            out[k] += (B[r, k] + B[r + 1, k]) + (B[r + 2, k] + B[r + 3, k])
    for r in range(fours, n):
        for k in range(n_out):
            out[k] += B[r, k]


@kernel
def energy_row(e, n, topology, w, work, row):
    """Sum of the nets of n atoms, whose scaled functions are layer 0 of work.Y; the element's part of row:
    its gradient by the weights.
    """
    forward(e, n, False, topology, w, work)
    last = topology.n_layer[e]
    layer(work.B, n, topology, e, last)[:] = 1.0
    backward(e, n, False, topology, w, work, False, True, row)
    return np.sum(layer(work.Y, n, topology, e, last))


@kernel
def tangent_row(e, n, sign, topology, w, work, row):
    """sign sum_j d/de N(g_j + e v_j) of n atoms, layer 0 of work.Y = [g; v]; the element's part of row:
    its gradient by the weights.
    """
    forward(e, n, True, topology, w, work)
    last = topology.n_layer[e]
    B = layer(work.B, 2 * n, topology, e, last)
    B[:n] = 0.0
    B[n:] = sign
    backward(e, n, True, topology, w, work, False, True, row)
    return sign * np.sum(layer(work.Y, 2 * n, topology, e, last)[n:])


@kernel
def energy_value(e, n, topology, w, work):
    """Sum of the nets of n atoms."""
    forward(e, n, False, topology, w, work)
    return np.sum(layer(work.Y, n, topology, e, topology.n_layer[e]))


@kernel
def tangent_value(e, n, sign, topology, w, work):
    """sign sum_j d/de N(g_j + e v_j) of n atoms."""
    forward(e, n, True, topology, w, work)
    return sign * np.sum(layer(work.Y, 2 * n, topology, e, topology.n_layer[e])[n:])
