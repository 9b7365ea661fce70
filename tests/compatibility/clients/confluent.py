"""confluent-kafka: librdkafka, the client of most Python users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, ClassVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
    admin,
)
from confluent_kafka import Consumer as Subscriber
from confluent_kafka import Producer as Publisher

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

MOST = 500
STRATEGIES = {"range": "range", "cooperative": "cooperative-sticky"}


@contextmanager
def refusing() -> Any:
    try:
        yield
    except KafkaException as refused:
        raise refusal(refused.args[0]) from None


def refusal(error: KafkaError) -> Refused:
    """librdkafka's own errors have codes below zero."""
    return Refused(error.code() if error.code() > 0 else None, str(error))


def answer(future: Future[Any]) -> Any:
    with refusing():
        return future.result(DEADLINE_S)


class ConfluentProducer:
    def __init__(self, settings: dict[str, object]) -> None:
        self._producer = Publisher(settings)
        if "transactional.id" in settings:
            with refusing():
                self._producer.init_transactions(DEADLINE_S)

    def send(self, topic: str, records: Sequence[Record]) -> list[tuple[int, int]]:
        places: dict[int, tuple[int, int]] = {}
        errors: list[KafkaError] = []

        def delivered(number: int, error: KafkaError | None, message: Any) -> None:
            if error is None:
                places[number] = (message.partition(), message.offset())
            else:
                errors.append(error)

        with refusing():
            for number, record in enumerate(records):
                chosen = {} if record.partition is None else {"partition": record.partition}
                self._producer.produce(
                    topic,
                    key=record.key,
                    value=record.value,
                    timestamp=record.timestamp_ms or 0,
                    headers=list(record.headers),
                    on_delivery=partial(delivered, number),
                    **chosen,
                )
            assert self._producer.flush(DEADLINE_S) == 0, "not all was acknowledged"
        if errors:
            raise refusal(errors[0])
        return [places[number] for number in range(len(records))]

    def begin(self) -> None:
        with refusing():
            self._producer.begin_transaction()

    def commit(self) -> None:
        with refusing():
            self._producer.commit_transaction(DEADLINE_S)

    def abort(self) -> None:
        with refusing():
            self._producer.abort_transaction(DEADLINE_S)

    def send_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        positions = [TopicPartition(topic, p, offset) for p, offset in offsets.items()]
        consumer = Subscriber(
            {"bootstrap.servers": "127.0.0.1:1", "group.id": group}
        )  # for its metadata alone
        with refusing():
            self._producer.send_offsets_to_transaction(
                positions, consumer.consumer_group_metadata(), DEADLINE_S
            )
        consumer.close()

    def close(self) -> None:
        with suppress(KafkaException):  # of one that was fenced
            self._producer.purge()
            self._producer.flush(1)


class ConfluentConsumer:
    def __init__(
        self, settings: dict[str, object], topic: str, assigned: list[TopicPartition] | None
    ) -> None:
        self._topic = topic
        self._consumer = Subscriber(settings)
        if assigned is None:
            self._consumer.subscribe([topic])
        else:
            self._consumer.assign(assigned)

    def poll(self) -> list[Row]:
        rows = []
        for message in self._consumer.consume(MOST, timeout=POLL_S):
            if message.error() is not None:
                raise refusal(message.error())
            rows.append(
                Row(
                    message.partition(),
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    tuple(message.headers() or ()),
                )
            )
        return rows

    def owned(self) -> frozenset[int]:
        return frozenset(at.partition for at in self._consumer.assignment())

    def seek(self, partition: int, offset: int) -> None:
        with refusing():
            self._consumer.seek(TopicPartition(self._topic, partition, offset))

    def pause(self, partitions: Sequence[int]) -> None:
        self._consumer.pause([TopicPartition(self._topic, p) for p in partitions])

    def resume(self, partitions: Sequence[int]) -> None:
        self._consumer.resume([TopicPartition(self._topic, p) for p in partitions])

    def commit(self, offsets: Mapping[int, int]) -> None:
        with refusing():
            self._consumer.commit(
                offsets=[TopicPartition(self._topic, p, offset) for p, offset in offsets.items()],
                asynchronous=False,
            )

    def committed(self) -> dict[int, int]:
        asked = [TopicPartition(self._topic, p) for p in self.owned()]
        with refusing():
            found = self._consumer.committed(asked, DEADLINE_S)
        return {at.partition: at.offset for at in found if at.offset >= 0}

    def close(self) -> None:
        self._consumer.close()


