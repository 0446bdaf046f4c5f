"""Whether a checkpoint and a configuration are of one run:
what may change between two starts of a run, and what may not.
"""

from pathlib import Path

from mpnnp.errors import CheckpointError
from mpnnp.training.checkpoint import config_of

MAY_CHANGE = {  # section -> keys; everything else decides about batches, model or filter
    "data": {
        "files",
        "validation_files",
        "energy_key",
        "forces_key",
        "stress_key",
        "weights",
        "cache",
    },  # the hash of what they hold is compared
    "run": {
        *(
            "directory",
            "epochs",
            "updates",
            "time_limit",
            "patience",
            "checkpoint_updates",
            "checkpoint_minutes",
            "checkpoint_epochs",
        ),
        *(
            "evaluation_structures",
            "energy_metric_weight",
            "force_metric_weight",
            "stress_metric_weight",
            "on_divergence",
        ),
    },
}
PATHS = {("symmetry_functions", "input_nn"), ("network", "weights_from")}  # the folder may have moved
JUDGEMENT = ("evaluation_structures", "energy_metric_weight", "force_metric_weight", "stress_metric_weight")


def check_same_run(saved, config, data_hash, path):
    """Raise CheckpointError naming every key that differs and must not, old and new value.

    saved      Checkpoint
    data_hash  of the data that the configuration names
    """
    before = config_of(saved, path)
    differences = []
    if saved.progress["data"] not in ("", data_hash):
        differences.append(
            f"the data: hash {saved.progress['data'][:16]}, now {data_hash[:16]} "
            "(a file was changed, or structures in other order)"
        )
    other = {"ekf": "adam", "adam": "ekf"}[before.run.optimizer]
    for section, record in before:
        if section == other:
            continue
        new = getattr(config, section)
        for key, old_value in record:
            if key in MAY_CHANGE.get(section, ()):
                continue
            new_value = getattr(new, key)
            if (
                (section, key) in PATHS
                and old_value
                and new_value
                and Path(old_value).name == Path(new_value).name
            ):
                continue
            if old_value != new_value:
                differences.append(f"{section}.{key}: {old_value!r}, now {new_value!r}")
    if differences:
        listed = "\n  ".join(differences)
        raise CheckpointError(
            f"{path} is of another run; resuming it makes no sense with\n  {listed}\n"
            "keep these as they were, or start anew"
        )


def judged_alike(saved, config, path):
    """True if the best potential so far was found by the measure of `config`."""
    before = config_of(saved, path)
    return all(getattr(before.run, key) == getattr(config.run, key) for key in JUDGEMENT)
