"""Whether numbers of a data set can be what they are said to be: units of lengths, energies, forces and
stresses, signs, parts that differ.

Physics that every set obeys is the measure: distances against covalent radii, total energies against those
of free atoms, forces against the
change of the energy from frame to frame and against the repulsion of close atoms, stresses against the
change of the volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import covalent_radii
from vesin import NeighborList

from mpnnp.units import ENERGIES, HARTREE, LENGTHS, METAL, Units

if TYPE_CHECKING:
    from mpnnp.data.dataset import Dataset

__all__ = ["Finding", "doubts", "wrong_units"]

NOBLE = (2, 10, 18, 36, 54, 86)  # bound by dispersion alone, their distances tell nothing
REACH = (4.5, 9.5)  # Angstrom; the second where the first has no neighbour for an atom; beyond there is none
SAMPLE = 60  # structures looked at for distances
ENOUGH = 12  # atoms without which distances are no evidence
CLOSE, FAR = (
    0.69,
    1.43,
)  # of nearest neighbours over sums of covalent radii: in no matter of the kind that is simulated
SOUND = (0.74, 1.42)
EDGE = 0.05  # of fractional coordinates beyond 0 and 1


@dataclass(frozen=True)
class Finding:
    """What looks wrong, in words; fatal: nothing can be learned."""

    text: str
    fatal: bool = False

    def __str__(self):
        return self.text


def wrong_units(dataset: Dataset, units: Units) -> str | None:
    """A message if the lengths of a Dataset, read in `units`, cannot be in their unit: they can be in another
    one, or are fractional coordinates; None otherwise.
    """
    ratios = _nearest(dataset)
    if len(ratios) < ENOUGH:
        return None
    half, tenth = np.quantile(ratios, [0.5, 0.1], method="lower")  # some may be infinite
    near, far = half < CLOSE, tenth > FAR
    if not (near or far):
        return None
    if near and _fractional(dataset, units):
        return (
            f"its positions are hardly in {units.length_name}: all of them lie between 0 and 1, and half of "
            f"the atoms have their nearest neighbour nearer than {half:.2f} times the sum of the covalent "
            "radii: are they fractional coordinates? Cartesian ones are read; if they are right, say that: "
            f"'{units}'"
        )
    seen = half if near else tenth
    fitting = {
        name: seen * length / units.length
        for name, length in LENGTHS.items()
        if SOUND[0] <= seen * length / units.length <= SOUND[1]
    }
    if not fitting:
        return None
    name = min(fitting, key=lambda other: abs(np.log(fitting[other])))
    other = {"Angstrom": "eV Angstrom", "Bohr": "Hartree Bohr", "nm": "kJ/mol nm"}[name]
    share = "half" if near else "all but a tenth"
    bound = "nearer" if near else "farther away"
    return (
        f"its lengths are hardly in {units.length_name}: {share} of the atoms have their nearest "
        f"neighbour {bound} than "
        f"{seen:.2f} times the sum of the covalent radii; in {name} that would be {fitting[name]:.2f}. "
        f"Say the units: "
        f"data.units = '{other}' (--units '{other}'), or a comment line '# units: {other}' in the file; "
        f"if they are right, say that: '{units}'"
    )


def _fractional(dataset, units):
    """Whether all positions of a sample lie between 0 and 1 in the unit of the file, in cells that are
    larger.
    """
    for k in _sample(len(dataset), SAMPLE):
        s = dataset[int(k)]
        x, lengths = s.positions / units.length, np.linalg.norm(s.cell, axis=1) / units.length
        if not s.pbc.all() or lengths.min() < 2.0 or x.min() < -EDGE or x.max() > 1.0 + EDGE:
            return False
    return True


def searchable(structure: Any, cutoff: float) -> bool:
    """Whether vesin can cope with the numbers of a structure, see `neighbours`."""
    s = structure
    box = s.cell if s.pbc.any() else np.zeros((3, 3))
    largest = max(np.abs(s.positions).max(), np.abs(box).max())
    lengths = np.linalg.norm(box, axis=1)[s.pbc]
    flat = s.pbc.all() and abs(np.linalg.det(box)) < 1e-3 * np.prod(lengths)
    n_pair = len(s) ** 2 * np.prod(2.0 * cutoff / np.maximum(lengths, 1e-3) + 1.0)
    return bool(largest < 2000.0 and not flat and n_pair < 1e9)


def neighbours(structure: Any, cutoff: float, quantities: str, full_list: bool = True) -> Any:
    """Pairs nearer than `cutoff` (Angstrom), images included, as vesin gives them; none where it could not
    cope with
    the numbers: atoms or cells beyond 2000 Angstrom, flat cells, too many images.
    """
    s = structure
    if not searchable(s, cutoff):
        shapes = {"i": (0, np.int64), "j": (0, np.int64), "d": (0, float), "D": ((0, 3), float)}
        return tuple(np.zeros(*shapes[name]) for name in quantities)
    box = s.cell if s.pbc.any() else np.zeros((3, 3))
    return NeighborList(cutoff=cutoff, full_list=full_list, n_threads=1).compute(
        points=s.positions, box=box, periodic=s.pbc, quantities=quantities
    )


def _sample(n, most):
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64)) if n else np.zeros(0, np.int64)


def _nearest(d):
    """Distance of each atom's nearest neighbour over the sum of both covalent radii, of a sample;
    inf beyond 9.5 Angstrom; noble gases left out.
    """
    found = []
    for k in _sample(len(d), SAMPLE):
        s = d[int(k)]
        if len(s) == 1 and not s.pbc.any():
            continue
        for reach in REACH:
            i, j, r = neighbours(s, reach, "ijd")
            nearest = np.full(len(s), np.inf)
            np.minimum.at(nearest, i, r / (covalent_radii[s.numbers[i]] + covalent_radii[s.numbers[j]]))
            if np.isfinite(nearest).all():
                break
        found.append(nearest[~np.isin(s.numbers, NOBLE)])
    return np.concatenate(found) if found else np.zeros(0)


def doubts(dataset: Dataset) -> list[Finding]:
    """Findings about labels and units of a whole Dataset, the fatal ones first. Seconds for 10^4
    structures.
    """
    d = dataset
    found = [
        _lengths(d),
        *_flat_energies(d),
        _all_electron(d),
        *_work(d),
        _repulsion(d),
        *_stress(d),
        *_groups(d),
    ]
    return sorted((f for f in found if f), key=lambda f: not f.fatal)


def _lengths(d):
    if message := wrong_units(d, METAL):
        return Finding(f"the data set: {message}")
    ratios = _nearest(d)
    if len(ratios) < ENOUGH or (half := np.quantile(ratios, 0.5, method="lower")) >= CLOSE:
        return None
    text = (
        f"half of the atoms have their nearest neighbour nearer than {half:.2f} times the sum of the "
        "covalent radii"
    )
    if SOUND[0] <= half / LENGTHS["Bohr"] <= SOUND[1]:
        return Finding(
            f"{text}, as if lengths in Angstrom were read as Bohr: are the units of the data right?"
        )
    return Finding(
        f"{text}, and none of {', '.join(LENGTHS)} as unit of lengths would make that right: are positions "
        "and cells of one frame in one unit?"
    )


def _flat_energies(d):
    """Energies that are all the same."""
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


def _all_electron(d):
    """Energies that are those of free atoms with all electrons, in another unit."""
    known = np.isfinite(d.energy) & (d.n_atom > 0)
    z = d.numbers.astype(float)
    # Scott's and Schwinger's corrections of Thomas and Fermi; a percent for Z from 3 to 50. Schwinger,
    # Phys. Rev. A 24, 2353 (1981)
    atom = -(0.768745 * z ** (7 / 3) - 0.5 * z**2 + 0.2699 * z ** (5 / 3)) * HARTREE
    if not known.any() or d.numbers.max() < 3:
        return None
    ratio = np.median((d.energy / np.add.reduceat(atom, d.start[:-1]))[known])
    fits = [name for name, unit in ENERGIES.items() if abs(ratio * unit - 1.0) < 0.03]
    if fits and fits[0] != "eV":
        return Finding(
            f"energies are {ratio:.3g} times those of all electrons in eV: are they in {fits[0]}? "
            f"Say so: data.units = '{fits[0]} Angstrom'"
        )
    return None


def _work(d):
    """Energies against the work of the forces between frames that follow each other: dE = -F dx."""
    energy_change, work = [], []
    for k in range(len(d) - 1):
        a, b = slice(d.start[k], d.start[k + 1]), slice(d.start[k + 1], d.start[k + 2])
        if d.n_atom[k] != d.n_atom[k + 1] or d.n_atom[k] < 2 or len(work) >= 2000:
            continue
        if (d.numbers[a] != d.numbers[b]).any() or np.abs(d.cell[k] - d.cell[k + 1]).max() > 1e-6:
            continue
        step = d.positions[b] - d.positions[a]
        if d.pbc[k].all():
            step -= np.round(step @ np.linalg.inv(d.cell[k])) @ d.cell[k]
        size = np.sqrt((step**2).sum(axis=1).mean())
        w = (step * (d.forces[a] + d.forces[b])).sum() / 2
        if 1e-6 < size < 0.3 and np.isfinite([w, d.energy[k], d.energy[k + 1]]).all():
            energy_change.append(d.energy[k + 1] - d.energy[k])
            work.append(-w)
    x, y = np.array(work), np.array(energy_change)
    if len(x) < 8 or not x.any() or not y.any():
        return
    correlation = (x @ y) / np.sqrt((x @ x) * (y @ y))
    if abs(correlation) < 0.8:
        return
    slope = np.sign(correlation) * np.sqrt((y @ y) / (x @ x))
    if slope < 0:
        yield Finding(
            "forces have the wrong sign: between frames that follow each other the energy changes as +F "
            "dx, not as -F dx"
        )
    if not 0.6 < abs(slope) < 1.6:
        yield Finding(
            f"energies change {abs(slope):.3g} times as much between frames that follow each other as "
            f"the forces say"
            f"{_unit_of_ratio(abs(slope))}"
        )


def _unit_of_ratio(ratio):
    """What mixture of units makes energies `ratio` times too large against forces."""
    mixtures = {
        f"energies in {e}, forces in {f}": Units(e, "Angstrom", f).force / ENERGIES[e]
        for e in ENERGIES
        for f in ("eV/Angstrom", "Hartree/Bohr", "Hartree/Angstrom", "kcal/mol/Angstrom", "eV/Bohr")
    }
    fits = [words for words, force in mixtures.items() if abs(np.log(ratio * force)) < 0.25]
    return f": {' or '.join(fits[:2])}? See data.units" if fits else ": are they of one unit and one method?"


def _repulsion(d):
    """The sign of forces: atoms closer than others of their kind are pushed apart."""
    rows = {}
    for k in _sample(len(d), SAMPLE):
        s = d[int(k)]
        if len(s) < 2 or not np.isfinite(s.forces).all():
            continue
        i, j, r, vector = neighbours(s, 3.5, "ijdD")
        if not len(i):
            continue
        order = np.lexsort((r, i))
        first = order[np.unique(i[order], return_index=True)[1]]
        first = first[r[first] > 0.0]  # atoms at one place have no direction
        push = -((s.forces[i[first]] - s.forces[j[first]]) * vector[first]).sum(axis=1) / r[first]
        for n, p in zip(first, push):
            key = tuple(sorted((int(s.numbers[i[n]]), int(s.numbers[j[n]]))))
            rows.setdefault(key, []).append((r[n], p))
    value = weight = 0.0
    for found in rows.values():
        r, p = np.array(found).T
        if len(r) >= 20 and r.std() > 1e-3 and p.std() > 0:
            value += len(r) * np.corrcoef(-r, p)[0, 1]
            weight += len(r)
    if weight >= 40 and value / weight < -0.4:
        return Finding(
            "forces seem to have the wrong sign: atoms closer than others of their kind are pulled together "
            f"(correlation {value / weight:.2f})"
        )
    return None


def _stress(d):
    """Size and sign of stresses."""
    known = np.flatnonzero(np.isfinite(d.stress).all(axis=1))
    if not len(known):
        return
    trace = d.stress[known, :3].mean(axis=1)
    size = float(np.median(np.abs(d.stress[known, :3])))
    if size > 0.6:
        yield Finding(
            f"stresses are large: half of the diagonal components exceed {size:.3g} eV/Angstrom^3 = "
            f"{size * 160.2177:.3g} GPa; "
            "are they in GPa or kbar (data.units = 'eV Angstrom GPa'), or virials in eV (name them virial)?"
        )
    periodic = d.pbc[known].all(axis=1)
    volume = np.abs(np.linalg.det(d.cell[known])) / d.n_atom[known]
    groups = {}
    for m in np.flatnonzero(periodic):
        k = known[m]
        z, n = np.unique(d.numbers[d.start[k] : d.start[k + 1]], return_counts=True)
        groups.setdefault((*z, *(n / n.sum()).round(3)), []).append(m)
    for chosen in groups.values():
        v, s = volume[chosen], trace[chosen]
        if len(chosen) >= 8 and v.std() > 0.02 * v.mean() and s.std() > 0:
            c = float(np.corrcoef(v, s)[0, 1])
            if c < -0.6:
                yield Finding(
                    "stresses seem to have the wrong sign: they rise when the volume falls (they are "
                    "those of ASE: "
                    f"negative under compression; correlation {c:.2f} over {len(chosen)} structures)"
                )
                return


def _groups(d):
    """Parts of a set that differ by more than physics: energies of another level of theory, forces in
    another unit.
    """
    rms = np.sqrt(np.add.reduceat((d.forces**2).sum(axis=1), d.start[:-1]) / (3 * d.n_atom))
    found = np.flatnonzero(np.isfinite(rms) & (rms > 1e-5) & (d.n_atom > 2))
    if two := _two_groups(np.log10(rms[found]), least=np.log10(4.0)):
        low, high, gap = two
        yield Finding(
            f"forces fall into two groups: {len(low)} structures with about {10**gap:.3g} times smaller "
            f"ones than the other "
            f"{len(high)} (e.g. {d.name(int(found[low[0]]))} and {d.name(int(found[high[0]]))}): are "
            f"they of one unit?"
        )
    residual, labelled = energy_residuals(d)
    if residual is not None and (two := _two_groups(residual, least=0.05)):
        low, high, gap = two
        yield Finding(
            f"energies fall into two groups that are {gap:.4g} eV/atom apart: {len(low)} and {len(high)} "
            f"structures "
            f"(e.g. {d.name(int(labelled[low[0]]))} and {d.name(int(labelled[high[0]]))}): another unit "
            f"or level of theory?"
        )


def _two_groups(x, least):
    """(indices below, indices above, distance of the medians) where values have a gap far wider than the
    spread on both sides; or None.
    """
    if len(x) < 8:
        return None
    order = np.argsort(x)
    jump = np.diff(x[order])
    few = max(2, len(x) // 50)
    inner = jump[few - 1 : len(jump) - few + 1]
    if not len(inner):
        return None
    cut = few + int(np.argmax(inner))
    low, high = order[:cut], order[cut:]
    spread = max(np.ptp(np.quantile(x[part], (0.1, 0.9))) for part in (low, high))
    gap = float(np.median(x[high]) - np.median(x[low]))
    return (low, high, gap) if inner.max() > max(least, 1.0 * spread) else None


def energy_residuals(d: Dataset) -> tuple[Any, Any]:
    """(residual eV/atom, structures) of the energies from sum_i e(Z_i), e fitted to the least sum of
    absolute deviations; (None, None) if few. Isolated atoms have no part in it.
    """
    labelled = np.flatnonzero(np.isfinite(d.energy) & ~d.is_isolated)
    if len(labelled) < 5:
        return None, None
    k_of_atom = np.repeat(np.arange(len(d)), d.n_atom)
    counts = np.zeros((len(d), len(d.elements)))
    np.add.at(counts, (k_of_atom, np.searchsorted(d.elements, d.numbers)), 1)
    fractions = (counts / d.n_atom[:, None])[labelled]
    energy = (d.energy / d.n_atom)[labelled]
    weight = np.ones(len(energy))
    for _ in range(30):  # least squares of least norm, weighted towards least absolute deviations
        root = np.sqrt(weight)
        e, *_ = np.linalg.lstsq(fractions * root[:, None], energy * root, rcond=1e-10)
        residual = energy - fractions @ e
        weight = 1 / np.maximum(np.abs(residual), 1e-6)
        weight /= weight.max()
    return residual, labelled
