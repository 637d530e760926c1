"""Where a cluster's things are on this machine: one place that knows folders, nodes and logs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from local_cloud.emr import logs
from local_cloud.emr.journal import Journal
from local_cloud.emr.model import Cluster, Instance
from local_cloud.emr.node import Node
from local_cloud.emr.objects import Objects
from local_cloud.emr.store import Store


@dataclass(frozen=True)
class Site:
    """The endpoint's folders and services.

    *buckets* is the folder that the local S3 serves; *services* are the environment variables by
    which a program on a node finds S3, EMR and Java.
    """

    store: Store
    journal: Journal
    objects: Objects
    buckets: Path
    services: dict[str, str]

    def folder(self, cluster: Cluster) -> Path:
        """Return the folder of everything that belongs to *cluster*."""
        return self.store.folder_of(cluster.id)

    def node(self, cluster: Cluster, instance: Instance) -> Node:
        """Return the node that simulates *instance*."""
        return Node(self.folder(cluster), cluster, instance)

    def nodes(self, cluster: Cluster) -> list[Node]:
        """Return the cluster's nodes that were not shut down, the primary first."""
        alive = [instance for instance in cluster.nodes if not instance.lost_at]
        return [self.node(cluster, instance) for instance in alive]

    def step_logs(self, cluster: Cluster, step_id: str) -> logs.LogFolder:
        """Return a step's logs (EMR: /mnt/var/log/hadoop/steps/<id>/ on the primary)."""
        folder = self.folder(cluster) / "steps" / step_id
        return self._logs(folder, cluster.step_log_uri(step_id))

    def bootstrap_logs(self, cluster: Cluster, node: Node, number: int) -> logs.LogFolder:
        """Return the logs of a node's bootstrap action (numbers begin at 1)."""
        folder = node.folder / "bootstrap-actions" / str(number)
        return self._logs(folder, logs.bootstrap_uri(cluster, node.instance.ec2_id, number))

    def _logs(self, folder: Path, uri: str | None) -> logs.LogFolder:
        return logs.LogFolder(folder, uri, self.objects, self.journal)
