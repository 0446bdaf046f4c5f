"""Readers and broken files: the short form of tests/faults/fuzz.py."""

import subprocess
import sys

from launch import ROOT


def test_whatever_the_bytes_readers_answer_or_refuse():
    program = ROOT / "tests" / "faults" / "fuzz.py"
    done = subprocess.run(
        [sys.executable, program, "--examples", "60"], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].startswith("1380 files in all")
