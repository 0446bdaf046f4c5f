"""Densities, radial distributions, displacements, histograms: against what is known exactly."""

import csv
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from typer.testing import CliRunner

from mpnnp.analysis.energy_density import energy_density
from mpnnp.cli import app
from mpnnp.data import formats
from mpnnp.data.dataset import Dataset
from mpnnp.data.ranges import TrainingRange
from mpnnp.data.structure import Structure
from mpnnp.errors import DataError
from mpnnp.simulation import frames
from mpnnp.simulation.density import analyse
from mpnnp.simulation.msd import diffusion, finite_size, mean_squared_displacements
from mpnnp.simulation.rdf import radial_distributions
from mpnnp.simulation.statistics import band, block_error, with_error
from mpnnp.simulation.trajectories import Series, Trajectory, read_densities, read_trajectory

CELLS = {
    "cube": np.diag([9.0, 9.0, 9.0]),
    "skew": np.array([[8.0, 0.0, 0.0], [3.0, 7.0, 0.0], [-2.0, 2.5, 9.0]]),
    "flat": np.diag([14.0, 12.0, 3.5]),  # far smaller than r_max
}


@pytest.mark.parametrize("name", CELLS)
def test_an_ideal_gas_has_g_of_one_at_every_distance(name):
    cell, rng = CELLS[name], np.random.default_rng(1)
    numbers = np.array([8] * 12 + [1] * 20)
    n_frame = 400
    gas = Trajectory(
        "gas",
        np.arange(n_frame),
        numbers,
        rng.random((n_frame, 32, 3)) @ cell,
        np.tile(cell, (n_frame, 1, 1)),
        np.ones(3, bool),
    )
    r, all_g = radial_distributions(gas, r_max=7.0, bins=14)
    assert set(all_g) == {"H-H", "O-H", "O-O"}
    volume, shells = abs(np.linalg.det(cell)), 4 * np.pi * r**2 * 0.5
    for pair, (a, b) in {"H-H": (20, 19), "O-H": (12, 20), "O-O": (12, 11)}.items():
        expected_pairs = n_frame * a * b / volume * shells / (1.0 if pair == "O-H" else 2.0)
        deviation = (all_g[pair] - 1.0) * np.sqrt(expected_pairs)
        # images are correlated in small cells, otherwise it would be below 4
        assert np.abs(deviation[2:]).max() < 6.0
        inside = r > 2.0
        assert np.average(all_g[pair][inside], weights=r[inside] ** 2) == pytest.approx(1.0, abs=0.01)


def test_a_crystal_has_its_shells():
    atoms = Atoms(
        "Cu4", [[0, 0, 0], [0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]], cell=[3.6] * 3, pbc=True
    ).repeat(2)
    crystal = Trajectory(
        "fcc", np.zeros(1), atoms.numbers, atoms.positions[None], atoms.cell.array[None], atoms.pbc
    )
    r, all_g = radial_distributions(crystal, r_max=4.0, bins=80)
    g, dr = all_g["Cu-Cu"], r[1] - r[0]
    n_atom, volume = len(atoms), atoms.get_volume()
    shell = 4.0 / 3.0 * np.pi * ((r + dr / 2) ** 3 - (r - dr / 2) ** 3)
    found = g * shell * (n_atom - 1) / volume
    assert found[(r > 2.4) & (r < 2.7)].sum() == pytest.approx(12.0)
    assert found[(r > 3.4) & (r < 3.8)].sum() == pytest.approx(6.0)
    assert found.sum() == pytest.approx(18.0)


def walk(rng, n_frame, n_atom, step, cell):
    positions = np.cumsum(rng.normal(scale=step, size=(n_frame, n_atom, 3)), axis=0)
    return Trajectory(
        "walk",
        np.arange(n_frame) * 0.1,
        np.full(n_atom, 8),
        positions,
        np.tile(cell, (n_frame, 1, 1)),
        np.ones(3, bool),
    )


