"""Whether a checkpoint and a configuration are of one run:
what may change between two starts of a run, and what may not.
"""

from pathlib import Path
from typing import Any

from mpnnp.config import Config
from mpnnp.config.fields import key_of
from mpnnp.errors import CheckpointError
from mpnnp.optimizers.registry import OPTIMIZERS
from mpnnp.training.checkpoint import Checkpoint, config_of
from mpnnp.training.choices import with_choices_of
from mpnnp.training.run_state import OLD
from mpnnp.training.start import RunData

# section -> keys that may change; everything else decides about batches, model or filter
MAY_CHANGE = {
    "data": {"files", "validation_files", "weights", "cache"},  # the hash of what they hold is compared
    "ekf": {"inflation"},  # done before the first update
    "run": {
        "checkpoint_epochs",
        "checkpoint_minutes",
        "checkpoint_updates",
        "directory",
        "epochs",
        "evaluation_structures",
        "on_divergence",
        "patience",
        "time_limit",
        "updates",
    },
}
# measures of the best potential; names of labels in data, whose hash is compared
MAY_CHANGE_ENDINGS = ("_metric_weight", "_key")
# their folder may have moved
PATHS = {
    ("symmetry_functions", "input_nn"),
    ("symmetry_functions", "scaling_data"),
    ("network", "weights_from"),
    ("run", "from_"),
}


def check_same_run(saved: Checkpoint, config: Config, data: RunData, path: str | Path) -> None:
    """Raise CheckpointError naming every key that differs and must not, old and new value.

    data  that the configuration names; what was learned before may be gone by now, or there again
    """
    before = config_of(saved, path)
    differences = []
    data_hash = data.hash if OLD in saved.progress else data.hash_with_old
    if saved.progress["data"] not in ("", data_hash):
        differences.append(
            f"the data: hash {saved.progress['data'][:16]}, now {data_hash[:16]} "
            "(a file was changed, or structures in other order)"
        )
    differences += _differences(before, with_choices_of(config, before))
    if differences:
        listed = "\n  ".join(differences)
        raise CheckpointError(
            f"{path} is of another run; resuming it makes no sense with\n  {listed}\n"
            "keep these as they were, or start anew"
        )


def _differences(before: Config, now: Config) -> list[str]:
    """Keys that differ and must not, with both values."""
    other_optimizers = set(OPTIMIZERS) - {before.run.optimizer}
    return [
        f"{section}.{key_of(key)}: {old!r}, now {new!r}"
        for section, record in before
        if section not in other_optimizers
        for key, old in record
        if not _may_change(section, key, old, new := getattr(getattr(now, section), key, None))
    ]


def _may_change(section: str, key: str, old: Any, new: Any) -> bool:
    if old == new or key in MAY_CHANGE.get(section, ()) or key.endswith(MAY_CHANGE_ENDINGS):
        return True
    return bool((section, key) in PATHS and old and new and Path(old).name == Path(new).name)


def same_judges(saved: Checkpoint, config: Config, data: RunData, path: str | Path) -> bool:
    """True if the learning curve so far is made of the same structures as that of this run."""
    same_old = saved.progress.get(OLD, data.old_hash) == data.old_hash
    return same_old and config_of(saved, path).run.evaluation_structures == config.run.evaluation_structures
