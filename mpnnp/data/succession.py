"""Frames that follow each other in a trajectory: changes of the energy against the work of the forces,
dE = -F dx; labels that stand beside the frame before or after their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mpnnp.data.finding import Finding
from mpnnp.units import ENERGIES, Units

if TYPE_CHECKING:
    from mpnnp.data.dataset import Dataset

__all__ = ["doubts_of_succession"]

MOST, ENOUGH = 2000, 8  # pairs of frames
# what is beside its frame: by how many frames the energies and the forces are shifted
SHIFTED = {"the energies": (1, 0), "the forces": (0, 1), "energies and forces": (1, 1)}


def doubts_of_succession(d: Dataset) -> Iterator[Finding]:
    """Findings on frames that follow each other: forces of the wrong sign, labels of different units or per
    atom, labels of the frame before or after.
    """
    pairs = [k for k in range(len(d) - 1) if _step(d, k) is not None][:MOST]
    rows = [(k, d.energy[k + 1] - d.energy[k], _work(d, k, _step(d, k))) for k in pairs]
    rows = [row for row in rows if np.isfinite(row[1:]).all()]
    k, y, x = np.array(rows).T if rows else np.zeros((3, 0))
    if len(x) < ENOUGH or not x.any() or not y.any():
        return
    if message := _shift(d, k.astype(int), y, x):
        yield Finding(message)
        return
    correlation = (x @ y) / np.sqrt((x @ x) * (y @ y))
    if abs(correlation) < 0.8:
        return
    slope = float(np.sqrt((y @ y) / (x @ x)))
    if correlation < 0:
        yield Finding(
            "forces have the wrong sign: between frames that follow each other the energy changes as +F "
            "dx, not as -F dx"
        )
    if not 0.6 < slope < 1.6:
        n_atom = float(np.median(d.n_atom[k.astype(int)]))
        yield Finding(
            f"energies change {slope:.3g} times as much between frames that follow each other as "
            f"the forces say{_cause(slope, n_atom)}"
        )


def _step(d, k):
    """(n_atom, 3) Angstrom from frame k to the next one; None where that is not of the same atoms in the same
    cell and near.
    """
    if d.n_atom[k] != d.n_atom[k + 1] or d.n_atom[k] < 2:
        return None
    a, b = _atoms(d, k), _atoms(d, k + 1)
    if (d.numbers[a] != d.numbers[b]).any() or np.abs(d.cell[k] - d.cell[k + 1]).max() > 1e-6:
        return None
    step = d.positions[b] - d.positions[a]
    if d.pbc[k].all():
        step -= np.round(step @ np.linalg.inv(d.cell[k])) @ d.cell[k]
    return step if 1e-6 < np.sqrt((step**2).sum(axis=1).mean()) < 0.3 else None


def _atoms(d, k):
    return slice(d.start[k], d.start[k + 1])


def _work(d, k, step, shift=0):
    """-F dx between frame k and the next one, with the forces that stand `shift` frames on."""
    forces = d.forces[_atoms(d, k + shift)] + d.forces[_atoms(d, k + 1 + shift)]
    return -(step * forces).sum() / 2


def _shift(d, pairs, y, x):
    """A message if dE = -F dx holds far better with labels of the frame before or after; "" if not."""
    inner = np.flatnonzero(np.isin(pairs - 1, pairs) & np.isin(pairs + 1, pairs))
    if len(inner) < ENOUGH:
        return ""
    chosen = pairs[inner]
    steps = [_step(d, k) for k in chosen]
    found = {}
    for what, of_frame in SHIFTED.items():
        for way, side in ((1, "after"), (-1, "before")):
            e, f = (way * shift for shift in of_frame)
            work = np.array([_work(d, k, step, f) for k, step in zip(chosen, steps)])
            found[what, side] = _misfit(d.energy[chosen + 1 + e] - d.energy[chosen + e], work)
    (what, side), best = min(found.items(), key=lambda item: item[1])
    as_it_is = _misfit(y[inner], x[inner])
    if not best < min(0.3, 0.4 * as_it_is):
        return ""
    return (
        f"{what} seem to stand beside the frame {side} their own: the energy changes as -F dx if they are "
        f"moved (error {100 * best:.0f} %, as they stand {100 * as_it_is:.0f} %, over {len(inner)} frames)"
    )


def _misfit(change, work):
    """The rms of dE + F dx over that of dE."""
    return float(np.sqrt(((change - work) ** 2).mean() / (change**2).mean())) if change.any() else np.inf


def _cause(ratio, n_atom):
    """What makes energies `ratio` times too large against forces: a mixture of units, energies per atom."""
    if abs(np.log(ratio * n_atom)) < 0.25:
        return f": are they energies per atom, of {n_atom:.0f}? They must be those of whole structures"
    mixtures = {
        f"energies in {e}, forces in {f}": Units(e, "Angstrom", f).force / ENERGIES[e]
        for e in ENERGIES
        for f in ("eV/Angstrom", "Hartree/Bohr", "Hartree/Angstrom", "kcal/mol/Angstrom", "eV/Bohr")
    }
    fits = [words for words, force in mixtures.items() if abs(np.log(ratio * force)) < 0.25]
    return f": {' or '.join(fits[:2])}? See data.units" if fits else ": are they of one unit and one method?"
