"""What a potential has learned from which data: a list in its checkpoint, one entry for each run."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpnnp.config import Config, Data, make_config
from mpnnp.data.dataset import Dataset
from mpnnp.errors import CheckpointError
from mpnnp.training.checkpoint import Checkpoint, config_of

if TYPE_CHECKING:
    from mpnnp.training.start import RunData


@dataclass(frozen=True)
class Learned:
    """The part of one run.

    hash        of its own data: labels, geometry and split
    section     [data] of its configuration: where they are, and how they are split
    seed        of the split
    structures  for training, the rehearsed ones not counted; 0 if not known
    rehearsed   structures of earlier runs that were learned again
    updates     of the weights
    shifts      source -> symbol -> eV that was subtracted for each atom, see data.shift_energies
    """

    hash: str
    section: dict
    seed: int
    structures: int = 0
    rehearsed: int = 0
    updates: int = 0
    shifts: dict = field(default_factory=dict)

    def data(self) -> Data:
        """The section [data]. Raises ConfigError."""
        return make_config({"data": self.section}, lenient=True).data

    def in_words(self) -> str:
        files = ", ".join(self.section.get("files", []))
        counts = f"{self.structures or 'an unknown number of'} structures, {self.updates} updates"
        again = f", with {self.rehearsed} of before" if self.rehearsed else ""
        shifted = ", energies shifted" if self.shifts else ""
        return f"{files} (hash {self.hash[:16] or 'not known'}): {counts}{again}{shifted}"


def of_run(data: "RunData", config: Config, updates: int) -> Learned:
    """The entry of a run after so many updates.

    data  start.RunData
    """
    section: dict[str, Any] = {key: value for key, value in config.data if value is not None}
    return Learned(
        hash=data.own_hash,
        section=section,
        seed=config.run.seed_of("split"),
        structures=len(data.train) - data.n_rehearsed,
        rehearsed=data.n_rehearsed,
        updates=updates,
        shifts=data.shifts,
    )


def to_text(entries: Iterable[Learned]) -> str:
    return json.dumps([asdict(entry) for entry in entries])


def of_checkpoint(saved: Checkpoint, path: str | Path) -> tuple[Learned, ...]:
    """Entries of a checkpoint, the oldest first; of one that has no list what its configuration says.

    Raises CheckpointError.
    """
    if saved.learned:
        try:
            return tuple(Learned(**entry) for entry in json.loads(saved.learned))
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: its list of learned data cannot be read: {error}") from None
    config = config_of(saved, path)
    section = {key: value for key, value in config.data if value is not None}
    progress = saved.progress
    return (
        Learned(
            hash=progress.get("data", ""),
            section=section,
            seed=config.run.seed_of("split"),
            updates=progress.get("update", 0),
        ),
    )


def learned_files(entries: Iterable[Learned], data: Dataset) -> list[str]:
    """The source files of a Dataset that were learned from: all of them if the whole set was."""
    entries, names = list(entries), [data.source_names[k] for k in sorted(set(data.source.tolist()))]
    if data.hash() in {entry.hash for entry in entries}:
        return names
    known = {os.path.realpath(file) for entry in entries for file in entry.section.get("files", [])}
    return [name for name in names if os.path.realpath(name) in known]
