"""The report of a batch: whole, bounded, by itself, and harmless whatever the keys hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from fruits.batch_reports import gather, render
from fruits.commits import commit_features
from fruits.component_commits import commit_components
from fruits.objects import read_bytes, write_json
from fruits.reports import RunFacts, report_folder, run_row, write_report
from fruits.settings import Settings
from tests.fruits.lake_support import LAKE, featurized, manifest_uri, put, reduced, sensed

BATCH = "20261121T030000-1a2b3c4d"
THEN = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
HOSTILE = "Kiwi/<img src=x onerror=alert(1)>\u202egpj.exe\"'&.jpg"
ANSWERS: dict[str, Any] = {
    "sense_changes": {"counts": {"listed": 9, "added": 9}, "feature_model": "M"},
    "reserve_cluster": {"worst_case": 2.88, "currency": "USD"},
    "create_cluster": "j-1",
    "featurize": {"step_id": "s-1", "attempt": "1.1"},
    "terminate_cluster": {"clusters": [], "seconds": 0, "promised": 2.88, "cost": 0.31},
}


class Reader(HTMLParser):
    """Collects a page's elements and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def facts(states: dict[str, str] | None = None, **answers: Any) -> RunFacts:
    """Return a run with these tasks' states and answers."""
    known = {"sense_changes": "success", "featurize": "success"} | (states or {})
    return RunFacts(BATCH, "manual__<b>", THEN, known, ANSWERS | answers, started_at=THEN)


def page_of(run: RunFacts) -> Reader:
    """Return the run's report."""
    settings = Settings()
    return Reader(render(gather(run, settings, run_row(run, settings, datetime.now(UTC)))))


@pytest.fixture
def committed(catalog: Catalog) -> RunFacts:
    """Commit a batch of nine images, one of them broken and with a hostile key."""
    for number in range(8):
        put(f"Apple/{number}.jpg")
    put(HOSTILE)
    sensed(catalog, BATCH)
    result = featurized(BATCH, "1.1", broken=[HOSTILE])
    done = commit_features(catalog, manifest_uri(BATCH), result, max_quarantine_share=0.5)
    fitted = commit_components(catalog, reduced(catalog, BATCH, "1.1"))
    described = {
        "model_version": fitted.model_version,
        "n_images": 8,
        "n_features": 6,
        "k": 2,
        "explained_variance_ratio": [0.7, 0.26],
        "explained_variance_kept": 0.96,
        "feature_model": "M",
        "created_at": "2026-11-21T03:05:00+00:00",
    }
    write_json(f"{LAKE}/models/pca/{fitted.model_version}/model.json", described)
    return facts(
        commit_features={"features": 8, "quarantined": 1, "changed": 0, "reasons": done.reasons},
        commit_components={"model_version": fitted.model_version, "k": 2, "warnings": ["few"]},
        pca={"step_id": "s-2", "attempt": "1.1"},
    )


def test_it_says_what_came_in_what_broke_and_what_it_was_made_with(committed: RunFacts) -> None:
    """Labels, the broken image and why, the model with its plots, tasks and versions are there."""
    page = page_of(committed)

    for told in ("Apple", "truncated", "13 bytes not processed", "few", "0.31 USD", "2.88 USD"):
        assert told in page.text
    for told in ("sense_changes", "apache-airflow", "pyiceberg"):
        assert told in page.text
    charts = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert sum("chart" in (one["class"] or "") for one in charts) == 2
    assert "Not in this report" not in page.text


def test_a_key_is_text_whatever_it_holds(committed: RunFacts) -> None:
    """Markup in a key is shown and does nothing; a character that turns the text is spelled out."""
    page = page_of(committed)

    assert not [tag for tag, _ in page.elements if tag in ("img", "script", "b", "iframe")]
    assert "<img src=x onerror=alert(1)>\\u202egpj.exe\"'&.jpg" in page.text
    assert "\u202e" not in page.text
    assert "manual__<b>" in page.text


def test_it_is_one_file_that_needs_no_other(committed: RunFacts) -> None:
    """No address, no script, no picture: it can be mailed, and opened from a disk."""
    page = page_of(committed)

    for tag, attributes in page.elements:
        assert tag not in ("link", "script", "img", "iframe", "object")
        assert not {"src", "srcset", "data", "style"} & set(attributes), (tag, attributes)
        assert not (attributes.get("href") or "").startswith(("http", "//"))
    assert not re.search(r"url\(|@import", page.text)


def test_it_lies_in_the_lake_as_a_page(committed: RunFacts) -> None:
    """The task report writes it beside report.json."""
    write_report(committed, Settings())

    page = read_bytes(f"{report_folder(LAKE, BATCH)}/report.html").decode()
    assert page.startswith("<!doctype html>")
    assert BATCH in page


def test_a_batch_that_failed_says_so_and_shows_what_broke(catalog: Catalog) -> None:
    """Too many broken images: nothing is committed, and the report lists what they are."""
    put(HOSTILE)
    put("Apple/1.jpg")
    sensed(catalog, BATCH)
    featurized(BATCH, "1.1", broken=[HOSTILE])
    write_json(f"{LAKE}/attempts/{BATCH}/pca-1.1/failure.json", {"cause": "a <cause>"})

    page = page_of(facts({"commit_features": "failed"}, commit_features=None))

    for told in ("Failed", "commit_features", "Nothing of the featurized images was committed"):
        assert told in page.text
    assert "Quarantined: 1 image" in page.text
    assert "a <cause>" in page.text


def test_what_cannot_be_had_is_named(catalog: Catalog) -> None:
    """A report is written though the lake lacks half of it: it names what is missing."""
    lost = {"model_version": "lost", "k": 1, "explained_variance_kept": 0.9, "warnings": []}

    page = page_of(facts(commit_components=lost))

    missing = re.findall(r"Not in this report: ([^(]+) \(", page.text)
    assert missing == ["the result of featurize", "what came in", "the PCA model"]


def test_a_run_that_got_nowhere_has_a_report_too(catalog: Catalog) -> None:
    """Sensing failed: there is little to say, and it is said."""
    run = RunFacts(BATCH, "manual__1", THEN, {"sense_changes": "failed"}, {})

    page = page_of(run)

    assert "Failed: sense_changes" in " ".join(page.text.split())
    assert "there was no cluster" in page.text
    assert "Not in this report" not in page.text
