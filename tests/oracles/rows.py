"""Rows of the Jacobian against plain loops and finite differences."""

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys
from oracles import plain
from oracles.systems import evaluate, functions_of, plain_list

from mpnnp.kernels.jacobian import energy_rows, force_rows, stress_rows


def force_labels(systems):
    """(n_label, 3) structure, atom and component of all force components."""
    return np.array(
        [(s, i, a) for s, system in enumerate(systems) for i in range(len(system[0])) for a in range(3)]
    )


def values_of(function, labels, *arguments):
    """Predictions (n_label,) of labels by one of the kernels NAME_values."""
    values = np.empty(len(labels))
    function(labels, *arguments, values)
    return values


def check_force_rows_of_linear_nets(system, model, rel):
    """With nets that are one linear layer a force row is the scaled tangent itself, and 0 for the bias."""
    structures, G = functions_of([system], model)
    labels, w = force_labels([system]), np.zeros(model.topology.start[-1])
    rows, V = np.empty((len(labels), len(w))), np.empty(G.shape)
    force_rows(labels, structures, G, model, w, rows, np.empty(len(labels)))
    element, *pairs = plain_list(system, model)
    for (_, atom, component), row in zip(labels, rows, strict=True):
        plain.tangents(element, *pairs, model.table, atom, component, V)
        for e in range(3):
            first, last = model.table.start[e], model.table.start[e + 1]
            expected = -V[element == e, : last - first].sum(axis=0) * model.factor[first:last]
            start = model.topology.start[e]
            assert row[start : start + last - first] == pytest.approx(
                expected, rel=rel, abs=1e-12 * (np.abs(V).max() + 1e-300)
            )
            assert row[start + last - first] == 0.0


def check_rows(rows_of, values_by, labels, structures, G, model, w, smallest=1e-13, h=1e-5):
    """Rows of one of the kernels NAME_rows are the gradient of the predictions by its NAME_values, and its
    predictions are theirs; smallest: absolute tolerance of these.
    """
    rows, values = np.empty((len(labels), len(w))), np.empty(len(labels))
    rows_of(labels, structures, G, model, w, rows, values)
    predicted = lambda weights: values_of(values_by, labels, structures, G, model, weights)  # noqa: E731
    assert values == pytest.approx(predicted(w), rel=1e-13, abs=smallest)
    steps = h * np.eye(len(w))
    numerical = np.array([(predicted(w + step) - predicted(w - step)) / (2 * h) for step in steps]).T
    assert rows == pytest.approx(numerical, rel=1e-6, abs=1e-7 * np.abs(rows).max())


def check_memory_is_freed(system, model, w):
    """Whatever arrays the kernels of predictions and rows make, they free."""
    structures, G = functions_of([system], model)
    labels = force_labels([system])
    rows, values = np.empty((len(labels), len(w))), np.empty(len(labels))

    def all_kernels():
        evaluate(system, model, w)
        force_rows(labels, structures, G, model, w, rows, values)
        stress_rows(labels[:2, :2], structures, G, model, w, rows[:2], values[:2])
        energy_rows(labels[:2, 0], structures, G, model, w, rows[:2], values[:2])

    all_kernels()  # compilation
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        for _ in range(3):
            all_kernels()
        after = rtsys.get_allocation_stats()
    finally:
        _nrt_python.memsys_disable_stats()
    made, freed = after.mi_alloc - before.mi_alloc, after.mi_free - before.mi_free
    assert made == freed > 0
