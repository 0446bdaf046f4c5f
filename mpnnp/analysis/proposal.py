"""A configuration that fits a data set, with the reason for each setting: what `mpnnp init` writes."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mpnnp.config import make_config, toml_value
from mpnnp.config.schema import schema_line
from mpnnp.data.finding import Finding
from mpnnp.data.pairs import neighbours
from mpnnp.data.runner import is_runner_data, stated_units
from mpnnp.data.structure import VALIDATION
from mpnnp.errors import DataError
from mpnnp.progress import Silent, counted
from mpnnp.training.choices import (
    FORCES_PER_ENERGY,
    hidden_nodes,
    n_label,
    settle,
    updates_per_epoch,
    weights_of,
)
from mpnnp.training.initial_potential import choose_functions
from mpnnp.units import ATOMIC

MOST_WEIGHTS = 10_000  # of a full covariance matrix
R_C = 6.0  # Angstrom, of the set "default"
FEW_STRUCTURES = 100  # below it a fifth is for validation instead of a tenth
WIDTH = 100


@dataclass(frozen=True)
class Choice:
    """A key ("section.name"), its value, why; chosen = False: only shown, as a comment."""

    key: str
    value: object
    why: str
    chosen: bool = True


def propose(dataset, files, **said):
    """Choices for a first training on a Dataset.

    files  paths of the data as they will stand in the file
    said   keys of [data] that the user gave: units, energy_key, forces_key, stress_key
    Raises DataError for data without energies.
    """
    choices = [*_data(dataset, files, said)]
    training, _ = dataset.split(config_of(choices).data.validation_fraction)
    choices += _functions(training)
    functions = choose_functions(config_of(choices).symmetry_functions, dataset.elements)
    labels = n_label(training, np.arange(len(training)))
    choices += _network(labels, np.diff(functions.table.start))
    if not labels[1]:
        choices.append(Choice("schedule.forces", False, "The data have no forces."))
    settled = settle(config_of(choices), labels, Silent())
    return [*choices, *_schedule(training, labels, settled.schedule), *_run(labels, settled)]


def text_of(choices, dataset, name, findings: list[Finding]):
    """The TOML file of Choices, with comments.

    name      of the file, for the commands in its head
    findings  what looks wrong in the data
    """
    lines = [
        schema_line(),
        *_comment(
            f"A first training on {_amount(dataset)}, written by mpnnp init. Settings behind # are what "
            "mpnnp chooses by itself for these data: take away the # to change one. All others: "
            "docs/configuration.md."
        ),
        f"#   mpiexec -n 2 mpnnp train {name}",
    ]
    for finding in findings:
        lines += _comment(f"Looks wrong: {finding}")
    section = None
    for choice in choices:
        if choice.key.partition(".")[0] != section:
            section = choice.key.partition(".")[0]
            lines += ["", f"[{section}]"]
        line = f"{choice.key.partition('.')[2]} = {toml_value(choice.value)}"
        lines += [*_comment(choice.why), line if choice.chosen else f"# {line}"]
    return "\n".join(lines) + "\n"


def config_of(choices):
    """Config of Choices. Raises ConfigError."""
    tree = {}
    for choice in choices:
        if choice.chosen:
            section, _, name = choice.key.partition(".")
            tree.setdefault(section, {})[name] = choice.value
    return make_config(tree)


def assumed_units(files):
    """Units of files that say none and are not in eV and Angstrom by custom; None if there are others."""
    paths = [Path(file).expanduser() for file in files]
    if all(p.is_file() and is_runner_data(p) and stated_units(p) is None for p in paths):
        return str(ATOMIC)
    return None


def _comment(text):
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False)]


def _amount(dataset):
    """Structures, atoms and elements in words."""
    low, high = int(dataset.n_atom.min()), int(dataset.n_atom.max())
    atoms = f"{low}" if low == high else f"{low} to {high}"
    symbols = " ".join(chemical_symbols[z] for z in dataset.elements)
    return f"{counted(len(dataset), 'structure')} of {atoms} atom{'s' * (high > 1)} ({symbols})"


def _data(dataset, files, said):
    energies = int(np.isfinite(dataset.energy).sum())
    if not energies:
        raise DataError(
            f"{dataset.source_names[0]}: no structure has an energy, from which a potential could be learned"
        )
    components = int(np.isfinite(dataset.forces).sum())
    stresses = int(np.isfinite(dataset.stress).all(axis=1).sum())
    yield Choice(
        "data.files",
        files,
        f"Labels: {counted(energies, 'energy', 'energies')}, {counted(components, 'force component')}, "
        f"{counted(stresses, 'stress', 'stresses')}.",
    )
    if units := said.pop("units", None):
        yield Choice("data.units", units, "Of files that do not state theirs.")
    elif units := assumed_units(dataset.source_names):
        yield Choice("data.units", units, "Assumed, as the file does not say them: check.")
    for key, name in said.items():
        if name:
            yield Choice(f"data.{key}", name, "As asked for.")
    marked = int(np.sum(dataset.marks == VALIDATION))
    if marked:
        yield Choice("data.split", "auto", f"The data mark {counted(marked, 'structure')} for validation.")
        return
    fraction = 0.2 if len(dataset) < FEW_STRUCTURES else 0.1
    why = "Part of the structures that is not trained on but tells the accuracy."
    yield Choice("data.validation_fraction", fraction, why)


def _functions(dataset):
    """The set of symmetry functions."""
    h2o = dataset.elements == (1, 8) and all(
        2 * np.sum(z == 8) == len(z) - np.sum(z == 8) for z in np.split(dataset.numbers, dataset.start[1:-1])
    )
    if h2o:
        yield Choice(
            "symmetry_functions.set",
            "water",
            "Two H for each O: the published set for water, cutoff 12 Bohr.",
        )
        return
    yield Choice(
        "symmetry_functions.set",
        "default",
        "Shells and angles up to r_c for each pair and triple of the elements. Those of a published "
        'potential are taken over by input_nn = "input.nn".',
    )
    largest = dataset[int(np.argmax(dataset.n_atom))]
    central, _ = neighbours(largest, R_C, "ij")
    n_neighbour = len(central) / len(largest)
    yield Choice(
        "symmetry_functions.r_c",
        R_C,
        f"Angstrom; {n_neighbour:.0f} neighbours of an atom in the largest structure. The time "
        "grows with the square of the neighbours, and what is farther away is not seen.",
    )


def _network(labels, n_inputs):
    """Nets, and a cheaper covariance where there are many weights.

    labels    energies and force components for training
    n_inputs  symmetry functions of each element
    """
    hidden = hidden_nodes(labels, n_inputs, Silent())
    n_weight = weights_of(n_inputs, hidden)
    why = f"{n_weight:,} weights, for {sum(labels):,} labels (energies and force components) for training."
    yield Choice("network.hidden", hidden, why, chosen=False)
    if n_weight > MOST_WEIGHTS:
        why = f"Blocks of the covariance, all of which would take {8e-9 * n_weight**2 / 2:.1f} GB."
        yield Choice("ekf.coupling", f"block:{MOST_WEIGHTS // 2}", why)


def _schedule(training, labels, settled):
    """Which labels an epoch takes: settled is the section with what mpnnp chooses."""
    n_energy, n_force = labels
    if n_force:
        taken = settled.force_fraction * n_force
        how_many = f"{taken / n_energy:.0f} for each energy" if n_energy else f"{taken:.0f}"
        why = (
            f"Of the {n_force:,} force components, in each epoch: {how_many}. The forces of a large "
            "structure say much the same, those of a small one do not."
        )
        yield Choice("schedule.force_fraction", float(f"{settled.force_fraction:.2g}"), why, chosen=False)
    if settled.energy_fraction != 1.0:
        why = (
            f"Each of the {n_energy} energies comes {settled.energy_fraction:.2g} times in an epoch: one for "
            f"{FORCES_PER_ENERGY} force components, or these drown it."
        )
        yield Choice("schedule.energy_fraction", float(f"{settled.energy_fraction:.2g}"), why, chosen=False)
    if n_stress := int(np.isfinite(training.stress).all(axis=1).sum()):
        why = (
            f"{counted(n_stress, 'structure')} with a stress, which is only compared; to learn it, which "
            "pays for simulations at constant pressure:"
        )
        yield Choice("schedule.stress_fraction", 0.1, why, chosen=False)


def _run(labels, settled):
    """Length of the run."""
    per_epoch = updates_per_epoch(settled.schedule, labels)
    why = f"An epoch has about {per_epoch:.0f} updates of {settled.schedule.streams} labels."
    yield Choice("run.epochs", settled.run.epochs, why, chosen=False)
    if settled.run.patience:
        why = "Epochs without a better validation error that end the run."
        yield Choice("run.patience", settled.run.patience, why, chosen=False)
