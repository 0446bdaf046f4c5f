"""SIGINT (Ctrl-C), SIGTERM and SIGUSR1: work under way that can be kept is saved; where there is nothing to
save a program ends at once.

A thread listens, so that a signal is heard while the program is inside a compiled loop or waits for other
ranks, where Python calls no handlers.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from mpnnp.errors import Interrupted

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
SECOND = 5.0  # seconds in which the same signal again ends a program at once
ECHO = 0.5  # seconds in which it is taken for the same one: a terminal and a launcher both hand on Ctrl-C
# (1,) not 0: compiled loops over neighbours end early, and what they computed is meaningless
STOP = np.zeros(1, np.int64)
at_exit: list[Callable[[], object]] = []  # called before a signal ends this process


class Signals:
    """Context manager that notes the signals of this process.

    In a notebook or a script (`of_program` False) Ctrl-C stays a KeyboardInterrupt where nothing holds, and
    the second time.

    received  number of the last signal, 0 if there was none
    holding   True while a signal must only be noted: the loop asks for it (`agenda`); else it ends all ranks.
              Inside another that holds, this one always holds
    advice    how to go on after such an end, which then has status 75; None: nothing can be gone on with, the
              status is 128 + number, as of a program that does not listen. Inside another with advice it is
              that of the outer one, which the user has started
    """

    opened: list["Signals"] = []  # the innermost last
    of_program = False  # the process is that of the command mpnnp, and may be ended

    def __init__(self, comm: "Intracomm | None", advice: str | None = None):
        self.comm, self.advice = comm, advice
        self.received = 0
        self.holding = self.breakable = False
        self.guard = threading.Lock()  # of `breakable` and STOP together
        self.first_heard = -np.inf
        self.before: dict = {}

    def __enter__(self):
        self.advice = next((outer.advice for outer in self.opened if outer.advice), self.advice)
        if threading.current_thread() is threading.main_thread():  # Python delivers signals to no other
            if self.opened:
                self.received = self.opened[-1].received
            ear, mouth = os.pipe()
            os.set_blocking(mouth, False)
            self.pipe = ear, mouth
            self.before = {number: signal.signal(number, self._in_main_thread) for number in WATCHED}
            self.wakeup = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
            threading.Thread(target=self._listen, args=(ear,), daemon=True).start()
        self.opened.append(self)
        return self

    def __exit__(self, *_):
        self.opened.remove(self)
        if self.before:
            signal.set_wakeup_fd(self.wakeup)
            for number, handler in self.before.items():
                signal.signal(number, handler)
            os.close(self.pipe[1])  # ends the listener
            self.before = {}

    @contextlib.contextmanager
    def breaking(self) -> Iterator[None]:
        """Context in which a signal ends compiled loops early: before what they computed is used the ranks
        must have asked each other for `received`, and throw it away if there was a signal.
        """
        with self.guard:
            self.breakable = True
            STOP[0] = self.received
        try:
            yield
        finally:
            with self.guard:
                self.breakable = False
                STOP[0] = 0

    def _listen(self, ear):
        while data := os.read(ear, 1):
            if data[0] in WATCHED:
                self._note(data[0])
        os.close(ear)

    def _in_main_thread(self, number, frame):
        """The listener does the work; but only here Python can interrupt what is under way."""
        again = number == self.received and time.monotonic() - self.first_heard > ECHO
        if self._is_of_python(number) and (again or not self._is_held()):
            raise KeyboardInterrupt

    def _is_of_python(self, number):
        return number == signal.SIGINT and not self.of_program

    def _is_held(self):
        return any(signals.holding for signals in self.opened)

    def _note(self, number):
        now, again = time.monotonic(), number == self.received
        since = now - self.first_heard
        if again and (since < ECHO or self._is_of_python(number)):
            return
        if again and since < SECOND:
            end_at_once(self.comm, 128 + number, f"{name(number)} again: ended at once")
        for signals in self.opened:
            signals.received, signals.first_heard = number, now
        with self.guard:  # else the context may end between the question and the answer
            if self.breakable:
                STOP[0] = number
        if not self._is_held():
            if self._is_of_python(number):
                return
            self._end(number)
        if self.comm is None or self.comm.rank == 0:
            # not print: the main thread may be inside one
            text = f"{name(number)}: the step under way ends, then all is saved; again: the end at once\n"
            with contextlib.suppress(OSError):
                os.write(2, text.encode())

    def _end(self, number):
        if self.advice is None:
            end_at_once(self.comm, 128 + number, f"ended by {name(number)}")
        end_at_once(
            self.comm,
            Interrupted.exit_status,
            f"{name(number)} before there was anything new to save: {self.advice}",
        )


def end_at_once(comm: "Intracomm | None", status: int, message: str) -> NoReturn:
    """End this process; the launcher then ends the other ranks (under srun MPI_Abort was seen not to
    return). One rank tells, rank 0 if it has heard the signal too.
    """
    if comm is not None and comm.rank:
        time.sleep(2.0)
    with contextlib.suppress(OSError):
        os.write(2, f"mpnnp: {message}\n".encode())
    for call in at_exit:
        with contextlib.suppress(Exception):
            call()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(status)


def ignore() -> None:
    """For a program that leaves: a signal that comes now has nothing left to stop, nor to say."""
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)


def name(number: int) -> str:
    return signal.Signals(number).name
