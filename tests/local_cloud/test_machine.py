"""The life of a cluster, event by event, without a process or a thread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from local_cloud.emr import events as ev
from local_cloud.emr.machine import Outcome, apply, idle_deadline
from local_cloud.emr.model import Cluster, ClusterState, Failure, Instance, ProcessId, Step

FAILURE = Failure("exit code 1")


def a_step(number: int = 1, action: str = "CONTINUE") -> Step:
    return Step(f"s-{number}", "step", "command-runner.jar", ("bash", "-c", "true"), action, 0.0)


def a_cluster(*steps: Step, **fields: Any) -> Cluster:
    machines = tuple(
        Instance(f"ci-{role}", f"i-{role}", f"ig-{role}", role, "m5.xlarge", "ON_DEMAND", True)
        for role in ("MASTER", "CORE")
    )
    values: dict[str, Any] = {
        "id": "j-1",
        "name": "test",
        "region": "eu-west-3",
        "request": {"Instances": {}},
        "created_at": 0.0,
        "keep_alive": True,
        "termination_protected": False,
        "concurrency": 1,
        "instances": machines,
        "steps": steps,
    }
    return Cluster(**values | fields)


def after(cluster: Cluster, *events: ev.Event, now: float = 10.0) -> Outcome:
    """Return the cluster after *events*, with the effects of the last one."""
    outcome = Outcome(cluster)
    for event in events:
        outcome = apply(outcome.cluster, event, now)
    return outcome


def ready(*steps: Step, **fields: Any) -> Cluster:
    """Return a cluster that has bootstrapped."""
    begun = a_cluster(*steps, **fields)
    return after(begun, ev.NodesProvisioned(), ev.BootstrapSucceeded()).cluster


def states(cluster: Cluster) -> list[str]:
    return [step.state.value for step in cluster.steps]


def test_creation_provisions() -> None:
    """A new cluster is STARTING and asks for its machines."""
    outcome = after(a_cluster(), ev.Created())

    assert outcome.cluster.state == "STARTING"
    assert outcome.effects == (ev.Provision(),)


def test_provisioned_nodes_bootstrap() -> None:
    """Machines run their bootstrap actions before anything else."""
    outcome = after(a_cluster(a_step()), ev.NodesProvisioned())

    assert outcome.cluster.state == "BOOTSTRAPPING"
    assert outcome.effects == (ev.Bootstrap(),)
    assert states(outcome.cluster) == ["PENDING"]


def test_bootstrapped_cluster_without_steps_waits() -> None:
    """A cluster that is kept alive waits for steps, ready and idle from that moment."""
    cluster = ready()

    assert cluster.state == "WAITING"
    assert (cluster.ready_at, cluster.idle_since) == (10.0, 10.0)


def test_bootstrapped_cluster_runs_its_first_step() -> None:
    """Steps of RunJobFlow start as soon as the cluster is ready, one at a time."""
    outcome = after(a_cluster(a_step(1), a_step(2)), ev.NodesProvisioned(), ev.BootstrapSucceeded())

    assert outcome.cluster.state == "RUNNING"
    assert states(outcome.cluster) == ["RUNNING", "PENDING"]
    assert outcome.effects == (ev.StartStep("s-1"),)


def test_bootstrap_failure_ends_the_cluster() -> None:
    """A failed bootstrap action ends the cluster with errors and cancels its steps."""
    begun = a_cluster(a_step())
    outcome = after(begun, ev.NodesProvisioned(), ev.BootstrapFailed("action 1 returned 2"))

    assert outcome.cluster.state == "TERMINATING"
    assert outcome.cluster.reason_code == "BOOTSTRAP_FAILURE"
    assert states(outcome.cluster) == ["CANCELLED"]
    assert outcome.effects == (ev.Release(),)
    assert after(outcome.cluster, ev.NodesReleased()).cluster.state == "TERMINATED_WITH_ERRORS"


def test_steps_run_one_after_another() -> None:
    """With concurrency 1 the next step starts when the one before has ended."""
    cluster = ready(a_step(1), a_step(2))
    outcome = after(cluster, ev.StepEnded("s-1"))

    assert states(outcome.cluster) == ["COMPLETED", "RUNNING"]
    assert outcome.effects == (ev.StartStep("s-2"),)


def test_steps_run_side_by_side_up_to_the_concurrency() -> None:
    """StepConcurrencyLevel steps run at once, in their order."""
    cluster = ready(a_step(1), a_step(2), a_step(3), concurrency=2)

    assert states(cluster) == ["RUNNING", "RUNNING", "PENDING"]


def test_last_step_lets_a_kept_cluster_wait() -> None:
    """After its last step a cluster that is kept alive goes back to WAITING."""
    cluster = after(ready(a_step()), ev.StepEnded("s-1"), now=30).cluster

    assert (cluster.state, cluster.idle_since) == ("WAITING", 30)


@pytest.mark.parametrize(
    ("failure", "message"), [(None, "Steps completed"), (FAILURE, "Steps completed with errors")]
)
def test_last_step_ends_a_transient_cluster(failure: Failure | None, message: str) -> None:
    """Without KeepJobFlowAliveWhenNoSteps the cluster ends after its last step, TERMINATED."""
    outcome = after(ready(a_step(), keep_alive=False), ev.StepEnded("s-1", failure))

    assert outcome.cluster.state == "TERMINATING"
    assert outcome.cluster.reason_code == "ALL_STEPS_COMPLETED"
    assert outcome.cluster.reason_message == message
    assert after(outcome.cluster, ev.NodesReleased()).cluster.state == "TERMINATED"


def test_step_records_its_process_and_times() -> None:
    """A running step has a start time and a process; an ended one an end time."""
    running = after(ready(a_step()), ev.StepStarted("s-1", ProcessId(7, 1.5))).cluster
    ended = after(running, ev.StepEnded("s-1"), now=20).cluster

    assert (running.steps[0].started_at, running.steps[0].process) == (10.0, ProcessId(7, 1.5))
    assert ended.steps[0].ended_at == 20


def test_continue_goes_on_after_a_failure() -> None:
    """ActionOnFailure CONTINUE: the failure is kept and the next step starts."""
    cluster = after(ready(a_step(1), a_step(2)), ev.StepEnded("s-1", FAILURE)).cluster

    assert states(cluster) == ["FAILED", "RUNNING"]
    assert cluster.steps[0].failure == FAILURE


def test_cancel_and_wait_cancels_what_is_pending() -> None:
    """ActionOnFailure CANCEL_AND_WAIT: later steps are cancelled and the cluster waits."""
    cluster = ready(a_step(1, "CANCEL_AND_WAIT"), a_step(2), a_step(3))
    failed = after(cluster, ev.StepEnded("s-1", FAILURE)).cluster

    assert states(failed) == ["FAILED", "CANCELLED", "CANCELLED"]
    assert failed.state == "WAITING"


@pytest.mark.parametrize("action", ["TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW"])
def test_terminate_on_failure_ends_with_errors(action: str) -> None:
    """ActionOnFailure TERMINATE_CLUSTER (and its old name) ends the cluster with STEP_FAILURE."""
    cluster = ready(a_step(1, action), a_step(2))
    outcome = after(cluster, ev.StepEnded("s-1", FAILURE))

    assert states(outcome.cluster) == ["FAILED", "CANCELLED"]
    assert outcome.cluster.reason_code == "STEP_FAILURE"
    assert after(outcome.cluster, ev.NodesReleased()).cluster.state == "TERMINATED_WITH_ERRORS"


def test_protected_cluster_survives_a_failed_step() -> None:
    """Protection keeps a kept-alive cluster from ending for a failed step."""
    cluster = ready(a_step(1, "TERMINATE_CLUSTER"), a_step(2), termination_protected=True)
    failed = after(cluster, ev.StepEnded("s-1", FAILURE)).cluster

    assert (failed.state, states(failed)) == ("WAITING", ["FAILED", "CANCELLED"])


def test_protected_transient_cluster_ends_for_a_failed_step() -> None:
    """Protection does not hold a cluster that ends by itself anyway."""
    step = a_step(1, "TERMINATE_CLUSTER")
    cluster = ready(step, termination_protected=True, keep_alive=False)

    assert after(cluster, ev.StepEnded("s-1", FAILURE)).cluster.state == "TERMINATING"


def test_cancelling_a_pending_step_is_immediate() -> None:
    """A step that has not started is CANCELLED at once."""
    outcome = after(ready(a_step(1), a_step(2)), ev.StepsCancelled(("s-2",)))

    assert states(outcome.cluster) == ["RUNNING", "CANCELLED"]
    assert outcome.effects == ()


def test_cancelling_a_running_step_kills_it_first() -> None:
    """A running step is CANCEL_PENDING until its processes are dead, then CANCELLED."""
    outcome = after(ready(a_step()), ev.StepsCancelled(("s-1",), force=True))
    ended = after(outcome.cluster, ev.StepEnded("s-1", FAILURE)).cluster

    assert states(outcome.cluster) == ["CANCEL_PENDING"]
    assert outcome.effects == (ev.KillStep("s-1", force=True),)
    assert (states(ended), ended.state) == (["CANCELLED"], "WAITING")


def test_cancelled_step_never_terminates_its_cluster() -> None:
    """ActionOnFailure is for failures: a cancelled step's cluster goes on."""
    cluster = ready(a_step(1, "TERMINATE_CLUSTER"))
    ended = after(cluster, ev.StepsCancelled(("s-1",)), ev.StepEnded("s-1", FAILURE)).cluster

    assert ended.state == "WAITING"


