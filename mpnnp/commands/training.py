"""Commands that train: train, report, translate."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from mpnnp.commands.common import (
    Debug,
    Overwrite,
    Settings,
    Units,
    examples,
    on_first_rank,
    start,
    write_configuration,
)
from mpnnp.commands.targets import check_targets
from mpnnp.errors import CheckpointError, DataError

app = typer.Typer()

Ranks = Annotated[
    Optional[int], typer.Option(min=1, help="MPI tasks of the n2p2 run whose batches per task are meant.")
]


@app.command(
    epilog=examples(
        "mpiexec -n 2 mpnnp train train.toml",
        "mpiexec -n 2 mpnnp train train.toml -o runs/a --set run.epochs=50 --resume",
        "mpiexec -n 2 mpnnp train input.nn -o runs/from-n2p2",
        "mpiexec -n 2 mpnnp train new.toml --from runs/a/checkpoint.h5 -o runs/b",
    )
)
def train(
    config: Annotated[
        Path,
        typer.Argument(
            help="Configuration, or an input.nn of n2p2 or RuNNer with input.data beside it.",
            metavar="CONFIG",
        ),
    ],
    output: Annotated[
        Optional[Path],
        typer.Option(
            "-o",
            "--output",
            help="Folder of the results; runs/NAME for NAME.toml if neither this nor run.directory is given. "
            "RUN_DIR/config.toml goes to RUN_DIR.",
            metavar="RUN_DIR",
        ),
    ] = None,
    settings: Settings = None,
    units: Units = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from RUN_DIR/checkpoint.h5.")] = False,
    from_: Annotated[
        Optional[Path],
        typer.Option(
            "--from",
            help="Go on from another run's checkpoint.h5, weights and covariance, with the data of CONFIG.",
            metavar="CHECKPOINT",
        ),
    ] = None,
    overwrite: Overwrite = False,
    ranks: Ranks = None,
    debug: Debug = False,
):
    """Train a potential. Start with mpiexec -n RANKS to use several processes.

    Exit status: 0 done, 75 stopped by Ctrl-C, SIGTERM, SIGUSR1 or the end of the batch job (continue with
    --resume), 130 ended by a second Ctrl-C within five seconds, 2 bad input, 1 anything else.
    """
    from mpnnp.n2p2.translate import is_input_nn
    from mpnnp.parallel import on_root

    comm, log = start()
    settings = (settings or []) + ([f"data.units={units}"] if units else [])
    settings += [f'run.from="{from_}"'] if from_ else []
    if is_input_nn(config):
        record = on_root(comm, _from_input_nn, config, output, settings, ranks, comm.size, resume, log)
    else:
        record = on_root(comm, _from_toml, config, settings)
    from mpnnp.training.train import train as run

    run(record, output or record.run.directory, comm, log, resume, overwrite=overwrite)
    log.close()


def _from_toml(path, settings):
    """Config of a TOML file, with the folder that its results go to. Raises ConfigError naming the file."""
    from mpnnp.config import read_config
    from mpnnp.optimizers.registry import check_name
    from mpnnp.training.run_folder import in_own_folder

    config = in_own_folder(read_config(path, settings), path, settings)
    check_name(config.run.optimizer, str(path))
    return config


@app.command(epilog=examples("mpnnp report runs/train"))
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a training, ended or under way.", metavar="RUN_DIR")],
    debug: Debug = False,
):
    """Write the page of a run, report.html, and its pictures anew.

    Judgement, errors, learning curve, predictions, worst structures, data, configuration. Every run writes
    them at its end.
    """
    from mpnnp.parallel import on_root
    from mpnnp.training.page import write

    comm, log = start()
    files = on_root(comm, write, run)
    log(f"written: {', '.join(map(str, files))}")


@app.command(
    epilog=examples(
        "mpnnp translate input.nn -o train.toml",
        "mpnnp translate input.nn --ranks 16",
    )
)
@on_first_rank
def translate(
    source: Annotated[Path, typer.Argument(help="An input.nn of n2p2 or RuNNer.", metavar="INPUT.NN")],
    output: Annotated[
        Optional[Path], typer.Option("-o", "--output", help="TOML file to write; shown if not given.")
    ] = None,
    ranks: Ranks = None,
    settings: Settings = None,
    units: Units = None,
    debug: Debug = False,
):
    """Write an input.nn of n2p2 or RuNNer as a configuration.

    With comments on each key, and what is not used.
    """
    from mpnnp.n2p2.translate import translate as read

    _, log = start()
    check_targets(output, data=[source])
    settings = (settings or []) + ([f"data.units={units}"] if units else [])
    translation = read(source, ranks, 1, settings)
    translation.config(settings)
    text = translation.toml(output.parent if output else Path.cwd())
    if output is None:
        log(text)
        return
    write_configuration(output, text, log)
    translation.tell(log)
    log(f"written to {output}")


def _from_input_nn(path, output, settings, ranks, size, resume, log):
    """Config of an input.nn; nothing is written beside it.
    A resumed run keeps the configuration it began with.
    """
    from mpnnp.config import read_config
    from mpnnp.n2p2.translate import translate as read

    translation = read(path, ranks, size, settings)
    config = translation.config(settings)
    directory = Path(output or config.run.directory)
    if resume:
        if not (directory / "config.toml").is_file():
            raise CheckpointError(f"{directory}: there is no config.toml to resume from")
        return read_config(directory / "config.toml", settings)
    translation.tell(log)
    for file in config.data.files:
        if not Path(file).exists():
            raise DataError(f"{path}: there is no {Path(file).name} beside it")
    if config.data.cache:
        return config
    return config.with_keys("data", cache=str((directory / "mpnnp-cache").resolve()))
