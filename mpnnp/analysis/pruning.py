"""Leaving out symmetry functions that hardly vary or hardly matter,
and writing what is left as input.nn or TOML.
"""

from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mpnnp.config import make_config, read_config, to_toml
from mpnnp.config.schema import schema_line
from mpnnp.errors import ConfigError, DataError
from mpnnp.files import write_atomically
from mpnnp.kernels.table import COMPACT
from mpnnp.model.function_sets import table_of
from mpnnp.model.symmetry_functions import CUTOFFS, SymmetryFunctions
from mpnnp.n2p2.input_file import InputFile
from mpnnp.n2p2.potential_files import functions_by_line, read_functions, scaling_kind
from mpnnp.progress import counted
from mpnnp.training.initial_potential import choose_functions


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


def check_prunable(settings):
    """Raise ConfigError for a configuration whose functions are those of a potential: the section that would
    be pruned is not used.
    """
    if Path(settings).suffix != ".toml":
        return
    config = read_config(settings)
    if config.network.initializer == "files":
        raise ConfigError(
            f"{settings}: network.weights_from = '{config.network.weights_from}' says the symmetry functions "
            "too, so that others have no effect, and its weights fit no others: leave the key out to prune"
        )


def write_pruned(settings, path, functions, keep, units=None):
    """Write the settings file (input.nn or TOML) without the functions where keep (n_function,) is False to
    `path`; returns lines that tell what else has changed.

    units  Units of an input.nn
    Raises ConfigError, DataError; also if the file that was written means other functions.
    """
    check_kept(functions, keep)
    is_toml, kept = Path(settings).suffix == ".toml", functions.keep(keep)
    text, notes = _pruned_toml(settings, kept) if is_toml else (_pruned_input(settings, kept, units), [])
    with write_atomically(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
        if is_toml:
            found = choose_functions(read_config(temporary).symmetry_functions, functions.elements)
        else:
            found = read_functions(temporary, units)
        if found.functions != kept.functions:
            raise DataError(
                f"{settings}: could not be pruned: the file to write would have "
                f"{counted(len(found), 'symmetry function')}, not the {len(kept)} that are left"
            )
    return notes


def _pruned_input(settings, kept, units):
    """The same lines, with # before those of functions that are left out. Of a line that stands for several
    (global_ and element_ of RuNNer) those that are left follow one by one.
    """
    source, left = InputFile(settings), set(kept.functions)
    lines = Path(settings).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for keyword, meant in functions_by_line(source, units):
        there = [words for words, f in meant if SymmetryFunctions.ordered(f) in left]
        if len(there) < len(meant):
            name = "symfunction_short" + ("_atomic" if keyword.written.endswith("_atomic") else "")
            marked = f"# pruned: {lines[keyword.line - 1]}"
            lines[keyword.line - 1] = "\n".join([marked, *(f"{name} {words}" for words in there)])
    return "\n".join(lines) + "\n"


def _pruned_toml(settings, functions):
    """(The configuration with the functions that are left as tables, in Angstrom; of an input.nn with its
    scaling; lines about what else has changed.) Comments of the file are lost.
    """
    config = read_config(settings)
    old = config.symmetry_functions
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
    if old.input_nn:
        kind, low, high = scaling_kind(InputFile(old.input_nn))
        section |= {"scaling": kind} | ({"scale_min": low, "scale_max": high} if low < high else {})
    notes = []
    if old.scaling_data:
        notes = [f"{old.scaling_data} is of all functions: training makes the scaling of these anew"]
    gone = ("set", "input_nn", "input_nn_units", "scaling_data", "r_c")
    tree = {key: record.model_dump() for key, record in config}
    tree["symmetry_functions"] |= section | dict.fromkeys(gone)
    return f"{schema_line()}\n{to_toml(make_config(tree))}", notes
