"""Ensembles: the same run with several seeds, one after another or side by side
on sub-communicators of one MPI job.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mpnnp.config import Config, read_config, to_toml
from mpnnp.errors import CheckpointError, ConfigError, Interrupted, TrainingError
from mpnnp.parallel import Comm, agree, maximum, of_all_ranks, of_team, on_root, raise_if, share_teams
from mpnnp.progress import AnyLog, Log, SideLog, counted
from mpnnp.signals import Signals, name
from mpnnp.training import continuation, run_folder
from mpnnp.training.choices import with_choices_of
from mpnnp.training.run_groups import MEMBER
from mpnnp.training.start import assemble, load_data
from mpnnp.training.train import train
from mpnnp.training.warm_up import compile_kernels

OVER = ("both", "split", "weights")
ADVICE = "the same command goes on: finished members are kept, begun ones continue"


def seeds_of(text: str) -> list[int]:
    """Seeds of "1-3,7": 1, 2, 3, 7. Raises ConfigError."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match:
            raise ConfigError(f"--seeds {text}: expected numbers and ranges such as 1-10 or 1,4,7-9")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigError(f"--seeds {text}: {first}-{last} is empty")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text}: a seed is given twice")
    return seeds


def member_config(config: Config, seed: int, over: str) -> Config:
    """Config of a member.

    over   both: run.seed, so split, weights and batches differ; split, weights: only that differs, the rest
           follows run.seed of `config`
    """
    check_over(config, over)
    key = {"both": "seed", "split": "split_seed", "weights": "weight_seed"}[over]
    return config.with_keys("run", **{key: seed})


def check_over(config: Config, over: str) -> None:
    """Raise ConfigError for an `over` that is none, or that leaves members alike which shall differ."""
    if over not in OVER:
        raise ConfigError(f"--over {over}: must be {', '.join(OVER)}")
    data, run, why = config.data, config.run, ""
    given = run.from_ or (config.network.weights_from if config.network.initializer == "files" else None)
    if over == "weights" and given:
        why = f"all members would begin with the weights of {given}: take --over split or both"
    elif over == "split" and data.validation_fraction == 0.0:
        why = "data.validation_fraction = 0.0 leaves nothing to split: take --over weights or both"
    elif over == "split" and (data.split == "file" or (data.validation_files and data.split == "auto")):
        why = "the data say which structures are for validation: take --over weights or both"
    elif over == "both" and run.weight_seed is not None and not given:
        why = (
            f"run.weight_seed = {run.weight_seed} would give all members the same initial weights: leave it "
            "out, or take --over split"
        )
    if why:
        raise ConfigError(f"--over {over}: {why}")


def _check_teams(side_by_side, size):
    if not 1 <= side_by_side <= size:
        raise ConfigError(f"--side-by-side {side_by_side}: must be 1 to the number of ranks, which is {size}")


def run_ensemble(
    config: Config,
    seeds: Sequence[int],
    over: str,
    folder: Path,
    comm: Comm,
    log: AnyLog,
    side_by_side: int = 1,
    overwrite: bool = False,
) -> dict[int, str]:
    """Train a member for each seed in folder/seed-N; returns seed -> "trained", "was finished" or the error
    that ended it. Collective.

    side_by_side   members trained at once, each on comm.size / side_by_side ranks
    overwrite      begin all members anew; what their folders hold is kept under other names
    Finished members are left as they are, begun ones continue from their checkpoints. A member whose numbers
    go wrong does not end the others. Raises the errors of `train.train` but for TrainingError.
    """
    on_root(comm, _check_teams, side_by_side, comm.size)
    on_root(comm, check_over, config, over)
    if over == "both" and config.run.split_seed is not None:
        log(f"run.split_seed = {config.run.split_seed}: all members have the same structures for validation")
    members = {seed: (member_config(config, seed, over), folder / f"{MEMBER}{seed}") for seed in seeds}
    todo = [seed for seed in seeds if overwrite or not on_root(comm, is_finished, *members[seed])]
    outcome = {seed: "was finished" for seed in seeds if seed not in todo}
    if todo and side_by_side > 1:
        _prepare(*members[todo[0]], folder, comm, log, overwrite)
    team, own = share_teams(comm, side_by_side)
    mine = {seed: members[seed] for seed in todo[team::side_by_side]}
    with Signals(comm, ADVICE) as signals:
        signals.holding = side_by_side > 1  # no team may end the others while they save
        results, error = of_team(own, _train_team, mine, own, side_by_side, overwrite, signals)
    agree(comm, raise_if, error)
    own.Free()
    for part in comm.allgather(results):
        outcome |= part
    return {seed: outcome[seed] for seed in seeds}


def is_finished(config: Config, directory: Path) -> bool:
    """True if the run in `directory` came to its end with this configuration; what that leaves to the run is
    taken as the run chose it.
    """
    stored = directory / "config.toml"
    if not (run_folder.came_to_its_end(directory) and stored.is_file()):
        return False
    try:
        run, config = read_config(stored), continuation.completed(config, directory, resume=True)
    except (ConfigError, CheckpointError):  # of another version, or without what it goes on from: when it is
        return False  # resumed, the training decides what to do with it
    return stored.read_text(encoding="utf-8") == to_toml(with_choices_of(config, run))


def _train_team(members, comm, side_by_side, overwrite, signals):
    """seed -> outcome of the members of one team of ranks, one after another. Raises Interrupted."""
    outcome = {}
    for seed, (config, directory) in members.items():
        if received := int(maximum(comm, [signals.received])[0]):
            raise of_all_ranks(Interrupted(f"{name(received)}: stopped before seed {seed}; {ADVICE}"))
        own_log = Log(comm) if side_by_side == 1 else SideLog(comm, f"seed {seed}")
        say = Log(comm)
        begun = not overwrite and on_root(comm, run_folder.was_begun, directory)
        say(f"seed {seed}: {'goes on' if begun else 'begins'}, in {directory}")
        try:
            state = train(config, directory, comm, own_log, resume=begun, overwrite=overwrite)
            outcome[seed] = "trained"
            say(f"seed {seed}: {counted(state.update, 'update')}, {state.seconds:.0f} s")
        except TrainingError as error:  # on every rank of the team alike
            outcome[seed] = str(error).splitlines()[0]
            say.warn(f"seed {seed}: {error}")
        finally:
            own_log.close()
    return outcome


def _prepare(config, directory, folder, comm, log, overwrite):
    """Kernels and the files of the data made once, by all ranks, and not by each team.

    config, directory  of a member that is trained
    """
    on_root(comm, lambda: folder.mkdir(parents=True, exist_ok=True))
    resume = not overwrite and on_root(comm, run_folder.has_checkpoint, directory)
    config = on_root(comm, continuation.completed, config, directory, resume)
    compile_kernels(comm, log, config.schedule)
    if config.run.from_ is None:
        assemble(config, comm, log, folder)
        return
    origin = continuation.origin_of(config, directory, comm, resume)
    data = continuation.with_old_data(load_data(config, comm, log, folder), origin, config, comm, log, folder)
    data.functions(origin.saved.potential.functions, comm, log)
