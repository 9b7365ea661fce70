"""Requests and replies over a cluster: a topic of one partition for this process, and whoever listens to it.

The topic `{app}-replies-{random}` is made with the first request and removed at the end. Replies that nobody
fetched do not outlive `RETENTION_MS`; the topic of a process that was killed stays behind, empty.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from secrets import token_bytes
from time import monotonic
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from streamkit.processing.agent import Request
from streamkit.processing.kafka.blocking import in_thread
from streamkit.processing.kafka.sender import KafkaSender
from streamkit.processing.kafka.settings import KafkaSettings, producer_settings, reader_settings
from streamkit.processing.kafka.topics import Topics
from streamkit.processing.record import Headers
from streamkit.processing.replies import TOKEN_BYTES, Reply, reply_topic
from streamkit.processing.topology import TopicPlan
from streamkit.processing.worker.asking import Asking
from streamkit.processing.worker.preparation import create_missing

RETENTION_MS = 600_000
CONFIG = {"cleanup.policy": "delete", "retention.ms": str(RETENTION_MS)}
POLL_S = 0.1
ROUND = 500
FLUSH_S = 2.0  # so long a commit waits for replies
FLUSH_POLL_S = 0.002
# An asker who is gone took its topic along: find that out soon, and never make the topic again.
REPLYING = {
    "linger.ms": 0,
    "message.timeout.ms": 10_000,
    "topic.metadata.propagation.max.ms": 5_000,
    "allow.auto.create.topics": False,
}

log = logging.getLogger("worker.asking")


class KafkaAsking(Asking):
    """A `Caller` on a cluster. `refusal`: why nobody may ask here."""

    def __init__(
        self, bootstrap: str, user: KafkaSettings, app_id: str, sender: KafkaSender, refusal: str = ""
    ) -> None:
        super().__init__(self._produce, self._listen, refusal)
        self._conf = reader_settings(bootstrap, user)
        self._topics = Topics(bootstrap, user)
        self._name = reply_topic(app_id, token_bytes(TOKEN_BYTES))
        self._sender = sender
        self._listening: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop listening and remove the topic."""
        if self._listening is None:
            return
        self._listening.cancel()
        with suppress(asyncio.CancelledError):
            await self._listening
        await asyncio.to_thread(self._topics.delete, [self._name])

    async def _produce(self, request: Request, headers: Headers) -> None:
        await self._sender.send(
            request.topic, request.value, request.key, headers=headers, timestamp_ms=None, partition=None
        )

    async def _listen(self) -> str:
        plan = TopicPlan(name=self._name, partitions=1, config=CONFIG, internal=True)
        await asyncio.to_thread(create_missing, [plan], self._topics, {})
        self._listening = asyncio.create_task(self._hear(), name="replies")
        return self._name

    async def _hear(self) -> None:
        consumer = Consumer(self._conf, logger=log)
        try:
            consumer.assign([TopicPartition(self._name, 0, 0)])  # the topic is new
            while True:
                for message in await in_thread(_round, consumer):
                    if message.error() is None:
                        self.heard(cast("Headers | None", message.headers()), message.value())
        finally:
            await in_thread(consumer.close)


def _round(consumer: Consumer) -> list[Message]:
    """What there is, after waiting for something."""
    first = consumer.poll(POLL_S)
    return [] if first is None else [first, *consumer.consume(ROUND, 0)]


class KafkaReplies:
    """The `Replies` port: a producer whose failures concern nobody but the asker."""

    def __init__(self, bootstrap: str, user: KafkaSettings) -> None:
        self._conf = {**producer_settings(bootstrap, user), **REPLYING}
        self._producer: Producer | None = None

    def send(self, replies: Sequence[Reply]) -> None:
        if not replies:
            return
        if self._producer is None:
            self._producer = Producer({**self._conf, "on_delivery": _reported}, logger=log)
        produce: Callable[..., None] = self._producer.produce
        for reply in replies:
            value, key, timestamp_ms, headers, partition = reply.record
            try:
                produce(reply.topic, value, key, partition, None, None, timestamp_ms or 1, headers)
            except BufferError:  # so many replies that nobody takes: their askers are gone
                continue
            except KafkaException as error:
                log.info("no reply to %s: %s", reply.topic, error)
        self._producer.poll(0)

    async def flush(self) -> None:
        if self._producer is None:
            return
        deadline = monotonic() + FLUSH_S
        while len(self._producer) and monotonic() < deadline:
            self._producer.poll(0)
            await asyncio.sleep(FLUSH_POLL_S)

    async def close(self) -> None:
        if self._producer is not None:
            await self.flush()
            self._producer.purge()
            self._producer.poll(0)


def _reported(error: KafkaError | None, message: Message) -> None:
    if error is not None and error.code() != KafkaError._PURGE_QUEUE:
        log.info("no reply to %s: %s", message.topic(), error.str())
