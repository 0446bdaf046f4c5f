"""Draws from the posterior of the weights, the spread of predictions, calibration, and who gives them."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from conftest import DATA
from launch import on_ranks
from small import quiet, small_config, write_clusters
from typer.testing import CliRunner

from mpnnp import Calculator, load
from mpnnp.cli import app
from mpnnp.config import Ekf as Rates
from mpnnp.config import read_config
from mpnnp.data.formats import read_sources
from mpnnp.data.packed import make_atoms
from mpnnp.errors import CheckpointError, ConfigError, DataError, FolderError, OutputError
from mpnnp.kernels.energy_forces import symmetry_functions
from mpnnp.kernels.jacobian import energy_rows, force_rows
from mpnnp.kernels.packs import make_structures
from mpnnp.model.network import Network
from mpnnp.model.potential import Predictor
from mpnnp.model.spread import structure_with_spread
from mpnnp.optimizers.ekf import make_ekf
from mpnnp.optimizers.posterior import Posterior
from mpnnp.parallel import serial
from mpnnp.progress import Log
from mpnnp.run_lock import RunLock
from mpnnp.simulation.dynamics import run as simulate
from mpnnp.simulation.integrators import Protocol
from mpnnp.training import uncertainty
from mpnnp.training.calibration import FEW, ONE_SIGMA, Calibration, Errors, Found, Sigma, calibrate
from mpnnp.training.checkpoint import read_summary
from mpnnp.training.train import train
from mpnnp.training.uncertainty import calibrate_checkpoint, read_uncertainty

POTENTIALS = [DATA / name for name in ("predict_acsf_cos", "predict_weighted", "predict_compact")]


@pytest.mark.parametrize("coupling", ["full", "element", "layer", "node", "block:7"])
def test_members_have_the_covariance_of_the_filter_in_every_layout(coupling):
    network = Network([(4, 3, 1), (5, 3, 1)], [("tanh", "identity")] * 2)
    rates = Rates(coupling=coupling, epsilon=0.5, q=0.01, r_max=3)
    ekf = make_ekf(rates, network.n_weight, network.segments, serial(), fold_columns=3)
    state, rng = ekf.init(), np.random.default_rng(1)
    for _ in range(5):
        ekf.update(state, rng.normal(size=(2, network.n_weight)), rng.normal(size=2))
    posterior = Posterior(ekf.save_arrays(state), network, coupling)
    n, P = 40000, posterior.dense()
    found = posterior.members(n, seed=3)
    sd = np.sqrt(np.diag(P))
    assert np.abs((found.T @ found / n - P) / np.outer(sd, sd)).max() < 6.0 / np.sqrt(n)
    assert np.array_equal(posterior.members(6, 3), posterior.members(6, 3))
    h = rng.normal(size=(4, network.n_weight))  # the spread of members converges to h P h^T
    assert np.mean((found @ h.T) ** 2, axis=0) == pytest.approx(posterior.variance(h), rel=6 * (2 / n) ** 0.5)


def test_nothing_is_drawn_from_a_covariance_that_is_not_positive():
    network = Network([(2, 1)], [("identity",)])
    arrays = {
        "T": np.array([1.0, 2.0, 1.0, 0.0, 0.0, 1.0]),  # [[1, 2], [2, 1]] and 1
        "U": np.empty((0, 3)),
        "group": np.array([0, 3]),
        "scalars": np.array([0.0, 1.0, 1.0, 0.0, 1.0]),
    }
    with pytest.raises(CheckpointError, match="not positive"):
        Posterior(arrays, network).members(2)


@pytest.mark.parametrize("folder", POTENTIALS, ids=lambda p: p.name)
def test_changes_are_rows_times_deviations(folder):
    potential = load(folder)
    data = read_sources(folder / "input.data")
    structures, predictor = make_atoms(data, potential.elements), Predictor(potential)
    D = np.random.default_rng(0).normal(size=(3, potential.network.n_weight))
    for s in (0, len(data) - 1):
        prediction, spread = structure_with_spread(predictor, D, structures, s)
        expected = predictor.predict(structures, s)
        assert prediction.energy == pytest.approx(expected.energy, rel=1e-13)
        assert prediction.forces == pytest.approx(expected.forces, abs=1e-11)
        assert prediction.virial == pytest.approx(expected.virial, abs=1e-10)
        G = np.empty((structures.start[-1], predictor.n_max))
        for k in range(len(data)):
            at = slice(structures.start[k], structures.start[k + 1])
            symmetry_functions(structures, k, potential.functions.table, G[at])
        n_w, scale = potential.network.n_weight, potential.energy_scale
        row, value = np.empty((1, n_w)), np.empty(1)
        energy_rows(np.array([s]), structures, G, predictor.model, potential.weights, row, value)
        exact = scale * np.sqrt(np.mean((D @ row[0]) ** 2))
        assert spread.energy == pytest.approx(exact, rel=1e-4)
        places = np.array([[s, 0, 0], [s, 1, 2], [s, 2, 1]])
        rows, values = np.empty((3, n_w)), np.empty(3)
        force_rows(places, structures, G, predictor.model, potential.weights, rows, values)
        exact = scale * np.sqrt(np.mean((rows @ D.T) ** 2, axis=1))
        assert spread.forces[[0, 1, 2], [0, 2, 1]] == pytest.approx(exact, rel=1e-4)


def drawn(n, inflation, noise, rng, draw):
    spread = rng.uniform(0.1, 3.0, n)
    return Errors(draw(n) * np.sqrt(inflation * spread**2 + noise), spread)


def test_calibration_finds_inflation_and_noise():
    rng = np.random.default_rng(2)
    labels = drawn(40000, 4.0, 0.25, rng, rng.standard_normal)
    found = calibrate(Found(labels, labels), 7)
    assert found.energy == pytest.approx((4.0, 0.25), rel=0.1)
    assert Calibration.from_numbers(found.numbers()) == found
    assert Calibration.from_numbers({}) == Calibration()


def test_one_sigma_holds_its_share_where_errors_have_long_tails():
    rng = np.random.default_rng(3)
    labels, other = (drawn(20000, 1.0, 0.1, rng, lambda n: rng.standard_t(3, n)) for _ in range(2))
    sigma = calibrate(Found(labels, labels), 1).force
    assert np.mean(np.abs(other.errors) <= sigma.of(other.spread)) == pytest.approx(ONE_SIGMA, abs=0.015)


def test_few_labels_decide_about_one_number():
    rng = np.random.default_rng(4)
    labels = drawn(FEW - 1, 4.0, 0.0, rng, rng.standard_normal)
    sigma = calibrate(Found(labels, labels), 1).energy
    assert sigma.noise == 0.0
    assert np.mean((labels.errors / sigma.of(labels.spread)) ** 2) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("n", [FEW - 1, 100])
@pytest.mark.filterwarnings("error")
def test_labels_that_symmetry_makes_known_are_calibrated_by_their_errors(n):
    """Forces of cells of one atom: neither errors nor what P leaves open, or errors alone."""
    errors, zero = np.random.default_rng(5).normal(size=n), np.zeros(n)
    found = calibrate(Found(Errors(zero, zero), Errors(errors, zero)), n)
    assert found.energy == Sigma()
    assert np.mean(np.abs(errors) <= found.force.of(zero)) == pytest.approx(ONE_SIGMA, abs=1.0 / n)
    some = np.where(np.arange(n) % 2, 1.0, 0.0)
    assert np.isfinite(calibrate(Found(Errors(errors, some), Errors(zero, some)), n).energy).all()


def test_sigma_of_energies_grows_with_the_number_of_atoms():
    spread = Calibration(energy=Sigma(0.0, 4.0)).calibrated(
        type("S", (), {"energy": 1.0, "forces": np.zeros((9, 3))})
    )
    assert spread.energy == pytest.approx(18.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder of a run, frames, lines of its log)"""
    folder = tmp_path_factory.mktemp("run")
    comm, log = quiet()
    config = small_config(folder, ekf={"noise": "learned", "prior": 10.0})
    train(config, folder / "run", comm, log)
    return folder / "run", read(folder / "clusters.extxyz", ":", parallel=False)


