"""The command that learns actively: learn."""

from pathlib import Path
from typing import Annotated

import typer

from mpnnp.commands.common import Debug, Settings, examples, start

app = typer.Typer()


@app.command(
    epilog=examples(
        "mpiexec -n 2 mpnnp learn jobs/learn/learn.toml -o runs/learn",
        "mpiexec -n 2 mpnnp learn learn.toml -o runs/learn --set label.by=files",
    )
)
def learn(
    config: Annotated[Path, typer.Argument(help="Simulations, labels and training.", metavar="LEARN.toml")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.", metavar="DIR")],
    settings: Settings = None,
    debug: Debug = False,
):
    """Learn actively: simulate, label what is not known, learn it.

    Simulations go on until the potential does not know; the most telling frames are labelled. Started again
    it goes on where it stood. Exit status: 0 done, 75 labels are wanted (DIR/to-label.extxyz) or it was
    stopped by Ctrl-C, SIGTERM or SIGUSR1, 2 bad input, 1 anything else.
    """
    from mpnnp.learning.rounds import learn as run
    from mpnnp.learning.settings import read_learning
    from mpnnp.parallel import on_root

    comm, log = start()
    learning, record = on_root(comm, read_learning, config, settings or [])
    run(learning, record, output, comm, log)
    log.close()
