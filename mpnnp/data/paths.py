"""The files of paths, patterns and folders."""

import glob
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ase import Atoms

from mpnnp.data.compressed import plain_name, reading
from mpnnp.data.cp2k import beside, is_cp2k_trajectory
from mpnnp.data.deepmd import deepmd_systems
from mpnnp.data.runner import is_runner_data
from mpnnp.data.structure import Structure
from mpnnp.errors import ConfigError, DataError
from mpnnp.files import absence, is_broken_link
from mpnnp.progress import warner

__all__ = ["CACHE", "expand", "files_of", "place_of"]

# looked for in folders; also with .gz, .bz2, .xz
SUFFIXES = (".h5", ".hdf5", ".data", ".xyz", ".extxyz") + (".traj", ".db", ".cfg", ".vasp", ".xsf")
SHOWN = 5  # files named in a message
CACHE = "mpnnp-cache"  # folder of what is computed once, whose files are no sources
OTHERS = tuple(suffix for suffix in SUFFIXES if suffix != ".vasp")  # not those of files that VASP writes
# of one calculation the first counts
PREFIXES = ("ML_ABN", "ML_AB", "vasprun", "OUTCAR", "XDATCAR", "CONTCAR", "POSCAR")


def expand(files: Any, without: set[Path], report: Callable) -> list:
    """Existing files of paths, patterns and folders, and lists of ase.Atoms and Structures; raises
    DataError where there is none. Left out of patterns and folders are the resolved paths in `without`, and
    what lies in those that are folders, which is reported; files that are read with others, or stand beside
    systems of DeePMD-kit; and what lies in a folder `mpnnp-cache`.
    """
    kinds = (str, os.PathLike, Atoms, Structure)
    alone = isinstance(files, kinds) or not isinstance(files, Iterable)
    files = [files] if alone or isinstance(files, bytes) else list(files)
    strange = [file for file in files if not isinstance(file, kinds)]
    if strange:
        raise ConfigError(
            f"files: found {strange[0]!r}: must be a path, pattern, folder, ase.Atoms or Structure, or a "
            "list of these"
        )
    if not files:
        raise DataError("no files given to read structures from")
    paths: list[Any] = []
    for file in files:
        if isinstance(file, (Atoms, Structure)):
            if not (paths and isinstance(paths[-1], list)):
                paths.append([])
            paths[-1].append(file)
            continue
        path = Path(os.path.expanduser(file))
        if path.is_dir():
            found = _leave_out(_in_folder(path, report), without, report)
            if not found:
                deeper = next((p for p in sorted(path.glob("*/*")) if _is_data(p)), None)
                more = f"; those in its folders are read by '{path}/*/{deeper.name}'" if deeper else ""
                raise DataError(
                    f"{file}: is a folder without data files ({', '.join(SUFFIXES)}, also compressed){more}"
                )
        elif path.exists():
            found = [path]
        elif glob.has_magic(str(path)):
            found = _leave_out(_of_pattern(path), without, report)
            if not found:
                raise DataError(f"{file}: no file fits this pattern")
        else:
            raise DataError(f"{file}: {absence(path, 'no such file or folder')}")
        if odd := next((p for p in found if not (p.is_file() or p.is_dir())), None):
            raise DataError(f"{odd}: is a pipe or a device, which cannot be read twice: write a file")
        paths += found
    return paths


def files_of(files: Any, without: Iterable[str | Path] = ()) -> set[Path]:
    """The files and folders of DeePMD-kit, resolved, that `read_sources` reads of paths, patterns and
    folders. Raises DataError.
    """
    left_out = {Path(path).resolve() for path in without}
    return {path.resolve() for path in expand(files, left_out, lambda text: None) if isinstance(path, Path)}


def place_of(source: str | Path) -> Path:
    """The folder in which a path, pattern or folder lies; of a pattern the part before its first folder with
    a magic character.
    """
    path = Path(os.path.expanduser(source))
    if path.exists() or not glob.has_magic(str(path)):
        return path.parent
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))


def _of_pattern(pattern):
    """The files that fit a pattern, but for those in the caches of mpnnp below its fixed part."""
    found = map(Path, sorted(glob.glob(str(pattern), recursive=True)))
    fixed = len(place_of(pattern).parts)
    return [p for p in found if (p.is_file() or is_broken_link(p)) and CACHE not in p.parts[fixed:]]


def _in_folder(folder, report):
    """The systems of DeePMD-kit in and below a folder; the data files in it where there are none."""
    systems, files = deepmd_systems(folder), [p for p in sorted(folder.iterdir()) if _is_data(p)]
    if systems and files:
        shown = ", ".join(path.name for path in files[:SHOWN]) + ", ..." * (len(files) > SHOWN)
        warner(report)(
            f"{folder}: of a folder with systems of DeePMD-kit these alone are read ({len(systems)}, the "
            f"first {systems[0]}), not its files {shown}: name those too if they shall be"
        )
    return systems or files


def _leave_out(paths, without, report):
    left_out = [path for path in paths if without & {path.resolve(), path.resolve().parent}]
    for path in left_out:
        report(f"{path}: is not read, as it will be written")
    if broken := next((path for path in paths if path not in left_out and is_broken_link(path)), None):
        raise DataError(f"{broken}: {absence(broken)}")
    with_others = set()  # forces of CP2K look like a trajectory
    for path in filter(Path.exists, paths):
        with reading(path):
            with_others.update(beside(path) if is_cp2k_trajectory(path) else ())
    paths = [path for path in paths if path not in left_out and path not in with_others]
    return _one_of_each_calculation(paths, report)


def _one_of_each_calculation(paths, report):
    """Paths without the files of VASP that repeat what another one of the same calculation tells."""
    best: dict = {}
    for path in paths:
        if (found := _of_vasp(path)) is not None:
            rank, calculation = found
            if calculation not in best or rank < best[calculation][0]:
                best[calculation] = rank, path
    kept = []
    for path in paths:
        found = _of_vasp(path)
        other = best[found[1]][1] if found else path
        if other != path:
            report(f"{path}: is not read, as {other.name} tells of the same calculation")
        else:
            kept.append(path)
    return kept


def _of_vasp(path):
    """(place of its kind in PREFIXES, calculation) of a file named as VASP does, or with an ending more; None
    for others.
    """
    name = plain_name(path)
    if name.lower().endswith(OTHERS):
        return None
    for rank, prefix in enumerate(PREFIXES):
        if name.startswith(prefix):
            return rank, (path.parent, name.removeprefix(prefix).removesuffix(".xml").removesuffix(".vasp"))
    return None


def _is_data(path):
    """Whether a file in a folder is to be read: by its name, and by its content where the name is .data as
    for other files of RuNNer.
    """
    name = plain_name(path)
    if (
        name.startswith(".")
        or not (path.is_file() or is_broken_link(path))
        or not (name.lower().endswith(SUFFIXES) or name.startswith(PREFIXES))
    ):
        return False
    if not name.endswith(".data") or is_broken_link(path):
        return True
    with reading(path):
        return is_runner_data(path)
