"""Errors that the energies of one simulation have in common: how large they are, and how many labels the
energies are worth.

What a net cannot know of an energy (long range, basis set, sampling of k) changes little from frame to frame
of a simulation at constant volume. With frames f in groups g of the same atoms in the same cell,
    error_gf = b_g + v_gf,  of variances sigma_b^2 and sigma_v^2,  rho = sigma_b^2 / (sigma_b^2 + sigma_v^2),
the mean of m frames has the variance (1 + (m - 1) rho) sigma^2 / m, where that of independent labels has
sigma^2 / m. A filter that takes what the frames have in common for knowledge makes potentials of several
densities that go astray beyond them. So it learns b_g beside the weights (see offsets); or, where P is cut
into blocks, or groups are too many, the noise of each label is given 1 + (m - 1) rho times the variance, the
design effect of cluster sampling (Kish, Survey Sampling, 1965).

sigma_b^2 comes from a one-way analysis of variance of the errors of training structures: its lower confidence
limit, so that what may be chance changes nothing (Searle, Casella, McCulloch, Variance Components, 1992, 3.6,
with the mean size of groups that differ). Single frames, as of a simulation at constant pressure, tell
nothing about it, and fewer than LEAST_GROUPS groups too little. In the first epoch rho is 0: what was not
learned yet is no error in common.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri

from mpnnp.config import Config
from mpnnp.data.dataset import Dataset
from mpnnp.parallel import Comm

SAME = 1e-4  # Angstrom; cells that differ by less are the same
LEAST_GROUPS = 5
CONFIDENCE = 0.95
MOST_OFFSETS = 0.25  # of the number of weights: with more, the filter would cost half as much again


@dataclass(frozen=True)
class Groups:
    """Structures with energies in groups of the same atoms and cell; none if fewer than LEAST_GROUPS.

    group  (n_structure,) int64 of all structures of the data set, -1: alone
    size   (n_group,) int64, at least 2
    """

    group: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, chosen: np.ndarray) -> "Groups":
        """Groups of the chosen structures (n,) of a data set, which have energies; clusters are alone."""
        start, numbers = np.asarray(dataset.start), np.asarray(dataset.numbers)
        cells = np.round(np.asarray(dataset.cell)[chosen] / SAME).astype(np.int64)
        found: dict[tuple, list] = {}
        for s, cell, periodic in zip(chosen, cells, np.any(np.asarray(dataset.pbc)[chosen], axis=1)):
            if periodic:
                atoms = np.sort(numbers[start[s] : start[s + 1]])
                found.setdefault((atoms.tobytes(), cell.tobytes()), []).append(s)
        groups = [members for members in found.values() if len(members) > 1]
        if len(groups) < LEAST_GROUPS:
            groups = []
        group = np.full(len(dataset), -1)
        for g, members in enumerate(groups):
            group[members] = g
        return cls(group, np.array([len(members) for members in groups], np.int64))

    def size_of(self, structures: np.ndarray) -> np.ndarray:
        """Size (n,) of the group of each of the structures (n,); 1 of those that are alone."""
        group = self.group[structures]
        return np.where(group < 0, 1, np.append(self.size, 1)[group])

    def members(self) -> np.ndarray:
        """All structures that are in groups."""
        return np.flatnonzero(self.group >= 0)

    def correlation(self, structures: np.ndarray, errors: np.ndarray, comm: Comm) -> float:
        """rho of errors as of `variances`, at least, with CONFIDENCE; 0 without groups. Collective."""
        common, own = self.variances(structures, errors, comm)
        return common / (common + own) if common > 0.0 else 0.0

    def variances(self, structures: np.ndarray, errors: np.ndarray, comm: Comm) -> tuple[float, float]:
        """(sigma_b^2 at least, with CONFIDENCE, sigma_v^2) of errors (n,) of this rank's part of members()
        (n,); 0 without groups, or where there is no error. Collective.

        With F the variance between groups (of size m_0) over that within them, sigma_v^2, sigma_b^2 is at
        least (F / F_c - 1) sigma_v^2 / m_0, where F_c is exceeded by chance once in 1 / (1 - CONFIDENCE).
        """
        if not len(self.size):
            return 0.0, 0.0
        sums = np.zeros((len(self.size), 2))
        np.add.at(sums, self.group[structures], np.stack([errors, errors**2], axis=1))
        total = np.empty_like(sums)
        comm.Allreduce(sums, total)
        size, n, n_group = self.size, int(self.size.sum()), len(self.size)
        mean = total[:, 0] / size
        within = float(total[:, 1].sum() - size @ mean**2) / (n - n_group)
        between = float(size @ (mean - total[:, 0].sum() / n) ** 2) / (n_group - 1)
        if not (within > 0.0 and np.isfinite(between / within)):
            return 0.0, 0.0
        ratio = between / within / fdtri(n_group - 1, n - n_group, CONFIDENCE)
        m_0 = (n - size @ size / n) / (n_group - 1)
        return max(float(ratio) - 1.0, 0.0) * within / float(m_0), within

    def worth(self, correlation: float) -> float:
        """How many independent labels the energies in groups are worth."""
        return float(np.sum(self.size / design_effect(correlation, self.size)))


def n_offset(config: Config, groups: Groups, n_weight: int) -> int:
    """How many offsets the filter carries: one for each group, if P is one block and they are few."""
    carries = config.learns_noise and config.ekf.coupling == "full"
    return len(groups.size) if carries and len(groups.size) <= MOST_OFFSETS * n_weight else 0


def design_effect(correlation: float, size: np.ndarray) -> np.ndarray:
    """1 + (m - 1) rho for groups of sizes m."""
    return 1.0 + (size - 1) * correlation
