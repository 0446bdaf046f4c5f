"""Outputs of VASP for tests: the parts of an OUTCAR, of a vasprun.xml and of an ML_AB that are read."""

from itertools import groupby

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import GPa

STARS, LINE, DOUBLE = (50 * mark for mark in "*-=")  # of an ML_AB

VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="program" type="string">vasp</i><i name="version" type="string">6.3.0</i></generator>
 <kpoints><varray name="kpointlist"><v>0.0 0.0 0.0</v></varray>
  <varray name="weights"><v>1.0</v></varray></kpoints>
 <atominfo>
  <atoms>2</atoms><types>2</types>
  <array name="atoms"><dimension dim="1">ion</dimension><field type="string">element</field>
   <field type="int">atomtype</field>
   <set><rc><c>O </c><c>1</c></rc><rc><c>H </c><c>2</c></rc></set></array>
 </atominfo>
 <structure name="initialpos"><crystal>
  <varray name="basis"><v>4.0 0.0 0.0</v><v>0.0 5.0 0.0</v><v>0.0 0.0 6.0</v></varray></crystal>
  <varray name="positions"><v>0.0 0.0 0.0</v><v>0.25 0.0 0.0</v></varray></structure>
 <calculation>
  <scstep><energy><i name="e_fr_energy">-10.5</i><i name="e_wo_entrp">-10.4</i>
   <i name="e_0_energy">-10.45</i></energy></scstep>
  <structure><crystal>
   <varray name="basis"><v>4.0 0.0 0.0</v><v>0.0 5.0 0.0</v><v>0.0 0.0 6.0</v></varray></crystal>
   <varray name="positions"><v>0.0 0.0 0.0</v><v>0.25 0.0 0.0</v></varray></structure>
  <varray name="forces"><v>0.1 0.2 0.3</v><v>-0.1 -0.2 -0.3</v></varray>
  <varray name="stress"><v>10.0 0.0 0.0</v><v>0.0 20.0 0.0</v><v>0.0 0.0 30.0</v></varray>
  <energy><i name="e_fr_energy">-10.5</i><i name="e_wo_entrp">-10.4</i>
   <i name="e_0_energy">-10.45</i></energy>
 </calculation>
</modeling>
"""


def oxygen_and_hydrogen():
    """The frame of VASPRUN, labelled."""
    atoms = Atoms("OH", [[0, 0, 0], [1, 0, 0]], cell=[4, 5, 6], pbc=True)
    forces = [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]
    atoms.calc = SinglePointCalculator(atoms, energy=-10.45, forces=forces)
    return atoms


def outcar(frames):
    """Text of an OUTCAR with these frames: ase.Atoms with a calculator, each element's atoms together.

    TOTEN lies 0.05 eV below the energy of the calculator, which is the one extrapolated to sigma = 0.
    """
    first = frames[0]
    cell = "\n".join(
        "  " + " ".join(f"{x:12.9f}" for x in (*row, *other))
        for row, other in zip(first.cell.array, np.linalg.inv(first.cell.array).T)
    )
    vectors = f"      direct lattice vectors                 reciprocal lattice vectors\n{cell}\n"
    ions = [(symbol, len(list(atoms))) for symbol, atoms in groupby(first.get_chemical_symbols())]
    text = " vasp.6.3.0\n"
    text += "".join(f" POTCAR:    PAW_PBE {symbol} 08Apr2002\n" for symbol, _ in 2 * ions)
    text += "".join(f"   VRHFIN ={symbol}: s2p4\n" for symbol, _ in ions)
    text += f"   ions per type =           {'   '.join(str(n) for _, n in ions)}\n{vectors}"
    for number, atoms in enumerate(frames, 1):
        rows = "\n".join(
            " ".join(f"{x:12.6f}" for x in (*x, *f)) for x, f in zip(atoms.positions, atoms.get_forces())
        )
        energy, line = atoms.get_potential_energy(), "-" * 83
        title = " POSITION                                       TOTAL-FORCE (eV/Angst)"
        text += (
            f"\n{'-' * 39} Iteration {number:6d}(   1)  {'-' * 39}\n{vectors}\n"
            f"{title}\n {line}\n{rows}\n {line}\n"
            f"    total drift:                                0.000000      0.000000      0.000000\n\n"
            f"  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  {'-' * 51}\n"
            f"  free  energy   TOTEN  = {energy - 0.05:18.8f} eV\n\n"
            f"  energy  without entropy= {energy + 0.05:18.8f}  energy(sigma->0) = {energy:18.8f}\n\n"
        )
    return text


def _rows(values):
    return "\n".join("  ".join(f"{x:21.15E}" for x in row) for row in np.reshape(values, (len(values), -1)))


def _header(n):
    blocks = {
        "The number of configurations": f"        {n}",
        "The maximum number of atom type": "       2",
        "The atom types in the data file": "     O  H",
        "The maximum number of atoms per system": "              3",
        "The maximum number of atoms per atom type": "              2",
        "Reference atomic energy (eV)": "  -432.000000000000       -13.6000000000000",
        "Atomic mass": "   15.9990000000000        1.00800000000000",
        "The numbers of basis sets per atom type": "     1     2",
        "Basis set for O": "          1      1",
        "Basis set for H": "          1      2\n          1      3",
    }
    return " 1.0 Version\n" + "".join(
        f"{STARS}\n     {title}\n{LINE}\n{text}\n" for title, text in blocks.items()
    )


def _configuration(number, atoms, name="water", more=f"{DOUBLE}\n     CTIFOR\n{LINE}\n  7.2E-003\n"):
    symbols = list(dict.fromkeys(atoms.get_chemical_symbols()))
    types = "\n".join(f"     {s} {atoms.get_chemical_symbols().count(s):7d}" for s in symbols)
    xx, yy, zz, yz, xz, xy = -atoms.get_stress() / (0.1 * GPa)  # positive under compression
    return (
        f"{STARS}\n     Configuration num. {number:6d}\n{DOUBLE}\n     System name\n{LINE}\n     {name}\n"
        f"{DOUBLE}\n     The number of atom types\n{LINE}\n       {len(symbols)}\n"
        f"{DOUBLE}\n     The number of atoms\n{LINE}\n       {len(atoms)}\n"
        f"{STARS}\n     Atom types and atom numbers\n{LINE}\n{types}\n{more}"
        f"{DOUBLE}\n     Primitive lattice vectors (ang.)\n{LINE}\n{_rows(atoms.cell.array)}\n"
        f"{DOUBLE}\n     Atomic positions (ang.)\n{LINE}\n{_rows(atoms.positions)}\n"
        f"{DOUBLE}\n     Total energy (eV)\n{LINE}\n  {atoms.get_potential_energy():.12f}\n"
        f"{DOUBLE}\n     Forces (eV ang.^-1)\n{LINE}\n{_rows(atoms.get_forces())}\n"
        f"{DOUBLE}\n     Stress (kbar)\n{LINE}\n     XX YY ZZ\n{LINE}\n{_rows([[xx, yy, zz]])}\n"
        f"{LINE}\n     XY YZ ZX\n{LINE}\n{_rows([[xy, yz, xz]])}\n"
    )


def ml_ab(frames, **options):
    """Text of an ML_AB with these frames: ase.Atoms with a calculator, each element's atoms together.

    options  name of the system; more: blocks between the numbers of atoms and the lattice
    """
    return _header(len(frames)) + "".join(
        _configuration(k, atoms, **options) for k, atoms in enumerate(frames, 1)
    )
