"""Files of n2p2: its predictions, our own files read back, CP2K on our files,
and what is wrong with wrong files.
"""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA
from oracles.cp2k import run_input
from small import cluster
from typer.testing import CliRunner

import mpnnp
from mpnnp.cli import app
from mpnnp.data.dataset import concatenate
from mpnnp.data.formats import read_sources, write_target
from mpnnp.data.packed import make_atoms
from mpnnp.errors import ConfigError, DataError
from mpnnp.kernels.energy_forces import symmetry_functions
from mpnnp.kernels.jit import read_only
from mpnnp.model.function_sets import from_tables
from mpnnp.model.network import ACTIVATIONS, Network
from mpnnp.model.potential import Potential
from mpnnp.model.scaling import Scaling, Statistics
from mpnnp.model.symmetry_functions import SymmetryFunctions
from mpnnp.n2p2.export import is_normalized, write_potential
from mpnnp.n2p2.input_file import InputFile
from mpnnp.n2p2.nets import read_network
from mpnnp.n2p2.potential_files import read_functions, read_potential, scaling_kind
from mpnnp.units import BOHR, HARTREE, parse_units

# by n2p2 at commit 61daa0df
FOLDERS = [
    "predict_acsf_cos",
    "predict_acsf_poly2_inner",
    "predict_acsf_tanh3",
    "predict_compact",
    "predict_weighted",
]


def table(path, columns):
    """Columns of a file of numbers with comments."""
    return np.array(
        [
            [float(line.split()[k]) for k in columns]
            for line in path.read_text().splitlines()
            if line.strip() and line[0] != "#"
        ]
    )


def blocks(path):
    """Blocks of function.data: per structure (n_atom, 1 + n_function) as lists, atomic number first."""
    lines, structures = path.read_text().splitlines(), []
    while lines:
        n_atom = int(lines[0])
        structures.append([[float(x) for x in line.split()] for line in lines[1 : n_atom + 1]])
        lines = lines[n_atom + 2 :]
    return structures


def check_predictions(folder):
    """All of energy.comp and forces.comp: nine digits, energies with their atomic and mean energies."""
    potential = mpnnp.load(folder)
    frames = read_sources(folder / "input.data", report=lambda _: None)
    energies, forces = zip(*(potential.energy_forces(frames[k]) for k in range(len(frames))))
    expected = table(folder / "energy.comp", (1, 3))
    np.testing.assert_array_equal(np.diff(frames.start), expected[:, 0])
    np.testing.assert_allclose(np.array(energies) / HARTREE, expected[:, 1], rtol=1e-8)
    expected = table(folder / "forces.comp", (3,))[:, 0]
    found = np.concatenate(forces).ravel() * BOHR / HARTREE
    np.testing.assert_allclose(found, expected, rtol=6e-9, atol=2e-12)  # 9 digits


def check_symmetry_functions(folder):
    """Unscaled symmetry functions against function.data: ten decimals, in the order of n2p2."""
    functions = read_functions(folder / "input.nn")
    frames = read_sources(folder / "input.data", report=lambda _: None)
    atoms = make_atoms(frames, functions.elements)
    t = functions.table
    ours = type(t)(*map(read_only, t))
    for k, rows in enumerate(blocks(folder / "function.data")):
        G = np.empty((len(rows), functions.n_max))
        symmetry_functions(atoms, k, ours, G)
        for g, (z, *expected) in zip(G, rows):
            e = functions.elements.index(int(z))
            n = t.start[e + 1] - t.start[e]
            np.testing.assert_allclose(g[:n], expected, rtol=0, atol=6e-11 * max(1, *np.abs(expected)))
            assert not g[n:].any()


@pytest.mark.parametrize("folder", FOLDERS)
def test_energies_and_forces_are_those_of_n2p2(folder):
    check_predictions(DATA / folder)


@pytest.mark.parametrize("folder", ["predict_h2o_rpbe_d3", "predict_h2o_blyp"])
def test_energies_and_forces_of_published_potentials_are_those_of_n2p2(shared, folder):
    check_predictions(shared / "reference" / folder)


@pytest.mark.parametrize("folder", FOLDERS)
def test_symmetry_functions_are_those_of_n2p2(folder):
    check_symmetry_functions(DATA / folder)


def test_the_standard_symmetry_functions_are_those_of_n2p2(shared):
    check_symmetry_functions(shared / "reference" / "symfunc_h2o")


