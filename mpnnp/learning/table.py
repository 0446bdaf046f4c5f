"""What a learning leaves to look at: rounds.csv and its picture."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from mpnnp.figures import figure, save
from mpnnp.files import write_text
from mpnnp.learning.settings import Case
from mpnnp.learning.state import Round, State
from mpnnp.simulation.trajectories import read_densities

UNITS = {"energy_error": "mev_per_atom", "force_error": "mev_per_angstrom", "density": "g_cm3"}


def mean_density(cases: Sequence[Case], folder: Path) -> float | None:
    """Mean over the second halves of the simulations at constant pressure, g/cm^3; None without."""
    found = []
    for case in (case for case in cases if case.protocol["ensemble"] == "npt"):
        series = read_densities(folder / case.name, 1.0)
        found.append(series.values[series.times >= 0.5 * series.times[-1]].mean())
    return float(np.mean(found)) if found else None


def write(folder: Path, state: State) -> None:
    """rounds.csv, a row for each round, and rounds.png."""
    names = [field.name for field in fields(Round)]
    titles = [f"{name}_{UNITS[name]}" if name in UNITS else name for name in names]
    lines = [",".join((*titles, "stops_per_ps"))]
    for row in state.rounds:
        values = [*(getattr(row, name) for name in names), row.stops_per_ps]
        lines.append(",".join("" if v is None else f"{v:.6g}" for v in values))
    write_text(folder / "rounds.csv", "\n".join(lines) + "\n", encoding="ascii")
    draw(folder / "rounds.png", state)


def draw(path: Path, state: State) -> None:
    """Errors of labels before they were learned, stops per ps and densities against the labels learned."""
    rounds = state.rounds
    n_label = [row.labels for row in rounds]
    picture, axes = figure(3)
    columns = {
        name: np.array([getattr(row, name) or np.nan for row in rounds], float)
        for name in ("energy_error", "force_error", "density")
    }
    axes[0].plot(n_label, columns["force_error"], "o-", markersize=3, label="forces (meV/Å)")
    axes[0].plot(
        n_label, 100 * columns["energy_error"], "s--", markersize=3, label="energies (0.01 meV/atom)"
    )
    axes[0].set(ylabel="RMSE of new labels before they are learned")
    axes[0].legend(fontsize="small")
    simulated = [(row.labels, row.stops_per_ps) for row in rounds if row.simulated_ps]
    axes[1].plot(*zip(*simulated) if simulated else ([], []), "o-", markersize=3)
    axes[1].set(ylabel="stops per ps")
    for axis, values in ((axes[0], columns["force_error"]), (axes[1], np.array([s for _, s in simulated]))):
        if (values[np.isfinite(values)] > 0).any():
            axis.set_yscale("symlog" if axis is axes[1] else "log")
    axes[2].plot(n_label, columns["density"], "o-", markersize=3)
    axes[2].set(ylabel="density at constant pressure (g/cm³)")
    for axis in axes:
        axis.set(xlabel="labelled frames learned")
        axis.grid(True, which="both", alpha=0.3)
    save(picture, path)
