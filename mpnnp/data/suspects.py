"""What looks like a label in files that ASE reads and is not read as one, and what potentials cannot tell
apart: charges, spins, levels of theory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from mpnnp.data.label_values import MASK, plain
from mpnnp.files import read_number

__all__ = ["Suspects", "several_states"]

# what looks like a label, and numbers and arrays that are none
LOOKS = re.compile(r"energ|forc|virial|stress|weight|etot|gradient", re.IGNORECASE)
NO_ENERGY = re.compile(r"time|temp|press|dens|vol|charge|spin|mag|cut|angle", re.IGNORECASE)
AN_ENERGY = re.compile(r"[eu](_\w+)?", re.IGNORECASE)  # also where the number has no point
NO_STRESS = re.compile(r"polar|quadru|hess|cell|lattice|box", re.IGNORECASE)
NO_FORCES = re.compile(
    r"mom|vel|magmom|dipole|dir|disp|pos|eigen|mask|frac|scaled|charge|image", re.IGNORECASE
)
# of electrons, or the head of MACE: another level of theory
STATES = re.compile(r"(total_|tot_|net_)?charge|spin|(spin_)?multiplicity|head", re.IGNORECASE)
OF_ATOMS = {"energy": "energies", "stress": "stresses"}  # of single atoms, by calculators of ASE: no labels


class Suspects:
    """What was seen in the frames of one file.

    seen     all names that could be labels
    named    name: its shape, of what looks like a label and is not read
    columns  those of them that could be forces
    numbers, tensors   names of single numbers, and of six or nine, whatever they are called
    states   name: its values, of charges and spins of whole frames
    """

    def __init__(self):
        self.seen: set[str] = set()
        self.named: dict[str, str] = {}
        self.columns: set[str] = set()
        self.numbers: set[str] = set()
        self.tensors: set[str] = set()
        self.states: dict[str, set[str]] = {}

    def look_at(self, names: Iterable, words: Iterable, info: Mapping) -> None:
        """Remember what a frame holds.

        words  of its comment, without "=" behind;  info: of its ase.Atoms
        """
        told = sorted(str(plain(word)) for word in words)
        self.named |= {
            word: 'without "="' for word in told if LOOKS.search(word) or AN_ENERGY.fullmatch(word)
        }
        self.seen.update(plain(name) for name in names)
        for name, value in info.items():
            if isinstance(name, str) and STATES.fullmatch(name) and np.ndim(value) == 0:
                self.states.setdefault(name, set()).add(str(value))

    def look_for_more(self, there: Mapping, taken: set, n_atom: int) -> None:
        """Remember what of a frame looks like a label but is none of those taken."""
        for name, value in there.items():
            word = plain(name)
            if word in taken or not isinstance(word, str) or word in self.named:
                continue
            array = np.asarray(value) if not isinstance(value, str) else np.zeros(0, "U1")
            if "mask" in word.lower() and "forc" in word.lower() and array.shape == (n_atom,):
                self.named[word] = f"a mask is called {MASK!r}"
            of_atoms = word in OF_ATOMS.values() and array.shape[:1] == (n_atom,)
            if array.dtype.kind in "fiu" and not of_atoms:
                self._look_at_numbers(word, array, n_atom)

    def _look_at_numbers(self, word, array, n_atom):
        real = array.dtype.kind == "f" or AN_ENERGY.fullmatch(word)
        if array.size == 1 and real and not NO_ENERGY.search(word):
            self.numbers.add(word)
        if array.size in (6, 9) and len(array) != n_atom and not NO_STRESS.search(word):
            self.tensors.add(word)
        vectors = array.shape == (n_atom, 3) and array.dtype.kind == "f" and not NO_FORCES.search(word)
        if vectors or LOOKS.search(word):
            self.named[word] = "x".join(map(str, array.shape))
        if vectors:
            self.columns.add(word)

    def of_missing(self, kinds: Iterable[str]) -> dict[str, str]:
        """name: its shape, of all that may be labels in a file in which none of these kinds was found."""
        found = dict(self.named)
        for kind in kinds:
            if OF_ATOMS.get(kind) in self.seen:
                found.setdefault(OF_ATOMS[kind], "of single atoms")
        for kind, names in (("energy", self.numbers), ("stress", self.tensors)):
            if kind in kinds:
                found |= dict.fromkeys(sorted(names - set(found)), "")
        return found


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
