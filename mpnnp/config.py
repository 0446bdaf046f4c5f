"""The configuration: one frozen record per section of the TOML file, validated when it is built."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mpnnp.errors import ConfigError
from mpnnp.units import parse_units

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

Activation = Literal[
    "identity", "tanh", "logistic", "softplus", "relu", "gaussian", "cos", "exp", "harmonic", "rev-logistic"
]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
PATHS = {  # keys that name files
    "data": ("files", "validation_files", "weights", "cache"),
    "symmetry_functions": ("input_nn", "scaling_data"),
    "network": ("weights_from",),
}
StringList = Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)]


def known_units(text):
    """The text, if it names units. Raises ValueError."""
    if text is not None:
        parse_units(text)
    return text


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(Section):
    """What is learned from."""

    files: StringList = Field(min_length=1)  # data sets: input.data, extxyz, HDF5, anything ASE reads;
    # relative to this file, --set: to where you are
    validation_files: StringList = []  # more files, all of them for validation
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1  # of the structures, drawn by run.seed
    split: Literal["auto", "random", "file"] = "auto"  # file: the data set's own train/validation marks;
    # auto: these if there are any
    units: str | None = None  # "eV Angstrom", "kcal/mol Angstrom", "Hartree Bohr", ...: of files that do not
    # state their own (input.data, xyz, what ASE reads); if not given, those that a file says,
    # else Hartree and Bohr for input.data, eV and Angstrom for the others
    energy_key: str | None = None  # names of the labels in files read through ASE;
    # found by themselves if not given; "none": no such label
    forces_key: str | None = None
    stress_key: str | None = None
    weights: str | None = None  # text file of label weights, one line per structure in the order of the
    # files: one number, or three for energy, forces and stress; a label of weight 2 counts as two labels, one
    # of weight 0 not at all. Also read from extxyz (config_weight, ...)
    cache: str | None = None  # folder for computed symmetry functions;
    # mpnnp-cache beside the first file if not given

    _known_units = field_validator("units")(known_units)


class Functions(Section):
    """Symmetry functions: exactly one of `set`, `input_nn` and `functions`."""

    set: Literal["default", "water"] | None = None  # named set; default: a balanced set
    # for the elements of the data
    input_nn: str | None = None  # take functions and scaling from an n2p2 / RuNNer input.nn
    input_nn_units: str | None = None  # of input_nn, e.g. "eV Angstrom"; if not given, those that the file
    # says, or Hartree and Bohr
    scaling_data: str | None = None  # with input_nn: a scaling.data whose statistics are used instead
    # of those of the training structures
    functions: list[dict[str, Any]] = []  # tables {center, kind, neighbours, eta, r_s, zeta, lambda, r_c};
    # lists make every combination
    units: Literal["angstrom", "bohr"] = "angstrom"  # of the lengths (and 1/length^2)
    # in `functions` and of `r_c`
    r_c: Positive | None = None  # cutoff radius of a named set; 6 Angstrom (default) or 12 Bohr (water)
    cutoff: Literal["hard", "cosine", "tanh3u", "tanh3", "exp", "poly1", "poly2", "poly3", "poly4"] = "tanh3u"
    # tanh3u: tanh^3(1-r/r_c)
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.0  # inner radius of the cutoff function,
    # as a fraction of r_c
    scaling: Literal["none", "min-max", "center", "min-max-center", "sigma"] = "min-max-center"
    # statistics of the training structures
    scale_min: Finite = 0.0  # the scaled functions span scale_min to scale_max (added to the centred
    # ones by n2p2's formula)
    scale_max: Finite = 1.0
    constant: Literal["drop", "error"] = "drop"  # what to do with a function that never varies
    # over the training set

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


class BaselineSection(Section):
    """What is subtracted from the labels before training, added to every prediction; by default nothing."""

    zbl: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None  # [inner, outer],
    # Angstrom: the universal repulsion of nuclei below `outer`, switched off from `inner` on; both below the
    # distances in the data. It keeps atoms apart where there are no data
    d3: str | None = None  # a functional, e.g. "pbe": its pairwise dispersion D3; needs the package dftd3
    d3_damping: Literal["bj", "zero", "bjm", "zerom"] = "bj"


class Net(Section):
    """One feed-forward net per element; the output is linear."""

    hidden: list[Count] = [25, 25]  # nodes of each hidden layer
    activation: Activation | list[Activation] = "tanh"  # of the hidden layers, or one for each
    elements: dict[str, dict[str, Any]] = {}  # exceptions, e.g. {O = {hidden = [30, 20],
    # activation = "softplus"}}
    initializer: Literal["glorot", "nguyen-widrow", "uniform", "files"] = "glorot"
    weights_min: Finite = -1.0  # range of the initializer uniform
    weights_max: Finite = 1.0
    weights_from: str | None = None  # for the initializer files: a checkpoint or a folder of n2p2 files, from
    # which functions, scaling, references and weights are taken; [symmetry_functions] and the rest of
    # [network] are not used then
    atomic_energies: Literal["fit", "none"] | dict[str, Finite] = "fit"  # eV; fit: least squares
    # over the training set's compositions
    normalize: bool | Literal["ref", "force"] = True  # training units: mean and spread of the energies,
    # spread of the forces of the training structures; ref, force: of all structures, as n2p2's
    # normalize_data_set does (force: the predicted forces get the spread of the labels)
    mean_energy: Finite = 0.0  # eV per atom: training units with normalize = false
    energy_scale: Positive = 1.0  # eV
    force_scale: Positive = 1.0  # eV/Angstrom
    normalize_nodes: bool = False  # n2p2's keyword: the optimiser works with W n_in and b n_in of each
    # layer of n_in inputs

    @model_validator(mode="after")
    def _consistent(self):
        if isinstance(self.activation, list) and len(self.activation) != len(self.hidden):
            raise ValueError(f"activation names {len(self.activation)} layers, hidden {len(self.hidden)}")
        if self.initializer == "files" and not self.weights_from:
            raise ValueError("the initializer files needs weights_from")
        if not self.weights_max > self.weights_min:
            raise ValueError("weights_max must be larger than weights_min")
        units = (self.mean_energy, self.energy_scale, self.force_scale)
        if self.normalize is not False and units != (0.0, 1.0, 1.0):
            raise ValueError("mean_energy, energy_scale and force_scale need normalize = false")
        return self


class LabelSettings(Section):
    """Settings of a further kind of label; as those of energies, forces and stresses in [schedule]."""

    fraction: Fraction = 0.0  # runner
    threshold: NotNegative = 0.0
    weight: Positive = 1.0
    per_update: Count = 1  # sdnz
    probability: Fraction = 0.0  # sdnz
    element_weights: dict[str, NotNegative] = {}
    metric_weight: NotNegative = 0.0  # in the choice of the best potential


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

    name: Literal["runner", "sdnz"] = "runner"
    streams: Count = 10  # observations per update of the schedule runner
    force_streams: Count | None = None  # of a force update, if not as many as of an energy update
    rows: Literal["full", "sum"] = "full"  # sum: the rows of each group of streams
    # are summed to one observation
    groups: Count = 1  # number of these groups, for rows = "sum"; streams that follow each other make a group
    forces: bool = True  # also learn from force labels
    energy_fraction: Fraction = 1.0  # runner: of the energy labels, per epoch
    force_fraction: Fraction = 0.02  # runner: of the force components, per epoch
    stress_fraction: Fraction = 0.0  # runner: of the stress components of periodic structures, per epoch; 0:
    # stress labels are only compared
    selection: Literal["random", "sort", "threshold"] = "threshold"  # of the candidates of
    # an update (schedule runner)
    energy_threshold: NotNegative = 0.0  # a candidate is taken if its error is above this many times the last
    # RMSE; 0: as they come
    force_threshold: NotNegative = 1.0
    stress_threshold: NotNegative = 0.0
    trials: Count = 3  # candidates tried per stream, the worst is taken if none exceeds the threshold
    energy_weight: Positive = 1.0  # factor on errors and rows (runner), or weight c in sqrt(c / n) (sdnz)
    force_weight: Positive = 10.0
    stress_weight: Positive = 10.0  # of stresses in units of the spread of the training labels
    element_force_weights: dict[str, NotNegative] = {}  # label weights of the forces on atoms of an element,
    # e.g. {H = 0.5}; see data.weights
    energies_per_update: Count = 1  # sdnz: structures in an energy update
    forces_per_update: Count = 10  # sdnz: force components in a force update
    stresses_per_update: Count = 6  # sdnz: stress components in a stress update
    energy_probability: Fraction = 0.5  # sdnz: probability that an update takes energies
    stress_probability: Fraction = 0.0  # sdnz: probability that an update takes stresses instead
    updates_per_epoch: Count = 1000  # sdnz: an epoch is only the interval of the learning curve

    labels: dict[str, LabelSettings] = {}  # of kinds of labels that a program adds, by their names

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
        fields = type(self).model_fields
        return [key for key, value in self if other(key) and value != fields[key].default]

    def learns(self, kind):
        """True if updates may take labels of this kind, by these settings."""
        return (
            kind in ("energy", "force")
            or self.of_kind(kind, "fraction" if self.name == "runner" else "probability") > 0
        )


class Ekf(Section):
    """Extended Kalman filter. P(0) = I / epsilon; rates `tau` are per epoch, as in n2p2."""

    noise: Literal["fixed", "learned"] = (
        "fixed"  # learned: R of each kind of label is the square of its error of
    )
    # the moment (docs/theory.md), instead of 1/eta and the weights of [schedule]
    prior: Positive | None = (
        None  # P(0) is this many times the variance 2/(n_in + n_out) of each layer's weights
    )
    # (Glorot's), instead of 1/epsilon
    epsilon: Positive = 0.01
    eta: Positive = 0.01  # R = I / eta
    eta_tau: NotNegative = 2.302  # eta grows by exp(eta_tau) per epoch ...
    eta_max: Positive = 1.0  # ... up to here
    q: NotNegative = 0.01  # process noise, added to the diagonal of P
    q_tau: NotNegative = 2.302  # q falls by exp(-q_tau) per epoch ...
    q_min: NotNegative = 1.0e-6  # ... down to here
    fading_memory: bool = False  # R = lambda I and P /= lambda instead of eta
    lam: Annotated[float, Field(gt=0, le=1)] = 0.98  # forgetting factor lambda
    nu: Annotated[float, Field(gt=0, le=1)] = 0.9995  # lambda <- nu lambda + 1 - nu
    coupling: str = "full"  # full, element, layer, node or block:N: blocks of P that are kept
    r_max: Count = 64  # columns of the lazy low-rank part of P

    @model_validator(mode="after")
    def _coupling_is_known(self):
        kind, _, size = self.coupling.partition(":")
        if not (
            self.coupling in ("full", "element", "layer", "node")
            or (kind == "block" and size.isdecimal() and int(size) > 0)
        ):
            raise ValueError(f"coupling = '{self.coupling}': must be full, element, layer, node or block:N")
        return self


class Adam(Section):
    """Adam (Kingma and Ba, 2015) in TensorFlow's form, with clipping by the global norm of the gradient."""

    learning_rate: Positive = 1.0e-3
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Positive = 1.0e-7
    clip_norm: NotNegative = 0.01  # largest norm of the gradient; 0: no clipping
    decay_rate: Positive = 0.994  # learning_rate is multiplied by this ...
    decay_steps: Count = 10_000  # ... every so many updates
    decay_staircase: bool = False  # in steps instead of continuously


