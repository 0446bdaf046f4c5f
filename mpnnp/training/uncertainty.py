"""What a run leaves about the errors of its potential: draws from the posterior of the weights,
and their calibration.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpnnp.data.dataset import Dataset
from mpnnp.data.packed import make_atoms
from mpnnp.errors import CheckpointError
from mpnnp.kernels.packs import Structures
from mpnnp.model.baseline import NONE
from mpnnp.model.potential import Potential, Predictor
from mpnnp.model.prediction import Prediction
from mpnnp.model.spread import Spread, structure_with_spread
from mpnnp.optimizers.posterior import Posterior, has_covariance
from mpnnp.parallel import Comm, agree, on_root
from mpnnp.progress import AnyLog
from mpnnp.run_lock import RunLock, writing
from mpnnp.training.calibration import N_MEMBER, SEED, Calibration, calibrate, errors_and_spread
from mpnnp.training.checkpoint import (
    is_checkpoint,
    read_checkpoint,
    read_posterior,
    read_summary,
    write_checkpoint,
)
from mpnnp.training.history import learned_files, of_checkpoint
from mpnnp.training.judgement import Judge
from mpnnp.training.run_folder import BEST, CHECKPOINT
from mpnnp.training.run_state import RunState

MOST_STRUCTURES = 40  # that a run calibrates with: evenly chosen, some seconds at most


class Uncertainty(NamedTuple):
    """Deviations (n_member, n_weight) of the weights, drawn from N(0, P), and the Calibration."""

    deviations: np.ndarray
    calibration: Calibration


def covariance_file(path: str | Path) -> Path | None:
    """The checkpoint that holds the covariance of the weights of the potential in `path`: the file itself, or
    for the best.h5 of a run its checkpoint.h5 beside it; None if there is none. Raises CheckpointError.
    """
    path = Path(path)
    if not is_checkpoint(path):
        return None
    saved = read_summary(path)
    if has_covariance(saved.optimizer):
        return path
    beside = path.with_name(CHECKPOINT)
    if path.name != BEST or not is_checkpoint(beside):
        return None
    other = read_summary(beside)
    same_run = other.config_text == saved.config_text and has_covariance(other.optimizer)
    return beside if same_run else None


def read_uncertainty(path: str | Path, n_member: int = N_MEMBER, seed: int = SEED) -> Uncertainty:
    """Uncertainty of the potential in a checkpoint. Raises CheckpointError naming it if no covariance is
    known.

    n_member, seed  of the draws, which are the same each time
    """
    file = covariance_file(path)
    if file is None:
        raise CheckpointError(
            f"{path}: no covariance of its weights is known: the checkpoint.h5 of a run with the Kalman "
            f"filter holds it, also for the {BEST} beside it"
        )
    deviations = read_posterior(file).members(n_member, seed)
    return Uncertainty(deviations, Calibration.from_numbers(read_summary(path).progress))


def make_sigma(
    potential: Potential, known: Uncertainty
) -> Callable[[Structures, int], tuple[Prediction, Spread]]:
    """Function (structures, s) -> Prediction and calibrated standard deviations of structure s."""
    predictor = Predictor(potential)

    def predict(structures: Structures, s: int) -> tuple[Prediction, Spread]:
        prediction, spread = structure_with_spread(predictor, known.deviations, structures, s)
        return prediction, known.calibration.calibrated(spread)

    return predict


def calibrate_run(judge: Judge, state: RunState, log: AnyLog) -> Calibration | None:
    """Calibration of the best potential of a run by its validation structures; None, with the reason in the
    log, where there is none. Collective.
    """
    task, config = judge.task, judge.config
    arrays = task.optimizer.save_arrays(state.optimizer)
    if not task.comm.bcast(arrays is not None and has_covariance(arrays), root=0):
        return None
    chosen = task.validation
    if not len(chosen):
        log("standard deviations: not calibrated, as no structures are kept for validation")
        return None
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, MOST_STRUCTURES).astype(int))]
    assert state.best_weights is not None  # since the first evaluation
    potential = task.potential.with_weights(state.best_weights)

    def draw() -> np.ndarray:
        assert arrays is not None  # on rank 0
        ekf, nodes = config.ekf, config.network.normalize_nodes
        posterior = Posterior(arrays, potential.network, ekf.coupling, ekf.fading_memory, nodes)
        return posterior.members(N_MEMBER, SEED)

    try:
        deviations = on_root(task.comm, draw)
    except CheckpointError as error:  # on every rank
        log.warn(f"standard deviations of predictions: none: {error}")
        return None
    observer = task.observer
    nets = replace(potential, baseline=NONE)  # as the labels of the task, which are less the baseline
    found = errors_and_spread(nets, deviations, task.dataset, observer.structures, chosen, task.comm)
    if not len(found.energy.errors) and not len(found.force.errors):
        return None
    calibration = calibrate(found, len(chosen))
    for line in calibration.in_words(found):
        log(line)
    if state.noise is None:
        log(
            'with ekf.noise = "fixed" the covariance is no posterior: standard deviations are right on '
            "average alone"
        )
    return calibration


def calibrate_checkpoint(
    path: str | Path, potential: Potential, data: Dataset, comm: Comm, log: AnyLog
) -> None:
    """Calibrate the potential in a checkpoint by labelled structures that were not learned, and store it
    there. Collective. Raises CheckpointError, DataError; FolderError while a run uses the folder, which would
    write its own checkpoint, OutputError where nothing can be written.
    """
    lock = agree(comm, lambda: None if comm.rank else _lock(Path(path).parent, log))
    try:
        known, data = on_root(comm, read_uncertainty, path), data.without_isolated_atoms()
        structures = make_atoms(data, potential.elements)
        everything = np.arange(len(data))
        found = errors_and_spread(potential, known.deviations, data, structures, everything, comm)
        calibration = calibrate(found, len(data))

        def store() -> None:
            assert lock is not None  # on rank 0
            saved = read_checkpoint(path)
            if files := learned_files(of_checkpoint(saved, path), data):
                log.warn(
                    f"{', '.join(files[:3])}: the potential was learned from these files: errors of what was "
                    "learned are too small, and so are the standard deviations"
                )
            lock.check()
            write_checkpoint(path, saved._replace(progress=saved.progress | calibration.numbers()))

        on_root(comm, store)
    finally:
        if lock is not None:
            lock.release()
    for line in calibration.in_words(found):
        log(line)


def _lock(folder: Path, log: AnyLog) -> RunLock:
    with writing(folder):
        return RunLock(folder, log.warn)
