"""The public library: what `import mpnnp` offers to scripts and notebooks,
beside potentials and data sets themselves.

These functions, and nothing else in the package, take one rank for granted: without `comm` they work on
COMM_SELF, no launcher needed. Under mpiexec give them a communicator; they are collective then.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mpnnp.analysis.fisher import Gradients, Spectrum, accumulate, fisher_spectrum
from mpnnp.config import Config, make_config, read_config, with_absolute_paths
from mpnnp.data import dataset as datasets
from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import read_sources
from mpnnp.data.packed import make_atoms
from mpnnp.errors import CheckpointError, ConfigError
from mpnnp.model.evaluation import Evaluation
from mpnnp.model.evaluation import evaluate as evaluate_on
from mpnnp.model.label_kinds import KINDS, position
from mpnnp.model.potential import Potential, check_potential
from mpnnp.model.stored_functions import check_finite, load_symmetry_functions
from mpnnp.optimizers.registry import Optimizer, check_name, make_optimizer
from mpnnp.parallel import on_root, serial
from mpnnp.progress import AnyLog, Log, Muted, QuietLog, Silent
from mpnnp.run_lock import claim
from mpnnp.training import run_folder
from mpnnp.training.choices import n_label, settle
from mpnnp.training.continuation import completed
from mpnnp.training.initial_potential import baseline_of, build
from mpnnp.training.observations import Observer
from mpnnp.training.run_state import RunState
from mpnnp.training.schedules import make_schedule
from mpnnp.training.start import RunData, Task, without_ignored_labels
from mpnnp.training.train import train as train_as_configured

IN_MEMORY = {"data": {"files": ["data in memory"]}}  # where a configuration must name files


def read(files, report: Callable | None = None, **keys) -> Dataset:
    """Dataset of files of any format, of ase.Atoms, or of a list of these; eV, Angstrom.

    keys    energy_key, forces_key, stress_key: names of labels in files read by ASE; units: of files that do
            not state theirs
    report  called with lines of text: where labels were found; by default only warnings are shown
    Raises DataError naming file and line or frame.
    """
    return read_sources(files, report=Silent() if report is None else report, **keys)


def _dataset(data, potential: Potential | None = None) -> Dataset:
    """A Dataset as it is, anything else read: input.data without units in those of the potential."""
    if isinstance(data, Dataset):
        return data
    if data is None or isinstance(data, Potential | int | float):
        raise ConfigError(f"data = {data!r}: must be a Dataset, files, ase.Atoms, or a list of these")
    return read(data, **({} if potential is None else {"assumed_units": potential.units}))


def _as_list(values):
    """A list of several values; what is none is left for the validation."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, dict) else values


def new_potential(
    data,
    functions="default",
    hidden=(25, 25),
    activation="tanh",
    seed: int = 1,
    comm=None,
    baseline: dict | None = None,
    **network,
) -> Potential:
    """Potential with initial weights; scaling, references and units of training are those of `data`, whose
    isolated atoms give the atomic energies alone.

    Collective.

    data       Dataset, or what `read` takes
    functions  "default" or "water", the path of an input.nn, or a list of tables as in [symmetry_functions]
               functions
    hidden     nodes of the hidden layers of each element's net
    activation  of these; tanh goes with the fixed noise of `new_task` and `new_optimizer`
    baseline   keys of [baseline], as in {"zbl": [0.5, 1.0]}
    network    further keys of [network], but for normalize_nodes, which is a matter of the optimizer too
    Raises ConfigError, DataError.
    """
    if network.get("normalize_nodes"):
        raise ConfigError(
            "normalize_nodes = True: means units of the weights that the optimizer sees too, which "
            "new_optimizer knows nothing of: leave it out, or let mpnnp.train make potential and optimizer"
        )
    if isinstance(functions, str | Path):
        named = str(functions) in ("default", "water")
        if not (named or Path(functions).exists()):
            raise ConfigError(
                f'functions = {str(functions)!r}: must be "default" or "water", the path of an input.nn, '
                "or a list of tables; there is no such file"
            )
        section = {"set": functions} if named else {"input_nn": str(Path(functions).resolve())}
    else:
        section = {"functions": _as_list(functions)}
    tree = {"hidden": _as_list(hidden), "activation": activation, **network}
    sections = {"symmetry_functions": section, "network": tree, "baseline": baseline or {}}
    config = make_config(IN_MEMORY | sections | {"run": {"seed": seed}})
    comm, data = serial() if comm is None else comm, _dataset(data).without_isolated_atoms()
    added = baseline_of(config)
    rest = added.subtract(without_ignored_labels(data), comm)
    return replace(build(config, rest, np.arange(len(data)), None, comm, Silent())[0], baseline=added)


