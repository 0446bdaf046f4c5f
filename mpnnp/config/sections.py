"""The sections of the configuration: one frozen record each, validated when it is built.

Each key says its type and limits, its default, its meaning and the unit of its numbers: the JSON schema, the
page docs/configuration.md and the files of `mpnnp init` are written from these.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from mpnnp.units import parse_units

Activation = Literal[
    "identity", "tanh", "logistic", "softplus", "relu", "gaussian", "cos", "exp", "harmonic", "rev-logistic"
]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=0)]
Inflation = Literal["auto"] | Annotated[float, Field(ge=1, allow_inf_nan=False)]
PATHS = {  # keys that name files
    "data": ("files", "validation_files", "weights", "cache"),
    "symmetry_functions": ("input_nn", "scaling_data"),
    "network": ("weights_from",),
    "run": ("from",),
}


def key_of(field):
    """The key of a field: without the underscore that a word of Python (from) needs behind it."""
    return field.rstrip("_")


def string_list(at_least=0):
    """Type of a list of at least so many strings, which one string may stand for."""
    strings = {"type": "array", "items": {"type": "string"}, "minItems": at_least}
    return Annotated[
        list[str],
        Field(min_length=at_least),
        BeforeValidator(lambda v: [v] if isinstance(v, str) else v),
        WithJsonSchema({"anyOf": [{"type": "string"}, strings]}),
    ]


def key(default, description, unit=None):
    """A key of a section: its default (... if it must be given), its meaning, the unit of its numbers."""
    return Field(default, description=description, json_schema_extra={"unit": unit} if unit else None)


def known_units(text):
    """The text, if it names units. Raises ValueError."""
    if text is not None:
        parse_units(text)
    return text


def known_coupling(text):
    """The text, if it names blocks of P. Raises ValueError."""
    if not re.fullmatch(COUPLINGS, text):
        raise ValueError(f"'{text}': must be full, element, layer, node or block:N")
    return text


COUPLINGS = "full|element|layer|node|block:0*[1-9][0-9]*"
Coupling = Annotated[
    str,
    AfterValidator(known_coupling),
    WithJsonSchema({"type": "string", "pattern": f"^({COUPLINGS})$"}),
]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=key_of, populate_by_name=True
    )


class Data(Section):
    """What is learned from."""

    files: string_list(at_least=1) = key(
        ...,
        "Data sets: input.data, extxyz, HDF5, anything ASE reads. Relative to this file; in --set, to where "
        "you are.",
    )
    validation_files: string_list() = key([], "More data sets, all of them for validation.")
    validation_fraction: BelowOne = key(0.1, "Part of the structures for validation, drawn by run.seed.")
    split: Literal["auto", "random", "file"] = key(
        "auto",
        "file: by the data set's own marks of training and validation; auto: by these if there are any.",
    )
    units: str | None = key(
        None,
        'Units of files that do not state their own (input.data, xyz, what ASE reads): "eV Angstrom", '
        '"kcal/mol Angstrom", "Hartree Bohr", ... If not given, those that a file says, else Hartree and '
        "Bohr for input.data, eV and Angstrom for the others.",
    )
    energy_key: str | None = key(
        None,
        'Name of the energy in files read through ASE. Found by itself if not given; "none": there is none.',
    )
    forces_key: str | None = key(None, "Name of the forces, as energy_key.")
    stress_key: str | None = key(None, "Name of the stress, as energy_key.")
    weights: str | None = key(
        None,
        "Text file of label weights, one line per structure in the order of the files: one number, or three "
        "for energy, forces and stress. A label of weight 2 counts as two labels, one of weight 0 not at "
        "all. Also read from extxyz (config_weight, ...).",
    )
    cache: str | None = key(
        None,
        "Folder for computed symmetry functions. If not given, mpnnp-cache beside the first file.",
    )
    rehearsal: Fraction = key(
        0.0, "With run.from: share of the structures learned before that are learned again."
    )
    shift_energies: bool = key(
        False,
        "With run.from: subtract from the energies of each source what atoms of an element cost more than "
        "the old potential says, by least squares (another level of theory).",
    )

    _known_units = field_validator("units")(known_units)


class Functions(Section):
    """Symmetry functions: exactly one of `set`, `input_nn` and `functions`."""

    set: Literal["default", "water"] | None = key(
        None,
        "Named set. default: a balanced set for the elements of the data; water: Morawietz et al. 2016.",
    )
    input_nn: str | None = key(None, "Take functions and scaling from this input.nn of n2p2 or RuNNer.")
    input_nn_units: str | None = key(
        None,
        'Units of input_nn, e.g. "eV Angstrom". If not given, those that the file says, or Hartree and Bohr.',
    )
    scaling_data: str | None = key(
        None,
        "With input_nn: a scaling.data whose statistics are used instead of those of the training "
        "structures.",
    )
    functions: list[dict[str, Any]] = key(
        [],
        "Tables {center, kind, neighbours, eta, r_s, zeta, lambda, r_c}; lists make every combination.",
    )
    units: Literal["angstrom", "bohr"] = key(
        "angstrom", "Unit of the lengths (and of 1/length^2) in `functions` and of `r_c`."
    )
    r_c: Positive | None = key(
        None,
        "Cutoff radius of a named set. If not given, 6 Angstrom (default) or 12 Bohr (water).",
        unit="symmetry_functions.units",
    )
    cutoff: Literal["hard", "cosine", "tanh3u", "tanh3", "exp", "poly1", "poly2", "poly3", "poly4"] = key(
        "tanh3u", "Cutoff function. tanh3u: tanh^3(1-r/r_c)."
    )
    alpha: BelowOne = key(0.0, "Inner radius of the cutoff function, as a fraction of r_c.")
    scaling: Literal["none", "min-max", "center", "min-max-center", "sigma"] = key(
        "min-max-center", "Scaling of the functions by their statistics over the training structures."
    )
    scale_min: Finite = key(
        0.0,
        "The scaled functions span scale_min to scale_max (added to the centred ones by n2p2's formula).",
    )
    scale_max: Finite = key(1.0, "Largest value of the scaled functions, see scale_min.")
    constant: Literal["drop", "error"] = key(
        "drop", "What to do with a function that never varies over the training set."
    )

    _known_units = field_validator("input_nn_units")(known_units)

    @model_validator(mode="after")
    def _one_source(self):
        given = [name for name in ("set", "input_nn", "functions") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"give only one of set, input_nn and functions; found {' and '.join(given)}")
        if not self.scale_max > self.scale_min:
            raise ValueError("scale_max must be larger than scale_min")
        if self.scaling_data and not self.input_nn:
            raise ValueError("scaling_data needs input_nn")
        return self


class BaselineTerms(Section):
    """What is subtracted from the labels before training, and added to predictions; by default nothing."""

    zbl: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = key(
        None,
        "[inner, outer]: the universal repulsion of nuclei (ZBL), switched off between these distances, both "
        "below those in the data. It keeps atoms apart where there are no data.",
        "Angstrom",
    )
    d3: str | None = key(
        None,
        'Functional whose pairwise dispersion D3 is taken, e.g. "pbe", for labels that contain it; needs the '
        "package dftd3 (mpnnp[d3]).",
    )
    d3_damping: Literal["bj", "zero", "bjm", "zerom"] = key(
        "bj", "Damping of d3: Becke-Johnson, zero, and both modified."
    )


class Net(Section):
    """One feed-forward net per element; the output is linear."""

    hidden: list[Count] | None = key(
        None,
        "Nodes of each hidden layer. If not given, [25, 25], or [15, 15] where the training set has fewer "
        "labels than such nets have weights.",
    )
    activation: Activation | list[Activation] | None = key(
        None,
        "Activation function of the hidden layers, or a list of one for each. If not given, softplus, "
        "log(1 + e^x), which far out is linear, where tanh is constant; tanh with fixed noise.",
    )
    elements: dict[str, dict[str, Any]] = key(
        {},
        'Nets of elements that differ, e.g. {O = {hidden = [30, 20], activation = "softplus"}}.',
    )
    initializer: Literal["glorot", "nguyen-widrow", "uniform", "files"] = key(
        "glorot", "Where the first weights come from; files if weights_from is given."
    )
    weights_min: Finite = key(-1.0, "Smallest weight of the initializer uniform.")
    weights_max: Finite = key(1.0, "Largest weight of the initializer uniform.")
    weights_from: str | None = key(
        None,
        "A checkpoint or a folder of n2p2 files, from which functions, scaling, references and weights are "
        "taken; [symmetry_functions] and the rest of [network] are not used then.",
    )
    atomic_energies: Literal["fit", "none"] | dict[str, Finite] = key(
        "fit",
        "Energies of the atoms that are taken off first, by element. fit: least squares over the "
        "compositions of the training set.",
        unit="eV",
    )
    normalize: bool | Literal["ref", "force"] = key(
        True,
        "Training units: mean and spread of the energies, spread of the forces of the training structures. "
        "ref, force: of all structures, as n2p2's normalize_data_set does (force: the predicted forces get "
        "the spread of the labels).",
    )
    mean_energy: Finite = key(0.0, "Zero of the energies, with normalize = false.", unit="eV per atom")
    energy_scale: Positive = key(1.0, "Training unit of energies, with normalize = false.", unit="eV")
    force_scale: Positive = key(1.0, "Training unit of forces, with normalize = false.", unit="eV/Angstrom")
    normalize_nodes: bool = key(
        False,
        "n2p2's keyword: the optimiser works with W n_in and b n_in of each layer of n_in inputs.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, given):
        if isinstance(given, dict) and given.get("weights_from") and "initializer" not in given:
            return given | {"initializer": "files"}
        return given

    @model_validator(mode="after")
    def _consistent(self):
        n_layer = 2 if self.hidden is None else len(self.hidden)
        if isinstance(self.activation, list) and len(self.activation) != n_layer:
            raise ValueError(f"activation names {len(self.activation)} layers, hidden {n_layer}")
        if self.initializer == "files" and not self.weights_from:
            raise ValueError("the initializer files needs weights_from")
        if not self.weights_max > self.weights_min:
            raise ValueError("weights_max must be larger than weights_min")
        units = (self.mean_energy, self.energy_scale, self.force_scale)
        if self.normalize is not False and units != (0.0, 1.0, 1.0):
            raise ValueError("mean_energy, energy_scale and force_scale need normalize = false")
        return self


def changed(section, names):
    """Those of the keys that are not at their defaults."""
    fields = type(section).model_fields
    return [name for name in names if getattr(section, name) != fields[name].default]


class LabelSettings(Section):
    """Settings of a further kind of label; as those of energies, forces and stresses in [schedule]."""

    fraction: Fraction = key(0.0, "runner: part of the labels observed in an epoch.")
    threshold: NotNegative = key(0.0, "runner: as schedule.energy_threshold.")
    weight: Positive = key(1.0, "As schedule.energy_weight.")
    per_update: Count = key(1, "sdnz: labels in an update.")
    probability: Fraction = key(0.0, "sdnz: probability that an update takes labels of this kind.")
    element_weights: dict[str, NotNegative] = key({}, "Label weights by element.")
    metric_weight: NotNegative = key(0.0, "Weight of their error in the choice of the best potential.")


OWN_KEYS = {"per_update": "{plural}_per_update", "element_weights": "element_{kind}_weights"}
PLURALS = {"energy": "energies", "force": "forces", "stress": "stresses"}
RUNNER_KEYS = (
    "streams",
    "force_streams",
    "rows",
    "groups",
    "selection",
    "trials",
)  # and *_fraction, *_threshold
SDNZ_KEYS = ("updates_per_epoch",)  # and *_per_update, *_probability


class Schedule(Section):
    """Which labels are observed in each update. Counts are global: the number of ranks changes nothing."""

    name: Literal["runner", "sdnz"] = key(
        "runner",
        "runner: that of RuNNer and n2p2, labels of one kind chosen among candidates; sdnz: one energy or "
        "ten force components of random structures.",
    )
    streams: Count = key(10, "runner: observations per update.")
    force_streams: Count | None = key(
        None, "runner: observations of a force update, if not as many as of an energy update."
    )
    rows: Literal["full", "sum"] = key(
        "full", "sum: the rows of each group of streams are summed to one observation."
    )
    groups: Count = key(
        1, 'Number of these groups, for rows = "sum"; streams that follow each other make a group.'
    )
    forces: bool = key(True, "Also learn from force labels.")
    energy_fraction: NotNegative | None = key(
        None,
        "runner: part of the energy labels observed in an epoch; above 1 each comes so often. If not given, "
        "1, with learned noise more if these are fewer than a twentieth of the force components of an epoch.",
    )
    force_fraction: Fraction | None = key(
        None,
        "runner: part of the force components observed in an epoch. If not given, 0.02, with learned noise "
        "more if these are fewer than 2000 components.",
    )
    stress_fraction: Fraction = key(
        0.0,
        "runner: part of the stress components of periodic structures observed in an epoch. 0: stress labels "
        "are only compared.",
    )
    selection: Literal["random", "sort", "threshold"] | None = key(
        None,
        "runner: how the labels of an update are chosen among candidates. If not given, random with learned "
        "noise, threshold with fixed noise.",
    )
    energy_threshold: NotNegative = key(
        0.0,
        "runner: a candidate for an energy update is taken if its error is above this many times the last "
        "RMSE. 0: as they come.",
    )
    force_threshold: NotNegative = key(1.0, "As energy_threshold, for forces.")
    stress_threshold: NotNegative = key(0.0, "As energy_threshold, for stresses.")
    trials: Count = key(
        3, "runner: candidates tried per stream; the worst is taken if none exceeds the threshold."
    )
    energy_weight: Positive = key(
        1.0, "Factor on errors and rows of energies (runner), or weight c in sqrt(c / n) (sdnz)."
    )
    force_weight: Positive = key(10.0, "As energy_weight, for forces.")
    stress_weight: Positive = key(
        10.0, "As energy_weight, for stresses in units of the spread of the training labels."
    )
    element_force_weights: dict[str, NotNegative] = key(
        {},
        "Label weights of the forces on atoms of an element, e.g. {H = 0.5}; see data.weights.",
    )
    energies_per_update: Count = key(1, "sdnz: structures in an energy update.")
    forces_per_update: Count = key(10, "sdnz: force components in a force update.")
    stresses_per_update: Count = key(6, "sdnz: stress components in a stress update.")
    energy_probability: Fraction = key(0.5, "sdnz: probability that an update takes energies.")
    stress_probability: Fraction = key(0.0, "sdnz: probability that an update takes stresses instead.")
    updates_per_epoch: Count = key(1000, "sdnz: an epoch is only the interval of the learning curve.")
    labels: dict[str, LabelSettings] = key(
        {}, "Settings of kinds of labels that a program adds, by their names."
    )

    def of_kind(self, kind, what):
        """A setting of a kind of label (its name): fraction, threshold, weight, per_update, probability,
        streams, element_weights.

        Of energy, force and stress they are keys of their own (energy_fraction, energies_per_update, ...).
        """
        if what == "streams":
            return getattr(self, f"{kind}_streams", None) or self.streams
        if what in ("fraction", "probability") and kind == "force" and not self.forces:
            return 0.0
        own = OWN_KEYS.get(what, "{kind}_{what}").format(kind=kind, what=what, plural=PLURALS.get(kind, kind))
        if own in type(self).model_fields:
            return getattr(self, own)
        return getattr(self.labels.get(kind, LabelSettings()), what)

    def idle_keys(self):
        """Keys of the other schedule that are not at their defaults."""
        of_runner = lambda key: key in RUNNER_KEYS or key.endswith(("_fraction", "_threshold"))  # noqa: E731
        of_sdnz = lambda key: key in SDNZ_KEYS or key.endswith(("_per_update", "_probability"))  # noqa: E731
        other = of_sdnz if self.name == "runner" else of_runner
        return changed(self, [name for name, _ in self if other(name)])

    def learns(self, kind):
        """True if updates may take labels of this kind, by these settings."""
        return (
            kind in ("energy", "force")
            or self.of_kind(kind, "fraction" if self.name == "runner" else "probability") > 0
        )


class Ekf(Section):
    """Extended Kalman filter. Rates `tau` are per epoch, as in n2p2."""

    noise: Literal["fixed", "learned"] | None = key(
        None,
        "learned: R of each kind of label is the square of its error of the moment, P(0) comes from `prior`, "
        "and nothing is forgotten (docs/theory.md). fixed: R = I / eta with the weights of [schedule], "
        "P(0) = I / epsilon, process noise q. If not given, learned; fixed with the schedule sdnz.",
    )
    prior: Positive | None = key(
        None,
        "P(0) is this many times the variance 2/(n_in + n_out) of each layer's weights (Glorot's). If not "
        "given, 30 with learned noise; with fixed noise P(0) = I / epsilon.",
    )
    epsilon: Positive = key(0.01, "Fixed noise: P(0) = I / epsilon.")
    eta: Positive = key(0.01, "Fixed noise: R = I / eta.")
    eta_tau: NotNegative = key(2.302, "eta grows by exp(eta_tau) per epoch, up to eta_max.", unit="1/epoch")
    eta_max: Positive = key(1.0, "Largest eta.")
    q: NotNegative = key(0.01, "Fixed noise: process noise, added to the diagonal of P.")
    q_tau: NotNegative = key(2.302, "q falls by exp(-q_tau) per epoch, down to q_min.", unit="1/epoch")
    q_min: NotNegative = key(1.0e-6, "Smallest q.")
    fading_memory: bool = key(False, "Fixed noise: R = lambda I and P /= lambda instead of eta.")
    lam: Factor = key(0.98, "Forgetting factor lambda.")
    nu: Factor = key(0.9995, "lambda <- nu lambda + 1 - nu.")
    coupling: Coupling = key("full", "Blocks of P that are kept: full, element, layer, node or block:N.")
    r_max: Count = key(64, "Columns of the lazy low-rank part of P.")
    inflation: Inflation = key(
        1.0,
        "With run.from: P is multiplied by this before the first update; auto: by what makes the errors of "
        "the first new batches most likely.",
    )


EPOCHS = 25  # with fixed noise, if not given
FIXED_NOISE_KEYS = (
    "epsilon",
    "eta",
    "eta_tau",
    "eta_max",
    "q",
    "q_tau",
    "q_min",
    "fading_memory",
    "lam",
    "nu",
)


class Adam(Section):
    """Adam (Kingma and Ba, 2015) in TensorFlow's form, with clipping by the global norm of the gradient."""

    learning_rate: Positive = key(1.0e-3, "Step size.")
    beta1: BelowOne = key(0.9, "Decay of the mean of the gradient.")
    beta2: BelowOne = key(0.999, "Decay of the mean of the square of the gradient.")
    epsilon: Positive = key(1.0e-7, "Added to the root of the mean of the square.")
    clip_norm: NotNegative = key(0.01, "Largest norm of the gradient. 0: no clipping.")
    decay_rate: Positive = key(0.994, "learning_rate is multiplied by this every decay_steps updates.")
    decay_steps: Count = key(10_000, "Updates between two multiplications by decay_rate.")
    decay_staircase: bool = key(False, "The learning rate falls in steps instead of continuously.")


