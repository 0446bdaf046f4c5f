"""Commands about trained potentials: evaluate, calibrate, export, label, disagree, check."""

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mpnnp.commands.common import (
    TARGETS,
    CsvPath,
    DataPaths,
    Debug,
    PotentialPath,
    PotentialUnits,
    Replace,
    check_positive,
    examples,
    on_first_rank,
    read_inputs,
    reads_data,
    start,
    write_result,
)
from mpnnp.commands.targets import check_folder, check_holds, check_targets, write_data
from mpnnp.errors import CheckFailed, ConfigError
from mpnnp.progress import counted

app = typer.Typer()


@app.command(
    epilog=examples(
        "mpiexec -n 2 mpnnp evaluate runs/train/best.h5 test.extxyz",
        "mpnnp evaluate potential test.extxyz --json accuracy.json --predictions all.npz",
    )
)
@reads_data
def evaluate(
    how,
    potential: PotentialPath,
    data: Annotated[list[str], typer.Argument(help="Data sets of any format.", metavar="DATA...")],
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the accuracies to this file.")] = None,
    predictions: Annotated[
        Optional[Path],
        typer.Option(
            help="Write energy, forces, stress, their labels as energy_label, ... (or NaN) and start; with "
            "--sigma also energy_std, forces_std.",
            metavar="FILE.npz",
        ),
    ] = None,
    sigma: Annotated[
        bool,
        typer.Option(
            "--sigma",
            help="Standard deviations by the posterior of the weights: for checkpoints that have it.",
        ),
    ] = False,
    reliability: Annotated[
        Optional[Path],
        typer.Option(
            help="Draw here how errors and standard deviations agree (with --sigma).", metavar="FILE.png"
        ),
    ] = None,
    potential_units: PotentialUnits = None,
    debug: Debug = False,
):
    """Predict energies and forces, and compare with labels.

    Structures may be without labels.
    """
    from mpnnp.analysis.reliability import draw, lines_of, reliability_of
    from mpnnp.model.evaluation import evaluate as run
    from mpnnp.model.evaluation import judged
    from mpnnp.parallel import on_root
    from mpnnp.training.uncertainty import make_sigma, read_uncertainty

    comm, log = start()
    if reliability and not sigma:
        raise ConfigError("--reliability: needs --sigma")
    on_root(
        comm,
        lambda: check_targets(json, predictions, pictures=[reliability], data=data, potentials=[potential]),
    )
    if predictions and predictions.suffix != ".npz":
        raise ConfigError(f"--predictions {predictions}: arrays of NumPy are written: give NAME.npz")
    (model,), dataset = read_inputs(comm, log, [potential], data, how, potential_units)
    known = on_root(comm, read_uncertainty, potential) if sigma else None
    result = run(model, dataset, comm, log, None if known is None else make_sigma(model, known))
    for name, value in result.numbers().items():
        log(
            f"{name:32s} "
            f"{'no labels' if value is None else value if isinstance(value, int) else f'{value:.6g}'}"
        )
    found = {}
    if known is not None and comm.rank == 0:
        if not known.calibration.n_structure:
            log.warn(
                f"{potential}: not calibrated (mpnnp calibrate does it): standard deviations are what P says"
            )
        found = reliability_of(result, judged(dataset))
        for line in lines_of(found):
            log(line)

    def write_all():
        for path, write in ((json, result.write_json), (predictions, result.write_predictions)):
            if path:
                write_result(path, write)
        if reliability and found:
            write_result(reliability, lambda path: draw(path, found))

    on_root(comm, write_all)


@app.command(epilog=examples("mpiexec -n 2 mpnnp calibrate runs/train/best.h5 kept-aside.extxyz"))
@reads_data
def calibrate(
    how,
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="checkpoint.h5 or best.h5 of a run with the Kalman filter.", metavar="CHECKPOINT"
        ),
    ],
    data: DataPaths,
    debug: Debug = False,
):
    """Calibrate the standard deviations of a potential by labels.

    They should neither have been learned nor have chosen the potential. The numbers are stored in CHECKPOINT;
    a run does this at its end with its validation structures.
    """
    from mpnnp.training.uncertainty import calibrate_checkpoint

    comm, log = start()
    (model,), dataset = read_inputs(comm, log, [checkpoint], data, how)
    calibrate_checkpoint(checkpoint, model, dataset, comm, log)


