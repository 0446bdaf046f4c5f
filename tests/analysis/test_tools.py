"""The commands around training: prepare, prune, sensitivity, disagree, select, check."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from conftest import DATA
from small import quiet, small_config, write_clusters

import mpnnp
from mpnnp.analysis import pruning
from mpnnp.analysis.derivative_check import check_derivatives
from mpnnp.analysis.descriptors import fingerprints, statistics_of
from mpnnp.analysis.disagreement import disagreement_of
from mpnnp.analysis.selection import (
    at_interval,
    energy_rows_per_atom,
    farthest,
    most_uncertain,
    noise_per_atom,
)
from mpnnp.analysis.sensitivity import sensitivity_of
from mpnnp.cli import app
from mpnnp.config import read_config, to_toml
from mpnnp.data import dataset as hdf5
from mpnnp.data.formats import read_sources
from mpnnp.data.runner import write_runner_data
from mpnnp.errors import CheckFailed, ConfigError, DataError
from mpnnp.model.label_kinds import ENERGY
from mpnnp.model.symmetry_functions import format_line
from mpnnp.n2p2.export import write_potential
from mpnnp.n2p2.input_file import InputFile
from mpnnp.n2p2.potential_files import read_functions, read_potential, scaling_kind
from mpnnp.parallel import serial
from mpnnp.training.checkpoint import load_potential, posterior_of, read_checkpoint, read_posterior
from mpnnp.training.initial_potential import choose_functions
from mpnnp.training.run_state import noise_levels
from mpnnp.training.schedules import Batch
from mpnnp.training.start import assemble
from mpnnp.training.train import train
from mpnnp.units import BOHR, HARTREE, METAL

FOLDER = DATA / "predict_acsf_cos"


def run(*words):
    app([str(word) for word in words], standalone_mode=False)


def silent(line):
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of a short run on clusters, its configuration)."""
    path = tmp_path_factory.mktemp("trained")
    config = small_config(path, run={"epochs": 2})
    comm, log = quiet()
    train(config, path / "run", comm, log)
    return path / "run", config


def test_prepare_writes_the_scaling_data_of_n2p2(tmp_path):
    run("prepare", FOLDER / "input.data", FOLDER / "input.nn", "-o", tmp_path, "--histograms")
    n = len(read_functions(FOLDER / "input.nn"))
    columns = lambda path: np.loadtxt(path, usecols=(0, 1, 2, 3, 4, 5), ndmin=2)[:n]  # noqa: E731
    assert columns(tmp_path / "scaling.data") == pytest.approx(
        columns(FOLDER / "scaling.data"), rel=1e-9, abs=1e-12
    )
    table = np.genfromtxt(tmp_path / "histograms.csv", delimiter=",", skip_header=1)
    data = read_sources(FOLDER / "input.data", report=silent)
    per_function = table[:, 4].reshape(-1, 50).sum(axis=1)
    expected = [
        np.count_nonzero(data.numbers == f.center) for f in read_functions(FOLDER / "input.nn").functions
    ]
    assert list(per_function) == expected
    assert all((tmp_path / f"histograms-{symbol}.png").stat().st_size > 5000 for symbol in "HO")


def test_prepare_leaves_a_scaling_of_another_program_and_tells_no_option_that_it_has_not(tmp_path):
    (tmp_path / "scaling.data").write_text("made by hand\n")
    with pytest.raises(DataError, match="not written by mpnnp, and would be lost") as told:
        run("prepare", FOLDER / "input.data", FOLDER / "input.nn", "-o", tmp_path)
    assert "--overwrite" not in str(told.value)
    assert (tmp_path / "scaling.data").read_text() == "made by hand\n"


def test_prepare_takes_the_data_of_a_configuration(tmp_path, trained, capsys):
    (tmp_path / "train.toml").write_text(to_toml(trained[1]))
    run("prepare", tmp_path / "train.toml", "-o", tmp_path / "out")
    assert "9 symmetry functions over 12 structures" in capsys.readouterr().out
    with pytest.raises(DataError, match="no data"):
        run("prepare", FOLDER / "input.nn", "-o", tmp_path / "out")


def in_hartree_and_bohr(path, frames):
    """The clusters in other units, without saying so, and an isolated atom of each element."""
    frames = [*frames, Atoms("H"), Atoms("O")]
    for atoms in frames:
        energy = atoms.get_potential_energy() if atoms.calc else -1.0
        forces = atoms.get_forces() if atoms.calc else np.zeros((1, 3))
        atoms.positions /= BOHR
        atoms.calc = SinglePointCalculator(atoms, energy=energy / HARTREE, forces=forces * BOHR / HARTREE)
    write(path, frames, parallel=False)


