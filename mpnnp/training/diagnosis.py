"""A run judges itself: rules that read a learning curve and a few facts, and say what looks wrong and what
to change first.

Every rule is a pure function (curve, facts) -> Finding or None. A curve is the table of
`LearningCurve.columns`: row 0 is the start, before the first update.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mpnnp.model.label_kinds import KINDS, LabelKind
from mpnnp.progress import counted
from mpnnp.training.measure import measures, part_that_judges, settled

MOST_LINES = 5
IMPROVING = 0.03  # fall of the measure in the last fifth of the epochs that promises more
LONG_AGO = 0.6  # of the epochs: a best one before was long ago ...
WORSE = 1.1  # ... if the last measure is larger than the best by this factor
OVERFITTED = 2.0  # validation error over training error
NO_BETTER = 0.9  # of the spread of the labels: as good as to predict their mean
GROWN = 1.05  # factor by which an error is called larger than at the start
OUTSIDE = 0.01  # share of validation atoms outside of the range of training
FAR = 0.5  # ... or a function so far outside, in units of its range
FEW_EPOCHS = 5  # with fewer there is no trend
FEWEST = 20  # structures that have a median worth comparing with
STANDS_OUT = 6.0  # medians of an error ...
FEW, MOST = 0.05, 0.5  # ... of this share of the structures at most, with this share of the squared error


@dataclass(frozen=True)
class Outside:
    """A symmetry function outside of its range of training: on how many of the n_atom validation atoms of its
    element, and how far at most, in units of that range.
    """

    function: str
    atoms: int
    n_atom: int
    excess: float


@dataclass(frozen=True)
class StandingOut:
    """A kind of labels most of whose squared error is that of `few` of n_structure training structures, each
    far above the median: their share of it, and the worst of them, its error in error_unit and in medians.
    """

    kind: str
    few: int
    n_structure: int
    share: float
    worst: str
    error: float
    medians: float


@dataclass(frozen=True)
class Facts:
    """What a curve does not say.

    weights   kind of label -> weight of its error in the measure
    evaluations  that a point of the curve is judged with, see training.measure
    epochs    run.epochs
    complete  all of them were done
    trained   the run began with weights that had learned before
    spreads   kind -> standard deviation of its validation labels about what is known without a net,
              in its error_unit; infinite if they are too few to say anything
    correlation  of predicted with labelled validation energies of structures of one composition, NaN where
              there are too few
    standing_out  kinds whose errors are mostly those of a few training structures
    n_label   kind -> training labels that are learned from
    n_weight  of the nets
    outside   symmetry functions that extrapolate in validation structures, the worst first
    n_outside, n_atom  validation atoms with one outside, and all of them
    """

    weights: Mapping[str, float]
    evaluations: int = 1
    epochs: int = 0
    complete: bool = True
    trained: bool = False
    spreads: Mapping[str, float] = field(default_factory=dict)
    correlation: float = np.nan
    standing_out: Sequence[StandingOut] = ()
    n_label: Mapping[str, int] = field(default_factory=dict)
    n_weight: int = 0
    outside: Sequence[Outside] = ()
    n_outside: int = 0
    n_atom: int = 0


@dataclass(frozen=True)
class Finding:
    """What was found, and what would change it."""

    text: str
    remedy: str


def _best(curve: Mapping[str, np.ndarray], facts: Facts) -> int:
    """Row of the potential that was kept as the best."""
    return int(np.argmin(settled(measures(curve, facts.weights), facts.evaluations)))


def labels_are_wrong(curve: Mapping[str, np.ndarray], facts: Facts) -> Finding | None:
    """Nothing was learned: labels of the wrong sign or unit, most likely."""
    values, part = measures(curve, facts.weights), part_that_judges(curve, facts.weights)
    if len(values) < 2:
        return None
    if not values[1:].min() < values[0]:
        if facts.trained:
            return None
        return Finding("the start is the best: no epoch came below it", CHECK_LABELS)
    if len(values) <= FEW_EPOCHS:
        return None
    if facts.correlation < 0.0:
        return Finding(
            "predicted energies fall where labelled ones rise (structures of one composition: correlation "
            f"{facts.correlation:.2f}): energies and forces contradict each other",
            CHECK_LABELS,
        )
    best = _best(curve, facts)
    for kind in _kinds(curve, part):
        errors, spread = curve[f"{kind.name}_rmse_{part}"], facts.spreads.get(kind.name)
        if spread == np.inf:
            continue
        if errors[best] > GROWN * errors[0]:
            return Finding(
                f"the {kind.name} error grew from {errors[0]:.3g} to {errors[best]:.3g} {kind.short_unit} "
                "while others fell: the labels contradict each other",
                CHECK_LABELS,
            )
        if spread and errors[best] > NO_BETTER * spread:
            return Finding(
                f"{kind.name}: {errors[best]:.3g} {kind.short_unit} are as good as predicting the mean "
                f"(the labels spread by {spread:.3g})",
                CHECK_LABELS,
            )
    return None


def standing_out(name_of: Callable[[int], str], errors: np.ndarray) -> list[StandingOut]:
    """Kinds most of whose squared error a few structures have, each with more than STANDS_OUT medians.

    name_of  name of the structure with a number
    errors   (n_structure, 1 + n_kind) number of a structure, and its RMS error of each kind in error_unit,
             NaN without labels
    """
    found = []
    for name, column in zip(KINDS, errors.T[1:]):
        there = np.flatnonzero(np.isfinite(column))
        if len(there) < FEWEST or not (median := float(np.median(column[there]))) > 0.0:
            continue
        far = there[column[there] > STANDS_OUT * median]
        share = float(np.sum(column[far] ** 2) / np.sum(column[there] ** 2))
        if share > MOST and len(far) <= FEW * len(there):
            worst = far[np.argmax(column[far])]
            error, where = float(column[worst]), name_of(int(errors[worst, 0]))
            found.append(StandingOut(name, len(far), len(there), share, where, error, error / median))
    return found


def few_stand_out(curve: Mapping[str, np.ndarray], facts: Facts) -> Finding | None:
    """A few structures have most of the error that is left, as those with wrong labels do."""
    if len(curve["epoch"]) < 2 or not facts.standing_out:
        return None
    found = max(facts.standing_out, key=lambda one: one.share)
    kind = KINDS[found.kind]
    return Finding(
        f"{kind.name}: {found.few} of {found.n_structure} training structures have {100 * found.share:.0f} % "
        f"of the squared error, most of all {found.worst}: {found.error:.3g} {kind.short_unit}, "
        f"{found.medians:.0f} times the median",
        "look at the worst structures, which report.html names: are their labels right?",
    )


def best_long_ago(curve: Mapping[str, np.ndarray], facts: Facts) -> Finding | None:
    """The validation error has risen for long."""
    values, epochs = settled(measures(curve, facts.weights), facts.evaluations), curve["epoch"]
    best, last = int(np.argmin(values)), epochs[-1]
    if best == 0 and facts.trained and len(values) > 1:
        return Finding(
            "the start is the best: no epoch came below the potential that this run began with",
            "more new structures, or a share of the old ones again (data.rehearsal)",
        )
    if best == 0 or epochs[best] > LONG_AGO * last or last - epochs[best] < FEW_EPOCHS:
        return None
    if values[-1] < WORSE * values[best]:
        return None
    rise = 100 * (values[-1] / values[best] - 1)
    return Finding(
        f"the best epoch, {epochs[best]:.0f} of {last:.0f}, was long ago: "
        f"errors have risen by {rise:.0f} % since",
        "more structures or a smaller net; run.patience stops earlier",
    )


def still_improving(curve: Mapping[str, np.ndarray], facts: Facts) -> Finding | None:
    """More epochs would help."""
    values, epochs = measures(curve, facts.weights), curve["epoch"]
    n_epoch, falling = len(values) - 1, int(np.argmin(values)) == len(values) - 1
    remedy = f"more epochs: --resume --set run.epochs={2 * max(int(epochs[-1]), facts.epochs)}"
    if not facts.complete:
        remedy = "more time: the same command with --resume and a later limit"
    if n_epoch < 1:
        return None if facts.complete else Finding("ended within the first epoch: too early to judge", remedy)
    if not (falling or facts.complete):
        return None
    if n_epoch < FEW_EPOCHS:
        found = f"{counted(n_epoch, 'epoch')}, and the last one is the best: too few to judge"
        return Finding(found, remedy) if falling else None
    late = max(2, len(values) // 5)
    fall = 1 - values[-late:].min() / values[:-late].min()
    if fall < IMPROVING:
        return None
    found = (
        f"still improving: errors fell by {100 * fall:.0f} % in the last {late} of {epochs[-1]:.0f} epochs"
    )
    return Finding(found, remedy)


def overfits(curve: Mapping[str, np.ndarray], facts: Facts) -> Finding | None:
    """Training errors lie far below validation errors."""
    if part_that_judges(curve, facts.weights) != "validation":
        return None
    best = _best(curve, facts)
    found = []
    for kind in _kinds(curve, "validation"):
        train, validation = (curve[f"{kind.name}_rmse_{part}"][best] for part in ("train", "validation"))
        if best and kind.name in facts.weights and validation > OVERFITTED * train > 0.0:
            found.append((kind, train, validation))
    if not found:
        return None
    kind, train, validation = max(found, key=lambda one: one[2] / one[1])
    n_label = facts.n_label.get(kind.name)
    known = f"; {n_label} labels, {facts.n_weight} weights" if n_label and facts.n_weight else ""
    return Finding(
        f"{kind.name}: training {train:.3g}, validation {validation:.3g} {kind.short_unit}: "
        f"overfitting{known}",
        f"more structures with {kind.words} (mpnnp select says which)",
    )


def extrapolates(curve: Mapping[str, np.ndarray], facts: Facts) -> Finding | None:
    """Validation structures leave the range of training."""
    if not facts.outside:
        return None
    worst, share = facts.outside[0], facts.n_outside / max(facts.n_atom, 1)
    if share < OUTSIDE and worst.excess < FAR:
        return None
    return Finding(
        f"{100 * share:.2g} % of the validation atoms are outside of training, furthest (by "
        f"{100 * worst.excess:.0f} % of its range) in {worst.function}",
        "structures like these in training: mpnnp select --by farthest",
    )


CHECK_LABELS = "check sign and unit of the labels (forces are -dE/dx): mpnnp info DATA"
RULES: tuple[Callable[[Mapping[str, np.ndarray], Facts], Finding | None], ...] = (  # the most urgent first
    labels_are_wrong,
    few_stand_out,
    best_long_ago,
    still_improving,
    extrapolates,
    overfits,
)


def diagnose(curve: Mapping[str, np.ndarray], facts: Facts) -> list[Finding]:
    """Findings of all rules, the most urgent first. The first one alone where the labels are wrong: then
    nothing else means anything.
    """
    if not len(curve["epoch"]):
        return []
    found = [finding for rule in RULES if (finding := rule(curve, facts)) is not None]
    return found[:1] if labels_are_wrong(curve, facts) else found[: MOST_LINES - 1]


def in_words(findings: Sequence[Finding]) -> list[str]:
    """At most MOST_LINES lines: the findings, and what to change first."""
    if not findings:
        return ["nothing looks wrong: smaller errors need more structures or a larger net"]
    return [*(finding.text for finding in findings), f"first: {findings[0].remedy}"]


def _kinds(curve: Mapping[str, np.ndarray], part: str) -> list[LabelKind]:
    """Kinds with errors in a part."""
    return [
        kind
        for name, kind in KINDS.items()
        if np.isfinite(curve.get(f"{name}_rmse_{part}", np.array([np.nan]))).all()
    ]
