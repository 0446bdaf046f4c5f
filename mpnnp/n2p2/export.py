"""Potentials out: input.nn, scaling.data and weights.NNN.data, for n2p2, RuNNer, LAMMPS and CP2K."""

import itertools
from dataclasses import replace
from pathlib import Path

from ase.data import chemical_symbols

from mpnnp.errors import DataError
from mpnnp.files import keep_aside, write_text
from mpnnp.kernels.table import TYPES
from mpnnp.model.network import ACTIVATIONS, LETTERS
from mpnnp.model.potential import check_potential
from mpnnp.model.symmetry_functions import format_line
from mpnnp.units import ATOMIC, BOHR, HARTREE

OF_CP2K = (TYPES[2], TYPES[3])  # types of symmetry functions that CP2K knows


INPUT = "potential of this folder in"  # in the first line of an input of LAMMPS or CP2K
FRAME = ", frame "  # in the title of a structure
LENGTHS, SCALING, WEIGHTS = (  # how lines begin that tell who wrote a file
    "# lengths in ",
    "# element  function  minimum  maximum  mean  sigma",
    "# connection, type (a weight, b bias), index, layer and neuron of the start and of the end",
)


def write_potential(potential, folder, comment="written by mpnnp", cp2k=False, overwrite=False):
    """Write input.nn, scaling.data and weights.NNN.data, readable by n2p2, LAMMPS (ML-HDNNP) and RuNNer;
    with cp2k=True by CP2K too.

    potential  Potential;  folder  is made if it is not there
    comment    first line of input.nn
    The normalisation is written as mean_energy, conv_energy and conv_length. CP2K and RuNNer do not know
    these lines: with cp2k=True they are trivial and the weights carry the units. Files of another origin
    stay: DataError if there are any, or with overwrite=True they are kept as NAME.old-1. Raises DataError
    too for what CP2K cannot compute (softplus and most other activations, types of symmetry functions but 2
    and 3, nets that differ, a baseline), and for several cutoff functions.
    """
    check_potential(potential)
    if cp2k:
        check_cp2k(potential)
        potential = without_normalization(potential)
    folder, elements = Path(folder), enumerate(potential.functions.elements)
    texts = {
        "input.nn": _input_text(potential, comment),
        "scaling.data": scaling_text(potential.functions, potential.scaling.statistics),
        **{weights_name(z): _weights_text(potential, k) for k, z in elements},
    }
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, and the potential needs a folder")
    keep_foreign(folder, texts, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        _write_text(folder / name, text)


def weights_name(z):
    """Name of the file with the weights of an element (atomic number)."""
    return f"weights.{z:03d}.data"


def keep_foreign(folder, names, overwrite=None):
    """Raise DataError if one of these files is in the folder and mpnnp has not written it; overwrite: such
    files are kept as NAME.old-1 and so on. None: the command has no --overwrite that could be told.
    """
    foreign = [path for name in names if (path := Path(folder) / name).exists() and not _is_own(path)]
    if foreign and not overwrite:
        keeping = ", or --overwrite (in Python overwrite=True), which keeps what is there under other names"
        raise DataError(
            f"{', '.join(map(str, foreign))}: not written by mpnnp, and would be lost: choose another folder"
            f"{'' if overwrite is None else keeping}"
        )
    for path in foreign:
        keep_aside(path)


def _is_own(path):
    """Whether one of the first lines of a file is one that only mpnnp writes."""
    with open(path, encoding="utf-8", errors="replace") as file:
        first = list(itertools.islice(file, 2))
    ours = (INPUT, FRAME) if path.name == "structure.lammps" else (INPUT,)
    return any(
        any(part in line for part in ours) or line.startswith((LENGTHS, SCALING, WEIGHTS)) for line in first
    )


def without_normalization(p):
    """The same potential with the output of the nets in Hartree and the mean energy
    in the atomic energies.
    """
    weights = p.weights.copy()
    for s in p.network.segments:
        if s.layer == len(p.network.sizes[s.element]) - 2:
            weights[s.offset : s.offset + (s.n_in + 1) * s.n_out] *= p.energy_scale / HARTREE
    units = {"mean_energy": 0.0, "energy_scale": HARTREE, "force_scale": HARTREE / BOHR}
    return replace(
        p, weights=weights, atomic_energies=p.atomic_energies + p.mean_energy, units=ATOMIC, **units
    )


def is_normalized(p):
    """True if the normalisation lines matter: a program that ignores them gets other energies."""
    return p.mean_energy != 0.0 or p.energy_scale != p.units.energy


def check_cp2k(p):
    """Raise DataError unless CP2K's NNP module can compute the potential."""
    nets = {(size[1:], names) for size, names in zip(p.network.sizes, p.network.activations)}
    rules = [
        (not p.baseline, f"no baseline ({p.baseline}): it would give the nets alone"),
        (
            all(TYPES[f.kind] in OF_CP2K for f in p.functions.functions),
            f"symmetry functions of types {' and '.join(str(t.number) for t in OF_CP2K)} only",
        ),
        (
            not any(TYPES[f.kind].angular and f.r_s for f in p.functions.functions),
            "angular functions with r_s = 0 only",
        ),
        (
            all(f.cutoff in (1, 2) and f.alpha == 0.0 for f in p.functions.functions),
            "the cutoff functions 1 (cosine) and 2 (tanh3u), alpha = 0",
        ),
        (p.scaling.kind not in ("none", "center"), "symmetry functions scaled by their range or sigma only"),
        (len(nets) == 1, "the same hidden layers for all elements"),
        (not any("relu" in names for _, names in nets), "no activation relu"),
        (
            not any("softplus" in names for _, names in nets),
            "no activation softplus that gives right forces: it takes a wrong derivative of it (seen in CP2K "
            '2023.1); train with network.activation = "tanh"',
        ),
    ]
    for holds, message in rules:
        if not holds:
            raise DataError(f"CP2K cannot compute this potential: it knows {message}")


def _input_text(p, comment):
    symbols = [chemical_symbols[z] for z in p.functions.elements]
    length, energy = p.units.length, p.units.energy
    conv_energy = energy / p.energy_scale
    conv_length = p.force_scale * length / energy * conv_energy
    cutoffs = {(f.cutoff, f.alpha) for f in p.functions.functions if not TYPES[f.kind].compact} or {(1, 0.0)}
    if len(cutoffs) > 1:
        raise DataError(
            "n2p2 files hold one cutoff function for all symmetry functions; this potential has several"
        )
    cutoff, alpha = cutoffs.pop()
    lines = [
        f"# {comment}",
        f"{LENGTHS}{p.units.length_name}, energies in {p.units.energy_name}",
        f"# units: {p.units}",
        *([f"# baseline: {p.baseline}"] if p.baseline else []),
        f"mean_energy {p.mean_energy / energy:.16E}",
        f"conv_energy {conv_energy:.16E}",
        f"conv_length {conv_length:.16E}",
        f"number_of_elements {len(symbols)}",
        f"elements {' '.join(symbols)}",
        "remove_atom_energies",  # or CP2K and RuNNer do not read the next lines
        *(f"atom_energy {s} {e / energy:.16E}" for s, e in zip(symbols, p.atomic_energies)),
        f"cutoff_type {cutoff} {alpha:.17g}",
        *{
            "none": [],
            "min-max": ["scale_symmetry_functions"],
            "center": ["center_symmetry_functions"],
            "min-max-center": ["scale_symmetry_functions", "center_symmetry_functions"],
            "sigma": ["scale_symmetry_functions_sigma"],
        }[p.scaling.kind],
        f"scale_min_short {p.scaling.s_min:.17g}",
        f"scale_max_short {p.scaling.s_max:.17g}",
        f"scale_min_short_atomic {p.scaling.s_min:.17g}",  # CP2K's names
        f"scale_max_short_atomic {p.scaling.s_max:.17g}",
    ]
    hidden = [size[1:-1] for size in p.network.sizes]
    letters = [[LETTERS[ACTIVATIONS.index(name)] for name in names] for names in p.network.activations]
    deepest = max(range(len(hidden)), key=lambda e: len(hidden[e]))
    lines += [
        f"global_hidden_layers_short {len(hidden[deepest])}",
        f"global_nodes_short {' '.join(map(str, hidden[deepest]))}",
        f"global_activation_short {' '.join(letters[deepest])}",
    ]
    for symbol, nodes, own in zip(symbols, hidden, letters):
        if (nodes, own) != (hidden[deepest], letters[deepest]):
            lines.append(f"element_hidden_layers_short {symbol} {len(nodes)}")
            lines += [f"element_nodes_short {symbol} {k} {n}" for k, n in enumerate(nodes, 1)]
            lines += [f"element_activation_short {symbol} {k} {letter}" for k, letter in enumerate(own, 1)]
    lines += [f"symfunction_short {format_line(f, length)}" for f in p.functions.functions]
    return "\n".join(lines) + "\n"


def scaling_text(functions, statistics):
    """The text of scaling.data."""
    t, start = statistics, functions.table.start
    lines = [SCALING]
    for e in range(len(start) - 1):
        for k in range(start[e], start[e + 1]):
            numbers = " ".join(f"{x[k]:24.16E}" for x in (t.minimum, t.maximum, t.mean, t.sigma))
            lines.append(f"{e + 1:10d} {k - start[e] + 1:10d} {numbers}")
    return "\n".join(lines) + "\n"


def _weights_text(p, e):
    lines, index = [WEIGHTS], 0
    for s in p.network.segments:
        if s.element != e:
            continue
        values = iter(p.weights[s.offset : s.offset + (s.n_in + 1) * s.n_out])
        ends = [(i, j) for i in range(1, s.n_in + 1) for j in range(1, s.n_out + 1)] + [
            (0, j) for j in range(1, s.n_out + 1)
        ]
        for i, j in ends:
            index += 1
            end = (
                f"a {index:9d} {s.layer:5d} {i:5d} {s.layer + 1:5d} {j:5d}"
                if i
                else f"b {index:9d} {s.layer + 1:5d} {j:5d}"
            )
            lines.append(f"{next(values):24.16E} {end}")
    return "\n".join(lines) + "\n"


def _write_text(path, text):
    write_text(path, text, encoding="ascii")