def test_prepare_and_prune_read_the_data_as_the_configuration_says(tmp_path):
    config = small_config(tmp_path)
    (tmp_path / "a.toml").write_text(to_toml(config))
    run("prepare", tmp_path / "a.toml", "-o", tmp_path / "a")
    in_hartree_and_bohr(tmp_path / "b.extxyz", write_clusters(tmp_path / "clusters.extxyz", 12))
    section = {"files": [str(tmp_path / "b.extxyz")], "units": "Hartree Bohr"}
    other = config.with_keys("data", **section)
    (tmp_path / "b.toml").write_text(to_toml(other))
    run("prepare", tmp_path / "b.toml", "-o", tmp_path / "b")
    (tmp_path / "c.toml").write_text(to_toml(other.with_keys("data", units=None)))
    run(
        "prepare", tmp_path / "b.extxyz", tmp_path / "c.toml", "--units", "Hartree Bohr", "-o", tmp_path / "c"
    )
    of_a, of_b, of_c = (np.loadtxt(tmp_path / name / "scaling.data") for name in "abc")
    np.testing.assert_allclose(of_b, of_a, rtol=1e-5, atol=1e-7)  # ASE writes eight digits
    np.testing.assert_array_equal(of_c, of_b)
    for name in "ab":
        run("prune", tmp_path / f"{name}.toml", "--range", 0.05, "-o", tmp_path / f"{name}-fewer.toml")
    left = [read_config(tmp_path / f"{name}-fewer.toml").symmetry_functions for name in "ab"]
    assert left[0].functions == left[1].functions and 2 <= len(left[0].functions) < 9


@pytest.mark.parametrize(
    "words",
    [["check", "--structures=1", "--components=1"], ["sensitivity"], ["disagree", FOLDER], ["prepare"]],
)
def test_commands_take_the_units_and_the_names_of_labels(tmp_path, capsys, words):
    in_hartree_and_bohr(tmp_path / "b.extxyz", write_clusters(tmp_path / "a.extxyz", 3))
    settings = [FOLDER / "input.nn", "-o", tmp_path] if words == ["prepare"] else []
    potential = [] if settings else [FOLDER]
    said = ["--units", "Hartree Bohr", "--forces-key", "none"]
    run(words[0], *said, *potential, *words[1:], tmp_path / "b.extxyz", *settings)
    assert "energy from 'energy', no forces, no stress, in Hartree Bohr" in capsys.readouterr().out


def test_fisher_and_calibrate_take_the_units_and_the_names_of_labels(tmp_path, capsys, trained):
    in_hartree_and_bohr(tmp_path / "b.extxyz", write_clusters(tmp_path / "a.extxyz", 5))
    shutil.copy(trained[0] / "checkpoint.h5", tmp_path)
    said = ["--units", "Hartree Bohr", "--energy-key", "energy"]
    run("fisher", tmp_path / "checkpoint.h5", "--data", tmp_path / "b.extxyz", "--batches", 5, *said,
        "-o", tmp_path / "f.h5")  # fmt: skip
    assert "forces from 'forces', no stress, in Hartree Bohr" in capsys.readouterr().out
    assert (tmp_path / "f.h5").exists()
    run("calibrate", tmp_path / "checkpoint.h5", tmp_path / "b.extxyz", *said)
    assert "energy from 'energy', forces from 'forces', no stress, in Hartree Bohr" in capsys.readouterr().out
    with pytest.raises(DataError, match="energy_key = 'other' is in no frame"):
        run(
            "calibrate", tmp_path / "checkpoint.h5", tmp_path / "b.extxyz", *said[:2], "--energy-key", "other"
        )
    with pytest.raises(ConfigError, match="data.units: 'ell' is no unit known here"):
        run("fisher", tmp_path / "checkpoint.h5", "--data", tmp_path / "b.extxyz", "--units", "ell")


def test_a_folder_is_read_without_what_is_written_there(tmp_path, capsys):
    (tmp_path / "pool").mkdir()
    write_clusters(tmp_path / "pool" / "a.extxyz", 5)
    run("label", "ase:emt", tmp_path / "pool", "-o", tmp_path / "pool" / "labelled.h5")
    for source in (tmp_path / "pool", tmp_path / "pool" / "*.*"):
        run("label", "ase:emt", source, "-o", tmp_path / "pool" / "labelled.h5", "--overwrite")
        assert len(hdf5.read(tmp_path / "pool" / "labelled.h5")) == 5
        assert "labelled.h5: is not read, as it will be written" in capsys.readouterr().out
    run("select", tmp_path / "pool" / "*.extxyz", "-n", 2, "-o", tmp_path / "pool" / "two.extxyz")
    run(
        "select",
        tmp_path / "pool" / "*.extxyz",
        "-n",
        5,
        "-o",
        tmp_path / "pool" / "two.extxyz",
        "--overwrite",
    )
    assert len(read_sources(tmp_path / "pool" / "two.extxyz", report=silent)) == 5


