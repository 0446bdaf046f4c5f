"""Commands that simulate: md, and box, which makes a start."""

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mpnnp.commands.common import (
    SEVERAL_POTENTIALS,
    Debug,
    MaxExtrapolations,
    Overwrite,
    PotentialUnits,
    Replace,
    Units,
    check_positive,
    examples,
    on_first_rank,
    start,
    write_result,
)
from mpnnp.commands.targets import check_targets
from mpnnp.progress import counted

app = typer.Typer()


@app.command(
    epilog=examples(
        "mpnnp md runs/train/best.h5 start.xyz -o nvt --temperature 300 --time 10",
        "mpnnp md runs/train/best.h5 nvt/final.xyz -o npt --ensemble npt --pressure 1",
        "mpnnp md runs/train/best.h5 start.xyz -o nvt --resume",
    )
)
def md(
    potential: Annotated[str, SEVERAL_POTENTIALS],
    structure: Annotated[
        Path,
        typer.Argument(help="Structure to start from (its last frame), any format.", metavar="START"),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.", metavar="DIR")],
    ensemble: Annotated[Literal["nve", "nvt", "npt"], typer.Option(help="What is kept constant.")] = "nvt",
    thermostat: Annotated[
        Literal["berendsen", "langevin", "bussi"], typer.Option(help="Of nvt; npt has that of its barostat.")
    ] = "berendsen",
    barostat: Annotated[
        Literal["berendsen", "mtk"],
        typer.Option(help="Of npt; mtk: Martyna-Tobias-Klein with Nose-Hoover chains."),
    ] = "berendsen",
    temperature: Annotated[float, typer.Option(help="K.")] = 300.0,
    pressure: Annotated[float, typer.Option(help="bar.")] = 1.0,
    timestep: Annotated[float, typer.Option(help="fs.")] = 0.5,
    time: Annotated[float, typer.Option(help="ps.")] = 100.0,
    tau_t: Annotated[float, typer.Option(help="Time constant of the thermostat, fs.")] = 50.0,
    tau_p: Annotated[float, typer.Option(help="Time constant of the barostat, fs.")] = 500.0,
    compressibility: Annotated[float, typer.Option(help="1/bar, for Berendsen's barostat.")] = 4.57e-5,
    seed: Annotated[int, typer.Option(min=0, help="Of the first velocities and of random thermostats.")] = 0,
    log_every: Annotated[float, typer.Option(help="fs between rows of md.csv.")] = 10.0,
    save_every: Annotated[float, typer.Option(help="fs between frames of trajectory.xyz.")] = 50.0,
    max_extrapolations: MaxExtrapolations = None,
    max_force_std: Annotated[
        Optional[float],
        typer.Option(
            help="Stop when the force on an atom has a larger standard deviation, eV/Angstrom: for an "
            "ensemble, or a checkpoint of the Kalman filter."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the simulation in DIR ended.")
    ] = False,
    units: Units = None,
    potential_units: PotentialUnits = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
):
    """Molecular dynamics. The defaults are those of J. Chem. Phys. 155, 204108 (2021).
    With mpiexec the ranks share out the atoms.
    """
    from mpnnp.errors import Interrupted
    from mpnnp.parallel import on_root
    from mpnnp.simulation.calculator import Calculator, load_potentials
    from mpnnp.simulation.dynamics import FAILED, FINISHED, STOPPED, UNCERTAIN, run
    from mpnnp.simulation.integrators import Protocol
    from mpnnp.simulation.trajectories import read_start
    from mpnnp.simulation.warm_up import compile_kernels

    comm, log = start()
    check_positive(max_force_std=max_force_std)
    protocol = Protocol(
        ensemble=ensemble,
        thermostat=thermostat,
        barostat=barostat,
        temperature=temperature,
        pressure=pressure,
        timestep=timestep,
        time=time,
        tau_t=tau_t,
        tau_p=tau_p,
        compressibility=compressibility,
        seed=seed,
        log_every=log_every,
        save_every=save_every,
    )
    atoms = on_root(comm, read_start, structure, units, log)
    members = on_root(comm, load_potentials, potential, potential_units)
    trained = on_root(comm, training_range, potential)
    compile_kernels(comm, log)
    with_std = max_force_std is not None
    calculator = Calculator(
        # the path itself where the posterior beside the weights is asked for
        members if len(members) > 1 else Path(potential) if with_std else members[0],
        max_extrapolations=max_extrapolations,
        uncertainty=with_std,
        comm=comm,
        units=potential_units,
    )
    if with_std and len(members) == 1 and not calculator.calibration.n_structure:
        log.warn(f"{potential}: its standard deviations are not calibrated (mpnnp calibrate does it)")
    warn_outside(atoms, trained, log)
    outcome = run(protocol, atoms, calculator, output, comm, log, resume, trained, overwrite, max_force_std)
    if outcome.status != FINISHED:
        raise typer.Exit({FAILED: 1, UNCERTAIN: 1, STOPPED: Interrupted.exit_status}[outcome.status])


def training_range(names):
    """TrainingRange of the first of the potentials with commas between them, None where it is not known."""
    from mpnnp.data.ranges import TrainingRange
    from mpnnp.training.checkpoint import is_checkpoint, read_summary

    first = names.split(",")[0]
    found = TrainingRange.from_numbers(read_summary(first).progress) if is_checkpoint(first) else None
    return found if found and found.numbers() else None


def warn_outside(atoms, trained, log):
    """Say that a simulation starts at a density that the potential was not trained on."""
    if trained is None or not atoms.pbc.all():
        return
    from mpnnp.units import DENSITY

    density = atoms.get_masses().sum() / atoms.cell.volume * DENSITY
    if trained.lacks(density):
        log.warn(
            f"the start has {density:.4g} g/cm^3, the potential was trained on "
            f"{trained.density_low:.4g} to {trained.density_high:.4g} g/cm^3"
        )


@app.command(
    epilog=examples(
        "mpnnp box water -o start.xyz",
        "mpnnp box water --molecules 216 --density 0.95 --seed 3 -o start.xyz",
    )
)
@on_first_rank
def box(
    substance: Annotated[Literal["water"], typer.Argument(help="What the molecules are.", metavar="water")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File to write, any format of ASE.", metavar="FILE")
    ],
    molecules: Annotated[int, typer.Option(help="Number of molecules.")] = 64,
    density: Annotated[float, typer.Option(help="g/cm^3.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the random arrangement.")] = 0,
    overwrite: Replace = False,
    debug: Debug = False,
):
    """Make a cubic box of molecules to start a simulation from."""
    from ase.io import write

    from mpnnp.simulation.boxes import check_format, water_box

    check_format(output)
    check_targets(output, overwrite=overwrite)
    _, log = start()
    atoms = water_box(molecules, density, seed)
    write_result(output, lambda path: write(path, atoms, parallel=False))
    log(f"{counted(molecules, 'molecule')} in a cube of {atoms.cell.lengths()[0]:.4f} A: {output}")