class Confluent:
    name: ClassVar[str] = "confluent-kafka"
    lacks: ClassVar[Mapping[str, str]] = {}

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = admin.AdminClient({"bootstrap.servers": bootstrap})

    def close(self) -> None:
        pass

    def producer(self, **settings: Any) -> ConfluentProducer:
        chosen = ProducerSettings(**settings)
        given: dict[str, object] = {
            "bootstrap.servers": self.bootstrap,
            "acks": chosen.acks,
            "compression.type": chosen.compression,
            "enable.idempotence": chosen.idempotent,
            "message.max.bytes": chosen.max_bytes,
            "linger.ms": 50,
            "topic.metadata.propagation.max.ms": chosen.patience_ms,
        }
        if chosen.transactional_id is not None:
            given |= {
                "transactional.id": chosen.transactional_id,
                "transaction.timeout.ms": chosen.transaction_timeout_ms,
                "enable.idempotence": True,
            }
        return ConfluentProducer(given)

    def consumer(self, topic: str, **settings: Any) -> ConfluentConsumer:
        chosen = ConsumerSettings(**settings)
        given: dict[str, object] = {
            "bootstrap.servers": self.bootstrap,
            "group.id": chosen.group or "none",
            "group.protocol": chosen.protocol,
            "auto.offset.reset": chosen.start if isinstance(chosen.start, str) else "earliest",
            "enable.auto.commit": False,
            "isolation.level": chosen.isolation,
            "fetch.wait.max.ms": 100,
        }
        if chosen.protocol == "classic":
            given |= {
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": 200,
                "partition.assignment.strategy": STRATEGIES[chosen.assignor],
            }
        if chosen.instance is not None:
            given["group.instance.id"] = chosen.instance
        return ConfluentConsumer(given, topic, None if chosen.group else self._placed(topic, chosen.start))

    def _placed(self, topic: str, start: str | int) -> list[TopicPartition]:
        every = range(self.partitions_of(topic))
        if isinstance(start, str):
            at = OFFSET_BEGINNING if start == "earliest" else OFFSET_END
            return [TopicPartition(topic, p, at) for p in every]
        finder = Subscriber({"bootstrap.servers": self.bootstrap, "group.id": "none"})
        found = finder.offsets_for_times([TopicPartition(topic, p, start) for p in every], timeout=DEADLINE_S)
        finder.close()
        return list(found)

    def create_topic(
        self, topic: str, partitions: int, replicas: int = 1, settings: Mapping[str, str] | None = None
    ) -> None:
        new = admin.NewTopic(topic, partitions, replicas, config=dict(settings or {}))
        answer(self._admin.create_topics([new])[topic])

    def delete_topic(self, topic: str) -> None:
        answer(self._admin.delete_topics([topic])[topic])

    def topics(self) -> set[str]:
        return set(self._admin.list_topics(timeout=DEADLINE_S).topics)

    def partitions_of(self, topic: str) -> int:
        return len(self.leaders(topic))

    def leaders(self, topic: str) -> dict[int, int]:
        """The leader of each partition: its node id, or -1."""
        described = answer(self._admin.describe_topics(TopicCollection([topic]))[topic])
        return {one.id: one.leader.id if one.leader else -1 for one in described.partitions}

    def lagging(self) -> list[str]:
        """The topics that have a replica out of sync, or no leader."""
        return [
            name
            for name, topic in self._admin.list_topics(timeout=DEADLINE_S).topics.items()
            for one in topic.partitions.values()
            if len(one.isrs) < len(one.replicas) or one.leader < 0
        ]

    def add_partitions(self, topic: str, total: int) -> None:
        answer(self._admin.create_partitions([admin.NewPartitions(topic, total)])[topic])

    def change_settings(self, topic: str, settings: Mapping[str, str]) -> None:
        entries = [
            admin.ConfigEntry(key, value, incremental_operation=admin.AlterConfigOpType.SET)
            for key, value in settings.items()
        ]
        resource = admin.ConfigResource(admin.ResourceType.TOPIC, topic, incremental_configs=entries)
        (future,) = self._admin.incremental_alter_configs([resource]).values()
        answer(future)

    def settings_of(self, topic: str) -> dict[str, str]:
        (future,) = self._admin.describe_configs(
            [admin.ConfigResource(admin.ResourceType.TOPIC, topic)]
        ).values()
        return {key: entry.value for key, entry in answer(future).items()}

    def groups(self) -> set[str]:
        return {one.group_id for one in answer(self._admin.list_consumer_groups()).valid}

    def delete_group(self, group: str) -> None:
        answer(self._admin.delete_consumer_groups([group])[group])

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """What the group has committed, without joining it."""
        asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        found = answer(asked[group]).topic_partitions
        return {at.partition: at.offset for at in found if at.topic == topic and at.offset >= 0}

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        (future,) = self._admin.delete_records([TopicPartition(topic, partition, before)]).values()
        answer(future)

    def offsets_of(self, topic: str) -> dict[int, tuple[int, int]]:
        every = [TopicPartition(topic, p) for p in range(self.partitions_of(topic))]
        ends = []
        for spec in (admin.OffsetSpec.earliest(), admin.OffsetSpec.latest()):
            asked = self._admin.list_offsets(dict.fromkeys(every, spec))
            ends.append({at.partition: answer(future).offset for at, future in asked.items()})
        return {at.partition: (ends[0][at.partition], ends[1][at.partition]) for at in every}
