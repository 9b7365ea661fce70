"""The records of `__transaction_state`, in Kafka's own schema: the latest state of each transactional id.

Values are written in version 1 (flexible, KIP-890); both versions are read.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec

from streamkit.broker.coordination.framing import (
    framed_key,
    framed_value,
    schema_of,
    unframed_key,
    unframed_value,
)
from streamkit.broker.coordination.shard import CoordinatorRecord, Producer
from streamkit.protocol.schema import Int8, Int16, Int32, Int64, Message, schema, tag, versions

TopicPartition: TypeAlias = tuple[str, int]

VALUE_VERSION = 1
NO_PRODUCER_ID: Final = -1
NO_EPOCH: Final = -1
NOT_STARTED: Final = -1


class Status(IntEnum):
    """Kafka's numbers for the states of a transactional id; `label` is how clients are told of them."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6

    @property
    def label(self) -> str:
        return "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def is_prepared(self) -> bool:
        """The outcome is decided, and the markers are on their way."""
        return self in (Status.PREPARE_COMMIT, Status.PREPARE_ABORT)

    @property
    def is_idle(self) -> bool:
        return self in (Status.EMPTY, Status.COMPLETE_COMMIT, Status.COMPLETE_ABORT)


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one transactional id.

    Invariant: `partitions` is empty unless it is ongoing or prepared. While one with an exhausted epoch is
    prepared, `next_producer_id` is the id with which its producer goes on.
    """

    producer_id: int
    epoch: int
    timeout_ms: int
    status: Status = Status.EMPTY
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    partitions: tuple[TopicPartition, ...] = ()
    started_ms: int = NOT_STARTED
    updated_ms: int = 0
    client_version: int = 0
    """The transaction.version by which its producer works: from 2 on the epoch is bumped at each end."""

    @property
    def producer(self) -> Producer:
        return Producer(self.producer_id, self.epoch)


@schema("0", key=0)
class TransactionLogKey(Message):
    transactional_id: str = ""


class PartitionsSchema(Message):
    topic: str = ""
    partition_ids: list[Int32] = []


@schema("0-1", flexible="1+", key=0)
class TransactionLogValue(Message):
    producer_id: Int64 = 0
    previous_producer_id: Annotated[Int64, versions("1+"), tag(0)] = -1
    next_producer_id: Annotated[Int64, versions("1+"), tag(1)] = -1
    producer_epoch: Int16 = 0
    next_producer_epoch: Annotated[Int16, versions("1+"), tag(3)] = -1
    transaction_timeout_ms: Int32 = 0
    transaction_status: Int8 = 0
    transaction_partitions: list[PartitionsSchema] | None = None
    transaction_last_update_timestamp_ms: Int64 = 0
    transaction_start_timestamp_ms: Int64 = 0
    client_transaction_version: Annotated[Int16, versions("1+"), tag(2)] = 0


class TransactionChange(NamedTuple):
    """A transactional id is in this state from now on, or forgotten (None)."""

    transactional_id: str
    value: Transaction | None


def transaction_record(transactional_id: str, transaction: Transaction) -> CoordinatorRecord:
    topics: dict[str, list[int]] = {}
    for topic, partition in transaction.partitions:
        topics.setdefault(topic, []).append(partition)
    value = TransactionLogValue(
        producer_id=transaction.producer_id,
        previous_producer_id=transaction.previous_producer_id,
        next_producer_id=transaction.next_producer_id,
        producer_epoch=transaction.epoch,
        transaction_timeout_ms=transaction.timeout_ms,
        transaction_status=transaction.status,
        transaction_partitions=None
        if transaction.status is Status.EMPTY
        else [PartitionsSchema(topic=topic, partition_ids=found) for topic, found in topics.items()],
        transaction_last_update_timestamp_ms=transaction.updated_ms,
        transaction_start_timestamp_ms=transaction.started_ms,
        client_transaction_version=transaction.client_version,
    )
    return CoordinatorRecord(_key(transactional_id), framed_value(value, VALUE_VERSION))


def transaction_tombstone(transactional_id: str) -> CoordinatorRecord:
    return CoordinatorRecord(_key(transactional_id), None)


def parse(key: bytes, value: bytes | None) -> TransactionChange | None:
    """What a record says; None for a schema that we do not know. Raises MalformedMessageError."""
    if schema_of(key) != TransactionLogKey.KEY:
        return None
    transactional_id = unframed_key(TransactionLogKey, key).transactional_id
    if value is None:
        return TransactionChange(transactional_id, None)
    content = unframed_value(TransactionLogValue, value)
    transaction = Transaction(
        producer_id=content.producer_id,
        epoch=content.producer_epoch,
        timeout_ms=content.transaction_timeout_ms,
        status=Status(content.transaction_status),
        previous_producer_id=content.previous_producer_id,
        next_producer_id=content.next_producer_id,
        partitions=tuple(
            (topic.topic, partition)
            for topic in content.transaction_partitions or ()
            for partition in topic.partition_ids
        ),
        started_ms=content.transaction_start_timestamp_ms,
        updated_ms=content.transaction_last_update_timestamp_ms,
        client_version=content.client_transaction_version,
    )
    return TransactionChange(transactional_id, None if transaction.status is Status.DEAD else transaction)


def _key(transactional_id: str) -> bytes:
    return framed_key(TransactionLogKey(transactional_id=transactional_id))
