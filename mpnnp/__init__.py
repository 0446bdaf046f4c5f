"""mpnnp: neural network potentials trained with the multi-stream extended Kalman filter, on MPI.

    import mpnnp
    potential = mpnnp.load("runs/train/best.h5")
    energy, forces = potential.energy_forces(atoms)   # eV, eV/Angstrom
"""

__version__ = "0.1.0"
__all__ = ["load", "__version__"]


def load(path):
    """Potential from a checkpoint or a folder of n2p2 files; see mpnnp.potential.Potential."""
    from mpnnp.model_building import load_potential

    return load_potential(path)
