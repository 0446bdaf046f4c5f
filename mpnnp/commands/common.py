"""What every command needs: the communicator, the log, common arguments, written results."""

import functools
import inspect
import math
from pathlib import Path
from typing import Annotated, Optional

import typer

from mpnnp.errors import ConfigError, DataError, MpnnpError

DEBUG = "--debug"
# what can be written: as formats.targets_in_words, which is slow to import
TARGETS = ".h5, .hdf5, .data, .xyz, .extxyz or input.data"

Debug = Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Start anew in a folder that holds a run, which is kept under another name."
    ),
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
PotentialPath = Annotated[
    Path,
    typer.Argument(help="Checkpoint (checkpoint.h5, best.h5) or folder of n2p2 files.", metavar="POTENTIAL"),
]
SEVERAL_POTENTIALS = typer.Argument(
    help="Checkpoint or folder of n2p2 files; several with commas between them are an ensemble.",
    metavar="POTENTIAL",
)
MaxExtrapolations = Annotated[
    Optional[int],
    typer.Option(
        min=0,
        help="Stop when more symmetry functions than this were outside their range of training, over all "
        "steps.",
    ),
]
EnergyKey = Annotated[Optional[str], typer.Option(help="Name of the energy in files read through ASE.")]
ForcesKey = Annotated[Optional[str], typer.Option(help="Name of the forces.")]
Units = Annotated[
    Optional[str],
    typer.Option(
        "--units",
        help='Units of files that do not state theirs: "eV Angstrom", "kcal/mol Angstrom", "Hartree Bohr"',
    ),
]
PotentialUnits = Annotated[
    Optional[str],
    typer.Option(help="Units of a folder of n2p2 files that does not state them; else Hartree and Bohr."),
]
StressKey = Annotated[Optional[str], typer.Option(help="Name of the stress.")]
DATA_OPTIONS = {"energy_key": EnergyKey, "forces_key": ForcesKey, "stress_key": StressKey, "units": Units}

Settings = Annotated[Optional[list[str]], typer.Option("--set", help="Change a key: section.key=value.")]
DataPaths = Annotated[list[str], typer.Argument(help="Data sets of any format.", metavar="DATA...")]
CsvPath = Annotated[
    Optional[Path],
    typer.Option("-o", "--output", help="CSV to write; a picture is put beside it.", metavar="FILE.csv"),
]


def examples(*lines):
    """Text below the options of `--help`."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def start():
    """(communicator, log) of a command."""
    from mpnnp.parallel import world
    from mpnnp.progress import Log
    from mpnnp.signals import Signals

    comm = world()
    start.comm = comm
    for signals in Signals.opened:  # by the program: its ranks tell once
        signals.comm = comm
    return comm, Log(comm)


start.comm = None  # of the command under way: whom an error must tell


def on_first_rank(command):
    """Decorator of a command that has no work for several ranks: rank 0 does it, and all end as it does."""

    @functools.wraps(command)
    def started(**arguments):
        from mpnnp.parallel import on_root

        comm, _ = start()
        on_root(comm, lambda: command(**arguments))

    return started


def reads_data(command):
    """Decorator of a command that reads data sets: adds the DATA_OPTIONS, before --debug. The command gets
    them in its first argument `how`, as keywords of formats.read_sources.
    """

    @functools.wraps(command)
    def with_options(**arguments):
        how = {name: arguments.pop(name) for name in DATA_OPTIONS}
        return command(how, **arguments)

    signature = inspect.signature(command)
    _, *others, debug = signature.parameters.values()
    options = [debug.replace(name=name, default=None, annotation=a) for name, a in DATA_OPTIONS.items()]
    with_options.__signature__ = signature.replace(parameters=[*others, *options, debug])
    with_options.__annotations__ = command.__annotations__ | DATA_OPTIONS
    return with_options


def read_potentials(comm, paths, units=None):
    """Potentials of paths, on every rank; units: of folders of n2p2 files. Collective."""
    from mpnnp.parallel import on_root
    from mpnnp.training.checkpoint import load_potential

    return on_root(comm, lambda: [load_potential(path, units) for path in paths])


def read_inputs(comm, log, paths, data, how, potential_units=None, without=()):
    """(potentials, Dataset), on every rank. Collective.

    how      the DATA_OPTIONS; an input.data is by default in the units of the potential
    without  as of formats.read_sources
    """
    from mpnnp.data.formats import read_sources
    from mpnnp.parallel import on_root

    potentials = read_potentials(comm, paths, potential_units)
    keys = how | ({"assumed_units": potentials[0].units} if potentials else {})
    return potentials, on_root(comm, lambda: read_sources(data, report=log, without=without, **keys))


def check_positive(**options):
    """Raise ConfigError unless the numbers of these options (r_max=6.0 is --r-max) are positive and finite;
    None is no number.
    """
    for name, value in options.items():
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"--{name.replace('_', '-')} {value:g}: must be positive")


def write_configuration(path, text, log):
    """Write a configuration; one that is there, whose settings a user may have changed, is kept under another
    name, unless it reads the same.
    """
    from mpnnp.files import replace_text

    kept = write_result(path, lambda path: replace_text(path, text))
    if kept:
        log(f"{path} was there and read otherwise: that one is kept as {kept}")


def write_result(path, write):
    """write(path), with an error of the file system as a DataError that names the path."""
    from mpnnp.files import reason_of

    try:
        return write(path)
    except MpnnpError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason_of(error)}") from None
