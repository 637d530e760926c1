"""Charts as geometry: numbers in, coordinates out; the templates draw them as inline SVG.

Coordinates are in the units of the chart's viewBox, y pointing down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fruits.scatters import Scatter
from fruits.timelines import Span
from fruits.wording import plural

BARS = 30


@dataclass(frozen=True)
class Frame:
    """The size of a chart and the margins that its labels need."""

    width: float = 480
    height: float = 260
    left: float = 44
    right: float = 12
    top: float = 14
    bottom: float = 34

    @property
    def inner_width(self) -> float:
        """The width of what is drawn."""
        return self.width - self.left - self.right

    @property
    def inner_height(self) -> float:
        """The height of what is drawn."""
        return self.height - self.top - self.bottom

    def x(self, share: float) -> float:
        """Return the place at *share*, 0 to 1, of the width."""
        return round(self.left + share * self.inner_width, 1)

    def y(self, share: float) -> float:
        """Return the place at *share*, 0 to 1, of the height, counted from below."""
        return round(self.top + (1 - share) * self.inner_height, 1)


@dataclass(frozen=True)
class Bar:
    """One rectangle with what it says when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Tick:
    """A label on an axis, at *place*."""

    place: float
    text: str


@dataclass(frozen=True)
class Scree:
    """Variance by component as bars, cumulated as a line (*path*), and the *target*'s height."""

    frame: Frame
    bars: tuple[Bar, ...]
    path: str
    target: float | None
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    summary: str


def scree(ratios: Sequence[float], target: float | None) -> Scree | None:
    """Return the scree plot of *ratios*, each component's share of the total variance.

    More than 120 bars would be hairlines: then 30 are drawn, and the line alone goes on to the end.
    """
    if not ratios:
        return None
    frame, count = Frame(), len(ratios)
    step = 1 / count
    shown = min(count, BARS) if count > 4 * BARS else count
    bars = tuple(
        Bar(
            frame.x(index * step),
            frame.y(ratio),
            round(max(0.6, frame.inner_width * step * 0.8), 2),
            round(ratio * frame.inner_height, 1),
            f"component {index + 1}: {ratio:.1%}",
        )
        for index, ratio in enumerate(ratios[:shown])
    )
    total, line = 0.0, []
    for index, ratio in enumerate(ratios):
        total += ratio
        line.append(f"{frame.x((index + 0.4) * step):g} {frame.y(min(total, 1)):g}")
    marks = sorted({1, *(max(1, round(count * part / 4)) for part in range(1, 5))})
    return Scree(
        frame,
        bars,
        "M" + "L".join(line),
        frame.y(target) if target else None,
        tuple(Tick(frame.x((mark - 0.6) * step), str(mark)) for mark in marks),
        tuple(Tick(frame.y(part / 4), f"{part / 4:.0%}") for part in range(5)),
        f"{plural(count, 'component')}: {total:.1%} of the variance, {ratios[0]:.1%} in the first.",
    )


@dataclass(frozen=True)
class Dots:
    """All points of one label as one path of zero-length strokes, whose caps are the dots."""

    label: str
    path: str


@dataclass(frozen=True)
class ScatterChart:
    """Images in the plane of the first two components."""

    frame: Frame
    dots: tuple[Dots, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    summary: str


def scatter_chart(scatter: Scatter | None) -> ScatterChart | None:
    """Return the sample's chart; None if there is none."""
    if scatter is None or not scatter.points:
        return None
    frame = Frame(height=320)
    x_low, x_high = _range([x for x, _, _ in scatter.points])
    y_low, y_high = _range([y for _, y, _ in scatter.points])
    strokes: list[list[str]] = [[] for _ in scatter.labels]
    for x, y, index in scatter.points:
        across = frame.x((x - x_low) / (x_high - x_low))
        strokes[index].append(f"M{across:g} {frame.y((y - y_low) / (y_high - y_low)):g}h0")
    dots = tuple(
        Dots(label, "".join(path)) for label, path in zip(scatter.labels, strokes, strict=True)
    )
    groups = plural(len(scatter.labels), "group")
    ends = ((0.0, x_low, y_low), (1.0, x_high, y_high))
    return ScatterChart(
        frame,
        dots,
        tuple(Tick(frame.x(share), f"{x:.3g}") for share, x, _ in ends),
        tuple(Tick(frame.y(share), f"{y:.3g}") for share, _, y in ends),
        f"{len(scatter.points):,} of {scatter.n_images:,} images, {groups}.",
    )


@dataclass(frozen=True)
class Lane:
    """One span of a timeline: where it begins and how long it is, as shares of the whole."""

    span: Span
    begin: float
    length: float


@dataclass(frozen=True)
class Timeline:
    """What happened when, a lane for each span."""

    lanes: tuple[Lane, ...]


def timeline(spans: Sequence[Span]) -> Timeline | None:
    """Return the timeline of *spans*; None if there is none."""
    if not spans:
        return None
    start, end = min(span.start for span in spans), max(span.end for span in spans)
    whole = max((end - start).total_seconds(), 1.0)
    lanes = tuple(
        Lane(
            span,
            round((span.start - start).total_seconds() / whole, 4),
            round(max(span.seconds, 0.0) / whole, 4),
        )
        for span in spans
    )
    return Timeline(lanes)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the least and the greatest value with some room, never the same number twice."""
    low, high = min(values), max(values)
    room = (high - low) * 0.04 or 1.0
    return low - room, high + room
