"""The names under which files that ASE reads keep their labels; labels in eV and Angstrom."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpnnp.data.isolated import KEY, agreed, energies_of
from mpnnp.data.structure import NO_SPLIT, TRAIN, VALIDATION
from mpnnp.data.voigt import is_uneven, stress_of_virial, to_voigt
from mpnnp.errors import DataError
from mpnnp.files import read_number
from mpnnp.progress import counted
from mpnnp.units import METAL, Units

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["GUESSES", "WEIGHTS", "Labels", "several_states"]

NONE = "none"  # as a key: no such label is wanted
CALCULATOR = "calculator:"  # begins names of results of ASE's calculator; others are info or arrays of Atoms

# label: names looked for in any case, the first found is taken
ENERGY = ("energy", "calculator:free_energy", "free_energy")
GUESSES = {
    "energy": ("ref_energy", "calculator:energy", *ENERGY, "dft_energy", "energy_ref", "energy_dft")
    + (
        "potential_energy",
        "toten",
        "total_energy",
        "totenergy",
        "tot_energy",
        "totalenergy",
        "etot",
        "e_tot",
    ),
    "forces": ("ref_forces", "calculator:forces", "forces", "force", "dft_forces", "dft_force")
    + ("ref_force", "forces_ref", "force_ref", "forces_dft", "force_dft"),
    "stress": ("ref_stress", "calculator:stress", "stress", "dft_stress", "stress_ref", "stress_dft")
    + ("ref_virials", "ref_virial", "virials", "virial", "dft_virials", "dft_virial")
    + ("virials_ref", "virial_ref", "virials_dft", "virial_dft"),
}
SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "test": VALIDATION,
}
LEAST = {
    "energy": 1e-3,
    "forces": 1e-3,
    "stress": 1e-5,
}  # eV, Angstrom; more is a contradiction
GRADIENT = "grad"  # in the name of forces: they are minus that
NO_WORDS = ("", "none", "nan")  # of a split
WEIGHTS = (
    "config_energy_weight",
    "config_forces_weight",
    "config_stress_weight",
)  # in info; config_weight is a factor of all
FACTORS = ("config_weight", "weight")
MASK = "force_mask"  # array of truth values: False where the force on an atom is no label
# what looks like a label, and numbers and arrays that are none
LOOKS = re.compile(r"energ|forc|virial|stress|weight|etot|gradient", re.IGNORECASE)
NO_ENERGY = re.compile(r"time|temp|press|dens|vol|charge|spin|mag|cut|angle", re.IGNORECASE)
AN_ENERGY = re.compile(r"[eu](_\w+)?", re.IGNORECASE)  # also where the number has no point
NO_STRESS = re.compile(r"polar|quadru|hess|cell|lattice|box", re.IGNORECASE)
# of electrons, or the head of MACE: another level of theory
STATES = re.compile(r"(total_|tot_|net_)?charge|spin|(spin_)?multiplicity|head", re.IGNORECASE)
OF_ATOMS = ("energies", "stresses")  # of single atoms, by calculators of ASE: never labels
NO_FORCES = re.compile(
    r"mom|vel|magmom|dipole|dir|disp|pos|eigen|mask|frac|scaled|charge|image", re.IGNORECASE
)


class Labels:
    """Which names hold the labels in one file: chosen at the first frame that has one, then kept.

    path    of the file, for messages
    keys    energy, forces, stress -> name, None (found by itself) or "none" (no such label)
    units   Units of the file; None: those that its frames state, else eV and Angstrom
    warn    called with a line of text
    """

    def __init__(
        self,
        path: str | Path,
        keys: Mapping[str, str | None],
        units: Units | None = None,
        warn: Callable[[str], object] = lambda text: None,
    ):
        self.path, self.units, self.warn = path, units, warn
        self.guess = {kind: key is None for kind, key in keys.items()}
        self.names = {
            kind: GUESSES[kind] if key is None else () if key == NONE else (f"{CALCULATOR}{key}", key)
            for kind, key in keys.items()
        }
        self.choice = dict.fromkeys(keys)
        self.others: dict[str, dict] = {kind: {} for kind in keys}  # name -> where it contradicts
        self.found = dict.fromkeys(keys, 0)
        self.seen = set()  # all names that could be labels
        self.suspects = {}  # name: its shape, of what looks like a label and is not read
        self.columns = set()  # those of them that could be forces
        self.numbers = set()  # names of single numbers and of six or nine, under whatever name
        self.tensors = set()
        self.weights, self.masked = set(), False
        self.states: dict[str, set] = {}  # charges and spins of whole frames
        self.parts = set()  # what `split` is where it is no word
        self.n_frame = self.n_without_volume = self.n_uneven = self.n_six = 0
        self.stated: Units | None = None  # units that frames state
        self.isolated: dict[int, float] = {}  # eV of isolated atoms that are no frames

    def units_of(self, stated: Units | None, where: str) -> Units:
        """Units of a frame: of the user, of the frame itself, or eV and Angstrom. Raises DataError where
        these contradict, or where only some of the frames state theirs.
        """
        if self.units is not None:
            if stated not in (None, self.units):
                raise DataError(f"{where}: states the units {stated}, but {self.units} were asked for")
            return self.units
        if self.n_frame and (stated is None) != (self.stated is None) and METAL != (stated or self.stated):
            raise DataError(
                f"{where}: states {f'units: {stated}' if stated else 'no units'}, earlier frames "
                f"{self.stated or 'none'}; "
                "say those of all: data.units (--units)"
            )
        self.stated = stated
        return stated or METAL

    def split_of(self, info: Mapping, where: str) -> int:
        """Training, validation or neither, by the word `split`. Raises DataError for an unknown word."""
        word = info.get("split", "")
        plain = str(word).strip().lower()
        if plain in SPLITS:
            return SPLITS[plain]
        if not isinstance(word, str):
            self.parts.add(plain[:20])
        elif plain not in NO_WORDS:
            raise DataError(
                f"{where}: split={word!r}: must be one of {', '.join(SPLITS)}; rename split if it means "
                "something else"
            )
        return NO_SPLIT

    def take_isolated(self, info: Mapping, units: Units, where: str) -> None:
        """Energies of isolated atoms that the comment of a frame tells. Raises DataError."""
        if KEY in info:
            try:
                self.isolated = agreed([self.isolated, energies_of(str(info[KEY]), units.energy)])
            except DataError as error:
                raise DataError(f"{where}: {error}") from None

    def of(self, atoms: Atoms, frame: int, units: Units = METAL) -> dict:
        """energy, forces, stress and weight of `atoms` as keywords of Structure."""
        self.n_frame += 1
        results = atoms.calc.results if atoms.calc is not None else {}
        there = {f"{CALCULATOR}{name}": value for name, value in results.items() if value is not None}
        there |= atoms.info | {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
        words = {name for name, value in there.items() if value is True}  # of a comment, without "=" behind
        there = {name: value for name, value in there.items() if name not in words}
        told = sorted(str(_plain(word)) for word in words)
        self.suspects |= {
            word: 'without "="' for word in told if LOOKS.search(word) or AN_ENERGY.fullmatch(word)
        }
        self.seen.update(_plain(name) for name in there)
        for name, value in atoms.info.items():
            if isinstance(name, str) and STATES.fullmatch(name) and np.ndim(value) == 0:
                self.states.setdefault(name, set()).add(str(value))
        where = f"{self.path}, frame {frame}"
        found = {kind: self._label(kind, there, atoms, units, where) for kind in self.choice}
        if found["forces"] is not None and MASK in atoms.arrays:
            mask = np.asarray(atoms.arrays[MASK], bool).reshape(-1, 1)
            found["forces"] = np.where(mask, found["forces"], np.nan)
            self.masked = True
        weight = self._weight(atoms.info, where)
        self._look_for_more(there, len(atoms))
        return found | {"weight": weight}

    def _look_for_more(self, there, n_atom):
        """Remember what looks like a label but is none of those taken."""
        taken = {_plain(c) for c in self.choice.values() if c} | self.weights | {MASK}
        taken |= {_plain(name) for names in self.others.values() for name in names}
        for name, value in there.items():
            plain = _plain(name)
            if plain in taken or not isinstance(plain, str) or plain in self.suspects:
                continue
            array = np.asarray(value) if not isinstance(value, str) else np.zeros(0, "U1")
            if "mask" in plain.lower() and "forc" in plain.lower() and array.shape == (n_atom,):
                self.suspects[plain] = f"a mask is called {MASK!r}"
            if array.dtype.kind not in "fiu" or (plain in OF_ATOMS and array.shape[:1] == (n_atom,)):
                continue
            real = array.dtype.kind == "f" or AN_ENERGY.fullmatch(plain)
            if array.size == 1 and real and not NO_ENERGY.search(plain):
                self.numbers.add(plain)
            if array.size in (6, 9) and len(array) != n_atom and not NO_STRESS.search(plain):
                self.tensors.add(plain)
            vectors = array.shape == (n_atom, 3) and array.dtype.kind == "f"
            if (vectors and not NO_FORCES.search(plain)) or LOOKS.search(plain):
                self.suspects[plain] = "x".join(map(str, array.shape))
                if vectors and not NO_FORCES.search(plain):
                    self.columns.add(plain)

    def _weight(self, info, where):
        """(3,) weights of the labels of a frame."""
        lower = {name.lower(): name for name in reversed(info) if isinstance(name, str)}
        named = {name: lower[name] for name in (*FACTORS, *WEIGHTS) if name in lower}
        if "config_weight" in named:
            named.pop("weight", None)
        self.weights.update(named.values())
        weight = {name: _as_floats(info[key], where, "weight", key) for name, key in named.items()}
        for name, key in named.items():
            if weight[name].size != 1:
                raise DataError(f"{where}: {key} = {info[key]!r} is not one number")
        factor = np.prod([float(weight.get(name, 1.0).item() if name in weight else 1.0) for name in FACTORS])
        return factor * np.array([weight[name].item() if name in weight else 1.0 for name in WEIGHTS])

    def _label(self, kind, there, atoms, units, where):
        """The label in eV and Angstrom; None (energy: NaN) without one. Raises DataError."""
        present = self._present(kind, there)
        if self.choice[kind] is None and present:
            self.choice[kind] = present[0]
        choice = self.choice[kind]
        if choice not in present:
            if present:
                raise DataError(
                    f"{where}: {kind} is called {_plain(present[0])!r} here but {_plain(choice)!r} in "
                    f"earlier frames; "
                    f"choose one with {kind}_key, or read them as two files"
                )
            return np.nan if kind == "energy" else None
        label = _converted(kind, choice, there[choice], atoms, units, where)
        self.found[kind] += 1
        if kind == "stress":
            self.n_uneven += np.size(there[choice]) == 9 and is_uneven(
                _as_floats(there[choice], where, "", "")
            )
            self.n_six += np.size(there[choice]) == 6 and not str(choice).startswith(CALCULATOR)
            self.n_without_volume += label is None and not atoms.cell.volume
        for name in present if self.guess[kind] else ():
            if _plain(name) != _plain(choice):
                self._compare(kind, choice, label, name, there[name], atoms, units, where)
        return label

    def _present(self, kind, there):
        """The names of a label that are there, in their order."""
        if not self.guess[kind]:
            return [name for name in self.names[kind] if name in there]
        lower = {name.lower(): name for name in reversed(there) if isinstance(name, str)}
        exact = [name for name in there if isinstance(name, str) and name == name.lower()]
        lower |= dict(zip(exact, exact))
        return [lower[name] for name in self.names[kind] if name in lower]

    def _compare(self, kind, choice, label, name, value, atoms, units, where):
        """Remember another name of a label, and where it holds another value. Raises DataError if it stands
        before the name that was found in earlier frames.
        """
        places = self.others[kind].setdefault(name, [])
        try:
            other = _converted(kind, name, value, atoms, units, where)
        except DataError:
            return
        if other is None or label is None or "free" in name.lower():  # smearing makes them differ
            return
        least = LEAST[kind] + (0.0 if kind == "energy" else 0.01 * np.abs(label).max())
        if np.abs(np.subtract(other, label)).max() <= least:
            return
        places.append(where)
        order = [plain.lower() for plain in self.names[kind]]
        if order.index(name.lower()) < order.index(choice.lower()):
            raise DataError(
                f"{where}: {kind} is called {_plain(name)!r} here, and {_plain(choice)!r}, the name in "
                f"earlier frames, has another value: choose one with {kind}_key"
            )

    def report(self, report: Callable) -> None:
        """One line: where each label was found, and how often; and warnings of what looks like a label but
        is not read.
        """
        parts = []
        for kind, choice in self.choice.items():
            if choice is None:
                parts.append(f"no {kind}")
                continue
            count = "" if self.found[kind] == self.n_frame else f" in {self.found[kind]} of them"
            others = ", ".join(dict.fromkeys(map(_plain, self.others[kind])))
            also = f" (also there: {others}; see {kind}_key)" if others else ""
            minus = "minus " if kind == "forces" and GRADIENT in choice.lower() else ""
            parts.append(f"{kind} from {minus}{_plain(choice)!r}{count}{also}")
        if self.masked:
            parts.append(f"forces masked by {MASK!r}")
        if self.weights:
            parts.append(f"weights from {', '.join(sorted(self.weights))}")
        if units := self.units or self.stated:
            parts.append(f"in {units}")
        frames = counted(self.n_frame, "frame")
        report(f"{self.path}: {frames}, {', '.join(parts)}")
        if self.n_without_volume:
            self.warn(
                f"{self.path}: left out, of structures without a volume: "
                f"{counted(self.n_without_volume, _plain(self.choice['stress']))}"
            )
        self._warn_of_contradictions()
        if self.n_six:
            self.warn(
                f"{self.path}: the six numbers of {_plain(self.choice['stress'])!r} are taken as xx yy zz yz "
                "xz xy"
            )
        if self.n_uneven:
            self.warn(
                f"{self.path}: {self.n_uneven} tensors under {_plain(self.choice['stress'])!r} are not "
                "symmetric; the means of both triangles are taken: are the nine numbers in the order "
                "xx xy xz yx ...?"
            )
        if self.parts:
            numbers = ", ".join(sorted(self.parts)[:5])
            self.warn(f"{self.path}: split = {numbers}: does not say what is for validation, and is not read")
        for name, values in self.states.items():
            if message := several_states(f"{name!r} of frames", values):
                self.warn(f"{self.path}: {message}")
        for kind, name in zip(("energy", "stress"), OF_ATOMS, strict=True):
            if self.guess[kind] and self.choice[kind] is None and name in self.seen:
                self.suspects.setdefault(name, "of single atoms")
        other = {"energy": self.numbers, "stress": self.tensors}
        for kind, names in other.items():
            if (names := names - set(self.suspects)) and self.guess[kind] and self.choice[kind] is None:
                self.suspects |= dict.fromkeys(sorted(names), "")
        if self.suspects:
            named = ", ".join(
                f"{name!r}" + (f" ({shape})" if shape else "") for name, shape in self.suspects.items()
            )
            self.warn(
                f"{self.path}: not read, but perhaps labels: {named}; choose names with energy_key, "
                f"forces_key, stress_key"
            )

    def _warn_of_contradictions(self):
        for kind, names in self.others.items():
            for name, places in names.items():
                if places:
                    self.warn(
                        f"{self.path}: {kind}: {_plain(name)!r} contradicts {_plain(self.choice[kind])!r}, "
                        f"which is taken, in {counted(len(places), 'frame')} (the first: {places[0]}); "
                        f"choose one with {kind}_key"
                    )

    def check_for_training(self) -> None:
        """Raise DataError if there are no forces while a column stands there that may hold them, and
        nobody said to do without.
        """
        if self.guess["forces"] and self.choice["forces"] is None and self.columns:
            name = sorted(self.columns)[0]
            raise DataError(
                f"{self.path}: no forces were found, but a column {name!r} of three numbers per atom is "
                f"there: "
                f"set data.forces_key = {name!r}, or data.forces_key = {NONE!r} to train without forces"
            )


def _converted(kind, name, value, atoms, units, where):
    """A label in eV and Angstrom: a number, (n, 3), (6,); None if all numbers of a stress are NaN, or
    without a volume. Raises DataError.
    """
    value = _as_floats(value, where, kind, name)
    if value.ndim == 3 and len(value) == 1:  # a batch of one
        value = value[0]
    if kind == "stress":
        stress = _as_stress(value, where, name)
        if stress is None or not atoms.cell.volume:
            return None
        if "virial" in name.lower():
            return stress_of_virial(stress * units.energy, atoms.cell.array * units.length)
        return stress * (units.stress if units.stress_name else METAL.stress)
    shape = () if kind == "energy" else (len(atoms), 3)
    if value.size == 1 and kind == "energy":
        value = value.reshape(())
    if value.shape != shape:
        raise DataError(f"{where}: {kind} {_plain(name)!r} has shape {value.shape}, must be {shape}")
    if not np.isfinite(value).all():
        atom = "" if kind == "energy" else f" of atom {int(np.argmin(np.isfinite(value).all(axis=1)))}"
        raise DataError(
            f"{where}: {kind} {_plain(name)!r}{atom} is not finite; remove the label or the frame, "
            f"or mask forces by {MASK!r}"
        )
    if kind == "energy":
        return value * units.energy
    return value * (-units.force if GRADIENT in name.lower() else units.force)


def several_states(what: str, values: Iterable) -> str:
    """A message if charges or spins of structures differ, by a half at least where they are numbers; "" if
    they do not.
    """
    try:
        rounded = {f"{round(2.0 * read_number(str(value))) / 2:g}" for value in values}
    except ValueError:
        rounded = {str(value) for value in values}
    if len(rounded) < 2:
        return ""
    shown = sorted(rounded)[:5]
    return (
        f"{what} differ ({', '.join(shown)}), which potentials of this kind do not know: structures that "
        "differ in nothing else have one energy for them"
    )


def _plain(name):
    return name.removeprefix(CALCULATOR) if isinstance(name, str) else name


def _as_floats(value, where, kind, name):
    try:
        words = np.asarray(value)
        if words.dtype.kind == "U":  # perhaps with exponents of Fortran
            return np.vectorize(read_number, otypes=[np.float64])(words)
        return words.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {kind} {_plain(name)!r} is not a number: {value!r}") from None


def _as_stress(value, where, name):
    """(6,) of 6 or 3x3 numbers; None if all are NaN. Raises DataError if some are not finite."""
    if value.shape in ((9,), (3, 3)):
        value = to_voigt(value.reshape(3, 3))
    if value.shape != (6,):
        raise DataError(
            f"{where}: stress {_plain(name)!r} has shape {value.shape}, must be (6,), (9,) or (3, 3)"
        )
    if np.isnan(value).all():
        return None
    if not np.isfinite(value).all():
        raise DataError(f"{where}: stress {_plain(name)!r} is not finite; remove the label or the frame")
    return value
