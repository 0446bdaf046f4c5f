"""Kinds of labels: one made here trains, is selected, told, drawn,
saved and resumed without an edit of the package.
"""

import numpy as np
import pytest
from small import quiet, small_config

from mpnnp.errors import ConfigError
from mpnnp.kernels.jacobian import energy_rows, energy_values
from mpnnp.library import fisher, read
from mpnnp.model.label_kinds import KINDS, LabelKind, position
from mpnnp.training.labels import Labels
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.start import assemble
from mpnnp.training.train import train


def make_kind():
    """The energy of all O atoms of a structure: the rows of the energy without those of the net of H."""

    def rows(places, structures, G, model, w, rows, values):
        energy_rows(places, structures, G, model, w, rows, values)
        rows[:, model.topology.start[0] : model.topology.start[1]] = 0.0
        values[:] = of_oxygen(places, structures, G, model, w)

    def values(places, structures, G, model, w, values):
        values[:] = of_oxygen(places, structures, G, model, w)

    def of_oxygen(places, structures, G, model, w):
        """Energies with all weights of H's net at zero: its output is then 0 (tanh layer, softplus,
        linear output).
        """
        mute = np.array(w)
        mute[model.topology.start[0] : model.topology.start[1]] = 0.0
        found = np.empty(len(places))
        energy_values(places, structures, G, model, mute, found)
        return found

    def label(dataset):
        n_oxygen = np.add.reduceat(np.asarray(dataset.numbers) == 8, dataset.start[:-1])
        return -0.3 * n_oxygen + 0.02 * np.asarray(dataset.energy)

    def predicted(prediction, structures, s):
        of_structure = slice(structures.start[s], structures.start[s + 1])
        return prediction.energies[structures.element[of_structure] == 1].sum()[None, None]

    return LabelKind(
        name="oxygen",
        words="energies of oxygen",
        per="structure",
        unit="eV",
        error_unit="meV",
        short_unit="meV",
        label=label,
        predicted=predicted,
        rows=rows,
        values=values,
        scale=lambda potential, labels: potential.energy_scale,
        offset=lambda structures, potential: (
            np.add.reduceat(structures.element == 1, structures.start[:-1])
            * (potential.atomic_energies[1] + potential.mean_energy)
        ),
    )


@pytest.fixture
def oxygen(monkeypatch):
    kind = make_kind()
    monkeypatch.setitem(KINDS, "oxygen", kind)
    return kind


def config_of(tmp_path, **schedule):
    labels = {
        "oxygen": {"fraction": 1.0, "weight": 10.0, "metric_weight": 1.0, "probability": 0.3, "per_update": 2}
    }
    return small_config(tmp_path, schedule={"labels": labels} | schedule, run={"epochs": 4})


def test_rows_of_a_kind_of_ones_own_are_those_of_finite_differences(tmp_path, oxygen):
    task = assemble(config_of(tmp_path), *quiet(), tmp_path)
    k = position("oxygen")
    batch = next(b for b in task.epoch(1) if b.kind == k)
    w = task.potential.weights
    rows, errors = task.observe(batch, w)
    direction = np.random.default_rng(1).normal(size=len(w))
    high, low = (task.observe(batch, w + h * direction)[1] for h in (1e-6, -1e-6))
    assert rows @ direction == pytest.approx(-(high - low) / 2e-6, rel=1e-6)
    assert np.abs(errors).max() > 0


@pytest.mark.parametrize("schedule", [{}, {"selection": "sort"}, {"name": "sdnz", "updates_per_epoch": 100}])
def test_a_kind_made_in_a_test_trains_without_an_edit_of_the_package(tmp_path, oxygen, schedule):
    """Its errors are below those of a run that only compares it, at the end by more than a half."""
    comm, log = quiet()
    config = config_of(tmp_path, **schedule)
    idle = config.with_keys("schedule", labels={})
    curve, unlearned = (
        train(c, tmp_path / name, comm, log).curve.columns()["oxygen_rmse_train"]
        for name, c in (("run", config), ("idle", idle))
    )
    assert np.isfinite(curve).all() and np.median(curve[1:]) < np.median(unlearned[1:])
    assert curve[-1] < unlearned[-1] / 2
    assert "oxygen_rmse_validation" in LearningCurve.read(tmp_path / "run" / "learning-curve.csv")
    text = (tmp_path / "run" / "train.log").read_text()
    assert "energies of oxygen" in text and "oxygen (meV)" in text
    assert (tmp_path / "run" / "parity.png").stat().st_size > 10_000


def test_a_run_with_a_kind_of_ones_own_is_resumed_bit_for_bit(tmp_path, oxygen):
    config = config_of(tmp_path, selection="sort")
    whole = train(config, tmp_path / "whole", *quiet())
    part = config.with_keys("run", updates=whole.update // 2)
    train(part, tmp_path / "parts", *quiet())
    resumed = train(config, tmp_path / "parts", *quiet(), resume=True)
    assert np.array_equal(whole.weights, resumed.weights)
    assert np.array_equal(
        whole.curve.columns()["oxygen_mae_validation"], resumed.curve.columns()["oxygen_mae_validation"]
    )


def test_the_fisher_information_of_a_kind_of_ones_own(tmp_path, oxygen):
    """It knows nothing of the weights of H."""
    task = assemble(config_of(tmp_path), *quiet(), tmp_path)
    data = read(str(tmp_path / "clusters.extxyz"))
    spectrum, matrix = fisher(task.potential, data, "oxygen", matrix=True)
    n_H = task.potential.network.topology.start[1]
    assert spectrum.trace == pytest.approx(np.trace(matrix)) and spectrum.trace > 0
    assert np.abs(matrix[:n_H]).max() == 0.0
    with pytest.raises(ConfigError, match="must be one of energy, force, stress, oxygen"):
        fisher(task.potential, data, "hydrogen")


def test_labels_of_weight_zero_of_any_kind_are_none(tmp_path, monkeypatch):
    for name in list(KINDS):
        monkeypatch.setitem(
            KINDS, name, LabelKind(**vars(KINDS[name]) | {"weight": lambda dataset: np.zeros(len(dataset))})
        )
    monkeypatch.undo()
    task = assemble(small_config(tmp_path), *quiet(), tmp_path)
    zero = LabelKind(
        **vars(KINDS["force"]) | {"weight": lambda dataset: (np.arange(len(dataset)) % 2).astype(float)}
    )
    monkeypatch.setitem(KINDS, "force", zero)
    labels = Labels.of(task.dataset, task.observer.structures, task.potential)
    found = labels.of_structures(task.observer.structures.start, np.arange(len(task.dataset)))[
        position("force")
    ]
    structure = zero.structure_of(task.observer.structures.start, found)
    assert len(found) and (structure % 2 == 1).all()
