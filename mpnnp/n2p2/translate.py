"""An input.nn of n2p2 or RuNNer as a configuration of this program:
what each keyword becomes, and what is not used.
"""

import contextlib
import itertools
from pathlib import Path

from ase.data import chemical_symbols

from mpnnp.data.dataset import Dataset
from mpnnp.data.plausibility import wrong_units
from mpnnp.data.runner import read_runner_data
from mpnnp.errors import ConfigError, DataError
from mpnnp.n2p2.file_units import ASSUMED, units_of_files
from mpnnp.n2p2.input_file import InputFile, check_choices, check_known, extra_words_of
from mpnnp.n2p2.keywords import CHARGE, IDLE, KEYWORDS
from mpnnp.n2p2.nets import ambiguous_layers, read_network, unread_layers
from mpnnp.n2p2.potential_files import check_generation, check_kind, read_functions, read_units
from mpnnp.n2p2.schedule import set_labels, set_streams
from mpnnp.n2p2.translation import Translation, copy_number, origin_of
from mpnnp.units import ATOMIC, parse_units


def is_input_nn(path):
    """True if the name is that of an input.nn rather than of a TOML file."""
    return Path(path).suffix == ".nn" or Path(path).name.startswith("input.nn")


def translate(path, ranks=None, size=1, settings=()):
    """Translation of the input.nn at `path`, with input.data, scaling.data and weights.NNN.data beside it.

    ranks     number of MPI tasks of the original program: n2p2's batch sizes are per task; by default that of
              nnp-train.log.0000 beside input.nn, else `size`, the number of ranks of this run
    settings  "section.key=value" that will be applied: a batch of the whole data set needs schedule.streams
              from there
    Raises DataError and ConfigError naming file and line: unknown keywords, other kinds of potentials, what
    is not available.
    """
    source, t = InputFile(path), Translation(Path(path))
    check_generation(source)
    check_kind(source)
    check_known(source)
    check_choices(source)
    units = _units_of_files(source, settings, t)
    functions = read_functions(source, units)
    _potential(source, functions, units, t)
    _data_and_run(source, t)
    _optimizer(source, t)
    set_keys = {s.partition("=")[0].strip() for s in settings}
    set_labels(source, t, set_keys)
    set_streams(source, t, ranks, size, set_keys)
    t.notes += extra_words_of(source)
    order = ("data", "symmetry_functions", "network", "schedule", "ekf", "adam", "run")
    t.tree = {section: t.tree[section] for section in order if section in t.tree}
    for keyword in source.keywords:
        entry = KEYWORDS[keyword.name]
        if entry.kind in (IDLE, CHARGE) and keyword.text not in dict(t.unused):
            t.unused.append((keyword.text, entry.meaning))
    return t


def _units_of_files(source, settings, t):
    """Units of input.nn and of the input.data beside it: those of data.units in the settings, or stated in a
    comment of one of them, else Hartree and Bohr if the distances in the data do not speak against it. Raises
    DataError.
    """
    data = source.data_file
    asked = [s.partition("=")[2].strip().strip("\"'") for s in settings if s.startswith("data.units=")]
    try:
        asked = parse_units(asked[-1]) if asked and asked[-1].lower() != "none" else None
    except ValueError as error:
        raise ConfigError(f"data.units: {error}") from None
    units, where = units_of_files(source, [data] if data else [], asked, "data.units")
    if units is not None:
        t.set("data.units", str(units), where)
        t.set("symmetry_functions.input_nn_units", str(units), where)
        t.notes.append(f"units: {units} ({where})")
        return units
    if data:
        with contextlib.suppress(DataError):  # the training will say it with the whole file
            head = Dataset.from_structures(itertools.islice(read_runner_data(data), 40))
            if message := wrong_units(head, ATOMIC):
                raise ConfigError(f"{data}: {message}")
    t.notes.append(f"{ASSUMED} (data.units)")
    return ATOMIC