def test_termination_interrupts_and_cancels() -> None:
    """TerminateJobFlows interrupts the running step and cancels the pending ones."""
    outcome = after(ready(a_step(1), a_step(2)), ev.TerminationRequested())

    assert outcome.cluster.state == "TERMINATING"
    assert outcome.cluster.reason_code == "USER_REQUEST"
    assert states(outcome.cluster) == ["INTERRUPTED", "CANCELLED"]
    assert outcome.effects == (ev.Release(),)
    ended = after(outcome.cluster, ev.NodesReleased(), now=40).cluster
    assert (ended.state, ended.ended_at) == ("TERMINATED", 40)


def test_termination_is_refused_under_protection() -> None:
    """A protected cluster is not ended by a request, and is once protection is lifted."""
    cluster = ready(termination_protected=True)
    freed = after(cluster, ev.ProtectionSet(False)).cluster

    assert after(cluster, ev.TerminationRequested()).cluster == cluster
    assert after(freed, ev.TerminationRequested()).cluster.state == "TERMINATING"


def test_idle_cluster_ends_at_its_timeout() -> None:
    """An idle cluster ends exactly when its AutoTerminationPolicy says."""
    cluster = ready(idle_timeout=60)

    assert idle_deadline(cluster) == 70
    assert after(cluster, ev.ClockTicked(), now=69.9).cluster.state == "WAITING"
    ended = after(cluster, ev.ClockTicked(), now=70).cluster
    assert (ended.state, ended.reason_code) == ("TERMINATING", "USER_REQUEST")


