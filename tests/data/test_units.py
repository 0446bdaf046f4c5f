"""Units of sources: said by the user, by the file, or assumed and held against physics."""

import re
import warnings

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.cell import Cell
from ase.units import Bohr, GPa, Hartree, kcal, mol

from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import read_sources, write_target
from mpnnp.data.plausibility import wrong_units
from mpnnp.data.structure import Structure
from mpnnp.errors import ConfigError, DataError
from mpnnp.n2p2.input_file import InputFile
from mpnnp.units import ATOMIC, METAL, parse_units, units_of_line


def quiet(_):
    pass


def crystal(n=3, symbol="Cu", a=3.6):
    frames = []
    for k in range(n):
        atoms = bulk(symbol, "fcc", a, cubic=True) * (2, 1, 1)
        atoms.rattle(0.05, seed=k)
        rng = np.random.default_rng(k)
        forces = rng.normal(size=(len(atoms), 3))
        frames.append(
            Structure(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=True,
                      energy=-3.5 * len(atoms) + 0.01 * k, forces=forces, frame=k)
        )  # fmt: skip
    return Dataset.from_structures(frames)


def in_units(data, length, energy, head=""):
    """Text of input.data in other units than Bohr and Hartree."""
    lines = [head] * bool(head)
    for s in data:
        lines += ["begin"] + ["lattice {} {} {}".format(*v) for v in (s.cell / length).tolist()]
        lines += [
            "atom {} {} {} Cu 0 0 ".format(*x) + "{} {} {}".format(*f)
            for x, f in zip((s.positions / length).tolist(), (s.forces * length / energy).tolist())
        ]
        lines += [f"energy {s.energy / energy!r}", "end"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "energy", "length", "force", "stress"),
    [
        ("eV Angstrom", 1, 1, 1, 1),
        ("Angstrom, EV", 1, 1, 1, 1),
        ("Hartree Bohr", Hartree, Bohr, Hartree / Bohr, Hartree / Bohr**3),
        ("kcal/mol Ang", kcal / mol, 1, kcal / mol, kcal / mol),
        ("hartree angstrom hartree/bohr GPa", Hartree, 1, Hartree / Bohr, GPa),
    ],
)
def test_words_are_units(text, energy, length, force, stress):
    units = parse_units(text)
    np.testing.assert_allclose(
        [units.energy, units.length, units.force, units.stress], [energy, length, force, stress], rtol=1e-12
    )
    assert parse_units(str(units)) == units


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "'': must be one of eV, .* and one of Angstrom, "),
        ("eV", "'eV': must be one of eV, .* and one of Angstrom, "),
        ("Angstrom", "'Angstrom': must be one of eV, .* and one of Angstrom, "),
        ("eV Hartree Bohr", "two units of energy, eV and Hartree"),
        ("eV parsec", "'parsec' is no unit known here"),
        ("eV Angstrom GPa kbar", "two units of stress, GPa and kbar"),
    ],
)
def test_words_that_are_no_units_are_errors(text, message):
    with pytest.raises(ValueError, match=message):
        parse_units(text)


def test_only_lines_that_state_units_state_units():
    assert units_of_line("# units: eV Angstrom") == METAL
    assert units_of_line("  comment units = Hartree, Bohr") == ATOMIC
    assert units_of_line("#UNITS eV Angstrom # as VASP") == METAL
    assert units_of_line("comment unit: eV, Angstrom") == METAL
    assert units_of_line("comment 12 unit cells") is None
    assert units_of_line("# energies in eV") is None
    with pytest.raises(ValueError, match="'and' is no unit known here"):
        units_of_line("# units: eV and Angstrom")


