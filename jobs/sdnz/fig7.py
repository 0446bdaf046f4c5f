"""Fig. 7, errors and density against the learning rate: python fig7.py DATA RUNS OUT [OPTIONS]

A group of runs for each eta of the filter and each learning rate of Adam, of a tenth of LENGTH times the
published updates; their errors in range (validation) and out of it (DATA/dilute.h5), and the density at 1 bar
to first order (same_frames.py). What is finished is not repeated; RANKS members are trained at a time. Writes
OUT/fig7.csv and the picture.
"""

import argparse
import os
import subprocess
from pathlib import Path

import numpy as np
from members import curve_of, first_order_curve, groups_of, rmse_in_range, rmse_out_of_range

from mpnnp.analysis.fisher_report import band
from mpnnp.data import dataset
from mpnnp.figures import colours, figure, save, style
from mpnnp.files import write_table
from mpnnp.training.ensemble import seeds_of

RATES = {"ekf": (1e-3, 1e-2, 1e-1), "adam": (1e-4, 1e-3, 1e-2)}  # eta; learning rate
UPDATES = {"ekf": 50_000, "adam": 500_000}
NAMES = (
    "RMSE of energy, in range (meV/atom)",
    "RMSE of force, in range (meV/Å)",
    "RMSE of energy, out of range (meV/atom)",
    "RMSE of force, out of range (meV/Å)",
    "density at 1 bar (g/cm³)",
)
LABELS = {"ekf": "EKF, η", "adam": "Adam, learning rate"}
HERE = Path(__file__).parent


def settings(optimizer, rate, length):
    """Keys of a run with another rate."""
    epoch = max(round(UPDATES[optimizer] * length / 5), 1)
    keys = ["run.epochs=5", f"schedule.updates_per_epoch={epoch}"]
    if optimizer == "ekf":
        return [f"ekf.eta={rate}", f"ekf.eta_max={rate}", *keys]
    return [f"adam.learning_rate={rate}", f"adam.decay_steps={max(epoch // 100, 1)}", *keys]


def train(optimizer, rate, arguments):
    """The members of a rate; one of them may fail."""
    folder = arguments.runs / f"{optimizer}-{rate:g}"
    if all((folder / f"seed-{seed}" / "accuracy.json").exists() for seed in seeds_of(arguments.seeds)):
        return
    ranks = os.environ.get("RANKS", "1")
    launch = ["mpiexec", "-n", ranks] if ranks != "1" else []
    changes = [f"data.files={arguments.data / 'data.h5'}", *settings(optimizer, rate, arguments.length)]
    command = ["mpnnp", "ensemble", HERE / f"{optimizer}.toml", "--seeds", arguments.seeds]
    command += ["--side-by-side", ranks, "-o", folder]
    done = subprocess.run(launch + command + [word for change in changes for word in ("--set", change)])
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)


@style()
def draw(path, results, truth):
    """Errors of each optimiser against its rate, mean and band; densities at 1 bar of each member, with the
    truth's. Rates that none of the runs stood are left out.
    """
    picture, axes = figure(len(NAMES))
    for k, (axis, name) in enumerate(zip(axes[:-1], NAMES)):
        for optimizer in RATES:
            members = {r: [m[k] for m in found] for (o, r), found in results.items() if o == optimizer}
            members = {r: [x for x in found if np.isfinite(x)] for r, found in members.items()}
            rates = [rate for rate, found in members.items() if found]
            if rates:
                least = min(len(members[rate]) for rate in rates)
                values = np.array([members[rate][:least] for rate in rates]).T
                band(axis, rates, values, LABELS[optimizer])
        axis.set(xscale="log", yscale="log", xlabel="η or learning rate", ylabel=name)
    draw_densities(axes[-1], results, truth)
    add_legend(picture, axes)
    save(picture, path)


def add_legend(picture, axes):
    """One legend of all panels, in the place of the sixth, where it covers nothing."""
    found = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            found.setdefault((label, handle.get_color()), handle)
    if found:
        labels = [label for label, _ in found]
        picture.legend(found.values(), labels, loc="center", bbox_to_anchor=(0.75, 1 / 6))


def draw_densities(axis, results, truth):
    """A point for each member; those without a density at 1 bar in the range of the truth's frames stand as
    crosses on the axis.
    """
    tones = colours(list(RATES))
    axis.margins(y=0.2)
    for optimizer in RATES:
        members = [(rate, m[-1]) for (o, rate), found in results.items() if o == optimizer for m in found]
        liquid = [(rate, density) for rate, density in members if np.isfinite(density)]
        none = [rate for rate, density in members if not np.isfinite(density)]
        if liquid:
            axis.plot(*zip(*liquid), "o", color=tones[optimizer], label=LABELS[optimizer])
        if none:
            x, y = fan_out(none), np.full(len(none), 0.03)
            axis.plot(
                x, y, "x", color=tones[optimizer], transform=axis.get_xaxis_transform(), label="no liquid"
            )
    if truth:
        axis.axhline(truth.density, color="0.5", zorder=0, label="truth")
    axis.set(xscale="log", xlabel="η or learning rate", ylabel=NAMES[-1])


def fan_out(rates):
    """The same rates, those that are equal some percent apart, so that each is seen."""
    return [rate * 1.15 ** rates[:k].count(rate) for k, rate in enumerate(rates)]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--length", type=float, default=1.0, help="1: a tenth of the published updates")
    parser.add_argument("--seeds", default="1-2")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for optimizer, rates in RATES.items():
        for rate in rates:
            train(optimizer, rate, arguments)
    trained, results = groups_of(arguments.runs), {}
    dilute, frames = (dataset.read(arguments.data / f"{name}.h5") for name in ("dilute", "eos"))
    truth = curve_of(arguments.data / "truth")

    def density(folder):
        return first_order_curve(folder, frames, truth).density if truth else np.nan

    for optimizer, rates in RATES.items():
        for rate in rates:
            folders = trained.get(f"{optimizer}-{rate:g}", [])
            results[optimizer, rate] = [
                (*rmse_in_range(f), *rmse_out_of_range(f, dilute), density(f)) for f in folders
            ]
            print(f"{optimizer} {rate:g}: {len(folders)} members were trained to the end", flush=True)
    rows = [(*key, *member) for key, found in results.items() for member in found]
    columns = ("optimizer", "rate", "energy_in", "force_in", "energy_out", "force_out", "density_g_cm3")
    write_table(arguments.out / "fig7.csv", dict(zip(columns, map(list, zip(*rows)))))
    draw(arguments.out / "fig7.png", results, truth)


if __name__ == "__main__":
    main()
