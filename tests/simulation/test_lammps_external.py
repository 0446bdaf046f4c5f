"""mpnnp lammps: LAMMPS with a potential as its fix external, against the calculator, on ranks; errors."""

import numpy as np
import pytest
from oracles.lammps import ENERGY, PRESSURE, make_potentials, make_systems, needs_lammps, read_result, start

from mpnnp.errors import ConfigError
from mpnnp.simulation.lammps_external import FIX, LINES, split

SYSTEMS = make_systems()
PAIR = LINES.replace("    ", "")
SPREAD = 'print "$(f_mpnnp[1]:%.17g) $(f_mpnnp[2]:%.17g) $(f_mpnnp[3]:%.17g)" file spread\n'
LOOP = "variable k loop ${n}\nlabel again\nrun 0 post no\nnext k\njump SELF again\n"  # -var n 2


@pytest.fixture(scope="module")
def potentials(tmp_path_factory):
    needs_lammps()
    return make_potentials(tmp_path_factory.mktemp("potentials"))


def prepare(folder, name, more=""):
    """The input of a system, with the lines of fix external in the place of the pair style."""
    system = SYSTEMS[name]
    system.pair = PAIR
    system.extra, system.columns = "", ()
    (folder / "system.lammps").write_text(system.data())
    (folder / "lammps.in").write_text(system.script("system", {p: "" for p in system.potentials}) + more)
    return system


@pytest.mark.parametrize(
    "n, name", [(1, "two types of an element"), (2, "NULL"), (2, "real units"), (3, "slab"), (2, "committee")]
)
def test_energies_forces_and_pressure_are_those_of_the_calculator(tmp_path, potentials, n, name):
    system = prepare(tmp_path, name, SPREAD + LOOP)
    where = ",".join(str(potentials[0][p]) for p in system.potentials)
    arguments = [where, "-in", "lammps.in", "--elements", " ".join(system.symbols)]
    arguments += ["--", "-var", "n", "2", "-log", "none"]
    _, output = start(n, "mpnnp", "lammps", *arguments, cwd=tmp_path)
    expected = system.expected([potentials[1][p] for p in system.potentials])
    energy, pressure, dump = read_result(tmp_path, "system")
    unit, seen = ENERGY[system.units], system.seen()
    forces, energies = np.zeros((len(system.atoms), 3)), np.zeros(len(system.atoms))
    forces[seen], energies[seen] = expected.results["forces"], expected.results["energies"]
    assert energy == pytest.approx(unit * expected.results["energy"], rel=1e-12)
    np.testing.assert_allclose(dump[:, 5:8], unit * forces, rtol=0, atol=1e-10 * unit * abs(forces).max())
    np.testing.assert_allclose(dump[:, 8], unit * energies, rtol=1e-12)
    virial = -expected.virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    ours = virial * unit * PRESSURE[system.units] / np.linalg.det(system.box)
    np.testing.assert_allclose(pressure, ours, rtol=0, atol=1e-6 * abs(ours).max())
    found = np.array((tmp_path / "spread").read_text().split(), float)
    assert found[0] == expected.extrapolations
    if name == "committee":
        largest = np.linalg.norm(expected.results["forces_std"], axis=1).max()
        np.testing.assert_allclose(found[1:], [expected.results["energy_std"], largest], rtol=1e-8)
        assert f"mpnnp: step 0: {expected.extrapolations} symmetry functions outside" in output
    assert output.count("Setting up Verlet run") == 3  # the loop of the input was run twice


def test_too_many_extrapolations_end_all_ranks_with_one_message(tmp_path, potentials):
    prepare(tmp_path, "committee")
    arguments = [potentials[0]["one"], "-in", "lammps.in", "--max-extrapolations", "3"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    status, output = start(2, "mpnnp", "lammps", *arguments, cwd=tmp_path, check=False, TMPDIR=str(temporary))
    assert status == 1
    assert not list(temporary.glob("mpnnp-lammps-*"))
    assert output.count("mpnnp: error: ") == 1 and "more than max_extrapolations = 3" in output, output


def test_types_without_elements_are_refused(tmp_path, potentials):
    prepare(tmp_path, "two types of an element")
    arguments = [potentials[0]["one"], "-in", "lammps.in"]
    status, output = start(2, "mpnnp", "lammps", *arguments, cwd=tmp_path, check=False)
    assert status == 2 and output.count("mpnnp: error: ") == 1
    assert (
        "the input has 3 atom types, and there are 2 elements (H O): say the element of each type" in output
    )


def test_a_potential_that_would_see_no_atom_is_refused(tmp_path, potentials):
    prepare(tmp_path, "two types of an element")
    arguments = [potentials[0]["one"], "-in", "lammps.in", "--elements", "NULL NULL NULL"]
    status, output = start(1, "mpnnp", "lammps", *arguments, cwd=tmp_path, check=False)
    assert status == 2 and "--elements: no type has an element of the potential (H O)" in output, output


def test_an_error_of_lammps_ends_all_ranks(tmp_path, potentials):
    prepare(tmp_path, "cubic", "rnu 10\n")
    arguments = [potentials[0]["one"], "-in", "lammps.in"]
    status, output = start(2, "mpnnp", "lammps", *arguments, cwd=tmp_path, check=False)
    assert status == 2 and "Unknown command: rnu 10" in output and "Traceback" not in output, output
    assert output.count("mpnnp: error: ") == 1


def test_an_input_is_cut_after_the_fix(tmp_path):
    script = tmp_path / "lammps.in"
    script.write_text("units metal\n  fix  f1 all   external pf/callback 1 1  # here\nrun 0\n")
    assert split(script) == (
        "units metal\n  fix  f1 all   external pf/callback 1 1  # here\n",
        "f1",
        "run 0\n",
    )
    assert FIX.search(LINES).group(1) == "mpnnp"
    script.write_text("# fix f1 all external pf/callback 1 1\nrun 0\n")
    with pytest.raises(ConfigError, match="lammps.in: has no fix for mpnnp; write, before the first run"):
        split(script)
    script.write_text("fix f1 mobile external pf/callback 1 1\n")
    with pytest.raises(ConfigError, match="fix f1 acts on group mobile; the potential needs all atoms"):
        split(script)
    with pytest.raises(ConfigError, match="nowhere.in: cannot be read"):
        split(tmp_path / "nowhere.in")