def wrapped(t):
    fractional = t.positions @ np.linalg.inv(t.cells[0])
    return Trajectory(
        t.name, t.times, t.numbers, (fractional - np.floor(fractional)) @ t.cells[0], t.cells, t.pbc
    )


def test_displacements_of_a_random_walk_give_its_diffusion_coefficient():
    t = walk(np.random.default_rng(0), 400, 500, 0.1, CELLS["skew"])
    found = mean_squared_displacements(t)["O"]
    assert len(found.lags) == 201 and found.msd[0] == pytest.approx(0.0, abs=1e-9)
    assert found.msd[10] == pytest.approx(3 * 10 * 0.1**2, rel=0.02)
    d = diffusion(found)
    assert d.value == pytest.approx(10.0 * 0.1**2 / (2 * 0.1), rel=0.1) and not d.reasons
    assert d.window == (pytest.approx(4.0), pytest.approx(15.9)) and d.exponent == pytest.approx(1.0, abs=0.1)


def test_the_error_bar_of_a_diffusion_coefficient_is_the_spread_of_repetitions():
    exact = 10.0 * 0.2**2 / (2 * 0.1)
    found = [
        diffusion(
            mean_squared_displacements(walk(np.random.default_rng(seed), 120, 40, 0.2, CELLS["cube"]))["O"]
        )
        for seed in range(40)
    ]
    deviations = [(d.value - exact) / d.error for d in found]
    assert np.std(deviations) == pytest.approx(1.0, abs=0.35)
    assert np.mean([d.error for d in found]) == pytest.approx(np.std([d.value for d in found]), rel=0.35)


def test_a_diffusion_coefficient_that_means_nothing_is_doubted():
    rng = np.random.default_rng(7)
    liquid = walk(rng, 400, 50, 0.1, CELLS["cube"])
    few = replace(liquid, numbers=liquid.numbers[:3], positions=liquid.positions[:, :3])
    short = replace(liquid, times=liquid.times[:13], positions=liquid.positions[:13], cells=liquid.cells[:13])
    solid = replace(liquid, positions=rng.normal(scale=0.1, size=liquid.positions.shape))
    velocities = rng.normal(scale=2.0, size=(50, 3))
    flying = replace(
        liquid,
        positions=liquid.times[:, None, None] * (velocities - velocities.mean(axis=0)),
        pbc=np.zeros(3, bool),
    )
    doubts = {
        name: "; ".join(diffusion(mean_squared_displacements(t)["O"]).reasons)
        for name, t in (
            ("few", few),
            ("short", short),
            ("five", liquid.after(0.99)),
            ("solid", solid),
            ("flying", flying),
        )
    }
    assert "3 atoms are too few for an error bar" in doubts["few"]
    assert doubts["short"].startswith("a window of 0.3 ps")
    assert "too few lags to tell how the msd grows" in doubts["five"] and "nan" not in doubts["five"]
    assert "the msd grows as t^-" in doubts["solid"] or "the msd grows as t^0" in doubts["solid"]
    assert "atoms moved by 0.2" in doubts["solid"]
    assert "the msd grows as t^2.00" in doubts["flying"]


def test_the_correction_for_finite_size_is_that_of_yeh_and_hummer():
    """SPC/E water at 298 K, eta = 0.729 mPa s, L = 18.6 Angstrom: k_B T xi / (6 pi eta L) by hand."""
    t = walk(np.random.default_rng(0), 8, 4, 0.1, np.eye(3) * 18.6)
    by_hand = 1.380649e-23 * 298.0 * 2.837297 / (6 * np.pi * 0.729e-3 * 18.6e-10) / 1e-9
    assert by_hand == pytest.approx(0.457, abs=0.001)
    assert finite_size(t, 298.0, 0.729) == pytest.approx(by_hand, rel=1e-12)
    with pytest.raises(DataError, match="that of a cubic cell"):
        finite_size(walk(np.random.default_rng(0), 8, 4, 0.1, CELLS["skew"]), 298.0, 0.729)


