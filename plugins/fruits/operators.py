"""The operators of the ingestion: the one that creates its cluster, and the one that reports.

What the provider's operator lacked (9.39): a failure after RunJobFlow (a lost answer, a
DescribeCluster that is throttled) left the cluster behind, and the retry made a second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.emr import EmrCreateJobFlowOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from fruits.claims import ClaimLostError, check_promise, check_unspent, renew_claim, reopen_promise
from fruits.lifecycle import ask_to_end, create_cluster, emr_client
from fruits.links import EMR_LINKS, ReportLink, tell_cluster, tell_report
from fruits.params import run_settings
from fruits.reports import write_report
from fruits.run_facts import run_facts, task_states

if TYPE_CHECKING:
    from airflow.sdk import Context


class CreateClusterOperator(EmrCreateJobFlowOperator):
    """Creates the cluster that is *reserved*, or adopts the live one of its token; does not wait.

    RunJobFlow has no idempotency token, so it is sent once, without botocore's retries, and only
    while the lease is this task's. Whatever goes wrong after it, a search by token follows at once;
    a retry searches first.
    """

    template_fields: Sequence[str] = (*EmrCreateJobFlowOperator.template_fields, "reserved")
    operator_extra_links = EMR_LINKS  # type: ignore[assignment]

    def __init__(self, *, reserved: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(emr_conn_id=None, aws_conn_id=None, deferrable=False, **kwargs)
        self.reserved = reserved

    def execute(self, context: Context) -> str:
        """Return the id of the one live cluster of the token."""
        settings = run_settings(context["params"])
        # A run that is marked failed or success has its teardown before this task is killed.
        renew_claim(settings.lake, self.reserved)
        check_promise(settings.lake, self.reserved)
        check_unspent(emr_client(settings.region), self.reserved)
        request, token = self.reserved["request"], self.reserved["token"]
        cluster_id = create_cluster(settings.region, request, token)
        try:
            renew_claim(settings.lake, self.reserved)
        except ClaimLostError as lost:
            if lost.given_up:
                try:  # its teardown has settled the promise without this cluster
                    reopen_promise(settings.lake, self.reserved)
                finally:
                    ask_to_end(emr_client(settings.region), cluster_id)
            raise
        tell_cluster(context, settings.region, settings.lake, cluster_id)
        return cluster_id

    def on_kill(self) -> None:
        """Leave the cluster to the teardown and the watchdog: they find it by its token."""


class ReportOperator(BaseOperator):
    """Writes what the batch did, however the run ended: a row of `runs`, and the batch's report.

    An operator rather than a `@task`, which cannot have a button of its own. It runs always where
    it is marked as a teardown.
    """

    operator_extra_links = (ReportLink(),)

    def execute(self, context: Context) -> dict[str, Any]:
        """Return what was reported."""
        states = task_states(context["ti"])
        if states.get("sense_changes") == "skipped":
            raise AirflowSkipException("Nothing changed, so there is no batch to report.")
        settings = run_settings(context["params"])
        facts = run_facts(context["ti"], context["dag_run"], states, settings.lake)
        report = write_report(facts, settings)
        tell_report(context, facts.batch)
        return report
