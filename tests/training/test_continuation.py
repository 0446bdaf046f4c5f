"""Going on with new data: the checkpoint is the prior, old errors are told, what does not fit is refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from launch import run_on_ranks
from small import boxes, quiet, small_config, write_clusters

import mpnnp
from mpnnp.config import make_config, read_config
from mpnnp.data.ranges import TrainingRange
from mpnnp.errors import CheckpointError, ConfigError, DataError
from mpnnp.model.label_kinds import position
from mpnnp.signals import Signals
from mpnnp.simulation.calculator import Calculator
from mpnnp.training import continuation, history
from mpnnp.training.checkpoint import load_potential, read_checkpoint, read_posterior, read_summary
from mpnnp.training.description import describe_checkpoint
from mpnnp.training.inflation import most_likely_factor
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.run_folder import Held
from mpnnp.training.train import begin, train


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """Folder of a trained run on twelve clusters, and of eight new ones beside it."""
    folder = tmp_path_factory.mktemp("old")
    train(small_config(folder), folder / "run", *quiet())
    write_clusters(folder / "new.extxyz", 8, seed=5, sizes=(2, 3))
    return folder


def going_on(folder, **sections):
    tree = {
        "data": {"files": str(folder / "new.extxyz"), "cache": str(folder / "cache")},
        "run": {"from": str(folder / "run" / "checkpoint.h5"), "epochs": 2},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    return make_config(tree)


def prior(config, directory):
    """Parts of a run that goes on, before its first update."""
    comm, log = quiet()
    with Signals(comm) as signals:
        return begin(continuation.completed(config), Held(directory), comm, log, signals)


def test_the_prior_is_the_checkpoint_and_its_covariance(old, tmp_path):
    (tmp_path / "b").mkdir()
    run = prior(going_on(old, ekf={"inflation": 3.0}), tmp_path / "b")
    saved = read_checkpoint(old / "run" / "checkpoint.h5")
    assert np.array_equal(run.state.weights, saved.potential.weights)
    before = read_posterior(old / "run" / "checkpoint.h5").dense()
    assert np.allclose(run.task.optimizer.covariance(run.state.optimizer), 3.0 * before, rtol=1e-13, atol=0)
    potential = run.task.potential
    assert potential.functions.functions == saved.potential.functions.functions
    assert potential.mean_energy == saved.potential.mean_energy
    assert np.array_equal(potential.scaling.statistics.minimum, saved.potential.scaling.statistics.minimum)
    assert run.state.update == 0 and run.config.schedule.streams == 2  # not given: that of the checkpoint


def test_a_linear_filter_that_goes_on_is_the_one_that_saw_everything():
    """P and w of two data sets, one after the other, are those of both at once: Bayes' rule."""
    from mpnnp.config import Ekf
    from mpnnp.optimizers.ekf import make_ekf

    comm, _ = quiet()
    rng = np.random.default_rng(1)
    H, y = rng.normal(size=(40, 6)), rng.normal(size=40)
    rates = Ekf(epsilon=0.5, eta=2.0, eta_tau=0.0, q=0.0, q_min=0.0)
    first, w = make_ekf(rates, 6, (), comm), np.zeros(6)
    state = first.init()
    for k in range(0, 20, 5):
        w = w + first.update(state, H[k : k + 5], y[k : k + 5] - H[k : k + 5] @ w)
    second = make_ekf(rates, 6, (), comm)
    state = second.load_arrays(first.save_arrays(state))
    for k in range(20, 40, 5):
        w = w + second.update(state, H[k : k + 5], y[k : k + 5] - H[k : k + 5] @ w)
    P = np.linalg.inv(0.5 * np.eye(6) + 2.0 * H.T @ H)
    assert np.allclose(second.covariance(state), P, atol=1e-12)
    assert np.allclose(w, P @ (2.0 * H.T @ y), atol=1e-12)


def test_what_was_learned_later_is_no_extrapolation(old, tmp_path):
    def extrapolations(potential):
        calculator, found = Calculator(potential), 0
        for atoms in read(old / "new.extxyz", ":"):
            calculator.calculate(atoms)
            found += calculator.extrapolations
        return found

    first = load_potential(old / "run" / "checkpoint.h5")
    assert extrapolations(first) > 0  # by the range of the old data
    config = going_on(old, data={"validation_fraction": 0.0})
    train(config, tmp_path / "run", *quiet())
    later = load_potential(tmp_path / "run" / "best.h5")
    assert extrapolations(later) == 0
    low, high = later.range
    assert (low <= first.range[0]).all() and (high >= first.range[1]).all()
    assert np.array_equal(later.scaling.statistics.maximum, first.range[1])  # the weights belong to it


