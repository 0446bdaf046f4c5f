"""Tools around training: symmetry functions before it, potentials after it, and which structures to learn from next."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from mpnnp.commands.common import Debug, EnergyKey, ForcesKey, PotentialPath, start, write_result
from mpnnp.errors import CheckFailed, ConfigError

app = typer.Typer()

DataPaths = Annotated[list[str], typer.Argument(help="Data sets of any format.", metavar="DATA...")]
CsvPath = Annotated[
    Optional[Path],  # noqa: UP045 typer on 3.10
    typer.Option("-o", "--output", help="CSV to write; a picture is put beside it.", metavar="FILE.csv"),
]


@app.command()
def prepare(
    sources: Annotated[
        list[str], typer.Argument(help="Data sets, and last the settings: an input.nn, or a TOML configuration, whose own data are the default.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.", metavar="DIR")] = Path("prepared"),
    histograms: Annotated[bool, typer.Option("--histograms", help="Write histograms.csv and a picture for each element.")] = False,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    debug: Debug = False,
):
    """Range, mean and spread of the symmetry functions over all structures: scaling.data, a table, and with --histograms pictures."""
    from mpnnp.descriptors import histograms_of, statistics_of
    from mpnnp.parallel import on_root
    from mpnnp.preparation import read_settings, table_lines, write_histograms, write_scaling

    *data, settings = sources
    comm, log = start()
    functions, dataset = on_root(comm, lambda: read_settings(settings, data, log, energy_key=energy_key, forces_key=forces_key))
    statistics = statistics_of(dataset, functions, comm, log)
    on_root(comm, write_result, output, lambda folder: write_scaling(folder, functions, statistics))
    if histograms:
        counts = histograms_of(dataset, functions, statistics, comm, log)
        on_root(comm, write_result, output, lambda folder: write_histograms(folder, functions, statistics, counts))
    for line in table_lines(functions, statistics):
        log(line)
    log(f"{len(functions)} symmetry functions over {len(dataset)} structures, {len(dataset.numbers)} atoms; results in {output}")


@app.command()
def sensitivity(potential: PotentialPath, data: DataPaths, output: CsvPath = None, debug: Debug = False):
    """How much the atomic energies depend on each symmetry function: root mean square, mean and largest |dE/dg|."""
    from mpnnp.parallel import on_root
    from mpnnp.sensitivity import draw, lines_of, sensitivity_of, write_csv

    comm, log = start()
    (model,), dataset = read_inputs(comm, log, [potential], data)
    found = sensitivity_of(model, dataset, comm, log)
    for line in lines_of(model.functions, found):
        log(line)
    if output:
        on_root(comm, write_result, output, lambda path: write_csv(path, model.functions, found))
        on_root(comm, write_result, output.with_suffix(".png"), lambda path: draw(path, model.functions, found))
        log(f"written to {output} and {output.with_suffix('.png')}")


@app.command()
def prune(
    sources: Annotated[list[str], typer.Argument(help="Data sets, and last the settings to prune: an input.nn or a TOML configuration.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Settings to write: the same with fewer symmetry functions.", metavar="FILE")],
    by_range: Annotated[Optional[float], typer.Option("--range", help="Leave out functions with maximum - minimum below this.")] = None,  # noqa: UP045
    by_sensitivity: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--sensitivity", help="Leave out functions with less than this percentage of the sensitivity of their element."),
    ] = None,
    potential: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Potential whose sensitivity counts; it must have the functions of the settings."),
    ] = None,
    measure: Annotated[str, typer.Option(help="Of the sensitivity: msa (root mean square), mean or max.")] = "msa",
    debug: Debug = False,
):
    """Leave out symmetry functions that hardly vary (--range) or hardly matter (--sensitivity), and write what is left."""
    from mpnnp.descriptors import statistics_of
    from mpnnp.parallel import on_root
    from mpnnp.preparation import read_settings
    from mpnnp.pruning import keep_by_range, keep_by_sensitivity, write_pruned
    from mpnnp.sensitivity import MEASURES, sensitivity_of

    if (by_range is None) == (by_sensitivity is None):
        raise ConfigError("prune: give one of --range and --sensitivity")
    if by_sensitivity is not None and (potential is None or measure not in MEASURES):
        raise ConfigError(f"prune: --sensitivity needs --potential, and --measure one of {', '.join(MEASURES)}; found {measure}")
    *data, settings = sources
    comm, log = start()
    functions, dataset = on_root(comm, read_settings, settings, data, log)
    if by_range is not None:
        keep = keep_by_range(statistics_of(dataset, functions, comm, log), by_range)
    else:
        (model,) = read_potentials(comm, [potential])
        if model.functions.functions != functions.functions:
            raise ConfigError(f"prune: the symmetry functions of {potential} are not those of {settings}")
        keep = keep_by_sensitivity(sensitivity_of(model, dataset, comm, log).share(measure, functions.table.start), by_sensitivity)
    for f, kept in zip(functions.functions, keep):
        if not kept:
            log(f"left out: {f}")
    on_root(comm, write_result, output, lambda path: write_pruned(settings, path, functions, keep))
    log(f"{keep.sum()} of {len(functions)} symmetry functions are left; written to {output}")


@app.command()
def disagree(
    a: Annotated[Path, typer.Argument(help="Potential.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Another potential.", metavar="B")],
    data: DataPaths,
    output: CsvPath = None,
    debug: Debug = False,
):
    """Compare two potentials: where do their energies and forces differ?"""
    from mpnnp.disagreement import disagreement_of, draw, lines_of, write_csv
    from mpnnp.parallel import on_root

    comm, log = start()
    potentials, dataset = read_inputs(comm, log, [a, b], data)
    found = disagreement_of(potentials, dataset, comm, log)
    if comm.rank == 0:
        for line in lines_of(found, dataset, [a, b]):
            log(line)
    if output:
        on_root(comm, write_result, output, lambda path: write_csv(path, found, dataset))
        on_root(comm, write_result, output.with_suffix(".png"), lambda path: draw(path, found, dataset))
        log(f"written to {output} and {output.with_suffix('.png')}")


@app.command()
def select(
    data: DataPaths,
    number: Annotated[int, typer.Option("-n", help="Structures to select.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write: .h5, .data (n2p2) or .xyz.", metavar="FILE")],
    by: Annotated[str, typer.Option(help="random, interval, farthest, disagreement or kalman.")] = "random",
    potential: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="farthest: whose functions count (default: the default set); disagreement: two or more; kalman: a checkpoint.h5."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --by random.")] = 1,
    debug: Debug = False,
):
    """Select structures: at random, evenly, far apart in the space of the symmetry functions, or those that potentials know least about."""
    from mpnnp.parallel import on_root
    from mpnnp.selection import METHODS, check_number, select_structures, write_selection

    if by not in METHODS:
        raise ConfigError(f"select: --by {by}: must be one of {', '.join(METHODS)}")
    comm, log = start()
    potentials, dataset = read_inputs(comm, log, potential or [], data)
    check_number(number, len(dataset))
    chosen, scores, what = select_structures(by, number, dataset, potentials, potential or [], seed, comm, log)
    for s, score in list(zip(chosen, scores))[:10] if what else []:
        log(f"{score:12.5g} {what}: {dataset.name(s)}")
    on_root(comm, write_result, output, lambda path: write_selection(path, dataset.take(chosen)))
    log(f"{number} of {len(dataset)} structures written to {output}")


@app.command()
def check(
    potential: PotentialPath,
    data: DataPaths,
    structures: Annotated[int, typer.Option(help="Structures that are checked, evenly chosen.")] = 10,
    components: Annotated[int, typer.Option(help="Force components in each structure.")] = 20,
    rows: Annotated[bool, typer.Option("--rows", help="Check the derivatives by the weights too.")] = False,
    tolerance: Annotated[float, typer.Option(help="Largest deviation allowed, relative to the largest value.")] = 1e-5,
    debug: Debug = False,
):
    """Compare forces, stress and, with --rows, derivatives by the weights with finite differences; exit status 1 if they deviate."""
    from mpnnp.derivative_check import check_derivatives
    from mpnnp.selection import at_interval

    comm, log = start()
    (model,), dataset = read_inputs(comm, log, [potential], data)
    dataset = dataset.take(at_interval(min(structures, len(dataset)), len(dataset)))
    found = check_derivatives(model, dataset, comm, components, with_rows=rows)
    for deviations in found:
        log(deviations.line())
    if wrong := [d.name for d in found if not d.relative <= tolerance]:
        error = CheckFailed(f"check: {', '.join(wrong)} deviate by more than {tolerance:g} of the largest value")
        error.told_by = 0  # every rank raises it: rank 0 tells
        raise error
    log(f"all derivatives agree to {tolerance:g} of the largest value, over {len(dataset)} structures")


def read_potentials(comm, paths):
    """Potentials of paths, on every rank. Collective."""
    from mpnnp.model_building import load_potential
    from mpnnp.parallel import on_root

    return on_root(comm, lambda: [load_potential(path) for path in paths])


def read_inputs(comm, log, paths, data):
    """(potentials, Dataset), on every rank. Collective."""
    from mpnnp.parallel import on_root
    from mpnnp.sources import read_sources

    return read_potentials(comm, paths), on_root(comm, lambda: read_sources(data, report=log))