class Run(Section):
    """One training run."""

    optimizer: str = "ekf"  # ekf, adam, or another of mpnnp.optimizers.registry.OPTIMIZERS
    directory: str = "runs/train"  # of the results, relative to the working directory; -o overrides it
    epochs: Count = 25
    updates: Count | None = None  # stop after so many updates
    time_limit: Positive | None = None  # stop after so many minutes, counted from the start of the program;
    # a batch job's end is known from SLURM
    patience: Count | None = None  # stop after so many epochs without a better validation error
    seed: Annotated[int, Field(ge=0)] = 1  # of the split, the weights and the batches
    split_seed: Annotated[int, Field(ge=0)] | None = None  # of the split alone; run.seed if not given
    weight_seed: Annotated[int, Field(ge=0)] | None = None  # of the initial weights alone;
    # run.seed if not given
    checkpoint_updates: Count | None = None  # write a checkpoint every so many updates ...
    checkpoint_minutes: Positive = 10.0  # ... every so many minutes (and always at the end of the run) ...
    checkpoint_epochs: Count | None = None  # ... and every so many epochs
    on_divergence: Literal["stop", "skip"] = "stop"  # an update whose numbers go wrong:
    # end the run, or leave it out (at most 100 in a row)
    evaluation_structures: Annotated[int, Field(ge=0)] = 50  # whose forces make the learning curve, of the
    # training and of the validation structures each (0: all); energies are always those of all; at the end of
    # the run the best potential is evaluated on everything
    energy_metric_weight: NotNegative = 1.0  # best.h5 minimises w E_rmse[meV/atom] + v F_rmse[meV/A]/100
    # on the validation set
    force_metric_weight: NotNegative = 1.0
    stress_metric_weight: NotNegative = 1.0  # adds this many times S_rmse[meV/A^3] if stresses are learned

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
    """All of a training run."""

    data: Data
    symmetry_functions: Functions = Functions(set="default")
    baseline: BaselineSection = BaselineSection()
    network: Net = Net()
    schedule: Schedule = Schedule()
    ekf: Ekf = Ekf()
    adam: Adam = Adam()
    run: Run = Run()
    optimizer: Optimizer = Optimizer()

    def metric_weight(self, kind):
        """Weight of a kind of label (its name) in the choice of the best potential."""
        own = self.run.metric_weight(kind)
        return self.schedule.of_kind(kind, "metric_weight") if own is None else own