def test_old_errors_stand_beside_the_new_ones(old, tmp_path):
    comm, log = quiet()
    state = train(going_on(old), tmp_path / "run", comm, log)
    curve = LearningCurve.read(tmp_path / "run" / "learning-curve.csv")
    before = LearningCurve.read(old / "run" / "learning-curve.csv")
    for kind in ("energy", "force"):  # before anything new is learned they are the old run's last ones
        assert np.isclose(curve[f"{kind}_rmse_old"][0], before[f"{kind}_rmse_validation"][-1], rtol=1e-6)
    assert len(curve["energy_rmse_old"]) == 3 and np.isfinite(curve["energy_rmse_old"]).all()
    titles = [line.split() for line in log.kept if "valid" in line.split()]
    assert titles and all(line.count("old") == 2 for line in titles)
    assert "energy_rmse_old" not in before
    assert state.update > 0


def test_the_checkpoint_knows_what_was_learned_from_which_data(old, tmp_path):
    comm, log = quiet()
    first = train(going_on(old, data={"rehearsal": 0.4}), tmp_path / "b", comm, log)
    write_clusters(tmp_path / "third.extxyz", 6, seed=9)
    config = going_on(
        old,
        data={"files": str(tmp_path / "third.extxyz")},
        run={"from": str(tmp_path / "b" / "checkpoint.h5"), "epochs": 1},
    )
    train(config, tmp_path / "c", comm, log)
    saved = read_summary(tmp_path / "c" / "checkpoint.h5")
    entries = history.of_checkpoint(saved, "c")
    names = [entry.section["files"][0].rsplit("/", 1)[1] for entry in entries]
    assert names == ["clusters.extxyz", "new.extxyz", "third.extxyz"]
    assert entries[0].hash == mpnnp.read(old / "clusters.extxyz").hash()
    assert [entry.structures for entry in entries] == [9, 7, 5]
    assert entries[1].rehearsed == 4 and entries[1].updates == first.update  # 0.4 of 9, upwards
    words = describe_checkpoint(tmp_path / "c" / "checkpoint.h5")
    assert "third.extxyz" in words and f"7 structures, {first.update} updates, with 4 of before" in words
    # validation structures of both earlier runs make the old error
    old_part = prior(config, tmp_path / "d" if (tmp_path / "d").mkdir() is None else None).task.data.old
    assert len(old_part) == 3 + 1


def test_a_killed_continuation_resumes_bit_for_bit(old, tmp_path):
    comm, log = quiet()
    config = going_on(old, data={"rehearsal": 0.3}, run={"epochs": 3})
    whole = train(config, tmp_path / "whole", comm, log)
    half = config.with_keys("run", updates=5)
    train(half, tmp_path / "half", comm, log)
    again = train(config, tmp_path / "half", comm, log, resume=True)
    assert np.array_equal(whole.weights, again.weights) and whole.update == again.update


def test_a_resumed_run_does_not_need_what_it_went_on_from(old, tmp_path):
    comm, log = quiet()
    shutil.copytree(old / "run", tmp_path / "origin")
    shutil.copy(old / "new.extxyz", tmp_path / "new.extxyz")
    origin = tmp_path / "origin" / "checkpoint.h5"

    def config(epochs, files="new.extxyz", shift_energies=True, **sections):
        data = {"files": str(tmp_path / files), "rehearsal": 0.3, "shift_energies": shift_energies}
        return going_on(old, data=data, run={"from": str(origin), "epochs": epochs}, **sections)

    whole = train(config(3), tmp_path / "whole", comm, log)
    train(config(1), tmp_path / "half", comm, log)
    shutil.rmtree(tmp_path / "origin")
    (tmp_path / "new.extxyz").rename(tmp_path / "moved.extxyz")  # shifts are stored under the file's name
    again = train(config(3, "moved.extxyz"), tmp_path / "half", comm, log, resume=True)
    assert np.array_equal(whole.weights, again.weights) and whole.update == again.update
    with pytest.raises(CheckpointError, match="data.shift_energies: True, now False"):
        train(config(4, "moved.extxyz", False), tmp_path / "half", comm, log, resume=True)
    with pytest.raises(ConfigError, match="(?s)half.checkpoint.h5: .* other settings:.*network.hidden"):
        wider = config(4, "moved.extxyz", network={"hidden": [5, 5]})
        train(wider, tmp_path / "half", comm, log, resume=True)


