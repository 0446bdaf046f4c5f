"""Whether numbers of a data set can be what they are said to be: units of lengths, energies, forces and
stresses, signs, parts that differ.

Physics that every set obeys is the measure: distances against covalent radii, total energies against those
of free atoms, forces against the
change of the energy from frame to frame and against the repulsion of close atoms, stresses against the
change of the volume.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import covalent_radii

from mpnnp.data.finding import Finding
from mpnnp.data.missing import doubts_of_missing
from mpnnp.data.pairs import neighbours
from mpnnp.data.succession import doubts_of_succession
from mpnnp.units import ENERGIES, GPA, HARTREE, LENGTHS, METAL, Units

if TYPE_CHECKING:
    from mpnnp.data.dataset import Dataset

__all__ = ["doubts", "energy_residuals", "wrong_units"]

NOBLE = (2, 10, 18, 36, 54, 86)  # bound by dispersion alone, their distances tell nothing
REACH = (4.5, 9.5)  # Angstrom; the second where the first has no neighbour for an atom; beyond there is none
SAMPLE = 60  # structures looked at for distances
ENOUGH = 12  # atoms without which distances are no evidence
# nearest neighbours over sums of covalent radii: no matter that is simulated has these
CLOSE, FAR = 0.69, 1.43
SOUND = (0.74, 1.42)
FEW = 5  # fewer energies are no evidence
NET = 0.3  # sum of forces over the root of the sum of their squares: 1 for any vectors, 0.03 of real data
UNEVEN = 0.01  # of the push on an atom that does not cancel
EDGE = 0.05  # of fractional coordinates beyond 0 and 1
# what to do about lengths of another unit: of files whose units may be said, and of others
SAY = (
    "Say the units: data.units = '{other}' (--units '{other}'), or a comment line '# units: {other}' in the "
    "file"
)
FIXED = "The format of this file has {unit}, whatever is said: write it anew, in {unit}"


def wrong_units(dataset: Dataset, units: Units, remedy: str = SAY) -> str | None:
    """A message if the lengths of a Dataset, read in `units`, cannot be in their unit: they can be in another
    one, or are fractional coordinates; None otherwise.

    remedy  SAY, or FIXED for files whose units cannot be said
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
    if near and units.length == 1.0 and _positions_in_bohr(dataset):
        return (
            "its positions are hardly in the unit of its cells: half of the atoms have their nearest "
            f"neighbour nearer than {half:.2f} times the sum of the covalent radii, which would be right if "
            "the positions were in Bohr and the cells in Angstrom; write both in one unit; if they are "
            f"right, say that: '{units}'"
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
        f"{remedy.format(other=other, unit=units.length_name)}; if they are right, say that: '{units}'"
    )


def _positions_in_bohr(dataset):
    """Whether the distances of periodic structures become right with positions in Bohr in the cells as they
    are.
    """
    bohr = LENGTHS["Bohr"]
    ratios = _nearest(replace(dataset, cell=dataset.cell / bohr)) * bohr
    return dataset.pbc.all() and SOUND[0] <= np.quantile(ratios, 0.5, method="lower") <= SOUND[1]


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
        *doubts_of_missing(d),
        _all_electron(d),
        *doubts_of_succession(d),
        _per_atom(d),
        _cells(d),
        _repulsion(d),
        _forces_of_whole_structures(d),
        _net_force(d),
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


def _forces_of_whole_structures(d):
    """Forces that are exactly 0 on all atoms of some structures, where no symmetry makes them vanish."""
    zero = ~np.add.reduceat((d.forces != 0.0).any(axis=1), d.start[:-1], dtype=bool)
    some = np.flatnonzero(zero & (d.n_atom > 1) & (d.energy != 0.0))  # without energies too: told elsewhere
    if not np.nan_to_num(d.forces).any():
        return None
    pushed = [k for k in some[_sample(len(some), SAMPLE)].tolist() if _is_pushed(d[k])]
    if not pushed:
        return None
    return Finding(
        f"{len(some)} of {len(d)} structures have forces of exactly 0 on all atoms, also where these stand "
        f"unevenly (e.g. {d.name(pushed[0])}): are they missing?"
    )


