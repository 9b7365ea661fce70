"""What clients are told of the image: brokers by listener, leaders that can be reached, replicas that
cannot.

Everything here is derived from the image and one listener's name; whoever keeps an answer keeps the image's
`offset` beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from streamkit.broker.controller.image import (
    BrokerRegistration,
    Endpoint,
    MetadataImage,
    PartitionRegistration,
    TopicImage,
)
from streamkit.broker.controller.records import NO_LEADER
from streamkit.broker.controller.topic_names import INTERNAL_TOPICS
from streamkit.broker.server.authorized_operations import NOT_ASKED, TOPIC
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsResponsePartition
from streamkit.protocol.messages.metadata import (
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

FIRST_VERSION_WITH_LISTENER_NOT_FOUND: Final = 6


class ClusterView:
    """The image, seen through one listener."""

    def __init__(self, image: MetadataImage, listener: str) -> None:
        self._image = image
        self._listener = listener
        self._reachable: dict[int, Endpoint] = {}
        for broker in image.live_brokers():
            endpoint = broker.endpoint(listener)
            if endpoint is not None:
                self._reachable[broker.broker_id] = endpoint

    def brokers(self) -> Iterator[tuple[BrokerRegistration, Endpoint]]:
        """The live brokers that have this listener."""
        for broker_id, endpoint in self._reachable.items():
            yield self._image.brokers[broker_id], endpoint

    def all_brokers(self) -> Iterator[tuple[BrokerRegistration, Endpoint]]:
        """Those that have this listener, fenced ones among them."""
        for broker in self._image.brokers.values():
            endpoint = broker.endpoint(self._listener)
            if endpoint is not None:
                yield broker, endpoint

    def metadata_brokers(self, departed: Collection[int] = ()) -> list[MetadataResponseBroker]:
        """The live brokers and `departed` ones, as Metadata tells them."""
        told = self.brokers()
        if departed:
            told = (
                (broker, endpoint)
                for broker, endpoint in self.all_brokers()
                if broker.broker_id in self._reachable or broker.broker_id in departed
            )
        return [
            MetadataResponseBroker(
                node_id=broker.broker_id, host=endpoint.host, port=endpoint.port, rack=broker.rack
            )
            for broker, endpoint in told
        ]

    def metadata_topic(self, topic: TopicImage, version: int, *, operations: bool) -> MetadataResponseTopic:
        """A topic as Metadata tells it."""
        return MetadataResponseTopic(
            name=topic.name,
            topic_id=topic.topic_id,
            is_internal=topic.name in INTERNAL_TOPICS,
            partitions=[
                self._metadata_partition(index, partition, version)
                for index, partition in enumerate(topic.partitions)
            ],
            topic_authorized_operations=TOPIC if operations else NOT_ASKED,
        )

    def described_partition(
        self, index: int, partition: PartitionRegistration
    ) -> DescribeTopicPartitionsResponsePartition:
        """A partition as DescribeTopicPartitions tells it."""
        return DescribeTopicPartitionsResponsePartition(
            partition_index=index,
            leader_id=self._leader(partition),
            leader_epoch=partition.leader_epoch,
            replica_nodes=list(partition.replicas),
            isr_nodes=list(partition.isr),
            eligible_leader_replicas=list(partition.elr),
            last_known_elr=list(partition.last_known_elr),
            offline_replicas=self._offline(partition.replicas),
        )

    def _metadata_partition(
        self, index: int, partition: PartitionRegistration, version: int
    ) -> MetadataResponsePartition:
        offline = self._offline(partition.replicas)
        return MetadataResponsePartition(
            error_code=self._partition_error(partition, offline, version),
            partition_index=index,
            leader_id=self._leader(partition),
            leader_epoch=partition.leader_epoch,
            replica_nodes=list(partition.replicas),
            isr_nodes=list(partition.isr),
            offline_replicas=offline,
        )

    def _partition_error(
        self, partition: PartitionRegistration, offline: list[int], version: int
    ) -> ErrorCode:
        if partition.leader in self._reachable:
            # Version 0 has no other way to say that a replica is down.
            return ErrorCode.REPLICA_NOT_AVAILABLE if version == 0 and offline else ErrorCode.NONE
        if self._image.is_live(partition.leader) and version >= FIRST_VERSION_WITH_LISTENER_NOT_FOUND:
            return ErrorCode.LISTENER_NOT_FOUND
        return ErrorCode.LEADER_NOT_AVAILABLE

    def _leader(self, partition: PartitionRegistration) -> int:
        return partition.leader if partition.leader in self._reachable else NO_LEADER

    def _offline(self, replicas: Iterable[int]) -> list[int]:
        return [broker_id for broker_id in replicas if broker_id not in self._reachable]
