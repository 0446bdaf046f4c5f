"""The sections about the data and the model: [data], [symmetry_functions], [baseline], [network]."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mpnnp.config.fields import (
    Activation,
    BelowOne,
    Count,
    Finite,
    Fraction,
    Name,
    Positive,
    Section,
    key,
    known_units,
    string_list,
)


class Data(Section):
    """What is learned from."""

    files: string_list(at_least=1) = key(
        ...,
        "Data sets: input.data, extxyz, HDF5, anything ASE reads. Relative to this file; in --set, to where "
        "you are.",
    )
    validation_files: string_list() = key(
        [],
        "More data sets, all of them for validation. Of `files` then only those structures are too that they "
        'mark so; with split = "random", validation_fraction of them, whatever they mark.',
    )
    validation_fraction: BelowOne = key(0.1, "Part of the structures for validation, drawn by run.seed.")
    split: Literal["auto", "random", "file"] = key(
        "auto",
        "file: by the data set's own marks of training and validation; auto: by these if there are any; "
        "random: never.",
    )
    units: str | None = key(
        None,
        "Units of files that do not state their own (input.data, xyz, .traj, ...; outputs of programs do): "
        '"eV Angstrom", "kcal/mol Angstrom", "Hartree Bohr Hartree/Bohr^3", ... If not given, those that a '
        "file says, else Hartree and Bohr for input.data, eV and Angstrom for the others.",
    )
    energy_key: Name | None = key(
        None,
        'Name of the energy in files read through ASE. Found by itself if not given; "none": there is none.',
    )
    forces_key: Name | None = key(None, "Name of the forces, as energy_key.")
    stress_key: Name | None = key(None, "Name of the stress, as energy_key.")
    weights: Name | None = key(
        None,
        "Text file of label weights, one line per structure in the order of the files: one number, or three "
        "for energy, forces and stress. A label of weight 2 counts as two labels, one of weight 0 not at "
        "all. Also read from extxyz (config_weight, ...).",
    )
    cache: Name | None = key(
        None,
        "Folder for computed symmetry functions. If not given, mpnnp-cache beside the first file, of a "
        "pattern beside its first folder with a wildcard.",
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
    input_nn: Name | None = key(None, "Take functions and scaling from this input.nn of n2p2 or RuNNer.")
    input_nn_units: str | None = key(
        None,
        'Units of input_nn, e.g. "eV Angstrom". If not given, those that the file says, or Hartree and Bohr.',
    )
    scaling_data: Name | None = key(
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
    d3: Name | None = key(
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
        "log(1 + e^x), which far out is linear, where tanh is constant; tanh with fixed noise and with the "
        "schedule sdnz.",
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
    weights_from: Name | None = key(
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
