"""The report of one batch: everything that is known of it, as one HTML file that needs no other.

A part that cannot be had (EMR does not answer, a step wrote nothing) is named in the report instead
of keeping it from being written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

from fruits.batches import Batch
from fruits.charts import ScatterChart, Scree, Timeline, scatter_chart, scree, timeline
from fruits.rendering import render_template
from fruits.settings import Settings

if TYPE_CHECKING:
    from fruits.reports import RunFacts
    from fruits.tallies import Tally

log = logging.getLogger(__name__)
T = TypeVar("T")
PACKAGES = ("apache-airflow", "apache-airflow-providers-amazon", "pyiceberg", "pyarrow")


@dataclass
class BatchReport:
    """What the template shows; *row* is the batch's row of `runs`, *missing* what could not be had.

    *steps* has the result.json of each step that completed, *failures* what failed attempts said.
    """

    row: dict[str, Any]
    states: dict[str, str]
    settings: Settings
    manifest: str
    warnings: list[str] = field(default_factory=list)
    tally: Tally | None = None
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    model: dict[str, Any] | None = None
    pca: dict[str, Any] = field(default_factory=dict)
    scree: Scree | None = None
    scatter: ScatterChart | None = None
    timeline: Timeline | None = None
    versions: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def part(self, what: str, get: Callable[[], T]) -> T | None:
        """Return what *get* returns; if it fails, None, and *what* is named as missing."""
        try:
            return get()
        except Exception as error:
            log.exception("%s cannot be reported", what)
            self.missing.append(f"{what} ({type(error).__name__})")
            return None


def gather(facts: RunFacts, settings: Settings, row: dict[str, Any]) -> BatchReport:
    """Collect what is known of the batch: from the lake, from EMR and from this machine."""
    batch = Batch(settings.lake, facts.batch)
    report = BatchReport(
        row=row,
        states=facts.states,
        settings=settings,
        manifest=batch.manifest,
        warnings=list(facts.answer("commit_components").get("warnings") or []),
        pca=facts.answer("commit_components"),
    )
    report.versions = report.part("versions", lambda: _versions(settings)) or {}
    for step in ("featurize", "pca"):
        if attempt := facts.answer(step).get("attempt"):
            uri = f"{batch.attempt(attempt).work(step)}/result.json"
            if result := report.part(f"the result of {step}", partial(_read, uri)):
                report.steps[step] = result
                report.versions |= {
                    f"{name} on the nodes": number
                    for name, number in result.get("versions", {}).items()
                }
    report.failures = report.part("why steps failed", lambda: _failures(batch)) or {}
    report.tally = report.part("what came in", lambda: _tally(facts, batch))
    report.timeline = report.part("when what happened", lambda: _timeline(facts, settings, row))
    _add_model(report, settings)
    return report


def render(report: BatchReport) -> str:
    """Return the report as one HTML document."""
    return render_template("report.html.jinja", {"report": report, "row": report.row})


def _add_model(report: BatchReport, settings: Settings) -> None:
    """Add the model that the batch's components are of, and leave its sample for the page."""
    model_version = report.row["model_version"]
    if not model_version:
        return
    folder = f"{settings.lake}/models/pca/{model_version}"
    report.model = report.part("the PCA model", lambda: _read(f"{folder}/model.json"))
    if model := report.model:
        ratios = model.get("explained_variance_ratio", [])
        report.scree = scree(ratios, model.get("variance_target"))
    report.scatter = report.part("the plot of images", lambda: _scatter(folder, model_version))


def _scatter(folder: str, model_version: str) -> ScatterChart | None:
    from fruits.lake import open_catalog
    from fruits.scatters import sample_components, write_scatter

    if scatter := sample_components(open_catalog(), model_version):
        write_scatter(folder, scatter)
    return scatter_chart(scatter)


def _tally(facts: RunFacts, batch: Batch) -> Tally | None:
    from fruits.results import read_featurize_result
    from fruits.tallies import tally

    if not facts.answer("sense_changes"):
        return None
    attempt = facts.answer("featurize").get("attempt")
    work = batch.attempt(attempt).work("featurize") if attempt else None
    result = read_featurize_result(f"{work}/result.json") if work else None
    return tally(batch.manifest, result)


def _timeline(facts: RunFacts, settings: Settings, row: dict[str, Any]) -> Timeline | None:
    from fruits.lifecycle import emr_client
    from fruits.timelines import Span, cluster_spans

    now: datetime = row["reported_at"]
    run = [Span("run", "run", facts.started_at, now)] if facts.started_at else []
    clusters = facts.answer("terminate_cluster").get("clusters") or []
    if not clusters:
        return timeline(run)
    spans = cluster_spans(emr_client(settings.region), clusters, facts.batch, now)
    return timeline([*run, *spans])


def _failures(batch: Batch) -> dict[str, str]:
    """Return what each failed attempt said of itself, by its step and name."""
    from fruits.objects import list_uris

    prefix = f"{batch.lake}/attempts/{batch.id}/"
    said = [uri for uri in list_uris(prefix) if uri.endswith("/failure.json")]
    return {uri.removeprefix(prefix).split("/")[0]: str(_read(uri)["cause"]) for uri in said}


def _read(uri: str) -> dict[str, Any]:
    from fruits.objects import read_json

    return read_json(uri)


def _versions(settings: Settings) -> dict[str, str]:
    from fruits.job_package import package_hash

    own = {"EMR release": settings.release_label, "Spark jobs": package_hash()[:12]}
    return own | {package: version(package) for package in PACKAGES}
