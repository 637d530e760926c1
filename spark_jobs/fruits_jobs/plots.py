"""What a fitted version looks like: its explained variance, and its first two components."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fruits_jobs.bases import Basis
from fruits_jobs.objects import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LABELS = 132  # with more, only the most frequent ones have a colour and a number
PER_COLUMN = 33
LONGEST_NAME = 26
OTHER = "#c8c8c8"
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 150},
    "svg": {"dpi": 150, "metadata": {"Date": None}},  # the same figure, the same bytes
}

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # it comes with matplotlib
    "svg.hashsalt": "fruits",  # the same figure, the same ids
    "text.parse_math": False,  # a label with two dollar signs is no formula
}

Points = npt.NDArray[np.float64]


def write_plots(
    basis: Basis,
    target: float | None,
    labels: list[str],
    components: npt.NDArray[np.float32],
    *,
    folder: str,
    region: str,
) -> list[str]:
    """Draw both figures as PNG and SVG into *folder*; return the files' names.

    *labels* and *components*, float32[N, k], are of a sample of the images.
    """
    import matplotlib as mpl

    names = []
    with mpl.rc_context(STYLE):
        figures = {
            "explained_variance": explained_variance_figure(basis, target),
            "components": components_figure(labels, components, basis),
        }
        for name, figure in figures.items():
            for suffix, options in FORMATS.items():
                buffer = io.BytesIO()
                figure.savefig(buffer, format=suffix, **options)
                write_bytes(f"{folder}{name}.{suffix}", buffer.getvalue(), region)
                names.append(f"{name}.{suffix}")
    return names


def explained_variance_figure(basis: Basis, target: float | None) -> Figure:
    """Return the cumulative share of the total variance over the number of components."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    kept = np.cumsum(basis.eigenvalues) / basis.eigenvalues.sum()
    shown = max(2 * basis.k, int(np.searchsorted(kept, 0.999)) + 1, 10)
    shown = min(shown, len(kept))
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(np.arange(1, shown + 1), kept[:shown], color="#1b6e3c", linewidth=2)
    axes.axvline(basis.k, color="#444444", linestyle="--", linewidth=1)
    axes.plot([basis.k], [kept[basis.k - 1]], "o", color="#1b6e3c")
    if target is not None:
        axes.axhline(target, color="#b3261e", linestyle=":", linewidth=1.5)
        axes.text(0, target, f" target {target:.1%}", color="#b3261e", va="bottom")
    axes.set_title(f"{basis.k} components keep {kept[basis.k - 1]:.2%} of the total variance")
    axes.set_xlabel("components")
    axes.set_ylabel("cumulative explained variance")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    return figure


def components_figure(
    labels: list[str], components: npt.NDArray[np.float32], basis: Basis
) -> Figure:
    """Return the images in the plane of the first two components, coloured by label.

    Colours alone cannot tell 130 labels apart: each label has a number where most of its images
    lie, and the key has number, colour and name. With one component, all lie on a line.
    """
    from matplotlib.figure import Figure

    chosen = sorted(name for name, _ in Counter(labels).most_common(MOST_LABELS))
    columns = max(1, -(-len(chosen) // PER_COLUMN))
    # Placed by hand, in inches: a layout engine would give most of the figure to the key.
    wide = 11 + 2.6 * columns
    figure = Figure(figsize=(wide, 10))
    axes = figure.add_axes((0.9 / wide, 0.06, 9.6 / wide, 0.89))
    points = np.zeros((len(labels), 2))
    points[:, : min(2, basis.k)] = components[:, :2]
    names = np.array(labels)
    others = ~np.isin(names, chosen)
    rest = points[others]
    # Points of an SVG are one picture: thousands of circles would make it slow to open.
    axes.scatter(rest[:, 0], rest[:, 1], s=6, color=OTHER, linewidths=0, rasterized=True)
    middles = []
    for colour, name in zip(colours(len(chosen)), chosen, strict=True):
        mine = points[names == name]
        dots = axes.scatter(mine[:, 0], mine[:, 1], s=9, color=[colour], linewidths=0)
        dots.set(alpha=0.6, rasterized=True)
        middles.append(np.median(mine, axis=0))
    _describe(axes, basis, len(labels), int(others.sum()))
    _number(axes, np.array(middles), colours(len(chosen)))
    _key(figure, chosen, 10.5 / wide, columns)
    return figure


def colours(count: int) -> list[tuple[float, float, float]]:
    """Return *count* colours of which neighbours in the list differ much."""
    from matplotlib.colors import hsv_to_rgb

    hues = np.arange(count) * 0.618033988749895 % 1.0  # the golden ratio spreads any number
    values = np.array([0.75, 0.5, 0.62])[np.arange(count) % 3]
    saturation = np.array([0.95, 0.75, 0.6, 1.0])[np.arange(count) % 4]
    found = hsv_to_rgb(np.column_stack([hues, saturation, values]))
    return [(float(r), float(g), float(b)) for r, g, b in found]


def spread_out(points: Points, apart: float, rounds: int = 200) -> Points:
    """Return places near *points* [N, 2], no two of which are much nearer than *apart*."""
    # Two labels in one spot need some direction to part in.
    angles = np.arange(len(points)) * 2.4
    places = points + 1e-3 * apart * np.column_stack([np.cos(angles), np.sin(angles)])
    for _ in range(rounds):
        away = places[:, None] - places[None, :]
        distances = np.linalg.norm(away, axis=2) + np.eye(len(points)) * 1e9
        push = np.clip(apart - distances, 0, None) / 2
        if not push.any():
            break
        places = places + (away / distances[:, :, None] * push[:, :, None]).sum(axis=1) * 0.5
    return places


def _describe(axes: Axes, basis: Basis, shown: int, others: int) -> None:
    ratio = basis.explained_variance_ratio
    grey = f", {others:,} of rarer labels in grey" if others else ""
    axes.set_title(f"{shown:,} images by their first two components{grey}")
    axes.set_xlabel(f"component 1 ({ratio[0]:.1%} of the variance)")
    if basis.k > 1:
        axes.set_ylabel(f"component 2 ({ratio[1]:.1%} of the variance)")
    axes.grid(alpha=0.25)


def _number(axes: Axes, middles: Points, of_labels: list[tuple[float, float, float]]) -> None:
    from matplotlib.patheffects import withStroke

    if not len(middles):
        return
    to_pixels = axes.transData
    places = to_pixels.inverted().transform(
        spread_out(to_pixels.transform(middles), apart=axes.figure.dpi * 0.2)
    )
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for number, (middle, place) in enumerate(zip(middles, places, strict=True), start=1):
        colour = of_labels[number - 1]
        axes.plot(*np.array([middle, place]).T, color=colour, linewidth=0.8)
        axes.text(
            place[0], place[1], str(number), color=colour, size=8, weight="bold", path_effects=halo,
            ha="center", va="center",
        )  # fmt: skip


def _key(figure: Figure, names: list[str], left: float, columns: int) -> None:
    width = (1 - left - 0.02) / columns
    for index, (name, colour) in enumerate(zip(names, colours(len(names)), strict=True)):
        column, row = divmod(index, PER_COLUMN)
        short = " ".join(name.split()) or "(no label)"
        if len(short) > LONGEST_NAME:
            short = f"{short[: LONGEST_NAME - 10]}…{short[-9:]}"  # varieties differ at the end
        x, y = left + 0.02 + column * width, 0.94 - row * (0.9 / PER_COLUMN)
        figure.text(x, y, f"{index + 1}", color=colour, weight="bold", size=9, ha="right")
        figure.text(x + 0.006, y, short, size=9)
