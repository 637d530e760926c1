"""No order of events, however odd, brings a cluster into a state that EMR does not have."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from local_cloud.emr import events as ev
from local_cloud.emr.machine import Outcome, apply
from local_cloud.emr.model import (
    ACTIVE_STEP,
    BUSY_STEP,
    CLOSED,
    ENDED,
    Cluster,
    Failure,
    Instance,
    ProcessId,
    Step,
)

_NEXT = {
    "STARTING": {"BOOTSTRAPPING", "TERMINATING"},
    "BOOTSTRAPPING": {"RUNNING", "WAITING", "TERMINATING"},
    "RUNNING": {"WAITING", "TERMINATING"},
    "WAITING": {"RUNNING", "TERMINATING"},
    "TERMINATING": {"TERMINATED", "TERMINATED_WITH_ERRORS"},
    "TERMINATED": set(),
    "TERMINATED_WITH_ERRORS": set(),
}
_NEXT_STEP = {
    "PENDING": {"RUNNING", "CANCELLED", "INTERRUPTED"},
    "RUNNING": {"COMPLETED", "FAILED", "CANCEL_PENDING", "INTERRUPTED"},
    "CANCEL_PENDING": {"CANCELLED"},
}
_ACTIONS = ("CONTINUE", "CANCEL_AND_WAIT", "TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW")
_IDS = st.sampled_from([f"s-{number}" for number in range(8)])
_EVENTS = st.one_of(
    st.sampled_from(
        [
            ev.Created(),
            ev.NodesProvisioned(),
            ev.BootstrapSucceeded(),
            ev.BootstrapFailed("no"),
            ev.TerminationRequested(),
            ev.ClockTicked(),
            ev.NodesReleased(),
            ev.EndpointRestarted(),
            ev.EndpointFailed("no"),
            ev.ReleaseFailed(),
            ev.NodeShutDown("i-MASTER"),
            ev.NodeShutDown("i-CORE"),
            ev.NodeShutDown("i-unknown"),
        ]
    ),
    st.builds(ev.ProtectionSet, st.booleans()),
    st.builds(ev.KeepAliveSet, st.booleans()),
    st.builds(ev.IdleTimeoutSet, st.sampled_from([None, 60])),
    st.builds(ev.StepStarted, _IDS, st.just(ProcessId(1, 1.0))),
    st.builds(ev.StepEnded, _IDS, st.sampled_from([None, Failure("no")])),
    st.builds(ev.StepsCancelled, st.lists(_IDS, max_size=3).map(tuple), st.booleans()),
    st.sampled_from(_ACTIONS),  # becomes a StepsAdded with a new id
)


def _cluster(concurrency: int, **fields: Any) -> Cluster:
    machines = tuple(
        Instance(f"ci-{role}", f"i-{role}", "ig", role, "m5.xlarge", "ON_DEMAND", True)
        for role in ("MASTER", "CORE")
    )
    request: dict[str, Any] = {"Instances": {}}
    return Cluster(
        "j-1", "test", "eu-west-3", request, 0.0, concurrency=concurrency, instances=machines,
        **fields,
    )  # fmt: skip


@settings(max_examples=400)
@given(
    events=st.lists(_EVENTS, max_size=40),
    concurrency=st.integers(1, 3),
    keep_alive=st.booleans(),
    protected=st.booleans(),
    lively=st.booleans(),
)
def test_no_order_of_events_breaks_the_rules(
    events: list[Any], concurrency: int, keep_alive: bool, protected: bool, lively: bool
) -> None:
    """Legal transitions only; no active step in a dead cluster; never too many steps at once."""
    cluster = _cluster(concurrency, keep_alive=keep_alive, termination_protected=protected)
    begin = [ev.NodesProvisioned(), ev.BootstrapSucceeded()] if lively else []

    for now, drawn in enumerate([*begin, *events]):
        event = _made(drawn, len(cluster.steps))
        outcome = apply(cluster, event, float(now * 20))
        _check_transition(cluster, outcome)
        _check_state(outcome.cluster)
        cluster = outcome.cluster


def _made(drawn: Any, count: int) -> ev.Event:
    if not isinstance(drawn, str):
        return drawn
    step = Step(f"s-{count}", "step", "command-runner.jar", ("bash", "-c", "true"), drawn, 0.0)
    return ev.StepsAdded((step,))


def _check_transition(before: Cluster, outcome: Outcome) -> None:
    after = outcome.cluster
    assert after.state == before.state or after.state in _NEXT[before.state]
    if before.state in ENDED:
        assert outcome == Outcome(before)
    assert after.id == before.id
    assert len(after.steps) >= len(before.steps)
    for old, new in zip(before.steps, after.steps, strict=False):
        assert old.id == new.id
        assert old.state == new.state or _reaches(old.state, new.state)
    waited = [s for s in after.steps if _state(before, s.id) in (None, "PENDING")]
    started = [step.id for step in waited if step.started_at is not None]
    running = [effect.step_id for effect in outcome.effects if isinstance(effect, ev.StartStep)]
    assert started == running


def _check_state(cluster: Cluster) -> None:
    busy = cluster.steps_in(BUSY_STEP)
    assert len(busy) <= cluster.concurrency
    assert all(step.started_at is not None and step.ended_at is None for step in busy)
    if cluster.state in CLOSED:
        assert not cluster.steps_in(ACTIVE_STEP)
        assert cluster.reason_code
    if cluster.state in ("STARTING", "BOOTSTRAPPING"):
        assert not busy
    if cluster.state == "RUNNING":
        assert busy
    if cluster.state == "WAITING":
        assert not cluster.steps_in(ACTIVE_STEP)
        assert cluster.keep_alive
    assert (cluster.idle_since is not None) == (cluster.state == "WAITING")
    assert (cluster.ended_at is not None) == (cluster.state in ENDED)


def _reaches(old: str, new: str) -> bool:
    """Say whether one event may bring a step from *old* to *new* (PENDING may start and fail)."""
    direct = _NEXT_STEP.get(old, set())
    return new in direct or any(new in _NEXT_STEP.get(via, set()) for via in direct)


def _state(cluster: Cluster, step_id: str) -> str | None:
    step = cluster.step(step_id)
    return step.state.value if step else None
