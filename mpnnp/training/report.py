"""What people look at: lines of the learning curve, and pictures of it and of predictions against labels."""

import json
from dataclasses import asdict

import numpy as np
from ase.data import chemical_symbols

from mpnnp.figures import figure, save
from mpnnp.files import write_text
from mpnnp.optimizers.posterior import has_covariance, numbers_stored
from mpnnp.training.checkpoint import read_summary

MOST_POINTS = 20_000  # drawn of each kind


def symbols(elements):
    return [chemical_symbols[z] for z in elements]


def progress_line(epoch, state, train, validation, better):
    """One line of the log per evaluation; train | validation."""
    energy = f"energy {train.energy_rmse:9.3f} |{validation.energy_rmse:9.3f} meV/atom"
    force = f"force {train.force_rmse:9.2f} |{validation.force_rmse:9.2f} meV/A"
    there = np.isfinite([train.stress_rmse, validation.stress_rmse]).any()
    stress = f"  stress {train.stress_rmse:8.3f} |{validation.stress_rmse:8.3f} meV/A^3" if there else ""
    return f"epoch {epoch:4d} update {state.update:8d} {state.seconds:8.1f} s  RMSE {energy}  {force}{stress}{'  best' if better else ''}"


def accuracy_line(name, n_structure, a):
    """One line about all structures of a kind."""
    energy = f"energy {a.energy_rmse:.4g} meV/atom (MAE {a.energy_mae:.4g})"
    stress = (
        f", stress {a.stress_rmse:.4g} meV/A^3 (MAE {a.stress_mae:.4g})" if np.isfinite(a.stress_rmse) else ""
    )
    return f"  {name} ({n_structure} structures): RMSE {energy}, force {a.force_rmse:.4g} meV/A (MAE {a.force_mae:.4g}){stress}"


def write_accuracies(path, state, structures, accuracies):
    """accuracy.json: errors of best.h5 on all structures, and where in the run it was found."""
    numbers = {
        name: {"structures": len(structures[name])}
        | {key: value if np.isfinite(value) else None for key, value in asdict(a).items()}
        for name, a in accuracies.items()
    }
    units = {"energy": "meV/atom", "force": "meV/Angstrom", "stress": "meV/Angstrom^3"}
    text = json.dumps(
        {"epoch": state.best_epoch, "updates_of_the_run": state.update, "units": units} | numbers, indent=2
    )
    write_text(path, text + "\n", encoding="ascii")


class Parity:
    """Labels and predictions, collected while structures are evaluated."""

    def __init__(self, observer):
        self.observer, self.energy, self.force, self.stress = (
            observer,
            [],
            [np.zeros((0, 2))],
            [np.zeros((0, 2))],
        )

    def __call__(self, s, prediction):
        dataset, start = self.observer.dataset, self.observer.structures.start
        n_atom = start[s + 1] - start[s]
        self.energy.append((dataset.energy[s] / n_atom, prediction.energy / n_atom))
        self.force.append(
            np.stack(
                [np.asarray(dataset.forces[start[s] : start[s + 1]]).ravel(), prediction.forces.ravel()],
                axis=1,
            )
        )
        if self.observer.structures.pbc[s].all():
            self.stress.append(
                np.stack([dataset.stress[s], prediction.stress(self.observer.structures.cell[s])], axis=1)
            )

    def gather(self, comm):
        """Label and prediction of energies per atom (n, 2) eV, forces (m, 2) eV/Angstrom, stresses (k, 2) eV/Angstrom^3, on rank 0. Collective."""
        parts = comm.gather(
            (np.array(self.energy).reshape(-1, 2), np.concatenate(self.force), np.concatenate(self.stress)),
            root=0,
        )
        return tuple(np.concatenate(column) for column in zip(*parts)) if comm.rank == 0 else None