def test_ase_atoms_and_structures_give_the_same():
    potential = mpnnp.load(DATA / "predict_acsf_cos")
    frame = read_sources(DATA / "predict_acsf_cos" / "input.data", report=lambda _: None)[5]
    from ase import Atoms

    a, b = (
        potential.energy_forces(frame),
        potential.energy_forces(Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)),
    )
    assert a[0] == b[0]
    np.testing.assert_array_equal(a[1], b[1])


# ---- export and back

RADIAL = {"kind": 2, "eta": [0.1, 0.7], "r_s": [0.0, 1.1], "r_c": 5.0}
TABLES = [
    {"center": "H", "neighbours": ["O"], **RADIAL},
    {
        "center": "H",
        "kind": 3,
        "neighbours": ["O", "H"],
        "eta": 0.05,
        "lambda": [-1.0, 1.0],
        "zeta": 2.5,
        "r_c": 5.0,
    },
    {"center": "O", "neighbours": ["H"], **RADIAL},
    {
        "center": "O",
        "kind": 9,
        "neighbours": ["H", "H"],
        "eta": 0.05,
        "r_s": 0.3,
        "lambda": 1.0,
        "zeta": 4.0,
        "r_c": 4.5,
    },
    {"center": "O", "kind": 12, "eta": 0.3, "r_c": 5.0},
    {"center": "O", "kind": 13, "eta": 0.02, "r_s": 0.4, "lambda": -1.0, "r_c": 5.0},
]
FOR_CP2K = TABLES[:3] + [
    {"center": "O", "kind": 3, "neighbours": ["H", "H"], "eta": 0.05, "lambda": -1.0, "zeta": 4.0, "r_c": 4.5}
]


def make_potential(
    tables=TABLES,
    hidden=((5, 4), (5, 4)),
    names=(("tanh", "tanh"), ("tanh", "tanh")),
    kind="min-max-center",
    cutoff=2,
    alpha=0.0,
    **more,
):
    """A potential of H and O with random weights and scaling, and with a normalisation."""
    rng = np.random.default_rng(3)
    functions = SymmetryFunctions([1, 8], from_tables(tables, cutoff, alpha))
    n = len(functions)
    low, spread = rng.uniform(0, 0.2, n), rng.uniform(0.5, 2, n)
    statistics = Statistics(np.full(n, 9.0), low, low + spread, low + 0.4 * spread, 0.3 * spread)
    network = Network(
        [(len(functions.of(z)), *own, 1) for z, own in zip((1, 8), hidden)],
        [(*own, "identity") for own in names],
    )
    settings = {
        "functions": functions,
        "scaling": Scaling(kind, more.pop("s_min", 0.0), more.pop("s_max", 1.0), statistics),
        "network": network,
        "weights": rng.uniform(-1, 1, network.n_weight),
        "atomic_energies": np.array([-13.1, -430.7]),
        "mean_energy": -0.123456789,
        "energy_scale": 0.0371,
        "force_scale": 0.93,
    }
    return Potential(**settings | more)


VARIANTS = {f"activation {name}": {"names": ((name, name), (name, "tanh"))} for name in ACTIVATIONS}
VARIANTS |= {
    f"scaling {kind}": {"kind": kind} for kind in ("none", "min-max", "center", "min-max-center", "sigma")
}
VARIANTS |= {
    "range of the scaling": {"kind": "min-max", "s_min": -0.7, "s_max": 2.3},
    "other nodes for an element": {"hidden": ((5, 4), (7, 3))},
    "other activations for an element": {"names": (("tanh", "softplus"), ("logistic", "gaussian"))},
    "other depth for an element": {
        "hidden": ((5,), (7, 3, 2)),
        "names": (("cos",), ("tanh", "exp", "softplus")),
    },
    "no hidden layer": {"hidden": ((), ()), "names": ((), ())},
    "inner radius": {"cutoff": 6, "alpha": 0.3},
    "no normalisation": {"mean_energy": 0.0, "energy_scale": HARTREE, "force_scale": HARTREE / BOHR},
    "no references": {"atomic_energies": np.zeros(2), "mean_energy": 0.0},
}


def check_equal(a, b, rtol=1e-10):
    for seed in range(3):
        atoms = cluster(np.random.default_rng(seed), labels=False)
        (energy, forces), (other_energy, other_forces) = a.energy_forces(atoms), b.energy_forces(atoms)
        assert np.abs(forces).max() > 1e-4
        assert other_energy == pytest.approx(energy, rel=rtol)
        np.testing.assert_allclose(other_forces, forces, rtol=rtol, atol=rtol * np.abs(forces).max())


