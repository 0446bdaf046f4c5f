"""Inputs of LAMMPS (pair_style hdnnp) and CP2K (NNP) that use an exported potential,
and the files of a first structure.
"""

from pathlib import Path

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from mpnnp.errors import DataError
from mpnnp.files import write_atomically
from mpnnp.units import BOHR

__all__ = ["write_cp2k", "write_lammps"]

LAMMPS = """# {elements}: potential of this folder in LAMMPS (package ML-HDNNP); start lmp in this folder
units           metal
atom_style      atomic
boundary        {boundary}
box             tilt large
read_data       structure.lammps        # atom types in the order of pair_coeff: {types}
{masses}
# lengths and energies of the potential are {length} and {energy}: \
cflength = 1 Angstrom in {length}, cfenergy = 1 eV in {energy}
pair_style      hdnnp {cutoff:.6f} dir "./" showew no showewsum 1000 resetew yes maxew 1000 \
cflength {cflength:.16g} cfenergy {cfenergy:.16g}
pair_coeff      * * {elements}

timestep        0.0005
neighbor        1.0 bin
thermo_style    custom step temp pe etotal press density
thermo          100
dump            forces all custom 100 forces.dump id element x y z fx fy fz
dump_modify     forces element {elements} sort id format float %.12g
run             0                       # the energy and the forces of the structure

velocity        all create 300.0 12345
fix             integrate all nvt temp 300.0 300.0 0.1
# run           10000                   # 5 ps
"""

CP2K = """! {elements}: potential of this folder in CP2K; start cp2k in this folder
&GLOBAL
  PROJECT nnp
  RUN_TYPE ENERGY_FORCE  ! MD for the dynamics below
  PRINT_LEVEL LOW
&END GLOBAL
&FORCE_EVAL
  METHOD NNP
  &NNP
    NNP_INPUT_FILE_NAME input.nn
    SCALE_FILE_NAME scaling.data
    &MODEL
      WEIGHTS weights
    &END MODEL
    &PRINT
      &EXTRAPOLATION
        FILENAME extrapolation
      &END EXTRAPOLATION
    &END PRINT
  &END NNP
  &PRINT
    &FORCES
      FILENAME forces
      NDIGITS 14
    &END FORCES
  &END PRINT
  &SUBSYS
    &CELL
{cell}
    &END CELL
{atoms}
  &END SUBSYS
&END FORCE_EVAL
&MOTION
  &MD
    ENSEMBLE NVT
    STEPS 10000
    TIMESTEP 0.5
    TEMPERATURE 300
    &THERMOSTAT
      TYPE CSVR
      &CSVR
        TIMECON 100
      &END CSVR
    &END THERMOSTAT
  &END MD
&END MOTION
"""


def write_lammps(folder, potential, structure=None):
    """lammps.in and, of a Structure, structure.lammps.

    Raises DataError if the structure has other elements or periodicity LAMMPS cannot say.
    """
    symbols = [chemical_symbols[z] for z in potential.elements]
    masses = "\n".join(
        f"mass            {k} {atomic_masses[atomic_numbers[s]]:.4f}  # {s}" for k, s in enumerate(symbols, 1)
    )
    text = LAMMPS.format(
        elements=" ".join(symbols),
        types=", ".join(f"{k} {s}" for k, s in enumerate(symbols, 1)),
        boundary="p p p" if structure is None else " ".join("p" if p else "s" for p in structure.pbc),
        masses=masses,
        cutoff=np.ceil(potential.functions.r_c * 1e6)
        / 1e6,  # LAMMPS refuses a cutoff below that of the potential
        length=potential.units.length_name,
        energy=potential.units.energy_name,
        cflength=1 / potential.units.length,
        cfenergy=1 / potential.units.energy,
    )
    _write(Path(folder) / "lammps.in", text)
    if structure is not None:
        _check_elements(potential, structure)
        _write(Path(folder) / "structure.lammps", _lammps_data(potential, structure))


