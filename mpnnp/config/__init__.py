"""The configuration: sections of the TOML file, reading and writing it, its JSON schema."""

from mpnnp.config.model_sections import Data, Functions, Net
from mpnnp.config.reading import apply_setting, make_config, parse_config, read_config, with_absolute_paths
from mpnnp.config.sections import Config
from mpnnp.config.training_sections import PLURALS, Adam, Ekf, Optimizer, Run, Schedule
from mpnnp.config.writing import to_toml, toml_value

__all__ = [
    "PLURALS",
    "Adam",
    "Config",
    "Data",
    "Ekf",
    "Functions",
    "Net",
    "Optimizer",
    "Run",
    "Schedule",
    "apply_setting",
    "make_config",
    "parse_config",
    "read_config",
    "to_toml",
    "toml_value",
    "with_absolute_paths",
]
