"""Symmetry functions: the order of n2p2, the lines of input.nn, and what makes no sense."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from conftest import DATA

from mpnnp.errors import ConfigError
from mpnnp.model.symmetry_functions import (
    SymmetryFunction,
    SymmetryFunctions,
    check_function,
    element_number,
    format_line,
    in_words,
    parse_line,
)
from mpnnp.n2p2.input_file import InputFile
from mpnnp.n2p2.potential_files import read_functions
from mpnnp.units import BOHR


def radial(center=1, neighbour=8, eta=0.1, r_s=0.0, r_c=6.0, **more):
    return SymmetryFunction(center=center, kind=2, neighbour1=neighbour, eta=eta, r_s=r_s, r_c=r_c, **more)


def angular(center=1, pair=(1, 8), eta=0.1, zeta=1.0, lam=1.0, kind=3, **more):
    return SymmetryFunction(
        center=center, kind=kind, neighbour1=pair[0], neighbour2=pair[1], eta=eta, zeta=zeta, lam=lam, **more
    )


# ---- order


def test_functions_come_in_the_order_of_n2p2():
    """Element; type; type 2 by cutoff, eta, r_s, neighbour; 3 and 9 by cutoff, eta, r_s, zeta, lambda,
    neighbours; 12, 13 alike.
    """
    expected = [
        radial(r_c=5.0, eta=0.9, r_s=2.0, neighbour=8),
        radial(r_c=6.0, eta=0.1, r_s=0.0, neighbour=1),
        radial(r_c=6.0, eta=0.1, r_s=0.0, neighbour=8),
        radial(r_c=6.0, eta=0.1, r_s=1.0, neighbour=1),
        radial(r_c=6.0, eta=0.2, r_s=0.0, neighbour=1),
        angular(r_c=5.0, eta=0.9),
        angular(eta=0.1, r_s=0.0, zeta=1.0, lam=-1.0, pair=(8, 8)),
        angular(eta=0.1, r_s=0.0, zeta=1.0, lam=1.0, pair=(1, 8)),
        angular(eta=0.1, r_s=0.0, zeta=1.0, lam=1.0, pair=(8, 8)),
        angular(eta=0.1, r_s=0.0, zeta=4.0, lam=-1.0),
        angular(eta=0.1, r_s=0.5, zeta=1.0, lam=-1.0),
        angular(eta=0.2, r_s=0.0, zeta=1.0, lam=-1.0),
        angular(kind=9, eta=0.1),
        SymmetryFunction(center=1, kind=12, eta=0.1, r_s=1.0),
        SymmetryFunction(center=1, kind=12, eta=0.2, r_s=0.0),
        SymmetryFunction(center=1, kind=13, eta=0.1, zeta=1.0, lam=1.0),
        SymmetryFunction(center=1, kind=13, eta=0.1, zeta=2.0, lam=-1.0),
        radial(center=8, eta=0.01),
    ]
    for seed in range(5):
        shuffled = [expected[k] for k in np.random.default_rng(seed).permutation(len(expected))]
        assert list(SymmetryFunctions([8, 1], shuffled).functions) == expected


def test_the_neighbours_of_an_angular_function_come_in_ascending_order():
    a = SymmetryFunctions([1, 8], [angular(pair=(8, 1)), radial(center=8)])
    b = SymmetryFunctions([1, 8], [angular(pair=(1, 8)), radial(center=8)])
    assert a.functions == b.functions
    assert a.functions[0].neighbour1 == 1 and a.functions[0].neighbour2 == 8


def test_the_table_holds_the_functions_element_by_element():
    functions = SymmetryFunctions(
        [8, 1],
        [
            radial(8, 1),
            angular(1, (8, 8), eta=0.3, zeta=4.0, lam=-1.0, cutoff=6, alpha=0.2),
            radial(8, 8, r_s=1.5),
        ],
    )
    t = functions.table
    np.testing.assert_array_equal(t.start, [0, 1, 3])
    np.testing.assert_array_equal(t.kind, [3, 2, 2])
    np.testing.assert_array_equal(t.e1, [1, 0, 1])
    np.testing.assert_array_equal(t.e2, [1, -1, -1])
    np.testing.assert_array_equal(t.eta, [0.3, 0.1, 0.1])
    np.testing.assert_array_equal(t.r_s, [0, 0, 1.5])
    np.testing.assert_array_equal(t.zeta, [4, 0, 0])
    np.testing.assert_array_equal(t.lam, [-1, 0, 0])
    np.testing.assert_array_equal(t.cutoff, [6, 1, 1])
    np.testing.assert_array_equal(t.alpha, [0.2, 0, 0])
    np.testing.assert_array_equal(t.z, [1, 8])
    assert functions.n_max == 2 and functions.r_c == 6.0 and len(functions) == 3 and len(functions.of(8)) == 2
    assert t.start.dtype == t.kind.dtype == t.e1.dtype == np.int64


def test_keep_drops_functions():
    functions = SymmetryFunctions([1], [radial(1, 1, eta) for eta in (0.1, 0.2, 0.3)])
    assert [f.eta for f in functions.keep([True, False, True]).functions] == [0.1, 0.3]


# ---- lines of input.nn

LINES = {
    "H 2 O 0.06 1.9 12.0": radial(eta=0.06 / BOHR**2, r_s=1.9 * BOHR, r_c=12 * BOHR),
    "H 3 O H 0.2 1.0 4.0 12.0": angular(pair=(8, 1), eta=0.2 / BOHR**2, zeta=4.0, lam=1.0, r_c=12 * BOHR),
    "H 3 O H 0.2 -1 4.0 12.0 0.5": angular(
        pair=(8, 1), eta=0.2 / BOHR**2, zeta=4.0, lam=-1.0, r_c=12 * BOHR, r_s=0.5 * BOHR
    ),
    "H 9 O O 0.2 1 2.5 9": angular(pair=(8, 8), kind=9, eta=0.2 / BOHR**2, zeta=2.5, r_c=9 * BOHR),
    "O 12 0.01 1.0 10.0": SymmetryFunction(center=8, kind=12, eta=0.01 / BOHR**2, r_s=BOHR, r_c=10 * BOHR),
    "O 13 0.02 0.5 -1 4 9": SymmetryFunction(
        center=8, kind=13, eta=0.02 / BOHR**2, r_s=0.5 * BOHR, lam=-1.0, zeta=4.0, r_c=9 * BOHR
    ),
    "H 2 O 6.0D-2 1.9d0 1.2E+1": radial(eta=0.06 / BOHR**2, r_s=1.9 * BOHR, r_c=12 * BOHR),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_read_as_n2p2_reads_it(line):
    assert parse_line(line) == LINES[line]


@pytest.mark.parametrize("unit", [BOHR, 1.0, 0.1])
def test_a_line_that_was_written_is_read_to_the_last_digit(unit):
    """After one round trip nothing changes any more, and the first changes no more than the last bit."""
    rng = np.random.default_rng(0)
    for kind, _ in itertools.product((2, 3, 9, 12, 13), range(50)):
        pair = {2: (8, 0), 3: (1, 8), 9: (8, 8)}.get(kind, (0, 0))
        is_angular = kind in (3, 9, 13)
        f = SymmetryFunction(
            center=1,
            kind=kind,
            neighbour1=pair[0],
            neighbour2=pair[1],
            eta=rng.uniform(0, 2),
            r_s=rng.uniform(0, 3) * rng.integers(0, 2),
            zeta=rng.uniform(1, 20) if is_angular else 0.0,
            lam=rng.choice([-1.0, 1.0]) if is_angular else 0.0,
            r_c=rng.uniform(3, 9),
            cutoff=6,
            alpha=0.2,
        )
        once = parse_line(format_line(f, unit), 6, 0.2, unit)
        assert replace(once, eta=0.0, r_s=0.0, r_c=1.0) == replace(f, eta=0.0, r_s=0.0, r_c=1.0)
        for name in ("eta", "r_s", "r_c"):
            a, b = getattr(once, name), getattr(f, name)
            assert abs(a - b) <= 4 * np.spacing(b)
        if unit == 1.0:
            assert once == f


def test_the_lines_of_a_reference_potential_survive_a_round_trip():
    source = InputFile(DATA / "predict_acsf_poly2_inner" / "input.nn")
    functions = read_functions(source)
    assert len(functions) == 29
    again = SymmetryFunctions(
        functions.elements, [parse_line(format_line(f), f.cutoff, f.alpha) for f in functions.functions]
    )
    for name in ("kind", "e1", "e2", "zeta", "lam", "cutoff", "alpha", "start"):
        np.testing.assert_array_equal(getattr(again.table, name), getattr(functions.table, name))
    for name in ("eta", "r_s", "r_c"):
        np.testing.assert_allclose(getattr(again.table, name), getattr(functions.table, name), rtol=1e-15)


@pytest.mark.parametrize(
    "line, part",
    [
        ("", "expected CENTRE TYPE"),
        ("H", "expected CENTRE TYPE"),
        ("H 4 O 1 1 1", "2, 3, 9, 12, 13"),
        ("H 2 O x 0 12", "expected CENTRE TYPE"),
        ("H 2 O 0.1 0.0", "type 2 takes the numbers eta r_s r_c, found 2"),
        ("H 3 O H 0.1 1 1 12 0 0", "type 3 takes the numbers eta lam zeta r_c r_s, found 6"),
        ("H 13 0.1 1 1 12", "type 13 takes the numbers eta r_s lam zeta r_c, found 4"),
        ("Xx 2 O 0.1 0 12", "'Xx' is not the symbol of a chemical element"),
        ("H 2 Q 0.1 0 12", "'Q' is not the symbol"),
        ("H 3 O 0.1 1 1 12", "'0.1' is not the symbol"),
    ],
)
def test_a_wrong_line_is_an_error_that_shows_it(line, part):
    with pytest.raises(ConfigError) as error:
        parse_line(line)
    assert part in str(error.value)


# ---- what makes no sense

NONSENSE = {
    "type 4": {"kind": 4},
    "cutoff function 9": {"cutoff": 9},
    "r_c = 0": {"r_c": 0.0},
    "r_c = inf": {"r_c": np.inf},
    "eta = -1": {"eta": -1.0},
    "eta = nan": {"eta": np.nan},
    "r_s = -1": {"r_s": -1.0},
    "alpha = 1": {"alpha": 1.0},
    "alpha = -0.1": {"alpha": -0.1},
    "zeta = 0.5": {"zeta": 0.5},
    "lambda = 0.5": {"lam": 0.5},
    "neighbour element is missing": {"neighbour1": 0},
    "second neighbour element is missing": {"neighbour2": 0},
}


@pytest.mark.parametrize("part", NONSENSE)
def test_parameters_without_sense_are_errors(part):
    good = angular()
    check_function(good)
    with pytest.raises(ConfigError, match=part):
        check_function(replace(good, **NONSENSE[part]))


def test_a_few_functions_are_named_in_full_and_many_by_what_they_are_of():
    few = [radial(1, 8, eta) for eta in (0.1, 0.2)]
    assert in_words(few) == f"{few[0]}; {few[1]}" and "eta 0.2/A^2" in in_words(few)
    many = [radial(1, 8, 0.1 * k) for k in range(1, 5)] + [radial(8, 1, 0.1 * k) for k in range(1, 4)]
    assert in_words(many) == "H type 2 O (4); O type 2 H (3)"


def test_a_function_that_is_defined_twice_is_an_error():
    with pytest.raises(ConfigError, match="H type 2 O .* is defined twice"):
        SymmetryFunctions([1, 8], [radial(), radial(8, 8), radial()])
    with pytest.raises(ConfigError, match="is defined twice"):
        SymmetryFunctions([1, 8], [angular(pair=(1, 8)), angular(pair=(8, 1)), radial(8, 8)])


def test_a_function_of_an_element_that_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match="element Cu is not among the elements H O"):
        SymmetryFunctions([1, 8], [radial(), radial(8, 29)])


def test_an_element_without_functions_is_an_error():
    with pytest.raises(ConfigError, match="element O has no symmetry functions"):
        SymmetryFunctions([1, 8], [radial()])


def test_element_symbols():
    assert element_number("H") == 1 and element_number("Cu") == 29
    for name in ("X", "h", "", "1"):
        with pytest.raises(ConfigError, match=f"'{name}' is not the symbol of a chemical element"):
            element_number(name)