def read_config(path, settings=()):
    """Configuration from the TOML file `path`, changed by `settings` ("section.key=value").

    Paths are taken relative to the file, those of `settings` relative to the working directory. Raises
    ConfigError naming key, value, what is allowed, and the file.
    """
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})"
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for setting in settings:
        apply_setting(tree, setting)
    return make_config(tree, source=str(path), base=path.parent)


def parse_config(text, source):
    """Config from the text of `to_toml`. Raises ConfigError."""
    try:
        return make_config(tomllib.loads(text), source, lenient=True)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"not valid TOML: {error} ({source})") from None


def make_config(tree, source="configuration", base=None, lenient=False):
    """Config from nested dicts.

    base     folder that relative input paths refer to
    lenient  settings without effect are allowed: files that hold every key, written by earlier versions
    Raises ConfigError.
    """
    tree = _integers_to_floats(Config, tree)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(e, source) for e in error.errors())) from None
    if not lenient and (idle := config.schedule.idle_keys()):
        keys = ", ".join(f"schedule.{key} = {toml_value(getattr(config.schedule, key))}" for key in idle)
        raise ConfigError(f"{keys}: without effect with schedule.name = '{config.schedule.name}' ({source})")
    return config if base is None else _absolute(config, Path(base))


def to_toml(config):
    """Text of a TOML file that read_config turns into the same configuration."""
    lines = []
    for name, section in config:
        lines.append(f"[{name}]")
        lines += [f"{key} = {toml_value(value)}" for key, value in section if value is not None]
        lines.append("")
    return "\n".join(lines)


