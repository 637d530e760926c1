"""What the endpoint knows about a cluster, as frozen records: every change makes a new one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self


class ClusterState(StrEnum):
    """The states of EMR's clusters, in the order in which a cluster passes them."""

    STARTING = "STARTING"
    BOOTSTRAPPING = "BOOTSTRAPPING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    TERMINATED_WITH_ERRORS = "TERMINATED_WITH_ERRORS"


class StepState(StrEnum):
    """The states of EMR's steps; CANCEL_PENDING lasts until the step's processes are dead."""

    PENDING = "PENDING"
    CANCEL_PENDING = "CANCEL_PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"


ENDED = frozenset({ClusterState.TERMINATED, ClusterState.TERMINATED_WITH_ERRORS})
CLOSED = ENDED | {ClusterState.TERMINATING}
BUSY_STEP = frozenset({StepState.RUNNING, StepState.CANCEL_PENDING})
ACTIVE_STEP = BUSY_STEP | {StepState.PENDING}


@dataclass(frozen=True)
class ProcessId:
    """A process of this machine: a pid alone is reused, with its start time it is not."""

    pid: int
    started_at: float


@dataclass(frozen=True)
class Failure:
    """Why a step failed, as EMR's FailureDetails."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Step:
    """One step; times are seconds since the epoch."""

    id: str
    name: str
    jar: str
    args: tuple[str, ...]
    action_on_failure: str
    created_at: float
    state: StepState = StepState.PENDING
    reason_message: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    failure: Failure | None = None
    process: ProcessId | None = None


@dataclass(frozen=True)
class InstanceCollection:
    """An instance group (or fleet) with the part of the request that asked for it."""

    id: str
    role: str
    name: str
    market: str
    request: dict[str, Any]


@dataclass(frozen=True)
class Instance:
    """One machine of a collection; only the first of each role is simulated by a node."""

    id: str
    ec2_id: str
    collection_id: str
    role: str
    instance_type: str
    market: str
    has_node: bool
    lost_at: float | None = None


@dataclass(frozen=True)
class BootstrapAction:
    """A script in S3 that every node runs before the first step."""

    name: str
    path: str
    args: tuple[str, ...]


@dataclass(frozen=True)
class Cluster:
    """One cluster: identity, state, steps, machines; *request* is the accepted RunJobFlow."""

    id: str
    name: str
    region: str
    request: dict[str, Any]
    created_at: float
    keep_alive: bool
    termination_protected: bool
    concurrency: int
    idle_timeout: int | None = None
    state: ClusterState = ClusterState.STARTING
    reason_code: str = ""
    reason_message: str = "Provisioning Amazon EC2 capacity"
    ready_at: float | None = None
    ended_at: float | None = None
    idle_since: float | None = None
    ends_with_errors: bool = False
    scaling_policy: dict[str, Any] | None = None
    tags: tuple[tuple[str, str], ...] = ()
    collections: tuple[InstanceCollection, ...] = ()
    instances: tuple[Instance, ...] = ()
    bootstrap_actions: tuple[BootstrapAction, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def arn(self) -> str:
        """The cluster's ARN in an account that does not exist."""
        return f"arn:aws:elasticmapreduce:{self.region}:000000000000:cluster/{self.id}"

    @property
    def uses_fleets(self) -> bool:
        """Whether the machines were asked for as instance fleets."""
        return "InstanceFleets" in self.request["Instances"]

    @property
    def log_uri(self) -> str | None:
        """Where logs go, ending with a slash; None when the request named no place."""
        uri = self.request.get("LogUri")
        return f"{uri.rstrip('/')}/" if uri else None

    def step_log_uri(self, step_id: str) -> str | None:
        """Return the folder URI of a step's logs, None without a LogUri."""
        return self.log_uri and f"{self.log_uri}{self.id}/steps/{step_id}/"

    @property
    def nodes(self) -> tuple[Instance, ...]:
        """The instances that are simulated by a node, the primary first."""
        return tuple(instance for instance in self.instances if instance.has_node)

    @property
    def primary(self) -> Instance:
        """The primary's instance."""
        return next(node for node in self.nodes if node.role == "MASTER")

    def steps_in(self, states: frozenset[StepState]) -> tuple[Step, ...]:
        """Return the steps that are in one of *states*, oldest first."""
        return tuple(step for step in self.steps if step.state in states)

    def step(self, step_id: str) -> Step | None:
        """Return the step with this id, or None."""
        return next((step for step in self.steps if step.id == step_id), None)

    def with_step(self, changed: Step) -> Self:
        """Return the cluster with *changed* in the place of the step with its id."""
        steps = tuple(changed if step.id == changed.id else step for step in self.steps)
        return replace(self, steps=steps)
