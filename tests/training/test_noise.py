"""Noise levels: a known noise is found, ranks do not matter, runs resume, R is what theory says."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from launch import on_ranks
from oracles.textbook import dense_update
from small import begun, quiet, small_config, write_clusters

from mpnnp.config import Ekf
from mpnnp.model.label_kinds import ENERGY, FORCE
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.parallel import serial
from mpnnp.progress import Log
from mpnnp.training.labels import label_scale
from mpnnp.training.noise import NoiseLevels
from mpnnp.training.train import train

LEARNED = {"noise": "learned", "prior": 30.0}


def test_a_linear_model_finds_the_noise_of_its_labels():
    """Each label once, so that innovations are honest: the level comes to be the noise, P what it implies."""
    rng = np.random.default_rng(1)
    n, n_label, noise = 6, 3000, 0.07
    truth, H = rng.normal(size=n), rng.normal(size=(n_label, n))
    y = H @ truth + noise * rng.normal(size=n_label)
    levels, w = NoiseLevels(), np.zeros(n)
    ekf = make_ekf(Ekf(epsilon=0.01, eta=1.0, eta_max=1.0, eta_tau=0.0, q=0.0, q_min=0.0), n, [], serial())
    state, found = ekf.init(), []
    for h, target in zip(H.reshape(-1, 10, n), y.reshape(-1, 10)):
        errors = target - h @ w
        levels.observe(FORCE, errors, serial())
        found.append(levels.level(FORCE))
        w += ekf.update(state, h / found[-1], errors / found[-1])
    assert np.median(found[100:]) == pytest.approx(noise, rel=0.05)
    # what theory says of the posterior: P is the covariance of w about the truth
    P = ekf.covariance(state)
    assert (w - truth) @ np.linalg.solve(P, w - truth) < 20  # chi^2 of 6 numbers: above 20 once in 360
    believed = np.repeat(found, 10)  # the first labels less, while the errors were large
    information = 0.01 * np.eye(n) + (H / believed[:, None] ** 2).T @ H
    assert P == pytest.approx(np.linalg.inv(information), rel=1e-9)


def test_errors_and_rows_are_divided_by_level_and_atoms(tmp_path):
    config = small_config(tmp_path, ekf=LEARNED)
    learned, fixed = begun(config, tmp_path, *quiet()), begun(small_config(tmp_path), tmp_path, *quiet())
    w, start = learned.state.weights, learned.task.observer.structures.start
    for kind in (ENERGY, FORCE):
        batch = next(b for b in learned.task.epoch(1) if b.kind == kind)
        rows, errors = learned.task.observe(batch, w)
        plain, plain_errors, labels = fixed.task.observer.observe(batch, w)
        scale = label_scale(config.schedule, ("energy", "force")[kind], len(labels))
        atoms = np.diff(start)[labels] if kind == ENERGY else 1.0
        raw = plain_errors / scale / atoms
        level = learned.state.noise.level(kind)
        assert level == pytest.approx(np.sqrt(np.mean(raw**2)))  # the first errors of the kind
        assert errors == pytest.approx(raw / level)
        assert rows == pytest.approx(plain / scale / (level * np.broadcast_to(atoms, len(labels)))[:, None])


def test_validation_takes_over_after_the_first_epoch_and_a_larger_error_counts_half():
    levels = NoiseLevels()
    levels.evaluated([2.0, 3.0, np.nan])
    assert levels.passes == 0 and levels.level(FORCE) == 1.0
    levels.observe(FORCE, np.array([0.5, -0.5]), serial())
    assert levels.level(FORCE) == 0.5
    levels.evaluated([1.0, 0.8, np.nan])
    assert levels.level(FORCE) == 0.8 and levels.level(2) == 1.0
    levels.evaluated([1.0, 3.2, np.nan])
    assert levels.level(FORCE) == pytest.approx(1.6)
    levels.observe(FORCE, np.array([np.nan]), serial())
    assert levels.level(FORCE) == pytest.approx(1.6)


def test_the_prior_is_the_variance_of_the_initializer_in_each_layer():
    segments = [(0, 3, 2, 0, 0), (8, 2, 1, 0, 1)]
    for coupling in ("full", "node"):
        ekf = make_ekf(Ekf(prior=10.0, coupling=coupling, r_max=2, eta_tau=0.0), 11, segments, serial())
        P = ekf.covariance(ekf.init())
        assert P == pytest.approx(np.diag([10 * 2 / 5] * 8 + [10 * 2 / 3] * 3))
        rng = np.random.default_rng(1)
        H = rng.normal(size=(1, 11))
        state = ekf.init()
        step = ekf.update(state, H, np.ones(1))
        if coupling == "full":
            expected, after = dense_update(P, H, np.ones(1), np.eye(1) / 0.01, q=0.01)
            assert step == pytest.approx(expected) and ekf.covariance(state) == pytest.approx(after)


def test_a_run_with_learned_levels_resumes_bit_for_bit_and_tells_them(tmp_path):
    config = small_config(tmp_path, ekf=LEARNED, run={"epochs": 3})
    whole = train(config, tmp_path / "whole", *quiet())
    part = config.with_keys("run", updates=whole.update // 2)
    train(part, tmp_path / "parts", *quiet())
    resumed = train(config, tmp_path / "parts", *quiet(), resume=True)
    assert np.array_equal(whole.weights, resumed.weights) and whole.noise.passes == resumed.noise.passes == 3
    assert "noise level" in (tmp_path / "whole" / "train.log").read_text()


def check_ranks(comm):
    with tempfile.TemporaryDirectory() as own:
        folder = Path(comm.bcast(own, root=0))
        if comm.rank == 0:
            write_clusters(folder / "clusters.extxyz")
        comm.Barrier()
        config = small_config(folder, ekf=LEARNED, schedule={"streams": 4})
        run = begun(config, folder, comm, Log(comm, stream=open(os.devnull, "w")))
        run.epoch()
        levels = run.state.noise.innovation
        assert all(np.array_equal(levels, theirs, equal_nan=True) for theirs in comm.allgather(levels))
        if comm.rank == 0:
            alone = begun(config, folder, *quiet())
            alone.epoch()
            assert (
                np.abs(run.state.weights - alone.state.weights).max()
                < 1e-9 * np.abs(alone.state.weights).max()
            )
            assert levels == pytest.approx(alone.state.noise.innovation, nan_ok=True, rel=1e-9)
        comm.Barrier()


def test_levels_do_not_depend_on_the_rank_count():
    on_ranks(3, check_ranks)