def test_displacements_do_not_depend_on_wrapping():
    t = walk(np.random.default_rng(1), 60, 20, 0.3, CELLS["skew"])
    assert mean_squared_displacements(wrapped(t))["O"].msd == pytest.approx(
        mean_squared_displacements(t)["O"].msd, abs=1e-9
    )


def test_displacements_equal_the_sum_over_origins():
    t = walk(np.random.default_rng(2), 21, 5, 0.3, CELLS["cube"])
    x = t.positions - t.positions.mean(axis=1, keepdims=True)
    direct = [np.mean(np.sum((x[k:] - x[: len(x) - k]) ** 2, axis=2)) for k in range(11)]
    assert mean_squared_displacements(t)["O"].msd == pytest.approx(np.array(direct), abs=1e-9)


def test_a_breathing_cell_is_no_displacement():
    rng = np.random.default_rng(3)
    fractional, scale = rng.random((10, 3)), 1.0 + 0.05 * np.sin(np.arange(30))
    cells = scale[:, None, None] * CELLS["cube"]
    t = Trajectory(
        "breath",
        np.arange(30.0),
        np.full(10, 8),
        np.einsum("ai,tij->taj", fractional, cells),
        cells,
        np.ones(3, bool),
    )
    assert mean_squared_displacements(t)["O"].msd == pytest.approx(0.0, abs=1e-9)


def test_block_error_of_a_correlated_series():
    rng, a, n = np.random.default_rng(4), 0.95, 2**14
    errors, means = [], []
    for _ in range(20):
        noise, x = rng.normal(size=n), np.empty(n)
        x[0] = noise[0] / np.sqrt(1 - a * a)
        for k in range(1, n):
            x[k] = a * x[k - 1] + noise[k]
        mean, error, converged = block_error(x)
        assert converged
        errors.append(error)
        means.append(mean)
    exact = 1.0 / ((1 - a) * np.sqrt(n))  # sigma / sqrt(n) sqrt((1 + a) / (1 - a))
    assert np.mean(errors) == pytest.approx(exact, rel=0.15)
    assert np.std(means) == pytest.approx(exact, rel=0.4)
    white = [block_error(rng.normal(size=n))[1] for _ in range(20)]
    assert np.mean(white) == pytest.approx(1.0 / np.sqrt(n), rel=0.15)
    assert not block_error(np.linspace(0, 1, 64))[2]  # a drift has no error bar
    assert block_error(np.full(100, 1.3)) == (pytest.approx(1.3), 0.0, True)  # of a fixed volume, say


def test_the_verdict_says_when_the_range_was_left():
    times = np.arange(101) * 0.1
    steady = Series("a", times, np.full(101, 0.76), "")
    leaving = Series("b", times, np.where(times < 6.05, 1.0, 0.3), "")
    failed = Series("c", times, np.full(101, 1.0), "at 10 ps: exploded")
    assert analyse(steady).verdict == "stable" and analyse(steady).mean == pytest.approx(0.76)
    assert analyse(steady).lasted and not analyse(leaving).lasted and not analyse(failed).lasted
    assert analyse(leaving).verdict.startswith("not stable: left the range at 6.1 ps")
    assert not analyse(failed).stable and "exploded" in analyse(failed).verdict
    assert analyse(steady, limits=(0.9, 1.1)).verdict == "not stable: left the range at 0 ps"


def correlated(rng, n, memory=0.9):
    """A stationary series of unit variance."""
    noise, x = rng.normal(size=n), np.empty(n)
    x[0] = noise[0]
    for k in range(1, n):
        x[k] = memory * x[k - 1] + np.sqrt(1 - memory**2) * noise[k]
    return x


