"""Everything that the page shows, read at once: each part by itself, so that one may be missing.

What is read does not grow with the number of images. It is kept for a few seconds, whoever asks: a
page that many people leave open must not use up the calls that EMR grants the DAG.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fruits.page.clusters_now import LiveCluster, live_clusters
from fruits.page.findings import Finding, recent_findings
from fruits.page.models import PcaModel, read_model
from fruits.page.month import Ledger, Month, read_month
from fruits.page.past import Past, PastReader
from fruits.page.waiting import Waiting, waiting
from fruits.sensings import Sensing, read_sensing
from fruits.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from pyiceberg.catalog import Catalog

log = logging.getLogger(__name__)
T = TypeVar("T")
KEPT_SECONDS = 10


@dataclass(frozen=True)
class Reading(Generic[T]):
    """One part of the page: its *value*, or the *trouble* that kept it from being read."""

    value: T | None
    trouble: str = ""


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


class Reader:
    """Reads the parts side by side, and keeps them for KEPT_SECONDS; safe for several threads."""

    def __init__(self, settings: Settings, kept_seconds: float = KEPT_SECONDS) -> None:
        self.settings = settings
        self._kept_seconds = kept_seconds
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._kept: Readings | None = None
        self._ledger, self._past = Ledger(), PastReader()

    def read(self) -> Readings:
        """Return what there is now, or was a few seconds ago."""
        with self._lock:  # who comes meanwhile waits for the same answer
            if self._kept is None or time.monotonic() - self._read_at > self._kept_seconds:
                self._kept = self._read()
                self._read_at = time.monotonic()
            return self._kept

    def _read(self) -> Readings:
        lake, now = self.settings.lake, datetime.now(UTC)
        with ThreadPoolExecutor(5) as pool:
            clusters = pool.submit(_part, "live clusters", self._clusters)
            month = pool.submit(_part, "the month", lambda: read_month(self.settings, self._ledger))
            findings = pool.submit(_part, "findings", lambda: recent_findings(lake, now))
            sensing = pool.submit(_part, "the last sensing", lambda: read_sensing(lake))
            past = _part("runs", lambda: self._past.read(_catalog()))
            return Readings(
                now,
                clusters.result(),
                month.result(),
                past,
                _waiting(sensing, past),
                _part("the model", self._model),
                findings.result(),
            )

    def _clusters(self) -> tuple[LiveCluster, ...]:
        return live_clusters(_emr(self.settings.region), self.settings)

    def _model(self) -> PcaModel | None:
        from pyiceberg.exceptions import NoSuchTableError

        from fruits.lake import current_version

        try:
            version = current_version(_catalog())
        except NoSuchTableError:
            return None
        return read_model(self.settings.lake, version) if version else None


def _part(what: str, read: Callable[[], T]) -> Reading[T]:
    """Return what *read* returns, or the kind of what went wrong: a message may name too much."""
    try:
        return Reading(read())
    except Exception as error:
        log.exception("The page cannot show %s", what)
        return Reading(None, type(error).__name__)


def _waiting(
    sensing: Future[Reading[Sensing | None]], past: Reading[Past]
) -> Reading[Waiting | None]:
    sensed = sensing.result()
    if trouble := sensed.trouble or past.trouble:
        return Reading(None, trouble)
    return Reading(waiting(sensed.value, past.value or Past((), 0)))


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
