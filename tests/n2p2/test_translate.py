"""The front door: input.nn of n2p2 and RuNNer become a configuration;
every keyword is known, used or told why not.
"""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import DATA
from small import quiet
from typer.testing import CliRunner

from mpnnp.cli import app
from mpnnp.config import read_config
from mpnnp.data.store import load_structures, split
from mpnnp.errors import ConfigError, DataError
from mpnnp.model.evaluation import evaluate
from mpnnp.n2p2 import keywords as table
from mpnnp.n2p2.input_file import InputFile
from mpnnp.n2p2.potential_files import read_potential, read_units
from mpnnp.n2p2.translate import translate
from mpnnp.training.initial_potential import build

# the known keywords of n2p2: src/libnnp/Settings.cpp of versions 2.1 to 2.3 (4G included), with alternatives,
# and the manual
N2P2 = """number_of_elements elements atom_energy cutoff_type symfunction_short symfunction
scale_symmetry_functions scale_min_short scale_max_short center_symmetry_functions
scale_symmetry_functions_sigma global_hidden_layers_short global_hidden_layers_electrostatic
global_nodes_short global_nodes_electrostatic global_activation_short global_activation_electrostatic
element_hidden_layers_short element_hidden_layers_electrostatic element_nodes_short
element_nodes_electrostatic element_activation_short element_activation_electrostatic normalize_nodes
mean_energy conv_length conv_energy conv_charge nnp_type nn_type nnp_generation nnp_type_gen nnp_gen
fixed_gausswidth ewald_truncation_error_method ewald_prec screen_electrostatics verbose random_seed
test_fraction epochs use_short_forces rmse_threshold rmse_threshold_energy short_energy_error_threshold
rmse_threshold_force short_force_error_threshold rmse_threshold_charge rmse_threshold_trials
rmse_threshold_trials_energy rmse_threshold_trials_force rmse_threshold_trials_charge energy_fraction
short_energy_fraction force_fraction short_force_fraction charge_fraction use_old_weights_short
use_old_weights_charge weights_min weights_max nguyen_widrow_weights_short nguyen_widrow_weights_charge
precondition_weights main_error_metric write_trainpoints write_trainforces write_traincharges
write_weights_epoch write_neuronstats write_trainlog repeated_energy_update updater_type parallel_mode
jacobian_mode update_strategy selection_mode selection_mode_energy selection_mode_force selection_mode_charge
task_batch_size_energy task_batch_size_force task_batch_size_charge gradient_type gradient_eta
gradient_adam_eta gradient_adam_beta1 gradient_adam_beta2 gradient_adam_epsilon kalman_type kalman_epsilon
kalman_eta kalman_etatau kalman_etamax kalman_q0 kalman_qtau kalman_qmin kalman_lambda_short kalman_nue_short
memorize_symfunc_results force_weight normalize_data_set initial_hardness conv_phys_to_bohr
conv_phys_to_hartree""".split()

# the keywords that RuNNer's reader of input.nn asks for (those of its short-range atomic potentials,
# and some of the others)
RUNNER = """runner_mode nn_type_short use_short_nn number_of_elements elements random_seed random_number_type
cutoff_type bond_threshold remove_atom_energies atom_energy symfunction_short global_symfunction_short
element_symfunction_short global_hidden_layers_short global_nodes_short_atomic global_activation_short
element_hidden_layers_short element_nodes_short element_activation_short test_fraction epochs points_in_memory
mix_all_points scale_symmetry_functions center_symmetry_functions scale_min_short_atomic
scale_max_short_atomic fitting_unit precondition_weights use_short_forces optmode_short_energy
optmode_short_force kalman_lambda_short kalman_nue_short kalman_epsilon kalman_q0 kalman_qtau kalman_qmin
kalman_damp_short kalman_damp_force short_energy_error_threshold short_force_error_threshold
short_energy_fraction short_force_fraction short_energy_group short_force_group force_update_scaling
repeated_energy_update use_old_weights_short use_old_scaling weights_min weights_max
nguyen_widrow_weights_short separate_bias_ini_short write_weights_epoch write_trainpoints write_trainforces
write_fit_statistics save_kalman_matrices read_kalman_matrices analyze_error calculate_forces calculate_stress
use_electrostatics electrostatic_type global_nodes_electrostatic fixed_charge ewald_alpha ewald_cutoff
ewald_kmax global_nodes_pair pairsymfunction_short use_hamiltonian vdw_type enforce_max_num_neighbors_atomic
detailed_timing silent_mode use_damping restrict_weights joint_energy_force_update reset_kalman growth_mode
print_sensitivity energy_threshold force_threshold max_energy max_force noise_energy noise_force
find_contradictions check_forces""".split()

