"""What a run waits for: images that changed, a cluster that is ready, a step that completed.

The provider's sensors know states. Missing was: a lease that is renewed while somebody waits, a
step that is cancelled when its wait gives up, and progress in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from fruits.batches import Attempt, Batch, batch_id
from fruits.lifecycle import add_step, cancel_step, find_step
from fruits.params import run_settings
from fruits.progress import describe_failure, describe_progress

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fruits.settings import Settings

# What only looks, and cancelling, may be sent again.
PATIENT = {"retries": {"mode": "adaptive", "max_attempts": 10}}


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
    """Adds one step, unless this generation has a live or a completed one, and waits for it.

    One task for both: a pair of EmrAddStepsOperator and EmrStepSensor cannot be repeated, because
    clearing the one that failed, the sensor, leaves it with a step of a cluster that is gone. And a
    retry of EmrAddStepsOperator adds the step again.

    *step* is featurize or pca; *build_step* is called with the run's settings, the staged URIs, the
    attempt and the feature model, and returns the StepConfig. *found*, *staged* and *reserved* are
    what sense_changes, stage_jobs and reserve_cluster returned; the task is skipped unless *found*
    says yes under the name *wanted_by*. Each attempt writes to folders of its own.

    It waits as long as the cluster may live. A wait that gives up cancels the step, so that it does
    not run on unwatched. Returns ``{"step_id": …, "attempt": …}``.
    """

    template_fields: Sequence[str] = (
        *EmrStepSensor.template_fields,
        "found",
        "staged",
        "reserved",
    )

    def __init__(
        self,
        *,
        step: str,
        wanted_by: str,
        build_step: Callable[..., dict[str, Any]],
        found: dict[str, Any] | None,
        staged: dict[str, str],
        reserved: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(step_id="", botocore_config=PATIENT, aws_conn_id=None, **kwargs)
        self.step, self.wanted_by, self.build_step = step, wanted_by, build_step
        self.found, self.staged, self.reserved = found, staged, reserved

    def execute(self, context: Context) -> dict[str, str]:  # type: ignore[override]
        """Add or adopt the step, and wait; a step that takes too long is cancelled."""
        if not (self.found or {}).get(self.wanted_by):
            raise AirflowSkipException(f"There is nothing to {self.step}.")
        settings = run_settings(context["params"])
        self.timeout = settings.cap_minutes * 60
        added = self._add(settings)
        self.step_id = added["step_id"]
        try:
            super().execute(context)
        except AirflowSensorTimeout:
            cancel_step(self.hook.conn, self.job_flow_id, self.step_id)
            raise
        return added

    def poke(self, context: Context) -> bool:
        """Look once, and say how far the step is, or why it failed."""
        self.renew(context)
        work = self._attempt(run_settings(context["params"])).work(self.step)
        if line := describe_progress(work):
            self.log.info("%s: %s", self.step, line)
        try:
            return bool(super().poke(context))
        except AirflowException as failed:
            # Another wait would find the same: it is the step that has to be tried again.
            raise AirflowFailException(
                f"{describe_failure(work) or 'No cause.'} {failed} Repair the cause and clear this "
                "task together with its downstream tasks: that checks the caps again and makes a "
                "new cluster."
            ) from failed

    def _add(self, settings: Settings) -> dict[str, str]:
        """Return this generation's step; it is added if there is none yet."""
        attempt = self._attempt(settings)
        name = f"{self.step} {attempt.batch.id} {attempt.name}"
        step_id = find_step(self.hook.conn, self.job_flow_id, name)
        if step_id is None:
            model = (self.found or {})["feature_model"]
            config = self.build_step(settings, self.staged, attempt, model)
            step_id = add_step(self.hook.conn, self.job_flow_id, config)
            self.log.info("Added step %s (%s)", step_id, name)
        return {"step_id": step_id, "attempt": attempt.name}

    def _attempt(self, settings: Settings) -> Attempt:
        # A failed step is not tried again by the task's retries, but by the next generation.
        batch = Batch(settings.lake, (self.found or {})["batch"])
        return batch.attempt(str(self.reserved["generation"]))
