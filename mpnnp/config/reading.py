"""Configurations from TOML files and from `--set`, and what a wrong key, type or value says."""

import difflib
import os
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError

from mpnnp.config.fields import PATHS, changed, key_of
from mpnnp.config.sections import Config
from mpnnp.config.training_sections import LabelSettings
from mpnnp.config.writing import toml_value
from mpnnp.errors import ConfigError
from mpnnp.files import reason_not_read, seems_to_be

PRIOR = 30.0  # P(0) with learned noise in units of the initialiser's variances

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib


def read_config(path, settings=()):
    """Configuration from the TOML file `path`, changed by `settings` ("section.key=value").

    Paths are taken relative to the file, those of `settings` relative to the working directory. Results go
    to runs/ and the name of the file if no run.directory is given. Raises
    ConfigError naming key, value, what is allowed, and the file.
    """
    path, tree = Path(path), read_toml(path, settings)
    if isinstance(run := tree.setdefault("run", {}), dict):
        run.setdefault("directory", f"runs/{path.stem}")
    source = f"{path} with {' '.join(f'--set {s}' for s in settings)}" if settings else str(path)
    return make_config(tree, source=source, base=path.parent)


def read_toml(path, settings=()):
    """Nested dicts of a TOML file, changed by `settings`. Raises ConfigError."""
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {reason_not_read(error, path)}{seems_to_be(path)}"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start}){_other(path)}"
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}{_other(path)}") from None
    for setting in settings:
        apply_setting(tree, setting)
    return tree


def _other(path):
    return "" if path.suffix == ".toml" else seems_to_be(path)


def parse_config(text, source):
    """Config from the text of `to_toml`. Raises ConfigError."""
    try:
        tree = tomllib.loads(text)
        if isinstance(tree.get("ekf"), dict):
            tree["ekf"].setdefault("noise", "fixed")  # written before there was another
        return make_config(tree, source, lenient=True)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"not valid TOML: {error} ({source})") from None


def make_config(tree, source="configuration", base=None, lenient=False):
    """Config from nested dicts.

    base     folder that relative input paths refer to
    lenient  settings without effect are allowed: files that hold every key, written by earlier versions
    Raises ConfigError.
    """
    tree = integers_to_floats(Config, tree)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, source)) from None
    if config.run.from_ is None:  # else the checkpoint decides what has an effect: training.continuation
        config = with_noise_model(config)
    if not lenient and config.run.from_ is None:
        refuse_idle_keys(config, source)
        for section, key in (("data", "rehearsal"), ("data", "shift_energies"), ("ekf", "inflation")):
            if changed(getattr(config, section), [key]):
                value = toml_value(getattr(getattr(config, section), key))
                raise ConfigError(f"{section}.{key} = {value}: without effect without run.from ({source})")
    return config if base is None else with_absolute_paths(config, Path(base))


def refuse_idle_keys(config, source, asked=None):
    """Raise ConfigError if keys have no effect. asked: of these ("section.key") alone."""
    idle, because = config.idle_keys(asked)
    if idle:
        values = (name.split(".") for name in idle)
        keys = ", ".join(f"{s}.{k} = {toml_value(getattr(getattr(config, s), k))}" for s, k in values)
        way = "" if config.run.from_ else advice(because)  # there the noise is that of the checkpoint
        raise ConfigError(f"{keys}: without effect with {because} ({source}){way}")


def with_noise_model(config):
    """The configuration with those keys filled in that follow from the model of the noise alone."""
    noise = config.ekf.noise or ("fixed" if config.schedule.name == "sdnz" else "learned")
    ekf = {"noise": noise}
    if noise == "learned" and config.ekf.prior is None:
        ekf["prior"] = PRIOR
    config = config.with_keys("ekf", **ekf)
    if config.network.activation is None:
        config = config.with_keys("network", activation="softplus" if noise == "learned" else "tanh")
    return with_selection(config)


def with_selection(config):
    """The configuration with the selection of labels that goes with the model of its noise, if it names none
    and its schedule selects.
    """
    if config.schedule.name != "runner" or config.schedule.selection is not None:
        return config
    selection = "random" if config.ekf.noise == "learned" else "threshold"
    return config.with_keys("schedule", selection=selection)


def advice(because):
    return "; ekf.noise = 'fixed' uses them" if "noise" in because else ""


