"""What the comment of an xyz frame says: names of columns, cell, periodicity and units, in the words of
extended XYZ and i-PI; what would be overlooked in other words is an error.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from ase.geometry import cellpar_to_cell

from mpnnp.data.voigt import is_uneven
from mpnnp.errors import DataError
from mpnnp.files import all_digits, read_number
from mpnnp.units import ENERGY_UNIT, METAL, Units, parse_units

__all__ = ["columns_of", "has_uneven_stress", "read_comment", "six_as_nine", "what_is_missing"]

KEYS = re.compile(r"(?<![\w:])(lattice|properties|pbc)(?=\s*=)", re.IGNORECASE)
SPELLED = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
IPI = re.compile(r"CELL\s*[\(\[\{](\w+)[\)\]\}]\s*:?\s*(.*)", re.IGNORECASE)
CELLS_OF_IPI = {"abcabc": 6, "h": 9, "genh": 9}  # how many numbers
BRACES = re.compile(r"(\w+)\{(\w+)\}")
LENGTHS = ("length", "position", "pos", "coord", "coordinate", "distance", "cell", "lattice")  # of units
UNIT_KEYS = re.compile(
    rf"(?<![\w-])(energ(?:y|ies)|(?:{'|'.join(LENGTHS)}|force)s?|stress|virial)[_-]units?\s*=\s*[\"']?([\w/.^*]+)",
    re.IGNORECASE,
)
# comments of CP2K, whose energies are in Hartree, and of LAMMPS
CP2K = re.compile(r"\bi *= *\d+,.*\bE *= |\bStep=\d+ +Time=\S+ +Energy=")
LAMMPS = re.compile(r"^Timestep=\d+\s.*\bLattice=")
ATOMIC_UNITS = re.compile(r"\b(bohrs?|atomic units?|a\.u\.)(?!\w)", re.IGNORECASE)
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?"
# SCF energy = -1.16 Eh
ENERGY_WITH_UNIT = re.compile(
    rf"(?<![\w-])(?:\w*energy\w*|e|e_?tot|toten)\s*=\s*{NUMBER}\s+({ENERGY_UNIT})(?![\w/])", re.IGNORECASE
)
# ASE ends at six numbers under these names
NINE_OF_STRESS = re.compile(
    rf"(?<![\w:])stress\s*=\s*['\"]\s*({NUMBER}(?:\s+{NUMBER}){{8}})\s*['\"]", re.IGNORECASE
)
SIX = re.compile(
    r"(?<![\w:])(stress|virial)\s*=\s*(['\"])\s*((?:[^\s'\"]+\s+){5}[^\s'\"]+)\s*\2", re.IGNORECASE
)
# lattices under these names are not read, and must not be overlooked
OTHER_CELLS = re.compile(
    r"(?<!\w)(cell|box|unit_?cell|cell_?vectors?|abc|celldm)\s*="
    rf"|(?<!\w)(cell|box)_?(length|len|l|size|side)s?\s*[:=]?\s*{NUMBER}"
    r"|(?<!\w)((unit|super|sim|simulation)?_?(cell|box)\w*|lattice_?\w+|h_?mat(rix)?|h(?=\s*=)|h0|[tv]v|vec_?1|cryst1)"
    rf"[\"']?\s*[:=]?[\s\[({{\"']*{NUMBER}[\s,]+{NUMBER}[\s,]+{NUMBER}",
    re.IGNORECASE,
)
EDGES = re.compile(
    rf"(?<!\w)(?:a|l_?x|box_?x)\s*=\s*{NUMBER}.*(?<!\w)(?:b|l_?y|box_?y)\s*=\s*{NUMBER}"
    rf".*(?<!\w)(?:c|l_?z|box_?z)\s*=\s*{NUMBER}.*",
    re.IGNORECASE,
)
NINE = re.compile(rf"(?<!\S){NUMBER}(?:[\s,]+{NUMBER}){{8}}(?!\S)")
# a matrix as [[xx, xy, xz], ...], which ASE does not take for labels
NESTED = re.compile(
    r"(?<![\w:])(\w+)\s*=\s*([\"']?)(?:_JSON\s+)?(\[\s*(?:\[[^\[\]]*\]\s*,?\s*){3}\])\2", re.IGNORECASE
)
# ... and as a list of numbers with brackets or commas
LISTED = re.compile(
    r"(?<![\w:])(\w*(?:stress|virial)\w*)\s*=\s*([\"']?)\s*([\[(][^\[\]()\"']*[\])]|[^\[\]()\"'=]*,[^\[\]()\"'=]*)\s*\2"
    r"(?=\s|$)",
    re.IGNORECASE,
)
QUOTED = re.compile(r"=\s*(['\"]).*?\1")
PLAIN_UNITS = re.compile(r"(?<![\w-])units?\s*=\s*(?:([\"'])(.*?)\1|(\S+))", re.IGNORECASE)
VALUE = r"\s*=\s*(\"[^\"]*\"|'[^']*'|\{[^}]*\}|\[\[.*?\]\]|\[[^\]]*\]|[^\s]+)"
PAIR = re.compile(rf"([^\s=\"']+){VALUE}")
LATTICE = re.compile(rf"(?<![\w:])Lattice{VALUE}")
PROPERTIES = re.compile(rf"(?<![\w:])Properties{VALUE}")
PRESSURE = re.compile(rf"\bStress{VALUE}")
PBC = re.compile(rf"(?<![\w:])pbc{VALUE}")
OTHER_PBC = re.compile(rf"(?<![\w:])(periodic\w*|boundary\w*|pbcs|pbc_?(?:flags|xyz)){VALUE}", re.IGNORECASE)
ONCE = re.compile(
    r"lattice|properties|pbc|split|config_type|.*(energ|forc|virial|stress|weight).*", re.IGNORECASE
)
FLAGS = {"t": True, "true": True, "1": True, ".true.": True, "p": True} | {
    "f": False, "false": False, "0": False, ".false.": False, "n": False
}  # fmt: skip
DEFAULT = "species:S:1:pos:R:3"
# columns by other names, in lower case; the first is the one that is read
SPECIES = ("species", "symbols", "element", "elements", "symbol", "atom", "atoms", "el")
NUMBERS = ("Z", "z", "numbers", "atomic_number", "atomic_numbers")
POSITIONS = ("pos", "positions", "position", "coord", "coords", "coordinates", "coordinate", "xyz")
# what stands before x, y, z in the names of three columns
PARTS = {"pos": ("", "pos", "pos_", "position_", "coord_", "r", "r_")} | {
    "forces": ("f", "f_", "force", "force_", "forces", "forces_")
}
BARE_CELL = re.compile(rf"\s*{NUMBER}(?:\s+{NUMBER}){{2}}(?:(?:\s+{NUMBER}){{3}}|(?:\s+{NUMBER}){{6}})?\s*")


def read_comment(text: str, where: str, asked: Units | None = None) -> tuple[str, Units | None]:
    """(the comment as ASE reads it, Units that it states or None). Raises DataError for what would be
    overlooked: cells and periodicity in other words, labels that are said twice, columns without elements or
    positions.

    asked  units that the user says: of what a comment that states some of its units leaves open
    """
    text = KEYS.sub(lambda found: SPELLED[found[1].lower()], text)
    text = LISTED.sub(_flattened, NESTED.sub(_flattened, text))
    units = _units(text, where, asked)
    if (found := IPI.search(text)) and "=" not in text[: found.start()]:
        return _of_ipi(text, found, where, asked)
    if LAMMPS.match(text):
        text = PRESSURE.sub("", text)
    _check_once(text, where)
    if "Lattice" not in text:
        other = OTHER_CELLS.search(text) or EDGES.search(text) or NINE.search(QUOTED.sub("=", text))
        if other or BARE_CELL.fullmatch(text):
            raise DataError(
                f'{where}: its cell is not told by Lattice="ax ay az bx by bz cx cy cz" but by '
                f"'{text[other.start() if other else 0 :][:50]}', which is not read; rewrite the comment"
            )
    text = LATTICE.sub(lambda found: _lattice(found, where), text)
    return _columns(_periodicity(text, where), where), units


def columns_of(comment: str) -> list[tuple[str, str, int]]:
    """(name, type, count) of the columns that a comment, as `read_comment` gives it, names."""
    found = PROPERTIES.search(comment)
    words = (_bare(found[1]) if found else DEFAULT).split(":")
    return [(name, kind, int(n)) for name, kind, n in zip(words[::3], words[1::3], words[2::3], strict=True)]


def what_is_missing(text: str, units: Units | None) -> str:
    """In words, what a comment as it stands in the file leaves open, of which `units` were read; "" if
    nothing.
    """
    if LAMMPS.match(text):
        return (
            "a dump of LAMMPS, which does not say its units: eV and Angstrom are taken if nothing else is "
            "asked for; its Stress is the pressure of LAMMPS, with that of the motion, and is not read"
        )
    if CP2K.search(text) and "Lattice" not in text:
        return (
            "a trajectory of CP2K: its cell and its forces are in files beside it, which are read if it has "
            "its name, PROJECT-pos-1.xyz"
        )
    if units is None and (found := ATOMIC_UNITS.search(text)):
        return (
            f"its comment says {found[0]!r}, but not as units that are read: lengths are taken for Angstrom "
            "if nothing else is asked for"
        )
    return ""


def _flattened(found):
    """The nine or six numbers of a tensor between quotes."""
    words = re.sub(r"[\[\](),]", " ", found[3]).split()
    return f'{found[1]}="{" ".join(words)}"' if len(words) in (6, 9) else found[0]


def _bare(value):
    return value.strip("\"'{}")


def _check_once(text, where):
    """Raise DataError where one key has two values, of which the last would count."""
    seen: dict[str, str] = {}
    for found in PAIR.finditer(text):
        name, value = found[1], " ".join(_bare(found[2]).split())
        if ONCE.fullmatch(name) and not _same(seen.setdefault(name, value), value):
            raise DataError(f"{where}: {name} is said twice: {seen[name][:30]!r} and {value[:30]!r}")


def _same(one, other):
    try:
        return one == other or read_number(one) == read_number(other)
    except ValueError:
        return False


def _lattice(found, where):
    """The nine numbers between quotes."""
    words = re.sub(r"[\[\](),{}\"']", " ", found[1]).split()
    try:
        if len(words) != 9:
            raise ValueError
        numbers = [f"{read_number(word):.17g}" for word in words]
    except ValueError:
        raise DataError(
            f'{where}: {found[0][:60]}: must be nine numbers, Lattice="ax ay az bx by bz cx cy cz"'
        ) from None
    return f'Lattice="{" ".join(numbers)}"'


def _periodicity(text, where):
    """The comment with pbc="T T F". Raises DataError for other words, and where other keys say what pbc
    does not.
    """
    if found := PBC.search(text):
        flags = _flags(found[1])
        if flags is None:
            raise DataError(f'{where}: {found[0][:40]}: must be T or F for each vector, as in pbc="T T F"')
        shown = " ".join("FT"[flag] for flag in flags)
        return f'{text[: found.start()]}pbc="{shown}"{text[found.end() :]}'
    if (found := OTHER_PBC.search(text)) and _flags(found[2]) != ["Lattice" in text] * 3:
        raise DataError(
            f'{where}: its periodicity is not told by pbc="T T F" but by {found[0][:40]!r}, which is not '
            "read; rewrite the comment"
        )
    return text


def _flags(value):
    words = re.sub(r"[\[\](),{}\"']", " ", value).lower().split()
    if len(words) == 1 and len(words[0]) == 3:  # TTF
        words = list(words[0])
    flags = [FLAGS.get(word) for word in words]
    if len(flags) == 1:
        flags = flags * 3
    return None if len(flags) != 3 or None in flags else flags


def _columns(text, where):
    """The comment with the names of columns that ASE knows. Raises DataError where Properties is no list of
    columns, or elements or positions are not among them.
    """
    found = PROPERTIES.search(text)
    if not found:
        return text
    words = _bare(found[1]).split(":")
    known = all(kind in tuple("SIRL") for kind in words[1::3]) and all(map(_count, words[2::3]))
    if len(words) % 3 or not known:
        raise DataError(
            f"{where}: Properties={_bare(found[1])[:60]}: must be name:type:count of each column, with a "
            f"type S, I, R or L, as in {DEFAULT}"
        )
    columns = _joined(list(zip(words[::3], words[1::3], words[2::3], strict=True)))
    names = [name for name, _, _ in columns]
    for these, kind in ((SPECIES, "S"), (NUMBERS, "I"), (POSITIONS, "R")):
        at = next((k for k, c in enumerate(columns) if c[0].lower() in these and c[1] == kind), None)
        if at is not None and not any(name in these[:2] for name in names):
            columns[at] = (these[0], *columns[at][1:])
            names[at] = these[0]
    of_elements = [c for c in columns if c[0] in (*SPECIES[:2], "Z", "numbers")]
    if not of_elements or of_elements[0][1:] not in (("S", "1"), ("I", "1")):
        raise DataError(f"{where}: no column says the elements (species:S:1), found are {':'.join(words)}")
    if of_elements[0][0] in SPECIES[:2] and of_elements[0][1] == "I":
        raise DataError(
            f"{where}: {of_elements[0][0]}:I:1: the elements are numbers; if these are atomic numbers, call "
            "the column Z"
        )
    if not any(c[0] in POSITIONS[:2] and c[2] == "3" for c in columns):
        raise DataError(f"{where}: no column says the positions (pos:R:3), found are {':'.join(words)}")
    columns_in_words = ":".join(":".join(c) for c in columns)
    return f"{text[: found.start()]}Properties={columns_in_words}{text[found.end() :]}"


def _count(word):
    return word.isascii() and word.isdecimal() and int(word) > 0


def _joined(columns: list) -> list:
    """Columns of which three that follow each other, as x, y, z or fx, fy, fz, are made one."""
    joined: list = []
    k = 0
    while k < len(columns):
        three = columns[k : k + 3]
        names = [name.lower() for name, _, _ in three]
        stem = names[0][:-1]
        part = next((name for name, stems in PARTS.items() if stem in stems), None)
        if part and names == [stem + axis for axis in "xyz"] and {c[1:] for c in three} == {("R", "1")}:
            joined.append((part, "R", "3"))
            k += 3
        else:
            joined.append(columns[k])
            k += 1
    return joined


def has_uneven_stress(comment: str) -> bool:
    """Whether `stress` has nine numbers that are no symmetric tensor: ASE gives one triangle of it only."""
    found = NINE_OF_STRESS.search(comment)
    return found is not None and is_uneven([read_number(word) for word in found[1].split()])


def six_as_nine(comment: str) -> tuple[str, int]:
    """(the comment with labels of six numbers as the nine of a matrix, how many there were)."""
    return SIX.subn(_nine, comment)


def _nine(found):
    """A label of six numbers as the nine of a matrix."""
    xx, yy, zz, yz, xz, xy = found[3].split()
    return f'{found[1]}="{xx} {xy} {xz} {xy} {yy} {yz} {xz} {yz} {zz}"'


def _units(text, where, asked):
    """Units of keys like energy_units=hartree, others as asked for; None if there are none."""
    named = {}
    for key, name in UNIT_KEYS.findall(text):
        key = key.lower().replace("energies", "energy")
        named[key if key in (*LENGTHS, "stress") else key.removesuffix("s")] = name
    if plain := PLAIN_UNITS.search(text):
        return _plain_units(plain[2] or plain[3], where)
    if "energy" not in named and CP2K.search(text):
        named["energy"] = "Hartree"
    elif "energy" not in named and (behind := ENERGY_WITH_UNIT.search(text)):
        named["energy"] = behind[1]
    if not named:
        return None
    rest = asked or METAL
    energy = named.get("energy") or rest.energy_name
    lengths = {name: unit for name, unit in named.items() if name in LENGTHS}
    length = next(iter(lengths.values()), rest.length_name)
    force, stress = named.get("force", rest.force_name), named.get("stress", rest.stress_name)
    if "virial" in named and named["virial"].lower() != energy.lower():
        raise DataError(f"{where}: virial_units = {named['virial']} beside energies in {energy}: not read")
    try:
        units = parse_units(" ".join((energy, length, force, stress)))
        for name, unit in lengths.items():
            if parse_units(f"eV {unit}").length != units.length:
                raise DataError(f"{where}: {name}_units = {unit} beside lengths in {length}: not read")
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: {error}") from None
    metal = units.energy == units.length == 1.0
    if re.search(r":forces?[:\w]*:R:3", text, re.IGNORECASE) and not (force or metal or asked):
        raise DataError(
            f"{where}: energies are in {units.energy_name}, lengths in {units.length_name}, but nothing says "
            f"in what the forces are; "
            f"say all units, e.g. --units '{units.energy_name} {units.length_name} eV/Angstrom'"
        )
    return units


def _plain_units(words, where):
    """Units of units="eV Angstrom". Raises DataError for words that are none."""
    if words.lower() in ("metal", "ase"):
        return METAL
    try:
        return parse_units(words)
    except ValueError as error:
        raise DataError(f"{where}: units={words!r}: {error}") from None


def _of_ipi(text, found, where, asked):
    """Comment and Units of a frame of i-PI: '# CELL(abcABC): a b c alpha beta gamma ...
    positions{angstrom} cell{angstrom}', or CELL(H), CELL(GENH) with the matrix of the vectors as columns.
    What it does not say is as asked for.
    """
    named = {key.lower(): name for key, name in BRACES.findall(text)}
    kind, words = found[1], re.findall(rf"(?<!\S){NUMBER}(?!\S)", found[2])
    count = CELLS_OF_IPI.get(kind.lower())
    if count is None or len(words) < count:
        raise DataError(
            f"{where}: CELL({kind}) of i-PI with {len(words)} numbers is not read, only CELL(abcABC) with 6, "
            "CELL(H) and CELL(GENH) with 9"
        )
    numbers = np.array([read_number(word) for word in words[:count]])
    quantity = re.search(r"Traj: *(\w+)", text)
    if quantity and not quantity[1].lower().startswith("position"):
        raise DataError(f"{where}: holds {quantity[1]}, not positions")
    names = [named.get(key, asked and asked.length_name) for key in ("positions", "cell")]
    if None in names:
        raise DataError(
            f"{where}: does not say the units of positions and cell as i-PI does: positions{{angstrom}} "
            "cell{angstrom}; say them: data.units (--units), e.g. 'eV Angstrom'"
        )
    try:
        positions, cell = (parse_units(f"eV {name}") for name in names)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    if count == 9:  # the vectors are columns
        vectors = numbers.reshape(3, 3).T
    elif (vectors := _vectors_of(numbers)) is None:
        raise DataError(f"{where}: {' '.join(words[:6])} are no lengths and angles of a cell")
    lattice = all_digits((vectors * cell.length / positions.length).ravel())
    stated = replace(asked or METAL, length_name=positions.length_name)
    return f'Lattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"', stated


def _vectors_of(numbers):
    """The vectors of a cell with these lengths and angles (degrees), None if there is none."""
    a, b, c = np.cos(np.deg2rad(numbers[3:]))
    squared_volume = 1.0 - a * a - b * b - c * c + 2.0 * a * b * c  # of edges of length 1
    possible = (numbers > 0.0).all() and numbers[3:].max() < 180.0 and squared_volume > 1e-9
    return cellpar_to_cell(numbers) if possible else None
