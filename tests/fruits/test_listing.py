"""Listing: complete or an error, whatever the keys look like, in rclone's S3 and in moto's.

What depends on how the folders are listed is tested with each alone, and with spans of them.
"""

from __future__ import annotations

import logging
import os
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import boto3
import pyarrow as pa
import pytest
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from fruits import listing, objects, spans
from fruits.errors import ListingError
from fruits.listing import OBJECTS, list_objects
from fruits.spans import Span, UnsortedError
from local_cloud.s3 import ObjectStorage
from tests.conftest import forget_credentials
from tests.fruits.lake_support import BUCKET, bucket_versions, put

ACCOUNT = "123456789012"
SPECIAL = [
    "Apple Red 1/é à.jpg",
    "Apple Red 1/a=b%20c%.jpg",
    'Apple Red 1/it\'s "quoted" + more.jpg',
    "50% off/x.jpg",
    "a=b/x.jpg",
    "q'uote/x.jpg",
    "日本/柿.jpg",
    "root of all.jpg",
]
HOSTILE = [
    "new\nline/1.jpg",
    "plain/new\nline.jpg",
    "plain/fine.jpg",
    "double//slash.jpg",
    "//.jpg",
    "./dot.jpg",
    "tab\there/x.jpg",
    "#?&<>{}[]|^`~\\/x.jpg",
]


class Collected:
    """A sink that remembers keys by span, so that what is listed twice shows."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[dict]]] = []
        self.lock = threading.Lock()

    def add(self, span: str, batch: pa.RecordBatch) -> None:
        with self.lock:
            self.batches.append((span, batch.to_pylist()))

    def forget(self, span: str) -> None:
        with self.lock:
            self.batches = [entry for entry in self.batches if entry[0] != span]

    @property
    def rows(self) -> list[dict]:
        return [row for _, rows in self.batches for row in rows]

    @property
    def keys(self) -> list[str]:
        return sorted(row["image_key"] for row in self.rows)


class Passing:
    """An S3 endpoint that passes *requests* on, but answers 403 to those whose URL holds *but*."""

    def __init__(self, target: str, but: str | None = None) -> None:
        self.requests = requests = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                if but and but in self.path:
                    self.send_error(403)
                    return
                with urllib.request.urlopen(target + self.path) as answer:
                    body = answer.read()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Run moto's S3: it takes the keys that rclone, whose keys are file names, cannot have."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def moto_bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make an empty bucket in moto that clients find by the environment."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": moto,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    s3_backends[ACCOUNT]["aws"].reset()
    boto3.client("s3", endpoint_url=moto).create_bucket(Bucket=BUCKET)
    return BUCKET


@pytest.fixture(params=["alone", "in spans"])
def folders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """List each folder alone, or all but the first in spans of a few."""
    if request.param == "in spans":
        monkeypatch.setattr(spans, "ALONE", 1)
        monkeypatch.setattr(spans, "SHARE", 2)


def put_in_moto(key: str, content: bytes = b"x") -> None:
    # Not over HTTP: its server cannot route a PUT of a key with a newline.
    s3_backends[ACCOUNT]["aws"].put_object(BUCKET, key, content)


def collect(prefix: str = "") -> Collected:
    sink = Collected()
    list_objects(BUCKET, prefix, sink)
    return sink


def test_a_profile_is_as_good_as_keys_in_the_environment(
    storage: ObjectStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What knows no profiles takes boto3's credentials, and no span is listed again."""
    put("Apple/1.jpg")
    file = tmp_path / "credentials"
    file.write_text(
        f"[fruits]\naws_access_key_id = {os.environ['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {os.environ['AWS_SECRET_ACCESS_KEY']}\n"
    )
    forget_credentials(monkeypatch, tmp_path / "nowhere")
    monkeypatch.setenv("AWS_PROFILE", "fruits")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setattr(objects, "_credentials", objects._credentials.__wrapped__)

    with caplog.at_level(logging.INFO, "fruits.listing"):
        assert collect().keys == ["Apple/1.jpg"]
    assert not [record for record in caplog.records if record.name == listing.__name__]


