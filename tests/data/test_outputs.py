"""Outputs of other programs: what is not whole, not converged, not said, or looks like another format."""

import warnings

import ase.io
import numpy as np
import pytest
import vasp
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import kcal, mol

from mpnnp.data.formats import read_sources
from mpnnp.data.outputs import look_into_text
from mpnnp.errors import DataError

END = "\n General timing and accounting informations for this job:\n"
REACHED = "------------------------ aborting loop because EDIFF is reached ------------------------\n"

DUMP = """\
ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0.0 8.0
0.0 8.0
0.0 8.0
ITEM: ATOMS id {} x y z fx fy fz
1 {} 0.0 0.0 0.0 23.0 0.0 0.0
2 {} 0.96 0.0 0.0 -23.0 0.0 0.0
"""


def read(path):
    lines = []
    return read_sources(path, report=lines.append), "\n".join(lines)


def frames(n=3):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        atoms = Atoms("OHH", rng.uniform(0, 4, (3, 3)), cell=[4, 5, 6], pbc=True)
        forces = rng.normal(size=(3, 3)).round(6)
        atoms.calc = SinglePointCalculator(atoms, energy=float(rng.normal(-14)), forces=forces)
        found.append(atoms)
    return found


def converged(text):
    return text.replace("  FREE ENERGIE", f"{REACHED}  FREE ENERGIE")


@pytest.mark.parametrize("cut", ["total drift", "free  energy   TOTEN", "energy(sigma->0)"])
def test_an_outcar_that_ends_within_a_step_keeps_the_whole_ones_and_says_so(tmp_path, cut):
    text = converged(vasp.outcar(frames()))
    (tmp_path / "OUTCAR").write_text(text[: text.rindex(cut) + 12])
    data, said = read(tmp_path / "OUTCAR")
    assert len(data) == 2
    np.testing.assert_allclose(data.energy, [a.get_potential_energy() for a in frames()[:2]], atol=1e-7)
    assert "the calculation did not end by itself" in said


def test_a_whole_converged_outcar_is_read_without_a_warning(tmp_path):
    (tmp_path / "OUTCAR").write_text(converged(vasp.outcar(frames())) + END)
    data, said = read(tmp_path / "OUTCAR")
    assert len(data) == 3
    assert "warning" not in said


def test_steps_of_an_outcar_that_did_not_converge_are_named(tmp_path):
    text = converged(vasp.outcar(frames())) + END
    first = text.index(REACHED) + 1
    (tmp_path / "OUTCAR").write_text(text[:first] + text[first:].replace(REACHED, "", 1))
    data, said = read(tmp_path / "OUTCAR")
    assert len(data) == 3
    assert "1 of 3 steps is perhaps not converged" in said
    assert "frame 1" in said


def test_steps_of_a_vasprun_with_all_electronic_steps_are_named(tmp_path):
    text = vasp.VASPRUN.replace(
        "<modeling>", '<modeling>\n <parameters><i type="int" name="NELM">{}</i></parameters>'
    )
    (tmp_path / "vasprun.xml").write_text(text.replace("{}", "1"))
    assert "warning" not in read(tmp_path / "vasprun.xml")[1]  # one step: not self-consistent by intention
    (tmp_path / "vasprun.xml").write_text(
        text.replace("{}", "2").replace("  <scstep>", "  <scstep></scstep>\n  <scstep>")
    )
    assert "all 2 electronic steps (NELM) were taken): frame 0" in read(tmp_path / "vasprun.xml")[1]


def test_a_vasprun_that_is_not_whole_says_so(tmp_path):
    (tmp_path / "vasprun.xml").write_text(vasp.VASPRUN.replace("</modeling>", "<calculation>"))
    data, said = read(tmp_path / "vasprun.xml")
    assert len(data) == 1
    assert "the calculation did not end by itself" in said


def test_labels_of_the_force_field_of_vasp_are_refused_or_warned_of(tmp_path):
    text = converged(vasp.outcar(frames())) + END
    (tmp_path / "OUTCAR").write_text(text.replace("(eV/Angst)", "(eV/Angst) (ML)"))
    with pytest.raises(
        DataError, match=r"OUTCAR, line \d+: energies and forces of VASP's own machine-learned"
    ):
        read(tmp_path / "OUTCAR")
    learned = '<incar><i type="logical" name="ML_LMLFF"> T  </i></incar>'
    (tmp_path / "vasprun.xml").write_text(vasp.VASPRUN.replace("<modeling>", f"<modeling>\n{learned}"))
    assert "are its energies and forces ab initio ones?" in read(tmp_path / "vasprun.xml")[1]


