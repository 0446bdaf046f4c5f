"""Equation of state: against curves and errors that are known exactly."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mpnnp.cli import app
from mpnnp.errors import ConfigError, DataError
from mpnnp.simulation.equation_of_state import Point, equation_of_state, mean_pressure
from mpnnp.simulation.run_folder import COLUMNS
from mpnnp.simulation.trajectories import Pressures, mean_temperature, read_densities, read_pressures

DENSITIES = (0.9, 1.0, 1.1, 1.2)


def points(pressure, densities=DENSITIES, error=0.0, converged=True):
    return [Point(f"run-{d}", d, pressure(d), error, converged) for d in densities]


def test_the_density_of_a_known_curve_is_found():
    found = equation_of_state("a", points(lambda d: 5000 * (d - 1.03) + 20000 * (d - 1.03) ** 2 + 1.0))
    assert found.density == pytest.approx(1.03, abs=1e-12) and found.error == pytest.approx(0.0, abs=1e-12)
    assert found.reasons == ()
    assert found([1.03, 1.13]) == pytest.approx([1.0, 701.0])
    other = equation_of_state("a", points(lambda d: 5000 * (d - 1.03)), pressure=500.0, order=1)
    assert other.density == pytest.approx(1.13, abs=1e-12)


def test_of_two_densities_the_liquid_is_meant():
    """(rho - 0.95) (rho - 1.15) falls through zero at the first: no stable liquid."""
    found = equation_of_state("a", points(lambda d: 1e4 * (d - 0.95) * (d - 1.15)), pressure=0.0)
    assert found.density == pytest.approx(1.15, abs=1e-12)


def test_errors_of_pressures_become_those_of_the_density():
    """A line through two pressures: rho = rho_1 - p_1 / s, s the slope; at the middle, with equal errors,
    its standard deviation is error / (sqrt(2) s), but for terms of second order.
    """
    line = points(lambda d: 5000 * (d - 1.0), densities=(0.9, 1.1), error=20.0)
    found = equation_of_state("a", line, pressure=0.0, order=1)
    assert found.error == pytest.approx(20.0 / np.sqrt(2) / 5000, rel=0.1)  # of 1000 draws
    assert found.density == pytest.approx(1.0)
    assert equation_of_state("a", line, pressure=0.0, order=1).error == found.error


def test_precise_pressures_count_more():
    """Least squares with weights: a line is drawn through two sure points, past one that is not."""
    sure = points(lambda d: 1000 * (d - 1.0), densities=(0.9, 1.1), error=0.1)
    wrong = [Point("wrong", 1.0, 50.0, 1e4, True)]
    assert equation_of_state("a", sure + wrong, 0.0, 1).density == pytest.approx(1.0, abs=1e-7)
    equal = equation_of_state("a", [*sure, Point("wrong", 1.0, 50.0, 0.1, True)], 0.0, 1)
    assert equal.density == pytest.approx(1.0 - 50.0 / 3 / 1000)


def test_a_density_between_no_runs_is_none():
    found = equation_of_state("a", points(lambda d: 1000 * (d - 0.8), error=1.0))
    assert np.isnan(found.density) and np.isnan(found.error)
    assert str(found) == (
        "a: no density of 1 bar: it does not rise through it between the densities of the runs: "
        "100 bar at 0.9 and 400 bar at 1.2 g/cm^3"
    )


def test_doubts_are_told():
    cubic = equation_of_state("a", points(lambda d: 1e5 * (d - 1.0) ** 3, error=1.0), pressure=0.0, order=1)
    assert any(reason.startswith("the curve misses its points: chi^2 = ") for reason in cubic.reasons)
    flat = points(lambda d: 10 * (d - 1.02), error=50.0)
    assert any("do not rise through it" in reason for reason in equation_of_state("a", flat).reasons)
    short = equation_of_state("a", points(lambda d: 1000 * (d - 1.02), converged=False))
    assert short.reasons == ("runs are too short for safe error bars",)


@pytest.mark.parametrize(
    "densities, order, message",
    [
        (
            (0.9, 1.0),
            2,
            "2 densities are too few for a curve of order 2: at least 3, or",
        ),
        ((0.9, 0.9, 1.0), 2, "2 densities"),
        ((), 1, "0 densities"),
        (DENSITIES, 0, "--order 0: must be at least 1"),
    ],
)
def test_too_few_densities_are_an_error(densities, order, message):
    with pytest.raises(ConfigError, match=message):
        equation_of_state("a", points(lambda d: d, densities), order=order)


def test_the_start_of_a_run_does_not_count():
    values = np.where(np.arange(1000) < 200, 9e9, 5.0 + np.tile([1.0, -1.0], 500))
    run = Pressures("a", np.arange(1000.0), values, 1.0, 300.0, "")
    found = mean_pressure(run, skip=0.2002)
    assert found.pressure == pytest.approx(5.0) and 0 < found.error < 0.1 and found.converged
    with pytest.raises(DataError, match="a: 5 rows are left, an error bar needs 8"):
        mean_pressure(run, skip=0.9955)


def make_run(folder, density, pressure, n=256, temperature=300.0, last_density=None):
    """A folder as `mpnnp md` leaves it, of a pressure that is n / 2 times 10 bar above and below its mean."""
    folder.mkdir(parents=True)
    densities = np.full(n, density)
    densities[-1] = last_density or density
    rng = np.random.default_rng(int(1000 * density))
    noise = rng.permutation(np.tile([10.0, -10.0], n // 2))
    rows = [f"{0.01 * k},1,1,300,{pressure + noise[k]},{densities[k]},0\n" for k in range(n)]
    (folder / "md.csv").write_text(
        "time_ps,energy_total_ev,energy_potential_ev,temperature_k,pressure_bar,density_g_cm3,extrapolations\n"
        + "".join(rows)
    )
    (folder / "protocol.json").write_text(json.dumps({"temperature": temperature}))
    return folder


def run_eos(*arguments):
    return CliRunner().invoke(app, ["analyze", "eos", *map(str, arguments)])


def test_the_command_writes_points_and_curves(tmp_path):
    runs = [make_run(tmp_path / f"mine/nvt-{d}", d, 5000 * (d - 1.03) + 1.0) for d in DENSITIES]
    others = [make_run(tmp_path / f"other/nvt-{d}", d, 5000 * (d - 1.08) + 1.0) for d in DENSITIES]
    (others[-1] / "status.json").write_text(
        json.dumps({"status": "failed", "reason": "exploded", "time_ps": 2.0})
    )
    result = run_eos(*runs, "--group", f"other={tmp_path}/other/nvt-*", "--skip", 0)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(open(tmp_path / "eos.csv", encoding="utf-8")))
    assert [row["curve"] for row in rows] == ["other"] * 3 + ["mine"] * 4
    mine = rows[3:]
    assert [float(row["density_g_cm3"]) for row in mine] == list(DENSITIES)
    assert [float(row["pressure_bar"]) for row in mine] == pytest.approx([-649.0, -149.0, 351.0, 851.0])
    # 256 values of +-10 in random order: 10 / sqrt(255) and what blocks add to it
    assert all(10 / 16 < float(row["error_bar"]) < 1.3 for row in mine)
    assert [float(row["fit_bar"]) for row in mine] == pytest.approx([-649.0, -149.0, 351.0, 851.0], abs=1e-5)
    assert "mine: 1.03000 ± 0.000" in result.output and "other: 1.08000 ± 0.000" in result.output
    assert "left out: it failed at 2 ps: exploded" in result.output
    assert (tmp_path / "eos.png").read_bytes().startswith(b"\x89PNG") and (tmp_path / "eos.pdf").is_file()


def test_runs_that_make_no_curve_are_refused(tmp_path):
    assert isinstance(run_eos().exception, ConfigError)
    npt = make_run(tmp_path / "npt", 1.0, 5.0, last_density=1.1)
    with pytest.raises(DataError, match=r"npt: has densities from 1 to 1.1 .* constant volume"):
        read_pressures(npt)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no md.csv, which would tell its pressure"):
        read_pressures(tmp_path / "empty")
    (tmp_path / "empty" / "md.csv").write_text(",".join(COLUMNS) + "\n")
    for read in (
        read_pressures,
        lambda path: mean_temperature(path, 0.2),
        lambda path: read_densities(path, 1.0),
    ):
        with pytest.raises(DataError, match="empty.* has no .*nothing was simulated"):
            read(tmp_path / "empty")
    hot = make_run(tmp_path / "hot", 1.2, 5.0, temperature=330.0)
    cold = [make_run(tmp_path / f"cold-{d}", d, 5.0) for d in (1.0, 1.1)]
    refused = run_eos(*cold, hot, "-o", tmp_path / "eos")
    assert isinstance(refused.exception, DataError) and "has runs at 300 and 330 K" in str(refused.exception)