def test_a_density_that_falls_is_not_stable_and_one_that_fluctuates_is():
    times, rng = np.arange(2000) * 0.01, np.random.default_rng(11)
    falling = Series("a", times, np.linspace(0.80, 0.46, 2000) + 0.01 * correlated(rng, 2000), "")
    found = analyse(falling)
    assert found.lasted and not found.stable and "drifts by -0.0" in found.verdict
    steady = [
        analyse(Series("b", times, 1.0 + 0.02 * correlated(np.random.default_rng(seed), 2000), ""))
        for seed in range(30)
    ]
    assert sum("drifts" not in r.verdict for r in steady) >= 29  # an error of 3 sigma may happen
    assert sum(r.stable for r in steady) >= 24  # the others are too short for an error bar
    assert np.std([r.mean for r in steady]) == pytest.approx(np.mean([r.error for r in steady]), rel=0.4)


def test_a_density_without_a_safe_error_bar_is_not_called_stable():
    found = analyse(Series("a", np.arange(10.0), 1.0 + 0.01 * np.cos(np.arange(10.0)), ""))
    assert found.lasted and found.verdict == "not known to be stable: too short for a safe error bar"


def test_a_density_outside_of_what_was_trained_on_is_not_stable():
    times, ones = np.arange(200) * 0.1, np.ones(200)
    trained = TrainingRange(density_low=0.9, density_high=1.2, energy_low=-5.2, energy_high=-5.0)

    def verdict(**other):
        series = Series("a", times, ones, "", energies=-5.1 * ones, extrapolations=0 * ones, trained=trained)
        return analyse(replace(series, **other)).verdict

    assert verdict() == "stable"
    assert verdict(values=0.8 * ones) == "not stable: outside of the densities of training, 0.9 to 1.2 g/cm^3"
    assert verdict(values=1.3 * ones).startswith("not stable: outside of the densities of training")
    assert "hotter than the data" in verdict(energies=-4.9 * ones)
    assert "colder than the data" in verdict(energies=-5.3 * ones)
    assert verdict(extrapolations=0.07 * ones) == "not stable: 70 extrapolations per 1000 atoms and steps"
    assert verdict(extrapolations=0.0005 * ones) == "stable"
    assert verdict(values=0.8 * ones, trained=TrainingRange()) == "stable"  # not known


def test_a_band_stops_where_one_of_the_runs_ends(tmp_path):
    mean, std = band([[1.0, 2.0, 3.0], [3.0, 4.0, np.nan]])
    assert mean == pytest.approx([2.0, 3.0, np.nan], nan_ok=True)
    assert std == pytest.approx([np.sqrt(2), np.sqrt(2), np.nan], nan_ok=True)
    runs = [str(make_run(tmp_path / "long", 0, n=40)), str(make_run(tmp_path / "short", 1, n=25))]
    result = CliRunner().invoke(app, ["analyze", "density", *runs])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(open(tmp_path / "density.csv", encoding="utf-8")))
    assert [row["mean_g_cm3"] == "nan" for row in rows] == [False] * 25 + [True] * 15


@pytest.mark.parametrize(
    "value, error, text",
    [
        (2.3456, 0.123, "2.35 ± 0.12"),
        (1.00012, 0.00034, "1.00012 ± 0.00034"),
        (57.3, 12.9, "57 ± 13"),
        (2.3456, np.nan, "2.3"),
        (1.0, 0.0, "1"),
    ],
)
def test_a_number_has_the_digits_of_its_error_bar(value, error, text):
    assert with_error(value, error) == text


def test_energy_density_counts_labelled_periodic_structures():
    rng, structures = np.random.default_rng(5), []
    for k in range(30):
        length = 3.0 + 0.05 * k
        structures.append(
            Structure(
                numbers=[8, 1, 1],
                positions=rng.random((3, 3)),
                cell=np.eye(3) * length,
                pbc=k != 0,
                energy=np.nan if k == 1 else -5.0 - k,
            )
        )
    data = Dataset.from_structures(structures)
    counts, density, energy = energy_density(data, bins=7)
    assert counts.sum() == 28
    assert density[-1] == pytest.approx(18.015 * 1.66053906660 / 3.1**3)
    assert np.ptp(energy) == pytest.approx(27 / 3)
    with pytest.raises(DataError, match="no structure"):
        energy_density(data.take([0, 1]))