def test_prune_by_range_marks_lines_of_input_nn(tmp_path):
    functions, data = read_functions(FOLDER / "input.nn"), read_sources(FOLDER / "input.data", report=silent)
    comm, log = quiet()
    t = statistics_of(data, functions, comm, log)
    spread = t.maximum - t.minimum
    threshold = np.median(spread)
    run(
        "prune",
        FOLDER / "input.data",
        FOLDER / "input.nn",
        "--range",
        threshold,
        "-o",
        tmp_path / "pruned.nn",
    )
    assert read_functions(tmp_path / "pruned.nn").functions == functions.keep(spread >= threshold).functions
    before, after = (
        (p / n).read_text().splitlines() for p, n in ((FOLDER, "input.nn"), (tmp_path, "pruned.nn"))
    )
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(changed) == np.count_nonzero(spread < threshold) and all(
        b == f"# pruned: {a}" for a, b in changed
    )
    with pytest.raises(DataError, match="no symmetry function of . would be left"):
        run("prune", FOLDER / "input.data", FOLDER / "input.nn", "--range", 1e9, "-o", tmp_path / "none.nn")


@pytest.mark.parametrize("dialect", ["Angstrom", "alias", "atomic", "global", "element"])
def test_prune_leaves_out_what_it_says_in_every_dialect(dialect, tmp_path):
    text = (FOLDER / "input.nn").read_text()
    others = [line for line in text.splitlines() if not line.startswith("symfunction_short")]
    if dialect == "Angstrom":
        known = read_functions(FOLDER / "input.nn").functions
        own = [f"symfunction_short {format_line(f, length=1.0)}" for f in known]
        text = "\n".join(["# units: eV Angstrom", *others, *own]) + "\n"
    elif dialect in ("alias", "atomic"):
        name = {"alias": "symfunction", "atomic": "symfunction_short_atomic"}[dialect]
        text = text.replace("symfunction_short ", f"{name} ")
    else:
        centers = [""] if dialect == "global" else ["H ", "O "]
        numbers = ("2 0.01 0.0 12.0", "2 3.0 0.1 9.0", "3 0.01 1.0 4.0 12.0", "3 0.3 -1.0 1.0 9.0")
        own = [f"{dialect}_symfunction_short {c}{n}  # comment" for c in centers for n in numbers]
        text = "\n".join([*others, *own]) + "\n"
    (tmp_path / "input.nn").write_text(text)
    functions = read_functions(tmp_path / "input.nn")
    data, (comm, log) = read_sources(FOLDER / "input.data", report=silent), quiet()
    t = statistics_of(data, functions, comm, log)
    spread = t.maximum - t.minimum
    threshold, target = np.median(spread), tmp_path / "pruned.nn"
    words = ["prune", FOLDER / "input.data", tmp_path / "input.nn", "--range", threshold, "-o", target]
    run(*words, "--units", "Hartree Bohr")
    expected = functions.keep(spread >= threshold)
    assert 0 < len(expected) < len(functions)
    assert read_functions(target).functions == expected.functions


def metal_copy(folder, unit="eV Angstrom", stated=False):
    """input.data and input.nn of FOLDER in eV and Angstrom, with comments that say so or without."""
    write_potential(replace(read_potential(FOLDER), units=METAL), folder)
    data = read_sources(FOLDER / "input.data", report=silent)
    write_runner_data(folder / "input.data", data)
    lines = []
    for line in (folder / "input.data").read_text().splitlines():
        words = line.split()
        if words[0] in ("lattice", "atom"):
            words[1:4] = [repr(float(x) * BOHR) for x in words[1:4]]
        if words[0] == "atom":
            words[-3:] = [repr(float(x) * HARTREE / BOHR) for x in words[-3:]]
        if words[0] == "energy":
            words[1] = repr(float(words[1]) * HARTREE)
        lines.append(" ".join(words) if "units:" not in line else f"comment units: {unit}")
    text = "\n".join(line for line in lines if stated or "units:" not in line)
    (folder / "input.data").write_text(text + "\n")
    nn = (folder / "input.nn").read_text().splitlines()
    (folder / "input.nn").write_text("\n".join(line for line in nn if "units:" not in line) + "\n")
    (folder / "scaling.data").unlink()
    for path in folder.glob("weights.*"):
        path.unlink()
    return folder


