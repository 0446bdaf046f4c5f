"""Potentials in: input.nn, scaling.data and weights.NNN.data of RuNNer and n2p2."""

import itertools
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mpnnp.errors import ConfigError, DataError
from mpnnp.kernels.table import TYPES
from mpnnp.model.network import Network
from mpnnp.model.potential import Potential
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.model.symmetry_functions import (
    SymmetryFunctions,
    element_number,
    fault,
    parse_line,
)
from mpnnp.n2p2.input_file import InputFile, check_known, number
from mpnnp.n2p2.keywords import CHARGE, KEYWORDS, REFUSED
from mpnnp.n2p2.nets import read_network
from mpnnp.n2p2.scaling_file import numbers_of, read_rows, read_scaling
from mpnnp.progress import counted
from mpnnp.units import ATOMIC, parse_units

LARGEST = 1e9  # weight; those of trained nets are of the order of 1
OF_RUNNER_2 = ("optimizer", "optimizer_short", "fc_cosine")  # words that neither n2p2 nor RuNNer 1 has


def units_of(source, units=None):
    """Units of an input.nn: those asked for, those that a comment in it says, else Hartree and Bohr.

    units   Units, or words like "eV Angstrom"
    Raises DataError where the first two contradict, ConfigError for words that are no units.
    """
    try:
        units = parse_units(units) if isinstance(units, str) else units
    except ValueError as error:
        raise ConfigError(f"units: {error}") from None
    if units and source.units and units != source.units:
        raise DataError(f"{source.path}: states the units {source.units}, but {units} were asked for")
    return units or source.units or ATOMIC


def read_functions(source, units=None):
    """SymmetryFunctions of an input.nn (an InputFile or a path); functions that are given twice, also with
    their neighbours swapped, become one. Raises DataError naming the line, also for a scaling that cannot be.
    """
    source = source if isinstance(source, InputFile) else InputFile(source)
    check_known(source)
    scaling_kind(source)  # before anything is computed with the functions
    functions = [f for _, meant in functions_by_line(source, units) for _, f in meant]
    try:
        return SymmetryFunctions(_elements(source), functions, merge=True)
    except ConfigError as error:
        raise DataError(f"{source.path}: {error}") from None


def functions_by_line(source, units=None):
    """What each line of an InputFile with symmetry functions means: [(InputLine, [(words behind
    symfunction_short, SymmetryFunction), ...]), ...]. Raises DataError naming the line.
    """
    elements, length = _elements(source), units_of(source, units).length
    cutoff, alpha = _cutoff(source)
    found = []
    for keyword in source.all("symfunction_short", "global_symfunction_short", "element_symfunction_short"):
        where = f"{source.path}, line {keyword.line}: '{keyword.text}'"
        meant = []
        try:
            for line in _function_lines(keyword, elements):
                if reason := fault(parse_line(line, cutoff, alpha, length=1.0)):
                    raise DataError(f"{where}: {reason}")
                meant.append((line, parse_line(line, cutoff, alpha, length)))
                _check_centre(meant[-1][1], elements, where)
        except ConfigError as error:
            raise DataError(f"{source.path}, line {keyword.line}: {error}") from None
        found.append((keyword, meant))
    return found


def _check_centre(f, elements, where):
    for z in (f.center, f.neighbour1, f.neighbour2):
        if z and z not in elements:
            raise DataError(
                f"{where}: {chemical_symbols[z]} is not among the elements "
                f"{' '.join(chemical_symbols[e] for e in elements)} of the file"
            )