def _potential(source, functions, file_units, t):
    folder = source.path.parent
    t.set("symmetry_functions.input_nn", source.path.name, "symmetry functions and their scaling")
    has_scaling = (folder / "scaling.data").is_file()
    for name in ("use_old_weights_short", "use_old_scaling"):
        if source.has(name) and not has_scaling:
            raise ConfigError(
                f"{source.place(name)} needs the scaling.data that belongs to the weights beside it"
            )
    if has_scaling:
        t.set(
            "symmetry_functions.scaling_data",
            "scaling.data",
            "was there; without this line it is made from the training structures",
        )
    if source.has("use_old_weights_short"):
        t.set("network.initializer", "files", "use_old_weights_short")
        t.set(
            "network.weights_from",
            ".",
            "weights.NNN.data; references and units of training are those of input.nn",
        )
    _nets(source, functions, t)
    symbols = [chemical_symbols[z] for z in functions.elements]
    units = read_units(source, functions.elements, file_units)
    if units["atomic_energies"].any():
        energies = dict(zip(symbols, units["atomic_energies"].tolist()))
        t.set("network.atomic_energies", energies, "; ".join(k.text for k in source.all("atom_energy")))
    else:
        t.set("network.atomic_energies", "none", "no atom_energy")
    _units(source, units, t)


def _nets(source, functions, t):
    network = read_network(source, functions)
    t.notes += ambiguous_layers(source, functions) + unread_layers(source)
    nets = [(list(size[1:-1]), list(names[:-1])) for size, names in zip(network.sizes, network.activations)]
    common = max(nets, key=nets.count)
    t.set("network.hidden", common[0], origin_of(source, "global_nodes_short"))
    t.set("network.activation", common[1], origin_of(source, "global_activation_short"))
    others = {
        chemical_symbols[z]: {"hidden": h, "activation": a}
        for z, (h, a) in zip(functions.elements, nets)
        if (h, a) != common
    }
    if others:
        t.set(
            "network.elements",
            others,
            "; ".join(k.text for k in source.keywords if k.name.startswith("element_")),
        )
    if source.has("normalize_nodes"):
        t.set("network.normalize_nodes", True, "normalize_nodes")
    if source.has("use_old_weights_short"):
        return
    if source.has("nguyen_widrow_weights_short"):
        t.set("network.initializer", "nguyen-widrow", "nguyen_widrow_weights_short")
    elif source.of_runner:
        t.set("network.initializer", "uniform", "RuNNer's default")
        copy_number(source, t, "weights_min", "network.weights_min")
        copy_number(source, t, "weights_max", "network.weights_max")
    else:
        t.set("network.initializer", "glorot", "n2p2's default")
        for name in ("weights_min", "weights_max"):
            if source.has(name):
                t.unused.append(
                    (
                        origin_of(source, name),
                        "n2p2 rescales these numbers to glorot; used by the initializer uniform",
                    )
                )


def _units(source, units, t):
    """The units of training: given, computed as n2p2 does, or Hartree and Bohr."""
    given = ("mean_energy", "conv_energy", "conv_length")
    wanted = source.words("normalize_data_set")[:1] if source.has("normalize_data_set") else ()
    if wanted and wanted[0] not in ("ref", "force", "stats-only"):
        raise ConfigError(f"{source.place('normalize_data_set')}: must be ref, force or stats-only")
    if source.has(*given):
        t.set("network.normalize", False, "units of training of input.nn")
        if wanted:
            t.notes.append(
                "normalize_data_set: mean_energy, conv_energy and conv_length are given and are used"
            )
    elif wanted and wanted[0] != "stats-only":
        t.set("network.normalize", wanted[0], origin_of(source, "normalize_data_set"))
        return
    else:
        t.set("network.normalize", False, "no normalisation in input.nn: trains in Hartree and Bohr")
        t.notes.append(
            "no normalisation in input.nn: errors are weighed in Hartree and Hartree/Bohr as there; "
            "--set network.normalize=true often learns better"
        )
    t.set("network.mean_energy", units["mean_energy"], origin_of(source, "mean_energy"))
    t.set("network.energy_scale", float(units["energy_scale"]), origin_of(source, "conv_energy"), "eV")
    t.set("network.force_scale", float(units["force_scale"]), origin_of(source, "conv_length"), "eV/Angstrom")