def apply_setting(tree, setting):
    """Change `tree` as "section.key=value" says; a path is relative to the working directory.

    Raises ConfigError.
    """
    key, equals, text = setting.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name):
        raise ConfigError(f"--set {setting}: expected section.key=value")
    text = text.strip()
    if text.lower() in ("none", "null"):
        value = None
    else:
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text  # a bare word is a string
    if not isinstance(tree.setdefault(section, {}), dict):
        raise ConfigError(f"--set {setting}: '{section}' is not a section")
    target = tree[section]
    if name in PATHS.get(section, ()):
        value = _resolve(value, Path.cwd())
    *folders, name = name.split(".")
    for folder in folders:
        target = target.setdefault(folder, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {setting}: '{folder}' is not a table")
    target[name] = value


def _integers_to_floats(model, tree):
    """TOML writes 1 where 1.0 is meant: allowed for numbers, while a string or a truth value is not
    (strict validation).
    """
    if not isinstance(tree, dict):
        return tree
    result = {}
    for key, value in tree.items():
        field = model.model_fields.get(key)
        if field is None:
            result[key] = value
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            result[key] = _integers_to_floats(field.annotation, value)
        elif field.annotation == dict[str, LabelSettings] and isinstance(value, dict):
            result[key] = {
                name: _integers_to_floats(LabelSettings, settings) for name, settings in value.items()
            }
        elif type(value) is int and "float" in str(field.annotation):
            result[key] = float(value)
        elif key == "atomic_energies" and isinstance(value, dict):
            result[key] = {k: float(v) if type(v) is int else v for k, v in value.items()}
        else:
            result[key] = value
    return result


def _explain(error, source):
    place = ".".join(
        str(part)
        for part in error["loc"]
        if not str(part).startswith(("function-", "literal", "list[", "dict["))
    )
    if error["type"] == "extra_forbidden":
        model = Config
        for part in error["loc"][:-1]:
            model = model.model_fields[part].annotation
        near = difflib.get_close_matches(str(error["loc"][-1]), list(model.model_fields), n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(model.model_fields)}"
        return f"{place}: unknown key; {hint} ({source})"
    if error["type"] == "missing":
        return f"{place}: is missing ({source})"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:].replace("Input should", "must")
    message = message.replace("input should be", "must be")
    if error["type"] == "value_error":
        return f"{place}: {message} ({source})"
    return f"{place} = {error['input']!r}: {message} ({source})"


def _absolute(config, base):
    changed = {}
    for name, keys in PATHS.items():
        section = getattr(config, name)
        changed[name] = section.model_copy(
            update={key: _resolve(getattr(section, key), base) for key in keys}
        )
    return config.model_copy(update=changed)


def _resolve(value, base):
    """A path, or each of a list, as absolute path; others than texts are left for the validation."""
    if isinstance(value, list):
        return [_resolve(v, base) for v in value]
    return (
        str((base / value).resolve())
        if isinstance(value, str) and value and not Path(value).is_absolute()
        else value
    )


def toml_value(value):
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_value(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        return (
            '"'
            + "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 or c in '"\\' else c for c in value)
            + '"'
        )
    return repr(value)
