"""Settings that follow from the data: which, when, and that what is given stays."""

from dataclasses import replace

import numpy as np
import pytest
from small import begun, quiet, small_config

from mpnnp.config import make_config, parse_config, to_toml
from mpnnp.errors import ConfigError
from mpnnp.progress import Log, Silent
from mpnnp.training.choices import hidden_nodes, n_label, settle
from mpnnp.training.start import load_data
from mpnnp.training.train import train

LEARNED = {"data": {"files": "x"}}
FIXED = LEARNED | {"ekf": {"noise": "fixed"}}


def settled(tree, energies=1000, forces=600_000):
    return settle(make_config(tree), (energies, forces), Silent())


def test_the_model_of_the_noise_decides_what_is_filled_in():
    learned, fixed = make_config(LEARNED), make_config(FIXED)
    assert (learned.ekf.noise, learned.ekf.prior, learned.schedule.selection) == ("learned", 30.0, "random")
    assert (fixed.ekf.noise, fixed.ekf.prior, fixed.schedule.selection) == ("fixed", None, "threshold")
    published = make_config(LEARNED | {"schedule": {"name": "sdnz"}})
    assert (published.ekf.noise, published.schedule.selection) == ("fixed", None)
    assert [c.network.activation for c in (learned, fixed, published)] == ["softplus", "tanh", "tanh"]
    own = make_config(LEARNED | {"ekf": {"prior": 2.0}, "schedule": {"selection": "sort"}})
    assert (own.ekf.prior, own.schedule.selection) == (2.0, "sort")


def test_an_epoch_of_few_labels_takes_more_of_the_forces():
    assert settled(LEARNED).schedule.force_fraction == 0.02
    assert settled(LEARNED, forces=20_000).schedule.force_fraction == pytest.approx(0.1)
    assert settled(LEARNED, forces=1500).schedule.force_fraction == 1.0
    assert settled(FIXED, forces=1500).schedule.force_fraction == 0.02
    given = LEARNED | {"schedule": {"force_fraction": 0.5}}
    assert settled(given, forces=1500).schedule.force_fraction == 0.5


def test_energies_of_few_structures_come_more_often_than_once_in_an_epoch():
    """At least one for twenty force components, of which an epoch takes 2000 here."""
    assert settled(LEARNED, energies=100, forces=60_000).schedule.energy_fraction == 1.0
    assert settled(LEARNED, energies=16, forces=60_000).schedule.energy_fraction == pytest.approx(100 / 16)
    assert settled(LEARNED, energies=16, forces=160).schedule.energy_fraction == 1.0
    assert settled(FIXED, energies=16, forces=60_000).schedule.energy_fraction == 1.0
    more = LEARNED | {"run": {"from": "checkpoint.h5"}, "ekf": {"noise": "learned"}}
    assert settled(more, energies=16, forces=60_000).schedule.energy_fraction == pytest.approx(100 / 16)
    given = LEARNED | {"schedule": {"energy_fraction": 0.5}}
    assert settled(given, energies=16, forces=60_000).schedule.energy_fraction == 0.5
    assert settled(LEARNED | {"schedule": {"forces": False}}, energies=16).schedule.energy_fraction == 1.0


def test_epochs_make_as_many_updates_whatever_the_data():
    for energies, forces in ((1000, 600_000), (100, 3000), (80, 2160)):
        run, schedule = settled(LEARNED, energies, forces), settled(LEARNED, energies, forces).schedule
        taken = schedule.energy_fraction * energies + schedule.force_fraction * forces
        updates = run.run.epochs * taken / schedule.streams
        assert updates >= 20_000 and (updates < 21_000 or run.run.epochs == 10)
        assert run.run.patience == max(10, run.run.epochs // 3)
    assert settled(LEARNED, energies=10**6).run.epochs == 10
    fixed = settled(FIXED).run
    assert (fixed.epochs, fixed.patience) == (25, None)
    given = settled(LEARNED | {"run": {"epochs": 7, "patience": 3}}).run
    assert (given.epochs, given.patience) == (7, 3)


def test_nets_are_smaller_where_labels_are_fewer_than_weights():
    n_weight = 2 * (11 * 25 + 26 * 25 + 26)
    assert hidden_nodes((n_weight, 0), [10, 10], Silent()) == [25, 25]
    assert hidden_nodes((n_weight - 1, 0), [10, 10], Silent()) == [15, 15]


def test_keys_of_fixed_noise_are_refused_with_the_way_out():
    with pytest.raises(ConfigError, match="ekf.q = 0.1.*without effect.*ekf.noise = 'fixed' uses them"):
        make_config(LEARNED | {"ekf": {"q": 0.1}})
    with pytest.raises(ConfigError, match="schedule.force_weight = 3.0"):
        make_config(LEARNED | {"schedule": {"force_weight": 3.0}})
    with_adam = make_config(LEARNED | {"schedule": {"force_weight": 3.0}, "run": {"optimizer": "adam"}})
    assert with_adam.schedule.force_weight == 3.0 and not with_adam.learns_noise


def test_configurations_of_earlier_checkpoints_have_fixed_noise():
    """They name every key, but not the model of the noise, of which there was one."""
    lines = [line for line in to_toml(make_config(FIXED)).splitlines() if not line.startswith("noise")]
    assert parse_config("\n".join(lines), "a checkpoint").ekf.noise == "fixed"


def test_labels_are_counted_by_structures_with_forces(tmp_path):
    config = small_config(tmp_path, n=12)
    data = load_data(config, *quiet(), tmp_path)
    assert n_label(data.dataset, data.train) == (9, 3 * int(data.dataset.n_atom[data.train].sum()))
    first = data.dataset.start[data.train[0]]
    for masked in (1, int(data.dataset.n_atom[data.train[0]])):  # the first atom alone, as of a fixed layer
        without = np.array(data.dataset.forces)
        without[first : first + masked] = np.nan
        found = n_label(replace(data.dataset, forces=without), data.train)
        assert found[1] == n_label(data.dataset, data.train)[1] - 3 * masked


def test_forces_that_are_not_learned_decide_about_no_net(tmp_path):
    config = small_config(tmp_path, schedule={"forces": False})
    comm, log = quiet()
    begun(config.with_keys("network", hidden=None, activation="tanh"), tmp_path / "run", comm, log)
    assert any(line.startswith("network.hidden = [15, 15]: 9 labels for training") for line in log.kept)


def test_a_run_without_settings_tells_what_it_chose_and_goes_on(tmp_path):
    config = small_config(tmp_path, ekf={"noise": "learned"})
    gaps = config.with_keys("network", hidden=None, activation="tanh")
    gaps = gaps.with_keys("schedule", force_fraction=None)
    comm, _ = quiet()
    log = Log(stream=open(tmp_path / "log", "w"))
    first = train(gaps, tmp_path / "run", comm, log)
    text = (tmp_path / "run" / "train.log").read_text()
    assert "network.hidden = [15, 15]" in text and "schedule.force_fraction = 1" in text
    more = gaps.with_keys("run", epochs=3)
    again = train(more, tmp_path / "run", comm, log, resume=True)
    assert first.epoch == 3 and again.epoch == 4 and len(again.weights) == len(first.weights)
