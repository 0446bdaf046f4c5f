"""Structures from files that ASE reads, and the names under which such files keep their labels."""

import itertools
import sys

import numpy as np
from ase.io import iread
from ase.io.formats import UnknownFileTypeError

from mpnnp.data.compressed import decompressed
from mpnnp.data.structure import NO_SPLIT, TRAIN, VALIDATION, Structure
from mpnnp.errors import DataError

__all__ = ["Labels", "read_ase"]

# label: names looked for, the first found is taken; `calculator:` are results of ASE's calculator,
# the others info or arrays of Atoms
GUESSES = {
    "energy": (
        "REF_energy",
        "calculator:energy",
        "energy",
        "calculator:free_energy",
        "free_energy",
        "dft_energy",
        "DFT_energy",
        "Energy",
    ),
    "forces": (
        "REF_forces",
        "calculator:forces",
        "forces",
        "force",
        "dft_forces",
        "DFT_forces",
        "dft_force",
        "Forces",
    ),
    "stress": (
        "REF_stress",
        "calculator:stress",
        "stress",
        "dft_stress",
        "DFT_stress",
        "REF_virials",
        "REF_virial",
        "virials",
        "virial",
    ),
}
SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "test": VALIDATION,
}
# in info; config_weight is a factor of all
WEIGHTS = ("config_energy_weight", "config_forces_weight", "config_stress_weight")
MASK = "force_mask"  # array of truth values: False where the force on an atom is no label


def read_ase(path, labels):
    """Yield the Structures of a file that ASE reads; `labels` finds their labels.

    Raises DataError naming file and frame.
    """
    with decompressed(path) as plain:
        # (a plain copy, because ASE seeks in its files: in compressed ones that takes 75 times as long)
        # parallel=False: with mpi4py loaded ASE would broadcast the frames,
        # and wait for ranks that do not read
        _check_counts(plain, path)
        frames = iread(str(plain), index=slice(None), parallel=False, do_not_split_by_at_sign=True)
        frame = 0
        while True:
            try:
                atoms = next(frames)
            except StopIteration:
                return
            except Exception as error:
                raise DataError(
                    f"{path}, frame {frame}: cannot be read by ASE: {_reason(error, plain, path)}"
                ) from None
            yield Structure(
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=atoms.cell.array,
                pbc=atoms.pbc,
                source=str(path),
                frame=frame,
                split=SPLITS.get(str(atoms.info.get("split")).lower(), NO_SPLIT),
                **labels.of(atoms, frame),
            )
            frame += 1


def _check_counts(plain, path):
    """Raise DataError if an xyz file announces more atoms than it has lines:
    ASE would count to that number.
    """
    frame = 0
    with open(plain, "rb") as file:
        while (line := file.readline(1000)).strip().isdigit():
            count = int(line)
            lines = sum(1 for _ in itertools.islice(file, count + 1)) if count < sys.maxsize else 0
            if lines < count + 1:
                raise DataError(
                    f"{path}, frame {frame}: announces {line.strip().decode()[:30]} atoms, "
                    "but the file ends before"
                )
            frame += 1


def _reason(error, plain, path):
    text = " ".join(str(error).replace(str(plain), str(path)).split())
    if isinstance(error, UnknownFileTypeError):
        return f"{text}; neither input.data nor a data set of mpnnp either"
    if isinstance(error, KeyError):
        return f"unknown name {text}"  # of an element, mostly
    return f"{text} ({type(error).__name__})" if text else type(error).__name__


