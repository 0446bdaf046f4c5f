"""Structures, data sets, their HDF5 file, and replacing files in one step."""

import errno

import h5py
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from mpnnp.data import dataset_file
from mpnnp.data.dataset import ARRAYS, OTHER_NAMES, Dataset, concatenate, read, why_no_validation, write
from mpnnp.data.structure import Structure
from mpnnp.errors import DataError
from mpnnp.files import write_atomically


def make_structure(n_atom, seed=0, **changes):
    rng = np.random.default_rng(1000 * seed + n_atom)
    values = {
        "numbers": rng.choice([1, 8], n_atom),
        "positions": rng.uniform(-3, 12, (n_atom, 3)),
        "cell": 9 * np.eye(3) + rng.normal(size=(3, 3)),
        "pbc": True,
        "energy": -3.7 * n_atom,
        "forces": rng.normal(size=(n_atom, 3)),
        "stress": rng.normal(size=6),
        "split": n_atom % 3,
        "source": f"{'abc'[n_atom % 3]}.xyz",
        "frame": n_atom,
    }
    return Structure(**(values | changes))


@pytest.fixture
def dataset():
    unlabelled = Structure(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 1]], source="a.xyz")
    partly = make_structure(3, forces=[[1, 2, 3], [np.nan] * 3, [4, 5, 6]], stress=None)
    return Dataset.from_structures([*(make_structure(n) for n in (4, 1, 7)), unlabelled, partly])


def assert_equal(a, b):
    assert a.source_names == b.source_names
    for name, (dtype, _, _) in ARRAYS.items():
        assert getattr(a, name).dtype == dtype
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numbers": [], "positions": np.zeros((0, 3)), "forces": None}, "has no atoms"),
        ({"numbers": [1, 0]}, "atom 1 has no known element (atomic number 0)"),
        ({"numbers": [119, 1]}, "atom 0 has no known element (atomic number 119)"),
        ({"positions": [[0, 0, 0], [0, np.nan, 0]]}, "position of atom 1 is not finite"),
        ({"positions": np.zeros((2, 2))}, "positions has shape (2, 2), must be (2, 3)"),
        ({"cell": np.zeros((3, 3))}, "is periodic (pbc T T T) but its cell has no volume"),
        ({"cell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "cell has no volume"),
        ({"cell": np.full((3, 3), np.inf)}, "cell is not finite"),
        ({"energy": np.inf}, "energy is infinite"),
        ({"energy": -1e300}, "energy is 1e+300, must not be beyond 1e+12"),
        ({"forces": [[0, 0, 0], [0, 1e200, 0]]}, "force is 1e+200, must not be beyond"),
        ({"positions": [[0, 0, 0], [0, 1e13, 0]]}, "position is 1e+13, must not be beyond"),
        ({"forces": [[0, 0, 0], [0, np.nan, 0]]}, "force on atom 1 is not finite"),
        ({"forces": [[0, np.inf, 0], [0, 0, 0]]}, "force on atom 0 is not finite"),
        ({"stress": [0, 0, 0, np.nan, 0, 0]}, "stress is not finite"),
        ({"split": 3}, "split is 3, must be 0 (none), 1 (train) or 2 (validation)"),
    ],
)
def test_a_wrong_structure_is_an_error_naming_source_and_frame(changes, message):
    with pytest.raises(DataError) as error:
        make_structure(2, source="some.xyz", frame=5, **changes)
    assert str(error.value).startswith("some.xyz, frame 5: ")
    assert message in str(error.value)


def test_a_slab_needs_only_its_periodic_vectors():
    slab = make_structure(2, cell=[[5, 0, 0], [1, 5, 0], [0, 0, 0]], pbc=[True, True, False])
    assert slab.pbc.tolist() == [True, True, False]


