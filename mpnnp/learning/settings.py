"""What `mpnnp learn` is asked to do: a training configuration with sections of its own beside it."""

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mpnnp.config import (
    Config,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Section,
    StringList,
    explain,
    integers_to_floats,
    make_config,
    read_toml,
    resolve,
)
from mpnnp.errors import ConfigError
from mpnnp.simulation.integrators import Protocol

Numbers = list[Positive]


def _listed(value):
    return value if isinstance(value, list) else [value]


class Simulation(Section):
    """Simulations that the potential must survive: one for every combination of what is a list."""

    start: StringList = Field(
        min_length=1
    )  # structures to start from, the last frame of each file; relative to
    # this file
    ensemble: Literal["nve", "nvt", "npt"] = "nvt"
    temperature: list[Positive] = [300.0]  # K
    pressure: list[Annotated[float, Field(allow_inf_nan=False)]] = [1.0]  # bar, npt
    density: list[Positive] = []  # g/cm^3: the cell of the start is scaled, its molecules stay rigid
    copies: Count = 1  # of each, with other velocities
    time: Positive = 10.0  # ps
    timestep: Positive = 0.5  # fs
    thermostat: Literal["berendsen", "langevin", "bussi"] = "berendsen"
    barostat: Literal["berendsen", "mtk"] = "berendsen"
    tau_t: Positive = 50.0  # fs
    tau_p: Positive = 500.0  # fs
    compressibility: Positive = 4.57e-5  # 1/bar

    _lists = field_validator("temperature", "pressure", "density", mode="before")(_listed)

    @model_validator(mode="after")
    def _no_idle_keys(self):
        idle = {"npt": ("thermostat",)}.get(self.ensemble, ("barostat", "pressure"))
        if given := [key for key in idle if key in self.model_fields_set]:
            raise ValueError(f"{', '.join(given)}: without effect with ensemble = '{self.ensemble}'")
        return self


class Stop(Section):
    """When a simulation is stopped: at a frame that one of these says is not known."""

    force_std: Positive | None = 0.3  # eV/Angstrom: the largest standard deviation of the force on an atom,
    # calibrated by the errors of the last labels
    extrapolations: Fraction | None = (
        0.02  # share of all symmetry functions outside the range of what was learned
    )
    distance: NotNegative = 0.55  # two atoms nearer than this many times the sum of their covalent radii
    every: Positive = 20.0  # fs between frames that are kept and looked at
    frames: Count = 4  # that are candidates: the last ones before a stop, or spread over a simulation without
    members: Annotated[int, Field(ge=2)] = 8  # drawn from the posterior N(w, P) for the standard deviation


class Choose(Section):
    """Which candidates are labelled."""

    by: Literal["kalman", "random", "farthest"] = (
        "kalman"  # kalman: those that P says tell most, each given those
    )
    # chosen before it
    frames: Count = 10  # per round at most
    forces: Count = 30  # kalman: force components of each candidate that are looked at, at random


class LabelBy(Section):
    """Where labels come from."""

    by: str = "files"  # a potential or ase:NAME[:key=value,...] as in mpnnp label; files: wait for them
    units: str | None = None  # of files that do not state theirs
    max_force: Positive = 50.0  # eV/Angstrom: frames with larger forces are left out


class Update(Section):
    """How the filter goes on with new labels: see docs/learning.md."""

    epochs: Count = 10
    rehearsal: Fraction = 1.0  # of the structures learned before, in each update of the filter
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = (
        0.0  # of the new frames, which are not learned then
    )


class End(Section):
    """When it is enough."""

    labels: Count = 150  # labelled frames in all, those of [data] included
    rounds: Count = 30
    stops_per_ps: NotNegative = 0.0  # all simulations together; not more than this is enough


class Learning(Section):
    """All sections of learn.toml that are not a training's."""

    simulations: list[Simulation] = Field(min_length=1)
    stop: Stop = Stop()
    choose: Choose = Choose()
    label: LabelBy = LabelBy()
    update: Update = Update()
    end: End = End()


class Case(Section):
    """One simulation: where it starts, and its protocol."""

    name: str
    start: str
    density: float | None
    protocol: dict[str, Any]

    def make_protocol(self, seed: int, every: float) -> Protocol:
        """The Protocol with a seed, and a frame and a row every so many fs."""
        return Protocol(**self.protocol, seed=seed, log_every=every, save_every=every)


def read_learning(path: str | Path, settings=()) -> tuple[Learning, Config]:
    """(Learning, Config of the trainings) of a TOML file. Raises ConfigError."""
    tree, path = read_toml(path, settings), Path(path)
    own = {name: tree.pop(name) for name in list(tree) if name in Learning.model_fields}
    if isinstance(own.get("simulations"), list):
        own["simulations"] = [integers_to_floats(Simulation, s) for s in own["simulations"]]
    try:
        learning = Learning.model_validate(integers_to_floats(Learning, own))
    except ValidationError as error:
        raise ConfigError("\n".join(explain(e, str(path), Learning) for e in error.errors())) from None
    base = path.parent
    simulations = [
        s.model_copy(update={"start": [resolve(file, base) for file in s.start]})
        for s in learning.simulations
    ]
    by = learning.label.by
    if by != "files" and not by.startswith("ase:"):
        by = ",".join(resolve(part, base) for part in by.split(","))
    learning = learning.model_copy(
        update={"simulations": simulations, "label": learning.label.model_copy(update={"by": by})}
    )
    config = make_config(tree, str(path), base)
    if config.run.optimizer != "ekf":
        raise ConfigError(
            f"run.optimizer = '{config.run.optimizer}': learn needs the covariance of ekf ({path})"
        )
    for case in cases(learning):
        case.make_protocol(0, learning.stop.every)
    return learning, config


def cases(learning: Learning) -> list[Case]:
    """Every simulation of a round."""
    found: list[Case] = []
    for s in learning.simulations:
        pressures = s.pressure if s.ensemble == "npt" else s.pressure[:1]
        for start, temperature, pressure, density, _ in itertools.product(
            s.start, s.temperature, pressures, s.density or [None], range(s.copies)
        ):
            words = [f"{s.ensemble}", f"{temperature:g}K"]
            words += [f"{pressure:g}bar"] if s.ensemble == "npt" else []
            words += [f"{density:g}gcm3"] if density else []
            protocol = {
                name: getattr(s, name)
                for name in ("ensemble", "barostat", "time", "timestep", "tau_t", "tau_p", "compressibility")
            }
            protocol |= {"temperature": temperature, "pressure": pressure}
            if s.ensemble != "npt":
                protocol["thermostat"] = s.thermostat
            name = "-".join([f"{len(found):02d}", *words])
            found.append(Case(name=name, start=start, density=density, protocol=protocol))
    return found
