"""What is told of the labels of a file that ASE reads: where they were found, what was left out, and what
may have been overlooked.
"""

from __future__ import annotations

from collections.abc import Callable

from mpnnp.data.label_values import CALCULATOR, MASK, is_gradient, plain
from mpnnp.data.labels import Labels, named
from mpnnp.data.suspects import several_states
from mpnnp.progress import counted
from mpnnp.units import METAL

__all__ = ["tell"]


def tell(labels: Labels, report: Callable[[str], object]) -> None:
    """One line: where each label was found, and how often; and warnings, by `labels.warn`, of what was left
    out, contradicts what was taken, or looks like a label but is not read.
    """
    report(f"{labels.path}: {counted(labels.n_frame, 'frame')}, {', '.join(_found(labels))}")
    for doubts in (_left_out, _contradictions, _stresses, _frames, _not_read):
        for text in doubts(labels):
            labels.warn(f"{labels.path}: {text}")


def _found(labels):
    for kind, choice in labels.choice.items():
        if choice is None:
            yield f"no {kind}"
            continue
        count = "" if labels.found[kind] == labels.n_frame else f" in {labels.found[kind]} of them"
        others = ", ".join(dict.fromkeys(plain(n) for n in labels.others[kind] if plain(n) != plain(choice)))
        also = f" (also there: {others}; see {kind}_key)" if others else ""
        minus = "minus " if kind == "forces" and is_gradient(choice) else ""
        yield f"{kind} from {minus}{plain(choice)!r}{count}{also}"
    if labels.masked:
        yield f"forces masked by {MASK!r}"
    if labels.weights:
        yield f"weights from {', '.join(sorted(labels.weights))}"
    if labels.by_format and labels.units not in (None, METAL):
        yield f"in {METAL}, as ASE gives files whose format says the units ({labels.units} is for others)"
    elif not labels.by_format and (units := labels.units or labels.stated):
        yield f"in {units}"


def _left_out(labels):
    name = str(plain(labels.choice["stress"]))
    names = name + "es" if name.endswith("ss") else name.removesuffix("s") + "s"
    if labels.n_without_volume:
        yield f"left out, of structures without a volume: {counted(labels.n_without_volume, name, names)}"
    if labels.n_open:
        yield (
            "left out, of structures that are not periodic in all directions: "
            f"{counted(labels.n_open, name, names)}"
        )


def _contradictions(labels):
    for kind, names in labels.others.items():
        for name, places in names.items():
            if not places:
                continue
            choice = labels.choice[kind]
            remedy = f"choose one with {kind}_key"
            if plain(name) == plain(choice):
                remedy = f"remove one of them, or choose with {kind}_key = '{CALCULATOR}{plain(name)}'"
            yield (
                f"{kind}: {named(name, choice)} contradicts {named(choice, name)}, which is taken, in "
                f"{counted(len(places), 'frame')} (the first: {places[0]}); {remedy}"
            )


def _stresses(labels):
    stress = plain(labels.choice["stress"])
    if units := labels.unsaid:
        said = f"{units.energy_name}/{units.length_name}^3"
        yield (
            f"{stress!r} is taken in eV/Angstrom^3, as the units {units} name none of stresses: say theirs, "
            f"as in '{units} {said}'"
        )
    if labels.n_six:
        yield f"the six numbers of {stress!r} are taken as xx yy zz yz xz xy"
    if labels.n_uneven:
        are = "is" if labels.n_uneven == 1 else "are"
        yield (
            f"{counted(labels.n_uneven, 'tensor')} under {stress!r} {are} not symmetric; the means of both "
            "triangles are taken: are the nine numbers in the order xx xy xz yx ...?"
        )


def _frames(labels):
    if labels.parts:
        numbers = ", ".join(sorted(labels.parts)[:5])
        yield f"split = {numbers}: does not say what is for validation, and is not read"
    for name, values in labels.suspects.states.items():
        if message := several_states(f"{name!r} of frames", values):
            yield message


def _not_read(labels):
    missing = [kind for kind, choice in labels.choice.items() if choice is None and labels.guess[kind]]
    if suspects := labels.suspects.of_missing(missing):
        in_words = ", ".join(
            f"{name!r}" + (f" ({shape})" if shape else "") for name, shape in suspects.items()
        )
        yield (
            f"not read, but perhaps labels: {in_words}; choose names with energy_key, forces_key, stress_key"
        )
