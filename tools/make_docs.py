"""Write the pages of the documentation that come from the code: python tools/make_docs.py [--check]

docs/api.md             the public names of mpnnp/__init__.py with their signatures and docstrings
docs/architecture.md    its tables of layers and modules, from the contract in setup.cfg and the modules
docs/configuration.md   every key of the configuration with its values, default and meaning, and
mpnnp/config/schema.json    the same for editors; both from the classes of its sections
docs/formats.md         its tables of formats, of symmetry functions and of names of labels
docs/n2p2-keywords.md   every keyword of n2p2 and RuNNer and every tool of n2p2, from mpnnp/n2p2/keywords.py
"""

import argparse
import ast
import configparser
import inspect
import json
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mpnnp import PUBLIC  # noqa: E402
from mpnnp.config import toml_value  # noqa: E402
from mpnnp.config.schema import schema  # noqa: E402
from mpnnp.data.formats import FORMATS  # noqa: E402
from mpnnp.data.labels import GUESSES  # noqa: E402
from mpnnp.kernels.table import TYPES as FUNCTION_TYPES  # noqa: E402
from mpnnp.learning.settings import Learning  # noqa: E402
from mpnnp.model.function_sets import keys_of  # noqa: E402
from mpnnp.n2p2 import keywords as table  # noqa: E402
from mpnnp.units import ENERGIES, LENGTHS, PRESSURES  # noqa: E402

HEAD = "<!-- written by tools/make_docs.py: edit {} instead -->\n"
WORDS = {  # type and limits of numbers in the schema
    ("number", "exclusiveMinimum"): "positive number",
    ("number", "exclusiveMinimum", "maximum"): "number, above {exclusiveMinimum:g} to {maximum:g}",
    ("number", "minimum"): "number, {minimum:g} or more",
    ("number", "minimum", "maximum"): "number, {minimum:g} to {maximum:g}",
    ("number", "minimum", "exclusiveMaximum"): "number, {minimum:g} to below {exclusiveMaximum:g}",
    ("integer", "minimum"): "integer, {minimum} or more",
}
TYPES = (  # what the functions give and take: title, module, class
    ("Potential", "mpnnp.model.potential", "Potential"),
    ("Dataset", "mpnnp.data.dataset", "Dataset"),
    ("Task", "mpnnp.training.start", "Task"),
    ("RunState", "mpnnp.training.run_state", "RunState"),
    ("Evaluation", "mpnnp.model.evaluation", "Evaluation"),
    ("Accuracy", "mpnnp.model.metrics", "Accuracy"),
    ("Spectrum", "mpnnp.analysis.fisher", "Spectrum"),
)
LIMITS = ("exclusiveMinimum", "minimum", "exclusiveMaximum", "maximum")


def configuration():
    """The page of the configuration, from its JSON schema."""
    page = [
        HEAD.format("the classes in mpnnp/config/*_sections.py"),
        "# Configuration",
        "",
        *_paragraph("""
        One TOML file with these sections. Only `data.files` is required. A key that does not exist, a wrong
        type or a value out of range is an error that names the key, the value and what is allowed.
        `--set section.key=value` of `mpnnp train` changes a key for one run. Lengths are in Angstrom,
        energies in eV, times of limits in minutes.
        """),
        "",
        *_paragraph("""
        `mpnnp init DATA` writes such a file that fits the data. Editors complete, explain and check the keys
        by the JSON schema in the package (`mpnnp/config/schema.json`; `mpnnp schema` shows it): VS Code with
        the extension Even Better TOML, others with the language server of Taplo. They find it by the first
        line of files written by mpnnp, `#:schema` and where it is.
        """),
    ]
    for name, section in schema()["properties"].items():
        page += _section(f"## [{name}]", section)
        if name == "schedule":
            page += _section(
                "### [schedule.labels.NAME]", section["properties"]["labels"]["additionalProperties"]
            )
    page += [
        "",
        "# Sections of learn.toml",
        "",
        *_paragraph("""
        `mpnnp learn` ([learning](learning.md)) takes a file with the sections above, which are those of its
        trainings, and these.
        """),
    ]
    for name, section in schema(Learning)["properties"].items():
        several = section.get("type") == "array"
        page += _section(f"## [[{name}]]" if several else f"## [{name}]", section.get("items", section))
    return "\n".join(page) + "\n"


