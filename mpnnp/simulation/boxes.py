"""Boxes of molecules to start a simulation from, made without other programs."""

import numpy as np
from ase import Atoms
from ase.data import atomic_masses
from ase.io.formats import UnknownFileTypeError, filetype, get_ioformat
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.optimize import minimize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mpnnp.errors import ConfigError
from mpnnp.units import DENSITY

BOND, ANGLE = 0.9572, 104.52  # Angstrom, degrees, of water
SPACING = 1.2  # of the centres, over that of a simple cubic lattice: they repel each other up to there
CHARGE = np.array([-0.834, 0.417, 0.417])  # of O, H, H: molecules are turned towards low energy (TIP3P)
HARD = 2.1  # Angstrom; atoms of two molecules nearer than this repel each other
TRIALS, SWEEPS = 60, 3


def check_format(path):
    """Raise ConfigError unless ASE can write a structure under this name."""
    try:
        format_ = get_ioformat(filetype(str(path), read=False))
    except UnknownFileTypeError:
        raise ConfigError(
            f"{path}: no format that ASE writes is named so; give .xyz, .cif, .pdb, ..."
        ) from None
    if not format_.can_write:
        raise ConfigError(f"{path}: ASE reads this format ({format_.name}), but cannot write it")


def water_box(n_molecule, density, seed=0):
    """ase.Atoms: a cubic periodic box of n_molecule water molecules, O H H each, at `density` g/cm^3.

    Centres repel each other softly until they are spread evenly; then each molecule in turn takes the best of
    random orientations. Raises ConfigError for numbers that make no box.
    """
    if n_molecule < 1:
        raise ConfigError(f"--molecules {n_molecule}: must be at least 1")
    if not (np.isfinite(density) and 0 < density <= 2.0):
        raise ConfigError(f"--density {density}: must be in (0, 2] g/cm^3")
    rng = np.random.default_rng(seed)
    mass = atomic_masses[8] + 2 * atomic_masses[1]
    length = (n_molecule * mass * DENSITY / density) ** (1 / 3)
    centres = _spread(rng.random((n_molecule, 3)) * length, length, SPACING * length / n_molecule ** (1 / 3))
    half = np.radians(ANGLE / 2)
    molecule = BOND * np.array(
        [[0.0, 0.0, 0.0], [np.sin(half), np.cos(half), 0.0], [-np.sin(half), np.cos(half), 0.0]]
    )
    positions = centres[:, None] + np.einsum("nij,aj->nai", _rotations(rng, n_molecule), molecule)
    for _ in range(SWEEPS if n_molecule > 1 else 0):
        for k in rng.permutation(n_molecule):
            trials = np.einsum("tij,aj->tai", _rotations(rng, TRIALS), molecule) + centres[k]
            trials = np.concatenate([positions[k][None], trials])
            positions[k] = trials[np.argmin(_energies(trials, np.delete(positions, k, axis=0), length))]
    return Atoms("OHH" * n_molecule, positions.reshape(-1, 3), cell=[length] * 3, pbc=True)


def _spread(points, length, r_0):
    """Points (n, 3) moved to a minimum of sum (1 - r / r_0)^2 over the pairs nearer than r_0
    in the periodic cube.
    """

    def energy(x):
        x = x.reshape(-1, 3)
        gradient, total = np.zeros_like(x), 0.0
        for i in range(len(x) - 1):
            d = x[i + 1 :] - x[i]
            d -= length * np.round(d / length)
            r = np.sqrt(np.einsum("ij,ij->i", d, d)) + 1e-12
            overlap = np.maximum(0.0, 1.0 - r / r_0)
            total += overlap @ overlap
            pull = (2.0 * overlap / (r_0 * r))[:, None] * d
            gradient[i] += pull.sum(axis=0)
            gradient[i + 1 :] -= pull
        return total, gradient.ravel()

    return minimize(energy, points.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x.reshape(
        -1, 3
    )


def _rotations(rng, n):
    """n random rotation matrices (n, 3, 3), from unit quaternions."""
    q = rng.normal(size=(n, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)


def _energies(trials, others, length):
    """Charges and a soft wall between each trial (t, 3, 3) and all other molecules (n, 3, 3);
    in arbitrary units, nearest images.
    """
    near = others[:, 0] - trials[0, 0]
    near -= length * np.round(near / length)
    others = others[np.einsum("ij,ij->i", near, near) < 49.0]
    d = others[None, :, None] - trials[:, None, :, None]
    d -= length * np.round(d / length)
    r = np.sqrt(np.einsum("...i,...i->...", d, d)) + 1e-3
    wall = np.maximum(0.0, HARD / r - 1.0)
    wall[:, :, 0, 1:] *= 0.1  # a hydrogen bond is shorter
    wall[:, :, 1:, 0] *= 0.1
    return np.einsum("tnab,a,b->t", 1.0 / r, CHARGE, CHARGE) + 5.0 * (wall**2).sum(axis=(1, 2, 3))


def at_density(atoms, density):
    """ase.Atoms of another density, g/cm^3: the cell is scaled, molecules are moved as rigid bodies.

    Molecules are what bonds connect (1.1 times the sums of covalent radii); atoms of a crystal, or of one
    molecule that has no end, are scaled one by one. Raises ConfigError without a cell.
    """
    if not atoms.pbc.all():
        raise ConfigError(
            f"density = {density:g}: the structure has no cell that is periodic in all directions"
        )
    factor = (atoms.get_masses().sum() * DENSITY / (density * atoms.cell.volume)) ** (1 / 3)
    i, j, shift = neighbor_list("ijS", atoms, natural_cutoffs(atoms, mult=1.1), self_interaction=False)
    n_molecule, molecule = connected_components(
        coo_matrix((np.ones(len(i)), (i, j)), shape=(len(atoms),) * 2)
    )
    bonds = {}
    for a, b, s in zip(i, j, shift):
        bonds.setdefault(a, []).append((b, s))
    image = np.zeros((len(atoms), 3), int)
    seen = np.zeros(len(atoms), bool)
    for first in range(len(atoms)):  # unwrap each molecule, along its bonds
        stack = [] if seen[first] else [first]
        seen[first] = True
        while stack:
            a = stack.pop()
            for b, s in bonds.get(a, ()):
                if not seen[b]:
                    seen[b], image[b] = True, image[a] + s
                    stack.append(b)
    positions = atoms.positions + image @ atoms.cell.array
    endless = {molecule[a] for a in bonds for b, s in bonds[a] if (image[b] != image[a] + s).any()}
    moved = atoms.copy()
    for k in range(n_molecule):
        mine = np.flatnonzero(molecule == k)
        centre = atoms.get_masses()[mine] @ positions[mine] / atoms.get_masses()[mine].sum()
        positions[mine] = (
            positions[mine] * factor if k in endless else positions[mine] + (factor - 1) * centre
        )
    moved.set_cell(atoms.cell.array * factor)
    moved.set_positions(positions, apply_constraint=False)  # those that are held fast too
    return moved