class Run(Section):
    """One training run."""

    optimizer: str = key("ekf", "ekf, adam, or another of mpnnp.optimizers.registry.OPTIMIZERS.")
    from_: str | None = key(None, "Go on from this checkpoint.h5, weights and covariance, with new data.")
    directory: str = key(
        "runs/train",
        "Folder of the results, relative to the working directory; -o overrides it. Without both: runs/ and "
        "the name of the configuration file.",
    )
    epochs: Count | None = key(
        None,
        "Epochs of the run. If not given, 25; with learned noise as many as make 20,000 updates, but at "
        "least 10.",
    )
    updates: Count | None = key(None, "Stop after so many updates.")
    time_limit: Positive | None = key(
        None,
        "Stop after so much time, counted from the start of the program. A batch job's end is known from "
        "SLURM.",
        unit="minutes",
    )
    patience: Count | None = key(
        None,
        "Stop after so many epochs without a better validation error. If not given, a third of the epochs, "
        "at least 10, with learned noise; never with fixed noise.",
    )
    seed: Number = key(1, "Seed of the split, the weights and the batches.")
    split_seed: Number | None = key(None, "Seed of the split alone; run.seed if not given.")
    weight_seed: Number | None = key(None, "Seed of the initial weights alone; run.seed if not given.")
    checkpoint_updates: Count | None = key(None, "Write a checkpoint also every so many updates.")
    checkpoint_minutes: Positive = key(
        10.0, "Time between checkpoints. The end of the run always writes one.", unit="minutes"
    )
    checkpoint_epochs: Count | None = key(None, "Write a checkpoint also every so many epochs.")
    on_divergence: Literal["stop", "skip"] = key(
        "stop",
        "An update whose numbers go wrong: end the run, or leave it out (at most 100 in a row).",
    )
    evaluation_structures: Number = key(
        50,
        "Structures whose forces make the learning curve, of the training and of the validation structures "
        "each (0: all). Energies are always those of all; at the end of the run the best potential is "
        "evaluated on everything.",
    )
    energy_metric_weight: NotNegative = key(
        1.0,
        "w: best.h5 minimises w E_rmse[meV/atom] + v F_rmse[meV/Angstrom]/100 on the validation set.",
    )
    force_metric_weight: NotNegative = key(1.0, "v, see energy_metric_weight.")
    stress_metric_weight: NotNegative = key(
        1.0, "Adds this many times S_rmse[meV/Angstrom^3] if stresses are learned."
    )

    @property
    def last_epoch(self):
        """Epochs of the run, also where nothing has told their number."""
        return EPOCHS if self.epochs is None else self.epochs

    def metric_weight(self, kind):
        """Weight of a kind of label (its name) in the choice of the best potential;
        None if it has no key here.
        """
        return getattr(self, f"{kind}_metric_weight", None)

    def seed_of(self, part):
        """Seed of "split" or "weight"."""
        own = getattr(self, f"{part}_seed")
        return self.seed if own is None else own


