"""The librdkafka settings of a worker: what it needs to keep its promises, then what it wants to be fast.

A user's `App(kafka={...})` is laid over the second kind and may name any librdkafka property; properties of
one side (consumer or producer) reach only that side. The first kind is refused there, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from streamkit.errors import UsageError

KafkaSettings = Mapping[str, Any]

# property -> why a worker cannot leave it to anybody else
OWNED = {
    "group.id": "the group is the app's name",
    "enable.auto.commit": "offsets are committed after their outputs are acknowledged",
    "enable.auto.offset.store": "offsets are committed after their outputs are acknowledged",
    "enable.partition.eof": "the worker must know when a partition is caught up",
    "partition.assignment.strategy": "partitions that stay with a worker must not pause",
    "group.protocol": "partitions that stay with a worker must not pause",
    "delivery.report.only.error": "a commit counts on the reports it gets",
}

# the same, where a commit is a transaction
OWNED_EXACTLY_ONCE = {
    "transactional.id": "each worker's is the app's name and its slot",
    "isolation.level": "aborted records must not be processed",
    "enable.idempotence": "a transaction needs it",
}

CONSUMER: dict[str, Any] = {
    "auto.offset.reset": "earliest",
    # A killed worker's partitions wait this long for another owner.
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 1_000,
    # By default the fetcher sleeps a second whenever its queue is full: ten times slower.
    "queued.min.messages": 200_000,
    "queued.max.messages.kbytes": 65_536,
    "fetch.queue.backoff.ms": 1,
    "fetch.wait.max.ms": 100,
    "topic.metadata.refresh.interval.ms": 30_000,
}
CONSUMER_FIXED: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "partition.assignment.strategy": "cooperative-sticky",
}

PRODUCER: dict[str, Any] = {
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # Java's
    # librdkafka has one batch of a partition under way where it is idempotent, and its thread spins while the
    # next is due: the wait is longer than an acknowledgement takes.
    "linger.ms": 20,
    "batch.size": 1 << 20,
    "batch.num.messages": 50_000,
    "queue.buffering.max.messages": 500_000,
    "queue.buffering.max.kbytes": 256 << 10,
}
PRODUCER_FIXED: dict[str, Any] = {"delivery.report.only.error": True}
TRANSACTION_TIMEOUT_MS = 10_000  # so long what a killed worker left open may keep readers waiting

_CONSUMER_ONLY = frozenset({
    "auto.offset.reset", "auto.commit.interval.ms", "check.crcs", "consume.callback.max.messages",
    "coordinator.query.interval.ms", "fetch.error.backoff.ms", "fetch.max.bytes",
    "fetch.message.max.bytes", "fetch.min.bytes", "fetch.queue.backoff.ms", "fetch.wait.max.ms",
    "group.instance.id", "group.protocol.type", "group.remote.assignor", "heartbeat.interval.ms",
    "isolation.level", "max.partition.fetch.bytes", "max.poll.interval.ms", "queued.max.messages.kbytes",
    "queued.min.messages", "session.timeout.ms",
})  # fmt: skip
_PRODUCER_ONLY = frozenset({
    "acks", "batch.num.messages", "batch.size", "compression.codec", "compression.level",
    "compression.type", "delivery.timeout.ms", "enable.gapless.guarantee", "enable.idempotence",
    "linger.ms", "message.send.max.retries", "message.timeout.ms", "partitioner",
    "queue.buffering.backpressure.threshold", "queue.buffering.max.kbytes",
    "queue.buffering.max.messages", "queue.buffering.max.ms", "queuing.strategy",
    "request.required.acks", "request.timeout.ms", "retries", "sticky.partitioning.linger.ms",
    "transaction.timeout.ms", "transactional.id",
})  # fmt: skip


def check_settings(user: KafkaSettings, *, exactly_once: bool = False) -> None:
    """Refuse what would break a promise of the worker."""
    owned = {**OWNED, **OWNED_EXACTLY_ONCE} if exactly_once else OWNED
    for name in user:
        if name in owned:
            raise UsageError(
                f"App(kafka=...) sets {name!r}, which belongs to the worker: {owned[name]}",
                hint="remove it; everything else of librdkafka may be set",
            )


@contextmanager
def judged() -> Iterator[None]:
    """Where a client is made: settings that librdkafka does not take are the user's."""
    try:
        yield
    except KafkaException as error:
        if error.args[0].code() != KafkaError._INVALID_ARG:
            raise
        raise UsageError(
            f"App(kafka=...): {error.args[0].str()}",
            hint="names and values are those of librdkafka's CONFIGURATION.md",
        ) from None


def consumer_settings(bootstrap: str, group: str, user: KafkaSettings) -> dict[str, Any]:
    """Settings of a group member."""
    return {
        **CONSUMER,
        **shared_settings(bootstrap, user),
        **{name: value for name, value in user.items() if name not in _PRODUCER_ONLY},
        **CONSUMER_FIXED,
        "group.id": group,
    }


def refresh_s(user: KafkaSettings) -> float:
    """How often a client looks what topics there are."""
    name = "topic.metadata.refresh.interval.ms"
    return max(0.1, int(user.get(name, CONSUMER[name])) / 1000)


def reader_settings(bootstrap: str, user: KafkaSettings) -> dict[str, Any]:
    """Settings of a consumer that reads chosen partitions and commits nothing."""
    return {
        **consumer_settings(bootstrap, "unused", user),
        "auto.offset.reset": "error",
        "partition.assignment.strategy": "range",
    }


def producer_settings(bootstrap: str, user: KafkaSettings) -> dict[str, Any]:
    return {
        **PRODUCER,
        **shared_settings(bootstrap, user),
        **{name: value for name, value in user.items() if name not in _CONSUMER_ONLY},
        **PRODUCER_FIXED,
    }


def transactional_settings(bootstrap: str, user: KafkaSettings, transactional_id: str) -> dict[str, Any]:
    """Settings of a producer whose records become visible with its commits."""
    return {
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        **producer_settings(bootstrap, user),
        "transactional.id": transactional_id,
    }


def shared_settings(bootstrap: str, user: KafkaSettings) -> dict[str, Any]:
    """What every client needs: the address, and the user's settings that belong to no side."""
    neutral = {n: v for n, v in user.items() if n not in _CONSUMER_ONLY and n not in _PRODUCER_ONLY}
    return {
        "client.id": "streamkit",
        # A restarted broker is found again within a second.
        "reconnect.backoff.max.ms": 1_000,
        # librdkafka 2.16 forgets a single broker that is down, and then never finds its coordinator again.
        "metadata.recovery.strategy": "none",
        **neutral,
        "bootstrap.servers": bootstrap,
    }
