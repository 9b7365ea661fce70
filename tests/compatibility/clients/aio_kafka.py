"""aiokafka: asyncio; of all clients it negotiates the lowest versions.

It lives on a loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, ClassVar

import aiokafka
import aiokafka.admin
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from tests.compatibility.contract import (
    DEADLINE_S,
    POLL_S,
    SESSION_MS,
    ConsumerSettings,
    ProducerSettings,
    Record,
    Refused,
    Row,
)

ACKS: dict[str, int | str] = {"0": 0, "1": 1, "all": "all"}


class LoopThread:
    """An event loop in a thread; `run` waits for a coroutine on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * DEADLINE_S)
        except KafkaError as refused:
            code = getattr(refused, "errno", None)
            raise Refused(code if code and code > 0 else None, repr(refused)) from None

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)


class AioKafkaProducer:
    def __init__(self, loop: LoopThread, settings: dict[str, Any]) -> None:
        async def start() -> Any:
            producer = aiokafka.AIOKafkaProducer(**settings)
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            return producer

        self._loop = loop
        self._producer = loop.run(start())

    def send(self, topic: str, records: Sequence[Record]) -> list[tuple[int, int]]:
        async def send() -> list[Any]:
            futures = [
                await self._producer.send(
                    topic,
                    key=record.key,
                    value=record.value,
                    partition=record.partition,
                    timestamp_ms=record.timestamp_ms,
                    headers=list(record.headers),
                )
                for record in records
            ]
            return await asyncio.wait_for(asyncio.gather(*futures), DEADLINE_S)

        places = self._loop.run(send())
        return [(-1, -1) if place is None else (place.partition, place.offset) for place in places]

    def begin(self) -> None:
        self._loop.run(self._producer.begin_transaction())

    def commit(self) -> None:
        self._loop.run(self._producer.commit_transaction())

    def abort(self) -> None:
        self._loop.run(self._producer.abort_transaction())

    def send_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        positions = {aiokafka.TopicPartition(topic, p): offset for p, offset in offsets.items()}
        self._loop.run(self._producer.send_offsets_to_transaction(positions, group))

    def close(self) -> None:
        self._loop.run(self._producer.stop())


