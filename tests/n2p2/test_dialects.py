"""Dialects of n2p2's and RuNNer's files: units, two forms of a keyword, functions given twice, what is
refused and why.
"""

import shutil
import subprocess
import sys
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
from ase import Atoms
from conftest import DATA
from typer.testing import CliRunner

from mpnnp.cli import app
from mpnnp.config import make_config
from mpnnp.data import dataset as hdf5
from mpnnp.data.dataset import Dataset
from mpnnp.data.formats import read_sources
from mpnnp.data.runner import write_runner_data
from mpnnp.data.structure import Structure
from mpnnp.errors import ConfigError, DataError
from mpnnp.model.function_sets import from_tables
from mpnnp.model.network import Network
from mpnnp.model.potential import Potential
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.model.symmetry_functions import SymmetryFunctions, parse_line
from mpnnp.n2p2.export import write_potential
from mpnnp.n2p2.input_file import InputFile
from mpnnp.n2p2.nets import ambiguous_layers, read_network
from mpnnp.n2p2.potential_files import read_functions, read_potential
from mpnnp.n2p2.translate import translate
from mpnnp.simulation.calculator import Calculator, load_potentials
from mpnnp.simulation.labelling import make_labeller
from mpnnp.simulation.trajectories import read_start
from mpnnp.training.checkpoint import load_potential
from mpnnp.training.initial_potential import load_weights_from
from mpnnp.units import ATOMIC, BOHR, METAL

FOLDER = DATA / "predict_acsf_cos"


@pytest.fixture
def folder(tmp_path):
    """A copy of a potential of n2p2 with its data."""
    return shutil.copytree(FOLDER, tmp_path / "potential")