@pytest.mark.parametrize("text", ["eV Angstrom", "Hartree Bohr", "kJ/mol nm", "kcal/mol Angstrom"])
@pytest.mark.parametrize("how", ["asked", "comment", "comment within", "both"])
def test_input_data_is_read_in_the_units_that_are_said(tmp_path, text, how):
    units, data, path = parse_units(text), crystal(), tmp_path / "input.data"
    content = in_units(data, units.length, units.energy, "" if how == "asked" else f"# units: {text}")
    if how == "comment within":
        content = content.replace(f"# units: {text}\n", "").replace(
            "begin", f"begin\ncomment units: {text}", 1
        )
    path.write_text(content)
    found = read_sources(path, units=None if how.startswith("comment") else text, report=quiet)
    for name in ("positions", "cell", "energy", "forces"):
        np.testing.assert_allclose(getattr(found, name), getattr(data, name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "lines", ["comment length_units=Angstrom energy_units=eV", "# Energy unit : eV\n# Length unit : Angstrom"]
)
def test_units_that_are_said_one_by_one_count_together(tmp_path, lines):
    text = in_units(crystal(), 1.0, 1.0).replace("begin", f"begin\n{lines}", 1)
    (tmp_path / "input.data").write_text(text)
    data = read_sources(tmp_path / "input.data", report=quiet)
    np.testing.assert_allclose(data.positions, crystal().positions, rtol=1e-12)
    (tmp_path / "input.nn").write_text(lines.replace("comment", "#") + "\n# length unit of the figures: cm\n")
    assert InputFile(tmp_path / "input.nn").units == METAL
    (tmp_path / "input.nn").write_text("# Length unit : Angstrom\n")  # of energies nothing is said
    assert InputFile(tmp_path / "input.nn").units is None


@pytest.mark.parametrize("line", ["comment units cell 2", "comment units", "comment Units of a cell: 2"])
def test_the_word_units_in_a_text_says_no_units(tmp_path, line):
    content = in_units(crystal(), Bohr, Hartree).replace("begin", f"begin\n{line}", 1)
    (tmp_path / "input.data").write_text(content)
    data = read_sources(tmp_path / "input.data", report=quiet)
    np.testing.assert_allclose(data.energy, crystal().energy, rtol=1e-12)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("comment energies in eV, lengths in Angstrom", "eV"),
        ("# length_unit Angstrom", "Angstrom"),
        ("comment forces: kcal/mol/Å", "kcal/mol"),
        ("comment positions are in Å", "Å"),
        ("comment energies in Ry", "Ry"),
    ],
)
def test_other_units_that_a_comment_names_in_other_words_are_warned_of(tmp_path, line, word):
    path, lines = tmp_path / "input.data", []
    path.write_text(
        in_units(crystal(), Bohr, Hartree).replace("begin", f"begin\n{line}", 1), encoding="utf-8"
    )
    read_sources(path, report=lines.append)
    assert f"warning: {path}: line 2 says {word!r}, but not as units are read" in "\n".join(lines)
    lines.clear()
    read_sources(path, units="Hartree Bohr", report=lines.append)  # who says it is believed
    path.write_text(in_units(crystal(), Bohr, Hartree, "# energies: Hartree; x: Bohr; from /eV/Angstrom.xyz"))
    read_sources(path, report=lines.append)
    assert "warning" not in "\n".join(lines)


def test_the_letter_of_angstrom_names_it():
    assert parse_units("eV Å") == parse_units("eV \u212b") == parse_units("eV Ångström") == METAL
    assert parse_units("Hartree Bohr eV/Å").force == pytest.approx(1.0)


@pytest.mark.parametrize("line", ["comment units: cell 2", "comment units metal", "# units eV furlong"])
def test_units_that_are_said_in_unknown_words_are_an_error(tmp_path, line):
    content = in_units(crystal(), Bohr, Hartree).replace("begin", f"begin\n{line}", 1)
    (tmp_path / "input.data").write_text(content)
    with pytest.raises(DataError, match="input.data, line 2: .*no unit known here"):
        read_sources(tmp_path / "input.data", report=quiet)


def test_contradicting_units_are_an_error(tmp_path):
    (tmp_path / "input.data").write_text(in_units(crystal(), 1, 1, "# units: eV Angstrom"))
    with pytest.raises(DataError, match="states the units eV Angstrom, but Hartree Bohr were asked for"):
        read_sources(tmp_path / "input.data", units="Hartree Bohr", report=quiet)
    with pytest.raises(ConfigError, match="furlong"):
        read_sources(tmp_path / "input.data", units="eV furlong", report=quiet)
    later = in_units(crystal(), 1, 1) + "# units: eV Angstrom\n"
    (tmp_path / "input.data").write_text(later)
    with pytest.raises(DataError, match="states the units eV Angstrom, but Hartree Bohr are read"):
        read_sources(tmp_path / "input.data", report=quiet)


