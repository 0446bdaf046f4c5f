"""The configuration: TOML in and out, and what a wrong key, type or value says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mpnnp
from mpnnp.config import (
    Adam,
    Data,
    Ekf,
    Functions,
    Net,
    Run,
    Schedule,
    make_config,
    parse_config,
    read_config,
    to_toml,
)
from mpnnp.errors import ConfigError, MpnnpError
from mpnnp.model.network import Network
from mpnnp.optimizers.registry import check_name

MINIMAL = '[data]\nfiles = "water.extxyz"\n'
SECTIONS = {
    "data": Data,
    "symmetry_functions": Functions,
    "network": Net,
    "schedule": Schedule,
    "ekf": Ekf,
    "adam": Adam,
    "run": Run,
}


def read_text(tmp_path, text, settings=(), name="water.toml"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_config(tmp_path / name, settings)


def message(tmp_path, text, settings=()):
    with pytest.raises(ConfigError) as error:
        config = read_text(tmp_path, text, settings)
        check_name(config.run.optimizer, str(tmp_path / "water.toml"))  # as the command does
    return str(error.value)


# ---- round trips

ROUND_TRIPS = {
    "defaults": "",
    "every kind of value": """
validation_files = ["held out.extxyz", 'quote".xyz', 'back\\slash.xyz']
validation_fraction = 0.25
[network]
hidden = [30, 20, 10]
activation = ["tanh", "softplus", "logistic"]
elements = {O = {hidden = [5], activation = "gaussian"}, H = {activation = ["tanh", "cos", "exp"]}}
atomic_energies = {O = -430.5, H = -13}
normalize = false
[ekf]
noise = "fixed"
epsilon = 1
q_min = 1e-300
eta = 0.1234567890123456789
coupling = "block:100"
[run]
updates = 1000
time_limit = 1.5
seed = 0
""",
    "tables of functions": """
