"""What a run of the benchmark says of itself."""

from typing import Any

from benchmarks.verdicts import AGAIN, OURS, lines, verdicts

LOOP = "the same loop without Spark"


def row(name: str, *seconds: float) -> dict[str, Any]:
    """Return the figure of a contender that did 100 images in each of so many *seconds*."""
    median = sorted(seconds)[len(seconds) // 2]
    return {"name": name, "images": 100, "seconds": list(seconds), "median_seconds": median}


def of(other: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the verdict about *other*."""
    return next(one for one in found if one.get("other") == other)


def test_a_ratio_is_of_the_median_of_both_runs() -> None:
    """A machine that slowed down during the run does not decide by who came first."""
    first, last = (
        [row(OURS, 1.0, 1.0, 1.0), row(LOOP, 0.9, 0.9, 0.9)],
        [row(OURS + AGAIN, *[2.0] * 4)],
    )

    verdict = of(LOOP, verdicts("step", first + last))

    assert verdict["ratio"] == 0.45
    assert verdict["met"] is False


def test_a_peer_is_its_fastest_form() -> None:
    """Ours has to be ahead of the better of a peer's two forms, and a failed one is named."""
    figures = [row(OURS, 1.0), row("Daft, images", 4.0), row("Daft, bytes", 0.5)]
    failed = {"name": "Ray Data, images", "failed": "why"}

    found = verdicts("step", [*figures, failed, row("Ray Data, bytes", 2.0)])

    assert of("Daft", found)["met"] is False
    assert of("Ray Data", found)["met"] is True
    assert "Ray Data, images failed" in "\n".join(lines(found))


def test_what_was_not_measured_is_not_met() -> None:
    """Without a contender's figure nothing is claimed of it."""
    told = lines(verdicts("step", [row(OURS, *[1.0] * 5), row(LOOP, *[1.0] * 5)]))

    assert "not measured: model only" in told[-1]
    assert LOOP not in told[-1]


def test_few_repetitions_are_told() -> None:
    """The quick run prints ratios, and that they decide nothing."""
    told = lines(verdicts("step", [row(OURS, 1.0), row(LOOP, 1.0)]))

    assert told[0].endswith("met (repetitions: 1, for a verdict 5)")
    assert f"too few repetitions: {LOOP}" in told[-1]


def test_scenarios_without_rules_have_no_verdict() -> None:
    """Engines and cores are compared, and nobody has to win."""
    assert lines(verdicts("engines", [row("litert, batch 8", 1.0)])) == []
