"""What happens between updates: checkpoints, limits, signals.

All ranks ask each other about twice a second, and all hear the same answer.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from mpnnp.config import Run
from mpnnp.parallel import Comm, maximum
from mpnnp.progress import duration
from mpnnp.signals import Signals, name

QUESTION = 0.5  # seconds between questions
MARGIN = 60.0  # seconds before the end of a batch job at which a run ends by itself
MUCH = 60.0  # seconds of work that are worth a checkpoint of their own
MOST_UPDATES = 1000  # between questions


@dataclass(frozen=True)
class Verdict:
    """save: write a checkpoint now; reason: why the run ends here, "" if it goes on;
    interrupted: it ends to be resumed.
    """

    save: bool = False
    reason: str = ""
    interrupted: bool = False


class Agenda:
    """The clock of rank 0 and the signals of every rank decide.

    config   section [run]
    update   number of updates done before
    clock    time.monotonic() when the training was asked for, from which run.time_limit counts; now if None
    """

    def __init__(self, comm: Comm, config: Run, signals: Signals, update: int, clock: float | None = None):
        self.comm, self.config, self.signals = comm, config, signals
        self.last_save = self.last_time = time.monotonic()
        self.begin = self.last_time if clock is None else clock
        self.last_update, self.interval = update, 1
        self.end = end_of_job()

    @property
    def slow(self) -> bool:
        """True if the ranks ask each other after every update, as updates take long or nothing is known yet:
        the same on all ranks.
        """
        return self.interval == 1

    def after_update(self, update: int) -> Verdict:
        """Verdict after an update. Collective."""
        every = self.config.checkpoint_updates
        save = bool(every and update % every == 0)
        if update - self.last_update >= self.interval:
            verdict = self.ask(update)
            if verdict.reason:
                return verdict
            save = save or verdict.save
        return Verdict(save, self.reached(update))

    def after_epoch(self, epoch: int, update: int) -> Verdict:
        """Verdict after the evaluation of epoch `epoch`; epochs may be shorter than the time between
        questions. Collective.
        """
        verdict = self.ask()
        if verdict.interrupted:
            return verdict
        every = self.config.checkpoint_epochs
        self.last_time, self.last_update = time.monotonic(), update
        return Verdict(
            verdict.save or bool(every and epoch % every == 0), self.reached(update) or verdict.reason
        )

    def reached(self, update: int) -> str:
        """Why a run ends that has done so many updates; "" if it goes on."""
        most = self.config.updates
        return f"run.updates = {most} reached" if most and update >= most else ""

    def complaints(self, seconds: float = 0.0) -> list[str]:
        """What does not fit between the time of the batch job and this run, as messages.

        seconds  that an update is expected to take
        """
        found, interval = [], 60.0 * self.config.checkpoint_minutes
        left = None if self.end is None else self.end - time.time() - MARGIN
        if left is not None and interval > left / 2:
            found.append(
                f"the batch job ends in {duration(left + MARGIN)} (SLURM_JOB_END_TIME), a checkpoint is "
                f"written every {duration(interval)}: a kill before would lose much of it; "
                "run.checkpoint_minutes sets that"
            )
        if seconds > MARGIN / 2 and left is not None:
            found.append(
                f"an update may take longer than the {MARGIN:.0f} s before the end of the batch job at which "
                "a run saves"
            )
        return found

    def deadline(self) -> float | None:
        """time.monotonic() at which the run ends at the latest, by run.time_limit and the batch job."""
        ends = []
        if self.config.time_limit:
            ends.append(self.begin + 60 * self.config.time_limit)
        if self.end:
            ends.append(time.monotonic() + self.end - time.time() - MARGIN)
        return min(ends, default=None)

    def ask(self, update: int | None = None) -> Verdict:
        """Verdict on time and signals. Collective."""
        limit, interval = 0, 0
        now = time.monotonic()
        if self.comm.rank == 0:
            late = self.config.time_limit and now - self.begin > 60 * self.config.time_limit
            limit = 2 if self.end and time.time() > self.end - MARGIN else int(bool(late))
            if update is not None:
                per_update = max((now - self.last_time) / max(update - self.last_update, 1), 1e-6)
                interval = int(min(max(QUESTION / per_update, 1), MOST_UPDATES))
        save = now - self.last_save > 60 * self.config.checkpoint_minutes and self.comm.rank == 0
        signal, limit, due, interval = (
            int(x) for x in maximum(self.comm, [self.signals.received, limit, save, interval])
        )
        if update is not None:
            self.last_time, self.last_update, self.interval = now, update, interval
        if signal:
            return Verdict(True, name(signal), True)
        if limit == 2:
            return Verdict(True, f"the batch job ends within {MARGIN:.0f} s (SLURM_JOB_END_TIME)", True)
        return Verdict(bool(due), f"run.time_limit = {self.config.time_limit:g} min reached" if limit else "")

    def much_to_lose(self) -> bool:
        """True if the last checkpoint is more than MUCH old. Collective."""
        return bool(maximum(self.comm, [int(time.monotonic() - self.last_save > MUCH)])[0])

    def saved(self) -> None:
        self.last_save = time.monotonic()


def end_of_job(environment: Mapping[str, str] = os.environ) -> float | None:
    """Unix time at which the batch job ends, from SLURM; None if not known."""
    try:
        return float(environment["SLURM_JOB_END_TIME"])
    except (KeyError, ValueError):
        return None
