"""Batch schedules: which labels come when, the same on every number of ranks."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mpnnp.config import make_config
from mpnnp.errors import ConfigError
from mpnnp.kernels.packs import make_structures
from mpnnp.model.label_kinds import ENERGY, FORCE, KINDS, position
from mpnnp.parallel import share
from mpnnp.progress import Silent
from mpnnp.training.choices import settle
from mpnnp.training.labels import label_scale
from mpnnp.training.observations import Observer
from mpnnp.training.schedules import make_schedule

ENERGIES = np.arange(3, 43)  # 40 labels
FORCES = np.arange(100, 1300, 2)  # 600 labels
STRESS = position("stress")


def section(**keys):
    fixed = {"data": {"files": "x"}, "ekf": {"noise": "fixed"}, "schedule": keys}
    return settle(make_config(fixed), (len(ENERGIES), len(FORCES)), Silent()).schedule


def schedule(seed=1, labels=(ENERGIES, FORCES), **keys):
    return make_schedule(section(**keys), labels, seed)


def batches(epoch):
    return [epoch[u] for u in range(len(epoch))]


SCHEDULES = [
    {"streams": 3, "force_fraction": 0.1, "selection": "random"},
    {"streams": 2, "force_fraction": 0.1, "selection": "threshold", "trials": 4},
    {"streams": 4, "force_fraction": 0.1, "selection": "sort"},
    {"name": "sdnz", "forces_per_update": 5, "energies_per_update": 2, "updates_per_epoch": 50},
]
ERRORS = [np.random.default_rng(0).uniform(size=40), np.random.default_rng(1).uniform(size=600)]


# ---- any schedule


@pytest.mark.parametrize("keys", SCHEDULES)
def test_kinds_are_never_mixed(keys):
    for batch in batches(schedule(**keys).epoch(1, ERRORS)):
        labels = (ENERGIES, FORCES)[batch.kind]
        assert np.isin(batch.candidates, labels).all()


@pytest.mark.parametrize("keys", SCHEDULES)
def test_both_kinds_come_and_not_one_after_the_other(keys):
    kinds = [batch.kind for batch in batches(schedule(**keys).epoch(1, ERRORS))]
    assert np.count_nonzero(np.diff(kinds)) > 4


@pytest.mark.parametrize("keys", SCHEDULES)
def test_the_same_seed_gives_the_same_epoch_and_another_seed_another(keys):
    first, again, other = (schedule(seed, **keys).epoch(2, ERRORS) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.kinds, again.kinds)
    for a, b in zip(first.candidates, again.candidates):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.kinds, other.kinds)


@pytest.mark.parametrize("keys", SCHEDULES)
def test_epochs_differ_and_any_of_them_can_be_had_alone(keys):
    one = schedule(**keys)
    first, second = one.epoch(1, ERRORS), one.epoch(2, ERRORS)
    assert not np.array_equal(first.kinds, second.kinds)
    if keys.get("selection") != "sort":
        assert not np.array_equal(first.candidates[FORCE], second.candidates[FORCE])
    np.testing.assert_array_equal(schedule(**keys).epoch(2, ERRORS).kinds, second.kinds)


@pytest.mark.parametrize("keys", SCHEDULES)
def test_the_updates_of_an_epoch_are_counted_beforehand(keys):
    one = schedule(**keys)
    assert len(one.epoch(1, ERRORS)) == one.updates_per_epoch


@pytest.mark.parametrize(
    ("kind", "told"), [("spin", ""), ("energy", ".*energies are schedule.energy_fraction")]
)
def test_settings_of_labels_that_no_program_adds_are_errors(kind, told):
    with pytest.raises(ConfigError, match=f"schedule.labels.{kind}: there is no further kind of label{told}"):
        make_schedule(section(labels={kind: {"fraction": 1.0}}), (ENERGIES, FORCES), 1)


@pytest.mark.parametrize("name", ["runner", "sdnz"])
def test_there_must_be_something_to_learn_from(name):
    nothing = np.zeros(0, np.int64)
    with pytest.raises(ConfigError, match="nothing to learn from: 0 energy and 0 force labels"):
        schedule(labels=(nothing, nothing), name=name)
    with pytest.raises(ConfigError, match="forces are off"):
        schedule(labels=(nothing, FORCES), name=name, forces=False)


@pytest.mark.parametrize("name", ["runner", "sdnz"])
def test_data_with_one_kind_of_label_give_updates_of_that_kind(name):
    nothing = np.zeros(0, np.int64)
    assert (schedule(labels=(ENERGIES, nothing), name=name).epoch(1).kinds == ENERGY).all()
    assert (schedule(labels=(nothing, FORCES), name=name).epoch(1).kinds == FORCE).all()
    assert (schedule(name=name, forces=False).epoch(1).kinds == ENERGY).all()


NOTHING, STRESSES = np.zeros(0, np.int64), np.arange(0, 54, 2)


@pytest.mark.parametrize("keys", [{"stress_fraction": 0.5}, {"name": "sdnz", "stress_probability": 0.3}])
def test_data_with_stresses_alone_give_updates_of_stresses(keys):
    one = schedule(labels=(NOTHING, NOTHING, STRESSES), **keys)
    epoch = one.epoch(1)
    assert len(epoch) == one.updates_per_epoch and (epoch.kinds == STRESS).all()
    assert np.isin(epoch.candidates[STRESS], STRESSES).all()
    assert one.shares == (0.0, 0.0, 1.0) and [one.learns(k) for k in range(3)] == [False, False, True]


def test_of_kinds_beside_forces_that_are_off_each_comes_as_often_as_its_probability(monkeypatch):
    monkeypatch.setitem(KINDS, "charge", replace(KINDS["stress"], name="charge"))
    charges = {"charge": {"probability": 0.25}}
    config = section(name="sdnz", forces=False, stress_probability=0.5, labels=charges)
    one = make_schedule(config, (NOTHING, FORCES, STRESSES, STRESSES), 1)
    assert one.shares == (0.0, 0.0, 0.75, 0.25)
    kinds = one.epoch(1).kinds
    assert set(kinds) == {2, 3} and abs(np.mean(kinds == 3) - 0.25) < 0.05


@pytest.mark.parametrize(
    "labels, keys, told",
    [
        (
            (NOTHING, NOTHING, STRESSES),
            {},
            "0 energy, 0 force and 27 stress labels for training, forces are on; "
            "schedule.stress_fraction = 0 leaves out the stress labels",
        ),
        (
            (NOTHING, NOTHING, STRESSES),
            {"name": "sdnz"},
            "schedule.stress_probability = 0 leaves out the stress labels",
        ),
        (
            (ENERGIES, FORCES, NOTHING),
            {"energy_fraction": 0.0, "force_fraction": 0.0},
            "schedule.energy_fraction = 0 leaves out the energy labels; "
            "schedule.force_fraction = 0 leaves out the force labels",
        ),
        (
            (NOTHING, FORCES, NOTHING),
            {"forces": False},
            "forces are off; schedule.forces = false leaves out the force labels",
        ),
        (
            (NOTHING, NOTHING, NOTHING, STRESSES),
            {},
            "and 27 charge labels for training, forces are on; "
            "schedule.labels.charge.fraction = 0 leaves out the charge labels",
        ),
    ],
)
def test_what_is_left_out_is_named_with_its_key_where_nothing_is_learned(monkeypatch, labels, keys, told):
    if len(labels) == 4:
        monkeypatch.setitem(KINDS, "charge", replace(KINDS["stress"], name="charge"))
    with pytest.raises(ConfigError) as caught:
        schedule(labels=labels, **keys)
    assert str(caught.value).endswith(told)


def test_more_labels_in_an_update_than_repeats_of_all_are_refused_by_the_key_that_says_so():
    with pytest.raises(ConfigError, match="^schedule.streams: 5,000 labels in one update, .* 40 energies"):
        schedule(streams=5000)
    with pytest.raises(ConfigError, match="^schedule.force_streams: 70,000 labels .* 600 force components"):
        schedule(force_streams=70_000)


# ---- runner


@pytest.mark.parametrize(
    "streams, energy_fraction, force_fraction, expected",
    [
        (1, 1.0, 0.1, (40, 60)),
        (2, 1.0, 0.1, (20, 30)),
        (4, 0.5, 0.02, (5, 3)),
        (2, 0.0, 0.1, (0, 30)),
        (2, 1.0, 0.0, (20, 0)),
        (64, 1.0, 1e-6, (1, 1)),
    ],
)
def test_fractions_give_the_number_of_updates(streams, energy_fraction, force_fraction, expected):
    one = schedule(streams=streams, energy_fraction=energy_fraction, force_fraction=force_fraction)
    epoch = one.epoch(1)
    assert one.n_update == expected and one.updates_per_epoch == sum(expected)
    assert (np.count_nonzero(epoch.kinds == ENERGY), np.count_nonzero(epoch.kinds == FORCE)) == expected
    for batch in batches(epoch):
        assert batch.candidates.shape == (streams, 3)


def test_random_selection_takes_every_energy_once_per_epoch():
    epoch = schedule(streams=4, selection="random", force_fraction=0.1).epoch(1)
    np.testing.assert_array_equal(np.sort(epoch.candidates[ENERGY].ravel()), ENERGIES)
    forces = epoch.candidates[FORCE].ravel()
    assert len(np.unique(forces)) == len(forces) == 60


def test_candidates_of_a_threshold_epoch_are_spread_evenly():
    """40 energies, 20 updates of 2 streams with 3 trials: 120 candidates, three times each label."""
    epoch = schedule(streams=2, trials=3).epoch(1)
    assert (np.unique(epoch.candidates[ENERGY], return_counts=True)[1] == 3).all()


def test_sorted_selection_descends_in_the_error():
    epoch = schedule(streams=4, selection="sort", force_fraction=0.1).epoch(1, ERRORS)
    for kind, labels in ((ENERGY, ENERGIES), (FORCE, FORCES)):
        taken = epoch.candidates[kind].ravel()
        errors = dict(zip(labels, ERRORS[kind]))
        assert (np.diff([errors[label] for label in taken]) <= 0).all()
        assert errors[taken[0]] == ERRORS[kind].max()
        assert len(np.unique(taken)) == len(taken)


def test_sorted_selection_starts_again_when_all_labels_are_used_up():
    few = np.arange(3)
    epoch = schedule(labels=(few, FORCES), streams=5, selection="sort").epoch(
        1, [np.array([0.1, 0.3, 0.2]), ERRORS[1]]
    )
    np.testing.assert_array_equal(epoch.candidates[ENERGY].ravel(), [1, 2, 0, 1, 2])


def test_more_streams_than_labels_repeat_labels():
    epoch = schedule(labels=(np.arange(3), np.zeros(0, np.int64)), streams=7, selection="random").epoch(1)
    assert epoch.candidates[ENERGY].shape == (1, 7, 1)
    assert set(epoch.candidates[ENERGY].ravel()) == {0, 1, 2}


def test_streams_that_can_only_be_a_mistake_are_refused():
    with pytest.raises(ConfigError, match="301 labels in one update, but for training there are 3 energies"):
        schedule(labels=(np.arange(3), np.zeros(0, np.int64)), streams=301)


# ---- sdnz


def test_sdnz_updates_have_one_energy_or_ten_force_components():
    epoch = schedule(name="sdnz", updates_per_epoch=400).epoch(1)
    assert {(b.kind, len(b.candidates)) for b in batches(epoch)} == {(ENERGY, 1), (FORCE, 10)}
    assert abs(np.count_nonzero(epoch.kinds == ENERGY) - 200) < 40
    assert len(set(epoch.candidates[ENERGY].ravel())) > 35 and len(set(epoch.candidates[FORCE].ravel())) > 500


@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0])
def test_the_probability_of_energies_can_be_set(probability):
    epoch = schedule(name="sdnz", updates_per_epoch=1000, energy_probability=probability).epoch(1)
    assert np.count_nonzero(epoch.kinds == ENERGY) == pytest.approx(
        1000 * probability, abs=40 * (0 < probability < 1)
    )


def test_scales_of_labels():
    runner, sdnz = (
        section(force_weight=10.0, energy_weight=2.0),
        section(name="sdnz", force_weight=10.0, energy_weight=2.0),
    )
    assert (label_scale(runner, "energy", 4), label_scale(runner, "force", 4)) == (2.0, 10.0)
    assert label_scale(sdnz, "energy", 1) == pytest.approx(2.0**0.5)
    assert label_scale(sdnz, "force", 10) == 1.0


# ---- ranks


@pytest.mark.parametrize("n_rank", range(1, 8))
@pytest.mark.parametrize("n_label", [1, 2, 3, 10, 13])
def test_the_shares_of_the_ranks_are_all_labels_in_order(n_rank, n_label):
    shares = [share(n_label, SimpleNamespace(rank=r, size=n_rank)) for r in range(n_rank)]
    assert [label for part in shares for label in part] == list(range(n_label))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def observer(config, n_rank, rank):
    """An Observer whose errors are known beforehand, of 43 structures of 10 atoms;
    the kernels are not called.
    """
    start = np.arange(0, 431, 10)
    one = object.__new__(Observer)
    one.labels = SimpleNamespace(kinds=tuple(KINDS.values()))
    one.structures = make_structures(
        start, np.zeros(430), np.zeros((430, 3)), np.zeros((43, 3, 3)), np.zeros((43, 3))
    )
    one.config, one.comm, one.rmse = config, SimpleNamespace(rank=rank, size=n_rank), np.array([0.05, 0.5])
    one.n_weight, one.tried = 1, 0

    def rows(kind, labels, w):
        one.tried += len(labels)
        size = 10.0 * ERRORS[0][labels - 3] if kind == ENERGY else ERRORS[1][labels // 2 - 50]
        return 1.0 * labels[:, None], (-1.0) ** labels * size

    one._rows = rows
    return one


@pytest.mark.parametrize("kind", [ENERGY, FORCE])
def test_a_stream_takes_the_first_candidate_above_the_threshold_else_the_worst(kind):
    config = section(energy_threshold=8.0, force_threshold=1.2, trials=4, streams=30)
    one = observer(config, 1, 0)
    labels, threshold = (ENERGIES, FORCES)[kind], (8.0 * 0.05, 1.2 * 0.5)[kind]
    candidates = np.random.default_rng(3).choice(labels, (30, 4))
    taken, rows, errors = one._select(kind, candidates, None)
    # per atom
    size = lambda label: (  # noqa: E731
        ERRORS[0][label - 3] if kind == ENERGY else ERRORS[1][label // 2 - 50]
    )
    n_none = n_tried = 0
    for label, row in zip(taken, candidates):
        above = [c for c in row if size(c) > threshold]
        n_none += not above
        n_tried += list(row).index(above[0]) + 1 if above else len(row)
        assert label == (above[0] if above else max(row, key=size))
    assert 0 < n_none < 30
    assert one.tried == n_tried, "nothing is tried behind a candidate that is taken"
    assert np.array_equal(rows[:, 0], taken)
    assert np.array_equal(errors, one._rows(kind, taken, None)[1])


@pytest.mark.parametrize("keys", SCHEDULES)
def test_the_labels_of_all_ranks_together_are_those_of_one_rank(keys, monkeypatch):
    """Shares and the choice among candidates, for 1 to 7 ranks, with more ranks than labels."""
    config = section(**keys)

    def labels_of(batch, n_rank):
        taken = []
        for rank in range(n_rank):
            one = observer(config, n_rank, rank)
            mine = share(len(batch.candidates), one.comm)
            candidates = batch.candidates[mine.start : mine.stop]
            taken += list(
                candidates[:, 0] if candidates.shape[1] == 1 else one._select(batch.kind, candidates, None)[0]
            )
        return taken

    for batch in batches(make_schedule(config, (ENERGIES, FORCES), 1).epoch(1, ERRORS))[:20]:
        for n_rank in range(2, 8):
            assert labels_of(batch, n_rank) == labels_of(batch, 1)
