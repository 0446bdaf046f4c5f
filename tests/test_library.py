"""The public functions of `import mpnnp`: what they refuse, what they leave alone, and on several ranks."""

import warnings
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from launch import on_ranks
from small import FUNCTIONS, cluster, quiet, write_clusters

import mpnnp
from mpnnp.config import make_config, read_config
from mpnnp.errors import CheckpointError, ConfigError, DataError, FolderError
from mpnnp.progress import Muted, Silent
from mpnnp.training import history
from mpnnp.training.checkpoint import read_summary
from mpnnp.units import METAL

SMALL = {"functions": FUNCTIONS, "hidden": [4]}


def clusters(n=8, seed=0):
    rng = np.random.default_rng(seed)
    return mpnnp.read([cluster(rng) for _ in range(n)])


def sections(**data):
    """A small training, whose data are clusters.extxyz in the working directory."""
    return {
        "data": {"files": "clusters.extxyz", "validation_fraction": 0.25} | data,
        "symmetry_functions": {"functions": FUNCTIONS},
        "network": {"hidden": [4]},
        "schedule": {"force_fraction": 0.2, "streams": 2},
        "run": {"epochs": 1},
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a run on clusters.extxyz, which was named relative to the working directory."""
    folder = tmp_path_factory.mktemp("library")
    write_clusters(folder / "clusters.extxyz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        mpnnp.train(sections(cache="cache"), "run", log=quiet()[1])
    return folder / "run"


def fisher_with_its_matrix(comm):
    data, none = clusters(), clusters()
    none.energy[:] = np.nan
    potential = mpnnp.new_potential(data, **SMALL, comm=comm)
    alone = mpnnp.fisher(potential, data, kind="force", n_batch=20, matrix=True)
    found = mpnnp.fisher(potential, data, kind="force", n_batch=20, matrix=True, comm=comm)
    without = mpnnp.fisher(potential, none, kind="energy", matrix=True, comm=comm)
    told = comm.bcast(
        comm.rank == 0 and np.allclose(found[1], alone[1]) and np.isclose(np.trace(found[1]), found[0].trace)
    )
    assert told and without is None and (comm.rank == 0 or found is None)


def test_the_fisher_matrix_is_the_same_on_two_ranks():
    on_ranks(2, fisher_with_its_matrix)


def test_a_refused_continuation_leaves_the_data_of_the_run_that_is_there(trained, tmp_path):
    start, first, other = trained / "checkpoint.h5", clusters(6, seed=1), clusters(9, seed=2)
    folder, log = tmp_path / "b", quiet()[1]
    go_on = lambda data, **keys: mpnnp.continue_from(start, data, folder, epochs=1, log=log, **keys)  # noqa: E731
    go_on(first)
    before = (folder / "data.h5").read_bytes()
    with pytest.raises(FolderError, match="holds a training already"):
        go_on(other)
    with pytest.raises(CheckpointError, match="data.h5: are the data that the run in this folder learns"):
        go_on(other, resume=True)
    with pytest.raises(ConfigError, match="schedule.sreams: unknown key"):
        go_on(other, overwrite=True, schedule={"sreams": 3})
    with pytest.raises(ConfigError, match="the results would replace what they go on from"):
        mpnnp.continue_from(folder / "checkpoint.h5", other, folder, overwrite=True, log=log)
    assert (folder / "data.h5").read_bytes() == before
    go_on(first, resume=True)
    go_on(other, overwrite=True)
    assert len(mpnnp.read(folder / "data.h5")) == 9
    assert (tmp_path / "b.old-1" / "data.h5").read_bytes() == before


def test_nothing_is_begun_where_there_is_nothing_to_resume(trained, tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint.h5 to resume from"):
        mpnnp.continue_from(trained / "checkpoint.h5", clusters(), tmp_path / "b", resume=True)
    assert not (tmp_path / "b").exists()


def test_what_is_no_section_is_refused(trained, tmp_path):
    with pytest.raises(ConfigError, match="epoch = 3: is no argument of continue_from"):
        mpnnp.continue_from(trained / "checkpoint.h5", clusters(), tmp_path / "b", epoch=3)


def test_paths_of_a_dict_hold_from_any_working_directory(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written, log = read_config(trained / "config.toml"), quiet()[1]
    assert written.data.files == [str(trained.parent / "clusters.extxyz")]
    assert written.data.cache == str(trained.parent / "cache")
    write_clusters(tmp_path / "new.extxyz", 6, seed=1)
    mpnnp.continue_from(trained / "checkpoint.h5", "new.extxyz", "b", epochs=1, log=log)
    assert not [line for line in log.kept if "old errors are not told" in line]
    saved = read_summary(tmp_path / "b" / "checkpoint.h5")
    files = [entry.section["files"] for entry in history.of_checkpoint(saved, "b")]
    assert files == [[str(trained.parent / "clusters.extxyz")], [str(tmp_path / "new.extxyz")]]


def test_paths_of_a_config_are_those_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clusters(tmp_path / "clusters.extxyz")
    mpnnp.train(make_config(sections()), "run", log=quiet()[1])
    files = read_config(tmp_path / "run" / "config.toml").data.files
    assert files == [str(tmp_path / "clusters.extxyz")]


def single(symbol, energy):
    atom = Atoms(symbol, [[0.0, 0.0, 0.0]])
    atom.calc = SinglePointCalculator(atom, energy=energy, forces=np.zeros((1, 3)))
    return atom


def test_isolated_atoms_are_references_and_not_learned():
    rng = np.random.default_rng(0)
    frames = [cluster(rng) for _ in range(8)]
    data = mpnnp.read([single("H", -20.0), single("O", -40.0), *frames])
    potential, alone = mpnnp.new_potential(data, **SMALL), mpnnp.new_potential(mpnnp.read(frames), **SMALL)
    assert potential.atomic_energies.tolist() == [-20.0, -40.0]
    assert np.isclose(potential.energy_scale, alone.energy_scale, rtol=0.3)
    task = mpnnp.new_task(potential, data, streams=2)
    assert len(task.dataset) == 8 and len(task.labels[0]) == 8
    assert mpnnp.fisher(potential, data).n_row == 8
    found = mpnnp.evaluate(potential, data)
    assert (
        len(found.energy) == 10
        and np.isfinite(found.energy).all()
        and np.isfinite(found.labels["energy"]).all()
    )
    without = mpnnp.evaluate(potential, data.without_isolated_atoms()).accuracy
    assert found.accuracy.rmse == pytest.approx(without.rmse, nan_ok=True)


def test_what_a_task_by_itself_cannot_give_is_refused():
    data = clusters()
    potential = mpnnp.new_potential(data, **SMALL)
    task = mpnnp.new_task(potential, data, streams=2)
    for noise in ("learned", None):
        with pytest.raises(ConfigError, match="noise = 'learned': needs levels of noise"):
            mpnnp.new_optimizer(task, noise=noise)
    for name in ("run", "nothing"):
        with pytest.raises(ConfigError, match=f"'{name}': there is no such optimizer"):
            mpnnp.new_optimizer(task, name)
    with pytest.raises(ConfigError, match="normalize_nodes = True: means units of the weights"):
        mpnnp.new_potential(data, **SMALL, normalize_nodes=True)
    assert mpnnp.new_potential(data, **SMALL, normalize_nodes=False).weights.tolist() == (
        potential.weights.tolist()
    )
    task = mpnnp.new_task(potential, data, streams=2, selection="sort")
    with pytest.raises(ConfigError, match=r"task.epoch\(number, task.errors\(w\)\)"):
        task.epoch(1)
    errors = task.errors(potential.weights)
    first = next(batch for batch in task.epoch(1, errors) if batch.kind == 0)
    assert first.candidates[0, 0] == task.labels[0][np.argmax(errors[0])]


def test_files_and_atoms_are_taken_where_a_dataset_is(tmp_path):
    write_clusters(tmp_path / "clusters.extxyz")
    data = mpnnp.read(tmp_path / "clusters.extxyz")
    potential = mpnnp.new_potential(data, **SMALL)
    expected = mpnnp.evaluate(potential, data).accuracy.rmse
    for given in (str(tmp_path / "clusters.extxyz"), ase.io.read(tmp_path / "clusters.extxyz", ":")):
        assert mpnnp.new_potential(given, **SMALL).weights.tolist() == potential.weights.tolist()
        assert mpnnp.evaluate(potential, given).accuracy.rmse == pytest.approx(expected, nan_ok=True)
        assert len(mpnnp.new_task(potential, given).labels[0]) == len(data)
        assert mpnnp.fisher(potential, given, n_batch=4).n_row == 4


def test_input_data_without_units_is_read_in_those_of_the_potential(tmp_path):
    potential = replace(mpnnp.new_potential(clusters(), **SMALL), units=METAL)
    atoms = cluster(np.random.default_rng(0))
    rows = zip(atoms.positions, atoms.symbols, atoms.get_forces())
    numbers = [f"atom {x[0]} {x[1]} {x[2]} {s} 0 0 {f[0]} {f[1]} {f[2]}" for x, s, f in rows]
    lines = ["begin", *numbers, f"energy {atoms.get_potential_energy()}", "charge 0", "end", ""]
    (tmp_path / "input.data").write_text("\n".join(lines))
    found = mpnnp.evaluate(potential, tmp_path / "input.data")
    assert found.energy[0] == pytest.approx(mpnnp.evaluate(potential, atoms).energy[0], rel=1e-10)
    assert found.labels["energy"][0] == pytest.approx(atoms.get_potential_energy())


def test_functions_that_are_neither_a_set_nor_a_file_are_refused():
    with pytest.raises(ConfigError, match='functions = \'watr\': must be "default" or "water", the path'):
        mpnnp.new_potential(clusters(), functions="watr")


@pytest.mark.parametrize("log, warns", [(Silent(), True), (Muted(), False)])
def test_a_silent_log_shows_nothing_and_leaves_train_log(trained, tmp_path, log, warns, capsys):
    again = trained.parent / "clusters.extxyz"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mpnnp.continue_from(trained / "checkpoint.h5", again, tmp_path / "b", epochs=1, log=log)
    assert capsys.readouterr().out == ""
    assert any("were learned before" in str(w.message) for w in caught) is warns
    said = (tmp_path / "b" / "train.log").read_text()
    assert "were learned before" in said and "results in" in said


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda p, d: mpnnp.evaluate(d, p),
            "potential = Dataset.*: must be a Potential, as mpnnp.load",
        ),
        (lambda p, d: mpnnp.evaluate("best.h5", d), "potential = 'best.h5': must be a Potential"),
        (lambda p, d: mpnnp.evaluate(p, None), "data = None: must be a Dataset, files, ase.Atoms"),
        (lambda p, d: mpnnp.new_task(d, p), "potential = Dataset.*: must be a Potential"),
        (lambda p, d: mpnnp.new_task(p, p), "data = Potential.*: must be a Dataset"),
        (lambda p, d: mpnnp.new_task(p, d, seed="a"), "run.seed = 'a': must be a valid integer"),
        (lambda p, d: mpnnp.fisher(d, p), "potential = Dataset.*: must be a Potential"),
        (lambda p, d: mpnnp.fisher(p, d, n_batch=-5), "n_batch = -5: must be a positive integer"),
        (lambda p, d: mpnnp.new_potential(p), "data = Potential.*: must be a Dataset"),
        (
            lambda p, d: mpnnp.new_potential(d, hidden=5),
            "network.hidden = 5: must be a list",
        ),
        (
            lambda p, d: mpnnp.new_potential(d, functions=3),
            "functions.functions = 3: must be a list",
        ),
        (lambda p, d: mpnnp.export("best.h5", "pot"), "potential = 'best.h5': must be a Potential"),
        (lambda p, d: mpnnp.read(None), "files: found None: must be a path"),
        (lambda p, d: mpnnp.read([["a.xyz"]]), r"files: found \['a.xyz'\]: must be a path"),
        (lambda p, d: mpnnp.read(b"a.xyz"), "files: found b'a.xyz'"),
        (lambda p, d: mpnnp.read("a.xyz", units=3), "units = 3: must be Units or words"),
        (lambda p, d: mpnnp.train(None), "config = None: must be a Config, a dict of sections, or a TOML"),
        (lambda p, d: mpnnp.load(None), "None: must name a checkpoint or a folder"),
        (lambda p, d: mpnnp.Calculator(p, skin=-1.0), "skin = -1.0: must be from 0 to 10 Angstrom"),
        (lambda p, d: mpnnp.Calculator(p, skin=1e6), "skin = 1000000.0: must be from 0 to 10 Angstrom"),
        (lambda p, d: mpnnp.Calculator(p, max_extrapolations=-1), "max_extrapolations = -1: must not be neg"),
        (lambda p, d: mpnnp.new_optimizer(p), "task = Potential.*: must be a Task, as mpnnp.new_task gives"),
        (lambda p, d: mpnnp.train(sections(), on_epoch=3), "on_epoch = 3: must be a function, or a list"),
        (lambda p, d: mpnnp.train(sections(), on_update=["a"]), "on_update = .'a'.: must be a function"),
        (lambda p, d: mpnnp.train(sections(), log=print), "log = <built-in function print>: must be a Log"),
    ],
)
def test_arguments_of_another_kind_are_told_by_their_name(call, told):
    data = clusters()
    with pytest.raises(ConfigError, match=told):
        call(mpnnp.new_potential(data, **SMALL), data)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda p, d, task, w: p.with_weights(w[:3]), r"weights of shape \(3,\): must be \(\d+,\)"),
        (lambda p, d, task, w: p.with_weights(w[None]), r"weights of shape \(1, \d+\): must be"),
        (
            lambda p, d, task, w: task.observe(task.epoch(1)[0], w[:-1]),
            r"weights of shape .*: must be \(\d+,",
        ),
        (lambda p, d, task, w: task.errors(None), r"weights of shape \(\): must be"),
        (lambda p, d, task, w: p.energy_forces("a.xyz"), "'a.xyz': must be ase.Atoms or a Structure"),
        (lambda p, d, task, w: d.take([0.5]), "take: must be integers or a mask, found 0.5"),
        (lambda p, d, task, w: d.take(np.ones(3, bool)), r"take: a mask of shape \(3,\), must be \(8,\)"),
        (lambda p, d, task, w: d.split(-0.1), "split: fraction = -0.1: must be from 0 to below 1"),
        (lambda p, d, task, w: d.split(np.nan), "split: fraction = nan: must be from 0 to below 1"),
    ],
)
def test_arrays_of_another_kind_are_refused(call, told):
    """Three of the weights were read beyond their end, and -0.1 left one structure for training."""
    data = clusters()
    potential = mpnnp.new_potential(data, **SMALL)
    with pytest.raises(DataError, match=told):
        call(potential, data, mpnnp.new_task(potential, data, streams=2), potential.weights)


def test_weights_of_single_precision_are_as_good_as_others():
    data = clusters()
    potential = mpnnp.new_potential(data, **SMALL)
    task, w = mpnnp.new_task(potential, data, streams=2), potential.weights.astype(np.float32)
    batch = task.epoch(1)[0]
    for found, expected in zip(task.observe(batch, w), task.observe(batch, w.astype(float))):
        np.testing.assert_array_equal(found, expected)


def test_a_folder_is_not_the_checkpoint_in_it(trained, tmp_path):
    with pytest.raises(CheckpointError, match="run: is a folder: name the checkpoint.h5 in it"):
        mpnnp.continue_from(trained, clusters(), tmp_path / "next")


def test_a_slice_of_a_data_set_says_how_to_take_several():
    with pytest.raises(TypeError, match=r"must be one integer; data.take gives a Dataset of several"):
        clusters()[1:3]


def test_a_potential_is_not_exported_into_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="file: is a file, and the potential needs a folder"):
        mpnnp.export(mpnnp.new_potential(clusters(), **SMALL), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
