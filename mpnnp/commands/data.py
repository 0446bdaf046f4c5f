"""Commands about data sets."""

from pathlib import Path
from typing import Annotated

import typer

from mpnnp.commands.common import Debug, EnergyKey, ForcesKey, StressKey, start
from mpnnp.errors import ConfigError

app = typer.Typer()


@app.command()
def convert(
    sources: Annotated[
        list[Path],
        typer.Argument(help="input.data, extxyz, HDF5, DeePMD folders, outputs of CP2K, VASP, ...; the last name is the file to write."),
    ],
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    debug: Debug = False,
):
    """Read SOURCE... and write them to the last argument: data.h5 (HDF5), input.data (n2p2, RuNNer) or data.extxyz, by its name."""
    from mpnnp.inspection import describe, format_description
    from mpnnp.sources import check_target, read_sources, write_target

    *inputs, target = sources
    if not inputs:
        raise ConfigError(f"convert: give at least one source and the file to write; found only {target}")
    check_target(target)
    if any(source.resolve() == target.resolve() for source in inputs):
        raise ConfigError(f"convert: {target} is a source and the target at once")
    comm, log = start()
    if comm.rank == 0:
        data = read_sources([str(s) for s in inputs], energy_key=energy_key, forces_key=forces_key, stress_key=stress_key, report=log)
        write_target(target, data)
        log(format_description(describe(data)))
        log(f"written to {target}")


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="Data set of any format, or a checkpoint.")],
    force_limit: Annotated[float, typer.Option(help="Warn about forces above this, eV/Angstrom.")] = 50.0,
    debug: Debug = False,
):
    """Describe a data set or a checkpoint, and warn about what looks wrong."""
    from mpnnp import inspection
    from mpnnp.checkpoint import is_checkpoint

    comm, log = start()
    if comm.rank:
        return
    if is_checkpoint(file):
        from mpnnp.report import describe_checkpoint

        log(describe_checkpoint(file))
        return
    from mpnnp.sources import read_sources

    data = read_sources([str(file)], report=log)
    log(inspection.format_description(inspection.describe(data)))
    for message in inspection.warnings(data, force_limit=force_limit):
        log.warn(message)
