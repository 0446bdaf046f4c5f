"""Stress as a label: predictions, rows, training and evaluation."""

import numpy as np
import pytest
from kernel_systems import SYSTEMS, evaluate, functions_of, make_net
from test_compact_functions import FUNCTIONS as COMPACT
from test_kernels_rows import numerical_rows, values_of

from mpnnp.kernels.rows import stress_rows, stress_values

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
PERIODIC = [SYSTEMS[name] for name in ("three atoms in a cell smaller than the cutoff", "triclinic", "one atom and its images")]
MODELS = {"all other kinds": make_net(), "compact": make_net(COMPACT)}


def labels_of(systems):
    return np.array([(s, c) for s in range(len(systems)) for c in range(6)])


@pytest.mark.parametrize("kind", MODELS)
def test_stress_is_the_virial_over_the_volume(kind):
    """The virial itself is proven by finite differences in test_kernels_geometry."""
    model, w = MODELS[kind]
    structures, G = functions_of(PERIODIC, model)
    values = values_of(stress_values, labels_of(PERIODIC), structures, G, model, w).reshape(-1, 6)
    for system, stress in zip(PERIODIC, values, strict=True):
        virial = evaluate(system, model, w)[3] / abs(np.linalg.det(system[2]))
        assert stress == pytest.approx([virial[a, b] for a, b in VOIGT], rel=1e-11, abs=1e-12 * np.abs(virial).max())


@pytest.mark.parametrize("kind", MODELS)
def test_stress_rows_are_the_gradient_by_the_weights(kind):
    model, w = MODELS[kind]
    structures, G = functions_of(PERIODIC, model)
    labels = labels_of(PERIODIC)[::2]
    rows, values = np.empty((len(labels), len(w))), np.empty(len(labels))
    stress_rows(labels, structures, G, model, w, rows, values)
    assert values == pytest.approx(values_of(stress_values, labels, structures, G, model, w), rel=1e-13, abs=1e-14)
    numerical = numerical_rows(stress_values, labels, structures, G, model, w)
    assert rows == pytest.approx(numerical, rel=1e-6, abs=1e-7 * np.abs(rows).max())
