"""What mkdocs does besides its own work: formulas as MathML (needs no network), and jobs/ in the site."""

import html
import os
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
JOBS = ("*.md", "*.png", "*.toml", "*.sh", "*.py", "*.sbatch", "*.xml")  # files of jobs/ that the site has
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files, config):
    """Add the pages, pictures and scripts of jobs/ under the same paths."""
    for path in sorted(path for pattern in JOBS for path in (ROOT / "jobs").rglob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=os.fspath(path)))
    return files


def on_page_markdown(text, page, config, files):
    """Links of jobs/ to docs/: the site has both at one level."""
    return re.sub(r"\]\(((?:\.\./)+)docs/", r"](\1", text) if page.file.src_uri.startswith("jobs/") else text


def on_page_content(text, page, config, files):
    """Formulas between $ as MathML."""
    return FORMULA.sub(_mathml, text)


def _mathml(found):
    kind, formula = found.groups()
    return convert(html.unescape(formula), display="inline" if kind == "span" else "block")
