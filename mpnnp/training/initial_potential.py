"""The potential that a run starts from: functions, scaling, references, scales and initial weights,
from configuration and data.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mpnnp.config import Config, Functions, Net
from mpnnp.data.dataset import Dataset, atoms_of
from mpnnp.data.packed import element_counts, make_atoms
from mpnnp.errors import ConfigError, DataError
from mpnnp.kernels.packs import Structures
from mpnnp.model.baseline import Baseline, Dispersion, Zbl
from mpnnp.model.function_sets import default, from_tables, water
from mpnnp.model.network import Network
from mpnnp.model.potential import Potential, Predictor
from mpnnp.model.prediction import refuse_not_finite
from mpnnp.model.scaling import NOT_FINITE, Scaling, Statistics
from mpnnp.model.stored_functions import load_symmetry_functions
from mpnnp.model.symmetry_functions import CUTOFFS, SymmetryFunctions, element_number
from mpnnp.n2p2 import potential_files, scaling_file
from mpnnp.n2p2.input_file import InputFile
from mpnnp.parallel import Comm, agree, on_root, share
from mpnnp.progress import AnyLog
from mpnnp.training.checkpoint import load_potential
from mpnnp.training.choices import hidden_nodes, n_label
from mpnnp.units import ATOMIC, BOHR, Units, parse_units

SAME = 1e-6  # eV
BLOCK = 64  # structures whose functions are in memory at once, for their statistics


def choose_functions(config: Functions, elements: Sequence[int]) -> SymmetryFunctions:
    """SymmetryFunctions of the section [symmetry_functions] for the elements (atomic numbers) of the data.

    Raises ConfigError, DataError.
    """
    length = BOHR if config.units == "bohr" else 1.0
    common: dict[str, Any] = {"cutoff": CUTOFFS[config.cutoff], "alpha": config.alpha}
    radius: dict[str, Any] = {} if config.r_c is None else {"r_c": config.r_c * length}
    if config.input_nn:
        functions = potential_files.read_functions(config.input_nn, _units(config.input_nn_units))
        if missing := sorted(set(elements) - set(functions.elements)):
            raise DataError(
                f"{config.input_nn}: has no functions for "
                f"{', '.join(chemical_symbols[z] for z in missing)}, which the data contain"
            )
        return functions
    if config.functions:
        return SymmetryFunctions(elements, from_tables(config.functions, **common, length=length))
    if config.set == "water":
        if tuple(elements) != (1, 8):
            raise ConfigError(
                f"symmetry_functions.set = 'water' is for H and O; "
                f"the data contain {' '.join(chemical_symbols[z] for z in elements)}"
            )
        return SymmetryFunctions(elements, water(**common, **radius))
    return SymmetryFunctions(elements, default(elements, **common, **radius))


def _units(text):
    return parse_units(text) if text else None


def file_units(config: Config) -> Units:
    """Units of the n2p2 files that the potential will be exported to: of input.nn, else of the data."""
    section = config.symmetry_functions
    if section.input_nn:
        return potential_files.units_of(InputFile(section.input_nn), _units(section.input_nn_units))
    return _units(config.data.units) or ATOMIC


def baseline_of(config: Config) -> Baseline:
    """Baseline of [baseline], or of the potential whose weights are taken. Raises ConfigError."""
    section = config.baseline
    terms: list[Zbl | Dispersion] = []
    if section.zbl is not None:
        terms.append(Zbl(*section.zbl))
    if section.d3 is not None:
        terms.append(Dispersion(section.d3, section.d3_damping))
    asked = Baseline(tuple(terms))
    if config.network.initializer != "files":
        return asked
    found = load_weights_from(config).baseline
    if asked and asked != found:
        raise ConfigError(
            f"[baseline] is '{asked}', that of {config.network.weights_from} is '{found}': its weights fit "
            "no other; leave [baseline] out"
        )
    return found


def load_weights_from(config: Config) -> Potential:
    """Potential of network.weights_from. Raises DataError, CheckpointError."""
    units = _units(config.symmetry_functions.input_nn_units)
    return load_potential(str(config.network.weights_from), units)


def build(
    config: Config,
    dataset: Dataset,
    train: np.ndarray,
    cache: Path | None,
    comm: Comm,
    log: AnyLog,
    key: str | None = None,
) -> tuple[Potential, Structures, np.ndarray]:
    """(Potential with initial weights, Structures, G). Collective.

    dataset  less the baseline, which the potential does not have yet
    train  indices of the training structures: statistics, references and scales come from them alone
    cache  folder of computed symmetry functions
    key    of the data in the cache; their hash if not given
    """
    key = on_root(comm, dataset.hash) if key is None else key

    def compute(functions: SymmetryFunctions) -> tuple[Structures, np.ndarray]:
        structures = make_atoms(dataset, functions.elements)
        return structures, load_symmetry_functions(structures, functions, key, cache, comm, log)

    if config.network.initializer == "files":
        potential = on_root(comm, load_weights_from, config)
        log(f"functions, scaling, references and weights from {config.network.weights_from}")
        if unused := _keys_that_files_overrule(config.network, potential):
            log.warn(f"{', '.join(unused)}: not used with network.weights_from")
        structures, G = compute(potential.functions)
        new = statistics_of(dataset, structures, G, train, potential.functions, comm)
        return potential.that_saw(new.minimum, new.maximum), structures, G
    section, nets = config.symmetry_functions, config.network
    functions, statistics, structures, G = _functions_that_vary(section, dataset, train, compute, comm, log)
    n_inputs = np.diff(functions.table.start)
    if nets.hidden is None:
        energies, forces = agree(comm, n_label, dataset, train)
        hidden = hidden_nodes((energies, forces if config.schedule.forces else 0), n_inputs, log)
        nets = nets.model_copy(update={"hidden": hidden})
    network = Network.from_config(nets, functions.elements, n_inputs)
    kind, s_min, s_max = _scaling_of(section)
    potential = Potential(
        functions=functions,
        scaling=Scaling(kind, s_min, s_max, statistics),
        network=network,
        weights=initial_weights(config, network),
        units=on_root(comm, file_units, config),
        **references(config.network, dataset, structures, functions.elements, train),
    )
    if config.network.normalize == "force":
        potential = _with_forces_as_wide_as_labels(potential, dataset, structures, G, comm)
    return potential, structures, G


def _keys_that_files_overrule(net: Net, potential: Potential) -> list[str]:
    """In words, the nets and energies of atoms in [network] that are not those of the potential whose weights
    are taken.
    """
    keys = []
    energies = net.atomic_energies if isinstance(net.atomic_energies, dict) else {}
    for z, sizes, energy in zip(potential.elements, potential.network.sizes, potential.atomic_energies):
        symbol, there = chemical_symbols[z], list(sizes[1:-1])
        own = net.elements.get(symbol, {}).get("hidden")
        if own not in (None, there):
            keys.append(f"network.elements.{symbol}.hidden = {own} ({there} there)")
        elif own is None and net.hidden not in (None, there):
            keys.append(f"network.hidden = {net.hidden} ({there} there, of {symbol})")
        if abs(energies.get(symbol, energy) - energy) > SAME:
            keys.append(f"network.atomic_energies.{symbol} = {energies[symbol]:g} ({energy:g} there)")
    return keys


def _functions_that_vary(section, dataset, train, compute, comm, log):
    """(SymmetryFunctions, Statistics, Structures, G) of [symmetry_functions], without functions that are
    constant. Collective. Raises ConfigError, DataError.

    compute  function of SymmetryFunctions -> (Structures, G)
    """
    functions = on_root(comm, choose_functions, section, dataset.elements)
    known = (
        on_root(comm, scaling_file.read_statistics, section.scaling_data, functions)
        if section.scaling_data
        else None
    )
    absent = [chemical_symbols[z] for z in functions.elements if z not in dataset.elements]
    if absent and known is None:
        raise DataError(
            f"the data contain no {', '.join(absent)}, of which there are symmetry functions: nothing tells "
            "their ranges; remove the element, or give a scaling.data of data that contain it"
        )
    where = f"in {section.scaling_data}" if known else "over the training structures"
    while True:
        structures, G = compute(functions)
        statistics = known or statistics_of(dataset, structures, G, train, functions, comm)
        varies = statistics.varies()
        if varies.all():
            return functions, statistics, structures, G
        constant = [str(f) for f, v in zip(functions.functions, varies) if not v]
        share = f"{len(constant)} of {len(functions)}"
        message = f"symmetry functions never vary {where}: {'; '.join(constant)} ({share})"
        if section.constant == "error":
            raise DataError(message)
        log.warn(f"{message}: dropped")
        for z in functions.elements:
            if not any(v for f, v in zip(functions.functions, varies) if f.center == z):
                raise DataError(
                    f"no symmetry function of {chemical_symbols[z]} varies {where}: nothing can be learned"
                )
        functions, known = functions.keep(varies), known and known.keep(varies)


def _scaling_of(section):
    """(kind, smallest, largest) of the scaled functions: of the input.nn, or as configured."""
    if section.input_nn:
        return potential_files.scaling_kind(InputFile(section.input_nn))
    return section.scaling, section.scale_min, section.scale_max


def initial_weights(config: Config, network: Network) -> np.ndarray:
    """(n_weight,) of a run with this configuration: they follow from the initializer and the seed alone."""
    net, rng = config.network, np.random.default_rng([config.run.seed_of("weight"), 1])
    weights = network.initial_weights(net.initializer, rng, net.weights_min, net.weights_max)
    return weights * network.units() if net.normalize_nodes else weights


def statistics_of(
    dataset: Dataset,
    structures: Structures,
    G: np.ndarray,
    train: np.ndarray,
    functions: SymmetryFunctions,
    comm: Comm,
) -> Statistics:
    """Statistics of the functions over the training structures. Collective. Raises DataError naming a
    structure with functions that are not finite.
    """
    mine = share(len(train), comm)
    blocks = [
        atoms_of(structures.start, train[first : min(first + BLOCK, mine.stop)])
        for first in range(mine.start, mine.stop, BLOCK)
    ]
    wrong = [
        int(np.searchsorted(structures.start, atoms[np.argmin(finite)], side="right")) - 1
        for atoms in blocks
        if not (finite := np.isfinite(G[atoms]).all(axis=1)).all()
    ]
    refuse_not_finite(wrong, dataset, comm, NOT_FINITE)
    parts = ((structures.element[atoms], G[atoms]) for atoms in blocks)
    return Statistics.collect(parts, functions.table.start, comm)


def _with_forces_as_wide_as_labels(potential, dataset, structures, G, comm):
    """The unit of energy for which the initial weights predict forces of the same standard deviation as the
    labels'. Collective.
    """
    if np.isnan(dataset.forces).all():
        raise DataError("network.normalize = 'force' needs force labels: there are none")
    predictor, sums = Predictor(replace(potential, energy_scale=1.0)), np.zeros(3)
    for s in range(comm.rank, len(dataset), comm.size):
        atoms = slice(structures.start[s], structures.start[s + 1])
        forces = predictor.predict(structures, s, G=G[atoms]).forces
        sums += forces.size, forces.sum(), (forces**2).sum()
    n, total, square = comm.allreduce(sums)
    spread = np.sqrt((square - total**2 / n) / (n - 1))
    if not spread > 0:
        raise DataError("network.normalize = 'force': the initial weights predict no forces at all")
    return replace(potential, energy_scale=float(potential.force_scale / spread))


def references(
    config: Net, dataset: Dataset, structures: Structures, elements: Sequence[int], train: np.ndarray
) -> dict:
    """atomic_energies (n_element,), and the units of training: mean_energy, energy_scale, force_scale;
    eV and Angstrom.

    config.normalize: the mean and the standard deviation of what the atomic energies leave of the energies
    per atom, and the standard deviation of the forces, over the training structures; "ref" and "force": over
    all structures, with n2p2's divisor n - 1; false: as configured.
    """
    of_all = config.normalize in ("ref", "force")
    counts, energy = element_counts(structures, len(elements)), np.asarray(dataset.energy)
    atomic = _atomic_energies(config, counts[train], energy[train], elements, dataset.isolated)
    if config.normalize is False:
        units = {name: getattr(config, name) for name in ("mean_energy", "energy_scale", "force_scale")}
        return {"atomic_energies": atomic, **units}
    chosen, ddof = (np.arange(len(dataset)), 1) if of_all else (train, 0)
    per_atom = ((energy - counts @ atomic) / counts.sum(axis=1))[chosen]
    per_atom = per_atom[~np.isnan(per_atom)]
    forces = dataset.forces[atoms_of(structures.start, chosen)]
    forces = forces[~np.isnan(forces)]
    energy_scale, force_scale = _std(per_atom, ddof), _std(forces, ddof) or 1.0
    return {
        "atomic_energies": atomic,
        "mean_energy": float(per_atom.mean()) if len(per_atom) else 0.0,
        # a single structure has no spread; then the net's unit of energy is that of a force times an Angstrom
        "energy_scale": energy_scale if energy_scale > 1e-9 else force_scale,
        "force_scale": force_scale,
    }


def _std(x, ddof):
    """Standard deviation of x (n,) with the divisor n - ddof; 0 of fewer than two."""
    return float(x.std(ddof=ddof)) if len(x) > 1 else 0.0


def _atomic_energies(config, counts, energy, elements, isolated=None):
    """(n_element,) eV: given, or fitted to the energies, or zero."""
    if isinstance(config.atomic_energies, dict):
        try:
            given = {element_number(symbol): value for symbol, value in config.atomic_energies.items()}
        except ConfigError as error:
            raise ConfigError(f"network.atomic_energies: {error}") from None
        if missing := [chemical_symbols[z] for z in elements if z not in given]:
            raise ConfigError(f"network.atomic_energies: no value for {', '.join(missing)}")
        return np.array([given[z] for z in elements])
    labelled = ~np.isnan(energy)
    if config.atomic_energies == "fit" and labelled.any():
        known = np.array([z in (isolated or {}) for z in elements])
        found = np.array([(isolated or {}).get(z, 0.0) for z in elements])
        rest = energy[labelled] - counts[labelled] @ found
        if not known.all():
            found[~known] = np.linalg.lstsq(counts[labelled][:, ~known], rest, rcond=1e-10)[0]
        return found
    return np.zeros(len(elements))
