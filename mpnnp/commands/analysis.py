"""Commands that analyse simulations and data sets: each writes NAME.csv, NAME.png and NAME.pdf."""

import math
import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from mpnnp.commands.common import (
    Debug,
    Units,
    check_positive,
    examples,
    on_first_rank,
    reads_data,
    start,
    write_result,
)
from mpnnp.commands.targets import check_targets
from mpnnp.errors import ConfigError
from mpnnp.progress import counted

app = typer.Typer()
analyze = typer.Typer(help="Analyse simulations and data sets.", no_args_is_help=True)
app.add_typer(analyze, name="analyze")

Runs = Annotated[
    list[str],
    typer.Argument(help="Folders of `mpnnp md`, or trajectories of any format.", metavar="TRAJ..."),
]
Skip = Annotated[float, typer.Option(help="Part of the time left out at the start of each run.")]
FrameTime = Annotated[
    Optional[float],
    typer.Option(help="fs between frames of trajectories that do not tell their time. [default: 50]"),
]
NeededFrameTime = Annotated[
    Optional[float],
    typer.Option(
        help="fs between frames of trajectories that do not tell their time, for which it is needed."
    ),
]
Timestep = Annotated[
    Optional[float],
    typer.Option(help="fs of a step of trajectories that tell steps alone, as dumps of LAMMPS."),
]
Output = Annotated[
    Optional[Path],
    typer.Option(
        "-o",
        "--output",
        help="Name of the results, without .csv, .png and .pdf. [default: in the folder of the trajectory]",
    ),
]


@analyze.command(
    epilog=examples(
        "mpnnp analyze density npt",
        "mpnnp analyze density npt-1 npt-2 npt-3 -o all --low 0.9 --high 1.1",
    )
)
@on_first_rank
@reads_data
def density(
    how,
    runs: Runs,
    low: Annotated[
        Optional[float],
        typer.Option(help="Smallest density of a stable run, g/cm^3. [default: half of the first]"),
    ] = None,
    high: Annotated[
        Optional[float], typer.Option(help="Largest one. [default: one and a half of the first]")
    ] = None,
    skip: Skip = 0.5,
    data: Annotated[
        Optional[list[str]],
        typer.Option(
            help="Data set that the potential was trained on, for its range of densities and energies, "
            "where the run does not know it. May be given several times."
        ),
    ] = None,
    frame_time: FrameTime = None,
    timestep: Timestep = None,
    output: Output = None,
    debug: Debug = False,
):
    """Density against time: mean, error bar, and whether it is stable.

    Stable: inside its limits, without a drift, with few extrapolations, within the densities and energies of
    training. Error bars are from blocks.
    """
    from dataclasses import replace

    import numpy as np

    from mpnnp.data.formats import read_sources
    from mpnnp.data.ranges import TrainingRange
    from mpnnp.figures import figure
    from mpnnp.simulation import density as analysis
    from mpnnp.simulation.trajectories import read_densities

    check_skip(skip)
    check_positive(frame_time=frame_time, timestep=timestep)
    _, log = start()
    if (low is None) != (high is None):
        raise ConfigError("--low and --high: give both or none")
    if low is not None and not low < high < math.inf:
        raise ConfigError(f"--low {low:g} --high {high:g}: must be numbers, the second the larger one")
    output = results_of(output, runs, "density")
    times = in_ps(frame_time), in_ps(timestep)
    all_series = [read_densities(path, *times, how["units"], log) for path in runs]
    if data:
        trained = TrainingRange.of(read_sources(data, report=log, **how))
        all_series = [replace(s, trained=trained) for s in all_series]
    results = [analysis.analyse(s, skip, None if low is None else (low, high)) for s in all_series]
    for series, result in zip(all_series, results):
        log(str(result))
        if not series.trained.numbers():
            log("  what its potential was trained on is not known: --data DATA compares with a data set")
    if len(results) > 1:
        means = np.array([r.mean for r in results if r.lasted])
        spread = (
            f": {means.mean():.5f}, standard deviation {means.std(ddof=1):.5f} g/cm^3"
            if len(means) > 1
            else ""
        )
        stable = sum(r.stable for r in results)
        are = "is" if stable == 1 else "are"
        log(f"{len(means)} of {counted(len(results), 'run')} lasted{spread}; {stable} {are} stable")
    picture, axes = figure(1)
    analysis.draw(axes[0], all_series, results)
    write_results(output, analysis.columns(all_series), picture, log)