def test_angstrom_taken_for_bohr_is_an_error_that_says_what_to_set(tmp_path):
    (tmp_path / "input.data").write_text(in_units(crystal(), 1, 1))
    with pytest.raises(DataError, match=r"hardly in Bohr.*data.units = 'eV Angstrom'"):
        read_sources(tmp_path / "input.data", report=quiet)
    lines = []
    data = read_sources(tmp_path / "input.data", lenient=True, report=lines.append)
    assert len(data) == 3 and any("hardly in Bohr" in line for line in lines)
    # who says that they are Bohr is believed
    assert len(read_sources(tmp_path / "input.data", units="Hartree Bohr", report=quiet)) == 3


def test_bohr_taken_for_angstrom_is_an_error_in_xyz_too(tmp_path):
    data = crystal()
    bohr = Dataset.from_structures(
        Structure(numbers=s.numbers, positions=s.positions / Bohr, cell=s.cell / Bohr, pbc=True) for s in data
    )
    write_target(tmp_path / "a.xyz", bohr)
    with pytest.raises(DataError, match="hardly in Angstrom.*'Hartree Bohr'"):
        read_sources(tmp_path / "a.xyz", report=quiet)
    found = read_sources(tmp_path / "a.xyz", units="Hartree Bohr", report=quiet)
    np.testing.assert_allclose(found.positions, data.positions, rtol=1e-12)


@pytest.mark.parametrize("name", ["H2O", "CH4", "N2", "H2", "CO", "C6H6", "NaCl", "SiH4", "CH3CH2OH"])
def test_molecules_tell_angstrom_from_bohr_in_both_directions(name):
    atoms = molecule(name)
    true = Structure(numbers=atoms.numbers, positions=atoms.positions)
    data = Dataset.from_structures([true] * 8)
    assert wrong_units(data, METAL) is None
    for scale, units in ((Bohr, ATOMIC), (1 / Bohr, METAL)):
        wrong = Structure(numbers=atoms.numbers, positions=atoms.positions * scale)
        assert wrong_units(Dataset.from_structures([wrong] * 8), units), name


@pytest.mark.parametrize(
    "symbol", ["Li", "Na", "K", "Al", "Fe", "Cu", "Ag", "Au", "Pt", "W", "Pb", "Ni", "Si", "Mg", "Ti", "Zn"]
)
@pytest.mark.parametrize("scale", [0.95, 1.0, 1.08])
def test_elements_tell_angstrom_from_bohr_in_both_directions(symbol, scale):
    atoms = bulk(symbol)
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    atoms = atoms * (2, 2, 2)
    make = lambda c: Dataset.from_structures(  # noqa: E731
        [Structure(numbers=atoms.numbers, positions=atoms.positions * c, cell=atoms.cell.array * c, pbc=True)]
        * 2
    )
    assert wrong_units(make(1.0), METAL) is None
    assert wrong_units(make(Bohr), ATOMIC)
    assert wrong_units(make(1 / Bohr), METAL)


def test_noble_gases_dimers_and_few_atoms_are_not_judged():
    argon = Structure(numbers=[18] * 20, positions=np.arange(60).reshape(20, 3) * 2.2)
    assert wrong_units(Dataset.from_structures([argon]), METAL) is None
    pair = Structure(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.5]])
    assert wrong_units(Dataset.from_structures([pair]), ATOMIC) is None


