"""Observations of a run: errors, rows and the gradient that the optimisers take,
against predictions of the potential itself.
"""

import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from launch import on_ranks
from small import begun, small_config, write_clusters

from mpnnp.kernels.jit import read_only
from mpnnp.model.label_kinds import ENERGY, FORCE
from mpnnp.parallel import serial, share
from mpnnp.progress import Log
from mpnnp.training.schedules import Batch

RUNNER = {
    "name": "runner",
    "streams": 5,
    "selection": "random",
    "energy_weight": 1.7,
    "force_weight": 10.0,
    "force_fraction": 0.2,
}
SDNZ = {
    "name": "sdnz",
    "energies_per_update": 3,
    "forces_per_update": 7,
    "energy_weight": 2.0,
    "force_weight": 30.0,
}
SCALES = {  # of errors and rows, for energies and forces
    "runner": (1.7, 10.0),
    "sdnz": (np.sqrt(2.0 / 3), np.sqrt(30.0 / 7)),
}


def make_run(folder, comm, schedule, **sections):
    """A run on clusters of one and two molecules that has not begun."""
    config = small_config(folder, schedule=schedule, **sections)
    return begun(config, folder, comm, Log(comm, stream=open(os.devnull, "w")))


def batch_of(run, kind):
    """The first batch of a kind; every label of it is another one."""
    epoch = run.task.schedule.epoch(1)
    return epoch[int(np.argmax(epoch.kinds == kind))]


