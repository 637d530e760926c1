"""Reading images from an S3 that misbehaves: nothing is lost, nothing is blamed on an image."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import boto3
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from fruits_jobs.featurizing import FeaturizeTask, load_images
from fruits_jobs.fetching import AccessDenied, Archived, Changed, Fetcher, ReadFailed, Retry, plain

BODY = bytes(range(256)) * 40
ETAG = hashlib.md5(BODY).hexdigest()
QUICK = Retry(attempts=8, first_pause=0.01)


class Unreliable(BaseHTTPRequestHandler):
    """Serves BODY for every key but fails as the key's first segment or chance has it."""

    protocol_version = "HTTP/1.1"
    chance = random.Random(7)
    requests = 0
    last_path = ""

    def do_GET(self) -> None:
        type(self).requests += 1
        type(self).last_path = unquote(self.path)
        way = unquote(self.path).split("/")[2]
        if way == "flaky":
            way = self.chance.choice(["500", "503", "reset", "short", *["200"] * 8])
        if way == "skewed":
            way = "403" if type(self).requests < 3 else "200"
        ways = {"reset": self._reset, "short": self._short, "lost": self._lose}
        ways.get(way, lambda: self._answer(int(way)))()

    def _answer(self, status: int) -> None:
        codes = {403: b"AccessDenied", 404: b"NoSuchKey", 412: b"PreconditionFailed"}
        code = codes.get(status, b"SlowDown")
        if self.last_path.endswith("archived.jpg"):
            code = b"InvalidObjectState"
        if "/skewed/" in self.last_path:
            code = b"RequestTimeTooSkewed"
        body = BODY if status == 200 else b"<Error><Code>%b</Code></Error>" % code
        self._head(status, len(body))
        self.wfile.write(body)

    def _short(self) -> None:
        self._head(200, len(BODY))
        self.wfile.write(BODY[:1000])
        self.close_connection = True

    def _lose(self) -> None:
        if type(self).requests == 1:
            time.sleep(20)
        else:
            self._answer(200)

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)  # close with RST instead of FIN
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", f'"{ETAG}"')
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 03:00:00 GMT")
        self.end_headers()

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def unreliable(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Unreliable]]:
    """Run the unreliable S3; clients find it by environment."""
    # Its own counts: a thread of another test's server may go on for a while.
    kind = type("Unreliable", (Unreliable,), {"requests": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.handle_error = lambda *_: None  # a reset connection is what we asked for
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    use(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield kind
    server.shutdown()
    server.server_close()


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Point S3 clients at *endpoint*."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "localkey")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "localsecret")


def fetch(key: str, etag: str = ETAG, size: int = len(BODY)) -> bytes:
    return Fetcher("eu-west-3", QUICK).fetch(f"s3://bucket/{key}", etag, size)


@pytest.mark.parametrize("key", ["flaky/a.jpg", "flaky//a.jpg"])
def test_an_s3_that_fails_a_third_of_the_requests_loses_nothing(unreliable, key):
    """500s, 503s, resets and short bodies are tried again, through both clients."""
    assert all(fetch(key) == BODY for _ in range(60))
    assert unreliable.requests > 70


@pytest.mark.parametrize("key", ["lost/a.jpg", "lost//a.jpg"])
def test_an_answer_that_never_comes_is_asked_for_again(unreliable, key, monkeypatch):
    """One lost answer costs the time that S3 may be silent, not minutes of a whole step."""
    for module in ("objects", "fetching"):
        monkeypatch.setattr(f"fruits_jobs.{module}.SILENCE", 0.3)
    started = time.monotonic()

    assert fetch(key) == BODY
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("key", ["403/archived.jpg", "403//archived.jpg"])
def test_an_archived_image_says_how_to_restore_it(unreliable, key):
    """S3 answers with the status of a missing permission, but no permission would help."""
    with pytest.raises(Archived, match=r"the archived s3://bucket/'403.*restore-object"):
        fetch(key)
    assert unreliable.requests == 1


@pytest.mark.parametrize("key", ["skewed/a.jpg", "skewed//a.jpg"])
def test_a_clock_that_jumped_may_be_set_right(unreliable, key):
    """A node whose requests look too old or too new tries again, and loses nothing."""
    assert fetch(key) == BODY


@pytest.mark.parametrize("key", ["403/a.jpg", "403//a.jpg"])
def test_denied_access_fails_at_once_and_says_what_to_allow(unreliable, key):
    """No retry makes a missing permission appear; the message names the bucket and the key."""
    with pytest.raises(AccessDenied, match=r"access denied on s3://bucket/'403.*s3:GetObject"):
        fetch(key)
    assert unreliable.requests == 1


@pytest.mark.parametrize("key", ["404/a.jpg", "404//a.jpg"])
def test_an_image_that_is_gone_has_vanished(unreliable, key):
    """An image deleted after the listing is an outcome, not an error."""
    with pytest.raises(Changed) as caught:
        fetch(key)
    assert caught.value.reason == "vanished"


@pytest.mark.parametrize("key", ["412/a.jpg", "412//a.jpg"])
def test_an_s3_that_honours_if_match_tells_of_a_change(unreliable, key):
    """412 means that another version has replaced the listed one."""
    with pytest.raises(Changed) as caught:
        fetch(key)
    assert caught.value.reason == "changed"


@pytest.mark.parametrize("key", ["200/a.jpg", "200//a.jpg"])
def test_an_s3_that_ignores_if_match_does_not_hide_a_change(unreliable, key):
    """The answer's own etag has the last word."""
    with pytest.raises(Changed) as caught:
        fetch(key, etag="another")
    assert caught.value.reason == "changed"


@pytest.mark.parametrize("key", ["503/a.jpg", "503//a.jpg"])
def test_a_read_that_never_works_names_bucket_key_and_response(unreliable, key, monkeypatch):
    """The last error is in the message: that is where the search for the cause begins."""
    monkeypatch.setattr("fruits_jobs.fetching.CONNECTION_RETRIES", 0)

    with pytest.raises(
        ReadFailed, match=r"s3://bucket/'503/.*after 2 attempts.*(503|SlowDown)"
    ) as caught:
        Fetcher("eu-west-3", Retry(2, 0.01)).fetch(f"s3://bucket/{key}", ETAG, len(BODY))
    assert (caught.value.bucket, caught.value.key) == ("bucket", key)


def test_a_body_of_the_wrong_length_is_not_accepted(unreliable):
    """Fewer bytes than were listed are a failed read, never a truncated image."""
    with pytest.raises(ReadFailed, match=f"{len(BODY)} bytes came instead of 5"):
        fetch("200/a.jpg", size=5)


def test_an_object_too_large_for_an_image_is_not_read(unreliable):
    """A film that is called .jpg is a row of quarantine, not a worker out of memory."""
    images = pa.table(
        {"image_uri": ["s3://bucket/200/film.jpg"], "etag": ["e"], "size_bytes": [9**11]}
    )
    task = FeaturizeTask("", "eu-west-3", "", "", 1280, 1, 2, 1, max_pixels=120_000_000)

    (outcome,) = load_images(images, task)

    assert (outcome.kind, outcome.reason, outcome.pixels) == ("quarantine", "too_large", None)
    assert outcome.message == "31,381 MB were not read, the limit is 480"
    assert unreliable.requests == 0


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Run moto's S3, which takes any key."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        use(patch, endpoint)
        where = {"LocationConstraint": "eu-west-3"}
        s3 = boto3.client("s3", region_name="eu-west-3")
        s3.create_bucket(Bucket="bucket", CreateBucketConfiguration=where)
    yield endpoint
    server.stop()


@pytest.mark.parametrize(
    "key",
    [
        "fruits/plain.jpg",
        "fruits//double.jpg",
        "/first slash.jpg",
        "fruits/été = 100%41 + 'x' \"y\".jpg",
        "fruits/a?b#c&d.jpg",
    ],
)
def test_odd_keys_are_read_raw(moto, monkeypatch, key):
    """A key is never encoded, cleaned or guessed: the object of exactly that key is read."""
    use(monkeypatch, moto)
    s3 = boto3.client("s3", region_name="eu-west-3")
    s3.put_object(Bucket="bucket", Key=key, Body=BODY)

    assert fetch(key) == BODY


@pytest.mark.parametrize("key", ["200/new\nline.jpg", "200/tab\tand\x7f.jpg", "200/a\rb\x01.jpg"])
def test_control_characters_in_keys_are_asked_for_as_they_are(unreliable, key):
    """A newline in a key, which moto has no route for, reaches the server as that newline."""
    assert fetch(key) == BODY
    assert unreliable.last_path == f"/bucket/{key}"


def test_a_missing_bucket_is_no_vanished_image(moto, monkeypatch):
    """A mistyped bucket must not count all its images as gone."""
    use(monkeypatch, moto)

    with pytest.raises(ReadFailed, match="NoSuchBucket"):
        Fetcher("eu-west-3", QUICK).fetch("s3://no-such-bucket/a.jpg", ETAG, 1)


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "./a", "a/../b", "a\nb", "a\x7f", ""])
def test_keys_that_obstore_would_change_go_to_boto3(key):
    """Obstore silently drops outer slashes: reading the neighbour would be worse than failing."""
    assert not plain(key)