def _cutoff(source):
    """(type, alpha) of the cutoff function; alpha behind the type (n2p2) or as cutoff_alpha (RuNNer);
    without cutoff_type RuNNer's default 1.
    """
    words = ["1"] if source.of_runner and not source.has("cutoff_type") else source.words("cutoff_type")
    alpha = source.value("cutoff_alpha", default=0.0)
    try:
        cutoff, behind = int(words[0]), number(words[1], float) if len(words) > 1 else alpha
    except (IndexError, ValueError):
        raise DataError(
            f"{source.place('cutoff_type')}: expected a number from 0 to 8 and perhaps alpha"
        ) from None
    if not 0 <= cutoff <= 8:
        raise DataError(f"{source.place('cutoff_type')}: cutoff function {cutoff}: 0 to 8 are known")
    if not 0 <= behind < 1:
        name = "cutoff_type" if len(words) > 1 else "cutoff_alpha"
        raise DataError(f"{source.place(name)}: alpha = {behind}: must be at least 0 and below 1")
    if source.has("cutoff_alpha") and behind != alpha:
        raise DataError(f"{source.place('cutoff_alpha')} contradicts {source.place('cutoff_type')}")
    return cutoff, behind if cutoff else 0.0


def _function_lines(keyword, elements):
    """The words behind symfunction_short that a line means; RuNNer's global_ and element_ lines stand
    for every neighbour or pair of them.
    """
    words = keyword.words
    if keyword.name == "symfunction_short":
        return [" ".join(words)]
    symbols = [chemical_symbols[z] for z in elements]
    if keyword.name == "global_symfunction_short":
        centers, kind, parameters = symbols, words[:1], words[1:]
    else:
        centers, kind, parameters = words[:1], words[1:2], words[2:]
    of_pairs = any(str(t.number) in kind for t in TYPES.values() if t.neighbours == 2)
    neighbours = itertools.combinations_with_replacement(symbols, 2) if of_pairs else [(s,) for s in symbols]
    return [
        " ".join((center, *kind, *some, *parameters))
        for center, some in itertools.product(centers, neighbours)
    ]


def scaling_kind(source):
    """(kind, s_min, s_max) of the scaling keywords of an input.nn;
    sigma counts only where the others are absent, as in n2p2. Raises DataError for an empty range.
    """
    scale, center = source.has("scale_symmetry_functions"), source.has("center_symmetry_functions")
    neither = "sigma" if source.has("scale_symmetry_functions_sigma") else "none"
    kind = {
        (False, False): neither,
        (True, False): "min-max",
        (False, True): "center",
        (True, True): "min-max-center",
    }[scale, center]
    s_min, s_max = source.value("scale_min_short", default=0.0), source.value("scale_max_short", default=1.0)
    if kind not in ("none", "center") and not s_max > s_min:
        line = source.last("scale_max_short" if source.has("scale_max_short") else "scale_min_short").line
        raise DataError(
            f"{source.path}, line {line}: scale_max_short is {s_max:g}, must be larger than scale_min_short, "
            f"which is {s_min:g}"
        )
    return kind, s_min, s_max


def read_weights(folder, elements, network, name="weights.{:03d}.data"):
    """Flat weights from the files weights.NNN.data (NNN: atomic number) of a folder; where these are not
    there, from
    RuNNer's optweights.NNN.out or n2p2's weights.NNN.EEEEEE.out of one epoch.
    """
    parts = []
    for e, z in enumerate(elements):
        path = _weights_file(Path(folder), z, name)
        rows = read_rows(path)
        values = np.array(numbers_of(path, rows, 1)).reshape(-1)
        n = int(network.topology.start[e + 1] - network.topology.start[e])
        if len(values) != n:
            raise DataError(
                f"{path}: {counted(len(values), 'weight')} found, the net {network.sizes[e]} "
                f"of {chemical_symbols[z]} has {n}"
            )
        _check_order(path, rows, network.sizes[e])
        if (largest := np.abs(values).max()) > LARGEST:
            raise DataError(
                f"{path}: a weight of {largest:.3g}, must not be beyond {LARGEST:g}: is it damaged?"
            )
        parts.append(values)
    return np.concatenate(parts)


