"""One batch from a shell: the tasks of a batch in order, without Airflow.

    python -m fruits.batch

reads its settings from the environment (FRUITS_*), and so runs against AWS as against the local
cloud. It is reported as the DAG's runs are: a row of `runs`, and a page in the lake.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from rich.markup import escape

from fruits import ingestion, stories
from fruits.batches import Attempt, Batch, batch_id
from fruits.claims import keep_claim
from fruits.errors import FruitsError
from fruits.lifecycle import await_cluster, cluster_age, create_cluster, emr_client
from fruits.progress import describe_failure, describe_progress
from fruits.reports import RunFacts, report_folder, write_report
from fruits.settings import Settings, SettingsError, load_settings
from fruits.step_runs import run_step
from fruits.terminal import Terminal

if TYPE_CHECKING:
    from types import FrameType

    from mypy_boto3_emr import EMRClient

T = TypeVar("T")

LEAVING = (signal.SIGTERM, signal.SIGHUP)  # a stopped container, a closed terminal

SEEDED = (
    "[bold yellow]These weights are made up (seeded): every step is real, but similar fruits will "
    "not look similar. Give real ones with WEIGHTS=<file.h5> or WEIGHTS=imagenet, in an empty "
    "lake (`make clean`).[/bold yellow]"
)

MAY_STILL_RUN = (
    "The cluster may still run: `python -m fruits.watchdog` ends it, or else its time limit does."
)


@dataclass
class ShellRun:
    """One run in a terminal: its settings and places, and what it found, for its last table.

    *states* and *answers* are by the task of the DAG that would have done it.
    """

    settings: Settings
    terminal: Terminal
    attempt: Attempt
    began: datetime
    states: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, str] = field(default_factory=dict)

    @property
    def batch(self) -> str:
        """The batch's id, which is its cluster's token too."""
        return self.attempt.batch.id

    @property
    def sensed(self) -> dict[str, Any]:
        """What sensing found."""
        return dict(self.answers["sense_changes"])

    def ingest(self) -> None:
        """Take the batch through every stage that it needs."""
        self._sense()
        if self.sensed["remove"]:
            self._remove()
        if self.sensed["reduce"]:
            self._process()
        else:
            self.terminal.say("Nothing to featurize: no cluster is created.")

    def report(self) -> None:
        """Write the row of `runs` and the batch's page.

        A batch that found nothing to do has none, and so has one that could not look.
        """
        if set(self.states) <= {"sense_changes"}:
            return
        facts = RunFacts(
            batch=self.batch,
            run_id=None,
            run_after=self.began,
            states=self.states,
            answers=self.answers,
            started_at=self.began,
        )
        with self.terminal.stage("Report"):
            write_report(facts, self.settings)
        self.terminal.say(f"{report_folder(self.settings.lake, self.batch)}/report.html")

    def _do(self, task: str, title: str, work: Callable[[], T]) -> T:
        """Do a task of the DAG as a stage of the terminal; keep how it ended and its answer."""
        self.states[task] = "failed"
        with self.terminal.stage(title):
            answer = work()
        self.states[task], self.answers[task] = "success", answer
        return answer

    def _sense(self) -> None:
        self._do(
            "sense_changes",
            "Sense what changed",
            lambda: ingestion.sense_changes(self.settings, self.batch),
        )
        weights, counts = self.sensed["weights"], self.sensed["counts"]
        self.terminal.say(f"network {weights['feature_model']} ({weights['source']})")
        if weights["source"] == "seeded":
            self.terminal.say(SEEDED)
        if asked := self.sensed["overruled"]:
            self.terminal.say(f"[bold yellow]{escape(stories.overruled(asked))}[/bold yellow]")
        if self.sensed["beside"]:
            self.summary["computed beside"] = f"{weights['feature_model']}: make switch-model"
        self.terminal.say(
            f"{counts['listed']} images listed: {counts['added']} to featurize, "
            f"{counts['deleted']} gone, {counts['unchanged']} unchanged"
        )
        named = {
            "images listed": "listed",
            "to featurize": "added",
            "replaced versions": "replaced",
            "gone": "deleted",
            "not images by name": "ignored",
            "left for the next run": "deferred",
        }
        always = ("listed", "added")
        self.summary |= {
            title: str(counts[name])
            for title, name in named.items()
            if counts[name] or name in always
        }

    def _remove(self) -> None:
        removed = self._do(
            "commit_removals",
            "Remove the rows of images that are gone",
            lambda: ingestion.remove_rows(self.settings, self.sensed),
        )
        self.summary["rows removed"] = ", ".join(f"{rows} {name}" for name, rows in removed.items())

    def _process(self) -> None:
        settings, token = self.settings, self.batch
        staged = self._do(
            "stage_jobs",
            "Upload what the cluster runs",
            lambda: ingestion.stage(settings, self.sensed),
        )
        promise = self._do(
            "reserve_cluster",
            "Reserve a cluster",
            lambda: ingestion.reserve(settings, token, staged, self.sensed),
        )
        self.summary["promised at most"] = f"{promise['worst_case']:.2f} {promise['currency']}"
        self.summary[f"promised or spent in {promise['month']}"] = (
            f"{promise['month_so_far']:.2f} of {settings.month_cap_money:.2f} {promise['currency']}"
        )
        with self._terminating():
            cluster_id = self._do(
                "create_cluster",
                "Create the cluster",
                lambda: create_cluster(settings.region, promise["request"], token),
            )
            self.terminal.say(f"{cluster_id} in {settings.region}")
            self._run_steps(emr_client(settings.region), cluster_id, staged)

    @contextmanager
    def _terminating(self) -> Iterator[None]:
        """Terminate the cluster however the block ends; what failed inside has the last word."""
        try:
            yield
        except BaseException:
            if _exit_code(self._terminate, self.terminal):
                self.terminal.say(f"[bold yellow]{MAY_STILL_RUN}[/bold yellow]")
            raise
        self._terminate()

    def _run_steps(self, client: EMRClient, cluster_id: str, staged: dict[str, str]) -> None:
        model = self.sensed["feature_model"]
        self._do(
            "await_cluster",
            "Wait until it is ready",
            lambda: await_cluster(
                client,
                cluster_id,
                timeout=self.settings.ready_minutes * 60,
                poll=self.settings.poll_seconds,
                on_poll=self._renew,
            ),
        )
        if self.sensed["featurize"]:
            step = ingestion.featurize_request(self.settings, staged, self.attempt, model)
            self._do(
                "featurize",
                "Featurize",
                lambda: self._run_step(client, cluster_id, "featurize", step),
            )
            if not self._commit_features()["reducible"]:
                self.terminal.say("Fewer than two images have features: there is nothing to reduce")
                return
        last = ingestion.pca_request(self.settings, staged, self.attempt, model)
        self._do(
            "pca",
            "Fit PCA and project",
            lambda: self._run_step(client, cluster_id, "pca", last, last=True),
        )
        self._commit_components()

    def _commit_features(self) -> dict[str, Any]:
        done = self._do(
            "commit_features",
            "Commit the features",
            lambda: ingestion.commit_features(self.settings, self.batch, self.attempt.name),
        )
        self.summary["features added"] = str(done["features"])
        reasons = ", ".join(f"{count} {name}" for name, count in done["reasons"].items())
        self.summary["quarantined"] = f"{done['quarantined']} {f'({reasons})' if reasons else ''}"
        if done["changed"]:
            self.summary["changed meanwhile"] = f"{done['changed']}, seen again by the next run"
        return done

    def _commit_components(self) -> None:
        fitted = self._do(
            "commit_components",
            "Commit the components",
            lambda: ingestion.commit_components(self.settings, self.batch, self.attempt.name),
        )
        done = "fitted" if fitted["fitted"] else "kept"
        self.summary["PCA model"] = f"{fitted['model_version']}, {done}: {fitted['reason']}"
        self.summary["components"] = describe_components(fitted)
        if quality := describe_quality(fitted["quality"]):
            self.summary["label accuracy"] = quality
        for warning in fitted["warnings"]:
            self.terminal.say(f"[yellow]{escape(warning)}[/yellow]")

    def _terminate(self) -> None:
        ended = self._do(
            "terminate_cluster",
            "Terminate the cluster",
            lambda: ingestion.terminate(self.settings, self.batch),
        )
        self.summary["cluster"] = f"{', '.join(ended['clusters'])}, lived {ended['seconds']:.0f} s"
        if ended["cost"] is not None:
            cost = f"{ended['cost']:.2f} {ended['currency']}"
            # True of a local cluster, too, which costs nothing.
            self.summary[f"at EMR's prices in {self.settings.region}"] = cost

    def _run_step(
        self,
        client: EMRClient,
        cluster_id: str,
        name: str,
        step: dict[str, Any],
        *,
        last: bool = False,
    ) -> dict[str, str]:
        """Run a step to its end and return which attempt it was."""
        work = self.attempt.work(name)

        def look() -> None:
            self._renew()
            self.terminal.progress(describe_progress(work))

        run_step(
            client,
            cluster_id,
            step,
            timeout=self._seconds_left(client, cluster_id),
            poll=self.settings.poll_seconds,
            last=last,
            on_poll=look,
            explain=lambda: describe_failure(work),
        )
        return {"attempt": self.attempt.name}

    def _seconds_left(self, client: EMRClient, cluster_id: str) -> float:
        """Return how long the cluster has until its cap, by EMR's clock."""
        left = timedelta(minutes=self.settings.cap_minutes) - cluster_age(client, cluster_id)
        return left.total_seconds()

    def _renew(self) -> None:
        """Say that the cluster is still wanted: else the watchdog ends it."""
        keep_claim(self.settings.lake, self.answers["reserve_cluster"])