def test_units_in_the_comment_of_a_frame_are_read(tmp_path):
    text = "2\n{}\nCu 0 0 0\nCu 0 0 2.4\n"
    path = tmp_path / "a.xyz"
    path.write_text(text.format("energy=-1.5 energy_units=hartree"))
    assert read_sources(path, report=quiet).energy[0] == pytest.approx(-1.5 * Hartree)
    path.write_text(text.format("energy=-30.0 energy_unit='kcal/mol'"))
    assert read_sources(path, report=quiet).energy[0] == pytest.approx(-30.0 * kcal / mol)
    path.write_text(text.format("energy=-30.0 energy_unit=cal"))
    with pytest.raises(DataError, match="frame 0 .*'cal' is no unit known here"):
        read_sources(path, report=quiet)
    header = "Properties=species:S:1:pos:R:3:forces:R:3 energy=-1 energy_units=Ha{}"
    forces = f"2\n{header}\nCu 0 0 0 1 2 3\nCu 0 0 2.4 0 0 0\n"
    path.write_text(forces.format(""))
    with pytest.raises(DataError, match="nothing says in what the forces are"):
        read_sources(path, report=quiet)
    path.write_text(text.format("energy=-1 pos_unit=bohr cell-unit=Bohr"))
    np.testing.assert_allclose(read_sources(path, report=quiet).positions[1], [0, 0, 2.4 * Bohr])
    path.write_text(text.format("energy=-1 pos_unit=bohr cell_unit=Angstrom"))
    with pytest.raises(DataError, match="cell_units = Angstrom beside lengths in bohr"):
        read_sources(path, report=quiet)
    path.write_text(forces.format("").replace("energy_units=Ha", "length_units=Bohr"))
    with pytest.raises(DataError, match="nothing says in what the forces are"):
        read_sources(path, report=quiet)
    path.write_text(forces.format(" force_units=Ha/Bohr"))
    np.testing.assert_allclose(
        read_sources(path, report=quiet).forces[0], np.array([1, 2, 3]) * Hartree / Bohr
    )


@pytest.mark.parametrize(
    ("comment", "cell", "scale"),
    [
        ("# CELL(abcABC): 5 5 6 90 90 90 Step: 0 Bead: 0 positions{angstrom} cell{angstrom}", [5, 5, 6], 1),
        (
            "# CELL(abcABC): 5 5 6 90.0 90.0 90.0 cell{atomic_unit} Traj: positions{atomic_unit}",
            [5, 5, 6],
            Bohr,
        ),
        ("# CELL{abcABC}: 1.0E1 9. 8 90 90 90 Traj: positions{angstrom} cell{atomic_unit}", None, 1),
        ("# CELL{abcABC}: 5.0D0 5 6 90 90 90 positions{angstrom} cell{angstrom}", [5, 5, 6], 1),
    ],
)
def test_cells_of_i_pi_are_read(tmp_path, comment, cell, scale):
    (tmp_path / "a.xyz").write_text(f"2\n{comment}\nCu 0 0 0\nCu 2.5 0 0\n")
    s = read_sources(tmp_path / "a.xyz", report=quiet)[0]
    assert s.pbc.all()
    np.testing.assert_allclose(s.positions[1], [2.5 * scale, 0, 0])
    expected = np.array([10, 9, 8]) * Bohr if cell is None else np.array(cell) * scale
    np.testing.assert_allclose(np.diag(s.cell), expected, rtol=1e-10)


