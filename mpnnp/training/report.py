"""What a run says while it goes on and at its end: lines of at most WIDTH columns, and accuracy.json."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mpnnp.files import write_text
from mpnnp.model.label_kinds import KINDS
from mpnnp.model.metrics import Accuracy, shown
from mpnnp.progress import duration
from mpnnp.training.run_state import RunState

WIDTH = 100  # columns
HEADER_EVERY = 20  # lines
ALL, PAUSE = 100, 1.0  # so many lines are told whenever they come, then one in so many seconds at the most
PLACES = ("epoch", "update", "time", "left")  # before the errors ...
WIDTHS = (10, 9, 10, 11)  # ... and their columns
MARK = "  best"


def symbols(elements: Sequence[int]) -> list[str]:
    return [chemical_symbols[z] for z in elements]


def place_in_run(epoch: int, done: int) -> str:
    """Where a run stands, in words.

    epoch, done  the epoch under way (from 1) and how many of its updates are done, as in RunState
    """
    return f"epoch {epoch}" if done or epoch == 1 else f"epoch {epoch - 1} done"


class CurveTable:
    """The learning curve as lines of the log, with a header every HEADER_EVERY lines; errors of kinds beyond
    WIDTH columns stand in learning-curve.csv alone, and so do, after ALL lines, epochs that follow the last
    line within PAUSE seconds.
    """

    def __init__(self) -> None:
        self.n_line, self.last = 0, -math.inf

    def is_due(self) -> bool:
        """Whether the next evaluation is told."""
        return self.n_line < ALL or time.monotonic() - self.last >= PAUSE

    def lines(
        self,
        epoch: int,
        state: RunState,
        accuracies: Mapping[str, Accuracy],
        better: bool,
        left: float | None,
        noise: str = "",
    ) -> Iterator[str]:
        """The line of an evaluation, after a header where it is time for one.

        accuracies  title of a column -> Accuracy
        left   seconds that the run still takes, None if not known
        noise  the learned noise levels in words, told with the header
        """
        n_part = len(accuracies)
        kinds = _that_fit(shown(*accuracies.values()), n_part)
        if self.n_line % HEADER_EVERY == 0:
            if noise and self.n_line:
                yield f"{'':{WIDTHS[0]}s}{noise}"
            yield from _header(kinds, accuracies)
        self.n_line, self.last = self.n_line + 1, time.monotonic()
        words = (
            f"epoch {epoch:4d}",
            f"{state.update}",
            duration(state.seconds),
            "" if left is None else duration(left),
        )
        numbers = (_number(a.rmse[kind.name], kind) for kind in kinds for a in accuracies.values())
        place = "".join(f"{word:>{width}s}" for word, width in zip(words, WIDTHS))
        yield f"{place}{''.join(numbers)}{MARK if better else ''}"


def _that_fit(kinds, n_part=2):
    """The first kinds whose columns, n_part each, fit into a line."""
    room, fit = WIDTH - sum(WIDTHS) - len(MARK), []
    for kind in kinds:
        room -= n_part * _width(kind)
        if room >= 0:
            fit.append(kind)
    return fit


def _header(kinds, parts):
    head = "RMSE   ".rjust(sum(WIDTHS))
    yield head + "".join(f"{f'{k.name} ({k.short_unit})':>{len(parts) * _width(k)}s}" for k in kinds)
    head = "".join(f"{name:>{width}s}" for name, width in zip(PLACES, WIDTHS))
    yield head + "".join(f"{part:>{_width(kind)}s}" for kind in kinds for part in parts)


def _width(kind):
    return max(int(kind.number.split(".")[0]), len(f"{kind.name} ({kind.short_unit})") // 2 + 1)


def _number(value, kind):
    """An error as its column shows it, shortened where it is too large for that; a dash without labels."""
    width, text = _width(kind), "-" if math.isnan(value) else f"{value:{kind.number}}".strip()
    return (text if len(text) < width else f"{value:.2g}").rjust(width)


def closing_table(
    epoch: int,
    counts: Mapping[str, int],
    accuracies: Mapping[str, Accuracy],
    noise: Mapping[str, float] | None = None,
) -> Iterator[str]:
    """Errors of the best potential on all structures of each part: lines of a table.

    counts      part -> structures; parts without any are left out
    accuracies  part -> Accuracy
    noise       kind -> learned level in error_unit
    """
    kinds = _that_fit(shown(*accuracies.values()))
    yield f"best.h5, the potential after epoch {epoch}, on all structures:"
    head = f"{'':2s}{'':12s}{'structures':>12s}"
    yield head + "".join(f"{f'{k.name} ({k.short_unit})':>{2 * _closing(k)}s}" for k in kinds)
    yield " " * len(head) + "".join(f"{m:>{_closing(k)}s}" for k in kinds for m in ("RMSE", "MAE"))
    for part, accuracy in accuracies.items():
        if counts[part]:
            measures = accuracy.rmse, accuracy.mae
            values = "".join(f"{_told(m[k.name]):>{_closing(k)}s}" for k in kinds for m in measures)
            yield f"  {part:12s}{counts[part]:12d}{values}"
    if noise:
        levels = ((k, _told(noise.get(k.name, math.nan))) for k in kinds)
        values = "".join(f"{level:>{_closing(k)}s}{'':{_closing(k)}s}" for k, level in levels)
        yield f"  {'noise level':24s}{values}".rstrip()


def _told(value):
    """A number of the closing table; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.4g}"


def _closing(kind):
    return max(10, _width(kind))


def write_accuracies(
    path: str | Path, state: RunState, structures: Mapping[str, Sized], accuracies: Mapping[str, Accuracy]
) -> None:
    """accuracy.json: errors of best.h5 on all structures, and where in the run it was found."""
    numbers = {
        name: {"structures": len(structures[name])}
        | {key: value if np.isfinite(value) else None for key, value in accuracy.numbers().items()}
        for name, accuracy in accuracies.items()
    }
    units = {kind.name: kind.error_unit for kind in KINDS.values()}
    found = {"epoch": state.best_epoch, "updates_of_the_run": state.update, "units": units}
    write_text(path, json.dumps(found | numbers, indent=2) + "\n", encoding="ascii")