@pytest.mark.parametrize("name", VARIANTS)
def test_an_exported_potential_is_the_same_when_it_is_loaded(tmp_path, name):
    potential = make_potential(**VARIANTS[name])
    write_potential(potential, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "input.nn",
        "scaling.data",
        "weights.001.data",
        "weights.008.data",
    }
    loaded = mpnnp.load(tmp_path)
    check_equal(potential, loaded)
    np.testing.assert_array_equal(loaded.weights, potential.weights)
    assert (
        loaded.network.sizes == potential.network.sizes
        and loaded.network.activations == potential.network.activations
    )
    for unit in ("mean_energy", "energy_scale", "force_scale", "atomic_energies"):
        np.testing.assert_allclose(getattr(loaded, unit), getattr(potential, unit), rtol=1e-14)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_potential_of_n2p2_is_the_same_after_export(tmp_path, folder):
    potential = mpnnp.load(DATA / folder)
    write_potential(potential, tmp_path)
    check_equal(potential, mpnnp.load(tmp_path))


def test_weights_files_hold_the_flat_weights_in_their_order(tmp_path):
    potential = make_potential()
    write_potential(potential, tmp_path)
    flat = np.concatenate([table(tmp_path / f"weights.{z:03d}.data", (0,))[:, 0] for z in (1, 8)])
    np.testing.assert_array_equal(flat, potential.weights)


def test_the_normalisation_lines_are_those_of_n2p2(tmp_path):
    """conv_energy = 1 / energy_scale, conv_length = force_scale / energy_scale, in Hartree and Bohr."""
    potential = make_potential()
    write_potential(potential, tmp_path)
    source = InputFile(tmp_path / "input.nn")
    assert source.value("mean_energy") == pytest.approx(potential.mean_energy / HARTREE, rel=1e-15)
    assert source.value("conv_energy") == pytest.approx(HARTREE / 0.0371, rel=1e-15)
    assert source.value("conv_length") == pytest.approx(0.93 / 0.0371 * BOHR, rel=1e-15)
    assert source.all("atom_energy")[1].words[0] == "O" and float(
        source.all("atom_energy")[1].words[1]
    ) == pytest.approx(-430.7 / HARTREE)


def test_several_cutoff_functions_cannot_be_exported(tmp_path):
    functions = [*from_tables(TABLES[:3], 1), *from_tables(TABLES[3:], 2)]
    potential = make_potential()
    with pytest.raises(DataError, match="one cutoff function for all"):
        write_potential(replace(potential, functions=SymmetryFunctions([1, 8], functions)), tmp_path / "new")


# ---- CP2K


def test_the_export_for_cp2k_carries_the_normalisation_in_the_weights(tmp_path):
    potential = make_potential(tables=FOR_CP2K)
    write_potential(potential, tmp_path, cp2k=True)
    loaded = mpnnp.load(tmp_path)
    check_equal(potential, loaded)
    assert is_normalized(potential) and not is_normalized(loaded)


@pytest.mark.parametrize(
    "variant, part",
    [
        ({"tables": TABLES}, "types 2 and 3 only"),
        ({"hidden": ((5, 4), (7, 3))}, "same hidden layers"),
        ({"names": (("tanh", "relu"), ("tanh", "relu"))}, "no activation relu"),
        (
            {"names": (("tanh", "softplus"), ("tanh", "softplus"))},
            "no activation softplus that gives right",
        ),
        ({"names": (("tanh", "tanh"), ("tanh", "cos"))}, "same hidden layers"),
        ({"cutoff": 3}, "cutoff functions 1"),
        ({"kind": "center"}, "scaled by their range or sigma only"),
        ({"tables": FOR_CP2K[:-1] + [FOR_CP2K[-1] | {"r_s": 0.5}]}, "r_s = 0 only"),
    ],
)
def test_what_cp2k_cannot_compute_is_an_error(tmp_path, variant, part):
    with pytest.raises(DataError, match=f"CP2K cannot compute this potential: it knows .*{part}"):
        write_potential(make_potential(**{"tables": FOR_CP2K} | variant), tmp_path / "new", cp2k=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("own", "other"), [("Hartree Bohr", "eV Angstrom"), ("eV Angstrom", "Hartree Bohr")], ids=["atomic", "eV"]
)
def test_an_exported_potential_says_its_units_and_others_are_refused(own, other, tmp_path):
    potential = replace(make_potential(), units=parse_units(own))
    write_potential(potential, tmp_path)
    assert f"# units: {own}\n" in (tmp_path / "input.nn").read_text()
    check_equal(potential, mpnnp.load(tmp_path, own))
    with pytest.raises(DataError, match=f"states the units {own}, but {other} were asked for"):
        mpnnp.load(tmp_path, other)


