"""Commands that analyse simulations and data sets: each writes NAME.csv and NAME.png."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from mpnnp.commands.common import Debug, start, write_result
from mpnnp.errors import ConfigError

app = typer.Typer()
analyze = typer.Typer(help="Analyse simulations and data sets.", no_args_is_help=True)
app.add_typer(analyze, name="analyze")

Runs = Annotated[
    list[str],
    typer.Argument(help="Folders of `mpnnp md`, or trajectories that ASE reads.", metavar="TRAJ..."),
]
Skip = Annotated[float, typer.Option(help="Part of the time left out at the start of each run.")]
FrameTime = Annotated[
    float, typer.Option(help="fs between frames of trajectories that do not tell their time.")
]
Output = Annotated[
    Optional[Path], typer.Option("-o", "--output", help="Name of the results, without .csv and .png.")
]


@analyze.command()
def density(
    runs: Runs,
    low: Annotated[
        Optional[float],
        typer.Option(help="Smallest density of a stable run, g/cm^3. [default: half of the first]"),
    ] = None,
    high: Annotated[
        Optional[float], typer.Option(help="Largest one. [default: one and a half of the first]")
    ] = None,
    skip: Skip = 0.5,
    frame_time: FrameTime = 50.0,
    output: Output = None,
    debug: Debug = False,
):
    """Density against time, its mean and error bar (blocks), and whether it stayed in its range."""
    import numpy as np

    from mpnnp.figures import figure
    from mpnnp.simulation import density as analysis
    from mpnnp.simulation.trajectories import read_densities

    check_skip(skip)
    comm, log = start()
    if comm.rank:
        return
    if (low is None) != (high is None):
        raise ConfigError("--low and --high: give both or none")
    all_series = [read_densities(path, frame_time / 1000.0) for path in runs]
    results = [analysis.analyse(s, skip, None if low is None else (low, high)) for s in all_series]
    for r in results:
        log(
            f"{r.name}: {r.mean:.5f} ± {r.error:.5f} g/cm^3"
            f"{'' if r.converged else ' (too short for a safe error bar)'}; {r.verdict}"
        )
    if len(results) > 1:
        means = np.array([r.mean for r in results if r.stable])
        spread = (
            f": {means.mean():.5f}, standard deviation {means.std(ddof=1):.5f} g/cm^3"
            if len(means) > 1
            else ""
        )
        log(f"{len(means)} of {len(results)} runs stable{spread}")
    picture, axes = figure(1)
    analysis.draw(axes[0], all_series, results)
    write_results(output or Path("density"), analysis.columns(all_series), picture, log)


@analyze.command()
def rdf(
    runs: Runs,
    r_max: Annotated[float, typer.Option(help="Angstrom; may exceed half the cell.")] = 6.0,
    bins: Annotated[int, typer.Option(help="Number of bins.")] = 120,
    skip: Skip = 0.5,
    frame_time: FrameTime = 50.0,
    output: Output = None,
    debug: Debug = False,
):
    """Radial distribution functions of each pair of elements."""
    from mpnnp.figures import figure
    from mpnnp.simulation import rdf as analysis
    from mpnnp.simulation.trajectories import read_trajectory

    check_skip(skip)
    if not (r_max > 0 and bins > 0):
        raise ConfigError(f"--r-max {r_max} --bins {bins}: must be positive")
    comm, log = start()
    if comm.rank:
        return
    all_g = []
    for path in runs:
        trajectory = read_trajectory(path, frame_time / 1000.0).after(skip)
        r, g = analysis.radial_distributions(trajectory, r_max, bins)
        all_g.append(g)
        peaks = ", ".join(
            f"{pair} {curve.max():.3f} at {r[curve.argmax()]:.2f} A" for pair, curve in g.items()
        )
        log(f"{path}: {len(trajectory.times)} frames; highest peaks {peaks}")
    check_same(runs, all_g)
    picture, axes = figure(len(all_g[0]))
    analysis.draw(axes, r, all_g)
    write_results(output or Path("rdf"), analysis.columns(r, all_g, runs), picture, log)


@analyze.command()
def msd(
    runs: Runs,
    skip: Skip = 0.2,
    frame_time: FrameTime = 50.0,
    output: Output = None,
    debug: Debug = False,
):
    """Mean squared displacement of each element, and the diffusion coefficient."""
    from mpnnp.figures import figure
    from mpnnp.simulation import msd as analysis
    from mpnnp.simulation.trajectories import read_trajectory

    check_skip(skip)
    comm, log = start()
    if comm.rank:
        return
    all_lags, all_msd = [], []
    for path in runs:
        lags, curves = analysis.mean_squared_displacements(
            read_trajectory(path, frame_time / 1000.0).after(skip)
        )
        all_lags.append(lags)
        all_msd.append(curves)
        log(
            f"{path}: D = "
            + ", ".join(f"{analysis.diffusion(lags, c):.3f} ({e})" for e, c in curves.items())
            + " 1e-9 m^2/s"
        )
    check_same(runs, all_msd)
    n = min(len(lags) for lags in all_lags)
    if any(abs(lags[1] - all_lags[0][1]) > 1e-9 for lags in all_lags):
        raise ConfigError("the runs have different times between frames: analyse them one by one")
    all_msd = [{e: c[:n] for e, c in curves.items()} for curves in all_msd]
    picture, axes = figure(1)
    analysis.draw(axes[0], all_lags[0][:n], all_msd)
    write_results(output or Path("msd"), analysis.columns(all_lags[0][:n], all_msd, runs), picture, log)


@analyze.command("energy-density")
def energy_density(
    data: Annotated[list[str], typer.Argument(help="Data sets of any format.", metavar="DATA...")],
    bins: Annotated[int, typer.Option(help="Number of bins in each direction.")] = 40,
    output: Output = None,
    debug: Debug = False,
):
    """Histogram of a data set over density and energy per atom."""
    from mpnnp.analysis import energy_density as analysis
    from mpnnp.data.formats import read_sources
    from mpnnp.figures import figure

    if bins < 1:
        raise ConfigError(f"--bins {bins}: must be positive")
    comm, log = start()
    if comm.rank:
        return
    histogram = analysis.energy_density(read_sources(data, report=log), bins)
    picture, axes = figure(1)
    analysis.draw(picture, axes[0], *histogram)
    write_results(output or Path("energy-density"), analysis.columns(*histogram), picture, log)


def check_skip(skip):
    if not 0 <= skip < 1:
        raise ConfigError(f"--skip {skip}: must be in [0, 1)")


def check_same(runs, results):
    """Raise ConfigError if runs have other elements than the first."""
    for path, result in zip(runs, results):
        if list(result) != list(results[0]):
            raise ConfigError(
                f"{path}: holds {', '.join(result)}, {runs[0]} {', '.join(results[0])}: "
                "analyse them one by one"
            )


def write_results(name, table, picture, log):
    """NAME.csv from columns, and NAME.png."""
    from mpnnp.figures import save
    from mpnnp.files import write_table

    files = Path(f"{name}.csv"), Path(f"{name}.png")
    write_result(files[0], lambda path: write_table(path, table))
    write_result(files[1], lambda path: save(picture, path))
    log(f"written: {files[0]}, {files[1]}")
