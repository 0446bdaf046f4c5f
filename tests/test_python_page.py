"""docs/python.md: its blocks run in order, in one process, and print what the page shows."""

import math
import re
import shutil
import subprocess
import sys

import pytest
from launch import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```(?:\n```text\n(.*?)^```)?", PAGE, re.MULTILINE | re.DOTALL)
NUMBER = r"[-+]?(?:\d[\d,]*\d|\d)(?:\.\d*)?(?:e[-+]?\d+)?"
MARK = "=== block"
pytestmark = pytest.mark.timeout(2400)  # where it is the first to compile the kernels


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What each block prints, run in a folder with the example data."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copy(ROOT / "jobs" / "water" / "water.extxyz.xz", folder)
    script = "".join(f"print('{MARK}', flush=True)\n{code}\n" for code, _ in BLOCKS)
    (folder / "page.py").write_text(script, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "page.py"], cwd=folder, capture_output=True, text=True, timeout=2300
    )
    parts = result.stdout.split(f"{MARK}\n")[1:]
    assert result.returncode == 0, f"block {len(parts)} of the page:\n{result.stderr[-3000:]}"
    return parts


def tokens(text):
    return re.findall(rf"{NUMBER}|[^\W\d]+|[^\w\s]", text)


def same(shown, found):
    """Whether two tokens agree: numbers to one unit of the last digit that the page shows, or to 1e-4."""
    if not (re.fullmatch(NUMBER, shown) and re.fullmatch(NUMBER, found)):
        return shown == found
    digits, _, exponent = shown.replace(",", "").partition("e")
    if "." not in digits and not exponent:
        return shown == found
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    a, b = (float(x.replace(",", "")) for x in (shown, found))
    return math.isclose(a, b, rel_tol=1e-4, abs_tol=1.001 * unit)


def agrees(shown, found):
    """Whether a printed text is the one of the page, where "..." stands for anything."""
    pieces, found = [tokens(piece) for piece in shown.split("...")], tokens(found)
    at, end = 0, len(found) - len(pieces[-1])  # where the next piece may begin, and where the last one does
    for k, piece in enumerate(pieces):
        first, last = (0, 0) if k == 0 else (at, end - len(piece))
        if k == len(pieces) - 1:
            first, last = max(at, end), end if k else 0
        fits = (p for p in range(first, last + 1) if p + len(piece) <= len(found))
        place = next((p for p in fits if all(map(same, piece, found[p:]))), None)
        if place is None:
            return False
        at = place + len(piece)
    return at == len(found)


@pytest.mark.parametrize(
    ("shown", "found", "expected"),
    [
        ("a 1.50 b", "a 1.51 b", True),
        ("a 1.50 b", "a 1.53 b", False),
        ("a 1.50 b", "a nan b", False),
        ("3 updates", "4 updates", False),
        ("a ... 2", "a 1 1 2", True),
        ("a ... 2", "a 1 1 3", False),
        ("... True", "x True", True),
        ("... True", "x True False", False),
        ("True", "True False", False),
        ("[0.5 ...\n 2.0]", "[0.5 0.7\n 1.0 2.0]", True),
        ("-1.0", "1.0", False),
    ],
)
def test_a_text_of_the_page_is_held_against_what_is_printed(shown, found, expected):
    assert agrees(shown, found) is expected


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_block_prints_what_the_page_shows(printed, number):
    assert agrees(BLOCKS[number][1], printed[number]), printed[number]


def test_blocks_have_at_most_fifteen_lines():
    assert len(BLOCKS) == PAGE.count("```python") > 10
    assert [code for code, _ in BLOCKS if code.count("\n") > 15] == []


def test_the_first_block_alone_trains_ten_updates_and_prints_the_diagonal_of_P(printed):
    """P(0) = I; observations only take from it, process noise adds at most 0.01 per update."""
    diagonal = [float(x) for x in printed[0].strip("[]\n").split()]
    assert len(diagonal) == 490
    assert 0.0 < min(diagonal) < 0.3 < 0.9 < max(diagonal) < 1.1
