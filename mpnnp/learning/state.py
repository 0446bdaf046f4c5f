"""Where the learning stands: state.json in its folder, replaced in one step after every phase."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mpnnp.errors import CheckpointError
from mpnnp.files import write_text

FORMAT_VERSION = 1
PHASES = ("train", "simulate", "choose", "label")  # of a round, in this order


@dataclass(frozen=True)
class Round:
    """A row of the table.

    labels         labelled frames that the potential of this round has learned from, all together
    simulated_ps   of all simulations;  stops: those that were ended
    new_labels     frames labelled in this round, which the next round learns
    energy_error   RMSE of the energies of these before they were learned, meV/atom; None without
    force_error    of the forces, meV/Angstrom
    calibration    what the standard deviations of forces by the posterior were multiplied by in this round
    density        mean of the simulations at constant pressure, their second half, g/cm^3
    seconds        of wall time up to the end of the round
    """

    round: int
    labels: int
    simulated_ps: float = 0.0
    stops: int = 0
    new_labels: int = 0
    energy_error: float | None = None
    force_error: float | None = None
    calibration: float = 1.0
    density: float | None = None
    seconds: float = 0.0

    @property
    def stops_per_ps(self) -> float:
        """Infinite where every simulation was stopped at its start, 0 before there is one."""
        if self.simulated_ps:
            return self.stops / self.simulated_ps
        return float("inf") if self.stops else 0.0


@dataclass(frozen=True)
class State:
    """Where a learning stands.

    phase             of the round under way, one of PHASES
    inflation, noise  calibration.Sigma of force components, by the labels of the last round
    seconds           of wall time so far
    ending            why it ended, "" while it goes on
    rounds            finished ones and the one under way
    """

    phase: str = "train"
    inflation: float = 1.0
    noise: float = 0.0
    seconds: float = 0.0
    ending: str = ""
    rounds: tuple[Round, ...] = field(default_factory=lambda: (Round(0, 0),))

    @property
    def current(self) -> Round:
        return self.rounds[-1]

    def with_current(self, phase: str | None = None, **changes) -> "State":
        """The state with changes to the round under way, in the same or another phase."""
        rounds = (*self.rounds[:-1], replace(self.current, **changes))
        return replace(self, rounds=rounds, phase=phase or self.phase)

    def timed(self, seconds: float) -> "State":
        """The state after so many seconds of wall time; a round that has just ended has them too."""
        k = len(self.rounds) - (2 if self.phase == "train" and len(self.rounds) > 1 else 1)
        rounds = (*self.rounds[:k], replace(self.rounds[k], seconds=seconds), *self.rounds[k + 1 :])
        return replace(self, seconds=seconds, rounds=rounds)

    def next_round(self, **changes) -> "State":
        current = self.current
        new = Round(current.round + 1, current.labels + current.new_labels)
        return replace(self, rounds=(*self.rounds, new), phase="train", **changes)


def write_state(path: Path, state: State) -> None:
    write_text(path, json.dumps({"format_version": FORMAT_VERSION} | asdict(state), indent=1) + "\n")


def read_state(path: Path) -> State:
    """The state in a file; that of the beginning if there is none. Raises CheckpointError."""
    if not path.exists():
        return State()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("format_version") != FORMAT_VERSION:
            raise CheckpointError(f"{path}: is of another version of mpnnp")
        rounds = tuple(Round(**row) for row in found.pop("rounds"))
        state = State(rounds=rounds, **found)
        if state.phase not in PHASES or not rounds:
            raise ValueError(f"phase {state.phase!r}")
        return state
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read, the learning cannot go on from it: {error}") from None