def test_structures_come_back_from_the_flat_arrays(dataset):
    for k, n_atom in enumerate((4, 1, 7, 2, 3)):
        assert len(dataset[k]) == n_atom
        assert dataset.n_atom[k] == n_atom
    s, t = make_structure(7), dataset[2]
    for name in "numbers positions cell pbc energy forces stress split source frame".split():
        np.testing.assert_array_equal(getattr(s, name), getattr(t, name), err_msg=name)
    assert np.isnan(dataset[3].energy)
    assert np.isnan(dataset[3].forces).all()
    assert not dataset[3].pbc.any()
    assert dataset[-1].frame == 3
    assert dataset.elements == (1, 8)
    assert [s.frame for s in dataset] == [4, 1, 7, 0, 3]
    with pytest.raises(IndexError):
        dataset[5]


def test_take_selects_by_indices_and_masks_in_order(dataset):
    taken = dataset.take([3, -1, 0, 0])
    assert taken.n_atom.tolist() == [2, 3, 4, 4]
    np.testing.assert_array_equal(taken[1].positions, dataset[4].positions)
    assert taken[0].source == dataset[3].source
    mask = np.isfinite(dataset.energy)
    assert len(dataset.take(mask)) == 4
    assert len(dataset.take([])) == 0
    with pytest.raises(IndexError):
        dataset.take([5])


def test_concatenation_is_the_same_as_building_at_once(dataset):
    parts = [dataset.take([0, 1]), dataset.take([]), dataset.take([2, 3, 4])]
    whole = concatenate(parts)
    assert whole.hash() == dataset.hash()
    assert [whole.name(k) for k in range(5)] == [dataset.name(k) for k in range(5)]


@pytest.mark.parametrize("map", [False, True])
def test_the_file_gives_back_every_value(tmp_path, dataset, map):
    write(tmp_path / "d.h5", dataset)
    assert_equal(read(tmp_path / "d.h5", map=map), dataset)
    write(tmp_path / "none.h5", dataset.take([]))
    assert len(read(tmp_path / "none.h5", map=map)) == 0


def test_mapped_arrays_are_read_only_aligned_views_of_the_file(tmp_path, dataset):
    write(tmp_path / "d.h5", dataset)
    mapped = read(tmp_path / "d.h5", map=True)
    for name in ARRAYS:
        array = getattr(mapped, name)
        assert isinstance(array.base, np.memmap)
        assert array.flags.aligned
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    assert mapped.hash() == dataset.hash()
    with pytest.raises(ValueError, match="read-only"):
        mapped.positions[0] = 0


def test_the_file_says_what_it_is(tmp_path, dataset):
    write(tmp_path / "d.h5", dataset)
    with h5py.File(tmp_path / "d.h5") as file:
        assert file.attrs["kind"] == "mpnnp dataset"
        assert file.attrs["format_version"] == 1
        assert file.attrs["hash"] == dataset.hash()
        assert file["forces"].attrs["units"] == "eV/Angstrom"
        assert file["stress"].attrs["units"] == "eV/Angstrom^3"
        for name in ARRAYS:
            stored = file[OTHER_NAMES.get(name, name)]
            assert stored.chunks is None
            assert stored.compression is None


def test_the_hash_depends_on_content_and_not_on_the_origin(dataset):
    structures = list(dataset)
    renamed = [Structure(**(vars(s) | {"source": "other.xyz", "frame": 0})) for s in structures]
    assert Dataset.from_structures(renamed).hash() == dataset.hash()
    for change in (
        {"energy": 1.0},
        {"forces": None},
        {"split": 2},
        {"pbc": [True, True, False]},
        {"positions": structures[0].positions + 1e-14},
    ):
        changed = [Structure(**(vars(structures[0]) | change)), *structures[1:]]
        assert Dataset.from_structures(changed).hash() != dataset.hash(), change
    assert dataset.take([1, 0, 2, 3, 4]).hash() != dataset.hash()


def test_the_hash_does_not_see_the_bits_of_nan_and_zero():
    plain = make_structure(1, energy=np.nan, stress=None, forces=[[0.0, 0.0, 0.0]])
    other = make_structure(1, energy=-np.nan, stress=np.full(6, -np.nan), forces=[[-0.0, 0.0, 0.0]])
    assert Dataset.from_structures([plain]).hash() == Dataset.from_structures([other]).hash()