def _is_pushed(s):
    """Whether forces along the vectors to its neighbours would not cancel on some atom."""
    i, _, r, vector = neighbours(s, REACH[0], "ijdD")
    apart = r > 0.0
    i, r = i[apart], r[apart, None]
    size = (1.0 / r - 1.0 / REACH[0]) ** 2
    push, most = np.zeros((len(s), 3)), np.zeros(len(s))
    np.add.at(push, i, size * vector[apart] / r)
    np.add.at(most, i, size[:, 0])
    return bool((np.linalg.norm(push, axis=1) > UNEVEN * most).any())


def _net_force(d):
    """Forces that do not add up to 0, as those between the atoms of a structure do."""
    size = np.sqrt(np.add.reduceat((d.forces**2).sum(axis=1), d.start[:-1]))  # NaN where some are no labels
    felt = np.flatnonzero((d.n_atom > 1) & (size > 0.01))
    net = np.linalg.norm(np.add.reduceat(d.forces, d.start[:-1]), axis=1)
    if not len(felt) or np.median(net[felt] / size[felt]) < NET:
        return None
    k = int(felt[0])
    return Finding(
        "forces do not add up to 0, as those between atoms do, in half of the structures or more (e.g. "
        f"{d.name(k)}: {net[k]:.3g} eV/Angstrom): are they forces, in the order of the atoms, of all of them?"
    )


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
            f"{size / GPA:.3g} GPa; are they in GPa or kbar (data.units = 'eV Angstrom GPa'), or virials "
            "in eV (name them virial)?"
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
    labelled = _labelled(d)
    if len(labelled) < FEW:
        return None, None
    return _residuals(_fractions(d)[labelled], (d.energy / d.n_atom)[labelled]), labelled


def _labelled(d):
    """The structures whose energies tell what atoms have in them: those with one that are no lone atoms."""
    return np.flatnonzero(np.isfinite(d.energy) & ~d.is_isolated)


def _fractions(d):
    """(n_structure, n_element) shares of the elements, without the kernels' structures and their compiler."""
    k_of_atom = np.repeat(np.arange(len(d)), d.n_atom)
    counts = np.zeros((len(d), len(d.elements)))
    np.add.at(counts, (k_of_atom, np.searchsorted(d.elements, d.numbers)), 1)
    return counts / d.n_atom[:, None]


def _residuals(fractions, energy):
    """Deviations of energies per atom from the fit of energy_residuals."""
    weight = np.ones(len(energy))
    for _ in range(30):  # least squares of least norm, weighted towards least absolute deviations
        root = np.sqrt(weight)
        e, *_ = np.linalg.lstsq(fractions * root[:, None], energy * root, rcond=1e-10)
        residual = energy - fractions @ e
        weight = 1 / np.maximum(np.abs(residual), 1e-6)
        weight /= weight.max()
    return residual


def _per_atom(d):
    """Energies that are those of an atom on the average: of structures of several sizes they are alike, while
    what is taken for the energy per atom falls with the size.
    """
    labelled = _labelled(d)
    energy, n_atom = d.energy[labelled], d.n_atom[labelled]
    if len(labelled) < FEW or np.ptp(n_atom) < 0.2 * n_atom.max():
        return None
    fractions = _fractions(d)[labelled]
    as_whole, as_per_atom = (np.abs(_residuals(fractions, e)).mean() for e in (energy / n_atom, energy))
    if not as_per_atom < 0.5 * as_whole:  # of energies of whole structures it is larger
        return None
    return Finding(
        "energies seem to be energies per atom: they do not grow with the number of atoms, as those of whole "
        "structures do, which they must be"
    )


def _cells(d):
    """Cells in Bohr of positions in Angstrom: the atoms fill a corner of 0.53 of each vector, as none but
    a crystal or a liquid in a smaller cell would.
    """
    periodic = np.flatnonzero(d.pbc.all(axis=1) & (d.n_atom >= 20))
    if not len(periodic) or len(periodic) < 0.5 * len(d):
        return None
    length = LENGTHS["Bohr"]
    for k in periodic[_sample(len(periodic), SAMPLE)]:
        s = d[int(k)]
        lengths = np.linalg.norm(s.cell, axis=1)
        extent = np.ptp(s.positions @ np.linalg.inv(s.cell), axis=0)
        gap = (length - extent) * lengths  # between images, if the cell were that
        if extent.max() > length or gap.max() > 3.0 or gap.min() < 0.0:
            return None
    return Finding(
        "the atoms of all structures fill a part of their cells that is 0.53 times as long as these, in all "
        "three directions: are cells in Bohr, and positions in Angstrom?"
    )