def test_ranks_do_not_matter(old, tmp_path):
    config = going_on(old, data={"rehearsal": 0.3, "shift_energies": True}, run={"epochs": 1})
    (tmp_path / "new.toml").write_text(
        f'[data]\nfiles = "{old}/new.extxyz"\ncache = "{old}/cache"\nrehearsal = 0.3\nshift_energies = true\n'
        "[run]\nepochs = 1\n"
    )
    train(config, tmp_path / "one", *quiet())
    command = [
        "train",
        tmp_path / "new.toml",
        "--from",
        old / "run" / "checkpoint.h5",
        "-o",
        tmp_path / "two",
    ]
    run_on_ranks(2, "-m", "mpnnp", *command)
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.h5") for name in ("one", "two"))
    assert np.allclose(one.potential.weights, two.potential.weights, rtol=1e-8, atol=1e-10)
    assert one.learned == two.learned


@pytest.mark.parametrize(
    "sections, message",
    [
        ({"network": {"hidden": [5, 5]}}, "network.hidden = [5, 5], there [4, 3]"),
        ({"symmetry_functions": {"set": "water"}}, 'symmetry_functions.set = "water", there not given'),
        ({"ekf": {"coupling": "layer"}}, 'ekf.coupling = "layer", there "full"'),
        ({"run": {"optimizer": "adam"}}, 'run.optimizer = "adam", there "ekf"'),
        ({"baseline": {"zbl": [0.3, 0.6]}}, "baseline.zbl = [0.3, 0.6], there not given"),
        ({"ekf": {"prior": 1000.0}}, "ekf.prior = 1000.0, there "),
        ({"ekf": {"q": 0.5}}, "ekf.q = 0.5, there 0.01"),
    ],
)
def test_what_the_covariance_is_not_of_is_refused(old, tmp_path, sections, message):
    with pytest.raises(ConfigError) as caught:
        train(going_on(old, **sections), tmp_path, *quiet())
    assert message in str(caught.value) and "leave these keys out" in str(caught.value)


def trained_as(tmp_path, name, **sections):
    """A finished run with these sections, and the configuration of one that goes on from it."""
    (tmp_path / name).mkdir()
    write_clusters(tmp_path / name / "new.extxyz", 8, seed=5, sizes=(2, 3))
    train(small_config(tmp_path / name, run={"epochs": 1}, **sections), tmp_path / name / "run", *quiet())
    return lambda **more: going_on(tmp_path / name, **more)


