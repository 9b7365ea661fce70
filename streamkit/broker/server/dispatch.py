"""From a frame to its handler, and from what the handler says to the answer.

A handler is `handle(broker, request, message)` and returns one of:

* a response message: it is the answer;
* `Encoded`: a response that somebody has encoded before, in the version of the request;
* an awaitable of one: the answer comes when it is done;
* `LATER`: somebody will call `request.reply(...)`;
* `None`: there is no answer, and the next one takes its place (produce with acks=0).

The routes are all that the broker serves, hence all that ApiVersions advertises. As in Kafka, a request
that cannot be answered in its own format (unknown API, unknown version, malformed body) closes its
connection. ApiVersions alone is answered in any version, for it is how a client finds out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import structlog

from streamkit.net.connection import SIZE, Connection, Exchange, FrameError
from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.codec import decode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.framing import RequestHeader, decode_request, encode_response
from streamkit.protocol.messages.api_versions import ApiVersionsRequest
from streamkit.protocol.schema import Message
from streamkit.telemetry.instruments import Histogram, Registry

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

log = structlog.get_logger(__name__)


RESPONSE_START = Struct(">ii")


class Later:
    """The type of `LATER`."""


LATER: Final = Later()


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """The bytes of a response in the request's version, without any header."""

    body: bytes


Answer: TypeAlias = Message | Encoded | None
Handle: TypeAlias = Callable[[Any, Any, Any], Answer | Awaitable[Answer] | Later]


class Route(msgspec.Struct, frozen=True):
    """An API, the versions in which it is served, and by whom.

    Requests of a `pipelined` route are served while earlier ones still wait for their answer.
    `advertised_from` is told to clients in place of `min_version` (older ones are refused all the same).
    """

    api: ApiKey
    min_version: int
    max_version: int
    handle: Handle
    pipelined: bool = False
    advertised_from: int | None = None


class RequestContext(Exchange):
    """A request while it is served: its header, where it came from, and the way back."""

    __slots__ = ("_metrics", "_received_s", "header", "version")

    def __init__(
        self,
        connection: Connection,
        size: int,
        *,
        header: RequestHeader,
        version: int,
        metrics: ApiMetrics,
        received_s: float,
    ) -> None:
        super().__init__(connection, size)
        self.header = header
        self.version = version
        """The version of the answer."""
        self._received_s = received_s
        self._metrics = metrics

    @property
    def listener(self) -> str:
        return self.connection.listener.name

    @property
    def client_host(self) -> str:
        return self.connection.peer_host

    def reply(self, message: Answer) -> None:
        """Answer with `message`; None is no answer, and lets the next one take its place."""
        if self.answer is not None:
            return
        if message is None:
            self.send(())
        elif isinstance(message, Encoded):
            self.send([self._header_before(message.body), message.body])
        else:
            self.send(encode_response(self.header.correlation_id, message, self.version))
        self._metrics.answered(self._received_s)

    def _header_before(self, body: bytes) -> bytes:
        key = self.header.api_key
        has_tags = self.version in APIS[key].response.FLEXIBLE and key != ApiKey.API_VERSIONS
        tags = b"\0" if has_tags else b""
        return RESPONSE_START.pack(4 + len(tags) + len(body), self.header.correlation_id) + tags

    def abandon(self) -> None:
        super().abandon()
        self._metrics.abandoned()

    def close(self, reason: str, detail: str = "") -> None:
        """Give up on the whole connection: the only way to tell a client that expects no answer."""
        self.connection.close(reason, detail)


class ApiMetrics:
    """The instruments of one API, found once."""

    __slots__ = ("_clock_s", "_duration", "_handle", "_inflight")

    def __init__(
        self, clock_s: Callable[[], float], duration: Histogram, handle: Histogram, inflight: Inflight
    ) -> None:
        self._clock_s = clock_s
        self._duration = duration
        self._handle = handle
        self._inflight = inflight

    def handled(self, received_s: float) -> None:
        self._handle.observe(self._clock_s() - received_s)

    def answered(self, received_s: float) -> None:
        self._duration.observe(self._clock_s() - received_s)
        self._inflight.count -= 1

    def abandoned(self) -> None:
        self._inflight.count -= 1


class Inflight:
    """How many requests are being served."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Dispatcher:
    """All routes of a broker, and `serve`, which the listeners call with each frame."""

    def __init__(self, broker: Broker, routes: Iterable[Route]) -> None:
        self.routes = {int(route.api): route for route in routes}
        self._broker = broker
        self._clock_s = broker.clock.monotonic_s
        self._inflight = Inflight()
        self._metrics = self._declare_metrics(broker.metrics)

    def serve(self, connection: Connection, frame: memoryview) -> RequestContext:
        received_s = self._clock_s()
        try:
            header, body = decode_request(frame)
            route = self._route(header)
            version = header.api_version
            if route.min_version <= version <= route.max_version:
                message = decode(APIS[header.api_key].request, body, version)
            else:
                # The one request that is answered in a version that we do speak: 0, with error 35.
                message, version = ApiVersionsRequest(), 0
        except MalformedMessageError as error:
            raise FrameError(error.message) from None
        metrics = self._metrics[header.api_key]
        request = RequestContext(
            connection,
            len(frame) + SIZE.size,
            header=header,
            version=version,
            metrics=metrics,
            received_s=received_s,
        )
        request.pipelined = route.pipelined
        self._inflight.count += 1
        self._handle(route, request, message)
        metrics.handled(received_s)
        return request

    def _route(self, header: RequestHeader) -> Route:
        route = self.routes.get(header.api_key)
        if route is None:
            raise FrameError(f"API {header.api_key} is not served here", reason="unknown_api")
        version = header.api_version
        if not route.min_version <= version <= route.max_version and route.api != ApiKey.API_VERSIONS:
            raise FrameError(
                f"{route.api.name} is not served in version {version}", reason="unsupported_version"
            )
        return route

    def _handle(self, route: Route, request: RequestContext, message: Message) -> None:
        try:
            answer = route.handle(self._broker, request, message)
        except Exception:
            log.exception("request failed", api=route.api.name, peer=request.client_host)
            request.close("internal_error")
            return
        if answer is None or isinstance(answer, Message | Encoded):
            request.reply(answer)
        elif not isinstance(answer, Later):
            self._broker.spawn.start(self._reply_when_done(route, request, answer), name=route.api.name)

    async def _reply_when_done(
        self, route: Route, request: RequestContext, answer: Awaitable[Answer]
    ) -> None:
        try:
            message = await answer
        except Exception:
            log.exception("request failed", api=route.api.name, peer=request.client_host)
            request.close("internal_error")
            return
        request.reply(message)

    def _declare_metrics(self, registry: Registry) -> dict[int, ApiMetrics]:
        duration = registry.histogram(
            "request_duration_seconds", "From a request's frame to its answer", labels=("api",)
        )
        phase = registry.histogram(
            "request_phase_seconds", "Parts of a request: handling it before it waits", ("api", "phase")
        )
        inflight = registry.gauge("inflight_requests", "Requests received and not answered").labels()

        def set_inflight() -> None:
            inflight.value = self._inflight.count

        registry.on_scrape.append(set_inflight)
        return {
            key: ApiMetrics(
                self._clock_s,
                duration.labels(route.api.name),
                phase.labels(route.api.name, "handle"),
                self._inflight,
            )
            for key, route in self.routes.items()
        }
