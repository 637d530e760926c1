"""Readers go over to another feature model, in one commit; or back. Triggered by hand.

*Reprocess* of `fruits_ingestion` computes features and components with another network, beside the
current ones. Here its **name** makes it the current one: `read("features")` and
`read("components")` return it from then on, and ordinary runs compute it. Nothing is copied or
deleted, so that the way back is the same: switch to the name that the log gives.

A model that lacks images which readers have now is refused, with their number: reprocess again, or
*Accept missing*, and the next ordinary run computes them. Without a name it only tells which
feature models there are. docs/reprocess.md. The same without Airflow: `make switch-model`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from fruits import ingestion
from fruits.retries import TransientFailures
from fruits.settings import load_settings

SETTINGS = load_settings()


@task
def switch_model(params: dict[str, Any]) -> dict[str, Any]:
    """Switch to the feature model, if one is named; return which there are."""
    return ingestion.switch_model(params["feature_model"], accept_missing=params["accept_missing"])


with DAG(
    dag_id="fruits_switch_model",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    # It does nothing by itself; paused, it would not do what somebody triggered either.
    is_paused_upon_creation=False,
    params={
        "feature_model": Param(
            None,
            type=["null", "string"],
            pattern=r"^[A-Z]\w+-[\w.-]+$",
            title="Feature model",
            description="Its name, as reports give it; empty: only tell which there are.",
        ),
        "accept_missing": Param(
            False,
            type="boolean",
            title="Accept missing",
            description="Switch although readers will miss images until the next run.",
        ),
    },
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=SETTINGS.poll_seconds),
        "execution_timeout": timedelta(hours=2),
        "retry_policy": TransientFailures(),
    },
    doc_md=__doc__,
    tags=["fruits"],
) as dag:
    switch_model()
