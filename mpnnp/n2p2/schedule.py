"""Which labels an update of n2p2 or RuNNer takes, and how many: the section [schedule] of an input.nn."""

import re

from mpnnp.data.compressed import open_text, reading
from mpnnp.errors import ConfigError
from mpnnp.n2p2.keywords import SELECTION
from mpnnp.n2p2.translation import origin_of


def set_labels(source, t, set_keys):
    """Which labels are taken, with which weight and selection."""
    t.set("schedule.name", "runner")
    t.set(
        "schedule.forces",
        source.has("use_short_forces"),
        origin_of(source, "use_short_forces") or "no use_short_forces",
    )
    default = 1.0 if source.of_runner else None
    for name in ("energy_fraction", "force_fraction"):
        if source.has(name) or default:
            t.set(
                f"schedule.{name}",
                float(source.value(name, default=default)),
                origin_of(source, name) or "RuNNer's default",
            )
    if source.has("force_energy_ratio") and "schedule.force_fraction" not in set_keys:
        _force_energy_ratio(source, t)
    _force_weight(source, t)
    modes = [_mode(source, kind) for kind in ("energy", "force")]
    thresholds = [
        _of_kind(source, "rmse_threshold", kind, 0.0) if mode == "threshold" else 0.0
        for kind, mode in zip(("energy", "force"), modes)
    ]
    if "sort" in modes and modes[0] != modes[1]:
        raise ConfigError(
            f"{source.place(_mode_keyword(source, 'force'))}: the selection 'sort' for energies or for "
            "forces alone is not available: give one selection_mode"
        )
    selection = (
        "threshold" if "threshold" in modes and any(thresholds) else "sort" if "sort" in modes else "random"
    )
    t.set(
        "schedule.selection",
        selection,
        origin_of(source, "selection_mode", "selection_mode_energy", "selection_mode_force"),
    )
    if selection == "threshold":
        names = ("energy_threshold", "force_threshold")
        for name, keyword, value in zip(names, ("rmse_threshold_energy", "rmse_threshold_force"), thresholds):
            t.set(f"schedule.{name}", float(value), origin_of(source, "rmse_threshold", keyword))
        trials = max(_of_kind(source, "rmse_threshold_trials", kind, 3, int) for kind in ("energy", "force"))
        t.set("schedule.trials", max(trials, 1), origin_of(source, "rmse_threshold_trials"))


def _force_weight(source, t):
    """The weight of forces: force_weight of n2p2, force_update_scaling of RuNNer, where a negative value
    means one that RuNNer finds by itself.
    """
    names = [name for name in ("force_weight", "force_update_scaling") if source.has(name)]
    if not names:
        t.set("schedule.force_weight", 1.0, "the default of n2p2")
        return
    name = names[-1] if source.of_runner else names[0]
    weight = source.value(name)
    if weight == 0 or (weight < 0 and name == "force_weight"):
        raise ConfigError(f"{source.place(name)}: must be positive; without use_short_forces there are none")
    t.set("schedule.force_weight", weight if weight > 0 else 1.0, origin_of(source, name))
    t.unused += [(origin_of(source, other), f"{name} goes first") for other in names if other != name]


def _force_energy_ratio(source, t):
    """As many force components per energy as the keyword says; n2p2 ignores the fraction of forces then."""
    ratio = source.value("force_energy_ratio")
    if not ratio > 0:
        raise ConfigError(f"{source.place('force_energy_ratio')}: must be positive")
    data = source.data_file
    if data is None:
        raise ConfigError(
            f"{source.place('force_energy_ratio')}: needs the input.data beside it, "
            "whose labels are counted; or say --set schedule.force_fraction=... in place of it"
        )
    n_energy = n_component = 0
    with reading(data), open_text(data) as file:
        for line in file:
            word = line[:8].lstrip().lower()
            n_energy += word.startswith("energy")
            if word.startswith("atom") and len(line.split()) == 10:
                n_component += 3
    if not n_component:
        return
    energies = t.tree["schedule"].get("energy_fraction", 1.0) * n_energy
    t.set(
        "schedule.force_fraction",
        min(ratio * energies / n_component, 1.0),
        origin_of(source, "force_energy_ratio"),
        f"times {n_energy} energies / {n_component} force components",
    )
    if source.has("force_fraction"):
        t.unused.append((origin_of(source, "force_fraction"), "force_energy_ratio goes first, as in n2p2"))