def change(path, old, new, count=-1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def append(path, *lines):
    path.write_text(path.read_text() + "\n".join(["", *lines, ""]))


def predict(folder, units=None):
    potential = read_potential(folder, units=units)
    s = read_sources(FOLDER / "input.data", report=lambda _: None)[5]
    return potential, potential.energy_forces(s)


# ---- units


def in_metal_units(folder):
    """The same potential with its lengths in Angstrom and energies in eV."""
    potential = read_potential(folder)
    other = folder.parent / "metal"
    write_potential(replace(potential, units=METAL), other)
    return other


def test_a_potential_in_ev_and_angstrom_is_the_same_potential(folder):
    other = in_metal_units(folder)
    text = (other / "input.nn").read_text()
    assert "# units: eV Angstrom" in text and "# lengths in Angstrom, energies in eV" in text
    (a, (energy, forces)), (b, found) = predict(folder), predict(other)
    assert b.units == METAL and a.units == ATOMIC
    np.testing.assert_allclose(found[0], energy, rtol=1e-12)
    np.testing.assert_allclose(found[1], forces, rtol=1e-9, atol=1e-12)
    change(other / "input.nn", "# units: eV Angstrom\n", "")
    np.testing.assert_allclose(predict(other, "eV Angstrom")[1][0], energy, rtol=1e-12)
    assert abs(predict(other)[1][0] - energy) > 1.0  # taken for Hartree and Bohr
    append(other / "input.nn", "# units: eV Angstrom")
    with pytest.raises(DataError, match="states the units eV Angstrom, but Hartree Bohr were asked for"):
        read_potential(other, units="Hartree Bohr")
    with pytest.raises(ConfigError, match="furlong"):
        read_potential(folder, units="eV furlong")


def test_units_are_kept_in_checkpoints_and_old_ones_are_atomic(folder, tmp_path):
    potential = read_potential(in_metal_units(folder))
    with h5py.File(tmp_path / "p.h5", "w") as file:
        potential.write(file)
        assert Potential.read(file, potential.weights).units == METAL
        del file.attrs["file_units"]
        assert Potential.read(file, potential.weights).units == ATOMIC


def test_cp2k_gets_bohr_and_hartree_whatever_the_units_were(tmp_path):
    functions = from_tables(
        [{"center": "Ar", "kind": 2, "neighbours": ["Ar"], "eta": [0.1, 0.4], "r_c": 6.0}], cutoff=2
    )
    statistics = Statistics(*np.array([[5, 5], [0, 0.1], [1, 2], [0.5, 0.6], [0.1, 0.2]]))
    potential = Potential(
        functions=SymmetryFunctions([18], functions),
        scaling=Scaling("min-max", 0.0, 1.0, statistics),
        network=Network([(2, 3, 1)], [("tanh", "identity")]),
        weights=np.linspace(-1, 1, 13),
        atomic_energies=np.array([-3.0]),
        mean_energy=0.2,
        energy_scale=0.7,
        force_scale=1.3,
        units=METAL,
    )
    write_potential(potential, tmp_path / "cp2k", cp2k=True)
    atoms = Structure(numbers=[18, 18, 18], positions=[[0, 0, 0], [0, 0, 3.1], [0, 2.9, 0.3]])
    np.testing.assert_allclose(
        read_potential(tmp_path / "cp2k").energy_forces(atoms)[1],
        potential.energy_forces(atoms)[1],
        atol=1e-12,
    )
    assert "units: eV" not in (tmp_path / "cp2k" / "input.nn").read_text()
    assert read_potential(tmp_path / "cp2k").units == ATOMIC


@pytest.mark.parametrize("how", ["setting", "input.nn", "input.data"])
def test_translate_takes_and_tells_the_units(folder, how):
    line = "# units: eV Angstrom\n"
    if how != "setting":
        path = folder / how
        path.write_text(line + path.read_text())
    settings = ["data.units=eV Angstrom"] if how == "setting" else []
    t = translate(folder / "input.nn", settings=settings)
    assert t.tree["data"]["units"] == t.tree["symmetry_functions"]["input_nn_units"] == "eV Angstrom"
    assert any(note.startswith("units: eV Angstrom") for note in t.notes)
    assert translate(FOLDER / "input.nn").tree["data"].get("units") is None
    assert any("Hartree and Bohr are assumed" in note for note in translate(FOLDER / "input.nn").notes)


def test_contradicting_units_of_both_files_are_an_error(folder):
    for name, units in (("input.nn", "eV Angstrom"), ("input.data", "Hartree Bohr")):
        path = folder / name
        path.write_text(f"# units: {units}\n" + path.read_text())
    with pytest.raises(DataError, match="contradicting units: eV Angstrom .* Hartree Bohr"):
        translate(folder / "input.nn")


def test_translate_refuses_lengths_that_cannot_be_bohr(folder):
    data = read_sources(FOLDER / "input.data", report=lambda _: None)
    shrunk = [vars(s) | {"positions": s.positions * BOHR, "cell": s.cell * BOHR} for s in data]
    write_runner_data(folder / "input.data", Dataset.from_structures(Structure(**s) for s in shrunk))
    change(folder / "input.data", "comment units: Hartree Bohr\n", "")
    with pytest.raises(ConfigError, match="hardly in Bohr.*data.units = 'eV Angstrom'"):
        translate(folder / "input.nn")
    assert translate(folder / "input.nn", settings=["data.units='eV Angstrom'"]).tree["data"]["units"]


# ---- nets


def nets(folder, *lines):
    append(folder / "input.nn", *lines)
    source = InputFile(folder / "input.nn")
    return [size[1:-1] for size in read_network(source, read_functions(source)).sizes]  # of H and O


def hidden(folder):
    source = InputFile(folder / "input.nn")
    return read_network(source, read_functions(source)).sizes[0][1:-1]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["element_nodes_short H 7 8"], [(7, 8), None]),
        (["element_nodes_short H 9 6", "element_nodes_short O 12 4"], [(9, 6), (12, 4)]),
        (["element_hidden_layers_short H 3", "element_nodes_short H 3 8 7"], [(3, 8, 7), None]),
        (["element_hidden_layers_short O 1", "element_nodes_short O 5"], [None, (5,)]),
        (["element_nodes_short H 2 9"], ["second 9", None]),
        (["element_nodes_short H 1 9", "element_nodes_short H 2 4"], [(9, 4), None]),
        (["element_nodes_short O 2 3", "element_nodes_short O 3 1"], [None, "second 3"]),
    ],
)
def test_nodes_of_an_element_are_read_in_both_forms(folder, lines, expected):
    before = hidden(folder)
    assert len(before) == 2
    for found, wanted in zip(nets(folder, *lines), expected):
        if isinstance(wanted, str):
            wanted = (before[0], int(wanted.split()[1]))
        assert tuple(found) == tuple(wanted or before)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["element_nodes_short H 2 9"], ["read as layer 2 of 9 nodes"]),
        (["element_nodes_short H 2 9", "element_nodes_short O 1 9"], ["layer 2 of 9", "layer 1 of 9"]),
        (["element_nodes_short H 2 9", "element_activation_short O 1 t"], []),
        (["element_nodes_short H 1 9", "element_nodes_short H 2 4"], []),
        (["element_nodes_short H 7 8"], []),
        (["element_nodes_short H 3 1"], []),  # the output layer
        (["element_nodes_short"], []),
    ],
)
def test_lines_that_no_word_tells_the_form_of_are_named(folder, lines, told):
    append(folder / "input.nn", *lines)
    source = InputFile(folder / "input.nn")
    found = ambiguous_layers(source, read_functions(source))
    assert len(found) == len(told) and all(part in line for part, line in zip(told, found))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["element_nodes_short H 9 8 7"], "has 3 values, H has 2 hidden layers"),
        (
            ["element_nodes_short H 1 9", "element_nodes_short H 2 9", "element_nodes_short O 9 8 7"],
            "in one form",
        ),
        (["element_activation_short H 1 t", "element_activation_short O t t l"], "in one form"),
        (["element_nodes_short H 9 x y"], "expected 'element_nodes_short ELEMENT VALUE VALUE"),
        (["element_hidden_layers_short H 3", "element_nodes_short H 5 8"], "H has 3 hidden layers"),
    ],
)
def test_contradictory_nodes_are_refused(folder, lines, message):
    with pytest.raises(DataError, match=message):
        nets(folder, *lines)