[symmetry_functions]
units = "bohr"
cutoff = "poly2"
alpha = 0.2
[[symmetry_functions.functions]]
center = "H"
kind = 2
neighbours = ["O"]
eta = [0.01, 1e-3, 2]
r_s = 0.5
r_c = 12
[[symmetry_functions.functions]]
center = "O"
kind = 3
neighbours = ["H", "H"]
eta = 0.03
lambda = [-1, 1]
zeta = 4
r_c = 12.0
""",
    "sdnz and Adam": (
        '[schedule]\nname = "sdnz"\nforces_per_update = 3\n[run]\noptimizer = "adam"\n[adam]\nclip_norm = 0\n'
    ),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_toml_to_config_to_toml_is_the_identity(tmp_path, name):
    config = read_text(tmp_path, MINIMAL + ROUND_TRIPS[name])
    text = to_toml(config)
    again = read_text(tmp_path, text, name="resolved.toml")
    assert again == config
    assert to_toml(again) == text


def test_the_resolved_file_names_every_section_and_every_key_that_has_a_value(tmp_path):
    config = read_text(tmp_path, MINIMAL)
    lines = to_toml(config).splitlines()
    for name, section in SECTIONS.items():
        assert f"[{name}]" in lines
        for key in section.model_fields:
            if getattr(getattr(config, name), key) is not None:
                assert any(line.startswith(f"{key} = ") for line in lines), key


def test_strings_survive_the_round_trip(tmp_path):
    names = ['a"b', "a\\b", "a\nb", "a\tb", "Wasser für alle", "'", "#", "[x]"]
    config = make_config({"data": {"files": names}})
    (tmp_path / "c.toml").write_text(to_toml(config), encoding="utf-8")
    assert [
        Path(f).relative_to(tmp_path).as_posix() for f in read_config(tmp_path / "c.toml").data.files
    ] == names


def test_control_characters_survive_the_round_trip(tmp_path):
    config = make_config({"data": {"files": "x", "energy_key": "a\rb\x01c\x7fd"}})
    assert read_text(tmp_path, to_toml(config)).data.energy_key == "a\rb\x01c\x7fd"


def test_records_are_frozen():
    config = make_config({"data": {"files": "x"}})
    with pytest.raises(Exception, match="frozen"):
        config.run.seed = 2


def test_one_file_needs_no_list(tmp_path):
    assert len(read_text(tmp_path, MINIMAL).data.files) == 1


def test_integers_are_taken_for_floats_but_nothing_else_is(tmp_path):
    assert read_text(tmp_path, MINIMAL + "[ekf]\nnoise = 'fixed'\nepsilon = 1\n").ekf.epsilon == 1.0
    assert "ekf.epsilon = True" in message(tmp_path, MINIMAL + "[ekf]\nepsilon = true\n")
    assert "ekf.epsilon = '1'" in message(tmp_path, MINIMAL + '[ekf]\nepsilon = "1"\n')
    assert "run.epochs = 2.0" in message(tmp_path, MINIMAL + "[run]\nepochs = 2.0\n")


# ---- wrong input: key, value found, what is allowed, file

WRONG = {
    "[ekf]\nepsilon = -1\n": ["ekf.epsilon = -1", "greater than 0"],
    "[ekf]\nepsilon = nan\n": ["ekf.epsilon = nan"],
    "[ekf]\nepsilon = inf\n": ["ekf.epsilon = inf", "finite"],
    "[ekf]\nlam = 1.5\n": ["ekf.lam = 1.5", "less than or equal to 1"],
    "[ekf]\ncoupling = 'block:0'\n": ["ekf", "block:0", "full, element, layer, node or block:N"],
    "[adam]\nbeta1 = 1.0\n": ["adam.beta1 = 1.0", "less than 1"],
    "[adam]\nbeta2 = [0.9]\n": ["adam.beta2", "[0.9]", "number"],
    "[schedule]\nstreams = 0\n": ["schedule.streams = 0", "greater than or equal to 1"],
    "[schedule]\nstreams = 2.5\n": ["schedule.streams = 2.5", "integer"],
    "[schedule]\nstreams = 'two'\n": ["schedule.streams = 'two'", "integer"],
    "[schedule]\nname = 'sorted'\n": ["schedule.name = 'sorted'", "'runner' or 'sdnz'"],
    "[schedule]\nforces = 1\n": ["schedule.forces = 1", "boolean"],
    "[schedule]\nforce_fraction = 1.1\n": ["schedule.force_fraction = 1.1", "less than or equal to 1"],
    "[run]\noptimizer = 'kalman'\n": ["run.optimizer = 'kalman'", "known are adam, ekf"],
    "[run]\nepochs = 0\n": ["run.epochs = 0", "greater than or equal to 1"],
    "[run]\nepochs = true\n": ["run.epochs = True", "integer"],
    "[run]\nseed = -1\n": ["run.seed = -1", "greater than or equal to 0"],
    "[run]\nseed = 1.5\n": ["run.seed = 1.5", "integer"],
    "[run]\ndirectory = 3\n": ["run.directory = 3", "string"],
    "[network]\nhidden = [25, 0]\n": ["network.hidden.1 = 0", "greater than or equal to 1"],
    "[network]\nhidden = 25\n": ["network.hidden = 25", "list"],
    "[network]\nactivation = 'tanhh'\n": ["network.activation", "'tanhh'", "softplus"],
    "[network]\nhidden = [5, 5]\nactivation = ['tanh']\n": ["network", "1 layers", "2"],
    "[network]\ninitializer = 'files'\n": ["network", "weights_from"],
    "[network]\nweights_min = 1.0\nweights_max = 0.0\n": [
        "network",
        "weights_max must be larger than weights_min",
    ],
    "[network]\natomic_energies = {O = 'x'}\n": ["network.atomic_energies", "'x'", "number"],
    "[symmetry_functions]\nset = 'ice'\n": ["symmetry_functions.set = 'ice'", "'default' or 'water'"],
    "[symmetry_functions]\nset = 'water'\ninput_nn = 'x'\n": ["symmetry_functions", "only one of"],
    "[symmetry_functions]\nscaling = 'max'\n": ["symmetry_functions.scaling = 'max'", "sigma"],
    "[symmetry_functions]\nscale_max = inf\n": ["symmetry_functions.scale_max = inf", "finite"],
    "[network]\natomic_energies = {O = nan}\n": ["network.atomic_energies", "nan", "finite"],
    "[symmetry_functions]\nr_c = 0\n": ["symmetry_functions.r_c = 0", "greater than 0"],
    "[symmetry_functions]\nalpha = 1.0\n": ["symmetry_functions.alpha = 1.0", "less than 1"],
    "[symmetry_functions]\nscale_min = 2.0\n": ["symmetry_functions", "scale_max must be larger"],
    "[data]\nvalidation_fraction = 1.0\n": ["data.validation_fraction = 1.0", "less than 1"],
    "[data]\nfiles = []\n": ["data.files = []", "at least 1"],
    "[data]\nfiles = ''\n": ["data.files.0 = ''", "must not be empty"],
    "[data]\nfiles = ['a.xyz', '']\n": ["data.files.1 = ''", "must not be empty"],
    "[run]\ndirectory = ''\n": ["run.directory = ''", "must not be empty"],
    "[data]\nfiles = [1]\n": ["data.files.0 = 1", "string"],
    "[data]\nsplit = 'half'\n": ["data.split = 'half'", "'auto', 'random' or 'file'"],
}


def with_data(text):
    """The text with data.files, where it does not name them."""
    if "files =" in text:
        return text
    return text.replace("[data]\n", MINIMAL) if "[data]" in text else MINIMAL + text


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_value_is_named_with_its_key_what_is_allowed_and_the_file(tmp_path, text):
    told = message(tmp_path, with_data(text))
    for part in [*WRONG[text], str(tmp_path / "water.toml")]:
        assert part in told
    assert len(told.splitlines()) <= 2


UNKNOWN = {
    "[ekf]\nepsilonn = 1\n": ["ekf.epsilonn: unknown key", "did you mean 'epsilon'?"],
    "[schedule]\nstream = 2\n": ["schedule.stream: unknown key", "did you mean 'streams'?"],
    "[schedule]\nxyzzy = 2\n": ["schedule.xyzzy: unknown key", "known are name, streams"],
    "[shedule]\nstreams = 2\n": ["shedule: unknown key", "did you mean 'schedule'?"],
    "[Run]\nepochs = 2\n": ["Run: unknown key", "did you mean 'run'?"],
    "[RUN]\nepochs = 2\n": ["RUN: unknown key", "did you mean 'run'?"],
    "[network]\nepochs = 2\n": ["network.epochs: unknown key; it is a key of [run]"],
    "[schedule.labels.dipole]\nfracton = 1.0\n": [
        "schedule.labels.dipole.fracton: unknown key; did you mean 'fraction'?"
    ],
    "[schedule.labels.weight]\nper_updates = 1\n": [
        "schedule.labels.weight.per_updates: unknown key; did you mean 'per_update'?"
    ],
    "[schedule.labels.dipole]\nepochs = 1\n": [
        "schedule.labels.dipole.epochs: unknown key; it is a key of [run]"
    ],
}


@pytest.mark.parametrize("text", UNKNOWN)
def test_an_unknown_key_is_named_with_the_one_that_may_have_been_meant(tmp_path, text):
    told = message(tmp_path, MINIMAL + text)
    for part in [*UNKNOWN[text], "water.toml"]:
        assert part in told


def test_all_errors_are_told_at_once(tmp_path):
    told = message(tmp_path, "[data]\n[ekf]\nepsilon = -1\n[run]\nepoch = 3\n").splitlines()
    assert len(told) == 3
    assert "data.files: is missing" in told[0] and "ekf.epsilon" in told[1] and "run.epoch" in told[2]


def test_a_section_that_is_no_table_is_an_error(tmp_path):
    assert "run" in message(tmp_path, "run = 3\n" + MINIMAL)


def test_a_key_outside_of_its_section_is_told_where_it_belongs(tmp_path):
    assert "epochs: is a key of a section: write it below [run]" in message(
        tmp_path, f"epochs = 2\n{MINIMAL}"
    )
    assert "data.epochs: unknown key" in message(tmp_path, f"{MINIMAL}epochs = 2\n")


def test_missing_data_is_an_error(tmp_path):
    assert "data: is missing" in message(tmp_path, "[run]\nseed = 1\n")


@pytest.mark.parametrize(
    "content, part",
    [
        (b"[data\n", "not valid TOML"),
        (b"[data]\nfiles = 'a'\nfiles = 'b'\n", "not valid TOML"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_that_is_no_toml_is_an_error(tmp_path, content, part):
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=part) as error:
        read_config(tmp_path / "x.toml")
    assert "x.toml" in str(error.value)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="nothing.toml: cannot be read: No such file"):
        read_config(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_config(tmp_path)


def test_errors_are_value_errors_too(tmp_path):
    with pytest.raises(ValueError):
        read_text(tmp_path, "")
    assert issubclass(ConfigError, MpnnpError)


# ---- --set

SETTINGS = {
    "run.epochs=3": ("run", "epochs", 3),
    " run.epochs = 3 ": ("run", "epochs", 3),
    "ekf.prior=1": ("ekf", "prior", 1.0),
    "adam.epsilon=1e-3": ("adam", "epsilon", 1e-3),
    "run.optimizer=adam": ("run", "optimizer", "adam"),
    'run.optimizer="adam"': ("run", "optimizer", "adam"),
    "schedule.forces=false": ("schedule", "forces", False),
    "network.hidden=[10, 5]": ("network", "hidden", [10, 5]),
    'network.activation=["tanh","cos"]': ("network", "activation", ["tanh", "cos"]),
    "run.updates=none": ("run", "updates", None),
    "data.forces_key=none": ("data", "forces_key", "none"),
    "data.forces_key=null": ("data", "forces_key", None),
    "symmetry_functions.scaling=none": ("symmetry_functions", "scaling", "none"),
    "network.atomic_energies=None": ("network", "atomic_energies", "none"),
    "network.atomic_energies={O = 1.5, H = 2}": ("network", "atomic_energies", {"O": 1.5, "H": 2.0}),
    "network.elements.O.hidden=[7]": ("network", "elements", {"O": {"hidden": [7]}}),
    "run.directory=a=b": ("run", "directory", "a=b"),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_set_changes_a_key(tmp_path, setting):
    section, key, value = SETTINGS[setting]
    config = read_text(tmp_path, MINIMAL + "[run]\nupdates = 5\n", [setting])
    assert getattr(getattr(config, section), key) == value


def test_the_last_setting_wins_over_the_file(tmp_path):
    assert read_text(tmp_path, MINIMAL + "[run]\nseed = 1\n", ["run.seed=2", "run.seed=3"]).run.seed == 3


@pytest.mark.parametrize("setting", ["run.epochs", "epochs=3", "=3", ".epochs=3", "run.=3", "run=3", ""])
def test_a_malformed_setting_is_an_error_that_shows_it(tmp_path, setting):
    assert f"--set {setting}: expected section.key=value" in message(tmp_path, MINIMAL, [setting])


def test_a_setting_below_a_key_that_is_no_table_is_an_error(tmp_path):
    assert "'seed' is not a table" in message(tmp_path, MINIMAL + "[run]\nseed = 1\n", ["run.seed.x=1"])
    assert "'data' is not a section" in message(tmp_path, "data = 3\n", ["data.files=x"])


def test_a_wrong_value_or_key_of_a_setting_is_an_error_like_that_of_the_file(tmp_path):
    assert "run.epochs = 'many'" in message(tmp_path, MINIMAL, ["run.epochs=many"])
    told = message(tmp_path, MINIMAL, ["run.epoch=3"])
    assert "did you mean 'epochs'?" in told and "water.toml with --set run.epoch=3" in told
    assert "run.epochs = '3" in message(tmp_path, MINIMAL, ["run.epochs=3\nseed = 4"])


# ---- paths


def test_weights_from_says_where_the_first_weights_come_from(tmp_path):
    text = MINIMAL + "[network]\nweights_from = 'n2p2'\n"
    assert read_text(tmp_path, text).network.initializer == "files"
    assert read_text(tmp_path, MINIMAL, ["network.weights_from=n2p2"]).network.initializer == "files"
    error = message(tmp_path, text + "initializer = 'uniform'\n")
    assert (
        "network.weights_from = " in error and "without effect with network.initializer = 'uniform'" in error
    )


def test_paths_of_settings_are_relative_to_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    settings = [
        "data.files=a.h5",
        "data.validation_files=['../v.h5', '/w.h5']",
        "network.initializer=files",
        "network.weights_from=n2p2",
    ]
    config = read_text(tmp_path, MINIMAL + 'cache = "cache"\n', settings, name="jobs/x.toml")
    here = tmp_path.resolve() / "here"
    assert config.data.files == [f"{here}/a.h5"]
    assert config.data.validation_files == [f"{here.parent}/v.h5", "/w.h5"]
    assert config.network.weights_from == f"{here}/n2p2"
    assert config.data.cache == f"{here.parent}/jobs/cache"


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "c.toml").write_text('[data]\nfiles = ["~/a.xyz", "~nobody-of-this-name/b.xyz"]\n')
    config = read_config(tmp_path / "c.toml", ["data.validation_files=~/v.xyz", 'data.cache="~/cache"'])
    assert config.data.files == [f"{tmp_path}/home/a.xyz", f"{tmp_path.resolve()}/~nobody-of-this-name/b.xyz"]
    assert config.data.validation_files == [f"{tmp_path}/home/v.xyz"]
    assert config.data.cache == f"{tmp_path}/home/cache"


def test_paths_of_inputs_are_relative_to_the_file(tmp_path):
    (tmp_path / "jobs").mkdir()
    text = """
