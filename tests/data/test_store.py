"""Data of a run from the cache: what was said when they were read is said again."""

import csv
import struct
from dataclasses import replace

import numpy as np
import pytest
from small import write_clusters

from mpnnp.config import Data, make_config
from mpnnp.data import dataset as hdf5
from mpnnp.data.extxyz import write_extxyz
from mpnnp.data.formats import read_sources
from mpnnp.data.store import load_structures, read_configured, split
from mpnnp.errors import DataError
from mpnnp.files import HEAP, check_heaps, reason_of, write_table
from mpnnp.parallel import serial
from mpnnp.training.start import load_data
from mpnnp.units import BOHR, HARTREE


class Said(list):
    """A log that keeps lines, and warnings marked."""

    def __call__(self, text):
        self.append(text)

    def warn(self, text):
        self.append(f"warning: {text}")


def test_the_cache_says_again_what_the_readers_said(tmp_path):
    frame = '2\nProperties=species:S:1:pos:R:3:my_grad:R:3 energy={} units="Hartree Bohr"\n'
    atoms = "O 0 0 0 .1 .2 .3\nH {} 0 0 -.1 -.2 -.3\n"
    text = "".join(frame.format(-5 - 0.1 * k) + atoms.format(1.8 + 0.01 * k) for k in range(4))
    (tmp_path / "a.xyz").write_text(text)
    config = Data(files=[str(tmp_path / "a.xyz")], forces_key="none", cache=str(tmp_path / "cache"))
    first, second = Said(), Said()
    before, _ = load_structures(config, serial(), first, tmp_path)
    again, _ = load_structures(config, serial(), second, tmp_path)
    assert any(line.startswith("warning: ") and "'my_grad'" in line for line in first)
    assert any("in Hartree Bohr" in line for line in first)
    assert second == first and again.hash() == before.hash()
    (record,) = (tmp_path / "cache").glob("structures-*.json")
    record.write_text("[")
    load_structures(config, serial(), third := Said(), tmp_path)
    assert third == first  # read anew


def test_a_file_that_is_read_with_another_is_part_of_the_key_of_the_cache(tmp_path):
    frame = "2\n i = 0, time = 0.0, E = -1.0\nH 0 0 0\nO {} 0 0\n"
    (tmp_path / "w-pos-1.xyz").write_text(frame.format(1))
    config = Data(files=[str(tmp_path / "w-pos-1.xyz")], cache=str(tmp_path / "cache"))

    def read():
        return load_structures(config, serial(), Said(), tmp_path)[0]

    cell = tmp_path / "w-1.cell"
    cell.write_text("0 0.0 9 0 0 0 9 0 0 0 9 729\n")
    assert np.isnan(read().forces).all()
    (tmp_path / "w-frc-1.xyz").write_text(frame.format(0.5))
    assert read().forces[1, 0] == pytest.approx(0.5 * HARTREE / BOHR)
    (tmp_path / "w-frc-1.xyz").write_text(frame.format(0.25))
    assert read().forces[1, 0] == pytest.approx(0.25 * HARTREE / BOHR)
    cell.write_text("0 0.0 8 0 0 0 9 0 0 0 9 729\n")
    assert read().cell[0, 0, 0] == 8.0
    (tmp_path / "w-1.restart").write_text("&CELL\n A 9 0 0\n B 0 9 0\n C 0 0 9\n PERIODIC NONE\n&END CELL\n")
    assert not read().pbc.any()


@pytest.fixture
def data_set(tmp_path):
    """Bytes of an HDF5 data set, and where its global heap begins."""
    write_clusters(tmp_path / "a.extxyz", 3)
    hdf5.write(tmp_path / "a.h5", read_sources([str(tmp_path / "a.extxyz")], report=lambda _: None))
    data = bytearray((tmp_path / "a.h5").read_bytes())
    return data, data.index(HEAP)


@pytest.mark.parametrize("size", [0, 1 << 40, 2**64 - 16])
def test_a_heap_that_the_library_would_read_for_ever_is_refused(tmp_path, data_set, size):
    """The room that is left, of size 0: HDF5 2.0 never comes back. Other sizes leave the heap."""
    data, place = data_set
    end, place = place + struct.unpack_from("<Q", data, place + 8)[0], place + 16
    while struct.unpack_from("<H", data, place)[0]:
        place += 16 + (struct.unpack_from("<Q", data, place + 8)[0] + 7) // 8 * 8
    assert place < end
    struct.pack_into("<Q", data, place + 8, size)
    (tmp_path / "b.h5").write_bytes(data)
    with pytest.raises(DataError, match="b.h5: .*its global heap at byte"):
        hdf5.read(tmp_path / "b.h5")


def test_heaps_of_whole_files_are_taken(tmp_path, data_set):
    check_heaps(tmp_path / "a.h5")
    (tmp_path / "empty").write_bytes(b"")
    check_heaps(tmp_path / "empty")


def test_a_table_keeps_texts_with_commas_and_nine_digits(tmp_path):
    columns = {"name": ["a, b", 'say "x"'], "n": np.array([1, 2]), "x": np.array([1 / 3, np.nan])}
    write_table(tmp_path / "t.csv", columns)
    rows = list(csv.reader((tmp_path / "t.csv").read_text().splitlines()))
    assert rows == [["name", "n", "x"], ["a, b", "1", "0.333333333"], ['say "x"', "2", "nan"]]
    with pytest.raises(ValueError, match="zip"):
        write_table(tmp_path / "t.csv", columns | {"short": [1]})
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3


