"""Whether a run shows what it was made to show: ours in proportion to its bounds and its peers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

AGAIN = ", again"  # ends the name of a contender that runs a second time, to be told apart
ENOUGH = 5  # repetitions
Row = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """*ours* does at least *least* times as many images a second as *other*, in any of its forms.

    Both are what contenders' names begin with.
    """

    ours: str
    other: str
    least: float


OURS = "ours, step, steady state"
RULES = {
    "step": (
        Rule(OURS, "the same loop without Spark", 0.90),
        Rule(OURS, "model only", 0.70),
        Rule(OURS, "notebook-style", 5.0),
        *(Rule(OURS, peer, 1.0) for peer in ("predict_batch_udf", "Ray Data", "Daft")),
    ),
    "reading": (Rule("step, bytes from S3", "step, bytes already in memory", 1 / 1.15),),
    "progress": (Rule("ours, with progress", "ours, silent", 0.99),),
}


def verdicts(scenario: str, figures: list[Row]) -> list[Row]:
    """Return what became of each rule of a scenario, and how much the machine changed meanwhile.

    *met* is None as long as one of the two is missing.
    """
    return [
        *(_judge(rule, figures) for rule in RULES.get(scenario, ())),
        *(_drift(row, figures) for row in figures if row["name"].endswith(AGAIN)),
    ]


def lines(found: Iterable[Row]) -> list[str]:
    """Return the verdicts as Markdown: a point each, and what they come to."""
    found = list(found)
    judged = [one for one in found if "least" in one]
    if not judged:
        return []
    groups = {
        "missed": [one["other"] for one in judged if one["met"] is False],
        "not measured": [one["other"] for one in judged if one["met"] is None],
        "too few repetitions": [
            one["other"] for one in judged if one.get("repetitions", ENOUGH) < ENOUGH
        ],
    }
    told = [f"{what}: {', '.join(names)}" for what, names in groups.items() if names]
    return [*(f"- {_told(one)}" for one in found), "", f"Verdict: {'; '.join(told) or 'all met'}."]


def _judge(rule: Rule, figures: list[Row]) -> Row:
    ours, other = (_best(name, figures) for name in (rule.ours, rule.other))
    verdict = {"ours": rule.ours, "other": rule.other, "least": rule.least, "met": None}
    verdict["failed"] = [
        row["name"]
        for name in (rule.ours, rule.other)
        for row in _named(name, figures)
        if "failed" in row
    ]
    if not ours or not other:
        return verdict
    ratio = ours[0] / other[0]
    return verdict | {
        "ratio": round(ratio, 4),
        "met": ratio >= rule.least,
        "repetitions": min(ours[1], other[1]),
    }


def _best(name: str, figures: list[Row]) -> tuple[float, int] | None:
    """Return images a second of the fastest form, over all repetitions of it, and their number."""
    seconds: dict[str, list[float]] = {}
    images: dict[str, int] = {}
    for row in _named(name, figures):
        if "failed" not in row:
            form = row["name"].removesuffix(AGAIN)
            seconds.setdefault(form, []).extend(row["seconds"])
            images[form] = row["images"]
    rates = [(images[form] / statistics.median(all_), len(all_)) for form, all_ in seconds.items()]
    return max(rates, default=None)


def _drift(again: Row, figures: list[Row]) -> Row:
    name = again["name"].removesuffix(AGAIN)
    before = next((row for row in figures if row["name"] == name), again)
    verdict = {"again": name}
    if "failed" not in before and "failed" not in again:
        verdict["ratio"] = round(before["median_seconds"] / again["median_seconds"], 4)
    return verdict


def _named(name: str, figures: list[Row]) -> list[Row]:
    return [row for row in figures if row["name"].startswith(name)]


def _told(one: Row) -> str:
    ratio = f"{one['ratio']:.4f}" if "ratio" in one else "unknown"
    if "again" in one:
        return f"{one['again']}, at the end in proportion to the beginning: {ratio}"
    line = f"{one['ours']} / {one['other']}: {ratio}, wanted {one['least']:.3g}"
    if one["met"] is not None:
        line += ": met" if one["met"] else ": missed"
        if one["repetitions"] < ENOUGH:
            line += f" (repetitions: {one['repetitions']}, for a verdict {ENOUGH})"
    return line + "".join(f"; {name} failed" for name in one["failed"])
