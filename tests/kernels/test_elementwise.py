import math

import numpy as np
import pytest

from mpnnp.kernels import elementwise as vector
from mpnnp.kernels.activation import activation
from mpnnp.kernels.cutoff import cutoff
from mpnnp.kernels.network import activate
from mpnnp.model.network import ACTIVATIONS

N = 100


def row(k):
    return np.uintp(k * N)


def test_exp_is_exact_to_two_units_of_the_last_place():
    x = np.concatenate([np.linspace(-707, 708, 70), np.linspace(-1, 1, 30)])
    S = np.concatenate([x, np.zeros(N)])
    vector.row_exp(S, row(1), row(0), np.uintp(N), 1.0)
    assert np.abs(S[N:] / np.exp(x) - 1).max() < 5e-16


def test_exp_beyond_its_range_is_finite():
    S = np.array([-1e300, -np.inf, -745.0, 1e4, 0, 0, 0, 0])
    vector.row_exp(S, np.uintp(4), np.uintp(0), np.uintp(4), 1.0)
    assert (S[4:7] < 1e-300).all() and 1e300 < S[7] < np.inf


def test_inverse_square_root_is_exact_to_one_unit_of_the_last_place():
    x = np.concatenate([np.geomspace(1e-30, 1e30, 200), np.linspace(0.25, 200, 200)])
    y = np.array([vector.inverse_sqrt(v) for v in x])
    assert np.abs(y * np.sqrt(x) - 1).max() < 5e-16


def test_tanh_and_logarithm_of_their_short_ranges():
    x = np.concatenate([np.linspace(1e-3, 1, 200), [1e-300, 1e-10]])
    assert np.abs(np.array([vector.tanh_unit(v) for v in x]) / np.tanh(x) - 1).max() < 1e-15
    e = np.concatenate([np.linspace(1e-3, 1, 200), [1e-300, 1e-10]])
    assert np.abs(np.array([vector.log_ratio(v / (2 + v)) for v in e]) / np.log1p(e) - 1).max() < 2e-15


def test_aligned_rows_begin_on_a_cache_line():
    for n in (1, 5, 64, 1000):
        rows = [vector.aligned_rows(n) for _ in range(4)]
        assert all(len(r) == n and r.ctypes.data % 64 == 0 for r in rows)


@pytest.mark.parametrize("power", [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 64])
def test_powers(power):
    S = np.concatenate([np.linspace(0, 1.9, N), np.zeros(N)])
    vector.row_power(S, row(1), row(0), np.uintp(N), power)
    assert S[N:] == pytest.approx(S[:N] ** power, rel=1e-13, abs=0)


@pytest.mark.parametrize("alpha", [0.0, 0.35])
@pytest.mark.parametrize("kind", range(9))
def test_cutoff_functions(kind, alpha):
    r_c = 6.0
    r = np.concatenate(
        [np.linspace(0.01, 6.5, N - 4), [alpha * r_c + 1e-300, np.nextafter(r_c, 0), r_c, 1e9]]
    )
    reference = np.array([cutoff(kind, alpha, r_c, x) for x in r])
    S = np.concatenate([r, 1 / r, np.zeros(2 * N)])
    vector.row_cutoff(S, row(2), row(3), row(0), row(1), np.uintp(N), kind, alpha, r_c)
    assert S[2 * N : 3 * N] == pytest.approx(reference[:, 0], rel=0, abs=2e-15)
    assert S[3 * N :] * r == pytest.approx(reference[:, 1], rel=0, abs=4e-15)
    assert np.isfinite(S).all() and (S[2 * N : 3 * N][r >= r_c] == 0).all()
    h = 1e-5
    for x in np.linspace(0.1, 5.9, 30):
        slope = (cutoff(kind, alpha, r_c, x + h)[0] - cutoff(kind, alpha, r_c, x - h)[0]) / (2 * h)
        if abs(x - alpha * r_c) > 0.05:
            assert cutoff(kind, alpha, r_c, x)[1] == pytest.approx(slope, abs=1e-8)
    assert cutoff(kind, alpha, r_c, 1e-9)[0] == pytest.approx({2: math.tanh(1) ** 3}.get(kind, 1.0), abs=1e-8)


@pytest.mark.parametrize("code", range(len(ACTIVATIONS)))
def test_activations_and_their_derivatives(code):
    h = 1e-5
    for x in (-3.0, -0.4, 0.3, 2.0):
        f, d, dd = activation(code, x)
        low, high = activation(code, x - h), activation(code, x + h)
        assert d == pytest.approx((high[0] - low[0]) / (2 * h), abs=1e-8)
        assert dd == pytest.approx((high[1] - low[1]) / (2 * h), abs=1e-8)


@pytest.mark.parametrize("code", range(len(ACTIVATIONS)))
def test_rows_of_activations_equal_single_ones(code):
    x = np.concatenate([np.linspace(-6, 6, 50), [-300.0, -40.0, 0.0, 40.0, 300.0]])
    if ACTIVATIONS[code] == "exp":
        x = x[np.abs(x) < 100]
    Y, S, T = x.copy(), np.empty_like(x), np.empty_like(x)
    activate(code, np.uintp(len(x)), Y, S, T)
    one = np.array([activation(code, v) for v in x])
    for found, expected in zip((Y, S, T), one.T):
        assert found == pytest.approx(expected, rel=1e-13, abs=2e-15)


@pytest.mark.parametrize("name", ["tanh", "logistic", "softplus", "rev-logistic", "gaussian"])
def test_bounded_activations_stay_finite_far_out(name):
    for x in (-1e4, 1e4):
        assert np.isfinite(activation(ACTIVATIONS.index(name), x)).all()
