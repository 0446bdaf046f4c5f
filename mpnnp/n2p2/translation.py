"""What an input.nn becomes: a configuration whose every key knows the line that it comes from."""

from dataclasses import dataclass, field
from pathlib import Path

from mpnnp.config import apply_setting, make_config, toml_value
from mpnnp.config.schema import schema_line
from mpnnp.errors import ConfigError
from mpnnp.files import seen_from
from mpnnp.progress import counted


@dataclass
class Translation:
    """What an input.nn means here.

    tree     {section: {key: value}}, as of a TOML file
    origin   {(section, key): the line of input.nn it comes from}
    notes    lines to tell: decisions that the user may want to change
    unused   [(line as written, reason)] keywords without an effect here
    """

    path: Path
    tree: dict = field(default_factory=dict)
    origin: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    unused: list = field(default_factory=list)

    def set(self, key, value, *origin):
        section, name = key.split(".")
        self.tree.setdefault(section, {})[name] = value
        self.origin[section, name] = "; ".join(filter(None, origin))

    def config(self, settings=()):
        """Config, changed by `settings` ("section.key=value"). Raises ConfigError."""
        for setting in settings:
            apply_setting(self.tree, setting)
        try:
            return make_config(self.tree, source=str(self.path), base=self.path.parent)
        except ConfigError as error:
            raise ConfigError("\n".join(map(self._with_origin, str(error).splitlines()))) from None

    def _with_origin(self, message):
        """A message about a key, with the line of input.nn that the key comes from."""
        key = message.partition(":")[0].partition(" = ")[0]
        origin = self.origin.get(tuple(key.split(".")[:2]))
        return f"{message}, from '{origin}'" if origin else message

    def toml(self, folder):
        """Text of the configuration with a comment on each key; paths relative to `folder`."""
        lines = [
            schema_line(),
            f"# {self.path.name}, translated by mpnnp; lengths in Angstrom, energies in eV",
            "",
        ]
        for section, keys in self.tree.items():
            lines.append(f"[{section}]")
            for name, value in keys.items():
                if name in ("input_nn", "scaling_data", "weights_from", "files"):
                    value = (
                        [self._from(folder, v) for v in value]
                        if isinstance(value, list)
                        else self._from(folder, value)
                    )
                origin = self.origin.get((section, name))
                lines.append(f"{name} = {toml_value(value)}" + (f"  # {origin}" if origin else ""))
            lines.append("")
        lines += [f"# note: {note}" for note in self.notes]
        lines += ["# without effect here:"] * bool(self.unused) + [
            f"#   {line}: {reason}" for line, reason in self.unused
        ]
        return "\n".join(lines) + "\n"

    def tell(self, log):
        """Say once, to the log, what was decided and what is not used."""
        for note in self.notes:
            log(note)
        if self.unused:
            names = ", ".join(dict.fromkeys(line.split()[0] for line, _ in self.unused))
            log(
                f"{self.path}: {counted(len(self.unused), 'keyword')} without effect here (mpnnp translate "
                f"says why): {names}"
            )

    def _from(self, folder, path):
        return seen_from(folder, self.path.parent / path)


def origin_of(source, *names):
    """The lines of input.nn with these keywords, for a comment."""
    return "; ".join(source.last(name).text for name in names if source.has(name))


def copy_number(source, t, name, key, kind=float, convert=lambda x: x):
    """t.set(key, the keyword's number) if the keyword is there."""
    if source.has(name):
        t.set(key, convert(source.value(name, kind)), origin_of(source, name))
