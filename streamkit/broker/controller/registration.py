"""Brokers that register, and the producer ids they are given.

A broker process registers once, when it starts. Its epoch is the offset of its registration, so a later
process always has a higher one. A process whose predecessor did not shut down cleanly may have lost the
unflushed tail of its logs; every partition it leads then begins a new leader epoch, so that consumers notice
that offsets were given out twice (KIP-320).
"""

from __future__ import annotations

from dataclasses import dataclass

from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.features import founding_records
from streamkit.broker.controller.image import Endpoint, MetadataImage
from streamkit.broker.controller.records import (
    BrokerEndpoint,
    PartitionChangeRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
)

PRODUCER_ID_BLOCK_SIZE = 1000


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What a broker process says of itself. `clean_start`: the process before it lost nothing."""

    broker_id: int
    incarnation_id: bytes
    endpoints: tuple[Endpoint, ...]
    log_dirs: tuple[bytes, ...]
    rack: str | None = None
    clean_start: bool = True


@dataclass(frozen=True, kw_only=True)
class ProducerIdBlock:
    """Producer ids that no other broker has or will have: [first, first + size)."""

    first: int
    size: int


def register_broker(image: MetadataImage, registration: Registration) -> Decision[int]:
    """The reply is the broker's epoch."""
    records = founding_records(image)
    epoch = image.offset + 1 + len(records)
    records.append(
        RegisterBrokerRecord(
            broker_id=registration.broker_id,
            incarnation_id=registration.incarnation_id,
            broker_epoch=epoch,
            end_points=[
                BrokerEndpoint(name=one.name, host=one.host, port=one.port) for one in registration.endpoints
            ],
            rack=registration.rack,
            fenced=False,
            log_dirs=list(registration.log_dirs),
        )
    )
    if not registration.clean_start:
        records += _elections(image, registration.broker_id)
    return Decision(records, epoch)


def _elections(image: MetadataImage, leader: int) -> list[PartitionChangeRecord]:
    return [
        PartitionChangeRecord(topic_id=topic.topic_id, partition_id=index, leader=leader)
        for topic in image.topics.values()
        for index, partition in enumerate(topic.partitions)
        if partition.leader == leader
    ]


def allocate_producer_ids(
    image: MetadataImage, *, broker_id: int, broker_epoch: int
) -> Decision[ProducerIdBlock]:
    first = image.next_producer_id
    record = ProducerIdsRecord(
        broker_id=broker_id, broker_epoch=broker_epoch, next_producer_id=first + PRODUCER_ID_BLOCK_SIZE
    )
    return Decision([record], ProducerIdBlock(first=first, size=PRODUCER_ID_BLOCK_SIZE))
