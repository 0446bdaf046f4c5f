"""The scripts of jobs/sdnz as their README calls them: the whole study with a small truth and for moments,
and what is not a part of it.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.io import read
from ase.units import bar as BAR
from launch import ROOT, find_mpiexec

from mpnnp import Calculator
from mpnnp.data import dataset
from mpnnp.data.formats import read_sources
from mpnnp.data.ranges import densities

STUDY = ROOT / "jobs" / "sdnz"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
SMALL = {
    "DENSITIES": "1.00 1.20",
    "TEMPERATURES": "300",
    "ICE_DENSITIES": "0.95",
    "DILUTE_DENSITIES": "0.80",
    "EOS_DENSITIES": "0.80 1.00",
    "MOLECULES": "16",
    "WARM_PS": "0.005",
    "SAMPLE_PS": "0.1",
    "PS": "0.1",
    "LENGTH": "1e-4",
    "SEEDS": "1-2",
    "SCAN_SEEDS": "1",
    "BATCHES": "16",
    "JOBS": "2" if find_mpiexec() else "1",
    "TRUTH": "truth/best.h5",
}
GROUPS = ("ekf", "adam", "default")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with some of the example data."""
    place = tmp_path_factory.mktemp("study")
    frames = read_sources([str(ROOT / "jobs/water/water.extxyz.xz")], report=lambda _: None)
    dataset.write(place / "some.h5", frames.take(np.arange(0, len(frames), 9)))
    return place


@pytest.fixture(scope="module")
def studied(place):
    """The same folder after all.sh: data of a truth that was trained for moments, and out."""
    config = ROOT / "jobs/water/train.toml"
    settings = ["--set", "data.files=some.h5", "--set", "run.updates=60"]
    run(place, ["mpnnp", "train", config, "-o", "truth", *settings])
    do(place, "all.sh", "data", "out")
    return place


