"""What a run waits for: images that changed, a cluster that is ready, a step that completed.

The provider's sensors know states. Missing was: a lease that is renewed while somebody waits, a
step that is cancelled when its wait gives up, and progress in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.emr import EmrJobFlowSensor, EmrStepSensor
from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from fruits import ingestion
from fruits.batches import Batch, batch_id
from fruits.lifecycle import cancel_step
from fruits.operators import PATIENT
from fruits.params import run_settings
from fruits.progress import describe_failure, describe_progress

if TYPE_CHECKING:
    from airflow.sdk import Context


class ChangesSensor(BaseSensorOperator):
    """Looks for images that are new, replaced or gone; returns what `sense_changes` found.

    A scheduled run looks again until its window (*timeout*) passes, a manual run looks once. With
    nothing to do it skips, and so does the rest of the run. A look that fails, fails the task.
    """

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        run = context["dag_run"]
        settings = run_settings(context["params"])
        found = ingestion.sense_changes(settings, batch_id(run.run_after, run.run_id))
        self.log.info("Found in %s: %s", settings.images_uri, found["counts"])
        something = found["reduce"] or found["remove"]
        if not something and run.run_type == "manual":
            raise AirflowSkipException("Nothing changed, and a manual run looks once.")
        return PokeReturnValue(something, found)

    def execute(self, context: Context) -> Any:
        """Look until something changed or the window has passed."""
        try:
            return super().execute(context)
        except AirflowSensorTimeout as window:
            raise AirflowSkipException(f"Nothing changed in {self.timeout:.0f} s.") from window


class LeaseRenewer:
    """Renews the lease of what is *reserved* at each look: somebody still wants the cluster."""

    reserved: dict[str, Any]

    def renew(self, context: Context) -> None:
        """Renew the lease."""
        from fruits.leases import renew_lease

        renew_lease(run_settings(context["params"]).lake, self.reserved["token"])


class ClusterSensor(LeaseRenewer, EmrJobFlowSensor):
    """Waits until the cluster takes steps; one that ended, however, fails at once."""

    template_fields: Sequence[str] = (*EmrJobFlowSensor.template_fields, "reserved")

    def __init__(self, *, reserved: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(
            target_states=["RUNNING", "WAITING"],
            # The provider counts a cluster that has ended without an error as one to wait for.
            failed_states=["TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS"],
            botocore_config=PATIENT,
            aws_conn_id=None,
            **kwargs,
        )
        self.reserved = reserved

    def poke(self, context: Context) -> bool:
        """Look once."""
        self.renew(context)
        return bool(super().poke(context))


class StepSensor(LeaseRenewer, EmrStepSensor):
    """Waits for the step that AddStepOperator *added*, with its progress in the log.

    It waits as long as the cluster may live. A wait that gives up cancels the step, so that it does
    not run on unwatched. *step* is featurize or pca.
    """

    template_fields: Sequence[str] = (*EmrStepSensor.template_fields, "reserved", "added")

    def __init__(
        self, *, reserved: dict[str, Any], step: str, added: dict[str, str], **kwargs: Any
    ) -> None:
        super().__init__(step_id="", botocore_config=PATIENT, aws_conn_id=None, **kwargs)
        self.reserved, self.step, self.added = reserved, step, added

    def execute(self, context: Context) -> None:
        """Wait; a step that takes too long is cancelled."""
        self.step_id = self.added["step_id"]
        self.timeout = run_settings(context["params"]).cap_minutes * 60
        try:
            super().execute(context)
        except AirflowSensorTimeout:
            cancel_step(self.hook.conn, self.job_flow_id, self.step_id)
            raise

    def poke(self, context: Context) -> bool:
        """Look once, and say how far the step is, or why it failed."""
        self.renew(context)
        lake = run_settings(context["params"]).lake
        work = Batch(lake, self.reserved["token"]).attempt(self.added["attempt"]).work(self.step)
        if line := describe_progress(work):
            self.log.info("%s: %s", self.step, line)
        try:
            return bool(super().poke(context))
        except AirflowException as failed:
            # Another wait would find the same: it is the step that has to be tried again.
            raise AirflowFailException(
                f"{describe_failure(work) or 'No cause.'} {failed}"
            ) from failed