def test_activations_of_an_element_are_read_in_both_forms(folder):
    append(folder / "input.nn", "element_activation_short H p c l")
    source = InputFile(folder / "input.nn")
    new = read_network(source, read_functions(source)).activations
    shutil.copy(FOLDER / "input.nn", folder / "input.nn")
    append(folder / "input.nn", "element_activation_short H 1 p", "element_activation_short H 2 c")
    source = InputFile(folder / "input.nn")
    assert read_network(source, read_functions(source)).activations == new


# ---- functions given twice


@pytest.mark.parametrize("swapped", [False, True])
def test_functions_given_twice_are_merged_without_changing_the_potential(folder, swapped):
    """A file with the third and the last function of H doubled, and weights split between the copies."""
    expected = predict(folder)
    functions = expected[0].functions
    mine = [f for f in functions.functions if f.center == 1]
    chosen = [2, len(mine) - 1]
    lines = [k for k in InputFile(folder / "input.nn").all("symfunction_short") if k.words[0] == "H"]
    parse = lambda k: parse_line(" ".join(k.words), mine[0].cutoff, mine[0].alpha)  # noqa: E731
    of_line = {functions.ordered(parse(k)): k for k in lines}
    for n in chosen:
        words = list(of_line[mine[n]].words)
        if swapped and words[1] == "3":
            words[2], words[3] = words[3], words[2]
        append(folder / "input.nn", f"symfunction_short {' '.join(words)}")
    rows = [
        line for line in (folder / "scaling.data").read_text().splitlines() if line.strip() and line[0] != "#"
    ]
    first, rest = rows[: len(mine)], rows[len(mine) :]
    doubled = [row for n, row in enumerate(first) for _ in range(1 + (n in chosen))]
    doubled = [" ".join([row.split()[0], str(n), *row.split()[2:]]) for n, row in enumerate(doubled, 1)]
    (folder / "scaling.data").write_text("\n".join(doubled + rest) + "\n")
    path = folder / "weights.001.data"
    weights = [float(x.split()[0]) for x in path.read_text().splitlines() if x.strip() and x[0] != "#"]
    n_node = expected[0].network.sizes[0][1]
    parts = np.array(weights[: len(mine) * n_node]).reshape(len(mine), n_node)
    split = [p for n, row in enumerate(parts) for p in ([0.3 * row, 0.7 * row] if n in chosen else [row])]
    values = np.concatenate([np.ravel(split), weights[len(mine) * n_node :]])
    path.write_text("\n".join(f"{v:.17g}" for v in values) + "\n")
    found = predict(folder)
    assert len(found[0].functions) == len(functions) and found[0].functions.copies.sum() == len(functions) + 2
    np.testing.assert_allclose(found[1][0], expected[1][0], rtol=1e-12)
    np.testing.assert_allclose(found[1][1], expected[1][1], rtol=1e-9, atol=1e-11)
    assert translate(folder / "input.nn")


