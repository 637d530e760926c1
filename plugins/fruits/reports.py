"""What a batch did: a row of `runs`, and its report: report.json for programs, report.html."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fruits.settings import Settings

log = logging.getLogger(__name__)

PCA_TOLD = ("fitted", "reason", "projected", "quality")
FAILED = ("failed", "upstream_failed")
# What sense_changes may ask for, and the task that says that it is done.
COMMITS = {
    "remove": "commit_removals",
    "featurize": "commit_features",
    "reduce": "commit_components",
}


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run at its end: its tasks' states and what they returned, by task id.

    *run_id* is None for a run without Airflow.
    """

    batch: str
    run_id: str | None
    run_after: datetime
    states: dict[str, str]
    answers: dict[str, Any]
    started_at: datetime | None = None

    def answer(self, task_id: str) -> dict[str, Any]:
        """Return what the task returned, or an empty dict if it did not get so far."""
        return self.answers.get(task_id) or {}

    @property
    def failed_tasks(self) -> list[str]:
        """Ids of the tasks that failed themselves."""
        return sorted(task for task, state in self.states.items() if state == "failed")

    @property
    def is_unfinished(self) -> bool:
        """Whether something that was sensed is not committed.

        No task need have failed: when a run is marked failed while one waits for its retry, Airflow
        skips them.
        """
        wanted = dict(self.answer("sense_changes"))
        if self.answer("commit_features").get("reducible") is False:
            wanted.pop("reduce", None)
        asked = (task for wish, task in COMMITS.items() if wanted.get(wish))
        return any(self.states.get(task) != "success" for task in asked)

    @property
    def is_marked_success(self) -> bool:
        """Whether a task has succeeded without an answer: by a mark, its own or that of its run."""
        succeeded = (task for task, state in self.states.items() if state == "success")
        return any(task in self.answers and self.answers[task] is None for task in succeeded)

    @property
    def outcome(self) -> str:
        """``success`` or ``failed``."""
        failed = any(state in FAILED for state in self.states.values())
        return "failed" if failed or self.is_unfinished else "success"


def run_row(facts: RunFacts, settings: Settings, now: datetime) -> dict[str, Any]:
    """Return the batch's row of `runs`: counts are 0 and the rest None where a run did not get."""
    found, features = facts.answer("sense_changes"), facts.answer("commit_features")
    fitted, promise = facts.answer("commit_components"), facts.answer("reserve_cluster")
    ended, removed = facts.answer("terminate_cluster"), facts.answer("commit_removals")
    counts, sizing = found.get("counts", {}), promise.get("sizing") or {}
    counted = ("listed", "unchanged", "added", "replaced", "deleted", "ignored", "deferred")
    return {
        "batch": facts.batch,
        "run_id": facts.run_id,
        "outcome": facts.outcome,
        "failed_tasks": ", ".join(facts.failed_tasks),
        "images_uri": settings.images_uri,
        "run_after": facts.run_after,
        "reported_at": now,
        "started_at": facts.started_at,
        **{name: counts.get(name, 0) for name in counted},
        "features": features.get("features", 0),
        "quarantined": features.get("quarantined", 0),
        "quarantine_reasons": json.dumps(features.get("reasons", {})),
        "changed": features.get("changed", 0),
        "features_removed": removed.get("features", 0),
        "feature_model": found.get("feature_model"),
        "beside": found.get("beside", False),
        "model_version": fitted.get("model_version"),
        "k": fitted.get("k"),
        "explained_variance_kept": fitted.get("explained_variance_kept"),
        # A run that was stopped right after RunJobFlow does not know it; its teardown does.
        "cluster_id": facts.answers.get("create_cluster")
        or next(iter(ended.get("clusters") or []), None),
        "cluster_seconds": ended.get("seconds"),
        "added_bytes": found.get("added_bytes"),
        "engine": settings.engine.value,
        "worker_instance_type": settings.worker_instance_type,
        "workers": sizing.get("workers"),
        "worker_vcpus": sizing.get("vcpus"),
        "estimated_seconds": sizing.get("seconds"),
        "featurize_seconds": features.get("seconds"),
        "estimated_cost": sizing.get("amount"),
        # A run that was cleared has promised several clusters, and has paid for all of them.
        "worst_case": ended.get("promised") or promise.get("worst_case"),
        "actual_cost": ended.get("cost"),
        "currency": promise.get("currency") or ended.get("currency"),
    }


def write_report(facts: RunFacts, settings: Settings) -> dict[str, Any]:
    """Write the row of `runs` (again, if the batch has one) and the report; return report.json."""
    from fruits.batch_reports import gather, render
    from fruits.objects import write_html, write_json
    from fruits.runs import record_run

    row = run_row(facts, settings, datetime.now(UTC))
    record_run(row)
    times = {name: one.isoformat() for name, one in row.items() if isinstance(one, datetime)}
    reduced = facts.answer("commit_components")
    report = (
        row
        | times
        | {
            "quarantine_reasons": json.loads(row["quarantine_reasons"]),
            "warnings": reduced.get("warnings", []),
            # What became of the PCA version: new or kept, why, how many images were projected.
            "pca": {name: reduced.get(name) for name in PCA_TOLD},
            "tasks": facts.states,
        }
    )
    folder = report_folder(settings.lake, facts.batch)
    write_json(f"{folder}/report.json", report)
    write_html(f"{folder}/report.html", render(gather(facts, settings, row)))
    log.info("Batch %s: %s. Its report is %s/report.html", facts.batch, facts.outcome, folder)
    if facts.failed_tasks:
        log.info("Failed: %s. Their logs say why, and the way out", ", ".join(facts.failed_tasks))
    return report


def report_folder(lake: str, batch: str) -> str:
    """Return the folder of the report of *batch*: report.json and report.html."""
    return f"{lake}/reports/{batch}"