def new_task(
    potential: Potential, data, schedule: str = "runner", seed: int = 1, comm=None, **settings
) -> Task:
    """Task: what a potential learns from all structures of `data` but isolated atoms, batch by batch.

    Collective.

    data      Dataset, or what `read` takes
    schedule  "runner" or "sdnz";  settings  other keys of [schedule]: streams, force_fraction, ...; selection
              is "random" if not given, and with "sort" an epoch is task.epoch(number, task.errors(w))

    `task.epoch(number)` gives the batches, `task.observe(batch, w)` of this rank's share of one the rows
    H = s dy/dw (m, n_weight) and the errors s (y_label - y) (m,), in units of training, s being the factor of
    the kind of label: energies in `potential.energy_scale` eV, forces in `potential.force_scale`
    eV/Angstrom. Raises ConfigError, DataError.
    """
    check_potential(potential)
    comm, data = serial() if comm is None else comm, _dataset(data, potential).without_isolated_atoms()
    if schedule == "runner":
        settings = {"selection": "random"} | settings
    section = {"name": schedule} | settings
    config = make_config(IN_MEMORY | {"schedule": section, "ekf": {"noise": "fixed"}, "run": {"seed": seed}})
    everything, key = np.arange(len(data)), data.hash()
    data = potential.baseline.subtract(data, comm)
    config = settle(config, n_label(data, everything), Silent())
    structures = make_atoms(data, potential.elements)
    G = load_symmetry_functions(structures, potential.functions, key, None, comm, Silent())
    observer = Observer(data, structures, G, potential, config.schedule, comm, everything)
    labels = observer.labels.of_structures(structures.start, everything)
    return Task(
        potential,
        RunData(data, everything, everything[:0], key),
        observer,
        make_schedule(config.schedule, labels, seed),
        comm,
    )


def new_optimizer(task: Task, name: str = "ekf", **settings) -> Optimizer:
    """Optimizer for the weights of a task: "ekf", "adam" or another of OPTIMIZERS.

    settings  keys of its section, [ekf] or [adam], with the meaning that they have there (rates are per
              epoch); noise is "fixed": levels of learned noise are those of a run

    `state = optimizer.init()`; `optimizer.update(state, rows, errors)` changes the state and gives what is
    added to the weights (n_weight,): of the Kalman filter K xi, K = P H^T (H P H^T + R)^-1, and P becomes
    P - K H P + q I, with R = I/eta (docs/theory.md); of Adam the step on the gradient of the sum of xi^2.
    Collective, both. Raises ConfigError, and `update` TrainingError when numbers go wrong.
    """
    if not isinstance(task, Task):
        raise ConfigError(f"task = {task!r}: must be a Task, as mpnnp.new_task gives")
    check_name(name, "new_optimizer")
    section = name if name in Config.model_fields else "optimizer"
    known = {"noise": "fixed"} if section == "ekf" else {}  # a Task by itself has no noise levels
    config = make_config(IN_MEMORY | {"run": {"optimizer": name}, section: known | settings})
    if config.learns_noise:
        raise ConfigError(
            f"noise = {config.ekf.noise!r}: needs levels of noise that a whole run estimates, a Task by "
            "itself has none: leave it out (noise = 'fixed'), or let mpnnp.train learn"
        )
    return make_optimizer(config, task.potential.network, task.schedule.updates_per_epoch, task.comm)


