"""What `mpnnp init` proposes: settings that follow from the data, and that mpnnp itself accepts."""

import jsonschema
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mpnnp.analysis.proposal import config_of, propose, text_of
from mpnnp.config.reading import tomllib
from mpnnp.config.schema import schema
from mpnnp.data.dataset import Dataset
from mpnnp.data.structure import TRAIN, VALIDATION, Structure
from mpnnp.errors import DataError
from mpnnp.model.network import Network
from mpnnp.training.choices import n_label, settle
from mpnnp.training.initial_potential import choose_functions


def dataset(atoms, n=10, forces=True, energy=True, stress=False, marks=()):
    """n copies of ase.Atoms, moved a little, with labels."""
    rng = np.random.default_rng(0)
    structures = []
    for k in range(n):
        structures.append(
            Structure(
                numbers=atoms.numbers,
                positions=atoms.positions + 0.05 * rng.normal(size=atoms.positions.shape),
                cell=atoms.cell.array,
                pbc=atoms.pbc,
                energy=float(rng.normal()) if energy else np.nan,
                forces=rng.normal(size=atoms.positions.shape) if forces else None,
                stress=rng.normal(size=6) if stress else None,
                split=marks[k] if len(marks) else 0,
                source="data.xyz",
                frame=k,
            )
        )
    return Dataset.from_structures(structures)


METAL = bulk("Cu", cubic=True) * (2, 2, 2)
ETHANOL = molecule("CH3CH2OH")
WATER = Atoms(
    "OHHOHH", [[0, 0, 0], [1, 0, 0], [0, 1, 0], [3, 3, 3], [4, 3, 3], [3, 4, 3]], cell=[6, 6, 6], pbc=True
)


def choices_of(data, **said):
    return {c.key: c for c in propose(data, ["data.xyz"], **said)}


def test_the_file_is_what_was_proposed():
    data = dataset(METAL, stress=True)
    choices = propose(data, ["data.xyz"])
    tree = tomllib.loads(text_of(choices, data, "a.toml", []))
    jsonschema.Draft7Validator(schema()).validate(tree)
    chosen = {c.key: c.value for c in choices if c.chosen}
    assert {f"{s}.{k}": v for s, keys in tree.items() for k, v in keys.items()} == chosen
    assert config_of(choices).data.files == ["data.xyz"]


def test_energies_may_be_those_of_validation_alone():
    data = dataset(METAL, marks=[TRAIN] * 9 + [VALIDATION])
    data.energy[:-1] = np.nan
    assert "in each epoch: 864. The forces" in choices_of(data)["schedule.force_fraction"].why


def test_every_choice_has_a_reason():
    for choice in choices_of(dataset(ETHANOL)).values():
        assert len(choice.why) > 20 and choice.why[-1] in ".:"


@pytest.mark.parametrize("atoms", [METAL, ETHANOL, WATER], ids=["metal", "molecule", "water"])
def test_the_number_of_weights_is_that_of_the_nets(atoms):
    data = dataset(atoms)
    choices = propose(data, ["data.xyz"])
    functions = choose_functions(config_of(choices).symmetry_functions, data.elements)
    (nets,) = (c for c in choices if c.key == "network.hidden")
    sizes = [(int(n), *nets.value, 1) for n in np.diff(functions.table.start)]
    n_weight = Network(sizes, [("tanh", "tanh")] * len(sizes)).n_weight
    assert nets.why.startswith(f"{n_weight:,} weights")


@pytest.mark.parametrize("atoms", [METAL, ETHANOL], ids=["metal", "molecule"])
def test_settings_behind_a_number_sign_are_those_that_a_run_chooses(atoms):
    """What the log of the run says, from the same structures."""
    data = dataset(atoms, n=40)
    choices = propose(data, ["data.xyz"])
    config, lines = config_of(choices), []
    training, _ = data.split(config.data.validation_fraction)
    settle(config, n_label(training, np.arange(len(training))), lines.append)
    for choice in choices:
        if choice.key in (
            "schedule.force_fraction",
            "schedule.energy_fraction",
            "run.epochs",
            "run.patience",
        ):
            assert f"{choice.key} = {choice.value:g}" in lines[0] and not choice.chosen
    assert len(lines) == 1


def test_only_water_gets_the_set_for_water():
    assert choices_of(dataset(WATER))["symmetry_functions.set"].value == "water"
    ion = dataset(WATER[:5])
    assert choices_of(ion)["symmetry_functions.set"].value == "default"


def test_marks_of_the_data_are_used():
    marks = [TRAIN] * 7 + [VALIDATION] * 3
    found = choices_of(dataset(METAL, marks=marks))
    assert found["data.split"].value == "auto" and "3 structures" in found["data.split"].why
    assert "data.validation_fraction" not in found


def test_few_structures_leave_a_fifth_for_validation():
    assert choices_of(dataset(ETHANOL, n=30))["data.validation_fraction"].value == 0.2
    assert choices_of(dataset(ETHANOL, n=300))["data.validation_fraction"].value == 0.1


def test_without_forces_none_are_learned():
    found = choices_of(dataset(METAL, forces=False))
    assert found["schedule.forces"].value is False and "schedule.force_fraction" not in found


def test_stresses_are_offered_where_there_are_any():
    assert not choices_of(dataset(METAL, stress=True))["schedule.stress_fraction"].chosen
    assert "schedule.stress_fraction" not in choices_of(dataset(METAL))


def test_data_without_energies_are_an_error():
    with pytest.raises(DataError, match="data.xyz: no structure has an energy"):
        choices_of(dataset(METAL, energy=False))


def test_many_weights_get_a_covariance_in_blocks():
    many = Atoms("HLiBeBCNOF", positions=[[2.0 * k, 0, 0] for k in range(8)])
    assert choices_of(dataset(many))["ekf.coupling"].value == "block:5000"
    assert "ekf.coupling" not in choices_of(dataset(METAL))


def test_names_and_units_that_were_given_are_in_the_file():
    found = choices_of(dataset(METAL), units="Hartree Bohr", energy_key="E", forces_key=None)
    assert found["data.units"].value == "Hartree Bohr" and found["data.energy_key"].value == "E"
    assert "data.forces_key" not in found
