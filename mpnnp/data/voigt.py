"""Symmetric tensors as six numbers, in the one order that mpnnp knows; virials of other programs as
stresses.
"""

import numpy as np

__all__ = ["COLUMNS", "ROWS", "VOIGT", "is_uneven", "stress_of_virial", "to_tensor", "to_voigt"]

VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
ROWS, COLUMNS = (["xyz".index(name[k]) for name in VOIGT] for k in (0, 1))
PLACES = [[VOIGT.index("".join(sorted(a + b))) for b in "xyz"] for a in "xyz"]


def to_voigt(tensor: np.typing.ArrayLike) -> np.ndarray:
    """(..., 6) of (..., 3, 3); the mean of both triangles."""
    tensor = np.asarray(tensor, np.float64)
    return (tensor[..., ROWS, COLUMNS] + tensor[..., COLUMNS, ROWS]) / 2


def to_tensor(six: np.typing.ArrayLike) -> np.ndarray:
    """(..., 3, 3) of (..., 6)."""
    return np.asarray(six)[..., PLACES]


def is_uneven(tensor: np.typing.ArrayLike) -> bool:
    """Whether nine numbers are no symmetric tensor, beyond what DFT codes round."""
    tensor = np.reshape(np.asarray(tensor, np.float64), (3, 3))
    return bool(np.isfinite(tensor).all() and np.abs(tensor - tensor.T).max() > 0.05 * np.abs(tensor).max())


def stress_of_virial(virial: np.ndarray, cell: np.ndarray) -> np.ndarray | None:
    """(6,) -virial / volume, of a virial of the whole cell (6,) or (3, 3), as GAP, MACE and DeePMD-kit
    keep it; None where there is no volume.
    """
    virial = np.asarray(virial, np.float64)
    volume = abs(np.linalg.det(np.asarray(cell, np.float64)))
    if not volume > 0.0:
        return None
    return -(virial if virial.shape == (6,) else to_voigt(virial.reshape(3, 3))) / volume