@pytest.mark.parametrize("kind", ["CELL(H)", "CELL{GENH}", "CELL[GENH]"])
def test_the_vectors_of_cells_of_i_pi_are_columns(tmp_path, kind):
    """i-PI keeps a in the first column of an upper triangular matrix."""
    cell = np.array([[5.0, 0.0, 0.0], [1.0, 6.0, 0.0], [0.5, -0.7, 7.0]])
    a, b, c, *angles = Cell(cell).cellpar().tolist()
    tail = "Step: 3 Bead: 0 positions{angstrom} cell{atomic_unit}"
    comments = {
        "matrix": f"# {kind}: {' '.join(map(str, (cell.T / Bohr).ravel()))} {tail}",
        "lengths": f"# CELL(abcABC): {a / Bohr} {b / Bohr} {c / Bohr} {' '.join(map(str, angles))} {tail}",
    }
    for name, comment in comments.items():
        (tmp_path / f"{name}.xyz").write_text(f"2\n{comment}\nCu 0 0 0\nCu 2.5 0 0\n")
        s = read_sources(tmp_path / f"{name}.xyz", report=quiet)[0]
        np.testing.assert_allclose(s.cell, cell, atol=1e-9)
        assert s.positions[1].tolist() == [2.5, 0, 0]


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        (
            "# CELL(H): 5 0 0 0 5 0 positions{angstrom} cell{angstrom}",
            r"CELL\(H\) .* with 6 numbers is not read",
        ),
        ("# CELL(Q): 5 0 0 0 5 0 0 0 5 cell{angstrom}", r"CELL\(Q\) of i-PI with 9 numbers is not read"),
        (
            "# CELL(abcABC): 5 5 5 90 90 90 Traj: forces{atomic_unit} cell{angstrom}",
            "holds forces, not positions",
        ),
        ("# CELL(abcABC): 5 5 5 90 90 90", "does not say the units"),
        ('cell="5 0 0 0 5 0 0 0 5"', "which is not read; rewrite the comment"),
        ("box=5,5,5", "which is not read"),
        ("5.0 5.0 5.0 90 90 90", "which is not read"),
        ("# CELL(abcABC): 5 5 5 190 90 90 positions{angstrom} cell{angstrom}", "no lengths and angles"),
        ("# CELL(abcABC): -1 -1 -1 90 90 90 positions{angstrom} cell{angstrom}", "no lengths and angles"),
        ("# CELL(abcABC): 5 5 nan 90 90 90 0 positions{angstrom} cell{angstrom}", "no lengths and angles"),
    ],
)
def test_cells_in_words_that_are_not_read_are_refused_with_the_reason(tmp_path, comment, message):
    (tmp_path / "a.xyz").write_text(f"1\n\nCu 0 0 0\n2\n{comment}\nCu 0 0 0\nCu 2.5 0 0\n")
    with pytest.raises(DataError, match=message) as error:
        read_sources(tmp_path / "a.xyz", report=quiet)
    assert "a.xyz, frame 1 (line 4)" in str(error.value)


