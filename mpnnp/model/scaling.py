"""Scaling of symmetry functions: statistics over a data set, and the shift and factor
that a net's input gets.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mpnnp.errors import DataError
from mpnnp.parallel import Comm

NOT_FINITE = "a symmetry function is not a finite number: are two atoms at the same place?"


@dataclass(frozen=True)
class Statistics:
    """Count, range and moments of each symmetry function, in the order of the function table;
    every array (n_function,).
    """

    count: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray  # standard deviation of the sample (divisor count - 1)

    @classmethod
    def collect(
        cls, blocks: Iterable[tuple[np.ndarray, np.ndarray]], start: np.ndarray, comm: Comm
    ) -> "Statistics":
        """Statistics over all ranks. Collective.

        blocks  pairs (element (n_atom,), G (n_atom, n_max)) of this rank, unscaled
        start   (n_element+1,) first function of each element
        """
        n = int(start[-1])
        count, mean, square = np.zeros(n), np.zeros(n), np.zeros(n)
        minimum, maximum = np.full(n, np.inf), np.full(n, -np.inf)
        for element, values in blocks:
            for e in range(len(start) - 1):
                part = slice(start[e], start[e + 1])
                g = values[element == e, : start[e + 1] - start[e]]
                if not len(g):
                    continue
                if not np.isfinite(g).all():
                    raise DataError(NOT_FINITE)
                # moments about the middle of what was seen: a function may vary by little
                # around a large value
                middle, m = g.mean(axis=0), len(g)
                delta, both = middle - mean[part], count[part] + m
                square[part] += ((g - middle) ** 2).sum(axis=0) + delta**2 * count[part] * m / both
                mean[part] += delta * m / both
                count[part] += m
                np.minimum(minimum[part], g.min(axis=0), out=minimum[part])
                np.maximum(maximum[part], g.max(axis=0), out=maximum[part])
        parts = comm.allgather((count, mean, square, minimum, maximum))
        count, mean, square, minimum, maximum = (np.array(column) for column in parts[0])
        for c, m, s, low, high in parts[1:]:
            delta, both = m - mean, np.maximum(count + c, 1)
            square += s + delta**2 * count * c / both
            mean = mean + delta * c / both
            count = count + c
            minimum, maximum = np.minimum(minimum, low), np.maximum(maximum, high)
        return cls(count, minimum, maximum, mean, np.sqrt(square / np.maximum(count - 1, 1)))

    def varies(self) -> np.ndarray:
        """(n_function,) bool: the function takes different values;
        False also where its element never occurred.
        """
        spread = self.maximum - self.minimum
        return (self.count > 0) & (spread > 1e-12 * np.maximum(np.abs(self.maximum), 1e-3))

    def keep(self, mask: np.ndarray) -> "Statistics":
        return Statistics(
            *(getattr(self, name)[mask] for name in ("count", "minimum", "maximum", "mean", "sigma"))
        )


@dataclass(frozen=True)
class Scaling:
    """Input of the net g = (G - shift) factor for each function; n2p2's five kinds of scaling.

    kind    none, min-max, center, min-max-center, sigma
    s_min, s_max   range that the scaled functions span
    """

    kind: str
    s_min: float
    s_max: float
    statistics: Statistics

    def shift_and_factor(self) -> tuple[np.ndarray, np.ndarray]:
        """shift (n_function,) and factor (n_function,).

        Raises DataError if a function that must be divided by its spread never varies.
        """
        t, one = self.statistics, np.ones(len(self.statistics.mean))
        if self.kind == "none":
            return 0 * one, one
        if self.kind == "center":
            return t.mean.copy(), one
        spread = t.sigma if self.kind == "sigma" else t.maximum - t.minimum
        if not (spread > 0).all():
            raise DataError(
                f"symmetry function number {int(np.argmin(spread > 0)) + 1} never varies: "
                "it cannot be scaled by its spread"
            )
        factor = (self.s_max - self.s_min) / spread
        center = t.minimum if self.kind == "min-max" else t.mean
        return center - self.s_min / factor, factor
