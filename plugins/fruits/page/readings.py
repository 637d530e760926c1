"""Everything that the page shows, read at once: each part by itself, so that one may be missing.

What is read does not grow with the number of images. It is kept for a few seconds, whoever asks: a
page that many people leave open must not use up the calls that EMR grants the DAG. No request waits
for more than some ten seconds, whatever S3, the catalog or EMR do.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from fruits.page.clusters_now import LiveCluster, live_clusters
from fruits.page.findings import Finding, recent_findings
from fruits.page.guard import Guard, read_guard
from fruits.page.models import PcaModel, read_model
from fruits.page.month import Ledger, Month, read_month
from fruits.page.parts import PATIENCE, Part, Reading, gap
from fruits.page.past import Past, PastReader
from fruits.page.waiting import Waiting, waiting
from fruits.sensings import Sensing, read_sensing
from fruits.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from pyiceberg.catalog import Catalog

KEPT_SECONDS = 10
# For so long a request waits for another one that reads: one that hangs holds one of the server's
# threads for longer, not all of them.
TURN_SECONDS = 1
# Then it takes what was last read, if an open page, which asks every half minute, may show it.
STILL_SHOWN_SECONDS = 60


@dataclass(frozen=True)
class Readings:
    """All parts of the page, as of *now*."""

    now: datetime
    clusters: Reading[tuple[LiveCluster, ...]]
    month: Reading[Month]
    past: Reading[Past]
    waiting: Reading[Waiting | None]
    model: Reading[PcaModel | None]
    findings: Reading[tuple[Finding, ...]]
    guard: Reading[Guard]


class Reader:
    """Reads the parts side by side, and keeps them for KEPT_SECONDS; safe for several threads."""

    def __init__(
        self, settings: Settings, kept_seconds: float = KEPT_SECONDS, patience: float = PATIENCE
    ) -> None:
        self.settings = settings
        self._kept_seconds = kept_seconds
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._kept: Readings | None = None
        ledger, past, lake = Ledger(), PastReader(), settings.lake
        self._clusters = Part("live clusters", self._live_clusters, patience)
        self._month = Part("the month", lambda: read_month(settings, ledger), patience)
        self._past = Part("runs", lambda: past.read(_catalog()), patience)
        self._sensing = Part("the last sensing", lambda: read_sensing(lake), patience)
        self._guard = Part("the watchdog's last look", lambda: read_guard(lake), patience)
        self._model = Part("the model", self._current_model, patience)
        self._findings = Part(
            "findings", lambda: recent_findings(lake, datetime.now(UTC)), patience
        )

    def read(self) -> Readings:
        """Return what there is now, or was a few seconds ago; what does not answer is a gap."""
        if not self._lock.acquire(timeout=TURN_SECONDS):
            return self._meanwhile()
        try:
            if self._kept is None or self._age() > self._kept_seconds:
                self._kept = self._read()
                self._read_at = time.monotonic()
            return self._kept
        finally:
            self._lock.release()

    def _age(self) -> float:
        return time.monotonic() - self._read_at

    def _meanwhile(self) -> Readings:
        """Return what was last read, or nothing but gaps, while another request waits."""
        kept = self._kept
        if kept and self._age() < STILL_SHOWN_SECONDS:
            return kept
        empty: Reading[Any] = gap(TURN_SECONDS)
        return Readings(datetime.now(UTC), *[empty] * 7)

    def _read(self) -> Readings:
        now = datetime.now(UTC)
        for part in self._parts():
            part.begin()
        clusters, past = self._clusters.reading(), self._past.reading()
        return Readings(
            now,
            clusters,
            self._month.reading(),
            past,
            _waiting(self._sensing.reading(), past),
            self._model.reading(),
            self._findings.reading(),
            _guard(self._guard.reading(), clusters, past),
        )

    def _parts(self) -> tuple[Part[Any], ...]:
        read_s3 = self._month, self._sensing, self._findings, self._guard
        return self._clusters, *read_s3, self._past, self._model

    def _live_clusters(self) -> tuple[LiveCluster, ...]:
        return live_clusters(_emr(self.settings.region), self.settings)

    def _current_model(self) -> PcaModel | None:
        from pyiceberg.exceptions import NoSuchTableError

        from fruits.lake import current_version

        try:
            version = current_version(_catalog())
        except NoSuchTableError:
            return None
        return read_model(self.settings.lake, version) if version else None


def _waiting(sensed: Reading[Sensing | None], past: Reading[Past]) -> Reading[Waiting | None]:
    if trouble := sensed.trouble or past.trouble:
        return Reading(None, trouble)
    return Reading(waiting(sensed.value, past.value or Past((), 0)))


def _guard(
    guard: Reading[Guard], clusters: Reading[tuple[LiveCluster, ...]], past: Reading[Past]
) -> Reading[Guard]:
    """Return the guard, needed since the oldest that is known, or, where that is not, for ever."""
    if guard.value is None:
        return guard
    needed = [cluster.age for cluster in clusters.value or ()]
    if past.value is None:
        needed.append(timedelta.max)
    elif past.value.batches:
        needed.append(datetime.now(UTC) - past.value.batches[-1].row["reported_at"])
    return Reading(replace(guard.value, needed_for=max(needed, default=timedelta(0))))


@cache
def _catalog() -> Catalog:
    from fruits.lake import open_catalog

    return open_catalog()


@cache
def _emr(region: str) -> EMRClient:
    """Return a client that gives up soon: a page that hangs says less than one with a gap."""
    import boto3
    from botocore.config import Config

    patience: dict[str, Any] = {"connect_timeout": 3, "read_timeout": 5}
    return boto3.client(
        "emr", region_name=region, config=Config(**patience, retries={"total_max_attempts": 2})
    )
