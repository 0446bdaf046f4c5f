"""Structures in the npy folders of DeePMD-kit: eV, Angstrom; virials in eV."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mpnnp.data.structure import Structure
from mpnnp.data.voigt import stress_of_virial
from mpnnp.errors import DataError

__all__ = ["deepmd_systems", "read_deepmd"]


def deepmd_systems(folder: str | Path) -> list[Path]:
    """The systems (folders with a type.raw) in and below a folder, sorted."""
    return sorted(path.parent for path in Path(folder).rglob("type.raw"))


def read_deepmd(folder: Path) -> Iterator[Structure]:
    """Yield the Structures of one system: type.raw, type_map.raw, set.*/coord.npy, box.npy, energy.npy,
    force.npy, virial.npy.

    Missing energies and forces are missing labels; with a file `nopbc` there is no cell. Mixed systems
    (real_atom_types.npy) may have fewer atoms per frame (type -1). Stress = -virial / volume. Raises
    DataError naming the file.
    """
    folder = Path(folder)
    symbols = _words(folder / "type_map.raw", "type.raw counts elements by it")
    types = np.array(_words(folder / "type.raw", "it tells the element of each atom"), dtype=np.int64)
    try:
        elements = np.array([atomic_numbers[symbol] for symbol in symbols])
    except KeyError as error:
        raise DataError(f"{folder / 'type_map.raw'}: {error} is not the symbol of an element") from None
    sets = sorted(folder.glob("set.*"))
    if not sets:
        raise DataError(f"{folder}: has type.raw but no folder set.000 with coord.npy")
    periodic, frame = not (folder / "nopbc").exists(), 0
    for part in sets:
        coord = _array(part / "coord.npy", (-1, len(types), 3))
        n = len(coord)
        box = _array(part / "box.npy", (n, 3, 3)) if periodic else np.zeros((n, 3, 3))
        energy = _array(part / "energy.npy", (n,), missing=np.nan)
        force = _array(part / "force.npy", (n, len(types), 3), missing=np.nan)
        virial = _array(part / "virial.npy", (n, 9), missing=np.nan)
        kinds = _array(part / "real_atom_types.npy", (n, len(types)), missing=None)
        for k in range(n):
            kind = types if kinds is None else kinds[k].astype(np.int64)
            real = kind >= 0
            if kind.max() >= len(elements):
                raise DataError(
                    f"{folder}: atom type {kind.max()}, but type_map.raw has {len(elements)} elements"
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


def _words(path, why):
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({why}): {error.strerror}") from None


def _array(path, shape, missing=...):
    """Array of an npy file in a shape; filled with `missing` (or None) where the file is absent."""
    if missing is not ... and not path.exists():
        return None if missing is None else np.full(shape, missing)
    try:
        return np.load(path, allow_pickle=False).astype(np.float64).reshape(shape)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