def test_atoms_far_from_all_others_are_no_numbers_to_interpolate():
    """Picometers: no unit fits, and nothing is said by NumPy."""
    s = [Structure(numbers=[29, 29], positions=[[0, 0, 0], [0, 0, 250 + k]], energy=1.0) for k in range(30)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wrong_units(Dataset.from_structures(s), METAL) is None


@pytest.mark.parametrize("word", ["Hartree/Bohr^3", "ha/bohr3", "Eh/a0**3", "HARTREE/BOHR^3"])
def test_energies_by_volumes_are_units_of_stresses(word):
    units = parse_units(f"eV Angstrom {word}")
    assert units.stress == pytest.approx(Hartree / Bohr**3, rel=1e-12)
    assert parse_units(str(units)) == units
    assert parse_units("kcal/mol nm kcal/mol/Angstrom^3").stress == pytest.approx(kcal / mol)
    assert parse_units("Hartree Bohr Hartree/Bohr^3").agrees(ATOMIC)
    assert not parse_units("Hartree Bohr GPa").agrees(ATOMIC)
    for wrong in ("Hartree^3", "GPa/Bohr^3", "Hartree/Bohr^2", "/Bohr^3"):
        with pytest.raises(ValueError, match=re.escape(f"{wrong!r} is no unit known here")):
            parse_units(f"eV Angstrom {wrong}")


HEAD = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 energy=-1 {}\n'
STRESS = 'stress="0.1 0 0 0 0.2 0 0 0 0.3"'


@pytest.mark.parametrize("units", ["Hartree Bohr", "kcal/mol Angstrom", "eV nm"])
def test_a_stress_in_units_that_nobody_named_is_told(tmp_path, units):
    def read(words, units):
        lines = []
        (tmp_path / "a.xyz").write_text(f"2\n{HEAD.format(words)}Cu 0 0 0\nCu 2 0 0\n")
        return read_sources(tmp_path / "a.xyz", units=units, report=lines.append), "\n".join(lines)

    data, said = read(STRESS, units)
    assert data.stress[0, :3].tolist() == [0.1, 0.2, 0.3]
    energy, length = units.split()
    wanted = f"'{units} {energy}/{length}^3'"
    assert "'stress' is taken in eV/Angstrom^3, as the units" in said and wanted in said
    data, said = read(STRESS, wanted.strip("'"))
    unit = parse_units(units)
    np.testing.assert_allclose(data.stress[0, 0], 0.1 * unit.energy / unit.length**3, rtol=1e-12)
    assert "is taken in" not in said
    assert "is taken in" not in read(STRESS, f"{units} eV/Angstrom^3")[1]
    assert "is taken in" not in read(STRESS, None)[1]
    assert "is taken in" not in read(STRESS.replace("stress", "virial"), units)[1]


def test_units_of_stresses_are_said_beside_those_that_a_file_states(tmp_path):
    write_target(tmp_path / "input.data", crystal())
    full = "Hartree Bohr Hartree/Bohr^3"
    data = read_sources(tmp_path / "input.data", units=full, report=quiet)  # that is what it means
    np.testing.assert_allclose(data.positions, crystal().positions, rtol=1e-12)
    words = f'{STRESS} units="Hartree Bohr"'
    (tmp_path / "a.xyz").write_text(f"2\n{HEAD.format(words)}Cu 0 0 0\nCu 4 0 0\n")
    data = read_sources(tmp_path / "a.xyz", units=full, report=quiet)
    assert data.stress[0, 0] == pytest.approx(0.1 * Hartree / Bohr**3)
    words = f"{STRESS} stress_units=Hartree/Bohr^3"
    (tmp_path / "a.xyz").write_text(f"2\n{HEAD.format(words)}Cu 0 0 0\nCu 4 0 0\n")
    assert read_sources(tmp_path / "a.xyz", report=quiet).stress[0, 0] == pytest.approx(
        0.1 * Hartree / Bohr**3
    )
    with pytest.raises(DataError, match="states the units eV Angstrom Hartree/Bohr.3, but eV Angstrom were"):
        read_sources(tmp_path / "a.xyz", units="eV Angstrom", report=quiet)


@pytest.mark.parametrize(
    ("tail", "positions", "cell"),
    [
        ("", Bohr, Bohr),
        ("positions{atomic_unit}", Bohr, Bohr),
        ("positions{atomic_unit} cell{angstrom}", Bohr, 1.0),
        ("cell{angstrom}", Bohr, 1.0),
    ],
)
def test_what_i_pi_does_not_say_is_as_asked_for(tmp_path, tail, positions, cell):
    comment = f"# CELL(abcABC): 9 9 9 90 90 90 Step: 0 Bead: 0 {tail}"
    (tmp_path / "a.xyz").write_text(f"2\n{comment}\nCu 0 0 0\nCu 4 0 0\n")
    s = read_sources(tmp_path / "a.xyz", units="Hartree Bohr", report=quiet)[0]
    assert s.positions[1, 0] == pytest.approx(4 * positions)
    np.testing.assert_allclose(np.diag(s.cell), 9 * cell, rtol=1e-10)
    if "positions" in tail:
        with pytest.raises(DataError, match="states the units eV Bohr, but eV Angstrom were asked for"):
            read_sources(tmp_path / "a.xyz", units="eV Angstrom", report=quiet)
    else:
        with pytest.raises(DataError, match="does not say the units of positions and cell .*--units"):
            read_sources(tmp_path / "a.xyz", report=quiet)


def test_units_that_a_comment_leaves_open_are_those_that_are_asked_for(tmp_path):
    header = "Properties=species:S:1:pos:R:3:forces:R:3 energy=-1 energy_units=Ha"
    (tmp_path / "a.xyz").write_text(f"2\n{header}\nCu 0 0 0 1 2 3\nCu 0 0 4 0 0 0\n")
    data = read_sources(tmp_path / "a.xyz", units="Hartree Bohr eV/Angstrom", report=quiet)
    assert data.energy[0] == pytest.approx(-Hartree)
    assert data.forces[0].tolist() == pytest.approx([1, 2, 3])
    assert data.positions[1, 2] == pytest.approx(4 * Bohr)
    with pytest.raises(DataError, match="states the units Hartree Angstrom, but eV Angstrom were asked for"):
        read_sources(tmp_path / "a.xyz", units="eV Angstrom", report=quiet)
