"""Labelling structures with energies, forces and stress from a potential or any calculator of ASE:
a teacher's data.
"""

import ast
import contextlib
import hashlib
import importlib
import secrets
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class

from mpnnp.data.dataset import Dataset, read, write
from mpnnp.errors import ConfigError, DataError, Interrupted, MpnnpError
from mpnnp.files import reason_of
from mpnnp.parallel import agree, maximum, of_all_ranks, on_root, raise_if
from mpnnp.progress import Progress, counted
from mpnnp.signals import Signals, name
from mpnnp.simulation.calculator import Calculator, split_names

ASE = "ase:"
# calculators of ASE that take any key, and do not read it
KEEP_ANY_KEY = ("ase.calculators.emt", "ase.calculators.lj", "ase.calculators.morse")
SAVE_SECONDS = 60.0
ADVICE = "the same command goes on"


def make_labeller(name, units=None, comm=None):
    """A calculator of ASE. Raises ConfigError or what loading a potential raises.

    name   checkpoint or folder of n2p2 files, several with commas between them (an ensemble: its mean); or
           ase:NAME[:key=value,...] with a name that ASE knows (ase:emt) or a class
           (ase:tblite.ase.TBLite:method=GFN1-xTB,verbosity=0)
    units  of folders of n2p2 files that do not state theirs
    comm   whose ranks label side by side: a calculator that works in a folder gets one for each rank,
           rank-0, rank-1, ... in its own
    """
    if not name.startswith(ASE):
        names = split_names(name)
        return Calculator(names if len(names) > 1 else name, skin=0.0, units=units)
    kind, _, settings = name[len(ASE) :].partition(":")
    try:
        module, _, attribute = kind.rpartition(".")
        make = getattr(importlib.import_module(module), attribute) if module else get_calculator_class(kind)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{name}: no such calculator: {error}") from None
    try:
        given = dict(_setting(name, part) for part in settings.split(",") if part)
        calculator = make(**given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{name}: {error}") from None
    known = getattr(calculator, "default_parameters", {})
    if type(calculator).__module__ in KEEP_ANY_KEY and (unknown := sorted(given.keys() - known)):
        raise ConfigError(
            f"{name}: {unknown[0]} is no setting of {kind}; known are {', '.join(sorted(known))}"
        )
    if comm is not None and comm.size > 1 and getattr(calculator, "directory", None) is not None:
        calculator.directory = Path(calculator.directory) / f"rank-{comm.rank}"
    return calculator


def _setting(name, text):
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise ConfigError(f"{name}: {text!r} is not key=value")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def part_of(output, name, calculator):
    """File beside `output` that keeps what is labelled while the rest is not: another one for each
    calculator, told apart by what a potential predicts, or by the name and settings of a calculator of ASE.
    """
    own = calculator.digest() if isinstance(calculator, Calculator) else name
    output = Path(output)
    return output.with_name(f"{output.stem}.{hashlib.sha256(own.encode()).hexdigest()[:8]}.part.h5")


def parts_beside(part):
    """The file `part`, if it is there, and those that the same calculator left for other outputs."""
    ending = "." + ".".join(part.name.split(".")[-3:])
    return sorted(path for path in part.parent.iterdir() if path == part or path.name.endswith(ending))


@contextlib.contextmanager
def labels_kept(output, part):
    """An error in writing the result says that all labels are kept beside the file `part`, or in it."""
    try:
        yield
    except (DataError, OSError) as error:
        reason = str(error) if isinstance(error, DataError) else f"{output}: {reason_of(error)}"
        raise DataError(f"{reason}; all labels are kept in {part.parent}: {ADVICE}") from None


def remove_parts(part, dataset):
    """Remove the file `part`, and those beside it of which all is in a Dataset, which was written."""
    part.unlink(missing_ok=True)
    known = {_geometry(s) for s in dataset}
    for path in parts_beside(part):
        if all(_geometry(s) in known for s in read(path)):
            path.unlink(missing_ok=True)


def label(dataset, calculator, comm, log, part=None):
    """`dataset` with the labels of `calculator`, on rank 0 (None elsewhere);
    structures are shared out over the ranks. Collective.

    part  file that keeps what is labelled, written every SAVE_SECONDS, after a signal and at the end, for
          `remove_parts` once the result is written; what it, or one of its `parts_beside`, holds is not
          labelled again. None: nothing is kept

    Stress only where the calculator gives it. Raises DataError naming the structure at which the calculator
    failed, Interrupted after a signal.
    """
    n, found = len(dataset), {}  # k -> labels, on rank 0 alone
    kept = set() if part is None else on_root(comm, _read_parts, dataset, part, found, log)
    mine, n_done = [k for k in range(n) if k not in kept][comm.rank :: comm.size], len(kept)
    received = 0
    with (
        Signals(comm, None if part is None else ADVICE) as signals,
        Progress(log, "labelling structure", n, done=n_done) as progress,
    ):
        signals.holding = part is not None
        while n_done < n and not received:
            new, error = agree(comm, _label_some, dataset, mine, calculator, signals)
            for some in comm.gather(new, root=0) or ():
                found |= some
            n_done += comm.allreduce(len(new))
            received = int(maximum(comm, [signals.received])[0])
            if part is not None and n_done:
                on_root(comm, _write_part, part, dataset, found, kept)
            progress.update(n_done)
            agree(comm, raise_if, error)
    if received and n_done < n:
        raise of_all_ranks(
            Interrupted(f"{name(received)}: {_labelled_of(n_done, n)} and kept in {part}; {ADVICE}")
        )
    if comm.rank:
        return None
    return _labelled(dataset, found)


def _label_some(dataset, mine, calculator, signals):
    """(k -> labels of the first of `mine`, which are taken from it, for SAVE_SECONDS or until a signal;
    the error that ended it or None).
    """
    found, end = {}, time.monotonic() + SAVE_SECONDS
    try:
        while mine and not signals.received and time.monotonic() < end:
            with signals.breaking() if isinstance(calculator, Calculator) else contextlib.nullcontext():
                labels = labels_of(dataset[mine[0]], calculator)
                if signals.received and signals.breakable:
                    break  # it may have been broken off
            found[mine.pop(0)] = labels
    except DataError as error:
        return found, None if signals.received else error
    return found, None


def _geometry(s):
    return b"".join(np.ascontiguousarray(a).tobytes() for a in (s.numbers, s.positions, s.cell, s.pbc))


def _read_parts(dataset, part, found, log):
    """Numbers of the structures of `dataset` that are in the file `part` or those beside it; `found` gets
    their labels.
    """
    for path in parts_beside(part):
        known, n = {_geometry(s): s for s in read(path)}, len(found)
        for k, s in enumerate(dataset):
            if k not in found and (same := known.get(_geometry(s))) is not None:
                found[k] = {"energy": same.energy, "forces": same.forces, "stress": same.stress}
        if len(found) > n:
            log(f"{_labelled_of(len(found) - n, len(dataset))} in {path}: they are taken from there")
    return set(found)


def _labelled_of(n_done, n):
    return f"{n_done} of {counted(n, 'structure')} {'is' if n_done == 1 else 'are'} labelled"


def _write_part(part, dataset, found, kept):
    """Write all that is found to the file `part`, if some is new, and note in `kept` whose labels are there.

    Where that fails, as on a full disk (for a moment the new one lies beside the old one), what is not kept
    yet goes to a file of its own: beside it, where it is found again, or among the temporary files. Raises
    DataError that names it.
    """
    rest = {k: labels for k, labels in found.items() if k not in kept}
    if not rest:
        return
    try:
        write(part, _labelled(dataset, found))
    except DataError as error:
        raise DataError(f"{error}; {_write_rest(part, dataset, rest, len(kept))}") from None
    kept.update(found)


def _write_rest(part, dataset, rest, n_kept):
    """Write labels that the file `part` does not hold; in words, what is kept where."""
    stem, _, ending = part.name.removesuffix(".part.h5").rpartition(".")
    for folder in (part.parent, Path(tempfile.gettempdir())):
        path = folder / f"{stem}.rest-{secrets.token_hex(4)}.{ending}.part.h5"
        try:
            write(path, _labelled(dataset, rest))
        except DataError:
            continue
        then = "" if folder == part.parent else f", move it to {part.parent}"
        return f"the last {counted(len(rest), 'label')} went to {path}: make room{then}, and {ADVICE}"
    known = f"; kept before: {n_kept}, in {part.parent}: make room, and {ADVICE}" if n_kept else ""
    return f"the last {counted(len(rest), 'label')} could not be kept anywhere{known}"


def _labelled(dataset, found):
    return Dataset.from_structures([replace(dataset[k], **found[k]) for k in sorted(found)])


def labels_of(s, calculator):
    """Labels of a Structure by a calculator, as keywords. Raises DataError naming it, whatever goes wrong."""
    atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
    atoms.calc = calculator
    try:
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": None}
        if s.pbc.all():
            try:
                labels["stress"] = atoms.get_stress()
            except (PropertyNotImplementedError, NotImplementedError):
                pass
    except MpnnpError as error:
        raise DataError(f"{s.name}: {error}") from None
    except Exception as error:
        raise DataError(f"{s.name}: the calculator failed: {type(error).__name__}: {error}") from None
    if not (np.isfinite(labels["energy"]) and np.isfinite(labels["forces"]).all()):
        raise DataError(f"{s.name}: the calculator gave numbers that are not finite")
    return labels
