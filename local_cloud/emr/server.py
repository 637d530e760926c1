"""The EMR endpoint: HTTP in front, the control plane behind, a journal of both."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from local_cloud.addresses import LOOPBACK, reached_at
from local_cloud.emr import protocol
from local_cloud.emr.actions import ACTIONS
from local_cloud.emr.control import ControlPlane
from local_cloud.emr.errors import EmrError
from local_cloud.emr.journal import Journal
from local_cloud.emr.objects import Objects
from local_cloud.emr.protocol import Call
from local_cloud.emr.site import Site
from local_cloud.emr.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Response:
    """What goes back over HTTP."""

    status: int
    body: bytes


class EmrEndpoint:
    """EMR over *folder*: its state, journal and logs; use it as a context manager.

    *buckets* is the folder that S3 serves, *services* the environment in which programs on the
    nodes find S3 and Java (AWS_ENDPOINT_URL_S3, keys, AWS_REGION, JAVA_HOME), *bind* the address it
    listens on. OSError when *port* is taken; 0 takes any.
    """

    def __init__(
        self,
        folder: Path,
        buckets: Path,
        services: dict[str, str],
        port: int = 0,
        clock: Callable[[], float] = time.time,
        *,
        bind: str = LOOPBACK,
    ) -> None:
        self.journal = Journal(folder, clock)
        self._bind = bind
        self._server = _Server((bind, port), self.answer, clock)
        services = services | {"AWS_ENDPOINT_URL_EMR": self.endpoint_url}
        site = Site(Store(folder), self.journal, Objects(services), buckets, services)
        self.plane = ControlPlane(site, clock)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return self._server.server_port

    @property
    def endpoint_url(self) -> str:
        """The URL that clients on this machine take as their EMR endpoint."""
        return f"http://{reached_at(self._bind)}:{self.port}"

    def start(self) -> Self:
        """Take up the clusters of an earlier endpoint and begin to answer."""
        self.plane.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering and end the processes of living clusters; their records stay."""
        self._server.shutdown()
        self._server.server_close()
        self.plane.stop()

    def answer(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer one request and write it, with its answer, to the journal."""
        entry: dict[str, Any] = {"action": headers.get("X-Amz-Target")}
        agent = headers.get("User-Agent")
        try:
            answer = self._carry_out(headers, body, entry)
            content = protocol.serialize(entry["action"], answer)
        except EmrError as error:
            return self._refuse(entry, error, agent)
        except Exception as error:
            log.exception("The EMR endpoint failed in %s", entry["action"])
            return self._refuse(entry, EmrError(f"{type(error).__name__}: {error}"), agent)
        self._note(entry, agent, answer=answer)
        return Response(200, content)

    def _carry_out(
        self, headers: Mapping[str, str], body: bytes, entry: dict[str, Any]
    ) -> dict[str, Any]:
        entry["action"] = protocol.action_of(headers)
        entry["region"] = protocol.region_of(headers)
        entry["parameters"] = protocol.parse(body)
        protocol.check(entry["action"], entry["parameters"])
        with self.plane.lock:
            return ACTIONS[entry["action"]](Call(**entry), self.plane)

    def _refuse(self, entry: dict[str, Any], error: EmrError, agent: str | None) -> Response:
        told = {"code": error.code, "message": error.message}
        self._note(entry, agent, error=told)
        return Response(error.status, protocol.error_body(error))

    def _note(self, entry: Mapping[str, Any], agent: str | None, **told: Any) -> None:
        """Write the call down, unless the disk is full: whoever called is answered all the same."""
        with suppress(OSError):
            self.journal.write("call", **entry, agent=agent, **told)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[Mapping[str, str], bytes], Response],
        clock: Callable[[], float],
    ) -> None:
        self.answer = answer
        self.clock = clock
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: two would wait for a delayed ACK
    server: _Server

    def do_GET(self) -> None:
        """Say that the endpoint is there (a health check; EMR has no GET)."""
        self._send(Response(200, b'{"status": "ok"}'))

    def do_POST(self) -> None:
        """Answer an action."""
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.title(): value for name, value in self.headers.items()}
        self._send(self.server.answer(headers, self.rfile.read(length)))

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the Date header: by the clock that gives clusters their times, as on EMR."""
        return super().date_time_string(self.server.clock() if timestamp is None else timestamp)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the journal has every call."""

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)
        self.wfile.flush()
