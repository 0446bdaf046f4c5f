"""Pictures: colours that can be seen and mean the same everywhere, ticks that do not overprint, files."""

import re

import numpy as np
import pytest

from mpnnp import figures
from mpnnp.figures import DARK, INK, PALETTE, PAPER


def luminance(colour):
    """Relative luminance of "#rrggbb" (WCAG 2.1)."""
    c = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(one, two):
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("background", [PAPER, DARK])
def test_every_colour_is_seen_on_paper_and_on_a_dark_page(background):
    """3:1, what WCAG 2.1 asks of graphics."""
    from matplotlib.colors import to_hex

    sampled = [to_hex(c) for c in figures.density_colours()(np.linspace(0, 1, 11))]
    assert {c: contrast(c, background) for c in [*PALETTE, *sampled] if contrast(c, background) < 3.0} == {}
    assert contrast(INK, PAPER) > 7.0


def test_a_name_has_the_same_colour_in_every_picture():
    one, two = (
        figures.colours(["training", "validation"]),
        figures.colours(["validation", "other", "training"]),
    )
    assert all(one[name] == two[name] for name in one) and len(set(two.values())) == 3
    assert figures.colours(["train"])["train"] == one["training"]
    elements = figures.colours(["H", "O", "Cu", "Zn"])
    assert elements["H"] == figures.colours(["H", "C"])["H"] and len(set(elements.values())) == 4
    assert len(figures.colours([f"run {k}" for k in range(20)])) == 20


@pytest.mark.parametrize("low, high", [(48.0, 52.0), (40.0, 120.0), (3.0, 900.0), (1e-3, 1e4), (0.31, 0.36)])
@figures.style()
def test_numbers_of_a_logarithmic_axis_do_not_overprint(low, high):
    picture, axes = figures.figure(2)
    for axis in axes:
        axis.plot([1, 2], [low, high])
        figures.log_axis(axis)
    picture.draw_without_rendering()
    boxes = [
        label.get_window_extent()
        for label in axes[0].get_yticklabels(which="both")
        if label.get_text() and low <= label.get_position()[1] <= high
    ]
    assert len(boxes) >= 2
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


@pytest.mark.parametrize(
    "low, high", [(220.0, 20148.0), (1000.0, 100000.0), (48.0, 52.0), (3.0, 180.0), (3.0, 900.0), (1e-3, 1e4)]
)
@figures.style()
def test_numbers_beside_each_other_do_not_overprint(low, high):
    picture, axes = figures.figure(4)
    for axis in axes:
        axis.plot([low, high], [1, 2])
        axis.set_ylabel("RMSE of energy (meV/atom)")
        figures.log_axis(axis, "x")
    picture.draw_without_rendering()
    boxes = [
        label.get_window_extent()
        for label in axes[0].get_xticklabels(which="both")
        if label.get_text() and low <= label.get_position()[0] <= high
    ]
    assert len(boxes) >= 2
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


@pytest.mark.parametrize("last", [1, 2, 3, 7, 25, 4000])
def test_epochs_are_whole_numbers(last):
    picture, axes = figures.figure(1)
    axes[0].plot([0, last], [1, 2])
    figures.whole_numbers(axes[0])
    picture.draw_without_rendering()
    assert all(tick == round(tick) for tick in axes[0].get_xticks())


def test_a_point_alone_is_seen():
    assert figures.line_style([3.0])["marker"] == "o"


@pytest.mark.parametrize("n, shape", [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (4, (2, 2)), (6, (3, 2))])
def test_panels_stand_in_rows_of_two(n, shape):
    picture, axes = figures.figure(n)
    assert len(axes) == n == len(picture.axes)
    assert axes[0].get_gridspec().get_geometry() == shape


def test_a_picture_is_written_for_the_screen_and_for_print(tmp_path):
    picture, axes = figures.figure(1)
    axes[0].plot([1, 2], [1, 2])
    figures.save(picture, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    figures.save(picture, tmp_path / "b.pdf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pdf", "a.png", "b.pdf"]


def test_a_picture_in_a_page_takes_the_colour_of_its_text():
    picture, axes = figures.figure(1)
    axes[0].plot([1, 2], [1, 2])
    text = figures.svg(picture)
    assert text.startswith("<svg") and "currentColor" in text and INK not in text
    assert PALETTE[0] in text
    assert not re.search(r'id="patch_1">\s*<path[^>]*fill: #ffffff', text)  # no paper of its own


def test_the_style_ends_with_the_picture():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with figures.style():
        assert mpl.rcParams["axes.edgecolor"] == INK
    assert dict(mpl.rcParams) == before


def test_dense_points_are_drawn_last():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5000))
    order, tones = figures.by_density(x, y)
    assert sorted(order) == list(range(5000)) and tones.shape == (5000, 4)
    radius = np.hypot(x, y)[order]
    assert radius[-500:].mean() < 0.5 * radius[:500].mean()
    assert (tones[0] != tones[-1]).any()
    alone = figures.by_density(np.arange(5.0), np.arange(5.0))[1]
    assert (alone == alone[0]).all()
