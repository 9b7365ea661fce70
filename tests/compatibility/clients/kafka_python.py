"""kafka-python: pure Python, with protocol code of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import kafka
import kafka.admin
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError

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

ASSIGNORS = {"range": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}
JOIN_S = 1.0
ACKS: dict[str, int | str] = {"0": 0, "1": 1, "all": "all"}


@contextmanager
def refusing() -> Iterator[None]:
    try:
        yield
    except KafkaError as refused:
        code = getattr(refused, "errno", None)
        raise Refused(code if code and code > 0 else None, repr(refused)) from None


class KafkaPythonProducer:
    def __init__(self, producer: Any, is_transactional: bool) -> None:
        self._producer = producer
        if is_transactional:
            with refusing():
                producer.init_transactions()

    def send(self, topic: str, records: Sequence[Record]) -> list[tuple[int, int]]:
        with refusing():
            futures = [
                self._producer.send(
                    topic,
                    key=record.key,
                    value=record.value,
                    partition=record.partition,
                    timestamp_ms=record.timestamp_ms,
                    headers=list(record.headers),
                )
                for record in records
            ]
            self._producer.flush(DEADLINE_S)
            found = [future.get(DEADLINE_S) for future in futures]
        return [(place.partition, place.offset) for place in found]

    def begin(self) -> None:
        with refusing():
            self._producer.begin_transaction()

    def commit(self) -> None:
        with refusing():
            self._producer.commit_transaction()

    def abort(self) -> None:
        with refusing():
            self._producer.abort_transaction()

    def send_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        positions = {
            kafka.TopicPartition(topic, p): kafka.OffsetAndMetadata(offset, "", -1)
            for p, offset in offsets.items()
        }
        with refusing():
            self._producer.send_offsets_to_transaction(positions, group)

    def close(self) -> None:
        with suppress(KafkaError):  # of one that can go on no longer
            self._producer.close(timeout=1)


class KafkaPythonConsumer:
    def __init__(self, consumer: Any, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def _at(self, partition: int) -> Any:
        return kafka.TopicPartition(self._topic, partition)

    def poll(self) -> list[Row]:
        """It is given longer while it joins: the answer to a SyncGroup that a poll does not await is lost."""
        wait_s = POLL_S if self.owned() else JOIN_S
        with refusing():
            batches = self._consumer.poll(timeout_ms=int(wait_s * 1000))
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
        self._consumer.pause(*map(self._at, partitions))

    def resume(self, partitions: Sequence[int]) -> None:
        self._consumer.resume(*map(self._at, partitions))

    def commit(self, offsets: Mapping[int, int]) -> None:
        with refusing():
            self._consumer.commit(
                {self._at(p): kafka.OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
            )

    def committed(self) -> dict[int, int]:
        with refusing():
            found = {p: self._consumer.committed(self._at(p)) for p in self.owned()}
        return {p: offset for p, offset in found.items() if offset is not None}

    def close(self) -> None:
        self._consumer.close()


class KafkaPython:
    name: ClassVar[str] = "kafka-python"
    lacks: ClassVar[Mapping[str, str]] = {
        "consumer protocol": "kafka-python 3.0 knows classic groups alone",
    }

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap.split(",")
        self._admin: Any = kafka.admin.KafkaAdminClient(bootstrap_servers=self._bootstrap)

    def close(self) -> None:
        self._admin.close()

    def producer(self, **settings: Any) -> KafkaPythonProducer:
        chosen = ProducerSettings(**settings)
        producer = kafka.KafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks=ACKS[chosen.acks],
            compression_type=None if chosen.compression == "none" else chosen.compression,
            enable_idempotence=chosen.idempotent or chosen.transactional_id is not None,
            transactional_id=chosen.transactional_id,
            transaction_timeout_ms=chosen.transaction_timeout_ms,
            max_request_size=chosen.max_bytes,
            max_block_ms=chosen.patience_ms,
            linger_ms=50,
        )
        return KafkaPythonProducer(producer, chosen.transactional_id is not None)

    def consumer(self, topic: str, **settings: Any) -> KafkaPythonConsumer:
        chosen = ConsumerSettings(**settings)
        consumer: Any = kafka.KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=chosen.group,
            group_instance_id=chosen.instance,
            auto_offset_reset=chosen.start if isinstance(chosen.start, str) else "earliest",
            isolation_level=chosen.isolation,
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=200,
            fetch_max_wait_ms=100,
            partition_assignment_strategy=[ASSIGNORS[chosen.assignor]],
        )
        if chosen.group:
            consumer.subscribe([topic])
        else:
            self._place(consumer, topic, chosen.start)
        return KafkaPythonConsumer(consumer, topic)

    def _place(self, consumer: Any, topic: str, start: str | int) -> None:
        every = [kafka.TopicPartition(topic, p) for p in range(self.partitions_of(topic))]
        consumer.assign(every)
        if isinstance(start, str):
            move = consumer.seek_to_beginning if start == "earliest" else consumer.seek_to_end
            move(*every)
            for at in every:
                consumer.position(at)  # a seek to the end is only carried out when somebody asks
            return
        for at, found in consumer.offsets_for_times(dict.fromkeys(every, start)).items():
            if found is None:
                consumer.seek_to_end(at)
            else:
                consumer.seek(at, found.offset)

    def create_topic(
        self, topic: str, partitions: int, replicas: int = 1, settings: Mapping[str, str] | None = None
    ) -> None:
        wanted = {
            "num_partitions": partitions,
            "replication_factor": replicas,
            "configs": dict(settings or {}),
        }
        with refusing():
            self._admin.create_topics({topic: wanted})

    def delete_topic(self, topic: str) -> None:
        with refusing():
            self._admin.delete_topics([topic])

    def topics(self) -> set[str]:
        return set(self._admin.list_topics())

    def partitions_of(self, topic: str) -> int:
        (described,) = self._admin.describe_topics([topic])
        if described["error_code"]:
            raise Refused(described["error_code"], topic)
        return len(described["partitions"])

    def add_partitions(self, topic: str, total: int) -> None:
        with refusing():
            self._admin.create_partitions({topic: total})

    def change_settings(self, topic: str, settings: Mapping[str, str]) -> None:
        resource = kafka.admin.ConfigResource("TOPIC", topic, dict(settings))
        with refusing():
            found = self._admin.alter_configs([resource])["topic"][topic]
        if found != "OK":
            raise Refused(None, found)

    def settings_of(self, topic: str) -> dict[str, str]:
        resource = kafka.admin.ConfigResource("TOPIC", topic)
        found = self._admin.describe_configs([resource], config_filter="all")
        return {key: one["value"] for key, one in found["topic"][topic].items()}

    def groups(self) -> set[str]:
        return {one["group_id"] for one in self._admin.list_groups()}

    def delete_group(self, group: str) -> None:
        with refusing():
            self._admin.delete_groups([group])

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        with refusing():
            self._admin.delete_records({kafka.TopicPartition(topic, partition): before})

    def offsets_of(self, topic: str) -> dict[int, tuple[int, int]]:
        every = [kafka.TopicPartition(topic, p) for p in range(self.partitions_of(topic))]
        consumer: Any = kafka.KafkaConsumer(bootstrap_servers=self._bootstrap)
        try:
            begin, end = consumer.beginning_offsets(every), consumer.end_offsets(every)
        finally:
            consumer.close()
        return {at.partition: (begin[at], end[at]) for at in every}