def _check_order(path, rows, size):
    """Raise DataError where the second column, "a" of weights and "b" of biases, tells a net of other layers
    than `size`, or the third, which n2p2 and RuNNer write as a running number, says that lines are not in
    order: both programs, and this one, read them one after another.
    """
    kinds = "".join("a" * (n_in * n_out) + "b" * n_out for n_in, n_out in itertools.pairwise(size))
    for k, (line, words, _) in enumerate(rows):
        if len(words) < 3 or words[1] not in ("a", "b") or not words[2].isdecimal():
            continue
        if int(words[2]) != k + 1:
            raise DataError(
                f"{path}, line {line}: expected weight {k + 1}, found weight {words[2]}: lines must be in "
                "the order of the running number in their third column"
            )
        if words[1] != kinds[k]:
            names = {"a": "a weight (a)", "b": "a bias (b)"}
            raise DataError(
                f"{path}, line {line}: expected {names[kinds[k]]} of the net {size}, found "
                f"{names[words[1]]}: is the file of a net with other layers?"
            )


def _weights_file(folder, z, name):
    path = folder / name.format(z)
    if path.is_file() or not path.name.endswith(".data"):
        return path
    best = folder / f"optweights.{z:03d}.out"
    if best.is_file():
        return best
    epochs = sorted(folder.glob(f"weights.{z:03d}.*.out"))
    if len(epochs) > 1:
        raise DataError(
            f"{folder}: has the weights of {len(epochs)} epochs of {chemical_symbols[z]} and no "
            f"{path.name}: copy those of "
            f"one epoch to {path.name}, e.g. {epochs[-1].name}; learning-curve.out tells the best"
        )
    return epochs[0] if epochs else path


def read_potential(folder, weights="weights.{:03d}.data", units=None):
    """Potential from a folder of n2p2 files: input.nn, scaling.data, weights.NNN.data.

    units   Units of the files; None: those that input.nn says in a comment, else Hartree and Bohr
    Raises DataError naming the file, also for keywords of input.nn that nobody knows.
    """
    folder = Path(folder)
    source = InputFile(folder / "input.nn")
    check_generation(source)
    check_kind(source)
    units = units_of(source, units)
    functions = read_functions(source, units)
    network = read_network(source, functions)
    kind, s_min, s_max = scaling_kind(source)
    if kind == "none" and not (folder / "scaling.data").exists():
        nothing = np.zeros(len(functions))
        scaling = Scaling(kind, s_min, s_max, Statistics(nothing, nothing, nothing, nothing, nothing))
    else:
        scaling = read_scaling(folder / "scaling.data", functions, kind, s_min, s_max)
    # functions that are given twice have inputs of their own in the files
    whole = Network(_with_copies(network.sizes, functions), network.activations)
    values = read_weights(folder, functions.elements, whole, weights)
    if source.has("normalize_nodes"):
        values = values * whole.units()
    return Potential(
        functions=functions,
        scaling=scaling,
        network=network,
        weights=_merged(values, whole, network, functions),
        units=units,
        baseline=source.baseline,
        **read_units(source, functions.elements, units),
    )


def _with_copies(sizes, functions):
    """The sizes of the nets with an input for every function that was given."""
    start = functions.table.start
    copies = [int(functions.copies[start[e] : start[e + 1]].sum()) for e in range(len(sizes))]
    return [(n, *size[1:]) for n, size in zip(copies, sizes)]


def _merged(weights, whole, network, functions):
    """Weights of `network` from those of `whole`: those of equal inputs are added, which changes no
    output.
    """
    if (functions.copies == 1).all():
        return weights
    merged = np.empty(network.n_weight)
    for a, b in zip(whole.segments, network.segments):
        values = weights[a.offset : a.offset + (a.n_in + 1) * a.n_out].reshape(a.n_in + 1, a.n_out)
        if a.layer == 0:
            own = slice(functions.table.start[a.element], functions.table.start[a.element + 1])
            first = np.concatenate([[0], np.cumsum(functions.copies[own])])
            values = np.concatenate([np.add.reduceat(values[:-1], first[:-1], axis=0), values[-1:]])
        merged[b.offset : b.offset + (b.n_in + 1) * b.n_out] = values.ravel()
    return merged


def check_generation(source):
    """Raise DataError for files of RuNNer 2, whose format is another."""
    marks = [f"line {k.line}: '{k.written}'" for k in source.keywords if k.written in OF_RUNNER_2]
    folder = source.path.parent
    marks += [
        str(p.relative_to(folder)) for s in ("", "1/") for p in sorted(folder.glob(f"{s}weights_short.*"))
    ]
    if marks:
        raise DataError(
            f"{source.path}: is of RuNNer 2 ({marks[0]}), whose files are not read; those of RuNNer 1 "
            f"and n2p2 are"
        )


