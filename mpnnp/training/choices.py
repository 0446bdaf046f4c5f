"""Settings that follow from the data where the configuration does not name them.

They are functions of the training structures alone: the same on any number of ranks, and when a run is
resumed. What was chosen, and why, goes to the log.
"""

import math
from collections.abc import Sequence

import numpy as np

from mpnnp.config import Config, Schedule
from mpnnp.data.dataset import Dataset, atoms_of
from mpnnp.progress import AnyLog

HIDDEN, HIDDEN_OF_FEW = [25, 25], [15, 15]  # nodes of the layers, and where there are few labels
FORCE_FRACTION, FORCES_PER_EPOCH = 0.02, 2000  # with learned noise an epoch takes the larger of the two
FORCES_PER_ENERGY = 20  # at most
LEAST_EPOCHS = 10
N_UPDATE = 20_000  # of a run with learned noise
LEAST_PATIENCE = 10
# what a run chooses where its configuration names nothing
CHOSEN = (
    ("network", "hidden"),
    ("schedule", "force_fraction"),
    ("schedule", "energy_fraction"),
    ("run", "epochs"),
    ("run", "patience"),
)


def n_label(dataset: Dataset, train: np.ndarray) -> tuple[int, int]:
    """(energies, force components) that the training structures offer."""
    n_energy = int(np.isfinite(np.asarray(dataset.energy)[train]).sum())
    return n_energy, int(np.isfinite(dataset.forces[atoms_of(dataset.start, train)]).sum())


def weights_of(n_inputs: Sequence[int], hidden: Sequence[int]) -> int:
    """Weights of nets with so many inputs for each element, all with these hidden layers, and one output."""
    nets = [(int(n), *hidden, 1) for n in n_inputs]
    return sum((n_in + 1) * n_out for net in nets for n_in, n_out in zip(net, net[1:]))


def hidden_nodes(labels: tuple[int, int], n_inputs: Sequence[int], log: AnyLog) -> list[int]:
    """Nodes of the hidden layers for so many labels and inputs of each element's net."""
    n_weight = weights_of(n_inputs, HIDDEN)
    few = sum(labels) < n_weight
    hidden = list(HIDDEN_OF_FEW if few else HIDDEN)
    log(
        f"network.hidden = {hidden}: {sum(labels)} labels for training, "
        f"{'fewer than' if few else 'not fewer than'} the {n_weight} weights of {HIDDEN}"
    )
    return hidden


def settle(config: Config, labels: tuple[int, int], log: AnyLog) -> Config:
    """The configuration with the gaps of [schedule] and [run] filled in.

    labels  energies and force components for training
    """
    chosen, runner = [], config.schedule.name == "runner"
    if runner and config.schedule.force_fraction is None:
        config = config.with_keys("schedule", force_fraction=_force_fraction(config, labels[1]))
        chosen.append(f"schedule.force_fraction = {config.schedule.force_fraction:.2g}")
    if runner and config.schedule.energy_fraction is None:
        config = config.with_keys("schedule", energy_fraction=_energy_fraction(config, labels))
        if config.schedule.energy_fraction != 1.0:
            chosen.append(f"schedule.energy_fraction = {config.schedule.energy_fraction:.2g}")
    if config.run.epochs is None:
        config = config.with_keys("run", epochs=_epochs(config, labels))
        chosen.append(f"run.epochs = {config.run.epochs}")
    if config.run.patience is None and config.learns_noise and runner:
        config = config.with_keys("run", patience=max(LEAST_PATIENCE, config.run.last_epoch // 3))
        chosen.append(f"run.patience = {config.run.patience}")
    if chosen:
        log(f"{', '.join(chosen)}: for {labels[0]} energies and {labels[1]} force components")
    return config


def with_choices_of(config: Config, run: Config) -> Config:
    """The configuration with its gaps filled in by what a run chose, as its stored configuration says."""
    for section, key in CHOSEN:
        now, then = (getattr(getattr(c, section), key) for c in (config, run))
        if now is None and then is not None:
            config = config.with_keys(section, **{key: then})
    return config


def _force_fraction(config, n_force):
    if not (config.learns_noise and n_force):
        return FORCE_FRACTION
    return float(min(1.0, max(FORCE_FRACTION, FORCES_PER_EPOCH / n_force)))


def _energy_fraction(config, labels):
    """Energies of few structures come more often, or the forces drown them."""
    n_energy, n_force = labels
    if not (config.learns_noise and n_energy):
        return 1.0
    taken = config.schedule.of_kind("force", "fraction") * n_force
    return float(max(1.0, taken / (FORCES_PER_ENERGY * n_energy)))


def _epochs(config, labels):
    if not config.learns_noise or config.schedule.name != "runner":
        return config.run.last_epoch
    return max(LEAST_EPOCHS, math.ceil(N_UPDATE / max(updates_per_epoch(config.schedule, labels), 1.0)))


def updates_per_epoch(schedule: Schedule, labels: tuple[int, int]) -> float:
    """Updates of an epoch of the schedule runner with so many energies and force components, about."""
    of = schedule.of_kind
    return sum(of(kind, "fraction") * n / of(kind, "streams") for kind, n in zip(("energy", "force"), labels))
