"""The JSON schema of the configuration: it says of TOML files what mpnnp says of them."""

import re

import jsonschema
import pytest
from launch import ROOT
from test_config import ROUND_TRIPS, UNKNOWN, WRONG, with_data

from mpnnp.config import Config, make_config, to_toml
from mpnnp.config.reading import tomllib
from mpnnp.config.schema import DRAFT, FILE, schema, schema_line
from mpnnp.learning.settings import Learning

CHECK = jsonschema.Draft7Validator(schema())
OF_LEARN = schema() | {"properties": schema()["properties"] | schema(Learning)["properties"]}
FILES = sorted(path for folder in ("jobs", "docs", "tests") for path in (ROOT / folder).rglob("*.toml"))
BLOCKS = [
    block
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for block in re.findall(r"^```toml\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
]
RULES = (  # of several keys at once, or of numbers that JSON does not have, which no schema says
    "epsilon = nan",
    "epsilon = inf",
    "scale_max = inf",
    "{O = nan}",
    "activation = ['tanh']",
    "initializer = 'files'",
    "weights_min = 1.0",
    "input_nn = 'x'",
    "scale_min = 2.0",
    "optimizer = 'kalman'",
    "epochs = 2.0",
)


def validator_of(tree):
    """Of a training's file, or of one of `mpnnp learn`."""
    return jsonschema.Draft7Validator(OF_LEARN) if "simulations" in tree else CHECK


def keys(node, place=""):
    """(name, schema) of each key of each section."""
    for name, section in node["properties"].items():
        for key, found in section["properties"].items():
            yield f"{name}.{key}", found


def test_it_is_a_schema_of_the_draft_that_it_names():
    jsonschema.Draft7Validator.check_schema(schema())
    assert jsonschema.Draft7Validator.META_SCHEMA["$schema"] == DRAFT


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_of_the_project_is_valid(path):
    tree = tomllib.loads(path.read_text("utf-8"))
    assert [error.message for error in validator_of(tree).iter_errors(tree)] == []


@pytest.mark.parametrize("text", BLOCKS)
def test_what_the_documentation_shows_is_valid(text):
    tree = {"data": {"files": "a"}} | tomllib.loads(text)
    validator_of(tree).validate(tree)


def test_there_are_files_to_check():
    assert len(FILES) >= 5 and len(BLOCKS) >= 3


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_what_mpnnp_reads_and_writes_is_valid(name):
    text = (
        with_data(ROUND_TRIPS[name])
        if name != "every kind of value"
        else ('[data]\nfiles = "water.extxyz"' + ROUND_TRIPS[name])
    )
    tree = tomllib.loads(text)
    CHECK.validate(tree)
    CHECK.validate(tomllib.loads(to_toml(make_config(tree))))


@pytest.mark.parametrize("text", [*WRONG, *UNKNOWN])
def test_what_mpnnp_refuses_is_not_valid(text):
    """Except for rules over several keys."""
    refused = not CHECK.is_valid(tomllib.loads(with_data(text)))
    assert refused != any(rule in text for rule in RULES)


def test_every_key_has_a_description_that_is_a_sentence():
    found = [(name, key["description"]) for name, key in keys(schema())]
    assert len(found) > 90
    assert [name for name, text in found if not (len(text) > 8 and text.endswith("."))] == []


def test_units_are_in_the_description():
    units = {name: key["unit"] for name, key in keys(schema()) if "unit" in key}
    assert units["network.force_scale"] == "eV/Angstrom"
    of_keys = dict(keys(schema()))
    assert [n for n, unit in units.items() if f"Unit: {unit}." not in of_keys[n]["description"]] == []


def test_every_default_is_valid():
    config = Config(data={"files": ["a"]})
    for name, key in keys(schema()):
        section, _, field = name.partition(".")
        value = getattr(config, section).model_dump(by_alias=True)[field]
        if name not in ("data.files", "symmetry_functions.set"):
            assert key.get("default") == value or (value == {} or value == []), name
        if "default" in key:
            jsonschema.Draft7Validator(key).validate(key["default"])


def test_the_line_for_editors_leads_to_the_file_of_the_package():
    assert schema_line() == f"#:schema {FILE.as_uri()}"
    assert FILE.is_file() and FILE.parent.name == "config"
