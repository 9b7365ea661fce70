"""A snapshot, replayed, is the image that it was made of."""

from __future__ import annotations

from streamkit.broker.controller.image import ConfigResource, ResourceType
from streamkit.broker.controller.records import decode_record, encode_record
from streamkit.broker.controller.snapshot import restored, snapshot
from streamkit.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest
from streamkit.protocol.messages.controller_registration import ControllerRegistrationRequest, Listener
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest
from tests.broker.controller.cluster import Cluster, state, topic
from tests.broker.controller.test_configs import alter


def test_everything_an_image_can_hold() -> None:
    cluster = Cluster(brokers=4, racks=("r1", None), min_insync_replicas="2")
    cluster.create(topic("a", 3, 3), topic("b.c", 1, 2, configs={"retention.ms": "5"}), topic("gone", 2, 1))
    cluster.apply(cluster.controller.delete_topics(DeleteTopicsRequest(topic_names=["gone"])))
    alter(cluster, ConfigResource(ResourceType.BROKER, "2"), ("log.retention.hours", 0, "1"))
    cluster.apply(
        cluster.controller.register_controller(
            ControllerRegistrationRequest(
                controller_id=9, incarnation_id=b"i" * 16, listeners=[Listener(name="C", host="h", port=1)]
            )
        )
    )
    cluster.apply(
        cluster.controller.allocate_producer_ids(
            AllocateProducerIdsRequest(broker_id=1, broker_epoch=cluster.image.brokers[1].epoch)
        )
    )
    cluster.fence(1, 3)
    cluster.beat(2, want_shut_down=True)
    assert any(one.elr for one in cluster.image.topics["a"].partitions)
    assert cluster.image.brokers[2].in_controlled_shutdown
    values = [encode_record(record, cluster.image.metadata_version) for record in snapshot(cluster.image)]
    again = restored(map(decode_record, values), cluster.image.offset)
    assert state(again) == state(cluster.image)


def test_an_empty_image() -> None:
    cluster = Cluster(brokers=0)
    assert list(snapshot(cluster.image)) == []
    assert state(restored([], -1)) == state(cluster.image)
