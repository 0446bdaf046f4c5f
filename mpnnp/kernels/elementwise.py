"""Elementary functions on rows: contiguous stretches of one scratch array, in loops that the compiler turns
into vector instructions.

A row is given by the offset of its first number in S. Three things make LLVM vectorise: all rows lie in ONE
array, indices are unsigned (Numba tests signed ones for being negative), and exp and cos are polynomials (the
C library's are called number by number). The long ones are summed as two, of the even and of the odd powers:
half as many operations wait for each other.
"""

import math

import numpy as np

from mpnnp.kernels.cutoff import TANH_1
from mpnnp.kernels.jit import FASTMATH, kernel

LOG2_E = 1.4426950408889634
# ln 2 = high + low, 32 zero bits at the end of high (W. J. Cody, W. Waite 1980)
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
ROUND = 6755399441055744.0  # 1.5 2^52: adding it rounds to an integer, which is then the low bits of the sum
ONE_BITS = np.int64(0x3FF0000000000000)


@kernel(makes_arrays=True)
def aligned_rows(n):
    """n numbers, of any value, that begin on a cache line."""
    numbers = np.empty(n + 7)
    first = -(np.int64(numbers.ctypes.data) // 8) % 8
    return numbers[first : first + n]


@kernel
def copy(target, source, first):
    """source into target from `first` on. Element by element: for rows that are assigned as a whole Numba
    would compile an error message about their shapes, with all of its strings.
    """
    for i in range(len(source)):
        target[first + i] = source[i]


@kernel(fastmath={"contract", "nsz"}, forceinline=True)
def exp(x):
    """exp(x) to 1.5 units of the last place for x in (-708, 709); beyond, exp of the nearest end.

    x = k ln 2 + f, |f| <= ln 2 / 2, exp(x) = 2^k p(f), p the polynomial of degree 11 through Chebyshev nodes.
    """
    x = -708.0 if x < -708.0 else x
    x = 709.0 if x > 709.0 else x
    shifted = x * LOG2_E + ROUND
    k = shifted - ROUND
    f = x - k * LN2_HIGH
    f = f - k * LN2_LOW
    g = f * f
    p, q = 2.5110049204818658e-08, 2.763265472252779e-07
    p, q = p * g + 2.755724088722987e-06, q * g + 2.4801485441561313e-05
    p, q = p * g + 1.9841269890076403e-04, q * g + 1.3888888952352863e-03
    p, q = p * g + 8.333333333319589e-03, q * g + 4.166666666648795e-02
    p, q = p * g + 1.666666666666668e-01, q * g + 5.000000000000019e-01
    p, q = p * g + 1.0, q * g + 1.0
    p = p * f + q
    two_k = (np.float64(shifted).view(np.int64) << np.int64(52)) + ONE_BITS
    return p * np.int64(two_k).view(np.float64)


@kernel(fastmath=FASTMATH | {"afn"}, forceinline=True)
def rough_inverse_sqrt(x):
    """1/sqrt(x) to single precision, which vector units have as one instruction."""
    return np.float32(1.0) / np.sqrt(np.float32(x))


@kernel(fastmath={"contract", "nsz"}, forceinline=True)
def inverse_sqrt(x):
    """1/sqrt(x) to one unit of the last place for x in (1e-30, 1e30), without sqrt and division of doubles.

    With y the estimate of single precision and e = 1 - x y^2, 1/sqrt(x) = y (1 + e/2 + 3 e^2/8 + ...).
    """
    y = np.float64(rough_inverse_sqrt(x))
    e = 1.0 - x * y * y
    return y + y * e * (0.5 + 0.375 * e)


@kernel(fastmath={"contract", "nsz"}, forceinline=True)
def tanh_unit(x):
    """tanh(x) for 0 <= x <= 1: x p(x^2), p the polynomial of degree 14 through Chebyshev nodes."""
    z = x * x
    g = z * z
    p, q = 1.828625739978947e-07, -1.8226646212654275e-06
    p, q = p * g + 9.125953596264835e-06, q * g - 3.1803378030411946e-05
    p, q = p * g + 9.079348448432776e-05, q * g - 2.3540928172731117e-04
    p, q = p * g + 5.883602826886761e-04, q * g - 1.4552898065417585e-03
    p, q = p * g + 3.5920010315266884e-03, q * g - 8.863215065207559e-03
    p, q = p * g + 2.1869486371314823e-02, q * g - 5.3968253829690074e-02
    p, q = p * g + 0.13333333332866987, q * g - 0.33333333333327114
    return x * (q * z + (p * g + 0.9999999999999999))


@kernel(fastmath={"contract", "nsz"}, forceinline=True)
def log_ratio(s):
    """log((1 + s)/(1 - s)) for 0 <= s <= 1/3, so that log(1 + e) = log_ratio(e/(2 + e)) for 0 <= e <= 1:
    s p(s^2), p the polynomial of degree 10 through Chebyshev nodes.
    """
    z = s * s
    p = 0.17044163562781398
    p = p * z + 0.0832450651186082
    p = p * z + 0.12110168728069218
    p = p * z + 0.13300374032674625
    p = p * z + 0.1538661404230401
    p = p * z + 0.18181740832504806
    p = p * z + 0.22222224080747674
    p = p * z + 0.28571428545454114
    p = p * z + 0.4000000000018575
    p = p * z + 0.6666666666666615
    return s * (p * z + 2.0)


@kernel(fastmath={"contract", "nsz"}, forceinline=True)
def sin_pi(x):
    """sin(pi x) for |x| <= 1/2."""
    z = x * x
    p = 7.697826768224191e-07
    p = p * z - 2.1903497074626018e-05
    p = p * z + 4.662998161898394e-04
    p = p * z - 7.370430505916944e-03
    p = p * z + 8.21458865731029e-02
    p = p * z - 5.992645293189447e-01
    p = p * z + 2.5501640398773007
    p = p * z - 5.167712780049969
    return x * (p * z + 3.141592653589793)


@kernel(fastmath={"contract", "nsz"}, forceinline=True)
def cos_pi(x):
    """cos(pi x) for |x| <= 1/2."""
    z = x * x
    p = 4.149564353942586e-06
    p = p * z - 1.0456655338748738e-04
    p = p * z + 1.9295562524717132e-03
    p = p * z - 2.5806888737002202e-02
    p = p * z + 2.3533063012953284e-01
    p = p * z - 1.335262768843447
    p = p * z + 4.058712126416497
    p = p * z - 4.934802200544676
    return p * z + 1.0


@kernel(fastmath=FASTMATH)
def row_acos(S, angle, sine, cos, n):
    """angle = acos(cos), cos cut to [-1, 1]; sine = 1/sin(angle), 0 at angles of 0 and pi.

    acos(|c|) = pi/2 - asin(|c|), for |c| > 1/2 it is 2 asin(sqrt((1 - |c|)/2)); asin(s) = s p(s^2) for
    s <= 1/2, p the polynomial of degree 12 through Chebyshev nodes.
    """
    for t in range(n):
        c = S[cos + t]
        c = 1.0 if c > 1.0 else c
        c = -1.0 if c < -1.0 else c
        a = abs(c)
        z = 0.5 - 0.5 * a if a > 0.5 else a * a
        s = math.sqrt(z) if a > 0.5 else a
        p = 0.0318775703321705
        p = p * z - 0.01618438297785286
        p = p * z + 0.019511555627873108
        p = p * z + 0.006529992064169159
        p = p * z + 0.012169982951519522
        p = p * z + 0.013884865623252567
        p = p * z + 0.017359777455452582
        p = p * z + 0.022371749868803206
        p = p * z + 0.03038195969237179
        p = p * z + 0.04464285680612565
        p = p * z + 0.07500000000385035
        p = p * z + 0.16666666666664942
        p = s + s * z * p
        p = 2.0 * p if a > 0.5 else 0.5 * math.pi - p
        S[angle + t] = math.pi - p if c < 0.0 else p
        sine2 = (1.0 - a) * (1.0 + a)
        S[sine + t] = 1.0 / math.sqrt(sine2) if sine2 > 1e-20 else 0.0


@kernel(fastmath=FASTMATH)
def row_window(S, f, df, x, factor, n, subtype, left, right):
    """Compact function `subtype` with the ends left, right of the row x (see cutoff.window),
    and its derivative times the row `factor`.
    """
    middle, scale = 0.5 * (left + right), 2.0 / (right - left)
    steep = 1.0 if subtype > 1 and subtype % 2 == 1 else 0.0
    order = subtype // 2
    for t in range(n):
        u = (S[x + t] - middle) * scale
        slope = scale if u > 0.0 else -scale
        u = abs(u)
        u = 1.0 if u > 1.0 else u
        slope *= (1.0 + steep * (1.0 - 2.0 * u)) * S[factor + t]
        u *= 1.0 + steep * (1.0 - u)
        y = 1.0 - u
        y2, uy = y * y, u * y
        if order == 1:
            S[f + t] = y2 * (1.0 + 2.0 * u)
            S[df + t] = -6.0 * uy * slope
        elif order == 2:
            S[f + t] = y * y2 * (1.0 + u * (3.0 + 6.0 * u))
            S[df + t] = -30.0 * uy * uy * slope
        elif order == 3:
            S[f + t] = y2 * y2 * (1.0 + u * (4.0 + u * (10.0 + 20.0 * u)))
            S[df + t] = -140.0 * uy * uy * uy * slope
        elif order == 4:
            S[f + t] = y2 * y2 * y * (1.0 + u * (5.0 + u * (15.0 + u * (35.0 + 70.0 * u))))
            S[df + t] = -630.0 * uy * uy * uy * uy * slope
        else:  # exp(1 - 1/(1 - u^2))
            v = y * (1.0 + u)
            v = 1.0 / (1e-3 if v < 1e-3 else v)
            e = exp(1.0 - v) if v < 1000.0 else 0.0
            S[f + t] = e
            S[df + t] = -2.0 * u * v * v * e * slope


@kernel(fastmath=FASTMATH)
def row_exp(S, out, x, n, factor):
    """out = exp(factor x)."""
    for t in range(n):
        S[out + t] = exp(factor * S[x + t])


@kernel(fastmath=FASTMATH)
def row_power(S, out, x, n, p):
    """out = x^p for an integer p >= 0."""
    if p == 2:
        for t in range(n):
            S[out + t] = S[x + t] * S[x + t]
    elif p == 3:
        for t in range(n):
            S[out + t] = S[x + t] * S[x + t] * S[x + t]
    elif p <= 31:
        one, two, four, eight, sixteen = (p & 1) != 0, (p & 2) != 0, (p & 4) != 0, (p & 8) != 0, p >= 16
        for t in range(n):
            y = S[x + t]
            z = y if one else 1.0
            y *= y
            z *= y if two else 1.0
            y *= y
            z *= y if four else 1.0
            y *= y
            z *= y if eight else 1.0
            z *= y * y if sixteen else 1.0
            S[out + t] = z
    else:  # binary, from the highest bit of p
        bit = 1
        while 2 * bit <= p:
            bit *= 2
        for t in range(n):
            S[out + t] = 1.0
        while bit > 0:
            if p & bit:
                for t in range(n):
                    S[out + t] *= S[out + t] * S[x + t]
            else:
                for t in range(n):
                    S[out + t] *= S[out + t]
            bit >>= 1


@kernel
def row_real_power(S, out, x, n, p):
    """out = x^p for any real p > 0 and x >= 0; slow."""
    for t in range(n):
        S[out + t] = math.pow(S[x + t], p)


@kernel(fastmath=FASTMATH)
def row_product(S, out, x, y, n):
    """out = x y"""
    for t in range(n):
        S[out + t] = S[x + t] * S[y + t]


@kernel(fastmath=FASTMATH)
def row_fill(S, out, n, value):
    for t in range(n):
        S[out + t] = value


@kernel(fastmath=FASTMATH)
def row_cutoff(S, fc, dfc, r, r_inverse, n, kind, alpha, r_c):
    """fc(r) and dfc/dr / r of cutoff function `kind` (see cutoff.py);
    0 for r >= r_c, which may be as large as you like.
    """
    c_inverse = 1.0 / r_c
    inner = alpha * r_c
    w = 1.0 / (r_c - inner)
    if kind == 0:
        for t in range(n):
            S[fc + t] = 1.0 if S[r + t] < r_c else 0.0
            S[dfc + t] = 0.0
    elif kind == 1:
        factor = -0.5 * math.pi * w
        for t in range(n):
            x = (S[r + t] - inner) * w
            x = 0.0 if x < 0.0 else x
            x = 1.0 if S[r + t] >= r_c else x
            S[fc + t] = 0.5 - 0.5 * sin_pi(x - 0.5)
            S[dfc + t] = factor * cos_pi(x - 0.5) * S[r_inverse + t] if x < 1.0 else 0.0
    elif kind == 2 or kind == 3:
        scale = 1.0 if kind == 2 else 1.0 / TANH_1**3
        factor = -3.0 * scale * c_inverse
        for t in range(n):
            y = tanh_unit(1.0 - S[r + t] * c_inverse if S[r + t] < r_c else 0.0)
            y2 = y * y
            S[fc + t] = scale * y * y2
            S[dfc + t] = factor * y2 * (1.0 - y2) * S[r_inverse + t]
    elif kind == 4:
        for t in range(n):
            x = (S[r + t] - inner) * w
            x = 0.0 if x < 0.0 else x
            u = 1.0 - x * x
            u = 1e-3 if u < 1e-3 else u
            u = 1.0 / u
            f = exp(1.0 - u) if u < 1000.0 else 0.0
            S[fc + t] = f
            S[dfc + t] = -2.0 * w * x * u * u * f * S[r_inverse + t]
    else:
        for t in range(n):
            x = (S[r + t] - inner) * w
            x = 0.0 if x < 0.0 else x
            x = 1.0 if x > 1.0 else x
            y = 1.0 - x
            y2, xy = y * y, x * y
            if kind == 5:
                f = y2 * (1.0 + 2.0 * x)
                d = -6.0 * xy
            elif kind == 6:
                f = y * y2 * (1.0 + x * (3.0 + 6.0 * x))
                d = -30.0 * xy * xy
            elif kind == 7:
                f = y2 * y2 * (1.0 + x * (4.0 + x * (10.0 + 20.0 * x)))
                d = -140.0 * xy * xy * xy
            else:
                f = y2 * y2 * y * (1.0 + x * (5.0 + x * (15.0 + x * (35.0 + 70.0 * x))))
                d = -630.0 * xy * xy * xy * xy
            S[fc + t] = f
            S[dfc + t] = d * w * S[r_inverse + t]