def apply_setting(tree, setting):
    """Change `tree` as "section.key=value" says; a path is relative to the working directory.

    Raises ConfigError.
    """
    key, equals, text = setting.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name):
        raise ConfigError(f"--set {setting}: expected section.key=value")
    text = text.strip()
    if text.lower() in ("none", "null"):
        value = "none" if text.lower() == "none" and _takes_none(section, name) else None
    else:
        try:
            (value,) = tomllib.loads(f"value = {text}").values()
        except (tomllib.TOMLDecodeError, ValueError):  # also of more lines than one
            value = text  # a bare word is a string
    if not isinstance(tree.setdefault(section, {}), dict):
        raise ConfigError(f"--set {setting}: '{section}' is not a section")
    target = tree[section]
    if name in PATHS.get(section, ()):
        value = resolve(value, Path.cwd())
    *folders, name = name.split(".")
    for folder in folders:
        target = target.setdefault(folder, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {setting}: '{folder}' is not a table")
    target[name] = value


def _takes_none(section, name):
    """Whether "none" is one of the values of a key, and not only what unsets it."""
    field = Config.model_fields.get(section)
    field = field and field.annotation.model_fields.get(name)
    return field is not None and ("'none'" in str(field.annotation) or name.endswith("_key"))


def integers_to_floats(model, tree):
    """TOML writes 1 where 1.0 is meant: allowed for numbers, while a string or a truth value is not
    (strict validation).
    """
    if not isinstance(tree, dict):
        return tree
    result = {}
    for key, value in tree.items():
        field = model.model_fields.get(key)
        if field is None:
            result[key] = value
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            result[key] = integers_to_floats(field.annotation, value)
        elif field.annotation == dict[str, LabelSettings] and isinstance(value, dict):
            result[key] = {
                name: integers_to_floats(LabelSettings, settings) for name, settings in value.items()
            }
        elif type(value) is int and "float" in str(field.annotation):
            result[key] = float(value)
        elif key == "atomic_energies" and isinstance(value, dict):
            result[key] = {k: float(v) if type(v) is int else v for k, v in value.items()}
        else:
            result[key] = value
    return result


def explain(error, source, model=Config):
    """The errors of a validation in words, a line each: key, value, what is allowed, the file. What a value
    may be by each of several types is one line.
    """
    lines = {}
    for e in error.errors():
        head, message = _in_words(e, model)
        lines.setdefault(head, []).append(message)
    return "\n".join(f"{head}: {', or '.join(messages)} ({source})" for head, messages in lines.items())


def _in_words(error, model):
    """(key and value, what is allowed) of one error of a validation."""
    place = ".".join(
        str(part)
        for part in error["loc"]
        if part != "bool"
        and not str(part).startswith(("function-", "literal", "list[", "dict[", "constrained-"))
    )
    if error["type"] == "extra_forbidden":
        return place, _unknown_key(error["loc"], model)
    if error["type"] == "missing":
        return place, "is missing"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:].replace("Input should", "must")
    endings = {"files": '["a.xyz", "b.xyz"]', "activation": '["tanh", "tanh"]'}
    example = next((text for name, text in endings.items() if place.endswith(name)), "[1, 2]")
    message = message.replace("input should be", "must be").replace(
        "a valid list", f"a list, as in {example}"
    )
    if error["type"] == "too_short":
        message = f"must have at least {error['ctx']['min_length']} entries"
    if error["type"] == "string_too_short":
        message = "must not be empty"
    if error["type"] == "model_type":
        message = f"must be a section, [{place}]"
    return place if error["type"] == "value_error" else f"{place} = {error['input']!r}", message


def _unknown_key(loc, model):
    """What to say of a key at `loc` that a section, or the whole configuration, does not have."""
    *sections, name = loc
    own, section = _section_of(str(name), model), _section_at(sections, model)
    if own and not sections:
        return f"is a key of a section: write it below [{own}]"
    known = [key_of(field) for field in section.model_fields]
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
    if own:
        return f"unknown key; it is a key of [{own}]"
    return f"unknown key; did you mean '{near[0]}'?" if near else f"unknown key; known are {', '.join(known)}"


def _section_at(place, model):
    """The section at a place of the file, as in run, or schedule.labels.NAME: one of a table of sections."""
    found = model
    for part in place:
        if hasattr(found, "model_fields"):
            found = found.model_fields[part].annotation
        else:
            found = get_args(found)[-1]  # of dict[str, Section], list[Section]
        if type(None) in get_args(found):
            found = get_args(found)[0]
    return found


def _section_of(name, model):
    """The first section that has a key of this name; "" if there is none."""
    for section, field in model.model_fields.items():
        annotation = (get_args(field.annotation) or (field.annotation,))[0]
        if name in map(key_of, getattr(annotation, "model_fields", ())):
            return section
    return ""


def with_absolute_paths(config, base):
    """The configuration with paths of files that are relative to the folder `base` made absolute."""
    made = {}
    for name, keys in PATHS.items():
        section = getattr(config, name)
        given = {field: value for field, value in section if key_of(field) in keys and value}
        if given:
            made[name] = section.model_copy(
                update={field: resolve(value, base) for field, value in given.items()}
            )
    return config.model_copy(update=made)


def resolve(value, base):
    """A path, or each of a list, as absolute path, ~ as the home folder; others than texts are left for the
    validation.
    """
    if isinstance(value, list):
        return [resolve(v, base) for v in value]
    if not isinstance(value, str) or not value:
        return value
    path = os.path.expanduser(value)
    return path if os.path.isabs(path) else str((base / path).resolve())
