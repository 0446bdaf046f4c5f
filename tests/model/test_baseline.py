"""Baselines: derivatives, ends of the switch, LAMMPS as oracle, labels without them, words for files."""

import subprocess

import numpy as np
import pytest
from launch import find_program

from mpnnp.data.dataset import Dataset
from mpnnp.data.structure import Structure
from mpnnp.errors import ConfigError, DataError
from mpnnp.model.baseline import NONE, Baseline, Dispersion, Zbl, parse_baseline
from mpnnp.units import BOHR

ZBL = Zbl(0.8, 1.6)
PERIODICITIES = [False, True, (True, False, True), (False, False, True)]


def needs_d3():
    pytest.importorskip("dftd3", reason="needs the package dftd3")


def crowd(seed=0, pbc=True):
    rng = np.random.default_rng(seed)
    grid = np.array([[x, y, z] for x in range(3) for y in range(3) for z in range(2)]) * 1.1
    return Structure(
        numbers=rng.choice([1, 8, 29], len(grid)),
        positions=grid + rng.normal(scale=0.15, size=grid.shape),
        cell=np.diag([3.3, 3.3, 2.4]) + rng.normal(scale=0.05, size=(3, 3)),
        pbc=pbc,
        energy=-1.0,
        forces=rng.normal(size=grid.shape),
        stress=rng.normal(size=6),
    )


def moved(s, **changes):
    return Structure(**(vars(s) | changes))