# ---- keywords and messages


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_force_energy_ratio_is_a_fraction_of_the_forces(folder, ratio):
    data = read_sources(folder / "input.data", report=lambda _: None)
    append(
        folder / "input.nn", f"force_energy_ratio {ratio}", "use_short_forces", "short_energy_fraction 0.5"
    )
    t = translate(folder / "input.nn")
    n_force = int(np.isfinite(data.forces).sum())
    assert t.tree["schedule"]["force_fraction"] == pytest.approx(ratio * 0.5 * len(data) / n_force)


@pytest.mark.parametrize(
    "line", ["use_atom_charges", "use_atom_charges\nfour_pi_epsilon 1.0\nnnp_type 2G-HDNNP"]
)
def test_harmless_keywords_are_read_over(folder, line):
    append(folder / "input.nn", *line.split("\n"))
    assert translate(folder / "input.nn").tree
    assert read_potential(folder)


@pytest.mark.parametrize(
    "lines",
    [
        ["nnp_type 4G-HDNNP", "fixed_gausswidth H 1.0", "fixed_gausswidth O 1.2"],
        ["nnp_generation 4", "fixed_gausswidth H 1.0", "fixed_gausswidth O 1.2"],
        ["nnp_gen 3"],
    ],
)
def test_potentials_with_charges_are_called_so(folder, lines):
    append(folder / "input.nn", *lines)
    for read in (translate, lambda path: read_potential(path.parent)):
        with pytest.raises(DataError, match="2G-HDNNP only, potentials with charges"):
            read(folder / "input.nn")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("symfunction_short H 2 H -0.1 0 12", "'symfunction_short H 2 H -0.1 0 12': eta = -0.1: must not be"),
        (
            "symfunction_short H 2 H 0.1 0 -12",
            "'symfunction_short H 2 H 0.1 0 -12': r_c = -12.0: must be positive",
        ),
        ("symfunction_short H 2 Cl 0.1 0 12", "Cl is not among the elements H O of the file"),
        ("symfunction_short H 3 H O 0.1 2 1 12", "lambda = 2.0: must be -1 or 1"),
    ],
)
def test_refused_functions_are_named_by_line_and_in_the_units_of_the_file(folder, line, message):
    append(folder / "input.nn", line)
    n = len((folder / "input.nn").read_text().splitlines())
    with pytest.raises(DataError) as error:
        read_potential(folder)
    assert f"input.nn, line {n}: " in str(error.value) and message in str(error.value)


def scaling_lines(folder):
    path = folder / "scaling.data"
    lines = path.read_text().splitlines()
    return path, lines, [n for n, x in enumerate(lines) if x.strip() and x[0] != "#"]


def test_swapped_missing_and_senseless_lines_of_scaling_are_named(folder):
    path, lines, at = scaling_lines(folder)
    swapped = list(lines)
    swapped[at[2]], swapped[at[3]] = swapped[at[3]], swapped[at[2]]
    path.write_text("\n".join(swapped) + "\n")
    with pytest.raises(
        DataError, match=rf"line {at[2] + 1}: expected function 3 of element 1 \(H\), found function 4"
    ):
        read_potential(folder)
    words = lines[at[1]].split()
    path.write_text(
        "\n".join([*lines[: at[1]], " ".join([*words[:2], "0.5", "0.5", *words[4:]]), *lines[at[1] + 1 :]])
    )
    with pytest.raises(
        DataError, match=rf"line {at[1] + 1}: function 2 of H never varies \(from 0.5 to 0.5\)"
    ):
        read_potential(folder)
    path.write_text("\n".join([*lines[: at[1]], " ".join([*words[:2], *["nan"] * 4]), *lines[at[1] + 1 :]]))
    with pytest.raises(DataError, match=rf"line {at[1] + 1}: .*an element without atoms in the data, H"):
        read_potential(folder)


@pytest.mark.parametrize("name", ["optweights.{:03d}.out", "weights.{:03d}.000010.out"])
def test_weights_are_read_as_the_programs_leave_them(folder, name):
    expected = read_potential(folder).weights
    for z in (1, 8):
        (folder / f"weights.{z:03d}.data").rename(folder / name.format(z))
    assert np.array_equal(read_potential(folder).weights, expected)


def test_weights_of_several_epochs_are_not_chosen_from(folder):
    for z in (1, 8):
        shutil.copy(folder / f"weights.{z:03d}.data", folder / f"weights.{z:03d}.000001.out")
        (folder / f"weights.{z:03d}.data").rename(folder / f"weights.{z:03d}.000002.out")
    with pytest.raises(DataError, match="has the weights of 2 epochs of H"):
        read_potential(folder)


