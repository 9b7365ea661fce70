"""The partitions that this broker leads, following the cluster's metadata: opened, reconfigured, deleted.

The metadata log awaits `apply` before it answers whoever asked for a change, so a client that was told of a
new topic finds its partitions served.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import structlog

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.effective_config import topic_config
from streamkit.broker.controller.image import (
    MetadataChanges,
    MetadataImage,
    PartitionRegistration,
    ResourceType,
    TopicImage,
)
from streamkit.broker.controller.topic_names import CLUSTER_METADATA, INTERNAL_TOPICS
from streamkit.broker.log.append import Origin
from streamkit.broker.replication.partition import PartitionLeader
from streamkit.broker.server.partition_actor import Answer, PartitionActor, TopicTraffic
from streamkit.protocol.error_codes import ErrorCode
from streamkit.telemetry.instruments import Registry

if TYPE_CHECKING:
    from streamkit.broker.storage.log_directory import LogDirectory

log = structlog.get_logger(__name__)


class Partitions:
    def __init__(self, config: BrokerConfig, directory: LogDirectory, metrics: Registry) -> None:
        self._config = config
        self._directory = directory
        self.by_name: dict[tuple[str | None, int], PartitionActor] = {}
        """(topic, partition) → actor; for whoever asks often. No topic (None) has no actor."""
        self._bytes_in = metrics.counter("broker_bytes_in_total", "Bytes of batches appended", ("topic",))
        self._bytes_out = metrics.counter("broker_bytes_out_total", "Bytes of batches fetched", ("topic",))
        self._records_in = metrics.counter("broker_records_in_total", "Records appended", ("topic",))

    def get(self, topic: str | None, partition: int) -> PartitionActor | None:
        return self.by_name.get((topic, partition))

    def __iter__(self) -> Iterator[PartitionActor]:
        return iter(tuple(self.by_name.values()))

    def __len__(self) -> int:
        return len(self.by_name)

    async def open_all(self, image: MetadataImage) -> None:
        """At start: every partition that the metadata says this broker leads; what it disowns is
        deleted.
        """
        if image.topics:
            await self._directory.delete_strays(
                [
                    (name, partition)
                    for name, partition in self._directory.partitions_on_disk()
                    if name != CLUSTER_METADATA and image.partition(name, partition) is None
                ]
            )
        for topic in image.topics.values():
            for partition in range(len(topic.partitions)):
                await self._open(image, topic, partition)

    async def apply(self, image: MetadataImage, changes: MetadataChanges) -> None:
        """Make what is served here what `image` says, as far as `changes` touch it."""
        if changes.deleted:
            await self._delete(changes.deleted)
        for topic, partition in changes.new_partitions:
            if image.topics.get(topic.name) is topic:
                await self._open(image, topic, partition)
        for topic, partition in changes.changed_partitions:
            actor = self.get(topic.name, partition)
            if actor is not None:
                actor.leader.leader_epoch = topic.partitions[partition].leader_epoch
        if any(resource.type == ResourceType.BROKER for resource in changes.configs):
            self._configure(image, image.topics)
        else:
            self._configure(image, [name for kind, name in changes.configs if kind == ResourceType.TOPIC])

    def fail(self, code: ErrorCode) -> None:
        """None of the partitions can be served any more."""
        for actor in self:
            actor.end(code)

    async def _open(self, image: MetadataImage, topic: TopicImage, partition: int) -> None:
        registration = topic.partitions[partition]
        if registration.leader != self._config.node_id:
            return
        opened = await self._directory.open_partition(
            topic.name, topic.topic_id, partition, topic_config(image, self._config, topic.name)
        )
        self.by_name[topic.name, partition] = PartitionActor(
            opened,
            self._leader(registration, opened.flushed_offset, opened.high_watermark),
            traffic=self._traffic(topic.name),
            origin=Origin.COORDINATOR if topic.name in INTERNAL_TOPICS else Origin.CLIENT,
        )

    def _leader(
        self, registration: PartitionRegistration, flushed_offset: int, high_watermark: int
    ) -> PartitionLeader[Answer]:
        return PartitionLeader(
            node_id=self._config.node_id,
            leader_epoch=registration.leader_epoch,
            isr=registration.isr,
            flushed_offset=flushed_offset,
            high_watermark=high_watermark,
        )

    async def _delete(self, topics: Iterable[TopicImage]) -> None:
        logs = []
        for topic in topics:
            for partition in range(len(topic.partitions)):
                actor = self.by_name.pop((topic.name, partition), None)
                if actor is not None:
                    actor.end(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                    logs.append(actor.log)
            for family in (self._bytes_in, self._bytes_out, self._records_in):
                family.forget(topic.name)
        await self._directory.delete_partitions(logs)

    def _configure(self, image: MetadataImage, topics: Iterable[str]) -> None:
        for name in topics:
            topic = image.topics.get(name)
            if topic is None:
                continue
            config = topic_config(image, self._config, name)
            for partition in range(len(topic.partitions)):
                actor = self.get(name, partition)
                if actor is not None:
                    actor.log.config = config

    def _traffic(self, topic: str) -> TopicTraffic:
        return TopicTraffic(
            self._bytes_in.labels(topic), self._bytes_out.labels(topic), self._records_in.labels(topic)
        )