def _data_and_run(source, t):
    folder = source.path.parent
    data = source.data_file
    t.set("data.files", [data.name if data else "input.data"])
    fraction = source.value("test_fraction", default=0.01 if source.of_runner else 0.1)
    t.set(
        "data.validation_fraction",
        float(fraction),
        origin_of(source, "test_fraction"),
        "marks set=train|test in the data go first",
    )
    copy_number(source, t, "epochs", "run.epochs", int)
    copy_number(source, t, "random_seed", "run.seed", int, abs)
    t.set(
        "run.directory",
        f"runs/{folder.resolve().name}",
        "relative to where the program starts; -o overrides it",
    )


def _optimizer(source, t):
    if source.has("updater_type") and source.value("updater_type", int) == 0:
        _adam(source, t)
        return
    for name in ("optmode_short_energy", "optmode_short_force"):
        if source.has(name) and source.value(name, int) != 1:
            raise ConfigError(
                f"{source.place(name)}: only 1 (Kalman filter) is available; "
                'for Adam set run.optimizer = "adam"'
            )
    t.set("run.optimizer", "ekf", origin_of(source, "updater_type"))
    t.set("ekf.noise", "fixed", "R = 1/eta as there; without this line the filter finds its noise by itself")
    t.unused += [
        (k.text, "of gradient descent (updater_type 0)")
        for k in source.keywords
        if k.name.startswith("gradient_")
    ]
    if source.of_runner or (source.has("kalman_type") and source.value("kalman_type", int) == 1):
        t.set("ekf.fading_memory", True, origin_of(source, "kalman_type") or "RuNNer's filter")
        copy_number(source, t, "kalman_lambda_short", "ekf.lam")
        copy_number(source, t, "kalman_nue_short", "ekf.nu")
    else:
        copy_number(source, t, "kalman_eta", "ekf.eta")
        if source.has("kalman_etatau") and source.has("kalman_etamax"):
            copy_number(source, t, "kalman_etatau", "ekf.eta_tau")
            copy_number(source, t, "kalman_etamax", "ekf.eta_max")
        elif source.has("kalman_eta"):
            t.set("ekf.eta_tau", 0.0, "no kalman_etatau and kalman_etamax: eta is constant")
            t.set("ekf.eta_max", source.value("kalman_eta"))
        t.unused += [
            (origin_of(source, k), "of the filter with fading memory")
            for k in ("kalman_lambda_short", "kalman_nue_short")
            if source.has(k)
        ]
    if source.of_runner and not source.has("kalman_epsilon"):
        t.set("ekf.epsilon", 1.0, "RuNNer's default")
    copy_number(source, t, "kalman_epsilon", "ekf.epsilon")
    if source.of_runner and not source.has("kalman_q0"):
        t.set("ekf.q", 0.0, "RuNNer's default")
        t.set("ekf.q_min", 0.0, "RuNNer's default")
    for name, key in (("kalman_q0", "ekf.q"), ("kalman_qtau", "ekf.q_tau"), ("kalman_qmin", "ekf.q_min")):
        copy_number(source, t, name, key)
    if source.has("separate_kalman_short") or (
        source.has("update_strategy") and source.value("update_strategy", int) == 1
    ):
        t.set("ekf.coupling", "element", origin_of(source, "update_strategy", "separate_kalman_short"))


def _adam(source, t):
    if source.value("gradient_type", int, default=0) != 1 or not source.has("gradient_type"):
        raise ConfigError(
            f"{source.place('updater_type')}: gradient descent with a fixed step is not available: "
            "set gradient_type 1 (Adam), or updater_type 1"
        )
    t.set("run.optimizer", "adam", origin_of(source, "updater_type", "gradient_type"))
    for name, key in (
        ("eta", "learning_rate"),
        ("beta1", "beta1"),
        ("beta2", "beta2"),
        ("epsilon", "epsilon"),
    ):
        copy_number(source, t, f"gradient_adam_{name}", f"adam.{key}")
    t.set("adam.clip_norm", 0.0, "n2p2 does not clip")
    t.set("adam.decay_rate", 1.0, "n2p2's learning rate is constant")
    t.unused += [
        (k.text, "of the Kalman filter (updater_type 1)")
        for k in source.keywords
        if k.name.startswith("kalman_")
    ]
