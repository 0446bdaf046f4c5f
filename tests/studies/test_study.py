"""The scripts of jobs/sdnz as their README calls them, with relative paths, on the example data
and for moments.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from launch import ROOT, find_mpiexec

from mpnnp.data import dataset
from mpnnp.data.formats import read_sources

STUDY = ROOT / "jobs" / "sdnz"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
SHORT = {"EKF_UPDATES": "1000", "ADAM_UPDATES": "10000", "ADAM_RATE": "1e-3", "JOBS": "2"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data/dense.h5, data/dilute.h5 and data/start.extxyz."""
    place = tmp_path_factory.mktemp("study")
    frames = read_sources([str(ROOT / "jobs/water/water.extxyz.xz")], report=lambda _: None)
    dataset.write(place / "some.h5", frames.take(np.arange(0, len(frames), 4)))
    do(place, "split.py", "some.h5", "-o", "data")
    return place


@pytest.fixture(scope="module")
def trained(place):
    """The same folder with runs/ekf and runs/adam, seeds 1 and 2."""
    do(place, "train.sh", "data/dense.h5", "runs", "1-2")
    return place


def do(place, script, *arguments):
    command = [sys.executable if script.endswith(".py") else "bash", STUDY / script, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=place,
        env=os.environ | SHORT | {"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_data_are_cut_by_density(place):
    dense, dilute = (dataset.read(place / f"data/{name}.h5") for name in ("dense", "dilute"))
    assert min(len(dense), len(dilute)) > 10 and len(dense) + len(dilute) <= 54
    assert np.linalg.det(dense.cell).max() < np.linalg.det(dilute.cell).min()  # the same molecules in each


def test_members_are_compared(trained):
    place = trained
    do(place, "fig3.sh", "runs", "out")
    assert is_picture(place / "out/fig3.png")
    (row,) = [
        line
        for line in do(place, "extrapolation.py", "runs", "data/dilute.h5").splitlines()
        if line.startswith("ekf, mean")
    ]
    assert 0 < float(row.split()[2]) < 100


@pytest.mark.parametrize(
    ("script", "name", "column"), [("fig4.sh", "nvt", "O-O_mean"), ("fig5.sh", "npt", "mean_g_cm3")]
)
def test_members_simulate(trained, script, name, column):
    place = trained
    do(place, script, "runs", "data/start.extxyz", "out", "0.02")
    for group in ("ekf", "adam"):
        for seed in (1, 2):
            assert (
                json.loads((place / f"runs/{group}/seed-{seed}/{name}/status.json").read_text())["status"]
                == "finished"
            )
        (table,) = (place / "out").glob(f"{script[:4]}-{group}*.csv")
        with open(table) as file:
            assert any(key.startswith(column) for key in next(csv.reader(file)))
        assert is_picture(table.with_suffix(".png"))
    written = (place / f"runs/ekf/seed-1/{name}/md.csv").stat().st_mtime_ns
    do(place, "simulate.sh", "runs", "data/start.extxyz", name, "--time", "0.02")
    assert (
        place / f"runs/ekf/seed-1/{name}/md.csv"
    ).stat().st_mtime_ns == written  # what is finished is not repeated


def test_bad_input_ends_the_simulations(trained):
    command = ["bash", STUDY / "simulate.sh", "runs", "gone.extxyz", "other", "--time", "0.02"]
    done = subprocess.run(
        command, cwd=trained, env=os.environ | {"PATH": PATH}, capture_output=True, text=True, timeout=100
    )
    assert done.returncode != 0 and (done.stdout + done.stderr).count("mpnnp: error: gone.extxyz") == 1


@pytest.mark.skipif(
    find_mpiexec() is None, reason="needs an MPI library: install mpnnp[mpich] or one of the system"
)
def test_fisher_spectra_and_distances(trained):
    place = trained
    do(place, "fig9.sh", "runs", "data/dense.h5", "out", 1, "--batches", 64)
    assert is_picture(place / "out/fig9.png")
    assert "ekf: |w - w0| = " in do(place, "fig8.py", "out/fisher.h5", "out")
    assert is_picture(place / "out/fig8.png")


def test_learning_rates(place):
    options = [
        "--ekf-updates",
        5,
        "--adam-updates",
        5,
        "--seeds",
        1,
        "--dilute",
        "data/dilute.h5",
        "--start",
        "data/start.extxyz",
        "--ps",
        "0.01",
    ]
    out = do(place, "fig7.py", "data/dense.h5", "rates", "out", *options)
    assert out.count("1 of 1 runs lasted") == 6
    assert is_picture(place / "out/fig7.png")
