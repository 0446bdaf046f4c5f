"""mpnnp: neural network potentials trained with the multi-stream extended Kalman filter, on MPI.

    import mpnnp
    data = mpnnp.read("water.extxyz.xz")
    training, validation = data.split(0.1, seed=1)
    potential = mpnnp.new_potential(training, functions="water")
    task = mpnnp.new_task(potential, training, streams=10)
    ekf = mpnnp.new_optimizer(task, "ekf", epsilon=0.01)
    state, w = ekf.init(), potential.weights.copy()
    for batch in task.epoch(1):
        w += ekf.update(state, *task.observe(batch, w))
    print(mpnnp.evaluate(potential.with_weights(w), validation))

    potential = mpnnp.load("runs/train/best.h5")
    energy, forces = potential.energy_forces(atoms)   # eV, eV/Angstrom
    atoms.calc = mpnnp.Calculator("runs/train/best.h5")

The names below are imported when they are first used: importing mpnnp stays quick.
"""

import importlib

__version__ = "0.2.0"

PUBLIC = {  # name -> where it is
    "Calculator": "mpnnp.simulation.calculator:Calculator",
    "continue_from": "mpnnp.library:continue_from",
    "evaluate": "mpnnp.library:evaluate",
    "export": "mpnnp.n2p2.export:write_potential",
    "fisher": "mpnnp.library:fisher",
    "load": "mpnnp.training.checkpoint:load_potential",
    "new_optimizer": "mpnnp.library:new_optimizer",
    "new_potential": "mpnnp.library:new_potential",
    "new_task": "mpnnp.library:new_task",
    "read": "mpnnp.library:read",
    "train": "mpnnp.library:train",
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
