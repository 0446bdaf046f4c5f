"""The measure by which the best potential of a run is kept: of the points of a learning curve.

The measure of a point is the geometric mean of the errors of its validation structures,

    m = (prod_k rmse_k^w_k)^(1 / sum_k w_k),

k being the kinds of labels that count: a tenth less of one error is worth a tenth of another, whatever they
are in their units. Without validation structures the errors of training are taken; where something was
learned before, the geometric mean of the measures of new and old validation structures.

A filter that has learned its noise comes to rest: then errors of validation change from one evaluation to
the next by chance, and with few structures by much. The smallest of all is the luckiest. So a point counts
as what the last EVALUATIONS, itself included, are on average, or as what it is itself if that is more. The
start is no part of such a mean. With fixed noise, and by Adam, weights jump, and what is better is better;
weights that have learned before are better at the start than after the first epochs: there every point
counts for itself.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from mpnnp.config import Config

EVALUATIONS = 10  # over which chance is averaged


def has_learned_before(config: Config) -> bool:
    """Whether a run begins with weights that have learned something."""
    return bool(config.run.from_ or config.network.weights_from)


def evaluations(config: Config) -> int:
    """Points of the learning curve that each of its points is judged with."""
    return EVALUATIONS if config.learns_noise and not has_learned_before(config) else 1


def measure(rmse: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted geometric mean of errors (kind -> its error_unit); kinds without labels do not count. 0
    where none counts.
    """
    counts = {kind: weight for kind, weight in weights.items() if weight > 0 and not np.isnan(rmse[kind])}
    if not counts:
        return 0.0
    with np.errstate(divide="ignore"):  # no error at all: 0
        logs = [weight * np.log(rmse[kind]) for kind, weight in counts.items()]
    return float(np.exp(sum(logs) / sum(counts.values())))


def part_that_judges(curve: Mapping[str, np.ndarray], kinds: Iterable[str]) -> str:
    """Which structures judge: validation, if they have labels of a kind that counts."""
    columns = (curve.get(f"{name}_rmse_validation", np.zeros(0)) for name in kinds)
    return "validation" if any(np.isfinite(column).any() for column in columns) else "train"


def measures(curve: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """The measure (n,) of each row of a curve, the table of `LearningCurve.columns`."""
    unknown = np.full(len(curve["epoch"]), np.nan)

    def of(part, row):
        return measure({kind: curve.get(f"{kind}_rmse_{part}", unknown)[row] for kind in weights}, weights)

    part = part_that_judges(curve, weights)
    found = np.array([of(part, row) for row in range(len(unknown))])
    old = np.array([of("old", row) for row in range(len(unknown))])
    return np.where(old > 0.0, np.sqrt(found * old), found)


def settled(values: np.ndarray, n: int) -> np.ndarray:
    """What points with these measures count as, each judged with the n last ones: see above."""
    with np.errstate(divide="ignore"):
        logs = np.log(values)
    means = [
        np.exp(logs[max(1, row + 1 - n) : row + 1].mean()) if row else values[0] for row in range(len(values))
    ]
    return np.maximum(values, means) if n > 1 else values
