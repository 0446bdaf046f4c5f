"""Unit conversions of foreign files; inside mpnnp everything is eV and Angstrom."""

from ase.units import Bohr as BOHR  # Angstrom
from ase.units import Hartree as HARTREE  # eV

__all__ = ["BOHR", "HARTREE"]
