"""Four clients that others wrote, behind one set of verbs, so that one test plays the same scene with each.

The verbs are what a user does, not what a client calls it. A client that lacks a feature says so in
`lacks`, with the reason; everything else must work.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, NamedTuple, Protocol

import aiokafka
import aiokafka.admin
import confluent_kafka
import confluent_kafka.admin
import kafka
import kafka.admin

DEADLINE_S = 30
SESSION_MS = 6_000


class Row(NamedTuple):
    """A record as a consumer sees it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes


class Member:
    """A group member that polls in the background; `owned` is its latest assignment."""

    def __init__(self) -> None:
        self.owned: frozenset[int] | None = None
        self.stopping = threading.Event()


class Client(Protocol):
    name: str
    lacks: ClassVar[dict[str, str]]

    def __init__(self, bootstrap: str) -> None: ...
    def create_topic(self, topic: str, partitions: int) -> None: ...
    def partitions_of(self, topic: str) -> int: ...
    def delete_topic(self, topic: str) -> None: ...
    def topics(self) -> set[str]: ...
    def produce(self, topic: str, rows: list[tuple[bytes, bytes, int | None]], compression: str) -> None: ...
    def read(self, topic: str, count: int) -> list[Row]: ...
    def read_in_group(self, topic: str, group: str, count: int) -> list[Row]:
        """`count` records as a fresh group member, committed on leaving."""
        ...

    def read_from_time(self, topic: str, timestamp_ms: int, count: int) -> list[Row]: ...
    def member(self, topic: str, group: str) -> Any: ...


def collect(poll: Callable[[], list[Row]], count: int) -> list[Row]:
    """Poll until `count` records have come, in the order they came."""
    rows: list[Row] = []
    end = time.monotonic() + DEADLINE_S
    while len(rows) < count:
        rows += poll()
        assert time.monotonic() < end, f"only {len(rows)} of {count} records in {DEADLINE_S} s"
    return rows


@contextmanager
def background(work: Callable[[Member], None]) -> Iterator[Member]:
    member = Member()
    thread = threading.Thread(target=work, args=(member,))
    thread.start()
    try:
        yield member
    finally:
        member.stopping.set()
        thread.join(DEADLINE_S)


class Confluent:
    """confluent-kafka: librdkafka, the client of most Python users."""

    name = "confluent-kafka"
    lacks: ClassVar[dict[str, str]] = {}

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": bootstrap})

    def create_topic(self, topic: str, partitions: int) -> None:
        new = confluent_kafka.admin.NewTopic(topic, partitions, 1)
        self.admin.create_topics([new])[topic].result(DEADLINE_S)

    def partitions_of(self, topic: str) -> int:
        names = confluent_kafka.TopicCollection([topic])
        return len(self.admin.describe_topics(names)[topic].result(DEADLINE_S).partitions)

    def delete_topic(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result(DEADLINE_S)

    def topics(self) -> set[str]:
        return set(self.admin.list_topics(timeout=DEADLINE_S).topics)

    def produce(self, topic: str, rows: list[tuple[bytes, bytes, int | None]], compression: str) -> None:
        errors: list[object] = []
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": self.bootstrap, "compression.type": compression, "linger.ms": 50}
        )
        for key, value, timestamp in rows:
            producer.produce(
                topic,
                key=key,
                value=value,
                timestamp=timestamp or 0,
                on_delivery=lambda error, _: errors.append(error) if error else None,
            )
        assert producer.flush(DEADLINE_S) == 0
        assert not errors, errors

    def _consumer(self, **settings: object) -> confluent_kafka.Consumer:
        return confluent_kafka.Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": SESSION_MS,
                "group.id": "none",
                **settings,
            }
        )

    @staticmethod
    def _poll(consumer: confluent_kafka.Consumer, most: int) -> list[Row]:
        messages = consumer.consume(most, timeout=1)
        for message in messages:
            assert message.error() is None, message.error()
        return [Row(m.partition(), m.offset(), m.key(), m.value()) for m in messages]

    def read(self, topic: str, count: int) -> list[Row]:
        consumer = self._consumer()
        start = confluent_kafka.OFFSET_BEGINNING
        consumer.assign(
            [confluent_kafka.TopicPartition(topic, p, start) for p in range(self.partitions_of(topic))]
        )
        try:
            return collect(lambda: self._poll(consumer, count), count)
        finally:
            consumer.close()

    def read_in_group(self, topic: str, group: str, count: int) -> list[Row]:
        consumer = self._consumer(**{"group.id": group, "enable.auto.offset.store": False})
        consumer.subscribe([topic])

        def poll() -> list[Row]:
            message = consumer.poll(1)
            if message is None:
                return []
            assert message.error() is None, message.error()
            consumer.store_offsets(message)
            return [Row(message.partition(), message.offset(), message.key(), message.value())]

        try:
            rows = collect(poll, count)
            consumer.commit(asynchronous=False)
            return rows
        finally:
            consumer.close()

    def read_from_time(self, topic: str, timestamp_ms: int, count: int) -> list[Row]:
        consumer = self._consumer()
        asked = [
            confluent_kafka.TopicPartition(topic, p, timestamp_ms) for p in range(self.partitions_of(topic))
        ]
        consumer.assign(consumer.offsets_for_times(asked, timeout=DEADLINE_S))
        try:
            return collect(lambda: self._poll(consumer, count), count)
        finally:
            consumer.close()

    def member(self, topic: str, group: str) -> Any:
        def work(member: Member) -> None:
            def changed(consumer: confluent_kafka.Consumer, _: object) -> None:
                member.owned = None

            consumer = self._consumer(**{"group.id": group})
            consumer.subscribe([topic], on_revoke=changed)
            while not member.stopping.is_set():
                consumer.poll(0.1)
                member.owned = frozenset(p.partition for p in consumer.assignment()) or None
            consumer.close()

        return background(work)


