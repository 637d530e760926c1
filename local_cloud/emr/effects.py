"""Carries out what the machine asks for: each effect in its own thread, its answer as an event."""

from __future__ import annotations

import shutil
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial, singledispatchmethod

from local_cloud.emr import bootstrapping, capacity, events, stepping
from local_cloud.emr.model import Cluster
from local_cloud.emr.programs import EndedError, Programs, cluster_mark, step_mark
from local_cloud.emr.site import Site

_LAST_LOGS = 5.0  # seconds for the threads of ended steps to bring their logs, at the very end
_CAPACITY_INTERVAL = 0.2  # seconds between two looks for machines that could not be had
_PAUSE = 2.0  # seconds before a release that failed is begun, or a failure is told, once more
INTERRUPT_GRACE = 5.0  # seconds between SEND_INTERRUPT's SIGTERM and SIGKILL

Send = Callable[[str, events.Event], object]


class Effects:
    """Does effects for clusters and reports through *send* (cluster id, event)."""

    def __init__(self, site: Site, send: Send) -> None:
        self.programs = Programs()
        self._threads: set[threading.Thread] = set()
        self._site = site
        self._send = send

    def carry_out(self, cluster: Cluster, effect: events.Effect) -> None:
        """Begin *effect* for *cluster* and return at once."""
        name = f"{cluster.id} {type(effect).__name__}"
        thread = threading.Thread(
            target=self._guarded, args=(effect, cluster), name=name, daemon=True
        )
        self._threads = {one for one in self._threads if one.is_alive()} | {thread}
        thread.start()

    def stop(self, cluster_ids: list[str]) -> None:
        """End the programs of these clusters; their last logs are brought before it returns."""
        self.programs.end_all(cluster_ids)
        deadline = time.monotonic() + _LAST_LOGS
        for thread in self._threads:
            thread.join(timeout=max(deadline - time.monotonic(), 0))

    def _guarded(self, effect: events.Effect, cluster: Cluster) -> None:
        try:
            self._do(effect, cluster)
        except EndedError:
            return  # the cluster is being released: what it still wanted is void
        except Exception as error:  # noqa: BLE001  (an effect that vanished would hang its cluster)
            self._note(cluster)
            if isinstance(effect, events.Release):
                time.sleep(_PAUSE)
                self._tell(cluster, events.ReleaseFailed())
            else:
                failed = events.EndpointFailed(f"{type(error).__name__}: {error}")
                self._tell(cluster, failed)

    def _tell(self, cluster: Cluster, failure: events.Event) -> None:
        """Send *failure*, again and again while a full disk lets nothing be saved."""
        while True:
            try:
                self._send(cluster.id, failure)
            except OSError:
                time.sleep(_PAUSE)
            else:
                return

    def _note(self, cluster: Cluster) -> None:
        """Write down the exception that is handled, unless the disk is full."""
        with suppress(OSError):
            self._site.journal.write(
                "note", problem="effect", cluster=cluster.id, message=traceback.format_exc()
            )

    @singledispatchmethod
    def _do(self, effect: object, cluster: Cluster) -> None:
        raise TypeError(f"{cluster.id}: no such effect: {effect!r}")

    @_do.register
    def _provision(self, _effect: events.Provision, cluster: Cluster) -> None:
        while capacity.is_short(cluster, self._site.store.folder):
            self.programs.check(cluster_mark(cluster.id))
            time.sleep(_CAPACITY_INTERVAL)
        for node in self._site.nodes(cluster):
            node.prepare()
        self._send(cluster.id, events.NodesProvisioned())

    @_do.register
    def _bootstrap(self, _effect: events.Bootstrap, cluster: Cluster) -> None:
        self._send(cluster.id, bootstrapping.run(cluster, self._site, self.programs))

    @_do.register
    def _start_step(self, effect: events.StartStep, cluster: Cluster) -> None:
        if step := cluster.step(effect.step_id):
            send = partial(self._send, cluster.id)
            stepping.run(cluster, step, self._site, self.programs, send)

    @_do.register
    def _kill_step(self, effect: events.KillStep, _cluster: Cluster) -> None:
        grace = 0.0 if effect.force else INTERRUPT_GRACE
        self.programs.end(step_mark(effect.step_id), grace=grace)

    @_do.register
    def _kill_node(self, effect: events.KillNode, cluster: Cluster) -> None:
        instance = next(node for node in cluster.nodes if node.ec2_id == effect.ec2_id)
        self.programs.end(self._site.node(cluster, instance).mark)

    @_do.register
    def _release(self, _effect: events.Release, cluster: Cluster) -> None:
        roots = [step.process for step in cluster.steps if step.process]
        self.programs.end(cluster_mark(cluster.id), roots)
        try:
            self._bring_logs_home(cluster)
        except Exception:  # noqa: BLE001  (a cluster ends with or without its last logs)
            self._note(cluster)
        shutil.rmtree(self._site.folder(cluster) / "spark-local", ignore_errors=True)
        self._send(cluster.id, events.NodesReleased())

    def _bring_logs_home(self, cluster: Cluster) -> None:
        for step in cluster.steps:
            if step.started_at:
                self._site.step_logs(cluster, step.id).ship()
