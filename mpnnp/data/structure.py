"""One labelled configuration of atoms."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula

from mpnnp.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["NO_SPLIT", "TRAIN", "VALIDATION", "Structure"]

NO_SPLIT, TRAIN, VALIDATION = 0, 1, 2  # values of `split`
LARGEST = 1e12  # eV, Angstrom; beyond it numbers are damaged, and their squares of no use


Given = Any  # an array, or what becomes one when the Structure is built


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """Atoms, cell and labels; eV and Angstrom; NaN means "no label". Checked when it is built.

    numbers   (n,) int32   atomic numbers, 1 to 118
    positions (n, 3)       Angstrom; as read, not wrapped into the cell
    cell      (3, 3)       Angstrom; rows are the vectors, zeros if there is none
    pbc       (3,) bool    which vectors repeat the structure
    energy    float        eV
    forces    (n, 3)       eV/Angstrom; the row of an atom is all finite or all NaN
    stress    (6,)         eV/Angstrom^3; in the order of voigt.VOIGT; all finite or all NaN
    weight    (3,)         how many labels the energy, each force component and each stress component count
                           as; a number: all alike
    split     int          0 none, 1 train, 2 validation
    source    str          file it came from;  frame: its index there, from 0

    Raises DataError naming source and frame.
    """

    numbers: Given
    positions: Given
    cell: Given = None
    pbc: Given = False
    energy: float = np.nan
    forces: Given = None
    stress: Given = None
    weight: Given = 1.0
    split: int = NO_SPLIT
    source: str = ""
    frame: int = 0

    def __post_init__(self):
        n_atom = np.size(self.numbers)
        if n_atom == 0:
            raise DataError(f"{self.name}: has no atoms")
        fields = {
            "numbers": (self.numbers, (n_atom,), np.int32),
            "positions": (self.positions, (n_atom, 3), np.float64),
            "cell": (np.zeros((3, 3)) if self.cell is None else self.cell, (3, 3), np.float64),
            "pbc": (np.repeat(self.pbc, 3) if np.ndim(self.pbc) == 0 else self.pbc, (3,), np.bool_),
            "forces": (
                np.full((n_atom, 3), np.nan) if self.forces is None else self.forces,
                (n_atom, 3),
                np.float64,
            ),
            "stress": (np.full(6, np.nan) if self.stress is None else self.stress, (6,), np.float64),
            "weight": (
                np.repeat(self.weight, 3) if np.ndim(self.weight) == 0 else self.weight,
                (3,),
                np.float64,
            ),
        }
        for field, (value, shape, dtype) in fields.items():
            if np.shape(value) != shape:
                raise DataError(f"{self.name}: {field} has shape {np.shape(value)}, must be {shape}")
            object.__setattr__(self, field, np.ascontiguousarray(value, dtype))
        object.__setattr__(self, "energy", float(self.energy))
        object.__setattr__(self, "split", int(self.split))
        object.__setattr__(self, "frame", int(self.frame))
        check_structure(self)

    @classmethod
    def from_atoms(cls, atoms: "Atoms", **others: Any) -> "Structure":
        """The geometry of ase.Atoms without their labels; others: further fields. Raises DataError."""
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            **others,
        )

    def __len__(self):
        return len(self.numbers)

    def __repr__(self):
        words = [
            Formula.from_list([chemical_symbols[min(max(z, 0), 118)] for z in self.numbers]).format("hill")
        ]
        if self.pbc.any():
            words.append(f"{abs(np.linalg.det(self.cell)):.1f} Angstrom^3, periodic {_flags(self.pbc)}")
        if np.isfinite(self.energy):
            words.append(f"energy {self.energy:.6g} eV")
        if np.isfinite(self.forces).any():
            words.append(f"forces up to {np.nanmax(np.abs(self.forces)):.3g} eV/Angstrom")
        if np.isfinite(self.stress).all():
            words.append("stress")
        return f"Structure({', '.join(words)}; {self.name})"

    @property
    def name(self) -> str:
        """Source and frame, for messages."""
        return f"{self.source or 'structure'}, frame {self.frame}"


def check_structure(structure: "Structure") -> None:
    """Raises DataError naming source and frame where a value of `structure` is impossible."""
    s = structure
    if s.numbers.min() < 1 or s.numbers.max() > 118:
        atom = int(np.argmax((s.numbers < 1) | (s.numbers > 118)))
        raise DataError(
            f"{s.name}: atom {atom} has no known element (atomic number {s.numbers[atom]}), must be 1 to 118"
        )
    if not np.isfinite(s.positions).all():
        atom = int(np.argmin(np.isfinite(s.positions).all(axis=1)))
        raise DataError(f"{s.name}: position of atom {atom} is not finite: {s.positions[atom]}")
    if not np.isfinite(s.cell).all():
        raise DataError(f"{s.name}: cell is not finite")
    if s.pbc.any():
        periodic = s.cell[s.pbc]
        length = np.linalg.norm(periodic, axis=1)
        if length.min() == 0 or np.linalg.det((u := periodic / length[:, None]) @ u.T) < 1e-12:
            raise DataError(
                f"{s.name}: is periodic (pbc {_flags(s.pbc)}) but its cell has no volume: {s.cell.tolist()}"
            )
    if np.isinf(s.energy):
        raise DataError(f"{s.name}: energy is infinite")
    named = {
        "position": s.positions,
        "cell": s.cell,
        "energy": s.energy,
        "force": s.forces,
        "stress": s.stress,
    }
    for what, values in named.items():
        largest = np.abs(np.where(np.isfinite(values), values, 0.0)).max()
        if largest > LARGEST:
            raise DataError(
                f"{s.name}: {what} is {largest:.3g}, must not be beyond {LARGEST:g} (eV, Angstrom): is it "
                "damaged?"
            )
    missing = np.isnan(s.forces)
    if np.isinf(s.forces).any() or (missing.any(axis=1) != missing.all(axis=1)).any():
        atom = int(np.argmax(np.isinf(s.forces).any(axis=1) | (missing.any(axis=1) != missing.all(axis=1))))
        raise DataError(f"{s.name}: force on atom {atom} is not finite: {s.forces[atom]}")
    if not (np.isfinite(s.stress).all() or np.isnan(s.stress).all()):
        raise DataError(f"{s.name}: stress is not finite: {s.stress}")
    if not (np.isfinite(s.weight).all() and (s.weight >= 0).all()):
        raise DataError(f"{s.name}: weight is {s.weight}, must not be negative")
    if s.split not in (NO_SPLIT, TRAIN, VALIDATION):
        raise DataError(f"{s.name}: split is {s.split}, must be 0 (none), 1 (train) or 2 (validation)")


def _flags(pbc):
    return " ".join("FT"[int(p)] for p in pbc)
