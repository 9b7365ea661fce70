"""The clients that push metrics, as one broker knows them: what each is asked for, and when it may push.

    GetTelemetrySubscriptions ──► subscription id, interval ──► PushTelemetry, once an interval ──► …

An instance is a client process; it keeps the id that some broker gave it, and tells it to every broker that
it asks. A broker remembers instances in memory alone: one that it does not know is taken in again. What an
instance is asked for is the sum of the subscriptions that fit it, and has an id that follows from it; a push
under another id is refused, so a client learns that it is asked for something else. Whoever comes earlier
than the interval says is told to wait, but a push right after its subscription is always taken: clients
spread their first pushes over the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from streamkit.broker.client_metrics.client_match import Attributes, ClientMatch
from streamkit.broker.client_metrics_config import ALL_METRICS, ClientMetricsConfig
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)
from streamkit.protocol.messages.push_telemetry import PushTelemetryRequest
from streamkit.protocol.records.compression import Codec
from streamkit.protocol.records.crc import crc32c
from streamkit.protocol.schema import ZERO_UUID

RESERVED_IDS: Final = frozenset((ZERO_UUID, bytes(15) + b"\x01"))
CODECS: Final = frozenset(int(codec) for codec in Codec)
ACCEPTED_CODECS: Final = (Codec.ZSTD, Codec.LZ4, Codec.GZIP, Codec.SNAPPY)
"""In the order in which clients should prefer them."""
MAX_INSTANCES: Final = 16_384
LEAST_EXPIRY_MS: Final = 60_000
INTERVALS_TO_EXPIRY: Final = 3
NEVER_MS: Final = -(2**62)


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    metrics: frozenset[str]
    interval_ms: int
    match: ClientMatch

    @classmethod
    def of(cls, config: ClientMetricsConfig) -> Subscription:
        """Raises IllegalMatchError."""
        return cls(
            metrics=frozenset(config.metrics),
            interval_ms=config.interval_ms,
            match=ClientMatch(config.match),
        )


class Instance(msgspec.Struct, kw_only=True):
    """One client process; `generation` is that of the subscriptions by which it was last judged."""

    attributes: Attributes
    generation: int
    metrics: tuple[str, ...]
    interval_ms: int
    subscription_id: int
    asked_ms: int = NEVER_MS
    pushed_ms: int = NEVER_MS
    seen_ms: int = 0
    is_terminating: bool = False
    last_error: ErrorCode = ErrorCode.NONE

    @property
    def expires_ms(self) -> int:
        return self.seen_ms + max(LEAST_EXPIRY_MS, INTERVALS_TO_EXPIRY * self.interval_ms)


class ClientInstances:
    """`max_bytes` is the largest push; `fresh_id` draws an id for a client that has none.

    `on_gone` is told the id of each instance that is known no longer.
    """

    def __init__(
        self, *, max_bytes: int, fresh_id: Callable[[], bytes], on_gone: Callable[[bytes], None]
    ) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.known: dict[bytes, Instance] = {}
        """By instance id; who was heard from last stands last."""
        self._generation = 0
        self._max_bytes = max_bytes
        self._fresh_id = fresh_id
        self._on_gone = on_gone

    def subscribe(self, subscriptions: Mapping[str, Subscription | None]) -> None:
        """Have these subscriptions from now on, and those that are None no longer."""
        for name, subscription in subscriptions.items():
            self.subscriptions.pop(name, None)
            if subscription is not None:
                self.subscriptions[name] = subscription
        self._generation += 1

    # -- what clients ask ------------------------------------------------------------------------------------

    def asked(
        self,
        request: GetTelemetrySubscriptionsRequest,
        attributes: Callable[[bytes], Attributes],
        now_ms: int,
    ) -> GetTelemetrySubscriptionsResponse:
        """What the client is to push; `attributes` tells what it is known by, given its id."""
        instance_id = request.client_instance_id
        if instance_id == ZERO_UUID:
            instance_id = self._fresh_id()
        instance = self._instance(instance_id, attributes, now_ms)
        if now_ms - max(instance.asked_ms, instance.pushed_ms) >= instance.interval_ms:
            instance.asked_ms = now_ms
        elif instance.last_error not in ASKS_AT_ONCE:
            return GetTelemetrySubscriptionsResponse(error_code=ErrorCode.THROTTLING_QUOTA_EXCEEDED)
        instance.last_error = ErrorCode.NONE
        return GetTelemetrySubscriptionsResponse(
            client_instance_id=instance_id,
            subscription_id=instance.subscription_id,
            accepted_compression_types=list(ACCEPTED_CODECS),
            push_interval_ms=instance.interval_ms,
            telemetry_max_bytes=self._max_bytes,
            delta_temporality=True,
            requested_metrics=list(instance.metrics),
        )

    def pushes(
        self, request: PushTelemetryRequest, attributes: Callable[[bytes], Attributes], now_ms: int
    ) -> ErrorCode:
        """Whether what is pushed is to be looked at (NONE)."""
        if request.client_instance_id in RESERVED_IDS:
            return ErrorCode.INVALID_REQUEST
        instance = self._instance(request.client_instance_id, attributes, now_ms)
        instance.last_error = self._judged(request, instance, now_ms)
        instance.is_terminating = request.terminating
        return instance.last_error

    def _judged(self, request: PushTelemetryRequest, instance: Instance, now_ms: int) -> ErrorCode:
        if instance.is_terminating:
            return ErrorCode.INVALID_REQUEST
        in_time = (
            instance.asked_ms > instance.pushed_ms or now_ms - instance.pushed_ms >= instance.interval_ms
        )
        if in_time:
            instance.pushed_ms = now_ms
        elif not request.terminating:
            return ErrorCode.THROTTLING_QUOTA_EXCEEDED
        if request.subscription_id != instance.subscription_id:
            return ErrorCode.UNKNOWN_SUBSCRIPTION_ID
        if request.compression_type not in CODECS:
            return ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
        if len(request.metrics) > self._max_bytes:
            return ErrorCode.TELEMETRY_TOO_LARGE
        return ErrorCode.NONE

    def unreadable(self, instance_id: bytes) -> None:
        """What the instance pushed was not what it must be."""
        if instance_id in self.known:
            self.known[instance_id].last_error = ErrorCode.INVALID_RECORD

    # -- who is known ----------------------------------------------------------------------------------------

    def forget(self, instance_id: bytes) -> None:
        if self.known.pop(instance_id, None) is not None:
            self._on_gone(instance_id)

    def expire(self, now_ms: int) -> None:
        """Forget who has been silent for too long."""
        for instance_id, instance in tuple(self.known.items()):
            if instance.expires_ms <= now_ms:
                self.forget(instance_id)

    def _instance(
        self, instance_id: bytes, attributes: Callable[[bytes], Attributes], now_ms: int
    ) -> Instance:
        instance = self.known.pop(instance_id, None)
        if instance is None:
            instance = self._judge(instance_id, attributes(instance_id))
            if len(self.known) >= MAX_INSTANCES:
                self.forget(next(iter(self.known)))
        elif instance.generation < self._generation:
            instance = self._judge(instance_id, instance.attributes)
        instance.seen_ms = now_ms
        self.known[instance_id] = instance
        return instance

    def _judge(self, instance_id: bytes, attributes: Attributes) -> Instance:
        """An instance as the subscriptions of this moment see it."""
        fitting = [one for one in self.subscriptions.values() if one.match.fits(attributes)]
        interval_ms = min((one.interval_ms for one in fitting), default=ClientMetricsConfig.interval_ms)
        metrics = frozenset[str]().union(*(one.metrics for one in fitting))
        wanted = (ALL_METRICS,) if ALL_METRICS in metrics else tuple(sorted(metrics))
        return Instance(
            attributes=attributes,
            generation=self._generation,
            metrics=wanted,
            interval_ms=interval_ms,
            subscription_id=subscription_id(wanted, interval_ms, instance_id),
        )


ASKS_AT_ONCE: Final = (ErrorCode.UNKNOWN_SUBSCRIPTION_ID, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
"""Whoever was told so has to ask again before its time."""


def subscription_id(metrics: Iterable[str], interval_ms: int, instance_id: bytes) -> int:
    """A signed 32-bit number that is another for what is asked for otherwise, and for another client."""
    asked_for = crc32c(f"{','.join(metrics)};{interval_ms}".encode())
    folded = crc32c(instance_id)
    return int.from_bytes((asked_for ^ folded).to_bytes(4), signed=True)
