"""`mpnnp` with a fault built in, for tests: python saboteur.py FAULT RANK NUMBER arguments of mpnnp...

FAULT happens on rank RANK at the NUMBER-th call (from 1) of what it names:
  kill-update, raise-update, exit-update   before an update: SIGKILL to itself, an exception, a plain exit
  kill-link, kill-replace, kill-fsync      inside the writing of any file: before the call of os.link,
                                           os.replace, os.fsync
  kill-written                             between two arrays of a checkpoint
  nan-error, inf-weights, bad-P            an error becomes NaN, weights explode, P loses positive
                                           definiteness, before an update
  slow                                     every update of a training takes 0.05 s more
  slow-step, slow-label                    so does every step of a simulation, every structure to label
  crawl                                    every update takes a second more, before its compiled calls
  record                                   no fault: the labels of every update go to the file named by
                                           $LABELS and the rank
"""

import os
import signal
import sys
import time

from mpnnp import environment

environment.prepare()

import h5py  # noqa: E402
import numpy as np  # noqa: E402

from mpnnp import cli  # noqa: E402
from mpnnp.optimizers import ekf  # noqa: E402
from mpnnp.simulation import dynamics, labelling  # noqa: E402
from mpnnp.training import observations, train  # noqa: E402

UPDATE = [0]  # number of the update under way, from 1
SLOWED = {
    "slow": (train, "one_update"),
    "slow-step": (dynamics.Simulation, "_advance"),
    "slow-label": (labelling, "labels_of"),
}


def main():
    fault, rank, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    del sys.argv[1:4]
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == rank or rank < 0:
        build_in(fault, number)
    cli.main()


def build_in(fault, number):
    what, _, where = fault.partition("-")
    actions = {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "raise": lambda: 1 / 0,
        "exit": lambda: os._exit(3),
    }
    if where == "update" and what in actions:
        at_call(train, "one_update", number, actions[what])
    elif where in ("link", "replace", "fsync"):
        at_call(os, where, number, actions[what])
    elif fault == "kill-written":
        at_call(h5py.Group, "__setitem__", number, actions[what])
    elif fault == "nan-error":
        observe = observations.Observer.observe

        def broken(self, batch, w, *pause):
            rows, errors, labels = observe(self, batch, w, *pause)
            if len(errors) and UPDATE[0] and UPDATE[0] % number == 0:
                errors[0] = np.nan
            return rows, errors, labels

        observations.Observer.observe = broken
        count_updates()
    elif fault in ("inf-weights", "bad-P"):
        update = ekf.Ekf.update

        def wrong(self, state, rows, errors):
            if UPDATE[0] == number and fault == "bad-P":
                state.T.add_to_diagonal(-1e6)
            return update(self, state, rows, errors) * (
                1e12 if UPDATE[0] == number and fault == "inf-weights" else 1.0
            )

        ekf.Ekf.update = wrong
        count_updates()
    elif fault == "record":
        record()
    elif fault == "crawl":
        observe = observations.Observer.observe

        def crawl(*arguments):
            time.sleep(1.0)
            return observe(*arguments)

        observations.Observer.observe = crawl
    elif fault in SLOWED:
        slow_down(*SLOWED[fault])


def record():
    from mpi4py import MPI

    observe = observations.Observer.observe
    path = f"{os.environ['LABELS']}.{MPI.COMM_WORLD.rank}"

    def recorded(self, batch, w, *pause):
        rows, errors, labels = observe(self, batch, w, *pause)
        if UPDATE[0]:
            with open(path, "a") as file:
                file.write(f"{batch.kind} {' '.join(map(str, labels))}\n")
        return rows, errors, labels

    observations.Observer.observe = recorded
    count_updates()


def count_updates():
    one_update = train.one_update

    def counted(task, state, *rest):
        UPDATE[0] = state.update + 1
        one_update(task, state, *rest)

    train.one_update = counted


def slow_down(owner, name):
    original = getattr(owner, name)

    def slowly(*arguments):
        time.sleep(0.05)
        return original(*arguments)

    setattr(owner, name, slowly)


def at_call(owner, name, number, action):
    original, calls = getattr(owner, name), [0]

    def counted(*arguments, **keywords):
        calls[0] += 1
        if calls[0] == number:
            action()
        return original(*arguments, **keywords)

    setattr(owner, name, counted)


if __name__ == "__main__":
    main()
