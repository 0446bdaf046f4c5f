"""Databases of ASE: labels in the key-value pairs and the data of rows, which the reader of ASE leaves out;
the units that SchNetPack states in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mpnnp.errors import DataError
from mpnnp.units import Units, parse_units

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["is_database", "read_rows", "units_of_database"]

SQLITE, IDS = b"SQLite format 3\0", b'"ids":'


def is_database(plain: Path, head: bytes) -> bool:
    """Whether a file that begins with `head` is a database of ASE."""
    return head.startswith(SQLITE) or (plain.suffix.lower() == ".json" and IDS in plain.read_bytes())


def read_rows(plain: Path) -> Iterator[Atoms]:
    """Yield the ase.Atoms of all rows; what is not of a calculator is in `info`."""
    for row in _connect(plain).select():
        atoms = row.toatoms(add_additional_information=True)
        atoms.info = atoms.info.pop("data", {}) | atoms.info.pop("key_value_pairs", {}) | atoms.info
        yield atoms


def units_of_database(plain: Path, path: Path) -> Units | None:
    """Units that the metadata state as those of SchNetPack do; None if they do not. Raises DataError."""
    metadata = _connect(plain).metadata
    said = metadata.get("_property_unit_dict") or {}
    energy, force = (
        next((str(unit) for name, unit in said.items() if kind in name.lower()), "")
        for kind in ("energ", "forc")
    )
    length = str(metadata.get("_distance_unit") or "")
    if not (energy or force or length):
        return None
    try:
        return parse_units(f"{energy or 'eV'} {length or 'Angstrom'} {force}")
    except ValueError as error:
        raise DataError(f"{path}: its metadata state the units {said}: {error}") from None


def _connect(plain):
    from ase.db import connect  # 0.2 s, which other data need not wait for

    kind = "json" if plain.suffix.lower() == ".json" else "db"
    return connect(str(plain), type=kind, serial=True, use_lock_file=False)
