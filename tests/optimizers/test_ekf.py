"""The Kalman filter: exact identities of a linear model, the textbook filter, ranks, resuming, failures."""

import numpy as np
import pytest
from launch import ROOT, on_ranks
from mpi4py import MPI
from oracles.textbook import Textbook, dense_P

from mpnnp.config import Ekf
from mpnnp.errors import CheckpointError, TrainingError
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.optimizers.traffic import FailureOfAny, LabelGather, Traffic

SERIAL = MPI.COMM_SELF
STANDARD = dict(epsilon=1.0, eta=1.0, eta_tau=0.0, eta_max=1.0, q=0.0, q_tau=0.0, q_min=0.0)
WATER = dict(epsilon=0.01, eta=0.01, eta_tau=0.01, eta_max=1.0, q=0.01, q_tau=0.01, q_min=1e-6)
# forgets less than what makes rounding errors grow
FADING = {**STANDARD, "fading_memory": True, "lam": 0.99, "nu": 0.99, "q": 1e-5}


def settings(**changes):
    return Ekf(**{**STANDARD, "r_max": 16, **changes})


class TwoNets:
    """y = sum over two elements of b + a . tanh(c + x W), in the order of mpnnp's weights,
    with noisy labels of a teacher of the same form.
    """

    n_in, n_hidden = 6, 8
    segments = [(0, 6, 8, 0, 0), (56, 8, 1, 0, 1), (65, 6, 8, 1, 0), (121, 8, 1, 1, 1)]
    n = 130

    def __init__(self, seed=1):
        self.rng = np.random.default_rng(seed)
        self.teacher, self.w = self.rng.normal(size=(2, self.n))

    def rows(self, w, x):
        """Outputs (M,) and derivatives (M, n) for inputs x (2, M, n_in)."""
        y, columns = 0.0, []
        for element, v in enumerate(w.reshape(2, -1)):
            W, c, a = v[:48].reshape(6, 8), v[48:56], v[56:64]
            h = np.tanh(x[element] @ W + c)
            back = (1 - h * h) * a
            y = y + h @ a + v[64]
            columns += [
                (x[element][:, :, None] * back[:, None, :]).reshape(len(h), -1),
                back,
                h,
                np.ones((len(h), 1)),
            ]
        return y, np.hstack(columns)

    def inputs(self, M):
        """Inputs and labels of M observations."""
        x = self.rng.normal(size=(2, M, self.n_in))
        return x, self.rows(self.teacher, x)[0] + 0.01 * self.rng.normal(size=M)


