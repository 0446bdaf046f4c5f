"""Commands that help when something does not work."""

import typer

from mpnnp.commands.common import Debug, start

app = typer.Typer()


@app.command()
def doctor(debug: Debug = False):
    """Say what this installation stands on (MPI, BLAS, HDF5, caches) and what is wrong with it. Start it as you start a run."""
    from mpnnp.machine import examine

    comm, log = start()
    facts, complaints = examine(comm)
    if comm.rank:
        return
    for name, text in facts.items():
        log(f"{name:22s} {text}")
    for message in complaints:
        log.warn(message)
    log("nothing wrong was found" if not complaints else f"{len(complaints)} things to look at")
