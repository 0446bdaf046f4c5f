"""Structures from files that ASE reads."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpnnp.data.ase_database import read_rows
from mpnnp.data.compressed import decompressed
from mpnnp.data.isolated import is_marked, marked_as_atom
from mpnnp.data.labels import GUESSES, Labels
from mpnnp.data.outputs import AS_DATABASE, AS_DUMP, AS_OUTCAR, prepared
from mpnnp.data.structure import Structure
from mpnnp.data.xyz import reason_of_ase, xyz_frames
from mpnnp.errors import DataError
from mpnnp.files import seems_to_be
from mpnnp.units import Units

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["read_ase", "structures_of"]

SAME = 1e-6  # Angstrom
OTHER_OUTPUT = "; the vasprun.xml of the calculation, which holds the same, may be"


def read_ase(path: Path, labels: Labels) -> Iterator[Structure]:
    """Yield the Structures of a file that ASE reads; `labels` finds their labels. Raises DataError naming
    file and frame.
    """
    with decompressed(path) as plain:
        # (a plain copy, because ASE seeks in its files: in compressed ones that takes 75 times as long)
        for frame, (atoms, units) in enumerate(_frames(plain, path, labels)):
            yield structure_of(atoms, labels, frame, units)


def structures_of(frames: Iterable, labels: Labels | None = None) -> list[Structure]:
    """Structures of ase.Atoms (and Structures, as they are) in a list; `labels` finds their labels as in
    files. Raises DataError, also where a calculator has the results of other atoms.
    """
    labels = labels or Labels("atoms", dict.fromkeys(GUESSES))
    found = []
    for frame, s in enumerate(frames):
        if not isinstance(s, Structure):
            if getattr(s.calc, "results", None) and _moved(s, getattr(s.calc, "atoms", None)):
                raise DataError(
                    f"{labels.path}, frame {frame}: its calculator has the results of other atoms or "
                    "positions: compute them anew, with a calculator for each frame (ASE's "
                    "SinglePointCalculator keeps results)"
                )
            s = structure_of(s, labels, frame)
        found.append(s)
    return found


def _moved(atoms, others):
    """Whether the ase.Atoms of a calculator, None if it keeps none, are others; a lattice vector is no
    difference.
    """
    if others is None:
        return False
    if not np.array_equal(atoms.numbers, others.numbers) or (atoms.pbc != others.pbc).any():
        return True
    if np.abs(atoms.cell.array - others.cell.array).max() > SAME:
        return True
    step = atoms.positions - others.positions
    if step.any():
        turns = np.round(np.linalg.solve(atoms.cell.complete().T, step.T).T) * atoms.pbc
        step -= turns @ atoms.cell.array
    return bool(np.abs(step).max() > SAME)


def structure_of(atoms: Atoms, labels: Labels, frame: int, units: Units | None = None) -> Structure:
    """Structure of ase.Atoms with the labels that `labels` finds; `units`: those that the frame itself
    states.
    """
    where = f"{labels.path}, frame {frame}"
    units = labels.units_of(units, where)
    labels.take_isolated(atoms.info, units, where)
    alone = len(atoms) == 1 and is_marked(atoms.info)
    if len(atoms) > 1 and not labels.told_of_marks and (mark := marked_as_atom(atoms.info)):
        labels.told_of_marks = True
        labels.warn(f"{where}: {mark}, but it has {len(atoms)} atoms: it is a structure like any other")
    try:
        found = labels.of(atoms, frame, units)
        if alone:
            found["stress"] = None  # of the box around it
        return Structure(
            numbers=atoms.numbers,
            positions=atoms.positions * units.length,
            cell=None if alone else atoms.cell.array * units.length,
            pbc=False if alone else atoms.pbc,
            source=str(labels.path),
            frame=frame,
            split=labels.split_of(atoms.info, where),
            **found,
        )
    except DataError:
        raise
    except Exception as error:  # whatever strange values make of NumPy and ASE
        raise DataError(f"{where}: {_reason(error)}") from None


def _frames(plain, path, labels):
    """(ase.Atoms, stated Units or None) of each frame."""
    if plain.suffix.lower() in (".xyz", ".extxyz"):
        yield from xyz_frames(plain, path, labels.warn, labels.units)
        return
    from ase.io import iread  # 0.2 s, which other data need not wait for

    with prepared(Path(plain), path, labels.warn) as source:
        read, name = source.file, source.name
        labels.by_format = source.by_format
        if name == AS_DATABASE:
            frames = read_rows(read)
        else:  # parallel=False: with mpi4py loaded ASE would broadcast the frames, and wait for other ranks
            frames = iread(
                str(read), index=slice(None), format=name, parallel=False, do_not_split_by_at_sign=True
            )
        frame, said = 0, set()
        while True:
            try:
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    atoms = next(frames)
            except StopIteration:
                return
            except Exception as error:
                other = OTHER_OUTPUT if name == AS_OUTCAR else ""
                raise DataError(
                    f"{path}, frame {frame}: cannot be read by ASE: {_reason(error, read, path)}{other}"
                ) from None
            texts = {" ".join(str(w.message).split()) for w in told if w.category is UserWarning}
            for text in sorted(texts - said):
                labels.warn(f"{path}, frame {frame}: ASE says: {text[:300]}")
            said |= texts
            if name == AS_DUMP and atoms.calc is not None:
                atoms.calc.results.pop("energy", None)  # ASE's 0, of no label
            yield atoms, source.units
            frame += 1


def _reason(error, plain="", path=""):
    """As reason_of_ase; a file that was unpacked as `plain` is called by its own name."""
    from ase.io.formats import UnknownFileTypeError

    reason = reason_of_ase(error)
    if isinstance(error, UnknownFileTypeError):
        known = seems_to_be(path) or "; ASE or dpdata convert many formats into extended XYZ"
        reason = f"{error}; neither input.data nor a data set of mpnnp either{known}"
    return reason.replace(str(plain), str(path)) if plain else reason