@analyze.command(
    epilog=examples(
        "mpnnp analyze rdf nvt",
        "mpnnp analyze rdf nvt-1 nvt-2 --r-max 8 --bins 160 -o both",
    )
)
@on_first_rank
def rdf(
    runs: Runs,
    r_max: Annotated[float, typer.Option(help="Angstrom; may exceed half the cell.")] = 6.0,
    bins: Annotated[int, typer.Option(help="Number of bins.")] = 120,
    skip: Skip = 0.5,
    frame_time: FrameTime = None,
    timestep: Timestep = None,
    output: Output = None,
    units: Units = None,
    debug: Debug = False,
):
    """Radial distribution functions of each pair of elements."""
    from mpnnp.figures import figure
    from mpnnp.simulation import rdf as analysis
    from mpnnp.simulation.trajectories import read_trajectory

    check_skip(skip)
    check_positive(r_max=r_max, bins=bins, frame_time=frame_time, timestep=timestep)
    _, log = start()
    output = results_of(output, runs, "rdf")
    all_g = []
    for path in runs:
        trajectory = read_trajectory(path, in_ps(frame_time), in_ps(timestep), units, log).after(skip)
        r, g = analysis.radial_distributions(trajectory, r_max, bins)
        all_g.append(g)
        peaks = ", ".join(
            f"{pair} {curve.max():.3f} at {r[curve.argmax()]:.2f} A" for pair, curve in g.items()
        )
        log(f"{path}: {counted(len(trajectory.times), 'frame')}; highest peaks {peaks}")
    check_same(runs, all_g)
    picture, axes = figure(len(all_g[0]))
    analysis.draw(axes, r, all_g)
    write_results(output, analysis.columns(r, all_g, runs), picture, log)


@analyze.command(
    epilog=examples(
        "mpnnp analyze msd nvt",
        "mpnnp analyze msd trajectory.xyz --frame-time 10",
    )
)
@on_first_rank
def msd(
    runs: Runs,
    skip: Skip = 0.2,
    viscosity: Annotated[
        Optional[float],
        typer.Option(
            help="mPa s, of the same model: adds the correction of Yeh and Hummer for the finite cubic box.",
        ),
    ] = None,
    temperature: Annotated[
        Optional[float], typer.Option(help="K, for the correction. [default: mean of md.csv]")
    ] = None,
    frame_time: NeededFrameTime = None,
    timestep: Timestep = None,
    output: Output = None,
    units: Units = None,
    debug: Debug = False,
):
    """Mean squared displacement of each element, and the diffusion coefficient with its error bar."""
    from mpnnp.figures import figure
    from mpnnp.simulation import msd as analysis
    from mpnnp.simulation.trajectories import mean_temperature, read_trajectory

    check_skip(skip)
    check_positive(viscosity=viscosity, temperature=temperature, frame_time=frame_time, timestep=timestep)
    _, log = start()
    output = results_of(output, runs, "msd")
    found, times = [], (in_ps(frame_time), in_ps(timestep))
    for path in runs:
        trajectory = read_trajectory(path, *times, units, log, needs_times=True).after(skip)
        found.append(analysis.mean_squared_displacements(trajectory))
        results = {element: analysis.diffusion(curve) for element, curve in found[-1].items()}
        window = " to ".join(f"{t:.3g}" for t in next(iter(results.values())).window)
        log(f"{path}: diffusion coefficients in 1e-9 m^2/s, fitted from {window} ps:")
        for element, result in results.items():
            log(f"  D({element}) = {result}")
        if viscosity is not None:
            kelvin = mean_temperature(path, skip) if temperature is None else temperature
            added = analysis.finite_size(trajectory, kelvin, viscosity)
            where = f"Yeh and Hummer 2004; {kelvin:.4g} K, {viscosity:g} mPa s"
            log(f"  in an infinite box {added:.3g} more ({where}):")
            for element, result in results.items():
                log(f"  D({element}) = {analysis.with_error(result.value + added, result.error)}")
    check_same(runs, found)
    found = analysis.alike(runs, found)
    if len(runs) > 1:
        for element in found[0]:
            log(f"all runs: D({element}) = {analysis.in_words([run[element] for run in found])}")
    picture, axes = figure(1)
    analysis.draw(axes[0], found)
    write_results(output, analysis.columns(found, runs), picture, log)


