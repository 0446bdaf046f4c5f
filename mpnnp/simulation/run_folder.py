"""The folder of a simulation: who may write into it, whether it can be gone on with, and its frames. It holds
protocol.json    what was asked for
md.csv           a row every `log_every` fs
trajectory.xyz   a frame every `save_every` fs
restart.h5       all that the next step depends on; with it a simulation goes on as if it had never been
                 interrupted
final.xyz        the last frame, with velocities, atoms that are held fast, and masses other than those
                 of the elements; last-good.xyz instead if the system exploded
status.json      how it ended: status "finished"; "stopped" by a signal; "failed", the system exploded or
                 extrapolated too often; "uncertain", the standard deviation of a force was too large, and
                 uncertain.xyz is that frame, worth a label; with reason, steps and time
"""

import json
from dataclasses import asdict, fields

import numpy as np
from ase.constraints import FixAtoms, FixCartesian
from ase.data import atomic_masses
from ase.io.extxyz import write_extxyz

from mpnnp.errors import DataError
from mpnnp.files import write_text
from mpnnp.run_lock import claim
from mpnnp.simulation.integrators import Protocol
from mpnnp.simulation.restart import read_restart

COLUMNS = (
    "time_ps",
    "energy_total_ev",
    "energy_potential_ev",
    "temperature_k",
    "pressure_bar",
    "density_g_cm3",
    "extrapolations",
)
PROTOCOL, RESTART = "protocol.json", "restart.h5"
NEW_FILES = "md.csv", "trajectory.xyz"  # that grow from the first step on


def claim_folder(directory, resume, overwrite, log):
    """Lock of the folder. Raises DataError if there is nothing to resume."""
    if resume and not (directory / PROTOCOL).is_file():
        raise DataError(f"{directory}: holds no simulation that could be resumed ({PROTOCOL})")
    return claim(directory, "a simulation", resume, overwrite, log)


def open_folder(directory, protocol, resume, trained, log, atoms, potential):
    """What restart.h5 holds (resume), or None. Raises DataError; CheckpointError for other atoms or another
    potential (its digest) than before.
    """
    record = directory / PROTOCOL
    if not resume:
        known = {"trained_on": trained.numbers()} if trained else {}
        write_text(record, json.dumps(asdict(protocol) | known, indent=2) + "\n", encoding="ascii")
        return None
    try:
        old = json.loads(record.read_text(encoding="ascii"))
    except (OSError, ValueError):
        raise DataError(f"{record}: is no protocol of a simulation: it cannot be resumed") from None
    for field in fields(Protocol):
        now = getattr(protocol, field.name)
        if field.name != "time" and old.get(field.name) != now:
            raise DataError(
                f"{directory}: was started with {field.name} = {old.get(field.name)}, not {now}: "
                "only the time can change"
            )
    restart = None
    if (directory / RESTART).exists():
        restart = read_restart(directory / RESTART)
        restart.check(directory / RESTART, atoms, potential)
    else:
        log.warn(f"{directory}: the simulation was stopped before it was first saved: it begins anew")
    if old.get("time") != protocol.time:
        write_text(record, json.dumps(old | {"time": protocol.time}, indent=2) + "\n", encoding="ascii")
    return restart


def constraints_lost(atoms):
    """Names of the kinds of constraints that a file in extxyz format cannot hold."""
    kept = FixAtoms, FixCartesian
    return sorted({type(c).__name__ for c in atoms.constraints if not isinstance(c, kept)})


def write_frame(file, atoms, time_ps, energy, velocities=False):
    """Append a frame in extxyz format; energy in eV or None; velocities: all that a simulation starts from,
    momenta, atoms that are held fast (`move_mask`), and masses unless they are those of the elements.
    """
    frame = atoms.copy()
    frame.calc = None
    frame.info = {"time_ps": time_ps} | ({} if energy is None else {"energy": energy})
    columns = ["symbols", "positions"]
    if velocities:
        own_masses = not np.array_equal(frame.get_masses(), atomic_masses[frame.numbers])
        columns += ["momenta", "move_mask"] + (["masses"] if own_masses else [])
    write_extxyz(file, [frame], columns=columns, write_info=True)
