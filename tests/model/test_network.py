"""Nets: sizes, order of the weights, initial weights."""

import numpy as np
import pytest
from ase import Atoms

from mpnnp.config import make_config
from mpnnp.errors import ConfigError
from mpnnp.kernels.activation import activation
from mpnnp.model.network import ACTIVATIONS, Network
from mpnnp.model.potential import Potential
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.model.symmetry_functions import SymmetryFunction, SymmetryFunctions

SIZES = ((4, 5, 3, 1), (6, 2, 1))
NAMES = (("tanh", "softplus", "identity"), ("gaussian", "identity"))


def net_section(**keys):
    return make_config({"data": {"files": "x"}, "network": keys}).network


# ---- layout


def test_weights_lie_element_by_element_and_layer_by_layer():
    network = Network(SIZES, NAMES)
    assert [tuple(s) for s in network.segments] == [
        (0, 4, 5, 0, 0),
        (25, 5, 3, 0, 1),
        (43, 3, 1, 0, 2),
        (47, 6, 2, 1, 0),
        (61, 2, 1, 1, 1),
    ]
    assert network.n_weight == 64
    np.testing.assert_array_equal(network.topology.start, [0, 47, 64])
    np.testing.assert_array_equal(network.topology.n_layer, [3, 2])
    np.testing.assert_array_equal(network.topology.size, [[4, 5, 3, 1], [6, 2, 1, 0]])
    np.testing.assert_array_equal(network.topology.activation, [[1, 3, 0], [5, 0, 0]])


def test_a_layer_holds_source_node_by_source_node_then_biases():
    """Energy of an isolated atom (its functions are 0, scaled to 10 and 100)
    from the weights 1, 2, ..., 13.
    """
    functions = SymmetryFunctions(
        [1], [SymmetryFunction(center=1, kind=2, neighbour1=1, eta=eta) for eta in (0.1, 0.2)]
    )
    network = Network([(2, 3, 1)], [("identity", "identity")])
    one = np.ones(2)
    scaling = Scaling("center", 0.0, 1.0, Statistics(one, one, one, np.array([-10.0, -100.0]), one))
    potential = Potential(
        functions=functions,
        scaling=scaling,
        network=network,
        weights=np.arange(1.0, 14.0),
        atomic_energies=np.zeros(1),
        mean_energy=0.0,
        energy_scale=1.0,
        force_scale=1.0,
    )
    W, b = [[1, 2, 3], [4, 5, 6]], [7, 8, 9]
    hidden = [10 * W[0][k] + 100 * W[1][k] + b[k] for k in range(3)]
    energy, forces = potential.energy_forces(Atoms("H"))
    assert energy == pytest.approx(hidden[0] * 10 + hidden[1] * 11 + hidden[2] * 12 + 13, rel=1e-14)
    assert not forces.any()


def test_nets_of_the_configuration():
    section = net_section(
        hidden=[7, 6],
        activation=["tanh", "cos"],
        elements={"O": {"hidden": [3], "activation": "exp"}, "C": {"activation": "relu"}},
    )
    network = Network.from_config(section, [1, 6, 8], [10, 11, 12])
    assert network.sizes == ((10, 7, 6, 1), (11, 7, 6, 1), (12, 3, 1))
    assert network.activations == (
        ("tanh", "cos", "identity"),
        ("relu", "relu", "identity"),
        ("exp", "identity"),
    )


def test_a_net_may_have_no_hidden_layer():
    network = Network.from_config(net_section(hidden=[]), [1], [4])
    assert network.sizes == ((4, 1),) and network.n_weight == 5


@pytest.mark.parametrize(
    "elements, part",
    [
        ({"C": {"hidden": [3]}}, r"network.elements.C: this element is not in the data \(H O\)"),
        ({"O": {"hiden": [3]}}, "network.elements.O.hiden: unknown key; known are hidden, activation"),
        ({"O": {"hidden": 3}}, "network.elements.O.hidden = 3: must be a list of positive integers"),
        ({"O": {"hidden": [3, 0]}}, "network.elements.O.hidden"),
        ({"O": {"hidden": [3.0]}}, "network.elements.O.hidden"),
        (
            {"O": {"activation": "tan"}},
            "network.elements.O.activation = .*tan.*: must be one of identity, tanh",
        ),
        ({"O": {"activation": ["tanh"]}}, "network.elements.O.activation"),
        ({"O": {"activation": 3}}, "network.elements.O.activation"),
    ],
)
def test_wrong_exceptions_of_an_element_are_errors(elements, part):
    with pytest.raises(ConfigError, match=part):
        Network.from_config(net_section(hidden=[5, 5], elements=elements), [1, 8], [4, 4])


