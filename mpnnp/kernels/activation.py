"""Activation functions of n2p2 (codes as in mpnnp.model.network) with first and second derivative."""

import math

from mpnnp.kernels.jit import kernel


@kernel
def activation(code, x):
    """f(x), f'(x), f''(x): identity, tanh, logistic, softplus, relu, gaussian, cos,
    exp(-x), x^2, 1 - logistic.
    """
    if code == 1:
        t = math.tanh(x)
        d = 1.0 - t * t
        return t, d, -2.0 * t * d
    if code == 2 or code == 3 or code == 9:
        e = math.exp(-abs(x))
        f = 1.0 / (1.0 + e) if x >= 0.0 else e / (1.0 + e)
        d = e / ((1.0 + e) * (1.0 + e))
        dd = math.copysign(1.0, -x) * d * (1.0 - e) / (1.0 + e)
        if code == 2:
            return f, d, dd
        if code == 3:
            return max(x, 0.0) + math.log1p(e), f, d
        g = e / (1.0 + e) if x >= 0.0 else 1.0 / (1.0 + e)
        return g, -d, -dd
    if code == 4:
        return (x, 1.0, 0.0) if x > 0.0 else (0.0, 0.0, 0.0)
    if code == 5:
        f = math.exp(-0.5 * x * x)
        return f, -x * f, (x * x - 1.0) * f
    if code == 6:
        f = math.cos(x)
        return f, -math.sin(x), -f
    if code == 7:
        f = math.exp(-x)
        return f, -f, f
    if code == 8:
        return x * x, 2.0 * x, 2.0
    return x, 1.0, 0.0
