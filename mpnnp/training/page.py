"""The page of a run: one HTML file that needs no other, with its judgement, errors, pictures, worst
structures, data and configuration; and the pictures as files.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from mpnnp import __version__
from mpnnp.config import Config, parse_config
from mpnnp.errors import CheckpointError
from mpnnp.figures import DARK, INK, PAPER, save, svg, with_signs
from mpnnp.files import seems_to_be, write_text
from mpnnp.model.label_kinds import KINDS
from mpnnp.progress import counted, duration
from mpnnp.training import diagnosis, learning_curve, pictures, results
from mpnnp.training.diagnosis import Facts, Outside, StandingOut
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.measure import evaluations
from mpnnp.training.results import Results, read_results

NAME, TEMPLATE = "report.html", "page.html.j2"
PIXELS = 128  # of the page for an inch of a picture
CAPTIONS = {  # the first word of a picture's name -> title, caption
    "learning-curve": ("Learning curve", "RMSE after each epoch; forces of a part of the structures."),
    "parity": (
        "Predictions against labels",
        "Above predictions, below their errors, coloured by how many points are near; dashed: RMSE.",
    ),
    "errors": ("Distribution of errors", "Errors of forces by the element that they act on."),
}


def write(directory: Path) -> list[Path]:
    """Pictures (PNG, PDF) and page of the run in a folder, from learning-curve.csv, config.toml and, when it
    has ended, results.h5: the files written. Raises CheckpointError if it holds no run, OSError.
    """
    try:
        curve = LearningCurve(LearningCurve.read(directory / "learning-curve.csv")).columns()
        text = (directory / "config.toml").read_text(encoding="utf-8")
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise CheckpointError(
            f"{directory}: holds no run that could be reported: {error}{seems_to_be(directory)}"
        ) from None
    config = parse_config(text, str(directory / "config.toml"))
    there = (directory / results.NAME).is_file()
    found = read_results(directory / results.NAME) if there else Results({})
    drawn = _draw(curve, found)
    files = [directory / f"{name}.png" for name in drawn]
    for path, figure in zip(files, drawn.values()):
        save(figure, path)
    name = directory.resolve().name
    write_text(directory / NAME, _html(name, text, config, curve, found, drawn))
    return [directory / NAME, *files]


def _draw(curve, found):
    """Name -> Figure."""
    drawn = {"learning-curve": pictures.learning_curve(curve)}
    if found.points:
        part = found.facts.get("part", "")
        drawn |= pictures.parity(found.points, part)
        drawn["errors"] = pictures.errors(found.points, part)
    return drawn


def _html(name, text, config, curve, found, drawn):
    import jinja2

    facts, kinds = found.facts, learning_curve.shown(curve)
    environment = jinja2.Environment(autoescape=True, trim_blocks=False)
    template = environment.from_string(resources.files(__package__).joinpath(TEMPLATE).read_text("utf-8"))
    shown = []
    for picture, figure in drawn.items():
        title, caption = next(words for start, words in CAPTIONS.items() if picture.startswith(start))
        more = picture.removeprefix("parity-") if picture.startswith("parity-") else ""
        shown.append(
            {
                "title": f"{title}: {more}" if more else title,
                "caption": caption,
                "file": f"{picture}.png",
                "svg": svg(figure),
                "width": round(PIXELS * figure.get_figwidth()),
            }
        )
    levels = facts.get("noise") or {}
    return template.render(
        name=name,
        paper=PAPER,
        ink=INK,
        dark=DARK,
        summary=_summary(config, curve, facts),
        findings=diagnosis.diagnose(curve, _facts_of(config, facts)),
        facts=facts,
        kinds=[{"name": kind.name, "unit": with_signs(kind.error_unit)} for kind in kinds],
        accuracies=_accuracies(facts, kinds),
        noise=[_number(levels.get(kind.name)) for kind in kinds] if levels else [],
        pictures=shown,
        worst=[
            {
                "name": row["name"],
                "short": row["name"].rpartition("/")[2],
                "part": row["part"],
                "errors": [_number(row["errors"].get(kind.name)) for kind in kinds],
            }
            for row in facts.get("worst", ())
        ],
        outside=facts.get("diagnosis", {}).get("outside", ()),
        description=_description(config, facts),
        configuration=text,
    )


def _summary(config: Config, curve: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> str:
    if not facts:
        rows = len(curve["epoch"])
        where = f"epoch {curve['epoch'][-1]:.0f} of {config.run.last_epoch}" if rows else "its start"
        return f"The run has not ended: it stands at {where}. Trained with mpnnp {__version__}."
    return (
        f"{counted(facts['updates'], 'update')} in {duration(facts['seconds'])} "
        f"on {counted(facts['ranks'], 'rank')}, {config.run.optimizer}; "
        f"best epoch {facts['epoch']}; {facts['reason']}. mpnnp {__version__}."
    )


def _facts_of(config, facts):
    """Facts for the diagnosis: those kept, else what the configuration tells."""
    if kept := facts.get("diagnosis"):
        outside = [Outside(**one) for one in kept["outside"]]
        # results of earlier versions have none of these
        standing_out = [StandingOut(**one) for one in kept.get("standing_out", ())]
        return Facts(**{**kept, "outside": outside, "standing_out": standing_out})
    weights = {name: config.metric_weight(name) for name, kind in KINDS.items() if kind.always}
    return Facts(
        weights={name: w for name, w in weights.items() if w > 0},
        evaluations=evaluations(config),
        epochs=config.run.last_epoch,
    )


def _accuracies(facts, kinds):
    """Rows of the table of errors."""
    return [
        {
            "part": part,
            "structures": facts["counts"][part],
            "errors": [
                [_number(numbers[f"{kind.name}_{measure}"]) for measure in ("rmse", "mae")] for kind in kinds
            ],
        }
        for part, numbers in facts.get("accuracies", {}).items()
        if facts["counts"][part]
    ]


def _description(config, facts):
    """Terms and what there is to say of them: data, potential, training."""
    told = [("files", ", ".join(Path(file).name for file in config.data.files))]
    if data := facts.get("data"):
        low, high = data["atoms"]
        told += [
            ("elements", " ".join(data["elements"])),
            ("structures", ", ".join(f"{n} {part}" for part, n in facts["counts"].items())),
            ("atoms", f"{low}" if low == high else f"{low} to {high}"),
            ("labels", ", ".join(f"{n} {KINDS[k].words}" for k, n in data["labels"].items() if n)),
        ]
        if np.isfinite(data["density"]).all():
            told.append(("density", "{:.4g} to {:.4g} g/cm³".format(*data["density"])))
        told.append(("hash", data["hash"]))
    if net := facts.get("net"):
        nets = "; ".join(
            f"{e['symbol']} {'-'.join(map(str, e['sizes']))} ({counted(e['functions'], 'symmetry function')})"
            for e in net["elements"]
        )
        told += [("nets", nets), ("weights", str(net["weights"])), ("cutoff", f"{net['r_c']:.4g} Å")]
    run = config.run
    return [*told, ("optimizer", f"{run.optimizer}, schedule {config.schedule.name}, seed {run.seed}")]


def _number(value):
    return "" if value is None or not np.isfinite(value) else f"{value:.4g}"
