"""From a frame to its handler, and from what the handler says to the answer.

A handler is `handle(broker, request, message)` and returns one of:

* a response message: it is the answer;
* `Encoded`: a response that somebody has encoded before, in the version of the request;
* an awaitable of one: the answer comes when it is done;
* `LATER`: somebody will call `request.reply(...)`;
* `None`: there is no answer, and the next one takes its place (produce with acks=0).

Each listener has its dispatcher: what clients may ask and what other nodes may ask are different routes. They
are all that is served there, hence all that ApiVersions advertises there. As in Kafka, a request
that cannot be answered in its own format (unknown API, unknown version, malformed body) closes its
connection. ApiVersions alone is answered in any version, for it is how a client finds out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import structlog

from streamkit.broker.server.controller.active_controller import NotControllerError
from streamkit.broker.server.likeness import Likeness
from streamkit.broker.server.refusals import refused
from streamkit.net.connection import SIZE, Connection, Exchange, FrameError
from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.codec import decode
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.framing import RequestHeader, decode_request, encode_response
from streamkit.protocol.messages.api_versions import ApiVersionsRequest
from streamkit.protocol.messages.produce import ProduceRequest
from streamkit.protocol.schema import Buffer, Message
from streamkit.telemetry.instruments import Registry

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

log = structlog.get_logger(__name__)


MAX_ELEMENTS = 20_000
"""Of all arrays in one request together: twice what a broker serves, and not long to go through."""
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
    by_controller: bool = False
    """Only the active controller can serve it. Clients may ask any broker, which passes it on."""
    advertised_if: Callable[[Any], bool] | None = None
    """Whether this broker tells clients of it at the moment; served it is in any case."""


class InnerRequest(msgspec.Struct, frozen=True, gc=False):
    """A request without a connection: one of this node's own, or one that another broker passed on."""

    header: RequestHeader
    listener: str = ""
    client_host: str = ""

    @property
    def version(self) -> int:
        return self.header.api_version


class RequestContext(Exchange):
    """A request while it is served: its header, where it came from, and the way back."""

    __slots__ = ("_handled_s", "_received_s", "header", "served", "version")

    def __init__(self, connection: Connection, size: int, header: RequestHeader, served: ServedApi) -> None:
        super().__init__(connection, size)
        self.header = header
        self.version = header.api_version
        """The version of the answer."""
        self.pipelined = served.pipelined
        self.served = served
        self._received_s = served.clock_s()
        self._handled_s = 0.0

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
        try:
            frame = self._frame(message)
        except Exception:
            self.failed()
            return
        self.reply_with(frame)

    def reply_with(self, frame: Sequence[Buffer]) -> None:
        """Answer with a whole frame, which somebody has made already."""
        if self.answer is not None:
            return
        self.send(frame)
        served = self.served
        served.inflight.count -= 1
        now_s = served.clock_s()
        served.duration.observe(now_s - self._received_s)
        if self._handled_s:
            served.wait.observe(now_s - self._handled_s)

    def handled(self) -> None:
        """The handler has returned; if it has not answered, the request waits from here on."""
        self._handled_s = now_s = self.served.clock_s()
        self.served.handling.observe(now_s - self._received_s)

    def failed(self) -> None:
        """To be called on an exception that nobody expected: this connection pays for it, and no other."""
        log.exception("request failed", api=self.served.route.api.name, peer=self.client_host)
        self.close("internal_error")

    def abandon(self) -> None:
        super().abandon()
        self.served.inflight.count -= 1

    def close(self, reason: str, detail: str = "") -> None:
        """Give up on the whole connection: the only way to tell a client that expects no answer."""
        self.connection.close(reason, detail)

    def _frame(self, message: Answer) -> Sequence[Buffer]:
        if message is None:
            return ()
        if isinstance(message, Encoded):
            return [self._header_before(message.body), message.body]
        return encode_response(self.header.correlation_id, message, self.version)

    def _header_before(self, body: bytes) -> bytes:
        key = self.header.api_key
        has_tags = self.version in APIS[key].response.FLEXIBLE and key != ApiKey.API_VERSIONS
        tags = b"\0" if has_tags else b""
        return RESPONSE_START.pack(4 + len(tags) + len(body), self.header.correlation_id) + tags


