"""Rows of the Jacobian against plain loops and finite differences."""

import numpy as np
import pytest
from oracles import plain
from oracles.systems import functions_of, plain_list

from mpnnp.kernels.jacobian import force_rows


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