@app.command(
    epilog=examples(
        "mpnnp export runs/train/best.h5 -o potential --structure start.extxyz",
        "mpnnp export runs/train/best.h5 -o cp2k --cp2k --structure input.data",
    )
)
@on_first_rank
@reads_data
def export(
    how,
    checkpoint: PotentialPath,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Folder for input.nn, scaling.data, weights.NNN.data.", metavar="DIR"
        ),
    ],
    cp2k: Annotated[
        bool,
        typer.Option(
            "--cp2k",
            help="For CP2K: cp2k.inp, and the normalisation in the weights, as CP2K does not know it.",
        ),
    ] = False,
    lammps: Annotated[
        Optional[Literal["mpnnp", "external", "hdnnp"]],
        typer.Option(
            "--lammps",
            help="What lammps.in uses: mpnnp (the default; pair_style mpnnp), external (for mpnnp lammps, "
            "without a compiler), hdnnp (a LAMMPS built with n2p2).",
        ),
    ] = None,
    structure: Annotated[
        Optional[Path],
        typer.Option(help="Data set whose first structure lammps.in or cp2k.inp starts from."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Write where files of another program, or an input edited by hand, lie: they are kept under "
            "other names (NAME.old-1).",
        ),
    ] = False,
    potential_units: PotentialUnits = None,
    debug: Debug = False,
):
    """Write a potential for LAMMPS, CP2K and n2p2.

    Beside the n2p2 files lies a lammps.in, or with --cp2k a cp2k.inp, that runs them. One that was edited
    stays.
    """
    from mpnnp.data.formats import read_sources
    from mpnnp.data.packed import make_atoms
    from mpnnp.n2p2 import engines
    from mpnnp.n2p2.export import is_normalized, keep_foreign, weights_name, write_potential
    from mpnnp.training.checkpoint import load_potential

    _, log = start()
    if cp2k and lammps:
        raise ConfigError("export: one of --cp2k and --lammps, as the files differ")
    kind = lammps or "mpnnp"
    model = load_potential(checkpoint, potential_units)
    if not cp2k:
        engines.check_kind(model, kind)  # before anything is written
    check_folder(output)
    if output.is_dir():
        names = ["input.nn", "scaling.data", *map(weights_name, model.elements)]
        inputs = ["cp2k.inp", "structure.coord"] if cp2k else ["lammps.in", "structure.lammps"]
        read = [] if structure is None else [structure]
        check_targets(*(output / n for n in [*names, *inputs]), data=read, potentials=[checkpoint])
    first = None
    if structure is not None:
        found = read_sources([str(structure)], assumed_units=model.units, report=log, **how)
        make_atoms(found.take([0]), model.elements)  # refuses elements that the potential does not know
        first = found[0]
        if len(found) > 1:
            log(f"of the {len(found)} structures of {structure} the first one: {first.name}")
    notes = []

    def write_input(folder):
        if cp2k:
            notes.extend(engines.write_cp2k(folder, model, first, overwrite))
        else:
            notes.extend(engines.write_lammps(folder, model, first, kind, overwrite))

    file = "cp2k.inp" if cp2k else "lammps.in"
    keep_foreign(output, [file] if first is None or cp2k else [file, "structure.lammps"], overwrite)
    stays = engines.is_edited(output / file) and not overwrite
    write_result(output, lambda folder: write_potential(model, folder, cp2k=cp2k, overwrite=overwrite))
    write_result(output, write_input)
    log(f"n2p2 files{'' if stays else f' and {file}'} written to {output}")
    if not cp2k:
        command, needs = engines.STARTS[kind]
        log(f"start it in {output}: {command}  (needs {needs})")
    for note in notes:
        log.warn(note)
    if model.baseline:
        adds = "mpnnp lammps" if kind == "external" else "LAMMPS, by hybrid/overlay"
        log(f"its baseline ({model.baseline}) is added by {adds}; programs of n2p2 compute the nets alone")
    if first is None:
        log(f"{file} names a structure file that is not there yet: --structure DATA writes one")
    if is_normalized(model) and not cp2k:
        log("they contain a normalisation, which CP2K does not know: for CP2K export with --cp2k")