[data]
files = ["a.xyz", "../b.xyz", "/c.xyz", "run*.xyz"]
validation_files = "v.xyz"
cache = "cache"
[symmetry_functions]
input_nn = "n2p2/input.nn"
[network]
initializer = "files"
weights_from = "n2p2"
"""
    config = read_text(tmp_path, text, name="jobs/x.toml")
    jobs = tmp_path.resolve() / "jobs"
    assert config.data.files == [f"{jobs}/a.xyz", f"{tmp_path.resolve()}/b.xyz", "/c.xyz", f"{jobs}/run*.xyz"]
    assert config.data.validation_files == [f"{jobs}/v.xyz"]
    assert config.data.cache == f"{jobs}/cache"
    assert config.symmetry_functions.input_nn == f"{jobs}/n2p2/input.nn"
    assert config.network.weights_from == f"{jobs}/n2p2"
    assert config.run.directory == "runs/x"  # named after the file


def test_tomli_stands_in_for_tomllib_on_python_3_10():
    code = """
import sys
try:
    import tomllib
    sys.modules["tomli"] = tomllib
except ModuleNotFoundError:
    pass
sys.modules["tomllib"] = None
from mpnnp.config import reading
assert reading.tomllib is sys.modules["tomli"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_sources_are_python_3_10():
    import ast

    for path in Path(mpnnp.__file__).parent.rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = 'sdnz'\nstreams = 5\n", "schedule.streams = 5: without effect with schedule.name = 'sdnz'"),
        ("name = 'sdnz'\nforce_fraction = 0.5\n", "schedule.force_fraction = 0.5"),
        (
            "updates_per_epoch = 50\n",
            "schedule.updates_per_epoch = 50: without effect with schedule.name = 'runner'",
        ),
        ("stress_probability = 0.5\n", "schedule.stress_probability = 0.5"),
        ("trials = 5\n", "schedule.trials = 5: without effect with ekf.noise = 'learned'"),
        ("force_threshold = 0.5\n", "schedule.force_threshold = 0.5: without effect with ekf.noise"),
    ],
)
def test_keys_of_the_schedule_that_is_not_chosen_are_errors(tmp_path, text, told):
    error = message(tmp_path, "[data]\nfiles = 'a'\n[schedule]\n" + text)
    assert told in error and "water.toml" in error


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[network]\nweights_min = 0.5\n", "weights_min = 0.5: without effect with network.initializer"),
        ("[symmetry_functions]\nalpha = 0.2\n", "alpha = 0.2: without effect with symmetry_functions.cutoff"),
        ("[baseline]\nd3_damping = 'zero'\n", 'd3_damping = "zero": without effect with no baseline.d3'),
        (
            "[symmetry_functions]\nr_c = 3\nfunctions = [{center = 'H'}]\n",
            "symmetry_functions.r_c = 3.0: without effect with symmetry_functions.functions",
        ),
        (
            "[symmetry_functions]\ninput_nn = 'a.nn'\ncutoff = 'cosine'\nscale_max = 2\n",
            'cutoff = "cosine", symmetry_functions.scale_max = 2.0: without effect with '
            "symmetry_functions.input_nn = 'a.nn'",
        ),
        (
            "[symmetry_functions]\ninput_nn_units = 'eV Angstrom'\n",
            "without effect with no symmetry_functions.input_nn",
        ),
        (
            "[optimizer]\nname = 'adam'\n",
            "optimizer.name = \"adam\": without effect with run.optimizer = 'ekf'",
        ),
        ("[optimizer]\nstep = 1\n[run]\noptimizer = 'adam'\n", "effect with run.optimizer = 'adam'"),
    ],
)
def test_keys_that_only_another_key_gives_a_meaning_are_errors(tmp_path, text, told):
    assert told in message(tmp_path, MINIMAL + text)


