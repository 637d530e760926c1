"""Between Airflow and AWS: proxies that let EMR and S3 fail, in AWS's own wire format.

The faults are microburst's: it knows each service's operations and errors from botocore's models,
and speaks JSON 1.1 and S3's XML. Its relay, however, rewrites the Host header and the path (no
signature survives that, and rclone checks them) and drops Content-Length (without which no S3
client knows an object's size). So requests are passed on here, as they came. Two faults come with
that: an answer that is lost after the request was carried out, and one that is held back.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterable, Iterable
from typing import Any, Self

import aiohttp
import yarl
from aiohttp import web
from microburst.app import make_app
from microburst.core.pipeline import Microburst
from microburst.forward import ResponseFault, Upstream

Rule = dict[str, Any]

# Of one connection, not of the request that it carries.
CONNECTION = frozenset({"connection", "keep-alive", "te", "trailers", "upgrade", "expect"})

START_PATIENCE = 30.0  # seconds

LOST = {"abort_bytes": 0}  # the request is carried out, its answer never arrives


def held(seconds: float) -> dict[str, float]:
    """Return the response fault that keeps an answer back for so long."""
    # Microburst has no such fault; of its bandwidth only the relay below makes use.
    return {"bandwidth_kbps": seconds}


def throttling(service: str, probability: float = 1.0, **when: Any) -> Rule:
    """Return the rule by which *service* (emr or s3) asks to be called less often."""
    code = {"emr": "ThrottlingException", "s3": "SlowDown"}[service]
    return _rule(service, probability, when) | {"error": {"code": code}}


def failing(service: str, probability: float = 1.0, **when: Any) -> Rule:
    """Return the rule by which *service* answers 500."""
    code = {"emr": "InternalServerError", "s3": "InternalError"}[service]
    return _rule(service, probability, when) | {"error": {"code": code, "status": 500}}


def resetting(service: str, probability: float = 1.0, **when: Any) -> Rule:
    """Return the rule by which connections to *service* break before it sees the request."""
    return _rule(service, probability, when) | {"reset": True}


def answering(service: str, fault: dict[str, Any], **when: Any) -> Rule:
    """Return the rule by which *service* does what is asked, and its answer meets *fault*."""
    return _rule(service, 1.0, when) | {"response": fault}


class FaultProxy:
    """A proxy in front of the endpoint *upstream*; without rules it changes nothing."""

    def __init__(self, upstream: str) -> None:
        self._microburst = Microburst(upstream, resign=False)
        self._microburst.upstream = FaithfulRelay(upstream, stats=self._microburst.stats)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._listening = threading.Event()
        self._port = 0

    @property
    def url(self) -> str:
        """The URL that clients take as their endpoint."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def fired(self) -> int:
        """How many requests met a fault so far."""
        return sum(self._microburst.fault_counts.values())

    def set_rules(self, rules: Iterable[Rule]) -> None:
        """Replace all rules; of several that match a request, the first takes it."""
        self._microburst.engine.set_rules(list(rules))

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(START_PATIENCE):
            raise RuntimeError("The proxy does not listen: its thread's traceback says why")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        # A client that was killed is part of the game.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
        runner = web.AppRunner(make_app(self._microburst), access_log=None)
        self._loop.run_until_complete(self._listen(runner))
        self._listening.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _listen(self, runner: web.AppRunner) -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1).start()
        self._port = runner.addresses[0][1]


class FaithfulRelay(Upstream):
    """Passes requests and answers on unchanged: path, headers, body."""

    async def start(self) -> None:
        """Open the way to the upstream: a connection per request, none goes stale."""
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def relay(
        self,
        request: web.Request,
        body: bytes | None,
        mutator: ResponseFault | None = None,
        data: bytes | AsyncIterable[bytes] | None = None,
    ) -> web.StreamResponse:
        """Answer *request* as the upstream does, or as *mutator* wants it."""
        assert self.session is not None
        url = yarl.URL(self.base_url + request.raw_path, encoded=True)
        sent = body if body is not None else request.content if request.can_read_body else None
        async with self.session.request(
            request.method, url, headers=_passed(request.headers), data=sent, allow_redirects=False
        ) as answer:
            if mutator and mutator.abort_bytes is not None:
                await answer.read()
                if request.transport:
                    request.transport.abort()
                return web.Response()  # never written: the socket is dead
            if mutator and mutator.bandwidth_kbps:
                await asyncio.sleep(mutator.bandwidth_kbps)
            response = web.StreamResponse(status=answer.status, headers=_passed(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def _passed(headers: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in CONNECTION]


def _rule(service: str, probability: float, when: dict[str, Any]) -> Rule:
    return {"service": service, "probability": probability, **when}
