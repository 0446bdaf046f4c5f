"""The documentation: generated pages are up to date, quoted messages exist, links lead somewhere,
commands are known.
"""

import ast
import re
import subprocess
import sys

import pytest
import typer
from launch import ROOT

from mpnnp.cli import app
from mpnnp.n2p2 import keywords

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def test_the_generated_pages_are_up_to_date():
    """Else run python tools/make_docs.py."""
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "make_docs.py", "--check"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def texts_of_the_code():
    """Every piece of text between the placeholders of the package's strings."""
    pieces = set()
    for path in (ROOT / "mpnnp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                pieces.add(node.value)
    return "\n".join(pieces)


def test_every_quoted_error_message_is_one_of_the_code():
    code = texts_of_the_code()
    messages = re.findall(
        r"^`([^`]+)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(messages) > 25
    missing = [m for m in messages for part in m.split("...") if part not in code]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_pages_and_titles(page):
    for target, anchor in re.findall(r"\]\(([\w.-]+\.md)?(?:#([\w-]+))?\)", page.read_text(encoding="utf-8")):
        other = DOCS / (target or page.name)
        assert other.exists(), target
        titles = [
            re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-")
            for t in re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
        ]
        assert not anchor or anchor in titles, (target, anchor)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.name not in text] == []
    assert all((DOCS / name).exists() for name in re.findall(r": ([\w-]+\.md)$", text, re.MULTILINE))


def commands():
    return set(typer.main.get_command(app).commands)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.name)
def test_commands_in_the_text_exist(page):
    known = commands()
    found = re.findall(
        r"(?:^|`|\bbin/)(?:mpiexec -n \d+ (?:\S+/)?)?mpnnp ([a-z]+)\b",
        page.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert sorted(set(found) - known) == []


def test_commands_named_for_tools_exist():
    named = re.findall(
        r"mpnnp ([a-z]+)\b", " ".join(keywords.TOOLS.values()) + " ".join(k.meaning for k in keywords.TABLE)
    )
    assert sorted(set(named) - commands()) == []
