"""What a simulation is to do, and the integrator of ASE that does it."""

from dataclasses import dataclass

import numpy as np
from ase.parallel import DummyMPI
from ase.units import fs

from mpnnp.errors import ConfigError
from mpnnp.units import BAR

ENSEMBLES = "nve", "nvt", "npt"
THERMOSTATS = "berendsen", "langevin", "bussi"
BAROSTATS = "berendsen", "mtk"
HOTTEST = 1e6  # K; no potential describes more


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A simulation as asked for.

    Defaults: J. Chem. Phys. 155, 204108 (2021), section II C. Raises ConfigError.
    """

    ensemble: str = "nvt"  # nve, nvt, npt
    thermostat: str = "berendsen"  # berendsen, langevin, bussi (nvt); npt: that of the barostat
    # berendsen (with its thermostat), mtk (Martyna-Tobias-Klein, with Nose-Hoover chains)
    barostat: str = "berendsen"
    temperature: float = 300.0  # K
    pressure: float = 1.0  # bar
    timestep: float = 0.5  # fs
    time: float = 100.0  # ps
    tau_t: float = 50.0  # fs, of the thermostat; Langevin: 1 / friction
    tau_p: float = 500.0  # fs, of the barostat
    compressibility: float = 4.57e-5  # 1/bar, for Berendsen's barostat
    seed: int = 0  # of first velocities and of random thermostats
    log_every: float = 10.0  # fs between rows of md.csv
    save_every: float = 50.0  # fs between frames of the trajectory

    def __post_init__(self):
        for name, allowed in (("ensemble", ENSEMBLES), ("thermostat", THERMOSTATS), ("barostat", BAROSTATS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be {', '.join(allowed)}")
        for name in ("timestep", "time", "tau_t", "tau_p", "compressibility", "log_every", "save_every"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name} = {value}: must be positive")
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(f"temperature = {self.temperature}: must be positive")
        if self.temperature > HOTTEST:
            raise ConfigError(f"temperature = {self.temperature}: must be at most {HOTTEST:g} K")
        if self.seed < 0:
            raise ConfigError(f"seed = {self.seed}: must not be negative")
        if not np.isfinite(self.pressure):
            raise ConfigError(f"pressure = {self.pressure}: must be a number")
        if self.ensemble == "npt" and self.thermostat != "berendsen":
            raise ConfigError(
                f"ensemble = npt, thermostat = {self.thermostat}: the barostats bring their own thermostat; "
                "barostat = berendsen or mtk chooses both"
            )


class Integrator:
    """An integrator of ASE, and whether its step takes and returns forces.

    ASE sends the random numbers of its thermostats from rank 0 of all processes to the others. Here every
    rank draws them itself from the same seed, and simulations may run side by side.
    """

    def __init__(self, dynamics, takes_forces=True):
        self.dynamics, self.takes_forces = dynamics, takes_forces
        for name in {"comm", "communicator"} & vars(dynamics).keys():  # by version of ASE
            setattr(dynamics, name, DummyMPI())

    def advance(self, forces):
        """One step from the forces of the last one; returns the new ones.

        Berendsen's barostat scales the cell by some 1e-6 before each step. The forces of the unscaled cell
        are taken, as in other programs, which saves one of two evaluations.
        """
        return self.dynamics.step(forces) if self.takes_forces else self.dynamics.step()


def check_start(atoms, protocol):
    """Raise ConfigError if nothing can move from this start, or the protocol needs a cell that it has not."""
    if len(atoms) == 1:
        raise ConfigError("one atom: as the centre of mass rests, nothing moves; repeat the cell")
    if atoms.get_number_of_degrees_of_freedom() < 1:
        raise ConfigError("all atoms of the start are held fast by its constraints: nothing moves")
    if protocol.ensemble == "npt" and not atoms.pbc.all():
        raise ConfigError("ensemble = npt: the structure has no cell that is periodic in all directions")
    if protocol.ensemble == "npt" and protocol.barostat == "mtk" and atoms.constraints:
        kinds = ", ".join(sorted({type(c).__name__ for c in atoms.constraints}))
        raise ConfigError(
            f"barostat = mtk: knows no constraints, the structure has some ({kinds}); take berendsen, or a "
            "start without them"
        )


def make_integrator(atoms, protocol, rng):
    """Integrator for these atoms. Raises ConfigError where ASE does not have it."""
    method = {"nve": "verlet", "nvt": protocol.thermostat, "npt": protocol.barostat}[protocol.ensemble]
    return MAKERS[protocol.ensemble, method](atoms, protocol, rng)


def _nve_verlet(atoms, p, rng):
    from ase.md.verlet import VelocityVerlet

    return Integrator(VelocityVerlet(atoms, p.timestep * fs))


def _nvt_berendsen(atoms, p, rng):
    from ase.md.nvtberendsen import NVTBerendsen

    return Integrator(NVTBerendsen(atoms, p.timestep * fs, temperature_K=p.temperature, taut=p.tau_t * fs))


def _nvt_langevin(atoms, p, rng):
    from ase.md.langevin import Langevin

    dynamics = Langevin(
        atoms,
        p.timestep * fs,
        temperature_K=p.temperature,
        friction=1.0 / (p.tau_t * fs),
        fixcm=False,
        rng=rng,
    )
    return Integrator(dynamics)


def _nvt_bussi(atoms, p, rng):
    try:
        from ase.md.bussi import Bussi
    except ImportError:
        raise ConfigError("thermostat = bussi: needs a newer ASE (3.24 or later)") from None
    return Integrator(Bussi(atoms, p.timestep * fs, temperature_K=p.temperature, taut=p.tau_t * fs, rng=rng))


def _npt_berendsen(atoms, p, rng):
    from ase.md.nptberendsen import NPTBerendsen

    dynamics = NPTBerendsen(
        atoms,
        p.timestep * fs,
        temperature_K=p.temperature,
        pressure_au=p.pressure * BAR,
        taut=p.tau_t * fs,
        taup=p.tau_p * fs,
        compressibility_au=p.compressibility / BAR,
    )
    return Integrator(dynamics)


def _npt_mtk(atoms, p, rng):
    try:
        from ase.md.nose_hoover_chain import IsotropicMTKNPT
    except ImportError:
        raise ConfigError("barostat = mtk: needs a newer ASE (3.25 or later)") from None
    dynamics = IsotropicMTKNPT(
        atoms,
        p.timestep * fs,
        temperature_K=p.temperature,
        pressure_au=p.pressure * BAR,
        tdamp=p.tau_t * fs,
        pdamp=p.tau_p * fs,
    )
    return Integrator(dynamics, takes_forces=False)


MAKERS = {
    ("nve", "verlet"): _nve_verlet,
    ("nvt", "berendsen"): _nvt_berendsen,
    ("nvt", "langevin"): _nvt_langevin,
    ("nvt", "bussi"): _nvt_bussi,
    ("npt", "berendsen"): _npt_berendsen,
    ("npt", "mtk"): _npt_mtk,
}


def start_velocities(atoms, protocol, rng, log):
    """Velocities of the structure if it has any, else drawn from Maxwell's distribution:
    exactly at the temperature, without a drift of the whole.
    """
    if atoms.has("momenta") and np.any(atoms.get_momenta()):
        log(f"velocities of the structure: {atoms.get_temperature():.1f} K")
        return
    masses = atoms.get_masses()[:, None]
    velocities = rng.normal(size=(len(atoms), 3)) / np.sqrt(masses)
    if len(atoms) > 1:
        velocities -= (masses * velocities).sum(axis=0) / masses.sum()
    atoms.set_momenta(masses * velocities)
    atoms.set_momenta(atoms.get_momenta() * np.sqrt(protocol.temperature / atoms.get_temperature()))
