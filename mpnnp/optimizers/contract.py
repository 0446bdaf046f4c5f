"""What every optimizer promises, as a test that anyone can call on an optimizer of their own."""

import copy
from collections.abc import Callable

import numpy as np

from mpnnp.errors import CheckpointError, TrainingError
from mpnnp.optimizers.registry import Optimizer, takes_accept
from mpnnp.parallel import Comm


def check_optimizer(make: Callable[[], Optimizer], n_weight: int, comm: Comm, n_update: int = 40) -> None:
    """Check the promises of `registry.Optimizer`.

    Collective; raises AssertionError that says which one is broken.

    make  function() -> optimizer of n_weight weights; the same each time

    The errors of a linear model fall; ranks agree bit for bit; a state saved and loaded goes on bit for bit;
    NaN is refused with the state as it was, and so is, if `update` takes `accept`, an increment that is not
    accepted; arrays of something else are refused.
    """
    rng = np.random.default_rng(1)
    truth = rng.normal(size=n_weight)
    H = rng.normal(size=(n_update, 4 * comm.size, n_weight)) / np.sqrt(n_weight)
    mine = slice(4 * comm.rank, 4 * comm.rank + 4)
    optimizer = make()
    assert isinstance(optimizer.advice, str) and optimizer.advice, "advice must say what to try"
    state, w, other = optimizer.init(), np.zeros(n_weight), None
    for u in range(n_update):
        if u == n_update // 2:
            arrays = optimizer.save_arrays(state)
            assert (arrays is None) == (comm.rank != 0), (
                "save_arrays gives arrays on rank 0 and None elsewhere"
            )
            again = make()
            other, w_other = again.load_arrays(copy.deepcopy(arrays)), w.copy()
        rows = H[u, mine]
        increment = optimizer.update(state, rows.copy(), rows @ (truth - w))
        assert increment.shape == (n_weight,) and np.isfinite(increment).all(), (
            "an increment is n_weight finite numbers"
        )
        assert all(np.array_equal(increment, x) for x in comm.allgather(increment)), (
            "ranks must agree bit for bit"
        )
        if other is not None:
            same = again.update(other, rows.copy(), rows @ (truth - w_other))
            assert np.array_equal(same, increment), "a loaded state must go on bit for bit"
            w_other = w_other + same
        w = w + increment
        optimizer.check(state)
    before, after = (float(np.linalg.norm(H[-1] @ (truth - v))) for v in (np.zeros(n_weight), w))
    assert after < before, f"the errors must fall: {before:.3g} before, {after:.3g} after {n_update} updates"
    _check_refusals(optimizer, state, n_weight, comm)


def _check_refusals(optimizer, state, n_weight, comm):
    saved = optimizer.save_arrays(state)
    for bad in (np.nan, np.inf):
        rows = np.full((1, n_weight), bad)
        assert _raises(TrainingError, optimizer.update, state, rows, np.ones(1)), (
            f"rows of {bad} must be a TrainingError"
        )
    if takes_accept(optimizer):
        rows = np.ones((1, n_weight))
        assert _raises(TrainingError, optimizer.update, state, rows, np.ones(1), _refuse), (
            "an increment that is not accepted must be a TrainingError"
        )
    unchanged = optimizer.save_arrays(state)
    if comm.rank == 0:
        assert all(np.array_equal(saved[k], unchanged[k]) for k in saved), (
            "a refused update must leave the state as it was"
        )
    foreign = {"something": np.zeros(3)} if comm.rank == 0 else None
    assert _raises(CheckpointError, optimizer.load_arrays, foreign), (
        "foreign arrays must be a CheckpointError"
    )


def _refuse(increment):
    raise TrainingError("not accepted")


def _raises(error, function, *arguments):
    try:
        function(*arguments)
    except error:
        return True
    return False
