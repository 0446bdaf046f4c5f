"""Writing a data set as extended XYZ, with all digits: what ASE, MACE, NequIP and others read."""

import math
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mpnnp.data.dataset import Dataset
from mpnnp.data.isolated import KEY, in_text
from mpnnp.data.labels import WEIGHTS
from mpnnp.data.structure import TRAIN, VALIDATION
from mpnnp.data.voigt import to_tensor
from mpnnp.errors import DataError
from mpnnp.files import all_digits, reason_of, write_atomically

SPLITS = {TRAIN: "train", VALIDATION: "validation"}


def write_extxyz(path: str | Path, dataset: Dataset) -> None:
    """Write a Dataset as extended XYZ: eV, Angstrom, stress in eV/Angstrom^3;
    `split` tells train and validation, `config_*_weight` the weights, `mpnnp_isolated_atoms` in the first
    comment the energies of isolated atoms that are no structures any more.

    Forces on some atoms only are written with a column force_mask, and as zeros where it is F. Raises
    DataError naming the file.
    """
    try:
        with write_atomically(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.writelines(_frame(dataset[k], None if k else dataset.isolated) for k in range(len(dataset)))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason_of(error)}") from None


def _frame(s, isolated=None):
    labelled = np.isfinite(s.forces).all(axis=1)
    masked = labelled.any() and not labelled.all()
    header = []
    if s.cell.any():
        header.append(f'Lattice="{all_digits(s.cell.ravel())}"')
    header.append(
        "Properties=species:S:1:pos:R:3"
        + ":forces:R:3" * bool(labelled.any())
        + ":force_mask:L:1" * bool(masked)
    )
    if math.isfinite(s.energy):
        header.append(f"energy={s.energy:.17g}")
    if np.isfinite(s.stress).all():
        header.append(f'stress="{all_digits(to_tensor(s.stress).ravel())}"')
    for name, weight in zip(WEIGHTS, s.weight):
        if weight != 1.0:
            header.append(f"{name}={weight:.17g}")
    if s.split in SPLITS:
        header.append(f"split={SPLITS[s.split]}")
    if isolated:
        header.append(f'{KEY}="{in_text(isolated)}"')
    header.append('pbc="{}"'.format(" ".join("FT"[int(p)] for p in s.pbc)))
    columns = np.hstack([s.positions, np.nan_to_num(s.forces)]) if labelled.any() else s.positions
    masks = [f" {'FT'[int(known)]}" for known in labelled] if masked else [""] * len(s)
    atoms = (
        f"{chemical_symbols[z]} {all_digits(row)}{mask}"
        for z, row, mask in zip(s.numbers, columns.tolist(), masks)
    )
    return "\n".join([str(len(s)), " ".join(header), *atoms, ""])
