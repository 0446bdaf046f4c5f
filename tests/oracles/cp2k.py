"""Running CP2K in tests that skip where it is absent."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

COMMITTEE = Path(os.environ.get("CP2K_DATA_DIR", "/usr/share/cp2k")) / "NNP" / "bulkH2O-jcp2020-cnnp"


def run_input(folder, name):
    """(energy Hartree, forces (n, 3) Hartree/Bohr) printed for the input file `name` of a folder;
    its forces go to a file *forces*.
    """
    output = start(folder, name)
    (line,) = [line for line in output.splitlines() if "ENERGY| Total FORCE_EVAL" in line]
    (file,) = Path(folder).glob("*forces-1_*.xyz")
    rows = [line.split() for line in file.read_text().splitlines()]
    return float(line.split()[-1]), np.array(
        [row[3:6] for row in rows if len(row) == 6 and row[0].isdigit()], float
    )


def stress_of_input(folder, name):
    """(3, 3) stress in GPa, positive where it wants to expand, of an input file that asks for it."""
    text = (Path(folder) / name).read_text()
    assert "METHOD NNP\n  STRESS_TENSOR ANALYTICAL\n" in text
    text, n = re.subn(
        r"    &FORCES\n.*?    &END FORCES\n", "    &STRESS_TENSOR\n    &END STRESS_TENSOR\n", text, flags=re.S
    )
    assert n == 1
    (Path(folder) / f"stress-{name}").write_text(text)
    lines = [
        line.split() for line in start(folder, f"stress-{name}").splitlines() if line.startswith(" STRESS|")
    ]
    first = next(k for k, words in enumerate(lines) if words[1:] == ["x", "y", "z"]) + 1
    return np.array([words[2:5] for words in lines[first : first + 3]], float)


def start(folder, name):
    """What CP2K prints for the input file `name` of a folder."""
    program = next(filter(None, map(shutil.which, ("cp2k", "cp2k.psmp", "cp2k.popt"))), None)
    if program is None:
        pytest.skip("needs CP2K (Debian: apt-get install cp2k)")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    out = subprocess.run(
        [program, "-i", name], cwd=folder, capture_output=True, text=True, timeout=120, env=environment
    )
    assert out.returncode == 0, out.stdout[-3000:] + out.stderr[-1000:]
    return out.stdout
