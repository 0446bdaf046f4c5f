"""Units of an input.nn and of the input.data that belongs to it: those of one are those of both."""

from collections.abc import Iterable
from pathlib import Path

from mpnnp.data.runner import stated_units
from mpnnp.errors import DataError
from mpnnp.n2p2.input_file import InputFile
from mpnnp.units import Units

ASSUMED = "units: Hartree and Bohr are assumed, as nothing says others"


def units_of_files(
    source: InputFile, data: Iterable[Path], asked: Units | None, by: str
) -> tuple[Units | None, str]:
    """(Units, where they are said) of an input.nn and of files like input.data; (None, "") if nothing says
    them. Raises DataError where they contradict.

    asked, by  units that the user asked for, and by which option
    """
    found = {by: asked, f"a comment of {source.path.name}": source.units}
    found |= {f"a comment of {Path(file).name}": stated_units(file) for file in data}
    said = {where: units for where, units in found.items() if units is not None}
    if len(set(said.values())) > 1:
        raise DataError(
            f"{source.path}: contradicting units: "
            f"{', '.join(f'{units} ({where})' for where, units in said.items())}"
        )
    return next(((units, where) for where, units in said.items()), (None, ""))
