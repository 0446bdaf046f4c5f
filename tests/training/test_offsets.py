"""Offsets of simulations: a mixed model, to rounding; no part of the potential; they resume."""

import importlib
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.io import write
from launch import on_ranks
from small import begun, boxes, quiet, small_config

from mpnnp.config import Ekf
from mpnnp.errors import Interrupted, TrainingError
from mpnnp.kernels.jit import read_only
from mpnnp.model.label_kinds import ENERGY, FORCE
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.optimizers.posterior import dense_covariance
from mpnnp.parallel import serial
from mpnnp.progress import Log
from mpnnp.signals import Signals
from mpnnp.training import continuation, offsets
from mpnnp.training.checkpoint import read_checkpoint, read_posterior
from mpnnp.training.noise import LEAST_OWN, NoiseLevels
from mpnnp.training.run_folder import Held
from mpnnp.training.run_state import noise_levels
from mpnnp.training.train import begin, one_update, train

train_module = importlib.import_module("mpnnp.training.train")  # the package has a function of this name
LEARNED = {"noise": "learned", "prior": 30.0}
EXACT = Ekf(noise="learned", prior=1.0, eta=1.0, eta_tau=0.0, eta_max=1.0, q=0.0, q_min=0.0)
N, GROUPS, FRAMES = 20, 6, 9


def linear_model(seed=1):
    """Rows (m, N + GROUPS) of weights and offsets, and labels (m,) with noise 1 and offsets of 0.7."""
    rng = np.random.default_rng(seed)
    H = rng.normal(size=(GROUPS * FRAMES, N)) / 3.0
    Z = np.repeat(np.eye(GROUPS), FRAMES, axis=0)
    y = H @ rng.normal(size=N) + Z @ rng.normal(scale=0.7, size=GROUPS) + rng.normal(size=len(H))
    order = rng.permutation(len(H))
    return np.concatenate([H, Z], axis=1)[order], y[order]


def filtered(rows, y, batch=7, r_max=16):
    """What `offsets` sees of a run: the filter after all labels of a linear model."""
    ekf = make_ekf(
        EXACT.model_copy(update={"r_max": r_max}), N, [(0, N - 1, 1, 0, 0)], serial(), None, GROUPS
    )
    state = SimpleNamespace(
        weights=np.zeros(N),
        optimizer=ekf.init(),
        noise=NoiseLevels(offsets=np.zeros(GROUPS)),
        epoch=1,
        settled=0,
    )
    for first in range(0, len(y), batch):
        some = slice(first, first + batch)
        errors = y[some] - rows[some] @ np.append(state.weights, state.noise.offsets)
        increment = ekf.update(state.optimizer, rows[some], errors)
        state.weights += increment[:N]
        state.noise.offsets += increment[N:]
    return SimpleNamespace(optimizer=ekf, comm=serial()), state


def mixed_model(rows, y, variance):
    """Weights and their covariance by generalised least squares with V = I + variance Z Z^T, prior P(0)."""
    H, Z = rows[:, :N], rows[:, N:]
    weight = H.T @ np.linalg.inv(np.eye(len(y)) + variance * Z @ Z.T)
    P = np.linalg.inv(weight @ H + np.eye(N) * N / 2.0)  # Glorot: 2 / (n_in + n_out)
    return P @ weight @ y, P


@pytest.mark.parametrize("variance", [1.0, 0.3, 1e-8])
def test_the_weights_are_those_of_generalised_least_squares(variance):
    rows, y = linear_model()
    task, state = filtered(rows, y)
    if variance < 1.0:
        offsets.narrow(task, state, variance)
    w, P = mixed_model(rows, y, variance)
    assert state.weights == pytest.approx(w, rel=1e-7, abs=1e-9)
    assert task.optimizer.covariance(state.optimizer) == pytest.approx(P, rel=1e-7, abs=1e-9)
    if variance < 1e-6:  # as if there were no simulations
        assert state.weights == pytest.approx(mixed_model(rows, y, 0.0)[0], rel=1e-5, abs=1e-6)
        assert np.abs(state.noise.offsets).max() < 1e-5


