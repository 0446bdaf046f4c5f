"""How much the energy of an atom depends on each symmetry function: n2p2's sensitivity analysis."""

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from mpnnp.analysis.descriptors import each_structure
from mpnnp.figures import PALETTE, figure, save, style
from mpnnp.files import write_table
from mpnnp.kernels.atomic_energies import energies_and_gradient
from mpnnp.kernels.jit import read_only
from mpnnp.model.potential import Predictor

MEASURES = ("msa", "mean", "max")


@dataclass(frozen=True)
class Sensitivity:
    """dE_i/dg of the scaled functions g over all atoms i of an element, eV; each (n_function,).

    msa   sqrt(<(dE_i/dg)^2>), n2p2's "mean square average";  mean: <|dE_i/dg|>;  max: largest |dE_i/dg|
    """

    msa: np.ndarray
    mean: np.ndarray
    max: np.ndarray

    def share(self, by, start):
        """(n_function,) percent of the sum over the functions of the same element, for the measure `by`."""
        values, shares = getattr(self, by), np.zeros(len(self.msa))
        for a, b in zip(start[:-1], start[1:]):
            shares[a:b] = 100.0 * values[a:b] / (values[a:b].sum() or 1.0)
        return shares


def sensitivity_of(potential, dataset, comm, log):
    """Sensitivity of a potential over the atoms of a data set. Collective. Raises DataError."""
    predictor, w, start = Predictor(potential), read_only(potential.weights), potential.functions.table.start
    n, factor = len(potential.functions), predictor.model.factor
    count, square, absolute, largest = (np.zeros(n) for _ in range(4))
    for _, element, G in each_structure(dataset, potential.functions, comm, log, "sensitivity: structure"):
        energies, dE_dG = np.empty(len(element)), np.empty(G.shape)
        energies_and_gradient(read_only(element), read_only(G), predictor.model, w, energies, dE_dG)
        for e in range(len(start) - 1):
            part, mine = slice(start[e], start[e + 1]), element == e
            if mine.any():
                d = np.abs(dE_dG[mine, : start[e + 1] - start[e]] / factor[part]) * potential.energy_scale
                count[part] += len(d)
                square[part] += (d**2).sum(axis=0)
                absolute[part] += d.sum(axis=0)
                largest[part] = np.maximum(largest[part], d.max(axis=0))
    count, square, absolute = (comm.allreduce(x) for x in (count, square, absolute))
    largest = np.max(comm.allgather(largest), axis=0)
    count = np.maximum(count, 1)
    return Sensitivity(np.sqrt(square / count), absolute / count, largest)


def lines_of(functions, sensitivity):
    """One line per function, the most important first, element by element."""
    start, lines = functions.table.start, []
    shares = {by: sensitivity.share(by, start) for by in MEASURES}
    for e, z in enumerate(functions.elements):
        lines.append(
            f"{chemical_symbols[z]}: root mean square, mean and largest |dE/dg| in eV and in "
            "percent of the element's sum"
        )
        for k in sorted(range(start[e], start[e + 1]), key=lambda k: -sensitivity.msa[k]):
            numbers = "  ".join(
                f"{getattr(sensitivity, by)[k]:10.4g} ({shares[by][k]:6.3f} %)" for by in MEASURES
            )
            lines.append(f"{k + 1:4d}  {numbers}  {functions.functions[k]}")
    return lines


def write_csv(path, functions, sensitivity):
    """function, element, the measures in eV and in percent."""
    start = functions.table.start
    columns = {
        "function": range(1, len(functions) + 1),
        "element": [chemical_symbols[f.center] for f in functions.functions],
        **{f"{by}_ev": getattr(sensitivity, by) for by in MEASURES},
        **{f"{by}_percent": sensitivity.share(by, start) for by in MEASURES},
        "description": functions.functions,
    }
    write_table(path, columns)


@style()
def draw(path, functions, sensitivity):
    """Bars of root mean square and largest sensitivity, one panel per element."""
    picture, axes = figure(len(functions.elements), height=3.4)
    for e, (axis, z) in enumerate(zip(axes, functions.elements)):
        part = np.arange(*functions.table.start[e : e + 2])
        axis.bar(part + 1, sensitivity.max[part], color=PALETTE[-1], alpha=0.5, label="largest")
        axis.bar(part + 1, sensitivity.msa[part], label="root mean square")
        axis.set(xlabel=f"symmetry function of {chemical_symbols[z]}", ylabel="|dE/dg| (eV)", yscale="log")
        axis.legend()
    save(picture, path)
