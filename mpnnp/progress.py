"""Messages and progress of long work: rank 0 only; a bar on a terminal, plain lines in a job log."""

import contextlib
import os
import sys
import time
import warnings
from datetime import datetime

FIRST = 10.0  # seconds after which a log says for the first time how long it takes


def printable(text):
    """A text that every file and screen takes: bytes of names of files that are not UTF-8 as \\xe9."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Silent:
    """A log for those who want none; warnings are still shown."""

    bar = None
    active = False

    def __call__(self, text=""):
        pass

    def show(self, text):
        pass

    def record(self, text):
        pass

    def warn(self, text):
        warnings.warn(text, stacklevel=2)


class Muted(Silent):
    """A log for what is told elsewhere, its warnings too."""

    def warn(self, text):
        pass


class Log:
    """Lines for people: to the screen and, when a folder is known, to train.log.

    Silent on every rank but 0.
    """

    def __init__(self, comm=None, stream=None):
        self.active = comm is None or comm.rank == 0
        self.stream = stream or sys.stdout
        self.file = None
        self.kept = []
        self.bar = None

    def open(self, path, append=False):
        """Write everything said so far, and from now on, to `path` too."""
        if self.active:
            self.file = open(path, "a" if append else "w", encoding="utf-8")
            self.file.write("".join(f"{line}\n" for line in self.kept))
            self.file.flush()

    def __call__(self, text=""):
        if not self.active:
            return
        text = printable(text)
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            write_line(self.stream, text)
        self.kept.append(text)
        self.record(text)

    def show(self, text):
        """A line that says how far the work is."""
        self(text)

    def record(self, text):
        """A line for train.log alone.

        A log that cannot be written, on a full disk say, does not end the run.
        """
        if self.file is None:
            return
        try:
            self.file.write(f"{printable(text)}\n")
            self.file.flush()
        except OSError as error:
            path, file, self.file = self.file.name, self.file, None
            with contextlib.suppress(OSError):
                file.close()
            print(f"warning: {path} is no longer written: {error.strerror}", file=self.stream, flush=True)

    def warn(self, text):
        self(f"warning: {text}")

    def close(self):
        if self.file is not None:
            self.file.close()
            self.file = None


class QuietLog(Log):
    """A Log that shows nothing on the screen: its file alone has the lines.

    warns  warnings are shown nevertheless, as those of Python
    """

    def __init__(self, comm=None, warns=False):
        super().__init__(comm, stream=open(os.devnull, "w"))
        self.warns = warns

    def warn(self, text):
        super().warn(text)
        if self.warns and self.active:
            warnings.warn(text, stacklevel=2)


class SideLog(Log):
    """The log of one of several works that go on side by side: to its train.log alone, but for warnings and
    lines that say how far it is, which are also shown on the screen, behind its name.
    """

    def __init__(self, comm, name):
        super().__init__(comm, stream=open(os.devnull, "w"))
        self.name, self.screen = name, sys.stdout

    def show(self, text):
        super().show(text)
        if self.active:
            write_line(self.screen, printable(f"{self.name}: {text}"))

    def warn(self, text):
        super().warn(text)
        if self.active:
            write_line(self.screen, printable(f"{self.name}: warning: {text}"))


def write_line(stream, text):
    """At once and in one piece: other ranks may write to the same screen. Letters that a screen does not know
    are written by their numbers.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(f"{text}\n".encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


AnyLog = Log | Silent  # for annotations


class Progress:
    """Progress of `total` steps with an estimate of the time left; use as a context manager.

    On a terminal a bar is drawn; in a log, and where a launcher hands on no terminal, a line is written after
    FIRST seconds and then every `interval` seconds.

    deadline  time.monotonic() at which the work ends at the latest, None if it may take as long as it takes
    """

    def __init__(self, log, title, total, interval=60.0, done=0, deadline=None):
        self.log, self.title, self.total = log, title, max(int(total), 1)
        self.interval, self.deadline, self.bar = interval, deadline, None
        self.first = self.done = done
        self.begin = time.monotonic()
        self.last = self.begin + min(FIRST, interval) - interval

    def __enter__(self):
        if self.log.active and self.log.stream.isatty():
            self.interval, self.bar = 0.2, _make_bar(self.log.stream)
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.first, left="?")
            self.bar.start()
            self.log.bar = self.bar
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.stop()
            self.log.bar = None

    def update(self, done, title=None):
        """Show that `done` steps are done. Costs a clock reading unless it is time to show.

        title  what is done now, instead of the last title
        """
        if not self.log.active:
            return
        self.done, self.title = done, title or self.title
        now = time.monotonic()
        if now - self.last < self.interval:
            return
        self.last, left = now, self.left()
        told = "?" if left is None else duration(left)
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=self.title, left=told)
            return
        self.log.show(
            f"{datetime.now():%H:%M:%S} {self.title} {done}/{self.total} "
            f"{100 * done // self.total}% {told} left"
        )

    def told(self):
        """The log has just said how far it is: no line of its own for a while."""
        if self.bar is None:
            self.last = time.monotonic()

    def left(self):
        """Seconds that the rest takes at the speed so far, None if not known."""
        now, new = time.monotonic(), self.done - self.first
        limit = None if self.deadline is None else max(self.deadline - now, 0.0)
        if new <= 0:
            return limit
        left = (self.total - self.done) * (now - self.begin) / new
        return left if limit is None else min(left, limit)


def _make_bar(stream):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]} left"),
    )
    return Progress(*columns, console=Console(file=stream), transient=True)


def warner(report):
    """What warnings go to where lines go to `report`: its `warn`, if it has one."""
    return getattr(report, "warn", lambda text: report(f"warning: {text}"))


def counted(n, noun, plural=""):
    """A number and what is counted: 1 structure, 2,000 structures."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def duration(seconds):
    """Seconds as people write them: 12 s, 3:20 min, 2:05:00 h."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d}:{seconds % 60:02d} h"
