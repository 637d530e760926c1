"""The figures of a run as Markdown, as docs/benchmarks.md quotes them."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.verdicts import lines as verdict_lines

COLUMNS = (
    "| | images/s | per CPU second | seconds (median of n) | CPU s | S3's CPU s | worker MB |",
    "|---|---:|---:|---:|---:|---:|---:|",
)


def markdown(content: dict[str, Any]) -> str:
    """Return all scenarios of a run, a table each."""
    machine = content["machine"]
    packages = machine["versions"] | machine["peers"]
    versions = ", ".join(f"{name} {number}" for name, number in packages.items())
    load = machine["load_average_before"][0]
    lines = [f"{machine['cpu']}, {machine['cores']} cores, load {load:.1f} before. {versions}."]
    for name, scenario in content["scenarios"].items():
        lines += ["", f"**{name}**", "", *_scenario(scenario)]
    return "\n".join(lines)


def _scenario(scenario: dict[str, Any]) -> list[str]:
    images = max((figure.get("images", 0) for figure in scenario["figures"]), default=0)
    lines = [*COLUMNS, *(_row(figure, images) for figure in scenario["figures"])]
    for name, counts in scenario.get("requests", {}).items():
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
        lines.append(f"\nRequests, {name}: {told}.")
    if judged := verdict_lines(scenario["verdicts"]):
        lines += ["", *judged]
    return lines


def _row(figure: dict[str, Any], images: int) -> str:
    if "failed" in figure:
        return f"| {figure['name']} | failed | | | | | |"
    fewer = f", {figure['images']:,} images" if figure["images"] < images else ""
    cells = [
        figure["name"],
        f"{figure['images_per_second']:.1f}",
        f"{figure['images_per_cpu_second']:.1f}" if figure["cpu"] else "-",
        f"{figure['median_seconds']:.2f} ({figure['repetitions']}){fewer}",
        f"{statistics.median(figure['cpu']):.1f}" if figure["cpu"] else "-",
        f"{figure['median_s3_cpu']:.1f}",
        f"{figure['worker_mb']:.0f}" if figure["worker_mb"] else "-",
    ]
    return f"| {' | '.join(cells)} |"
