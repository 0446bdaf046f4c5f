"""Adam against the loop of its paper, TensorFlow's epsilon, clipping and decay."""

import numpy as np
import pytest
from launch import on_ranks
from mpi4py import MPI

from mpnnp.config import Adam
from mpnnp.errors import CheckpointError, TrainingError
from mpnnp.optimizers.adam import make_adam

DEFAULTS = dict(
    learning_rate=1e-3,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-7,
    clip_norm=0.0,
    decay_rate=1.0,
    decay_steps=10_000,
)
N = 7


def adam(comm=MPI.COMM_SELF, **changes):
    return make_adam(Adam(**{**DEFAULTS, **changes}), N, comm)


def batches(n_update, M=3, seed=1):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(M, N)), rng.normal(size=M)) for _ in range(n_update)]


def paper(gradients, rate, beta1, beta2, epsilon_of):
    """Algorithm 1 of Kingma and Ba, number by number; epsilon_of(t) is added to the corrected root."""
    w = [0.0] * N
    m, v = [0.0] * N, [0.0] * N
    for t, g in enumerate(gradients, start=1):
        for i in range(N):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            m_hat = m[i] / (1 - beta1**t)
            v_hat = v[i] / (1 - beta2**t)
            w[i] -= rate * m_hat / (v_hat**0.5 + epsilon_of(t))
    return np.array(w)


def test_the_weights_follow_the_loop_of_the_paper_with_tensorflows_epsilon():
    optimiser = adam(epsilon=0.05)  # large enough to tell the two forms apart
    state = optimiser.init()
    data = batches(50)
    w = sum(optimiser.update(state, rows, errors) for rows, errors in data)
    gradients = [-2 * rows.T @ errors for rows, errors in data]
    expected = paper(gradients, 1e-3, 0.9, 0.999, lambda t: 0.05 / np.sqrt(1 - 0.999**t))
    np.testing.assert_allclose(w, expected, rtol=1e-11)
    assert abs(w - paper(gradients, 1e-3, 0.9, 0.999, lambda t: 0.05)).max() > 1e-3 * abs(w).max()


def test_the_first_step_is_the_learning_rate_against_the_gradient():
    optimiser = adam()
    rows, errors = batches(1)[0]
    increment = optimiser.update(optimiser.init(), rows, errors)
    np.testing.assert_allclose(increment, 1e-3 * np.sign(rows.T @ errors), rtol=1e-4)


def test_a_step_goes_downhill():
    optimiser = adam(learning_rate=0.02)
    state, w = optimiser.init(), np.zeros(N)
    H, y = batches(1, M=20)[0]
    for _ in range(2000):
        w += optimiser.update(state, H, y - H @ w)
    np.testing.assert_allclose(w, np.linalg.lstsq(H, y, rcond=None)[0], atol=1e-3)


def test_the_norm_of_the_gradient_is_clipped():
    small, large = np.full(N, 1e-4), np.full(N, 3.0)
    clipped, plain = adam(clip_norm=0.01), adam()
    for gradient, scale in ((small, 1.0), (large, 0.01 / np.linalg.norm(large))):
        state, other = clipped.init(), plain.init()
        np.testing.assert_array_equal(
            clipped.update_gradient(state, gradient), plain.update_gradient(other, scale * gradient)
        )
        np.testing.assert_array_equal(state.m, other.m)


def test_a_clip_norm_of_zero_means_no_clipping():
    off, none = adam(clip_norm=0.0), adam(clip_norm=1e9)
    rows, errors = batches(1)[0]
    assert np.array_equal(off.update(off.init(), rows, errors), none.update(none.init(), rows, errors))


@pytest.mark.parametrize(
    "staircase, rates", [(False, [1e-3, 1e-3 * 0.5**0.5, 0.5e-3]), (True, [1e-3, 1e-3, 0.5e-3])]
)
def test_the_learning_rate_decays(staircase, rates):
    optimiser = adam(decay_rate=0.5, decay_steps=10, decay_staircase=staircase)
    np.testing.assert_allclose([optimiser.rate(t) for t in (0, 5, 10)], rates, rtol=1e-15)
    plain = adam()
    state, other = optimiser.init(), plain.init()
    for rows, errors in batches(11):
        last, plain_last = optimiser.update(state, rows, errors), plain.update(other, rows, errors)
    np.testing.assert_allclose(last, 0.5 * plain_last, rtol=1e-14)


def test_a_gradient_that_is_not_finite_raises_and_leaves_the_state():
    optimiser = adam()
    state = optimiser.init()
    rows, errors = batches(1)[0]
    with pytest.raises(TrainingError, match="update 1 of Adam"):
        optimiser.update(state, rows, np.array([1.0, np.nan, 0.0]))
    assert state.n_update == 0
    assert np.array_equal(
        optimiser.update(state, rows, errors), optimiser.update(optimiser.init(), rows, errors)
    )


def test_a_saved_state_resumes_bit_for_bit():
    optimiser = adam(decay_rate=0.9, decay_steps=3)
    state = optimiser.init()
    data = batches(20)
    for rows, errors in data[:10]:
        optimiser.update(state, rows, errors)
    again = optimiser.load_arrays(
        {name: np.array(values) for name, values in optimiser.save_arrays(state).items()}
    )
    for rows, errors in data[10:]:
        assert np.array_equal(optimiser.update(state, rows, errors), optimiser.update(again, rows, errors))


def test_the_state_of_another_net_is_refused():
    optimiser = adam()
    for arrays in ({"m": np.zeros(3), "v": np.zeros(3), "n_update": 1}, {"T": np.zeros(3)}):
        with pytest.raises(CheckpointError, match="net"):
            optimiser.load_arrays(arrays)


def test_the_step_does_not_depend_on_the_rank_count():
    on_ranks(2, same_as_on_one_rank)


def same_as_on_one_rank(comm):
    shared, alone = adam(comm), adam(MPI.COMM_SELF)
    state, other = shared.init(), alone.init()
    for M, (rows, errors) in zip((1, 4, 5, 1), batches(4, M=5), strict=True):
        rows, errors = rows[:M], errors[:M]
        mine = slice(comm.rank * M // comm.size, (comm.rank + 1) * M // comm.size)
        increment = shared.update(state, rows[mine], errors[mine])
        np.testing.assert_allclose(increment, alone.update(other, rows, errors), rtol=1e-12)
        assert all(np.array_equal(increment, theirs) for theirs in comm.allgather(increment))
    with pytest.raises(TrainingError, match="the gradient is not finite"):
        shared.update(state, rows[mine], np.full(len(errors[mine]), np.nan))
    shared.load_arrays(shared.save_arrays(state))
    assert shared.traffic.last_bytes == N * 8
