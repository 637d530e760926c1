"""The provider's operator that creates a cluster, made safe to retry.

What was missing (provider 9.39): a failure after RunJobFlow left the cluster behind, and the retry
made a second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.emr import EmrCreateJobFlowOperator

from fruits.lifecycle import emr_client, find_cluster

if TYPE_CHECKING:
    from airflow.sdk import Context


class CreateClusterOperator(EmrCreateJobFlowOperator):
    """Creates the cluster that is *reserved*, or adopts the live one of its token; does not wait.

    RunJobFlow has no idempotency token, so it is sent once, without botocore's retries. When its
    answer is lost, the task fails, and its retry finds the cluster by its tag.
    """

    template_fields: Sequence[str] = (*EmrCreateJobFlowOperator.template_fields, "reserved")

    def __init__(self, *, reserved: dict[str, Any], **kwargs: Any) -> None:
        once = {"retries": {"total_max_attempts": 1}}
        super().__init__(botocore_config=once, emr_conn_id=None, aws_conn_id=None, **kwargs)
        self.reserved = reserved

    def execute(self, context: Context) -> str | None:
        """Return the id of the one live cluster of the token."""
        token = self.reserved["token"]
        # A search may be sent again: with a client that does.
        if found := find_cluster(emr_client(self.hook.conn_region_name), token):
            self.log.info("Adopting cluster %s, which carries token %s", found, token)
            return found
        self.job_flow_overrides = self.reserved["request"]
        return super().execute(context)

    def on_kill(self) -> None:
        """Leave the cluster to the teardown and the watchdog: they find it by its token."""
