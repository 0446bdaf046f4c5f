"""Signals are heard inside compiled loops, and end them only where the result is thrown away."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from small import quiet, small_config

from mpnnp.data.dataset import Dataset
from mpnnp.data.packed import make_atoms
from mpnnp.data.structure import Structure
from mpnnp.errors import DataError, Interrupted
from mpnnp.kernels.energy_forces import functions_of_structure
from mpnnp.kernels.plan import plan_of
from mpnnp.model.cost import cost_of
from mpnnp.model.stored_functions import load_symmetry_functions
from mpnnp.model.symmetry_functions import SymmetryFunction, SymmetryFunctions
from mpnnp.parallel import serial
from mpnnp.signals import ECHO, STOP, Signals
from mpnnp.training.train import train


def lattice(r_c):
    """(Structures of one crystal of eight atoms, SymmetryFunctions): a copper-like density of 0.085/A^3."""
    functions = SymmetryFunctions(
        [29],
        [
            SymmetryFunction(center=29, kind=2, neighbour1=29, eta=0.01, r_c=r_c),
            SymmetryFunction(
                center=29, kind=3, neighbour1=29, neighbour2=29, eta=0.01, lam=1.0, zeta=1.0, r_c=r_c
            ),
        ],
    )
    points = np.array(list(np.ndindex(2, 2, 2))) * 2.275
    structure = Structure(numbers=[29] * 8, positions=points, cell=4.55 * np.eye(3), pbc=[True] * 3)
    return make_atoms(Dataset.from_structures([structure]), [29]), functions


def compute(structures, functions):
    G = np.empty((8, 2))
    functions_of_structure(structures, 0, plan_of(functions.table), G)
    return G


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_compiled_loop_that_would_take_hours(number):
    structures, functions = lattice(100.0)
    assert cost_of(structures, functions).triplets > 5e10  # per atom
    with Signals(serial()) as signals:
        signals.holding = True
        with signals.breaking():
            threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
            G = compute(structures, functions)
        assert signals.received == number and G[-1, 1] == 0.0
    assert STOP[0] == 0


def test_a_signal_leaves_loops_alone_that_nobody_asked_to_end():
    structures, functions = lattice(6.0)
    expected = compute(structures, functions)
    with Signals(serial()) as signals:
        signals.holding = True
        os.kill(os.getpid(), signal.SIGTERM)
        while not signals.received:
            pass
        np.testing.assert_array_equal(compute(structures, functions), expected)
    np.testing.assert_array_equal(compute(structures, functions), expected)


def test_what_came_before_ends_the_next_loop():
    structures, functions = lattice(6.0)
    with Signals(serial()) as signals:
        signals.holding = True
        os.kill(os.getpid(), signal.SIGTERM)
        while not signals.received:
            pass
        with signals.breaking():
            assert not compute(structures, functions).any()


def test_a_signal_at_the_end_of_a_loop_does_not_end_later_ones():
    """The listener is slow between its question whether loops may be ended and the answer."""

    class Slow(Signals):
        asked = threading.Event()

        @property
        def breakable(self):
            value = self.value
            if threading.current_thread() is not threading.main_thread():
                self.asked.set()
                time.sleep(0.5)
            return value

        @breakable.setter
        def breakable(self, value):
            self.value = value

    with Slow(serial()) as signals:
        signals.holding = True
        with signals.breaking():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.asked.wait(10.0)
        time.sleep(1.0)
        left, STOP[0] = int(STOP[0]), 0  # not for other tests
        assert left == 0 and signals.received == signal.SIGTERM


def test_the_estimate_counts_pairs_and_triplets():
    structures, functions = lattice(6.0)
    shifts = 4.55 * np.array(list(np.ndindex(7, 7, 7))) - 3 * 4.55
    x = structures.positions
    distance = np.linalg.norm(x[None, :, None] + shifts[None, None] - x[0], axis=-1)
    n = np.count_nonzero((distance < 6.0) & (distance > 0))
    found = cost_of(structures, functions)
    assert abs(found.pairs / n - 1) < 0.15 and abs(found.triplets / (n * (n - 1) / 2) - 1) < 0.3
    alone = make_atoms(
        Dataset.from_structures([Structure(numbers=[29] * 3, positions=np.diag([0.0, 3.0, 40.0]))]), [29]
    )
    assert cost_of(alone, functions).pairs == pytest.approx(2 / 3)


def test_a_cutoff_that_would_fill_the_memory_is_refused(tmp_path):
    structures, functions = lattice(500.0)
    with pytest.raises(DataError, match="up to 500 Angstrom: about .* pairs .* is the cutoff in Angstrom"):
        load_symmetry_functions(structures, functions, "key", tmp_path, *quiet())


def test_inside_another_that_holds_a_signal_is_only_noted():
    with Signals(serial()) as outer:
        outer.holding = True
        with Signals(serial()) as inner:
            os.kill(os.getpid(), signal.SIGUSR1)
            while not inner.received:
                pass
        assert outer.received == signal.SIGUSR1
        with Signals(serial()) as later:
            assert later.received == signal.SIGUSR1


def test_how_to_go_on_is_said_as_of_what_was_started():
    with Signals(None), Signals(serial(), "the same command"), Signals(serial(), "--resume") as inner:
        assert inner.advice == "the same command"
    with Signals(None), Signals(serial(), "--resume") as alone:
        assert alone.advice == "--resume"


def test_a_training_inside_another_command_says_how_that_goes_on(tmp_path):
    with Signals(serial(), "start the same command again") as outer:

        def stop(*_):
            os.kill(os.getpid(), signal.SIGTERM)
            while not outer.received:
                pass

        said = r"SIGTERM: stopped after update \d+ \(epoch \d\); start the same command again$"
        with pytest.raises(Interrupted, match=said):
            train(small_config(tmp_path), tmp_path / "run", *quiet(), on_epoch=[stop])


PATIENT = """
import time
from mpnnp import signals
from mpnnp.parallel import serial