@app.command(
    epilog=examples(
        "mpnnp label runs/train/best.h5 trajectory.xyz -o labelled.h5",
        "mpnnp label ase:emt structures.xyz -o labelled.h5",
    )
)
@reads_data
def label(
    how,
    potential: Annotated[
        str,
        typer.Argument(
            help="Checkpoint or folder of n2p2 files; several with commas; or ase:NAME[:key=value,...].",
            metavar="POTENTIAL",
        ),
    ],
    structures: Annotated[
        list[str],
        typer.Argument(
            help="Structures of any format; their own labels are replaced.", metavar="STRUCTURES..."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help=f"Data set to write: {TARGETS}.", metavar="DATA"),
    ],
    potential_units: PotentialUnits = None,
    overwrite: Replace = False,
    debug: Debug = False,
):
    """Label structures with a potential or a calculator of ASE.

    The latter as ase:emt or ase:tblite.ase.TBLite:method=GFN1-xTB. What is labelled is kept beside DATA every
    minute and when a signal comes (status 75): the same command goes on there. On several ranks a calculator
    that works in a folder gets one for each of them, rank-0, rank-1, ...
    """
    from mpnnp.data.formats import check_target, read_sources
    from mpnnp.parallel import agree, on_root
    from mpnnp.simulation.labelling import label as run
    from mpnnp.simulation.labelling import labels_kept, make_labeller, part_of, parts_beside, remove_parts

    check_target(output, "label")
    comm, log = start()
    on_root(comm, lambda: check_targets(output, data=structures, potentials=[potential], overwrite=overwrite))
    calculator = agree(comm, make_labeller, potential, potential_units, comm)
    part = part_of(output, potential, calculator)

    def read_structures():
        own = [output, part, *parts_beside(part)]
        data = read_sources(structures, report=log, without=own, **how)
        check_holds(output, data, labels=False)
        return data

    data = on_root(comm, read_structures)
    labelled = run(data, calculator, comm, log, part)

    def write():
        with labels_kept(output, part):
            write_data(output, labelled, overwrite, log)

    on_root(comm, write)
    on_root(comm, remove_parts, part, labelled)
    log(f"{counted(len(data), 'structure')} labelled by {potential}: {output}")


@app.command(
    epilog=examples(
        "mpnnp disagree runs/a/best.h5 runs/b/best.h5 data.h5 -o where.csv",
    )
)
@reads_data
def disagree(
    how,
    a: Annotated[Path, typer.Argument(help="Potential.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Another potential.", metavar="B")],
    data: DataPaths,
    output: CsvPath = None,
    potential_units: PotentialUnits = None,
    debug: Debug = False,
):
    """Compare two potentials: where do they differ?

    Energies and forces over structures, with or without labels.
    """
    from mpnnp.analysis.disagreement import disagreement_of, draw, lines_of, write_csv
    from mpnnp.parallel import agree, on_root

    comm, log = start()
    on_root(comm, lambda: check_targets(table=output, data=data, potentials=[a, b]))
    potentials, dataset = read_inputs(comm, log, [a, b], data, how, potential_units)
    dataset = agree(comm, dataset.without_isolated_atoms)
    found = disagreement_of(potentials, dataset, comm, log)
    if comm.rank == 0:
        for line in lines_of(found, dataset, [a, b]):
            log(line)
    if output:
        on_root(comm, write_result, output, lambda path: write_csv(path, found, dataset))
        on_root(comm, write_result, output.with_suffix(".png"), lambda path: draw(path, found, dataset))
        log(f"written to {output} and {output.with_suffix('.png')}")


@app.command(
    epilog=examples(
        "mpnnp check runs/train/best.h5 data.h5",
        "mpnnp check runs/train/best.h5 data.h5 --rows --structures 3",
    )
)
@reads_data
def check(
    how,
    potential: PotentialPath,
    data: DataPaths,
    structures: Annotated[int, typer.Option(min=1, help="Structures that are checked, evenly chosen.")] = 10,
    components: Annotated[int, typer.Option(min=1, help="Force components in each structure.")] = 20,
    rows: Annotated[bool, typer.Option("--rows", help="Check the derivatives by the weights too.")] = False,
    tolerance: Annotated[
        float, typer.Option(help="Largest deviation allowed, relative to the largest value.")
    ] = 1e-5,
    potential_units: PotentialUnits = None,
    debug: Debug = False,
):
    """Check forces and stress against finite differences.

    With --rows the derivatives by the weights too. Exit status 1 if they deviate.
    """
    from mpnnp.analysis.derivative_check import check_derivatives
    from mpnnp.analysis.selection import at_interval

    check_positive(tolerance=tolerance)
    comm, log = start()
    (model,), dataset = read_inputs(comm, log, [potential], data, how, potential_units)
    dataset = dataset.take(at_interval(min(structures, len(dataset)), len(dataset)))
    found = check_derivatives(model, dataset, comm, components, with_rows=rows)
    for deviations in found:
        log(deviations.line())
    if wrong := [d.name for d in found if not d.relative <= tolerance]:
        error = CheckFailed(
            f"check: {', '.join(wrong)} deviate by more than {tolerance:g} of the largest value"
        )
        error.told_by = 0  # every rank raises it: rank 0 tells
        raise error
    log(
        f"all derivatives agree to {tolerance:g} of the largest value, over "
        f"{counted(len(dataset), 'structure')}"
    )
