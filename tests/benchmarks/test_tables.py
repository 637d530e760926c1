"""The tables of a benchmark say what their figures are of."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import markdown


def test_a_row_of_fewer_images_says_so() -> None:
    """A trial over a third of the images has other fixed costs than the rows beside it."""
    figures = [_figure("Daft, images", 1_960), _figure("Daft, bytes", 5_880)]

    trial, full = markdown(_run(figures)).splitlines()[-2:]

    assert "| 10.00 (1), 1,960 images |" in trial
    assert "| 10.00 (1) |" in full


def test_a_contender_that_failed_has_a_row() -> None:
    """Nobody is left out of a table in silence."""
    failed = {"name": "Ray Data, bytes", "failed": "it ran out of memory"}

    *_, row = markdown(_run([_figure("Daft, bytes", 5_880), failed])).splitlines()

    assert row.startswith("| Ray Data, bytes | failed |")


def _figure(name: str, images: int) -> dict[str, Any]:
    return {
        "name": name,
        "images": images,
        "cpu": [],
        "images_per_second": images / 10,
        "images_per_cpu_second": None,
        "median_seconds": 10.0,
        "repetitions": 1,
        "median_s3_cpu": 1.0,
        "worker_mb": 0,
    }


def _run(figures: list[dict[str, Any]]) -> dict[str, Any]:
    machine = {"cpu": "any", "cores": 2, "load_average_before": [0.0], "versions": {}, "peers": {}}
    scenario = {"figures": figures, "verdicts": []}
    return {"machine": machine, "scenarios": {"step": scenario}}