def mine(comm, M):
    """Labels of this rank."""
    return slice(comm.rank * M // comm.size, (comm.rank + 1) * M // comm.size)


def test_a_linear_model_gives_ridge_regression():
    n, eta, epsilon = 40, 0.3, 0.7
    rng = np.random.default_rng(1)
    optimiser = make_ekf(settings(epsilon=epsilon, eta=eta, eta_max=eta), n, [], SERIAL)
    state, w = optimiser.init(), np.zeros(n)
    information, moment = epsilon * np.eye(n), np.zeros(n)
    for M in rng.integers(1, 6, size=30):
        H, y = rng.normal(size=(M, n)), rng.normal(size=M)
        errors = y - H @ w
        increment = optimiser.update(state, H, errors)
        information += eta * H.T @ H
        moment += eta * H.T @ y
        w += increment
        P = np.linalg.inv(information)
        gradient = -2 * H.T @ errors  # of the sum of squared errors
        np.testing.assert_allclose(increment, -0.5 * eta * P @ gradient, rtol=0, atol=1e-12)
        np.testing.assert_allclose(w, P @ moment, rtol=0, atol=1e-11)
    np.testing.assert_allclose(dense_P(optimiser, state), P, rtol=0, atol=1e-12)


def test_one_update_of_many_labels_equals_many_updates_of_one_for_a_linear_model():
    n, rng = 30, np.random.default_rng(2)
    H, y = rng.normal(size=(12, n)), rng.normal(size=12)
    optimiser = make_ekf(settings(), n, [], SERIAL)
    together, one_by_one = optimiser.init(), optimiser.init()
    w = np.zeros(n)
    for row, label in zip(H, y, strict=True):
        w += optimiser.update(one_by_one, row[None], np.array([label - row @ w]))
    np.testing.assert_allclose(optimiser.update(together, H, y), w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        dense_P(optimiser, together), dense_P(optimiser, one_by_one), rtol=0, atol=1e-12
    )


def test_both_sign_conventions_descend_alike():
    problem = TwoNets()
    x, labels = problem.inputs(5)
    y, H = problem.rows(problem.w, x)
    optimiser = make_ekf(settings(epsilon=10.0), problem.n, problem.segments, SERIAL)
    increment = optimiser.update(optimiser.init(), H, labels - y)
    assert np.array_equal(optimiser.update(optimiser.init(), -H, y - labels), increment)
    assert np.array_equal(optimiser.update(optimiser.init(), H, y - labels), -increment)
    after = problem.rows(problem.w + increment, x)[0]
    assert ((labels - after) ** 2).sum() < ((labels - y) ** 2).sum()


@pytest.mark.parametrize("coupling", ["full", "element", "layer", "node", "block:50"])
@pytest.mark.parametrize("schedule", [STANDARD, WATER, FADING], ids=["standard", "water", "fading"])
def test_the_weights_equal_those_of_the_textbook_filter(schedule, coupling):
    config = settings(**schedule, coupling=coupling)
    problem = TwoNets()
    optimiser = make_ekf(config, problem.n, problem.segments, SERIAL)
    state, textbook = optimiser.init(), Textbook(config, problem.n, problem.segments)
    w, w_textbook = problem.w.copy(), problem.w.copy()
    sizes = np.random.default_rng(3).integers(1, 9, size=2000 if coupling in ("full", "layer") else 200)
    sizes[100] = 20  # more labels than rows of U
    for M in sizes:
        x, labels = problem.inputs(M)
        y, H = problem.rows(w, x)
        w += optimiser.update(state, H, labels - y)
        y, H = problem.rows(w_textbook, x)
        w_textbook += textbook.update(H, labels - y)
    np.testing.assert_allclose(w, w_textbook, rtol=0, atol=1e-10 * abs(w).max())
    P = dense_P(optimiser, state)
    np.testing.assert_allclose(P, textbook.P, rtol=0, atol=1e-9 * abs(P).max())
    found = optimiser.diagnostics(state)
    np.testing.assert_allclose(
        [found["mean"], found["trace"], found["min"]],
        [np.diag(P).mean(), np.trace(P), np.diag(P).min()],
        rtol=1e-9,
    )
    assert found["finite"]


def test_the_filter_learns_its_teacher():
    problem = TwoNets()
    optimiser = make_ekf(settings(**WATER), problem.n, problem.segments, SERIAL)
    state, w = optimiser.init(), problem.w.copy()
    for _ in range(2000):
        x, labels = problem.inputs(4)
        y, H = problem.rows(w, x)
        w += optimiser.update(state, H, labels - y)
    x, labels = problem.inputs(500)
    assert np.std(labels - problem.rows(w, x)[0]) < 0.1 * np.std(labels)


def test_eta_and_q_follow_n2p2():
    """updater.000.out of n2p2 2.2 (kalman_eta 0.01, etatau 2.302, etamax 1; q0 0.01, qtau 2.302, qmin 1E-6;
    8 updates per epoch).
    """
    config = settings(eta=0.01, eta_tau=2.302 / 8, eta_max=1.0, q=0.01, q_tau=2.302 / 8, q_min=1e-6)
    optimiser = make_ekf(config, 3, [], SERIAL)
    state = optimiser.init()
    for q, eta in (
        (1.00058526e-03, 9.99415078e-02),
        (1.00117087e-04, 9.98830498e-01),
        (1.00175682e-05, 1.33186447),
    ):
        for _ in range(8):
            optimiser.update(state, np.ones((1, 3)), np.ones(1))
        np.testing.assert_allclose([state.q, state.eta], [q, eta], rtol=1e-8)


def test_the_forgetting_factor_tends_to_one():
    config = settings(**FADING)
    optimiser = make_ekf(config, 3, [], SERIAL)
    state = optimiser.init()
    for _ in range(10):
        optimiser.update(state, np.ones((1, 3)), np.ones(1))
    assert state.lam == pytest.approx(1 - 0.01 * 0.99**10, rel=1e-14)


@pytest.mark.parametrize("schedule, coupling", [(WATER, "full"), (FADING, "layer"), (WATER, "node")])
def test_a_saved_state_resumes_bit_for_bit(schedule, coupling):
    problem = TwoNets()
    optimiser = make_ekf(settings(**schedule, coupling=coupling), problem.n, problem.segments, SERIAL)
    state = optimiser.init()
    for M in (20, 3, 5, 3):  # ends between two folds, with more room in U than r_max
        optimiser.update(state, problem.rows(problem.w, problem.inputs(M)[0])[1], np.ones(M))
    arrays = {name: np.array(values) for name, values in optimiser.save_arrays(state).items()}
    again = optimiser.load_arrays(arrays)
    for M in (7, 2, 9, 4, 1):
        H = problem.rows(problem.w, problem.inputs(M)[0])[1]
        assert np.array_equal(optimiser.update(state, H, np.ones(M)), optimiser.update(again, H, np.ones(M)))
    assert (again.d, again.factor, again.eta, again.q, again.lam, again.n_update) == (
        (state.d, state.factor, state.eta, state.q, state.lam, state.n_update)
    )


def test_a_state_of_another_coupling_or_optimiser_is_refused():
    optimiser = make_ekf(settings(), 50, [], SERIAL)
    other = make_ekf(settings(coupling="block:20"), 50, [], SERIAL)
    for arrays in (other.save_arrays(other.init()), {"m": np.zeros(50)}):
        with pytest.raises(CheckpointError, match="ekf.coupling"):
            optimiser.load_arrays(arrays)


def fail(optimiser, state, comm, spoil):
    """Message of the error of an update of 4 labels, spoilt on the rank that holds label 2;
    rows and errors of the good update.
    """
    rng = np.random.default_rng(5)
    rows, errors = rng.normal(size=(4, optimiser.layout.n)), rng.normal(size=4)
    bad_rows, bad_errors = rows.copy(), errors.copy()
    spoil(state, bad_rows, bad_errors)
    with pytest.raises(TrainingError) as caught:
        optimiser.update(state, bad_rows[mine(comm, 4)], bad_errors[mine(comm, 4)])
    return str(caught.value), rows[mine(comm, 4)], errors[mine(comm, 4)]


def nan_error(state, rows, errors):
    errors[1] = np.nan


def infinite_row(state, rows, errors):
    rows[1, 3] = np.inf


def negative_P(state, rows, errors):
    state.d -= 1e9


FAILURES = [
    (nan_error, "error of label 2 of 4"),
    (infinite_row, "row of label 2 of 4"),
    (negative_P, "larger epsilon"),
]


@pytest.mark.parametrize("spoil, words", FAILURES)
def test_a_failure_names_its_cause_and_leaves_the_state(spoil, words):
    optimiser = make_ekf(settings(**WATER), 50, [], SERIAL)
    state, other = optimiser.init(), optimiser.init()
    for s in (state, other):
        optimiser.update(s, np.ones((3, 50)), np.ones(3))
    message, rows, errors = fail(optimiser, state, SERIAL, spoil)
    assert words in message and "update 2" in message
    state.d = other.d
    assert np.array_equal(optimiser.update(state, rows, errors), optimiser.update(other, rows, errors))


@pytest.mark.parametrize("ranks", [2, 3])
def test_nothing_depends_on_the_rank_count(ranks):
    on_ranks(ranks, same_as_on_one_rank)


def same_as_on_one_rank(comm):
    problem = TwoNets()
    for schedule, coupling in ((WATER, "full"), (FADING, "layer"), (WATER, "node")):
        config = settings(**schedule, coupling=coupling)
        shared, alone = (make_ekf(config, problem.n, problem.segments, c) for c in (comm, SERIAL))
        state, other = shared.init(), alone.init()
        w = problem.w.copy()
        w_alone = w.copy()
        for update, M in enumerate((1, 4, 8, 2, 1, 6) * 20):
            x, labels = problem.inputs(M)
            y, H = problem.rows(w, x)
            increment = shared.update(state, H[mine(comm, M)], (labels - y)[mine(comm, M)])
            w += increment
            y, H = problem.rows(w_alone, x)
            w_alone += alone.update(other, H, labels - y)
            if update == 70:  # resume on as many ranks, bit for bit, and on one
                saved = shared.save_arrays(state)
                state, again = shared.load_arrays(saved), state
                same = shared.update(again, H[mine(comm, M)], labels[mine(comm, M)])
                assert np.array_equal(shared.update(state, H[mine(comm, M)], labels[mine(comm, M)]), same)
                if comm.rank == 0:
                    np.testing.assert_allclose(
                        alone.update(alone.load_arrays(saved), H, labels),
                        same,
                        rtol=0,
                        atol=1e-10 * abs(same).max(),
                    )
                state = shared.load_arrays(saved)
        np.testing.assert_allclose(w, w_alone, rtol=0, atol=1e-10 * abs(w).max())
        assert all(np.array_equal(increment, theirs) for theirs in comm.allgather(increment))
        found, expected = shared.diagnostics(state), alone.diagnostics(other)
        np.testing.assert_allclose(
            [found["trace"], found["min"]], [expected["trace"], expected["min"]], rtol=1e-9
        )


def test_a_failure_is_raised_on_every_rank_and_the_filter_goes_on():
    on_ranks(2, failures_on_every_rank)


def failures_on_every_rank(comm):
    for spoil, words in FAILURES:
        optimiser = make_ekf(settings(**WATER), 50, [], comm)
        state = optimiser.init()
        message, rows, errors = fail(optimiser, state, comm, spoil)
        assert words in message
        assert len(set(comm.allgather(message))) == 1
        state.d = 0.0
        assert np.array_equal(
            optimiser.update(state, rows, errors), optimiser.update(optimiser.init(), rows, errors)
        )
    optimiser = make_ekf(settings(), 50, [], comm)
    with pytest.raises(CheckpointError, match="is not that of this run's net and ekf.coupling"):
        optimiser.load_arrays({"m": np.zeros(50)} if comm.rank == 0 else None)


def test_what_travels_does_not_grow_with_the_square_of_the_weights():
    on_ranks(2, count_what_travels)


def count_what_travels(comm):
    M = 3
    for n in (300, 600):
        optimiser = make_ekf(settings(), n, [], comm)
        state = optimiser.init()
        for update in range(8):
            optimiser.update(state, np.ones((M, n))[mine(comm, M)], np.ones(M)[mine(comm, M)])
            gathered, product, counts = M * (n + 1) * 8, M * n * 8, 2 * 8
            unexpected = update == 0  # how many labels each rank has: counts alone went before
            assert optimiser.traffic.last_bytes == gathered + product + counts * (1 + unexpected)
            assert optimiser.traffic.last_calls == 2 + unexpected


def test_counts_of_labels_that_change_from_update_to_update_are_gathered_in_order():
    on_ranks(3, gather_changing_counts)


def gather_changing_counts(comm):
    gather = LabelGather(comm, 2, Traffic())
    for counts in ((1, 1, 1), (1, 1, 1), (0, 3, 0), (2, 0, 5), (0, 0, 1)):
        first = sum(counts[: comm.rank])
        mine = np.arange(first, first + counts[comm.rank], dtype=float)
        rows, errors = gather(np.stack([mine, -mine], axis=1), 10.0 * mine)
        labels = np.arange(sum(counts), dtype=float)
        assert np.array_equal(rows, np.stack([labels, -labels], axis=1))
        assert np.array_equal(errors, 10.0 * labels)


def test_different_machines_ask_each_other_whether_an_update_failed():
    on_ranks(2, ask_on_different_machines)


def ask_on_different_machines(comm):
    verdict = FailureOfAny(comm, Traffic())
    verdict.equal = False
    assert verdict(comm.rank == 1) and not verdict(False)
    assert verdict.traffic.calls == 2


def test_more_ranks_than_tiles_and_labels():
    on_ranks(4, one_tile_and_few_labels)


def one_tile_and_few_labels(comm):
    n, rng = 5, np.random.default_rng(6)
    shared, alone = make_ekf(settings(**WATER), n, [], comm), make_ekf(settings(**WATER), n, [], SERIAL)
    state, other = shared.init(), alone.init()
    for M in (1, 2, 1):
        rows, errors = rng.normal(size=(M, n)), rng.normal(size=M)
        increment = shared.update(state, rows[mine(comm, M)], errors[mine(comm, M)])
        np.testing.assert_allclose(increment, alone.update(other, rows, errors), rtol=0, atol=1e-12)
    shared.load_arrays(shared.save_arrays(state))
    assert comm.allreduce(len(shared.layout.mine)) == 1


def test_the_model_of_scaling_measures_updates_of_the_filter(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import scaling_model

    assert scaling_model.measure_update(30, 2, SERIAL) > 0.0
