"""The ML_AB of VASP, after its documentation (https://vasp.at/wiki/ML_AB)."""

import gzip

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from vasp import LINE, STARS
from vasp import ml_ab as text_of

from mpnnp.data.formats import read_sources
from mpnnp.data.plausibility import doubts
from mpnnp.errors import DataError


def frames(n=3):
    found = []
    for k in range(n):
        rng = np.random.default_rng(k)
        atoms = Atoms("OHH", rng.uniform(0, 4, (3, 3)), cell=[[4, 0, 0], [1, 5, 0], [0.5, 0, 6]], pbc=True)
        forces, stress = rng.normal(size=(3, 3)), rng.normal(size=6) / 100
        atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(-14), forces=forces, stress=stress)
        found.append(atoms)
    return found


def read(path):
    lines = []
    return read_sources(path, report=lines.append), "\n".join(lines)


@pytest.mark.parametrize("name", ["ML_AB", "ML_ABN", "renamed.txt", "ML_AB.gz"])
def test_an_ml_ab_is_read_with_its_labels(tmp_path, name):
    text = text_of(frames())
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    data, said = read(tmp_path / name)
    assert len(data) == 3
    assert "warning" not in said
    for s, atoms in zip((data[k] for k in range(3)), frames()):
        np.testing.assert_array_equal(s.numbers, atoms.numbers)
        assert s.pbc.all()
        np.testing.assert_allclose(s.positions, atoms.positions, rtol=1e-14)
        np.testing.assert_allclose(s.cell, atoms.cell.array, rtol=1e-14)
        np.testing.assert_allclose(s.energy, atoms.get_potential_energy(), rtol=1e-12)
        np.testing.assert_allclose(s.forces, atoms.get_forces(), rtol=1e-13)
        np.testing.assert_allclose(s.stress, atoms.get_stress(), rtol=1e-6)


def test_the_stress_of_an_ml_ab_has_the_sign_that_the_energies_ask_for(tmp_path):
    compressed = []
    for scale in np.linspace(0.94, 1.04, 10):
        atoms = bulk("Cu", a=3.6 * scale, cubic=True)
        atoms.calc = EMT()
        compressed.append(atoms)
    (tmp_path / "ML_AB").write_text(text_of(compressed))
    data, _ = read(tmp_path / "ML_AB")
    volume, pressure = np.abs(np.linalg.det(data.cell)), -data.stress[:, :3].mean(axis=1)
    change = -np.gradient(data.energy, volume)
    np.testing.assert_allclose(pressure[2:-2], change[2:-2], atol=0.1 * np.abs(change).max())
    assert not [f for f in doubts(data) if "wrong sign" in str(f)]


@pytest.mark.parametrize("name", ["", "The number of atoms"])
def test_names_of_systems_and_missing_ctifor_do_not_confuse(tmp_path, name):
    (tmp_path / "ML_AB").write_text(text_of(frames(), name=name, more="").replace("\n", "\r\n"))
    data, _ = read(tmp_path / "ML_AB")
    np.testing.assert_allclose(data.energy, [a.get_potential_energy() for a in frames()], rtol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("     O       1", "     Ow      1", r"line \d+: 'Ow' is not the symbol of an element"),
        ("     O       1", "     O", r"line \d+: expected an element and its number of atoms, found 'O'"),
        (
            "     H       2",
            "     H       3",
            r"line \d+: 'Atomic positions \(ang.\)' has 3 lines, must have 4",
        ),
        ("Forces (eV ang.^-1)", "Forces (Ry/Bohr)", r"no block 'Forces \(eV ang\.\^-1\)'"),
        (
            "Total energy (eV)\n" + LINE,
            "Total energy (eV)\n" + LINE + "\n nan",
            "'Total energy .* has 2 lines",
        ),
    ],
)
def test_what_is_wrong_in_an_ml_ab_is_told_with_its_line(tmp_path, old, new, message):
    text = text_of(frames())
    assert old in text
    (tmp_path / "ML_AB").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=rf"ML_AB, .*{message}"):
        read(tmp_path / "ML_AB")


def test_numbers_that_are_not_finite_are_told_with_their_line(tmp_path):
    lines = text_of(frames()).splitlines()
    at = next(k for k, line in enumerate(lines) if "Forces" in line) + 3
    lines[at] = " 0.1 NaN 0.3"
    (tmp_path / "ML_AB").write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=rf"ML_AB, line {at + 1}: 'Forces .*3 finite numbers, found '0.1 NaN 0.3'"
    ):
        read(tmp_path / "ML_AB")


def test_an_ml_ab_that_was_cut_is_told(tmp_path):
    text = text_of(frames())
    (tmp_path / "ML_AB").write_text(text[: text.rindex("Stress")])
    with pytest.raises(
        DataError, match=r"ML_AB, line \d+: the configuration that begins here has no block 'XX"
    ):
        read(tmp_path / "ML_AB")
    (tmp_path / "ML_AB").write_text(text[: text.rindex(f"{STARS}\n     Configuration")])
    data, said = read(tmp_path / "ML_AB")
    assert len(data) == 2
    assert "has 2 configurations, but its header announces 3" in said


def test_of_the_folder_of_a_training_run_of_vasp_the_new_ml_abn_is_read(tmp_path):
    (tmp_path / "ML_AB").write_text(text_of(frames(2)))
    (tmp_path / "ML_ABN").write_text(text_of(frames(3)))
    (tmp_path / "XDATCAR").write_text("not looked into")
    data, said = read(tmp_path)
    assert len(data) == 3
    assert "XDATCAR: is not read, as ML_ABN tells of the same calculation" in said
