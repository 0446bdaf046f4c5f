"""Commands that train."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from mpnnp.commands.common import Debug, start

app = typer.Typer()


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="Configuration, see the README.", metavar="CONFIG.toml")],
    output: Annotated[Optional[Path], typer.Option("-o", "--output", help="Folder of the results.", metavar="RUN_DIR")] = None,  # noqa: UP045
    settings: Annotated[Optional[list[str]], typer.Option("--set", help="Change a key: section.key=value.")] = None,  # noqa: UP045
    resume: Annotated[bool, typer.Option("--resume", help="Continue from RUN_DIR/checkpoint.h5.")] = False,
    debug: Debug = False,
):
    """Train a potential. Start with mpiexec -n RANKS to use several processes.

    Exit status: 0 done, 75 stopped by SIGUSR1, SIGTERM or the end of the batch job (continue with --resume), 2 bad input, 1 anything else.
    """
    from mpnnp.config import read_config
    from mpnnp.parallel import on_root

    comm, log = start()
    record = on_root(comm, read_config, config, settings or [])
    from mpnnp.train import train as run

    run(record, output or record.run.directory, comm, log, resume)
    log.close()
