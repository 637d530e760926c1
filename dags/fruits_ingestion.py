"""New fruit photographs in S3 become features and components, on a cluster that ends with the work.

Daily at 03:00 in Paris, or when somebody presses *Trigger*:

```
sense_changes ─► commit_removals ─► any_to_process ─► stage_jobs
   ─► reserve_cluster ─► create_cluster ─► await_cluster
   ─► featurize ─► commit_features ─► pca ─► commit_components
   ─► terminate_cluster (always) ─► report ─► watcher: one failure fails the run
```

* **Nothing new?** The run is a success, everything but the watcher is skipped, no cluster.
* **Images gone?** Their rows go, without a cluster. More than a tenth of the rows under the prefix
  asks for *Confirm removals*.
* **Another network?** *Reprocess* computes it beside the current tables; `fruits_switch_model` lets
  readers and runs go over to it. docs/reprocess.md.
* **Missed days?** The next run takes what is there. The runs of a backfill take turns: the first
  takes everything, the others find nothing.
* **A backlog?** A run takes the oldest images, as many as are expected to end within *Longest
  life*. The rest is *deferred*: trigger again.
* **Something failed?** Its log names the way out. What may pass by itself was retried already: AWS
  that did not answer, another writer, a failed featurize step (once, on the same cluster). Then
  clear the failed task with its *downstream* tasks (not *only failed*, which leaves out the
  cluster). That clears `reserve_cluster` too: it checks the caps anew and makes the next
  *generation*, charged to the month beside the earlier ones. A cluster that still lives is found by
  its token and used again; steps that the earlier generation left running are cancelled; what was
  committed stays committed.
* **What may it cost?** No cluster whose worst case is above *Most money*, and none that would bring
  the month above `FRUITS_MONTH_CAP_MONEY`: `reserve_cluster` fails with the arithmetic.
* **What did it cost?** `terminate_cluster` writes it to the ledger in the lake, `report` a row to
  the table `runs`, and the batch's report to the lake: its button on the task opens it, and the
  page *Fruits!* in Airflow's menu lists the last twenty.
* **Stopped it?** A run that is marked *failed* is red; one that is marked *success* while a task
  runs stays green, and its report says that not all was committed. The next run takes the rest.
* **Who ends the cluster?** `terminate_cluster`, also after a failure and after *mark failed* or
  *mark success* of the run; `watcher`, where a run that was cleared comes to no other cluster and
  Airflow skips the teardown. Where neither can run (the DAG is paused, the run deleted, Airflow
  down) the lease runs out and `fruits_cost_watchdog` ends it; without Airflow the cluster ends
  itself: after its last step, when idle, and at *Longest life*.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, CronTriggerTimetable, Metadata, TriggerRule, task
from airflow.sdk.exceptions import AirflowFailException

from fruits import alerts, ingestion
from fruits.batches import batch_id
from fruits.operators import CreateClusterOperator, ReportOperator
from fruits.params import ingestion_params, run_settings
from fruits.retries import TransientFailures
from fruits.run_facts import task_states, trouble
from fruits.sensors import ChangesSensor, ClusterSensor, StepSensor
from fruits.settings import load_settings
from fruits.step_runs import attempt_of

SETTINGS = load_settings()
FEATURES = Asset(name="fruits_features", uri=f"{SETTINGS.lake}/tables/features")
COMPONENTS = Asset(name="fruits_components", uri=f"{SETTINGS.lake}/tables/components")

# A task that looks every few seconds costs less in its slot than when it is scheduled anew.
WAIT = {
    "execution_timeout": timedelta(days=2),
    "mode": "reschedule" if SETTINGS.poll_seconds >= 60 else "poke",
    "poke_interval": SETTINGS.poll_seconds,
}


def answer_of(task_id: str) -> str:
    """Return the template of what a task returned.

    A template rather than the task's output: it draws no arrow, and the chain at the end stays the
    whole truth. (An arrow from a setup to a task with another trigger rule is refused.)
    """
    return f"{{{{ ti.xcom_pull(task_ids='{task_id}') }}}}"


FOUND = answer_of("sense_changes")
STAGED = answer_of("stage_jobs")
RESERVED = answer_of("reserve_cluster")
CLUSTER = answer_of("create_cluster")


@task
def commit_removals(found: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Delete the rows of images that are gone."""
    return ingestion.remove_rows(run_settings(params), found)


@task.short_circuit(ignore_downstream_trigger_rules=False)
def any_to_process(found: dict[str, Any]) -> bool:
    """Skip the cluster when there is nothing to compute."""
    return ingestion.anything_to_compute(found)