@pytest.mark.parametrize("stated", [False, True], ids=["asked", "stated"])
def test_an_input_nn_is_in_the_units_of_its_data(tmp_path, stated, capsys):
    """As the user says them, or a comment of the input.data: the functions are numbers without a unit."""
    folder = metal_copy(tmp_path / "metal", stated=stated)
    units = [] if stated else ["--units", "eV Angstrom"]
    run("prepare", folder / "input.data", folder / "input.nn", "-o", tmp_path / "a", *units)
    where = "a comment of input.data" if stated else "--units"
    assert f"input.nn: eV Angstrom ({where})" in capsys.readouterr().out
    run("prepare", FOLDER / "input.data", FOLDER / "input.nn", "-o", tmp_path / "b")
    of_a, of_b = (np.loadtxt(tmp_path / name / "scaling.data", comments="#")[:, 2:6] for name in "ab")
    np.testing.assert_allclose(of_a, of_b, rtol=1e-6, atol=1e-9)
    for n, (where, more) in enumerate(((folder, units), (FOLDER, []))):
        words = ["prune", where / "input.data", where / "input.nn", "--range", 0.05, *more]
        run(*words, "-o", tmp_path / f"{n}.nn")
    found = read_functions(tmp_path / "0.nn", METAL).functions
    expected = read_functions(tmp_path / "1.nn").functions
    assert len(found) == len(expected) < len(read_functions(FOLDER / "input.nn"))
    assert [f.r_c for f in found] == pytest.approx([f.r_c for f in expected])


def test_prune_reads_a_potential_in_the_units_of_the_input_nn(tmp_path):
    folder, potential = metal_copy(tmp_path / "metal"), tmp_path / "potential"
    write_potential(replace(read_potential(FOLDER), units=METAL), potential)
    text = (potential / "input.nn").read_text()
    (potential / "input.nn").write_text("".join(s for s in text.splitlines(True) if "units:" not in s))
    words = ["prune", folder / "input.data", folder / "input.nn", "--units", "eV Angstrom"]
    run(*words, "--sensitivity", 3.0, "--potential", potential, "-o", tmp_path / "fewer.nn")
    assert 0 < len(read_functions(tmp_path / "fewer.nn", METAL)) < len(read_functions(FOLDER / "input.nn"))


def test_contradicting_units_of_input_nn_and_input_data_are_refused(tmp_path):
    folder = metal_copy(tmp_path / "metal", stated=True)
    text = (folder / "input.nn").read_text()
    (folder / "input.nn").write_text("# units: Hartree Bohr\n" + text)
    with pytest.raises(DataError, match="input.nn: contradicting units: Hartree Bohr .a comment of input.nn"):
        run("prepare", folder / "input.data", folder / "input.nn", "-o", tmp_path / "a")


def test_prune_takes_a_translated_configuration_with_its_scaling(tmp_path, capsys):
    """As mpnnp translate writes it: functions and scaling of an input.nn, statistics of a scaling.data."""
    for name in ("input.nn", "input.data", "scaling.data"):
        shutil.copy(FOLDER / name, tmp_path)
    text = (tmp_path / "input.nn").read_text().replace("center_symmetry_functions", "#")
    (tmp_path / "input.nn").write_text(text.replace("scale_max_short 1.0", "scale_max_short 2.5"))
    run("translate", tmp_path / "input.nn", "-o", tmp_path / "t.toml")
    before = read_config(tmp_path / "t.toml").symmetry_functions
    assert before.scaling_data and before.input_nn
    run("prune", tmp_path / "t.toml", "--range", 0.05, "-o", tmp_path / "fewer.toml")
    assert "scaling.data is of all functions: training makes the scaling of these anew" in (
        capsys.readouterr().out
    )
    after = read_config(tmp_path / "fewer.toml").symmetry_functions
    assert after.scaling_data is after.input_nn is after.input_nn_units is None
    assert 0 < len(after.functions) < len(read_functions(FOLDER / "input.nn"))
    assert (after.scaling, after.scale_max) == (scaling_kind(InputFile(tmp_path / "input.nn"))[0], 2.5)


def test_prune_refuses_a_configuration_whose_functions_are_those_of_a_potential(tmp_path, trained):
    config = trained[1].with_keys("network", weights_from=str(FOLDER), initializer="files")
    (tmp_path / "a.toml").write_text(to_toml(config))
    with pytest.raises(ConfigError, match="a.toml: network.weights_from = .* to prune"):
        run("prune", tmp_path / "a.toml", "--range", 0.05, "-o", tmp_path / "b.toml")