def test_a_run_calibrates_and_its_potentials_know_it(run):
    folder, frames = run
    assert "% of" in (folder / "train.log").read_text()
    known = [read_uncertainty(folder / name) for name in ("best.h5", "checkpoint.h5")]
    assert known[0].calibration == known[1].calibration
    assert known[0].calibration.n_structure == 3  # of 12 a quarter is kept for validation
    assert np.array_equal(known[0].deviations, known[1].deviations)
    atoms = frames[1]
    atoms.calc = Calculator(folder / "best.h5")
    forces = atoms.get_forces()
    assert "forces_std" not in atoms.calc.results  # on request alone
    std = atoms.calc.get_property("forces_std", atoms)
    assert std.shape == forces.shape and (std > 0).all()
    assert np.array_equal(atoms.get_forces(), forces)
    potential = load(folder / "best.h5")
    element = np.searchsorted(potential.elements, atoms.numbers)
    one = make_structures([0, len(atoms)], element, atoms.positions, np.zeros((3, 3)), atoms.pbc)
    _, spread = structure_with_spread(Predictor(potential), known[0].deviations, one, 0)
    assert std == pytest.approx(known[0].calibration.calibrated(spread).forces, rel=1e-9)
    always = frames[1].copy()
    always.calc = Calculator(folder / "best.h5", uncertainty=True)
    assert always.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), rel=1e-13)
    assert always.calc.results["forces_std"] == pytest.approx(std, rel=1e-9)


