"""The provider's operator that creates a cluster, made safe to retry.

What was missing (provider 9.39): a failure after RunJobFlow (a lost answer, a DescribeCluster that
is throttled) left the cluster behind, and the retry made a second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.links.emr import EmrClusterLink, EmrLogsLink, get_log_uri
from airflow.providers.amazon.aws.operators.emr import EmrCreateJobFlowOperator

from fruits.claims import ClaimLostError, renew_claim
from fruits.lifecycle import ask_to_end, create_cluster, emr_client
from fruits.params import run_settings

if TYPE_CHECKING:
    from airflow.sdk import Context


class CreateClusterOperator(EmrCreateJobFlowOperator):
    """Creates the cluster that is *reserved*, or adopts the live one of its token; does not wait.

    RunJobFlow has no idempotency token, so it is sent once, without botocore's retries, and only
    while the lease is this task's. Whatever goes wrong after it, a search by token follows at once;
    a retry searches first.
    """

    template_fields: Sequence[str] = (*EmrCreateJobFlowOperator.template_fields, "reserved")

    def __init__(self, *, reserved: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(emr_conn_id=None, aws_conn_id=None, **kwargs)
        self.reserved = reserved

    def execute(self, context: Context) -> str:
        """Return the id of the one live cluster of the token."""
        settings = run_settings(context["params"])
        # A run that is marked failed or success has its teardown before this task is killed.
        renew_claim(settings.lake, self.reserved)
        request, token = self.reserved["request"], self.reserved["token"]
        cluster_id = create_cluster(settings.region, request, token)
        try:
            renew_claim(settings.lake, self.reserved)
        except ClaimLostError as lost:
            if lost.given_up:
                ask_to_end(emr_client(settings.region), cluster_id)
            raise
        self._link(context, cluster_id)
        return cluster_id

    def on_kill(self) -> None:
        """Leave the cluster to the teardown and the watchdog: they find it by its token."""

    def _link(self, context: Context, cluster_id: str) -> None:
        """Give the task its two links, from the request: no call to EMR can fail here."""
        place = {
            "context": context,
            "operator": self,
            "region_name": self.hook.conn_region_name,
            "aws_partition": self.hook.conn_partition,
            "job_flow_id": cluster_id,
        }
        EmrClusterLink.persist(**place)
        EmrLogsLink.persist(
            **place, log_uri=get_log_uri(cluster={"Cluster": self.reserved["request"]})
        )