@pytest.mark.parametrize("name", ["input.nn", "scaling.data", "weights.008.data"])
def test_the_export_does_not_write_over_files_of_others(name, tmp_path):
    potential = make_potential()
    (tmp_path / name).write_text("# made by hand\nelements H O\n")
    with pytest.raises(DataError, match=rf"{name}: not written by mpnnp, and would be lost"):
        write_potential(potential, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    for _ in range(2):  # the second time the files are its own
        write_potential(potential, tmp_path, overwrite=True)
    assert (tmp_path / f"{name}.old-1").read_text() == "# made by hand\nelements H O\n"
    assert not (tmp_path / f"{name}.old-2").exists()
    check_equal(potential, mpnnp.load(tmp_path))
    write_potential(potential, tmp_path)


def test_the_command_export_leaves_what_it_reads(tmp_path):
    folder, link = tmp_path / "p", tmp_path / "link"
    write_potential(make_potential(), folder)
    link.symlink_to(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for target in (folder, link, folder / ".." / "p"):
        for more in ([], ["--overwrite"], ["--cp2k"]):
            result = CliRunner().invoke(app, ["export", str(folder), "-o", str(target), *more])
            assert isinstance(result.exception, ConfigError | DataError), result.output
            assert {path: path.read_bytes() for path in folder.iterdir()} == before
    for name in ("input.nn", "lammps.in"):
        own = tmp_path / f"own-{name}"
        own.mkdir()
        (own / name).write_text("made by hand\n")
        words = ["export", str(folder), "-o", str(own)]
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, DataError) and "not written by mpnnp" in str(result.exception)
        assert [path.name for path in own.iterdir()] == [name]
        for more in (["--overwrite"], []):
            assert CliRunner().invoke(app, words + more).exit_code == 0
        assert (own / f"{name}.old-1").read_text() == "made by hand\n"


@pytest.mark.parametrize(("name", "more"), [("lammps.in", []), ("cp2k.inp", ["--cp2k"])])
def test_an_input_that_its_user_changed_stays_in_the_next_export(name, more, tmp_path):
    potential = make_potential(tables=FOR_CP2K)
    write_potential(potential, tmp_path / "p")
    folder = tmp_path / "new"

    def export(*words):
        result = CliRunner().invoke(app, ["export", str(tmp_path / "p"), "-o", str(folder), *more, *words])
        assert result.exit_code == 0, result.output
        return result.output

    export()
    export()  # what reads the same is not kept
    assert not list(folder.glob("*.old-*"))
    written = (folder / name).read_text()
    changed = written + "# run longer\n"
    (folder / name).write_text(changed)
    stem, suffix = name.split(".")
    for _ in range(2):
        export()
        assert (folder / name).read_text() == changed
        assert (folder / f"{stem}-new.{suffix}").read_text() == written
    export("--overwrite")
    assert (folder / name).read_text() == written
    assert (folder / f"{name}.old-1").read_text() == changed
    assert len(list(folder.glob("*.old-*"))) == 1


def test_a_structure_file_of_another_program_is_not_written_over(tmp_path):
    write_potential(make_potential(), tmp_path / "p")
    start, folder = str(DATA / "predict_acsf_cos" / "input.data"), tmp_path / "new"
    words = ["export", str(tmp_path / "p"), "-o", str(folder), "--structure", start]
    for _ in range(2):  # the second time the file is its own
        assert CliRunner().invoke(app, words).exit_code == 0
    (folder / "structure.lammps").write_text("LAMMPS data file via write_data\n\n3 atoms\n")
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, DataError) and "structure.lammps: not written" in str(
        result.exception
    )
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0
    assert "via write_data" in (folder / "structure.lammps.old-1").read_text()


def test_the_structure_of_an_export_is_looked_at_before_anything_is_written(tmp_path):
    write_potential(make_potential(), tmp_path / "p")
    frames = read_sources(DATA / "predict_acsf_cos" / "input.data", report=lambda line: None)
    write_target(tmp_path / "two.extxyz", concatenate([frames.take([0])] * 2))
    words = ["export", str(tmp_path / "p"), "-o", str(tmp_path / "new"), "--structure"]
    result = CliRunner().invoke(app, [*words, str(tmp_path / "two.extxyz")])
    assert result.exit_code == 0 and "of the 2 structures of" in result.output, result.output
    (tmp_path / "gold.xyz").write_text("1\n\nAu 0 0 0\n")
    words[3] = str(tmp_path / "other")
    result = CliRunner().invoke(app, [*words, str(tmp_path / "gold.xyz")])
    assert isinstance(result.exception, DataError) and "no functions and net for Au" in str(result.exception)
    assert not (tmp_path / "other").exists()