@pytest.mark.parametrize("where", ["weights_short.001.data", "1/weights_short.001.data", "keyword"])
def test_files_of_runner_2_are_recognised_and_refused(folder, where):
    if where == "keyword":
        append(folder / "input.nn", "optimizer 1 kalman")
    else:
        (folder / where).parent.mkdir(exist_ok=True)
        (folder / where).write_text("")
    for read in (translate, lambda path: read_potential(path.parent)):
        with pytest.raises(DataError, match="is of RuNNer 2"):
            read(folder / "input.nn")


def test_a_locked_file_is_called_locked(tmp_path):
    path = tmp_path / "d.h5"
    hdf5.write(path, Dataset.from_structures([Structure(numbers=[1], positions=[[0, 0, 0]], energy=1.0)]))
    code = f"import h5py, time; f = h5py.File({str(path)!r}, 'r+'); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "held"
        time.sleep(0.1)
        with pytest.raises(DataError, match="is locked: another process"):
            hdf5.read(path)
    finally:
        holder.kill()
        holder.wait()


def test_isolated_atoms_are_the_references_of_a_training(tmp_path):
    """The same frames with and without two isolated atoms: the same split, and E0 as atomic energies."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(12):
        x = rng.normal(scale=0.05, size=(3, 3)) + [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]
        rows = [f"{s} {a} {b} {c} 0 0 0" for s, (a, b, c) in zip("OHH", x.tolist())]
        energy = -470 + float(((x - x.mean(0)) ** 2).sum())
        frames.append(
            f"3\nProperties=species:S:1:pos:R:3:forces:R:3 energy={energy}\n" + "\n".join(rows) + "\n"
        )
    alone = (
        "1\nProperties=species:S:1:pos:R:3:forces:R:3 config_type=IsolatedAtom energy={}\n{} 0 0 0 0 0 0\n"
    )
    text = alone.format(-432.1, "O") + alone.format(-12.5, "H") + "".join(frames)
    (tmp_path / "a.xyz").write_text(text.replace(" 0 0 0\n", " 0.1 0 0\n"))
    (tmp_path / "a.toml").write_text(
        '[data]\nfiles = "a.xyz"\n[network]\nhidden = [3]\n[run]\nepochs = 1\nupdates = 2\n'
        "[symmetry_functions]\nr_c = 4.0\n"
    )
    done = CliRunner().invoke(app, ["train", str(tmp_path / "a.toml"), "-o", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "energies of isolated atoms, which are not trained on" in done.output
    assert "12 structures" in done.output
    assert load_potential(tmp_path / "run" / "best.h5").atomic_energies.tolist() == [-12.5, -432.1]


@pytest.fixture
def in_metal(tmp_path):
    """(Potential, a folder of its files in eV and Angstrom that does not say so)."""
    potential = replace(read_potential(FOLDER), units=METAL)
    write_potential(potential, tmp_path / "metal")
    change(tmp_path / "metal" / "input.nn", "# units: eV Angstrom\n", "")
    return potential, tmp_path / "metal"


def test_who_takes_a_folder_can_be_told_its_units(in_metal, tmp_path):
    potential, folder = in_metal
    s = read_sources(FOLDER / "input.data", report=lambda _: None)[5]
    energy = potential.energy_forces(s)[0]
    atoms = Atoms(s.numbers, s.positions)
    for calculator in (
        Calculator(folder, units="eV Angstrom"),
        Calculator([folder, folder], units=METAL),
        make_labeller(str(folder), "eV Angstrom"),
    ):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-10)
    (member,) = load_potentials(str(folder), "eV Angstrom")
    assert member.energy_forces(s)[0] == pytest.approx(energy, rel=1e-10)
    config = make_config(
        {
            "data": {"files": ["x"]},
            "symmetry_functions": {"input_nn": str(folder / "input.nn"), "input_nn_units": "eV Angstrom"},
            "network": {"initializer": "files", "weights_from": str(folder)},
        }
    )
    assert load_weights_from(config).energy_forces(s)[0] == pytest.approx(energy, rel=1e-10)
    result = CliRunner().invoke(app, ["info", str(folder), "--units", "eV Angstrom"])
    assert result.exit_code == 0 and "n2p2 files, elements H O" in result.output
    assert f"cutoff radius: {potential.functions.r_c:.6g} A" in result.output
    assert "units of its n2p2 files: eV Angstrom" in result.output


def test_a_simulation_starts_from_what_our_readers_read(tmp_path):
    """The cell of i-PI, which ASE does not see; momenta and masses, which ASE knows."""
    lines = "2\n# CELL(abcABC): 5 6 7 90 90 90 Step: 0 positions{angstrom} cell{angstrom}\n"
    (tmp_path / "ipi.xyz").write_text(lines + "Cu 0 0 0\nCu 2.5 0 0\n")
    start = read_start(tmp_path / "ipi.xyz", None, lambda text: None)
    np.testing.assert_allclose(start.cell.lengths(), [5, 6, 7])
    assert start.pbc.all()
    atoms = Atoms("Cu2", [[0, 0, 0], [2.5, 0, 0]], masses=[60, 70], momenta=np.ones((2, 3)))
    atoms.write(tmp_path / "a.extxyz", parallel=False)
    start = read_start(tmp_path / "a.extxyz", None, lambda text: None)
    assert start.get_masses().tolist() == [60, 70] and (start.get_momenta() == 1.0).all()
    shutil.copy(FOLDER / "input.data", tmp_path)
    start = read_start(tmp_path / "input.data", None, lambda text: None)
    assert len(start) == 18 and not start.has("momenta")


def test_force_energy_ratio_gives_way_to_a_fraction_that_is_set(folder):
    append(folder / "input.nn", "use_short_forces", "force_energy_ratio 3.0")
    (folder / "input.data").unlink()
    with pytest.raises(ConfigError, match="needs the input.data beside it.*--set schedule.force_fraction"):
        translate(folder / "input.nn")
    config = translate(folder / "input.nn", settings=["schedule.force_fraction=0.05"]).config(
        ["schedule.force_fraction=0.05"]
    )
    assert config.schedule.force_fraction == 0.05


@pytest.mark.parametrize(
    "name, value", [("conv_energy", "0"), ("conv_length", "-1.5"), ("conv_energy", "0.0")]
)
def test_a_normalisation_that_is_no_unit_is_refused(folder, name, value):
    append(folder / "input.nn", f"{name} {value}")
    with pytest.raises(DataError, match=rf"input.nn, line \d+: {name} is .*, must be positive"):
        read_potential(folder)


# ---- lines that mean nothing


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["element_nodes_short Au 9 8"],
            "line LAST: .* expected one of the elements .* of the file, found Au",
        ),
        (["element_hidden_layers_short Au 3"], "line LAST: .* found Au"),
        (["element_activation_short"], "line LAST: .* found nothing"),
        (["random_seed 1.5"], "line LAST: 'random_seed 1.5': expected an integer"),
    ],
)
def test_lines_of_elements_that_are_not_there_are_errors(folder, lines, message):
    change(folder / "input.nn", "random_seed", "#random_seed")
    append(folder / "input.nn", *lines)
    last = len((folder / "input.nn").read_text().splitlines())
    with pytest.raises(DataError, match=message.replace("LAST", str(last))):
        translate(folder / "input.nn")


def test_a_seed_beyond_64_bits_is_a_number(folder):
    change(folder / "input.nn", "random_seed", "random_seed 99999999999999999999 #")
    assert translate(folder / "input.nn").config().run.seed == 99999999999999999999


def test_activations_of_fewer_layers_are_an_error_and_nodes_of_more_are_told(folder):
    source = InputFile(folder / "input.nn")
    nodes, letters = (source.last(f"global_{name}_short") for name in ("nodes", "activation"))
    written = {k: (folder / "input.nn").read_text().splitlines()[k.line - 1] for k in (nodes, letters)}
    change(folder / "input.nn", written[nodes], f"global_nodes_short {' '.join(nodes.words)} 7")
    assert any("7 is not used" in note for note in translate(folder / "input.nn").notes)
    change(folder / "input.nn", written[letters], "global_activation_short t")
    with pytest.raises(DataError, match=f"line {letters.line}: .*: has 1 activation functions, must have 2"):
        translate(folder / "input.nn")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("atom_energy Au -1.0", "line LAST: .*Au is not among the elements of the file"),
        ("atom_energy O -1.0\natom_energy O -2.0", "line LAST: .*another line has another energy of O"),
    ],
)
def test_energies_of_atoms_that_contradict_the_file_are_errors(folder, line, message):
    text = "\n".join(k for k in (folder / "input.nn").read_text().splitlines() if "atom_energy" not in k)
    (folder / "input.nn").write_text(f"{text}\n{line}\n")
    last = len((folder / "input.nn").read_text().splitlines())
    with pytest.raises(DataError, match=message.replace("LAST", str(last))):
        read_potential(folder)


def test_weights_out_of_the_order_of_their_numbers_are_an_error_with_its_line(folder):
    written = folder.parent / "written"
    write_potential(read_potential(folder), written)
    path = written / "weights.001.data"
    lines = path.read_text().splitlines(keepends=True)
    lines[4], lines[5] = lines[5], lines[4]
    path.write_text("".join(lines))
    with pytest.raises(DataError, match="weights.001.data, line 5: expected weight 4, found weight 5"):
        read_potential(written)


def test_nets_of_every_element_need_no_global_keywords(folder):
    """n2p2's master reads each of them where it is there."""
    lines = [f"element_hidden_layers_short {z} 2" for z in "HO"]
    lines += [f"element_nodes_short {z} {k} {n}" for z in "HO" for k, n in ((1, 15), (2, 10))]
    lines += [f"element_activation_short {z} {k} t" for z in "HO" for k in (1, 2)]
    expected = read_potential(folder)
    path = folder / "input.nn"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "global_" not in line))
    append(path, *lines)
    found = read_potential(folder)
    assert found.network.sizes == expected.network.sizes
    assert found.network.activations == expected.network.activations
    np.testing.assert_array_equal(found.weights, expected.weights)


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("hidden_layers", "'global_hidden_layers_short' is missing, and element_hidden_layers_short of H"),
        ("nodes", "layer 1 of the 2 hidden layers of H is not given: by global_nodes_short or element_nodes"),
        ("activation", "layer 1 of the 2 hidden layers of H is not given: by global_activation_short or"),
    ],
)
def test_layers_that_nothing_tells_are_errors(folder, keyword, message):
    path = folder / "input.nn"
    lines = [line for line in path.read_text().splitlines() if f"global_{keyword}" not in line]
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        read_potential(folder)