def test_cluster_with_a_step_is_never_idle() -> None:
    """A running step keeps a cluster from idling, however long it takes."""
    cluster = ready(a_step(), idle_timeout=60)

    assert idle_deadline(cluster) is None
    assert after(cluster, ev.ClockTicked(), now=1e9).cluster.state == "RUNNING"


def test_idle_time_begins_anew_after_a_step() -> None:
    """The timeout counts from the last step's end, not from the first wait."""
    busy = after(ready(idle_timeout=60), ev.StepsAdded((a_step(),)), now=50).cluster
    idle = after(busy, ev.StepEnded("s-1"), now=500).cluster

    assert idle_deadline(idle) == 560


def test_idle_timeout_can_be_put_and_removed() -> None:
    """The policy of a living cluster can change, and without one it waits for ever."""
    cluster = after(ready(), ev.IdleTimeoutSet(60)).cluster

    assert idle_deadline(cluster) == 70
    assert idle_deadline(after(cluster, ev.IdleTimeoutSet(None)).cluster) is None


def test_keep_alive_off_ends_a_waiting_cluster() -> None:
    """SetKeepJobFlowAliveWhenNoSteps(False) ends a cluster that has nothing to do."""
    cluster = after(ready(), ev.KeepAliveSet(False)).cluster

    assert (cluster.state, cluster.reason_code) == ("TERMINATING", "ALL_STEPS_COMPLETED")


