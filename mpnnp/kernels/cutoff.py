"""Cutoff functions fc(r) of n2p2's types 0 to 8, and their derivatives."""

import math

from mpnnp.kernels.jit import kernel

TANH_1 = math.tanh(1.0)


@kernel
def cutoff(kind, alpha, r_c, r):
    """fc(r) and dfc/dr (1/Angstrom); 0 for r >= r_c.

    With x = (r - alpha r_c)/(r_c - alpha r_c), fc = 1 for x <= 0:
    0 hard: 1; 1 cosine: (cos(pi x) + 1)/2; 4: exp(1 - 1/(1 - x^2)); 5 to 8: polynomials with 1 to 4
    continuous derivatives (with y = 1 - x: y^2 (1 + 2x), y^3 (1 + 3x + 6x^2), ...: n2p2's 1 + x^2 (2x - 3),
    ... without their cancellation). Without inner radius: 2: tanh^3(1 - r/r_c); 3: the same divided by
    tanh^3(1).
    """
    if not r < r_c:
        return 0.0, 0.0
    if kind == 0:
        return 1.0, 0.0
    if kind == 2 or kind == 3:
        t = math.tanh(1.0 - r / r_c)
        scale = 1.0 if kind == 2 else 1.0 / TANH_1**3
        return scale * t * t * t, -3.0 * scale * t * t * (1.0 - t * t) / r_c
    width = r_c - alpha * r_c
    x = (r - alpha * r_c) / width
    if not x > 0.0:
        return 1.0, 0.0
    if kind == 1:
        return 0.5 * (math.cos(math.pi * x) + 1.0), -0.5 * math.pi * math.sin(math.pi * x) / width
    y = 1.0 - x
    if kind == 4:
        u = y * (1.0 + x)  # 1 - x^2
        if u < 1e-3:  # exp(-1000) is 0
            return 0.0, 0.0
        fc = math.exp(1.0 - 1.0 / u)
        return fc, -2.0 * x * fc / (u * u * width)
    if kind == 5:
        return y * y * (1.0 + 2.0 * x), -6.0 * x * y / width
    if kind == 6:
        return y**3 * (1.0 + x * (3.0 + 6.0 * x)), -30.0 * x**2 * y**2 / width
    if kind == 7:
        return y**4 * (1.0 + x * (4.0 + x * (10.0 + 20.0 * x))), -140.0 * x**3 * y**3 / width
    return y**5 * (1.0 + x * (5.0 + x * (15.0 + x * (35.0 + 70.0 * x)))), -630.0 * x**4 * y**4 / width


@kernel
def core(subtype, x):
    """Core function of the compact kinds and its derivative by x, for x in [0, 1): 1 at 0, 0 at 1.

    subtype (index into mpnnp.model.symmetry_functions.SUBTYPES): 1 exp(1 - 1/(1 - x^2)); 2 k and 2 k + 1: the
    polynomial of cutoff function 4 + k at x; odd ones above 1 at x (2 - x), which makes them steeper near 0.
    Bircher et al., MLST 2, 035026 (2021).
    """
    if subtype == 1:
        return cutoff(4, 0.0, 1.0, x)
    if subtype % 2 == 0:
        return cutoff(4 + subtype // 2, 0.0, 1.0, x)
    f, df = cutoff(4 + subtype // 2, 0.0, 1.0, x * (2.0 - x))
    return f, df * (2.0 - 2.0 * x)


@kernel
def window(subtype, left, right, a):
    """Compact function and its derivative by a: the core function of the distance from the middle, 0 outside
    of left < a < right.
    """
    if a <= left or a >= right:
        return 0.0, 0.0
    scale = 2.0 / (right - left)
    x = (a - 0.5 * (left + right)) * scale
    f, df = core(subtype, abs(x))
    return f, (scale if x > 0.0 else -scale) * df