def test_the_reason_of_a_message_of_hdf5_is_that_of_the_system():
    long = "Unable to create file (time = Mon\n, errno = 28, error message = 'No space left on device')"
    assert reason_of(OSError(long)) == "No space left on device"
    assert reason_of(OSError(13, "Permission denied")) == "Permission denied"
    assert reason_of(OSError("something else")) == "something else"


@pytest.mark.parametrize("validation", ["a.extxyz", "*.extxyz", ".", "folder/../a.extxyz"])
def test_a_file_is_not_for_training_and_for_validation(tmp_path, validation):
    write_clusters(tmp_path / "a.extxyz", 3)
    (tmp_path / "folder").mkdir()
    files = {"files": [str(tmp_path / "a.extxyz")], "validation_files": [str(tmp_path / validation)]}
    with pytest.raises(DataError, match="a.extxyz: is read by data.files and by data.validation_files"):
        read_configured(Data(**files), lambda text: None)
    write_clusters(tmp_path / "b.extxyz", 3)
    files["validation_files"] = [str(tmp_path / "b.extxyz")]
    assert read_configured(Data(**files), lambda text: None).marks.tolist() == [1, 1, 1, 2, 2, 2]


def marked(path, *marks):
    """A file of frames with these marks of extended XYZ."""
    write_clusters(path, len(marks))
    data = read_sources(path, report=lambda text: None)
    write_extxyz(path, replace(data, marks=np.array(marks)))
    return str(path)


def test_marks_of_the_files_count_beside_validation_files(tmp_path):
    config = Data(
        files=[marked(tmp_path / "a.extxyz", 1, 2, 0, 2)],
        validation_files=[marked(tmp_path / "b.extxyz", 1, 0)],
    )
    data = read_configured(config, lambda text: None)
    assert data.marks.tolist() == [1, 2, 1, 2, 2, 2]
    train, validation = split(data, config, 1)
    assert train.tolist() == [0, 2]
    assert validation.tolist() == [1, 3, 4, 5]


def test_what_is_drawn_is_drawn_among_the_files_and_never_among_the_validation_files(tmp_path):
    config = Data(
        files=[marked(tmp_path / "a.extxyz", *6 * [0], *4 * [2])],
        validation_files=[marked(tmp_path / "b.extxyz", *10 * [0])],
        split="random",
        validation_fraction=0.3,
        cache=str(tmp_path / "cache"),
    )
    data, _ = load_structures(config, serial(), Said(), tmp_path)
    for seed in range(5):
        train, validation = split(data, config, seed)
        assert len(train) == 7 and train.max() < 10
        assert set(range(10, 20)) < set(validation.tolist()) and len(validation) == 13
        assert sorted([*train, *validation]) == list(range(20))
    assert len({tuple(split(data, config, seed)[0]) for seed in range(5)}) > 1
    none = config.model_copy(update={"validation_fraction": 0.0})
    assert split(data, none, 1)[0].tolist() == list(range(10))
    auto = config.model_copy(update={"split": "auto"})  # not the data set in the cache
    again, _ = load_structures(auto, serial(), Said(), tmp_path)
    assert split(again, auto, 1)[0].tolist() == list(range(6))


@pytest.mark.parametrize("pattern", ["runs/*/a.extxyz", "runs/**/*.extxyz", "runs/[rs]*/*.extxyz"])
def test_the_cache_of_a_pattern_lies_beside_its_first_wildcard(tmp_path, monkeypatch, pattern):
    (tmp_path / "runs/r1").mkdir(parents=True)
    write_clusters(tmp_path / "runs/r1/a.extxyz", 3)
    for files in (str(tmp_path / pattern), pattern):
        monkeypatch.chdir(tmp_path)
        _, cache = load_structures(Data(files=[files]), serial(), Said(), tmp_path)
        assert cache.resolve() == tmp_path / "runs/mpnnp-cache"
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"r1", "mpnnp-cache"}
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.parametrize("cache", [None, "data/kept"])
def test_a_pattern_does_not_find_what_is_kept_of_it(tmp_path, cache):
    (tmp_path / "data/deep").mkdir(parents=True)
    write_clusters(tmp_path / "a.extxyz", 3)
    read = read_sources(tmp_path / "a.extxyz", report=lambda text: None)
    hdf5.write(tmp_path / "data/deep/a.h5", read)
    hdf5.write(tmp_path / "data/b.h5", read)
    config = Data(files=[str(tmp_path / "data/**/*.h5")], cache=cache and str(tmp_path / cache))
    counts = [len(load_structures(config, serial(), Said(), tmp_path)[0]) for _ in range(3)]
    assert counts == [6, 6, 6]
    kept = tmp_path / (cache or "data/mpnnp-cache")
    assert list(kept.glob("structures-*.h5"))
    if cache is None:  # who names it means it
        assert len(read_sources(str(kept / "*.h5"), report=lambda text: None)) == 6


def test_no_validation_set_is_missed_where_validation_files_are_one(tmp_path):
    config = make_config(
        {
            "data": {
                "files": [marked(tmp_path / "a.extxyz", 0, 0, 0)],
                "validation_files": [marked(tmp_path / "b.extxyz", 0, 0)],
                "split": "random",  # a tenth of three is none
            }
        }
    )
    data = load_data(config, serial(), log := Said(), tmp_path)
    assert data.train.tolist() == [0, 1, 2] and data.validation.tolist() == [3, 4]
    assert not any("no validation set" in line for line in log)
