"""Fig. 8, how far the weights moved: python fig8.py OUT/fisher.h5 OUT, after fig9.sh"""

import sys
from pathlib import Path

import h5py
import numpy as np

from mpnnp.analysis.fisher_report import band
from mpnnp.figures import figure, save


def main(source, out):
    Path(out).mkdir(parents=True, exist_ok=True)
    with h5py.File(source) as file:
        models = [
            (model.attrs["group"], model["weights"][()], model["start"][()])
            for model in file["models"].values()
        ]
    groups = {
        name: [(w, start) for group, w, start in models if group == name]
        for name in dict.fromkeys(m[0] for m in models)
    }
    picture, axes = figure(3)
    sizes = {"weight": lambda w, start: w, "change of the weight": lambda w, start: w - start}
    for axis, (label, value) in zip(axes, sizes.items()):
        limit = max(
            np.quantile(np.abs(value(*model)), 0.995) for members in groups.values() for model in members
        )
        bins = np.linspace(-limit, limit, 61)
        for name, members in groups.items():
            band(
                axis,
                0.5 * (bins[1:] + bins[:-1]),
                [np.histogram(value(*model), bins)[0] for model in members],
                name,
            )
        axis.set(xlabel=label, ylabel="weights per bin")
    for name, members in groups.items():
        moved = [np.linalg.norm(w - start) for w, start in members]
        print(
            f"{name}: |w - w0| = {np.mean(moved):.3f} +- {np.std(moved):.3f}, "
            f"|w| = {np.mean([np.linalg.norm(w) for w, _ in members]):.3f}"
        )
        axes[2].plot([name] * len(moved), moved, "o")
    axes[2].set(ylabel="|w - w₀|")
    axes[0].legend()
    save(picture, Path(out) / "fig8.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
