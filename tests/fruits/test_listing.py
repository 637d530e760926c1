"""Listing: complete or an error, whatever the keys look like, in rclone's S3 and in moto's."""

from __future__ import annotations

import logging
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pyarrow as pa
import pytest
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from fruits.errors import ListingError
from fruits.listing import list_objects
from local_cloud.s3 import ObjectStorage
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
    """A sink that remembers keys by folder, so that what is listed twice shows."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[dict]]] = []
        self.lock = threading.Lock()

    def add(self, folder: str, batch: pa.RecordBatch) -> None:
        with self.lock:
            self.batches.append((folder, batch.to_pylist()))

    def forget(self, folder: str) -> None:
        with self.lock:
            self.batches = [entry for entry in self.batches if entry[0] != folder]

    @property
    def rows(self) -> list[dict]:
        return [row for _, rows in self.batches for row in rows]

    @property
    def keys(self) -> list[str]:
        return sorted(row["image_key"] for row in self.rows)


class Refusing:
    """An S3 endpoint that passes requests on, but answers 403 to those whose URL holds *part*."""

    def __init__(self, target: str, part: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if part in self.path:
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

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

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


def put_in_moto(key: str, content: bytes = b"x") -> None:
    # Not over HTTP: its server cannot route a PUT of a key with a newline.
    s3_backends[ACCOUNT]["aws"].put_object(BUCKET, key, content)


def collect(prefix: str = "") -> Collected:
    sink = Collected()
    list_objects(BUCKET, prefix, sink)
    return sink


def test_unusual_keys_are_listed_as_they_are(storage: ObjectStorage) -> None:
    """Spaces, accents, =, %, + and quotes come back raw, with size, time and unquoted etag."""
    for key in SPECIAL:
        put(key)

    listed = collect()

    assert {row["image_key"]: row["etag"] for row in listed.rows} == bucket_versions()
    assert listed.keys == sorted(SPECIAL)
    assert all(row["size_bytes"] > 0 and row["last_modified"].tzinfo for row in listed.rows)


def test_keys_that_obstore_refuses_are_listed_through_boto3(moto_bucket: str) -> None:
    """Newlines, empty segments and dots appear exactly once, and so do their plain neighbours."""
    for key in HOSTILE:
        put_in_moto(key)

    listed = collect()

    assert listed.keys == sorted(HOSTILE)
    assert all('"' not in row["etag"] for row in listed.rows)


def test_directory_markers_are_no_objects(moto_bucket: str) -> None:
    """A key that ends in a slash is left out, even one that is named like an image."""
    for key in ("Apple/", "Apple/1.jpg", "Apple/Red/", "Pear/2.jpg/", "Empty/"):
        put_in_moto(key, b"1" if key.endswith("1.jpg") else b"")

    assert collect().keys == ["Apple/1.jpg"]


def test_an_empty_image_is_an_object(moto_bucket: str) -> None:
    """A zero-byte image is listed: it is quarantined later, not overlooked."""
    put_in_moto("Apple/empty.jpg", b"")

    assert collect().keys == ["Apple/empty.jpg"]


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


def test_more_than_a_page_is_listed(moto_bucket: str) -> None:
    """Pages of 1,000 keys are followed, at the root, in a folder, and through either client."""
    keys = [f"{folder}{number:04}.jpg" for folder in ("", "A/", "B//") for number in range(1203)]
    for key in keys:
        put_in_moto(key)

    assert collect().keys == sorted(keys)


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
    with Refusing(moto, part) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)

        with pytest.raises(ListingError, match="before its end") as failure:
            collect()
        assert not failure.value.transient  # it is refused: no retry changes that
