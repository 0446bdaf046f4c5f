"""Pictures without a display, in one style: what is drawn alike means the same in all of them.

Colours are of middle lightness, so that they can be told from white paper and from a dark page; a group (a
part of the data, an optimiser, an element) has the same colour in every picture.
"""

import contextlib
import io
from pathlib import Path

from mpnnp.errors import ConfigError
from mpnnp.files import write_atomically

PAPER, DARK = "#ffffff", "#14171a"  # backgrounds that pictures are read on
INK = "#24292e"  # of axes and letters on paper; `svg` gives them the colour of the page
PALETTE = (
    "#3b7dd8",  # blue
    "#d9730d",  # orange
    "#2a9558",  # green
    "#d1495b",  # red
    "#8e6bbf",  # purple
    "#1c8f9c",  # teal
    "#a5714b",  # brown
    "#c75d9e",  # pink
    "#7c848c",  # grey
)
FIXED = {
    "training": PALETTE[0],
    "train": PALETTE[0],
    "validation": PALETTE[1],
    "ekf": PALETTE[0],
    "adam": PALETTE[1],
    "H": PALETTE[0],
    "C": PALETTE[8],
    "N": PALETTE[4],
    "O": PALETTE[3],
}
STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#9aa1a8",
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "legend.facecolor": PAPER,  # curves behind the words of a legend are pale
    "legend.edgecolor": "none",
    "legend.framealpha": 0.8,
    "legend.fontsize": 8.0,
    "image.cmap": "viridis",
    "figure.facecolor": PAPER,
    "svg.fonttype": "path",
}
MAXIMUM_COLUMNS = 2  # panels beside each other that can be read at the width of a page
DPI = 150
KINDS = (".png", ".pdf", ".svg")  # of files
WIDTH = 3.6  # of a panel, inches
MANY_POINTS = 20  # near each other: the last colour of a density, unless there are more
MANY_DECADES = 2.2  # of a logarithmic axis from which on powers of ten are enough ...
MANY_LETTERS = 9  # ... and of one along x times the digits of its largest number


@contextlib.contextmanager
def style():
    """Context manager in which everything is drawn and saved in the style of these pictures."""
    import matplotlib as mpl
    from cycler import cycler

    with mpl.rc_context(STYLE | {"axes.prop_cycle": cycler(color=PALETTE)}):
        yield


def figure(n_panel, height=2.9, columns=MAXIMUM_COLUMNS, height_ratios=None, width=WIDTH):
    """Figure and its first n_panel axes, in rows of at most `columns`, drawn without a display.

    height         of a row, inches; with height_ratios (of the rows) the mean over the rows
    width          of a panel, inches
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_column = min(n_panel, columns)
    n_row = -(-n_panel // n_column)
    total = width * n_column if n_column > 1 else 1.4 * width
    with style():
        picture = Figure(figsize=(total, height * n_row), layout="constrained")
        FigureCanvasAgg(picture)
        ratios = {"height_ratios": height_ratios} if height_ratios else {}
        axes = picture.subplots(n_row, n_column, squeeze=False, gridspec_kw=ratios).ravel()
        for axis in axes[n_panel:]:
            axis.remove()
    return picture, axes[:n_panel]


def colours(names):
    """Name -> colour: the one that the name has in every picture, others in turn from what is left."""
    fixed = {name: FIXED[name] for name in names if name in FIXED}
    free = [colour for colour in PALETTE if colour not in fixed.values()] or list(PALETTE)
    others = [name for name in names if name not in fixed]
    return fixed | {name: free[k % len(free)] for k, name in enumerate(others)}


def check_name(path):
    """Raise ConfigError unless a picture can be written under this name."""
    if Path(path).suffix not in KINDS:
        raise ConfigError(f"{path}: pictures are written as {', '.join(KINDS)}: give a name that ends so")


def save(picture, path):
    """Write a picture to `path` and, if that is no PDF, as NAME.pdf beside it for print."""
    path = Path(path)
    check_name(path)
    for target in dict.fromkeys((path, path.with_suffix(".pdf"))):
        with write_atomically(target) as temporary:
            _print(picture, temporary, target.suffix.lstrip("."))


def svg(picture):
    """A picture as text to be put into an HTML page: its letters and axes have the colour of the text
    around it, its background is that of the page.
    """
    legends = [legend for axis in picture.axes if (legend := axis.get_legend()) is not None]
    backgrounds = [picture.patch, *(axis.patch for axis in picture.axes), *(x.get_frame() for x in legends)]
    for patch in backgrounds:
        patch.set_visible(False)
    with io.StringIO() as file:
        _print(picture, file, "svg", metadata={"Date": None})
        text = file.getvalue()
    for patch in backgrounds:
        patch.set_visible(True)
    return text[text.index("<svg") :].replace(INK, "currentColor")


def _print(picture, file, kind, **options):
    """Write a picture as PNG, PDF or SVG, by the canvas itself: `savefig` would draw it twice. The places of
    all that is in it are found once, not anew for each file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    canvas = {"png": FigureCanvasAgg, "pdf": FigureCanvasPdf, "svg": FigureCanvasSVG}[kind]
    with style():
        if picture.get_constrained_layout():
            picture.draw_without_rendering()
            picture.set_layout_engine("none")
        picture.set_dpi(DPI)
        getattr(canvas(picture), f"print_{kind}")(file, **options)


def log_axis(axis, which="y"):
    """Make an axis ("x" or "y") logarithmic, with numbers that do not overprint: powers of ten over many
    decades, else 1, 2 and 5 times them, and more of them within a factor of about three. Call it when
    everything is drawn.
    """
    import numpy as np
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axis, f"set_{which}scale")("log")
    low, high = getattr(axis, f"get_{which}lim")()
    decades = np.log10(high / low)
    line = getattr(axis, f"{which}axis")
    line.set_minor_formatter(NullFormatter())
    room = MANY_DECADES if which == "y" else min(MANY_DECADES, MANY_LETTERS / len(f"{high:.0f}"))
    if decades > room:
        return
    subs = (1.0, 2.0, 5.0) if decades > 0.5 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    line.set_major_locator(LogLocator(subs=subs))
    line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def whole_numbers(axis, which="x"):
    """Ticks of an axis of counts, epochs say, at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    getattr(axis, f"{which}axis").set_major_locator(MaxNLocator(nbins=7, integer=True))


def density_colours():
    """Colour map of counts and densities: seen on paper and on a dark page from its first colour on."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("mpnnp", ["#6c87a8", *(PALETTE[k] for k in (0, 4, 3, 1))])


def by_density(x, y):
    """(order, colours) in which points (n,) are drawn: the densest last, coloured by how many there are in
    their neighbourhood, a hundredth of the picture each way.
    """
    import numpy as np

    counts, x_edges, y_edges = np.histogram2d(x, y, bins=100)
    cells = [
        np.clip(np.searchsorted(edges, values, side="right") - 1, 0, 99)
        for edges, values in ((x_edges, x), (y_edges, y))
    ]
    density = np.log(counts[cells[0], cells[1]])  # each cell holds at least the point itself
    order = np.argsort(density, kind="stable")
    return order, density_colours()(density[order] / max(density.max(), np.log(MANY_POINTS)))


def line_style(x):
    """Keywords of a curve through the points x: each point is seen where they are few."""
    return {"marker": "o", "markersize": 3.0} if len(x) <= 40 else {"marker": "none"}


def with_signs(unit):
    """A unit as pictures show it."""
    return unit.replace("Angstrom", "Å").replace("/A", "/Å").replace("^2", "²").replace("^3", "³")
