"""Fig. 7, errors and density against the learning rate:

    python fig7.py DATA.h5 RUNS OUT [--dilute DILUTE.h5] [--start START --ps PS] ...

A group of runs for each eta of the filter and each learning rate of Adam; their errors in range (validation),
with --dilute out of it, and with --start the density of water at 330 K and 1 bar, from the last half of PS
picoseconds. Finished runs are not repeated.
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np

from mpnnp.analysis.fisher_report import band
from mpnnp.figures import figure, save
from mpnnp.simulation import density
from mpnnp.simulation.trajectories import read_densities

RATES = {"ekf": (1e-3, 1e-2, 1e-1), "adam": (1e-4, 1e-3, 1e-2)}  # eta; learning rate
STABLE = (0.5, 1.2)  # g/cm^3, as for Fig. 5
HERE = Path(__file__).parent


def settings(optimizer, rate, updates):
    length = ["run.epochs=5", f"schedule.updates_per_epoch={updates // 5}"]
    if optimizer == "ekf":
        return [f"ekf.eta={rate}", f"ekf.eta_max={rate}", *length]
    return [f"adam.learning_rate={rate}", f"adam.decay_steps={max(updates // 500, 1)}", *length]


def results_of(folder, dilute, simulated):
    """RMSE of energies (meV/atom) and forces (meV/Angstrom) of a member: in range, out of range;
    density (g/cm^3), NaN if the run did not last.
    """
    inside = json.loads((folder / "accuracy.json").read_text())["validation"]
    found = [inside["energy_rmse"], inside["force_rmse"]]
    if dilute:
        target = folder / "dilute.json"
        subprocess.run(
            ["mpnnp", "evaluate", folder / "best.h5", dilute, "--json", target],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        outside = json.loads(target.read_text())
        found += [outside["energy_rmse_mev_per_atom"], outside["force_rmse_mev_per_angstrom"]]
    if simulated:
        result = density.analyse(read_densities(folder / "npt", 0.05), limits=STABLE)
        found.append(result.mean if result.lasted else np.nan)
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ekf-updates", type=int, default=500_000)
    parser.add_argument("--adam-updates", type=int, default=5_000_000)
    parser.add_argument("--seeds", default="1-3")
    parser.add_argument("--dilute", help="data set out of range")
    parser.add_argument("--start", help="structure to start simulations from")
    parser.add_argument("--ps", default="100", help="picoseconds of each simulation")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    folders = {
        (optimizer, rate): arguments.runs / f"{optimizer}-{rate:g}"
        for optimizer, rates in RATES.items()
        for rate in rates
    }
    for (optimizer, rate), folder in folders.items():
        changes = [
            f"data.files={arguments.data}",
            *settings(optimizer, rate, getattr(arguments, f"{optimizer}_updates")),
        ]
        command = ["mpnnp", "ensemble", HERE / f"{optimizer}.toml", "--seeds", arguments.seeds, "-o", folder]
        # a member may fail
        subprocess.run(command + [word for change in changes for word in ("--set", change)], check=False)
    if arguments.start:
        options = ["--ensemble", "npt", "--temperature", "330", "--pressure", "1", "--time", arguments.ps]
        subprocess.run([HERE / "simulate.sh", arguments.runs, arguments.start, "npt", *options], check=True)
    results = {}
    for (optimizer, rate), folder in folders.items():
        members = sorted(folder.glob("seed-*"))
        done = [
            results_of(m, arguments.dilute, bool(arguments.start))
            for m in members
            if (m / "accuracy.json").is_file()
        ]
        mean = f"; means {np.mean(done, axis=0)}" if done else ""
        print(f"{optimizer} {rate:g}: {len(done)} of {len(members)} runs lasted{mean}", flush=True)
        results[optimizer, rate] = done
    names = ["energy, in range (meV/atom)", "force, in range (meV/Å)"]
    names += ["energy, out of range (meV/atom)", "force, out of range (meV/Å)"] * bool(arguments.dilute)
    names = [f"RMSE of {name}" for name in names] + ["density (g/cm³)"] * bool(arguments.start)
    picture, axes = figure(len(names))
    for k, (axis, name) in enumerate(zip(axes, names)):
        for optimizer, rates in RATES.items():
            rates = [rate for rate in rates if results[optimizer, rate]]
            if not rates:
                continue
            values = [[member[k] for member in results[optimizer, rate]] for rate in rates]
            least = min(len(v) for v in values)
            band(
                axis,
                rates,
                np.array([v[:least] for v in values]).T,
                {"ekf": "EKF, η", "adam": "Adam, learning rate"}[optimizer],
            )
        axis.set(
            xscale="log",
            yscale="linear" if name.startswith("density") else "log",
            xlabel="η or learning rate",
            ylabel=name,
        )
        axis.legend()
    save(picture, arguments.out / "fig7.png")


if __name__ == "__main__":
    main()
