"""What can happen to a cluster (events) and what must then be done (effects), as plain records."""

from __future__ import annotations

from dataclasses import dataclass

from local_cloud.emr.model import Failure, ProcessId, Step


@dataclass(frozen=True)
class Created:
    """RunJobFlow was accepted."""


@dataclass(frozen=True)
class NodesProvisioned:
    """The nodes exist and can run bootstrap actions."""


@dataclass(frozen=True)
class BootstrapSucceeded:
    """Every bootstrap action ended well on every node."""


@dataclass(frozen=True)
class BootstrapFailed:
    """A bootstrap action failed: *message* says which, where and how."""

    message: str


@dataclass(frozen=True)
class StepsAdded:
    """AddJobFlowSteps was accepted."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class StepStarted:
    """A step's process runs."""

    step_id: str
    process: ProcessId


@dataclass(frozen=True)
class StepEnded:
    """A step's process ended; *failure* is None when it ended well."""

    step_id: str
    failure: Failure | None = None


@dataclass(frozen=True)
class StepsCancelled:
    """CancelSteps was accepted; *force* is TERMINATE_PROCESS."""

    step_ids: tuple[str, ...]
    force: bool = False


@dataclass(frozen=True)
class TerminationRequested:
    """TerminateJobFlows was accepted."""


@dataclass(frozen=True)
class ProtectionSet:
    """SetTerminationProtection was accepted."""

    protected: bool


@dataclass(frozen=True)
class KeepAliveSet:
    """SetKeepJobFlowAliveWhenNoSteps was accepted."""

    keep_alive: bool


@dataclass(frozen=True)
class IdleTimeoutSet:
    """The auto-termination policy was put (seconds) or removed (None)."""

    seconds: int | None


@dataclass(frozen=True)
class ClockTicked:
    """Time has passed."""


@dataclass(frozen=True)
class NodeShutDown:
    """Somebody called `shutdown` on the node of this EC2 instance."""

    ec2_id: str


@dataclass(frozen=True)
class NodesReleased:
    """Nothing of the cluster runs any more and its logs are in place."""


@dataclass(frozen=True)
class EndpointRestarted:
    """The endpoint came back; whatever it was watching is gone."""


@dataclass(frozen=True)
class EndpointFailed:
    """The endpoint itself could not do what an effect asked for."""

    message: str


@dataclass(frozen=True)
class ReleaseFailed:
    """The nodes could not be released: something of them still runs."""


Event = (
    Created
    | NodesProvisioned
    | BootstrapSucceeded
    | BootstrapFailed
    | StepsAdded
    | StepStarted
    | StepEnded
    | StepsCancelled
    | TerminationRequested
    | ProtectionSet
    | KeepAliveSet
    | IdleTimeoutSet
    | ClockTicked
    | NodeShutDown
    | NodesReleased
    | EndpointRestarted
    | EndpointFailed
    | ReleaseFailed
)


@dataclass(frozen=True)
class Provision:
    """Make the nodes; answer NodesProvisioned."""


@dataclass(frozen=True)
class Bootstrap:
    """Run the bootstrap actions; answer BootstrapSucceeded or BootstrapFailed."""


@dataclass(frozen=True)
class StartStep:
    """Start a step's process; answer StepStarted, then StepEnded."""

    step_id: str


@dataclass(frozen=True)
class KillStep:
    """End a step's processes (at once when *force*); its StepEnded is the answer."""

    step_id: str
    force: bool


@dataclass(frozen=True)
class KillNode:
    """End every process of a core or task node that was shut down."""

    ec2_id: str


@dataclass(frozen=True)
class Release:
    """End every process of the cluster and bring its logs home; answer NodesReleased."""


Effect = Provision | Bootstrap | StartStep | KillStep | KillNode | Release
