"""mpnnp: neural network potentials trained with the multi-stream extended Kalman filter, on MPI.

    import mpnnp
    potential = mpnnp.load("runs/train/best.h5")
    energy, forces = potential.energy_forces(atoms)   # eV, eV/Angstrom
    atoms.calc = mpnnp.Calculator("runs/train/best.h5")
"""

__version__ = "0.1.0"
__all__ = ["Calculator", "load", "__version__"]


def load(path):
    """Potential from a checkpoint or a folder of n2p2 files; see mpnnp.potential.Potential."""
    from mpnnp.model_building import load_potential

    return load_potential(path)


def __getattr__(name):
    if name == "Calculator":  # imported when asked for: importing mpnnp stays quick
        from mpnnp.calculator import Calculator

        return Calculator
    raise AttributeError(f"module 'mpnnp' has no attribute {name!r}")
