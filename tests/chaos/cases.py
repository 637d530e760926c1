"""One case: what is broken while a run works, and what must hold when it is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.lab import INGESTION, LEASE_SECONDS, Lab
from tests.chaos.matrix import Record
from tests.chaos.observation import ClusterLife, calls, lives, most_at_once, promised
from tests.chaos.tables import Tables
from tests.chaos.watchdogs import PERIOD, Watchdog

# Between the order to end and the last process gone, on a machine that does much else.
SLACK = 20.0
# What ends a cluster when all is well: itself after its last step, or the teardown.
USUAL = ("airflow", "EMR: last step done")
AT_ONCE = 60.0  # two clusters of one token may live beside each other for so long


@dataclass
class Case:
    """Drives one case in *lab*, beside a *watchdog*, and keeps its *record*."""

    lab: Lab
    record: Record
    watchdog: Watchdog
    began: float = field(default_factory=time.time)
    before: Tables = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.lab.tables()

    # --- getting there ---

    def trigger(self, *, images: int = 1, **conf: Any) -> str:
        """Trigger a run over new *images* and return its id."""
        for _ in range(images):
            self.lab.add_image()
        return self.lab.trigger(conf)

    def await_task(self, run: str, task: str, *states: str, seconds: float = 240) -> None:
        """Wait until a task of the run is in one of *states*: running, if none is named."""
        wanted = states or ("running",)
        self.wait_until(
            lambda: self.lab.task_states(run).get(task) in wanted, seconds, f"{task} {wanted}"
        )

    def await_step(self, step: str, state: str = "RUNNING", seconds: float = 300) -> None:
        """Wait until a step of this case has come into *state*."""
        self.wait_until(
            lambda: any(e["state"] == state for e in self.lab.steps(self.began, step)),
            seconds,
            f"step {step} {state}",
        )

    def await_call(self, action: str) -> None:
        """Wait until EMR has carried out a call of *action* in this case."""
        self.wait_until(lambda: calls(self.lab.journal, action, self.began), 60, action)

    def await_another_try(self, run: str, task: str) -> None:
        """Wait until a task of the run is done again, or was."""

        def is_again() -> bool:
            (its,) = (one for one in self.lab.tasks(run) if one["task_id"] == task)
            return its["try_number"] > 1 and its["state"] in ("running", "success", "failed")

        self.wait_until(is_again, 300, f"another try of {task}")

    def await_cluster(self) -> str:
        """Wait until this case has made a cluster; return the newest's id."""
        self.wait_until(lambda: len(self.clusters) >= 1, 300, "a cluster")
        return self.clusters[-1].id

    def await_state(self, run: str, *states: str, seconds: float = 300) -> str:
        """Wait until the run is over, or in one of *states*, and return which."""
        wanted = states or ("success", "failed")
        self.lab.wait_until(
            lambda: self.lab.run_state(run) in wanted, seconds, f"run {wanted}", every=1
        )
        return self.lab.run_state(run)

    def await_end_of_clusters(self) -> None:
        """Wait until no cluster is left, as long as any may live."""
        longest = max((one.cap for one in self.clusters), default=0.0) + PERIOD + SLACK
        self.wait_until(lambda: not self.lab.live_clusters(), longest, "no cluster")

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def wait_until(self, question: Any, seconds: float, what: str) -> None:
        """Ask until the answer is true; AssertionError after *seconds*."""
        self.lab.wait_until(question, seconds, what)

    @property
    def clusters(self) -> list[ClusterLife]:
        """The clusters that were made since the case began, oldest first."""
        return lives(self.lab.journal, self.began, time.time())

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew the lease of the case's cluster, as a task would that waits for ever."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(LEASE_SECONDS / 5):
                self.lab.renew_lease(self.clusters[0].token)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def restart_scheduler(self) -> None:
        """Kill the scheduler with its tasks, and start another."""
        self.lab.airflow.kill("scheduler")
        self.lab.airflow.revive("scheduler")

    # --- what must hold ---

    def proves(
        self,
        run: str | None,
        *outcomes: str,
        clusters: int | tuple[int, int] = 1,
        ended_by: Collection[str] = USUAL,
        marked: bool = False,
    ) -> None:
        """Wait for the end of *run* and of all clusters, note what happened, assert what must hold.

        *outcomes* are the run's allowed states, *clusters* how many were made (at least, at most),
        *ended_by* the guards that may have ended them. A green run must have complete tables, but
        for one that was *marked* green by hand.
        """
        expected = outcomes or ("success",)
        state = self.await_state(run, *{"success", "failed", *expected}) if run else "none"
        self.await_end_of_clusters()
        record, made = self.record, self.clusters
        record.expected, record.run = " or ".join(expected) if run else "none", state
        self._note_clusters(made)
        record.problems += self._run_problems(run, state, expected)
        record.problems += self._cluster_problems(made, clusters, ended_by)
        after = self.lab.tables()
        wrong = after.problems(self.before, green=state == "success" and not marked)
        record.data = "; ".join(wrong) or ("complete" if after.complete else "as before")
        record.problems += wrong
        record.finished = True
        assert not record.problems, record

    def _note_clusters(self, made: list[ClusterLife]) -> None:
        record = self.record
        record.clusters = len(made)
        record.at_once = most_at_once(made, AT_ONCE)
        record.longest = round(max((one.seconds for one in made), default=0.0), 1)
        record.bound = max((one.cap for one in made), default=0.0) + PERIOD + SLACK if made else 0.0
        record.spent = round(sum(one.cost for one in made), 4)
        tokens = {one.token for one in made}
        record.promised = round(promised(self.lab.lake / "ledger", tokens), 4)
        record.ended_by = sorted({one.guard for one in made})
        record.faults = self.lab.emr.fired + self.lab.s3.fired - record.faults_before

    def _run_problems(self, run: str | None, state: str, expected: Collection[str]) -> list[str]:
        if run is None or state in expected:
            return []
        failed = [
            f"{task} {its}"
            for task, its in self.lab.task_states(run).items()
            if its in ("failed", "upstream_failed", "running")
        ]
        return [f"run of {INGESTION} is {state}: {', '.join(failed)}"]

    def _cluster_problems(
        self,
        made: list[ClusterLife],
        expected: int | tuple[int, int],
        ended_by: Collection[str],
    ) -> list[str]:
        record, found = self.record, []
        least, most = (expected, expected) if isinstance(expected, int) else expected
        if not least <= record.clusters <= most:
            found.append(f"{record.clusters} clusters, not {least} to {most}")
        if record.at_once > 1:
            found.append(f"{record.at_once} clusters of one token beside each other")
        if late := [one.id for one in made if one.seconds > one.cap + PERIOD + SLACK]:
            found.append(f"{', '.join(late)} lived past the cap and one watchdog period")
        if record.excess:
            found.append(f"{record.excess} USD above what was promised")
        if others := set(record.ended_by) - set(ended_by):
            found.append(f"ended by {', '.join(others)}, not {', '.join(ended_by)}")
        return found