def test_prune_writes_nothing_that_means_other_functions(tmp_path, monkeypatch):
    monkeypatch.setattr(pruning, "_pruned_input", lambda settings, kept, units: Path(settings).read_text())
    with pytest.raises(DataError, match="could not be pruned"):
        run("prune", FOLDER / "input.data", FOLDER / "input.nn", "--range", 0.01, "-o", tmp_path / "new.nn")
    assert not list(tmp_path.iterdir())


def test_prune_by_sensitivity_writes_a_configuration(tmp_path, trained):
    folder, config = trained
    (tmp_path / "train.toml").write_text(to_toml(config))
    run(
        "prune",
        tmp_path / "train.toml",
        "--sensitivity",
        8.0,
        "--potential",
        folder / "best.h5",
        "-o",
        tmp_path / "less.toml",
    )
    potential, data = load_potential(folder / "best.h5"), read_sources(config.data.files, report=silent)
    comm, log = quiet()
    share = sensitivity_of(potential, data, comm, log).share("msa", potential.functions.table.start)
    less = choose_functions(read_config(tmp_path / "less.toml").symmetry_functions, (1, 8))
    expected = potential.functions.keep(share >= 8.0)
    assert 2 <= len(expected) < len(potential.functions)
    assert less.functions == expected.functions
    with pytest.raises(ConfigError, match="one of --range and --sensitivity"):
        run("prune", tmp_path / "train.toml", "-o", tmp_path / "x.toml")


def test_prune_of_compact_functions(tmp_path):
    folder = DATA / "predict_compact"
    run("prune", folder / "input.data", folder / "input.nn", "--range", 10.0, "-o", tmp_path / "pruned.nn")
    left = read_functions(tmp_path / "pruned.nn")
    assert 0 < len(left) < 20 and set(left.functions) < set(read_functions(folder / "input.nn").functions)


def test_sensitivity_is_the_derivative_by_the_scaled_functions(tmp_path):
    """By differences: a shift of one scaled function of all atoms changes the atomic energies by dE/dg."""
    potential, data = read_potential(FOLDER), read_sources(FOLDER / "input.data", report=silent).take([5])
    comm, log = quiet()
    found = sensitivity_of(potential, data, comm, log)
    statistics, h = potential.scaling.statistics, 1e-4
    for k in (0, 3, len(potential.functions) - 1):
        energies = []
        for sign in (1, -1):  # g = (G - shift) factor: another mean is another shift of g
            shift = np.zeros(len(potential.functions))
            shift[k] = sign * h
            moved = moved_scaling(potential, shift)
            energies.append(moved.predict(data[0]).energies)
        derivative = (energies[0] - energies[1]) / (2 * h)
        mine = derivative[data.numbers == potential.functions.functions[k].center]
        assert found.max[k] == pytest.approx(np.abs(mine).max(), rel=1e-5)
        assert found.msa[k] == pytest.approx(np.sqrt(np.mean(mine**2)), rel=1e-5)
        assert found.mean[k] == pytest.approx(np.abs(mine).mean(), rel=1e-5)
    assert statistics.count.shape == found.max.shape
    run("sensitivity", FOLDER, FOLDER / "input.data", "-o", tmp_path / "s.csv")
    table = np.genfromtxt(tmp_path / "s.csv", delimiter=",", skip_header=1)
    for a, b in zip(potential.functions.table.start[:-1], potential.functions.table.start[1:]):
        assert table[a:b, 5:8].sum(axis=0) == pytest.approx(100.0)
    assert (tmp_path / "s.png").stat().st_size > 5000


def moved_scaling(potential, shift):
    """The potential with g + shift in place of g."""
    weights = potential.weights.copy()
    start = potential.functions.table.start
    for s in potential.network.segments:
        if s.layer == 0:  # (g + shift) W + b
            matrix = weights[s.offset : s.offset + s.n_in * s.n_out].reshape(s.n_in, s.n_out)
            weights[s.offset + s.n_in * s.n_out : s.offset + (s.n_in + 1) * s.n_out] += (
                shift[start[s.element] : start[s.element + 1]] @ matrix
            )
    return potential.with_weights(weights)


