"""mpnnp: neural network potentials trained with the multi-stream extended Kalman filter, on MPI.

    import mpnnp
    potential = mpnnp.load("runs/train/best.h5")
    energy, forces = potential.energy_forces(atoms)   # eV, eV/Angstrom
    atoms.calc = mpnnp.Calculator("runs/train/best.h5")

The names below are imported when they are first used: importing mpnnp stays quick.
"""

import importlib

__version__ = "0.1.0"

PUBLIC = {  # name -> where it is
    "Calculator": "mpnnp.simulation.calculator:Calculator",
    "export": "mpnnp.n2p2.potential_files:write_potential",
    "load": "mpnnp.training.checkpoint:load_potential",
}
__all__ = ["__version__", *PUBLIC]


def __getattr__(name):
    if name not in PUBLIC:
        raise AttributeError(f"module 'mpnnp' has no attribute {name!r}")
    module, _, attribute = PUBLIC[name].partition(":")
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__():
    return sorted(__all__)