@analyze.command(
    epilog=examples(
        "mpnnp analyze eos nvt-0.95 nvt-1.00 nvt-1.05 nvt-1.10",
        "mpnnp analyze eos --group mine=a/nvt-0.95,a/nvt-1.0,a/nvt-1.05 --group other='b/nvt-*' -o both",
    )
)
@on_first_rank
def eos(
    runs: Annotated[
        Optional[list[str]],
        typer.Argument(
            help="Folders of `mpnnp md` at constant volume, of several densities and one potential.",
            metavar="RUN...",
        ),
    ] = None,
    group: Annotated[
        Optional[list[str]], typer.Option(help="A curve by name: NAME=RUN,RUN,...; again for more.")
    ] = None,
    pressure: Annotated[float, typer.Option(help="bar, at which the density is sought.")] = 1.0,
    order: Annotated[int, typer.Option(help="Of the polynomial through the pressures.")] = 2,
    skip: Skip = 0.2,
    output: Output = None,
    debug: Debug = False,
):
    """Equation of state: pressure against density, and the density at a pressure.

    From simulations at constant volume and one temperature. Error bars are from blocks and a bootstrap.
    """
    from mpnnp.figures import figure
    from mpnnp.simulation import equation_of_state as analysis
    from mpnnp.training.run_groups import find_groups

    check_skip(skip)
    _, log = start()
    groups = find_groups([], group) if group else {}
    if runs:
        groups[shared_folder(runs).resolve().name] = runs
    if not groups:
        raise ConfigError("eos: give simulations, or --group NAME=RUN,RUN,...")
    output = results_of(output, [str(path) for folders in groups.values() for path in folders], "eos")
    curves = []
    for name, folders in groups.items():
        points = analysis.read_points(name, folders, skip, log)
        curves.append(analysis.equation_of_state(name, points, pressure, order))
        log(str(curves[-1]))
    picture, axes = figure(1)
    analysis.draw(axes[0], curves)
    write_results(output, analysis.columns(curves), picture, log)


@analyze.command(
    "energy-density",
    epilog=examples(
        "mpnnp analyze energy-density data.h5",
        "mpnnp analyze energy-density liquid.extxyz ice.extxyz --bins 60 -o both",
    ),
)
@on_first_rank
@reads_data
def energy_density(
    how,
    data: Annotated[list[str], typer.Argument(help="Data sets of any format.", metavar="DATA...")],
    bins: Annotated[int, typer.Option(help="Number of bins in each direction.")] = 40,
    output: Output = None,
    debug: Debug = False,
):
    """Histogram of a data set over density and energy per atom."""
    from mpnnp.analysis import energy_density as analysis
    from mpnnp.data.formats import read_sources
    from mpnnp.figures import figure

    check_positive(bins=bins)
    _, log = start()
    output = output or Path("energy-density")
    check_targets(table=Path(f"{output}.csv"), data=data)
    histogram = analysis.energy_density(read_sources(data, report=log, **how), bins)
    picture, axes = figure(1)
    analysis.draw(picture, axes[0], *histogram)
    write_results(output, analysis.columns(*histogram), picture, log)


def beside(runs, name):
    """Where results belong without --output: in the folder of the run, or beside the trajectory, named after
    it; of several runs in the folder that they share.
    """
    is_file = len(runs) == 1 and not Path(runs[0]).is_dir()
    return shared_folder(runs) / (f"{Path(runs[0]).stem}-{name}" if is_file else name)


def shared_folder(runs):
    """The folder of one run, or that of its trajectory; of several runs the one that these share."""
    folders = [Path(run) if Path(run).is_dir() else Path(run).parent for run in runs]
    return folders[0] if len(runs) == 1 else Path(os.path.commonpath([f.resolve() for f in folders]))


def in_ps(femtoseconds):
    return None if femtoseconds is None else femtoseconds / 1000.0


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


def results_of(output, runs, name):
    """Where results go, without .csv, .png and .pdf: `output`, or beside the runs. Raises ConfigError or
    DataError unless they can be written.
    """
    output = output or beside(runs, name)
    check_targets(table=Path(f"{output}.csv"), data=runs)
    return output


def write_results(name, table, picture, log):
    """NAME.csv from columns, NAME.png and NAME.pdf."""
    from mpnnp.figures import save
    from mpnnp.files import write_table

    files = [Path(f"{name}.{suffix}") for suffix in ("csv", "png", "pdf")]
    write_result(files[0], lambda path: write_table(path, table))
    write_result(files[1], lambda path: save(picture, path))
    log(f"written: {', '.join(map(str, files))}")