def run(place, command):
    """What a command prints that must not fail."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=place,
        env=os.environ | SMALL | {"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def do(place, script, *arguments):
    return run(place, [sys.executable if script.endswith(".py") else "bash", STUDY / script, *arguments])


def findings_of(place):
    """finding -> what is said here."""
    lines = (place / "out/findings.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][2:]
    return {row[0]: row[-1] for row in rows}


def test_the_data_are_those_that_were_asked_for(studied):
    data, dilute = (dataset.read(studied / f"data/{name}.h5") for name in ("data", "dilute"))
    assert len(data) == 4 * 3 and len(dilute) == 2
    assert sorted(set(densities(data).round(4))) == [0.95, 1.0, 1.2]
    assert densities(dilute) == pytest.approx(0.8)
    assert np.isfinite(data.energy).all() and np.isfinite(data.forces).all()
    assert (studied / "data/energy-density.csv").is_file()
    for name in ("eos-0.80", "eos-1.00", "nvt", "npt"):
        assert read(studied / f"data/starts/{name}.xyz").has("momenta")
        assert (studied / f"data/truth/{name}/status.json").is_file()


def test_every_student_was_trained_and_simulated(studied):
    for group in GROUPS:
        for seed in (1, 2):
            member = studied / f"out/runs/{group}/seed-{seed}"
            assert (member / "accuracy.json").is_file() and (member / "dilute.json").is_file()
            for name in ("eos-0.80", "eos-1.00", "nvt", "npt"):
                assert json.loads((member / name / "status.json").read_text())["status"] in (
                    "finished",
                    "failed",
                )
    for group, updates in (("ekf", 50), ("adam", 500)):
        with open(studied / f"out/runs/{group}/seed-1/learning-curve.csv") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 51 and int(float(rows[-1]["update"])) == updates  # every 1/50 of the run


def test_all_pictures_and_tables_are_there(studied):
    pictures = [
        "fig3",
        "fig7",
        "fig8",
        "fig9",
        "same-frames",
        *(f"{f}-{g}" for f in ("fig4", "fig5", "eos") for g in GROUPS),
    ]
    for name in [*pictures, "fig4-truth", "fig5-truth"]:
        assert (studied / f"out/{name}.png").read_bytes().startswith(b"\x89PNG"), name
    with open(studied / "out/fig7.csv") as file:
        assert len(list(csv.DictReader(file))) == 6
    with open(studied / "out/kalman.csv") as file:
        assert {row["group"] for row in csv.DictReader(file)} == {"ekf", "default"}
    assert "default, mean" in (studied / "out/errors.txt").read_text()


def test_the_first_order_is_the_difference_of_pressures_on_the_same_frames(studied):
    truth, student = (Calculator(str(studied / f)) for f in ("truth/best.h5", "out/runs/ekf/seed-1/best.h5"))
    frames = read(studied / "data/truth/eos-1.00/trajectory.xyz", index=":")

    def pressure(calculator, atoms):
        return -calculator.get_stress(atoms)[:3].mean() / BAR

    by_hand = [pressure(student, atoms) - pressure(truth, atoms) for atoms in frames]
    with open(studied / "out/same-frames.csv") as file:
        rows = [row for row in csv.DictReader(file) if (row["group"], row["member"]) == ("ekf", "seed-1")]
    found = {float(row["density_g_cm3"]): float(row["difference_bar"]) for row in rows}
    assert found.keys() == {0.8, 1.0}
    assert found[1.0] == pytest.approx(np.mean(by_hand), rel=1e-3) and abs(found[1.0]) > 1.0


def test_each_finding_has_its_row(studied):
    found = findings_of(studied)
    assert {name[:3] for name in found if name[0] == "("} == {"(a)", "(b)", "(c)", "(d)", "(e)"}
    lasted = found["(b) NPT runs that last"]
    assert lasted.count(" of 2") == 3 and "ekf against adam p = " in lasted
    assert " to " in found["(d) mean shift of the spectrum, energies (decades)"]


def test_what_is_done_stays_and_what_was_stopped_goes_on(studied):
    """A simulation without its status.json was killed; a picture that is gone is drawn again."""
    member = studied / "out/runs/ekf/seed-1"
    table = (member / "nvt/md.csv").read_text()
    (member / "nvt/status.json").unlink()
    (studied / "out/eos-adam.png").unlink()
    kept = [
        member / "checkpoint.h5",
        member / "npt/md.csv",
        studied / "data/data.h5",
        studied / "out/fig3.png",
        studied / "out/fig4-adam.png",
    ]
    before = [path.stat().st_mtime_ns for path in kept]
    findings = findings_of(studied)
    do(studied, "all.sh", "data", "out")
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert (member / "nvt/status.json").is_file() and (member / "nvt/md.csv").read_text() == table
    assert (studied / "out/eos-adam.png").is_file() and findings_of(studied) == findings


def test_data_are_cut_by_density(place):
    do(place, "split.py", "some.h5", "-o", "cut")
    dense, dilute = (dataset.read(place / f"cut/{name}.h5") for name in ("dense", "dilute"))
    assert min(len(dense), len(dilute)) > 3 and len(dense) + len(dilute) <= 24
    assert densities(dense).min() >= 1.0 and densities(dilute).max() < 0.9


def test_bad_input_ends_the_simulations(studied):
    command = ["bash", STUDY / "simulate.sh", "out/runs", "gone.extxyz", "other", "--time", "0.02"]
    done = subprocess.run(
        command, cwd=studied, env=os.environ | {"PATH": PATH}, capture_output=True, text=True, timeout=100
    )
    assert done.returncode != 0 and (done.stdout + done.stderr).count("mpnnp: error: gone.extxyz") == 1


def test_a_study_without_data_says_how_to_make_them(place):
    environment = os.environ | {"PATH": PATH, "TRUTH": ""}
    command = ["bash", STUDY / "all.sh", "none", "out-of-none"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "TRUTH=POTENTIAL makes them" in done.stderr


@pytest.mark.parametrize("kind", ["ic", "ih"])
def test_ice_obeys_the_ice_rules(kind, place):
    """Two protons at each oxygen, one on each bond, at the density asked for."""
    do(place, "ice.py", kind, "0.95", "7", f"{kind}.xyz")
    atoms = read(place / f"{kind}.xyz")
    assert atoms.get_chemical_formula() == "H128O64"
    assert atoms.get_masses().sum() / atoms.cell.volume * 1.66053906660 == pytest.approx(0.95)
    distances = atoms.get_all_distances(mic=True)
    oxygen, hydrogen = (np.flatnonzero(atoms.numbers == z) for z in (8, 1))
    between = distances[np.ix_(oxygen, hydrogen)]
    assert ((between < 1.1).sum(axis=1) == 2).all() and ((between < 1.1).sum(axis=0) == 1).all()
    assert ((between < 2.0).sum(axis=1) == 4).all() and ((between < 2.0).sum(axis=0) == 2).all()
    do(place, "ice.py", kind, "0.95", "8", f"{kind}-other.xyz")
    other = read(place / f"{kind}-other.xyz").positions
    assert np.abs(atoms.positions[oxygen] - other[oxygen]).max() < 1e-6  # the protons are disordered alone
    assert np.abs(atoms.positions[hydrogen] - other[hydrogen]).max() > 1.0


def test_small_numbers_are_compared_by_what_they_can_say(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDY))
    import findings

    assert findings.exact_test([True] * 4, [False] * 4) == "p = 0.029"
    assert findings.exact_test([True, True], [False, True]) == "p = 1"
    assert findings.with_interval(findings.ratio, [10.0, 10.0, 10.0], [1.0, 1.0]) == "10 (10 to 10)"
    assert findings.with_interval(np.mean, [3.0]) == "3"
    assert findings.with_interval(np.mean, []) == "not known"
    told = findings.with_interval(np.mean, [0.0, 1.0, 2.0, 3.0], form=".2f")
    assert told.startswith("1.50 (0.") and told.endswith(")")


def test_the_legend_of_the_scan_of_rates_covers_nothing(monkeypatch):
    """It stood on the errors of the filter, which are largest where eta is smallest."""
    monkeypatch.syspath_prepend(str(STUDY))
    import fig7

    results = {
        (optimizer, rate): [(1.0 / (k + 1), 100.0 / (k + 1), 2.0, 100.0 / (k + 1), density)] * 2
        for optimizer, density in (("ekf", 0.74), ("adam", np.nan))
        for k, rate in enumerate(fig7.RATES[optimizer])
    }
    drawn = []
    monkeypatch.setattr(fig7, "save", lambda picture, path: drawn.append(picture))
    fig7.draw("fig7.png", results, SimpleNamespace(density=0.74))
    (picture,) = drawn
    picture.draw_without_rendering()
    (legend,) = [*picture.legends, *filter(None, (axis.get_legend() for axis in picture.axes))]
    box = legend.get_window_extent()
    assert not any(axis.get_tightbbox().overlaps(box) for axis in picture.axes)
    assert picture.bbox.containsx(box.x1) and picture.bbox.containsy(box.y0)
    assert [text.get_text() for text in legend.get_texts()] == [*fig7.LABELS.values(), "no liquid", "truth"]