class KafkaPython:
    """kafka-python: pure Python, its own protocol code."""

    name = "kafka-python"
    lacks: ClassVar[dict[str, str]] = {}

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def _admin(self) -> Any:
        return kafka.admin.KafkaAdminClient(bootstrap_servers=self.bootstrap)

    def create_topic(self, topic: str, partitions: int) -> None:
        with self._admin() as admin:
            admin.create_topics(
                [kafka.admin.NewTopic(name=topic, num_partitions=partitions, replication_factor=1)]
            )

    def partitions_of(self, topic: str) -> int:
        with self._admin() as admin:
            (described,) = admin.describe_topics([topic])
            return len(described["partitions"])

    def delete_topic(self, topic: str) -> None:
        with self._admin() as admin:
            admin.delete_topics([topic])

    def topics(self) -> set[str]:
        with self._admin() as admin:
            return set(admin.list_topics())

    def produce(self, topic: str, rows: list[tuple[bytes, bytes, int | None]], compression: str) -> None:
        producer = kafka.KafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if compression == "none" else compression,
            linger_ms=50,
        )
        futures = [producer.send(topic, key=k, value=v, timestamp_ms=t) for k, v, t in rows]
        for future in futures:
            future.get(DEADLINE_S)
        producer.close()

    def _consumer(self, group: str | None = None) -> Any:
        return kafka.KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=500,
        )

    @staticmethod
    def _poll(consumer: Any, most: int) -> list[Row]:
        batches = consumer.poll(timeout_ms=1000, max_records=most)
        return [Row(r.partition, r.offset, r.key, r.value) for rows in batches.values() for r in rows]

    def _assigned(self, topic: str) -> Any:
        consumer = self._consumer()
        partitions = [kafka.TopicPartition(topic, p) for p in range(self.partitions_of(topic))]
        consumer.assign(partitions)
        return consumer, partitions

    def read(self, topic: str, count: int) -> list[Row]:
        consumer, partitions = self._assigned(topic)
        consumer.seek_to_beginning(*partitions)
        try:
            return collect(lambda: self._poll(consumer, count), count)
        finally:
            consumer.close()

    def read_in_group(self, topic: str, group: str, count: int) -> list[Row]:
        consumer = self._consumer(group)
        consumer.subscribe([topic])
        try:
            rows: list[Row] = []
            end = time.monotonic() + DEADLINE_S
            while len(rows) < count and time.monotonic() < end:
                rows += self._poll(consumer, count - len(rows))
            assert len(rows) == count
            consumer.commit()
            return rows
        finally:
            consumer.close()

    def read_from_time(self, topic: str, timestamp_ms: int, count: int) -> list[Row]:
        consumer, partitions = self._assigned(topic)
        for partition, found in consumer.offsets_for_times(dict.fromkeys(partitions, timestamp_ms)).items():
            if found is None:
                consumer.seek_to_end(partition)
            else:
                consumer.seek(partition, found.offset)
        try:
            return collect(lambda: self._poll(consumer, count), count)
        finally:
            consumer.close()

    def member(self, topic: str, group: str) -> Any:
        def work(member: Member) -> None:
            consumer = self._consumer(group)
            consumer.subscribe([topic])
            while not member.stopping.is_set():
                consumer.poll(timeout_ms=100)
                member.owned = frozenset(p.partition for p in consumer.assignment()) or None
            consumer.close()

        return background(work)


