"""The gates that need no tool: public functions say their types, and `.ci/run` is a whole script."""

import ast
import subprocess
from pathlib import Path

import pytest
from launch import ROOT

PACKAGES = ("data", "model", "optimizers", "training")
MODULES = ("parallel", "run_lock", "signals", "units")
NAMED = ("__init__", "__call__")  # of a public class, as public as it is


def unannotated(source):
    """Names of public functions and methods in `source` with a parameter or a result without annotation."""
    return [name for name, node in _public(ast.parse(source).body) if not _is_annotated(node, "." in name)]


def _public(body, prefix=""):
    """(name, definition) of public functions, and of public methods of public classes."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_") or (prefix and node.name in NAMED):
                yield prefix + node.name, node


def _is_annotated(node, method):
    given = node.args
    arguments = [*given.posonlyargs, *given.args]
    if method and not any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list):
        arguments = arguments[1:]  # self
    arguments += [*given.kwonlyargs, *(a for a in (given.vararg, given.kwarg) if a)]
    return all(a.annotation for a in arguments) and (node.returns is not None or node.name == "__init__")


@pytest.mark.parametrize("package", PACKAGES)
def test_public_functions_say_their_types(package):
    modules = sorted((Path(ROOT) / "mpnnp" / package).glob("*.py"))
    assert len(modules) > 5
    missing = [f"{path.name}: {name}" for path in modules for name in unannotated(path.read_text("utf-8"))]
    assert not missing, f"public functions of mpnnp.{package} without annotations: {', '.join(missing)}"


@pytest.mark.parametrize("module", MODULES)
def test_what_all_packages_use_says_its_types(module):
    assert not unannotated((Path(ROOT) / "mpnnp" / f"{module}.py").read_text("utf-8"))


@pytest.mark.parametrize(
    "source, found",
    [
        ("def f(x): pass", ["f"]),
        ("def f(x: int): pass", ["f"]),
        ("def f(x) -> int: pass", ["f"]),
        ("def f(x: int, *rest, **keys: int) -> int: pass", ["f"]),
        ("def f(x: int, *, key) -> int: pass", ["f"]),
        ("def f() -> None: pass", []),
        ("def _f(x): pass", []),
        ("class A:\n def g(self): pass\n def __init__(self, x): pass", ["A.g", "A.__init__"]),
        ("class A:\n def __call__(self) -> int: pass\n def __init__(self): pass\n def _g(self): pass", []),
        ("class A:\n @staticmethod\n def g(x) -> int: pass", ["A.g"]),
        ("class _A:\n def g(self): pass", []),
        ("def f() -> int:\n def inner(x): pass", []),
    ],
)
def test_a_missing_annotation_is_found(source, found):
    assert unannotated(source) == found


def test_the_script_of_the_gates_parses():
    subprocess.run(["bash", "-n", str(Path(ROOT) / ".ci" / "run")], check=True)
