"""The findings one by one, as a table: python findings.py RUNS DATA OUT

Reads what the other scripts have left, as far as it is there, and writes OUT/findings.md. Intervals hold 95 %
of the bootstrap samples of the members (percentiles); those of few members are too narrow: of four normal
numbers they hold the mean in 81 % of the cases. Counts of few runs are compared by Fisher's exact test,
two-sided.
"""

import csv
import sys
from pathlib import Path

import h5py
import numpy as np
from members import (
    curve_of,
    first_order_curve,
    groups_of,
    liquid_density,
    npt_density,
    rmse_in_range,
)
from scipy.stats import bootstrap, fisher_exact, spearmanr

from mpnnp.analysis.comparison import Group, reachable
from mpnnp.analysis.fisher import Spectrum, bins_of, distance
from mpnnp.data import dataset
from mpnnp.files import write_text
from mpnnp.simulation.statistics import with_error

NEAR = 0.03  # g/cm^3 from the truth's density, that counts as found
PAIR = ("ekf", "adam")  # the groups of the paper


def with_interval(statistic, *samples, form=".3g"):
    """statistic(*samples) with its interval, in words. Samples of less than two members give none."""
    value = f"{statistic(*samples):{form}}" if all(map(len, samples)) else "not known"
    if min(map(len, samples)) < 2:
        return value
    options = {
        "vectorized": False,
        "method": "percentile",
        "random_state": np.random.default_rng(1),
        "n_resamples": 2000,
    }
    found = bootstrap(samples, statistic, **options).confidence_interval
    return f"{value} ({found.low:{form}} to {found.high:{form}})"


def exact_test(one, two):
    """p of Fisher's test for two lists of successes (bool), in words."""
    if not one or not two:
        return "not known"
    table = [[sum(x), len(x) - sum(x)] for x in (one, two)]
    return f"p = {fisher_exact(table).pvalue:.2g}"


def ratio(one, two):
    return np.mean(one) / np.mean(two)


def difference(one, two):
    return np.mean(one) - np.mean(two)


def of_groups(values, text):
    """ "ekf: ...; adam: ..." by a function of each group's values."""
    return "; ".join(f"{name}: {text(found)}" for name, found in values.items())


def densities_in_words(values):
    return ", ".join("none" if np.isnan(d) else f"{d:.3f}" for d in values)


def updates(members):
    """(a) how many updates Adam takes for one of EKF, to errors that all of their runs reach."""
    groups = {name: Group.read(name, members[name]) for name in PAIR}
    for quantity in ("energy", "force"):
        target = reachable(list(groups.values()), quantity)
        found = {name: group.reached(target, quantity, "update") for name, group in groups.items()}
        told = with_interval(ratio, found["adam"], found["ekf"])
        yield (f"(a) updates of Adam over those of EKF, {quantity}", "about 10", f"{told}, to {target:.3g}")


def simulations(members):
    """(b) NPT runs that last."""
    npt = {
        name: [npt_density(folder) for folder in folders if (folder / "npt/status.json").exists()]
        for name, folders in members.items()
    }
    lasted = {name: [d.lasted for d in found] for name, found in npt.items()}
    counts = of_groups(lasted, lambda x: f"{sum(x)} of {len(x)}")
    test = exact_test(*(lasted[name] for name in PAIR))
    yield "(b) NPT runs that last", "all EKF, few Adam", f"{counts}; {' against '.join(PAIR)} {test}"


def densities_at_1_bar(known, truth, how):
    """(b) densities of each group (n_member,) at 1 bar, and how far they are from the truth's, a Curve."""
    yield f"(b) density at 1 bar, {how}", "EKF: near the truth", of_groups(known, densities_in_words)
    off = {name: np.abs(found - truth.density)[np.isfinite(found)] for name, found in known.items()}
    yield (
        f"(b) mean distance from the truth's, {how}",
        "",
        of_groups(off, lambda x: with_interval(np.mean, x)),
    )
    yield (
        f"(b) the same, {PAIR[0]} - {PAIR[1]}, {how}",
        "below 0",
        with_interval(difference, *(off[n] for n in PAIR)),
    )
    near = {name: [bool(abs(d - truth.density) < NEAR) for d in found] for name, found in known.items()}
    counts = of_groups(near, lambda x: f"{sum(x)} of {len(x)}")
    test = exact_test(*(near[name] for name in PAIR))
    yield f"(b) members within {NEAR} g/cm^3 of it, {how}", "", f"{counts}; {' against '.join(PAIR)} {test}"