@pytest.mark.parametrize("pbc", PERIODICITIES)
@pytest.mark.parametrize("term", [ZBL, Dispersion("pbe"), Dispersion("b3lyp", "zero")], ids=str)
def test_forces_are_the_slope_of_the_energy(term, pbc):
    if term is not ZBL:
        needs_d3()
    s, h = crowd(pbc=pbc), 1e-5
    found = term.of(s)
    assert np.abs(found.forces).max() > (1.0 if term is ZBL else 0.01)
    assert found.energies.sum() == pytest.approx(found.energy, rel=1e-12)
    for atom, axis in ((0, 0), (5, 1), (17, 2)):
        step = np.zeros_like(s.positions)
        step[atom, axis] = h
        up, down = (term.of(moved(s, positions=s.positions + sign * step)).energy for sign in (1, -1))
        # that of dispersion in a periodic cell ends at 60 Bohr
        near = 1e-7 if term is ZBL else 1e-4
        assert found.forces[atom, axis] == pytest.approx(-(up - down) / (2 * h), rel=1e-6, abs=near)
    np.testing.assert_allclose(found.forces.sum(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize("pbc", PERIODICITIES)
def test_atoms_may_be_anywhere_in_the_cell(pbc):
    """Images, and molecules far from the origin, are found all the same."""
    s = crowd(pbc=pbc)
    shift = np.array([3000, -7, 901]) * s.pbc @ s.cell + np.array([5e4, 0, 3e4]) * ~s.pbc
    found, there = ZBL.of(s), ZBL.of(moved(s, positions=s.positions + shift))
    assert there.energy == pytest.approx(found.energy, rel=1e-9)


def test_two_atoms_at_one_place_are_named():
    with pytest.raises(DataError, match="atoms 0 and 1 are at the same place"):
        ZBL.of(Structure(numbers=[1, 1], positions=np.zeros((2, 3))))


def test_dispersion_is_that_of_two_argon_atoms():
    """C6 of argon in PBE-D3(BJ) is 64.646 Hartree Bohr^6: E = -C6/r^6 far away."""
    needs_d3()
    r = 18.0
    found = Dispersion("pbe").of(Structure(numbers=[18, 18], positions=[[0, 0, 0], [0, 0, r]]))
    assert found.energy * (r / BOHR) ** 6 / 27.211386 == pytest.approx(-64.6462, rel=0.03)


def test_the_virial_is_the_slope_by_the_strain():
    s, h = crowd(), 1e-6
    virial = ZBL.of(s).virial
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * h
                energies.append(ZBL.of(moved(s, positions=s.positions @ strain, cell=s.cell @ strain)).energy)
            assert virial[a, b] == pytest.approx((energies[0] - energies[1]) / (2 * h), rel=1e-5, abs=1e-5)


def test_it_ends_smoothly_and_repels_everywhere_before():
    r = np.linspace(0.05, 1.6, 400)[:-1]
    for pair in ((1, 1), (1, 8), (29, 29)):
        e, slope = ZBL.pair(np.full_like(r, pair[0]), np.full_like(r, pair[1]), r)
        assert (e > 0).all() and (slope < 0).all()
        # energy and two derivatives end at 0: the slope falls as the square of the distance from there
        ends = ZBL.pair([pair[0]] * 3, [pair[1]] * 3, np.array([1.6 - 1e-3, 1.6 - 1e-4, 1.6]))
        assert ends[0][2] == ends[1][2] == 0
        assert abs(ends[1][1] / ends[1][0]) < 0.012 and abs(ends[0][1] / ends[0][0]) < 0.0012


def test_lammps_computes_the_same(tmp_path):
    program = find_program("lmp")
    if not program:
        pytest.skip("needs lmp: install mpnnp[lammps]")
    s, kinds = crowd(pbc=False), [1, 8, 29]
    low, high = s.positions.min() - 5, s.positions.max() + 5
    lines = ["units metal", "atom_style atomic", "boundary f f f", "atom_modify map array sort 0 0"]
    lines += [f"region all block {low} {high} {low} {high} {low} {high}", "create_box 3 all"]
    for z, x in zip(s.numbers, s.positions.tolist()):
        lines.append("create_atoms {} single {} {} {}".format(kinds.index(z) + 1, *x))
    style, coefficients = ZBL.lammps_pairs(["H", "O", "Cu"])
    lines += ["mass * 1.0", f"pair_style hybrid/overlay zero 2.0 {style}", "pair_coeff * * zero"]
    lines += [f"pair_coeff {words}" for words in coefficients]
    lines += ["dump f all custom 1 f.dump id fx fy fz", "dump_modify f sort id format float %.12g"]
    lines += ["variable e equal pe", "run 0", 'print "energy $(v_e:%.12f)"']
    (tmp_path / "in.lammps").write_text("\n".join(lines) + "\n")
    command = [program, "-in", "in.lammps", "-log", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if "Unrecognized pair style" in done.stdout + done.stderr or "shared object" in done.stderr:
        pytest.skip("this lmp does not start, or has no pair_style zbl")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    energy = float(next(x for x in done.stdout.splitlines() if x.startswith("energy ")).split()[1])
    forces = np.array([x.split()[1:] for x in (tmp_path / "f.dump").read_text().splitlines()[9:]], float)
    found = ZBL.of(s)
    assert energy == pytest.approx(found.energy, rel=1e-6)
    np.testing.assert_allclose(forces, found.forces, rtol=1e-5, atol=1e-6)


def test_what_is_subtracted_is_what_is_added_again():
    data = Dataset.from_structures([crowd(0), crowd(1, pbc=False)])
    left = Baseline((ZBL,)).subtract(data)
    for k in range(2):
        s, found = data[k], ZBL.of(data[k])
        assert left.energy[k] + found.energy == pytest.approx(s.energy)
        np.testing.assert_allclose(left[k].forces + found.forces, s.forces, atol=1e-12)
    assert (left.stress[1] == data.stress[1]).all() and (left.stress[0] != data.stress[0]).any()
    far = Dataset.from_structures([Structure(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 2]], energy=1.0)])
    assert Baseline((ZBL,)).subtract(far).hash() == far.hash()
    assert NONE.subtract(data) is data


def test_what_is_written_is_read_again():
    both = Baseline((Zbl(0.1 + 0.2, 1.1), Dispersion("pbe", "zero")))
    assert parse_baseline(str(both)) == both and str(both) == "zbl 0.30000000000000004 1.1; d3 pbe zero"
    assert parse_baseline("") == NONE and not NONE


@pytest.mark.parametrize(
    "text, part",
    [
        ("zbl 1.0", "expected 'zbl INNER OUTER'"),
        ("zbl a b", "expected 'zbl INNER OUTER'"),
        ("morse 1 2", "expected 'zbl INNER OUTER'"),
        ("d3 pbe none", "must be one of bj, zero"),
        ("zbl 2 1", "0 < inner < outer"),
        ("zbl nan 1", "0 < inner < outer"),
    ],
)
def test_other_words_are_refused(text, part):
    with pytest.raises(ConfigError, match=part):
        parse_baseline(text)


def test_a_functional_without_parameters_is_refused():
    needs_d3()
    with pytest.raises(ConfigError, match="baseline.d3 = 'nonsense'"):
        Dispersion("nonsense").of(crowd())


def test_wrong_ranges_are_refused():
    for inner, outer in ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ConfigError, match="0 < inner < outer"):
            Zbl(inner, outer)
