"""Predictions of labels and their gradients by the weights."""

import numpy as np
import pytest
from oracles.rows import (
    check_force_rows_of_linear_nets,
    check_memory_is_freed,
    check_rows,
    force_labels,
    values_of,
)
from oracles.systems import SYSTEMS, evaluate, functions_of, make_net

from mpnnp.kernels.jacobian import energy_rows, energy_values, force_rows, force_values
from mpnnp.kernels.jit import read_only
from mpnnp.model.network import ACTIVATIONS

PAIRS = [
    ("tanh", "logistic"),
    ("softplus", "relu"),
    ("gaussian", "cos"),
    ("exp", "harmonic"),
    ("rev-logistic", "identity"),
    ("logistic", "gaussian"),
]
NAMES = list(SYSTEMS)
SOME = [SYSTEMS[name] for name in NAMES]


def test_predictions_of_labels_equal_those_of_whole_structures():
    model, w = make_net()
    structures, G = functions_of(SOME, model)
    whole = [evaluate(system, model, w) for system in SOME]
    energies = values_of(energy_values, np.arange(len(SOME)), structures, G, model, w)
    assert energies == pytest.approx([e.sum() for _, e, _, _ in whole], rel=1e-12, abs=1e-12)
    forces = np.concatenate([f.ravel() for _, _, f, _ in whole])
    assert values_of(force_values, force_labels(SOME), structures, G, model, w) == pytest.approx(
        forces, rel=1e-11, abs=1e-12 * np.abs(forces).max()
    )


@pytest.mark.parametrize("name", NAMES)
def test_change_of_the_functions_equals_plain(name):
    model, _ = make_net(activations=(), hidden=())
    check_force_rows_of_linear_nets(SYSTEMS[name], model, rel=1e-12)


@pytest.mark.parametrize("activations", PAIRS, ids="-".join)
def test_rows_are_the_gradient_by_the_weights(activations):
    model, w = make_net(activations=activations)
    systems = [SYSTEMS["triclinic"], SYSTEMS["cluster"], SYSTEMS["an element is absent"]]
    structures, G = functions_of(systems, model)
    forces, energies = force_labels(systems)[::7], np.array([2, 0, 1, 2])
    for function, values_function, labels in (
        (force_rows, force_values, forces),
        (energy_rows, energy_values, energies),
    ):
        check_rows(function, values_function, labels, structures, G, model, w)


def test_all_activations_are_tested():
    assert {name for pair in PAIRS for name in pair} == set(ACTIVATIONS)


def test_rows_of_linear_nets_contract_to_the_predictions():
    """A prediction that is linear in w equals its row times w."""
    model, w = make_net(activations=(), hidden=())
    structures, G = functions_of(SOME, model)
    for function, labels in ((force_rows, force_labels(SOME)), (energy_rows, np.arange(len(SOME)))):
        rows, values = np.empty((len(labels), len(w))), np.empty(len(labels))
        function(labels, structures, G, model, w, rows, values)
        assert rows @ w == pytest.approx(values, rel=1e-12, abs=1e-12 * np.abs(rows).max())


def test_force_rows_of_a_structure_sum_to_zero():
    """The total force vanishes for all weights."""
    model, w = make_net()
    systems = [SYSTEMS["triclinic"]]
    structures, G = functions_of(systems, model)
    labels = force_labels(systems)
    rows, values = np.empty((len(labels), len(w))), np.empty(len(labels))
    force_rows(labels, structures, G, model, w, rows, values)
    total = rows.reshape(-1, 3, len(w)).sum(axis=0)
    assert total == pytest.approx(0, abs=1e-11 * np.abs(rows).max())


def test_results_do_not_depend_on_the_company_of_a_label():
    model, w = make_net()
    structures, G = functions_of(SOME, model)
    labels = force_labels(SOME)[::5]
    together = np.empty((len(labels), len(w)))
    force_rows(labels, structures, G, model, w, together, np.empty(len(labels)))
    for label, row in zip(labels, together, strict=True):
        alone = np.empty((1, len(w)))
        force_rows(label[None], structures, G, model, w, alone, np.empty(1))
        assert (alone[0] == row).all()


def test_no_labels_are_no_work():
    model, w = make_net()
    structures, G = functions_of(SOME, model)
    rows, values = np.full((1, len(w)), np.nan), np.full(1, np.nan)  # of which the kernels get none
    force_rows(np.empty((0, 3), np.int64), structures, G, model, read_only(w), rows[:0], values[:0])
    energy_rows(np.empty(0, np.int64), structures, G, model, w, rows[:0], values[:0])
    assert np.isnan(rows).all() and np.isnan(values).all()


def test_memory_is_freed():
    check_memory_is_freed(SYSTEMS["triclinic"], *make_net())
