"""An image as records: the snapshot from which a node begins that need not read the log from its start.

Replaying them gives an equal image. A reader must know the feature levels before anything else; a topic must
be known before its partitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamkit.broker.controller.image import (
    BrokerRegistration,
    ControllerRegistration,
    FeatureRange,
    MetadataChanges,
    MetadataImage,
    PartitionRegistration,
    TopicImage,
)
from streamkit.broker.controller.records import (
    METADATA_VERSION_FEATURE,
    BrokerEndpoint,
    BrokerFeature,
    ConfigRecord,
    ControllerEndpoint,
    ControllerFeature,
    FeatureLevelRecord,
    MetadataRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RegisterControllerRecord,
    TopicRecord,
)


def snapshot(image: MetadataImage) -> Iterator[MetadataRecord]:
    """The shortest records that make this image; the image must not change meanwhile."""
    for name in sorted(image.features, key=lambda name: (name != METADATA_VERSION_FEATURE, name)):
        yield FeatureLevelRecord(name=name, feature_level=image.features[name])
    for controller in image.controllers.values():
        yield _controller(controller)
    for broker in image.brokers.values():
        yield _broker(broker)
    for topic in image.topics.values():
        yield TopicRecord(name=topic.name, topic_id=topic.topic_id)
        for index, partition in enumerate(topic.partitions):
            yield _partition(topic, index, partition)
    for resource, values in image.configs.items():
        for name, value in values.items():
            yield ConfigRecord(
                resource_type=resource.type, resource_name=resource.name, name=name, value=value
            )
    if image.next_producer_id:
        yield ProducerIdsRecord(next_producer_id=image.next_producer_id)


def _broker(broker: BrokerRegistration) -> RegisterBrokerRecord:
    return RegisterBrokerRecord(
        broker_id=broker.broker_id,
        incarnation_id=broker.incarnation_id,
        broker_epoch=broker.epoch,
        end_points=[BrokerEndpoint(name=one.name, host=one.host, port=one.port) for one in broker.endpoints],
        features=[
            BrokerFeature(name=name, min_supported_version=lowest, max_supported_version=highest)
            for name, lowest, highest in _ranges(broker.features)
        ],
        rack=broker.rack,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
        log_dirs=list(broker.log_dirs),
    )


def _controller(controller: ControllerRegistration) -> RegisterControllerRecord:
    return RegisterControllerRecord(
        controller_id=controller.controller_id,
        incarnation_id=controller.incarnation_id,
        end_points=[
            ControllerEndpoint(name=one.name, host=one.host, port=one.port) for one in controller.endpoints
        ],
        features=[
            ControllerFeature(name=name, min_supported_version=lowest, max_supported_version=highest)
            for name, lowest, highest in _ranges(controller.features)
        ],
    )


def _partition(topic: TopicImage, index: int, partition: PartitionRegistration) -> PartitionRecord:
    return PartitionRecord(
        partition_id=index,
        topic_id=topic.topic_id,
        replicas=list(partition.replicas),
        isr=list(partition.isr),
        removing_replicas=list(partition.removing_replicas),
        adding_replicas=list(partition.adding_replicas),
        leader=partition.leader,
        leader_recovery_state=partition.leader_recovery_state,
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
        directories=list(partition.directories),
        eligible_leader_replicas=list(partition.elr) or None,
        last_known_elr=list(partition.last_known_elr) or None,
    )


def _ranges(features: Iterable[FeatureRange]) -> Iterator[tuple[str, int, int]]:
    return ((one.name, one.lowest, one.highest) for one in features)


def restored(records: Iterable[MetadataRecord], offset: int) -> MetadataImage:
    """The image that a snapshot makes; `offset` is that of the last log record which it stands for."""
    image, changes = MetadataImage(), MetadataChanges()
    for number, record in enumerate(records):
        image.replay(record, number, changes)
    image.offset = offset
    return image