class Optimizer(Section):
    """Settings of an optimizer that has no section of its own: any keys."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class Config(Section):
    """The configuration of a training run of mpnnp."""

    data: Data
    symmetry_functions: Functions = Functions(set="default")
    baseline: BaselineTerms = BaselineTerms()
    network: Net = Net()
    schedule: Schedule = Schedule()
    ekf: Ekf = Ekf()
    adam: Adam = Adam()
    run: Run = Run()
    optimizer: Optimizer = Optimizer()

    @property
    def learns_noise(self):
        """True if the filter finds the noise of the labels by itself."""
        return self.run.optimizer == "ekf" and self.ekf.noise == "learned"

    def idle_keys(self):
        """(keys that have no effect and are not at their defaults, what would give them one)."""
        if self.network.weights_from and self.network.initializer != "files":
            return ["network.weights_from"], f"network.initializer = '{self.network.initializer}'"
        schedule = [f"schedule.{name}" for name in self.schedule.idle_keys()]
        if schedule or not self.learns_noise:
            return schedule, f"schedule.name = '{self.schedule.name}'"
        weights = [f"{kind}_weight" for kind in PLURALS]
        idle = [f"ekf.{name}" for name in changed(self.ekf, FIXED_NOISE_KEYS)]
        return idle + [
            f"schedule.{name}" for name in changed(self.schedule, weights)
        ], "ekf.noise = 'learned'"

    def metric_weight(self, kind):
        """Weight of a kind of label (its name) in the choice of the best potential."""
        own = self.run.metric_weight(kind)
        return self.schedule.of_kind(kind, "metric_weight") if own is None else own
