"""Energies of one simulation: their errors in common are found, and count as what they are worth."""

import numpy as np
import pytest
from ase.io import write
from small import CELL, begun, boxes, cluster, quiet, small_config

from mpnnp.data.formats import read_sources
from mpnnp.kernels.jit import read_only
from mpnnp.model.label_kinds import ENERGY
from mpnnp.parallel import serial
from mpnnp.training.common_errors import LEAST_GROUPS, Groups, design_effect


def groups_of(tmp_path, frames):
    write(tmp_path / "boxes.extxyz", frames)
    dataset = read_sources(tmp_path / "boxes.extxyz", report=lambda line: None)
    return Groups.of(dataset, np.arange(len(dataset))), dataset


def test_frames_of_one_box_with_the_same_atoms_are_a_group(tmp_path):
    sizes = [4, 3, 2, 2, 5, 1]
    frames = boxes(sizes)
    turned = next(k for k, a in enumerate(frames) if a.cell[0, 0] == CELL)
    frames[turned] = frames[turned][[2, 0, 1]]  # the same atoms in another order
    found, dataset = groups_of(tmp_path, frames)
    assert sorted(found.size) == [2, 2, 3, 4, 5]
    edge = dataset.cell[:, 0, 0].round()
    for g in range(len(found.size)):
        assert len(set(edge[found.group == g])) == 1
    alone = edge == CELL + 5
    assert found.size_of(np.arange(len(dataset)))[alone].tolist() == [1]
    assert set(found.members()) == set(np.flatnonzero(~alone))


@pytest.mark.parametrize("change", ["few", "clusters", "other atoms"])
def test_what_makes_no_groups(tmp_path, change):
    frames = boxes([3] * (LEAST_GROUPS - (change == "few")))
    rng = np.random.default_rng(1)
    for k, atoms in enumerate(frames):
        if change == "clusters":
            atoms.pbc = False
        if change == "other atoms":  # each box holds a molecule, two and three
            n = 1 + [a.cell[0, 0] for a in frames[:k]].count(atoms.cell[0, 0])
            larger = cluster(rng, n)
            larger.cell, larger.pbc = atoms.cell, True
            frames[k] = larger
    found, dataset = groups_of(tmp_path, frames)
    everything = np.arange(len(dataset))
    assert len(found.size) == 0 and found.size_of(everything).tolist() == [1] * len(dataset)
    assert found.correlation(found.members(), np.zeros(0), serial()) == 0.0


def correlations(rng, n_group, of_groups, times):
    """Lower limits from samples of groups that deviate by of_groups, their members by 1."""
    found = []
    for _ in range(times):
        size = rng.integers(2, 20, size=n_group)
        group = np.repeat(np.arange(n_group), size)
        errors = 7.0 + of_groups * rng.normal(size=n_group)[group] + rng.normal(size=len(group))
        found.append(Groups(group, size).correlation(np.arange(len(group)), errors, serial()))
    return np.array(found)


@pytest.mark.parametrize("of_groups", [0.5, 2.0])
def test_the_correlation_of_many_groups_is_found(of_groups):
    found = correlations(np.random.default_rng(5), 1000, of_groups, 3)
    truth = of_groups**2 / (of_groups**2 + 1)
    assert (truth - 0.05 < found).all() and (found < truth + 0.01).all()


def test_a_correlation_by_chance_is_none():
    rng = np.random.default_rng(6)
    assert 0.92 < np.mean(correlations(rng, 8, 0.0, 1000) == 0.0) < 0.98
    assert 0.9 < np.mean(correlations(rng, 8, 0.5, 1000) < 0.2) < 0.99  # the true one


def test_the_mean_of_a_group_gets_the_variance_that_it_has():
    """Independent labels with the noise times the design effect know the mean of correlated ones as well as
    generalised least squares with their true covariance.
    """
    m, n_group, rho = 7, 5, 0.3
    block = (1 - rho) * np.eye(m) + rho * np.ones((m, m))
    covariance = np.kron(np.eye(n_group), block)
    ones = np.ones(m * n_group)
    exact = 1.0 / (ones @ np.linalg.solve(covariance, ones))
    assert 1.0 / np.sum(ones / design_effect(rho, np.full(m * n_group, m))) == pytest.approx(exact)
    assert Groups(np.arange(0), np.full(n_group, m)).worth(rho) == pytest.approx(1.0 / exact)


def test_energies_are_believed_less_and_forces_as_before(tmp_path):
    write(tmp_path / "clusters.extxyz", boxes([4] * 6))
    run = begun(
        small_config(tmp_path, ekf={"noise": "learned", "prior": 30.0, "coupling": "element"}),
        tmp_path,
        *quiet(),
    )
    observer, noise, w = run.task.observer, run.state.noise, run.state.weights
    batch = next(b for b in run.task.epoch(1) if b.kind == ENERGY)
    together = observer.groups.size_of(batch.candidates[:, 0])
    assert together.max() > 1 and noise.correlation == 0.0  # nothing is known yet
    errors = {}
    for correlation in (0.0, 0.25, 1.0):
        noise.correlation = correlation
        noise.innovation[:] = np.nan
        errors[correlation] = run.task.observe(batch, w)[1]
    for correlation in (0.25, 1.0):
        factor = np.sqrt(1 + (together - 1) * correlation)
        assert errors[correlation] * factor == pytest.approx(errors[0.0])
    run.epoch()
    assert noise.correlation == observer.correlation_of_energies(read_only(run.state.weights))
    assert 0.0 <= noise.correlation < 1.0