def test_disagree_tells_the_differences(tmp_path, capsys):
    a, data = read_potential(FOLDER), read_sources(FOLDER / "input.data", report=silent)
    b = a.with_weights(a.weights * 1.01)
    write_potential(b, tmp_path / "b")
    run("disagree", FOLDER, tmp_path / "b", FOLDER / "input.data", "-o", tmp_path / "d.csv")
    table = np.genfromtxt(tmp_path / "d.csv", delimiter=",", skip_header=1, usecols=(0, 3, 4, 5, 6))
    for s in (0, 5):
        (energy_a, forces_a), (energy_b, forces_b) = a.energy_forces(data[s]), b.energy_forces(data[s])
        assert table[s, 2] == pytest.approx(1000 * (energy_b - energy_a) / len(forces_a), rel=1e-6)
        assert table[s, 3] == pytest.approx(1000 * np.sqrt(np.mean((forces_b - forces_a) ** 2)), rel=1e-6)
        assert table[s, 4] == pytest.approx(
            1000 * np.linalg.norm(forces_b - forces_a, axis=1).max(), rel=1e-6
        )
    assert "differences B - A over 6 structures" in capsys.readouterr().out and (tmp_path / "d.png").exists()
    comm, log = quiet()
    assert disagreement_of([a, a, a], data, comm, log).largest.max() < 1e-12


@pytest.mark.parametrize(
    ("absent", "told"),
    [(["forces"], "RMSE 0 meV/atom"), (["energy"], "RMSE 0 meV/A"), (["energy", "forces"], "no")],
)
def test_disagree_tells_no_errors_of_labels_that_are_not_there(tmp_path, capsys, absent, told):
    potential = read_potential(FOLDER)
    data = read_sources(FOLDER / "input.data", report=silent).take([0, 1])
    found = [potential.energy_forces(s) for s in data]
    data = replace(
        data, energy=np.array([e for e, _ in found]), forces=np.concatenate([forces for _, forces in found])
    )
    data = replace(data, **{name: np.full_like(getattr(data, name), np.nan) for name in absent})
    hdf5.write(tmp_path / "some.h5", data)
    run("disagree", FOLDER, FOLDER, tmp_path / "some.h5")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("  A: ", "  B: "))]
    assert len(lines) == 2 and "nan" not in "".join(lines)
    assert all(told in line.rpartition(", ")[2] for line in lines)


def test_select_at_random_and_at_an_interval(tmp_path):
    write_clusters(tmp_path / "c.extxyz", 10)
    run("select", tmp_path / "c.extxyz", "-n", 4, "-o", tmp_path / "r.h5")
    assert len(set(hdf5.read(tmp_path / "r.h5").frame)) == 4
    run("select", tmp_path / "c.extxyz", "-n", 4, "--by", "interval", "-o", tmp_path / "i.h5")
    assert list(hdf5.read(tmp_path / "i.h5").frame) == [0, 2, 5, 7] == list(at_interval(4, 10))
    with pytest.raises(ConfigError, match="must be between 1 and the 10"):
        run("select", tmp_path / "c.extxyz", "-n", 11, "-o", tmp_path / "more.h5")


@pytest.mark.parametrize("by", ["random", "interval", "farthest"])
def test_isolated_atoms_are_no_choice_and_are_kept(by, tmp_path):
    frames = write_clusters(tmp_path / "c.extxyz", 8)
    single = [Atoms(symbol, calculator=None) for symbol in "HO"]
    for k, atoms in enumerate(single):
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 - 2 * k, forces=np.zeros((1, 3)))
    write(tmp_path / "c.extxyz", [*single, *frames])
    run("select", tmp_path / "c.extxyz", "-n", 3, "--by", by, "-o", tmp_path / "r.h5")
    found = hdf5.read(tmp_path / "r.h5")
    assert (found.n_atom == 1).tolist() == [True, True, False, False, False]
    assert len(set(found.frame)) == 5
    with pytest.raises(ConfigError, match="must be between 1 and the 8"):
        run("select", tmp_path / "c.extxyz", "-n", 9, "--by", by, "-o", tmp_path / "more.h5")


def test_farthest_points_are_far_apart(tmp_path):
    points = np.array([[0.0, 0], [0.1, 0], [5, 0], [5, 0.1], [0, 3], [2, 1]])
    chosen, distances = farthest(4, points)
    assert chosen[0] == 5 and set(chosen[1:3]) <= {0, 1, 2, 3, 4} and len(set(chosen)) == 4
    assert (np.diff(distances[1:]) <= 1e-12).all()
    one_of_each = {0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 3}
    assert len({one_of_each[int(k)] for k in chosen}) == 4
    data = read_sources(FOLDER / "input.data", report=silent)
    comm, log = quiet()
    x = fingerprints(hdf5.concatenate([data, data]), read_functions(FOLDER / "input.nn"), comm, log)
    assert x[:6] == pytest.approx(x[6:]) and x.mean(axis=0) == pytest.approx(0, abs=1e-12)
    hdf5.write(tmp_path / "twice.h5", hdf5.concatenate([data, data]))
    run(
        "select",
        tmp_path / "twice.h5",
        "-n",
        6,
        "--by",
        "farthest",
        "--potential",
        FOLDER,
        "-o",
        tmp_path / "f.data",
    )
    energies = [s.energy for s in (read_sources(tmp_path / "f.data", report=silent)[k] for k in range(6))]
    # no structure twice
    assert len({round(e, 6) for e in energies}) == len({round(e, 6) for e in data.energy})