INPUT = """&GLOBAL
  PROJECT test
  RUN_TYPE ENERGY_FORCE
  PRINT_LEVEL LOW
&END GLOBAL
&FORCE_EVAL
  METHOD NNP
  &NNP
    NNP_INPUT_FILE_NAME potential/input.nn
    SCALE_FILE_NAME potential/scaling.data
    &MODEL
      WEIGHTS potential/weights
    &END MODEL
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
    &COORD
      UNIT bohr
{atoms}
    &END COORD
  &END SUBSYS
&END FORCE_EVAL
"""


def run_cp2k(folder, structure):
    """(energy Hartree, forces (n, 3) Hartree/Bohr) of the potential in folder/potential by CP2K."""
    row = lambda name, x: f"      {name} " + " ".join(f"{v:.16f}" for v in x / BOHR)  # noqa: E731
    cell = "\n".join(row(f"{name} [bohr]", vector) for name, vector in zip("ABC", structure.cell))
    atoms = "\n".join(row("H" if z == 1 else "O", x) for z, x in zip(structure.numbers, structure.positions))
    (folder / "test.inp").write_text(INPUT.format(cell=cell, atoms=atoms))
    return run_input(folder, "test.inp")


CP2K_VARIANTS = {
    "centred": {},
    "min-max in a range": {"kind": "min-max", "s_min": -0.7, "s_max": 1.3},
    "sigma, cosine": {"kind": "sigma", "cutoff": 1},
    "logistic and exp": {"names": (("logistic", "exp"), ("logistic", "exp"))},
    "other activations": {"names": (("gaussian", "cos"), ("gaussian", "cos"))},
    "without normalisation": {"mean_energy": 0.0, "energy_scale": HARTREE, "force_scale": HARTREE / BOHR},
}


@pytest.mark.parametrize("name", CP2K_VARIANTS)
def test_cp2k_gives_the_same_energy_and_forces(tmp_path, name):
    """A frame whose cell (18.6 Bohr) is smaller than twice the cutoff."""
    potential = make_potential(tables=FOR_CP2K, **CP2K_VARIANTS[name])
    write_potential(potential, tmp_path / "potential", cp2k=is_normalized(potential))
    frame = read_sources(DATA / "train_energy" / "input.data", report=lambda _: None)[0]
    energy, forces = run_cp2k(tmp_path, frame)
    expected_energy, expected_forces = potential.energy_forces(frame)
    assert energy == pytest.approx(expected_energy / HARTREE, rel=1e-10)
    assert np.abs(expected_forces).max() > 1e-3
    np.testing.assert_allclose(forces, expected_forces * BOHR / HARTREE, rtol=1e-8, atol=1e-10)


def test_cp2k_gives_the_same_for_the_published_water_potential(tmp_path, shared):
    potential = mpnnp.load(shared / "data" / "potential_h2o_blyp")
    write_potential(potential, tmp_path / "potential", cp2k=True)
    frame = read_sources(DATA / "train_energy" / "input.data", report=lambda _: None)[3]
    energy, forces = run_cp2k(tmp_path, frame)
    expected_energy, expected_forces = potential.energy_forces(frame)
    assert energy == pytest.approx(expected_energy / HARTREE, rel=1e-10)
    np.testing.assert_allclose(forces, expected_forces * BOHR / HARTREE, rtol=1e-8, atol=1e-10)


# ---- reading input.nn


def write_files(tmp_path, change=lambda text: text, name="input.nn"):
    write_potential(make_potential(), tmp_path)
    path = tmp_path / name
    path.write_text(change(path.read_text()))
    return tmp_path


def line_of(path, part):
    return next(k for k, line in enumerate(path.read_text().splitlines(), 1) if part in line)


def test_fortran_exponents_are_read(tmp_path):
    def to_fortran(text):
        import re

        return re.sub(r"(\d)[eE]([+-]\d+)", r"\1D\2", text)

    write_files(tmp_path)
    plain = mpnnp.load(tmp_path)
    for path in tmp_path.iterdir():
        text = path.read_text()
        path.write_text(to_fortran(text))
        assert path.read_text() != text
    fortran = mpnnp.load(tmp_path)
    np.testing.assert_array_equal(fortran.weights, plain.weights)
    np.testing.assert_array_equal(fortran.scaling.statistics.sigma, plain.scaling.statistics.sigma)
    assert (fortran.mean_energy, fortran.energy_scale, fortran.force_scale) == (
        plain.mean_energy,
        plain.energy_scale,
        plain.force_scale,
    )
    (tmp_path / "input.nn").write_text(
        (tmp_path / "input.nn").read_text().replace("mean_energy ", "mean_energy -1.0D-5 #")
    )
    assert mpnnp.load(tmp_path).mean_energy == pytest.approx(-1e-5 * HARTREE, rel=1e-15)


