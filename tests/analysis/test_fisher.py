"""Fisher information: against dense brute force, on any number of ranks,
and against the covariance of a real run of the filter.
"""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from launch import on_ranks
from mpi4py import MPI
from small import quiet, small_config, write_clusters

from mpnnp.analysis import fisher, fisher_report
from mpnnp.analysis.fisher import (
    Gradients,
    Spectrum,
    accumulate,
    distance,
    expected_information,
    fisher_spectrum,
)
from mpnnp.config import Data
from mpnnp.data.formats import read_sources
from mpnnp.errors import CheckpointError, ConfigError
from mpnnp.model.label_kinds import ENERGY, FORCE
from mpnnp.parallel import serial
from mpnnp.progress import Log
from mpnnp.training.checkpoint import read_posterior, read_potential
from mpnnp.training.initial_potential import build
from mpnnp.training.labels import labels_per_update
from mpnnp.training.observations import Observer
from mpnnp.training.run_groups import find_groups
from mpnnp.training.start import assemble
from mpnnp.training.train import train

SILENT = Log(stream=open("/dev/null", "w"))
CONSTANT = {"epsilon": 0.5, "eta": 0.3, "eta_tau": 0.0, "eta_max": 0.3, "q": 0.0, "q_min": 0.0}


@pytest.fixture
def clusters(tmp_path):
    return make_gradients(tmp_path)


def make_gradients(folder, comm=None):
    """Gradients of a small untrained potential on 12 clusters; one label of each kind is missing."""
    config = small_config(folder)
    data = read_sources(config.data.files, report=lambda line: None)
    data.energy[3], data.forces[5] = np.nan, np.nan
    potential, structures, G = build(config, data, np.arange(len(data)), folder, comm or serial(), SILENT)
    return Gradients(data, structures, G, potential)