def test_keys_that_have_no_effect_on_the_checkpoint_are_refused(old, tmp_path):
    more = trained_as(tmp_path, "a", ekf={"noise": "learned"})
    for sections, told in (
        ({"schedule": {"force_weight": 5.0}}, "schedule.force_weight = 5.0: without effect with ekf.noise"),
        ({"schedule": {"trials": 5}}, "schedule.trials = 5: without effect with ekf.noise = 'learned'"),
        ({"ekf": {"eta_max": 2.0}}, "ekf.eta_max = 2.0: without effect with ekf.noise = 'learned'"),
        (
            {"schedule": {"forces_per_update": 5}},
            "schedule.forces_per_update = 5: without effect with schedule.name = 'runner'",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            train(more(**sections), tmp_path / "b", *quiet())
        assert told in str(caught.value) and "run.from = " in str(caught.value)
        assert "uses them" not in str(caught.value), "the noise is that of the checkpoint"
    assert not (tmp_path / "b").exists()
    assert continuation.completed(more(schedule={"streams": 3})).schedule.streams == 3
    fixed = continuation.completed(going_on(old, schedule={"force_weight": 5.0}))
    assert (fixed.schedule.force_weight, fixed.ekf.noise) == (5.0, "fixed")


def test_keys_of_the_schedule_of_the_checkpoint_need_not_its_name(tmp_path):
    more = trained_as(tmp_path, "a", schedule={"name": "sdnz", "updates_per_epoch": 20})
    config = continuation.completed(more(schedule={"forces_per_update": 5}))
    assert (config.schedule.name, config.schedule.forces_per_update) == ("sdnz", 5)
    with pytest.raises(ConfigError, match="schedule.streams = 3: without effect with schedule.name = 'sdnz'"):
        continuation.completed(more(schedule={"streams": 3}))


@pytest.mark.parametrize(
    "noise, then, keys, now",
    [
        ("fixed", {"streams": 3, "selection": "sort"}, {"name": "sdnz"}, None),
        ("fixed", {"name": "sdnz", "forces_per_update": 5}, {"name": "runner"}, "threshold"),
        ("learned", {"name": "sdnz", "forces_per_update": 5}, {"name": "runner"}, "random"),
        ("fixed", {"name": "sdnz"}, {"name": "runner", "selection": "sort"}, "sort"),
        ("fixed", {"selection": "sort"}, {"streams": 3}, "sort"),
    ],
)
def test_another_schedule_inherits_nothing_of_the_one_before(tmp_path, noise, then, keys, now):
    more = trained_as(tmp_path, "a", ekf={"noise": noise}, schedule={"force_weight": 10.0} | then)
    config = continuation.completed(more(schedule=keys))
    assert config.schedule.selection == now
    assert not config.schedule.idle_keys()
    if "name" in keys:
        train(more(schedule=keys), tmp_path / "b", *quiet())
        stored = read_config(tmp_path / "b" / "config.toml")
        assert stored.schedule.selection == now
        longer = stored.with_keys("run", epochs=3)
        train(longer, tmp_path / "b", *quiet(), resume=True)


def test_a_potential_alone_is_refused(old, tmp_path):
    with pytest.raises(CheckpointError, match="go on from the checkpoint.h5 of its run"):
        train(going_on(old, run={"from": str(old / "run" / "best.h5")}), tmp_path, *quiet())


def test_the_folder_of_the_checkpoint_is_not_overwritten(old):
    with pytest.raises(ConfigError, match="choose another folder"):
        train(going_on(old), old / "run", *quiet())
    assert read_checkpoint(old / "run" / "checkpoint.h5").progress["update"] > 0


def test_a_new_element_is_refused_with_the_reason(old, tmp_path):
    atoms = molecule("NH3")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((4, 3)))
    write(tmp_path / "ammonia.extxyz", [atoms, atoms], parallel=False)
    config = going_on(old, data={"files": str(tmp_path / "ammonia.extxyz"), "validation_fraction": 0.0})
    with pytest.raises(DataError, match="contain N, for which .* it knows H O: new elements need a new"):
        train(config, tmp_path / "run", *quiet())


def with_other_zero(source, target, per_atom):
    """The clusters of a file with energies of another zero, eV per atom of each element."""
    frames = read(source, index=":", parallel=False)
    for atoms in frames:
        shift = sum(per_atom[symbol] for symbol in atoms.get_chemical_symbols())
        atoms.calc = SinglePointCalculator(
            atoms, energy=atoms.get_potential_energy() + shift, forces=atoms.get_forces()
        )
    write(target, frames, parallel=False)


def test_another_level_of_theory_is_noticed_and_taken_away(old, tmp_path):
    with_other_zero(old / "new.extxyz", tmp_path / "other.extxyz", {"H": -13.0, "O": -13.0})
    comm, log = quiet()
    data = {"files": str(tmp_path / "other.extxyz")}
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    continued = continuation.completed(going_on(old, data=data))
    with Signals(comm) as signals:
        begin(continued, Held(tmp_path / "a"), comm, log, signals)
        assert any("another level of theory?" in line for line in log.kept)
        log.kept.clear()
        config = continuation.completed(going_on(old, data=data | {"shift_energies": True}))
        run = begin(config, Held(tmp_path / "b"), comm, log, signals)
    assert not any("another level" in line for line in log.kept)
    shift = run.task.data.shifts[str(tmp_path / "other.extxyz")]
    own = continuation.completed(going_on(old, data={"shift_energies": True}))
    (tmp_path / "c").mkdir()
    with Signals(comm) as signals:
        plain = begin(own, Held(tmp_path / "c"), comm, log, signals).task.data.shifts
    for symbol, value in plain[str(old / "new.extxyz")].items():  # -13 eV are all that differs
        assert abs(shift[symbol] - value + 13.0) < 1e-5


def test_a_file_for_validation_alone_is_shifted_too(old, tmp_path):
    for name in ("new", "more"):
        write_clusters(tmp_path / f"{name}.extxyz", 4, seed=len(name), sizes=(2, 3))
        with_other_zero(tmp_path / f"{name}.extxyz", tmp_path / f"{name}.extxyz", {"H": -13.0, "O": -13.0})
    new, more = (str(tmp_path / f"{name}.extxyz") for name in ("new", "more"))
    data = {"files": new, "validation_files": more, "validation_fraction": 0.0, "shift_energies": True}
    (tmp_path / "run").mkdir()
    run = prior(going_on(old, data=data), tmp_path / "run")
    assert run.task.data.shifts[more] == run.task.data.shifts[new]
    assert abs(run.state.rmse[0]) < 1.0  # it was 13 eV/atom


def test_own_data_do_not_look_like_another_level(old, tmp_path):
    (tmp_path / "run").mkdir()
    run = prior(going_on(old), tmp_path / "run")
    assert not any("another level" in line for line in run.log.kept)


@pytest.fixture
def moving(tmp_path):
    """Folder of a trained run whose data may be moved."""
    folder = tmp_path / "moved"
    folder.mkdir()
    write_clusters(folder / "clusters.extxyz", 12)
    train(small_config(folder), folder / "run", *quiet())
    return folder


def test_data_that_are_gone_cost_only_the_old_errors(old, moving, tmp_path):
    (comm, log), folder = quiet(), moving
    (folder / "clusters.extxyz").unlink()
    data = {"files": str(old / "new.extxyz")}
    train(going_on(folder, data=data), tmp_path / "run", comm, log)
    assert any("old errors are not told" in line and "clusters.extxyz" in line for line in log.kept)
    with pytest.raises(DataError, match="data.rehearsal: .*clusters.extxyz"):
        train(going_on(folder, data=data | {"rehearsal": 0.5}), tmp_path / "other", comm, log)


def test_a_run_goes_on_without_the_old_data_and_with_them_again(old, moving, tmp_path):
    (comm, log), folder = quiet(), moving
    config = going_on(folder, data={"files": str(old / "new.extxyz")}, run={"epochs": 1})
    longer = [config.with_keys("run", epochs=n) for n in (2, 3)]
    whole = train(longer[1], tmp_path / "whole", comm, log)
    train(config, tmp_path / "run", comm, log)
    (folder / "clusters.extxyz").rename(folder / "elsewhere.extxyz")
    log.kept.clear()
    train(longer[0], tmp_path / "run", comm, log, resume=True)
    assert any("old errors are not told" in line for line in log.kept)
    (folder / "elsewhere.extxyz").rename(folder / "clusters.extxyz")
    state = train(longer[1], tmp_path / "run", comm, log, resume=True)
    assert np.array_equal(state.weights, whole.weights)
    write_clusters(tmp_path / "other.extxyz", 8, seed=6, sizes=(2, 3))
    other = going_on(folder, data={"files": str(tmp_path / "other.extxyz")}, run={"epochs": 4})
    with pytest.raises(CheckpointError, match="the data: hash"):
        train(other, tmp_path / "run", comm, log, resume=True)


def test_another_model_of_the_noise_is_refused(old):
    with pytest.raises(ConfigError, match='ekf.noise = "learned", there "fixed"'):
        continuation.completed(going_on(old, ekf={"noise": "learned"}))


def test_densities_and_energies_of_all_that_was_learned_are_known(tmp_path):
    comm, log = quiet()
    for name, sizes, seed in (("a", [4] * 3, 3), ("b", [4] * 3, 4)):
        (tmp_path / name).mkdir()
        frames = boxes(sizes, seed=seed)
        for atoms in frames:
            atoms.set_cell(atoms.cell * (1.0 if name == "a" else 0.9), scale_atoms=False)
        write(tmp_path / name / "clusters.extxyz", frames)
    learned = {"ekf": {"noise": "learned"}}
    train(small_config(tmp_path / "a", **learned), tmp_path / "a" / "run", comm, log)
    config = going_on(tmp_path / "a", data={"files": str(tmp_path / "b" / "clusters.extxyz")})
    config = config.with_keys("run", from_=str(tmp_path / "a" / "run" / "checkpoint.h5"))
    train(config, tmp_path / "b" / "run", comm, log)
    before, after = (
        TrainingRange.from_numbers(read_summary(tmp_path / name / "run" / "checkpoint.h5").progress)
        for name in "ab"
    )
    assert after.density_low == before.density_low and after.density_high > 1.2 * before.density_high
    assert after.energy_low <= before.energy_low and after.energy_high >= before.energy_high


def test_levels_of_stress_are_in_the_units_of_the_new_data(tmp_path):
    comm, log = quiet()
    rng = np.random.default_rng(5)
    for name, spread in (("a", 0.01), ("b", 0.1)):
        (tmp_path / name).mkdir()
        frames = boxes([4] * 3)
        for atoms in frames:
            labels = atoms.calc.results | {"stress": rng.normal(scale=spread, size=6)}
            atoms.calc = SinglePointCalculator(atoms, **labels)
        write(tmp_path / name / "clusters.extxyz", frames)
    sections = {"ekf": {"noise": "learned"}, "schedule": {"stress_fraction": 1.0}}
    train(small_config(tmp_path / "a", **sections), tmp_path / "a" / "run", comm, log)
    config = going_on(tmp_path / "a", data={"files": str(tmp_path / "b" / "clusters.extxyz")})
    (tmp_path / "c").mkdir()
    run = prior(config, tmp_path / "c")
    before = read_summary(tmp_path / "a" / "run" / "checkpoint.h5").progress
    k = position("stress")
    unit, stress = run.task.observer.labels.units[k], run.state.noise.level(k)
    assert unit > 5.0 * before["stress_unit"]
    assert stress * unit == pytest.approx(before["stress_noise_validation"] * before["stress_unit"])


def test_learned_noise_levels_go_on(old, tmp_path):
    comm, log = quiet()
    (tmp_path / "a").mkdir()
    learned = {"ekf": {"noise": "learned"}}
    train(small_config(tmp_path / "a", **learned), tmp_path / "run", comm, log)
    levels = read_summary(tmp_path / "run" / "checkpoint.h5").progress
    (tmp_path / "b").mkdir()
    config = going_on(old, run={"from": str(tmp_path / "run" / "checkpoint.h5")})
    noise = prior(config, tmp_path / "b").state.noise
    assert noise is not None and noise.validation[1] == levels["force_noise_validation"] > 0


@pytest.mark.parametrize("factor", [1.0, 5.0, 40.0])
def test_the_most_likely_factor_is_found_from_samples(factor):
    rng = np.random.default_rng(3)
    d, r = rng.uniform(0.1, 10.0, 4000), 0.5
    squares = rng.normal(size=4000) ** 2 * (factor * d + r)
    assert abs(most_likely_factor(squares, d, r) / factor - 1.0) < 0.12


def test_rehearsal_needs_something_to_go_on_from():
    with pytest.raises(ConfigError, match=r"data.rehearsal = 0.1: without effect without run.from"):
        make_config({"data": {"files": "a", "rehearsal": 0.1}})
    with pytest.raises(ConfigError, match=r'ekf.inflation = "auto": without effect without run.from'):
        make_config({"data": {"files": "a"}, "ekf": {"inflation": "auto"}})


def test_from_python_in_a_few_lines(old, tmp_path):
    data = mpnnp.read(old / "new.extxyz")
    state = mpnnp.continue_from(old / "run" / "checkpoint.h5", data, tmp_path / "b", epochs=1, log=quiet()[1])
    again = mpnnp.continue_from(
        old / "run" / "checkpoint.h5", old / "new.extxyz", tmp_path / "c", epochs=1, log=quiet()[1]
    )
    assert np.array_equal(state.weights, again.weights)
    entries = history.of_checkpoint(read_summary(tmp_path / "b" / "checkpoint.h5"), "b")
    assert entries[1].hash == replace(data).hash()
    shutil.copytree(old / "run", tmp_path / "origin")
    origin = tmp_path / "origin" / "checkpoint.h5"
    mpnnp.continue_from(origin, data, tmp_path / "e", epochs=1, log=quiet()[1])
    shutil.rmtree(tmp_path / "origin")
    longer = mpnnp.continue_from(origin, data, tmp_path / "e", epochs=2, resume=True, log=quiet()[1])
    assert longer.update == 2 * state.update
