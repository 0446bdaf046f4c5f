"""The ready sets of symmetry functions and the tables of the configuration."""

import numpy as np
import pytest

from mpnnp.config import make_config
from mpnnp.errors import ConfigError, DataError
from mpnnp.model.function_sets import default, from_tables, water
from mpnnp.model.symmetry_functions import SymmetryFunctions
from mpnnp.n2p2.potential_files import read_functions
from mpnnp.training.initial_potential import choose_functions
from mpnnp.units import BOHR


def section(**keys):
    return make_config({"data": {"files": "x"}, "symmetry_functions": keys}).symmetry_functions


# ---- water


def test_the_water_set_has_27_functions_of_hydrogen_and_30_of_oxygen():
    functions = SymmetryFunctions([1, 8], water())
    assert (len(functions.of(1)), len(functions.of(8))) == (27, 30)
    assert {f.cutoff for f in functions.functions} == {2}
    assert functions.r_c == pytest.approx(12 * BOHR)


def test_the_water_set_is_that_of_the_published_potential(shared):
    published = read_functions(shared / "data" / "potential_h2o_blyp" / "input.nn")
    own = SymmetryFunctions([1, 8], water())
    for name, a, b in zip(own.table._fields, own.table, published.table):
        np.testing.assert_allclose(a, b, rtol=1e-14, err_msg=name)


def test_the_water_set_needs_water():
    with pytest.raises(ConfigError, match="'water' is for H and O; the data contain H C O"):
        choose_functions(section(set="water"), (1, 6, 8))


def test_radius_and_cutoff_of_a_named_set_can_be_chosen():
    functions = choose_functions(section(set="water", r_c=5.0, cutoff="poly2", alpha=0.1), (1, 8))
    assert {(round(f.r_c, 12), f.cutoff, f.alpha) for f in functions.functions} == {(5.0, 6, 0.1)}
    functions = choose_functions(section(set="default", r_c=10.0, units="bohr"), (1, 8))
    assert functions.r_c == pytest.approx(10 * BOHR)


# ---- default


@pytest.mark.parametrize("elements", [(1,), (1, 8), (1, 6, 8), (1, 6, 8, 79)])
def test_the_default_set_is_valid_for_any_number_of_elements(elements):
    n = len(elements)
    # raises for duplicates and parameters without sense
    functions = SymmetryFunctions(elements, default(elements))
    for z in elements:
        own = functions.of(z)
        pairs = {(f.neighbour1, f.neighbour2) for f in own if f.kind == 3}
        assert {f.neighbour1 for f in own if f.kind == 2} == set(elements)
        assert len(pairs) == n * (n + 1) // 2
        assert len(own) == len(functions.of(elements[0]))
        for pair in pairs:
            assert {f.lam for f in own if (f.neighbour1, f.neighbour2) == pair} == {-1.0, 1.0}
    assert all(0 <= f.r_s < f.r_c == 6.0 for f in functions.functions)


@pytest.mark.parametrize("r_c", [3.0, 6.0, 12.0])
def test_the_default_set_covers_distances_up_to_its_radius(r_c):
    """At every distance from 1 Angstrom to r_c - 1 Angstrom some radial function is above a tenth
    of its largest value.
    """
    shells = [(f.eta, f.r_s) for f in default((1,), r_c=r_c) if f.kind == 2]
    for r in np.linspace(1.0, r_c - 1.0, 50):
        assert max(np.exp(-eta * (r - r_s) ** 2) for eta, r_s in shells) > 0.1


def test_a_cutoff_without_room_for_the_shells_is_refused():
    default((1,), r_c=1.81)
    for r_c in (0.5, 1.8):
        with pytest.raises(ConfigError, match=f"r_c = {r_c} Angstrom: must be more than 1.8"):
            default((1,), r_c=r_c)


def test_the_default_set_is_taken_when_nothing_is_said():
    config = make_config({"data": {"files": "x"}})
    assert (
        choose_functions(config.symmetry_functions, (1, 8)).functions
        == SymmetryFunctions((1, 8), default((1, 8))).functions
    )


# ---- tables


def table(**keys):
    return {"center": "H", "kind": 3, "neighbours": ["O", "H"], "eta": 0.1, "r_c": 5.0} | keys