def test_outputs_of_vasp_under_other_names_are_read(tmp_path):
    (tmp_path / "run.out").write_text(converged(vasp.outcar(frames())) + END)
    (tmp_path / "run.xml").write_text(vasp.VASPRUN)
    assert len(read(tmp_path / "run.out")[0]) == 3
    assert len(read(tmp_path / "run.xml")[0]) == 1


def test_an_outcar_that_ase_cannot_read_names_the_other_output(tmp_path):
    (tmp_path / "OUTCAR").write_text(
        converged(vasp.outcar(frames())).replace("0.000000 ", "******** ", 1) + END
    )
    text = (tmp_path / "OUTCAR").read_text()
    (tmp_path / "OUTCAR").write_text(text.replace("  energy(sigma->0)", "  energy(sigma->0) vdW", 1))
    with pytest.raises(DataError, match=r"OUTCAR, frame 0: cannot be read by ASE: .*vasprun\.xml"):
        read(tmp_path / "OUTCAR")


def test_of_a_folder_of_one_calculation_its_structures_are_read_once(tmp_path):
    (tmp_path / "OUTCAR").write_text(converged(vasp.outcar(frames(1))) + END)
    (tmp_path / "vasprun.xml").write_text(vasp.VASPRUN)
    (tmp_path / "POSCAR").write_text("x\n1.0\n4 0 0\n0 5 0\n0 0 6\nO\n1\nDirect\n0 0 0\n")
    (tmp_path / "POSCAR_other").write_text((tmp_path / "POSCAR").read_text())
    data, said = read(tmp_path)
    assert sorted(name.rpartition("/")[2] for name in data.source_names) == ["POSCAR_other", "vasprun.xml"]
    assert "OUTCAR: is not read, as vasprun.xml tells of the same calculation" in said
    assert len(read([tmp_path / "OUTCAR", tmp_path / "vasprun.xml"])[0]) == 2  # both are named


