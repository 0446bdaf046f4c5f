"""Small data sets and configurations for tests: clusters of a few atoms with a pair potential's
energies and forces.
"""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mpnnp.config import make_config
from mpnnp.parallel import serial
from mpnnp.progress import Log
from mpnnp.training import offsets
from mpnnp.training.judgement import Judge
from mpnnp.training.run_state import new_state
from mpnnp.training.start import assemble
from mpnnp.training.train import one_update

CELL = 30.0  # Angstrom, of boxes

# 4 functions of H, 5 of O; Angstrom
FUNCTIONS = [
    {"center": "H", "kind": 2, "neighbours": ["H"], "eta": [0.1, 0.8], "r_c": 5.0},
    {"center": "H", "kind": 2, "neighbours": ["O"], "eta": 0.4, "r_s": 1.0, "r_c": 5.0},
    {
        "center": "H",
        "kind": 3,
        "neighbours": ["O", "H"],
        "eta": 0.05,
        "lambda": -1.0,
        "zeta": 2.0,
        "r_c": 5.0,
    },
    {"center": "O", "kind": 2, "neighbours": ["H"], "eta": [0.1, 0.8], "r_c": 5.0},
    {"center": "O", "kind": 2, "neighbours": ["O"], "eta": 0.1, "r_c": 5.0},
    {
        "center": "O",
        "kind": 3,
        "neighbours": ["H", "H"],
        "eta": 0.05,
        "lambda": [-1.0, 1.0],
        "zeta": 1.0,
        "r_c": 5.0,
    },
]


def pair_energy_forces(atoms):
    """E = sum_{i<j} q_i q_j exp(-r / 2 Angstrom) and its forces, plus -1 eV per H and -3 eV per O."""
    q = np.where(atoms.numbers == 8, 2.0, 1.0)
    d = atoms.positions[:, None] - atoms.positions[None]
    r = np.linalg.norm(d, axis=2) + np.eye(len(atoms))
    e = q[:, None] * q[None] * np.exp(-r / 2) * (1 - np.eye(len(atoms)))
    energy = 0.5 * e.sum() + np.where(atoms.numbers == 8, -3.0, -1.0).sum()
    return energy, ((0.5 * e / r)[:, :, None] * d).sum(axis=1)


def cluster(rng, n_molecule=2, labels=True):
    """ase.Atoms: n_molecule distorted water molecules about 3 Angstrom apart, without a cell."""
    molecule = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    positions = []
    for k in range(n_molecule):
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        positions.append(
            molecule @ rotation + [2.9 * (k % 2), 2.9 * (k // 2), 0.0] + rng.normal(scale=0.2, size=3)
        )
    positions = np.concatenate(positions) + rng.normal(scale=0.07, size=(3 * n_molecule, 3))
    atoms = Atoms("OHH" * n_molecule, positions)
    if labels:
        energy, forces = pair_energy_forces(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def write_clusters(path, n=12, seed=0, sizes=(1, 2), labels=True):
    """Write n clusters to an extxyz file; returns them."""
    rng = np.random.default_rng(seed)
    frames = [cluster(rng, sizes[k % len(sizes)], labels) for k in range(n)]
    write(path, frames, parallel=False)  # not a collective call of ASE
    return frames


def boxes(sizes, seed=3):
    """Frames of clusters in boxes too large for images, sizes[g] of them in box g, mixed."""
    rng, frames = np.random.default_rng(seed), []
    for g, n in enumerate(sizes):
        for _ in range(n):
            atoms = cluster(rng, 1)
            atoms.cell, atoms.pbc = [CELL + g] * 3, True
            frames.append(atoms)
    return [frames[k] for k in rng.permutation(len(frames))]


def small_config(tmp_path, n=12, **sections):
    """Config of a run on n clusters written to tmp_path/clusters.extxyz; sections overrule."""
    path = tmp_path / "clusters.extxyz"
    if not path.exists():
        write_clusters(path, n)
    tree = {
        "data": {"files": str(path), "validation_fraction": 0.25, "cache": str(tmp_path / "cache")},
        "symmetry_functions": {"functions": FUNCTIONS},
        "network": {"hidden": [4, 3], "activation": ["tanh", "softplus"]},
        "schedule": {"streams": 2, "energy_fraction": 1.0, "force_fraction": 0.2},
        "ekf": {"noise": "fixed"},
        "run": {"epochs": 2, "evaluation_structures": 0},
    }
    if sections.get("schedule", {}).get("name") == "sdnz":
        tree["schedule"] = {}
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    return make_config(tree)


class Begun(NamedTuple):
    """A run before its first update, in parts."""

    task: object
    state: object
    judge: object

    def epoch(self):
        """The updates of an epoch and its evaluation."""
        task, state = self.task, self.state
        errors = task.errors(state.weights) if task.schedule.config.selection == "sort" else None
        for batch in task.epoch(state.epoch, errors):
            one_update(task, state, batch)
            state.update += 1
        offsets.settle(task, state)
        self.judge.record(state, state.epoch, lambda: 0.0)
        state.epoch += 1


def begun(config, folder, comm, log):
    """A run of this configuration; folder: for its computed symmetry functions."""
    task = assemble(config, comm, log, folder)
    state = new_state(task)
    task.observer.follow(state.rmse, state.noise)
    return Begun(task, state, Judge(task, config))


def quiet():
    """(communicator of one rank, log that keeps its lines and shows nothing)."""
    return serial(), Log(stream=open("/dev/null", "w"))
