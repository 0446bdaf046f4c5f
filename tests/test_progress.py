"""Time left: in lines about once a minute, on a terminal in a bar, by a clock that the test turns."""

import io
import os

import pytest

from mpnnp import progress
from mpnnp.progress import Log, Progress, counted


@pytest.fixture
def clock(monkeypatch):
    """Seconds that `clock.now` shows to Progress."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    monkeypatch.setattr(progress, "time", Clock())
    return progress.time


def lines_of(clock, seconds, total, until, **settings):
    """Lines of a log while steps of `seconds` each are done."""
    stream = io.StringIO()
    with Progress(Log(stream=stream), "epoch 1/2: update", total, **settings) as shown:
        for step in range(1, until + 1):
            clock.now += seconds
            shown.update(settings.get("done", 0) + step)
    return stream.getvalue().splitlines()


def test_a_line_after_ten_seconds_and_then_every_minute(clock):
    lines = lines_of(clock, 1.0, 1000, 200)
    assert [line.split(" update ")[1] for line in lines] == [
        "10/1000 1% 16:30 min left",
        "70/1000 7% 15:30 min left",
        "130/1000 13% 14:30 min left",
        "190/1000 19% 13:30 min left",
    ]


def test_the_estimate_is_of_this_start_and_ends_at_the_limit(clock):
    resumed = lines_of(clock, 2.0, 1000, 6, done=900)
    assert resumed[0].endswith("905/1000 90% 3:10 min left")
    limited = lines_of(clock, 2.0, 1000, 6, deadline=clock.now + 60.0)
    assert limited[0].endswith("5/1000 0% 50 s left")


def test_nothing_is_known_before_the_first_step(clock):
    shown = Progress(Log(stream=io.StringIO()), "step", 10)
    assert shown.left() is None
    assert Progress(Log(stream=io.StringIO()), "step", 10, deadline=clock.now + 7.0).left() == 7.0


def test_a_line_of_ones_own_postpones_the_next(clock):
    stream = io.StringIO()
    with Progress(Log(stream=stream), "step", 1000) as shown:
        for step in range(1, 200):
            clock.now += 1.0
            shown.update(step)
            if step % 30 == 0:
                shown.told()
    assert len(stream.getvalue().splitlines()) == 1


def test_a_terminal_gets_a_bar_with_the_time_left(clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    log = Log(stream=stream)
    with Progress(log, "epoch 1/2: update", 100) as shown:
        clock.now += 10.0
        shown.update(50, "epoch 2/2: update")
        shown.bar.refresh()
        log("a line above the bar")
    assert "a line above the bar" in stream.getvalue()
    assert log.bar is None


def test_names_of_files_that_are_not_utf_8_and_letters_that_a_screen_does_not_know_are_written(tmp_path):
    raw = io.BytesIO()
    log = Log(stream=io.TextIOWrapper(raw, encoding="ascii"))
    log.open(tmp_path / "train.log")
    log(os.fsdecode(b"caf\xe9.xyz") + ": \u00fc")
    log.close()
    assert raw.getvalue() == b"caf\\xe9.xyz: \\xfc\n"
    assert (tmp_path / "train.log").read_text(encoding="utf-8") == "caf\\xe9.xyz: \u00fc\n"


def test_one_of_something_is_not_several():
    assert [counted(n, "structure") for n in (0, 1, 2000)] == [
        "0 structures",
        "1 structure",
        "2,000 structures",
    ]
    assert counted(1, "energy", "energies") == "1 energy" and counted(2, "energy", "energies") == "2 energies"
