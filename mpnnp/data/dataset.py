"""A data set: many structures in flat arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mpnnp.data.ase_files import structures_of
from mpnnp.data.dataset_file import (
    ARRAYS,
    KIND,
    OPTIONAL,
    OTHER_NAMES,
    PER_ATOM,
    Content,
    as_data_errors,
    read_content,
    write_content,
)
from mpnnp.data.isolated import SAME, agreed, stand_alone
from mpnnp.data.structure import VALIDATION, Structure
from mpnnp.errors import DataError
from mpnnp.progress import counted, printable

__all__ = ["ARRAYS", "OTHER_NAMES", "Dataset", "concatenate", "read", "write"]

ORIGIN = ("source", "frame")  # where a structure came from; not part of the hash


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Structures in flat arrays: atoms of structure k are start[k]:start[k+1]. eV, Angstrom;
    NaN means "no label".

    start     (n_structure+1,) int64
    numbers   (n_atom,) int32
    positions, forces (n_atom, 3)        Angstrom, eV/Angstrom
    cell      (n_structure, 3, 3)        Angstrom, rows are the vectors
    pbc       (n_structure, 3) bool
    energy    (n_structure,)             eV
    stress    (n_structure, 6)           eV/Angstrom^3, xx yy zz yz xz xy
    weight    (n_structure, 3)           of the energy, the forces and the stress as labels; ones if not given
    marks     (n_structure,) int8        0 none, 1 train, 2 validation; `split` of a Structure and in the file
    source    (n_structure,) int32       index into source_names
    frame     (n_structure,) int64       index in its source, from 0
    source_names tuple of str
    isolated  dict or None                eV of isolated atoms by atomic number, once they are no structures

    Arrays may be read-only views of a file. Raises DataError where shapes or offsets do not fit.
    """

    start: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    energy: np.ndarray
    forces: np.ndarray
    stress: np.ndarray
    marks: np.ndarray
    source: np.ndarray
    frame: np.ndarray
    source_names: tuple
    weight: np.ndarray = None  # type: ignore[assignment]  # ones if not given
    isolated: dict | None = None

    def __post_init__(self):
        if self.weight is None:
            object.__setattr__(self, "weight", np.ones((len(self.start) - 1, 3)))
        for name, (dtype, _, _) in ARRAYS.items():
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype))
        object.__setattr__(self, "source_names", tuple(map(printable, self.source_names)))
        _check_shapes(self)

    def __len__(self):
        return len(self.start) - 1

    def __getitem__(self, k):
        """Structure k (its arrays are views)."""
        if isinstance(k, slice) or not hasattr(k, "__index__"):
            raise TypeError(f"data[{k!r}]: must be one integer; data.take gives a Dataset of several")
        k = range(len(self))[k]
        atoms = slice(self.start[k], self.start[k + 1])
        return Structure(
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            cell=self.cell[k],
            pbc=self.pbc[k],
            energy=self.energy[k],
            forces=self.forces[atoms],
            stress=self.stress[k],
            weight=self.weight[k],
            split=self.marks[k],
            source=self.source_names[self.source[k]],
            frame=self.frame[k],
        )

    @property
    def n_atom(self) -> np.ndarray:
        """Number of atoms of each structure (n_structure,) int64."""
        return np.diff(self.start)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers present, ascending: tuple of int."""
        return tuple(int(z) for z in np.unique(self.numbers))

    @property
    def is_isolated(self) -> np.ndarray:
        """Mask (n_structure,) of the isolated atoms with an energy, that are references of other structures:
        none where there are no others.
        """
        mask = self._single_atoms()
        return mask & (not mask.all())

    def _single_atoms(self):
        return stand_alone(self.n_atom, self.cell, self.pbc) & np.isfinite(self.energy)

    def name(self, k: int) -> str:
        """Source and frame of structure k, for messages."""
        return f"{self.source_names[self.source[k]] or 'structure'}, frame {self.frame[k]}"

    def take(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """New Dataset of the structures `indices` (integers, or a mask (n_structure,)), in that order;
        all source names stay.
        """
        indices = np.asarray(indices)
        if indices.dtype == bool and indices.shape != (len(self),):
            raise DataError(f"take: a mask of shape {indices.shape}, must be ({len(self)},)")
        if indices.size and indices.dtype.kind not in "iub":
            raise DataError(f"take: must be integers or a mask, found {indices.ravel()[0]!s}")
        indices = np.flatnonzero(indices) if indices.dtype == bool else indices.astype(np.int64)
        # negative ones count from the end; out of range is an IndexError
        indices = np.arange(len(self))[indices]
        start, atoms = _offsets(self.n_atom[indices]), atoms_of(self.start, indices)
        arrays = {
            name: getattr(self, name)[atoms if name in PER_ATOM else indices]
            for name in ARRAYS
            if name != "start"
        }
        return Dataset(start=start, source_names=self.source_names, isolated=self.isolated, **arrays)

    @classmethod
    def from_structures(cls, structures: Iterable) -> Dataset:
        """Dataset of an iterable of Structure or ase.Atoms, in order; labels of the latter as in files of
        ASE. Raises DataError.
        """
        structures = list(structures)
        if any(isinstance(s, Atoms) for s in structures):
            structures = structures_of(structures)
        sources = {}
        arrays = {"source": [sources.setdefault(s.source, len(sources)) for s in structures]}
        for name in ARRAYS:
            if name not in ("start", "source"):
                arrays[name] = [getattr(s, OTHER_NAMES.get(name, name)) for s in structures]
        flat = {
            name: _join(arrays[name], dtype, shape)
            if name in PER_ATOM
            else np.array(arrays[name], dtype).reshape(-1, *shape)
            for name, (dtype, shape, _) in ARRAYS.items()
            if name != "start"
        }
        return cls(start=_offsets([len(s) for s in structures]), source_names=tuple(sources), **flat)

    def split(self, fraction: float = 0.1, seed: int = 1, marks: str = "auto") -> tuple[Dataset, ...]:
        """(training, validation) Datasets: those of a run with data.validation_fraction = fraction and
        run.seed = seed.

        marks  as data.split: "auto" takes the data set's own marks if there are any, "random" never,
               "file" only these
        Raises DataError if nothing is left to train on.
        """
        if not fraction >= 0.0:
            raise DataError(f"split: fraction = {fraction}: must be from 0 to below 1")
        data = self.without_isolated_atoms()
        train, validation = split_indices(data, fraction, seed, marks)
        return data.take(train), data.take(validation)

    def without_isolated_atoms(self) -> Dataset:
        """The data set whose `isolated` holds the energies of its isolated atoms, which are no structures
        any more.

        The same if there are none, or nothing else. Raises DataError where their energies contradict each
        other.
        """
        mask = self._single_atoms()
        energies = _energies_of(self, mask)
        if not mask.any() or mask.all():
            return self
        return replace(self.take(~mask), isolated=agreed([self.isolated, energies]))

    def __repr__(self):
        return f"Dataset({', '.join(_in_words(self))})"

    def hash(self) -> str:
        """sha256 (hex) of geometry, labels and split; independent of where the structures came from
        and of the machine.
        """
        digest = hashlib.sha256(KIND.encode())
        for name, (dtype, _, _) in ARRAYS.items():
            if name not in ORIGIN:
                array = getattr(self, name)
                if name in OPTIONAL and (array == 1.0).all():
                    continue  # the hash of data without weights is that of before there were any
                digest.update(f"{OTHER_NAMES.get(name, name)} {array.shape}".encode())
                for first in range(0, len(array), 65536):
                    block = array[first : first + 65536].astype(np.dtype(dtype).newbyteorder("<"))
                    if dtype is np.float64:
                        block += 0.0  # -0 and 0 are the same content
                        block[np.isnan(block)] = np.nan  # and so are all NaN
                    digest.update(block.tobytes())
        return digest.hexdigest()


def split_indices(
    dataset: Dataset, fraction: float, seed: int, marks: str = "auto", kept: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the validation structures, ascending; see `Dataset.split`.

    kept  mask (n_structure,) of those that are for validation whatever is drawn, among the others
    """
    marked = dataset.marks != 0
    if marks == "file" and not marked.any():
        raise DataError("data.split = 'file', but the data set marks no structure as train or validation")
    if marks != "random" and marked.any():
        validates = dataset.marks == VALIDATION
        train, validation = np.flatnonzero(~validates), np.flatnonzero(validates)
    else:
        kept = np.zeros(len(dataset), bool) if kept is None else kept
        pool = np.flatnonzero(~kept)
        order = pool[np.random.default_rng([seed, 0]).permutation(len(pool))]
        n = round(fraction * len(pool))
        train, validation = np.sort(order[n:]), np.sort(np.append(order[:n], np.flatnonzero(kept)))
    if len(train) == 0:
        raise DataError(
            f"no structures left for training: {len(dataset)} in all, {len(validation)} for validation"
        )
    return train, validation


