"""Optimizers by name: every one keeps the promises of registry.Optimizer,
and names that do not exist are errors.
"""

import pytest
from launch import on_ranks
from small import quiet, small_config

from mpnnp.errors import ConfigError
from mpnnp.model.network import Network
from mpnnp.optimizers import registry
from mpnnp.optimizers.contract import check_optimizer
from mpnnp.optimizers.registry import OPTIMIZERS, make_optimizer
from mpnnp.parallel import serial
from mpnnp.training.start import assemble

NETWORK = Network([(5, 4, 1)], [("tanh", "identity")])
SETTINGS = {"adam": {"adam": {"learning_rate": 0.02, "clip_norm": 0.0}}}  # fast enough for forty updates


def make(name, comm):
    from mpnnp.config import make_config

    config = make_config({"data": {"files": "x"}, "run": {"optimizer": name}} | SETTINGS.get(name, {}))
    return make_optimizer(config, NETWORK, 10, comm)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_keeps_its_promises(name):
    check_optimizer(lambda: make(name, serial()), NETWORK.n_weight, serial())


def check_all(comm):
    for name in sorted(OPTIMIZERS):
        check_optimizer(lambda name=name: make(name, comm), NETWORK.n_weight, comm)


def test_every_optimizer_keeps_its_promises_on_three_ranks():
    on_ranks(3, check_all)


class Steepest:
    """An optimizer of a third party: a fixed step along the gradient, one rank."""

    advice = "a shorter step"

    def __init__(self, step=0.05):
        self.step = step

    def init(self):
        return {"n": 0}

    def update(self, state, rows, errors):
        state["n"] += 1
        return self.step * errors @ rows

    def check(self, state):
        pass

    def save_arrays(self, state):
        return dict(state)

    def load_arrays(self, arrays):
        return dict(arrays)


def test_the_contract_finds_what_an_optimizer_breaks():
    """Steepest does not refuse NaN: the contract says so."""
    with pytest.raises(AssertionError, match="rows of nan must be a TrainingError"):
        check_optimizer(Steepest, NETWORK.n_weight, serial())
    with pytest.raises(AssertionError, match="errors must fall"):
        check_optimizer(lambda: Steepest(-0.05), NETWORK.n_weight, serial())


def test_an_optimizer_of_ones_own_trains_after_one_line(tmp_path, monkeypatch):
    from mpnnp.training.train import train

    monkeypatch.setitem(
        OPTIMIZERS,
        "steepest",
        lambda config, network, per_epoch, comm: Steepest(**config.optimizer.model_extra),
    )
    config = small_config(tmp_path, run={"optimizer": "steepest", "epochs": 3}, optimizer={"step": 1e-3})
    curve = train(config, tmp_path / "run", *quiet()).curve.columns()
    assert curve["force_rmse_train"][-1] < curve["force_rmse_train"][0]


def test_an_optimizer_that_does_not_exist_is_an_error(tmp_path):
    config = small_config(tmp_path, run={"optimizer": "adm"})
    with pytest.raises(
        ConfigError, match=r"run.optimizer = 'adm': there is no such optimizer; known are adam, ekf"
    ):
        assemble(config, *quiet(), tmp_path)
    with pytest.raises(ConfigError, match="known are"):
        registry.check_name("")
