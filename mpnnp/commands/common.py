"""What every command needs: the communicator, the log, common arguments, written results."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from mpnnp.errors import DataError

DEBUG = "--debug"

Debug = Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")]
PotentialPath = Annotated[Path, typer.Argument(help="Checkpoint (checkpoint.h5, best.h5) or folder of n2p2 files.", metavar="POTENTIAL")]
EnergyKey = Annotated[Optional[str], typer.Option(help="Name of the energy in files read through ASE.")]  # noqa: UP045 typer on 3.10
ForcesKey = Annotated[Optional[str], typer.Option(help="Name of the forces.")]  # noqa: UP045
StressKey = Annotated[Optional[str], typer.Option(help="Name of the stress.")]  # noqa: UP045


def start():
    """(communicator, log) of a command."""
    from mpnnp.parallel import world
    from mpnnp.progress import Log

    comm = world()
    start.comm = comm
    return comm, Log(comm)


start.comm = None  # of the command under way: whom an error must tell


def write_result(path, write):
    """write(path), with an error of the file system as a DataError that names the path."""
    try:
        write(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None
