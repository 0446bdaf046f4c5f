"""Unit conversions of foreign files; inside mpnnp everything is eV and Angstrom."""

from ase.units import Bohr as BOHR  # Angstrom
from ase.units import Hartree as HARTREE  # eV
from ase.units import bar as BAR  # eV/Angstrom^3

DENSITY = 1.66053906660  # g/cm^3 of one unified mass unit per Angstrom^3

__all__ = ["BAR", "BOHR", "DENSITY", "HARTREE"]
