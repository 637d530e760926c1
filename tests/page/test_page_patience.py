"""What the page does when S3 or the catalog hangs: it answers, with gaps, and asks no more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fruits.page import readings
from fruits.page.parts import Part, Reading
from fruits.page.readings import Reader, Readings
from fruits.page.reports import MOST, Reports
from fruits.settings import Settings, load_settings
from tests.fruits.emr_support import until
from tests.page.conftest import lake
from tests.page.scenes import LAKE, quiet

PATIENCE = 0.4
GAP = "no answer within 0.4 s"
IN_S3 = {"month", "past", "model", "findings", "waiting", "guard"}


@dataclass(frozen=True)
class Silence:
    """What an S3 was *asked* that does not answer; once it is *over*, that refuses."""

    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def silent_s3() -> Iterator[Silence]:
    """Let this process's S3 take requests and not answer, for a minute at most."""
    silence = Silence()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            silence.asked.append(self.path)
            silence.over.wait(60)
            self.send_response(403)  # what no client asks for again
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815  (http.server asks for it)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        pytest.MonkeyPatch.context() as p,
    ):
        p.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            yield silence
        finally:
            silence.over.set()
            server.shutdown()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Return the settings of a lake with a good past, and an EMR that answers at once."""
    monkeypatch.setattr(readings, "live_clusters", lambda client, settings: ())
    monkeypatch.setattr(readings, "_emr", lambda region: None)
    with lake(tmp_path):
        chosen = load_settings(region="eu-west-3")
        quiet(chosen)
        yield chosen


def troubles(read: Readings) -> dict[str, str]:
    """Return the trouble of each part that has one."""
    parts = {name: getattr(part, "trouble", "") for name, part in vars(read).items()}
    return {name: trouble for name, trouble in parts.items() if trouble}


def seconds(work: Callable[[], Any]) -> float:
    """Return how long it took."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def test_an_s3_that_hangs_is_a_gap(settings: Settings) -> None:
    """The page is answered all the same; what lies in S3 is said not to have answered."""
    reader = Reader(settings, kept_seconds=0, patience=PATIENCE)
    with silent_s3():
        read: list[Readings] = []
        took = seconds(lambda: read.append(reader.read()))

    assert took < 30  # who waits for S3 takes 60 s
    assert set(troubles(read[0]).values()) == {GAP}
    assert troubles(read[0]).keys() == IN_S3


def test_what_hangs_is_not_asked_again(settings: Settings) -> None:
    """However many requests come meanwhile, each part has one thread, and nobody waits for it."""
    reader = Reader(settings, kept_seconds=0, patience=PATIENCE)
    before = threading.active_count()
    with silent_s3() as silence:
        reader.read()
        took = seconds(lambda: [reader.read() for _ in range(100)])
        threads = threading.active_count() - before

    assert took < 30  # whoever waits takes 100 times PATIENCE, which is 40 s
    # One for each part in S3, the server's own, and one of the server's for each request; that of
    # the clusters may have answered, and not have ended.
    assert threads <= 2 * len(IN_S3) + 2
    assert len(silence.asked) == len(set(silence.asked)) <= len(IN_S3)


def test_it_is_read_anew_once_s3_answers(settings: Settings) -> None:
    """A gap is none for ever: the thread that hung has ended, and the next look finds all."""
    reader = Reader(settings, kept_seconds=0, patience=PATIENCE)
    with silent_s3():
        reader.read()

    patient = Reader(settings, kept_seconds=0)
    assert troubles(patient.read()) == {}
    until(lambda: troubles(reader.read()) == {})


def test_who_comes_meanwhile_gets_the_last_reading(settings: Settings) -> None:
    """While one request waits the others are answered soon, with the last reading or gaps."""
    known, new = (Reader(settings, kept_seconds=0, patience=50) for _ in range(2))
    last = known.read()
    with silent_s3() as silence, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(reader.read) for reader in (known, new)]
        until(lambda: known._lock.locked() and new._lock.locked())
        answers: list[Readings] = []
        took = seconds(lambda: answers.extend(reader.read() for reader in (known, new)))
        assert not [one for one in waiting if one.done()]
        silence.over.set()

    assert took < 30  # who waits as long as those two takes 100 s
    assert answers[0] is last
    assert set(troubles(answers[1]).values()) == {"no answer within 1 s"}


def test_a_catalog_that_hangs_leaves_the_rest(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database without an answer hides batches and model; the money is still shown."""
    over = threading.Event()
    monkeypatch.setattr(readings, "_catalog", lambda: over.wait(60))

    reader, read = Reader(settings, kept_seconds=0, patience=PATIENCE), []

    def only_the_catalog_hangs() -> bool:
        read.append(reader.read())
        return troubles(read[-1]).keys() == {"past", "waiting", "model"}

    until(only_the_catalog_hangs, seconds=30)
    over.set()

    assert read[-1].month.value is not None


def test_a_report_that_hangs_is_said_to(settings: Settings) -> None:
    """Reports are answered soon, too, and a lake that hangs gets no thread for each of them."""
    reports = Reports(LAKE, patience=PATIENCE)
    with silent_s3() as silence, ThreadPoolExecutor(MOST) as pool:
        first = [one.trouble for one in pool.map(reports.read, map(str, range(MOST)))]
        again, other = reports.read("0").trouble, reports.read("other").trouble
        until(lambda: len(silence.asked) == MOST)

    assert (set(first), again) == ({GAP}, GAP)
    assert other == "10 others have not been read yet"
    until(lambda: reports.read("other") == Reading(None))


def test_a_part_that_fails_is_a_gap_at_once() -> None:
    """Trouble is told by its kind, without waiting."""

    def fail() -> None:
        raise ValueError("a secret")

    part = Part("what fails", fail, patience=5)
    part.begin()

    assert (part.reading().value, part.reading().trouble) == (None, "ValueError")
