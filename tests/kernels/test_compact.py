"""Symmetry functions of the kinds 20 to 25: plain kernels, finite differences,
n2p2's conventions (its numbers: n2p2/test_potential_files.py).
"""

import math

import numpy as np
import pytest
from conftest import DATA
from kernels.test_energy_forces import check_against_plain, moved
from oracles.plain import angle_window
from oracles.rows import (
    check_force_rows_of_linear_nets,
    check_memory_is_freed,
    check_rows,
    force_labels,
)
from oracles.systems import ELEMENTS, SYSTEMS, evaluate, functions_of, make_net

from mpnnp.errors import ConfigError
from mpnnp.kernels.cutoff import window
from mpnnp.kernels.jacobian import force_rows, force_values
from mpnnp.kernels.table import SUBTYPES
from mpnnp.model.function_sets import from_tables
from mpnnp.model.symmetry_functions import SymmetryFunctions, format_line, parse_line
from mpnnp.n2p2.export import write_potential
from mpnnp.n2p2.potential_files import read_functions, read_potential

LINES = [  # r_l, r_c, (angles,) subtype; beside functions of other kinds
    "H 20 H 0 4.5 p1",
    "H 20 O -4 4 p2a",
    "H 20 C 1 4 e",
    "H 21 O H 0 4 0 180 p2",
    "H 21 O H 0.5 4.5 60 140 p3",
    "H 22 O O 0 4.5 -90 90 p4",
    "H 23 0.5 4 p4a",
    "H 2 H 0.1 0 4.0",
    "C 20 H -1 4 p3a",
    "C 25 0 3.8 20 160 p2",
    "O 22 H H 0 4 90 270 p3",
    "O 22 C H 0 4 10 170 e",
    "O 21 H H 0 4.2 30 150 e",
    "O 24 0 3.8 0 180 p2",
    "O 24 -3.5 3.5 0 170 p3a",
    "O 25 0.3 3.5 -180 180 p2",
    "O 3 H H 0.05 -1 4 4.0",
    "O 9 O H 0.1 1 1 4.2",
]
FUNCTIONS = SymmetryFunctions(ELEMENTS, [parse_line(line, 2, length=1.0) for line in LINES])
MODEL, W = make_net(FUNCTIONS)
everywhere = pytest.mark.parametrize("name", SYSTEMS)
ALONE = ["H 20 H 0 4 p2", "C 20 C 0 4 p2", "O 22 H H 0 4 0 180 p2", "O 21 H O 0 4 0 180 p2"]


@everywhere
def test_fast_kernels_equal_plain_ones(name):
    check_against_plain(SYSTEMS[name], MODEL, W)


def test_compact_functions_alone():
    model, w = make_net(SymmetryFunctions(ELEMENTS, [parse_line(line, length=1.0) for line in ALONE]))
    check_against_plain(SYSTEMS["triclinic"], model, w)


@everywhere
def test_forces_and_virial_are_derivatives_of_the_energy(name):
    system, h = SYSTEMS[name], 1e-5
    energy = lambda s: evaluate(s, MODEL, W)[1].sum()  # noqa: E731
    _, _, forces, virial = evaluate(system, MODEL, W)
    numerical = np.zeros_like(forces)
    for i in range(len(forces)):
        for a in range(3):
            step = np.zeros_like(forces)
            step[i, a] = h
            numerical[i, a] = (
                energy(moved(system, system[1] - step)) - energy(moved(system, system[1] + step))
            ) / (2 * h)
    assert forces == pytest.approx(numerical, rel=1e-6, abs=1e-6 * np.abs(forces).max() + 1e-8)
    strain = np.array([[0.3, 0.2, -0.1], [0.2, -0.4, 0.5], [-0.1, 0.5, 0.6]])
    high, low = np.eye(3) + h * strain, np.eye(3) - h * strain
    slope = (
        energy(moved(system, system[1] @ high, system[2] @ high))
        - energy(moved(system, system[1] @ low, system[2] @ low))
    ) / (2 * h)
    assert (virial * strain).sum() == pytest.approx(slope, rel=1e-6, abs=1e-6 * np.abs(virial).max() + 1e-8)


@everywhere
def test_change_of_the_functions_equals_plain(name):
    model, _ = make_net(FUNCTIONS, activations=(), hidden=())
    check_force_rows_of_linear_nets(SYSTEMS[name], model, rel=1e-11)


def test_rows_are_the_gradient_by_the_weights():
    systems = [SYSTEMS["triclinic"], SYSTEMS["cluster"]]
    structures, G = functions_of(systems, MODEL)
    check_rows(force_rows, force_values, force_labels(systems)[::7], structures, G, MODEL, W)


