"""What a run writes while it goes on: checkpoint, best potential, learning curve;
and where it goes on from.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

from mpnnp.config import Config, to_toml
from mpnnp.errors import CheckpointError
from mpnnp.parallel import Comm, on_root
from mpnnp.progress import AnyLog
from mpnnp.run_lock import writing
from mpnnp.training import history, run_folder
from mpnnp.training.checkpoint import Checkpoint, read_shared
from mpnnp.training.resume import check_same_run
from mpnnp.training.run_state import RunState, to_checkpoint
from mpnnp.training.start import RunData, Task

PAUSE = 1.0  # seconds between two times that learning curve and best potential are written


class Keeper:
    """Writes the files of one run. Collective methods; errors of rank 0 are raised on every rank.

    check   called on rank 0 before a file is replaced: raises if the folder is no longer this run's
    begin   time.monotonic() at which the training would have begun had it never been stopped
    saving  seconds spent on checkpoints
    """

    def __init__(
        self,
        directory: Path,
        task: Task,
        config: Config,
        state: RunState,
        check: Callable[[], object] = lambda: None,
    ):
        self.directory, self.task, self.config, self.comm = directory, task, config, task.comm
        self.check = check
        self.begin = time.monotonic() - state.seconds
        self.saved: tuple | None = None  # what checkpoint.h5 holds
        self.saving = 0.0
        self.unwritten = False  # whether there are epochs that are not in the files yet
        self.better = False  # whether a better potential is among them
        self.written = -math.inf  # time.monotonic() when the files were written
        self.trained = task.data.trained.numbers() if task.data.trained else {}
        on_root(self.comm, run_folder.write_config, directory, to_toml(config))

    def seconds(self) -> float:
        """Of training so far, by the clock of rank 0."""
        return self.comm.bcast(time.monotonic() - self.begin, root=0)

    def keep_start(self) -> None:
        """initial.h5: the potential before the first update, which the analysis of a run compares with."""
        numbers = {"epoch": 0, "update": 0}
        on_root(
            self.comm,
            run_folder.write_potential,
            self.directory,
            run_folder.INITIAL,
            self.task.potential,
            to_toml(self.config),
            numbers,
            history.to_text(self.task.data.before),
        )

    def keep_epoch(self, state: RunState, better: bool, now: bool = False) -> None:
        """The learning curve, and best.h5 if the potential is better: not before PAUSE seconds have gone by
        since the last time, unless `now`. checkpoint.h5 knows the best potential too.
        """
        on_root(self.comm, self._keep_epoch, state, better, now)

    def keep_rest(self, state: RunState) -> None:
        """Write the epochs that are not written yet. Collective."""
        on_root(self.comm, self._write_rest, state)

    def _write_rest(self, state):
        if self.unwritten:
            self._write_epoch(state)

    def _keep_epoch(self, state, better, now):
        self.unwritten = True
        self.better |= better
        if now or time.monotonic() - self.written >= PAUSE:
            self._write_epoch(state)

    def _write_epoch(self, state):
        self.check()
        with writing(self.directory / "learning-curve.csv"):
            state.curve.write(self.directory / "learning-curve.csv")
        if self.better:
            self._write_best(state)
        self.unwritten = self.better = False
        self.written = time.monotonic()

    def _write_best(self, state):
        update = next((row[1] for row in reversed(state.curve.rows) if row[0] == state.best_epoch), 0)
        numbers = {"epoch": state.best_epoch, "update": int(update), "best": state.best} | self.trained
        potential, data = self.task.potential.with_weights(state.best_weights), self.task.data
        learned = history.to_text([*data.before, history.of_run(data, self.config, int(update))])
        text = to_toml(self.config)
        run_folder.write_potential(self.directory, run_folder.BEST, potential, text, numbers, learned)

    def keep_calibration(self, state: RunState, numbers: dict[str, float]) -> None:
        """Numbers of a Calibration in best.h5, and in checkpoint.h5 when it is written next."""
        self.trained |= numbers
        self.saved = None
        on_root(self.comm, self._write_best, state)

    def save(self, state: RunState) -> bool:
        """checkpoint.h5, unless it holds this state; True if it was written."""
        begin, now = time.monotonic(), (state.update, state.epoch, len(state.curve.rows))
        if now == self.saved:
            return False
        self.task.optimizer.check(state.optimizer)  # a broken filter must not replace the last good one
        state.seconds = self.seconds()
        arrays = self.task.optimizer.save_arrays(state.optimizer)
        on_root(self.comm, self._write_checkpoint, state, arrays)
        self.saved = now
        self.saving += time.monotonic() - begin
        return True

    def _write_checkpoint(self, state, arrays):
        self._write_rest(state)
        self.check()
        run_folder.write_checkpoint(
            self.directory, to_checkpoint(state, self.task, self.config, arrays, self.trained)
        )


def read_saved(
    directory: Path, config: Config, data: RunData, comm: Comm, log: AnyLog
) -> tuple[str, Checkpoint]:
    """(name, Checkpoint) to continue from, if it is of this run; the optimiser's arrays, which may be large,
    on rank 0 alone. Collective.

    Raises CheckpointError on every rank.
    """
    names = []

    def read():
        name, saved = run_folder.read_saved(directory, log)
        names.append(name)
        if not saved.optimizer:
            raise CheckpointError(
                f"{directory / name}: is a potential alone, "
                "without the state of an optimiser: it cannot be resumed"
            )
        check_same_run(saved, config, data, directory / name)
        if saved.best_weights is None:
            saved = saved._replace(
                best_weights=run_folder.weights_of_best(directory, saved.progress["best_epoch"])
            )
        return saved

    saved = read_shared(comm, read)
    return comm.bcast(names[0] if names else None, root=0), saved
