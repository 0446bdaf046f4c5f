"""Commands about the configuration file: init, schema."""

import shlex
from pathlib import Path
from typing import Annotated, Optional

import typer

from mpnnp.commands.common import (
    DataPaths,
    Debug,
    examples,
    on_first_rank,
    reads_data,
    start,
    write_configuration,
    write_result,
)
from mpnnp.commands.targets import check_targets
from mpnnp.errors import ConfigError

app = typer.Typer()


@app.command(
    epilog=examples(
        "mpnnp init data.extxyz",
        "mpnnp init run-1/OUTCAR run-2/OUTCAR -o copper.toml",
        'mpnnp init other.xyz --units "kcal/mol Angstrom" -o molecule.toml',
    )
)
@on_first_rank
@reads_data
def init(
    how,
    data: DataPaths,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Configuration to write.", metavar="FILE.toml")
    ] = Path("train.toml"),
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Write where a file is there, which is kept under another name."),
    ] = False,
    debug: Debug = False,
):
    """Write a configuration that fits the data, with comments.

    Elements, sizes and labels decide the symmetry functions, the nets, which labels an update takes and the
    length of the run; the file says why.
    """
    from mpnnp.analysis.proposal import propose, text_of
    from mpnnp.data.formats import read_sources
    from mpnnp.data.inspection import findings
    from mpnnp.files import seen_from
    from mpnnp.n2p2.translate import is_input_nn
    from mpnnp.progress import printable

    _, log = start()
    if output.suffix != ".toml":
        raise ConfigError(f"init: the file to write must be named FILE.toml; found {output}")
    check_targets(output, data=data, overwrite=overwrite)
    if settings := [name for name in data if is_input_nn(name)]:
        raise ConfigError(f"{settings[0]}: has settings, no data: mpnnp translate {settings[0]} -o {output}")
    files = [seen_from(output.parent, name) for name in data]
    if other := [name for name in (*files, str(output)) if printable(name) != name]:
        raise ConfigError(
            f"init: {printable(other[0])}: its name is not UTF-8, so that no configuration can have it: "
            "rename it"
        )
    dataset = read_sources(data, report=log, strict=True, **how).without_isolated_atoms()
    choices = propose(dataset, files, **how)
    found = findings(dataset)
    for finding in found:
        log.warn(str(finding))
    write_configuration(output, text_of(choices, dataset, str(output), found), log)
    log(f"written to {output}; next: mpiexec -n 2 mpnnp train {shlex.quote(str(output))}")


@app.command(epilog=examples("mpnnp schema", "mpnnp schema -o mpnnp.schema.json"))
@on_first_rank
def schema(
    output: Annotated[
        Optional[Path], typer.Option("-o", "--output", help="File to write; shown if not given.")
    ] = None,
    debug: Debug = False,
):
    """Show the JSON schema of the configuration, for editors."""
    from mpnnp.config.schema import FILE
    from mpnnp.files import write_text

    _, log = start()
    check_targets(output)
    text = FILE.read_text(encoding="utf-8")
    if output is None:
        print(text, end="")
        return
    write_result(output, lambda path: write_text(path, text))
    log(f"written to {output}")
