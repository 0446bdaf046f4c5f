"""What a potential was trained on: densities and energies, and where nothing is known."""

import numpy as np
import pytest

from mpnnp.data.dataset import Dataset
from mpnnp.data.ranges import TrainingRange, densities
from mpnnp.data.structure import Structure


def water(length, energy, n=1, pbc=True, extra=()):
    rng = np.random.default_rng(0)
    numbers = [8, 1, 1] * n + list(extra)
    positions = rng.random((len(numbers), 3)) * length
    return Structure(numbers=numbers, positions=positions, cell=np.eye(3) * length, pbc=pbc, energy=energy)


def test_range_of_densities_and_energies():
    data = Dataset.from_structures([water(3.0, -3.0), water(4.0, -6.0, n=2), water(5.0, -3.6)])
    mass = 15.999 + 2 * 1.008
    expected = [mass * 1.66053906660 / 27, 2 * mass * 1.66053906660 / 64, mass * 1.66053906660 / 125]
    assert densities(data) == pytest.approx(expected)
    found = TrainingRange.of(data)
    assert (found.density_low, found.density_high) == (pytest.approx(expected[2]), pytest.approx(expected[0]))
    assert (found.energy_low, found.energy_high) == (pytest.approx(-1.2), pytest.approx(-1.0))
    assert TrainingRange.of(data, [0, 1]).density_low == pytest.approx(expected[1])
    assert TrainingRange.from_numbers(found.numbers() | {"epoch": 3}) == found


def test_what_is_not_known_is_left_out():
    """No density without a cell, no energies without labels or of other compositions."""
    free = Dataset.from_structures([water(3.0, -3.0, pbc=False)])
    assert set(TrainingRange.of(free).numbers()) == {"energy_low", "energy_high"}
    unlabelled = Dataset.from_structures([water(3.0, np.nan)])
    assert set(TrainingRange.of(unlabelled).numbers()) == {"density_low", "density_high"}
    mixed = Dataset.from_structures([water(3.0, -3.0), water(3.0, -3.0, extra=[8])])
    assert set(TrainingRange.of(mixed).numbers()) == {"density_low", "density_high"}
    assert set(TrainingRange.of(mixed, [0]).numbers()) == {
        "density_low",
        "density_high",
        "energy_low",
        "energy_high",
    }
    assert TrainingRange.from_numbers({}).numbers() == {}


def test_the_density_of_a_structure_that_was_learned_is_within_the_range_in_spite_of_rounding():
    trained = TrainingRange(density_low=2.33, density_high=2.33)
    assert not trained.lacks(2.33 * (1 + 1e-9)) and not trained.lacks(2.33 * (1 - 1e-9))
    assert trained.lacks(2.331) and trained.lacks(2.329)
    assert not TrainingRange().lacks(1.0)  # nothing is known