class Labels:
    """Which names hold the labels in one file: chosen at the first frame that has one, then kept."""

    def __init__(self, path, keys):
        self.path = path
        self.guess = {kind: key is None for kind, key in keys.items()}
        self.names = {
            kind: GUESSES[kind] if key is None else (f"calculator:{key}", key) for kind, key in keys.items()
        }
        self.choice = dict.fromkeys(keys)
        self.others = {kind: () for kind in keys}
        self.found = dict.fromkeys(keys, 0)
        self.seen = set()  # all names that could be labels
        self.weights, self.masked = set(), False
        self.n_frame = 0

    def of(self, atoms, frame):
        """energy, forces, stress of `atoms` as keywords of Structure."""
        self.n_frame += 1
        there = {
            f"calculator:{k}": v
            for k, v in (atoms.calc.results if atoms.calc is not None else {}).items()
            if v is not None
        }
        there |= atoms.info | {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
        self.seen.update(name.removeprefix("calculator:") for name in there)
        found = {kind: self._label(kind, there, len(atoms), frame) for kind in self.choice}
        if "virial" in str(self.choice["stress"]) and found["stress"] is not None:
            found["stress"] = -found["stress"] / atoms.get_volume()  # eV, of the whole cell
        if MASK in atoms.arrays and found["forces"] is not None:
            found["forces"] = np.where(
                np.asarray(atoms.arrays[MASK], bool).reshape(-1, 1), found["forces"], np.nan
            )
            self.masked = True
        return found | {"weight": self._weight(atoms.info, frame)}

    def _weight(self, info, frame):
        """(3,) weights of the labels of a frame."""
        named = [name for name in ("config_weight", *WEIGHTS) if name in info]
        self.weights.update(named)
        weight = {
            name: _as_floats(info[name], f"{self.path}, frame {frame}", "weight", name) for name in named
        }
        if wrong := [name for name in named if weight[name].size != 1]:
            raise DataError(f"{self.path}, frame {frame}: {wrong[0]} = {info[wrong[0]]!r} is not one number")
        return float(weight.get("config_weight", 1.0)) * np.array(
            [float(weight.get(name, 1.0)) for name in WEIGHTS]
        )

    def _label(self, kind, there, n_atom, frame):
        present = [name for name in self.names[kind] if name in there]
        if self.choice[kind] is None and present:
            self.choice[kind], *others = present
            self.others[kind] = [name for name in others if self.guess[kind]]
        choice = self.choice[kind]
        where = f"{self.path}, frame {frame}"
        if choice not in present:
            if present:
                raise DataError(
                    f"{where}: {kind} is called {_plain(present[0])!r} here but {_plain(choice)!r} "
                    "in earlier frames; "
                    f"choose one with {kind}_key, or read them as two files"
                )
            return np.nan if kind == "energy" else None
        value = _as_floats(there[choice], where, kind, choice)
        self.found[kind] += 1
        if kind == "stress":
            return _voigt(value, where, choice)
        shape = () if kind == "energy" else (n_atom, 3)
        if value.size == 1 and kind == "energy":
            value = value.reshape(())
        if value.shape != shape:
            raise DataError(f"{where}: {kind} {_plain(choice)!r} has shape {value.shape}, must be {shape}")
        if not np.isfinite(value).all():
            atom = "" if kind == "energy" else f" of atom {int(np.argmin(np.isfinite(value).all(axis=1)))}"
            raise DataError(
                f"{where}: {kind} {_plain(choice)!r}{atom} is not finite; "
                f"remove the label or the frame, or mask forces by {MASK!r}"
            )
        return value

    def report(self, report):
        """One line: where each label was found, and how often."""
        parts = []
        for kind, choice in self.choice.items():
            if choice is None:
                parts.append(f"no {kind}")
                continue
            count = "" if self.found[kind] == self.n_frame else f" in {self.found[kind]} of them"
            others = [_plain(name) for name in self.others[kind] if _plain(name) != _plain(choice)]
            also = f" (also there: {', '.join(dict.fromkeys(others))}; see {kind}_key)" if others else ""
            parts.append(f"{kind} from {_plain(choice)!r}{count}{also}")
        if self.masked:
            parts.append(f"forces masked by {MASK!r}")
        if self.weights:
            parts.append(f"weights from {', '.join(sorted(self.weights))}")
        report(f"{self.path}: {self.n_frame} frames, {', '.join(parts)}")


def _plain(name):
    return name.removeprefix("calculator:")


def _as_floats(value, where, kind, name):
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {kind} {_plain(name)!r} is not a number: {value!r}") from None


def _voigt(value, where, name):
    """Stress as xx yy zz yz xz xy, from 6 or 3x3 numbers; None if a component is NaN."""
    if value.shape in ((9,), (3, 3)):
        full = value.reshape(3, 3)
        full = (full + full.T) / 2
        value = full[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    if value.shape != (6,):
        raise DataError(
            f"{where}: stress {_plain(name)!r} has shape {value.shape}, must be (6,), (9,) or (3, 3)"
        )
    return None if np.isnan(value).any() else value