def why_no_validation(dataset: Dataset, fraction: float, marks: str = "auto") -> str:
    """In words, why `split_indices` leaves no structure for validation although some are asked for; "" where
    it does not.
    """
    marked = dataset.marks != 0
    if fraction == 0 or not len(dataset) or (dataset.marks == VALIDATION).any() and marks != "random":
        return ""
    if marks != "random" and marked.any():
        rest = int((~marked).sum())
        what = (
            "all structures" if not rest else f"{int(marked.sum())} of {counted(len(dataset), 'structure')}"
        )
        others = "the other one is" if rest == 1 else f"the {rest} others are"
        more = f"; {others} trained on too" if rest else ""
        return (
            f"there is no validation set, as the data mark {what} as training and none as validation{more}: "
            'data.split = "random" draws one in spite of the marks, data.validation_files names one'
        )
    if round(fraction * len(dataset)) == 0:
        return (
            f"there is no validation set: data.validation_fraction = {fraction:g} of "
            f"{counted(len(dataset), 'structure')} is less than half a structure"
        )
    return ""


def _energies_of(d, mask):
    """{atomic number: eV} of the single atoms `mask` (n_structure,). Raises DataError where two energies of
    one element contradict each other.
    """
    energies, first = {}, {}
    for k in np.flatnonzero(mask):
        z = int(d.numbers[d.start[k]])
        if abs(energies.setdefault(z, float(d.energy[k])) - d.energy[k]) > SAME:
            raise DataError(
                f"isolated atoms of {chemical_symbols[z]} contradict each other: {energies[z]:.6g} eV "
                f"({d.name(first[z])}) and {d.energy[k]:.6g} eV ({d.name(int(k))}); keep one of them"
            )
        first.setdefault(z, int(k))
    return energies