class AioKafkaConsumer:
    def __init__(self, loop: LoopThread, consumer: Any, topic: str) -> None:
        self._loop = loop
        self._consumer = consumer
        self._topic = topic

    def _at(self, partition: int) -> Any:
        return aiokafka.TopicPartition(self._topic, partition)

    def poll(self) -> list[Row]:
        batches = self._loop.run(self._consumer.getmany(timeout_ms=int(POLL_S * 1000)))
        return [
            Row(r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
            for rows in batches.values()
            for r in rows
        ]

    def owned(self) -> frozenset[int]:
        return frozenset(at.partition for at in self._consumer.assignment())

    def seek(self, partition: int, offset: int) -> None:
        self._consumer.seek(self._at(partition), offset)

    def pause(self, partitions: Sequence[int]) -> None:
        async def on_the_loop() -> None:
            self._consumer.pause(*map(self._at, partitions))

        self._loop.run(on_the_loop())

    def resume(self, partitions: Sequence[int]) -> None:
        async def on_the_loop() -> None:
            self._consumer.resume(*map(self._at, partitions))

        self._loop.run(on_the_loop())

    def commit(self, offsets: Mapping[int, int]) -> None:
        self._loop.run(self._consumer.commit({self._at(p): offset for p, offset in offsets.items()}))

    def committed(self) -> dict[int, int]:
        found = {p: self._loop.run(self._consumer.committed(self._at(p))) for p in self.owned()}
        return {p: offset for p, offset in found.items() if offset is not None}

    def close(self) -> None:
        self._loop.run(self._consumer.stop())


class AioKafka:
    name: ClassVar[str] = "aiokafka"
    lacks: ClassVar[Mapping[str, str]] = {
        "cooperative": "aiokafka 0.14 has eager assignors alone",
        "consumer protocol": "aiokafka 0.14 knows classic groups alone",
        "delete group": "aiokafka's admin client cannot delete groups",
    }

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._loop = LoopThread()

        async def start() -> Any:
            admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await admin.start()
            return admin

        self._admin = self._loop.run(start())

    def close(self) -> None:
        self._loop.run(self._admin.close())
        self._loop.close()

    def producer(self, **settings: Any) -> AioKafkaProducer:
        chosen = ProducerSettings(**settings)
        is_idempotent = chosen.idempotent or chosen.transactional_id is not None
        given = {
            "bootstrap_servers": self._bootstrap,
            "acks": ACKS[chosen.acks],
            "compression_type": None if chosen.compression == "none" else chosen.compression,
            "enable_idempotence": is_idempotent,
            "transactional_id": chosen.transactional_id,
            "transaction_timeout_ms": chosen.transaction_timeout_ms,
            "max_request_size": chosen.max_bytes,
            "request_timeout_ms": chosen.patience_ms,
            "linger_ms": 50,
        }
        return AioKafkaProducer(self._loop, given)

    def consumer(self, topic: str, **settings: Any) -> AioKafkaConsumer:
        chosen = ConsumerSettings(**settings)

        async def start() -> Any:
            consumer = aiokafka.AIOKafkaConsumer(
                topic,
                bootstrap_servers=self._bootstrap,
                group_id=chosen.group,
                group_instance_id=chosen.instance,
                auto_offset_reset=chosen.start if isinstance(chosen.start, str) else "earliest",
                isolation_level=chosen.isolation,
                enable_auto_commit=False,
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=200,
                fetch_max_wait_ms=100,
                partition_assignment_strategy=[RangePartitionAssignor],
            )
            await consumer.start()
            if not chosen.group:
                await self._place(consumer, chosen.start)
            return consumer

        return AioKafkaConsumer(self._loop, self._loop.run(start()), topic)

    @staticmethod
    async def _place(consumer: Any, start: str | int) -> None:
        every = list(consumer.assignment())
        if isinstance(start, str):
            await (consumer.seek_to_beginning if start == "earliest" else consumer.seek_to_end)(*every)
            return
        for at, found in (await consumer.offsets_for_times(dict.fromkeys(every, start))).items():
            if found is None:
                await consumer.seek_to_end(at)
            else:
                consumer.seek(at, found.offset)

    def create_topic(
        self, topic: str, partitions: int, replicas: int = 1, settings: Mapping[str, str] | None = None
    ) -> None:
        new = aiokafka.admin.NewTopic(topic, partitions, replicas, topic_configs=dict(settings or {}))
        answer = self._loop.run(self._admin.create_topics([new]))
        self._check(answer.topic_errors)

    @staticmethod
    def _check(errors: Sequence[Sequence[Any]]) -> None:
        for _, code, *text in errors:
            if code:
                raise Refused(code, str(text))

    def delete_topic(self, topic: str) -> None:
        self._check(self._loop.run(self._admin.delete_topics([topic])).topic_error_codes)

    def topics(self) -> set[str]:
        return set(self._loop.run(self._admin.list_topics()))

    def partitions_of(self, topic: str) -> int:
        (described,) = self._loop.run(self._admin.describe_topics([topic]))
        if described["error_code"]:
            raise Refused(described["error_code"], topic)
        return len(described["partitions"])

    def add_partitions(self, topic: str, total: int) -> None:
        self._loop.run(self._admin.create_partitions({topic: aiokafka.admin.NewPartitions(total)}))

    def change_settings(self, topic: str, settings: Mapping[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))
        for answer in self._loop.run(self._admin.alter_configs([resource])):
            for code, text, *_ in answer.resources:
                if code:
                    raise Refused(code, str(text))

    def settings_of(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = self._loop.run(self._admin.describe_configs([resource]))
        ((_, _, _, _, entries),) = answer.resources
        return {entry[0]: entry[1] for entry in entries}

    def groups(self) -> set[str]:
        return {group for group, _ in self._loop.run(self._admin.list_consumer_groups())}

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        at = aiokafka.TopicPartition(topic, partition)
        self._loop.run(self._admin.delete_records({at: aiokafka.admin.RecordsToDelete(before)}))

    def offsets_of(self, topic: str) -> dict[int, tuple[int, int]]:
        async def ask() -> Any:
            consumer = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=self._bootstrap)
            await consumer.start()
            try:
                every = list(consumer.assignment())
                return await consumer.beginning_offsets(every), await consumer.end_offsets(every)
            finally:
                await consumer.stop()

        begin, end = self._loop.run(ask())
        return {at.partition: (begin[at], end[at]) for at in begin}
