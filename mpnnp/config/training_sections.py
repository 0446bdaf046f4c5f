"""The sections about training: [schedule], [ekf], [adam], [optimizer], [run]."""

from typing import Literal

from pydantic import ConfigDict

from mpnnp.config.fields import (
    BelowOne,
    Count,
    Coupling,
    Factor,
    Fraction,
    Inflation,
    Name,
    NotNegative,
    Number,
    Positive,
    Repeats,
    Section,
    changed,
    key,
)


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
KEYS_OF = {  # schedule -> keys, and endings of keys, that it alone reads
    "runner": (
        ("streams", "force_streams", "rows", "groups", "selection", "trials"),
        ("_fraction", "_threshold"),
    ),
    "sdnz": (("updates_per_epoch",), ("_per_update", "_probability")),
}


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
    energy_fraction: Repeats | None = key(
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
        "runner, selection threshold: a candidate for an energy update is taken if its error is above this "
        "many times the last RMSE. 0: as they come.",
    )
    force_threshold: NotNegative = key(1.0, "As energy_threshold, for forces.")
    stress_threshold: NotNegative = key(0.0, "As energy_threshold, for stresses.")
    trials: Count = key(
        3,
        "runner, selection threshold: candidates tried per stream; the worst is taken if none exceeds the "
        "threshold.",
    )
    energy_weight: Positive = key(
        1.0,
        "Factor on errors and rows of energies (runner), or weight c in sqrt(c / n) (sdnz). Not with "
        "learned noise.",
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
        keys, endings = KEYS_OF["sdnz" if self.name == "runner" else "runner"]
        return changed(self, [key for key, _ in self if key in keys or key.endswith(endings)])

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
    eta_tau: NotNegative = key(
        2.302, "Fixed noise: eta grows by exp(eta_tau) per epoch, up to eta_max.", unit="1/epoch"
    )
    eta_max: Positive = key(1.0, "Fixed noise: largest eta.")
    q: NotNegative = key(0.01, "Fixed noise: process noise, added to the diagonal of P.")
    q_tau: NotNegative = key(
        2.302, "Fixed noise: q falls by exp(-q_tau) per epoch, down to q_min.", unit="1/epoch"
    )
    q_min: NotNegative = key(1.0e-6, "Fixed noise: smallest q.")
    fading_memory: bool = key(False, "Fixed noise: R = lambda I and P /= lambda instead of eta.")
    lam: Factor = key(0.98, "Fading memory: forgetting factor lambda.")
    nu: Factor = key(0.9995, "Fading memory: lambda <- nu lambda + 1 - nu.")
    coupling: Coupling = key("full", "Blocks of P that are kept: full, element, layer, node or block:N.")
    r_max: Count = key(
        64,
        "Columns that updates are gathered in before they are added to P: more takes more memory and is "
        "rarely faster. The results are the same to rounding.",
    )
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
    from_: Name | None = key(None, "Go on from this checkpoint.h5, weights and covariance, with new data.")
    directory: Name = key(
        "runs/train",
        "Folder of the results, relative to the working directory; -o overrides it. Without both `mpnnp "
        "train NAME.toml` takes runs/NAME.",
    )
    epochs: Count | None = key(
        None,
        "Epochs of the run. If not given, 25; with learned noise as many as make 20,000 updates, but at "
        "least 10; with run.from 10.",
    )
    updates: Count | None = key(None, "Stop after so many updates.")
    time_limit: Positive | None = key(
        None,
        "Stop after so much time, counted from where the training is asked for: data, functions and the "
        "compilation of kernels are within it. A batch job's end is known from SLURM.",
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
        "w: best.h5 minimises the geometric mean of the errors of the validation set, E_rmse^w F_rmse^v to "
        "the power 1/(w + v); with learned noise on average over the last ten evaluations, as few "
        "structures are good by chance.",
    )
    force_metric_weight: NotNegative = key(1.0, "v, see energy_metric_weight.")
    stress_metric_weight: NotNegative = key(1.0, "u: the same for S_rmse, if stresses are learned.")

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
