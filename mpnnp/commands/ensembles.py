"""Commands about several runs of one kind: ensemble, compare, fisher."""

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mpnnp.commands.common import (
    Debug,
    Overwrite,
    Settings,
    examples,
    on_first_rank,
    reads_data,
    start,
    write_result,
)
from mpnnp.commands.targets import check_targets
from mpnnp.errors import ConfigError, TrainingError
from mpnnp.progress import counted

app = typer.Typer()


@app.command(
    epilog=examples(
        "mpnnp ensemble train.toml --seeds 1-10 -o runs/e",
        "mpiexec -n 8 mpnnp ensemble train.toml --seeds 1-8 --side-by-side 4 -o runs/e",
    )
)
def ensemble(
    config: Annotated[Path, typer.Argument(help="Configuration of a run.", metavar="CONFIG.toml")],
    seeds: Annotated[str, typer.Option(help="Seeds of the members: 1-10, or 1,4,7-9.")],
    over: Annotated[
        Literal["split", "weights", "both"],
        typer.Option(help="What a seed decides; both: and the batches."),
    ] = "both",
    output: Annotated[
        Optional[Path], typer.Option("-o", "--output", help="Folder of the members seed-N.", metavar="DIR")
    ] = None,
    settings: Settings = None,
    side_by_side: Annotated[
        int, typer.Option(help="Members trained at once, each on its share of the ranks.")
    ] = 1,
    overwrite: Overwrite = False,
    debug: Debug = False,
):
    """Train the same potential with several seeds.

    Started again it skips finished members and resumes begun ones.
    """
    from mpnnp.config import read_config
    from mpnnp.parallel import on_root
    from mpnnp.training.ensemble import run_ensemble, seeds_of

    comm, log = start()
    record = on_root(comm, read_config, config, settings or [])
    numbers = on_root(comm, seeds_of, seeds)
    outcome = run_ensemble(
        record, numbers, over, output or Path(record.run.directory), comm, log, side_by_side, overwrite
    )
    log("\n".join(f"seed {seed}: {text}" for seed, text in outcome.items()))
    if failed := [str(seed) for seed, text in outcome.items() if text not in ("trained", "was finished")]:
        raise TrainingError(
            f"not trained to the end: {len(failed)} of {counted(len(outcome), 'member')}, "
            f"seeds {', '.join(failed)}"
        )


@app.command(
    epilog=examples(
        "mpnnp compare runs/ekf runs/adam -o compare.png",
        "mpnnp compare --group EKF=runs/a,runs/b --group Adam=runs/c --json compare.json",
    )
)
@on_first_rank
def compare(
    runs: Annotated[
        Optional[list[str]],
        typer.Argument(help="Folders of runs or ensembles, or patterns.", metavar="RUN..."),
    ] = None,
    group: Annotated[Optional[list[str]], typer.Option(help="A group by name: NAME=RUN,RUN,...")] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Picture of the learning curves.", metavar="PNG")
    ] = Path("compare.png"),
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the numbers to this file.")] = None,
    debug: Debug = False,
):
    """Learning curves of groups of runs against updates and time.

    The members of an ensemble make a group.
    """
    from mpnnp.analysis import comparison
    from mpnnp.training.run_groups import find_groups

    _, log = start()
    check_targets(json, pictures=[output])
    groups = [
        comparison.Group.read(name, folders) for name, folders in find_groups(runs or [], group or []).items()
    ]
    log(comparison.table(groups))
    write_result(output, lambda path: comparison.draw(path, groups))
    if json:
        write_result(json, lambda path: comparison.write_json(path, groups))
    log(f"picture in {output}")


@app.command(
    epilog=examples(
        "mpnnp fisher runs/a/checkpoint.h5 --data data.h5 --plot fisher.png",
        'mpiexec -n 8 mpnnp fisher "runs/e/seed-*/checkpoint.h5" --data data.h5',
    )
)
@reads_data
def fisher(
    how,
    checkpoints: Annotated[
        Optional[list[str]],
        typer.Argument(help="checkpoint.h5, best.h5, or patterns; members of an ensemble make a group."),
    ] = None,
    data: Annotated[
        Optional[list[str]], typer.Option(help="Labelled structures over which is averaged; again for more.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="HDF5 to write.", metavar="fisher.h5")
    ] = Path("fisher.h5"),
    group: Annotated[
        Optional[list[str]], typer.Option(help="NAME=CHECKPOINT,...: a group of models by name.")
    ] = None,
    plot: Annotated[Optional[Path], typer.Option(help="Picture to draw.", metavar="PNG")] = None,
    batches: Annotated[
        int, typer.Option(min=1, help="Batches of each kind of label; of single labels at most all.")
    ] = 4096,
    single: Annotated[
        bool, typer.Option("--single", help="Single labels instead of batches of the run's schedule.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the batches.")] = 1,
    debug: Debug = False,
):
    """Fisher information of trained models.

    Spectra of groups, distances, the filter's covariance.
    """
    from mpnnp.analysis import fisher_report
    from mpnnp.config import make_config
    from mpnnp.parallel import on_root
    from mpnnp.training.run_groups import find_groups

    if not data:
        raise ConfigError("fisher: give --data, the labelled structures over which is averaged")
    comm, log = start()
    on_root(comm, lambda: check_targets(output, pictures=[plot], data=data, potentials=checkpoints or []))
    said = {key: value for key, value in how.items() if value is not None}
    section = on_root(comm, make_config, {"data": {"files": data, **said}}, "fisher", Path.cwd()).data
    models, folder = [], output.resolve().parent
    for name, paths in on_root(comm, find_groups, checkpoints or [], group or []).items():
        for path in paths:
            log(f"{name}: {path}")
            model = fisher_report.analyse(path, name, section, folder, comm, log, batches, single, seed)
            models.append(model)
    analysis = fisher_report.Analysis(models)
    if comm.rank == 0:
        log(fisher_report.table(analysis))
    on_root(comm, write_result, output, lambda path: fisher_report.write(path, analysis))
    if plot:
        on_root(comm, write_result, plot, lambda path: fisher_report.draw(path, analysis))
