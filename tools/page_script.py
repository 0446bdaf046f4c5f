"""Makes a shell script of what a page of the documentation tells its reader to type:

    python tools/page_script.py docs/tutorials/metal.md [--without WORD ...] > metal.sh
    cd FOLDER && bash -ex metal.sh

Blocks without a language are commands; those of Python are run, or written to the file that the line before
them names (`make.py`:), as are others with such a line, and else left out. Lines with a WORD of --without are
left out: what the reader of this page has already, or has not. FOLDER holds what the page takes for granted.
"""

import argparse
import re
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`([\w.-]+)`:\s*$")
OF_LAMMPS = "pair_style"
END = "END_OF_BLOCK"


def script(page: str, without: tuple[str, ...]) -> str:
    """The commands of a page, a shell script."""
    parts = []
    for match in BLOCK.finditer(page):
        language, text = match.groups()
        file = FILE.search(page[: match.start()])
        if file or language == "python":
            command = f"cat > {file[1]}" if file else "python -"
            parts.append(f"{command} <<'{END}'\n{text}{END}\n")
        elif not language and not text.startswith(OF_LAMMPS):
            lines = text.splitlines(keepends=True)
            parts += [line for line in lines if not any(word in line for word in without)]
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--without", nargs="*", default=[])
    arguments = parser.parse_args()
    print(script(arguments.page.read_text(encoding="utf-8"), tuple(arguments.without)), end="")


if __name__ == "__main__":
    main()
