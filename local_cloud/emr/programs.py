"""What runs on the nodes of all clusters: programs are started here, and none after its end."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from local_cloud.emr import processes
from local_cloud.emr.model import ProcessId
from local_cloud.emr.node import CLUSTER_MARK, NODE_MARK, STEP_MARK

_MARKS = frozenset({CLUSTER_MARK, NODE_MARK, STEP_MARK})


class EndedError(Exception):
    """The step or cluster was ended before its program could start."""


class Programs:
    """Starts programs for steps and nodes, unless what they belong to has been ended.

    One lock makes `start` and `end` see each other: a program is either never started or found.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition(threading.Lock())
        self._ending: Counter[tuple[str, str]] = Counter()
        self._ended: set[tuple[str, str]] = set()
        self._roots: defaultdict[tuple[str, str], list[ProcessId]] = defaultdict(list)

    def start(
        self, command: list[str], environment: dict[str, str], folder: Path, output: Path
    ) -> subprocess.Popen[bytes]:
        """Start *command* as `processes.start` does; EndedError when its marks were ended."""
        with self._lock:
            if ended := self._ended.intersection(environment.items()):
                raise EndedError(f"{ended} was ended")
            process = processes.start(command, environment, folder, output)
            for mark in _MARKS.intersection(environment):
                self._roots[mark, environment[mark]].append(processes.identify(process.pid))
            return process

    def check(self, mark: tuple[str, str]) -> None:
        """Raise EndedError when *mark* was ended."""
        with self._lock:
            if mark in self._ended:
                raise EndedError(f"{mark} was ended")

    def end(
        self, mark: tuple[str, str], known: Iterable[ProcessId] = (), grace: float = 0.0
    ) -> None:
        """End what carries *mark*, now and for ever; *known* are roots of an earlier endpoint.

        See `processes.end_tree`.
        """
        with self._lock:
            self._ended.add(mark)
            self._ending[mark] += 1
            roots = [*known, *self._roots.get(mark, ())]
        try:
            processes.end_tree(mark, roots, grace)
            with self._lock:  # not before: an end that fails is asked for again
                self._roots.pop(mark, None)
        finally:
            with self._lock:
                self._ending[mark] -= 1
                self._lock.notify_all()

    def await_end(self, mark: tuple[str, str]) -> None:
        """Return once no `end` of *mark* is under way: the first of its processes dies early."""
        with self._lock:
            self._lock.wait_for(lambda: not self._ending[mark])

    def end_once(self, mark: tuple[str, str]) -> None:
        """End what carries *mark* now; programs with it may be started again."""
        processes.end_tree(mark)

    def end_all(self, cluster_ids: list[str]) -> None:
        """End the programs of these clusters, and start no more of them."""
        for cluster_id in cluster_ids:
            self.end(cluster_mark(cluster_id))


def cluster_mark(cluster_id: str) -> tuple[str, str]:
    """Return the environment variable that every process of a cluster carries."""
    return CLUSTER_MARK, cluster_id


def step_mark(step_id: str) -> tuple[str, str]:
    """Return the environment variable that every process of a step carries."""
    return STEP_MARK, step_id


def wait(process: subprocess.Popen[bytes], interval: float, meanwhile: Callable[[], None]) -> int:
    """Return the exit code of *process*; *meanwhile* is called every *interval* seconds."""
    while True:
        try:
            return process.wait(timeout=interval)
        except subprocess.TimeoutExpired:
            meanwhile()