N2P2_TOOLS = """nnp-train nnp-scaling nnp-norm nnp-norm2 nnp-prune nnp-select nnp-convert nnp-predict
nnp-dataset nnp-comp2 nnp-checkf nnp-checkdw nnp-symfunc nnp-cutoff nnp-dist nnp-atomenv nnp-sfclust
nnp-fpssampling nnp-winit nnp-bench nnp-ewald""".split()


def test_every_keyword_of_both_programs_and_every_tool_is_in_the_table():
    assert [name for name in N2P2 + RUNNER if name not in table.KEYWORDS] == []
    assert sorted(table.TOOLS) == sorted(N2P2_TOOLS)
    assert len(table.KEYWORDS) == sum(1 + len(k.aliases) for k in table.TABLE)  # no name twice
    assert {k.kind for k in table.TABLE} == {table.USED, table.IDLE, table.CHARGE, table.REFUSED}


@pytest.fixture
def folder(tmp_path):
    """The files of a run of n2p2: 57 functions are not needed, these are few;
    ten frames of water with set=train|test.
    """
    target = tmp_path / "n2p2"
    target.mkdir()
    for name in ("input.nn", "input.data", "scaling.data", "weights.001.data", "weights.008.data"):
        shutil.copyfile(DATA / "train_energy_force" / name, target / name)
    return target


def change(folder, drop=(), add=()):
    """input.nn without the lines that start with `drop`, and with the lines `add`."""
    path = folder / "input.nn"
    lines = (
        [line for line in path.read_text().splitlines() if not line.startswith(tuple(drop))]
        if drop
        else path.read_text().splitlines()
    )
    path.write_text("\n".join([*lines, *add]) + "\n")
    return path


def built(config, folder):
    """(potential, structures, dataset) that a run of the configuration begins with."""
    comm, log = quiet()
    dataset, cache = load_structures(
        config.data.model_copy(update={"cache": str(folder.parent / "cache")}), comm, log, folder.parent
    )
    potential, structures, _ = build(
        config, dataset, split(dataset, config.data, config.run.seed)[0], cache, comm, log
    )
    return potential, structures, dataset


def test_a_translated_input_nn_means_the_same_to_n2p2(folder):
    path = folder / "input.nn"
    config = translate(path).config()
    source = InputFile(path)
    units = read_units(source, (1, 8))
    assert config.network.atomic_energies == pytest.approx(dict(zip("HO", units["atomic_energies"])))
    assert (config.network.mean_energy, config.network.energy_scale) == (
        units["mean_energy"],
        units["energy_scale"],
    )
    assert config.network.force_scale == units["force_scale"] and config.network.normalize is False
    assert (
        config.schedule.selection == "sort"
        and config.schedule.force_fraction == 0.02
        and config.schedule.force_weight == 10.0
    )
    assert (
        config.schedule.forces
        and config.schedule.streams == 1
        and config.run.epochs == 3
        and config.run.seed == 7
    )
    ekf = config.ekf
    assert (ekf.epsilon, ekf.eta, ekf.eta_max, ekf.q, ekf.q_min) == (0.01, 0.01, 1.0, 0.01, 1e-6)
    potential, _, dataset = built(config, folder)
    theirs = read_potential(folder)
    np.testing.assert_array_equal(potential.weights, theirs.weights)  # use_old_weights_short
    np.testing.assert_array_equal(potential.scaling.shift_and_factor(), theirs.scaling.shift_and_factor())
    assert np.count_nonzero(dataset.marks == 2) == 2  # set=test


