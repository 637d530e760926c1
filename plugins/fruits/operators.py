"""The two EMR operators of the provider, made safe to retry.

What was missing (provider 9.39): a failure after RunJobFlow left the cluster behind, and the retry
made a second one; a retry of EmrAddStepsOperator added the step again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.emr import EmrAddStepsOperator, EmrCreateJobFlowOperator
from airflow.sdk.exceptions import AirflowSkipException

from fruits.batches import Batch
from fruits.lifecycle import find_cluster, find_steps
from fruits.params import run_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

# Everything but RunJobFlow may be sent again.
PATIENT = {"retries": {"mode": "adaptive", "max_attempts": 10}}


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
        if found := find_cluster(self.hook.conn, token):
            self.log.info("Adopting cluster %s, which carries token %s", found, token)
            return found
        self.job_flow_overrides = self.reserved["request"]
        return super().execute(context)

    def on_kill(self) -> None:
        """Leave the cluster to the teardown and the watchdog: they find it by its token."""


class AddStepOperator(EmrAddStepsOperator):
    """Adds one step, unless this generation has a live or a completed one; does not wait.

    *step* is featurize or pca; *build_step* is called with the run's settings, the staged URIs, the
    attempt and the feature model, and returns the StepConfig. A failed step is replaced by a new
    attempt, which writes to folders of its own. *found*, *staged* and *reserved* are what
    sense_changes, stage_jobs and reserve_cluster returned; the task is skipped unless *found* says
    yes under the name *wanted_by*.
    Returns ``{"step_id": …, "attempt": …}``.
    """

    template_fields: Sequence[str] = (
        *EmrAddStepsOperator.template_fields,
        "found",
        "staged",
        "reserved",
    )

    def __init__(
        self,
        *,
        build_step: Callable[..., dict[str, Any]],
        step: str,
        wanted_by: str,
        found: dict[str, Any] | None,
        staged: dict[str, str],
        reserved: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(botocore_config=PATIENT, aws_conn_id=None, **kwargs)
        self.build_step, self.step, self.wanted_by = build_step, step, wanted_by
        self.found, self.staged, self.reserved = found, staged, reserved

    def execute(self, context: Context) -> dict[str, str]:  # type: ignore[override]
        """Adopt this generation's step or add its next attempt."""
        found = self.found or {}
        if not found.get(self.wanted_by):
            raise AirflowSkipException(f"There is nothing to {self.step}.")
        batch, generation = found["batch"], self.reserved["generation"]
        prefix = f"{self.step} {batch} {generation}."
        earlier = find_steps(self.hook.conn, str(self.job_flow_id), prefix)
        for step in earlier:
            if step.is_live or step.is_completed:
                self.log.info("Adopting step %s (%s), which is %s", step.id, step.name, step.state)
                return {"step_id": step.id, "attempt": step.attempt}
        return self._add(context, found, f"{generation}.{len(earlier) + 1}")

    def _add(self, context: Context, found: dict[str, Any], name: str) -> dict[str, str]:
        settings = run_settings(context["params"])
        attempt = Batch(settings.lake, found["batch"]).attempt(name)
        step = self.build_step(settings, self.staged, attempt, found["feature_model"])
        self.steps = [step]
        step_id = super().execute(context)[0]
        self.log.info("Added step %s (%s)", step_id, step["Name"])
        return {"step_id": step_id, "attempt": name}
