"""Ice to start simulations from: python ice.py ic|ih DENSITY SEED FILE

64 molecules of cubic (ic) or hexagonal (ih) ice at a density, g/cm^3, with protons disordered by the ice
rules: random walks along hydrogen bonds, each bond once, come back to their start, as every oxygen has four
bonds. They leave each molecule as often as they enter it, so that each gives two of its bonds a proton.
"""

import sys

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_masses
from ase.io import write
from ase.neighborlist import neighbor_list

from mpnnp.units import DENSITY

N_MOLECULE = 64
BOND = 0.98  # Angstrom, of O and H
NEIGHBOURS = 1.2  # times the shortest distance: the four bonds of an oxygen, not its second neighbours


def oxygens(kind, density):
    """ase.Atoms: the lattice of the oxygens, 2 x 2 x 2 cells of eight."""
    if kind == "ic":
        cell = bulk("O", "diamond", a=1.0, cubic=True)
    else:
        cell = bulk("OO", "wurtzite", a=1.0, c=np.sqrt(8 / 3), orthorhombic=True)
    lattice = cell.repeat(2)
    mass = N_MOLECULE * (atomic_masses[8] + 2 * atomic_masses[1])
    factor = (mass * DENSITY / density / lattice.cell.volume) ** (1 / 3)
    lattice.set_cell(lattice.cell * factor, scale_atoms=True)
    return lattice


def donated(i, j, rng):
    """Numbers k of the directed bonds (i[k], j[k]) along which the walks go: one direction of each bond."""
    number = {ends: k for k, ends in enumerate(zip(i, j))}
    left = {a: list(rng.permutation(np.flatnonzero(i == a))) for a in range(N_MOLECULE)}
    used, walk = set(), []
    for place in range(N_MOLECULE):
        while left[place]:
            k = left[place].pop()
            if k not in used:
                used |= {k, number[j[k], i[k]]}
                walk.append(k)
                place = j[k]
    return walk


def ice(kind, density, seed):
    """ase.Atoms, O H H of each molecule."""
    lattice = oxygens(kind, density)
    nearest = neighbor_list("d", lattice, 0.5 * lattice.cell.lengths().min()).min()
    i, j, vectors = neighbor_list("ijD", lattice, NEIGHBOURS * nearest)
    positions = [[x] for x in lattice.positions]
    for k in donated(i, j, np.random.default_rng(seed)):
        positions[i[k]].append(lattice.positions[i[k]] + BOND * vectors[k] / np.linalg.norm(vectors[k]))
    return Atoms("OHH" * N_MOLECULE, np.concatenate(positions), cell=lattice.cell, pbc=True)


if __name__ == "__main__":
    kind, density, seed, target = sys.argv[1:]
    write(target, ice(kind, float(density), int(seed)))