def test_the_scaling_is_that_of_scaling_data_where_it_is_there(folder):
    change(folder, drop=["use_old_weights_short"])
    rows = np.array(
        [
            line.split()
            for line in (folder / "scaling.data").read_text().splitlines()
            if line.split()[0].isdigit()
        ][:29],
        float,
    )
    rows[:, 3] += 0.5  # another maximum than that of the data
    (folder / "scaling.data").write_text(
        "\n".join(f"{int(e)} {int(k)} " + " ".join(map(repr, map(float, v))) for e, k, *v in rows) + "\n"
    )
    expected = read_potential(folder).scaling.statistics
    statistics = built(translate(folder / "input.nn").config(), folder)[0].scaling.statistics
    np.testing.assert_array_equal(statistics.maximum, expected.maximum)
    (folder / "scaling.data").unlink()
    made = built(translate(folder / "input.nn").config(), folder)[0].scaling.statistics
    assert not np.allclose(made.maximum, expected.maximum, rtol=1e-3)


def test_scaling_data_of_runner_without_sigma_is_read(folder):
    lines = [
        line.split()[:5]
        for line in (folder / "scaling.data").read_text().splitlines()
        if not line.startswith("#") and len(line.split()) == 6
    ]
    (folder / "scaling.data").write_text("\n".join(map(" ".join, lines)) + "\n  -0.5  0.5\n")
    scaling = read_potential(folder).scaling
    assert np.isnan(scaling.statistics.sigma).all() and np.isfinite(scaling.shift_and_factor()).all()
    change(
        folder, drop=["scale_symmetry_functions", "center_symmetry"], add=["scale_symmetry_functions_sigma"]
    )
    with pytest.raises(DataError, match="scaling.data: has no sixth column"):
        read_potential(folder)


def test_normalize_data_set_ref_gives_the_numbers_of_nnp_norm(folder):
    """The three lines at the top of the reference file were computed by n2p2 from the same data."""
    expected = read_units(InputFile(folder / "input.nn"), (1, 8))
    before = change(folder, ["mean_energy", "conv_", "use_old"], ["normalize_data_set ref"]).read_text()
    potential = built(translate(folder / "input.nn").config(), folder)[0]
    for name in ("mean_energy", "energy_scale", "force_scale"):
        assert getattr(potential, name) == pytest.approx(expected[name], rel=1e-12), name
    assert (folder / "input.nn").read_text() == before


def test_normalize_data_set_force_gives_predicted_forces_the_spread_of_the_labels(folder):
    change(folder, ["mean_energy", "conv_", "use_old"], ["normalize_data_set force"])
    potential, _, dataset = built(translate(folder / "input.nn").config(), folder)
    comm, log = quiet()
    forces = evaluate(potential, dataset, comm, log).forces
    assert forces.std(ddof=1) == pytest.approx(dataset.forces.std(ddof=1), rel=1e-10)
    assert potential.force_scale == pytest.approx(dataset.forces.std(ddof=1), rel=1e-12)


def test_given_numbers_go_before_normalize_data_set(folder):
    translation = translate(change(folder, add=["normalize_data_set ref"]))
    assert translation.tree["network"]["normalize"] is False
    assert any("are given and are used" in note for note in translation.notes)


def test_without_normalisation_the_units_are_hartree_and_bohr(folder):
    from mpnnp.units import BOHR, HARTREE

    network = translate(change(folder, ["mean_energy", "conv_"])).config().network
    assert (network.energy_scale, network.force_scale, network.mean_energy) == pytest.approx(
        (HARTREE, HARTREE / BOHR, 0.0)
    )


