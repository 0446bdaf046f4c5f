"""Commands about data sets: convert, info, select."""

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mpnnp.commands.common import (
    TARGETS,
    DataPaths,
    Debug,
    Replace,
    examples,
    on_first_rank,
    read_inputs,
    reads_data,
    start,
)
from mpnnp.commands.targets import check_holds, check_targets, write_data
from mpnnp.errors import ConfigError
from mpnnp.progress import counted

app = typer.Typer()


@app.command(
    epilog=examples(
        "mpnnp convert input.data more.extxyz OUTCAR data.h5",
        'mpnnp convert other.xyz --units "kcal/mol Angstrom" input.data',
    )
)
@on_first_rank
@reads_data
def convert(
    how,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help=(
                "input.data, extxyz, HDF5, DeePMD folders, outputs of CP2K, VASP, ...; "
                f"last the file to write: {TARGETS}."
            )
        ),
    ],
    overwrite: Replace = False,
    debug: Debug = False,
):
    """Read data sets of any format and write them as one.

    The last argument is the file to write; its name says the format: HDF5, input.data of n2p2 and RuNNer,
    extended XYZ. Among the files of a folder or pattern it is left out.
    """
    from mpnnp.data.formats import check_target, read_sources
    from mpnnp.data.inspection import describe, format_description
    from mpnnp.data.isolated import in_words

    *inputs, target = sources
    if not inputs:
        raise ConfigError(f"convert: give at least one source and the file to write; found only {target}")
    check_target(target)
    check_targets(target, data=inputs, overwrite=overwrite)
    _, log = start()
    data = read_sources([str(s) for s in inputs], report=log, without=[target], **how)
    check_holds(target, data)
    log(format_description(describe(data)))
    if data.isolated:
        log(f"energies of isolated atoms, kept beside the structures: {in_words(data.isolated)}")
    write_data(target, data, overwrite, log)
    log(f"written to {target}")


@app.command(
    epilog=examples(
        "mpnnp info data.extxyz",
        "mpnnp info calculation-*/OUTCAR",
        "mpnnp info runs/train/checkpoint.h5",
    )
)
@on_first_rank
@reads_data
def info(
    how,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Data sets of any format, taken as one; checkpoints, folders of n2p2 files, simulations.",
            metavar="FILE...",
        ),
    ],
    force_limit: Annotated[float, typer.Option(help="Warn about forces above this, eV/Angstrom.")] = 50.0,
    debug: Debug = False,
):
    """Describe data or a potential; warn of what looks wrong."""
    from mpnnp.data import inspection
    from mpnnp.data.dataset import why_no_validation
    from mpnnp.data.formats import read_sources
    from mpnnp.data.plausibility import doubts
    from mpnnp.training.checkpoint import refuse_run_folder

    _, log = start()
    if not force_limit > 0.0:
        raise ConfigError(f"--force-limit {force_limit:g}: must be positive")
    texts = {file: _in_words(file, how["units"]) for file in files}
    for text in filter(None, texts.values()):
        log(text)
    if not (sources := [file for file in files if texts[file] is None]):
        return
    for file in sources:
        refuse_run_folder(file)
    data = read_sources([str(file) for file in sources], lenient=True, report=log, **how)
    log(inspection.format_description(inspection.describe(data)))
    for message in [*map(str, doubts(data)), *inspection.warnings(data, force_limit=force_limit)]:
        log.warn(message)
    if (data.marks != 0).any() and (reason := why_no_validation(data, 1.0)):
        log.warn(reason)


def _in_words(file, units):
    """What a checkpoint, a simulation or a folder of n2p2 files holds; None if it is none of these."""
    from mpnnp.training.checkpoint import is_checkpoint
    from mpnnp.training.description import describe_checkpoint, describe_folder

    if is_checkpoint(file):
        return describe_checkpoint(file)
    if (file / "protocol.json").is_file():
        from mpnnp.simulation.trajectories import describe_run

        return describe_run(file)
    if (file / "input.nn").is_file() and any(file.glob("*weights.*")):
        return describe_folder(file, units)
    return None


@app.command(
    epilog=examples(
        "mpnnp select data.h5 -n 50 --by farthest -o some.extxyz",
        "mpnnp select pool.h5 -n 50 --by kalman --potential runs/a/checkpoint.h5 -o next.h5",
    )
)
@reads_data
def select(
    how,
    data: DataPaths,
    number: Annotated[int, typer.Option("-n", help="Structures to select.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help=f"File to write: {TARGETS}.", metavar="FILE")
    ],
    by: Annotated[
        Literal["random", "interval", "farthest", "disagreement", "kalman"],
        typer.Option(help="How they are chosen."),
    ] = "random",
    potential: Annotated[
        Optional[list[Path]],
        typer.Option(
            help=(
                "farthest: whose functions count (default: the default set); disagreement: two or more; "
                "kalman: a checkpoint.h5."
            )
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of --by random.")] = 1,
    overwrite: Replace = False,
    debug: Debug = False,
):
    """Select structures that are worth their labels.

    At random, evenly, far apart in the space of the symmetry functions, or those that potentials know least
    about. Isolated atoms, references of the energies, are written too, and do not count.
    """
    import numpy as np

    from mpnnp.analysis.selection import check_number, select_structures
    from mpnnp.data.formats import check_target
    from mpnnp.parallel import on_root

    check_target(output, "select")
    comm, log = start()
    on_root(comm, lambda: check_targets(output, data=data, potentials=potential or [], overwrite=overwrite))
    potentials, dataset = read_inputs(comm, log, potential or [], data, how, without=[output])
    alone = dataset.is_isolated
    references, others = np.flatnonzero(alone), np.flatnonzero(~alone)
    check_number(number, len(others))
    on_root(comm, check_holds, output, dataset)
    chosen, scores, what = select_structures(
        by, number, dataset.take(others), potentials, potential or [], seed, comm, log
    )
    chosen = others[chosen]
    for s, score in list(zip(chosen, scores))[:10] if what else []:
        log(f"{score:12.5g} {what}: {dataset.name(s)}")
    on_root(comm, write_data, output, dataset.take(np.concatenate([references, chosen])), overwrite, log)
    more = f", and the isolated atoms ({len(references)})" if len(references) else ""
    log(f"{number} of {counted(len(others), 'structure')}{more} written to {output}")
