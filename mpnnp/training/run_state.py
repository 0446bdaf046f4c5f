"""Where a run stands, and how it goes into a checkpoint and comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mpnnp.config import Config, to_toml
from mpnnp.model.label_kinds import KINDS
from mpnnp.progress import counted
from mpnnp.training import history
from mpnnp.training.checkpoint import Checkpoint
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.noise import NoiseLevels
from mpnnp.training.start import Task

ESTIMATES = ("validation", "innovation")  # of NoiseLevels
OLD = "data_old"  # hash of the validation structures of what was learned before, "" without
MAXIMUM_WEIGHT = 1e4  # weights beyond this, or this many times the largest at the start, have run away
NUMBERS = (
    "epoch",
    "done",
    "settled",
    "update",
    "seconds",
    "best",
    "best_epoch",
    "skipped",
    "skipped_in_row",
    "weight_limit",
)


@dataclass(repr=False)
class RunState:
    """Where a run stands: exactly what a checkpoint stores, beside the arrays of the optimiser.

    weights (n_weight,) are those of the moment, best_weights those of best.h5, after epoch best_epoch;
    update counts all updates, and `curve.columns()` is the learning curve, column -> array
    """

    weights: np.ndarray
    optimizer: object
    curve: LearningCurve
    epoch: int = 1  # the epoch under way, from 1
    done: int = 0  # its updates that are done
    settled: int = 0  # the last epoch after which the prior of the offsets was settled
    update: int = 0  # updates done in all, those left out included
    seconds: float = 0.0  # of training so far
    best: float = np.inf  # smallest validation measure ...
    best_epoch: int = 0  # ... its epoch ...
    best_weights: np.ndarray | None = None  # ... and its weights
    skipped: int = 0  # updates left out because their numbers went wrong ...
    skipped_in_row: int = 0  # ... the last of them without another between
    weight_limit: float = MAXIMUM_WEIGHT
    # of each kind, training units, last evaluation
    rmse: np.ndarray = field(default_factory=lambda: np.ones(len(KINDS)))
    noise: NoiseLevels | None = None  # with ekf.noise = "learned"
    sort_errors: list | None = None  # |errors| of each kind at the start of the epoch, for sorted selection

    def __repr__(self):
        return (
            f"RunState({counted(self.update, 'update')} in {self.seconds:.0f} s, {len(self.weights)} "
            f"weights; best measure {self.best:.4g} after epoch {self.best_epoch})"
        )


def new_state(task: Task) -> RunState:
    """RunState before the first update. Collective."""
    w = task.potential.weights
    return RunState(
        weights=w.copy(),
        optimizer=task.optimizer.init(),
        curve=LearningCurve(),
        best_weights=w.copy(),
        weight_limit=MAXIMUM_WEIGHT * max(1.0, float(np.abs(w).max())),
        noise=None if task.observer.noise is None else NoiseLevels(offsets=np.zeros(task.n_offset)),
    )


def to_checkpoint(
    state: RunState,
    task: Task,
    config: Config,
    optimizer: dict[str, np.ndarray] | None,
    trained: Mapping[str, float] | None = None,
) -> Checkpoint:
    """Checkpoint of a RunState.

    optimizer  arrays of `save_arrays`
    trained    numbers of the TrainingRange
    """
    progress = dict(trained or {}) | {name: getattr(state, name) for name in NUMBERS}
    progress |= {f"{name}_rmse": state.rmse[kind] for kind, name in enumerate(KINDS)}
    progress |= {f"{name}_unit": unit for name, unit in zip(KINDS, task.observer.labels.units)}
    if state.noise is not None:
        progress["noise_passes"] = state.noise.passes
        progress["noise_correlation"] = state.noise.correlation
        progress["offset_variance"] = state.noise.offset_variance
        for what in ESTIMATES:
            progress |= {f"{name}_noise_{what}": x for name, x in zip(KINDS, getattr(state.noise, what))}
    progress |= {"data": task.data.hash, OLD: task.data.old_hash}
    progress |= {"n_rank": task.comm.size, "optimizer": config.run.optimizer}
    arrays = {}
    if state.sort_errors is not None:
        arrays |= {f"{name}_errors": state.sort_errors[kind] for kind, name in enumerate(KINDS)}
    if state.noise is not None and len(state.noise.offsets):
        arrays["offsets"] = state.noise.offsets
    return Checkpoint(
        potential=task.potential.with_weights(state.weights),
        config_text=to_toml(config),
        progress=progress,
        optimizer=optimizer or {},
        curve=state.curve.columns(),
        arrays=arrays,
        best_weights=state.best_weights,
        learned=history.to_text([*task.data.before, history.of_run(task.data, config, state.update)]),
    )


def noise_levels(progress: Mapping) -> NoiseLevels | None:
    """NoiseLevels in a checkpoint's progress, without offsets; None if it has none."""
    if "noise_passes" not in progress:
        return None
    validation, innovation = (
        np.array([progress.get(f"{name}_noise_{what}", np.nan) for name in KINDS]) for what in ESTIMATES
    )
    correlation = progress.get("noise_correlation", 0.0)
    return NoiseLevels(validation, innovation, progress["noise_passes"], correlation)


def from_checkpoint(saved: Checkpoint, task: Task) -> RunState:
    """RunState of a Checkpoint, whose optimizer's arrays are on rank 0. Offsets that it does not hold, as one
    of mpnnp 0.2 or of other data does not, begin anew.

    Collective. Raises CheckpointError.
    """
    progress, arrays = saved.progress, saved.arrays
    noise, offsets = noise_levels(progress), arrays.get("offsets", np.zeros(0))
    if noise is not None:
        noise.offsets = np.zeros(task.n_offset)
        if len(offsets) == task.n_offset:
            noise.offsets[:], noise.offset_variance = offsets, progress.get("offset_variance", 1.0)
    sorts = any(name.endswith("_errors") for name in arrays)
    return RunState(
        weights=saved.potential.weights.copy(),
        optimizer=task.optimizer.load_arrays(saved.optimizer),
        curve=LearningCurve(saved.curve),
        best_weights=saved.best_weights,
        rmse=np.array([progress.get(f"{name}_rmse", 1.0) for name in KINDS]),
        noise=noise,
        sort_errors=[arrays.get(f"{name}_errors", np.zeros(0)) for name in KINDS] if sorts else None,
        **{name: progress[name] for name in NUMBERS if name in progress},
    )