def numerical_gradient(gradients, kind, batch):
    """grad_w L1 of one batch by central differences of the predictions of `Potential`."""
    potential, data = gradients.observer.predictor.potential, gradients.observer.dataset

    def loss(w):
        total, moved = 0.0, potential.with_weights(w)
        for label in batch:
            s = label if kind == ENERGY else int(np.searchsorted(data.start, label // 3, side="right")) - 1
            energy, forces = moved.energy_forces(data[s])
            predicted = energy if kind == ENERGY else forces.ravel()[label - 3 * data.start[s]]
            total += abs((data.energy[s] if kind == ENERGY else data.forces.ravel()[label]) - predicted)
        return total

    h, w = 1e-5, potential.weights
    return np.array([(loss(w + h * e) - loss(w - h * e)) / (2 * h) for e in np.eye(len(w))])


@pytest.mark.parametrize("kind, size", [(ENERGY, 1), (ENERGY, 2), (FORCE, 1), (FORCE, 3)])
def test_gradients_are_those_of_the_sum_of_absolute_errors(clusters, kind, size):
    batches = clusters.batches(kind, size, 2, seed=4)
    found = np.concatenate([g.copy() for g in clusters.blocks(kind, batches, serial())])
    expected = np.array([numerical_gradient(clusters, kind, batch) for batch in batches])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * abs(expected).max())


def test_missing_labels_are_never_drawn_and_single_labels_come_once(clusters):
    energies, forces = (clusters.batches(kind, 1, 10_000)[:, 0] for kind in (ENERGY, FORCE))
    assert sorted(energies) == [k for k in range(12) if k != 3]
    assert sorted(forces) == [
        k for k in range(3 * len(clusters.observer.dataset.forces)) if k not in (15, 16, 17)
    ]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_spectrum_is_that_of_the_dense_matrix_on_any_number_of_ranks(ranks, tmp_path, monkeypatch):
    write_clusters(tmp_path / "clusters.extxyz")
    monkeypatch.setenv("FISHER_TEST_FOLDER", str(tmp_path))  # the ranks inherit it
    on_ranks(ranks, dense_on_ranks)


def dense_on_ranks(comm):
    folder = Path(os.environ["FISHER_TEST_FOLDER"])
    shared = make_gradients(folder, comm)
    n = shared.n
    for kind, size, n_batch in (
        (ENERGY, 1, 100),
        (FORCE, 10, 20),
        (FORCE, 1, 1000),
        (FORCE, 4, 3 * n),
        (ENERGY, 1, 1),
    ):
        batches = shared.batches(kind, size, n_batch)
        rows = []
        for batch in batches:  # label by label
            single = [
                next(shared.blocks(kind, np.array([[label]]), MPI.COMM_SELF)).copy()[0] for label in batch
            ]
            rows.append(np.sum(single, axis=0))
        rows = np.array(rows)
        dense = rows.T @ rows / len(rows)
        matrix = accumulate(shared.blocks(kind, batches, comm), n, len(batches), comm)
        found = fisher_spectrum(shared, kind, size, n_batch, comm)
        if comm.rank:
            assert matrix is None and found is None
            continue
        np.testing.assert_allclose(np.tril(matrix), np.tril(dense), rtol=0, atol=1e-10 * abs(dense).max())
        values = np.linalg.eigvalsh(dense)
        np.testing.assert_allclose(found.eigenvalues, values, rtol=0, atol=1e-10 * values[-1])
        assert found.n_row == len(batches) and found.rank <= min(n, len(batches))
        np.testing.assert_allclose(found.trace, np.trace(dense), rtol=1e-10)


def test_singular_values_of_rows_are_exact_where_the_matrix_is_not():
    """Rows with singular values over 12 decades: their squares span 24,
    which no solver on the matrix could resolve.
    """
    n, m = 40, 12
    rng = np.random.default_rng(2)
    left, right = np.linalg.qr(rng.normal(size=(m, m)))[0], np.linalg.qr(rng.normal(size=(n, n)))[0][:m]
    values = 10.0 ** -np.arange(m)
    found = fisher.spectrum(iter([left @ (values[:, None] * right)]), n, m, serial())
    np.testing.assert_allclose(np.sqrt(found.known[::-1] * m), values, rtol=1e-3)
    many = fisher.spectrum(iter([np.concatenate([left @ (values[:, None] * right)] * 4)]), n, 4 * m, serial())
    assert many.rank < m and many.floor > found.floor


@pytest.mark.parametrize(
    "schedule",
    [{"name": "sdnz", "updates_per_epoch": 30}, {"name": "runner", "streams": 3, "force_weight": 7.0}],
)
def test_inverse_covariance_is_the_fisher_matrix_of_the_rows_that_the_filter_saw(
    tmp_path, monkeypatch, schedule
):
    """P^-1 = epsilon I + eta sum H^T H, exactly, for q = 0 and constant eta:
    a whole training run, its rows recorded.
    """
    comm, log = quiet()
    seen, observe = [], Observer.observe

    def recording(self, batch, w, pause=None):
        result = observe(self, batch, w, pause)
        seen.append(result[0].copy())
        return result

    monkeypatch.setattr(Observer, "observe", recording)
    state = train(
        small_config(tmp_path, schedule=schedule, ekf=CONSTANT | {"r_max": 7}), tmp_path / "run", comm, log
    )
    assert len(seen) >= state.update > 20
    H = np.concatenate(seen[-state.update :])  # the first ones compiled the kernels
    information = accumulate(iter([H]), H.shape[1], 1, serial())
    information = 0.3 * (np.tril(information) + np.tril(information, -1).T) + 0.5 * np.eye(len(information))
    P = read_posterior(tmp_path / "run" / "checkpoint.h5").dense()
    np.testing.assert_allclose(
        information @ P, np.eye(len(P)), rtol=0, atol=1e-12 * np.linalg.cond(information)
    )
    np.testing.assert_allclose(np.linalg.eigvalsh(P), 1 / np.linalg.eigvalsh(information)[::-1], rtol=1e-7)


def test_filter_of_a_net_that_hardly_moves_has_seen_the_final_rows(tmp_path):
    """With a large epsilon the weights stay where they are: expected information and P^-1 are then equal,
    up to the choice of the labels.
    """
    comm, log = quiet()
    schedule = {"name": "sdnz", "updates_per_epoch": 2000, "forces_per_update": 4, "energy_probability": 0.3}
    config = small_config(
        tmp_path,
        schedule=schedule,
        ekf=CONSTANT | {"epsilon": 1e4, "eta": 1e-3, "eta_max": 1e-3},
        run={"epochs": 1},
    )
    train(config, tmp_path / "run", comm, log)
    training = Data(files=[str(tmp_path / "clusters.extxyz")])
    model = fisher_report.analyse(tmp_path / "run" / "checkpoint.h5", "one", training, tmp_path, comm, log)
    change = model.filter_information - 1e4, model.expected - 1e4
    np.testing.assert_allclose(change[1].sum(), change[0].sum(), rtol=0.15)
    np.testing.assert_allclose(model.expected[-3:], model.filter_information[-3:], rtol=0.15)


def test_the_memory_of_a_filter_that_learns_its_noise_is_compared_with_nothing(tmp_path):
    """Its levels, and so the scales of its rows, were others at each update; eta and epsilon are not its."""
    comm, log = quiet()
    config = small_config(tmp_path, ekf={"noise": "learned"}, run={"epochs": 1})
    train(config, tmp_path / "run", comm, log)
    training = Data(files=[str(tmp_path / "clusters.extxyz")])
    model = fisher_report.analyse(tmp_path / "run" / "checkpoint.h5", "one", training, tmp_path, comm, log)
    assert model.expected is None and (model.filter_information > 0.0).all()
    assert "P^-1" not in fisher_report.table(fisher_report.Analysis([model]))


@pytest.mark.parametrize("nodes", [False, True])
def test_expected_information_begins_with_the_prior(tmp_path, nodes):
    comm, log = quiet()
    config = small_config(tmp_path, ekf=CONSTANT | {"prior": 7.0}, network={"normalize_nodes": nodes})
    task = assemble(config, comm, log, tmp_path)
    gradients = Gradients(task.dataset, task.observer.structures, task.observer.G, task.potential)
    P = task.optimizer.covariance(task.optimizer.init())
    if nodes:
        P = P * np.multiply.outer(task.optimizer.units, task.optimizer.units)
    found = expected_information(gradients, config, 0, 10, comm)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(np.linalg.inv(P)), rtol=1e-12)


