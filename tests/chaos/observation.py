"""What happened to clusters, read from EMR's own journal and priced here: our code has no say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cloud.emr import journal

PRICES = Path(__file__).resolve().parents[2] / "plugins" / "fruits" / "prices.json"
HOURS_PER_MONTH = 730
LEAST_SECONDS = 60  # EC2's smallest bill

ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
_CALLER = re.compile(r"\bapp/([\w-]+)")
# Who ended a cluster, by what EMR says of it; USER_REQUEST is looked at more closely.
_GUARDS = {
    "INSTANCE_FAILURE": "timer on the node",
    "BOOTSTRAP_FAILURE": "EMR: bootstrap failed",
    "ALL_STEPS_COMPLETED": "EMR: last step done",
}


@dataclass(frozen=True)
class ClusterLife:
    """One cluster from RunJobFlow to its end.

    Times are in seconds (*cap*), or in seconds since the epoch; *ended* is None while it lives.
    *guard* names who ended it, *cost* is in USD.
    """

    id: str
    token: str
    cap: float
    created: float
    ended: float | None
    guard: str
    cost: float

    @property
    def seconds(self) -> float:
        """How long it lived."""
        return (self.ended or float("inf")) - self.created


def lives(path: Path, since: float, now: float) -> list[ClusterLife]:
    """Return the clusters that the journal at *path* has from *since* on, oldest first.

    What one that still lives costs is counted to *now* (times in seconds since the epoch).
    """
    entries = [entry for entry in journal.read(path) if entry["time"] >= since]
    return [_life(made, entries, now) for made in _accepted(entries, "RunJobFlow")]


def most_at_once(clusters: Sequence[ClusterLife], longer_than: float) -> int:
    """Return the most clusters of one token that lived beside each other for so many seconds."""
    return max((_most_of(own, longer_than) for own in _by_token(clusters)), default=0)


def promised(ledger: Path, tokens: Iterable[str]) -> float:
    """Return what the *ledger*'s entries promise for *tokens* at the worst, in USD."""
    wanted = set(tokens)
    entries = [json.loads(file.read_text()) for file in ledger.glob("*-*/*.json")]
    return float(sum(entry["worst_case"] for entry in entries if entry["token"] in wanted))


def calls(path: Path, action: str, since: float) -> int:
    """Count the accepted calls of *action* since then."""
    return sum(entry["time"] >= since for entry in journal.accepted_calls(path, action))


def _life(made: dict[str, Any], entries: list[dict[str, Any]], now: float) -> ClusterLife:
    cluster_id, request = made["answer"]["JobFlowId"], made["parameters"]
    states = [e for e in entries if e["kind"] == "cluster" and e["cluster"] == cluster_id]
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
    ended = next((entry["time"] for entry in states if entry["state"] in ENDED), None)
    created = states[0]["time"]
    return ClusterLife(
        cluster_id,
        tags.get("fruits:token", ""),
        60 * float(tags.get("fruits:cap-minutes", "inf")),
        created,
        ended,
        _guard(cluster_id, states, entries),
        _hourly(request, made["region"]) * max((ended or now) - created, LEAST_SECONDS) / 3600,
    )


def _guard(cluster_id: str, states: list[dict[str, Any]], entries: list[dict[str, Any]]) -> str:
    ending = next((entry for entry in states if entry["state"] == "TERMINATING"), None)
    if ending is None:
        return ""
    reason = ending["reason"]
    if reason["code"] != "USER_REQUEST":
        return _GUARDS.get(reason["code"], f"EMR: {reason['code']}")
    if "idle" in reason["message"]:
        return "idle limit"
    asked = [
        entry["agent"]
        for entry in _accepted(entries, "TerminateJobFlows")
        # The change of state is written while the call is carried out, just before its entry.
        if cluster_id in entry["parameters"]["JobFlowIds"]
    ]
    caller = _CALLER.search(asked[0] or "") if asked else None
    return caller[1] if caller else "somebody"


def _accepted(entries: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    made = [e for e in entries if e["kind"] == "call" and e["action"] == action]
    return [entry for entry in made if "error" not in entry]


def _by_token(clusters: Sequence[ClusterLife]) -> list[list[ClusterLife]]:
    tokens = {cluster.token for cluster in clusters}
    return [[cluster for cluster in clusters if cluster.token == token] for token in tokens]


def _most_of(clusters: list[ClusterLife], longer_than: float) -> int:
    """Return the largest number that was alive without a break for *longer_than* seconds."""
    changes = sorted(
        [(cluster.created, 1) for cluster in clusters]
        + [(cluster.created + cluster.seconds, -1) for cluster in clusters]
    )
    most, alive = 0, 0
    since: dict[int, float] = {}  # the number alive, or more: from when on
    for moment, change in changes:
        if change > 0:
            alive += 1
            since[alive] = moment
        else:
            if moment - since.pop(alive) > longer_than:
                most = max(most, alive)
            alive -= 1
    return most


def _hourly(request: dict[str, Any], region: str) -> float:
    """Return what the machines that were asked for cost per hour: EC2, EMR's fee, and disks."""
    priced = json.loads(PRICES.read_text())["regions"][region]
    total = 0.0
    for fleet in request["Instances"]["InstanceFleets"]:
        config = fleet["InstanceTypeConfigs"][0]
        count = fleet.get("TargetOnDemandCapacity", 0) + fleet.get("TargetSpotCapacity", 0)
        price = priced["instances"][config["InstanceType"]]
        disks = config["EbsConfiguration"]["EbsBlockDeviceConfigs"]
        gigabytes = request["EbsRootVolumeSize"] + sum(
            disk["VolumeSpecification"]["SizeInGB"] * disk["VolumesPerInstance"] for disk in disks
        )
        disk_price = gigabytes * priced["gp3"] / HOURS_PER_MONTH
        total += count * (price["ec2"] + price["emr"] + disk_price)
    return total
