"""What imports what: the layers of setup.cfg, and that neither the package nor its help starts
what they do not need.
"""

import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from launch import ROOT

HEAVY = ("numpy", "scipy", "numba", "h5py", "mpi4py", "ase", "matplotlib", "pydantic", "mpnnp.kernels")
SLOW = ("scipy", "numba", "h5py", "mpi4py.MPI", "ase", "matplotlib", "mpnnp.kernels")
PHYSICS = (
    *("data.structure", "data.dataset", "data.packed", "units", "errors"),
    *(
        "model.symmetry_functions",
        "model.function_sets",
        "model.scaling",
        "model.network",
        "model.potential",
        "model.prediction",
    ),
    *("kernels.energy_forces", "kernels.jacobian", "kernels.neighbours", "simulation.calculator"),
)


def loaded_by(code, names):
    """Which of the modules are loaded after the code has run in a new process."""
    check = f"import sys\n{code}\nprint([name for name in {list(names)!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return eval(result.stdout.splitlines()[-1])


def test_the_layers_hold():
    """The contracts of [importlinter] in setup.cfg."""
    pytest.importorskip("importlinter", reason="needs import-linter: install mpnnp[test]")
    code = (
        "import sys; from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(config_filename='setup.cfg', no_cache=True))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout and "0 kept" not in result.stdout


def test_modules_do_not_import_each_other_in_circles():
    """Imports for annotations alone included."""
    grimp = pytest.importorskip("grimp", reason="needs import-linter: install mpnnp[test]")
    graph = grimp.build_graph("mpnnp", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 100 and "mpnnp.model.prediction" in imports["mpnnp.model.potential"]
    TopologicalSorter(imports).prepare()  # raises CycleError, which names them


def test_the_package_alone_loads_nothing():
    assert loaded_by("import mpnnp; dir(mpnnp), mpnnp.__all__, mpnnp.__version__", HEAVY) == []


def test_the_physics_does_not_start_mpi():
    imports = "; ".join(f"import mpnnp.{name}" for name in PHYSICS)
    assert loaded_by(imports, ["mpi4py", "mpi4py.MPI"]) == []


def test_a_training_run_does_not_load_the_readers_of_ase():
    assert loaded_by("import mpnnp.training.train", ["ase.io", "scipy.optimize", "matplotlib"]) == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["train", "--help"], ["md", "--help"]], ids=" ".join
)
def test_help_is_quick(arguments):
    """It loads neither the compiler nor MPI nor data formats."""
    run = "from mpnnp.cli import main\ntry: main()\nexcept SystemExit as end: assert end.code in (0, None)"
    assert loaded_by(f"sys.argv = ['mpnnp'] + {arguments}\n{run}", SLOW) == []