def write_cp2k(folder, potential, structure=None):
    """cp2k.inp and, of a Structure, structure.coord, in Bohr so that both programs see the same numbers.

    Without a structure the input reads structure.xyz, and its cell is a cube of 10 Angstrom, to be replaced.
    """
    elements = " ".join(chemical_symbols[z] for z in potential.elements)
    if structure is None:
        cell = _vectors(np.eye(3) * 10.0 / BOHR) + ["! replace this cell by that of structure.xyz"]
        atoms = ["&TOPOLOGY", "  COORD_FILE_NAME structure.xyz", "  COORD_FILE_FORMAT XYZ", "&END TOPOLOGY"]
    else:
        _check_elements(potential, structure)
        periodic = structure.pbc.all()
        cell = _vectors((structure.cell if periodic else _around(structure, potential.functions.r_c)) / BOHR)
        cell.append(f"PERIODIC {'XYZ' if periodic else 'NONE'}")
        atoms = ["&COORD", "  UNIT bohr", "  @INCLUDE structure.coord", "&END COORD"]
        rows = zip(structure.numbers, structure.positions / BOHR)
        _write(
            Path(folder) / "structure.coord",
            "".join(f"{chemical_symbols[z]} {_numbers(x)}\n" for z, x in rows),
        )
    text = CP2K.format(
        elements=elements,
        cell="\n".join(f"      {line}" for line in cell),
        atoms="\n".join(f"    {line}" for line in atoms),
    )
    _write(Path(folder) / "cp2k.inp", text)


def _vectors(cell):
    return [f"{name} [bohr] {_numbers(vector)}" for name, vector in zip("ABC", cell)]


def _numbers(values):
    return " ".join(f"{v:.16f}" for v in values)


def _around(structure, r_c):
    """A cell for a structure that is not periodic in every direction: no image within the cutoff."""
    if structure.pbc.any():
        raise DataError(
            f"{structure.name}: is periodic along {int(structure.pbc.sum())} vectors; 0 or 3 can be written "
            "for CP2K"
        )
    return np.diag(np.ptp(structure.positions, axis=0) + 2 * r_c + 2.0)


def _lammps_data(potential, structure):
    """A data file of LAMMPS: cell as a lower triangle, the positions turned with it."""
    if structure.pbc.any() and not structure.pbc.all():
        raise DataError(
            f"{structure.name}: is periodic along {int(structure.pbc.sum())} vectors; 0 or 3 can be written "
            "for LAMMPS"
        )
    positions = structure.positions
    if structure.pbc.all():
        if np.linalg.det(structure.cell) < 0:
            raise DataError(
                f"{structure.name}: the vectors of its cell are left-handed, which LAMMPS does not know"
            )
        triangle = _lower_triangle(structure.cell)
        positions = positions @ np.linalg.inv(structure.cell) @ triangle
        low, high, tilt = np.zeros(3), np.diag(triangle), (triangle[1, 0], triangle[2, 0], triangle[2, 1])
    else:
        low, high, tilt = positions.min(axis=0) - 1.0, positions.max(axis=0) + 1.0, (0.0, 0.0, 0.0)
    lines = [structure.name, "", f"{len(structure)} atoms", f"{len(potential.elements)} atom types", ""]
    lines += [f"{a:.16g} {b:.16g} {x}lo {x}hi" for a, b, x in zip(low, high, "xyz")]
    if any(tilt):
        lines.append("{:.16g} {:.16g} {:.16g} xy xz yz".format(*tilt))
    kinds = np.searchsorted(potential.elements, structure.numbers) + 1
    lines += ["", "Atoms # atomic", ""]
    lines += [
        f"{k} {kind} " + " ".join(f"{v:.16g}" for v in x)
        for k, (kind, x) in enumerate(zip(kinds, positions), 1)
    ]
    return "\n".join([*lines, ""])


def _lower_triangle(cell):
    """The cell of the same shape with a along x and b in the xy plane
    (a QR decomposition with a positive diagonal).
    """
    triangle = np.linalg.qr(cell.T)[1].T
    return triangle * np.sign(np.diag(triangle))


def _check_elements(potential, structure):
    strangers = sorted(set(structure.numbers.tolist()) - set(potential.elements))
    if strangers:
        raise DataError(
            f"{structure.name}: has {chemical_symbols[strangers[0]]}, which the potential does not know"
        )


def _write(path, text):
    with write_atomically(path) as temporary:
        Path(temporary).write_text(text, encoding="ascii", errors="replace")