def _in_words(d):
    """What a notebook shows: counts, elements, ranges, labels."""
    yield counted(len(d), "structure")
    if not len(d):
        return
    n = d.n_atom
    yield counted(len(d.numbers), "atom") + (f" ({n.min()} to {n.max()} each)" if n.min() < n.max() else "")
    yield " ".join(chemical_symbols[z] for z in d.elements)
    per_atom = (d.energy / n)[np.isfinite(d.energy)]
    if len(per_atom):
        many = "" if len(per_atom) == len(d) else f"{len(per_atom)} "
        yield f"{many}energies {per_atom.min():.3f} to {per_atom.max():.3f} eV/atom"
    forces = d.forces[np.isfinite(d.forces).all(axis=1)]
    if len(forces):
        many = "" if len(forces) == len(d.forces) else f"{len(forces):,} "
        yield f"{many}forces up to {np.abs(forces).max():.2f} eV/Angstrom"
    if n_stress := int(np.isfinite(d.stress).all(axis=1).sum()):
        yield f"{'' if n_stress == len(d) else f'{n_stress} '}stresses"
    if n_periodic := int(d.pbc.all(axis=1).sum()):
        yield f"{'' if n_periodic == len(d) else f'{n_periodic} '}periodic"
    if d.isolated:
        yield f"{counted(len(d.isolated), 'energy', 'energies')} of isolated atoms"
    if (d.marks != 0).any():
        yield f"{int((d.marks == VALIDATION).sum())} marked for validation"


def concatenate(datasets: Iterable[Dataset]) -> Dataset:
    """One Dataset of several, in order; equal source names become one."""
    datasets = list(datasets)
    names = {}
    source = [
        np.array([names.setdefault(n, len(names)) for n in d.source_names], np.int32)[d.source]
        for d in datasets
    ]
    arrays = {
        name: _join([getattr(d, name) for d in datasets], dtype, shape)
        for name, (dtype, shape, _) in ARRAYS.items()
        if name not in ("start", "source")
    }
    start = _offsets(_join([d.n_atom for d in datasets], np.int64, ()))
    isolated = agreed(d.isolated for d in datasets) or None
    return Dataset(
        start=start,
        source=_join(source, np.int32, ()),
        source_names=tuple(names),
        isolated=isolated,
        **arrays,
    )