def _mode(source, kind):
    """Selection mode of energies or forces: the first that is given; RuNNer has only thresholds."""
    if source.of_runner:
        return "threshold"
    name = _mode_keyword(source, kind)
    return SELECTION[source.value(name, int) if source.has(name) else 0]


def _mode_keyword(source, kind):
    own = f"selection_mode_{kind}"
    return own if source.has(own) else "selection_mode"


def _of_kind(source, name, kind, default, of=float):
    for candidate in (f"{name}_{kind}", name):
        if source.has(candidate):
            return source.value(candidate, of)
    return default


def set_streams(source, t, ranks, size, set_keys):
    """How many labels an update takes: n2p2's batch of one task times its tasks; RuNNer's groups.

    ranks, size  as of translate.translate;  set_keys: keys that --set overrules
    """
    if source.of_runner:
        names = ("short_energy_group", "short_force_group")
        batches = [source.value(name, int, default=1) for name in names]
        ranks, where = 1, "RuNNer's groups"
        if max(batches) > 1:
            t.set("schedule.rows", "sum", origin_of(source, "short_energy_group", "short_force_group"))
    else:
        names = ("task_batch_size_energy", "task_batch_size_force")
        batches = [source.value(name, int) if source.has(name) else 1 for name in names]
        ranks, where = _original_ranks(source.path.parent, ranks, size)
        jacobian = source.value("jacobian_mode", int) if source.has("jacobian_mode") else 2
        if t.tree["run"]["optimizer"] == "ekf" and (jacobian == 0 or (jacobian == 1 and max(batches) > 1)):
            t.set("schedule.rows", "sum", origin_of(source, "jacobian_mode"))
            t.set("schedule.groups", 1 if jacobian == 0 else ranks)
    for name, batch in zip(names, batches):
        if batch < 0 or (batch == 0 and "schedule.streams" not in set_keys):
            why = "must be positive: "
            if batch == 0:
                why = "a task_batch_size of 0 (the whole training set in one update) is not available: "
            raise ConfigError(
                f"{source.place(name)}: {why}say how many labels an update takes, --set schedule.streams=100"
            )
    energy, force = (max(batch, 1) * ranks for batch in batches)
    t.set(
        "schedule.streams",
        energy,
        origin_of(source, "task_batch_size_energy", "short_energy_group"),
        f"times {ranks} ranks" if ranks > 1 else "",
    )
    if force != energy:
        t.set(
            "schedule.force_streams", force, origin_of(source, "task_batch_size_force", "short_force_group")
        )
    if "schedule.streams" in set_keys:
        t.tree["schedule"].pop("force_streams", None)
        t.notes.append("streams: schedule.streams as set, instead of n2p2's batch per task times its tasks")
    else:
        forces = f" and {force} per force update" if force != energy else ""
        t.notes.append(
            f"streams: {energy} per energy update{forces} = batch per task x {ranks} ({where}); "
            "change it by --set schedule.streams=N"
        )


def _original_ranks(folder, ranks, size):
    """(number of MPI tasks of the original run, where that is known from)."""
    if ranks:
        return ranks, "--ranks"
    log = folder / "nnp-train.log.0000"
    if log.is_file():
        found = re.search(
            r"Number of processors: *(\d+)", log.read_text(encoding="utf-8", errors="replace")[:100_000]
        )
        if found:
            return int(found[1]), f"the tasks of {log.name}"
    return size, "the ranks of this run"
