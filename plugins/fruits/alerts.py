"""Somebody is told of a red run, and of clusters that had to be ended: through a topic of SNS.

Which one is FRUITS_ALERT_TOPIC; without it nobody is told. A message names DAG, run and task. What
an error says may name images, and stays in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.sns import SnsHook
from airflow.providers.amazon.aws.notifications.sns import SnsNotifier
from airflow.sdk.exceptions import AirflowFailException
from botocore.config import Config

from fruits.links import run_url

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fruits.settings import Settings

log = logging.getLogger(__name__)

# Where nothing answers, boto3 itself would wait for minutes.
PATIENCE = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
FAILED = "The log of what failed ends with the way out; docs/operations.md has what to do when."
ENDED = (
    "Their runs were gone, or waited no longer: docs/operations.md, A stuck cluster. "
    "The lake has the finding under ledger/findings/."
)


class Alert(SnsNotifier):
    """Tells the settings' topic of a failed task, as its `on_failure_callback`.

    Missing in the provider's notifier was: an end to its patience, and a text that is no template,
    which the names in it could fill. Airflow has reported the task's state by the time that it
    calls this, and logs what this raises.
    """

    template_fields = ()

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            aws_conn_id=None,  # boto3's own chain, as everywhere
            region_name=settings.region,
            target_arn=settings.alert_topic or "",
            message="",
        )

    @cached_property
    def hook(self) -> SnsHook:
        """The provider's hook, with our patience."""
        return SnsHook(  # type: ignore[no-untyped-call]
            aws_conn_id=None, region_name=self.region_name, config=PATIENCE
        )

    def notify(self, context: Context) -> None:
        """Tell of the task that failed."""
        ti, error = context["ti"], context.get("exception")
        failed = f"The task {ti.task_id} failed."
        self.tell(ti, f"{ti.dag_id}: a run failed", failed, _said_of(error), FAILED)

    def tell(self, ti: Any, subject: str, *lines: str) -> None:
        """Publish *lines* between the names of the task's run and a link to it."""
        run = (f"DAG {ti.dag_id}, run {ti.run_id}", *lines, run_url(ti.dag_id, ti.run_id))
        self.hook.publish_to_target(
            self.target_arn, "\n".join(filter(None, run)), subject=f"Fruits! {subject}"
        )


def on_failure(settings: Settings) -> list[Alert]:
    """Return the callbacks of a task whose failure is told: none without a topic."""
    return [Alert(settings)] if settings.alert_topic else []


def tell_findings(settings: Settings, found: Mapping[str, Any], ti: Any) -> None:
    """Tell which clusters the watchdog ended, and why; what fails in that is no failed look."""
    ended = [
        f"{one['cluster_id']}: {'; '.join(one['reasons'])}"
        for one in found["findings"]
        if one["cluster_id"] in found["terminated"]  # none in a dry run
    ]
    if not settings.alert_topic or not ended:
        return
    try:
        Alert(settings).tell(ti, f"{ti.dag_id}: clusters were ended", *ended, ENDED)
    except Exception:  # whatever it is: the clusters were ended, and a retry would find none
        log.exception("%s could not be told of what was found", settings.alert_topic)


def _said_of(error: object) -> str:
    """Return what may be told of an error: of the watcher's, which names tasks, its text."""
    if error is None:
        return "It was killed, or its machine was lost."
    return str(error) if isinstance(error, AirflowFailException) else f"{type(error).__name__}."
