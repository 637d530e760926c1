"""The control plane: holds the clusters, sends them events, saves what they become, in one lock."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from local_cloud.emr import events, machine
from local_cloud.emr.effects import Effects
from local_cloud.emr.errors import InvalidRequestError
from local_cloud.emr.model import BUSY_STEP, CLOSED, ENDED, Cluster, ClusterState
from local_cloud.emr.programs import cluster_mark, step_mark
from local_cloud.emr.site import Site

LOOK_INTERVAL = 0.1  # seconds between two looks at idle clusters and `shutdown` requests


class ControlPlane:
    """All clusters of all regions. Hold `lock` to look and then change in one piece."""

    def __init__(self, site: Site, clock: Callable[[], float] = time.time) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self._site = site
        self._effects = Effects(site, self.send)
        self._clusters = {cluster.id: cluster for cluster in site.store.load()}
        self._stopped = threading.Event()
        self._watch = threading.Thread(target=self._keep_watch, name="emr watch", daemon=True)

    def start(self) -> None:
        """Take up where the last endpoint stopped: what it was watching is ended, then told."""
        self._site.journal.write("note", problem=None, message="started", pid=os.getpid())
        for cluster in self._unfinished():
            self._end_leftovers(cluster)
            self.send(cluster.id, events.EndpointRestarted())
        self._watch.start()

    def stop(self) -> None:
        """End every process of every cluster; the records stay as they are."""
        with self.lock:
            self._stopped.set()
        self._watch.join()
        self._effects.stop([cluster.id for cluster in self._unfinished()])
        self._site.journal.write("note", problem=None, message="stopped", pid=os.getpid())

    def create(self, cluster: Cluster) -> None:
        """Take in a new cluster and begin its life."""
        with self.lock:
            self._clusters[cluster.id] = cluster
            try:
                self._journal_changes(None, cluster)
                self.send(cluster.id, events.Created())
            except BaseException:  # a full disk: nobody is told of it, and nothing would begin
                del self._clusters[cluster.id]
                raise

    def send(self, cluster_id: str, event: events.Event) -> None:
        """Let *event* happen to a cluster: save what it became, then begin the effects."""
        with self.lock:
            if self._stopped.is_set():
                return
            before = self._clusters[cluster_id]
            outcome = machine.apply(before, event, self.clock())
            self._keep(outcome.cluster)
            for effect in outcome.effects:
                self._effects.carry_out(outcome.cluster, effect)

    def change(self, cluster: Cluster, **fields: Any) -> None:
        """Replace fields that no state depends on (tags, the scaling policy)."""
        with self.lock:
            self._keep(replace(cluster, **fields))

    def cluster(self, cluster_id: str, region: str) -> Cluster:
        """Return a cluster of *region*; InvalidRequestError as EMR answers for any other."""
        found = self._clusters.get(cluster_id)
        if found is None or found.region != region:
            raise InvalidRequestError(f"Cluster id '{cluster_id}' is not valid.")
        return found

    def clusters(self, region: str) -> list[Cluster]:
        """Return the clusters of *region*, newest first."""
        own = [cluster for cluster in self._clusters.values() if cluster.region == region]
        return own[::-1]

    def _unfinished(self) -> list[Cluster]:
        with self.lock:
            return [cluster for cluster in self._clusters.values() if cluster.state not in ENDED]

    def _keep(self, cluster: Cluster) -> None:
        before = self._clusters[cluster.id]
        # A new cluster is known already, and is nowhere on the disk.
        if cluster == before and cluster.state != ClusterState.STARTING:
            return
        self._site.store.save(cluster)
        self._clusters[cluster.id] = cluster
        self._journal_changes(before, cluster)

    def _journal_changes(self, before: Cluster | None, after: Cluster) -> None:
        if before is None or before.state != after.state:
            self._site.journal.write(
                "cluster",
                cluster=after.id,
                region=after.region,
                state=after.state,
                reason={"code": after.reason_code, "message": after.reason_message},
            )
        for step in after.steps:
            old = before.step(step.id) if before else None
            if old is None or old.state != step.state:
                self._site.journal.write(
                    "step", cluster=after.id, step=step.id, name=step.name, state=step.state
                )

    def _end_leftovers(self, cluster: Cluster) -> None:
        """End what an endpoint that was killed left running and nobody can wait for any more.

        Daemons of nodes (started by bootstrap actions that ended) are no leftovers: they live on.
        """
        programs = self._effects.programs
        for step in cluster.steps_in(BUSY_STEP):
            programs.end(step_mark(step.id), [step.process] if step.process else ())
            folder = self._site.step_logs(cluster, step.id)
            folder.tell("The EMR endpoint was restarted while the step was running: it was ended")
            folder.ship()
        if cluster.state in (ClusterState.STARTING, ClusterState.BOOTSTRAPPING):
            programs.end_once(cluster_mark(cluster.id))

    def _keep_watch(self) -> None:
        while not self._stopped.wait(LOOK_INTERVAL):
            for cluster in self._unfinished():
                try:
                    self._look_at(cluster)
                except Exception:  # noqa: BLE001  (one cluster's trouble must not stop the watch)
                    with suppress(OSError):  # nor may a full disk
                        self._site.journal.write(
                            "note",
                            problem="watch",
                            cluster=cluster.id,
                            message=traceback.format_exc(),
                        )

    def _look_at(self, cluster: Cluster) -> None:
        deadline = machine.idle_deadline(cluster)
        if deadline is not None and self.clock() >= deadline:
            self.send(cluster.id, events.ClockTicked())
        if cluster.state in CLOSED:
            return
        for node in self._site.nodes(cluster):
            if node.shutdown_request.exists():
                ec2_id = node.instance.ec2_id
                ignored = cluster.termination_protected
                self._site.journal.write(
                    "node", cluster=cluster.id, instance=ec2_id, shutdown=True, ignored=ignored
                )
                self.send(cluster.id, events.NodeShutDown(ec2_id))
                node.shutdown_request.unlink(missing_ok=True)
