"""The filter on real rows and errors: 2000 updates of a training run on the example data
beside the dense textbook filter.

The textbook filter runs in extended precision: what differs is the rounding error of the filter of mpnnp
alone.
"""

from pathlib import Path

import numpy as np
import pytest
from oracles.textbook import Textbook, dense_P
from small import quiet

from mpnnp.config import make_config
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.training.train import Run

WATER = Path(__file__).parents[2] / "jobs" / "water" / "water.extxyz.xz"
N_UPDATE = 2000
PLAIN = dict(epsilon=0.01, eta=0.01, eta_tau=0.01, eta_max=1.0, q=0.01, q_tau=0.01, q_min=1e-6)
# what is forgotten in all, exp(0.01 / 0.01), is how rounding errors grow
FADING = dict(epsilon=1.0, q=1e-6, q_tau=0.0, fading_memory=True, lam=0.99, nu=0.99)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("water")


def make_run(folder, **ekf):
    config = make_config(
        {
            "data": {"files": str(WATER), "cache": str(folder / "cache")},
            "symmetry_functions": {"set": "water"},
            "network": {"hidden": [2, 2]},
            "schedule": {"streams": 4, "force_fraction": 0.2},
            "ekf": ekf,
            "run": {"epochs": 1},
        }
    )
    return Run(config, folder, *quiet(), resume=False)


@pytest.mark.parametrize(
    "variant",
    [PLAIN, FADING, *({**PLAIN, "coupling": c} for c in ("element", "layer", "node", "block:40"))],
    ids=["full", "fading", "element", "layer", "node", "block"],
)
def test_lazy_tiles_equal_the_textbook_filter_over_2000_real_updates(folder, variant):
    run = make_run(folder, **variant)
    network, rates = (
        run.potential.network,
        run.config.ekf.model_copy(update={name: variant.get(name, 0.0) for name in ("eta_tau", "q_tau")}),
    )
    run.optimizer = make_ekf(rates, network.n_weight, network.segments, run.comm)
    run.state.optimizer = run.optimizer.init()
    textbook, w = (
        Textbook(rates, network.n_weight, network.segments, np.longdouble),
        run.state.weights.astype(np.longdouble),
    )
    epoch = run.schedule.epoch(1, None)
    for u in range(N_UPDATE):
        rows, errors, _ = run.observer.observe(epoch[u], run.state.weights.copy())
        run.state.weights += run.optimizer.update(run.state.optimizer, rows, errors)
        w += textbook.update(rows, errors)
    assert run.state.optimizer.n_update == N_UPDATE
    np.testing.assert_allclose(run.state.weights, w, rtol=0, atol=1e-10 * abs(w).max())
    P = dense_P(run.optimizer, run.state.optimizer)
    np.testing.assert_allclose(P, textbook.P, rtol=0, atol=1e-9 * abs(P).max())