STREAMS = {
    "ranks of this run": ([], {"size": 3}, (3, None), "the ranks of this run"),
    "as said": ([], {"size": 3, "ranks": 16}, (16, None), "--ranks"),
    "batches": (["task_batch_size_energy 2", "task_batch_size_force 5"], {"ranks": 4}, (8, 20), "--ranks"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_are_the_batch_of_a_task_times_the_tasks(folder, name):
    lines, arguments, expected, where = STREAMS[name]
    path = change(folder, ["task_batch_size"] if lines else (), lines)
    translation = translate(path, **arguments)
    schedule = translation.config().schedule
    assert (schedule.streams, schedule.force_streams) == expected
    assert any(note.startswith("streams: ") and where in note for note in translation.notes)


def test_the_log_of_the_original_run_tells_its_tasks(folder):
    (folder / "nnp-train.log.0000").write_text("*** MPI ***\nNumber of processors: 16\nProcess 1 of 16\n")
    assert translate(folder / "input.nn", size=2).config().schedule.streams == 16
    settings = ["schedule.streams=5"]
    translation = translate(folder / "input.nn", size=2, settings=settings)
    assert translation.config(settings).schedule.streams == 5 and "as set" in translation.notes[-1]


def test_a_batch_of_the_whole_set_needs_a_number(folder):
    path = change(folder, ["task_batch_size_energy"], ["task_batch_size_energy 0"])
    expected = "'task_batch_size_energy 0': a task_batch_size of 0 .* --set schedule.streams=100"
    with pytest.raises(ConfigError, match=expected):
        translate(path)
    settings = ["schedule.streams=100"]
    assert translate(path, settings=settings).config(settings).schedule.streams == 100


LINES = {
    "adam": (
        ["updater_type", "kalman"],
        ["updater_type 0", "gradient_type 1", "gradient_adam_eta 1.0D-3", "gradient_adam_beta1 0.8"],
        lambda c: (
            c.run.optimizer == "adam"
            and c.adam.learning_rate == 1e-3
            and c.adam.beta1 == 0.8
            and c.adam.clip_norm == 0
        ),
    ),
    "fading memory": (
        ["kalman_type"],
        ["kalman_type 1", "kalman_lambda_short 0.96", "kalman_nue_short 0.9995"],
        lambda c: c.ekf.fading_memory and c.ekf.lam == 0.96 and c.ekf.nu == 0.9995,
    ),
    "constant eta": (
        ["kalman_etatau"],
        [],
        lambda c: c.ekf.eta == 0.01 and c.ekf.eta_tau == 0 and c.ekf.eta_max == 0.01,
    ),
    "threshold": (
        ["selection_mode"],
        ["selection_mode 2", "rmse_threshold 0.7", "rmse_threshold_force 1.2", "rmse_threshold_trials 4"],
        lambda c: (
            (c.schedule.selection, c.schedule.energy_threshold, c.schedule.force_threshold, c.schedule.trials)
            == ("threshold", 0.7, 1.2, 4)
        ),
    ),
    "random and threshold": (
        ["selection_mode"],
        ["selection_mode_energy 0", "selection_mode_force 2", "rmse_threshold 0.7"],
        lambda c: (
            (c.schedule.selection, c.schedule.energy_threshold, c.schedule.force_threshold)
            == ("threshold", 0.0, 0.7)
        ),
    ),
    "a switch of the mode": (
        ["selection_mode"],
        ["selection_mode 0 15 1"],
        lambda c: c.schedule.selection == "random",
    ),
    "filters of elements": (
        ["update_strategy"],
        ["update_strategy 1"],
        lambda c: c.ekf.coupling == "element",
    ),
    "sums": (
        ["jacobian_mode"],
        ["jacobian_mode 0"],
        lambda c: c.schedule.rows == "sum" and c.schedule.groups == 1,
    ),
    "sums of tasks": (
        ["jacobian_mode", "task_batch_size_force"],
        ["jacobian_mode 1", "task_batch_size_force 4"],
        lambda c: c.schedule.rows == "sum" and c.schedule.groups == 3 and c.schedule.force_streams == 12,
    ),
    "no forces": (["use_short_forces"], [], lambda c: not c.schedule.forces),
    "Nguyen and Widrow": (
        ["use_old"],
        ["nguyen_widrow_weights_short"],
        lambda c: c.network.initializer == "nguyen-widrow",
    ),
    "normalised nodes": ([], ["normalize_nodes"], lambda c: c.network.normalize_nodes),
    "Glorot": (["use_old"], [], lambda c: c.network.initializer == "glorot"),
    "nets of elements": (
        [],
        ["element_nodes_short O 2 7"],
        lambda c: c.network.hidden == [15, 10] and c.network.elements["O"]["hidden"] == [15, 7],
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_keywords_become_keys(folder, name):
    drop, add, holds = LINES[name]
    assert holds(translate(change(folder, drop, add), ranks=3).config())


WRONG = {
    "a mistyped keyword": (
        ["kalman_epsilom 0.01"],
        "line LAST: 'kalman_epsilom' is a keyword of neither .*; did you mean 'kalman_epsilon'?",
    ),
    "another program": (["ENCUT 400"], "line LAST: 'ENCUT' is a keyword of neither"),
    "two values": (["epochs 5"], "line LAST: 'epochs 5' contradicts line .*: 'epochs 3'"),
    "two values of a layer": (
        ["element_nodes_short O 1 9", "element_nodes_short O 1 8"],
        "line LAST: 'element_nodes_short O 1 8' contradicts line .*: 'element_nodes_short O 1 9'",
    ),
    "two functions of a layer": (
        ["element_activation_short O 1 s", "element_activation_short O 1 t"],
        "line LAST: 'element_activation_short O 1 t' contradicts line",
    ),
    "two numbers of layers": (
        ["element_hidden_layers_short O 2", "element_hidden_layers_short O 1"],
        "line LAST: 'element_hidden_layers_short O 1' contradicts line",
    ),
    "4G": (["nnp_type 4G-HDNNP"], "line LAST: 'nnp_type 4G-HDNNP' is not supported: 2G-HDNNP only"),
    "4G in RuNNer's name": (["nnp_gen 4"], "line LAST: 'nnp_gen 4' is not supported"),
    "charges": (
        ["ewald_prec 1.0e-4"],
        "line LAST: 'ewald_prec 1.0e-4' is not supported: part of potentials with charges",
    ),
    "electrostatics": (
        ["use_electrostatics"],
        "line LAST: 'use_electrostatics' is not supported: electrostatics",
    ),
    "pair nets": (["nn_type_short 2"], "line LAST: 'nn_type_short 2' is not supported"),
    "steps": (["updater_type 0", "gradient_type 0"], "fixed step is not available: set gradient_type 1"),
    "sorted energies": (
        ["selection_mode_energy 0"],
        "the selection 'sort' for energies or for forces alone is not available",
    ),
    "normalisation": (
        ["normalize_data_set yes"],
        "'normalize_data_set yes': must be ref, force or stats-only",
    ),
    "number": (["kalman_epsilon large"], "line LAST: 'kalman_epsilon large': expected a number"),
    "digits of Python": (["epochs 1_0"], "line LAST: 'epochs 1_0': expected an integer"),
    "no value": (["normalize_data_set"], "line LAST: 'normalize_data_set': a value is missing"),
    "an unknown filter": (["kalman_type 2"], "line LAST: 'kalman_type 2': must be one of 0 .*, 1 "),
    "an unknown strategy": (["update_strategy 2"], "line LAST: 'update_strategy 2': must be one of 0 .*, 1"),
    "unknown rows": (["jacobian_mode 5"], "line LAST: 'jacobian_mode 5': must be one of 0 .*, 1 .*, 2"),
    "no trials": (
        ["selection_mode 2", "rmse_threshold 0.8", "rmse_threshold_trials 2.5"],
        "line LAST: 'rmse_threshold_trials 2.5': expected an integer",
    ),
    "forces without weight": (["force_weight 0"], "line LAST: 'force_weight 0': must be positive"),
    "a negative weight": (["force_weight -2"], "line LAST: 'force_weight -2': must be positive"),
    "a negative batch": (["task_batch_size_force -1"], "line LAST: 'task_batch_size_force -1': must be pos"),
    "two inner radii": (
        ["cutoff_type 1 0.2", "cutoff_alpha 0.5"],
        "line LAST: 'cutoff_alpha 0.5' contradicts .*: 'cutoff_type 1 0.2'",
    ),
    "an inner radius beyond": (["cutoff_type 1 1.0"], "line LAST: 'cutoff_type 1 1.0': alpha = 1.0: must be"),
    "layers": (
        ["global_hidden_layers_short -1"],
        "line LAST: 'global_hidden_layers_short -1': must not be negative",
    ),
    "energies of nothing": (["atom_energy H"], "line LAST: expected 'atom_energy .* .found 'atom_energy H'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_done_is_an_error_that_says_so(folder, name):
    add, expected = WRONG[name]
    path = change(
        folder, [line.split()[0] + " " for line in add if name != "two values"] or ["nothing "], add
    )
    with pytest.raises(
        (ConfigError, DataError), match=expected.replace("LAST", str(len(path.read_text().splitlines())))
    ) as error:
        translate(path)
    assert "input.nn" in str(error.value)


@pytest.mark.parametrize(
    "line, message",
    [
        ("epochs 0", r"run.epochs = 0: must be greater than .*, from 'epochs 0'"),
        ("kalman_epsilon -1.0", r"ekf.epsilon = -1.0: must be greater .*, from 'kalman_epsilon -1.0'"),
        (
            "global_nodes_short -4 3",
            r"line \d+: 'global_nodes_short -4 3': a layer of . has -4 nodes, must have",
        ),
    ],
)
def test_a_number_that_cannot_be_is_told_with_its_line(folder, line, message):
    path = change(folder, [line.split()[0] + " "], [line])
    with pytest.raises((ConfigError, DataError), match=message) as error:
        translate(path).config()
    assert str(path) in str(error.value)


def test_words_that_mean_nothing_behind_a_keyword_are_told(folder):
    assert not any("not used" in note for note in translate(folder / "input.nn").notes)
    written = ["use_short_forces false", "epochs 7 then 9", "kalman_q0 0.01 # start", "write_trainlog yes"]
    path = change(folder, ["use_short_forces", "epochs "], written)
    notes = [note for note in translate(path).notes if "not used" in note]
    switch, epochs = (path.read_text().splitlines().index(line) + 1 for line in written[:2])
    assert notes == [
        f"line {switch}, 'use_short_forces false': the keyword alone switches this on, 'false' is not used",
        f"line {epochs}, 'epochs 7 then 9': the keyword takes less, 'then 9' are not used",
    ]


RUNNER_FILE = """### a file of RuNNer, with what it names but does not use
nn_type_short 1
runner_mode 2
number_of_elements 2
elements O H
random_seed -42
cutoff_alpha 0.2
use_short_nn
electrostatic_type 1
global_nodes_electrostatic 15 15
fixed_charge H 0.0
bond_threshold 0.5
use_short_forces
remove_atom_energies
atom_energy H -0.4
atom_energy O -3.9
global_hidden_layers_short 2
global_nodes_short_atomic 15 10
global_activation_short t t l
test_fraction 0.2
epochs 4
mix_all_points
scale_symmetry_functions
center_symmetry_functions
scale_min_short_atomic -1.0
scale_max_short_atomic 1.0
weights_min -0.5
weights_max 0.5
optmode_short_energy 1
kalman_lambda_short 0.98
kalman_nue_short 0.9987
short_energy_error_threshold 0.1
short_force_error_threshold 1.0
short_force_fraction 0.3
short_force_group 3
force_update_scaling -1.0
points_in_memory 500
global_symfunction_short 2 0.01 0.0 12.0
element_symfunction_short H 3 0.03 1.0 1.0 12.0
symfunction_short O 3 H H 0.03 -1.0 4.0 12.0
"""


def test_an_input_nn_of_runner_is_read(folder):
    (folder / "input.nn").write_text(RUNNER_FILE)
    (folder / "scaling.data").unlink()
    translation = translate(folder / "input.nn", size=4)
    c = translation.config()
    assert (
        c.network.hidden == [15, 10]
        and c.network.initializer == "uniform"
        and c.network.weights_max == 0.5
        and c.run.seed == 42
    )
    assert c.ekf.fading_memory and (c.ekf.epsilon, c.ekf.q, c.ekf.lam, c.ekf.nu) == (1.0, 0.0, 0.98, 0.9987)
    s = c.schedule
    assert (s.streams, s.force_streams, s.rows, s.force_weight) == (1, 3, "sum", 1.0)
    assert (s.selection, s.energy_threshold, s.force_threshold) == ("threshold", 0.1, 1.0)
    assert c.data.validation_fraction == 0.2 and c.network.atomic_energies["O"] == pytest.approx(
        -3.9 * 27.211386024367243
    )
    unused = dict(translation.unused)
    assert (
        "electrostatic_type 1" in unused and "mix_all_points" in unused and "points_in_memory 500" in unused
    )
    potential = built(c, folder)[0]
    assert (potential.scaling.kind, potential.scaling.s_min) == ("min-max-center", -1.0)
    of = {z: [(f.kind, f.neighbour1, f.neighbour2) for f in potential.functions.of(z)] for z in (1, 8)}
    assert of == {
        1: [(2, 1, 0), (2, 8, 0), (3, 1, 1), (3, 1, 8), (3, 8, 8)],
        8: [(2, 1, 0), (2, 8, 0), (3, 1, 1)],
    }
    assert {(f.cutoff, f.alpha) for f in potential.functions.functions} == {(1, 0.2)}


def test_a_toml_file_in_a_folder_that_is_a_link_names_the_files(folder, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "link" / "t.toml").write_text(translate(folder / "input.nn").toml(tmp_path / "link"))
    config = read_config(tmp_path / "link" / "t.toml")
    assert config.data.files == [str(folder.resolve() / "input.data")]
    assert config.symmetry_functions.input_nn == str(folder.resolve() / "input.nn")


def test_the_toml_file_means_the_same_and_tells_where_each_key_comes_from(folder, tmp_path):
    result = CliRunner().invoke(
        app, ["translate", str(folder / "input.nn"), "-o", str(tmp_path / "other.toml"), "--ranks", "16"]
    )
    assert result.exit_code == 0, result.output
    assert read_config(tmp_path / "other.toml") == translate(folder / "input.nn", ranks=16).config()
    text = (tmp_path / "other.toml").read_text()
    assert (
        "epsilon = 0.01  # kalman_epsilon 1.0E-2" in text
        and 'files = ["n2p2/input.data"]' in text
        and "#   write_trainlog: train.log" in text
    )


def test_a_configuration_that_its_user_changed_is_kept_by_the_next_translation(folder, tmp_path):
    words = ["translate", str(folder / "input.nn"), "-o", str(tmp_path / "t.toml")]
    for _ in range(2):  # what reads the same is not kept
        assert CliRunner().invoke(app, words).exit_code == 0
    assert not (tmp_path / "t.toml.old-1").exists()
    changed = (tmp_path / "t.toml").read_text().replace("epsilon = 0.01", "epsilon = 0.1")
    (tmp_path / "t.toml").write_text(changed)
    result = CliRunner().invoke(app, words)
    assert "that one is kept as" in result.output and (tmp_path / "t.toml.old-1").read_text() == changed
    assert "epsilon = 0.01 " in (tmp_path / "t.toml").read_text()


def test_training_from_the_front_door_leaves_the_folder_alone_and_resumes(folder, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run = [
        "train",
        str(folder / "input.nn"),
        "-o",
        str(tmp_path / "run"),
        "--set",
        "run.evaluation_structures=0",
    ]
    result = CliRunner().invoke(app, [*run, "--set", "run.epochs=1"])
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    log = (tmp_path / "run" / "train.log").read_text()
    assert (
        "streams: 1 per energy update = batch per task x 1 (the ranks of this run)" in log
        and "keywords without effect here" in log
    )
    assert log.count("write_trainlog") == 1 and (tmp_path / "run" / "mpnnp-cache").is_dir()
    result = CliRunner().invoke(app, [*run, "--set", "run.epochs=2", "--resume"])
    assert result.exit_code == 0, result.output
    # header, epochs 0, 1, 2
    assert len((tmp_path / "run" / "learning-curve.csv").read_text().splitlines()) == 4


def test_a_folder_without_data_is_an_error(folder, tmp_path):
    (folder / "input.data").unlink()
    result = CliRunner().invoke(app, ["train", str(folder / "input.nn"), "-o", str(tmp_path / "run")])
    assert isinstance(result.exception, DataError) and "there is no input.data beside it" in str(
        result.exception
    )


@pytest.mark.parametrize("name", ["lj", "h2o_rpbe_d3"])
def test_the_examples_of_n2p2_translate_untouched(shared, name):
    folder = shared / "data" / name
    translation = translate(folder / "input.nn")
    config = translation.config()
    assert (
        config.symmetry_functions.scaling_data == str((folder / "scaling.data").resolve())
        and config.schedule.streams == 1
    )
    assert SimpleNamespace(**translation.tree["ekf"]).epsilon == 0.01
