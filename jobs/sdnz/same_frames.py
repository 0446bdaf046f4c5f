"""Equations of state to first order: python same_frames.py RUNS DATA OUT

The pressures of every member on the frames of the truth's own simulations (DATA/eos.h5) against those of the
truth: what a member adds to the pressure is known a hundred times better than from two simulations, whose
fluctuations do not cancel. Writes OUT/same-frames.csv and the picture.
"""

import sys
from pathlib import Path

import numpy as np
from members import curve_of, first_order_curve, groups_of, pressure_differences

from mpnnp.data import dataset
from mpnnp.figures import colours, figure, save, style
from mpnnp.files import write_table


@style()
def draw(path, members, truth, densities, differences):
    """What each member adds to the pressure, and its density at 1 bar."""
    picture, (pressures, found) = figure(2)
    tones, x = colours(list(members)), list(members)
    for group, folders in members.items():
        for k, folder in enumerate(folders):
            density, mean, error = np.array(differences[folder]).T
            label = group if k == 0 else None
            pressures.errorbar(density, mean, error, capsize=2.0, color=tones[group], label=label)
        y = [densities[folder] for folder in folders]
        found.plot([x.index(group)] * len(y), y, "o", color=tones[group])
    found.axhspan(truth.density - truth.error, truth.density + truth.error, alpha=0.3, label="truth")
    found.set_xticks(range(len(x)), x)
    found.set(xlim=(-0.5, len(x) - 0.5), ylabel="density at 1 bar (g/cm³)")
    pressures.axhline(0.0, color="0.5", linestyle="--", linewidth=1.0)
    pressures.set(xlabel="density (g/cm³)", ylabel="pressure less the truth's (bar)")
    for axis in (pressures, found):
        axis.legend()
    save(picture, path)


def main(runs, data, out):
    members, out = groups_of(Path(runs)), Path(out)
    truth, frames = curve_of(Path(data) / "truth"), dataset.read(Path(data) / "eos.h5")
    if truth is None:
        raise SystemExit(f"{data}/truth: no equation of state to compare with")
    differences, densities, rows = {}, {}, []
    for group, folders in members.items():
        for folder in folders:
            differences[folder] = pressure_differences(folder, frames)
            densities[folder] = first_order_curve(folder, frames, truth).density
            print(f"{group}/{folder.name}: {densities[folder]:.3f} g/cm^3 at 1 bar", flush=True)
            rows += [(group, folder.name, densities[folder], *row) for row in differences[folder]]
    columns = ("group", "member", "density_at_1_bar", "density_g_cm3", "difference_bar", "error_bar")
    write_table(out / "same-frames.csv", dict(zip(columns, map(list, zip(*rows)))))
    draw(out / "same-frames.png", members, truth, densities, differences)


if __name__ == "__main__":
    main(*sys.argv[1:])