def test_a_prior_made_narrower_in_two_steps_is_the_one_of_one_step():
    rows, y = linear_model(2)
    task, state = filtered(rows, y)
    _, other = filtered(rows, y, batch=1, r_max=4)
    offsets.narrow(task, state, 0.5)
    offsets.narrow(task, state, 0.1)
    offsets.narrow(task, other, 0.1)
    assert state.weights == pytest.approx(other.weights, rel=1e-8, abs=1e-10)
    assert state.noise.offsets == pytest.approx(other.noise.offsets, rel=1e-8, abs=1e-10)
    assert state.noise.offset_variance == other.noise.offset_variance == 0.1


def test_what_an_update_would_give_leaves_the_state_alone():
    rows, y = linear_model(3)
    task, state = filtered(rows, y)
    ekf, before = task.optimizer, task.optimizer.save_arrays(state.optimizer)
    asked = ekf.increment(state.optimizer, rows[:5], y[:5])
    after = ekf.save_arrays(state.optimizer)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert ekf.update(state.optimizer, rows[:5], y[:5]) == pytest.approx(asked, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("r_max", [0, 16])
def test_a_saved_filter_holds_the_covariance_of_the_weights_and_goes_on(r_max):
    rows, y = linear_model(4)
    task, state = filtered(rows, y, r_max=r_max)
    arrays = task.optimizer.save_arrays(state.optimizer)
    assert arrays["group"].tolist() == [0, N] and arrays["U"].shape[1] == N
    assert dense_covariance(arrays) == pytest.approx(mixed_model(rows, y, 1.0)[1], rel=1e-8, abs=1e-10)
    ekf = task.optimizer
    again = ekf.load_arrays(arrays)
    steps = [ekf.update(s, rows[:3], y[:3]) for s in (state.optimizer, again)]
    assert np.array_equal(*steps)


def test_offsets_that_a_checkpoint_does_not_hold_begin_anew():
    rows, y = linear_model(5)
    task, state = filtered(rows, y)
    ekf = task.optimizer
    arrays = ekf.save_arrays(state.optimizer)
    P = dense_covariance(arrays)
    alone = {name: x for name, x in arrays.items() if not name.startswith("offset")}
    fresh = ekf.load_arrays(alone)
    assert ekf.covariance(fresh) == pytest.approx(P, rel=1e-12, abs=1e-14)
    columns = np.zeros((GROUPS, N + GROUPS))
    columns[:, N:] = np.eye(GROUPS)
    of_offsets, _, _ = ekf.innovation(fresh, columns, np.zeros(GROUPS))
    assert of_offsets == pytest.approx(np.eye(GROUPS), abs=1e-12)
    both = np.concatenate([columns, np.eye(N, N + GROUPS)])
    assert ekf.innovation(fresh, both, np.zeros(len(both)))[0][GROUPS:, :GROUPS] == pytest.approx(
        0.0, abs=1e-12
    )


def in_boxes(folder, **sections):
    """Configuration of clusters in six boxes."""
    if not (folder / "clusters.extxyz").exists():
        write(folder / "clusters.extxyz", boxes([5] * 6), parallel=False)
    return small_config(folder, **({"ekf": LEARNED} | sections))


def test_columns_of_offsets_are_derivatives(tmp_path):
    run = begun(in_boxes(tmp_path), tmp_path, *quiet())
    observer, noise, n = run.task.observer, run.state.noise, len(run.state.weights)
    noise.passes, noise.validation[:], noise.offset_variance = 1, 0.5, 0.01  # levels that stay as they are
    for kind in (ENERGY, FORCE):
        batch = next(b for b in run.task.epoch(1) if b.kind == kind)
        noise.offsets[:] = 0.0
        rows, errors, labels = observer.observe(batch, read_only(run.state.weights))
        assert rows.shape == (len(labels), n + len(noise.offsets))
        shift = np.random.default_rng(1).normal(size=len(noise.offsets))
        noise.offsets[:] = shift
        moved = observer.observe(batch, read_only(run.state.weights))[1]
        assert moved == pytest.approx(errors - rows[:, n:] @ shift, rel=1e-9, abs=1e-9)
        columns = np.count_nonzero(rows[:, n:], axis=1)
        if kind == FORCE:
            assert not columns.any()
        else:
            group, structures = observer.groups.group, labels
            assert columns.tolist() == (group[structures] >= 0).astype(int).tolist()
            inside = np.flatnonzero(columns)
            level = 0.5 * np.sqrt(1 - 0.01 / 0.25)  # an energy's own part; one per atom of a column
            assert rows[inside, n + group[structures[inside]]] == pytest.approx(1.0 / level)


def test_energies_are_believed_by_what_is_their_own():
    noise = NoiseLevels(offsets=np.zeros(5), passes=1, offset_variance=0.19)
    noise.validation[:] = 1.0
    levels = noise.of_energies(ENERGY, np.array([4, 4]), np.array([1, 7]), [1.0, 1.0, 1.0])
    assert levels == pytest.approx([4.0, 4.0 * 0.9])
    noise.innovation[ENERGY] = 1.0
    assert (
        noise.in_words([1.0, 1.0, 1.0])
        == "noise: energy 1e+03 meV/atom, offsets of simulations 4.4e+02 meV/atom"
    )
    noise.validation[ENERGY] = np.nan  # innovations are without offsets
    levels = noise.of_energies(ENERGY, np.array([4]), np.array([7]), [1.0, 1.0, 1.0])
    assert levels == pytest.approx(4.0)
    noise.validation[ENERGY] = 1.0
    noise.offset_variance = 4.0  # wider than the error of the moment: as before the first evaluation
    levels = noise.of_energies(ENERGY, np.array([4]), np.array([7]), [1.0, 1.0, 1.0])
    assert levels == pytest.approx(4.0 * np.sqrt(LEAST_OWN))


def test_the_prior_follows_the_errors_and_only_becomes_narrower(tmp_path):
    run = begun(in_boxes(tmp_path), tmp_path, *quiet())
    assert run.task.n_offset == len(run.task.observer.groups.size) > 4
    found = [run.state.noise.offset_variance]
    assert found == [1.0]
    for _ in range(3):
        run.epoch()
        found.append(run.state.noise.offset_variance)
    assert found[1] < 1.0 and found == sorted(found, reverse=True)
    assert run.state.noise.correlation == 0.0


def test_in_the_first_epoch_the_prior_falls_with_the_error_of_energies(tmp_path):
    run = begun(in_boxes(tmp_path), tmp_path, *quiet())
    task, state, noise = run.task, run.state, run.state.noise
    offsets.follow(task, state)  # no energies were learned yet
    assert noise.offset_variance == 1.0
    for level, variance in ((0.8, 1.0), (0.5, 0.25), (0.4, 0.25), (0.1, 0.01), (0.3, 0.01)):
        noise.innovation[ENERGY] = level
        offsets.follow(task, state)
        assert noise.offset_variance == pytest.approx(variance)
    noise.passes, noise.innovation[ENERGY] = 1, 0.01
    offsets.follow(task, state)  # later the errors of training structures tell
    assert noise.offset_variance == pytest.approx(0.01)


def test_an_update_asks_for_it(tmp_path):
    run = begun(in_boxes(tmp_path), tmp_path, *quiet())
    run.state.noise.innovation[ENERGY] = 0.1
    one_update(run.task, run.state, next(b for b in run.task.epoch(1) if b.kind == FORCE))
    assert run.state.noise.offset_variance == pytest.approx(0.01)


def test_settled_weights_are_those_of_settle(tmp_path):
    run = begun(in_boxes(tmp_path), tmp_path, *quiet())
    offsets.settle(run.task, run.state)  # nothing was learned yet
    assert run.state.noise.offset_variance == 1.0
    for batch in list(run.task.epoch(1))[:-1]:
        one_update(run.task, run.state, batch)
    before = run.state.weights.copy()
    asked = offsets.settled_weights(run.task, run.state)
    assert np.array_equal(run.state.weights, before) and not np.array_equal(asked, before)
    offsets.settle(run.task, run.state)
    assert run.state.weights == pytest.approx(asked, rel=1e-8, abs=1e-11)


def test_offsets_need_a_whole_covariance_and_few_groups(tmp_path):
    config = in_boxes(tmp_path, ekf=LEARNED | {"coupling": "element"})
    run = begun(config, tmp_path, *quiet())
    assert run.task.n_offset == 0
    run.epoch()
    correlation = run.task.observer.correlation_of_energies(read_only(run.state.weights))
    assert run.state.noise.correlation == correlation  # energies count as fewer labels instead
    assert begun(in_boxes(tmp_path, ekf={"noise": "fixed"}), tmp_path, *quiet()).task.n_offset == 0
    few = in_boxes(tmp_path, network={"hidden": [1], "activation": "tanh"})  # 19 weights
    assert begun(few, tmp_path, *quiet()).task.n_offset == 0


def test_a_run_with_offsets_resumes_bit_for_bit_and_tells_them(tmp_path):
    config = in_boxes(tmp_path, run={"epochs": 3})
    whole = train(config, tmp_path / "whole", *quiet())
    part = config.with_keys("run", updates=whole.update // 2)
    train(part, tmp_path / "parts", *quiet())
    resumed = train(config, tmp_path / "parts", *quiet(), resume=True)
    assert np.array_equal(whole.weights, resumed.weights)
    assert np.array_equal(whole.noise.offsets, resumed.noise.offsets) and whole.noise.offsets.any()
    assert whole.noise.offset_variance == resumed.noise.offset_variance
    log = (tmp_path / "whole" / "train.log").read_text()
    assert "errors in common: 22 energies are of 6 simulations" in log
    saved = read_checkpoint(tmp_path / "whole" / "checkpoint.h5")
    assert np.array_equal(saved.arrays["offsets"], whole.noise.offsets)
    assert read_posterior(tmp_path / "whole" / "checkpoint.h5").dense().shape == (len(whole.weights),) * 2


def test_a_run_that_is_stopped_in_an_evaluation_resumes_bit_for_bit(tmp_path, monkeypatch):
    """There the offsets of the epoch are settled: not once more."""
    config, evaluate = in_boxes(tmp_path, run={"epochs": 3}), train_module.evaluate
    whole = train(config, tmp_path / "whole", *quiet())

    def stop_at_the_end_of_epoch_2(run, epoch):
        if epoch == 2:
            assert run.state.settled == 2
            train_module.save(run)
            raise Interrupted("stopped")
        evaluate(run, epoch)

    with monkeypatch.context() as stopping, pytest.raises(Interrupted):
        stopping.setattr(train_module, "evaluate", stop_at_the_end_of_epoch_2)
        train(config, tmp_path / "parts", *quiet())
    resumed = train(config, tmp_path / "parts", *quiet(), resume=True)
    assert np.array_equal(whole.weights, resumed.weights)
    assert whole.noise.offset_variance == resumed.noise.offset_variance


def test_a_filter_that_refuses_a_narrower_prior_leaves_the_update_as_it_is(tmp_path, monkeypatch):
    run = begun(in_boxes(tmp_path), tmp_path, *quiet())

    def refuses(task, state, variance):
        raise TrainingError("P is no longer positive")

    monkeypatch.setattr(offsets, "narrow", refuses)
    run.state.noise.innovation[ENERGY] = 0.1
    before = run.state.weights.copy()
    one_update(run.task, run.state, next(b for b in run.task.epoch(1) if b.kind == FORCE))
    assert not np.array_equal(run.state.weights, before) and run.state.noise.offset_variance == 1.0


def test_inflation_is_of_what_was_learned_not_of_new_offsets(tmp_path):
    train(in_boxes(tmp_path), tmp_path / "first", *quiet())
    (tmp_path / "b").mkdir()
    write(tmp_path / "b" / "clusters.extxyz", boxes([4] * 7, seed=8))
    going_on = {"from": str(tmp_path / "first" / "checkpoint.h5"), "epochs": 2}
    config = in_boxes(tmp_path / "b", run=going_on, ekf=LEARNED | {"inflation": 9.0})
    comm, log = quiet()
    with Signals(comm) as signals:
        run = begin(continuation.completed(config), Held(tmp_path / "b"), comm, log, signals)
    known = read_checkpoint(tmp_path / "first" / "checkpoint.h5").progress["offset_variance"]
    noise, n, ekf = run.state.noise, run.task.n_offset, run.task.optimizer
    columns = np.eye(n, len(run.state.weights) + n, k=len(run.state.weights))
    variances = np.diag(ekf.innovation(run.state.optimizer, columns, np.zeros(n))[0])
    assert noise.offset_variance == known and variances == pytest.approx(np.full(n, known))
    before = read_posterior(tmp_path / "first" / "checkpoint.h5").dense()
    assert ekf.covariance(run.state.optimizer) == pytest.approx(9.0 * before, rel=1e-9, abs=1e-13)


def test_noise_levels_do_not_notice_errors_that_inflation_looks_at(tmp_path):
    """They come again when they are learned. What `auto` finds, given as a number, is the same run."""
    train(in_boxes(tmp_path), tmp_path / "first", *quiet())
    checkpoint = tmp_path / "first" / "checkpoint.h5"
    saved, factors = noise_levels(read_checkpoint(checkpoint).progress), []
    for name in ("auto", "number"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "clusters.extxyz", boxes([4] * 7, seed=8))
        inflation = factors[0] if factors else "auto"
        going_on = {"from": str(checkpoint), "epochs": 2}
        config = in_boxes(tmp_path / name, run=going_on, ekf=LEARNED | {"inflation": inflation})
        comm, log = quiet()
        with Signals(comm) as signals:
            run = begin(continuation.completed(config), Held(tmp_path / name), comm, log, signals)
        assert np.array_equal(run.state.noise.innovation, saved.innovation, equal_nan=True)
        factors.append(run.state.optimizer.factor)
    assert factors[0] == factors[1]


def test_a_run_that_goes_on_has_offsets_of_its_own_simulations(tmp_path):
    train(in_boxes(tmp_path), tmp_path / "first", *quiet())
    saved = read_checkpoint(tmp_path / "first" / "checkpoint.h5")
    (tmp_path / "b").mkdir()
    write(tmp_path / "b" / "clusters.extxyz", boxes([4] * 7, seed=8))
    config = in_boxes(tmp_path / "b", run={"from": str(tmp_path / "first" / "checkpoint.h5"), "epochs": 2})
    comm, log = quiet()
    with Signals(comm) as signals:
        run = begin(continuation.completed(config), Held(tmp_path / "b"), comm, log, signals)
    noise, n = run.state.noise, run.task.n_offset
    assert n not in (0, len(saved.arrays["offsets"])) and noise.offsets.tolist() == [0.0] * n
    assert noise.offset_variance == saved.progress["offset_variance"] < 1.0
    before = read_posterior(tmp_path / "first" / "checkpoint.h5").dense()
    ekf = run.task.optimizer
    assert ekf.covariance(run.state.optimizer) == pytest.approx(before, rel=1e-9, abs=1e-14)
    columns = np.eye(n, len(run.state.weights) + n, k=len(run.state.weights))
    variances = np.diag(ekf.innovation(run.state.optimizer, columns, np.zeros(n))[0])
    assert variances == pytest.approx(np.full(n, noise.offset_variance))


def check_ranks(comm):
    with tempfile.TemporaryDirectory() as own:
        folder = Path(comm.bcast(own, root=0))
        if comm.rank == 0:
            in_boxes(folder)
        comm.Barrier()
        config = in_boxes(folder, schedule={"streams": 4})
        run = begun(config, folder, comm, Log(comm, stream=open(os.devnull, "w")))
        for _ in range(2):
            run.epoch()
        found = np.append(run.state.weights, run.state.noise.offsets)
        assert run.state.noise.offset_variance < 1.0
        assert all(np.array_equal(found, theirs) for theirs in comm.allgather(found))
        if comm.rank == 0:
            alone = begun(config, folder, *quiet())
            for _ in range(2):
                alone.epoch()
            expected = np.append(alone.state.weights, alone.state.noise.offsets)
            assert np.abs(found - expected).max() < 1e-8 * np.abs(expected).max()
        comm.Barrier()


def test_ranks_do_not_matter():
    on_ranks(3, check_ranks)