def test_comments_blank_lines_tabs_and_windows_line_ends_are_read(tmp_path):
    write_files(tmp_path)
    plain = mpnnp.load(tmp_path)
    path = tmp_path / "input.nn"
    lines = [
        f"\t {line}  \t# comment" if k % 2 else f"{line} ! symfunction_short"
        for k, line in enumerate(path.read_text().splitlines())
    ]
    path.write_bytes("\r\n\r\n".join(lines).encode() + b"\r\n")
    check_equal(plain, mpnnp.load(tmp_path), rtol=1e-15)


def test_the_reference_n2p2_energies_have_their_offsets():
    """atom_energy lines of the reference folders matter: without them the energies
    are not those of energy.comp.
    """
    potential = mpnnp.load(DATA / "predict_acsf_cos")
    np.testing.assert_allclose(potential.atomic_energies, [-0.4 * HARTREE, -3.9 * HARTREE])
    assert (potential.mean_energy, potential.energy_scale) == (0.0, HARTREE)


def test_sigma_scaling_counts_only_without_the_others(tmp_path):
    """As in n2p2 (Mode::setupSymmetryFunctionScaling)."""
    for lines, expected in (
        ("scale_symmetry_functions_sigma", "sigma"),
        ("scale_symmetry_functions_sigma\nscale_symmetry_functions", "min-max"),
        ("center_symmetry_functions\nscale_symmetry_functions_sigma", "center"),
        ("", "none"),
    ):
        (tmp_path / "input.nn").write_text(lines + "\nscale_min_short -1\nscale_max_short 2\n")
        assert scaling_kind(InputFile(tmp_path / "input.nn")) == (expected, -1.0, 2.0)


@pytest.mark.parametrize("lines", ["scale_max_short 0", "scale_min_short 1", "scale_min_short_atomic 1.5"])
def test_a_scaling_to_no_range_is_refused(lines, tmp_path):
    write_potential(make_potential(), tmp_path / "p")
    path = tmp_path / "p" / "input.nn"
    kept = [line for line in path.read_text().splitlines() if not line.startswith(("scale_", "center_"))]
    path.write_text("\n".join([*kept, "scale_symmetry_functions", lines]))
    number = len(kept) + 2
    for read in (read_functions, lambda source: mpnnp.load(source.parent)):
        with pytest.raises(
            DataError, match=rf"input\.nn, line {number}: scale_max_short is .*, must be larger"
        ):
            read(path)
    path.write_text("\n".join([*kept, lines]))  # the scaling "none" needs no range
    assert len(read_functions(path)) == len(make_potential().functions)


def test_layers_of_an_element_are_taken_from_their_lines(tmp_path):
    text = """number_of_elements 2
elements O H
cutoff_type 1
global_hidden_layers_short 2
global_nodes_short 5 4
global_activation_short t p l
element_nodes_short O 2 9
element_activation_short O 1 g
element_hidden_layers_short H 1
symfunction_short H 2 O 0.1 0 6
symfunction_short O 2 O 0.1 0 6
"""
    (tmp_path / "input.nn").write_text(text)
    source = InputFile(tmp_path / "input.nn")
    network = read_network(source, read_functions(source))
    assert network.sizes == ((1, 5, 1), (1, 5, 9, 1))
    assert network.activations == (("tanh", "identity"), ("gaussian", "softplus", "identity"))