def test_a_potential_without_posterior_says_so(run):
    with pytest.raises(ConfigError, match="no standard deviations"):
        Calculator(DATA / "predict_acsf_cos", uncertainty=True)
    with pytest.raises(CheckpointError, match="initial.h5: no covariance"):
        read_uncertainty(run[0] / "initial.h5")


def test_calibration_with_what_was_learned_is_told(run, tmp_path):
    folder, _ = run
    shutil.copy(folder / "best.h5", tmp_path / "best.h5")
    shutil.copy(folder / "checkpoint.h5", tmp_path / "checkpoint.h5")
    (learned,) = read_config(folder / "config.toml").data.files
    shutil.copy(learned, tmp_path / "copy.extxyz")
    for data in (learned, tmp_path / "copy.extxyz"):
        found = CliRunner().invoke(app, ["calibrate", str(tmp_path / "best.h5"), str(data)])
        assert found.exit_code == 0, found.output
        assert f"{data}: the potential was learned from these files" in found.output


def test_calibrate_and_evaluate_on_the_command_line(run, tmp_path):
    folder, _ = run
    write_clusters(tmp_path / "new.extxyz", n=8, seed=9)
    best = folder / "best.h5"
    before = load(best).weights
    found = CliRunner().invoke(app, ["calibrate", str(best), str(tmp_path / "new.extxyz")])
    assert found.exit_code == 0, found.output
    assert read_summary(best).progress["calibration_structures"] == 8
    assert "the potential was learned from" not in found.output
    assert np.array_equal(load(best).weights, before)
    arguments = ["evaluate", str(best), str(tmp_path / "new.extxyz"), "--sigma"]
    files = {name: str(tmp_path / name) for name in ("all.npz", "sigma.png")}
    found = CliRunner().invoke(
        app, [*arguments, "--predictions", files["all.npz"], "--reliability", files["sigma.png"]]
    )
    assert found.exit_code == 0, found.output
    assert "within it" in found.output and (tmp_path / "sigma.png").stat().st_size > 1000
    columns = np.load(files["all.npz"])
    assert columns["energy_std"].shape == (8,)
    errors = read_sources(tmp_path / "new.extxyz").forces - columns["forces"]
    inside = np.mean(np.abs(errors) <= columns["forces_std"])
    assert inside == pytest.approx(ONE_SIGMA, abs=0.01)  # the same data


def test_a_checkpoint_of_a_run_that_goes_on_is_not_calibrated(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    write_clusters(tmp_path / "new.extxyz", n=8, seed=9)
    checkpoint = tmp_path / "run" / "checkpoint.h5"
    before, words = checkpoint.read_bytes(), ["calibrate", str(checkpoint), str(tmp_path / "new.extxyz")]
    lock = RunLock(tmp_path / "run")
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, FolderError), refused.output
    assert "run is in use by process" in str(refused.exception) and checkpoint.read_bytes() == before
    lock.release()
    assert CliRunner().invoke(app, words).exit_code == 0
    assert checkpoint.read_bytes() != before and not (tmp_path / "run" / "run.lock").exists()


def test_where_nothing_can_be_written_nothing_is_calibrated(tmp_path, monkeypatch):
    def refuse(folder, say):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(uncertainty, "RunLock", refuse)
    with pytest.raises(OutputError, match=f"{tmp_path}: the results cannot be written: Permission denied"):
        calibrate_checkpoint(tmp_path / "checkpoint.h5", None, None, *quiet())


