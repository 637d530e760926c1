"""What a run waits for: images that changed, a cluster that is ready, a step that completed.

The provider's sensors know states. Missing was: a lease that is renewed while somebody waits, a
step that is adopted, tried again or cancelled, and progress in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.emr import EmrJobFlowSensor, EmrStepSensor
from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from fruits import ingestion
from fruits.batches import Attempt, Batch, batch_id
from fruits.claims import keep_claim, renew_claim
from fruits.errors import NoFeaturesError
from fruits.lifecycle import PATIENT, check_alive, cluster_age, end_duplicates
from fruits.links import EMR_LINKS, ReportLink, tell_cluster, tell_report
from fruits.params import run_settings
from fruits.progress import describe_progress, read_failure
from fruits.run_facts import run_at_work
from fruits.step_runs import (
    FAILED,
    SeenStep,
    StepFailedError,
    add_step,
    cancel_steps,
    keep_alive,
    newest_try,
    seen_steps,
    step_failed,
)

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mypy_boto3_emr import EMRClient
    from mypy_boto3_emr.type_defs import StepTypeDef

    from fruits.settings import Settings

# Airflow measures a sensor's timeout with the clocks of its workers, which jump. How old a cluster
# is, EMR's tells.
NEVER = timedelta(days=365)


class ChangesSensor(BaseSensorOperator):
    """Looks for images that are new, replaced or gone; returns what `sense_changes` found.

    A scheduled run looks again until its window (*timeout*) passes; a manual one, or one of a
    backfill, looks once. With nothing to do it skips, and so does the rest of the run. A look that
    fails, fails the task.

    While another run is between its sensing and its end it waits: both would find the same images,
    and pay for a cluster each. Airflow does not see to that, a backfill begins ten runs at once;
    but it runs one such task at a time (max_active_tis_per_dag).
    """

    operator_extra_links = (ReportLink(),)
    _waits_for: str | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_active_tis_per_dag=1, **kwargs)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        run = context["dag_run"]
        self._waits_for = run_at_work(context["ti"])
        if self._waits_for:
            self.log.info("Run %s is at work: this one waits until it is over", self._waits_for)
            return PokeReturnValue(False)
        settings = run_settings(context["params"])
        batch = batch_id(run.run_after, run.run_id, settings.lake)
        found = ingestion.sense_changes(settings, batch, run.run_id)
        something = found["reduce"] or found["remove"]
        if something:
            tell_report(context, batch)
        if not something and run.run_type != "scheduled":
            raise AirflowSkipException(f"Nothing changed, and a {run.run_type} run looks once.")
        return PokeReturnValue(something, found)

    def execute(self, context: Context) -> Any:
        """Look until something changed or the window has passed."""
        try:
            return super().execute(context)
        except AirflowSensorTimeout as window:
            if self._waits_for:
                raise AirflowFailException(
                    f"Run {self._waits_for} was still at work after {self.timeout:.0f} s. Clear "
                    "this task when it is over, or leave the images to the next run."
                ) from window
            raise AirflowSkipException(f"Nothing changed in {self.timeout:.0f} s.") from window


# The provider's triggers renew no lease, and that of a cluster waits for its end: we do not defer,
# whatever Airflow's `[operators] default_deferrable` says.
WAITS: dict[str, Any] = {"botocore_config": PATIENT, "aws_conn_id": None, "deferrable": False}


class Waiting:
    """Waits for what is *reserved*: renews its lease at each look, and tells only what is news.

    The looks are our own. The provider's write two lines each, and one call to EMR in two is for a
    link that is `fruits.links`'s here.
    """

    reserved: dict[str, Any]
    log: Any
    _told: str = ""

    def renew(self, context: Context) -> Settings:
        """Renew the lease, or fail if it is another's; return the run's settings."""
        settings = run_settings(context["params"])
        keep_claim(settings.lake, self.reserved)
        return settings

    def tell(self, line: str) -> None:
        """Write *line* into the task's log, unless it is what was written last."""
        if line != self._told:
            self.log.info(line)
        self._told = line


