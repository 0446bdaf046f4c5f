"""The configuration: sections of the TOML file, reading and writing it, its JSON schema."""

from mpnnp.config.reading import apply_setting, make_config, parse_config, read_config
from mpnnp.config.sections import (
    PLURALS,
    Adam,
    Config,
    Data,
    Ekf,
    Functions,
    Net,
    Optimizer,
    Run,
    Schedule,
)
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
]