signals.SECOND, signals.Signals.of_program = {window}, True
signals.at_exit.append(lambda: print("unlocked", flush=True))
with signals.Signals(serial()) as heard:
    heard.holding = True
    print("ready", flush=True)
    while not heard.received:
        time.sleep(0.01)
    print("saving", flush=True)
    time.sleep(60)
"""


def twice(window, pause):
    """(exit status, output, messages) of a program that holds and gets Ctrl-C twice with a pause between."""
    program = subprocess.Popen(
        [sys.executable, "-c", PATIENT.format(window=window)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)
    assert program.stdout.readline() == "saving\n"
    time.sleep(pause)
    program.send_signal(signal.SIGINT)
    try:
        out, err = program.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        program.kill()
        out, err = program.communicate()
    return program.returncode, out, err


def test_a_second_ctrl_c_ends_at_once_and_leaves_no_lock():
    status, out, err = twice(window=1e9, pause=1.0)
    assert status == 130 and out == "unlocked\n" and "mpnnp: SIGINT again: ended at once" in err


def test_the_echo_of_a_launcher_is_no_second_ctrl_c():
    assert twice(window=1e9, pause=0.0)[0] == -signal.SIGKILL


def test_after_a_while_a_second_ctrl_c_is_a_first_one():
    status, _, err = twice(window=0.6, pause=1.0)
    assert status == -signal.SIGKILL and err.count("SIGINT: the step under way ends") == 2


def test_in_a_notebook_ctrl_c_stays_an_exception_where_nothing_holds(monkeypatch):
    monkeypatch.setattr(Signals, "of_program", False)  # tests of the command may have said otherwise
    with Signals(serial()), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    with Signals(serial()) as signals:
        signals.holding = True
        os.kill(os.getpid(), signal.SIGINT)
        while not signals.received:
            pass
        time.sleep(2 * ECHO)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)


def test_where_nothing_can_be_kept_the_status_is_that_of_the_signal():
    body = "import time; from mpnnp.signals import Signals; Signals.of_program = True\n"
    body += "with Signals(None): print(1, flush=True); time.sleep(60)"
    program = subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    program.stdout.readline()
    program.send_signal(signal.SIGTERM)
    assert program.wait(60) == 143 and program.stderr.read() == b"mpnnp: ended by SIGTERM\n"