@pytest.mark.parametrize("subtype", range(1, len(SUBTYPES)), ids=SUBTYPES[1:])
def test_windows_are_one_in_the_middle_and_end_smoothly(subtype):
    left, right, h = -1.0, 5.0, 1e-6
    assert window(subtype, left, right, 2.0)[0] == 1.0
    assert window(subtype, left, right, left) == window(subtype, left, right, right) == (0.0, 0.0)
    assert window(subtype, left, right, 4.9999999)[0] < 1e-12
    for r in (-0.7, 0.3, 1.999, 3.1, 4.8):
        f, df = window(subtype, left, right, r)
        assert f == window(subtype, left, right, 4.0 - r)[0]
        assert df == pytest.approx(
            (window(subtype, left, right, r + h)[0] - window(subtype, left, right, r - h)[0]) / (2 * h),
            rel=1e-6,
            abs=1e-9,
        )


def test_only_the_radial_window_is_asymmetric():
    p2, p2a = SUBTYPES.index("p2"), SUBTYPES.index("p2a")
    x = 0.3
    assert window(p2a, -1, 1, x)[0] == pytest.approx(window(p2, -1, 1, x * (2 - x))[0], rel=1e-14)
    assert angle_window(p2a, 0.0, math.pi, 0.3) == angle_window(p2, 0.0, math.pi, 0.3)


def test_a_straight_line_counts_where_the_window_has_its_middle_at_180_degrees():
    """Carbon dioxide: n2p2 leaves the triplet out when the cosine is exactly -1; the definition says 1."""
    lines = ["C 22 O O 0 4 90 270 p2", "O 20 C 0 4 p2"]
    functions = SymmetryFunctions((6, 8), [parse_line(line, length=1.0) for line in lines])
    model, w = make_net(functions)
    bent = np.array([[1.2 * math.cos(1e-5), 1.2 * math.sin(1e-5), 0.0]])
    for third in (np.array([[1.2, 0.0, 0.0]]), bent):
        system = (
            np.array([0, 1, 1]),
            np.concatenate([np.array([[0.0, 0, 0], [-1.2, 0, 0]]), third]),
            np.zeros((3, 3)),
            (False,) * 3,
        )
        G, _, forces, _ = evaluate(system, model, w)
        assert G[0, 0] == pytest.approx(window(4, 0.0, 4.0, 1.2)[0] ** 2, rel=1e-8)
        assert np.isfinite(forces).all()


def test_order_of_n2p2():
    """Type, subtype as a word, neighbours, r_c, r_l, angles: the order of the lines of scaling.data."""
    functions = read_functions(DATA / "predict_compact" / "input.nn")
    assert [(f.kind, SUBTYPES[f.subtype], f.neighbour1) for f in functions.of(1)] == [
        *((20, s, z) for s in ("e", "p2", "p3a") for z in (1, 8)),
        (21, "p2", 1),
        (22, "e", 8),
        (23, "p2a", 0),
        (25, "p3", 0),
    ]


def test_lines_are_read_and_written():
    for line in LINES:
        f = parse_line(line, 2)
        assert parse_line(format_line(f), 2) == f
    assert (
        format_line(parse_line("O 21 H C 0.5 9 60 140 p3a", length=1.0), length=1.0)
        == "O 21 H C 0.5 9 60 140 p3a"
    )


def test_tables_of_the_configuration():
    window = {"r_l": [0, 1], "r_c": 6.0, "angle_left": 0, "angle_right": 180.0}
    functions = from_tables(
        [{"center": "O", "kind": 21, "neighbours": ["H", "H"], "subtype": ["p2", "e"], **window}]
    )
    found = {(f.r_l, SUBTYPES[f.subtype]) for f in functions}
    assert found == {(0.0, "p2"), (0.0, "e"), (1.0, "p2"), (1.0, "e")}
    assert from_tables([{"center": "O", "kind": 23, "r_c": 6.0, "subtype": "p1a"}])[0] == parse_line(
        "O 23 0 6 p1a", length=1.0
    )


@pytest.mark.parametrize(
    "line, message",
    [
        ("O 20 H 0 6", "must be one of e, p1"),
        ("O 20 H 0 6 p5", "must be one of e, p1"),
        ("O 20 H 6 6 p2", "r_l = 6.0: must be below"),
        ("O 21 H H 0 6 0 200 p2", "angles 0.0 to 200.0"),
        ("O 22 H H 0 6 p2", "takes the numbers r_l r_c angle_left angle_right, found 2"),
        ("O 24 H 0 6 0 180 p2", "expected CENTRE TYPE"),
        ("O 2 H 0.1 0 6 p2", "expected CENTRE TYPE"),
    ],
)
def test_wrong_lines(line, message):
    with pytest.raises(ConfigError, match=message):
        SymmetryFunctions((1, 8), [parse_line(line, length=1.0), parse_line("H 20 H 0 6 p2", length=1.0)])


def test_potential_is_written_and_read(tmp_path):
    potential = read_potential(DATA / "predict_compact")
    write_potential(potential, tmp_path)
    again = read_potential(tmp_path)
    assert again.functions.functions == potential.functions.functions
    assert (again.weights == potential.weights).all()


def test_memory_is_freed():
    check_memory_is_freed(SYSTEMS["triclinic"], MODEL, W)