def test_select_by_disagreement(tmp_path):
    a, data = read_potential(FOLDER), read_sources(FOLDER / "input.data", report=silent)
    write_potential(a.with_weights(a.weights * 1.02), tmp_path / "b")
    words = ["select", FOLDER / "input.data", "-n", 2, "--by", "disagreement", "--potential", FOLDER]
    run(*words, "--potential", tmp_path / "b", "-o", tmp_path / "s.h5")
    comm, log = quiet()
    found = disagreement_of([a, read_potential(tmp_path / "b")], data, comm, log)
    assert list(hdf5.read(tmp_path / "s.h5").frame) == list(np.argsort(-found.largest)[:2])
    with pytest.raises(ConfigError, match="two or more --potential"):
        run(*words, "-o", tmp_path / "one.h5")


def test_select_by_the_kalman_variance(tmp_path, trained):
    """Greedy choice equals that of the textbook filter, which learns the energy of each chosen structure
    before it chooses the next.
    """
    folder, config = trained
    potential, data = load_potential(folder / "checkpoint.h5"), read_sources(config.data.files, report=silent)
    comm, log = quiet()
    known = read_posterior(folder / "checkpoint.h5")
    h = energy_rows_per_atom(potential, data, comm, log)
    n = h.shape[1]
    P = known.times(np.eye(n))
    assert P == pytest.approx(P.T, rel=1e-9, abs=1e-12 * np.abs(P).max())
    assert known.variance(h) == pytest.approx(np.einsum("si,ij,sj->s", h, P, h), rel=1e-9)
    noise = known.noise / data.n_atom**2
    chosen, variance = most_uncertain(5, h, known.times, noise)
    left = list(range(len(data)))
    for k in range(5):
        all_of = np.einsum("si,ij,sj->s", h, P, h)
        best = max(left, key=lambda s: all_of[s])
        assert best == chosen[k] and variance[k] == pytest.approx(all_of[best], rel=1e-7)
        left.remove(best)
        x = P @ h[best]
        P = P - np.outer(x, x) / (h[best] @ x + noise[best])
    words = ["select", *config.data.files, "-n", 5, "--by", "kalman", "-o", tmp_path / "k.h5", "--overwrite"]
    words += ["--potential"]
    run(*words, folder / "checkpoint.h5")
    assert list(hdf5.read(tmp_path / "k.h5").frame) == list(chosen)
    with pytest.raises(ConfigError, match=r"the checkpoint.h5 of a run"):
        run(*words, FOLDER)


@pytest.mark.parametrize(
    "schedule, ekf",
    [
        ({"streams": 2}, {"noise": "learned"}),
        ({"energy_weight": 3.0}, {"noise": "fixed"}),
        ({"name": "sdnz", "energies_per_update": 4, "updates_per_epoch": 20}, {}),
    ],
)
def test_the_noise_of_energies_to_be_chosen_is_that_of_the_labels_of_the_run(tmp_path, schedule, ekf):
    """Rows of training, scaled, have the noise R; rows per atom as much less as they are smaller."""
    comm, log = quiet()
    config = small_config(tmp_path, schedule=schedule, ekf=ekf, run={"epochs": 1})
    train(config, tmp_path / "run", comm, log)
    saved = read_checkpoint(tmp_path / "run" / "checkpoint.h5")
    data = read_sources(config.data.files, report=silent)
    task = assemble(config, comm, log, tmp_path, potential=saved.potential)
    task.observer.noise = noise_levels(saved.progress)
    n = config.schedule.of_kind("energy", "per_update") if config.schedule.name == "sdnz" else 2
    scaled = np.concatenate(
        [task.observe(Batch(ENERGY, np.full((n, 1), s)), saved.potential.weights)[0][:1] for s in range(12)]
    )
    per_atom = energy_rows_per_atom(saved.potential, data, comm, log)
    R = posterior_of(saved, "the checkpoint").noise
    found = noise_per_atom(saved, R, data.n_atom)
    assert found == pytest.approx(R * (per_atom**2).sum(axis=1) / (scaled**2).sum(axis=1), rel=1e-9)


