"""Structures in the npy folders of DeePMD-kit: eV, Angstrom; virials in eV."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mpnnp.data.compressed import check_fetched, open_text
from mpnnp.data.structure import Structure
from mpnnp.data.voigt import stress_of_virial
from mpnnp.errors import DataError
from mpnnp.files import reason_not_read
from mpnnp.progress import counted

__all__ = ["deepmd_systems", "read_deepmd"]

# arrays of a set that are read, and those that nobody misses; others are warned of
READ = ("coord", "box", "energy", "force", "virial", "real_atom_types")
STATES = {"fparam": "frame", "spin": "atom"}  # what potentials of this kind cannot tell apart
IDLE = ("fparam", "aparam", "spin", "atom_ener", "dipole", "polar", "charge", "atomic_dipole")


def _silent(text):
    """Says nothing."""


def deepmd_systems(folder: str | Path) -> list[Path]:
    """The systems (folders with a type.raw) in and below a folder, sorted."""
    return sorted(path.parent for path in Path(folder).rglob("type.raw"))


def read_deepmd(folder: Path, warn: Callable[[str], object] = _silent) -> Iterator[Structure]:
    """Yield the Structures of one system: type.raw, type_map.raw, set.*/coord.npy, box.npy, energy.npy,
    force.npy, virial.npy.

    Missing energies and forces are missing labels; with a file `nopbc` there is no cell. Mixed systems
    (real_atom_types.npy) may have fewer atoms per frame (type -1). Stress = -virial / volume. `warn` is
    called with a text on virials without a volume and on arrays that are not read. Raises DataError naming
    the file.
    """
    folder = Path(folder)
    symbols = _words(folder / "type_map.raw", "type.raw counts elements by it")
    types = _types(folder / "type.raw")
    try:
        elements = np.array([atomic_numbers[symbol] for symbol in symbols])
    except KeyError as error:
        raise DataError(f"{folder / 'type_map.raw'}: {error} is not the symbol of an element") from None
    sets = sorted(folder.glob("set.*"))
    if not sets:
        raise DataError(f"{folder}: has type.raw but no folder set.000 with coord.npy")
    periodic, frame = not (folder / "nopbc").exists(), 0
    more = sorted({path.stem for part in sets for path in part.glob("*.npy")} - {*READ, *IDLE})
    if more:
        warn(f"{folder}: not read: {', '.join(f'{name}.npy' for name in more)}")
    for name, each in STATES.items():
        states = [_array(part / f"{name}.npy", (-1,), missing=None) for part in sets]
        values = np.concatenate([state for state in states if state is not None] or [np.zeros(0)])
        if len(values) and np.ptp(values) > 0.0:
            warn(
                f"{folder}: {name}.npy differs from {each} to {each} ({values.min():g} to {values.max():g}), "
                "which potentials of this kind do not know"
            )
    if not periodic and any((part / "virial.npy").exists() for part in sets):
        warn(f"{folder}: the virials are left out, as structures with nopbc have no volume")
    for part in sets:
        coord = _array(part / "coord.npy", (-1, len(types), 3))
        n = len(coord)
        box = _array(part / "box.npy", (n, 3, 3)) if periodic else np.zeros((n, 3, 3))
        if periodic and not box.any():
            raise DataError(
                f"{part / 'box.npy'}: is 0; a system without a cell has an empty file nopbc in {folder}"
            )
        energy = _array(part / "energy.npy", (n,), missing=np.nan)
        force = _array(part / "force.npy", (n, len(types), 3), missing=np.nan)
        virial = _array(part / "virial.npy", (n, 9), missing=np.nan)
        for name, values in (("energy", energy), ("force", force), ("virial", virial)):
            nan = np.isnan(values).reshape(n, -1).any(axis=1)
            if nan.any() and (part / f"{name}.npy").exists():
                warn(f"{part / name}.npy: {nan.sum()} of {n} frames have NaN, taken for missing labels")
        kinds = _array(part / "real_atom_types.npy", (n, len(types)), missing=None)
        if kinds is not None and not ((kinds >= -1) & (kinds == np.round(kinds))).all():
            raise DataError(
                f"{part}/real_atom_types.npy: must be numbers that count in type_map.raw, or -1 (no atom)"
            )
        for k in range(n):
            kind = types if kinds is None else kinds[k].astype(np.int64)
            real = kind >= 0
            if kinds is None and not real.all():
                raise DataError(f"{folder / 'type.raw'}: atom type {kind.min()}, must not be negative")
            if kind.max() >= len(elements):
                raise DataError(
                    f"{folder}: atom type {kind.max()}, but type_map.raw has "
                    f"{counted(len(elements), 'element')}"
                )
            yield Structure(
                numbers=elements[kind[real]],
                positions=coord[k][real],
                cell=box[k],
                pbc=periodic,
                energy=energy[k],
                forces=force[k][real],
                stress=stress_of_virial(virial[k], box[k]),
                source=str(folder),
                frame=frame,
            )
            frame += 1


def _types(path):
    words = _words(path, "it tells the element of each atom")
    try:
        types = np.array([int(word) for word in words], dtype=np.int64)
    except ValueError:
        raise DataError(
            f"{path}: must be numbers that count in type_map.raw, found {words[0][:40]!r}"
        ) from None
    if not len(types):
        raise DataError(f"{path}: is empty, must tell the type of each atom")
    return types


def _words(path, why):
    try:
        with open_text(path) as file:
            return file.read().split()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({why}): {reason_not_read(error, path)}") from None


def _array(path, shape, missing=...):
    """Array of an npy file in a shape; filled with `missing` (or None) where the file is absent."""
    if missing is not ... and not os.path.lexists(path):
        return None if missing is None else np.full(shape, missing)
    if path.exists():
        check_fetched(path)
    try:
        values = np.load(path, allow_pickle=False)
        if values.dtype.kind not in "fiu":
            raise ValueError(f"must be real numbers, found {values.dtype}")
        if (each := abs(int(np.prod(shape)))) != values.size and (-1 not in shape or values.size % each):
            raise ValueError(f"has {values.size} numbers, must have {'a multiple of ' * (-1 in shape)}{each}")
        return values.astype(np.float64).reshape(shape)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {reason_not_read(error, path)}") from None
    except (ValueError, EOFError) as error:
        reason = "is no npy file of numbers" if "pickled" in str(error) else error
        raise DataError(f"{path}: {reason}") from None
