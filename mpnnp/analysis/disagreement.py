"""How far two or more potentials disagree about structures: energies and forces beside each other."""

from dataclasses import dataclass

import numpy as np

from mpnnp.errors import ConfigError
from mpnnp.figures import PALETTE, by_density, figure, log_axis, save, style, whole_numbers
from mpnnp.files import write_table
from mpnnp.model.evaluation import evaluate
from mpnnp.model.label_kinds import MILLI
from mpnnp.progress import counted
from mpnnp.training.pictures import MAXIMUM_POINTS


@dataclass(frozen=True)
class Disagreement:
    """Spread of the predictions of potentials, on rank 0: about their mean, or for two of them their
    difference B - A. Per structure.

    energy      (n_structure,) eV/atom
    force       (n_structure,) eV/Angstrom, root mean square over the components
    largest     (n_structure,) eV/Angstrom, of the vector on one atom
    predictions list of Evaluation, one per potential
    """

    energy: np.ndarray
    force: np.ndarray
    largest: np.ndarray
    predictions: list


def disagreement_of(potentials, dataset, comm, log):
    """Disagreement of potentials (two or more) about all structures of a data set. Collective.
    Raises ConfigError, DataError.

    Of two potentials the difference is told, of more of them the standard deviation, sqrt(<|x - <x>|^2>) with
    divisor n - 1.
    """
    if len(potentials) < 2:
        raise ConfigError("a disagreement needs at least two potentials")
    results = [evaluate(potential, dataset, comm, log) for potential in potentials]
    start, n_atom = np.asarray(dataset.start), np.diff(dataset.start)
    energies = np.array([r.energy for r in results]) / n_atom
    forces = np.array([r.forces for r in results])
    if len(results) == 2:
        energy, square = energies[1] - energies[0], (forces[1] - forces[0]) ** 2
    else:
        energy, square = energies.std(axis=0, ddof=1), forces.var(axis=0, ddof=1)
    of_atom = square.sum(axis=1)
    force = np.sqrt(np.add.reduceat(of_atom, start[:-1]) / (3 * n_atom))
    return Disagreement(energy, force, np.sqrt(np.maximum.reduceat(of_atom, start[:-1])), results)


def lines_of(found, dataset, names, n_worst=5):
    """What people read: the whole, and the worst structures."""
    weights = np.diff(dataset.start)
    rms_force = np.sqrt(np.average(found.force**2, weights=weights)) * MILLI
    rms_energy = np.sqrt(np.mean(found.energy**2)) * MILLI
    what = "differences B - A" if len(names) == 2 else "standard deviations"
    lines = [
        f"{what} over {counted(len(dataset), 'structure')}: energy {rms_energy:.4g} meV/atom, "
        f"force component {rms_force:.4g} meV/A (root mean square)"
    ]
    if len(names) == 2:
        lines.append(f"mean difference of the energies: {found.energy.mean() * MILLI:.4g} meV/atom")
    lines += [
        f"  {'ABCDEFGH'[k] if k < 8 else k}: {name}, {_accuracy(p)}"
        for k, (name, p) in enumerate(zip(names, found.predictions))
    ]
    lines.append("largest disagreements about forces, the vector on one atom:")
    for s in np.argsort(-found.largest)[:n_worst]:
        lines.append(
            f"  {found.largest[s] * MILLI:9.4g} meV/A, energy {found.energy[s] * MILLI:9.4g} meV/atom: "
            f"{dataset.name(s)}"
        )
    return lines


def _accuracy(result):
    a = result.accuracy
    there = [k for k in a.kinds() if k.always and a.has_labels_of([k.name])]
    told = ", ".join(f"{a.rmse[k.name]:.4g} {k.short_unit}" for k in there)
    return f"RMSE {told}" if told else "no labels"


def write_csv(path, found, dataset):
    """structure, source, frame, atoms; energy in meV/atom, forces in meV/Angstrom."""
    columns = {
        "structure": range(len(dataset)),
        "source": [dataset.source_names[k] for k in dataset.source],
        "frame": dataset.frame,
        "atoms": dataset.n_atom,
        "energy_mev_per_atom": MILLI * found.energy,
        "force_rms_mev_per_angstrom": MILLI * found.force,
        "force_largest_mev_per_angstrom": MILLI * found.largest,
    }
    write_table(path, columns)


@style()
def draw(path, found, dataset):
    """Energies of B against A, forces of B against A, and the largest disagreement of each structure."""
    a, b = found.predictions[:2]
    picture, axes = figure(3, height=3.4)
    rng, n_atom = np.random.default_rng(0), dataset.n_atom
    pairs = (
        (a.energy / n_atom, b.energy / n_atom, "energy per atom (eV)"),
        (a.forces.ravel(), b.forces.ravel(), "force component (eV/Å)"),
    )
    for axis, (x, y, name) in zip(axes, pairs):
        chosen = (
            np.arange(len(x))
            if len(x) <= MAXIMUM_POINTS
            else rng.choice(len(x), MAXIMUM_POINTS, replace=False)
        )
        order, tones = by_density(x[chosen], (y - x)[chosen])
        axis.scatter(x[chosen][order], y[chosen][order], c=tones, s=4.0, linewidths=0, rasterized=True)
        axis.axline((x[0], x[0]), slope=1, color=PALETTE[-1], linewidth=0.8)
        axis.set(xlabel=f"{name}, potential A", ylabel=f"{name}, potential B")
        axis.ticklabel_format(useOffset=False, style="plain")
        axis.locator_params(nbins=5)
    axes[2].plot(found.largest * MILLI, ".", markersize=3)
    axes[2].set(
        xlabel="structure",
        ylabel="largest disagreement about a force (meV/Å)",
    )
    whole_numbers(axes[2])
    if (found.largest > 0).all():
        log_axis(axes[2])
    save(picture, path)
