"""Labelling structures with energies, forces and stress from a potential or any calculator of ASE:
a teacher's data.
"""

import ast
import importlib
from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class

from mpnnp.data.dataset import Dataset
from mpnnp.errors import ConfigError, DataError, MpnnpError
from mpnnp.parallel import agree
from mpnnp.progress import Progress

ASE = "ase:"


def make_labeller(name, units=None):
    """A calculator of ASE. Raises ConfigError or what loading a potential raises.

    name   checkpoint or folder of n2p2 files, several with commas between them (an ensemble: its mean); or
           ase:NAME[:key=value,...] with a name that ASE knows (ase:emt) or a class
           (ase:tblite.ase.TBLite:method=GFN1-xTB,verbosity=0)
    units  of folders of n2p2 files that do not state theirs
    """
    if not name.startswith(ASE):
        from mpnnp.simulation.calculator import Calculator

        return Calculator(name.split(",") if "," in name else name, skin=0.0, units=units)
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


def label(dataset, calculator, comm, log):
    """`dataset` with the labels of `calculator`, on rank 0 (None elsewhere);
    structures are shared out over the ranks. Collective.

    Stress only where the calculator gives it. Raises DataError naming the structure at which the calculator
    failed.
    """
    mine = range(comm.rank, len(dataset), comm.size)
    with Progress(log, "labelling structure", len(dataset)) as progress:
        parts = comm.gather(
            agree(comm, lambda: [_label_one(dataset, k, calculator, progress, comm.size) for k in mine]),
            root=0,
        )
    if comm.rank:
        return None
    structures = [None] * len(dataset)
    for rank, part in enumerate(parts):
        for k, labels in zip(range(rank, len(dataset), comm.size), part):
            structures[k] = replace(dataset[k], **labels)
    return Dataset.from_structures(structures)


def _label_one(dataset, k, calculator, progress, n_rank):
    s = dataset[k]
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
    progress.update(min(k + n_rank, len(dataset)))
    return labels