def write(path: str | Path, dataset: Dataset) -> None:
    """Write `dataset` as HDF5 (contiguous, uncompressed), replacing `path` in one step.

    Raises DataError naming the file.
    """
    arrays = {name: getattr(dataset, name) for name in ARRAYS}
    write_content(path, Content(arrays, dataset.source_names, dataset.isolated, dataset.hash()))


def read(path: str | Path, map: bool = False, verify: bool | None = None) -> Dataset:
    """Read a Dataset from HDF5.

    map     the arrays are read-only views of the mapped file, shared by all processes of a node; for files
            that were read without it before
    verify  recompute the hash and check every value; by default only without `map`
    Raises DataError naming the file and what is wrong.
    """
    path = Path(path)
    with as_data_errors(path):
        content = read_content(path, map)
        dataset = Dataset(source_names=content.source_names, isolated=content.isolated, **content.arrays)
        if (not map) if verify is None else verify:
            _check_values(dataset)
            if dataset.hash() != content.hash:
                raise DataError("content does not match its hash; the file is damaged or was edited")
    return dataset


def _check_shapes(d):
    if d.start.ndim != 1 or len(d.start) == 0 or d.start[0] != 0 or (np.diff(d.start) <= 0).any():
        raise DataError("offsets start must begin with 0 and increase")
    n_structure, n_atom = len(d.start) - 1, int(d.start[-1])
    for name, (_, shape, _) in ARRAYS.items():
        if name != "start":
            expected = (n_atom if name in PER_ATOM else n_structure, *shape)
            if getattr(d, name).shape != expected:
                raise DataError(f"array {name} has shape {getattr(d, name).shape}, must be {expected}")
    if n_structure and not (0 <= d.source.min() and d.source.max() < len(d.source_names)):
        raise DataError(
            f"array source must lie in 0 to {len(d.source_names) - 1} "
            f"(there are {len(d.source_names)} source names)"
        )


def _check_values(d):
    finite = np.isfinite(d.positions).all(axis=1)
    if not finite.all():
        atom = int(np.argmin(finite))
        k = int(np.searchsorted(d.start, atom, side="right")) - 1
        raise DataError(f"structure {k} ({d.name(k)}): position of atom {atom - d.start[k]} is not finite")
    for k in np.flatnonzero(~_in_order(d)).tolist():
        try:
            d[k]
        except DataError as error:
            raise DataError(f"structure {k}: {error}") from None


def _in_order(d):
    """(n_structure,) bool: nothing to complain about, seen at a glance;
    the others need a closer look (`check_structure`).
    """
    force = np.isfinite(d.forces)
    unlabelled = np.isnan(d.forces).all(axis=1)
    atoms = (d.numbers >= 1) & (d.numbers <= 118) & (force.all(axis=1) | unlabelled)
    with np.errstate(divide="ignore", invalid="ignore"):
        vectors = d.cell / np.linalg.norm(d.cell, axis=2)[:, :, None]
        volume = d.pbc.all(axis=1) & (np.linalg.det(vectors) ** 2 > 1e-11)
    cell = volume | (~d.pbc.any(axis=1) & np.isfinite(d.cell).all(axis=(1, 2)))
    stress = np.isfinite(d.stress).all(axis=1) | np.isnan(d.stress).all(axis=1)
    marks = (d.marks >= 0) & (d.marks <= 2)
    return np.logical_and.reduceat(atoms, d.start[:-1]) & cell & ~np.isinf(d.energy) & stress & marks


def atoms_of(start: np.ndarray, chosen: Sequence[int] | np.ndarray) -> np.ndarray:
    """Indices of the atoms of the structures `chosen`, one structure after the other."""
    chosen = np.asarray(chosen, np.int64)
    n_atom = start[chosen + 1] - start[chosen]
    first = _offsets(n_atom)
    return np.arange(first[-1]) + np.repeat(start[chosen] - first[:-1], n_atom)


def _offsets(counts):
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _join(parts, dtype, shape):
    return np.concatenate([np.zeros((0, *shape), dtype), *parts])
