"""Files that are replaced in one step: what a full disk leaves, and what it says."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
from launch import environment

from mpnnp.config import read_config
from mpnnp.data import dataset
from mpnnp.data.formats import read_sources
from mpnnp.errors import MpnnpError
from mpnnp.files import absence, check_seal, write_sealed
from mpnnp.n2p2.input_file import InputFile
from mpnnp.n2p2.scaling_file import read_rows
from mpnnp.simulation.trajectories import read_trajectory
from mpnnp.training.checkpoint import load_potential, read_checkpoint
from mpnnp.training.run_groups import find_groups

FULL = """
import resource, signal, sys
import numpy as np
from mpnnp.files import write_sealed

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else a file that is too large ends the process
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with write_sealed(sys.argv[1]) as file:
        file.attrs["text"] = "x" * 2000
        file.create_group("group").attrs.update({"a": 1, "b": 2.0, "c": "text"})
        for k in range(20):
            file[f"numbers {k}"] = np.arange(60.0)
except OSError as error:
    print(error.filename, error.errno, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of Unix")
@pytest.mark.parametrize("room", [0, 600, 4000, 12000, 16000, 20000])
def test_a_file_that_does_not_fit_is_an_error_and_leaves_the_old_one(tmp_path, room):
    """The HDF5 library ended the process by a segmentation fault, at the end if not before."""
    path = tmp_path / "file.h5"
    with write_sealed(path) as file:
        file["old"] = np.arange(3.0)
    command = [sys.executable, "-c", FULL, str(path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file.h5"]
    assert check_seal(path)
    with h5py.File(path) as file:
        assert list(file) == ["old"]


READERS = {
    "configuration": lambda path: read_config(path),
    "potential": lambda path: load_potential(path),
    "checkpoint": lambda path: read_checkpoint(path),
    "run": lambda path: find_groups([path]),
    "data set": lambda path: dataset.read(path),
    "structures": lambda path: read_sources(path),
    "trajectory": lambda path: read_trajectory(path),
    "input.nn": lambda path: InputFile(path),
    "scaling.data": lambda path: read_rows(path),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_link_to_what_does_not_exist_is_told_by_whoever_reads_it(tmp_path, reader):
    (tmp_path / "link").symlink_to("other")
    (tmp_path / "other").symlink_to("gone")
    with pytest.raises(MpnnpError) as error:
        READERS[reader](tmp_path / "link")
    assert f"is a symbolic link to {tmp_path / 'gone'}, which does not exist" in str(error.value)


def test_a_folder_that_is_a_broken_link_is_named(tmp_path):
    (tmp_path / "link").symlink_to("gone")
    told = absence(tmp_path / "link" / "a.xyz")
    assert told == f"{tmp_path / 'link'} is a symbolic link to {tmp_path / 'gone'}, which does not exist"
    assert absence(tmp_path / "a.xyz") == "no such file"


def test_large_arrays_are_written_as_they_are(tmp_path):
    numbers = np.random.default_rng(1).normal(size=(3000, 1000))
    with write_sealed(tmp_path / "file.h5", alignment_threshold=1, alignment_interval=64) as file:
        target = file.create_dataset("rows", numbers.shape, np.float64)
        for k in range(0, len(numbers), 700):
            target[k : k + 700] = numbers[k : k + 700]
        file["whole"] = numbers
    assert check_seal(tmp_path / "file.h5")
    with h5py.File(tmp_path / "file.h5") as file:
        assert file["rows"].id.get_offset() % 64 == 0
        np.testing.assert_array_equal(file["rows"][()], numbers)
        np.testing.assert_array_equal(file["whole"][()], numbers)
