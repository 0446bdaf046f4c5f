"""What a set of symmetry functions looks like over a data set:
scaling.data and histograms, before any training.
"""

import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from mpnnp.analysis.descriptors import BINS
from mpnnp.config import read_config
from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import FORMATS, format_of, read_sources
from mpnnp.data.paths import files_of
from mpnnp.data.store import read_configured
from mpnnp.errors import ConfigError, DataError
from mpnnp.figures import figure, save, style
from mpnnp.files import write_table, write_text
from mpnnp.model.symmetry_functions import SymmetryFunctions
from mpnnp.n2p2.export import keep_foreign, scaling_text
from mpnnp.n2p2.file_units import ASSUMED, units_of_files
from mpnnp.n2p2.input_file import InputFile
from mpnnp.n2p2.potential_files import read_functions
from mpnnp.training.initial_potential import choose_functions
from mpnnp.units import ATOMIC, Units, parse_units

COLUMNS = 4  # of histograms in a picture


class Settings(NamedTuple):
    """Symmetry functions, the data that they are looked at over, and the Units of the input.nn that they are
    of; those of a configuration know theirs.
    """

    functions: SymmetryFunctions
    data: Dataset
    units: Units | None = None


def read_settings(path, data_files, report, how):
    """Settings of a TOML configuration or an input.nn, and of data files;
    without these a configuration's own data are read. The data are what a training with the settings learns.

    how  keywords of formats.read_sources about labels and units; if not None, instead of those of [data]
    """
    path = Path(path)
    if path.suffix == ".toml":
        config = read_config(path)
        said = {key: value for key, value in how.items() if value is not None}
        given = {"files": list(data_files), "validation_files": [], "weights": None} if data_files else {}
        data = read_configured(config.data.model_copy(update=said | given), report)
        return Settings(choose_functions(config.symmetry_functions, data.elements), data)
    if not data_files:
        raise DataError(f"{path}: no data: give the files, e.g. input.data, before the settings")
    source = InputFile(path)
    units = _units_of(source, data_files, how["units"], report)
    data = read_sources(data_files, strict=True, report=report, assumed_units=units, **how)
    return Settings(read_functions(source, units), data.without_isolated_atoms(), units)


def _units_of(source, data_files, asked, report):
    """Units of an input.nn: as it says, else as --units or the input.data say, else Hartree and Bohr.

    Raises DataError where a comment of the input.nn and one of the data contradict.
    """
    try:
        asked = parse_units(asked) if asked and not source.units else None
    except ValueError as error:
        raise ConfigError(f"--units: {error}") from None
    data = sorted(file for file in files_of(data_files) if format_of(file) is FORMATS["runner"])
    units, where = units_of_files(source, data, asked, "--units")
    report(f"{source.path}: {ASSUMED} (--units)" if units is None else f"{source.path}: {units} ({where})")
    return units or ATOMIC


def units_for(potential, units):
    """Units of a potential that belongs to an input.nn in `units`: these for n2p2 files that state none; None
    where the potential knows its own.
    """
    file = Path(potential) / "input.nn"
    return units if file.is_file() and InputFile(file).units is None else None


def check_scaling(folder):
    """Raise DataError if scaling.data in the folder is of another program, or belongs to a potential."""
    keep_foreign(folder, ["scaling.data"])
    if (Path(folder) / "scaling.data").exists() and any(Path(folder).glob("*weights.*")):
        raise DataError(
            f"{folder}: holds a potential, whose scaling.data would be replaced: choose another -o"
        )


def write_scaling(folder, functions, statistics):
    """scaling.data in the folder, which is made.

    Raises DataError for an element without atoms: its functions have no range.
    """
    for e, z in enumerate(functions.elements):
        if not statistics.count[functions.table.start[e]]:
            raise DataError(
                f"the data contain no {chemical_symbols[z]}: its symmetry functions have no range"
            )
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_text(Path(folder) / "scaling.data", scaling_text(functions, statistics), encoding="ascii")


def table_lines(functions, statistics):
    """One line per function for people: what it is, and its range."""
    lines, varies = [], statistics.varies()
    for k, f in enumerate(functions.functions):
        t = statistics
        numbers = (
            f"{t.minimum[k]:11.4g} to {t.maximum[k]:11.4g}, mean {t.mean[k]:11.4g}, sigma {t.sigma[k]:10.4g}"
        )
        lines.append(f"{k + 1:4d} {numbers}  {f}{'' if varies[k] else '  NEVER VARIES'}")
    return lines


def write_histograms(folder, functions, statistics, counts):
    """histograms.csv (function, element, left and right end of the bin, atoms) and a picture
    for each element in the folder.
    """
    edges = np.linspace(statistics.minimum, statistics.maximum, BINS + 1).T
    function = np.repeat(np.arange(len(functions)), BINS)
    columns = {
        "function": function + 1,
        "element": [chemical_symbols[functions.functions[k].center] for k in function],
        "left": edges[:, :-1].ravel(),
        "right": edges[:, 1:].ravel(),
        "atoms": counts.ravel().astype(np.int64),
    }
    write_table(Path(folder) / "histograms.csv", columns)
    for e, z in enumerate(functions.elements):
        _draw(
            Path(folder) / f"histograms-{chemical_symbols[z]}.png",
            functions,
            edges,
            counts,
            range(*functions.table.start[e : e + 2]),
        )


@style()
def _draw(path, functions, edges, counts, chosen):
    picture, axes = figure(len(chosen), height=1.6, columns=COLUMNS, width=2.0)
    for axis, k in zip(axes, chosen):
        axis.stairs(counts[k], edges[k], fill=True)
        axis.set_yscale("log" if counts[k].max() > 100 * max(counts[k].mean(), 1) else "linear")
        axis.tick_params(labelsize=6, labelleft=False)
        axis.locator_params(axis="x", nbins=3)
        axis.set_title(textwrap.fill(f"{k + 1}: {functions.functions[k]}", 36), fontsize=6)
    save(picture, path)