def test_isolated_atoms_calibrate_nothing_and_are_not_judged(run, tmp_path):
    frames = write_clusters(tmp_path / "new.extxyz", n=8, seed=9)
    best = shutil.copytree(run[0], tmp_path / "run") / "best.h5"
    for name, energy in (("H", -900.0), ("O", -700.0)):
        atom = Atoms(name)
        atom.calc = SinglePointCalculator(atom, energy=energy, forces=np.zeros((1, 3)))
        frames.append(atom)
    write(tmp_path / "more.extxyz", frames)

    def said(*words):
        found = CliRunner().invoke(app, [*map(str, words)])
        assert found.exit_code == 0, found.output
        return [
            line for line in found.output.splitlines() if "standard deviation of" in line or "rmse" in line
        ]

    for words in (["calibrate", best], ["evaluate", "--sigma", best]):
        assert said(*words, tmp_path / "more.extxyz") == said(*words, tmp_path / "new.extxyz") != []


def test_a_simulation_ends_where_forces_are_not_known(run, tmp_path):
    folder, frames = run
    comm, log = quiet()
    protocol = Protocol(ensemble="nve", time=0.005, timestep=0.5, log_every=1.0, save_every=1.0)
    atoms = frames[1].copy()
    calculator = Calculator(folder / "best.h5", uncertainty=True)
    outcome = simulate(protocol, atoms, calculator, tmp_path / "md", comm, log, max_force_std=1e-9)
    assert (outcome.status, outcome.steps) == ("uncertain", 0)
    assert "step 0: the force on atom" in outcome.reason and "more than 1e-09" in outcome.reason
    assert json.loads((tmp_path / "md" / "status.json").read_text())["status"] == "uncertain"
    frame = read(tmp_path / "md" / "uncertain.xyz", parallel=False)
    assert frame.positions == pytest.approx(atoms.positions, abs=1e-7)
    outcome = simulate(
        protocol, frames[1].copy(), calculator, tmp_path / "long", comm, log, max_force_std=1e9
    )
    assert outcome.status == "finished"


def ranks_agree(comm):
    folder = Path(comm.bcast(tempfile.mkdtemp() if comm.rank == 0 else None, root=0))
    if comm.rank == 0:
        write_clusters(folder / "clusters.extxyz", 12)
    comm.Barrier()
    train(small_config(folder), folder / "run", comm, Log(comm, stream=open(os.devnull, "w")))
    atoms = read(folder / "clusters.extxyz", 1, parallel=False)
    atoms.calc = Calculator(folder / "run" / "best.h5", comm=comm)
    own = atoms.copy()
    own.calc = Calculator(folder / "run" / "best.h5")
    std = atoms.calc.get_property("forces_std", atoms)
    assert std == pytest.approx(own.calc.get_property("forces_std", own), rel=1e-6)
    assert len(set(comm.allgather(std.tobytes()))) == 1
    if comm.rank == 0:
        shutil.rmtree(folder)


def spreads_agree(comm):
    potential = load(POTENTIALS[0])
    data = read_sources(POTENTIALS[0] / "input.data")
    structures, predictor = make_atoms(data, potential.elements), Predictor(potential)
    D = np.random.default_rng(0).normal(size=(3, potential.network.n_weight))
    calculator = Calculator(potential, comm=comm)
    for s in (0, len(data) - 1):
        atoms = Atoms(data[s].numbers, data[s].positions, cell=data[s].cell, pbc=data[s].pbc)
        found, expected = calculator.spread(atoms, D), structure_with_spread(predictor, D, structures, s)[1]
        assert found.energy == pytest.approx(expected.energy, rel=1e-9)
        assert found.forces == pytest.approx(expected.forces, rel=1e-6, abs=1e-9)


def test_a_calculator_spreads_by_any_deviations_and_ranks_share_out_the_atoms():
    spreads_agree(serial())
    on_ranks(2, spreads_agree)


def test_ranks_share_out_the_members():
    on_ranks(2, ranks_agree, seconds=240)


def test_calibrate_names_a_structure_that_cannot_be_computed(run, tmp_path):
    frames = write_clusters(tmp_path / "new.extxyz", n=4, seed=9)
    frames[2].positions[1] = frames[2].positions[0]
    write(tmp_path / "new.extxyz", frames)
    found = CliRunner().invoke(app, ["calibrate", str(run[0] / "best.h5"), str(tmp_path / "new.extxyz")])
    assert isinstance(found.exception, DataError) and "new.extxyz, frame 2" in str(found.exception)