@pytest.mark.parametrize("code", range(len(ACTIVATIONS)))
def test_activations_are_n2p2s_and_their_derivatives_are_right(code):
    formula = {
        "identity": lambda x: x,
        "tanh": np.tanh,
        "logistic": lambda x: 1 / (1 + np.exp(-x)),
        "softplus": lambda x: np.log(1 + np.exp(x)),
        "relu": lambda x: max(x, 0.0),
        "gaussian": lambda x: np.exp(-0.5 * x * x),
        "cos": np.cos,
        "exp": lambda x: np.exp(-x),
        "harmonic": lambda x: x * x,
        "rev-logistic": lambda x: 1 - 1 / (1 + np.exp(-x)),
    }[ACTIVATIONS[code]]
    for x in (-2.3, -0.4, 0.3, 1.7):
        h = 1e-5
        f, d, dd = activation(code, x)
        assert f == pytest.approx(formula(x), rel=1e-14, abs=1e-15)
        assert d == pytest.approx((formula(x + h) - formula(x - h)) / (2 * h), rel=1e-8, abs=1e-9)
        assert dd == pytest.approx(
            (activation(code, x + h)[1] - activation(code, x - h)[1]) / (2 * h), rel=1e-8, abs=1e-9
        )
    for x in (-800.0, 800.0):  # no overflow where the function is bounded
        if ACTIVATIONS[code] not in ("exp", "harmonic"):
            assert np.isfinite(activation(code, x)).all()


# ---- initial weights


def layers(network, w):
    for s in network.segments:
        n = s.n_in * s.n_out
        yield s, w[s.offset : s.offset + n].reshape(s.n_in, s.n_out), w[s.offset + n : s.offset + n + s.n_out]


BIG = Network([(40, 30, 20, 1), (50, 25, 1)], [("tanh", "tanh", "identity"), ("tanh", "identity")])


def test_glorot_weights_are_within_their_limit_and_biases_are_zero():
    w = BIG.initial_weights("glorot", np.random.default_rng(0))
    for s, W, b in layers(BIG, w):
        limit = np.sqrt(6 / (s.n_in + s.n_out))
        assert np.abs(W).max() <= limit and not b.any()
        if W.size > 500:
            assert np.abs(W).max() > 0.98 * limit
            assert W.var() == pytest.approx(2 / (s.n_in + s.n_out), rel=0.1)
            assert abs(W.mean()) < 0.1 * limit


def test_nguyen_widrow_columns_have_their_length():
    w = BIG.initial_weights("nguyen-widrow", np.random.default_rng(0))
    for s, W, b in layers(BIG, w):
        if s.n_out > 1:
            length = 0.7 * s.n_out ** (1 / s.n_in)
            np.testing.assert_allclose(np.linalg.norm(W, axis=0), length, rtol=1e-13)
            assert np.abs(b).max() <= length and np.abs(b).max() > 0.8 * length
        else:
            assert np.abs(W).max() <= 0.5 and np.abs(b).max() <= 0.5 and W.std() > 0.2


def test_uniform_weights_fill_their_range():
    w = BIG.initial_weights("uniform", np.random.default_rng(0), -0.25, 1.5)
    assert w.min() >= -0.25 and w.max() < 1.5
    assert w.min() < -0.24 and w.max() > 1.49
    assert w.mean() == pytest.approx(0.625, abs=0.05)
    assert all(b.any() for _, _, b in layers(BIG, w))


@pytest.mark.parametrize("kind", ["glorot", "nguyen-widrow", "uniform"])
def test_initial_weights_follow_from_the_seed(kind):
    first, again, other = (BIG.initial_weights(kind, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    drawn = first != 0.0
    assert drawn.sum() > 0.9 * BIG.n_weight and (first[drawn] != other[drawn]).all()


def test_an_unknown_initializer_is_a_bug():
    with pytest.raises(ValueError, match="no initializer"):
        BIG.initial_weights("zeros", np.random.default_rng(0))
