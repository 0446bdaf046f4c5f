"""The public library: what `import mpnnp` offers to scripts and notebooks,
beside potentials and data sets themselves.

These functions, and nothing else in the package, take one rank for granted: without `comm` they work on
COMM_SELF, no launcher needed. Under mpiexec give them a communicator; they are collective then.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mpnnp.analysis.fisher import Gradients, Spectrum, accumulate, fisher_spectrum
from mpnnp.config import Config, make_config, read_config
from mpnnp.data import dataset as datasets
from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import read_sources
from mpnnp.data.packed import make_atoms
from mpnnp.errors import ConfigError
from mpnnp.model.evaluation import Evaluation
from mpnnp.model.evaluation import evaluate as evaluate_on
from mpnnp.model.label_kinds import KINDS, position
from mpnnp.model.potential import Potential
from mpnnp.model.stored_functions import check_finite, load_symmetry_functions
from mpnnp.optimizers.registry import Optimizer, make_optimizer
from mpnnp.parallel import on_root, serial
from mpnnp.progress import Log, Silent
from mpnnp.training.choices import n_label, settle
from mpnnp.training.initial_potential import baseline_of, build
from mpnnp.training.observations import Observer
from mpnnp.training.run_state import RunState
from mpnnp.training.schedules import make_schedule
from mpnnp.training.start import Data, Task
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


def new_potential(
    data: Dataset,
    functions="default",
    hidden=(25, 25),
    activation="tanh",
    seed: int = 1,
    comm=None,
    baseline: dict | None = None,
    **network,
) -> Potential:
    """Potential with initial weights; scaling, references and units of training are those of `data`.

    Collective.

    functions  "default" or "water", the path of an input.nn, or a list of tables as in [symmetry_functions]
               functions
    hidden     nodes of the hidden layers of each element's net
    activation  of these; tanh goes with the fixed noise of `new_task` and `new_optimizer`
    baseline   keys of [baseline], as in {"zbl": [0.5, 1.0]}
    network    further keys of [network]
    Raises ConfigError, DataError.
    """
    if isinstance(functions, str | Path):
        named = str(functions) in ("default", "water")
        section = {"set": functions} if named else {"input_nn": str(Path(functions).resolve())}
    else:
        section = {"functions": list(functions)}
    tree = {"hidden": list(hidden), "activation": activation, **network}
    sections = {"symmetry_functions": section, "network": tree, "baseline": baseline or {}}
    config = make_config(IN_MEMORY | sections | {"run": {"seed": seed}})
    comm = serial() if comm is None else comm
    added = baseline_of(config)
    rest = added.subtract(data, comm)
    return replace(build(config, rest, np.arange(len(data)), None, comm, Silent())[0], baseline=added)


def new_task(
    potential: Potential, data: Dataset, schedule: str = "runner", seed: int = 1, comm=None, **settings
) -> Task:
    """Task: what a potential learns from all structures of `data`, batch by batch. Collective.

    schedule  "runner" or "sdnz";  settings  other keys of [schedule]: streams, force_fraction, ...
    Raises ConfigError, DataError.
    """
    comm = serial() if comm is None else comm
    if schedule == "runner":
        settings = {"selection": "random"} | settings
    section = {"name": schedule} | settings
    config = make_config(IN_MEMORY | {"schedule": section, "ekf": {"noise": "fixed"}})
    everything, key = np.arange(len(data)), data.hash()
    data = potential.baseline.subtract(data, comm)
    config = settle(config, n_label(data, everything), Silent())
    structures = make_atoms(data, potential.elements)
    G = load_symmetry_functions(structures, potential.functions, key, None, comm, Silent())
    observer = Observer(data, structures, G, potential, config.schedule, comm, everything)
    labels = observer.labels.of_structures(structures.start, everything)
    return Task(
        potential,
        Data(data, everything, everything[:0], key),
        observer,
        make_schedule(config.schedule, labels, seed),
        comm,
    )


def new_optimizer(task: Task, name: str = "ekf", **settings) -> Optimizer:
    """Optimizer for the weights of a task: "ekf", "adam" or another of OPTIMIZERS.

    settings  keys of its section, [ekf] or [adam], with the meaning that they have there (rates are per
              epoch)
    Raises ConfigError.
    """
    section = name if name in Config.model_fields else "optimizer"
    known = {"noise": "fixed"} if section == "ekf" else {}  # a Task by itself has no noise levels
    config = make_config(IN_MEMORY | {"run": {"optimizer": name}, section: known | settings})
    return make_optimizer(config, task.potential.network, task.schedule.updates_per_epoch, task.comm)


def evaluate(potential: Potential, data: Dataset, comm=None) -> Evaluation:
    """Predictions for all structures of `data`, and their accuracies where there are labels.

    Collective. Raises DataError.
    """
    return evaluate_on(potential, data, serial() if comm is None else comm, Silent())


def fisher(
    potential: Potential,
    data: Dataset,
    kind: str = "energy",
    n_batch: int = 4096,
    matrix: bool = False,
    comm=None,
) -> Spectrum | tuple[Spectrum, np.ndarray] | None:
    """Spectrum of the Fisher information I1 = <h^T h> of single labels, h = dy/dw: see analysis.fisher.

    On rank 0. Collective.

    kind     "energy" (eV per unit of weight)^2, "force" (eV/Angstrom per unit of weight)^2, or another of
             KINDS
    n_batch  labels that the mean is over, drawn at random: all if there are fewer
    matrix   also the matrix (n_weight, n_weight)
    None where the data have no such labels. Raises ConfigError for an unknown kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind = {kind!r}: must be one of {', '.join(KINDS)}")
    comm, k = serial() if comm is None else comm, position(kind)
    structures = make_atoms(data, potential.elements)
    G = load_symmetry_functions(structures, potential.functions, data.hash(), None, comm, Silent())
    check_finite(G, structures, data, comm)
    gradients = Gradients(data, structures, G, potential)
    spectrum = fisher_spectrum(gradients, k, 1, n_batch, comm)
    if not matrix or spectrum is None:
        return spectrum
    batches = gradients.batches(k, 1, n_batch)
    lower = accumulate(gradients.blocks(k, batches, comm), gradients.n, len(batches), comm)
    return None if lower is None else (spectrum, np.tril(lower) + np.tril(lower, -1).T)