@task
def stage_jobs(found: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Upload jobs, weights and network, under the names of their content, where missing."""
    return ingestion.stage(run_settings(params), found)


@task
def reserve_cluster(
    found: dict[str, Any], staged: dict[str, Any], params: dict[str, Any], ti: Any
) -> dict[str, Any]:
    """Check the worst case against both caps, grant the lease, and build the cluster's request."""
    featurized = task_states(ti).get("featurize") == "success"  # and was not cleared
    settings = run_settings(params)
    ingestion.require_manifest(settings, found["batch"])  # before any money is promised
    return ingestion.reserve(settings, found["batch"], staged, found, featurized=featurized)


@task(outlets=[FEATURES])
def commit_features(found: dict[str, Any], step: dict[str, str], params: dict[str, Any]) -> Any:
    """Prove that every image has exactly one outcome, then commit features and quarantine."""
    attempt = attempt_of(step, "featurize")
    done = ingestion.commit_features(run_settings(params), found["batch"], attempt)
    yield Metadata(FEATURES, {"batch": found["batch"], **done})
    return done


@task(outlets=[COMPONENTS])
def commit_components(found: dict[str, Any], step: dict[str, str], params: dict[str, Any]) -> Any:
    """Commit the components: of a new model version, or more of the one that was kept."""
    attempt = attempt_of(step, "pca")
    done = ingestion.commit_components(run_settings(params), found["batch"], attempt)
    yield Metadata(COMPONENTS, {"batch": found["batch"], **done})
    return done


@task(retries=5, retry_exponential_backoff=2.0)
def terminate_cluster(dag_run: Any) -> dict[str, Any]:
    """End every cluster that carries the run's token, and write down what they cost.

    It needs nothing of the form, whose values may not fit settings that were changed since.
    """
    return ingestion.terminate(SETTINGS, batch_id(dag_run.run_after, dag_run.run_id, SETTINGS.lake))


@task(on_failure_callback=alerts.on_failure(SETTINGS))
def watcher(ti: Any, dag_run: Any) -> None:
    """Fail the run when a task failed or was stopped, although those that always run succeeded.

    Where the teardown was skipped, it first ends the cluster that a cleared run had had before.
    """
    token = batch_id(dag_run.run_after, dag_run.run_id, SETTINGS.lake)
    states = task_states(ti)
    ingestion.end_left_cluster(SETTINGS, token, states)
    if why := trouble(ti, dag_run, states, SETTINGS.lake):
        raise AirflowFailException(why)


with DAG(
    dag_id="fruits_ingestion",
    # Who switches the schedule on at noon waits for 03:00, and does not get last night's run.
    schedule=CronTriggerTimetable(
        "0 3 * * *", timezone="Europe/Paris", run_immediately=timedelta(0)
    ),
    catchup=False,
    max_active_runs=1,
    # No dagrun_timeout: it would skip the teardown. Each task has its own: two hours of work, two
    # days for those that wait for the cluster, which go by its age.
    render_template_as_native_obj=True,
    params=ingestion_params(SETTINGS),
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=SETTINGS.poll_seconds),
        "retry_policy": TransientFailures(),
        "execution_timeout": timedelta(hours=2),
        "region_name": SETTINGS.region,
    },
    doc_md=__doc__,
    tags=["fruits"],
) as dag:
    # SETUP
    sense = ChangesSensor(
        task_id="sense_changes",
        mode="reschedule",
        # Ten minutes where EMR is looked at every minute.
        poke_interval=timedelta(seconds=min(600, 10 * SETTINGS.poll_seconds)),
        timeout=timedelta(minutes=SETTINGS.sense_minutes),
    )
    removals = commit_removals(FOUND)
    needed = any_to_process(FOUND)
    stage = stage_jobs(FOUND)
    reserve = reserve_cluster(FOUND, STAGED).as_setup()
    create = CreateClusterOperator(task_id="create_cluster", reserved=RESERVED).as_setup()
    ready = ClusterSensor(
        task_id="await_cluster",
        job_flow_id=CLUSTER,
        reserved=RESERVED,
        **WAIT,
    )

    # BODY
    step_inputs = {
        "job_flow_id": CLUSTER,
        "found": FOUND,
        "staged": STAGED,
        "reserved": RESERVED,
        **WAIT,
    }
    featurize = StepSensor(
        task_id="featurize",
        step="featurize",
        wanted_by="featurize",
        build_step=ingestion.featurize_request,
        **step_inputs,
    )
    features = commit_features(FOUND, answer_of("featurize"))
    pca = StepSensor(
        task_id="pca",
        # PCA runs without new features too, when an earlier run did not get to its components.
        trigger_rule=TriggerRule.NONE_FAILED,
        step="pca",
        wanted_by="reduce",
        last=True,
        build_step=ingestion.pca_request,
        **step_inputs,
    )
    components = commit_components(FOUND, answer_of("pca"))

    # TEARDOWN
    terminate = terminate_cluster().as_teardown(
        setups=[reserve, create], on_failure_fail_dagrun=True
    )
    # Teardowns, although they tear nothing down: when a run is marked failed, all other tasks that
    # have not begun are skipped, and a run without a failed task at its end turns green again.
    reported = ReportOperator(task_id="report").as_teardown()
    watched = watcher().as_teardown(on_failure_fail_dagrun=True)

    sense >> removals >> needed >> stage >> reserve >> create >> ready >> featurize >> features
    features >> pca >> components >> terminate >> reported >> watched
