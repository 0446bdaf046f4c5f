"""What may be missing from a data set although it is there: labels that are exactly 0 or all alike, cells of
some frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mpnnp.data.finding import Finding
from mpnnp.progress import counted

if TYPE_CHECKING:
    from mpnnp.data.dataset import Dataset

__all__ = ["doubts_of_missing"]

FELT = 0.05  # eV/Angstrom; a structure in which an atom feels more is in no equilibrium


def doubts_of_missing(d: Dataset) -> Iterator[Finding]:
    """Findings on energies, forces, stresses and cells that look as if they were missing."""
    yield from _energies_and_forces(d)
    stress = d.stress[np.isfinite(d.stress).all(axis=1)]
    n_zero = int((~stress.any(axis=1)).sum())
    if n_zero >= 2 and n_zero > 0.05 * len(stress):
        which = "all" if n_zero == len(stress) else f"{n_zero} of"
        yield Finding(f"{which} {len(stress)} stresses are exactly 0: are they missing?")
    yield from _forces_of_some(d)
    yield from _cells_of_some(d)


def _energies_and_forces(d):
    """Energies that are all the same, forces that are all 0."""
    energy = d.energy[np.isfinite(d.energy)]
    forces = d.forces[np.isfinite(d.forces).all(axis=1)]
    no_forces = not forces.any()
    if len(energy) >= 2 and not energy.any():
        yield Finding(
            f"all {len(energy)} energies are exactly 0"
            + (
                ", and there are no forces either"
                if no_forces
                else " while forces are not: are they missing?"
            ),
            fatal=no_forces,
        )
    elif len(energy) >= 3 and np.ptp(energy / d.n_atom[np.isfinite(d.energy)]) < 1e-9 * abs(energy).max():
        yield Finding(f"all {len(energy)} energies are the same per atom", fatal=no_forces)
    elif len(energy) >= 10 and (n := int((energy == 0).sum())) > 0.05 * len(energy):
        yield Finding(f"{n} of {len(energy)} energies are exactly 0: are they missing?")
    if len(forces) >= 2 and no_forces and len(energy) and energy.any():
        multi = d.n_atom[np.isfinite(np.add.reduceat(d.forces[:, 0], d.start[:-1]))]
        if (multi > 1).any():
            yield Finding("all forces are exactly 0: are they missing?")


def _forces_of_some(d):
    """Forces of exactly 0 on some atoms of structures in which others feel forces: those of atoms that were
    held fast, as some programs write them.
    """
    zero = (d.forces == 0.0).all(axis=1)
    size = np.nan_to_num(np.abs(d.forces).max(axis=1))
    n_zero = np.add.reduceat(zero, d.start[:-1], dtype=int)
    felt = np.maximum.reduceat(size, d.start[:-1]) > FELT
    some = np.flatnonzero(felt & (n_zero >= 2))
    if len(some) and len(some) > 0.1 * felt.sum():
        k = int(some[0])
        yield Finding(
            f"{counted(int(n_zero[some].sum()), 'force')} of exactly 0 in {counted(len(some), 'structure')} "
            f"in which other atoms feel forces (e.g. {d.name(k)}: {n_zero[k]} of {d.n_atom[k]} atoms): were "
            "these atoms held fast? Then their forces are no labels: mask them, by a column force_mask"
        )


def _cells_of_some(d):
    """Periodic and open structures of the same atoms."""
    kinds: dict[bytes, dict[bool, int]] = {}
    for k in np.flatnonzero(d.n_atom > 1).tolist():
        atoms = d.numbers[d.start[k] : d.start[k + 1]].tobytes()
        kinds.setdefault(atoms, {}).setdefault(bool(d.pbc[k].any()), k)
    for first in kinds.values():
        if len(first) == 2:
            yield Finding(
                f"the same {d.n_atom[first[True]]} atoms are periodic in some structures and not in others "
                f"(e.g. {d.name(first[True])} and {d.name(first[False])}): are cells missing?"
            )
            return
