"""The JSON schema of the configuration, by which editors complete, explain and check the TOML file."""

from pathlib import Path

from mpnnp.config.sections import Config

DRAFT = "http://json-schema.org/draft-07/schema#"  # which the editors' extensions for TOML know
FILE = Path(__file__).with_name("schema.json")  # written by tools/make_docs.py


def schema(model=Config):
    """JSON schema of the file, without references and titles: each section with its keys, in place.

    model  whose fields are the sections
    Keys with a unit have it in their description, which editors show, and as "unit".
    """
    found = model.model_json_schema()
    definitions = found.pop("$defs")
    return {"$schema": DRAFT, **_plain(found, definitions)}


def schema_line():
    """The line of a TOML file that tells editors where the schema is."""
    return f"#:schema {FILE.as_uri()}"


def _plain(node, definitions):
    """A part of the schema as TOML has it: there is no null, and each reference is what it leads to."""
    if isinstance(node, list):
        return [_plain(part, definitions) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(definitions[node["$ref"].rpartition("/")[2]], definitions)
    result = {name: _plain(part, definitions) for name, part in node.items() if name != "title"}
    if result.get("default", ...) is None:
        del result["default"]
    if {"type": "null"} in (choices := result.get("anyOf", [])):
        choices.remove({"type": "null"})
    if len(choices) == 1:
        result |= result.pop("anyOf")[0]
    if unit := result.get("unit"):
        result["description"] = f"{result['description']} Unit: {unit}."
    return result