def test_the_hash_is_the_same_as_ever():
    water = Structure(numbers=[8, 1, 1], positions=[[0, 0, 0], [0, 0.75, 0.5], [0, -0.75, 0.5]], energy=-1.5)
    # computed once with this code: a change breaks the files of users
    assert (
        Dataset.from_structures([water]).hash()
        == "e0593a5f0288df724e0a918a9e4149ea27133f3edbe5ad68772686f2f8ebd2e0"
    )


def damage(path, function):
    with h5py.File(path, "r+") as file:
        function(file)


def replace(name, change):
    def function(file):
        array = change(file[name][()])
        del file[name]
        file[name] = array

    return function


def set_to(name, index, value):
    def function(file):
        file[name][index] = value

    return function


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda f: f.attrs.modify("kind", "something"), "not a data set of mpnnp (kind 'something'"),
        (lambda f: f.attrs.pop("kind"), "not a data set of mpnnp (kind None"),
        (lambda f: f.attrs.modify("format_version", 2), "has format version 2, this mpnnp reads 1 to 1"),
        (lambda f: f.attrs.create("format_version", "new"), "has format version new"),
        (lambda f: f.attrs.pop("hash"), "attribute hash is missing"),
        (lambda f: f.pop("forces"), "array forces is missing"),
        (replace("energy", lambda a: a[:-1]), "array energy has shape (4,), must be (5,)"),
        (replace("forces", lambda a: a[:-1]), "array forces has shape (16, 3), must be (17, 3)"),
        (
            replace("cell", lambda a: a.reshape(5, 9)),
            "array cell is float64 (5, 9), must be float64 with 3 axes",
        ),
        (
            replace("positions", lambda a: a.astype(np.float32)),
            "array positions is float32 (17, 3), must be float64",
        ),
        (set_to("start", 0, 1), "offsets start must begin with 0 and increase"),
        (set_to("start", 2, 4), "offsets start must begin with 0 and increase"),
        (set_to("source", 0, 9), "array source must lie in 0 to 1"),
        (
            set_to("positions", (5, 1), np.nan),
            "structure 2 (b.xyz, frame 7): position of atom 0 is not finite",
        ),
        (set_to("numbers", 0, 0), "structure 0: b.xyz, frame 4: atom 0 has no known element"),
        (set_to("energy", 0, 1.0), "content does not match its hash"),
    ],
)
def test_a_damaged_file_is_an_error_naming_the_file(tmp_path, dataset, function, message):
    path = tmp_path / "d.h5"
    write(path, dataset)
    damage(path, function)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize("map", [False, True])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "..."), "Permission denied"),
        (OSError("Can't read data (file read failed: errno = 5, error message = 'x')"), "Input/output error"),
        (OSError("Unable to open file (errno = 116, error message = 'x')"), "Stale file handle"),
        (MemoryError("Unable to allocate 9 GiB"), "not enough memory"),
    ],
)
def test_a_file_that_the_system_does_not_let_be_read_is_not_called_damaged(
    tmp_path, dataset, monkeypatch, error, told, map
):
    path = tmp_path / "d.h5"
    write(path, dataset)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(dataset_file.h5py, "File", refuse)
    with pytest.raises(DataError) as caught:
        read(path, map=map)
    assert str(caught.value) == f"{path}: cannot be read: {told}"


def test_a_mapped_file_is_verified_only_if_asked(tmp_path, dataset):
    path = tmp_path / "d.h5"
    write(path, dataset)
    damage(path, set_to("energy", 0, 1.0))
    assert read(path, map=True).energy[0] == 1.0
    with pytest.raises(DataError, match="does not match its hash"):
        read(path, map=True, verify=True)