def train(
    config,
    directory=None,
    resume: bool = False,
    on_update: Iterable[Callable] = (),
    on_epoch: Iterable[Callable] = (),
    comm=None,
    log: Log | None = None,
    overwrite: bool = False,
) -> RunState:
    """Train as a TOML file, a dict of sections or a Config says;
    results in `directory` (default run.directory). Collective.

    on_update  functions (task, state) called after each update;  on_epoch  functions (task, state, point)
               after each evaluation
    log        progress.Log; default: what the command shows
    overwrite  a run that is in the folder keeps its files under another name
    Returns the final RunState, whose best_weights are those of best.h5. Raises as training.train.train.
    """
    comm = serial() if comm is None else comm
    if not isinstance(config, Config):
        config = make_config(config) if isinstance(config, dict) else read_config(config)
    log = Log(comm) if log is None else log
    return train_as_configured(
        config, directory or config.run.directory, comm, log, resume, on_update, on_epoch, overwrite
    )


def continue_from(
    checkpoint,
    data,
    directory,
    epochs: int = 10,
    rehearsal: float = 0.0,
    resume: bool = False,
    comm=None,
    log: Log | None = None,
    **sections,
) -> RunState:
    """Go on learning from a checkpoint.h5, weights and covariance, with new data; results in `directory`.

    Collective.

    data       Dataset, which is kept in directory/data.h5, or files of any format
    rehearsal  share of the structures learned before that are learned again
    sections   further keys of a configuration: ekf={"inflation": 2.0}, run={"seed": 3}, ...
    Returns as `train`. Raises ConfigError, DataError, CheckpointError: see training.continuation.
    """
    comm = serial() if comm is None else comm
    if isinstance(data, Dataset):
        files = str(Path(directory).resolve() / "data.h5")
        on_root(comm, _keep, data, files)
    else:
        files = [str(Path(file).resolve()) for file in ([data] if isinstance(data, str | Path) else data)]
    given = {"data": {"files": files, "rehearsal": rehearsal}}
    given["run"] = {"from": str(Path(checkpoint).resolve()), "epochs": epochs}
    tree = {name: given.get(name, {}) | sections.get(name, {}) for name in given | sections}
    return train(tree, directory, resume, comm=comm, log=log)


def _keep(data, path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    datasets.write(path, data)
