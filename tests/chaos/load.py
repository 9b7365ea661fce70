"""What runs through every fault: producers that note what was acknowledged, a group that notes its commits.

Afterwards the partitions are read by a client that saw none of it, and judged by `nothing_lost_or_doubled`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import count

import aiokafka
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

PARTITIONS = 3
KEYS = 8
"""In each partition."""

LINGER_MS = 5
SOCKET_TIMEOUT_MS = 60_000
"""After how long clients give up on a broker that keeps its connections open and says nothing (librdkafka's
default). Until then what they sent there is under way, and an idempotent producer sends nothing behind it."""


class Acknowledgements:
    """What a producer was told: where each value is, and when that was."""

    client: str

    def __init__(self) -> None:
        self.acknowledged: dict[bytes, tuple[int, int]] = {}
        """Value → (partition, offset)."""
        self.failed: list[object] = []
        self._times_s: dict[int, list[float]] = defaultdict(list)

    def note(self, value: bytes, partition: int, offset: int) -> None:
        self.acknowledged[value] = partition, offset
        self._times_s[partition].append(time.monotonic())

    def first_after(self, partition: int, moment_s: float) -> float | None:
        """When something was acknowledged in `partition` for the first time since `moment_s`."""
        times = self._times_s[partition]
        after = bisect_right(times, moment_s)
        return times[after] if after < len(times) else None


class Load(Acknowledgements):
    """One idempotent producer of librdkafka, about 2,000 records a second over all partitions."""

    client = "librdkafka"

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        socket_timeout_ms: int = SOCKET_TIMEOUT_MS,
        partitions: int = PARTITIONS,
    ) -> None:
        super().__init__()
        self.topic = topic
        self._partitions = partitions
        self.stopping = threading.Event()
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": LINGER_MS,
                "message.timeout.ms": 120_000,
                "reconnect.backoff.max.ms": 200,
                "socket.timeout.ms": socket_timeout_ms,
            }
        )
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _delivered(self, error: object, message: Message) -> None:
        if error is not None:
            self.failed.append(error)
            return
        value, partition, offset = message.value(), message.partition(), message.offset()
        assert value is not None and partition is not None and offset is not None
        self.note(value, partition, offset)

    def _run(self) -> None:
        for number in count():
            if self.stopping.is_set():
                break
            key, partition = b"k%d" % (number % (KEYS * self._partitions)), number % self._partitions
            while True:
                try:
                    self.producer.produce(
                        self.topic,
                        key=key,
                        value=b"%d" % number,
                        partition=partition,
                        on_delivery=self._delivered,
                    )
                    break
                except BufferError:
                    self.producer.poll(0.05)
            self.producer.poll(0)
            if number % 20 == 0:
                time.sleep(0.002)

    def finish(self) -> None:
        self.stopping.set()
        self.thread.join()
        assert self.producer.flush(120) == 0
        assert not self.failed, self.failed[:3]


class AiokafkaLoad(Acknowledgements):
    """One idempotent producer of aiokafka, a few hundred records a second, in a thread of its own."""

    client = "aiokafka"

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        socket_timeout_ms: int = SOCKET_TIMEOUT_MS,
        partitions: int = PARTITIONS,
    ) -> None:
        super().__init__()
        self.topic = topic
        self.stopping = threading.Event()
        self._partitions = partitions
        self._bootstrap = bootstrap
        self._request_timeout_ms = socket_timeout_ms
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            request_timeout_ms=self._request_timeout_ms,
        )
        await producer.start()
        sent = []
        for number in count():
            if self.stopping.is_set():
                break
            value = b"a%d" % number
            key, partition = b"a%d" % (number % (KEYS * self._partitions)), number % self._partitions
            answer = await producer.send(self.topic, value, key=key, partition=partition)
            answer.add_done_callback(lambda done, value=value: self._answered(value, done))
            sent.append(answer)
            await asyncio.sleep(0.005)
        await asyncio.wait(sent)
        await producer.stop()

    def _answered(self, value: bytes, done: asyncio.Future[aiokafka.structs.RecordMetadata]) -> None:
        if done.cancelled() or done.exception() is not None:
            self.failed.append(done)
        else:
            self.note(value, done.result().partition, done.result().offset)

    def finish(self) -> None:
        self.stopping.set()
        self.thread.join()
        assert not self.failed, self.failed[:3]


class Group:
    """One group member that commits synchronously; `committed[partition]` is what the broker acknowledged."""

    def __init__(
        self, bootstrap: str, topic: str, group: str, socket_timeout_ms: int = SOCKET_TIMEOUT_MS
    ) -> None:
        self.topic = topic
        self.settings = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 500,
            "reconnect.backoff.max.ms": 200,
            "socket.timeout.ms": socket_timeout_ms,
        }
        self.committed: dict[int, int] = {}
        self.consumed = 0
        self.times_s: list[float] = []
        """When records were delivered."""
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        consumer = Consumer(self.settings)
        consumer.subscribe([self.topic])
        while not self.stopping.is_set():
            batch = [m for m in consumer.consume(500, timeout=0.1) if m.error() is None]
            if not batch:
                continue
            self.consumed += len(batch)
            self.times_s.append(time.monotonic())
            try:
                done = consumer.commit(asynchronous=False)
            except KafkaException:
                continue
            for entry in done or []:
                if entry.error is None and entry.offset >= 0:
                    self.committed[entry.partition] = max(
                        self.committed.get(entry.partition, 0), entry.offset
                    )
        consumer.close()

    def finish(self) -> None:
        self.stopping.set()
        self.thread.join()


def read_all(bootstrap: str, topic: str, partitions: int = PARTITIONS) -> dict[int, list[Message]]:
    """Every record of every partition, as a client that was not there sees them."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "judge", "enable.auto.commit": False})
    found: dict[int, list[Message]] = {}
    for partition in range(partitions):
        place = TopicPartition(topic, partition, 0)
        low, high = consumer.get_watermark_offsets(place, timeout=30)
        assert low == 0
        consumer.assign([place])
        rows: list[Message] = []
        while not rows or rows[-1].offset() < high - 1:
            batch = consumer.consume(10_000, timeout=10)
            assert batch, f"partition {partition} gave {len(rows)} of {high} records"
            assert all(m.error() is None for m in batch)
            rows += batch
        found[partition] = rows
    consumer.close()
    return found


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def nothing_lost_or_doubled(loads: Iterable[Acknowledgements], rows: Mapping[int, list[Message]]) -> int:
    """Judge what is stored against what was acknowledged; how many records are stored."""
    where = {(p, m.offset()): m.value() for p, messages in rows.items() for m in messages}
    for load in loads:
        lost = [v for v, place in load.acknowledged.items() if where.get(place) != v]
        assert not lost, f"{len(lost)} acknowledged records are not where they were acknowledged: {lost[:5]}"
    values = [m.value() for messages in rows.values() for m in messages]
    assert len(values) == len(set(values)), "a record was written twice"
    for messages in rows.values():
        for key in {m.key() for m in messages}:
            numbers = [int((m.value() or b"").lstrip(b"a")) for m in messages if m.key() == key]
            assert numbers == sorted(numbers), "an idempotent producer's records keep their order"
    return len(values)