def test_aws_itself_has_no_endpoint_of_its_own(
    moto_bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without AWS_ENDPOINT_URL_S3, as on AWS, the clients' own address is taken: here moto's."""
    put_in_moto("Apple/1.jpg")
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL_S3"])
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setattr(objects, "_client", objects._client.__wrapped__)

    with caplog.at_level(logging.INFO, "fruits.listing"):
        assert collect().keys == ["Apple/1.jpg"]
    assert not [record for record in caplog.records if record.name == listing.__name__]


@pytest.mark.usefixtures("folders")
def test_unusual_keys_are_listed_as_they_are(storage: ObjectStorage) -> None:
    """Spaces, accents, =, %, + and quotes come back raw, with size, time and unquoted etag."""
    for key in SPECIAL:
        put(key)

    listed = collect()

    assert {row["image_key"]: row["etag"] for row in listed.rows} == bucket_versions()
    assert listed.keys == sorted(SPECIAL)
    assert all(row["size_bytes"] > 0 and row["last_modified"].tzinfo for row in listed.rows)


@pytest.mark.usefixtures("folders")
def test_keys_that_obstore_refuses_are_listed_through_boto3(moto_bucket: str) -> None:
    """Newlines, empty segments and dots appear exactly once, and so do their plain neighbours."""
    for key in HOSTILE:
        put_in_moto(key)

    listed = collect()

    assert listed.keys == sorted(HOSTILE)
    assert all('"' not in row["etag"] for row in listed.rows)


@pytest.mark.usefixtures("folders")
def test_directory_markers_are_no_objects(moto_bucket: str) -> None:
    """A key that ends in a slash is left out, even one that is named like an image."""
    for key in ("Apple/", "Apple/1.jpg", "Apple/Red/", "Pear/2.jpg/", "Empty/"):
        put_in_moto(key, b"1" if key.endswith("1.jpg") else b"")

    assert collect().keys == ["Apple/1.jpg"]


def test_an_empty_image_is_an_object(moto_bucket: str) -> None:
    """A zero-byte image is listed: it is quarantined later, not overlooked."""
    put_in_moto("Apple/empty.jpg", b"")

    assert collect().keys == ["Apple/empty.jpg"]


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["App.jpg", "Apple/1.jpg", "Apple/Red/2.jpg", "Apricot/3.jpg", "zero.jpg"]),
        ("App", ["App.jpg", "Apple/1.jpg", "Apple/Red/2.jpg"]),
        ("Apple", ["Apple/1.jpg", "Apple/Red/2.jpg"]),
        ("Apple/", ["Apple/1.jpg", "Apple/Red/2.jpg"]),
        ("Apple/R", ["Apple/Red/2.jpg"]),
        ("Apple/1.jpg", ["Apple/1.jpg"]),
        ("Nothing", []),
    ],
)
def test_a_prefix_is_a_string(storage: ObjectStorage, prefix: str, expected: list[str]) -> None:
    """A prefix matches as S3's does, not folder by folder; it may hit nothing or the root."""
    for key in ("App.jpg", "Apple/1.jpg", "Apple/Red/2.jpg", "Apricot/3.jpg", "zero.jpg"):
        put(key)

    assert collect(prefix).keys == expected


@pytest.mark.usefixtures("folders")
def test_more_than_a_page_is_listed(moto_bucket: str) -> None:
    """Pages of 1,000 keys are followed, at the root, in a folder, and through either client."""
    parts = ("", "A/", "B//", "C/")
    keys = [f"{folder}{number:04}.jpg" for folder in parts for number in range(1203)]
    for key in keys:
        put_in_moto(key)

    assert collect().keys == sorted(keys)


def test_many_folders_are_not_a_request_each(
    moto_bucket: str, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests are for pages of keys and for spans: thousands of folders do not make thousands.

    Folders alone: 8. Spans of the other 1,992: 4 for each doubling, 25. Pages of folders: 2.
    """
    monkeypatch.setattr(spans, "ALONE", 8)
    monkeypatch.setattr(spans, "SHARE", 4)
    keys = [f"crate {number:04}/1.jpg" for number in range(2000)]
    for key in keys:
        put_in_moto(key)

    with Passing(moto) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint.url)
        listed = collect()

    assert listed.keys == keys
    assert len(endpoint.requests) < 50


def test_objects_between_folders_are_listed_once(
    moto_bucket: str, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span ends at its last folder, however many objects follow before the next folder."""
    monkeypatch.setattr(spans, "ALONE", 0)
    between = [f"between {number:04}.jpg" for number in range(5000)]
    keys = ["apple/1.jpg", "banana/1.jpg", *between, "cherry/1.jpg"]
    for key in keys:
        put_in_moto(key)

    with Passing(moto) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint.url)
        listed = collect()

    assert listed.keys == sorted(keys)
    of_apple = [one for one in endpoint.requests if "delimiter" not in one and "after" not in one]
    assert len(of_apple) == 1


def test_a_marker_of_each_folder_is_no_reason_to_list_a_span_again(
    moto_bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Consoles make an empty object for each folder: obstore lists a span of such folders alone."""
    monkeypatch.setattr(spans, "ALONE", 0)
    monkeypatch.setattr(spans, "SHARE", 1)
    for label in ("Apple", "Apple Red", "Banana"):
        put_in_moto(f"{label}/", b"")
        put_in_moto(f"{label}/1.jpg")
    caplog.set_level(logging.INFO, "fruits.listing")

    assert collect().keys == ["Apple Red/1.jpg", "Apple/1.jpg", "Banana/1.jpg"]
    assert "again" not in caplog.text


def test_keys_in_another_order_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a span ends is told by the order of keys: a bucket without it is not listed by half."""
    pages = [{"CommonPrefixes": [{"Prefix": "Banana/"}, {"Prefix": "Apple/"}]}]
    monkeypatch.setattr(listing, "_pages", lambda *_, **__: pages)
    monkeypatch.setattr(listing, "_list_span", lambda *_: None)

    with pytest.raises(ListingError, match="comes too late") as failure:
        collect()

    assert not failure.value.transient


@pytest.mark.parametrize("keys", [["b/2", "b/1"], ["a/1"], ["b/1", "b/1"]])
def test_a_span_in_another_order_is_an_error(keys: list[str]) -> None:
    """Keys that go back, come twice, or lie before the span's beginning."""
    rows = [{"image_key": key} for key in keys]
    batch = pa.RecordBatch.from_pylist(rows, schema=OBJECTS)

    with pytest.raises(UnsortedError):
        list(listing._within([batch], Span("", "a0", "z0")))


def test_a_missing_bucket_is_an_error(storage: ObjectStorage) -> None:
    """A listing that cannot be made raises; it never looks like an empty prefix."""
    with pytest.raises(ListingError) as failure:
        list_objects("no-such-bucket", "x/", Collected())

    assert failure.value.bucket == "no-such-bucket"
    assert not failure.value.transient
    assert "s3://no-such-bucket/x/" in str(failure.value)


@pytest.mark.parametrize("part", ["continuation-token", "prefix=Apple"])
def test_a_listing_that_breaks_off_is_an_error(
    moto_bucket: str, moto: str, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """When a later page or one of the folders cannot be read, the listing raises, it never ends."""
    for key in [f"{number:04}.jpg" for number in range(1203)] + ["Apple/1.jpg", "Pear/1.jpg"]:
        put_in_moto(key)
    with Passing(moto, but=part) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint.url)

        with pytest.raises(ListingError, match="before its end") as failure:
            collect()
        assert not failure.value.transient  # it is refused: no retry changes that
