"""The names under which files that ASE reads keep their labels, chosen at the first frame that has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpnnp.data.isolated import KEY, agreed, energies_of
from mpnnp.data.label_values import CALCULATOR, MASK, Frame, as_floats, converted, is_virial, plain
from mpnnp.data.structure import NO_SPLIT, TRAIN, VALIDATION
from mpnnp.data.suspects import Suspects
from mpnnp.data.voigt import is_uneven
from mpnnp.errors import DataError
from mpnnp.units import METAL, Units

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["GUESSES", "NONE", "WEIGHTS", "Labels", "named"]

NONE = "none"  # as a key: no such label is wanted

# label: names looked for in any case, the first found is taken
GUESSES = {
    "energy": """
        ref_energy calculator:energy energy calculator:free_energy free_energy dft_energy energy_ref
        energy_dft potential_energy toten total_energy totenergy tot_energy totalenergy etot e_tot
        """.split(),
    "forces": """
        ref_forces calculator:forces forces force dft_forces dft_force ref_force forces_ref force_ref
        forces_dft force_dft
        """.split(),
    "stress": """
        ref_stress calculator:stress stress dft_stress stress_ref stress_dft ref_virials ref_virial virials
        virial dft_virials dft_virial virials_ref virial_ref virials_dft virial_dft
        """.split(),
}
SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "test": VALIDATION,
}
LEAST = {"energy": 1e-3, "forces": 1e-3, "stress": 1e-5}  # eV, Angstrom; more is a contradiction
NO_WORDS = ("", "none", "nan")  # of a split
# in info; config_weight is a factor of all
WEIGHTS = ("config_energy_weight", "config_forces_weight", "config_stress_weight")
FACTORS = ("config_weight", "weight")


class Labels:
    """Which names hold the labels in one file: chosen at the first frame that has one, then kept.

    path    of the file, for messages
    keys    energy, forces, stress -> name, None (found by itself) or "none" (no such label)
    units   Units of the file; None: those that its frames state, else eV and Angstrom
    warn    called with a line of text
    What is found is told by label_report.tell.
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
        self.choice: dict[str, Any] = dict.fromkeys(keys)  # the names taken, None before they are found
        self.others: dict[str, dict] = {kind: {} for kind in keys}  # name -> where it contradicts
        self.found = dict.fromkeys(keys, 0)
        self.suspects = Suspects()
        self.weights, self.masked = set(), False
        self.told_of_marks = False  # isolated atoms that are several
        self.parts = set()  # what `split` is where it is no word
        self.n_frame = self.n_uneven = self.n_six = 0
        self.n_without_volume = self.n_open = 0  # stresses left out; open: not periodic in all directions
        self.unsaid: Units | None = None  # units that name none of the stresses, where there are some
        self.stated: Units | None = None  # units that frames state
        self.by_format = False  # the format of the file says its units, which ASE has converted
        self.isolated: dict[int, float] = {}  # eV of isolated atoms that are no frames

    def units_of(self, stated: Units | None, where: str) -> Units:
        """Units of a frame: those of ASE where the format says its units, else of the user, of the frame
        itself, or eV and Angstrom. Raises DataError where these contradict, or where only some of the frames
        state theirs.
        """
        if self.by_format:
            return METAL
        if self.units is not None:
            if stated is not None and not _with_stress_of(self.units, stated).agrees(self.units):
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

    def of(self, atoms: Atoms, number: int, units: Units = METAL) -> dict:
        """energy, forces, stress and weight of `atoms`, frame `number`, as keywords of Structure."""
        self.n_frame += 1
        results = atoms.calc.results if atoms.calc is not None else {}
        there = {f"{CALCULATOR}{name}": value for name, value in results.items() if value is not None}
        there |= atoms.info | {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
        words = {name for name, value in there.items() if value is True}  # of a comment, without "=" behind
        there = {name: value for name, value in there.items() if name not in words}
        self.suspects.look_at(there, words, atoms.info)
        frame = Frame(atoms, units, f"{self.path}, frame {number}")
        found = {kind: self._label(kind, there, frame) for kind in self.choice}
        if found["forces"] is not None and MASK in atoms.arrays:
            mask = np.asarray(atoms.arrays[MASK], bool).reshape(-1, 1)
            found["forces"] = np.where(mask, found["forces"], np.nan)
            self.masked = True
        weight = self._weight(atoms.info, frame.where)
        taken = {plain(c) for c in self.choice.values() if c} | self.weights | {MASK}
        taken |= {plain(name) for names in self.others.values() for name in names}
        self.suspects.look_for_more(there, taken, len(atoms))
        return found | {"weight": weight}

    def _weight(self, info, where):
        """(3,) weights of the labels of a frame."""
        lower = {name.lower(): name for name in reversed(info) if isinstance(name, str)}
        named = {name: lower[name] for name in (*FACTORS, *WEIGHTS) if name in lower}
        if "config_weight" in named:
            named.pop("weight", None)
        self.weights.update(named.values())
        weight: dict[str, Any] = {
            name: as_floats(info[key], where, "weight", key) for name, key in named.items()
        }
        for name, key in named.items():
            if weight[name].size != 1:
                raise DataError(f"{where}: {key} = {info[key]!r} is not one number")
        factor = np.prod([float(weight.get(name, 1.0).item() if name in weight else 1.0) for name in FACTORS])
        return factor * np.array([weight[name].item() if name in weight else 1.0 for name in WEIGHTS])

    def _label(self, kind, there, frame):
        """The label in eV and Angstrom; None (energy: NaN) without one. Raises DataError."""
        present = self._present(kind, there)
        if self.choice[kind] is None and present:
            self.choice[kind] = present[0]
        choice = self.choice[kind]
        if choice not in present:
            if present:
                raise DataError(
                    f"{frame.where}: {kind} is called {named(present[0], choice)} here but "
                    f"{named(choice, present[0])} in earlier frames; "
                    f"choose one with {kind}_key, or read them as two files"
                )
            return np.nan if kind == "energy" else None
        label = converted(kind, choice, there[choice], frame)
        self.found[kind] += 1
        if kind == "stress":
            self._count_stress(choice, there[choice], label, frame)
        for name in present:
            if name != choice:
                self._compare(kind, label, name, there[name], frame)
        return label

    def _count_stress(self, name, value, label, frame):
        """Count what is doubtful in a stress, or left out."""
        atoms, units, where = frame
        self.n_uneven += np.size(value) == 9 and is_uneven(as_floats(value, where, "", ""))
        self.n_six += np.size(value) == 6 and not str(name).startswith(CALCULATOR)
        if label is None:
            self.n_without_volume += not atoms.cell.volume
            self.n_open += bool(atoms.cell.volume) and not atoms.pbc.all()
        elif not (is_virial(name) or units.stress_name or abs(units.stress - METAL.stress) < 1e-12):
            self.unsaid = units

    def _present(self, kind, there):
        """The names of a label that are there, in their order."""
        if not self.guess[kind]:
            return [name for name in self.names[kind] if name in there]
        lower = {name.lower(): name for name in reversed(there) if isinstance(name, str)}
        exact = [name for name in there if isinstance(name, str) and name == name.lower()]
        lower |= dict(zip(exact, exact))
        return [lower[name] for name in self.names[kind] if name in lower]

    def _compare(self, kind, label, name, value, frame):
        """Remember another place of a label, and where it holds another value. Raises DataError if it stands
        before the one that was found in earlier frames.
        """
        choice, places = self.choice[kind], self.others[kind].setdefault(name, [])
        try:
            other = converted(kind, name, value, frame)
        except DataError:
            return
        if other is None or label is None or "free" in name.lower():  # smearing makes them differ
            return
        least = LEAST[kind] + (0.0 if kind == "energy" else 0.01 * np.abs(label).max())
        if np.abs(np.subtract(other, label)).max() <= least:
            return
        places.append(frame.where)
        order = [guess.lower() for guess in self.names[kind]]
        if order.index(name.lower()) < order.index(choice.lower()):
            raise DataError(
                f"{frame.where}: {kind} is called {named(name, choice)} here, and {named(choice, name)}, the "
                f"name in earlier frames, has another value: choose one with {kind}_key"
            )

    def check_for_training(self) -> None:
        """Raise DataError if there are no forces while a column stands there that may hold them, and
        nobody said to do without.
        """
        if self.guess["forces"] and self.choice["forces"] is None and self.suspects.columns:
            name = sorted(self.suspects.columns)[0]
            raise DataError(
                f"{self.path}: no forces were found, but a column {name!r} of three numbers per atom is "
                f"there: "
                f"set data.forces_key = {name!r}, or data.forces_key = {NONE!r} to train without forces"
            )


def named(name: str, beside: str) -> str:
    """The name of a label in words that tell it from another one."""
    if name == beside or plain(name) != plain(beside):
        return repr(plain(name))
    return f"{plain(name)!r} of {'the calculator' if name.startswith(CALCULATOR) else 'the frame itself'}"


def _with_stress_of(units, stated):
    """`stated`, with the unit of stresses of `units` if it names none."""
    return replace(stated, stress_name=stated.stress_name or units.stress_name)