CHANGES = {
    "text in UTF-16": (lambda t: "\0".join(t), "is not a plain text file; save it in UTF-8"),
    "keyword": (
        lambda t: t.replace("scale_symmetry_functions\n", "scale_symmetry_function\n"),
        r"line \d+: 'scale_symmetry_function' is a keyword of neither .*did you mean 'scale_symmetry_fun",
    ),
    "word of no program": (lambda t: t + "ENCUT 400\n", "line LAST: 'ENCUT' is a keyword .*with #"),
    "two values": (lambda t: t + "scale_max_short 7\n", "line LAST: 'scale_max_short 7' contradicts line"),
    "no elements": (lambda t: t.replace("\nelements ", "\n# "), "the keyword 'elements' is missing"),
    "unknown element": (
        lambda t: t.replace("\nelements H O", "\nelements H Xx"),
        "elements: 'Xx' is not the symbol",
    ),
    "number of elements": (
        lambda t: t.replace("number_of_elements 2", "number_of_elements 3"),
        "number_of_elements is 3, but elements lists H O",
    ),
    "words for numbers": (
        lambda t: t.replace("conv_energy ", "conv_energy abc "),
        "line LINE: 'conv_energy abc",
    ),
    "not a number": (lambda t: t.replace("mean_energy ", "mean_energy nan "), "line LINE: 'mean_energy nan"),
    "no value": (
        lambda t: t.replace("scale_max_short ", "scale_max_short # "),
        "line LINE: 'scale_max_short'",
    ),
    "atom_energy": (
        lambda t: t.replace("atom_energy O ", "atom_energy O x"),
        "line LINE: expected 'atom_energy ELEMENT ENERGY'",
    ),
    "cutoff type": (
        lambda t: t.replace("cutoff_type 2", "cutoff_type cos"),
        "'cutoff_type cos 0': expected a number from 0 to 8",
    ),
    "cutoff number": (
        lambda t: t.replace("cutoff_type 2", "cutoff_type 11"),
        "cutoff function 11: 0 to 8 are known",
    ),
    "layers": (
        lambda t: t.replace("global_hidden_layers_short 2", "global_hidden_layers_short 3"),
        "global_nodes_short gives 2 layers",
    ),
    "nodes": (lambda t: t.replace("global_nodes_short 5", "global_nodes_short five"), "expected integers"),
    "activation": (
        lambda t: t.replace("global_activation_short t t", "global_activation_short t z"),
        "activation function 'z': known are",
    ),
    "output": (
        lambda t: t.replace("global_activation_short t t", "global_activation_short t t t"),
        "output layer must be linear",
    ),
    "element layers": (
        lambda t: t + "element_hidden_layers_short H two\n",
        "line LAST: expected 'element_hidden_layers_short ELEMENT N'",
    ),
    "element nodes": (
        lambda t: t + "element_nodes_short H 1\n",
        "line LAST: expected 'element_nodes_short ELEMENT LAYER VALUE'",
    ),
    "function": (
        lambda t: t + "symfunction_short H 2 O 0.1\n",
        "line LAST: symmetry function 'H 2 O 0.1': type 2 takes the numbers eta r_s r_c",
    ),
    "compact function": (
        lambda t: t + "symfunction_short H 20 O 0 1 p5\n",
        "line LAST: .*must be one of e, p1",
    ),
    "function of an unknown type": (
        lambda t: t + "symfunction_short H 26 O 0 1 p2\n",
        "line LAST: .*with type 2, 3, 9, 12, 13, 20, 21",
    ),
    "strange element": (
        lambda t: t + "symfunction_short H 2 Xx 0.1 0 6\n",
        "line LAST: .*'Xx' is not the symbol",
    ),
    "charges": (lambda t: t + "nnp_type 4G-HDNNP\n", "line LAST: 'nnp_type 4G-HDNNP' is not supported"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_input_nn_is_an_error_with_file_and_line(tmp_path, name):
    change, expected = CHANGES[name]
    write_files(tmp_path, change)
    path = tmp_path / "input.nn"
    word = expected.split("'")[1].split()[0] if "LINE:" in expected else ""
    expected = expected.replace("LAST", str(len(path.read_text().splitlines())))
    if word:
        expected = expected.replace(
            "LINE", str(line_of(path, f"{word} O x" if word == "atom_energy" else f"{word} "))
        )
    with pytest.raises(DataError, match=expected) as error:
        read_potential(tmp_path)
    assert str(path) in str(error.value) and len(str(error.value).splitlines()) == 1


def drop_last_line(text):
    return "\n".join(text.splitlines()[:-1]) + "\n"


FILES = {
    "scaling.data": {
        "truncated": (
            drop_last_line,
            "expected 13 lines, one per symmetry function of each element in order, found 12",
        ),
        "cut in a line": (lambda t: t[: t.rindex(" ")], "line 14: expected 6 numbers, found '2"),
        "a word": (lambda t: t.replace("E-01", "F-01", 1), r"line \d+: expected 6 numbers"),
        "not a number": (lambda t: t.rstrip()[:-24] + "NaN\n", "line 14: expected 6 numbers"),
        "mean beyond the maximum": (
            lambda t: "\n".join([*t.splitlines()[:-1], "2 7 0.1 0.2 0.3 0.01"]),
            "line 14: minimum 0.1, maximum 0.2 and mean 0.3 are not in order",
        ),
        "minimum and maximum exchanged": (
            lambda t: "\n".join([*t.splitlines()[:-1], "2 7 0.3 0.1 0.2 0.01"]),
            "line 14: minimum 0.3, maximum 0.1 and mean 0.2 are not in order",
        ),
        "empty": (lambda t: "", "found 0"),
        "other order": (
            lambda t: "\n".join(reversed(t.splitlines())),
            "one per symmetry function of each element in order",
        ),
    },
    "weights.001.data": {
        "truncated": (drop_last_line, r"63 weights found, the net \(6, 5, 4, 1\) of H has 64"),
        "too long": (lambda t: t + "1.0\n", "65 weights found"),
        "a word": (lambda t: t + "one\n", r"line 66: expected 1 number, found 'one'"),
        "beyond all weights": (
            lambda t: drop_last_line(t) + "1.0E+300\n",
            r"a weight of 1e\+300, must not be beyond 1e\+09",
        ),
        "infinite": (lambda t: t + "inf\n", r"line 66: expected 1 number, found 'inf'"),
        "empty": (lambda t: "", "0 weights found"),
    },
}


@pytest.mark.parametrize("file, name", [(file, name) for file in FILES for name in FILES[file]])
def test_a_wrong_file_of_numbers_is_an_error_with_file_and_line(tmp_path, file, name):
    change, expected = FILES[file][name]
    write_files(tmp_path, change, file)
    with pytest.raises(DataError, match=expected) as error:
        read_potential(tmp_path)
    assert str(tmp_path / file) in str(error.value)


def test_weights_of_a_net_with_other_layers_are_refused(tmp_path):
    """The letters of the second column, a for weights and b for biases, tell the layers."""
    write_files(tmp_path)
    path = tmp_path / "weights.001.data"
    words = [line.split() for line in path.read_text().splitlines() if line[0] != "#"]
    first = next(k for k, row in enumerate(words) if row[1] == "b")
    words[first - 1][1], words[first][1] = words[first][1], words[first - 1][1]
    path.write_text("".join(" ".join(row) + "\n" for row in words))
    with pytest.raises(
        DataError,
        match=rf"weights.001.data, line {first}: expected a weight \(a\) of the net .*, found a bias \(b\)",
    ):
        mpnnp.load(tmp_path)


def test_a_keyword_that_is_given_twice_with_one_number_in_two_spellings_is_no_contradiction(tmp_path):
    write_files(tmp_path, lambda t: t + "scale_max_short 1\nscale_max_short 1.0e0\ncutoff_type 2 0.0\n")
    check_equal(make_potential(), mpnnp.load(tmp_path))


@pytest.mark.parametrize("file", ["input.nn", "scaling.data", "weights.008.data"])
def test_a_missing_file_is_an_error_that_names_it(tmp_path, file):
    write_files(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(DataError, match=f"{file}: cannot be read: No such file"):
        mpnnp.load(tmp_path)


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(
        DataError, match="nothing: no such file or folder; expected a checkpoint or a folder of n2p2 files"
    ):
        mpnnp.load(tmp_path / "nothing")


def test_the_line_of_energies_that_n2p2_appends_to_scaling_data_is_skipped(tmp_path):
    write_files(tmp_path, lambda t: t + " -1.0E+00 1.0E+00 0.0E+00 2.0E+00 3.0 4.0\n", "scaling.data")
    check_equal(make_potential(), mpnnp.load(tmp_path))


def test_an_element_without_functions_is_an_error_with_the_file(tmp_path):
    def drop(text):
        return "\n".join(line for line in text.splitlines() if not line.startswith("symfunction_short O"))

    with pytest.raises(DataError, match="input.nn: element O has no symmetry functions"):
        read_potential(write_files(tmp_path, drop))


def test_atoms_of_another_element_are_an_error():
    atoms = cluster(np.random.default_rng(0), labels=False)
    atoms.numbers[0] = 6
    with pytest.raises(DataError, match="no functions and net for C; it knows H O"):
        make_potential().energy_forces(atoms)


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="file: is a file, and the potential needs a folder"):
        write_potential(make_potential(), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_each_file_of_a_potential_is_opened_once(monkeypatch):
    """Of a file server a second look at the same file is a second wait."""
    opened = Counter()

    def noted(file, *arguments, **keywords):
        opened[file] += 1
        return real(file, *arguments, **keywords)

    real = io.open
    monkeypatch.setattr("builtins.open", noted)
    monkeypatch.setattr("io.open", noted)  # what Path.read_text calls
    read_potential(DATA / FOLDERS[0])
    ours = {path.name: n for path, n in opened.items() if isinstance(path, Path)}
    assert set(ours) >= {"input.nn", "scaling.data"} and max(ours.values()) == 1, ours
