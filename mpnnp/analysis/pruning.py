"""Leaving out symmetry functions that hardly vary or hardly matter,
and writing what is left as input.nn or TOML.
"""

from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mpnnp.config import make_config, read_config, to_toml
from mpnnp.config.schema import schema_line
from mpnnp.errors import ConfigError, DataError
from mpnnp.files import write_text
from mpnnp.kernels.table import COMPACT
from mpnnp.model.function_sets import table_of
from mpnnp.model.symmetry_functions import CUTOFFS, SymmetryFunctions, parse_line


def keep_by_range(statistics, threshold):
    """(n_function,) bool: maximum - minimum is at least the threshold, and the function varies at all."""
    return statistics.varies() & (statistics.maximum - statistics.minimum >= threshold)


def keep_by_sensitivity(shares, threshold):
    """(n_function,) bool: the share of the element's sensitivity is at least the threshold, percent."""
    return np.asarray(shares) >= threshold


def check_kept(functions, keep):
    """Raise DataError if an element would lose all its functions."""
    for z in functions.elements:
        if not any(k for f, k in zip(functions.functions, keep) if f.center == z):
            raise DataError(
                f"no symmetry function of {chemical_symbols[z]} would be left: choose a smaller threshold"
            )


def write_pruned(settings, path, functions, keep):
    """The settings file (input.nn or TOML) without the functions where keep (n_function,) is False,
    to `path`. Raises ConfigError, DataError.
    """
    check_kept(functions, keep)
    text = (
        _pruned_toml(settings, functions.keep(keep))
        if Path(settings).suffix == ".toml"
        else _pruned_input(settings, functions, keep)
    )
    write_text(path, text)


def _pruned_input(settings, functions, keep):
    """The same lines, with # before those of the functions that are left out."""
    dropped = {_plain(f) for f, kept in zip(functions.functions, keep) if not kept}
    lines = []
    for line in Path(settings).read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split("#", 1)[0].split("!", 1)[0].split()
        if words and words[0] in ("symfunction_short", "symfunction"):
            f = SymmetryFunctions.ordered(parse_line(" ".join(words[1:])))
            if _plain(f) in dropped:
                line = f"# pruned: {line}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _plain(f):
    """What tells functions of one input.nn apart: all but the cutoff function, which they share."""
    return tuple(value for name, value in sorted(vars(f).items()) if name not in ("cutoff", "alpha"))


def _pruned_toml(settings, functions):
    """The configuration with the functions that are left as tables, in Angstrom.

    Comments of the file are lost.
    """
    config = read_config(settings)
    cutoffs = {(f.cutoff, f.alpha) for f in functions.functions if f.kind not in COMPACT}
    if len(cutoffs) > 1:
        raise ConfigError(
            f"{settings}: a configuration has one cutoff function, these functions have several"
        )
    cutoff, alpha = cutoffs.pop() if cutoffs else (1, 0.0)
    name = next(name for name, code in CUTOFFS.items() if code == cutoff)
    section = {
        "functions": [table_of(f) for f in functions.functions],
        "units": "angstrom",
        "cutoff": name,
        "alpha": alpha,
    }
    tree = {key: record.model_dump() for key, record in config}
    tree["symmetry_functions"] |= section | {"set": None, "input_nn": None, "r_c": None}
    return f"{schema_line()}\n{to_toml(make_config(tree))}"