def test_keep_alive_off_waits_for_the_last_step() -> None:
    """SetKeepJobFlowAliveWhenNoSteps(False) lets what runs come to its end."""
    running = after(ready(a_step()), ev.KeepAliveSet(False)).cluster

    assert running.state == "RUNNING"
    assert after(running, ev.StepEnded("s-1")).cluster.state == "TERMINATING"


def test_shutdown_of_the_primary_ends_the_cluster() -> None:
    """A primary that is shut down takes its cluster with it: INSTANCE_FAILURE, with errors."""
    outcome = after(ready(a_step()), ev.NodeShutDown("i-MASTER"))

    assert outcome.cluster.reason_code == "INSTANCE_FAILURE"
    assert states(outcome.cluster) == ["INTERRUPTED"]
    assert after(outcome.cluster, ev.NodesReleased()).cluster.state == "TERMINATED_WITH_ERRORS"


def test_shutdown_is_ignored_under_protection() -> None:
    """`shutdown` on a node of a protected cluster changes nothing."""
    cluster = ready(termination_protected=True)

    assert after(cluster, ev.NodeShutDown("i-MASTER")) == Outcome(cluster)


def test_shutdown_of_a_core_node_loses_only_that_node() -> None:
    """A core node that is shut down is gone; the cluster goes on."""
    outcome = after(ready(), ev.NodeShutDown("i-CORE"), now=20)

    assert outcome.cluster.state == "WAITING"
    assert [machine.lost_at for machine in outcome.cluster.instances] == [None, 20]
    assert outcome.effects == (ev.KillNode("i-CORE"),)


@pytest.mark.parametrize(
    ("state", "effect"),
    [
        ("STARTING", ev.Provision()),
        ("BOOTSTRAPPING", ev.Bootstrap()),
        ("TERMINATING", ev.Release()),
    ],
)
def test_restart_does_again_what_was_under_way(state: str, effect: ev.Effect) -> None:
    """A restarted endpoint takes up provisioning, bootstrapping and terminating again."""
    cluster = replace(a_cluster(), state=ClusterState(state))

    assert after(cluster, ev.EndpointRestarted()) == Outcome(cluster, (effect,))


def test_restart_fails_the_running_step() -> None:
    """A step that ran when the endpoint died comes back FAILED, with a reason; the next starts."""
    outcome = after(ready(a_step(1), a_step(2)), ev.EndpointRestarted())

    assert states(outcome.cluster) == ["FAILED", "RUNNING"]
    assert outcome.cluster.steps[0].failure is not None
    assert "restarted" in outcome.cluster.steps[0].failure.reason
    assert outcome.effects == (ev.StartStep("s-2"),)


def test_restart_leaves_a_waiting_cluster_alone() -> None:
    """A restart is no activity: an idle cluster keeps its idle time."""
    cluster = ready(idle_timeout=60)

    assert after(cluster, ev.EndpointRestarted(), now=50) == Outcome(cluster)


def test_failure_of_the_endpoint_is_an_internal_error() -> None:
    """What the endpoint itself cannot do ends the cluster with INTERNAL_ERROR and says why."""
    cluster = after(ready(), ev.EndpointFailed("disk full")).cluster

    assert (cluster.reason_code, cluster.reason_message) == ("INTERNAL_ERROR", "disk full")


def test_release_that_failed_is_begun_again() -> None:
    """A process that would not die does not leave the cluster half ended; other trouble waits."""
    ending = after(ready(), ev.TerminationRequested()).cluster

    assert after(ending, ev.ReleaseFailed()) == Outcome(ending, (ev.Release(),))
    assert after(ending, ev.EndpointFailed("a step's log")) == Outcome(ending)


def test_ended_cluster_never_changes() -> None:
    """Late news about a cluster that has ended is not news."""
    ended = after(ready(a_step()), ev.TerminationRequested(), ev.NodesReleased()).cluster
    late = (
        ev.StepEnded("s-1"),
        ev.ClockTicked(),
        ev.ProtectionSet(True),
        ev.EndpointRestarted(),
        ev.EndpointFailed("late"),
    )

    assert after(ended, *late, now=99) == Outcome(ended)
