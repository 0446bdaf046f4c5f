"""The configuration of a run: all sections together, one frozen record each, validated when it is built.

Each key says its type and limits, its default, its meaning and the unit of its numbers: the JSON schema, the
page docs/configuration.md and the files of `mpnnp init` are written from these.
"""

from mpnnp.config.fields import Section, changed
from mpnnp.config.model_sections import BaselineTerms, Data, Functions, Net
from mpnnp.config.training_sections import FIXED_NOISE_KEYS, PLURALS, Adam, Ekf, Optimizer, Run, Schedule


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

    def idle_keys(self, asked=None):
        """(keys that have no effect and are not at their defaults, because of what). asked: of these
        ("section.key") alone; None: of all.
        """
        net, functions, noise = self.network, self.symmetry_functions, "ekf.noise = 'learned'"
        initializer = f"network.initializer = '{net.initializer}'"
        groups = [
            ("network", ["weights_from"] if net.initializer != "files" else [], initializer),
            ("network", ["weights_min", "weights_max"] if net.initializer != "uniform" else [], initializer),
            ("baseline", [] if self.baseline.d3 else ["d3_damping"], "no baseline.d3"),
            (
                "symmetry_functions",
                ["alpha"] if functions.cutoff in ("hard", "tanh3u", "tanh3") else [],
                f"symmetry_functions.cutoff = '{functions.cutoff}'",
            ),
            ("schedule", self.schedule.idle_keys(), f"schedule.name = '{self.schedule.name}'"),
            *self._idle_keys_of_functions(),
        ]
        if self.learns_noise:
            unread = [f"{kind}_weight" for kind in PLURALS]
            if self.schedule.selection == "random":
                unread += ["trials", *(f"{kind}_threshold" for kind in PLURALS)]
            groups += [("ekf", FIXED_NOISE_KEYS, noise), ("schedule", unread, noise)]
        idle = {}
        if self.run.optimizer in type(self).model_fields:  # which has a section of its own
            given = [f"optimizer.{name}" for name in self.optimizer.model_extra or {}]
            idle[f"run.optimizer = '{self.run.optimizer}'"] = [
                k for k in given if asked is None or k in asked
            ]
        for section, names, because in groups:
            found = [f"{section}.{name}" for name in changed(getattr(self, section), names)]
            idle.setdefault(because, []).extend(name for name in found if asked is None or name in asked)
        return next(((keys, because) for because, keys in idle.items() if keys), ([], ""))

    def _idle_keys_of_functions(self):
        """(section, keys, because of what) of [symmetry_functions], whose functions may have their own radii
        and scaling.
        """
        functions = self.symmetry_functions
        if functions.input_nn:
            own = ["r_c", "units", "cutoff", "alpha", "scaling", "scale_min", "scale_max"]
            return [("symmetry_functions", own, f"symmetry_functions.input_nn = '{functions.input_nn}'")]
        groups = []
        if functions.functions:
            because = "symmetry_functions.functions, which have their own r_c"
            groups.append(("symmetry_functions", ["r_c"], because))
        if not self.network.weights_from:
            groups.append(("symmetry_functions", ["input_nn_units"], "no symmetry_functions.input_nn"))
        return groups

    def metric_weight(self, kind):
        """Weight of a kind of label (its name) in the choice of the best potential."""
        own = self.run.metric_weight(kind)
        return self.schedule.of_kind(kind, "metric_weight") if own is None else own
