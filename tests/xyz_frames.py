"""Frames of xyz files with two atoms, as text, for the tests of their readers."""

from mpnnp.data.formats import read_sources

CELL = 'Lattice="4 0 0 0 4.2 0 0 0 4.4" pbc="T T T"'


def frame(comment, columns=3):
    rows = ["Si 0 0 0", "O 1.6 0 0"]
    if columns:
        rows = [f"{row} {0.1 * sign} {0.2 * sign} {0.3 * sign}" for row, sign in zip(rows, (1, -1))]
    return "\n".join(["2", comment, *rows, ""])


def read(tmp_path, text, name="a.xyz", **options):
    """(Dataset, lines of the report) of a file with this text."""
    lines = []
    (tmp_path / name).write_text(text)
    data = read_sources(tmp_path / name, report=lines.append, **options)
    return data, "\n".join(lines)
