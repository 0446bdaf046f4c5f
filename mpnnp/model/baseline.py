"""Physical baselines: the repulsion of nuclei at short distances (ZBL) and dispersion (D3), subtracted from
the labels before training and added to what the nets predict.

Repulsion keeps atoms apart where no data are, dispersion reaches beyond the cutoff of the symmetry functions.
Both are written as one line of text, in checkpoints and in the comments of an input.nn: "zbl 0.5 1.1; d3 pbe
bj". LAMMPS adds both by hybrid/overlay, see `lammps_pairs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers
from threadpoolctl import threadpool_limits

from mpnnp.data.dataset import Dataset
from mpnnp.data.pairs import neighbours, searchable
from mpnnp.data.structure import Structure
from mpnnp.data.voigt import to_voigt
from mpnnp.errors import ConfigError, DataError
from mpnnp.kernels.packs import inverse_cells
from mpnnp.parallel import Comm, agree, serial
from mpnnp.units import BOHR, HARTREE

__all__ = ["NONE", "Baseline", "Contribution", "Dispersion", "Zbl", "parse_baseline"]

COULOMB = 14.399645  # eV Angstrom, e^2 / (4 pi epsilon_0) as LAMMPS's units metal have it
FACTORS = np.array([0.02817, 0.28022, 0.50986, 0.18175])
RATES = np.array([0.20162, 0.40290, 0.94229, 3.19980])
DAMPINGS = {  # name -> (class of simple-dftd3, name in LAMMPS)
    "bj": ("RationalDampingParam", "bj"),
    "zero": ("ZeroDampingParam", "original"),
    "bjm": ("ModifiedRationalDampingParam", "bjm"),
    "zerom": ("ModifiedZeroDampingParam", "zerom"),
}
PAIR_CUTOFF, COUNT_CUTOFF = 60.0, 40.0  # Bohr, of the dispersion and of coordination numbers


class Contribution(NamedTuple):
    """energy eV, energies (n,) eV of the atoms, forces (n, 3) eV/Angstrom, virial (3, 3) dE/dstrain, eV."""

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray


@dataclass(frozen=True)
class Zbl:
    """E = sum_{i<j} [Z_i Z_j e^2 / (4 pi eps_0 r) phi(r/a) + S(r)] for r < outer; 0 beyond.

    phi(x) = sum_k c_k exp(-d_k x), a = 0.4685 Angstrom / (Z_i^0.23 + Z_j^0.23); S is a constant up to
    `inner` and a polynomial behind it, so that E and two derivatives are 0 at `outer`.

    inner, outer  Angstrom; below the distances that occur in the data, so that only what lies outside is
                  changed
    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (1985); S: LAMMPS, pair_style zbl.
    Raises ConfigError.
    """

    inner: float
    outer: float

    def __post_init__(self):
        if not 0 < self.inner < self.outer < np.inf:
            raise ConfigError(
                f"baseline.zbl = [{self.inner}, {self.outer}]: must be [inner, outer], 0 < inner < outer"
            )

    def __str__(self):
        return f"zbl {self.inner!r} {self.outer!r}"

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

    def of(self, structure: Structure) -> Contribution:
        """Contribution to a Structure. Raises DataError where its neighbours cannot be found."""
        i, j, r, vector = _pairs(structure, self.outer)
        if not (r > 0).all():
            k = int(np.argmin(r))
            raise DataError(f"{structure.name}: atoms {i[k]} and {j[k]} are at the same place")
        energy, slope = self.pair(structure.numbers[i], structure.numbers[j], r)
        force = -(slope / r)[:, None] * vector  # on j; vector points from i to j
        energies, forces = np.zeros(len(structure)), np.zeros((len(structure), 3))
        for atoms, sign in ((i, -1.0), (j, 1.0)):
            np.add.at(energies, atoms, 0.5 * energy)
            np.add.at(forces, atoms, sign * force)
        return Contribution(float(energy.sum()), energies, forces, -vector.T @ force)

    def lammps_pairs(self, symbols: Sequence[str]) -> tuple[str, list[str]]:
        """(words behind pair_style, words behind pair_coeff) for atom types of these elements."""
        z = [atomic_numbers[symbol] for symbol in symbols]
        pairs = [(a, b) for a in range(len(z)) for b in range(a, len(z))]
        return (
            f"zbl {self.inner!r} {self.outer!r}",
            [f"{a + 1} {b + 1} zbl {z[a]} {z[b]}" for a, b in pairs],
        )


@dataclass(frozen=True)
class Dispersion:
    """Pairwise dispersion -sum_{i<j} sum_{n=6,8} s_n C_n,ij / f_n(r_ij), C_n by coordination numbers, without
    three-body terms; of the package dftd3 (simple-dftd3).

    method   functional whose parameters are taken
    damping  a name of DAMPINGS
    Grimme, Antony, Ehrlich, Krieg, J. Chem. Phys. 132, 154104 (2010); bj: Grimme, Ehrlich, Goerigk, J.
    Comput. Chem. 32, 1456 (2011). Raises ConfigError.
    """

    method: str
    damping: str = "bj"

    def __post_init__(self):
        if self.damping not in DAMPINGS:
            raise ConfigError(f"baseline.d3_damping = {self.damping!r}: must be one of {', '.join(DAMPINGS)}")
        if not self.method or set(self.method) & set("; \t\n#"):
            raise ConfigError(f"baseline.d3 = {self.method!r}: must be the name of a functional, e.g. pbe")

    def __str__(self):
        return f"d3 {self.method} {self.damping}"

    def of(self, structure: Structure) -> Contribution:
        """Contribution to a Structure, on one thread, so that it is the same each time."""
        interface, parameters = _dispersion(self.method, self.damping)
        periodic = (
            {"lattice": structure.cell / BOHR, "periodic": structure.pbc} if structure.pbc.any() else {}
        )
        try:
            with threadpool_limits(1):
                model = interface.DispersionModel(structure.numbers, structure.positions / BOHR, **periodic)
                model.set_realspace_cutoff(PAIR_CUTOFF, 0.0, COUNT_CUTOFF)
                found = model.get_dispersion(parameters, grad=True)
                pairs = model.get_pairwise_dispersion(parameters)["additive pairwise energy"]
        except RuntimeError as error:
            raise DataError(f"{structure.name}: dispersion cannot be computed: {error}") from None
        return Contribution(
            float(found["energy"]) * HARTREE,
            pairs.sum(axis=1) * HARTREE,
            -found["gradient"] * (HARTREE / BOHR),
            found["virial"] * HARTREE,
        )

    def lammps_pairs(self, symbols: Sequence[str]) -> tuple[str, list[str]]:
        """As of Zbl."""
        damping = DAMPINGS[self.damping][1]
        style = f"dispersion/d3 {damping} {self.method} {PAIR_CUTOFF * BOHR:.8g} {COUNT_CUTOFF * BOHR:.8g}"
        return style, [f"* * dispersion/d3 {' '.join(symbols)}"]


@dataclass(frozen=True)
class Baseline:
    """The sum of its terms; false if it has none."""

    terms: tuple[Zbl | Dispersion, ...] = ()

    def __bool__(self):
        return bool(self.terms)

    def __str__(self):
        return "; ".join(map(str, self.terms))

    def of(self, structure: Structure) -> Contribution:
        """Contribution to a Structure. Raises DataError."""
        n = len(structure)
        energy, energies, forces, virial = 0.0, np.zeros(n), np.zeros((n, 3)), np.zeros((3, 3))
        for part in (term.of(structure) for term in self.terms):
            energy += part.energy
            energies += part.energies
            forces += part.forces
            virial += part.virial
        return Contribution(energy, energies, forces, virial)

    def subtract(self, dataset: Dataset, comm: Comm | None = None) -> Dataset:
        """The data set whose labels are what the baseline leaves of them: what nets are to learn.

        comm  shares out the structures; collective then. Raises DataError on every rank alike.
        """
        if not self:
            return dataset
        comm = serial() if comm is None else comm
        energy, forces, stress = (np.array(getattr(dataset, n)) for n in ("energy", "forces", "stress"))
        parts = comm.allgather(
            agree(comm, lambda: [self.of(dataset[k]) for k in range(comm.rank, len(dataset), comm.size)])
        )
        for rank, part in enumerate(parts):
            for k, found in zip(range(rank, len(dataset), comm.size), part):
                energy[k] -= found.energy
                forces[dataset.start[k] : dataset.start[k + 1]] -= found.forces
                if dataset.pbc[k].all():
                    stress[k] -= to_voigt(found.virial) / abs(np.linalg.det(dataset.cell[k]))
        return replace(dataset, energy=energy, forces=forces, stress=stress)


NONE = Baseline()


def parse_baseline(text: str) -> Baseline:
    """Baseline of a text that str(Baseline) made. Raises ConfigError."""
    terms: list[Zbl | Dispersion] = []
    for words in (part.split() for part in text.split(";") if part.strip()):
        try:
            if words[0] == "zbl" and len(words) == 3:
                terms.append(Zbl(float(words[1]), float(words[2])))
            elif words[0] == "d3" and len(words) == 3:
                terms.append(Dispersion(words[1], words[2]))
            else:
                raise ValueError
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"baseline '{text}': expected 'zbl INNER OUTER', 'd3 METHOD DAMPING', or both with ; between"
            ) from None
    return Baseline(tuple(terms))


@lru_cache
def _dispersion(method, damping):
    """(module dftd3.interface, parameters of a functional). Raises ConfigError."""
    try:
        from dftd3 import interface
    except ImportError:
        raise ConfigError(
            f"baseline.d3 = {method!r} needs the package dftd3: pip install 'mpnnp[d3]'"
        ) from None
    try:
        return interface, getattr(interface, DAMPINGS[damping][0])(method=method, atm=False)
    except RuntimeError as error:
        raise ConfigError(f"baseline.d3 = {method!r}, d3_damping = {damping!r}: {error}") from None


def _pairs(s, cutoff):
    """(i, j, distance, vector from i to j) of every pair nearer than the cutoff, once; images included."""
    if not s.pbc.any():
        from scipy.spatial import cKDTree  # loads half of SciPy, which other runs need not wait for

        i, j = cKDTree(s.positions).query_pairs(cutoff, output_type="ndarray").reshape(-1, 2).T
        vector = s.positions[j] - s.positions[i]
        return i, j, np.linalg.norm(vector, axis=1), vector
    x = s.positions - s.positions.mean(axis=0)
    turns = np.floor(x @ inverse_cells(s.cell[None], s.pbc[None])[0]) * s.pbc
    wrapped = replace(s, positions=x - turns @ s.cell)
    if not searchable(wrapped, cutoff):
        raise DataError(f"{s.name}: its neighbours cannot be found: the cell is flat, or too large")
    return neighbours(wrapped, cutoff, "ijdD", full_list=False)


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
