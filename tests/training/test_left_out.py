"""An update that is left out, as the weights would run away, leaves everything as it was."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from launch import on_ranks
from small import begun, small_config

from mpnnp.errors import TrainingError
from mpnnp.parallel import serial
from mpnnp.progress import Muted
from mpnnp.training.train import one_update

SECTIONS = {
    "learned noise": {"ekf": {"noise": "learned"}},
    "fading memory": {"ekf": {"noise": "fixed", "fading_memory": True, "coupling": "layer"}},
    "folded at once": {"ekf": {"noise": "fixed", "coupling": "node"}},
    "units": {"network": {"hidden": [4, 3], "activation": "tanh", "normalize_nodes": True}},
    "adam": {"run": {"optimizer": "adam"}},
}


def check_left_out(name, comm):
    """The 4th and 9th update of twelve are left out in one run, and never asked for in the other."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / str(comm.rank)
        place.mkdir()
        config = small_config(place, **SECTIONS[name])
        with_them, without = (begun(config, place, comm, Muted()) for _ in range(2))
        limit = with_them.state.weight_limit
        for k, batch in enumerate(itertools.islice(with_them.task.epoch(1), 12)):
            if k in (3, 8):
                with_them.state.weight_limit = 0.0
                with pytest.raises(TrainingError, match="the weights run away"):
                    one_update(with_them.task, with_them.state, batch)
                with_them.state.weight_limit = limit
            else:
                for run in (with_them, without):
                    one_update(run.task, run.state, batch)
        a, b = with_them.state, without.state
        assert np.array_equal(a.weights, b.weights)
        arrays = [run.task.optimizer.save_arrays(run.state.optimizer) for run in (with_them, without)]
        if comm.rank == 0:
            assert all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[0])
        if a.noise is not None:
            assert np.isfinite(a.noise.innovation).any()
            assert np.array_equal(a.noise.innovation, b.noise.innovation, equal_nan=True)


@pytest.mark.parametrize("name", SECTIONS)
def test_an_update_that_is_left_out_leaves_everything_as_it_was(name):
    check_left_out(name, serial())


def check_all(comm):
    for name in ("learned noise", "fading memory", "adam"):
        check_left_out(name, comm)


def test_it_does_so_on_three_ranks():
    on_ranks(3, check_all)
