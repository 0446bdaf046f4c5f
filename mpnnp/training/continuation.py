"""Going on with new data: a run whose prior is the weights and the covariance that another run ended with.

Bayes' rule is sequential: p(w | old, new) is proportional to p(new | w) p(w | old), and a checkpoint
holds N(w, P), the filter's p(w | old). So nothing is drawn or fitted anew: functions, scaling, nets,
references and units of training stay what P was made for. P counts each old label as often as it came, and
new ones are counted as often as they come: so the old data weigh what they weighed in their own training.
`inflation` makes them weigh less.

The run's own checkpoints hold all of that: when it is resumed, what it went on from need not be there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mpnnp.config import Config, toml_value
from mpnnp.config.fields import Section, key_of
from mpnnp.config.reading import refuse_idle_keys, with_selection
from mpnnp.data import dataset as datasets
from mpnnp.data.dataset import Dataset
from mpnnp.data.packed import element_counts, make_atoms
from mpnnp.data.ranges import TrainingRange
from mpnnp.data.store import load_structures, split
from mpnnp.errors import CheckpointError, ConfigError, DataError
from mpnnp.kernels.jit import read_only
from mpnnp.model.label_kinds import ENERGY, KINDS, MILLI
from mpnnp.model.potential import Potential, Predictor
from mpnnp.parallel import Comm, agree, on_root
from mpnnp.progress import AnyLog, Silent, counted
from mpnnp.training import history, offsets, run_folder
from mpnnp.training.checkpoint import Checkpoint, config_of, read_checkpoint, read_shared, read_summary
from mpnnp.training.history import Learned
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.run_state import RunState, from_checkpoint
from mpnnp.training.start import Part, RunData, Task, without_ignored_labels

FIXED = {  # section -> its keys that P belongs to; None: all of them
    "symmetry_functions": None,
    "network": None,
    "baseline": None,
    "ekf": ("noise", "coupling", "fading_memory", "prior", "epsilon", "eta", "q", "lam"),
    "run": ("optimizer",),
}
INHERITED = ("schedule", "ekf", "adam", "optimizer")  # sections whose keys are the checkpoint's if not given
EPOCHS = 10  # over new data, if run.epochs is not given
SUSPECT = 20.0  # an offset of the energies of this many old errors, with a spread of a third of it
ROUND = 6  # digits of shifts, eV: the same on any number of ranks


@dataclass(frozen=True, eq=False)
class Origin:
    """What a run goes on from: the optimizer's arrays of `saved` are on rank 0 alone.

    shifts  of a run that is resumed: `fit_shifts` of its data as they were; None of one that begins
    """

    path: Path
    saved: Checkpoint
    learned: tuple[Learned, ...]
    shifts: dict | None = None


def completed(config: Config, directory: Path | None = None, resume: bool = False) -> Config:
    """`config` with what must and what may come from the checkpoint run.from; without it `config` itself.

    resume  the run in `directory` goes on: its own checkpoint, if there is one, says the same
    Rank 0 calls this, before anything is written to `directory`. Raises CheckpointError, and ConfigError
    naming every key that contradicts it.
    """
    path = config.run.from_
    if path is None:
        return config
    if directory is not None and Path(path).resolve().parent == directory.resolve():
        raise ConfigError(
            f"run.from = {toml_value(path)}: the results would replace what they go on from: "
            "choose another folder"
        )
    if directory is not None and resume and run_folder.has_checkpoint(directory):
        name, saved = run_folder.read_saved(directory, Silent(), read_summary)
        path = where = str(directory / name)
    else:
        saved, where = read_summary(path), f"run.from = {toml_value(path)}"
        if not saved.optimizer:
            raise CheckpointError(
                f"{path}: is a potential alone, without the state of an optimizer: "
                "go on from the checkpoint.h5 of its run"
            )
    before = _with_own_nets(config_of(saved, path), saved.potential)
    if refused := _contradictions(config, before):
        raise ConfigError(
            f"{where}: the weights and their covariance there are of other "
            "settings:\n  "
            + "\n  ".join(refused)
            + "\nleave these keys out, or start anew (network.weights_from takes weights without covariance)"
        )
    changed: dict[str, Section] = {
        name: getattr(before, name) for name, keys in FIXED.items() if keys is None
    }
    for name in INHERITED:
        given, section = getattr(config, name), getattr(before, name)
        changed[name] = section.model_copy(
            update={key: getattr(given, key) for key in given.model_fields_set}
        )
    changed["ekf"] = changed["ekf"].model_copy(update={"inflation": config.ekf.inflation})
    belong_to_the_labels = {"force_fraction", "energy_fraction"} - config.schedule.model_fields_set
    changed["schedule"] = changed["schedule"].model_copy(update=dict.fromkeys(belong_to_the_labels))
    run = {"optimizer": before.run.optimizer, "epochs": config.run.epochs or EPOCHS}
    changed["run"] = config.run.model_copy(update=run)
    whole = config.model_copy(update=changed)
    if whole.schedule.name != before.schedule.name:
        whole = _without_other_schedule(whole, config)
    refuse_idle_keys(whole, where, _given_otherwise(config, before))
    return whole


def _given_otherwise(config, before):
    """The keys ("section.key") that a configuration gives, and not as `before`."""
    return {
        f"{name}.{key}"
        for name in config.model_fields_set
        for key in getattr(config, name).model_fields_set
        if getattr(getattr(config, name), key) != getattr(getattr(before, name), key, None)
    }


def _without_other_schedule(whole, config):
    """The configuration, whose schedule is another than before, without the keys of that one which `config`
    does not give.
    """
    inherited = set(whole.schedule.idle_keys()) - config.schedule.model_fields_set
    fields = type(whole.schedule).model_fields
    return with_selection(whole.with_keys("schedule", **{key: fields[key].default for key in inherited}))


def _with_own_nets(config, potential):
    """The configuration of a checkpoint, with the hidden layers that the data had decided about."""
    if config.network.hidden is not None:
        return config
    return config.with_keys("network", hidden=list(potential.network.sizes[0][1:-1]))


def _contradictions(config, before):
    """Keys given in `config` that P does not allow, with both values."""
    found = []
    for name, keys in FIXED.items():
        new, old = getattr(config, name), getattr(before, name)
        if name not in config.model_fields_set:
            continue
        for key in keys or type(new).model_fields:
            value = getattr(new, key)
            if key in new.model_fields_set and value is not None and value != getattr(old, key):
                there = getattr(old, key)
                found.append(
                    f"{name}.{key_of(key)} = {toml_value(value)}, "
                    f"there {'not given' if there is None else toml_value(there)}"
                )
    return found


def origin_of(config: Config, directory: Path, comm: Comm, resume: bool) -> Origin:
    """Origin of a configuration with run.from: the checkpoint there; for a run in `directory` that is
    resumed its own newest one, without the optimizer's arrays. Collective. Raises CheckpointError,
    ConfigError.
    """
    if resume:
        return on_root(comm, _of_resumed, directory)
    path = Path(config.run.from_ or "")
    saved = read_shared(comm, lambda: read_checkpoint(path))
    return Origin(path, saved, on_root(comm, history.of_checkpoint, saved, path))


def _of_resumed(directory):
    name, saved = run_folder.read_saved(directory, Silent(), read_summary)
    *before, own = history.of_checkpoint(saved, directory / name)
    return Origin(directory / name, saved, tuple(before), own.shifts)


def with_old_data(
    new: RunData, origin: Origin, config: Config, comm: Comm, log: AnyLog, fallback: str | Path
) -> RunData:
    """`new` with the old validation structures, and those that are rehearsed.

    Collective. Raises DataError.
    """
    potential = origin.saved.potential
    _check_elements(new.dataset, potential, origin.path)
    if new.hash in [entry.hash for entry in origin.learned]:
        log.warn("these data were learned before: their labels count once more in the covariance")
    parts = [Part(new.dataset, np.arange(len(new.dataset)), new.hash, new.cache)]
    if origin.shifts is not None:
        shifts = agree(comm, _of_same_sources, origin.shifts, new.dataset, origin.path)
    else:
        shifts = fit_shifts(parts[0], new.train, potential, comm, log) if config.data.shift_energies else {}
    old = [
        found
        for entry in origin.learned
        if (found := _old_data(entry, config.data.rehearsal > 0, comm, log, fallback)) is not None
    ]
    chosen = _rehearsed([train for _, train, _ in old], config.data.rehearsal, config.run.seed)
    pieces, train, validation = [shifted(new.dataset, shifts)], [new.train], []
    n = len(new.dataset)
    for (part, _, held_out), again in zip(old, chosen):
        for numbers, where in ((again, train), (held_out, validation)):
            parts.append(replace(part, chosen=numbers))
            pieces.append(part.dataset.take(numbers))
            where.append(np.arange(n, n + len(numbers)))
            n += len(numbers)
    whole = replace(datasets.concatenate(replace(d, isolated=None) for d in pieces), isolated=None)
    judged_before = np.concatenate([np.zeros(0, np.int64), *validation])
    hash_of_all, own = on_root(comm, whole.hash), np.setdiff1d(np.arange(len(whole)), judged_before)
    return RunData(
        dataset=whole,
        train=np.concatenate(train),
        validation=new.validation,
        hash=on_root(comm, whole.take(own).hash) if len(judged_before) else hash_of_all,
        cache=new.cache,
        trained=TrainingRange.from_numbers(origin.saved.progress),
        own_hash=new.hash,
        old_hash=on_root(comm, whole.take(judged_before).hash) if len(judged_before) else "",
        hash_with_old=hash_of_all,
        old=judged_before,
        n_rehearsed=sum(len(again) for again in chosen),
        before=origin.learned,
        shifts=shifts,
        parts=tuple(parts),
    )


def _check_elements(dataset: Dataset, potential: Potential, path: Path) -> None:
    """Raise DataError if the data have an element that the potential does not know."""
    if unknown := sorted(set(dataset.elements) - set(potential.elements)):
        new, known = (" ".join(chemical_symbols[z] for z in some) for some in (unknown, potential.elements))
        raise DataError(
            f"the new data contain {new}, for which {path} has neither functions nor weights nor "
            f"covariance; it knows {known}: new elements need a new training on all data"
        )


def _old_data(entry, needed, comm, log, fallback):
    """(Part of all structures, training, validation indices) of an entry; None, with a warning, if its files
    are no longer what they were and are not needed. Collective.
    """
    try:
        dataset, cache = load_structures(agree(comm, entry.data), comm, log, fallback)
        found = on_root(comm, dataset.hash)
        if entry.hash not in ("", found):
            raise DataError(
                f"{', '.join(entry.section['files'])}: are not what was learned "
                f"(hash {found[:16]}, then {entry.hash[:16]})"
            )
    except (DataError, ConfigError) as error:
        if needed:
            raise DataError(f"data.rehearsal: {error}") from None
        log.warn(f"old errors are not told: {error}")
        return None
    train, validation = agree(comm, split, dataset, entry.data(), entry.seed)
    part = Part(shifted(without_ignored_labels(dataset), entry.shifts), np.arange(len(dataset)), found, cache)
    return part, train, validation


def _rehearsed(pools: Sequence[np.ndarray], share: float, seed: int) -> list[np.ndarray]:
    """Of each pool of structures those that are learned again, ascending: a share of all, drawn by seed."""
    start = np.cumsum([0, *map(len, pools)])
    n = min(int(np.ceil(share * start[-1])), start[-1])
    drawn = np.sort(np.random.default_rng([seed, 6]).choice(start[-1], n, replace=False))
    return [pool[drawn[(drawn >= a) & (drawn < b)] - a] for pool, a, b in zip(pools, start[:-1], start[1:])]


def fit_shifts(part: Part, train: np.ndarray, potential: Potential, comm: Comm, log: AnyLog) -> dict:
    """source -> symbol -> eV: what atoms cost more in the labels than the potential says.

    Over the energies of each source's training structures the mean per atom, and what elements differ from it
    by least squares of least norm: with one composition only the sum is known. A source without training
    structures, for validation, is shifted as all training structures together are. Collective.
    """
    dataset = part.dataset
    structures, predictor = make_atoms(dataset, potential.elements), Predictor(potential)
    G = part.functions(potential.functions, comm, log)
    counts, shifts = element_counts(structures, len(potential.elements)), {}
    labelled = train[np.isfinite(dataset.energy[train])]
    mine = labelled[comm.rank :: comm.size]
    atoms = [slice(structures.start[s], structures.start[s + 1]) for s in mine]
    energies = [predictor.predict(structures, s, G=read_only(G[a])).energy for s, a in zip(mine, atoms)]
    predicted = np.full(len(dataset), np.nan)
    for numbers, values in comm.allgather((mine, energies)):
        predicted[numbers] = values
    present = np.unique(dataset.source)
    for k, source in enumerate(dataset.source_names):
        of_source = labelled[dataset.source[labelled] == k]
        if k in present and len(labelled):
            numbers = of_source if len(of_source) else labelled
            rest = dataset.energy[numbers] - predicted[numbers]
            shifts[source] = _shift(rest, dataset.n_atom[numbers], counts[numbers], potential.elements)
            told = ", ".join(f"{symbol} {x:+.6g} eV" for symbol, x in shifts[source].items())
            why = "" if len(of_source) else ", as of all training structures: it has none"
            log(
                f"energies of {source or 'the data'} are shifted to the old level: {told} subtracted per "
                f"atom{why}"
            )
    return comm.bcast(shifts, root=0)


def _of_same_sources(shifts, dataset, path):
    """Stored shifts under the names that the sources have now: files may have moved, their order stays."""
    present = np.unique(dataset.source)
    names = [source for k, source in enumerate(dataset.source_names) if k in present]
    if shifts and len(shifts) != len(names):
        raise DataError(
            f"{path} has shifts of the energies of {counted(len(shifts), 'source')} ({', '.join(shifts)}), "
            f"the data are now of {len(names)} ({', '.join(names)}): give the same files in the same order"
        )
    return dict(zip(names, shifts.values()))


def _shift(rest, n_atom, counts, elements):
    """symbol -> eV per atom, of energies `rest` (m,) of structures with these numbers of atoms."""
    mean = float((rest / n_atom).mean())
    found = mean + np.linalg.lstsq(counts, rest - n_atom * mean, rcond=1e-10)[0]
    return {chemical_symbols[z]: round(float(x), ROUND) for z, x in zip(elements, found)}


def shifted(dataset: Dataset, shifts: dict) -> Dataset:
    """The data set with the shifts (`fit_shifts`) of its sources subtracted from the energies."""
    if not shifts:
        return dataset
    per_atom = np.zeros((len(dataset.source_names), len(chemical_symbols)))
    for k, source in enumerate(dataset.source_names):
        for symbol, value in shifts.get(source, {}).items():
            per_atom[k, chemical_symbols.index(symbol)] = value
    structure = np.repeat(np.arange(len(dataset)), dataset.n_atom)
    cost = per_atom[dataset.source[structure], dataset.numbers]
    return replace(dataset, energy=dataset.energy - np.add.reduceat(cost, dataset.start[:-1]))


def take_over(origin: Origin, task: Task) -> RunState:
    """RunState before the first update with new data: weights, filter and noise levels of the checkpoint.

    Collective. Raises CheckpointError.
    """
    state = from_checkpoint(_without_offsets(origin.saved), task)
    _in_units_of(task, state, origin.saved)
    fresh: dict[str, Any] = {"epoch": 1, "done": 0, "settled": 0, "update": 0, "seconds": 0.0, "skipped": 0}
    state = replace(
        state,
        **fresh,
        curve=LearningCurve(),
        best=np.inf,
        best_epoch=0,
        best_weights=state.weights.copy(),
        skipped_in_row=0,
        sort_errors=None,
    )
    variance = origin.saved.progress.get("offset_variance", 1.0)
    if task.n_offset and variance < 1.0:  # those of new simulations are believed to be as large
        offsets.narrow(task, state, variance)
    return state


def _in_units_of(task: Task, state: RunState, saved: Checkpoint) -> None:
    """Errors and noise levels of the checkpoint, in the units of training of the new data: that of stress is
    the spread of the labels.
    """
    units = np.array(task.observer.labels.units)
    before = np.array([saved.progress.get(f"{name}_unit", x) for name, x in zip(KINDS, units)])
    state.rmse = np.where(state.rmse == 1.0, 1.0, state.rmse * before / units)  # 1: not known
    if state.noise is not None:
        state.noise.validation *= before / units
        state.noise.innovation *= before / units


def _without_offsets(saved: Checkpoint) -> Checkpoint:
    """A checkpoint without the offsets of the simulations that were learned, which are not those to come."""
    of_others = ("offset_T", "offset_U")
    optimizer = {name: x for name, x in saved.optimizer.items() if name not in of_others}
    arrays = {name: x for name, x in saved.arrays.items() if name != "offsets"}
    return saved._replace(optimizer=optimizer, arrays=arrays)


def warn_of_other_level(origin: Origin, task: Task, log: AnyLog) -> None:
    """Warn if the new energies look like those of another level of theory: off by a constant per atom.

    Collective.
    """
    observer, w = task.observer, read_only(task.potential.weights)
    n_new = len(task.train) - task.data.n_rehearsed
    labels = task.train[:n_new]
    labels = labels[np.isfinite(task.dataset.energy[labels])]
    mine = labels[task.comm.rank :: task.comm.size]
    errors = observer.errors(ENERGY, mine, w) * observer.labels.units[ENERGY] / task.dataset.n_atom[mine]
    errors = MILLI * np.concatenate(task.comm.allgather(errors))
    before = _old_error(origin.saved)
    if not len(errors) or not np.isfinite(before):
        return
    offset, spread = float(np.median(errors)), float(errors.std())
    if abs(offset) > SUSPECT * before and abs(offset) > 3.0 * spread:
        log.warn(
            f"the energies of the new data are {offset:+.4g} meV/atom off what {origin.path} predicts, "
            f"all by about the same (spread {spread:.3g}), and its own error is {before:.3g} meV/atom: "
            "another level of theory? data.shift_energies = true takes the difference away"
        )


def _old_error(saved):
    """Last RMSE of the energies in the learning curve of a checkpoint, meV/atom; NaN if there is none."""
    for part in ("validation", "train"):
        values = saved.curve.get(f"energy_rmse_{part}", np.zeros(0))
        if len(values) and np.isfinite(values[-1]):
            return float(values[-1])
    return np.nan