class AioKafka:
    """aiokafka: asyncio, negotiates the lowest versions of all."""

    name = "aiokafka"
    lacks: ClassVar[dict[str, str]] = {}

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def _with_admin(self, act: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                return await act(admin)
            finally:
                await admin.close()

        return asyncio.run(run())

    def create_topic(self, topic: str, partitions: int) -> None:
        new = aiokafka.admin.NewTopic(topic, partitions, 1)
        answer = self._with_admin(lambda admin: admin.create_topics([new]))
        assert [error[1] for error in answer.topic_errors] == [0], answer

    def partitions_of(self, topic: str) -> int:
        (described,) = self._with_admin(lambda admin: admin.describe_topics([topic]))
        return len(described["partitions"])

    def delete_topic(self, topic: str) -> None:
        self._with_admin(lambda admin: admin.delete_topics([topic]))

    def topics(self) -> set[str]:
        return set(self._with_admin(lambda admin: admin.list_topics()))

    def produce(self, topic: str, rows: list[tuple[bytes, bytes, int | None]], compression: str) -> None:
        async def run() -> None:
            producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                compression_type=None if compression == "none" else compression,
                linger_ms=50,
            )
            await producer.start()
            try:
                sent = [await producer.send(topic, key=k, value=v, timestamp_ms=t) for k, v, t in rows]
                await asyncio.wait_for(asyncio.gather(*sent), DEADLINE_S)
            finally:
                await producer.stop()

        asyncio.run(run())

    @staticmethod
    def _rows(batches: dict[Any, list[Any]]) -> list[Row]:
        return [Row(r.partition, r.offset, r.key, r.value) for rows in batches.values() for r in rows]

    def _read(self, topic: str, count: int, group: str | None, timestamp_ms: int | None) -> list[Row]:
        async def run() -> list[Row]:
            consumer = aiokafka.AIOKafkaConsumer(
                *([topic] if group else []),
                bootstrap_servers=self.bootstrap,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                session_timeout_ms=SESSION_MS,
            )
            await consumer.start()
            try:
                if not group:
                    await self._place(consumer, topic, timestamp_ms)
                rows: list[Row] = []
                while len(rows) < count:
                    rows += self._rows(await consumer.getmany(timeout_ms=1000, max_records=count - len(rows)))
                if group:
                    await consumer.commit()
                return rows
            finally:
                await consumer.stop()

        return asyncio.run(asyncio.wait_for(run(), DEADLINE_S))

    @staticmethod
    async def _place(consumer: Any, topic: str, timestamp_ms: int | None) -> None:
        await consumer._client.force_metadata_update()
        await consumer._client.add_topic(topic)
        partitions = [aiokafka.TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        if timestamp_ms is None:
            await consumer.seek_to_beginning(*partitions)
            return
        for partition, found in (
            await consumer.offsets_for_times(dict.fromkeys(partitions, timestamp_ms))
        ).items():
            if found is None:
                await consumer.seek_to_end(partition)
            else:
                consumer.seek(partition, found.offset)

    def read(self, topic: str, count: int) -> list[Row]:
        return self._read(topic, count, None, None)

    def read_in_group(self, topic: str, group: str, count: int) -> list[Row]:
        return self._read(topic, count, group, None)

    def read_from_time(self, topic: str, timestamp_ms: int, count: int) -> list[Row]:
        return self._read(topic, count, None, timestamp_ms)

    def member(self, topic: str, group: str) -> Any:
        async def run(member: Member) -> None:
            consumer = aiokafka.AIOKafkaConsumer(
                topic,
                bootstrap_servers=self.bootstrap,
                group_id=group,
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=500,
            )
            await consumer.start()
            while not member.stopping.is_set():
                await consumer.getmany(timeout_ms=100)
                member.owned = frozenset(p.partition for p in consumer.assignment()) or None
            await consumer.stop()

        return background(lambda member: asyncio.run(run(member)))


class Kcat:
    """kcat from Debian: librdkafka 2.0.2, with a bug in its tagged fields that a broker must not tickle."""

    name = "kcat"
    lacks: ClassVar[dict[str, str]] = {
        "create topic": "kcat has no admin commands",
        "delete topic": "kcat has no admin commands",
    }

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def _run(self, *words: str, stdin: str = "") -> str:
        command = ["kcat", "-b", self.bootstrap, *words]
        done = subprocess.run(
            command, input=stdin, text=True, capture_output=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def _metadata(self) -> dict[str, int]:
        listing = json.loads(self._run("-L", "-J"))
        return {entry["topic"]: len(entry["partitions"]) for entry in listing["topics"]}

    def create_topic(self, topic: str, partitions: int) -> None:
        raise NotImplementedError(self.lacks["create topic"])

    def delete_topic(self, topic: str) -> None:
        raise NotImplementedError(self.lacks["delete topic"])

    def partitions_of(self, topic: str) -> int:
        return self._metadata()[topic]

    def topics(self) -> set[str]:
        return set(self._metadata())

    def produce(self, topic: str, rows: list[tuple[bytes, bytes, int | None]], compression: str) -> None:
        lines = "".join(f"{key.decode()}\t{value.decode()}\n" for key, value, _ in rows)
        self._run(
            "-P",
            "-t",
            topic,
            "-K",
            "\t",
            "-z",
            compression,
            "-X",
            "linger.ms=50",
            "-X",
            "acks=all",
            stdin=lines,
        )

    @staticmethod
    def _rows(output: str) -> list[Row]:
        found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return [
            Row(r["partition"], r["offset"], (r["key"] or "").encode() or None, r["payload"].encode())
            for r in found
        ]

    def read(self, topic: str, count: int) -> list[Row]:
        return self._rows(self._run("-C", "-t", topic, "-o", "beginning", "-e", "-J", "-q"))[:count]

    def read_from_time(self, topic: str, timestamp_ms: int, count: int) -> list[Row]:
        return self._rows(self._run("-C", "-t", topic, "-o", f"s@{timestamp_ms}", "-e", "-J", "-q"))[:count]

    def read_in_group(self, topic: str, group: str, count: int) -> list[Row]:
        settings = ("-X", "auto.offset.reset=earliest", "-X", f"session.timeout.ms={SESSION_MS}")
        return self._rows(self._run(*settings, "-c", str(count), "-J", "-q", "-G", group, topic))

    def member(self, topic: str, group: str) -> Any:
        def work(member: Member) -> None:
            process = subprocess.Popen(
                ["kcat", "-b", self.bootstrap, "-X", f"session.timeout.ms={SESSION_MS}", "-G", group, topic],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            reader = threading.Thread(target=watch, args=(process, member))
            reader.start()
            member.stopping.wait()
            process.terminate()
            process.wait(DEADLINE_S)
            reader.join(DEADLINE_S)

        def watch(process: subprocess.Popen[str], member: Member) -> None:
            assert process.stderr is not None
            with suppress(ValueError):
                for line in process.stderr:
                    if "rebalanced" in line:
                        owned = re.findall(rf"{re.escape(topic)} \[(\d+)\]", line)
                        member.owned = frozenset(map(int, owned)) if "assigned" in line else None

        return background(work)


CLIENTS: tuple[type[Client], ...] = (Confluent, AioKafka, KafkaPython, Kcat)
