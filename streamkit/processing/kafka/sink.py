"""The producer side of a worker on librdkafka.

`produce` only queues, so it is called from the event loop, batch by batch. Reports come for failures only:
with nothing left in librdkafka's queue and no failure reported, everything arrived. A failed delivery is
final (librdkafka has retried until `message.timeout.ms`) and makes every later call raise: the worker stops
with its offsets where they were.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import length_hint
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamkit.errors import StreamkitError
from streamkit.processing.kafka.settings import judged
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.runtime.contracts.clock import Clock

FULL_RECORDS = 200_000
MOST_HELD = 20_000  # records that a flush keeps back: what goes to librdkafka in one go after it
POLL_S = 0.001
SLOW_POLL_S = 0.02
PATIENT_POLLS = 50  # this many quick polls in a flush, then slow ones
A_RECORDS_FAULT = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD}
# What no repetition changes: the worker ends, and says so.
HOPELESS = {
    *A_RECORDS_FAULT,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}

_Unsent = tuple[str, Sequence[SinkRecord], int]  # topic, records, index of the first that is unsent

log = logging.getLogger("worker.sink")


class KafkaSink:
    """The `Sink` port. `settings`: `producer_settings`; `retention_ms[topic]`: where retention is limited."""

    def __init__(self, settings: Mapping[str, Any], clock: Clock, retention_ms: Mapping[str, int]) -> None:
        self._settings = {**settings, "on_delivery": self._reported}
        self._producer = self._make_producer()
        self._clock = clock
        self._retention_ms = dict(retention_ms)
        self._waiting: deque[_Unsent] = deque()
        self._held: deque[_Unsent] = deque()  # sent during a flush: the next commit's
        self._flushing = False
        self._failure: StreamkitError | None = None

    def send(self, topic: str, records: Sequence[SinkRecord]) -> None:
        self._raise_failure()
        if not records:
            return
        if topic in self._retention_ms:
            self._warn_of_retention(topic, records[0])
        (self._held if self._flushing else self._waiting).append((topic, records, 0))
        if not self._flushing:
            self._produce_waiting()

    @property
    def full(self) -> bool:
        held = sum(len(records) for _, records, _ in self._held)
        return bool(self._waiting) or held > MOST_HELD or len(self._producer) > FULL_RECORDS

    async def flush(self) -> None:
        self._flushing = True
        polls = 0
        try:
            while self._waiting or len(self._producer):
                self.serve()
                await asyncio.sleep(POLL_S if (polls := polls + 1) < PATIENT_POLLS else SLOW_POLL_S)
            self._raise_failure()
        finally:
            self._flushing = False
            self._waiting.extend(self._held)  # behind what a flush that was given up leaves
            self._held.clear()
        self._produce_waiting()

    def discard(self) -> None:
        self._waiting.clear()
        self._held.clear()
        self._producer.purge()
        # one that was purged has a gap in its sequence, which brokers refuse
        self._producer = self._make_producer()

    async def close(self) -> None:
        self._waiting.clear()
        self._producer.purge()
        self._producer.poll(0)

    def serve(self) -> None:
        """Let librdkafka report, and queue what found no room before; called regularly.

        Not by each `send`: a report of librdkafka's, even one of success, costs the interpreter's lock.
        """
        self._produce_waiting()
        self._poll()
        self._raise_failure()

    def _make_producer(self) -> Producer:
        with judged():
            return Producer(self._settings, logger=log)

    def _produce_waiting(self) -> None:
        waiting = self._waiting
        while waiting:
            topic, records, start = waiting[0]
            sent = self._produce(topic, records, start)
            if sent < len(records):
                waiting[0] = (topic, records, sent)
                break
            waiting.popleft()

    def _poll(self) -> None:
        self._producer.poll(0)

    def _produce(self, topic: str, records: Sequence[SinkRecord], start: int) -> int:
        """Queue `records[start:]`; the index of the first that found no room."""
        produce: Callable[..., None] = self._producer.produce
        unsent = iter(records[start:] if start else records)
        try:
            for value, key, timestamp_ms, headers, partition in unsent:
                produce(
                    topic,
                    value,
                    key,
                    -1 if partition is None else partition,
                    None,
                    None,
                    timestamp_ms or 1,  # librdkafka takes 0 for "now"
                    headers,
                )
        except BufferError:
            pass
        except KafkaException as error:
            self._undelivered(topic, error.args[0])
            self._raise_failure()
        else:
            return len(records)
        return len(records) - length_hint(unsent) - 1

    def _reported(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and error.code() != KafkaError._PURGE_QUEUE and self._failure is None:
            self._undelivered(f"{message.topic()}-{message.partition()}", error)

    def _undelivered(self, place: str, error: KafkaError) -> None:
        self._failure = undelivered(place, error)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _warn_of_retention(self, topic: str, record: SinkRecord) -> None:
        limit = self._retention_ms[topic]
        if record[2] < self._clock.now_ms() - limit:
            del self._retention_ms[topic]  # once
            log.warning(
                "records for %s are older than its retention of %d hours and may vanish at once; "
                "set retention.ms=-1 for it",
                topic,
                limit // 3_600_000,
            )


def undelivered(place: str, error: KafkaError) -> StreamkitError:
    return StreamkitError(
        f"a record for {place} was not delivered: {error.str()}",
        hint="nothing past it is committed; start the worker again once the cause is gone",
    )
