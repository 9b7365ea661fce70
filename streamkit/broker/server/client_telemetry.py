"""Metrics that clients push to this broker (KIP-714): asked for by its subscriptions, shown beside its own.

The subscriptions are configurations of the cluster, so every broker has the same. While there is none the two
APIs are served but not advertised, so that clients do not ask in vain; a client that connected before the
first subscription takes part from its next connection on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

import msgspec
import structlog

from streamkit.broker.client_metrics.client_match import Attribute, Attributes, IllegalMatchError
from streamkit.broker.client_metrics.instances import ClientInstances, Subscription
from streamkit.broker.client_metrics.otlp import read_points
from streamkit.broker.client_metrics.series import Client, PushedSeries
from streamkit.broker.client_metrics_config import ClientMetricsConfig
from streamkit.broker.config_key import InvalidValueError
from streamkit.broker.controller.image import ConfigResource, MetadataChanges, MetadataImage, ResourceType
from streamkit.broker.controller.uuids import UuidSource
from streamkit.broker.server.timers import Timers
from streamkit.broker.storage.identity import encode_uuid
from streamkit.net.connection import Connection
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)
from streamkit.protocol.messages.push_telemetry import PushTelemetryRequest
from streamkit.protocol.records.compression import Codec, decompress
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.rng import Rng
from streamkit.telemetry.instruments import Registry

log = structlog.get_logger(__name__)

EXPIRE_MS: Final = 5_000
MAX_DECODED_BYTES: Final = 2 << 20
MAX_POINTS: Final = 5_000
"""Of one push."""
POINTS_PER_TURN: Final = 100


class ClientSoftware(msgspec.Struct, frozen=True):
    """What the client said in ApiVersions of itself; kept as the state of its connection."""

    name: str
    version: str


class ClientTelemetry:
    def __init__(self, *, max_bytes: int, clock: Clock, rng: Rng, timers: Timers, metrics: Registry) -> None:
        self.instances = ClientInstances(
            max_bytes=max_bytes, fresh_id=UuidSource(rng, "client-instances").fresh, on_gone=self._gone
        )
        self._clock = clock
        self._clients: dict[bytes, Client] = {}
        self._series = PushedSeries(metrics)
        self._declare_metrics(metrics)
        timers.every(EXPIRE_MS, lambda: self.instances.expire(clock.monotonic_ms()))

    @property
    def is_wanted(self) -> bool:
        """Whether there is a subscription."""
        return bool(self.instances.subscriptions)

    # -- subscriptions ---------------------------------------------------------------------------------------

    def begin(self, image: MetadataImage) -> None:
        self._subscribe(image, image.configs)

    def apply(self, image: MetadataImage, changes: MetadataChanges) -> None:
        self._subscribe(image, changes.configs)

    def _subscribe(self, image: MetadataImage, resources: Iterable[ConfigResource]) -> None:
        changed = {
            resource.name: _subscription(image, resource)
            for resource in resources
            if resource.type == ResourceType.CLIENT_METRICS
        }
        if changed:
            self.instances.subscribe(changed)

    # -- what clients ask ------------------------------------------------------------------------------------

    def asked(
        self, request: GetTelemetrySubscriptionsRequest, connection: Connection, client_id: str | None
    ) -> GetTelemetrySubscriptionsResponse:
        return self.instances.asked(
            request, self._introduced(connection, client_id), self._clock.monotonic_ms()
        )

    async def pushed(
        self, request: PushTelemetryRequest, connection: Connection, client_id: str | None
    ) -> ErrorCode:
        code = self.instances.pushes(
            request, self._introduced(connection, client_id), self._clock.monotonic_ms()
        )
        if code is ErrorCode.NONE and request.metrics:
            try:
                await self._take(request)
            except MalformedMessageError as error:
                log.warning("pushed metrics cannot be read", peer=connection.peer_host, reason=error.message)
                self.instances.unreadable(request.client_instance_id)
                code = ErrorCode.INVALID_RECORD
        self._pushes.labels(code.name).value += 1
        return code

    async def _take(self, request: PushTelemetryRequest) -> None:
        """All that a push says, in slices; raises MalformedMessageError, where what came before counts."""
        data = decompress(Codec(request.compression_type), request.metrics, MAX_DECODED_BYTES)
        points = read_points(data)
        for _ in range(0, MAX_POINTS, POINTS_PER_TURN):
            slice_of_points = list(islice(points, POINTS_PER_TURN))
            client = self._clients.get(request.client_instance_id)
            if client is None or not slice_of_points:
                return
            for point in slice_of_points:
                if point is None or not self._series.take(client, point):
                    self._left_out.value += 1
            await asyncio.sleep(0)
        self._left_out.value += sum(1 for _ in points)

    def _introduced(self, connection: Connection, client_id: str | None) -> Callable[[bytes], Attributes]:
        """Take the client of this connection in: known as long as the connection lasts."""

        def introduce(instance_id: bytes) -> Attributes:
            text = encode_uuid(instance_id)
            self._clients[instance_id] = Client(client_id or "", text)
            connection.when_lost("client telemetry", lambda: self.instances.forget(instance_id))
            known = {
                Attribute.INSTANCE_ID: text,
                Attribute.SOURCE_ADDRESS: connection.peer_host,
                Attribute.SOURCE_PORT: str(connection.peer_port),
            }
            if client_id is not None:
                known[Attribute.CLIENT_ID] = client_id
            if isinstance(connection.state, ClientSoftware):
                known[Attribute.SOFTWARE_NAME] = connection.state.name
                known[Attribute.SOFTWARE_VERSION] = connection.state.version
            return known

        return introduce

    def _gone(self, instance_id: bytes) -> None:
        client = self._clients.pop(instance_id, None)
        if client is not None:
            self._series.forget(client)

    def _declare_metrics(self, metrics: Registry) -> None:
        self._pushes = metrics.counter("telemetry_pushes_total", "Pushes of clients' metrics", ("error",))
        self._left_out = metrics.counter(
            "telemetry_left_out_total", "Pushed numbers that are beyond the bounds or of a kind not read"
        ).labels()
        instances = metrics.gauge("telemetry_instances", "Clients that push metrics").labels()
        series = metrics.gauge("telemetry_series", "Series of clients' metrics").labels()

        def observe() -> None:
            instances.value = len(self.instances.known)
            series.value = self._series.count

        metrics.on_scrape.append(observe)


def _subscription(image: MetadataImage, resource: ConfigResource) -> Subscription | None:
    texts = image.config(resource)
    if not texts:
        return None
    try:
        return Subscription.of(ClientMetricsConfig.given(texts))
    except (InvalidValueError, IllegalMatchError) as error:
        log.error("subscription of client metrics is not heeded", name=resource.name, reason=str(error))
        return None
