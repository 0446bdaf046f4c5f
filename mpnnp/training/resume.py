"""Whether a checkpoint and a configuration are of one run:
what may change between two starts of a run, and what may not.
"""

from pathlib import Path

from mpnnp.config import Config
from mpnnp.config.fields import key_of
from mpnnp.errors import CheckpointError
from mpnnp.optimizers.registry import OPTIMIZERS
from mpnnp.training.checkpoint import Checkpoint, config_of
from mpnnp.training.choices import with_choices_of
from mpnnp.training.run_state import OLD
from mpnnp.training.start import Data

MAY_CHANGE = {  # section -> keys; everything else decides about batches, model or filter
    "data": {"files", "validation_files", "weights", "cache"},  # the hash of what they hold is compared
    "ekf": {"inflation"},  # done before the first update
    "run": {
        *(
            "directory",
            "epochs",
            "updates",
            "time_limit",
            "patience",
            "on_divergence",
            "evaluation_structures",
        ),
        *("checkpoint_updates", "checkpoint_minutes", "checkpoint_epochs"),
    },
}
MAY_CHANGE_ENDINGS = (
    "_metric_weight",
    "_key",
)  # measures of the best potential; names of labels in data, whose hash is compared
PATHS = {
    ("symmetry_functions", "input_nn"),
    ("symmetry_functions", "scaling_data"),
    ("network", "weights_from"),
    ("run", "from_"),
}  # the folder may have moved


def check_same_run(saved: Checkpoint, config: Config, data: Data, path: str | Path) -> None:
    """Raise CheckpointError naming every key that differs and must not, old and new value.

    data  that the configuration names; what was learned before may be gone by now, or there again
    """
    before = config_of(saved, path)
    config = with_choices_of(config, before)
    differences = []
    data_hash = data.hash if OLD in saved.progress else data.hash_with_old
    if saved.progress["data"] not in ("", data_hash):
        differences.append(
            f"the data: hash {saved.progress['data'][:16]}, now {data_hash[:16]} "
            "(a file was changed, or structures in other order)"
        )
    others = set(OPTIMIZERS) - {before.run.optimizer}
    for section, record in before:
        if section in others:
            continue
        new = getattr(config, section)
        for key, old_value in record:
            if key in MAY_CHANGE.get(section, ()) or key.endswith(MAY_CHANGE_ENDINGS):
                continue
            new_value = getattr(new, key, None)
            if (
                (section, key) in PATHS
                and old_value
                and new_value
                and Path(old_value).name == Path(new_value).name
            ):
                continue
            if old_value != new_value:
                differences.append(f"{section}.{key_of(key)}: {old_value!r}, now {new_value!r}")
    if differences:
        listed = "\n  ".join(differences)
        raise CheckpointError(
            f"{path} is of another run; resuming it makes no sense with\n  {listed}\n"
            "keep these as they were, or start anew"
        )


def same_judges(saved: Checkpoint, config: Config, data: Data, path: str | Path) -> bool:
    """True if the learning curve so far is made of the same structures as that of this run."""
    same_old = saved.progress.get(OLD, data.old_hash) == data.old_hash
    return same_old and config_of(saved, path).run.evaluation_structures == config.run.evaluation_structures