def errors_of(run, kind, labels, w, scale):
    """s (y - y_hat) in training units from the predictions of the whole potential: energies / energy_scale,
    forces / force_scale.
    """
    potential, start, errors = run.task.potential.with_weights(w), run.task.observer.structures.start, []
    for label in labels:
        s = label if kind == ENERGY else np.searchsorted(start, label // 3, side="right") - 1
        structure = run.task.observer.dataset[s]
        energy, forces = potential.energy_forces(structure)
        if kind == ENERGY:
            errors.append((structure.energy - energy) / potential.energy_scale)
        else:
            errors.append((structure.forces - forces).ravel()[label - 3 * start[s]] / potential.force_scale)
    return scale * np.array(errors)


def derivatives(function, w, h=2e-4):
    """d function / dw (n_value, n_weight) by central differences, exact to the fourth order in h."""
    columns = []
    for k in range(len(w)):
        step = np.zeros(len(w))
        step[k] = h
        columns.append(
            (8 * (function(w + step) - function(w - step)) - function(w + 2 * step) + function(w - 2 * step))
            / (12 * h)
        )
    return np.array(columns).T


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("observations")


@pytest.mark.parametrize("kind", [ENERGY, FORCE], ids=["energy", "force"])
@pytest.mark.parametrize("schedule", [RUNNER, SDNZ], ids=lambda s: s["name"])
def test_errors_and_rows_are_those_of_the_potential(folder, schedule, kind):
    """Errors from predicted energies and forces, rows from their finite differences in w,
    both times the weight of the label.
    """
    run = make_run(folder, serial(), schedule)
    batch, w, scale = batch_of(run, kind), run.state.weights, SCALES[schedule["name"]][kind]
    rows, errors, labels = run.task.observer.observe(batch, read_only(w))
    assert np.array_equal(labels, batch.candidates[:, 0]) and len(np.unique(labels)) == len(labels)
    np.testing.assert_allclose(errors, errors_of(run, kind, labels, w, scale), rtol=1e-9, atol=1e-10)
    expected = -derivatives(lambda v: errors_of(run, kind, labels, v, scale), w)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(rows, expected, rtol=1e-7, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("kind", [ENERGY, FORCE], ids=["energy", "force"])
def test_summed_rows_are_the_sums_of_the_rows(folder, kind, groups):
    """Of each group of k streams that follow each other, over sqrt(k)."""
    full, summed = (
        make_run(folder, serial(), RUNNER | {"rows": rows, "groups": groups}) for rows in ("full", "sum")
    )
    w = read_only(full.state.weights)
    rows, errors, labels = full.task.observer.observe(batch_of(full, kind), w)
    rows = rows.copy()
    short, few, same = summed.task.observer.observe(batch_of(full, kind), w)
    assert np.array_equal(labels, same) and short.shape == (groups, len(w))
    groups_of_labels = {1: [[0, 1, 2, 3, 4]], 2: [[0, 1, 2], [3, 4]], 5: [[0], [1], [2], [3], [4]]}[groups]
    for g, group in enumerate(groups_of_labels):
        np.testing.assert_allclose(
            short[g], rows[group].sum(axis=0) / np.sqrt(len(group)), rtol=1e-12, atol=1e-13
        )
        assert few[g] == pytest.approx(errors[group].sum() / np.sqrt(len(group)), rel=1e-12)


def test_threshold_selection_takes_labels_by_their_errors(folder):
    """In a run: the first candidate whose error per atom, or of the force component,
    is above the threshold times the RMSE; else the worst.
    """
    run = make_run(
        folder,
        serial(),
        RUNNER | {"selection": "threshold", "energy_threshold": 1.3, "force_threshold": 1.0, "trials": 4},
    )
    run.judge.record(run.state, 0, lambda: 0.0)
    w, start, kinds_of_choice = run.state.weights, run.task.observer.structures.start, set()
    epochs = [run.task.schedule.epoch(number) for number in range(1, 7)]
    for batch in (epoch[u] for epoch in epochs for u in range(len(epoch))):
        labels = run.task.observer.observe(batch, read_only(w))[2]
        for taken, candidates in zip(labels, batch.candidates):
            size = np.abs(errors_of(run, batch.kind, candidates, w, 1.0))
            size /= np.diff(start)[candidates] if batch.kind == ENERGY else 1.0
            above = size > (1.3, 1.0)[batch.kind] * run.state.rmse[batch.kind]
            assert taken == candidates[np.argmax(above) if above.any() else np.argmax(size)]
            kinds_of_choice.add((batch.kind, bool(above.any())))
    assert len(kinds_of_choice) == 4


# ---- the gradient of the loss


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_gradient_of_adam_is_that_of_the_loss_on_any_number_of_ranks(ranks):
    on_ranks(ranks, check_gradient)


def loss(xi, groups, w):
    """Sum over groups of (sum of xi)^2 / size."""
    errors = xi(w=w)
    return np.array([sum(errors[group].sum() ** 2 / len(group) for group in groups)])


def check_gradient(comm):
    """g of the first update, (1 - beta1) g = m,
    against finite differences of L2 = sum xi^2 over the labels of all ranks.

    Batches of five labels and of one, so that some ranks have none; and rows summed over groups, whose loss
    is that of the summed errors.
    """
    keep = tempfile.TemporaryDirectory() if comm.rank == 0 else None
    folder = Path(comm.bcast(keep and keep.name, root=0))
    if comm.rank == 0:
        write_clusters(folder / "clusters.extxyz", 12)
    comm.Barrier()
    adam = {"clip_norm": 0.0, "beta1": 0.5}
    for change in ({}, {"rows": "sum", "groups": 2}):
        run = make_run(folder, comm, RUNNER | change, adam=adam, run={"optimizer": "adam"})
        for kind, n in ((ENERGY, 5), (FORCE, 5), (FORCE, 1)):
            batch = Batch(kind, batch_of(run, kind).candidates[:n])
            state, w = run.task.optimizer.init(), run.state.weights
            rows, errors, labels = run.task.observer.observe(batch, read_only(w))
            assert len(labels) == len(share(n, comm))
            run.task.optimizer.update(state, rows, errors)
            gradient = state.m / 0.5
            groups = [[0, 1, 2], [3, 4]] if change and n == 5 else [[m] for m in range(n)]

            xi = partial(errors_of, run, kind, batch.candidates[:, 0], scale=SCALES["runner"][kind])
            expected = derivatives(partial(loss, xi, groups), w)[0]
            assert np.linalg.norm(gradient - expected) < 1e-8 * np.linalg.norm(expected)
            assert all(np.array_equal(gradient, theirs) for theirs in comm.allgather(gradient))
    comm.Barrier()
    del keep


def test_observations_are_arrays_of_their_own(tmp_path):
    """What a batch gave stays as it is while the next is observed."""
    write_clusters(tmp_path / "clusters.extxyz")
    run = make_run(tmp_path, serial(), RUNNER)
    first, second = (b for b, _ in zip((b for b in run.task.epoch(1) if b.kind == FORCE), range(2)))
    rows, errors = run.task.observe(first, run.state.weights)
    kept = rows.copy(), errors.copy()
    other, _ = run.task.observe(second, run.state.weights)
    assert np.array_equal(rows, kept[0]) and np.array_equal(errors, kept[1])
    assert not np.array_equal(rows, other) and not np.shares_memory(rows, other)
