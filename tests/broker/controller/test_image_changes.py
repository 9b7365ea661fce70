"""Two images compared say what the records between them would have said."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamkit.broker.controller.image import ConfigResource, MetadataChanges, MetadataImage, ResourceType
from streamkit.broker.controller.image_changes import changes_between
from streamkit.broker.controller.records import decode_record
from streamkit.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest
from tests.broker.controller.cluster import Cluster, topic
from tests.broker.controller.test_configs import alter


def grow(cluster: Cluster) -> None:
    request = CreatePartitionsRequest(topics=[CreatePartitionsTopic(name="kept", count=5)])
    cluster.apply(cluster.controller.create_partitions(request))


def delete(cluster: Cluster) -> None:
    cluster.apply(cluster.controller.delete_topics(DeleteTopicsRequest(topic_names=["kept"])))


def recreate(cluster: Cluster) -> None:
    delete(cluster)
    cluster.create(topic("kept", 1, 1))


def configure(cluster: Cluster) -> None:
    alter(cluster, ConfigResource(ResourceType.TOPIC, "kept"), ("retention.ms", 0, "1"))


def unconfigure(cluster: Cluster) -> None:
    alter(cluster, ConfigResource(ResourceType.TOPIC, "other"), ("retention.ms", 1, None))


def told(changes: MetadataChanges) -> tuple[object, ...]:
    return (
        [one.name for one in changes.created],
        [one.name for one in changes.deleted],
        sorted((one.name, index) for one, index in changes.new_partitions),
        sorted({(one.name, index) for one, index in changes.changed_partitions}),
        changes.configs,
        changes.brokers,
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda cluster: None,
        lambda cluster: cluster.create(topic("new", 2, 2)),
        lambda cluster: cluster.fence(1),
        grow,
        delete,
        recreate,
        configure,
        unconfigure,
    ],
)
def test_it_is_as_if_the_records_had_been_replayed(change: Callable[[Cluster], object]) -> None:
    cluster = Cluster(brokers=3)
    cluster.create(topic("kept", 2, 2), topic("other", 1, 3, configs={"retention.ms": "5"}))
    begin = len(cluster.log)
    change(cluster)
    replayed, before, after = MetadataChanges(), MetadataImage(), MetadataImage()
    for offset, value in enumerate(cluster.log):
        before_changes = MetadataChanges() if offset < begin else replayed
        after.replay(decode_record(value), offset, before_changes)
        if offset < begin:
            before.replay(decode_record(value), offset, MetadataChanges())
    found = changes_between(before, after)
    assert told(found) == told(replayed)
    assert all(one is after.topics[one.name] for one, _ in found.new_partitions + found.changed_partitions)
