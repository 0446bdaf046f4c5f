"""What `mpnnp learn` is asked to do: a training configuration with sections of its own beside it."""

import difflib
import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, WithJsonSchema, field_validator, model_validator

from mpnnp.config import Config, make_config
from mpnnp.config.fields import (
    BelowOne,
    Count,
    Finite,
    Fraction,
    NotNegative,
    Positive,
    Section,
    key,
    known_units,
    string_list,
)
from mpnnp.config.reading import explain, integers_to_floats, read_toml, resolve
from mpnnp.errors import ConfigError
from mpnnp.simulation.integrators import Protocol

# beyond are no densities in g/cm^3 of matter that is simulated: kg/m^3, perhaps
Density = Annotated[float, Field(gt=0, le=100)]
ANY_OF = WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]})


def _listed(value):
    return value if isinstance(value, list) else [value]


class Simulation(Section):
    """Simulations that the potential must survive: one for every combination of what is a list."""

    start: string_list(at_least=1) = key(
        ..., "Structures to start from, the last frame of each file. Relative to this file."
    )
    ensemble: Literal["nve", "nvt", "npt"] = key("nvt", "What is kept constant.")
    temperature: Annotated[list[Positive], Field(min_length=1), ANY_OF] = key([300.0], "Temperatures.", "K")
    pressure: Annotated[list[Finite], Field(min_length=1), ANY_OF] = key([1.0], "Pressures of npt.", "bar")
    density: Annotated[list[Density], ANY_OF] = key(
        [], "The cell of the start is scaled to these, molecules stay rigid.", "g/cm^3"
    )
    copies: Count = key(1, "Simulations of each kind, with other velocities.")
    time: Positive = key(10.0, "Length of each.", "ps")
    timestep: Positive = key(0.5, "Time step.", "fs")
    thermostat: Literal["berendsen", "langevin", "bussi"] = key("berendsen", "Of nvt.")
    barostat: Literal["berendsen", "mtk"] = key("berendsen", "Of npt, with its thermostat.")
    tau_t: Positive = key(50.0, "Time constant of the thermostat.", "fs")
    tau_p: Positive = key(500.0, "Time constant of the barostat.", "fs")
    compressibility: Positive = key(4.57e-5, "For Berendsen's barostat.", "1/bar")

    _lists = field_validator("temperature", "pressure", "density", mode="before")(_listed)

    @model_validator(mode="after")
    def _no_idle_keys(self):
        idle = {"npt": ("thermostat",)}.get(self.ensemble, ("barostat", "pressure"))
        if given := [name for name in idle if name in self.model_fields_set]:
            raise ValueError(f"{', '.join(given)}: without effect with ensemble = '{self.ensemble}'")
        return self


class Stop(Section):
    """When a simulation is stopped: at a frame that one of these says is not known."""

    force_std: Positive | None = key(
        0.3,
        "Largest standard deviation of the force on an atom, by the posterior, calibrated by the errors of "
        "the last labels.",
        "eV/Angstrom",
    )
    extrapolations: Fraction | None = key(
        0.02, "Share of all symmetry functions that are outside the range of what was learned."
    )
    distance: NotNegative = key(
        0.55, "Two atoms nearer than this many times the sum of their covalent radii; 0: not looked at."
    )
    every: Positive = key(20.0, "Time between frames that are kept and looked at.", "fs")
    frames: Count = key(
        4, "Candidates: the last frames before a stop, or as many spread over a simulation that lasts."
    )
    members: Annotated[int, Field(ge=2)] = key(
        6, "Draws of the weights from their posterior for the standard deviation."
    )


class Choose(Section):
    """Which candidates are labelled."""

    by: Literal["kalman", "random", "farthest"] = key(
        "kalman", "kalman: those that tell most by P, each given those chosen before it."
    )
    frames: Count = key(10, "Per round at most.")
    forces: Count = key(30, "kalman: force components of each candidate that are looked at, drawn at random.")


