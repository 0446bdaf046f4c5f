"""Symmetry functions of all structures of a data set, structure by structure and shared out over the ranks:
what the tools work on.
"""

import numpy as np

from mpnnp.data.packed import make_atoms
from mpnnp.kernels.energy_forces import functions_of_structure
from mpnnp.kernels.plan import plan_of
from mpnnp.model.prediction import refuse_not_finite
from mpnnp.model.scaling import NOT_FINITE, Statistics
from mpnnp.progress import Progress

BINS = 50


def each_structure(dataset, functions, comm, log, title="symmetry functions: structure"):
    """Yield (structure number, element (n,), G (n, n_max) unscaled) of this rank's structures. Collective at
    the end, which all ranks must reach.

    Raises DataError for a strange element, and in the end for a structure whose functions are not finite.
    """
    wrong = []
    structures, plan = make_atoms(dataset, functions.elements), plan_of(functions.table)
    with Progress(log, title, len(dataset)) as progress:
        for s in range(comm.rank, len(dataset), comm.size):
            element = structures.element[structures.start[s] : structures.start[s + 1]]
            G = np.zeros((len(element), functions.n_max))
            functions_of_structure(structures, s, plan, G)
            if np.isfinite(G).all():
                yield s, element, G
            else:
                wrong.append(s)
            progress.update(min(s + comm.size, len(dataset)))
    refuse_not_finite(wrong, dataset, comm, NOT_FINITE)


def statistics_of(dataset, functions, comm, log):
    """Statistics of the functions over all atoms of a data set. Collective."""
    blocks = ((element, G) for _, element, G in each_structure(dataset, functions, comm, log))
    return Statistics.collect(blocks, functions.table.start, comm)


def histograms_of(dataset, functions, statistics, comm, log):
    """counts (n_function, BINS) of the values of each function between its minimum and maximum,
    over all atoms. Collective.
    """
    start, counts = functions.table.start, np.zeros((len(functions), BINS))
    spread = np.where(statistics.varies(), statistics.maximum - statistics.minimum, np.inf)
    for _, element, G in each_structure(dataset, functions, comm, log, "histograms: structure"):
        for e in range(len(start) - 1):
            part = slice(start[e], start[e + 1])
            x = (G[element == e, : start[e + 1] - start[e]] - statistics.minimum[part]) / spread[part]
            bins = np.clip((x * BINS).astype(np.int64), 0, BINS - 1)
            for m in range(bins.shape[1]):
                counts[start[e] + m] += np.bincount(bins[:, m], minlength=BINS)
    return comm.allreduce(counts)


def fingerprints(dataset, functions, comm, log):
    """One vector per structure (n_structure, n_function): means of the functions over the atoms of their
    element, in units of their spread.

    The spread is the standard deviation over the structures; means of elements that a structure lacks are
    those over all. Collective.
    """
    start, mine = functions.table.start, {}
    for s, element, G in each_structure(dataset, functions, comm, log):
        vector = np.full(len(functions), np.nan)
        for e in range(len(start) - 1):
            if (element == e).any():
                vector[start[e] : start[e + 1]] = G[element == e, : start[e + 1] - start[e]].mean(axis=0)
        mine[s] = vector
    everyone = {s: vector for part in comm.allgather(mine) for s, vector in part.items()}
    x = np.array([everyone[s] for s in range(len(dataset))])
    there = ~np.isnan(x)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, x, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(there, x - mean, 0.0) ** 2).sum(axis=0) / count)
    spread[spread <= 1e-12 * np.maximum(np.abs(mean), 1e-3)] = np.inf
    return np.where(there, (x - mean) / spread, 0.0)
