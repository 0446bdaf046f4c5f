"""What labels in files that ASE reads are in eV and Angstrom, under whatever name they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpnnp.data.voigt import stress_of_virial, to_voigt
from mpnnp.errors import DataError
from mpnnp.files import read_number
from mpnnp.units import METAL, Units

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["CALCULATOR", "MASK", "Frame", "as_floats", "converted", "is_gradient", "is_virial", "plain"]

CALCULATOR = "calculator:"  # begins names of results of ASE's calculator; others are info or arrays of Atoms
MASK = "force_mask"  # array of truth values: False where the force on an atom is no label


class Frame(NamedTuple):
    """A frame of a file: atoms with the cell, units of the labels, and where it is, for messages."""

    atoms: Atoms
    units: Units
    where: str


def plain(name: Any) -> Any:
    """The name of a label as its file writes it; what is no text stays as it is."""
    return name.removeprefix(CALCULATOR) if isinstance(name, str) else name


def is_gradient(name: str) -> bool:
    """Whether forces of this name are minus them."""
    return "grad" in name.lower()


def is_virial(name: str) -> bool:
    """Whether a stress of this name is a virial of the whole cell."""
    return "virial" in name.lower()


def converted(kind: str, name: str, value: Any, frame: Frame) -> Any:
    """A label in eV and Angstrom: a number, (n, 3), (6,); None where a stress is no label: all of its numbers
    are NaN, or the structure has no volume or is not periodic in all directions. Raises DataError.

    Stresses are in eV/Angstrom^3 where the units name none of theirs, as those of ASE are.
    """
    atoms, units, where = frame
    value = as_floats(value, where, kind, name)
    if value.ndim == 3 and len(value) == 1:  # a batch of one
        value = value[0]
    if kind == "stress":
        stress = _as_stress(value, where, name)
        if stress is None or not atoms.cell.volume or not atoms.pbc.all():
            return None
        if is_virial(name):
            return stress_of_virial(stress * units.energy, atoms.cell.array * units.length)
        return stress * (units.stress if units.stress_name else METAL.stress)
    shape = () if kind == "energy" else (len(atoms), 3)
    if value.size == 1 and kind == "energy":
        value = value.reshape(())
    if value.shape != shape:
        raise DataError(f"{where}: {kind} {plain(name)!r} has shape {value.shape}, must be {shape}")
    if not np.isfinite(value).all():
        atom = "" if kind == "energy" else f" of atom {int(np.argmin(np.isfinite(value).all(axis=1)))}"
        raise DataError(
            f"{where}: {kind} {plain(name)!r}{atom} is not finite; remove the label or the frame, "
            f"or mask forces by {MASK!r}"
        )
    if kind == "energy":
        return value * units.energy
    return value * (-units.force if is_gradient(name) else units.force)


def as_floats(value: Any, where: str, kind: str, name: Any) -> np.ndarray:
    """The numbers of a label. Raises DataError for what is none."""
    try:
        words = np.asarray(value)
        if words.dtype.kind == "U":  # perhaps with exponents of Fortran
            return np.vectorize(read_number, otypes=[np.float64])(words)
        return words.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {kind} {plain(name)!r} is not a number: {value!r}") from None


def _as_stress(value, where, name):
    """(6,) of 6 or 3x3 numbers; None if all are NaN. Raises DataError if some are not finite."""
    if value.shape in ((9,), (3, 3)):
        value = to_voigt(value.reshape(3, 3))
    if value.shape != (6,):
        raise DataError(
            f"{where}: stress {plain(name)!r} has shape {value.shape}, must be (6,), (9,) or (3, 3)"
        )
    if np.isnan(value).all():
        return None
    if not np.isfinite(value).all():
        raise DataError(f"{where}: stress {plain(name)!r} is not finite; remove the label or the frame")
    return value