def evaluate(potential: Potential, data, comm=None) -> Evaluation:
    """Predictions for all structures of `data` (a Dataset, or what `read` takes), and their accuracies where
    there are labels.

    Collective. `accuracy.rmse["energy"]` is in meV/atom, `accuracy.rmse["force"]` in meV/Angstrom; on rank 0
    `energy` (n_structure,) eV, `forces` (n_atom, 3) eV/Angstrom, and `labels` of the same shapes, NaN where
    there is none. Raises DataError.
    """
    check_potential(potential)
    return evaluate_on(potential, _dataset(data, potential), serial() if comm is None else comm, Silent())


def fisher(
    potential: Potential,
    data,
    kind: str = "energy",
    n_batch: int = 4096,
    matrix: bool = False,
    comm=None,
) -> Spectrum | tuple[Spectrum, np.ndarray] | None:
    """Spectrum of the Fisher information I1 = <h^T h> of single labels, h = dy/dw: see analysis.fisher.

    On rank 0, None elsewhere. Collective. Isolated atoms are not learned from, and have no part in it.

    data     Dataset, or what `read` takes
    kind     "energy" (eV per unit of weight)^2, "force" (eV/Angstrom per unit of weight)^2, or another of
             KINDS
    n_batch  labels that the mean is over, drawn at random: all if there are fewer
    matrix   also the matrix (n_weight, n_weight)
    None where the data have no such labels. Raises ConfigError for an unknown kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind = {kind!r}: must be one of {', '.join(KINDS)}")
    if not (isinstance(n_batch, int | np.integer) and n_batch > 0):
        raise ConfigError(f"n_batch = {n_batch!r}: must be a positive integer")
    check_potential(potential)
    comm, k = serial() if comm is None else comm, position(kind)
    data = _dataset(data, potential).without_isolated_atoms()
    structures = make_atoms(data, potential.elements)
    G = load_symmetry_functions(structures, potential.functions, data.hash(), None, comm, Silent())
    check_finite(G, structures, data, comm)
    gradients = Gradients(data, structures, G, potential, comm)
    spectrum = fisher_spectrum(gradients, k, 1, n_batch, comm)
    batches = gradients.batches(k, 1, n_batch)  # on every rank the same, unlike the spectrum
    if not (matrix and len(batches)):
        return spectrum
    lower = accumulate(gradients.blocks(k, batches, comm), gradients.n, len(batches), comm)
    return None if lower is None else (spectrum, np.tril(lower) + np.tril(lower, -1).T)


def train(
    config,
    directory=None,
    resume: bool = False,
    on_update: Iterable[Callable] = (),
    on_epoch: Iterable[Callable] = (),
    comm=None,
    log: AnyLog | None = None,
    overwrite: bool = False,
) -> RunState:
    """Train as a TOML file, a dict of sections or a Config says;
    results in `directory` (default run.directory; for the config.toml of a run its folder). Collective.

    Relative paths in a TOML file are those of its folder, in a dict or a Config of the working directory.

    on_update  functions (task, state) called after each update;  on_epoch  functions (task, state, point)
               after each evaluation, `point.train.rmse["force"]` and `point.validation` being accuracies as
               of `evaluate`; on the ranks that give them, which may be rank 0 alone if they do not
               communicate. What one of them raises on one rank ends all. One function needs no list
    log        progress.Log; default: what the command shows. progress.Silent() shows warnings alone, as
               those of Python, progress.Muted() nothing; train.log is written all the same
    overwrite  a run that is in the folder keeps its files under another name
    Returns the final RunState, whose best_weights are those of best.h5. Raises ConfigError, DataError,
    FolderError, CheckpointError, OutputError, TrainingError when numbers go wrong, and Interrupted after a
    signal, with a checkpoint written: all of mpnnp.errors, on every rank alike.
    """
    comm = serial() if comm is None else comm
    if not isinstance(config, Config | dict | str | os.PathLike):
        raise ConfigError(f"config = {config!r}: must be a Config, a dict of sections, or a TOML file")
    if isinstance(config, Config):
        config = with_absolute_paths(config, Path.cwd())
    elif isinstance(config, dict):
        config = make_config(config, base=Path.cwd())
    else:
        config = run_folder.in_own_folder(read_config(config), config)
    return train_as_configured(
        config,
        directory or config.run.directory,
        comm,
        _log(log, comm),
        resume,
        _functions("on_update", on_update),
        _functions("on_epoch", on_epoch),
        overwrite,
    )


def continue_from(
    checkpoint,
    data,
    directory,
    epochs: int = 10,
    rehearsal: float = 0.0,
    resume: bool = False,
    comm=None,
    log: AnyLog | None = None,
    overwrite: bool = False,
    **sections,
) -> RunState:
    """Go on learning from a checkpoint.h5, weights and covariance, with new data; results in `directory`.

    Collective.

    data       Dataset, which is kept in directory/data.h5, or files of any format
    rehearsal  share of the structures learned before that are learned again
    log, overwrite  as in `train`
    sections   further keys of a configuration: ekf={"inflation": 2.0}, run={"seed": 3}, ...
    Returns and raises as `train`; ConfigError names settings that the covariance is not of, DataError new
    elements. What another run left in the folder is then as it was.
    """
    comm, in_memory = serial() if comm is None else comm, isinstance(data, Dataset)
    for name, keys in sections.items():
        if not isinstance(keys, dict):
            raise ConfigError(
                f"{name} = {keys!r}: is no argument of continue_from, and of a section of the configuration "
                f'the keys are given as a dict, as in run={{"seed": 3}}'
            )
    if in_memory:
        files = [str(Path(directory).resolve() / "data.h5")]
    else:
        files = [str(Path(file).resolve()) for file in ([data] if isinstance(data, str | Path) else data)]
    given = {"data": {"files": files, "rehearsal": rehearsal}}
    given["run"] = {"from": str(Path(checkpoint).resolve()), "epochs": epochs}
    tree = {name: given.get(name, {}) | sections.get(name, {}) for name in given | sections}
    log = _log(log, comm)
    if in_memory:
        config = make_config(tree, base=Path.cwd())
        # else nothing is begun, and nothing replaced
        on_root(comm, completed, config, Path(directory), resume)
        on_root(comm, _keep, data, Path(directory), resume, overwrite, log)
        overwrite = False  # done
    return train(tree, directory, resume, comm=comm, log=log, overwrite=overwrite)


def _keep(data, directory, resume, overwrite, log):
    """data.h5 in the folder of a run that is about to begin, or to go on with these data.

    Raises FolderError, and CheckpointError if the run in the folder has learned other data.
    """
    if resume and not run_folder.was_begun(directory):
        return  # the training says so
    path, lock = directory / "data.h5", claim(directory, run_folder.KIND, resume, overwrite, log)
    try:
        if resume and path.exists():
            if (then := datasets.read(path).hash()) != data.hash():
                raise CheckpointError(
                    f"{path}: are the data that the run in this folder learns (hash {then[:16]}), others "
                    f"than those to resume with ({data.hash()[:16]}): keep them as they were, or start anew"
                )
        else:
            datasets.write(path, data)
    finally:
        lock.release()


def _functions(name, given):
    """The functions of an argument, which may be one. Raises ConfigError for what is none."""
    functions = (given,) if callable(given) else given
    if not isinstance(functions, Iterable) or not all(map(callable, functions := tuple(functions))):
        raise ConfigError(f"{name} = {given!r}: must be a function, or a list of them")
    return functions


def _log(log, comm):
    """A Log; one that shows nothing for those that cannot write train.log. Raises ConfigError."""
    if log is not None and not hasattr(log, "warn"):
        raise ConfigError(f"log = {log!r}: must be a Log, Silent() or Muted() of mpnnp.progress")
    if isinstance(log, Silent):
        return QuietLog(comm, warns=not isinstance(log, Muted))
    return Log(comm) if log is None else log
