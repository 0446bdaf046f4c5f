"""The documentation: generated pages are up to date, quoted messages exist, links lead somewhere,
commands are known.
"""

import ast
import importlib
import re
import shlex
import subprocess
import sys

import pytest
import typer
from launch import ROOT

import mpnnp
from mpnnp.cli import app
from mpnnp.n2p2 import keywords

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [ROOT / "README.md", *PAGES, *sorted((ROOT / "jobs").rglob("README.md"))]


def name_of(page):
    """A page as the navigation names it."""
    return page.relative_to(DOCS).as_posix()


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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_pages_and_titles(page):
    links = re.findall(r"\]\(([\w./-]+\.(?:md|png))?(?:#([\w-]+))?\)", page.read_text(encoding="utf-8"))
    for target, anchor in links:
        other = page.parent / (target or page.name)
        if target.startswith("../jobs/"):  # beside docs/ in the repository, below it in the site
            other = ROOT / target.removeprefix("../")
        assert other.exists(), target
        titles = [
            re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-")
            for t in re.findall(r"^#+ (.*)$", other.read_text() if anchor else "", re.MULTILINE)
        ]
        assert not anchor or anchor in titles, (target, anchor)


@pytest.mark.parametrize("page", sorted((DOCS / "tutorials").glob("*.md")), ids=name_of)
def test_a_tutorial_becomes_a_script(page):
    """Every command of its blocks, in order; what a shell takes for one; Python as input of Python."""
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "page_script.py", page, "--without", "pip install"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    commands = re.findall(r"^(?:mpnnp|mpiexec) .*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert commands
    assert [line for line in made.splitlines() if line.startswith(("mpnnp", "mpiexec"))] == commands
    assert "pip install" not in made and "pair_style" not in made
    assert made.count("import") == 0 or "<<'END_OF_BLOCK'" in made
    assert subprocess.run(["bash", "-n"], input=made, text=True).returncode == 0


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [name for name in map(name_of, PAGES) if f": {name}\n" not in text] == []
    named = re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE)
    assert len(named) > 25
    assert [name for name in named if not ((DOCS / name).exists() or (ROOT / name).exists())] == []


def commands():
    return set(typer.main.get_command(app).commands)


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_the_text_exist(page):
    known = commands()
    found = re.findall(
        r"(?:^|`|\bbin/)(?:mpiexec -n \d+ (?:\S+/)?)?mpnnp ([a-z]+)\b",
        page.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert sorted(set(found) - known) == []


def command_lines(page):
    """Words of the commands of mpnnp in the code blocks of a page."""
    blocks = re.findall(r"^```(.*?)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for line in "".join(text for language, text in blocks if not language).splitlines():
        found = re.search(r"^(?:.*&& )?(?:(?:mpiexec|srun) -n \d+ )?(?:\S+/)?mpnnp (.*)$", line)
        if found and "..." not in line:
            yield shlex.split(found[1], comments=True)


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_of_code_blocks_have_arguments_that_are_accepted(page):
    program = typer.main.get_command(app)
    for name, *words in command_lines(page):
        command = program.commands[name]
        if name == "analyze":
            command, words = command.commands[words[0]], words[1:]
        command.make_context(name, words)


def test_there_are_commands_in_code_blocks():
    assert sum(len(list(command_lines(page))) for page in TEXTS) > 60


def test_commands_named_for_tools_exist():
    named = re.findall(
        r"mpnnp ([a-z]+)\b", " ".join(keywords.TOOLS.values()) + " ".join(k.meaning for k in keywords.TABLE)
    )
    assert sorted(set(named) - commands()) == []


def text_of_today(page):
    """The text of a page without the names of earlier versions in the changelog."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^\| .*? \|", "|", text, flags=re.MULTILINE) if page.name == "changelog.md" else text


def exists(name):
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_names_and_files_in_the_text_exist(page):
    text = text_of_today(page)
    names = set(re.findall(r"\bmpnnp(?:\.[A-Za-z_]\w*)+", text)) - {"mpnnp.lock"}  # a file of runs
    assert [name for name in sorted(names) if not exists(name)] == []
    files = set(re.findall(r"(?<![\w./-])(?:mpnnp|tools|tests|docs|jobs)/[\w./-]*\w", text))
    named = [file for file in sorted(files) if not re.search("NAME|PACKAGE", file)]
    assert [file for file in named if not (ROOT / file).exists()] == []


def test_the_readme_reads_well_on_a_package_index():
    """It is the long description of the package, where links to files of the project lead nowhere."""
    links = re.findall(r"\]\(([^)]*)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_changelog_begins_with_the_version():
    titles = re.findall(r"^## (.*)$", (DOCS / "changelog.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert titles[0] == mpnnp.__version__.removesuffix(".dev0")
    numbers = [tuple(map(int, title.split("."))) for title in titles]
    assert numbers == sorted(numbers, reverse=True)


def test_the_version_to_cite_is_the_present_one():
    assert f"version = {{{mpnnp.__version__.removesuffix('.dev0')}}}" in (DOCS / "citing.md").read_text()
