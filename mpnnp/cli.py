"""The command line: the commands of mpnnp/commands as one program, and what happens to their errors."""

import sys
from typing import Annotated

from mpnnp import __version__, environment

environment.prepare()  # before anything imports numpy

import typer  # noqa: E402

from mpnnp.commands import (  # noqa: E402
    analysis,
    data,
    doctor,
    dynamics,
    ensembles,
    lammps,
    learning,
    potentials,
    symmetry_functions,
    training,
)
from mpnnp.commands.common import DEBUG, start  # noqa: E402
from mpnnp.errors import MpnnpError  # noqa: E402

app = typer.Typer(
    help="Neural network potentials trained with the multi-stream extended Kalman filter, on MPI.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
GROUPS = (
    training,
    data,
    potentials,
    symmetry_functions,
    dynamics,
    learning,
    lammps,
    analysis,
    doctor,
    ensembles,
)
for group in GROUPS:  # each has a Typer with its commands
    app.add_typer(group.app)


def version(value: bool):
    if value:
        print(f"mpnnp {__version__}")
        raise typer.Exit()


@app.callback()
def common(
    show: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")
    ] = False,
):
    pass


def main():
    """Entry point of the command `mpnnp`: exit status 0, 2 for bad input, 75 for a run to be resumed,
    1 for anything else.
    """
    from mpnnp.parallel import stop_all

    debug = DEBUG in sys.argv
    try:
        app(standalone_mode=True)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, MpnnpError) and start.comm is None and _rank_hint():
            # an error before MPI was asked for is the same on every rank: the first tells
            sys.exit(error.exit_status)
        sys.exit(stop_all(start.comm, error, debug))


def _rank_hint():
    """True if the launcher says that this is not the first process."""
    import os

    return any(
        os.environ.get(name, "0") != "0"
        for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
    )


if __name__ == "__main__":
    main()
