"""Configurations and values as TOML."""

from pydantic import BaseModel

from mpnnp.config.fields import key_of


def to_toml(config):
    """Text of a TOML file that read_config turns into the same configuration."""
    lines = []
    for name, section in config:
        lines.append(f"[{name}]")
        lines += [f"{key_of(field)} = {toml_value(value)}" for field, value in section if value is not None]
        lines.append("")
    return "\n".join(lines)


def toml_value(value):
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_value(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        return (
            '"'
            + "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 or c in '"\\' else c for c in value)
            + '"'
        )
    return repr(value)
