"""Many structures in flat arrays, and the HDF5 file that holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mpnnp.data.ase_files import structures_of
from mpnnp.data.isolated import agreed, isolated_atoms
from mpnnp.data.structure import VALIDATION, Structure
from mpnnp.errors import DataError
from mpnnp.files import check_heaps, check_stored, lock_reason, reason_of, write_atomically
from mpnnp.progress import counted, printable

__all__ = ["FORMAT_VERSION", "KIND", "Dataset", "concatenate", "read", "write"]

KIND = "mpnnp dataset"
FORMAT_VERSION = 1

# array: (dtype, shape after the first axis, unit); the order is that of the hash
ARRAYS = {
    "start": (np.int64, (), "1"),
    "numbers": (np.int32, (), "1"),
    "positions": (np.float64, (3,), "Angstrom"),
    "cell": (np.float64, (3, 3), "Angstrom"),
    "pbc": (np.bool_, (3,), "1"),
    "energy": (np.float64, (), "eV"),
    "forces": (np.float64, (3,), "eV/Angstrom"),
    "stress": (np.float64, (6,), "eV/Angstrom^3"),
    "weight": (np.float64, (3,), "1"),
    "marks": (np.int8, (), "1"),
    "source": (np.int32, (), "1"),
    "frame": (np.int64, (), "1"),
}
OTHER_NAMES = {"marks": "split"}  # in the file, in the hash and of a Structure
PER_ATOM = ("numbers", "positions", "forces")
OPTIONAL = ("weight",)  # ones where a file does not have it
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

    def name(self, k: int) -> str:
        """Source and frame of structure k, for messages."""
        return f"{self.source_names[self.source[k]] or 'structure'}, frame {self.frame[k]}"

    def take(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """New Dataset of the structures `indices` (integers, or a mask (n_structure,)), in that order;
        all source names stay.
        """
        indices = np.asarray(indices)
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
        data = self.without_isolated_atoms()
        train, validation = split_indices(data, fraction, seed, marks)
        return data.take(train), data.take(validation)

    def without_isolated_atoms(self) -> Dataset:
        """The data set whose `isolated` holds the energies of its isolated atoms, which are no structures
        any more.

        The same if there are none, or nothing else. Raises DataError where their energies contradict each
        other.
        """
        energies, mask = isolated_atoms(self)
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
    dataset: Dataset, fraction: float, seed: int, marks: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the validation structures, ascending; see `Dataset.split`."""
    marked = dataset.marks != 0
    if marks == "file" and not marked.any():
        raise DataError("data.split = 'file', but the data set marks no structure as train or validation")
    if marks != "random" and marked.any():
        train, validation = (
            np.flatnonzero(dataset.marks != VALIDATION),
            np.flatnonzero(dataset.marks == VALIDATION),
        )
    else:
        order = np.random.default_rng([seed, 0]).permutation(len(dataset))
        n = round(fraction * len(dataset))
        train, validation = np.sort(order[n:]), np.sort(order[:n])
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
        what = "all structures" if not rest else f"{int(marked.sum())} of {len(dataset)} structures"
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
        yield f"{len(d.isolated)} energies of isolated atoms"
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
    try:
        # aligned, so that a mapped array can be handed to compiled code
        with (
            write_atomically(path) as temporary,
            h5py.File(temporary, "w", alignment_threshold=1, alignment_interval=64) as file,
        ):
            file.attrs["kind"] = KIND
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["hash"] = dataset.hash()
            if dataset.isolated:
                file.attrs["isolated_atoms"] = json.dumps(dataset.isolated)
            for name, (_, _, unit) in ARRAYS.items():
                array = getattr(dataset, name)
                stored = file.create_dataset(
                    OTHER_NAMES.get(name, name), data=array.view(np.uint8) if array.dtype == bool else array
                )
                stored.attrs["units"] = unit
            file.create_dataset(
                "source_names",
                data=list(dataset.source_names),
                dtype=h5py.string_dtype(),
                shape=len(dataset.source_names),
            )
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason_of(error)}") from None


def read(path: str | Path, map: bool = False, verify: bool | None = None) -> Dataset:
    """Read a Dataset from HDF5.

    map     the arrays are read-only views of the mapped file, shared by all processes of a node; for files
            that were read without it before
    verify  recompute the hash and check every value; by default only without `map`
    Raises DataError naming the file and what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: " + ("is not a file" if path.exists() else "no such file"))
    try:
        if not map:
            check_heaps(path)
        with h5py.File(path, "r", locking="best-effort") as file:
            _check_header(path, file)
            arrays = {
                name: _read_array(path, file, name, map)
                for name in ARRAYS
                if OTHER_NAMES.get(name, name) in file
            }
            if file["source_names"].size > path.stat().st_size:
                raise DataError("has more source names than bytes")
            names = tuple(file["source_names"].asstr()[()])
            stored_hash = file.attrs["hash"]
            isolated = json.loads(file.attrs.get("isolated_atoms", "{}"))
        isolated = {int(z): float(energy) for z, energy in isolated.items()} or None
        dataset = Dataset(source_names=names, isolated=isolated, **arrays)
        if (not map) if verify is None else verify:
            _check_values(dataset)
            if dataset.hash() != stored_hash:
                raise DataError("content does not match its hash; the file is damaged or was edited")
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # h5py raises nearly anything on damaged files
        if locked := lock_reason(error):
            raise DataError(f"{path}: {locked}") from None
        reason = "truncated or not an HDF5 file" if not h5py.is_hdf5(path) else "damaged"
        raise DataError(
            f"{path}: cannot be read as a data set of mpnnp, {reason} ({str(error).strip(chr(34))})"
        ) from None
    return dataset


def _check_header(path, file):
    kind = file.attrs.get("kind")
    if kind != KIND:
        raise DataError(f"is an HDF5 file but not a data set of mpnnp (kind {kind!r}, must be {KIND!r})")
    version = file.attrs.get("format_version")
    if not isinstance(version, (int, np.integer)) or not 1 <= version <= FORMAT_VERSION:
        raise DataError(
            f"has format version {version}, this mpnnp reads 1 to {FORMAT_VERSION}; "
            "convert the data again or update mpnnp"
        )
    for name in (*(OTHER_NAMES.get(name, name) for name in ARRAYS), "source_names"):
        if name not in file and name not in OPTIONAL:
            raise DataError(f"array {name} is missing")
    if "hash" not in file.attrs:
        raise DataError("attribute hash is missing")


def _read_array(path, file, name, map):
    """Array `name`; a read-only view of the mapped file if wanted and possible."""
    dtype, shape, _ = ARRAYS[name]
    name = OTHER_NAMES.get(name, name)
    stored = file[name]
    file_dtype = np.dtype(np.uint8 if dtype is np.bool_ else dtype)
    if stored.dtype != file_dtype or stored.ndim != 1 + len(shape):
        raise DataError(
            f"array {name} is {stored.dtype} {stored.shape}, must be {file_dtype} with {1 + len(shape)} axes"
        )
    check_stored(file, name)
    offset = stored.id.get_offset()
    if map and offset is not None and offset % file_dtype.itemsize == 0:
        array = np.memmap(path, file_dtype, mode="r", offset=offset, shape=stored.shape)
    else:
        array = stored[()]
        array.setflags(write=not map)
    return array.view(np.bool_) if dtype is np.bool_ else array


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
