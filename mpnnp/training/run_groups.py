"""Groups of runs: named on the command line, or found by how the folders lie."""

import glob
from collections.abc import Sequence
from pathlib import Path

from mpnnp.errors import ConfigError
from mpnnp.files import absence

MEMBER = "seed-"  # an ensemble's members lie in its folder as seed-1, seed-2, ...


def find_groups(paths: Sequence[str | Path], named: Sequence[str] = ()) -> dict[str, list[Path]]:
    """name -> list of Paths, in the order given.

    paths   files or folders of runs, also glob patterns; the members of an ensemble make one group, named by
            the ensemble's folder
    named   "NAME=PATH,PATH,...", patterns too
    Raises ConfigError if nothing fits or a group is given twice.
    """
    groups = {}
    for text in named:
        name, equals, members = text.partition("=")
        if not (equals and name and members):
            raise ConfigError(f"--group {text}: expected NAME=RUN,RUN,...")
        if name in groups:
            raise ConfigError(f"--group {name}: given twice")
        groups[name] = [path for member in members.split(",") for path in _expand(member)]
    for path in (path for text in paths for path in _expand(text)):
        run = path if path.is_dir() else path.parent
        group = run.resolve().parent if run.resolve().name.startswith(MEMBER) else run
        groups.setdefault(group.name or str(group), []).append(path)
    if not groups:
        raise ConfigError("no runs given")
    return groups


def members(folder: str | Path) -> list[Path]:
    """Folders of an ensemble's members, by seed."""
    found = [
        path
        for path in Path(folder).glob(f"{MEMBER}*")
        if path.is_dir() and path.name.removeprefix(MEMBER).isdecimal()
    ]
    return sorted(found, key=lambda path: int(path.name.removeprefix(MEMBER)))


def _expand(text):
    """Paths of a name or pattern; the folder of an ensemble stands for its members."""
    path = Path(text)
    if path.is_dir():
        return members(path) or [path]
    if path.exists():
        return [path]
    found = [p for name in sorted(glob.glob(str(text))) if name != str(text) for p in _expand(name)]
    if not found:
        raise ConfigError(f"{text}: {absence(text, 'no such file or folder')}")
    return found
