"""Scaling: statistics over ranks, n2p2's five kinds, functions that never vary,
references and scales of a new potential.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from small import FUNCTIONS, quiet, small_config, write_clusters

from mpnnp.data.store import load_structures, split
from mpnnp.errors import ConfigError, DataError
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.training.initial_potential import build

START = np.array([0, 3, 5])


def blocks(n_block=20, offset=0.0):
    """Blocks of atoms of two elements with 3 and 2 functions;
    some blocks lack an element, one has no atoms.
    """
    rng = np.random.default_rng(5)
    result = []
    for k in range(n_block):
        n = 0 if k == 7 else int(rng.integers(1, 9))
        element = rng.integers(0, 2, n) if k % 3 else np.zeros(n, np.int64)
        result.append((element, offset + rng.normal(size=(n, 3)) * [1.0, 1e-3, 50.0]))
    return result


def whole(parts):
    """Count, minimum, maximum, mean and sigma with numpy, all at once."""
    element = np.concatenate([e for e, _ in parts])
    G = np.concatenate([g for _, g in parts])
    columns = [G[element == 0][:, k] for k in range(3)] + [G[element == 1][:, k] for k in range(2)]
    return [
        np.array([f(c) for c in columns]) for f in (len, np.min, np.max, np.mean, lambda c: np.std(c, ddof=1))
    ]


def on_fake_ranks(shares):
    """Statistics of shares of blocks, one per rank: what each rank sends is collected first,
    then each rank gets all of it.
    """
    sent = []

    class Stop(Exception):
        pass

    def send(part):
        sent.append(part)
        raise Stop

    for share in shares:
        with pytest.raises(Stop):
            Statistics.collect(share, START, SimpleNamespace(allgather=send))
    return [
        Statistics.collect(share, START, SimpleNamespace(allgather=lambda part: sent)) for share in shares
    ]


@pytest.mark.parametrize("cuts", [[], [10], [1, 19], [0, 5, 20], [3, 3, 3, 12], list(range(21))])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_statistics_are_those_of_the_whole_for_any_split_over_ranks(cuts, offset):
    parts = blocks(offset=offset)
    edges = [0, *cuts, len(parts)]
    expected = whole(parts)
    for s in on_fake_ranks([parts[a:b] for a, b in zip(edges, edges[1:])]):
        np.testing.assert_array_equal(s.count, expected[0])
        np.testing.assert_array_equal(s.minimum, expected[1])
        np.testing.assert_array_equal(s.maximum, expected[2])
        np.testing.assert_allclose(s.mean, expected[3], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(s.sigma, expected[4], rtol=1e-8 if offset else 1e-12)
        assert s.varies().all()


def test_the_ranks_get_the_same_statistics():
    parts = blocks()
    first, *others = on_fake_ranks([parts[:3], parts[3:11], parts[11:]])
    for other in others:
        for name in ("count", "minimum", "maximum", "mean", "sigma"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))


def test_a_symmetry_function_that_is_not_finite_is_an_error():
    comm, _ = quiet()
    parts = blocks(3)
    parts[1][1][0, 0] = np.inf
    with pytest.raises(DataError, match="not a finite number"):
        Statistics.collect(parts, START, comm)


def test_functions_that_do_not_vary_are_found():
    comm, _ = quiet()
    G = np.array([[1.0, 1e6, 0.0], [1.0, 1e6 + 1e-7, 0.0], [1.0, 1e6, 1e-16]])
    s = Statistics.collect([(np.zeros(3, np.int64), G)], np.array([0, 3, 4]), comm)
    # the last one: its element never occurs
    np.testing.assert_array_equal(s.varies(), [False, False, False, False])
    G[0] = [1.0 + 1e-9, 1e6 + 1e-3, 1e-9]
    s = Statistics.collect([(np.zeros(3, np.int64), G)], np.array([0, 3, 4]), comm)
    np.testing.assert_array_equal(s.varies(), [True, True, True, False])


# ---- the five kinds

FORMULAS = {  # of n2p2, SymmetryFunction::scale
    "none": lambda G, low, high, mean, sigma, s_min, s_max: G,
    "min-max": lambda G, low, high, mean, sigma, s_min, s_max: (
        s_min + (s_max - s_min) * (G - low) / (high - low)
    ),
    "center": lambda G, low, high, mean, sigma, s_min, s_max: G - mean,
    "min-max-center": lambda G, low, high, mean, sigma, s_min, s_max: (
        s_min + (s_max - s_min) * (G - mean) / (high - low)
    ),
    "sigma": lambda G, low, high, mean, sigma, s_min, s_max: s_min + (s_max - s_min) * (G - mean) / sigma,
}


@pytest.mark.parametrize("kind", FORMULAS)
@pytest.mark.parametrize("s_min, s_max", [(0.0, 1.0), (-1.0, 1.0), (0.5, 4.0)])
def test_scaling_follows_n2p2(kind, s_min, s_max):
    rng = np.random.default_rng(1)
    low, high, mean, sigma = (
        rng.uniform(0, 1, 4),
        rng.uniform(2, 3, 4),
        rng.uniform(1, 2, 4),
        rng.uniform(0.1, 0.5, 4),
    )
    shift, factor = Scaling(
        kind, s_min, s_max, Statistics(np.ones(4), low, high, mean, sigma)
    ).shift_and_factor()
    for G in rng.uniform(0, 4, (5, 4)):
        np.testing.assert_allclose(
            (G - shift) * factor,
            FORMULAS[kind](G, low, high, mean, sigma, s_min, s_max),
            rtol=1e-13,
            atol=1e-14,
        )


@pytest.mark.parametrize("kind", ["min-max", "min-max-center", "sigma"])
def test_a_function_without_spread_cannot_be_scaled_by_it(kind):
    one = np.ones(3)
    low, high, sigma = np.array([0.0, 1.0, 0.0]), one, np.array([0.3, 0.0, 0.3])
    with pytest.raises(DataError, match="symmetry function number 2 never varies"):
        Scaling(kind, 0.0, 1.0, Statistics(one, low, high, one, sigma)).shift_and_factor()


# ---- a new potential from data


def built(config, tmp_path):
    comm, log = quiet()
    data, cache = load_structures(config.data, comm, log, tmp_path)
    train, _ = split(data, config.data, config.run.seed)
    return *build(config, data, train, cache, comm, log), data, train, log


def far_from_everything():
    """A function of H that sees nothing: its cutoff is shorter than every bond."""
    return {"center": "H", "kind": 2, "neighbours": ["O"], "eta": 0.1, "r_c": 0.3}


def test_a_constant_function_is_dropped_with_a_message(tmp_path):
    config = small_config(tmp_path, symmetry_functions={"functions": [*FUNCTIONS, far_from_everything()]})
    potential, _, G, *_, log = built(config, tmp_path)
    assert len(potential.functions) == 9
    assert potential.network.sizes == ((4, 4, 3, 1), (5, 4, 3, 1))
    assert G.shape[1] == 5
    (message,) = [line for line in log.kept if "never vary" in line]
    assert "symmetry functions never vary over" in message and "r_c 0.3 A" in message
    assert message.endswith(" (1 of 10): dropped")


def test_a_constant_function_can_be_an_error(tmp_path):
    config = small_config(
        tmp_path, symmetry_functions={"functions": [*FUNCTIONS, far_from_everything()], "constant": "error"}
    )
    with pytest.raises(DataError, match="never vary over the training structures: H type 2 O"):
        built(config, tmp_path)


def test_an_element_whose_functions_are_all_constant_is_an_error(tmp_path):
    only = [f for f in FUNCTIONS if f["center"] == "O"] + [far_from_everything()]
    config = small_config(tmp_path, symmetry_functions={"functions": only})
    with pytest.raises(DataError, match="no symmetry function of H varies"):
        built(config, tmp_path)


def test_statistics_are_those_of_the_training_structures(tmp_path):
    potential, structures, G, _, train, _ = built(small_config(tmp_path), tmp_path)
    atoms = np.concatenate([np.arange(structures.start[s], structures.start[s + 1]) for s in train])
    oxygen = atoms[structures.element[atoms] == 1]
    expected = G[oxygen][:, :5]
    s = potential.scaling.statistics
    np.testing.assert_array_equal(s.minimum[4:], expected.min(axis=0))
    np.testing.assert_allclose(s.mean[4:], expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(s.sigma[4:], expected.std(axis=0, ddof=1), rtol=1e-12)
    assert len(atoms) < structures.start[-1]


def test_normalized_training_labels_have_mean_zero_and_unit_spread(tmp_path):
    potential, structures, _, data, train, _ = built(small_config(tmp_path), tmp_path)
    from mpnnp.training.labels import Labels

    labels = Labels.of(data, structures, potential)
    per_atom = labels.targets[0][train] / np.diff(structures.start)[train]
    assert per_atom.mean() == pytest.approx(0.0, abs=1e-9)
    assert per_atom.std() == pytest.approx(1.0)
    forces = np.concatenate(
        [labels.targets[1][3 * structures.start[s] : 3 * structures.start[s + 1]] for s in train]
    )
    assert forces.std() == pytest.approx(1.0)


def test_atomic_energies_are_fitted_to_the_composition(tmp_path):
    """Structures whose energies are -1.5 per H and -4 per O exactly, in three compositions."""
    frames = []
    for formula in ("OHH", "OH", "HH", "OHHOHH", "OHH"):
        atoms = Atoms(formula, np.random.default_rng(len(frames)).uniform(0, 3, (len(formula), 3)))
        atoms.calc = SinglePointCalculator(atoms, energy=-1.5 * formula.count("H") - 4.0 * formula.count("O"))
        frames.append(atoms)
    write(tmp_path / "clusters.extxyz", frames)
    potential, *_ = built(small_config(tmp_path, data={"validation_fraction": 0.0}), tmp_path)
    np.testing.assert_allclose(potential.atomic_energies, [-1.5, -4.0], rtol=1e-10)
    assert potential.mean_energy == pytest.approx(0.0, abs=1e-10)


def test_given_atomic_energies_are_taken(tmp_path):
    potential, _, _, data, train, _ = built(
        small_config(tmp_path, network={"atomic_energies": {"H": -1.0, "O": -3.0}}), tmp_path
    )
    np.testing.assert_array_equal(potential.atomic_energies, [-1.0, -3.0])
    with pytest.raises(ConfigError, match="network.atomic_energies: no value for O"):
        built(small_config(tmp_path, network={"atomic_energies": {"H": -1.0}}), tmp_path)


def test_without_normalization_the_units_are_eV_and_Angstrom(tmp_path):
    potential, *_ = built(
        small_config(tmp_path, network={"normalize": False, "atomic_energies": "none"}), tmp_path
    )
    assert (potential.mean_energy, potential.energy_scale, potential.force_scale) == (0.0, 1.0, 1.0)
    assert not potential.atomic_energies.any()


def test_initial_weights_follow_from_the_seed_of_the_run(tmp_path):
    weights = [built(small_config(tmp_path, run={"seed": seed}), tmp_path)[0].weights for seed in (1, 1, 2)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_a_single_training_structure_is_enough(tmp_path):
    write_clusters(tmp_path / "clusters.extxyz", n=1, sizes=(2,))
    potential, *_ = built(small_config(tmp_path, data={"validation_fraction": 0.0}), tmp_path)
    assert potential.energy_scale > 0 and np.isfinite(potential.energy_scale)