def test_check_finds_agreement_and_a_wrong_force(tmp_path, capsys, monkeypatch):
    run("check", FOLDER, FOLDER / "input.data", "--structures", 2, "--components", 4, "--rows")
    out = capsys.readouterr().out
    assert "all derivatives agree" in out and all(
        name in out for name in ("forces", "stress", "rows of energies", "rows of forces", "rows of str")
    )
    from mpnnp.analysis import derivative_check

    right = derivative_check.Predictor.predict

    def wrong(self, *arguments, **options):
        p = right(self, *arguments, **options)
        return type(p)(p.energy, p.energies, p.forces * 1.001, p.virial)

    monkeypatch.setattr(derivative_check.Predictor, "predict", wrong)
    with pytest.raises(CheckFailed, match="check: forces deviate by more than"):
        run("check", FOLDER, FOLDER / "input.data", "--structures", 1, "--components", 4)


def test_forces_that_vanish_by_symmetry_pass_the_check(tmp_path, capsys):
    hydrogen = bulk("H", "sc", a=1.7, cubic=True) * (2, 2, 2)
    write(tmp_path / "crystal.xyz", hydrogen)
    run("check", FOLDER, tmp_path / "crystal.xyz", "--rows")
    assert "all derivatives agree" in capsys.readouterr().out


def test_compact_functions_pass_the_check():
    data = read_sources(DATA / "predict_compact" / "input.data", report=silent).take([5])
    for found in check_derivatives(
        read_potential(DATA / "predict_compact"), data, serial(), 12, with_rows=True
    ):
        assert found.relative < 1e-5, found


def coincident(path):
    """Write three clusters, the second with two atoms at one place."""
    frames = write_clusters(path, 3)
    frames[1].positions[2] = frames[1].positions[1]
    write(path, frames)
    return path


@pytest.mark.parametrize("command", ["evaluate", "disagree", "check", "sensitivity", "prepare", "prune"])
def test_atoms_at_one_place_are_refused_by_name(command, tmp_path):
    data, target = coincident(tmp_path / "bad.xyz"), tmp_path / "out"
    words = {
        "evaluate": [FOLDER, data, "--json", target],
        "disagree": [FOLDER, FOLDER, data, "-o", tmp_path / "d.csv"],
        "check": [FOLDER, data, "--components", 2],
        "sensitivity": [FOLDER, data],
        "prepare": [data, FOLDER / "input.nn", "-o", target],
        "prune": [data, FOLDER / "input.nn", "--range", 0.1, "-o", target],
    }[command]
    with pytest.raises(DataError, match=r"bad\.xyz, frame 1: .*two atoms at the same place"):
        run(command, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.xyz"]


@pytest.mark.parametrize("by", ["farthest", "kalman"])
def test_select_refuses_atoms_at_one_place(by, tmp_path, trained):
    words = ["select", coincident(tmp_path / "bad.xyz"), "-n", 2, "--by", by, "-o", tmp_path / "s.h5"]
    with pytest.raises(DataError, match=r"bad\.xyz, frame 1: .*two atoms at the same place"):
        run(*words, "--potential", trained[0] / "checkpoint.h5")
    assert not (tmp_path / "s.h5").exists()


def test_fisher_and_the_library_refuse_atoms_at_one_place(tmp_path, trained):
    data = coincident(tmp_path / "bad.xyz")
    message = r"bad\.xyz, frame 1: .*two atoms at the same place"
    with pytest.raises(DataError, match=message):
        run("fisher", trained[0] / "checkpoint.h5", "--data", data, "-o", tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()
    potential = load_potential(trained[0] / "best.h5")
    for computed in (mpnnp.evaluate, mpnnp.fisher):
        with pytest.raises(DataError, match=message):
            computed(potential, mpnnp.read(data))


def test_the_number_of_ranks_changes_nothing(tmp_path, mpiexec):
    for n in (1, 2):
        mpiexec(n, "-m", "mpnnp", "sensitivity", FOLDER, FOLDER / "input.data", "-o", tmp_path / f"{n}.csv")
    one, two = (np.genfromtxt(tmp_path / f"{n}.csv", delimiter=",", skip_header=1)[:, 2:8] for n in (1, 2))
    assert one == pytest.approx(two, rel=1e-8)
    result = mpiexec(2, "-m", "mpnnp", "check", FOLDER, tmp_path / "nothing.data", check=False)
    assert result.returncode == 2 and "no such file" in result.stderr and "Traceback" not in result.stderr
    bad = coincident(tmp_path / "bad.xyz")
    result = mpiexec(2, "-m", "mpnnp", "evaluate", FOLDER, bad, check=False)
    assert result.returncode == 2 and result.stderr.count("bad.xyz, frame 1") == 1