def _section(title, section):
    """The part of the page for one table of the schema."""
    part = ["", title, "", *_paragraph(section["description"])]
    if section["properties"]:
        part += ["", "| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    for name, key in section["properties"].items():
        default = "required" if name in section.get("required", ()) else ""
        if "default" in key:
            default = f"`{toml_value(key['default'])}`"
        meaning = key["description"].replace("|", "\\|")
        part.append(f"| `{name}` | {_values(key)} | {default} | {meaning} |")
    return part


def _paragraph(text):
    """Lines of a paragraph, broken as everywhere."""
    return textwrap.wrap(" ".join(text.split()), 110, break_long_words=False, break_on_hyphens=False)


def _values(node):
    """The values that a part of the schema allows, for people."""
    if "anyOf" in node:
        one, several = node["anyOf"]
        same = several.get("items") == one
        return f"{_values(one)}, {'or a list of these' if same else f'or {_values(several)}'}"
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{word}`" for word in node["enum"])
    kind = node["type"]
    if kind == "array":
        return f"list of {_values(node['items'])}"
    if kind == "object":
        rest = node["additionalProperties"]
        return "table" if rest is True or "properties" in rest else f"table of {_values(rest)}"
    if kind == "boolean":
        return "true, false"
    limits = [limit for limit in LIMITS if limit in node]
    return WORDS[(kind, *limits)].format(**node) if limits else kind


def keywords():
    """The page of the keywords and tools of n2p2."""
    page = [
        HEAD.format("mpnnp/n2p2/keywords.py"),
        "# Keywords and tools of n2p2 and RuNNer",
        "",
        *_paragraph("""
        What `mpnnp train input.nn` and `mpnnp translate input.nn` make of each keyword. A keyword that is in
        no table is an error that names the nearest one. Aliases, and RuNNer's names for the same, are read
        as the keyword itself.
        """),
    ]
    titles = {
        table.USED: ("Used", "becomes"),
        table.IDLE: ("Without effect here", "reason"),
        table.REFUSED: ("Refused", "not available"),
        table.CHARGE: ("Of potentials with charges, pair nets or dispersion", "what it belongs to"),
    }
    for kind, (title, meaning) in titles.items():
        page += ["", f"## {title}", ""]
        if kind == table.CHARGE:
            page += [
                *_paragraph("""
                Read over in files that say that the potential has none of this (`nnp_type 2G-HDNNP`,
                RuNNer's files without `use_electrostatics`), refused otherwise.
                """),
                "",
            ]
        page += [f"| keyword | aliases | program | {meaning} |", "| --- | --- | --- | --- |"]
        for k in sorted((k for k in table.TABLE if k.kind == kind), key=lambda k: k.name):
            aliases = ", ".join(f"`{a}`" for a in k.aliases)
            page.append(f"| `{k.name}` | {aliases} | {k.program} | {k.meaning.replace('|', chr(92) + '|')} |")
    page += ["", "## Tools of n2p2", "", "| tool | here |", "| --- | --- |"]
    page += [f"| `{tool}` | {here} |" for tool, here in table.TOOLS.items()]
    return "\n".join(page) + "\n"


def formats():
    """The page of file formats with its tables between the marks as the code has them now."""
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    of_types = {}
    for t in FUNCTION_TYPES.values():  # types that differ in nothing a line says share a row
        of_types.setdefault((t.what.split(",")[0], t.neighbours, t.parameters), []).append(t)
    tables = {
        "formats": [
            "| format | read | written | units may be said | notes |",
            "| --- | --- | --- | --- | --- |",
            *(
                f"| {f.name} | yes | {_yes(f.write)} | {_yes(f.units)} | {f.notes} |"
                for f in FORMATS.values()
            ),
        ],
        "names": [
            "| label | names, the first that is there |",
            "| --- | --- |",
            *(f"| {kind} | {', '.join(map(_label_name, names))} |" for kind, names in GUESSES.items()),
        ],
        "units": [
            "| of | names |",
            "| --- | --- |",
            *(
                f"| {what} | {', '.join(f'`{name}`' for name in names)} |"
                for what, names in (("energy", ENERGIES), ("length", LENGTHS), ("stress", PRESSURES))
            ),
        ],
        "types": [
            "| type | what | words behind CENTRE TYPE | keys in TOML |",
            "| --- | --- | --- | --- |",
            *(_type_row(types) for types in of_types.values()),
        ],
    }
    return _filled(page, tables)


def _filled(page, tables):
    """The page with these lines between the marks of each name."""
    for name, lines in tables.items():
        mark = re.compile(rf"(<!-- table of {name}[^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
        text = "\n".join(lines)
        page, n = mark.subn(lambda found, text=text: f"{found[1]}\n{text}\n\n{found[2]}", page)
        assert n == 1, f"the page has {n} places for the table of {name}"
    return page


def _label_name(name):
    kind, _, name = name.rpartition(":")
    return f"ASE calculator: `{name}`" if kind else f"`{name}`"


def _yes(value):
    return "yes" if value else ""


def _type_row(types):
    first = types[0]
    words = ["N"] * first.neighbours + [p.replace("lam", "lambda") for p in first.parameters]
    words += ["subtype"] if first.compact else []
    shapes = [t.what.split(", ")[1] for t in types if ", " in t.what]
    what = first.what.split(",")[0] + (f", {' and '.join(shapes)}" if shapes else "")
    keys = ", ".join(f"`{key}`" for key in keys_of(first).values())
    return f"| {', '.join(str(t.number) for t in types)} | {what} | {' '.join(words)} | {keys} |"


def architecture():
    """The page of how the package is built, with its tables between the marks as the code has them now."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    contract = configparser.ConfigParser()
    contract.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = contract["importlinter:contract:layers"]["layers"].split("\n")
    layers = [layer.split(" | ") for layer in map(str.strip, layers) if layer]
    names = [name for layer in layers for name in layer]
    rows = ["| layer | module | what |", "| --- | --- | --- |"]
    for number, layer in enumerate(reversed(layers), 1):
        rows[2:2] = [f"| {number} | `{name}` | {_first_sentence(_source(name))} |" for name in layer]
    modules = []
    for name in (name for name in names if (ROOT / "mpnnp" / name).is_dir()):
        modules += [f"**`mpnnp/{name}/`**", "", "| module | what |", "| --- | --- |"]
        for path in sorted((ROOT / "mpnnp" / name).glob("[!_]*.py")):
            modules.append(f"| `{path.stem}` | {_first_sentence(path)} |")
        modules.append("")
    return _filled(page, {"layers": rows, "modules": modules[:-1]})


def _source(name):
    """The file of a module of the root, or the __init__ of a package."""
    package = ROOT / "mpnnp" / name
    return package / "__init__.py" if package.is_dir() else package.with_suffix(".py")


def _first_sentence(path):
    """The first sentence of a module's docstring, without its full stop."""
    text = " ".join(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split("\n\n")[0].split())
    open_at = lambda end: text.count("(", 0, end) > text.count(")", 0, end)  # noqa: E731
    ends = (m.start() for m in re.finditer(r"\. ", text) if not open_at(m.start()))
    return text[: next(ends, len(text))].rstrip(".:").replace("|", "\\|")


def api():
    """The page of the public names: what a program may rely on."""
    page = [
        HEAD.format("the docstrings"),
        "# Python functions",
        "",
        *_paragraph("""
        The public names of `mpnnp`, and what a program may rely on. Units are eV and Angstrom. [From
        Python](python.md) shows how they go together; below them `mpnnp.optimizers`, `mpnnp.model` and the
        other packages are described in [How it is built](architecture.md).
        """),
    ]
    for name, place in PUBLIC.items():
        module, _, attribute = place.partition(":")
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        (node,) = (n for n in tree.body if getattr(n, "name", None) == attribute)
        page += ["", f"## mpnnp.{name}", "", *_described(f"mpnnp.{name}", node)]
    for name, module, attribute in TYPES:
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        (node,) = (n for n in tree.body if getattr(n, "name", None) == attribute)
        page += ["", f"## {name}", "", *_described(None, node)]
    return "\n".join(page) + "\n"


def _described(name, node):
    """Signature and docstring of a function; of a class, those of its public methods too."""
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    if not isinstance(node, ast.ClassDef):
        return ["```text", _signature(name, node), "", *text.splitlines(), "```"]
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
    lines = ["```text", *text.splitlines(), "```"]
    if name:
        lines[1:1] = [_signature(name, m) for m in methods if m.name == "__init__"] + [""]
    for method in methods:
        if not method.name.startswith("_") and ast.get_docstring(method):
            lines += ["", f"### .{method.name}", "", *_described(f".{method.name}", method)]
    return lines


def _signature(name, node):
    """name(arguments) -> result, in lines of the usual length; name -> result of a property."""
    arguments = [a for a in ast.unparse(node.args).split(", ") if a not in ("self", "cls")]
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    decorators = {getattr(decorator, "id", "") for decorator in node.decorator_list}
    is_property = bool(decorators & {"property", "cached_property"})
    text = f"{name}{result}" if is_property else f"{name}({', '.join(arguments)}){result}"
    return "\n".join(textwrap.wrap(text, 100, subsequent_indent="    ", break_on_hyphens=False))


def schema_file():
    """The JSON schema of the configuration as the package brings it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


PAGES = {
    "docs/api.md": api,
    "docs/architecture.md": architecture,
    "docs/configuration.md": configuration,
    "docs/formats.md": formats,
    "docs/n2p2-keywords.md": keywords,
    "mpnnp/config/schema.json": schema_file,
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit status 1 if a page is not up to date"
    )
    check, stale = parser.parse_args().check, []
    for name, make in PAGES.items():
        path, text = ROOT / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    print(f"{'not up to date' if check else 'written'}: {', '.join(stale)}" if stale else "up to date")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
