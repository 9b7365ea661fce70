"""Who runs which source: a consumer group whose members read nothing.

Each source has a topic of one partition, where its position is; whoever the group `{app}-sources` gives that
to runs the source. It is a group apart from the app's, so that sources and tasks move without regard for each
other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from streamkit.processing.kafka.client_thread import ClientThread
from streamkit.processing.kafka.settings import KafkaSettings, consumer_settings
from streamkit.processing.kafka.source import by_partition
from streamkit.processing.worker.inflows import InflowListener

POLL_S = 0.1

log = logging.getLogger("worker.source")


class KafkaInflowGroup:
    """The `InflowGroup` port."""

    def __init__(self, bootstrap: str, user: KafkaSettings, app_id: str, topics: Sequence[str]) -> None:
        self._conf = consumer_settings(bootstrap, f"{app_id}-sources", user)
        self._topics = list(topics)
        self._consumer: Consumer | None = None

    async def start(self, listener: InflowListener) -> None:
        self._listener = listener
        self._thread = ClientThread(self._idle, listener.failed)
        self._thread.start()
        await self._thread.call(self._join)

    async def close(self) -> None:
        if self._thread.alive:
            await self._thread.call(self._leave, outermost=True)
        await self._thread.stop()

    # -- on the client thread -------------------------------------------------------------------------

    def _join(self) -> None:
        self._consumer = Consumer(self._conf, logger=log)
        given, taken = self._thread.guarded(self._given), self._thread.guarded(self._taken)
        self._consumer.subscribe(self._topics, on_assign=given, on_revoke=taken, on_lost=taken)

    def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _idle(self) -> None:
        if self._consumer is None:
            self._thread.rest(POLL_S)
            return
        message = self._consumer.poll(POLL_S)
        self._thread.raise_caught()
        if message is not None:
            by_partition([message])  # raises for what does not pass by itself

    def _given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign([TopicPartition(p.topic, p.partition, OFFSET_END) for p in partitions])
        if partitions:
            consumer.pause(partitions)
            self._thread.wait_for(self._listener.given([p.topic for p in partitions]))

    def _taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._thread.wait_for(self._listener.taken([p.topic for p in partitions]))
        consumer.incremental_unassign(partitions)
