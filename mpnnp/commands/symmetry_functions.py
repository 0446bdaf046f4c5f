"""Commands about symmetry functions: their ranges over a data set, how much a potential depends on them,
leaving some out.
"""

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mpnnp.commands.common import (
    CsvPath,
    DataPaths,
    Debug,
    PotentialPath,
    PotentialUnits,
    check_positive,
    examples,
    read_inputs,
    read_potentials,
    reads_data,
    start,
    write_result,
)
from mpnnp.commands.targets import check_folder, check_targets
from mpnnp.errors import ConfigError
from mpnnp.progress import counted

app = typer.Typer()


@app.command(
    epilog=examples(
        "mpnnp prepare data.h5 input.nn --histograms",
        "mpnnp prepare train.toml -o prepared",
    )
)
@reads_data
def prepare(
    how,
    sources: Annotated[
        list[str],
        typer.Argument(
            help=(
                "Data sets, and last the settings: an input.nn, or a TOML configuration, "
                "whose own data are the default; its section [data] says how data are read."
            )
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the results.", metavar="DIR")
    ] = Path("prepared"),
    histograms: Annotated[
        bool, typer.Option("--histograms", help="Write histograms.csv and a picture for each element.")
    ] = False,
    debug: Debug = False,
):
    """Range, mean and spread of the symmetry functions over data.

    Written are scaling.data, a table, and with --histograms pictures.
    """
    from mpnnp.analysis.descriptors import histograms_of, statistics_of
    from mpnnp.analysis.preparation import (
        check_scaling,
        read_settings,
        table_lines,
        write_histograms,
        write_scaling,
    )
    from mpnnp.parallel import on_root

    *data, settings = sources
    comm, log = start()
    on_root(comm, check_folder, output)
    on_root(comm, check_scaling, output)
    functions, dataset, _ = on_root(comm, read_settings, settings, data, log, how)
    statistics = statistics_of(dataset, functions, comm, log)
    for line in table_lines(functions, statistics):
        log(line)
    on_root(comm, write_result, output, lambda folder: write_scaling(folder, functions, statistics))
    if histograms:
        counts = histograms_of(dataset, functions, statistics, comm, log)
        on_root(
            comm, write_result, output, lambda folder: write_histograms(folder, functions, statistics, counts)
        )
    log(
        f"{counted(len(functions), 'symmetry function')} over {counted(len(dataset), 'structure')}, "
        f"{counted(len(dataset.numbers), 'atom')}; "
        f"results in {output}"
    )


@app.command(
    epilog=examples(
        "mpnnp sensitivity runs/train/best.h5 data.h5 -o sensitivity.csv",
    )
)
@reads_data
def sensitivity(
    how,
    potential: PotentialPath,
    data: DataPaths,
    output: CsvPath = None,
    potential_units: PotentialUnits = None,
    debug: Debug = False,
):
    """How much atomic energies depend on each symmetry function.

    Root mean square, mean and largest |dE/dg|.
    """
    from mpnnp.analysis.sensitivity import draw, lines_of, sensitivity_of, write_csv
    from mpnnp.parallel import agree, on_root

    comm, log = start()
    on_root(comm, lambda: check_targets(table=output, data=data, potentials=[potential]))
    (model,), dataset = read_inputs(comm, log, [potential], data, how, potential_units)
    found = sensitivity_of(model, agree(comm, dataset.without_isolated_atoms), comm, log)
    for line in lines_of(model.functions, found):
        log(line)
    if output:
        on_root(comm, write_result, output, lambda path: write_csv(path, model.functions, found))
        on_root(
            comm, write_result, output.with_suffix(".png"), lambda path: draw(path, model.functions, found)
        )
        log(f"written to {output} and {output.with_suffix('.png')}")


@app.command(
    epilog=examples(
        "mpnnp prune data.h5 input.nn --range 1e-3 -o fewer.nn",
        "mpnnp prune train.toml --sensitivity 1 --potential runs/train/best.h5 -o fewer.toml",
    )
)
@reads_data
def prune(
    how,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Data sets, and last the settings to prune: an input.nn or a TOML configuration."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="Settings to write: the same with fewer symmetry functions.",
            metavar="FILE",
        ),
    ],
    by_range: Annotated[
        Optional[float],
        typer.Option("--range", help="Leave out functions with maximum - minimum below this."),
    ] = None,
    by_sensitivity: Annotated[
        Optional[float],
        typer.Option(
            "--sensitivity",
            help="Leave out functions with less than this percentage of the sensitivity of their element.",
        ),
    ] = None,
    potential: Annotated[
        Optional[Path],
        typer.Option(help="Potential whose sensitivity counts; it must have the functions of the settings."),
    ] = None,
    measure: Annotated[
        Literal["msa", "mean", "max"],
        typer.Option(help="Of the sensitivity; msa: root mean square."),
    ] = "msa",
    debug: Debug = False,
):
    """Leave out symmetry functions that hardly vary or matter.

    By their range (--range) or by how much a potential depends on them (--sensitivity); the settings with
    what is left are written.
    """
    from mpnnp.analysis.descriptors import statistics_of
    from mpnnp.analysis.preparation import read_settings, units_for
    from mpnnp.analysis.pruning import check_prunable, keep_by_range, keep_by_sensitivity, write_pruned
    from mpnnp.analysis.sensitivity import sensitivity_of
    from mpnnp.parallel import agree, on_root

    if (by_range is None) == (by_sensitivity is None):
        raise ConfigError("prune: give one of --range and --sensitivity")
    if by_sensitivity is not None and potential is None:
        raise ConfigError("prune: --sensitivity needs --potential")
    check_positive(range=by_range, sensitivity=by_sensitivity)
    *data, settings = sources
    comm, log = start()
    on_root(comm, lambda: check_targets(output, data=sources, potentials=[potential] if potential else []))
    on_root(comm, check_prunable, settings)
    functions, dataset, units = on_root(comm, read_settings, settings, data, log, how)
    dataset = agree(comm, dataset.without_isolated_atoms)
    if by_range is not None:
        keep = keep_by_range(statistics_of(dataset, functions, comm, log), by_range)
    else:
        (model,) = read_potentials(comm, [potential], on_root(comm, units_for, potential, units))
        if model.functions.functions != functions.functions:
            raise ConfigError(f"prune: the symmetry functions of {potential} are not those of {settings}")
        keep = keep_by_sensitivity(
            sensitivity_of(model, dataset, comm, log).share(measure, functions.table.start), by_sensitivity
        )
    for f, kept in zip(functions.functions, keep):
        if not kept:
            log(f"left out: {f}")

    def write(path):
        for note in write_pruned(settings, path, functions, keep, units):
            log(note)

    on_root(comm, write_result, output, write)
    log(f"of {counted(len(functions), 'symmetry function')} {keep.sum()} left; written to {output}")
