"""Unit conversions of foreign files; inside mpnnp everything is eV and Angstrom."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ase.units import Bohr as BOHR  # Angstrom
from ase.units import GPa as GPA  # eV/Angstrom^3
from ase.units import Hartree as HARTREE  # eV
from ase.units import bar as BAR  # eV/Angstrom^3
from ase.units import kcal, kJ, mol

DENSITY = 1.66053906660  # g/cm^3 of one unified mass unit per Angstrom^3

__all__ = [
    "ATOMIC",
    "BAR",
    "BOHR",
    "DENSITY",
    "ENERGY_UNIT",
    "GPA",
    "HARTREE",
    "METAL",
    "Units",
    "parse_units",
    "other_unit_in",
    "parts_of_line",
    "units_of_line",
    "units_of_parts",
]

ENERGIES = {  # eV
    "eV": 1.0,
    "meV": 1e-3,
    "Hartree": HARTREE,
    "Rydberg": HARTREE / 2,
    "kcal/mol": kcal / mol,
    "kJ/mol": kJ / mol,
}
LENGTHS = {"Angstrom": 1.0, "Bohr": BOHR, "nm": 10.0}  # Angstrom
PRESSURES = {"GPa": GPA, "kbar": 1000 * BAR, "bar": BAR}  # eV/Angstrom^3
OTHER_NAMES = {
    "electronvolt": "eV",
    "millielectronvolt": "meV",
    "ha": "Hartree",
    "hartrees": "Hartree",
    "eh": "Hartree",
    "a.u.": "Hartree",
    "ry": "Rydberg",
    "ryd": "Rydberg",
    "rydbergs": "Rydberg",
    "kcal": "kcal/mol",
    "kj": "kJ/mol",
    "a": "Angstrom",
    "ang": "Angstrom",
    "aa": "Angstrom",
    "angstroms": "Angstrom",
    "å": "Angstrom",
    "ångström": "Angstrom",
    "atomic_unit": "Bohr",
    "bohrs": "Bohr",
    "a0": "Bohr",
    "nanometer": "nm",
}
# a unit of energy behind a number
ENERGY_UNIT = "|".join(
    re.escape(name)
    for name in sorted((*ENERGIES, *(n for n, of in OTHER_NAMES.items() if of in ENERGIES)), key=len)[::-1]
)
CUBED = re.compile(r"(.+/.+?)(?:\^|\*\*)?3")  # eV/Angstrom^3


@dataclass(frozen=True)
class Units:
    """Units of a source by their names; forces are energy / length, stresses energy / length^3
    unless they are named.
    """

    energy_name: str
    length_name: str
    force_name: str = ""  # ENERGY/LENGTH
    stress_name: str = ""  # GPa, kbar, bar, ENERGY/LENGTH^3

    @property
    def energy(self) -> float:
        """eV per unit."""
        return ENERGIES[self.energy_name]

    @property
    def length(self) -> float:
        """Angstrom per unit."""
        return LENGTHS[self.length_name]

    @property
    def force(self) -> float:
        """eV/Angstrom per unit."""
        energy, _, length = self.force_name.rpartition("/")
        return ENERGIES[energy] / LENGTHS[length] if self.force_name else self.energy / self.length

    @property
    def stress(self) -> float:
        """eV/Angstrom^3 per unit."""
        if not self.stress_name:
            return self.energy / self.length**3
        energy, _, length = self.stress_name.removesuffix("^3").rpartition("/")
        return ENERGIES[energy] / LENGTHS[length] ** 3 if energy else PRESSURES[self.stress_name]

    def agrees(self, other: "Units") -> bool:
        """Whether numbers in both mean the same."""
        mine, theirs = ((u.energy, u.length, u.force, u.stress) for u in (self, other))
        return all(abs(a / b - 1.0) < 1e-12 for a, b in zip(mine, theirs, strict=True))

    def __str__(self):
        return " ".join(filter(None, (self.energy_name, self.length_name, self.force_name, self.stress_name)))


ATOMIC = Units("Hartree", "Bohr")  # of RuNNer's and n2p2's files, if nothing else is said
METAL = Units("eV", "Angstrom")


def parse_units(text: str) -> Units:
    """Units of words like "eV Angstrom", "kcal/mol Angstrom", "Hartree Angstrom Hartree/Bohr GPa",
    "Hartree Bohr Hartree/Bohr^3" in any order. Raises ValueError.
    """
    allowed = f"one of {', '.join(ENERGIES)} and one of {', '.join(LENGTHS)}, e.g. 'eV Angstrom'"
    found = dict.fromkeys(("energy", "length", "force", "stress"), "")
    for word in str(text).replace(",", " ").split():
        kind, name = _named(word)
        if kind is None:
            raise ValueError(
                f"'{word}' is no unit known here: must be {allowed}; then perhaps a force (eV/Angstrom, "
                f"Hartree/Bohr, ...) and a stress ({', '.join(PRESSURES)}, eV/Angstrom^3, ...)"
            )
        if found[kind]:
            raise ValueError(f"'{text}': has two units of {kind}, {found[kind]} and {name}")
        found[kind] = name
    if not (found["energy"] and found["length"]):
        raise ValueError(f"'{text}': must be {allowed}")
    units = Units(*found.values())
    if units.force_name and abs(units.force / (units.energy / units.length) - 1.0) < 1e-12:
        return Units(units.energy_name, units.length_name, "", units.stress_name)
    return units


# a comment line of input.data or input.nn that states units
LINE = re.compile(r"\s*(?:#|!|comment\b)[\s#!]*units?\b\s*([:=]*)([^#!]*)", re.IGNORECASE)
# such lines that state them one by one: "# energy unit: eV", "comment length_units=Angstrom energy_units=eV"
COMMENT = re.compile(r"\s*(?:#|!|comment\b)", re.IGNORECASE)
EACH = re.compile(
    r"(?<!\w)(energy|length|force|stress)s?[_ -]units?\s*[:=]\s*[\"']?([\w/.^*]+)", re.IGNORECASE
)

# names of units within a text
WITHIN = re.compile(
    r"(?<![\w/.:-])(m?eV|Angstroms?|Ångström|Å|Hartrees?|Bohrs?|Ryd?|Rydbergs?|kcal/mol|kJ/mol)(?![\w.:-])",
    re.IGNORECASE,
)


def units_of_line(line: str) -> Units | None:
    """Units of a comment line "# units: eV Angstrom"; None if it is none, as a text without ":" in which no
    word is a unit. Raises ValueError.
    """
    found = LINE.match(line)
    if not found:
        return None
    words = found[2].replace(",", " ").split()
    free_text = not found[1] and len(words) != 1 and not any(len(w) > 1 and _named(w)[0] for w in words)
    return None if free_text else parse_units(found[2].strip())


def units_of_parts(parts: Mapping[str, str]) -> Units | None:
    """Units of `parts_of_line` of several lines; None if energy or length is missing. Raises ValueError."""
    return parse_units(" ".join(parts.values())) if {"energy", "length"} <= parts.keys() else None


def parts_of_line(line: str) -> dict[str, str]:
    """{"energy": "eV", ...} of a comment line that states units one by one; {} for other lines."""
    if "unit" not in line.lower() or not COMMENT.match(line):
        return {}
    return {kind.lower(): name for kind, name in EACH.findall(line)}


def other_unit_in(line: str, units: Units) -> str:
    """The first word of a comment line that names another unit of energy or length than `units`; "" if there
    is none.
    """
    words = WITHIN.findall(line) if COMMENT.match(line) else []
    return next((w for w in words if _named(w)[1] not in (units.energy_name, units.length_name)), "")


def _named(word):
    """(energy, length, force or stress; the name) of a word in any case, or (None, "")."""
    tables = {"energy": ENERGIES, "length": LENGTHS, "stress": PRESSURES}
    for kind, table in tables.items():
        known = {name.lower(): name for name in table}
        name = known.get(word.lower()) or OTHER_NAMES.get(word.lower())
        if name in table:
            return kind, name
    if cubed := CUBED.fullmatch(word):
        kind, name = _named(cubed[1])
        return ("stress", f"{name}^3") if kind == "force" else (None, "")
    energy, slash, length = word.rpartition("/")
    if slash and (a := _named(energy))[0] == "energy" and (b := _named(length))[0] == "length":
        return "force", f"{a[1]}/{b[1]}"
    return None, ""
