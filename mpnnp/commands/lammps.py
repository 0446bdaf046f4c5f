"""The command that brings potentials into LAMMPS."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from mpnnp.commands.common import (
    SEVERAL_POTENTIALS,
    Debug,
    MaxExtrapolations,
    PotentialUnits,
    examples,
    start,
)
from mpnnp.errors import ConfigError

app = typer.Typer()


@app.command(
    epilog=examples(
        "mpnnp lammps runs/train/best.h5 -in lammps.in",
        "mpiexec -n 8 mpnnp lammps potential -in lammps.in -- -var T 300",
        "mpnnp lammps --build",
    )
)
def lammps(
    potential: Annotated[Optional[str], SEVERAL_POTENTIALS] = None,
    arguments: Annotated[
        Optional[list[str]],
        typer.Argument(help="After --, options for LAMMPS: -- -var T 300 -log none.", metavar="-- OPTIONS"),
    ] = None,
    script: Annotated[Optional[Path], typer.Option("-in", help="Input of LAMMPS.", metavar="FILE")] = None,
    elements: Annotated[
        Optional[str],
        typer.Option(
            help="Element of each atom type, 'H O H', or NULL to leave one out; default: the potential's."
        ),
    ] = None,
    every: Annotated[int, typer.Option(help="Steps between reports of extrapolations.", min=1)] = 1000,
    max_extrapolations: MaxExtrapolations = None,
    potential_units: PotentialUnits = None,
    build: Annotated[
        bool,
        typer.Option("--build", help="Only compile pair_style mpnnp for the LAMMPS of this environment."),
    ] = False,
    debug: Debug = False,
):
    """Run LAMMPS with a potential, without a compiler.

    The potential acts by LAMMPS's `fix external`, also with mpiexec. The input must have the lines that
    `mpnnp export --lammps external` writes. With a C++ compiler, lmp and pair_style mpnnp do the same.
    """
    comm, log = start()
    if build:
        from mpnnp.parallel import on_root
        from mpnnp.simulation.lammps_build import build as compile_plugin

        path = on_root(comm, lambda: compile_plugin(again=True))
        log(f"pair_style mpnnp compiled: {path}")
        log("lmp of this environment loads it by itself; elsewhere, with the same LAMMPS: plugin load PATH")
        return
    if potential is None or script is None:
        raise ConfigError(
            "lammps: give a potential and an input: mpnnp lammps POTENTIAL -in lammps.in (or --build)"
        )
    from mpnnp.parallel import on_root
    from mpnnp.simulation.calculator import load_potentials
    from mpnnp.simulation.lammps_external import run
    from mpnnp.simulation.warm_up import compile_kernels

    members = on_root(comm, load_potentials, potential, potential_units)
    compile_kernels(comm, log)
    symbols = elements.split() if elements else None
    run(members, script, arguments or [], comm, log, symbols, every, max_extrapolations)