def covariance_is_sent_to_no_rank(comm):
    """Body for several ranks: what the analysis broadcasts holds no array of the filter."""
    folder = Path(os.environ["TMPDIR_OF_TEST"])
    read = fisher_report.read_shared

    def checked(comm, function):
        saved = read(comm, function)
        assert bool(saved.optimizer) == (comm.rank == 0)
        return saved

    fisher_report.read_shared = checked
    training = Data(files=[str(folder / "clusters.extxyz")])
    path = folder / "run" / "checkpoint.h5"
    model = fisher_report.analyse(path, "one", training, folder, comm, Log(comm, open(os.devnull, "w")), 50)
    assert (model.filter_information is None) == (model.expected is None) == (comm.rank != 0)


def test_rank_0_alone_holds_the_covariance_that_is_analysed(tmp_path, monkeypatch):
    comm, log = quiet()
    train(small_config(tmp_path, ekf=CONSTANT, run={"epochs": 1}), tmp_path / "run", comm, log)
    monkeypatch.setenv("TMPDIR_OF_TEST", str(tmp_path))
    on_ranks(2, covariance_is_sent_to_no_rank)


def test_analysis_of_two_groups_writes_spectra_distances_and_starts(tmp_path):
    comm, log = quiet()
    models = []
    for name, optimizer in (("ekf", "ekf"), ("adam", "adam")):
        for seed in (1, 2):
            folder = tmp_path / name / f"seed-{seed}"
            config = small_config(
                tmp_path, ekf=CONSTANT, run={"optimizer": optimizer, "seed": seed, "epochs": 1}
            )
            train(config, folder, comm, log)
    data = Data(files=[str(tmp_path / "clusters.extxyz")])
    for name, paths in find_groups([str(tmp_path / "*" / "seed-*" / "checkpoint.h5")]).items():
        for path in paths:
            models.append(fisher_report.analyse(path, name, data, tmp_path, comm, log, n_batch=200))
    analysis = fisher_report.Analysis(models)
    assert {name: len(models) for name, models in analysis.groups.items()} == {"ekf": 2, "adam": 2}
    model = analysis.models[0]
    start = read_potential(tmp_path / "adam" / "seed-1" / "initial.h5").weights
    np.testing.assert_array_equal(model.start, start)
    np.testing.assert_allclose(model.moved, np.linalg.norm(model.weights - start))
    (tmp_path / "adam" / "seed-1" / "initial.h5").unlink()
    first = tmp_path / "adam/seed-1/checkpoint.h5"
    again = fisher_report.analyse(first, "adam", data, tmp_path, comm, log, n_batch=20)
    np.testing.assert_array_equal(again.start, start)  # from the seed
    fisher_report.write(tmp_path / "fisher.h5", analysis)
    fisher_report.draw(tmp_path / "fisher.png", analysis)
    text = fisher_report.table(analysis)
    assert "Wasserstein" in text and "P^-1" in text
    with h5py.File(tmp_path / "fisher.h5") as file:
        assert len(file["models"]) == 4
        np.testing.assert_array_equal(
            file["models/2/forces/eigenvalues"], analysis.models[2].spectra["forces"].eigenvalues
        )
        assert file["distances/energies/adam - ekf"].shape == (2,)
    assert (tmp_path / "fisher.png").stat().st_size > 10_000