def check_kind(source):
    """Raise DataError for keywords that mean another kind of potential than sums of atomic nets
    of the geometry alone (2G).
    """
    wrong = [k for k in source.all("nnp_type") if k.words and k.words[0] not in ("2G-HDNNP", "2G", "2", "1")]
    wrong += [k for k in source.all("nn_type_short") if k.words and k.words[0] != "1"]
    kinds = [(k, KEYWORDS[k.name].kind) for k in source.keywords if k.name in KEYWORDS]
    wrong += [k for k, kind in kinds if kind == REFUSED]
    # a file of RuNNer, and one with nnp_type, says by other keywords that there are no charges
    if not (source.of_runner or source.has("nnp_type")):
        wrong += [k for k, kind in kinds if kind == CHARGE and k.name != "conv_charge"]
    if wrong:
        k = min(wrong, key=lambda k: k.line)
        meaning = KEYWORDS[k.name].meaning
        raise DataError(f"{source.path}, line {k.line}: '{k.text}' is not supported: {meaning}")


def read_units(source, elements, units=None):
    """atomic_energies (n_element,) eV, mean_energy eV, energy_scale eV and force_scale eV/Angstrom
    of an input.nn.
    """
    units = units_of(source, units)
    energies = dict.fromkeys(elements, 0.0)
    counted = not source.of_runner or source.has("remove_atom_energies")
    seen = {}
    for keyword in source.all("atom_energy") if counted else ():
        try:
            if len(keyword.words) < 2:
                raise ValueError(f"found '{keyword.text}'")
            z = element_number(keyword.words[0])
            value = number(keyword.words[1], float) * units.energy
            if z not in energies:
                raise ValueError(f"{keyword.words[0]} is not among the elements of the file")
            if seen.setdefault(z, value) != value:
                raise ValueError(f"another line has another energy of {keyword.words[0]}")
            energies[z] = value
        except ValueError as error:
            raise DataError(
                f"{source.path}, line {keyword.line}: expected 'atom_energy ELEMENT ENERGY' ({error})"
            ) from None
    conv_energy, conv_length = (_conversion(source, name) for name in ("conv_energy", "conv_length"))
    _check_normalization(source)
    return {
        "atomic_energies": np.array([energies[z] for z in elements]),
        "mean_energy": source.value("mean_energy", default=0.0) * units.energy,
        "energy_scale": units.energy / conv_energy,
        "force_scale": units.energy / units.length * conv_length / conv_energy,
    }


def _check_normalization(source):
    """Raise DataError where some of the numbers of the normalisation are there and others are not: n2p2 stops
    at such a file, others than those that were meant would be taken.
    """
    names = ("mean_energy", "conv_energy", "conv_length")
    given = [name for name in names if source.has(name)]
    if missing := [name for name in names if given and name not in given]:
        raise DataError(
            f"{source.place(given[0])}: {' and '.join(missing)} must be there too: all of "
            f"{', '.join(names)}, or none"
        )


def _conversion(source, name):
    """A factor of the normalisation, 1 if it is not there. Raises DataError unless it is positive."""
    factor = source.value(name, default=1.0)
    if not factor > 0:
        raise DataError(
            f"{source.path}, line {source.last(name).line}: {name} is {factor:g}, must be positive"
        )
    return factor


def _elements(source):
    words = source.words("elements")
    try:
        elements = [element_number(word) for word in words]
    except ConfigError as error:
        line = source.last("elements").line
        raise DataError(f"{source.path}, line {line}: elements: {error}") from None
    n = source.value("number_of_elements", int, default=len(words))
    if n != len(set(elements)):
        line = source.last("elements").line
        raise DataError(
            f"{source.path}, line {line}: number_of_elements is {n}, but elements lists {' '.join(words)}"
        )
    return sorted(elements)
