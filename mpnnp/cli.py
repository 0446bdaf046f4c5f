"""The command line. The only place that names COMM_WORLD."""

import sys
from pathlib import Path
from typing import Annotated, Optional

from mpnnp import __version__, environment

environment.prepare()  # before anything imports numpy

import typer  # noqa: E402

from mpnnp.errors import ConfigError, DataError, MpnnpError  # noqa: E402

app = typer.Typer(
    help="Neural network potentials trained with the multi-stream extended Kalman filter, on MPI.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
DEBUG = "--debug"

Debug = Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")]
PotentialPath = Annotated[Path, typer.Argument(help="Checkpoint (checkpoint.h5, best.h5) or folder of n2p2 files.", metavar="POTENTIAL")]
EnergyKey = Annotated[Optional[str], typer.Option(help="Name of the energy in files read through ASE.")]  # noqa: UP045 typer on 3.10
ForcesKey = Annotated[Optional[str], typer.Option(help="Name of the forces.")]  # noqa: UP045
StressKey = Annotated[Optional[str], typer.Option(help="Name of the stress.")]  # noqa: UP045


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="Configuration, see the README.", metavar="CONFIG.toml")],
    output: Annotated[Optional[Path], typer.Option("-o", "--output", help="Folder of the results.", metavar="RUN_DIR")] = None,  # noqa: UP045
    settings: Annotated[Optional[list[str]], typer.Option("--set", help="Change a key: section.key=value.")] = None,  # noqa: UP045
    resume: Annotated[bool, typer.Option("--resume", help="Continue from RUN_DIR/checkpoint.h5.")] = False,
    debug: Debug = False,
):
    """Train a potential. Start with mpiexec -n RANKS to use several processes."""
    from mpnnp.config import read_config
    from mpnnp.parallel import on_root

    comm, log = start()
    record = on_root(comm, read_config, config, settings or [])
    from mpnnp.train import train as run

    run(record, output or record.run.directory, comm, log, resume)
    log.close()


@app.command()
def convert(
    sources: Annotated[list[Path], typer.Argument(help="input.data, extxyz, HDF5, anything ASE reads; the last name is the HDF5 file to write.")],
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    debug: Debug = False,
):
    """Read SOURCE... and write them to one data set, the last argument (data.h5)."""
    from mpnnp import dataset
    from mpnnp.inspection import describe, format_description
    from mpnnp.sources import read_sources

    *inputs, target = sources
    if not inputs:
        raise ConfigError(f"convert: give at least one source and the file to write; found only {target}")
    if target.suffix not in (".h5", ".hdf5"):
        raise ConfigError(f"convert: the last argument is the file to write and must end in .h5 or .hdf5; found {target}")
    if any(source.resolve() == target.resolve() for source in inputs):
        raise ConfigError(f"convert: {target} is a source and the target at once")
    comm, log = start()
    if comm.rank == 0:
        data = read_sources([str(s) for s in inputs], energy_key=energy_key, forces_key=forces_key, stress_key=stress_key, report=log)
        dataset.write(target, data)
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


@app.command()
def evaluate(
    potential: PotentialPath,
    data: Annotated[list[str], typer.Argument(help="Data sets of any format.", metavar="DATA...")],
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the accuracies to this file.")] = None,  # noqa: UP045
    predictions: Annotated[Optional[Path], typer.Option(help="Write energy, forces, start to this .npz.")] = None,  # noqa: UP045
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    debug: Debug = False,
):
    """Predict energies and forces of structures, and compare with their labels where there are any."""
    from mpnnp.evaluation import evaluate as run
    from mpnnp.model_building import load_potential
    from mpnnp.parallel import on_root
    from mpnnp.sources import read_sources

    comm, log = start()
    model = on_root(comm, load_potential, potential)
    dataset = on_root(comm, lambda: read_sources(data, energy_key=energy_key, forces_key=forces_key, report=log))
    result = run(model, dataset, comm, log)
    if comm.rank == 0:
        for path, write in ((json, result.write_json), (predictions, result.write_predictions)):
            if path:
                write_result(path, write)
    for name, value in result.numbers().items():
        log(f"{name:32s} {'no labels' if value is None else value if isinstance(value, int) else f'{value:.6g}'}")


@app.command()
def export(
    checkpoint: PotentialPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for input.nn, scaling.data, weights.NNN.data.", metavar="DIR")],
    cp2k: Annotated[bool, typer.Option("--cp2k", help="Put the normalisation into the weights: CP2K does not know it.")] = False,
    debug: Debug = False,
):
    """Write a potential as n2p2 files, for n2p2 and LAMMPS (ML-HDNNP), and with --cp2k for CP2K."""
    from mpnnp.model_building import load_potential
    from mpnnp.runner import is_normalized

    comm, log = start()
    if comm.rank == 0:
        model = load_potential(checkpoint)
        write_result(output, lambda folder: model.export(folder, cp2k))
        log(f"n2p2 files written to {output}")
        if is_normalized(model) and not cp2k:
            log("they contain a normalisation, which CP2K does not know: for CP2K export with --cp2k")


def write_result(path, write):
    """write(path), with an error of the file system as a DataError that names the path."""
    try:
        write(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None


def start():
    """(communicator, log) of a command."""
    from mpnnp.parallel import world
    from mpnnp.progress import Log

    comm = world()
    start.comm = comm
    return comm, Log(comm)


start.comm = None


def version(value: bool):
    if value:
        print(f"mpnnp {__version__}")
        raise typer.Exit()


@app.callback()
def common(
    show: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")] = False,
):
    pass


def main():
    """Entry point of the command `mpnnp`: exit status 0, 2 for bad input, 1 for anything else."""
    from mpnnp.parallel import stop_all

    debug = DEBUG in sys.argv
    try:
        app(standalone_mode=True)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, MpnnpError) and start.comm is None and _rank_hint():
            sys.exit(error.exit_status)  # an error before MPI was asked for is the same on every rank: the first tells
        sys.exit(stop_all(start.comm, error, debug))


def _rank_hint():
    """True if the launcher says that this is not the first process."""
    import os

    return any(os.environ.get(name, "0") != "0" for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"))


if __name__ == "__main__":
    main()
