"""What the members of the study say, for the scripts beside: RUNS/GROUP/seed-N, and DATA of make_data.sh."""

import json

import numpy as np

from mpnnp.data.ranges import densities
from mpnnp.errors import ConfigError, DataError
from mpnnp.files import write_text
from mpnnp.model.evaluation import evaluate
from mpnnp.parallel import serial
from mpnnp.progress import Silent
from mpnnp.simulation import density
from mpnnp.simulation.equation_of_state import Point, equation_of_state, read_points
from mpnnp.simulation.statistics import block_error
from mpnnp.simulation.trajectories import read_densities
from mpnnp.training.checkpoint import load_potential
from mpnnp.units import BAR

STABLE = (0.5, 1.2)  # g/cm^3, that a simulation at 1 bar must not leave
SKIP = 0.2  # part of a simulation at constant volume in which it comes to equilibrium


def groups_of(runs):
    """Group -> folders of its members whose training came to its end."""
    found = {}
    for done in sorted(runs.glob("*/seed-*/accuracy.json")):
        found.setdefault(done.parent.parent.name, []).append(done.parent)
    return found


def rmse_in_range(folder):
    """RMSE of energies (meV/atom) and forces (meV/Angstrom) of the best potential, validation structures."""
    inside = json.loads((folder / "accuracy.json").read_text())["validation"]
    return inside["energy_rmse"], inside["force_rmse"]


def rmse_out_of_range(folder, dilute):
    """The same on another Dataset; it is evaluated once."""
    target = folder / "dilute.json"
    if not target.exists():
        evaluate(load_potential(folder / "best.h5"), dilute, serial(), Silent()).write_json(target)
    outside = json.loads(target.read_text())
    return outside["energy_rmse_mev_per_atom"], outside["force_rmse_mev_per_angstrom"]


def npt_density(folder):
    """density.Density of the simulation `npt` of a member."""
    return density.analyse(read_densities(folder / "npt", 0.05), limits=STABLE)


def curve_of(folder, log=None):
    """equation_of_state.Curve of the simulations `eos-DENSITY` in a folder; None where too few lasted.
    Two densities make a line.
    """
    runs = sorted(folder.glob("eos-*/md.csv"))
    try:
        points = read_points(folder.name, [run.parent for run in runs], SKIP, log or Silent())
        return equation_of_state(folder.name, points, order=min(2, len(runs) - 1))
    except (ConfigError, DataError) as error:
        if log:
            log.warn(f"{folder}: no equation of state: {error}")
        return None


def liquid_density(folder):
    """g/cm^3 at which the pressure is 1 bar in simulations at constant volume; NaN if there is none."""
    curve = curve_of(folder)
    return np.nan if curve is None else curve.density


def pressure_differences(folder, frames):
    """(density g/cm^3, mean difference, its error; bar) for each density of a Dataset of the truth's frames
    with its stresses: pressure of the best potential of a member minus that of the truth, without the first
    SKIP of the frames of a density. It is evaluated once.
    """
    target = folder / "same-frames.json"
    if not target.exists():
        found = evaluate(load_potential(folder / "best.h5"), frames, serial(), Silent())
        difference = (frames.stress - found.stress)[:, :3].mean(axis=1) / BAR
        of_frames, rows = densities(frames).round(4), []
        for one in np.unique(of_frames):
            mine = difference[of_frames == one]
            mine = mine[int(SKIP * len(mine)) :]
            mean, error, _ = block_error(mine)
            error = error if np.isfinite(error) else np.std(mine) / np.sqrt(len(mine))
            rows.append([float(one), float(mean), float(error)])
        write_text(target, json.dumps(rows) + "\n")
    return json.loads(target.read_text())


def first_order_curve(folder, frames, truth):
    """equation_of_state.Curve of a member by <p_truth> + <p - p_truth>, means over the truth's frames: first
    order in the difference of the potentials. Its error is that of the second term. truth: the Curve of it.
    """
    rows = pressure_differences(folder, frames)
    points = [Point(folder.name, d, float(truth(d)) + mean, error, True) for d, mean, error in rows]
    return equation_of_state(folder.name, points, order=min(2, len(points) - 1))
