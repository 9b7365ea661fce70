"""What a process shows to the outside over HTTP: /metrics, /healthz, /readyz, and rooms of its own.

The server runs in threads of its own, so that rendering thousands of series never delays the event loop.
The loop is asked only for what it alone can know: `Registry.on_scrape` callbacks and readiness run on it,
and /healthz *is* that round trip: a loop that does not answer within the deadline is not alive, however
well this thread feels.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from typing import Any, Self, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from streamkit.errors import RefusedError
from streamkit.telemetry.instruments import Counter, Family, Gauge, Histogram, Registry

LOOP_DEADLINE_S = 2.0
SOCKET_DEADLINE_S = 10.0
POLL_S = 0.1  # how long `close` may take
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"

T = TypeVar("T")
Reply = tuple[int, str, bytes]  # status, content type, body
Room = Callable[[str, Mapping[str, str]], Reply]  # of what was asked for and with which headers


class RegistryCollector(Collector):
    """Prometheus families from the plain numbers of a `Registry`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def describe(self) -> Iterable[Metric]:
        return []  # families come and go with their first use; nothing to check names against

    def collect(self) -> Iterator[Metric]:
        for family in list(self._registry.families.values()):
            yield _metric(family)


def _metric(family: Family[Counter] | Family[Gauge] | Family[Histogram]) -> Metric:
    children = list(family.children.items())  # one atomic copy: the loop may add a child meanwhile
    names = family.label_names
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=names)
        for labels, child in children:
            assert isinstance(child, Histogram)
            histogram.add_metric(labels, _buckets(child), child.total)
        return histogram
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = make(family.name, family.help, labels=names)
    for labels, child in children:
        assert isinstance(child, Counter | Gauge)
        metric.add_metric(labels, child.value)
    return metric


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


class TelemetryServer:
    """Serves one process's telemetry at `host:port` (0 = any free one; see `port`) until `close()`.

    Make it on the running event loop. `readiness` runs on that loop and answers why this process cannot
    do its work yet, a sentence each; nothing = ready. `listening`: a socket that a parent process holds
    for us at that address. `rooms` answer all below their paths, in threads of the server; `readiness` and
    rooms may change while it serves.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        host: str,
        port: int,
        readiness: Callable[[], Iterable[str]] = tuple,
        listening: socket.socket | None = None,
    ) -> None:
        self._registry = registry
        self.readiness = readiness
        self.rooms: dict[str, Room] = {}
        self._loop = asyncio.get_running_loop()
        self._collectors = CollectorRegistry()
        self._collectors.register(RegistryCollector(registry))
        ProcessCollector(registry=self._collectors)
        try:
            self._http = _HttpServer((host, port), _handler_for(self), listening)
        except OSError as error:
            raise RefusedError(
                f"cannot serve metrics at {host}:{port}: {error.strerror or error}",
                hint="choose another address with --http HOST:PORT (or --sd)",
            ) from error
        self.host = host
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(POLL_S,), name="telemetry", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def close(self) -> None:
        """Free the port. Blocks for at most one polling interval of the server thread."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reply(self, target: str, headers: Mapping[str, str]) -> Reply:
        """The answer to a GET."""
        path = target.partition("?")[0]
        try:
            for prefix, room in self.rooms.items():
                if path.startswith(prefix):
                    return room(target, headers)
            if path == "/metrics":
                return self._metrics(headers.get("Accept", ""))
            if path == "/healthz":
                self._on_loop(lambda: None)
                return 200, TEXT, b"ok\n"
            if path == "/readyz":
                return self._ready()
        except TimeoutError:
            return 503, TEXT, b"the event loop does not answer\n"
        known = " ".join(["/metrics", "/healthz", "/readyz", *self.rooms])
        return 404, TEXT, known.encode() + b"\n"

    def _metrics(self, accept: str) -> Reply:
        self._on_loop(self._prepare)
        encode, content_type = choose_encoder(accept)
        return 200, content_type, encode(self._collectors)

    def _prepare(self) -> None:
        for callback in self._registry.on_scrape:
            callback()

    def _ready(self) -> Reply:
        reasons = self._on_loop(lambda: list(self.readiness()))
        body = json.dumps({"ready": not reasons, "reasons": reasons}).encode() + b"\n"
        return 503 if reasons else 200, JSON, body

    def _on_loop(self, call: Callable[[], T]) -> T:
        """`call()` on the event loop; TimeoutError when the loop is closed or too busy to run it."""
        answer: Future[T] = Future()

        def run() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(call())
            except Exception as error:
                answer.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:
            raise TimeoutError from None
        try:
            return answer.result(LOOP_DEADLINE_S)
        except TimeoutError:
            answer.cancel()
            raise


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        listening: socket.socket | None,
    ) -> None:
        super().__init__(address, handler, bind_and_activate=listening is None)
        if listening is not None:
            self.socket.close()
            self.socket = listening
            self.server_address = listening.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that hangs up in the middle is its own business."""


def _handler_for(server: TelemetryServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = SOCKET_DEADLINE_S
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                status, content_type, body = server.reply(self.path, dict(self.headers))
            except Exception as error:  # a failing on_scrape callback must be visible to the scraper
                status, content_type, body = 500, TEXT, f"{type(error).__name__}: {error}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            if status == 503:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Scrapes are not news."""

    return Handler
