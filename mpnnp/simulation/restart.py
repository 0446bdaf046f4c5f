"""restart.h5: all that the next step of a simulation depends on, bit for bit."""

import hashlib
import json
from dataclasses import dataclass

import h5py
import numpy as np
from ase.data import chemical_symbols
from ase.io.jsonio import encode

from mpnnp.errors import CheckpointError, DamagedError
from mpnnp.files import check_seal, number_array, write_sealed
from mpnnp.progress import counted

KIND, FORMAT_VERSION = "mpnnp simulation", 1


@dataclass
class Reached:
    """What the next step of a simulation depends on, beside atoms, integrator and random numbers.

    step           steps done
    first_volume   Angstrom^3, of the start
    hottest        K; a system that is hotter has exploded; None in files of earlier versions
    sizes          name of a file -> bytes of it that belong to the steps done
    extrapolations, in_rows  of all evaluations so far, and of those that rows of md.csv tell
    """

    step: int
    first_volume: float
    hottest: float | None
    sizes: dict[str, int]
    extrapolations: int = 0
    in_rows: int = 0


@dataclass(frozen=True)
class Restart:
    """Contents of restart.h5."""

    reached: Reached
    positions: np.ndarray  # Angstrom
    momenta: np.ndarray  # ASE's units
    cell: np.ndarray
    integrator: dict  # path of an attribute -> number or array
    rng: dict
    # None in files of earlier versions:
    numbers: np.ndarray | None = None  # atomic numbers
    pbc: np.ndarray | None = None
    potential: str | None = None  # its digest; "" of calculators that have none
    masses: np.ndarray | None = None  # u
    constraints: str | None = None  # their digest_of_constraints

    def check(self, path, atoms, potential):
        """Raise CheckpointError if this file `path` is of other atoms, or of another potential (digest)."""
        if len(atoms) != len(self.positions):
            raise CheckpointError(
                f"{path}: is of {counted(len(self.positions), 'atom')}, the structure has {len(atoms)}"
            )
        if self.numbers is not None and (other := np.flatnonzero(self.numbers != atoms.numbers)).size:
            was, now = (chemical_symbols[int(z[other[0]])] for z in (self.numbers, atoms.numbers))
            raise CheckpointError(
                f"{path}: is of other atoms, or of these in another order: atom {other[0]} was {was}, in the "
                f"structure it is {now}; give the structure that the simulation was started from"
            )
        if self.pbc is not None and (self.pbc != atoms.pbc).any():
            was, now = (" ".join("FT"[int(p)] for p in pbc) for pbc in (self.pbc, atoms.pbc))
            raise CheckpointError(f"{path}: was periodic in the directions {was}, the structure is in {now}")
        if self.masses is not None and (other := np.flatnonzero(self.masses != atoms.get_masses())).size:
            raise CheckpointError(
                f"{path}: is of atoms of other masses: atom {other[0]} had {self.masses[other[0]]:g}, in the "
                f"structure it has {atoms.get_masses()[other[0]]:g}; give the structure that the simulation "
                "was started from"
            )
        if self.constraints is not None and self.constraints != digest_of_constraints(atoms):
            raise CheckpointError(
                f"{path}: other atoms were held fast, or in another way, than in the structure; give the one "
                "that the simulation was started from"
            )
        if self.potential and potential and self.potential != potential:
            raise CheckpointError(
                f"{path}: was written with another potential, or this one has been trained since: give the "
                "one that the simulation was started with, or start a new one from the frame that was reached"
            )

    def set_atoms(self, atoms):
        """Move the atoms to where they were, also those that are held fast: a barostat moves them too."""
        atoms.set_cell(self.cell)
        atoms.set_positions(self.positions, apply_constraint=False)
        atoms.set_momenta(self.momenta, apply_constraint=False)

    def set_integrator(self, integrator, rng):
        for path, value in self.integrator.items():
            *owners, name = path.split(".")
            target = integrator.dynamics
            for owner in owners:
                target = getattr(target, owner)
            setattr(target, name, np.array(value) if np.ndim(value) else type(getattr(target, name))(value))
        rng.bit_generator.state = self.rng


def digest_of_constraints(atoms):
    """A hash of the constraints of ASE on these atoms, "" without any."""
    told = [c.todict() if hasattr(c, "todict") else type(c).__name__ for c in atoms.constraints]
    return hashlib.sha256(encode(told).encode()).hexdigest() if told else ""


def numbers_of(thing, path=""):
    """Numbers and arrays among the attributes of an integrator of ASE and of its parts:
    attribute path -> value.
    """
    found = {}
    for name, value in vars(thing).items():
        if isinstance(value, (float, np.floating)) or (
            isinstance(value, np.ndarray) and value.dtype.kind == "f"
        ):
            found[path + name] = value
        elif type(value).__module__.startswith("ase.md."):
            found |= numbers_of(value, f"{path}{name}.")
    return found


def write_restart(path, atoms, integrator, rng, reached, potential=""):
    with write_sealed(path) as file:
        file.attrs["kind"], file.attrs["format_version"] = KIND, FORMAT_VERSION
        file.attrs["rng"] = json.dumps(rng.bit_generator.state)
        file.attrs["step"], file.attrs["first_volume"] = reached.step, reached.first_volume
        file.attrs["hottest"] = reached.hottest
        file.attrs["extrapolations"] = reached.extrapolations, reached.in_rows
        file["positions"], file["momenta"], file["cell"] = (
            atoms.get_positions(),
            atoms.get_momenta(),
            np.array(atoms.cell),
        )
        file["numbers"], file["pbc"], file["masses"] = atoms.numbers, atoms.pbc, atoms.get_masses()
        file.attrs["constraints"] = digest_of_constraints(atoms)
        file.attrs["potential"] = potential
        file.create_group("sizes").attrs.update(reached.sizes)
        for name, value in numbers_of(integrator.dynamics).items():
            file[f"integrator/{name}"] = value


def read_restart(path):
    """Restart of a file. Raises CheckpointError."""
    try:
        if not check_seal(path):
            raise ValueError("it is not a restart file of mpnnp")
        with h5py.File(path, "r") as file:
            if file.attrs["kind"] != KIND or file.attrs["format_version"] != FORMAT_VERSION:
                raise CheckpointError(f"{path}: is not a restart file of this version of mpnnp")
            in_all, in_rows = (int(n) for n in file.attrs["extrapolations"])
            reached = Reached(
                step=int(file.attrs["step"]),
                first_volume=float(file.attrs["first_volume"]),
                hottest=float(file.attrs["hottest"]) if "hottest" in file.attrs else None,
                sizes={name: int(size) for name, size in file["sizes"].attrs.items()},
                extrapolations=in_all,
                in_rows=in_rows,
            )
            return Restart(
                reached=reached,
                positions=number_array(file, "positions"),
                momenta=number_array(file, "momenta"),
                cell=number_array(file, "cell"),
                integrator={name: number_array(file["integrator"], name) for name in file["integrator"]},
                rng=json.loads(file.attrs["rng"]),
                numbers=number_array(file, "numbers") if "numbers" in file else None,
                pbc=number_array(file, "pbc") if "pbc" in file else None,
                potential=str(file.attrs["potential"]) if "potential" in file.attrs else None,
                masses=number_array(file, "masses") if "masses" in file else None,
                constraints=str(file.attrs["constraints"]) if "constraints" in file.attrs else None,
            )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DamagedError(f"{path}: cannot be resumed: {error}") from None