@pytest.mark.parametrize("map", [False, True])
@pytest.mark.parametrize("size", [0, 10, 600, 3000, -1])
def test_a_truncated_file_is_an_error(tmp_path, dataset, size, map):
    path = tmp_path / "d.h5"
    write(path, dataset)
    content = path.read_bytes()
    path.write_bytes(content[:size])
    with pytest.raises(DataError) as error:
        read(path, map=map)
    assert f"{path}: cannot be read as a data set of mpnnp" in str(error.value)
    assert "truncated" in str(error.value)


def test_missing_files_and_text_files_are_errors(tmp_path, dataset):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.h5")
    with pytest.raises(DataError, match="is not a file"):
        read(tmp_path)
    (tmp_path / "text.h5").write_text("begin\nend\n")
    with pytest.raises(DataError, match="not an HDF5 file"):
        read(tmp_path / "text.h5")
    with pytest.raises(DataError, match="none/d.h5: cannot be written: its folder does not exist"):
        write(tmp_path / "none" / "d.h5", dataset)


def test_writing_that_fails_leaves_the_old_file_and_no_other(tmp_path, dataset, monkeypatch):
    path = tmp_path / "d.h5"
    write(path, dataset)
    before = path.read_bytes()
    monkeypatch.setattr(dataset_file, "FORMAT_VERSION", object())  # h5py cannot store it
    with pytest.raises(TypeError):
        write(path, dataset)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["d.h5"]


def test_write_atomically_replaces_only_when_the_body_succeeds(tmp_path):
    path = tmp_path / "x.txt"
    with write_atomically(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(KeyError), write_atomically(path) as temporary:
        temporary.write_text("two")
        raise KeyError
    with pytest.raises(FileNotFoundError), write_atomically(path):
        pass  # nothing was written
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_write_atomically_follows_a_symbolic_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with write_atomically(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_an_empty_validation_set_has_a_reason():
    def data(*marks):
        return Dataset.from_structures(
            [Structure(numbers=[1], positions=[[0.0, 0.0, float(k)]], split=m) for k, m in enumerate(marks)]
        )

    assert why_no_validation(data(*10 * [0]), 0.1) == ""
    assert why_no_validation(data(1, 1, 2), 0.1) == ""
    assert why_no_validation(data(1, 1, 1), 0.0) == ""  # nobody asked for one
    assert "mark all structures as training and none as validation" in why_no_validation(data(1, 1), 0.1)
    assert "mark 2 of 3 structures as training" in why_no_validation(data(1, 1, 0), 0.1)
    assert "the other one is trained on too" in why_no_validation(data(1, 1, 0), 0.1)
    assert why_no_validation(data(*10 * [1]), 0.1, "random") == ""
    assert "0.1 of 4 structures is less than half a structure" in why_no_validation(data(0, 0, 0, 0), 0.1)
    for marks in ((1, 1), (1, 1, 0), (0, 0, 0, 0)):
        assert len(data(*marks).split(0.1)[1]) == 0


def test_the_geometry_of_ase_atoms_is_taken_without_labels():
    atoms = molecule("H2O", cell=[5.0, 6.0, 7.0], pbc=(True, True, False))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((3, 3)))
    found = Structure.from_atoms(atoms, source="a", frame=2)
    for name in ("numbers", "positions", "cell", "pbc"):
        np.testing.assert_array_equal(getattr(found, name), getattr(atoms, name))
    assert np.isnan(found.energy) and np.isnan(found.forces).all() and found.name == "a, frame 2"


def test_isolated_atoms_are_single_far_from_images_and_beside_others():
    atom = {"numbers": [29], "positions": [[0, 0, 0]], "energy": -1.0}
    alone, crowded, unlabelled = (
        Structure(**atom),
        Structure(**atom, cell=np.eye(3) * 7.9, pbc=True),
        Structure(**(atom | {"energy": np.nan})),
    )
    both = Dataset.from_structures([alone, crowded, unlabelled, make_structure(4)])
    assert both.is_isolated.tolist() == [True, False, False, False]
    assert not Dataset.from_structures([alone, alone]).is_isolated.any()  # no references of anything