class ClusterSensor(Waiting, EmrJobFlowSensor):
    """Waits until the cluster takes steps; one that ended, however, fails at once.

    At each look it ends other clusters of the same token: they come from a RunJobFlow whose answer
    was lost, and EMR may list them late. A cluster that has not begun to take steps
    FRUITS_READY_MINUTES after its creation fails the wait.
    """

    template_fields: Sequence[str] = (*EmrJobFlowSensor.template_fields, "reserved")
    operator_extra_links = EMR_LINKS  # type: ignore[assignment]

    def __init__(self, *, reserved: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**WAITS, **kwargs)
        self.reserved = reserved

    def execute(self, context: Context) -> Any:
        """Look until the cluster takes steps, and return its id."""
        settings = run_settings(context["params"])
        tell_cluster(context, settings.region, settings.lake, self.job_flow_id)
        self.timeout = NEVER.total_seconds()
        super().execute(context)
        return self.job_flow_id

    def poke(self, context: Context) -> bool:
        """Look once."""
        settings = self.renew(context)
        end_duplicates(self.hook.conn, self.reserved["token"], self.job_flow_id)
        state = check_alive(self.hook.conn, self.job_flow_id)["Status"]["State"]
        self.tell(f"Cluster {self.job_flow_id} is {state}")
        ready = state in ("RUNNING", "WAITING")
        age = timedelta(0) if ready else cluster_age(self.hook.conn, self.job_flow_id)
        if age >= timedelta(minutes=settings.ready_minutes):
            raise AirflowSensorTimeout(
                f"Cluster {self.job_flow_id} is {state} {settings.ready_minutes:g} minutes after "
                "its creation. Look at its state in the EMR console, then clear reserve_cluster "
                "together with its downstream tasks."
            )
        return ready