def describe_checkpoint(path):
    """What a checkpoint holds, as lines for people. Raises CheckpointError."""
    found = read_summary(path)
    p, progress, optimizer, curve = found.potential, found.progress, found.optimizer, found.curve
    lines = [
        f"checkpoint of mpnnp, elements {' '.join(symbols(p.elements))}",
        f"weights: {p.network.n_weight}",
    ]
    for symbol, z, size, names in zip(
        symbols(p.elements), p.elements, p.network.sizes, p.network.activations
    ):
        kinds = [f.kind for f in p.functions.of(z)]
        counts = ", ".join(f"{kinds.count(kind)} of type {kind}" for kind in sorted(set(kinds)))
        net = f"{'-'.join(map(str, size))}, {' '.join(names[:-1]) or 'linear'}"
        lines.append(f"  {symbol:2s} net {net}; {len(kinds)} symmetry functions ({counts})")
    lines.append(f"largest cutoff radius: {p.functions.r_c:.6g} A; scaling {p.scaling.kind}")
    references = ", ".join(
        f"{symbol} {energy:.6g}" for symbol, energy in zip(symbols(p.elements), p.atomic_energies)
    )
    lines.append(f"atomic energies: {references} eV; mean energy {p.mean_energy:.6g} eV/atom")
    lines.append(f"units of training: energy {p.energy_scale:.6g} eV, force {p.force_scale:.6g} eV/A")
    where = f"epoch {progress.get('epoch', 0)}" + (
        f", {progress['done']} updates into it" if progress.get("done") else ""
    )
    lines.append(f"state: {where}, {progress.get('update', 0)} updates in all")
    if "best" in progress:
        lines.append(
            f"best measure so far: {progress['best']:.6g}, after epoch {progress.get('best_epoch', progress.get('epoch', 0))}"
        )
    for name, k in (("last", -1), ("best", _row_of(curve, progress.get("best_epoch")))):
        if len(curve.get("epoch", ())) and k is not None:
            lines.append(
                f"accuracy, {name}: {_accuracy_of_row({key: values[k] for key, values in curve.items()})}"
            )
    if has_covariance(optimizer):
        n, stored = p.network.n_weight, numbers_stored(optimizer)
        lines.append(f"optimizer: ekf; P {n} x {n}: {stored} numbers stored, {stored * 8 / 1e6:.1f} MB")
    elif optimizer:
        lines.append(f"optimizer: {progress.get('optimizer', 'unknown')}")
    else:
        lines.append("optimizer: none (the potential alone; it cannot be resumed)")
    return "\n".join(lines)


def _row_of(curve, epoch):
    """Index of the learning curve's last row of an epoch; None if there is none."""
    rows = np.flatnonzero(curve.get("epoch", np.zeros(0)) == epoch)
    return rows[-1] if len(rows) else None


def _accuracy_of_row(row):
    energy = f"energy {row['energy_rmse_train']:.4g} | {row['energy_rmse_validation']:.4g} meV/atom"
    force = f"force {row['force_rmse_train']:.4g} | {row['force_rmse_validation']:.4g} meV/A"
    return f"epoch {row['epoch']:.0f}, RMSE training | validation {energy}, {force}"


def draw(directory, curve, points, what):
    """learning-curve.png and parity.png in the run's folder."""
    draw_learning_curve(directory / "learning-curve.png", curve.columns())
    draw_parity(directory / "parity.png", *points, what)


def draw_learning_curve(path, columns):
    """RMSE of energies, forces and stresses (if there are labels), training and validation, against epochs."""
    with_stress = any(
        np.isfinite(columns.get(f"stress_rmse_{part}", np.nan)).any() for part in ("train", "validation")
    )
    picture, axes = figure(3 if with_stress else 2)
    for axis, quantity, unit in zip(axes, ("energy", "force", "stress"), ("meV/atom", "meV/Å", "meV/Å³")):
        for part, style in (("train", "o-"), ("validation", "s--")):
            values = columns[f"{quantity}_rmse_{part}"]
            if np.isfinite(values).any():
                axis.plot(columns["epoch"], values, style, markersize=3, label=part)
        axis.set(xlabel="epoch", ylabel=f"RMSE of {quantity} ({unit})")
        if axis.lines:
            axis.set_yscale("log")
            axis.legend()
        axis.grid(True, which="both", alpha=0.3)
    picture.suptitle(f"{columns['update'][-1]:.0f} updates, {columns['seconds'][-1]:.0f} s")
    save(picture, path)


def draw_parity(path, energy, force, stress, what):
    """Predicted against labelled energies per atom, force components, and stress components if there are labels of them."""
    picture, axes = figure(2 if np.isnan(stress).any(axis=1).all() else 3, height=4.6)
    rng = np.random.default_rng(0)
    units = (
        ("energy per atom (eV)", 1000, "meV/atom"),
        ("force component (eV/Å)", 1000, "meV/Å"),
        ("stress (eV/Å³)", 1000, "meV/Å³"),
    )
    for axis, points, (name, milli, unit) in zip(axes, (energy, force, stress), units):
        points = points[~np.isnan(points).any(axis=1)]
        axis.set(xlabel=f"labelled {name}", ylabel=f"predicted {name}")
        if not len(points):
            axis.set_title("no labels")
            continue
        rmse = milli * np.sqrt(np.mean((points[:, 0] - points[:, 1]) ** 2))
        drawn = (
            points
            if len(points) <= MOST_POINTS
            else points[rng.choice(len(points), MOST_POINTS, replace=False)]
        )
        axis.plot(drawn[:, 0], drawn[:, 1], ".", markersize=2, alpha=0.5)
        axis.axline((points[0, 0], points[0, 0]), slope=1, color="black", linewidth=0.7)
        axis.set_title(f"{what}: RMSE {rmse:.4g} {unit}, {len(points)} labels")
        axis.ticklabel_format(useOffset=True, style="plain")
        axis.grid(True, alpha=0.3)
    save(picture, path)