@pytest.mark.parametrize(
    "given", [["mean_energy -1.0"], ["conv_energy 2.0"], ["conv_energy 2.0", "conv_length 3.0"]]
)
def test_a_part_of_a_normalisation_is_refused(folder, given):
    """As by n2p2: the rest would be taken as 0 or 1."""
    append(folder / "input.nn", *given)
    with pytest.raises(DataError, match="must be there too: all of mean_energy, conv_energy, conv_length"):
        read_potential(folder)


@pytest.mark.parametrize("again", ["the last", "a further one"])
def test_more_lines_in_scaling_data_than_functions_are_an_error(folder, again):
    path = folder / "scaling.data"
    rows = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    words = rows[-1].split()
    append(
        path, rows[-1] if again == "the last" else " ".join([words[0], str(int(words[1]) + 1), *words[2:]])
    )
    with pytest.raises(DataError, match=f"expected {len(rows)} lines, .*, found {len(rows) + 1}"):
        read_potential(folder)


def test_the_line_of_energies_behind_scaling_data_is_no_function(folder):
    append(folder / "scaling.data", "-1.0 2.0")
    append(folder / "scaling.data", "-1.0E+00 1.0E+00 0.0E+00 2.0E+00 3.0 4.0")
    read_potential(folder)


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("cutoff_type 1", "cutoff_type 2 0.4", "'0.4' is not used"),
        ("random_seed", "selection_mode 2 10 0\nrandom_seed", "the first mode is kept, '10 0' are not used"),
        ("short t t l", "short t t l l", "there are 2 hidden layers, l is not used"),
    ],
)
def test_words_that_are_read_over_are_told_by_the_translation(folder, old, new, note):
    (folder / "scaling.data").unlink()
    change(folder / "input.nn", old, new, 1)
    assert any(note in line for line in translate(folder / "input.nn").notes)


@pytest.mark.parametrize("keyword", ["use_old_scaling", "use_old_weights_short"])
def test_what_is_kept_of_an_earlier_training_must_be_there(folder, keyword):
    (folder / "scaling.data").unlink()
    append(folder / "input.nn", keyword)
    with pytest.raises(ConfigError, match=f"line .*: '{keyword}' needs the scaling.data"):
        translate(folder / "input.nn")
