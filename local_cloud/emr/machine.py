"""The life of a cluster as a pure function: event and time in, new state and effects out.

It knows neither threads nor processes nor files, so that every order of events can be tried in
milliseconds. Events that come too late (a step that ends after its cluster) change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch

from local_cloud.emr import events as ev
from local_cloud.emr.model import (
    ACTIVE_STEP,
    BUSY_STEP,
    CLOSED,
    ENDED,
    Cluster,
    ClusterState,
    Failure,
    Step,
    StepState,
)

_PENDING = frozenset({StepState.PENDING})
_READY = frozenset({ClusterState.RUNNING, ClusterState.WAITING})


@dataclass(frozen=True)
class Outcome:
    """What a cluster became, and what is to be done now, in order."""

    cluster: Cluster
    effects: tuple[ev.Effect, ...] = ()


def apply(cluster: Cluster, event: ev.Event, now: float) -> Outcome:
    """Return what *event* makes of *cluster* at *now* (seconds since the epoch)."""
    if cluster.state in ENDED:
        return Outcome(cluster)
    return _react(event, cluster, now)


def idle_deadline(cluster: Cluster) -> float | None:
    """Return when the cluster ends for idleness (seconds since the epoch), or None for never."""
    if cluster.state != ClusterState.WAITING or cluster.idle_timeout is None:
        return None
    return (cluster.idle_since or 0.0) + cluster.idle_timeout


@singledispatch
def _react(event: object, cluster: Cluster, now: float) -> Outcome:
    raise TypeError(f"{cluster.id}: no such event: {event!r} at {now}")


@_react.register
def _created(_event: ev.Created, cluster: Cluster, _now: float) -> Outcome:
    return Outcome(cluster, (ev.Provision(),))


@_react.register
def _provisioned(_event: ev.NodesProvisioned, cluster: Cluster, _now: float) -> Outcome:
    if cluster.state != ClusterState.STARTING:
        return Outcome(cluster)
    bootstrapping = replace(
        cluster, state=ClusterState.BOOTSTRAPPING, reason_message="Running bootstrap actions"
    )
    return Outcome(bootstrapping, (ev.Bootstrap(),))


@_react.register
def _bootstrapped(_event: ev.BootstrapSucceeded, cluster: Cluster, now: float) -> Outcome:
    if cluster.state != ClusterState.BOOTSTRAPPING:
        return Outcome(cluster)
    return _settle(replace(cluster, ready_at=now), now, "Cluster ready to run steps.")


@_react.register
def _bootstrap_failed(event: ev.BootstrapFailed, cluster: Cluster, now: float) -> Outcome:
    if cluster.state != ClusterState.BOOTSTRAPPING:
        return Outcome(cluster)
    return _terminate(cluster, now, "BOOTSTRAP_FAILURE", event.message, errors=True)


@_react.register
def _steps_added(event: ev.StepsAdded, cluster: Cluster, now: float) -> Outcome:
    if cluster.state in CLOSED:
        return Outcome(cluster)
    return _settle_if_ready(replace(cluster, steps=cluster.steps + event.steps), now)


@_react.register
def _step_started(event: ev.StepStarted, cluster: Cluster, _now: float) -> Outcome:
    step = cluster.step(event.step_id)
    if step is None or step.state not in BUSY_STEP:
        return Outcome(cluster)
    return Outcome(cluster.with_step(replace(step, process=event.process)))


@_react.register
def _step_ended(event: ev.StepEnded, cluster: Cluster, now: float) -> Outcome:
    step = cluster.step(event.step_id)
    if step is None or step.state not in BUSY_STEP:
        return Outcome(cluster)
    if step.state == StepState.CANCEL_PENDING:
        ended = _end_step(step, StepState.CANCELLED, now, "Cancelled by user request")
        return _settle(cluster.with_step(ended), now)
    if event.failure is None:
        return _settle(cluster.with_step(_end_step(step, StepState.COMPLETED, now)), now)
    return _step_failed(cluster, step, event.failure, now)


def _step_failed(cluster: Cluster, step: Step, failure: Failure, now: float) -> Outcome:
    failed = replace(_end_step(step, StepState.FAILED, now), failure=failure)
    cluster = cluster.with_step(failed)
    if step.action_on_failure == "CONTINUE":
        return _settle(cluster, now)
    cluster = _cancel_pending(cluster, now)
    # "If the cluster has termination protection enabled AND auto-terminate disabled, it will not
    # terminate": the machines stay, so that somebody can look at them.
    protected = cluster.termination_protected and cluster.keep_alive
    if step.action_on_failure == "CANCEL_AND_WAIT" or protected:
        return _settle(cluster, now, "Waiting after step failed")
    return _terminate(cluster, now, "STEP_FAILURE", "Shut down as step failed", errors=True)


@_react.register
def _steps_cancelled(event: ev.StepsCancelled, cluster: Cluster, now: float) -> Outcome:
    effects: list[ev.Effect] = []
    for step in cluster.steps:
        if step.id in event.step_ids and step.state == StepState.PENDING:
            ended = _end_step(step, StepState.CANCELLED, now, "Cancelled by user request")
            cluster = cluster.with_step(ended)
        elif step.id in event.step_ids and step.state == StepState.RUNNING:
            cluster = cluster.with_step(replace(step, state=StepState.CANCEL_PENDING))
            effects.append(ev.KillStep(step.id, event.force))
    settled = _settle_if_ready(cluster, now)
    return Outcome(settled.cluster, (*effects, *settled.effects))


@_react.register
def _termination_requested(
    _event: ev.TerminationRequested, cluster: Cluster, now: float
) -> Outcome:
    if cluster.state in CLOSED or cluster.termination_protected:
        return Outcome(cluster)
    return _terminate(cluster, now, "USER_REQUEST", "Terminated by user request")


@_react.register
def _protection_set(event: ev.ProtectionSet, cluster: Cluster, _now: float) -> Outcome:
    return Outcome(replace(cluster, termination_protected=event.protected))


@_react.register
def _keep_alive_set(event: ev.KeepAliveSet, cluster: Cluster, now: float) -> Outcome:
    return _settle_if_ready(replace(cluster, keep_alive=event.keep_alive), now)


@_react.register
def _idle_timeout_set(event: ev.IdleTimeoutSet, cluster: Cluster, _now: float) -> Outcome:
    return Outcome(replace(cluster, idle_timeout=event.seconds))


@_react.register
def _clock_ticked(_event: ev.ClockTicked, cluster: Cluster, now: float) -> Outcome:
    deadline = idle_deadline(cluster)
    if deadline is None or now < deadline:
        return Outcome(cluster)
    message = f"Auto-terminated after being idle for {cluster.idle_timeout} seconds"
    return _terminate(cluster, now, "USER_REQUEST", message)


@_react.register
def _node_shut_down(event: ev.NodeShutDown, cluster: Cluster, now: float) -> Outcome:
    node = next((node for node in cluster.nodes if node.ec2_id == event.ec2_id), None)
    if node is None or node.lost_at or cluster.state in CLOSED or cluster.termination_protected:
        return Outcome(cluster)
    lost = tuple(
        replace(instance, lost_at=now) if instance.ec2_id == event.ec2_id else instance
        for instance in cluster.instances
    )
    cluster = replace(cluster, instances=lost)
    if node.role != "MASTER":
        return Outcome(cluster, (ev.KillNode(node.ec2_id),))
    message = f"The master instance ({node.ec2_id}) was shut down"
    return _terminate(cluster, now, "INSTANCE_FAILURE", message, errors=True)


@_react.register
def _released(_event: ev.NodesReleased, cluster: Cluster, now: float) -> Outcome:
    if cluster.state != ClusterState.TERMINATING:
        return Outcome(cluster)
    errors = cluster.ends_with_errors
    final = ClusterState.TERMINATED_WITH_ERRORS if errors else ClusterState.TERMINATED
    return Outcome(replace(cluster, state=final, ended_at=now))


@_react.register
def _restarted(_event: ev.EndpointRestarted, cluster: Cluster, now: float) -> Outcome:
    again: dict[ClusterState, ev.Effect] = {
        ClusterState.STARTING: ev.Provision(),
        ClusterState.BOOTSTRAPPING: ev.Bootstrap(),
        ClusterState.TERMINATING: ev.Release(),
    }
    if effect := again.get(cluster.state):
        return Outcome(cluster, (effect,))
    failure = Failure("The EMR endpoint was restarted while the step was running")
    effects: tuple[ev.Effect, ...] = ()
    for step in cluster.steps_in(BUSY_STEP):
        outcome = _step_ended(ev.StepEnded(step.id, failure), cluster, now)
        cluster, effects = outcome.cluster, effects + outcome.effects
    return Outcome(cluster, effects)


@_react.register
def _endpoint_failed(event: ev.EndpointFailed, cluster: Cluster, now: float) -> Outcome:
    if cluster.state in CLOSED:
        return Outcome(cluster)
    return _terminate(cluster, now, "INTERNAL_ERROR", event.message, errors=True)


@_react.register
def _release_failed(_event: ev.ReleaseFailed, cluster: Cluster, _now: float) -> Outcome:
    return Outcome(cluster, (ev.Release(),))  # nothing else would ever end the cluster


def _settle_if_ready(cluster: Cluster, now: float) -> Outcome:
    return _settle(cluster, now) if cluster.state in _READY else Outcome(cluster)


def _settle(cluster: Cluster, now: float, waiting: str | None = None) -> Outcome:
    """Start what may start; with nothing left, wait or end."""
    started: list[ev.Effect] = []
    free = cluster.concurrency - len(cluster.steps_in(BUSY_STEP))
    for step in cluster.steps_in(_PENDING)[: max(free, 0)]:
        cluster = cluster.with_step(replace(step, state=StepState.RUNNING, started_at=now))
        started.append(ev.StartStep(step.id))
    if cluster.steps_in(ACTIVE_STEP):
        return Outcome(_run(cluster), tuple(started))
    if cluster.keep_alive:
        message = waiting or "Cluster ready after last step completed."
        return Outcome(_wait(cluster, now, message))
    with_errors = any(step.state == StepState.FAILED for step in cluster.steps)
    message = "Steps completed with errors" if with_errors else "Steps completed"
    return _terminate(cluster, now, "ALL_STEPS_COMPLETED", message)


def _run(cluster: Cluster) -> Cluster:
    return replace(
        cluster, state=ClusterState.RUNNING, reason_message="Running step", idle_since=None
    )


def _wait(cluster: Cluster, now: float, message: str) -> Cluster:
    if cluster.state == ClusterState.WAITING:
        return cluster
    return replace(cluster, state=ClusterState.WAITING, reason_message=message, idle_since=now)


def _terminate(
    cluster: Cluster, now: float, code: str, message: str, *, errors: bool = False
) -> Outcome:
    cluster = _cancel_pending(cluster, now)
    for step in cluster.steps_in(BUSY_STEP):
        cancelled = step.state == StepState.CANCEL_PENDING
        state = StepState.CANCELLED if cancelled else StepState.INTERRUPTED
        cluster = cluster.with_step(_end_step(step, state, now, message))
    terminating = replace(
        cluster,
        state=ClusterState.TERMINATING,
        reason_code=code,
        reason_message=message,
        ends_with_errors=errors,
        idle_since=None,
    )
    return Outcome(terminating, (ev.Release(),))


def _cancel_pending(cluster: Cluster, now: float) -> Cluster:
    for step in cluster.steps_in(_PENDING):
        cluster = cluster.with_step(_end_step(step, StepState.CANCELLED, now, "Job terminated"))
    return cluster


def _end_step(step: Step, state: StepState, now: float, message: str = "") -> Step:
    return replace(step, state=state, ended_at=now, reason_message=message)