class Inflight:
    """How many requests are being served."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class ServedApi:
    """What serving a request of one API needs, found once."""

    __slots__ = (
        "clock_s", "duration", "first", "handle", "handling", "inflight", "last", "pipelined", "request",
        "route", "wait",
    )  # fmt: skip

    def __init__(self, route: Route, clock_s: Callable[[], float], metrics: Metrics) -> None:
        self.route = route
        self.handle = route.handle
        self.pipelined = route.pipelined
        self.first, self.last = route.min_version, route.max_version
        self.request = APIS[route.api].request
        self.clock_s = clock_s
        self.inflight = metrics.inflight
        self.duration = metrics.duration.labels(route.api.name)
        self.handling = metrics.phase.labels(route.api.name, "handle")
        self.wait = metrics.phase.labels(route.api.name, "wait")


class Metrics:
    """What all dispatchers of a node count together."""

    def __init__(self, registry: Registry) -> None:
        self.inflight = inflight = Inflight()
        self.duration = registry.histogram(
            "request_duration_seconds", "From a request's frame to its answer", ("api",)
        )
        self.phase = registry.histogram(
            "request_phase_seconds", "Parts of that: handled at once, then waiting", ("api", "phase")
        )
        gauge = registry.gauge("inflight_requests", "Requests received and not answered").labels()

        def set_inflight() -> None:
            gauge.value = inflight.count

        registry.on_scrape.append(set_inflight)


class Dispatcher:
    """The routes of one kind of listener, and `serve`, which these listeners call with each frame."""

    def __init__(self, broker: Broker, routes: Iterable[Route], metrics: Metrics) -> None:
        self.routes = {int(route.api): route for route in routes}
        self._broker = broker
        self._inflight = metrics.inflight
        clock_s = broker.clock.monotonic_s
        self._served = {key: ServedApi(route, clock_s, metrics) for key, route in self.routes.items()}

    def serve(self, connection: Connection, frame: memoryview) -> RequestContext:
        try:
            likeness: Likeness | None = connection.likeness
            known = None if likeness is None else likeness.read(frame)
            if known is None:
                request, message = self._decoded(connection, frame)
            else:
                header, message = known
                served = self._served[header.api_key]
                request = RequestContext(connection, len(frame) + SIZE.size, header, served)
        except MalformedMessageError as error:
            raise FrameError(error.message) from None
        self._inflight.count += 1
        try:
            answer = request.served.handle(self._broker, request, message)
        except NotControllerError as error:
            answer = refused(message, ErrorCode.NOT_CONTROLLER, error.message)
        except Exception:
            request.failed()
            return request
        if answer is not LATER:
            self._answer(request, message, answer)
        request.handled()
        return request

    def _decoded(self, connection: Connection, frame: memoryview) -> tuple[RequestContext, Message]:
        header, body = decode_request(frame)
        served = self._served.get(header.api_key)
        if served is None:
            raise FrameError(f"API {header.api_key} is not served here", reason="unknown_api")
        request = RequestContext(connection, len(frame) + SIZE.size, header, served)
        if served.first <= header.api_version <= served.last:
            message = decode(served.request, body, header.api_version, 0, MAX_ELEMENTS)
            if isinstance(message, ProduceRequest):
                if connection.likeness is None:
                    connection.likeness = Likeness()
                connection.likeness.learn(frame, header, message)
        elif header.api_key == ApiKey.API_VERSIONS:
            # The one request that is answered in a version that we do speak: 0, with error 35.
            message, request.version = ApiVersionsRequest(), 0
        else:
            raise FrameError(
                f"{served.route.api.name} is not served in version {header.api_version}",
                reason="unsupported_version",
            )
        return request, message

    async def perform(self, request: InnerRequest, message: Message) -> Message:
        """Serve a request that has no connection; raises what its handler raises."""
        answer = self._served[message.KEY].handle(self._broker, request, message)
        if isinstance(answer, Awaitable):
            answer = await answer
        assert isinstance(answer, Message), (
            "only what is answered by a message is served to nobody's connection"
        )
        return answer

    def _answer(
        self, request: RequestContext, message: Message, answer: Answer | Awaitable[Answer] | Later
    ) -> None:
        if answer is None or isinstance(answer, Message | Encoded):
            request.reply(answer)
        elif not isinstance(answer, Later):
            self._broker.spawn.start(reply_when_done(request, answer, message), name="request")


async def reply_when_done(
    request: RequestContext, answer: Awaitable[Answer], message: Message | None = None
) -> None:
    """Reply with `answer`; where it turns out that another node decides, what `message` asked is refused."""
    try:
        response = await answer
    except Exception as error:
        if message is not None and isinstance(error, NotControllerError):
            request.reply(refused(message, ErrorCode.NOT_CONTROLLER, error.message))
            return
        request.failed()
        return
    request.reply(response)
