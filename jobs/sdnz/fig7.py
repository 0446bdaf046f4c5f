"""Fig. 7, errors against the learning rate: python fig7.py DATA.h5 RUNS OUT [--ekf-updates N] [--adam-updates N] [--dilute DILUTE.h5]

A group of runs for each eta of the filter and each learning rate of Adam; their errors in range (validation) and, with --dilute, out of it.
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np

from mpnnp.fisher_report import band
from mpnnp.report import figure, save

RATES = {"ekf": (1e-3, 1e-2, 1e-1), "adam": (1e-4, 1e-3, 1e-2)}  # eta; learning rate
HERE = Path(__file__).parent


def settings(optimizer, rate, updates):
    length = ["run.epochs=5", f"schedule.updates_per_epoch={updates // 5}"]
    if optimizer == "ekf":
        return [f"ekf.eta={rate}", f"ekf.eta_max={rate}", *length]
    return [f"adam.learning_rate={rate}", f"adam.decay_steps={max(updates // 500, 1)}", *length]


def errors(folder, dilute):
    """RMSE of energies (meV/atom) and forces (meV/Angstrom) of a member: in range, out of range."""
    inside = json.loads((folder / "accuracy.json").read_text())["validation"]
    found = [inside["energy_rmse"], inside["force_rmse"]]
    if dilute:
        target = folder / "dilute.json"
        subprocess.run(["mpnnp", "evaluate", folder / "best.h5", dilute, "--json", target], check=True, stdout=subprocess.DEVNULL)
        outside = json.loads(target.read_text())
        found += [outside["energy_rmse_mev_per_atom"], outside["force_rmse_mev_per_angstrom"]]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ekf-updates", type=int, default=500_000)
    parser.add_argument("--adam-updates", type=int, default=5_000_000)
    parser.add_argument("--seeds", default="1-3")
    parser.add_argument("--dilute", help="data set out of range")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for optimizer, rates in RATES.items():
        for rate in rates:
            folder = arguments.runs / f"{optimizer}-{rate:g}"
            changes = [f"data.files={arguments.data}", *settings(optimizer, rate, getattr(arguments, f"{optimizer}_updates"))]
            command = ["mpnnp", "ensemble", HERE / f"{optimizer}.toml", "--seeds", arguments.seeds, "-o", folder]
            subprocess.run(command + [word for change in changes for word in ("--set", change)], check=False)  # a member may fail
            members = sorted(folder.glob("seed-*"))
            results[optimizer, rate] = [errors(m, arguments.dilute) for m in members if (m / "accuracy.json").is_file()]
            done = results[optimizer, rate]
            mean = f"; mean errors {np.mean(done, axis=0)}" if done else ""
            print(f"{optimizer} {rate:g}: {len(done)} of {len(members)} runs lasted{mean}", flush=True)
    names = ["energy, in range (meV/atom)", "force, in range (meV/Å)", "energy, out of range (meV/atom)", "force, out of range (meV/Å)"]
    picture, axes = figure(4 if arguments.dilute else 2)
    for k, axis in enumerate(axes):
        for optimizer, rates in RATES.items():
            rates = [rate for rate in rates if results[optimizer, rate]]
            if not rates:
                continue
            values = [[member[k] for member in results[optimizer, rate]] for rate in rates]
            least = min(len(v) for v in values)
            band(axis, rates, np.array([v[:least] for v in values]).T, {"ekf": "EKF, η", "adam": "Adam, learning rate"}[optimizer])
        axis.set(xscale="log", yscale="log", xlabel="η or learning rate", ylabel=f"RMSE of {names[k]}")
        axis.grid(True, which="both", alpha=0.3)
        axis.legend()
    save(picture, arguments.out / "fig7.png")


if __name__ == "__main__":
    main()