class LabelBy(Section):
    """Where labels come from."""

    by: str = key(
        "files",
        "A potential or ase:NAME[:key=value,...] as in mpnnp label; files: the program ends with status 75 "
        "until they are there.",
    )
    units: str | None = key(None, "Units of files that do not state theirs.")
    max_force: Positive = key(50.0, "Frames with larger forces are left out.", "eV/Angstrom")

    _known_units = field_validator("units")(known_units)


class Update(Section):
    """How the filter goes on with new labels."""

    epochs: Count = key(5, "Epochs over the new and the rehearsed structures.")
    rehearsal: Fraction = key(1.0, "Share of the structures learned before that are learned again.")
    validation_fraction: BelowOne = key(0.0, "Part of the new frames for validation instead of training.")


class End(Section):
    """When it is enough."""

    labels: Count = key(150, "Labelled frames in all, those of [data] included.")
    rounds: Count = key(30, "Rounds of new labels.")
    stops_per_ps: NotNegative = key(0.0, "All simulations together: not more stops than this are enough.")


class Learning(Section):
    """All sections of learn.toml that are not a training's."""

    simulations: list[Simulation] = Field(min_length=1)
    stop: Stop = Stop()
    choose: Choose = Choose()
    label: LabelBy = LabelBy()
    update: Update = Update()
    end: End = End()


class Case(Section):
    """One simulation: where it starts, and its protocol.

    name, seed  follow from what is simulated, not from where it stands in the list; seed is added to that of
                the round
    """

    name: str
    seed: int
    start: str
    density: float | None
    protocol: dict[str, Any]

    def make_protocol(self, seed: int, every: float) -> Protocol:
        """The Protocol with the seed of a round, and a frame and a row every so many fs."""
        return Protocol(**self.protocol, seed=seed + self.seed, log_every=every, save_every=every)


def read_learning(path: str | Path, settings=()) -> tuple[Learning, Config]:
    """(Learning, Config of the trainings) of a TOML file, changed by `settings` ("section.key=value"). Paths
    are taken relative to the file, those of `settings` relative to the working directory. Raises ConfigError.
    """
    tree, path = read_toml(path, settings), Path(path)
    _check_sections(tree, path)
    own = {name: tree.pop(name) for name in list(tree) if name in Learning.model_fields}
    if isinstance(own.get("simulations"), list):
        own["simulations"] = [integers_to_floats(Simulation, s) for s in own["simulations"]]
    try:
        learning = Learning.model_validate(integers_to_floats(Learning, own))
    except ValidationError as error:
        raise ConfigError(explain(error, str(path), Learning)) from None
    base = path.parent
    simulations = [
        s.model_copy(update={"start": [resolve(file, base) for file in s.start]})
        for s in learning.simulations
    ]
    by = learning.label.by
    if by != "files" and not by.startswith("ase:"):
        set_here = any(setting.partition("=")[0].strip() == "label.by" for setting in settings)
        by = ",".join(resolve(part, Path.cwd() if set_here else base) for part in by.split(","))
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


def _check_sections(tree, path):
    """Raise ConfigError for a section that neither a learning nor a training has, and for one simulation
    that is not in a list.
    """
    known = [*Learning.model_fields, *Config.model_fields]
    for name in tree:
        if name not in known and (near := difflib.get_close_matches(name, known, n=1)):
            raise ConfigError(f"{name}: unknown key; did you mean '{near[0]}'? ({path})")
    if isinstance(tree.get("simulations"), dict):
        raise ConfigError(f"simulations: must be a list, every one of them below [[simulations]] ({path})")


def cases(learning: Learning) -> list[Case]:
    """Every simulation of a round."""
    found: list[Case] = []
    copies: Counter = Counter()
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
            # a longer time is the same simulation, which goes on
            content = json.dumps([Path(start).name, density, protocol | {"time": 0.0}], sort_keys=True)
            copies[content] += 1
            digest = hashlib.sha256(f"{content} {copies[content]}".encode()).hexdigest()[:8]
            name, number = "-".join([*words, digest]), int(digest, 16)
            found.append(Case(name=name, seed=number, start=start, density=density, protocol=protocol))
    return found
