"""Fisher analysis of trained models: what is computed for one checkpoint, its HDF5 file,
tables and the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.linalg import eigvalsh

from mpnnp.analysis.fisher import (
    Gradients,
    bins_of,
    distance,
    expected_information,
    fisher_spectrum,
)
from mpnnp.config import PLURALS
from mpnnp.data.packed import make_atoms
from mpnnp.data.store import load_structures
from mpnnp.errors import DamagedError
from mpnnp.figures import PALETTE, figure, save, style, with_signs
from mpnnp.files import write_atomically, write_hdf5
from mpnnp.model.label_kinds import KINDS
from mpnnp.model.stored_functions import check_finite, load_symmetry_functions
from mpnnp.optimizers.posterior import has_covariance
from mpnnp.parallel import on_root
from mpnnp.training import checkpoint
from mpnnp.training.checkpoint import config_of, posterior_of, read_shared
from mpnnp.training.initial_potential import initial_weights
from mpnnp.training.labels import labels_per_update
from mpnnp.training.run_folder import INITIAL


def quantity_of(kind):
    """What the results call the labels of a kind (LabelKind)."""
    return PLURALS.get(kind.name, kind.name)


UNITS = {
    quantity_of(kind): f"{kind.unit}^2" if "/" not in kind.unit else f"({kind.unit})^2"
    for kind in KINDS.values()
}


@dataclass(frozen=True)
class Model:
    """Results of one checkpoint, on rank 0.

    spectra              "energies", "forces" -> fisher.Spectrum
    weights, start       (n_weight,) trained, and before the first update (None if they are not known)
    filter_information   (n,) eigenvalues of the filter's P^-1, ascending; None without a filter in the
                         checkpoint
    expected             (n,) eigenvalues of P(0)^-1 + eta sum H^T H at the final weights, to compare with;
                         None without a filter, and with learned noise, whose levels changed at each update
    """

    path: str
    group: str
    spectra: dict
    weights: np.ndarray
    start: np.ndarray | None
    filter_information: np.ndarray | None = None
    expected: np.ndarray | None = None

    @property
    def moved(self):
        """Euclidean distance of the weights from the start."""
        return np.nan if self.start is None else float(np.linalg.norm(self.weights - self.start))


@dataclass(frozen=True)
class Analysis:
    """Models of several groups on the same data."""

    models: Sequence[Model]

    @property
    def groups(self):
        return {
            name: [m for m in self.models if m.group == name]
            for name in dict.fromkeys(m.group for m in self.models)
        }

    def spectra(self, quantity):
        """group -> Spectra of "energies" or "forces"; groups without such labels are left out."""
        found = {
            name: [m.spectra[quantity] for m in models if quantity in m.spectra]
            for name, models in self.groups.items()
        }
        return {name: spectra for name, spectra in found.items() if spectra}

    def distances(self, quantity):
        """(group, group) -> `fisher.distance`."""
        spectra = self.spectra(quantity)
        return {pair: distance(*(spectra[name] for name in pair)) for pair in combinations(spectra, 2)}


def analyse(path, group, data, cache_folder, comm, log, n_batch=4096, single=False, seed=1):
    """Model of a checkpoint on the data of a section [data]. Collective; the result is of use on rank 0.
    Raises DataError, CheckpointError.

    data      config.Data
    n_batch   batches of each kind: all energies if there are fewer
    single    single labels instead of the batches of the run's schedule
    """
    saved = read_shared(comm, lambda: checkpoint.read_checkpoint(path))
    potential, config = saved.potential, config_of(saved, path)
    dataset, cache = load_structures(data, comm, log, cache_folder)
    structures = make_atoms(dataset, potential.elements)
    G = load_symmetry_functions(structures, potential.functions, dataset.hash(), cache, comm, log)
    check_finite(G, structures, dataset, comm)
    gradients = Gradients(dataset, structures, G, potential, comm)
    spectra = {}
    for k, (name, kind) in enumerate(KINDS.items()):
        if not config.schedule.learns(name):
            continue
        size = 1 if single else labels_per_update(config.schedule, k)
        found = fisher_spectrum(gradients, k, size, n_batch, comm, seed)
        if found is not None:
            spectra[quantity_of(kind)] = found
    information = expected = None
    if comm.bcast(has_covariance(saved.optimizer), root=0):
        if not config.learns_noise:
            expected = expected_information(gradients, config, saved.progress["update"], n_batch, comm, seed)
        if comm.rank == 0:
            information = 1.0 / eigvalsh(posterior_of(saved, path).dense(), overwrite_a=True)[::-1]
    return Model(
        str(path),
        group,
        spectra,
        potential.weights,
        on_root(comm, _start, Path(path), potential, config),
        information,
        expected,
    )


def _start(path, potential, config):
    """Weights before the first update: of initial.h5 beside the checkpoint, else from the seed;
    None if neither serves. Raises CheckpointError if that file is there, whole, and cannot be read.
    """
    try:
        start = checkpoint.read_potential(path.parent / INITIAL).weights
    except DamagedError:
        if config.network.initializer == "files":
            return None
        start = initial_weights(config, potential.network)
    return start if len(start) == len(potential.weights) else None


def write(path, analysis):
    """fisher.h5: /models/K with weights and spectra of each model; /distances of the groups."""
    with write_atomically(path) as temporary, write_hdf5(temporary) as file:
        file.attrs["kind"] = "mpnnp fisher"
        for k, model in enumerate(analysis.models):
            group = file.create_group(f"models/{k}")
            group.attrs["path"], group.attrs["group"] = model.path, model.group
            group.attrs["distance_from_start"] = model.moved
            for name in ("weights", "start", "filter_information", "expected"):
                if getattr(model, name) is not None:
                    group[name] = getattr(model, name)
            for quantity, spectrum in model.spectra.items():
                values = group.create_dataset(f"{quantity}/eigenvalues", data=spectrum.eigenvalues)
                values.attrs["unit"] = UNITS[quantity]
                group[quantity].attrs.update(spectrum.numbers())
        for quantity in UNITS:
            for (one, two), (shift, total) in analysis.distances(quantity).items():
                target = file.require_group(f"distances/{quantity}").create_dataset(
                    f"{one} - {two}", data=[shift, total]
                )
                target.attrs["columns"], target.attrs["unit"] = "shift, Wasserstein distance", "decades"


def table(analysis):
    """Lines for people: one per model and kind of label, then the groups and their distances."""
    lines = [
        f"{'':34s} {'labels':9s} {'batches':>8s} {'trace':>10s} {'d_eff':>8s} {'rank':>6s} "
        f"{'condition':>10s} {'peak':>7s} {'|w-w0|':>8s}"
    ]
    for quantity in UNITS:
        spectra = [s for group in analysis.spectra(quantity).values() for s in group]
        if not spectra:
            continue
        bins = bins_of(spectra)
        for m in analysis.models:
            if s := m.spectra.get(quantity):
                numbers = (
                    f"{s.n_row:8d} {s.trace:10.3g} {s.effective_dimension:8.2f} {s.rank:6d} "
                    f"{s.condition:10.2g} {s.peak(bins):7.2f}"
                )
                lines.append(f"{m.path[-34:]:34s} {quantity:9s} {numbers} {m.moved:8.3f}")
        for name, group in analysis.spectra(quantity).items():
            peaks = [s.peak(bins) for s in group]
            lines.append(
                f"{name}, {quantity}: peak of the spectrum "
                f"at 10^({np.mean(peaks):.2f} +- {np.std(peaks):.2f}) {UNITS[quantity]}"
            )
        for (one, two), (shift, total) in analysis.distances(quantity).items():
            lines.append(
                f"{one} against {two}, {quantity}: mean shift {shift:+.2f} decades, "
                f"Wasserstein distance {total:.2f} decades"
            )
    for m in analysis.models:
        if m.expected is not None:
            ratio = np.log10(m.expected / m.filter_information)
            against = f"{ratio.mean():+.3f} decades, spread {ratio.std():.3f}"
            lines.append(f"{m.path}: P(0)^-1 + eta sum H^T H at the final weights against P^-1: {against}")
    return "\n".join(lines)


@style()
def draw(path, analysis):
    """Spectra with bands over the models of a group, weights, and P^-1 of the filters."""
    with_filter = [m for m in analysis.models if m.expected is not None]
    shown = [name for k, name in enumerate(UNITS) if k < 2 or analysis.spectra(name)]
    picture, axes = figure(len(shown) + 1 + bool(with_filter))
    for axis, quantity in zip(axes, shown):
        groups = analysis.spectra(quantity)
        if groups:
            bins = bins_of([s for spectra in groups.values() for s in spectra])
        for name, spectra in groups.items():
            counts = [np.histogram(np.log10(s.known), bins)[0] for s in spectra]
            band(axis, 10 ** (0.5 * (bins[1:] + bins[:-1])), counts, f"{name} ({len(spectra)})")
        axis.set(xscale="log", xlabel=f"eigenvalue ({with_signs(UNITS[quantity])})")
        axis.set(ylabel="eigenvalues per bin", title=f"Fisher information of {quantity}")
    bins = np.linspace(-1.0, 1.0, 61) * max(np.quantile(np.abs(m.weights), 0.995) for m in analysis.models)
    for name, models in analysis.groups.items():
        moved = np.mean([m.moved for m in models])
        band(
            axes[len(shown)],
            0.5 * (bins[1:] + bins[:-1]),
            [np.histogram(m.weights, bins)[0] for m in models],
            f"{name}: |w - w₀| = {moved:.3g}",
        )
    axes[len(shown)].set(xlabel="weight", ylabel="weights per bin", title="weights after training")
    for m in with_filter:
        axes[-1].loglog(m.filter_information, m.expected, ".", markersize=2, label=Path(m.path).parent.name)
        axes[-1].axline((1, 1), (10, 10), color=PALETTE[-1], linewidth=0.8)
        axes[-1].set(
            xlabel="eigenvalue of P⁻¹",
            ylabel="of P(0)⁻¹ + η Σ HᵀH at the final weights",
            title="memory of the filter",
        )
    for axis in axes:
        if axis.lines:
            axis.legend()
    save(picture, path)


@style()
def band(axis, x, lines, label):
    """Mean of several lines (n, len(x)), with their standard deviation as a band,
    which does not fall below the lowest line.
    """
    mean, spread = np.mean(lines, axis=0), np.std(lines, axis=0)
    (line,) = axis.plot(x, mean, label=label)
    axis.fill_between(
        x,
        np.maximum(mean - spread, np.min(lines, axis=0)),
        mean + spread,
        color=line.get_color(),
        alpha=0.25,
        linewidth=0,
    )
