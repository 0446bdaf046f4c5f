"""Labelling structures with energies, forces and stress from a potential or any calculator of ASE:
a teacher's data.
"""

import ast
import contextlib
import hashlib
import importlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class

from mpnnp.data.dataset import Dataset, read, write
from mpnnp.errors import ConfigError, DataError, Interrupted, MpnnpError
from mpnnp.parallel import agree, maximum, of_all_ranks, on_root, raise_if
from mpnnp.progress import Progress
from mpnnp.signals import Signals, name
from mpnnp.simulation.calculator import Calculator, split_names

ASE = "ase:"
SAVE_SECONDS = 60.0
ADVICE = "the same command goes on"


def make_labeller(name, units=None):
    """A calculator of ASE. Raises ConfigError or what loading a potential raises.

    name   checkpoint or folder of n2p2 files, several with commas between them (an ensemble: its mean); or
           ase:NAME[:key=value,...] with a name that ASE knows (ase:emt) or a class
           (ase:tblite.ase.TBLite:method=GFN1-xTB,verbosity=0)
    units  of folders of n2p2 files that do not state theirs
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
        return make(**dict(_setting(name, part) for part in settings.split(",") if part))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{name}: {error}") from None


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


def label(dataset, calculator, comm, log, part=None):
    """`dataset` with the labels of `calculator`, on rank 0 (None elsewhere);
    structures are shared out over the ranks. Collective.

    part  file that keeps what is labelled, written every SAVE_SECONDS and after a signal; what it holds is
          not labelled again; removed at the end. None: nothing is kept

    Stress only where the calculator gives it. Raises DataError naming the structure at which the calculator
    failed, Interrupted after a signal.
    """
    n, found = len(dataset), {}  # k -> labels, on rank 0 alone
    done = set() if part is None else on_root(comm, _read_part, dataset, part, found)
    if done:
        log(f"{len(done)} of {n} structures are labelled in {part}: they are taken from there")
    mine, n_done = [k for k in range(n) if k not in done][comm.rank :: comm.size], len(done)
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
            progress.update(n_done)
            received = int(maximum(comm, [signals.received])[0])
            if part is not None and 0 < n_done < n:
                on_root(comm, _write_part, part, dataset, found)
            agree(comm, raise_if, error)
    if received and n_done < n:
        raise of_all_ranks(
            Interrupted(
                f"{name(received)}: {n_done} of {n} structures are labelled and kept in {part}; {ADVICE}"
            )
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


def _read_part(dataset, part, found):
    """Numbers of the structures of `dataset` that are in the file `part`; `found` gets their labels."""
    known = {_geometry(s): s for s in read(part)} if part.is_file() else {}
    for k, s in enumerate(dataset):
        if (same := known.get(_geometry(s))) is not None:
            found[k] = {"energy": same.energy, "forces": same.forces, "stress": same.stress}
    return set(found)


def _write_part(part, dataset, found):
    write(part, _labelled(dataset, found))


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
