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
    panels = {
        "energy_error": "new energies before learned:\nRMSE (meV/atom)",
        "force_error": "new forces before learned:\nRMSE (meV/Å)",
        "stops_per_ps": "stops per ps",
        "density": "density at constant pressure\n(g/cm³)",
    }
    picture, axes = figure(len(panels))
    for axis, (name, words) in zip(axes, panels.items()):
        values = np.array([getattr(row, name) for row in state.rounds], float)  # None: NaN
        there = np.isfinite(values)  # no stops per ps where all were stopped at once
        if name == "stops_per_ps":
            there &= np.array([row.simulated_ps > 0 for row in state.rounds])  # not before the simulations
        values = values[there]
        axis.plot(np.array([row.labels for row in state.rounds])[there], values, "o-", markersize=3)
        if name != "density" and (values > 0).any():
            axis.set_yscale("symlog" if name == "stops_per_ps" else "log")
        axis.set(xlabel="labelled frames learned", ylabel=words)
        axis.grid(True, which="both", alpha=0.3)
    save(picture, path)