def test_a_folder_of_calculations_is_told_with_a_pattern(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/OUTCAR").write_text("")
    with pytest.raises(DataError, match=r"folder without data files.*'.*/\*/OUTCAR'"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.dump", "a.lammpstrj", "a.xyz.dump"])
def test_a_dump_without_elements_is_refused(tmp_path, name):
    """ASE takes the numbers of types for atomic numbers: hydrogen and helium."""
    (tmp_path / name).write_text(DUMP.format("type", "1", "2"))
    with pytest.raises(DataError, match=r"line 9: .*not their elements \(columns id type x"):
        read(tmp_path / name)


def test_a_dump_has_no_energies_and_forces_in_its_own_units(tmp_path):
    text = DUMP.format("element", "O", "H")
    (tmp_path / "a.dump").write_text(text)
    data, said = read(tmp_path / "a.dump")
    assert np.isnan(data.energy).all()  # ASE says 0
    assert np.abs(data.forces).max() == 23.0
    assert "does not say its units" in said
    (tmp_path / "a.dump").write_text(f"ITEM: UNITS\nreal\n{text}")
    data, said = read(tmp_path / "a.dump")
    assert np.abs(data.forces).max() == pytest.approx(0.99737, abs=1e-4)  # kcal/mol
    assert "warning" not in said
    (tmp_path / "a.dump").write_text(f"ITEM: UNITS\nlj\n{text}")
    with pytest.raises(DataError, match="units 'lj' of LAMMPS are not read"):
        read(tmp_path / "a.dump")


def test_a_dump_with_fewer_atoms_than_it_announces_is_an_error(tmp_path):
    """ASE reads those that are there: of a run that was killed, or whose disk was full."""
    text = DUMP.format("element", "O", "H")
    whole, cut = text, "\n".join(text.splitlines()[:-1]) + "\n"
    for shown, frame, line in ((cut, 0, 9), (cut + whole, 0, 9), (whole + cut, 1, 20)):
        (tmp_path / "a.dump").write_text(shown)
        with pytest.raises(DataError, match=rf"frame {frame} .line {line}.: announces 2 atoms, has 1: was"):
            read(tmp_path / "a.dump")
    (tmp_path / "a.dump").write_text(whole + whole)
    assert len(read(tmp_path / "a.dump")[0]) == 2


@pytest.mark.parametrize(
    ("mass", "fits"), [("15.999", True), ("16.0", True), ("15.0", False), ("2.0", False)]
)
def test_masses_of_a_dump_that_are_of_no_element_are_refused(tmp_path, mass, fits):
    """ASE takes the nearest: of a united atom CH3, 15.0, nitrogen."""
    (tmp_path / "a.dump").write_text(DUMP.format("mass", mass, "1.008"))
    if fits:
        assert read(tmp_path / "a.dump")[0].numbers.tolist() == [8, 1]
        return
    with pytest.raises(DataError, match=rf"a.dump, frame 0 .*has the mass {mass}, which is that of no"):
        read(tmp_path / "a.dump")


def test_a_dump_that_does_not_say_its_periodicity_is_refused(tmp_path):
    (tmp_path / "a.dump").write_text(DUMP.format("element", "O", "H").replace("BOUNDS pp pp pp", "BOUNDS"))
    with pytest.raises(DataError, match="a.dump, line 5: does not say along which vectors it is periodic"):
        read(tmp_path / "a.dump")


def test_a_data_file_of_lammps_is_refused_with_the_reason(tmp_path):
    box = "0 8 xlo xhi\n0 8 ylo yhi\n0 8 zlo zhi\n"
    text = f"LAMMPS data file\n\n1 atoms\n1 atom types\n\n{box}\nAtoms\n\n1 1 0 0 0\n"
    (tmp_path / "water.data").write_text(text)
    with pytest.raises(DataError, match="water.data: is a data file of LAMMPS"):
        read(tmp_path / "water.data")


@pytest.mark.parametrize(
    "text",
    [
        "  Invoking FHI-aims ...\n\n  Begin self-consistency loop: Initialization.\n",
        "     Begin final coordinates\n\nATOMIC_POSITIONS (angstrom)\n",
        " BEGIN header\n\n END header\n",
        "   Begin CG opt. move =      0\n   ====\n",
    ],
)
def test_outputs_in_which_something_begins_are_no_input_data(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.txt")
    assert "unknown keyword" not in str(caught.value)
    assert "cannot be read by ASE" in str(caught.value) or "has no structures" in str(caught.value)


def test_warnings_of_ase_are_told_as_ours_once(tmp_path, monkeypatch):
    def speaking(*arguments, **keywords):
        for atoms in frames():
            warnings.warn("something\n  strange", UserWarning, stacklevel=1)
            warnings.warn("will move", FutureWarning, stacklevel=1)
            yield atoms

    monkeypatch.setattr("ase.io.iread", speaking)
    (tmp_path / "a.traj").write_text("x")
    data, said = read(tmp_path / "a.traj")
    assert len(data) == 3
    assert said.count("a.traj, frame 0: ASE says: something strange") == said.count("ASE says") == 1


@pytest.mark.parametrize(
    "name, first, last, loose",
    [
        ("a.out", "     Program PWSCF v.7.2 starts", "   JOB DONE.", "     convergence NOT achieved after 9"),
        (
            "aims.out",
            " Invoking FHI-aims ...",
            "  Have a nice day.",
            " Self-consistency cycle not converged.",
        ),
        ("cp2k.out", " CP2K| version string: 2024.1", " PROGRAM ENDED AT", " *** SCF run NOT converged ***"),
    ],
)
def test_outputs_that_did_not_converge_or_end_are_told(tmp_path, name, first, last, loose):
    def said(*lines):
        (tmp_path / name).write_text("\n".join([first, *lines, ""]))
        found = []
        look_into_text(tmp_path / name, tmp_path / name, found.append)
        return " | ".join(found)

    assert said("energy", last) == ""
    assert "2 self-consistency cycles did not converge" in said(loose, "energy", loose, last)
    assert "the calculation did not end by itself" in said("energy")
    (tmp_path / name).write_text("some text\n")
    found = []
    look_into_text(tmp_path / name, tmp_path / name, found.append)
    assert found == []


def write_espresso(path):
    """What ASE reads of an output of pw.x: cell, positions, an energy and forces, in Ry and Bohr."""
    path.write_text(
        "     Program PWSCF v.7.2 starts\n"
        "     bravais-lattice index     =            1\n"
        "     lattice parameter (alat)  =       8.0000  a.u.\n"
        "     number of atoms/cell      =            2\n"
        "     celldm(1)=   8.000000  celldm(2)=   0.000000  celldm(3)=   0.000000\n"
        "     crystal axes: (cart. coord. in units of alat)\n"
        "               a(1) = (   1.000000   0.000000   0.000000 )\n"
        "               a(2) = (   0.000000   1.000000   0.000000 )\n"
        "               a(3) = (   0.000000   0.000000   1.000000 )\n"
        "     site n.     atom                  positions (alat units)\n"
        "         1           O   tau(   1) = (   0.0000000   0.0000000   0.0000000  )\n"
        "         2           H   tau(   2) = (   0.2500000   0.0000000   0.0000000  )\n\n"
        "!    total energy              =     -34.00000000 Ry\n"
        "     Forces acting on atoms (cartesian axes, Ry/au):\n\n"
        "     atom    1 type  1   force =     0.10000000    0.00000000    0.00000000\n"
        "     atom    2 type  2   force =    -0.10000000    0.00000000    0.00000000\n\n"
        "   JOB DONE.\n"
    )


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml", "pw.out"])
@pytest.mark.parametrize("units", ["kcal/mol Angstrom", "Hartree Bohr", "eV Angstrom GPa"])
def test_units_of_other_files_leave_outputs_whose_units_are_known_alone(tmp_path, name, units):
    if name == "OUTCAR":
        (tmp_path / name).write_text(converged(vasp.outcar(frames())) + END)
    elif name == "pw.out":
        write_espresso(tmp_path / name)
    else:
        (tmp_path / name).write_text(vasp.VASPRUN)
    expected, _ = read(tmp_path / name)
    lines = []
    data = read_sources(tmp_path / name, units=units, report=lines.append)
    assert data.hash() == expected.hash()
    assert np.isfinite(data.energy).all() and np.isfinite(data.forces).all()
    assert (
        f"in eV Angstrom, as ASE gives files whose format says the units ({units} is for others)" in lines[0]
    )


def test_files_without_units_of_their_own_take_those_that_are_asked_for(tmp_path):
    ase.io.write(tmp_path / "a.traj", frames(1))
    ase.io.write(tmp_path / "a.db", frames(1))
    (tmp_path / "OUTCAR").write_text(converged(vasp.outcar(frames(1))) + END)
    sources = [tmp_path / name for name in ("a.traj", "a.db", "OUTCAR")]
    data = read_sources(sources, units="kcal/mol Angstrom", report=lambda text: None)
    energy = frames(1)[0].get_potential_energy()
    np.testing.assert_allclose(data.energy, [energy * kcal / mol, energy * kcal / mol, energy], rtol=1e-7)


def test_lengths_of_a_format_that_cannot_be_right_are_refused_whatever_is_asked(tmp_path):
    at = "\n".join(f"{x} {y} {z}" for x in (0, 5) for y in (0, 5) for z in (0, 5, 10))  # in Bohr
    (tmp_path / "POSCAR").write_text(f"Cu\n1.0\n10 0 0\n0 10 0\n0 0 15\nCu\n12\nCartesian\n{at}\n")
    for units in (None, "Hartree Bohr"):
        with pytest.raises(DataError, match="The format of this file has Angstrom, whatever is said"):
            read_sources(tmp_path / "POSCAR", units=units, report=lambda text: None)
    assert len(read_sources(tmp_path / "POSCAR", units="eV Angstrom", report=lambda text: None)) == 1


@pytest.mark.parametrize("name", ["OUTCAR.traj", "from_OUTCAR.db", "OUTCAR.json", "POSCAR.cif"])
def test_a_file_is_what_it_holds_whatever_output_it_was_made_of(tmp_path, name):
    ase.io.write(tmp_path / name, frames(1), format=name.rpartition(".")[2])
    data, _ = read(tmp_path / name)
    np.testing.assert_allclose(data.cell[0], np.diag([4.0, 5.0, 6.0]), atol=1e-6)
    if "POSCAR" not in name:
        assert data.energy[0] == pytest.approx(frames(1)[0].get_potential_energy(), abs=1e-6)


@pytest.mark.parametrize("name", ["OUTCAR_300K", "OUTCAR.1", "run.OUTCAR", "b-OUTCAR-2.5"])
def test_an_outcar_is_known_by_its_name_where_its_head_is_lost(tmp_path, name):
    text = converged(vasp.outcar(frames())) + END
    (tmp_path / name).write_text(f" running on   16 total cores\n{text.partition(chr(10))[2]}")
    assert len(read(tmp_path / name)[0]) == 3


def test_files_of_other_kinds_are_no_outputs_of_one_calculation(tmp_path):
    for name in ("OUTCAR.xyz", "POSCAR.xyz"):
        ase.io.write(tmp_path / name, frames(1), format="extxyz")
    assert len(read(tmp_path)[0]) == 2
