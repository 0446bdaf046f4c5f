"""SIGUSR1 and SIGTERM: a run under way finishes its update and saves;
before and after that there is nothing to save, and it ends at once.
"""

import os
import signal
import sys
import threading
import time

from mpnnp.errors import Interrupted

WATCHED = (signal.SIGUSR1, signal.SIGTERM)


class Signals:
    """Context manager that notes the signals of this process.

    received  number of the last signal, 0 if there was none
    holding   True while a signal must only be noted: the loop asks for it (`agenda`); else it ends all ranks
              with status 75
    """

    def __init__(self, comm):
        self.comm = comm
        self.received = 0
        self.holding = False
        self.before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python delivers signals to no other
            self.before = {number: signal.signal(number, self._note) for number in WATCHED}
        return self

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.received = number
        if not self.holding:
            if self.comm.rank:
                time.sleep(0.5)  # rank 0 tells, if it has got the signal too
            print(
                f"mpnnp: {name(number)} outside training, where there is nothing to save: "
                "start again with --resume",
                file=sys.stderr,
                flush=True,
            )
            sys.stdout.flush()
            # the launcher ends the others; under srun MPI_Abort was seen not to return
            os._exit(Interrupted.exit_status)


def ignore():
    """For a program whose work is done and saved: a signal that comes now has nothing left to stop."""
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)


def name(number):
    return signal.Signals(number).name