def make_run(folder, seed, n=40, failed=False):
    """A folder as `mpnnp md` leaves it."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    frames = []
    with open(folder / "md.csv", "w", encoding="utf-8") as file:
        file.write(
            "time_ps,energy_total_ev,energy_potential_ev,temperature_k,"
            "pressure_bar,density_g_cm3,extrapolations\n"
        )
        for k in range(n):
            atoms = Atoms("OHH" * 4, rng.random((12, 3)) * 6.0, cell=[6.0 + 0.001 * (k % 2)] * 3, pbc=True)
            atoms.info["time_ps"] = 0.05 * k
            frames.append(atoms)
            density = atoms.get_masses().sum() * 1.66053906660 / atoms.get_volume()
            file.write(f"{0.05 * k},1,1,300,1,{density:.12g},0\n")
    write(folder / "trajectory.xyz", frames)
    if failed:
        (folder / "status.json").write_text(
            json.dumps({"status": "failed", "reason": "exploded", "time_ps": 2.0})
        )
    return folder


def test_densities_from_the_table_and_from_the_frames_agree(tmp_path):
    folder = make_run(tmp_path / "a", 0)
    table, frames = read_densities(folder, 1.0), read_densities(folder / "trajectory.xyz", 1.0)
    assert table.times == pytest.approx(frames.times)
    assert table.values == pytest.approx(frames.values, rel=1e-7)
    t = read_trajectory(folder, 1.0)
    assert len(t.times) == 40 and t.times[1] == pytest.approx(0.05)
    assert len(t.after(0.5).times) == 20


@pytest.mark.parametrize("command", ["density", "rdf", "msd"])
def test_commands_write_table_and_picture(tmp_path, command):
    runs = [str(make_run(tmp_path / name, seed, failed=name == "c")) for seed, name in enumerate("abc")]
    output = tmp_path / "result"
    options = ["--r-max", "4", "--bins", "20"] if command == "rdf" else []
    result = CliRunner().invoke(app, ["analyze", command, *runs, *options, "-o", str(output)])
    assert result.exit_code == 0, result.output
    rows = list(csv.reader(open(f"{output}.csv", encoding="utf-8")))
    values = np.array(rows[1:], float)
    assert np.isfinite(values).all() and values.shape[1] == len(rows[0])
    assert len(values) == {"density": 40, "rdf": 20, "msd": 17}[command]
    mean = rows[0].index({"density": "mean_g_cm3", "rdf": "O-H_mean", "msd": "O_mean"}[command])
    single = [
        k
        for k, name in enumerate(rows[0])
        if name.startswith({"density": "density", "rdf": "O-H[", "msd": "O["}[command])
    ]
    assert len(single) == 3
    assert values[:, mean] == pytest.approx(values[:, single].mean(axis=1), rel=1e-6, abs=1e-9)
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "result.pdf").read_bytes().startswith(b"%PDF")
    if command == "density":
        assert (
            "2 of 3 runs lasted: " in result.output
            and "2 are stable" in result.output
            and "exploded" in result.output
        )


@pytest.mark.parametrize("command", ["density", "rdf", "msd"])
def test_results_lie_beside_the_trajectory(tmp_path, monkeypatch, command):
    folder, other = make_run(tmp_path / "a", 0), make_run(tmp_path / "b", 1)
    monkeypatch.chdir(tmp_path / "b")
    before = set(other.iterdir())
    for runs, expected in (
        ([folder], folder / command),
        ([folder / "trajectory.xyz"], folder / f"trajectory-{command}"),
        ([folder, tmp_path / "b"], tmp_path / command),
    ):
        result = CliRunner().invoke(app, ["analyze", command, *map(str, runs)])
        assert result.exit_code == 0, result.output
        assert all(Path(f"{expected}.{suffix}").is_file() for suffix in ("csv", "png", "pdf"))
    assert set(other.iterdir()) == before


def test_what_a_run_knows_of_its_training_is_compared(tmp_path):
    folder = make_run(tmp_path / "a", 0)
    command = ["analyze", "density", str(folder)]
    assert "is not known: --data DATA" in CliRunner().invoke(app, command).output
    known = {"timestep": 0.5, "trained_on": {"density_low": 1.0, "density_high": 1.2}}
    (folder / "protocol.json").write_text(json.dumps(known))
    told = CliRunner().invoke(app, command).output
    assert "outside of the densities of training, 1 to 1.2 g/cm^3" in told and "--data" not in told
    assert read_densities(folder, 1.0).energies == pytest.approx(1.0 / 12)
    # a row every 0.05 ps, 100 steps, of 12 atoms
    text = (folder / "md.csv").read_text().splitlines()
    (folder / "md.csv").write_text(
        "\n".join([text[0], *(line[: line.rindex(",")] + ",6" for line in text[1:])])
    )
    assert read_densities(folder, 1.0).extrapolations[1:] == pytest.approx(6 / 1200)
    assert "5 extrapolations per 1000 atoms and steps" in CliRunner().invoke(app, command).output


def test_a_data_set_says_what_was_trained_on(tmp_path):
    folder = make_run(tmp_path / "a", 0)
    corners = np.stack(np.meshgrid(*[[0.0, 2.0]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:4]
    molecule = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    positions = (corners[:, None] + molecule).reshape(-1, 3)
    dense = Atoms("OHH" * 4, positions, cell=[4.0] * 3, pbc=True)
    write(tmp_path / "dense.xyz", dense)
    told = CliRunner().invoke(app, ["analyze", "density", str(folder), "--data", str(tmp_path / "dense.xyz")])
    assert told.exit_code == 0, told.output
    assert "outside of the densities of training, 1.87 to 1.87 g/cm^3" in told.output


def test_the_correction_for_finite_size_as_an_option(tmp_path):
    folder = str(make_run(tmp_path / "a", 0))
    told = CliRunner().invoke(app, ["analyze", "msd", folder, "--viscosity", "0.9"])
    assert told.exit_code == 0, told.output
    assert "(Yeh and Hummer 2004; 300 K, 0.9 mPa s)" in told.output and "too short" in told.output
    frames = str(tmp_path / "a" / "trajectory.xyz")
    refused = CliRunner().invoke(app, ["analyze", "msd", frames, "--viscosity", "0.9"])
    assert isinstance(refused.exception, DataError) and "would tell its temperature" in str(refused.exception)
    given = CliRunner().invoke(app, ["analyze", "msd", frames, "--viscosity", "0.9", "--temperature", "310"])
    assert "310 K" in given.output


def test_energy_density_as_a_command(tmp_path):
    from conftest import DATA

    output = tmp_path / "map"
    result = CliRunner().invoke(
        app, ["analyze", "energy-density", str(DATA / "train_energy" / "input.data"), "-o", str(output)]
    )
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(open(f"{output}.csv", encoding="utf-8")))
    assert sum(float(row["structures"]) for row in rows) == 10
    assert (tmp_path / "map.png").exists()


def test_bad_trajectories_are_told(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_trajectory(tmp_path / "none", 1.0)
    path = tmp_path / "two.xyz"
    write(path, [Atoms("OH", [[0, 0, 0], [0, 0, 1]]), Atoms("HO", [[0, 0, 0], [0, 0, 1]])])
    with pytest.raises(DataError, match="frame 1: has other atoms"):
        read_trajectory(path, 1.0)
    write(path, Atoms("OH", [[0, 0, 0], [0, 0, 1]]))
    t = read_trajectory(path, 1.0)
    with pytest.raises(DataError, match="periodic"):
        radial_distributions(t)
    with pytest.raises(DataError, match="too few"):
        mean_squared_displacements(t)


STEP = 2.5  # Angstrom/ps, along x
WATER = [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]


def moving_water(k, dt=0.01):
    """Positions (24, 3) of molecules in a cube of 6 Angstrom after k times dt ps."""
    corners = np.stack(np.meshgrid(*[[0.0, 3.0]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return (corners[:, None] + WATER).reshape(-1, 3) + [STEP * dt * k, 0.0, 0.0]


def write_frames(path, comment, n=8, unit=1.0):
    """An xyz file of moving water; comment(k); positions in a unit of so many Angstrom."""
    with open(path, "w", encoding="utf-8") as file:
        for k in range(n):
            rows = (f"{s} {x} {y} {z}" for s, (x, y, z) in zip("OHH" * 8, moving_water(k) / unit))
            file.write("\n".join(["24", comment(k), *rows, ""]))
    return path


def write_dump(path, columns="id element x y z", head="", n=8, every=20):
    """A dump of LAMMPS of moving water."""
    with open(path, "w", encoding="utf-8") as file:
        for k in range(n):
            file.write(f"{head}ITEM: TIMESTEP\n{every * k}\nITEM: NUMBER OF ATOMS\n24\n")
            file.write("ITEM: BOX BOUNDS pp pp pp\n" + "0 6\n" * 3 + f"ITEM: ATOMS {columns}\n")
            for i, (s, row) in enumerate(zip("OHH" * 8, moving_water(k))):
                what = s if "element" in columns else "OH".index(s) + 1
                file.write(f"{i + 1} {what} {' '.join(map(str, row))}\n")
    return path


CUBE = 'Lattice="6 0 0 0 6 0 0 0 6"'


def analyze(*words):
    result = CliRunner().invoke(app, ["analyze", *map(str, words)])
    return result.exception if isinstance(result.exception, DataError) else result.output


def test_displacements_need_the_times_of_frames(tmp_path):
    """The diffusion coefficient is proportional to them."""
    silent = write_frames(tmp_path / "a.xyz", lambda k: CUBE)
    refused = analyze("msd", silent)
    assert isinstance(
        refused, DataError
    ) and "a.xyz: its frames do not tell their times, nor steps: --frame-time" in str(refused)
    times = read_trajectory(silent, 0.01, needs_times=True).times
    assert times == pytest.approx(0.01 * np.arange(8))
    assert "written: " in analyze("msd", silent, "--frame-time", 10)
    for command in ("rdf", "density"):
        assert "a.xyz: 50 fs between frames are assumed" in analyze(command, silent)
        assert "assumed" not in analyze(command, silent, "--frame-time", 10)
    said = write_frames(tmp_path / "b.xyz", lambda k: f"{CUBE} time_ps={0.02 * k}")
    lines = []
    assert read_trajectory(said, 0.01, report=lines.append).times == pytest.approx(0.02 * np.arange(8))
    assert "--frame-time is not used" in "".join(lines)
    mixed = write_frames(tmp_path / "c.xyz", lambda k: CUBE + (" time_ps=0.1" if k == 3 else ""))
    with pytest.raises(
        DataError, match="c.xyz, frame 3: tells its time, the first frame neither time nor step"
    ):
        read_trajectory(mixed, 0.01)


def test_dumps_of_lammps_tell_steps_whose_length_is_asked_for(tmp_path):
    dump = write_dump(tmp_path / "a.dump")
    refused = str(analyze("msd", dump))
    assert "do not tell their times, only steps: --timestep" in refused
    t = read_trajectory(dump, timestep=0.0005, needs_times=True)
    assert t.times == pytest.approx(0.01 * np.arange(8)) and t.numbers[:3].tolist() == [8, 1, 1]
    assert read_trajectory(dump, 0.3).times == pytest.approx(0.3 * np.arange(8))
    assert "written:" in analyze("msd", dump, "--timestep", 0.5)
    constant = write_frames(tmp_path / "a.xyz", lambda k: f"{CUBE} timestep=5")  # fs, or what?
    assert read_trajectory(constant, 0.3, 0.001).times == pytest.approx(0.3 * np.arange(8))
    types = write_dump(tmp_path / "types.dump", columns="id type x y z")
    with pytest.raises(DataError, match="types.dump, line 9: .* tells types of atoms, not their elements"):
        read_trajectory(types, 0.01)


def test_trajectories_of_cp2k_have_their_cells_and_times_from_beside_and_comments(tmp_path):
    comment = lambda k: f" i = {20 * k:8d}, time = {10.0 * k:12.3f}, E = {-17.0:20.10f}"  # noqa: E731
    path = write_frames(tmp_path / "w-pos-1.xyz", comment)
    with pytest.raises(DataError, match="no cell for step 0"):
        read_trajectory(path)
    row = "6.0 0.0 0.0 0.0 6.0 0.0 0.0 0.0 6.0 216.0"
    cells = "".join(f"{20 * k} {10.0 * k} {row}\n" for k in range(8))
    (tmp_path / "w-1.cell").write_text("# Step Time Ax Ay Az Bx By Bz Cx Cy Cz Volume\n" + cells)
    t = read_trajectory(path, needs_times=True)
    assert t.times == pytest.approx(0.01 * np.arange(8)) and t.pbc.all()
    assert t.cells[3] == pytest.approx(6.0 * np.eye(3))
    assert radial_distributions(t)[1]["O-H"].max() > 1.0


def test_trajectories_have_the_cells_and_units_that_our_readers_read(tmp_path):
    """Of i-PI; in small letters; as the frames or the user say."""
    bohr, edge = 0.529177210903, 6.0 / 0.529177210903
    comments = {
        "ipi": (f"# CELL(abcABC): {edge} {edge} {edge} 90 90 90 Step: 0 positions{{atomic_unit}} "
                "cell{atomic_unit}", bohr, None),
        "small": (CUBE.replace("L", "l"), 1.0, None),
        "said": (f'units="Hartree Bohr" Lattice="{edge} 0 0 0 {edge} 0 0 0 {edge}"', bohr, None),
        "asked": (f'Lattice="{edge} 0 0 0 {edge} 0 0 0 {edge}"', bohr, "Hartree Bohr"),
    }  # fmt: skip
    for name, (comment, unit, units) in comments.items():
        path = write_frames(tmp_path / f"{name}.xyz", lambda k, comment=comment: comment, unit=unit)
        t = read_trajectory(path, 0.01, units=units)
        assert t.pbc.all() and t.cells[0] == pytest.approx(6.0 * np.eye(3), abs=1e-6), name
        assert t.positions[2] == pytest.approx(moving_water(2), abs=1e-6), name
    words = ["--frame-time", 10, "--units", "Hartree Bohr"]
    for command in ("rdf", "msd", "density"):
        assert "written: " in analyze(command, tmp_path / "asked.xyz", *words)
    assert "asked.xyz: in Hartree Bohr" in analyze("density", tmp_path / "asked.xyz", *words)
    found = read_densities(tmp_path / "asked.xyz", 0.01, units="Hartree Bohr").values
    assert found == pytest.approx(8 * 18.015 * 1.66053906660 / 216.0, rel=1e-4)


@pytest.mark.parametrize("error", [ValueError(), KeyError("energy"), zlib.error("incorrect data check")])
def test_frames_that_cannot_be_read_are_told_as_data_are(tmp_path, monkeypatch, error):
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\n")

    def fail(*_):
        raise error

    told = []
    for module, read in ((formats, formats.read_sources), (frames, lambda path: next(read_frames(path)))):
        monkeypatch.setattr(module, "read_ase", fail)
        with pytest.raises(DataError) as caught:
            read(tmp_path / "a.xyz")
        told.append(str(caught.value))
    assert told[0] == told[1] and str(tmp_path / "a.xyz") in told[0]
    assert str(error) in told[0] and (str(error) or "no reason given") in told[0]


def read_frames(path):
    return frames.frames_of(path, None, print)
