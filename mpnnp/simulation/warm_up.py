"""Compiling the kernels of a simulation before they are needed."""

from ase import Atoms

from mpnnp.simulation.calculator import Calculator
from mpnnp.training.warm_up import compile_by_running, two_atoms


def compile_kernels(comm, log):
    """Run every kernel of a simulation once on two atoms. Collective."""
    compile_by_running([_run_simulation], "pairs.*.nbi", comm, log)


def _run_simulation():
    structure, potential = two_atoms()
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    atoms.calc = Calculator(potential)
    atoms.get_forces()