def test_lists_in_a_table_make_every_combination():
    functions = from_tables([table(eta=[0.1, 0.2], **{"lambda": [-1, 1]}, zeta=[1, 4, 16])])
    assert len(functions) == 12
    assert {(f.eta, f.lam, f.zeta) for f in functions} == {
        (e, m, z) for e in (0.1, 0.2) for m in (-1.0, 1.0) for z in (1.0, 4.0, 16.0)
    }


def test_a_table_in_bohr_is_converted():
    (f,) = from_tables([table(r_s=0.5)], length=BOHR, cutoff=6, alpha=0.2)
    assert (f.eta, f.r_s, f.r_c) == pytest.approx((0.1 / BOHR**2, 0.5 * BOHR, 5 * BOHR), rel=1e-15)
    assert (f.cutoff, f.alpha, f.zeta, f.lam) == (6, 0.2, 1.0, 1.0)


def test_tables_of_the_configuration_become_functions():
    tables = [
        {"center": "H", "kind": 12, "eta": 0.1, "r_s": [0.0, 1.0], "r_c": 5},
        {"center": "O", "kind": 2, "neighbours": ["H"], "eta": 1, "r_c": 4},
    ]
    functions = choose_functions(section(functions=tables, cutoff="cosine"), (1, 8))
    assert [(f.center, f.kind, f.r_s, f.r_c, f.cutoff) for f in functions.functions] == [
        (1, 12, 0.0, 5.0, 1),
        (1, 12, 1.0, 5.0, 1),
        (8, 2, 0.0, 4.0, 1),
    ]


@pytest.mark.parametrize(
    "wrong, part",
    [
        ({"zetta": 1}, r"symmetry_functions.functions\[1\]: unknown key 'zetta'; known are center, eta"),
        ({"neighbours": ["O"]}, r"functions\[1\]: type 3 takes 2 neighbours"),
        ({"neighbours": "OH"}, "type 3 takes 2 neighbours, a list"),
        ({"neighbours": ["O", "Xx"]}, "'Xx' is not the symbol"),
        ({"neighbours": ["O", 1]}, "'1' is not the symbol"),
        ({"center": "Qq"}, "'Qq' is not the symbol"),
        ({"center": 8}, "'8' is not the symbol"),
        ({"eta": "a"}, "eta = 'a': must be a number or a list of numbers"),
        ({"eta": []}, "must be a number"),
        ({"eta": -0.1}, "eta = -0.1: must not be negative"),
        ({"eta": [0.1, True]}, "eta = .* must be a number"),
        ({"kind": 7}, "kind = 7: must be one of 2, 3, 9, 12, 13"),
        ({"kind": "3"}, "kind = '3'"),
        ({"kind": [3]}, "kind = "),
        ({"kind": 3.0}, "kind = 3.0"),
        ({"zeta": 0}, "zeta = 0"),
        ({"lambda": 2}, "lambda = 2"),
        ({"r_c": -1}, "r_c = -1"),
        ({"kind": 13}, "type 13 takes 0 neighbours"),
    ],
)
def test_a_wrong_table_is_an_error_that_says_what_is_wrong(wrong, part):
    with pytest.raises(ConfigError, match=part):
        choose_functions(
            section(
                functions=[
                    table(**wrong),
                    {"center": "O", "kind": 2, "neighbours": ["O"], "eta": 1.0, "r_c": 5.0},
                ]
            ),
            (1, 8),
        )


@pytest.mark.parametrize("key", ["center", "kind", "eta", "r_c"])
def test_a_table_without_a_key_is_an_error(key):
    wrong = table()
    del wrong[key]
    with pytest.raises(ConfigError, match=rf"functions\[2\]: the key '{key}' is missing"):
        from_tables([table(), wrong])


def test_an_element_of_the_data_without_functions_is_an_error():
    with pytest.raises(ConfigError, match="element O has no symmetry functions"):
        choose_functions(section(functions=[table()]), (1, 8))


def test_an_input_nn_must_cover_the_elements_of_the_data():
    from conftest import DATA

    path = DATA / "predict_acsf_cos" / "input.nn"
    assert len(choose_functions(section(input_nn=str(path)), (1, 8))) == 29
    with pytest.raises(DataError, match="has no functions for C, which the data contain"):
        choose_functions(section(input_nn=str(path)), (1, 6, 8))
