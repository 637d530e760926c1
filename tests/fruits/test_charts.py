"""Charts: what is drawn is what the numbers say, and it stays inside its frame."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from fruits.charts import BARS, scatter_chart, scree, timeline
from fruits.scatters import Scatter
from fruits.timelines import Span

START = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


def numbers(path: str) -> list[tuple[float, float]]:
    """Return the points of a path."""
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def test_a_bar_is_as_high_as_its_share() -> None:
    """Bars stand on the axis, a share of the variance high; the line ends at their sum."""
    chart = scree([0.5, 0.25, 0.125], target=0.95)

    assert chart
    height = chart.frame.inner_height
    assert [bar.height / height for bar in chart.bars] == pytest.approx(
        [0.5, 0.25, 0.125], abs=1e-3
    )
    assert {bar.y + bar.height for bar in chart.bars} == {chart.frame.y(0)}
    assert numbers(chart.path)[-1][1] == chart.frame.y(0.875)
    assert chart.target == chart.frame.y(0.95)


@pytest.mark.parametrize("count", [1, 2, 30, 512])
def test_any_number_of_components_fits(count: int) -> None:
    """One component or hundreds: all of it inside the frame; of hundreds 30 have a bar."""
    chart = scree([1 / count] * count, target=None)

    assert chart
    assert len(chart.bars) == (count if count <= 4 * BARS else BARS)
    assert all(bar.x + bar.width <= chart.frame.x(1) + 0.1 for bar in chart.bars)
    assert len(numbers(chart.path)) == count
    assert len({tick.text for tick in chart.x_ticks}) == len(chart.x_ticks)


def test_nothing_to_draw_is_no_chart() -> None:
    """Without numbers there is no empty frame."""
    assert (scree([], 0.9), scatter_chart(None), timeline([])) == (None, None, None)
    assert scatter_chart(Scatter("v", 0, (), ())) is None


def test_each_label_is_one_path_inside_the_frame() -> None:
    """As many dots as points, none outside; points that are all the same are drawn too."""
    some = Scatter("v", 9, ("a", "b"), ((-5.0, 2.0, 0), (3.0, -1.0, 1), (0.0, 0.0, 1)))
    same = Scatter("v", 2, ("a",), ((1.0, 1.0, 0), (1.0, 1.0, 0)))

    for scatter, counts in ((some, [1, 2]), (same, [2])):
        chart = scatter_chart(scatter)

        assert chart
        assert [len(numbers(dots.path)) for dots in chart.dots] == counts
        for x, y in (point for dots in chart.dots for point in numbers(dots.path)):
            assert chart.frame.x(0) <= x <= chart.frame.x(1)
            assert chart.frame.y(1) <= y <= chart.frame.y(0)


def test_lanes_keep_the_order_and_the_share_of_time() -> None:
    """A span begins and ends where its time is, also one that took no time."""
    spans = [
        Span("run", "run", START, START + timedelta(minutes=10)),
        Span("starting", "start", START + timedelta(minutes=2.5), START + timedelta(minutes=5)),
        Span("blink", "step", START + timedelta(minutes=5), START + timedelta(minutes=5)),
    ]

    chart = timeline(spans)

    assert chart
    assert [(lane.span.name, lane.begin, lane.length) for lane in chart.lanes] == [
        ("run", 0, 1),
        ("starting", 0.25, 0.25),
        ("blink", 0.5, 0),
    ]
