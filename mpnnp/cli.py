"""The command line: the commands of mpnnp/commands as one program, and what happens to their errors."""

import sys
from typing import Annotated

from mpnnp import __version__, environment

environment.prepare()  # before anything imports numpy

import typer  # noqa: E402

from mpnnp.commands import (  # noqa: E402
    analysis,
    configuration,
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
from mpnnp.errors import ConfigError  # noqa: E402

FAMILIES = {  # in the order of the help
    "Train": ("init", "train", "ensemble", "learn", "report", "compare", "fisher"),
    "Data": ("info", "select", "label", "prepare", "prune"),
    "Simulate": ("box", "md", "lammps"),
    "Analyse": ("evaluate", "calibrate", "check", "disagree", "sensitivity", "analyze"),
    "Convert": ("convert", "translate", "export"),
    "This installation": ("doctor", "schema"),
}
EXIT_STATUS = """\b
Exit status:
  0    done
  1    something went wrong: numbers, a simulation that left its range, a check
  2    bad input: arguments, configuration, data, checkpoint
  75   stopped by a signal, or the end of the batch job; --resume goes on
  130  ended by Ctrl-C where there was nothing to keep

\b
mpnnp COMMAND -h shows examples. Any command may be started by mpiexec -n RANKS.
"""


class Families(typer.core.TyperGroup):
    """The program: its help shows the commands in families."""

    def format_commands(self, ctx, formatter):
        """Write the sections of the help, each with the first sentence of its commands."""
        width = formatter.width - 6 - max(map(len, self.commands))
        for title, names in FAMILIES.items():
            rows = [(n, self.commands[n].get_short_help_str(width)) for n in names if n in self.commands]
            with formatter.section(title):
                formatter.write_dl(rows)


app = typer.Typer(
    cls=Families,
    help="Neural network potentials trained with the multi-stream extended Kalman filter, on MPI.",
    epilog=EXIT_STATUS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
GROUPS = (
    configuration,
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


def check_arguments(words):
    """Raise ConfigError if one is empty, which as a path would be the working directory."""
    if "" in words:
        before = " ".join(words[1 : words.index("")])
        raise ConfigError(
            f"the argument behind '{before}' is empty: a variable of the shell that is not set?"
        )


def main():
    """Entry point of the command `mpnnp`; EXIT_STATUS says what it ends with."""
    from mpnnp.parallel import launched, of_all_ranks, stop_all
    from mpnnp.signals import Signals, ignore

    debug = DEBUG in sys.argv
    Signals.of_program = True
    with Signals(None):
        try:
            check_arguments(sys.argv)
            status = app(standalone_mode=False)
        except Exception as error:
            comm = start.comm
            if comm is None:  # before MPI was asked for: the same on every rank
                comm, error = launched(), of_all_ranks(error)
            status = stop_all(comm, error, debug)
    ignore()
    sys.exit(status)


if __name__ == "__main__":
    main()
