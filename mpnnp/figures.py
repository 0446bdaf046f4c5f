"""Pictures without a display, in one style."""

from mpnnp.files import write_atomically


def figure(n_column, height=4.0):
    """Figure and axes side by side, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(5.0 * n_column, height), layout="constrained")
    FigureCanvasAgg(picture)
    return picture, picture.subplots(1, n_column, squeeze=False)[0]


def save(picture, path):
    with write_atomically(path) as temporary:
        picture.savefig(temporary, dpi=130)