def test_energies_that_come_without_end_in_an_epoch_are_an_error(tmp_path):
    """Their order is drawn at the start of an epoch, and must fit into memory."""
    told = message(tmp_path, MINIMAL + "[schedule]\nenergy_fraction = 1e18\n")
    assert "schedule.energy_fraction = 1e+18: must be less than or equal to 10000" in told


@pytest.mark.parametrize("nodes", [10**9, 10**30])
def test_nets_beyond_all_memory_are_an_error_of_the_configuration(nodes):
    with pytest.raises(ConfigError, match="network.hidden: nets of .* cannot be meant"):
        Network.from_config(Net(hidden=[nodes], activation="tanh"), [14], np.array([36]))


@pytest.mark.parametrize("key", ["run.from", "run.directory", "data.weights", "network.weights_from"])
@pytest.mark.parametrize(("name", "told"), [("", "must not be empty"), ("a\\u0000b", "a null character")])
def test_names_that_no_file_can_have_are_errors(tmp_path, key, name, told):
    section, key = key.split(".")
    text = MINIMAL if section != "data" else ""
    data = "files = 'a'\n" if section == "data" else ""
    assert told in message(tmp_path, f'{text}[{section}]\n{data}{key} = "{name}"\n')


def test_what_a_value_may_be_by_several_types_is_one_line(tmp_path):
    told = message(tmp_path, MINIMAL + "[network]\nnormalize = 'no'\n")
    assert len(told.splitlines()) == 1
    assert "network.normalize = 'no': must be a valid boolean, or must be 'ref' or 'force'" in told


def test_files_that_hold_every_key_still_read(tmp_path):
    """What a run of an earlier version stored: keys of both schedules, some without effect."""
    text = to_toml(read_text(tmp_path, "[data]\nfiles = 'a'\n")).replace(
        "updates_per_epoch = 1000", "updates_per_epoch = 50"
    )
    assert parse_config(text, "checkpoint").schedule.updates_per_epoch == 50
