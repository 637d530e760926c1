"""A proxy in front of an S3 that fails a share of the GETs, each in another way."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class FlakyProxy(ThreadingHTTPServer):
    """Passes requests on to *target*; GETs of *bucket*'s objects fail with probability *share*."""

    daemon_threads = True

    def __init__(self, target: str, bucket: str, share: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.bucket, self.share = urlsplit(target).netloc, bucket, share
        self.chance = random.Random(11)
        self.passed = self.failed = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet: clients that break off are part of the game."""

    def fails(self, method: str, path: str) -> bool:
        """Decide the fate of one request, and count it."""
        concerned = method == "GET" and path.startswith(f"/{self.bucket}/")
        fails = concerned and self.chance.random() < self.share
        self.failed += fails
        self.passed += concerned and not fails
        return fails


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyProxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fails = self.server.fails(self.command, self.path)
        way = self.server.chance.choice(["error", "slow down", "short"]) if fails else ""
        if way in ("error", "slow down"):
            self._answer(
                500 if way == "error" else 503, [], b"<Error><Code>SlowDown</Code></Error>"
            )
            return
        # The signature covers the Host header: it is passed on as it came.
        upstream = http.client.HTTPConnection(self.server.target)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        self._answer(answer.status, answer.getheaders(), content, cut=way == "short")
        upstream.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = dict(headers).get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815  (the server's names)

    def log_message(self, *arguments: object) -> None:
        """Stay quiet."""


@contextmanager
def flaky_s3(target: str, bucket: str, share: float) -> Iterator[FlakyProxy]:
    """Run the proxy; its address is `http://127.0.0.1:{proxy.server_port}`."""
    with FlakyProxy(target, bucket, share) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        yield proxy
        proxy.shutdown()
