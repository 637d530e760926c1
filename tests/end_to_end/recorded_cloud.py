"""A local cloud that remembers every request, by who made it: Airflow's side, or a node's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from aiohttp import web
from microburst.forward import ResponseFault

from local_cloud.cloud import LocalCloud
from local_cloud.emr.server import EmrEndpoint
from tests.chaos.faults import FaithfulRelay, FaultProxy


@dataclass(frozen=True)
class Seen:
    """One request: HTTP's method, path and query, and for EMR the operation with its input."""

    method: str
    path: str
    operation: str = ""
    given: str = "{}"


class Recorder(FaultProxy):
    """A proxy that changes nothing and notes what passes."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.seen: set[Seen] = set()
        stats = self._microburst.stats
        self._microburst.upstream = RecordingRelay(upstream, stats=stats, seen=self.seen)


class RecordingRelay(FaithfulRelay):
    """Notes each request before it passes it on."""

    def __init__(self, upstream: str, *, seen: set[Seen], **more: Any) -> None:
        super().__init__(upstream, **more)
        self._seen = seen

    async def relay(
        self,
        request: web.Request,
        body: bytes | None,
        mutator: ResponseFault | None = None,
        data: bytes | AsyncIterable[bytes] | None = None,
    ) -> web.StreamResponse:
        """Note the request and answer it as the upstream does."""
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if operation and body is None:
            body = await request.read()
        given = (body or b"{}").decode() if operation else "{}"
        self._seen.add(Seen(request.method, request.raw_path, operation, given))
        return await super().relay(request, body, mutator, data)


class RecordedCloud(LocalCloud):
    """A cloud whose nodes and whose other clients reach S3 and EMR through recorders."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._recorders = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        self.s3 = self._recorders.enter_context(Recorder(self.storage.endpoint_url))
        self.requests = self._recorders.enter_context(Recorder(self.emr.endpoint_url))
        return self

    def __exit__(self, *_: object) -> None:
        self._recorders.close()
        self.stop()

    def recorded_environment(self) -> dict[str, str]:
        """Return the environment of clients that are to be recorded as Airflow."""
        return self.environment() | {
            "AWS_ENDPOINT_URL_S3": self.s3.url,
            "PYICEBERG_CATALOG__FRUITS__S3__ENDPOINT": self.s3.url,
            "AWS_ENDPOINT_URL_EMR": self.requests.url,
        }

    def _start_emr(self, port: int) -> EmrEndpoint:
        self.nodes = self._recorders.enter_context(Recorder(self.storage.endpoint_url))
        return super()._start_emr(port)

    def _services(self) -> dict[str, str]:
        # Asked for by the endpoint, which hands them to its nodes.
        return super()._services() | {"AWS_ENDPOINT_URL_S3": self.nodes.url}

    def environment(self) -> dict[str, str]:
        """Return the environment of clients that are not recorded."""
        return super().environment() | {"AWS_ENDPOINT_URL_S3": self.storage.endpoint_url}


def s3_calls(seen: set[Seen]) -> Iterator[tuple[str, str, str]]:
    """Yield (IAM action, bucket, key) of each S3 request; the key of a whole bucket is ''."""
    for one in seen:
        url = urlsplit(one.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        yield _s3_action(one.method, key, parse_qs(url.query, keep_blank_values=True)), bucket, key


def _s3_action(method: str, key: str, query: dict[str, list[str]]) -> str:
    if not key:
        # Deleting many is a POST to the bucket, allowed or not for each key by itself.
        return {"GET": "s3:ListBucket", "HEAD": "s3:ListBucket", "POST": "s3:DeleteObject"}[method]
    if method == "DELETE":
        return "s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject"
    return {"GET": "s3:GetObject", "HEAD": "s3:GetObject"}.get(method, "s3:PutObject")


def emr_calls(seen: set[Seen]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (operation, input) of each EMR request."""
    for one in seen:
        yield one.operation, json.loads(one.given)
