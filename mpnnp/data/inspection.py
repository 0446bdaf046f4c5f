"""What a data set holds, and what in it looks wrong."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from mpnnp.data.dataset import Dataset
from mpnnp.data.finding import Finding
from mpnnp.data.pairs import gathered, neighbours, searchable
from mpnnp.data.plausibility import doubts, energy_residuals
from mpnnp.data.ranges import densities
from mpnnp.data.structure import TRAIN, VALIDATION
from mpnnp.progress import counted
from mpnnp.units import GPA

__all__ = ["Description", "describe", "findings", "format_description", "warnings"]

BOND = 3.2  # Angstrom; the neighbourhood searched first
SHOWN = 3  # structures named in one warning


@dataclass(frozen=True, kw_only=True)
class Description:
    """Numbers that describe a Dataset; None where nothing is labelled, periodic, or near."""

    n_structure: int
    n_atom: int
    elements: tuple  # atomic numbers, ascending
    atoms_per_structure: tuple  # smallest, largest
    density: tuple | None  # smallest, largest of the periodic structures, g/cm^3
    energy_per_atom: tuple | None  # smallest, largest, standard deviation, eV; without isolated atoms
    max_force: float | None  # largest component, eV/Angstrom
    force_rms: float | None  # of the components, eV/Angstrom
    stress_rms: float | None  # of the components, eV/Angstrom^3
    stress_diagonal: tuple | None  # smallest, largest
    n_without_energy: int  # structures
    n_without_forces: int  # atoms
    n_without_stress: int  # structures
    splits: dict  # none, train, validation -> structures
    pbc: dict  # "T T T" -> structures
    n_isolated: int  # structures: atoms that are references of the energies
    shortest: dict  # (Z1, Z2) -> shortest distance below 3.2 Angstrom, with Z1 <= Z2
    sources: dict  # name -> structures
    hash: str


def describe(dataset: Dataset) -> Description:
    """Description of a Dataset."""
    d = dataset
    forces = d.forces[np.isfinite(d.forces).all(axis=1)] if len(d) else d.forces
    alone = d.is_isolated
    energies = (d.energy / d.n_atom)[np.isfinite(d.energy) & ~alone]
    stress = d.stress[np.isfinite(d.stress).all(axis=1)]
    kinds, n_kind = np.unique(d.pbc, axis=0, return_counts=True)
    return Description(
        n_structure=len(d),
        n_atom=len(d.numbers),
        elements=d.elements,
        atoms_per_structure=(int(d.n_atom.min()), int(d.n_atom.max())) if len(d) else (0, 0),
        density=_density_range(d),
        energy_per_atom=(float(energies.min()), float(energies.max()), float(energies.std()))
        if len(energies)
        else None,
        max_force=float(np.abs(forces).max()) if len(forces) else None,
        force_rms=float(np.sqrt(np.mean(forces**2))) if len(forces) else None,
        stress_rms=float(np.sqrt(np.mean(stress**2))) if len(stress) else None,
        stress_diagonal=(float(stress[:, :3].min()), float(stress[:, :3].max())) if len(stress) else None,
        n_isolated=int(alone.sum()),
        n_without_energy=int(np.isnan(d.energy).sum()),
        n_without_forces=len(d.forces) - len(forces),
        n_without_stress=int(np.isnan(d.stress).any(axis=1).sum()),
        splits={
            "none": int(np.sum((d.marks != TRAIN) & (d.marks != VALIDATION))),
            "train": int(np.sum(d.marks == TRAIN)),
            "validation": int(np.sum(d.marks == VALIDATION)),
        },
        pbc={" ".join("FT"[int(p)] for p in kind): int(n) for kind, n in zip(kinds, n_kind, strict=True)},
        shortest=_shortest_distances(d),
        sources={
            name: int(n)
            for name, n in zip(
                d.source_names, np.bincount(d.source, minlength=len(d.source_names)), strict=True
            )
            if n
        },
        hash=d.hash(),
    )


def _density_range(d):
    found = densities(d)
    return (float(np.nanmin(found)), float(np.nanmax(found))) if np.isfinite(found).any() else None


def _pairs(structure, cutoff):
    """Pairs nearer than `cutoff`, images included: i, j, distance."""
    return neighbours(structure, cutoff, "ijd", full_list=False)


def _shortest_distances(d):
    shortest = {}
    for k in range(len(d)):
        s = d[k]
        i, j, distance = _pairs(s, BOND)
        if len(i) == 0:
            continue
        z = np.sort(np.stack([s.numbers[i], s.numbers[j]], axis=1), axis=1)
        code = z[:, 0] * 1000 + z[:, 1]
        order = np.argsort(distance)
        present, first = np.unique(code[order], return_index=True)
        for pair, r in zip(present, distance[order][first], strict=True):
            key = (int(pair) // 1000, int(pair) % 1000)
            shortest[key] = min(float(r), shortest.get(key, np.inf))
    return dict(sorted(shortest.items()))


def warnings(
    dataset: Dataset,
    force_limit: float = 50.0,
    distance_limit: float = 0.4,
    isolation: float = 6.0,
    energy_sigma: float = 10.0,
    energy_limit: float = 0.05,
    distances_in: int | None = None,
) -> list[str]:
    """Messages on what looks wrong, each naming structures by index, source and frame.

    force_limit     eV/Angstrom; force components above it
    distance_limit  Angstrom; pairs nearer than this, nearest images included
    isolation       Angstrom; atoms without a neighbour within it (in structures of several atoms)
    energy_sigma, energy_limit   energies per atom farther from a linear fit in the composition than
                                 energy_sigma robust
                    standard deviations and than energy_limit (eV/atom)
    distances_in    structures whose distances are looked at, evenly chosen; None: all
    """
    found = [
        _duplicates(dataset),
        _zero_labels(dataset),
        *_odd_distances(dataset, distance_limit, isolation, distances_in),
        _large_forces(dataset, force_limit),
        _odd_energies(dataset, energy_sigma, energy_limit),
    ]
    return [message for message in found if message]


def findings(dataset: Dataset, at_most: int = 300) -> list[Finding]:
    """Findings about a whole data set, the fatal ones first: those of `plausibility.doubts` and of
    `warnings`; distances in at most so many structures, evenly chosen, and a message about them says so.
    """
    return doubts(dataset) + [Finding(message) for message in warnings(dataset, distances_in=at_most)]


def _message(d, text, details):
    """Text with the first few structures of `details`: {k: remark}."""
    if not details:
        return None
    plural = "structure" if len(details) == 1 else "structures"
    named = [
        f"structure {k} ({d.name(k)}{': ' if remark else ''}{remark})"
        for k, remark in list(details.items())[:SHOWN]
    ]
    more = [f"and {len(details) - SHOWN} more"] if len(details) > SHOWN else []
    return f"{len(details)} {plural} {text}: {', '.join(named + more)}"


def _duplicates(d, tolerance=1e-5):
    """Structures with the atoms of an earlier one at the same places
    (Angstrom, in the same order and cell).
    """
    groups = {}
    for k in range(len(d)):
        groups.setdefault((d.numbers[d.start[k] : d.start[k + 1]].tobytes(), d.pbc[k].tobytes()), []).append(
            k
        )
    details = {}
    for group in groups.values():
        # equal structures have equal projections on one direction:
        # compare neighbours in the sorted projections only
        x = np.array(
            [
                np.concatenate([d.positions[d.start[k] : d.start[k + 1]].ravel(), d.cell[k].ravel()])
                for k in group
            ]
        )
        direction = np.random.default_rng(0).uniform(0.5, 1.0, x.shape[1])
        projection = x @ direction
        order = np.argsort(projection, kind="stable")
        reach = tolerance * np.sum(direction)
        grouped = set()
        for a, first in enumerate(order):
            if first in grouped:
                continue
            equal = [first]
            for second in order[a + 1 :]:
                if projection[second] - projection[first] > reach:
                    break
                if second not in grouped and np.abs(x[first] - x[second]).max() <= tolerance:
                    equal.append(second)
            grouped.update(equal)
            earliest = group[min(equal)]
            details |= {group[m]: earliest for m in equal if group[m] != earliest}
    details = {k: _same_as(d, k, earlier) for k, earlier in sorted(details.items())}
    return _message(d, "repeated: the same atoms at the same places", details)


def _same_as(d, k, earlier):
    different = np.abs(d.energy[k] - d.energy[earlier]) > 1e-4  # eV
    return f"as structure {earlier}, {d.name(earlier)}" + (", but with another energy" if different else "")


def _zero_labels(d):
    details = {
        k: "" for k in np.flatnonzero(d.energy == 0) if not d.forces[d.start[k] : d.start[k + 1]].any()
    }
    return _message(d, "with energy and forces exactly 0, perhaps without labels in truth", details)


def _odd_distances(d, distance_limit, isolation, at_most):
    near, alone, unseen = {}, {}, {}
    some = np.unique(np.linspace(0, len(d) - 1, min(len(d), at_most or len(d))).astype(np.int64))
    looked = "" if len(some) == len(d) else f" (of the {len(some)} that were looked at, of {len(d)})"
    for k in some.tolist():
        s = d[k]
        if not (searchable(s, isolation) or searchable(gathered(s), isolation)):
            unseen[k] = ""
            continue
        i, j, distance = _pairs(s, max(BOND, distance_limit))
        if len(i) and distance.min() < distance_limit:
            closest = np.argmin(distance)
            near[k] = f"atoms {i[closest]} and {j[closest]}, {distance[closest]:.3f} Angstrom"
        if len(s) > 1:
            has_neighbour = np.isin(np.arange(len(s)), [i, j])
            if not has_neighbour.all():
                i, j, _ = _pairs(s, isolation)
                has_neighbour = np.isin(np.arange(len(s)), [i, j])
            if not has_neighbour.all():
                atoms = np.flatnonzero(~has_neighbour)
                alone[k] = f"atom {atoms[0]}" + (f" and {len(atoms) - 1} more" if len(atoms) > 1 else "")
    yield _message(d, f"with atoms nearer than {distance_limit:g} Angstrom{looked}", near)
    yield _message(d, f"with atoms that have no neighbour within {isolation:g} Angstrom{looked}", alone)
    yield _message(d, "whose distances were not looked at: flat cells or some beyond 2000 Angstrom", unseen)


def _large_forces(d, force_limit):
    largest = np.abs(np.nan_to_num(d.forces)).max(axis=1, initial=0)
    atoms = np.flatnonzero(largest > force_limit)
    details = {}
    for atom, k in zip(atoms, np.searchsorted(d.start, atoms, side="right") - 1, strict=True):
        if k not in details or largest[atom] > details[k][0]:
            details[k] = largest[atom], atom - d.start[k]
    words = {int(k): f"{force:.4g} eV/Angstrom on atom {atom}" for k, (force, atom) in details.items()}
    return _message(d, f"with forces above {force_limit:g} eV/Angstrom", words)


def _odd_energies(d, energy_sigma, energy_limit):
    """Energies far from E = sum_i e(Z_i), with e fitted to the least sum of absolute deviations per atom."""
    residual, labelled = energy_residuals(d)
    if residual is None:
        return None
    sigma = 1.4826 * np.median(np.abs(residual))
    limit = max(energy_sigma * sigma, energy_limit)
    details = {
        int(labelled[m]): f"{residual[m]:+.4g} eV/atom" for m in np.flatnonzero(np.abs(residual) > limit)
    }
    return _message(
        d, f"with energies more than {limit:.3g} eV/atom from a linear fit in the composition", details
    )


def format_description(description: Description, messages: Iterable[str] = ()) -> str:
    """Description, and the messages of `warnings`, as a plain text table."""
    n = description
    rows = [
        ("structures", f"{n.n_structure:,}"),
        ("atoms", f"{n.n_atom:,} ({_range(n.atoms_per_structure, 'd')} per structure)"),
        ("elements", " ".join(chemical_symbols[z] for z in n.elements)),
        ("periodic along", ", ".join(f"{_vectors(kind)}: {count:,}" for kind, count in n.pbc.items())),
        ("density", f"{_range(n.density, '.3f')} g/cm^3" if n.density else "-"),
        (
            "energy",
            f"{_range(n.energy_per_atom[:2], '.4f')} eV/atom, std {n.energy_per_atom[2] * 1000:.2f} meV/atom"
            if n.energy_per_atom
            else "-",
        ),
        (
            "forces",
            f"rms {n.force_rms:.4g}, largest {n.max_force:.4g} eV/Angstrom"
            if n.max_force is not None
            else "-",
        ),
        (
            "stress",
            f"rms {n.stress_rms:.4g}, diagonal {_range(n.stress_diagonal, '.4g')} eV/Angstrom^3 "
            f"({_range([x / GPA for x in n.stress_diagonal], '.3g')} GPa)"
            if n.stress_diagonal is not None
            else "-",
        ),
        (
            "without label",
            (
                f"energy {counted(n.n_without_energy, 'structure')}, forces "
                f"{counted(n.n_without_forces, 'atom')}, stress {counted(n.n_without_stress, 'structure')}"
            ),
        ),
        ("split", ", ".join(f"{name} {count:,}" for name, count in n.splits.items())),
        (
            "shortest",
            ", ".join(
                f"{chemical_symbols[a]}-{chemical_symbols[b]} {r:.3f}" for (a, b), r in n.shortest.items()
            )
            or "-",
        ),
        ("hash", n.hash[:16]),
    ]
    if n.n_isolated:
        rows.insert(
            2,
            (
                "of these",
                f"{counted(n.n_isolated, 'isolated atom')}: references of the energies, not learned",
            ),
        )
    if n.shortest:
        rows[-2] = (rows[-2][0], rows[-2][1] + " Angstrom")
    rows += [
        ("source" if m == 0 else "", f"{name or '(none)'}: {count:,}")
        for m, (name, count) in enumerate(n.sources.items())
    ]
    lines = [f"{name:<14}  {value}" for name, value in rows]
    return "\n".join([*lines, *(f"warning: {message}" for message in messages)])


def _range(pair, spec):
    low, high = (format(value, spec) for value in pair)
    return low if low == high else f"{low} to {high}"


def _vectors(kind):
    names = "".join(name for name, flag in zip("abc", kind.split(), strict=True) if flag == "T")
    return {"abc": "all vectors", "": "none"}.get(names, names)