def describe_components(fitted: dict[str, Any]) -> str:
    """Return how many components there are, what they keep, and of how many images they are new."""
    kept = fitted["explained_variance_kept"]
    share = "" if kept is None else f" keep {kept:.1%} of the variance"
    return f"{fitted['k']} per image{share}; {fitted['projected']} images projected"


def describe_quality(quality: dict[str, Any]) -> str:
    """Return what the reduction cost when it was fitted; "" if nothing could be compared."""
    before, after = (quality.get(f"label_accuracy_{when}") for when in ("before", "after"))
    if before is None or after is None:
        return ""
    return (
        f"{before:.1%} before, {after:.1%} after reduction: {quality['neighbours']} nearest of "
        f"{quality['sampled_images']} images, held out by blocks"
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # A closed terminal tells the program and what started it, which passes it on: the second must
    # not interrupt the end of the cluster. Ctrl-C, which somebody presses, still does.
    for number in LEAVING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Run one batch; 0 if everything that was new is committed, and reported."""
    argparse.ArgumentParser(prog="python -m fruits.batch", description=__doc__).parse_args()
    # Both are a Ctrl-C: whoever goes ends the cluster.
    for number in LEAVING:
        signal.signal(number, _interrupt)
    terminal, now = Terminal(), datetime.now(UTC)
    try:
        settings = load_settings()
    except SettingsError as error:
        terminal.say(f"[bold red]{type(error).__name__}[/bold red] {escape(str(error))}")
        return 2
    run_id = f"shell {now.isoformat()} {secrets.token_hex(4)}"
    batch = Batch(settings.lake, batch_id(now, run_id, settings.lake))
    terminal.show_warnings()
    work = escape(f"{settings.images_uri} -> {batch.lake}")
    terminal.say(f"[bold]Fruits![/bold] batch {batch.id}: {work}")
    run = ShellRun(settings, terminal, batch.numbered(1, 1), now)
    started = time.monotonic()
    try:
        failed = _exit_code(run.ingest, terminal)
    finally:
        unreported = _exit_code(run.report, terminal)
    if failed:
        return failed
    seconds = {name: f"{spent:.1f} s" for name, spent in terminal.seconds.items()}
    total = {"in all": f"{time.monotonic() - started:.1f} s"}
    terminal.table(f"Batch {batch.id}", run.summary | seconds | total)
    return unreported


def _exit_code(work: Callable[[], None], terminal: Terminal) -> int:
    """Do the *work* and return 0, or say why it failed and return another exit code."""
    try:
        work()
    except (FruitsError, BotoCoreError, ClientError) as error:
        terminal.say(f"[bold red]{type(error).__name__}[/bold red] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        terminal.say("Interrupted. What was committed stays; the next run does the rest.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