class StepSensor(Waiting, EmrStepSensor):
    """Adds one step, unless this generation has a live or a completed one, and waits for it.

    One task for both: a pair of EmrAddStepsOperator and EmrStepSensor cannot be repeated, because
    clearing the one that failed, the sensor, leaves it with a step of a cluster that is gone. And a
    retry of EmrAddStepsOperator adds the step again.

    *step* is featurize or pca; *build_step* is called with the run's settings, the staged URIs, the
    attempt and the feature model, and returns the StepConfig. *found*, *staged* and *reserved* are
    what sense_changes, stage_jobs and reserve_cluster returned; the task is skipped unless *found*
    says yes under the name *wanted_by*, and pca also where no image has features. Each attempt
    writes to folders of its own.

    A failed step is tried once more on the same cluster, by the task's retry, unless it says that
    it would fail again. Not the *last* one: when it has been added, the cluster is told to end
    itself after it.

    It waits until the cluster reaches its cap. A wait that gives up cancels the step, so that it
    does not run on unwatched. A task that is killed cancels nothing: Airflow does not tell a
    cleared task from a lost machine, whose retry goes on with the step. The next generation cancels
    what an older one left running, behind which its own would wait.

    Returns ``{"step_id": …, "attempt": …}``.
    """

    template_fields: Sequence[str] = (
        *EmrStepSensor.template_fields,
        "found",
        "staged",
        "reserved",
    )
    operator_extra_links = EMR_LINKS  # type: ignore[assignment]

    def __init__(
        self,
        *,
        step: str,
        wanted_by: str,
        build_step: Callable[..., dict[str, Any]],
        found: dict[str, Any] | None,
        staged: dict[str, str],
        reserved: dict[str, Any],
        last: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(step_id="", **WAITS, **kwargs)
        self.step, self.wanted_by, self.build_step = step, wanted_by, build_step
        self.found, self.staged, self.reserved = found, staged, reserved
        self.last = last
        self.tries = 1 if last else 2
        self.number = 0

    def execute(self, context: Context) -> dict[str, str]:  # type: ignore[override]
        """Add or adopt the step, and wait; a step that takes too long is cancelled."""
        if not (self.found or {}).get(self.wanted_by):
            raise AirflowSkipException(f"There is nothing to {self.step}.")
        settings = run_settings(context["params"])
        self.timeout = NEVER.total_seconds()
        # Where a look is a process of its own, one that failed since the last is for `poke` to see.
        waited = context.get("task_reschedule_count", 0) > 0
        try:
            self._adopt_or_add(settings, waited=waited)
        except NoFeaturesError as nothing:
            raise AirflowSkipException(nothing.what) from nothing
        tell_cluster(context, settings.region, settings.lake, self.job_flow_id, self.step_id)
        try:
            super().execute(context)
        except AirflowSensorTimeout:
            cancel_steps(self.hook.conn, self.job_flow_id, self.step_id)
            raise
        return {"step_id": self.step_id, "attempt": self._attempt(settings).name}

    def poke(self, context: Context) -> bool:
        """Look once, and say how far the step is, or why it failed."""
        settings = self.renew(context)
        work = self._attempt(settings).work(self.step)
        emr: EMRClient = self.hook.conn
        step = emr.describe_step(ClusterId=self.job_flow_id, StepId=self.step_id)["Step"]
        state = step["Status"]["State"]
        progress = describe_progress(work)
        self.tell(f"Step {self.step_id} is {state}{f': {progress}' if progress else ''}")
        if state in FAILED:
            raise self._failure(step, work)
        completed = state == "COMPLETED"
        age = timedelta(0) if completed else cluster_age(self.hook.conn, self.job_flow_id)
        if age >= timedelta(minutes=settings.cap_minutes):
            raise AirflowSensorTimeout(
                f"{self.step} has not completed, and cluster {self.job_flow_id} has reached its "
                f"cap of {settings.cap_minutes} minutes. Raise the cap, or take more workers, and "
                "clear this task together with its downstream tasks."
            )
        return completed

    def _adopt_or_add(self, settings: Settings, *, waited: bool) -> None:
        """Find this generation's step, or add it if there is none or it may be tried again.

        It may be by a retry of the task: not while the same try of the task has *waited* for it.
        """
        # A task that is cleared alone comes here without the look of await_cluster.
        end_duplicates(self.hook.conn, self.reserved["token"], self.job_flow_id)
        every = seen_steps(self.hook.conn, self.job_flow_id, self._batch(settings).id)
        seen = [step for step in every if step.step == self.step]
        newest = newest_try(seen, self.reserved["generation"])
        if newest and (waited or newest.state not in FAILED or newest.number >= self.tries):
            self.log.info("Step %s is the one to wait for, it is %s", newest.id, newest.state)
            self.step_id, self.number = newest.id, newest.number
        else:
            self._add(settings, number=newest.number + 1 if newest else 1)
        # Only now: a cluster that was told to end after its last step would end with the old one.
        older = [step.id for step in every if step.is_live and self._outdates(step)]
        cancel_steps(self.hook.conn, self.job_flow_id, *older)
        if self.last:
            keep_alive(self.hook.conn, self.job_flow_id, alive=False)

    def _outdates(self, step: SeenStep) -> bool:
        """Whether this generation's step takes the place of *step*, or would wait behind it."""
        if step.step == self.step:
            return step.id != self.step_id
        return step.generation < int(self.reserved["generation"])

    def _add(self, settings: Settings, number: int) -> None:
        renew_claim(settings.lake, self.reserved)
        check_alive(self.hook.conn, self.job_flow_id)
        keep_alive(self.hook.conn, self.job_flow_id, alive=True)
        self.number = number
        model = (self.found or {})["feature_model"]
        config = self.build_step(settings, self.staged, self._attempt(settings), model)
        self.step_id = add_step(self.hook.conn, self.job_flow_id, config)
        self.log.info("Added step %s (%s)", self.step_id, config["Name"])

    def _failure(self, step: StepTypeDef, work: str) -> StepFailedError:
        """Return why the step failed, and what comes next."""
        told = read_failure(work)
        again = self.number < self.tries and not (told and told.lasting)
        cause = told.cause if told else None
        failure = step_failed(self.hook.conn, self.job_flow_id, step, cause, transient=again)
        failure.way_out += (
            ". A retry of this task tries the step once more, on the same cluster."
            if again
            else ". Repair the cause and clear this task together with its downstream tasks: that "
            "checks the caps again and makes a new cluster."
        )
        return failure

    def _attempt(self, settings: Settings) -> Attempt:
        return self._batch(settings).numbered(self.reserved["generation"], self.number)

    def _batch(self, settings: Settings) -> Batch:
        return Batch(settings.lake, (self.found or {})["batch"])
