"""A physical baseline: the universal repulsion of nuclei at short distances, to be subtracted before
training and added after it.

It keeps atoms apart where no data are. In the form of LAMMPS's pair_style zbl, which can add it there
(hybrid/overlay).
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from ase.data import atomic_numbers
from vesin import NeighborList

from mpnnp.data.dataset import Dataset
from mpnnp.data.voigt import to_voigt
from mpnnp.errors import ConfigError

__all__ = ["Baseline", "Zbl"]

COULOMB = 14.399645  # eV Angstrom, e^2 / (4 pi epsilon_0) as LAMMPS's units metal have it
FACTORS = np.array([0.02817, 0.28022, 0.50986, 0.18175])
RATES = np.array([0.20162, 0.40290, 0.94229, 3.19980])


class Baseline(NamedTuple):
    """Energy (eV), forces (n, 3) (eV/Angstrom) and virial (3, 3) (eV), sum_pairs r_ij F_ij, of one
    structure.
    """

    energy: float
    forces: np.ndarray
    virial: np.ndarray


@dataclass(frozen=True)
class Zbl:
    """E = sum_{i<j} [Z_i Z_j e^2 / (4 pi eps_0 r) phi(r/a) + S(r)] for r < outer; 0 beyond.

    phi(x) = sum_k c_k exp(-d_k x), a = 0.4685 Angstrom / (Z_i^0.23 + Z_j^0.23); S is a constant up to
    `inner` and a
    polynomial behind it, so that E and two derivatives are 0 at `outer`.

    inner, outer  Angstrom; below the distances that occur in the data, so that only what lies outside is
                  changed
    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (1985); S: LAMMPS, pair_style zbl.
    Raises ConfigError.
    """

    inner: float
    outer: float

    def __post_init__(self):
        if not 0 < self.inner < self.outer < np.inf:
            raise ConfigError(f"zbl: inner = {self.inner}, outer = {self.outer}: must be 0 < inner < outer")

    def pair(self, zi: np.ndarray, zj: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(energy, dE/dr) of pairs at distances r (n,) Angstrom."""
        zi, zj, r = (np.asarray(x, np.float64) for x in (zi, zj, r))
        e, de, _ = _screened(zi, zj, r)
        width = self.outer - self.inner
        e0, e1, e2 = _screened(zi, zj, np.full_like(r, self.outer))
        a = (-3.0 * e1 + width * e2) / width**2
        b = (2.0 * e1 - width * e2) / width**3
        c = -e0 + width * e1 / 2.0 - width**2 * e2 / 12.0
        t = np.maximum(r - self.inner, 0.0)
        inside = r < self.outer
        return (
            np.where(inside, e + a / 3.0 * t**3 + b / 4.0 * t**4 + c, 0.0),
            np.where(inside, de + a * t**2 + b * t**3, 0.0),
        )

    def of(self, structure: Any) -> Baseline:
        """Baseline of a Structure or ase.Atoms."""
        pbc, cell = np.asarray(structure.pbc), np.asarray(getattr(structure.cell, "array", structure.cell))
        i, j, r, vector = NeighborList(cutoff=self.outer, full_list=False, n_threads=1).compute(
            points=structure.positions,
            box=cell if pbc.any() else np.zeros((3, 3)),
            periodic=pbc,
            quantities="ijdD",
        )
        energy, slope = self.pair(structure.numbers[i], structure.numbers[j], r)
        force = -(slope / r)[:, None] * vector  # on j; vector points from i to j
        forces = np.zeros((len(structure.numbers), 3))
        np.add.at(forces, j, force)
        np.subtract.at(forces, i, force)
        return Baseline(float(energy.sum()), forces, vector.T @ force)

    def subtract(self, dataset: Dataset) -> Dataset:
        """The data set whose labels are what the baseline leaves of them: what a net is to learn."""
        energy, forces, stress = (np.array(getattr(dataset, n)) for n in ("energy", "forces", "stress"))
        for k in range(len(dataset)):
            s = dataset[k]
            found = self.of(s)
            energy[k] -= found.energy
            forces[dataset.start[k] : dataset.start[k + 1]] -= found.forces
            if s.pbc.all():
                stress[k] += to_voigt(found.virial) / abs(np.linalg.det(s.cell))
        return replace(dataset, energy=energy, forces=forces, stress=stress)

    def lammps_lines(self, symbols: list[str], other: str) -> list[str]:
        """Lines of an input of LAMMPS that add the baseline to `other`, the pair_style of a potential.

        symbols  of the atom types, in order
        """
        z = [atomic_numbers[symbol] for symbol in symbols]
        pairs = [(a, b) for a in range(len(z)) for b in range(a, len(z))]
        return [
            f"pair_style      hybrid/overlay {other} zbl {self.inner:g} {self.outer:g}",
            *(f"pair_coeff      {a + 1} {b + 1} zbl {z[a]} {z[b]}" for a, b in pairs),
        ]


def _screened(zi, zj, r):
    """(E, dE/dr, d2E/dr2) of the screened repulsion."""
    a = 0.46850 / (zi**0.23 + zj**0.23)
    rates = RATES / a[..., None]
    terms = FACTORS * np.exp(-rates * r[..., None])
    f, f1, f2 = terms.sum(-1), -(rates * terms).sum(-1), (rates**2 * terms).sum(-1)
    scale = COULOMB * zi * zj
    return (
        scale * f / r,
        scale * (f1 / r - f / r**2),
        scale * (f2 / r - 2.0 * f1 / r**2 + 2.0 * f / r**3),
    )