def extrapolation(members, data):
    """(b) and (e): densities at 1 bar by simulations, and to first order on the truth's frames."""
    yield from simulations(members)
    truth = curve_of(data / "truth")
    if truth is None or np.isnan(truth.density):
        return
    yield "(b) the truth's density at 1 bar (g/cm^3)", "", with_error(truth.density, truth.error)
    frames = dataset.read(data / "eos.h5")
    ways = {
        "to first order": ("best.h5", lambda folder: first_order_curve(folder, frames, truth).density),
        "by simulations": ("eos-*/status.json", liquid_density),
    }
    for how, (needs, density) in ways.items():
        there = {name: [f for f in folders if any(f.glob(needs))] for name, folders in members.items()}
        if not any(there.values()):
            continue
        known = {name: np.array([density(f) for f in folders]) for name, folders in there.items()}
        yield from densities_at_1_bar(known, truth, how)
        deviation = np.concatenate([np.abs(found - truth.density) for found in known.values()])
        yield from no_oracle([f for found in there.values() for f in found], deviation, how)


def no_oracle(folders, deviation, how):
    """(e) rank correlation of what training tells with the distance from the truth's density (n_member,)."""
    told = np.isfinite(deviation)
    for k, quantity in enumerate(("energy", "force")):
        rmse = np.array([rmse_in_range(folder)[k] for folder in folders])
        yield (
            f"(e) RMSE of {quantity} in range against that distance, {how}",
            "not correlated",
            correlation(rmse[told], deviation[told]),
        )


def correlation(one, two):
    if len(one) < 3:
        return "too few members"
    found = spearmanr(one, two)
    return f"Spearman {found.statistic:.2f}, p = {found.pvalue:.2g}, {len(one)} members"


def rates(table):
    """(c) errors and densities over the learning rates."""
    rows = [{k: v if k == "optimizer" else float(v) for k, v in row.items()} for row in table]
    for column, name in (("energy_in", "RMSE of energy"), ("force_in", "RMSE of force")):
        spread = {}
        for optimizer in PAIR:
            mine = [row for row in rows if row["optimizer"] == optimizer]
            used = sorted({row["rate"] for row in mine})
            means = [np.mean([row[column] for row in mine if row["rate"] == rate]) for rate in used]
            spread[optimizer] = max(means) / min(means) if means else np.nan
        told = of_groups(spread, lambda x: f"{x:.3g}")
        yield f"(c) {name}, largest over smallest of three rates", "EKF: near 1", told
    densities = {o: [r["density_g_cm3"] for r in rows if r["optimizer"] == o] for o in PAIR}
    told = of_groups(densities, densities_in_words)
    yield "(c) density at 1 bar over rates and seeds (g/cm^3)", "EKF: the same", told


def spectra(file):
    """(d) peaks and mean shift of the Fisher spectra; (e) how far the weights moved."""
    models = list(file["models"].values())
    for quantity in ("energies", "forces"):
        found = {name: [] for name in PAIR}
        for model in models:
            part = model[quantity]
            spectrum = Spectrum(part["eigenvalues"][()], part.attrs["floor"], part.attrs["n_row"])
            found[model.attrs["group"]].append(spectrum)
        bins = bins_of([s for group in found.values() for s in group])
        peaks = {name: [s.peak(bins) for s in group] for name, group in found.items()}
        yield f"(d) mean shift of the spectrum, {quantity} (decades)", "+1", shift(*found.values())
        yield (
            f"(d) peak, {quantity} (log10)",
            "EKF a decade higher",
            of_groups(peaks, lambda x: with_interval(np.mean, x)),
        )
    moved = {n: [m.attrs["distance_from_start"] for m in models if m.attrs["group"] == n] for n in PAIR}
    yield (
        "(e) distance of the weights from the start",
        "",
        of_groups(moved, lambda x: with_interval(np.mean, x)),
    )


def shift(one, two):
    """Mean difference of two lists of Spectra with its interval, in words."""

    def of_members(chosen, others):
        return distance([one[int(k)] for k in chosen], [two[int(k)] for k in others])[0]

    return with_interval(of_members, np.arange(len(one)), np.arange(len(two)))


def kalman(table):
    """Standard deviation of energies out of range over that in range."""
    found = {}
    for row in table:
        found.setdefault(row["group"], []).append(float(row["out_of_range_mev"]) / float(row["in_range_mev"]))
    yield (
        "standard deviation of energies (h P h^T), out of range over in range",
        "",
        of_groups(found, lambda x: with_interval(np.mean, x)),
    )


def read_csv(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main(runs, data, out):
    members, out = groups_of(Path(runs)), Path(out)
    rows = [*updates(members), *extrapolation(members, Path(data))]
    if (out / "fig7.csv").exists():
        rows += rates(read_csv(out / "fig7.csv"))
    if (out / "fisher.h5").exists():
        with h5py.File(out / "fisher.h5") as file:
            rows += spectra(file)
    if (out / "kalman.csv").exists():
        rows += kalman(read_csv(out / "kalman.csv"))
    counted = of_groups(members, lambda x: f"{len(x)} members")
    lines = [f"{counted}. In brackets: 95 % of the bootstrap samples.", ""]
    lines += ["| finding | published | here |", "| --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    write_text(out / "findings.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