def test_a_start_that_cannot_be_read_is_not_taken_for_one_that_is_not_there(tmp_path, monkeypatch):
    def refuse(path):
        raise CheckpointError(f"{path}: cannot be read: Input/output error")

    monkeypatch.setattr(fisher_report.checkpoint, "read_potential", refuse)
    with pytest.raises(CheckpointError, match="initial.h5: cannot be read"):
        fisher_report._start(tmp_path / "checkpoint.h5", None, small_config(tmp_path))


def test_labels_that_say_nothing_have_a_spectrum_too(tmp_path):
    """Forces that symmetry makes 0 have rows of zeros, and no eigenvalue above rounding."""
    nothing = {"forces": Spectrum(np.zeros(3), 0.0, 5)}
    model = fisher_report.Model("one/best.h5", "one", nothing, np.ones(3), None)
    analysis = fisher_report.Analysis([model])
    assert "peak of the spectrum at 10^(nan" in fisher_report.table(analysis)
    fisher_report.draw(tmp_path / "fisher.png", analysis)
    assert (tmp_path / "fisher.png").stat().st_size > 1000


def test_distance_of_groups_is_the_shift_in_decades():
    values = 10.0 ** np.random.default_rng(3).normal(-3, 1, 500)
    group = [Spectrum(np.sort(values), 0.0, 500)] * 2
    shifted = [Spectrum(np.sort(values * 10), 0.0, 500)]
    np.testing.assert_allclose(distance(shifted, group), (1.0, 1.0), rtol=1e-9)
    np.testing.assert_allclose(distance(group, group), (0.0, 0.0), atol=1e-12)
    # rounding hides the lower part of one model: no bias
    hidden = [Spectrum(np.sort(values / 10), np.quantile(values / 10, 0.3), 500)]
    np.testing.assert_allclose(distance(hidden, group), (-1.0, 1.0), rtol=1e-9)


def test_effective_dimension_counts_equal_eigenvalues():
    assert Spectrum(np.array([0.0, 0.0, 2.0, 2.0, 2.0]), 1e-12, 9).effective_dimension == pytest.approx(3.0)
    one = Spectrum(np.array([1e-20, 3.0]), 1e-15, 9)
    assert (one.effective_dimension, one.rank, one.condition, one.trace) == (pytest.approx(1.0), 1, 1.0, 3.0)


def test_groups_of_runs(tmp_path):
    for name in ("a/seed-10", "a/seed-2", "b"):
        (tmp_path / name).mkdir(parents=True)
    found = find_groups([tmp_path / "a", str(tmp_path / "b")], [f"both={tmp_path}/b,{tmp_path}/a/seed-*"])
    assert [p.name for p in found["a"]] == ["seed-2", "seed-10"]
    assert (len(found["b"]), len(found["both"])) == (1, 3)
    with pytest.raises(ConfigError, match="--group nothing: expected NAME=RUN,RUN"):
        find_groups([], ["nothing"])
    with pytest.raises(ConfigError, match=f"{tmp_path}/none: no such file or folder"):
        find_groups([], [f"x={tmp_path}/none"])
    with pytest.raises(ConfigError, match="no runs"):
        find_groups([])


def test_expected_information_counts_every_kind_as_the_schedule_does(tmp_path):
    """force_streams and further kinds of labels: eta sum H^T H over an epoch that takes every label once."""
    comm, log = quiet()
    schedule = {"streams": 2, "force_streams": 3, "force_fraction": 1.0, "selection": "random"}
    config = small_config(tmp_path, schedule=schedule, ekf=CONSTANT, data={"validation_fraction": 0.0})
    task = assemble(config, comm, log, tmp_path)
    gradients = Gradients(task.dataset, task.observer.structures, task.observer.G, task.potential)
    n_epoch = 7
    found = expected_information(gradients, config, n_epoch * len(task.epoch(1)), 10**6, comm)
    information, n_seen = config.ekf.epsilon * np.eye(gradients.n), [0, 0]
    for batch in task.epoch(1):
        rows, _ = task.observe(batch, task.potential.weights)
        n_seen[batch.kind] += len(rows)
        information += n_epoch * config.ekf.eta_max * rows.T @ rows
    assert n_seen[0] == len(task.labels[0]) and abs(n_seen[1] - len(task.labels[1])) <= 2
    assert labels_per_update(config.schedule, 1) == 3 and labels_per_update(config.schedule, 0) == 2
    np.testing.assert_allclose(found, np.linalg.eigvalsh(information), rtol=0.02, atol=1e-9 * found[-1])
