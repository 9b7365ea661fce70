"""The frame of metadata records, and the property that makes recovery right: the log is the whole truth."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamkit.broker.controller.image import ConfigResource, MetadataChanges, ResourceType
from streamkit.broker.controller.records import (
    FENCE,
    OLDEST_METADATA_VERSION,
    BrokerEndpoint,
    BrokerRegistrationChangeRecord,
    ConfigRecord,
    ControllerEndpoint,
    FeatureLevelRecord,
    MetadataRecord,
    NoOpRecord,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RegisterControllerRecord,
    RemoveTopicRecord,
    TopicRecord,
    UnregisterBrokerRecord,
    decode_record,
    encode_record,
)
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest
from streamkit.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest
from tests.broker.controller.cluster import Cluster, state, topic
from tests.broker.controller.test_configs import alter

TOPIC_ID, DIRECTORY_ID = bytes(range(16)), b"d" * 16
ONE, ZERO = b"\0\0\0\x01", bytes(4)

# Written by hand from the specification: frame version, key, version; then the fields; then the tag section.
BY_HAND: list[tuple[MetadataRecord, bytes]] = [
    (TopicRecord(name="foo", topic_id=TOPIC_ID), b"\x01\x02\x00" + b"\x04foo" + TOPIC_ID + b"\x00"),
    (
        PartitionRecord(
            partition_id=1,
            topic_id=TOPIC_ID,
            replicas=[1],
            isr=[1],
            leader=1,
            leader_epoch=0,
            partition_epoch=0,
            directories=[DIRECTORY_ID],
        ),
        b"\x01\x03\x02" + ONE + TOPIC_ID + b"\x02" + ONE + b"\x02" + ONE + b"\x01\x01"
        + ONE + ZERO + ZERO + b"\x02" + DIRECTORY_ID + b"\x00",
    ),
    (
        PartitionChangeRecord(partition_id=0, topic_id=TOPIC_ID, leader=1),
        b"\x01\x05\x02" + ZERO + TOPIC_ID + b"\x01" + b"\x01\x04" + ONE,
    ),
    (
        PartitionChangeRecord(
            partition_id=0, topic_id=TOPIC_ID, isr=[], eligible_leader_replicas=[1], last_known_elr=[]
        ),
        b"\x01\x05\x02" + ZERO + TOPIC_ID
        + b"\x03" + b"\x00\x01\x01" + b"\x06\x05\x02" + ONE + b"\x07\x01\x01",
    ),
    (
        BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=1, fenced=FENCE),
        b"\x01\x11\x02" + ONE + ZERO + ONE + b"\x01" + b"\x00\x01\x01",
    ),
    (UnregisterBrokerRecord(broker_id=1, broker_epoch=1), b"\x01\x01\x00" + ONE + ZERO + ONE + b"\x00"),
    (NoOpRecord(), b"\x01\x14\x00\x00"),
    (
        RegisterControllerRecord(
            controller_id=1,
            incarnation_id=TOPIC_ID,
            end_points=[ControllerEndpoint(name="C", host="h", port=9093)],
        ),
        b"\x01\x1b\x00" + ONE + TOPIC_ID + b"\x00"
        + b"\x02" + b"\x02C" + b"\x02h" + b"\x23\x85" + b"\x00\x00" + b"\x00"
        + b"\x01" + b"\x00",
    ),
    (
        ConfigRecord(resource_type=2, resource_name="a", name="k", value=None),
        b"\x01\x04\x00" + b"\x02" + b"\x02a" + b"\x02k" + b"\x00" + b"\x00",
    ),
    (RemoveTopicRecord(topic_id=TOPIC_ID), b"\x01\x09\x00" + TOPIC_ID + b"\x00"),
    (
        FeatureLevelRecord(name="metadata.version", feature_level=21),
        b"\x01\x0c\x00" + b"\x11metadata.version" + b"\x00\x15" + b"\x00",
    ),
    (
        ProducerIdsRecord(broker_id=1, broker_epoch=1, next_producer_id=1000),
        b"\x01\x0f\x00" + ONE + ZERO + ONE + ZERO + b"\x00\x00\x03\xe8" + b"\x00",
    ),
    (
        RegisterBrokerRecord(
            broker_id=1,
            incarnation_id=TOPIC_ID,
            broker_epoch=1,
            end_points=[BrokerEndpoint(name="P", host="h", port=9092)],
            fenced=False,
            log_dirs=[DIRECTORY_ID],
        ),
        b"\x01\x00\x03" + ONE + b"\x00" + TOPIC_ID + ZERO + ONE
        + b"\x02" + b"\x02P" + b"\x02h" + b"\x23\x84" + b"\x00\x00" + b"\x00"
        + b"\x01" + b"\x00" + b"\x00" + b"\x00"
        + b"\x01" + b"\x00\x11" + b"\x02" + DIRECTORY_ID,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("record", "value"), BY_HAND, ids=lambda item: type(item).__name__)
def test_records_are_krafts_to_the_byte(record: MetadataRecord, value: bytes) -> None:
    assert encode_record(record) == value
    assert decode_record(value) == record


def test_a_log_of_an_older_version_goes_on_in_its_own() -> None:
    """Readers at metadata.version 21 know no eligible leaders in partition records."""
    for record in (PartitionRecord(eligible_leader_replicas=[1]), PartitionChangeRecord(last_known_elr=[1])):
        value = encode_record(record, OLDEST_METADATA_VERSION)
        assert value[2] == 1
        assert decode_record(value) == type(record)()


def test_the_first_logs_of_this_broker_still_load() -> None:
    """What the first version wrote, to the byte: a topic with one partition, led by the only broker."""
    values = [
        b"\x01\x0c\x00" + b"\x11metadata.version" + b"\x00\x15" + b"\x00",
        b"\x01\x00\x03" + ONE + b"\x00" + TOPIC_ID + ZERO + ONE + b"\x01\x01\x00\x00\x00"
        + b"\x01" + b"\x00\x11" + b"\x02" + DIRECTORY_ID,
        b"\x01\x02\x00" + b"\x04foo" + TOPIC_ID + b"\x00",
        b"\x01\x03\x01" + ZERO + TOPIC_ID + b"\x02" + ONE + b"\x02" + ONE + b"\x01\x01"
        + ONE + ZERO + ZERO + b"\x02" + DIRECTORY_ID + b"\x00",
    ]  # fmt: skip
    cluster = Cluster(brokers=0, node_id="1")
    cluster.clock.ms += 60_000
    for offset, value in enumerate(values):
        cluster.image.replay(decode_record(value), offset, MetadataChanges())
        cluster.log.append(value)
    assert not cluster.image.has_elr
    partition = cluster.partition("foo")
    assert (partition.leader, partition.isr, partition.elr) == (1, (1,), ())
    epoch = cluster.registered(1, directories=[DIRECTORY_ID], previous_epoch=1)
    cluster.start(2)
    cluster.create(topic("orders", 1, 2))
    cluster.fence(2)
    assert cluster.image.brokers[1].epoch == epoch == len(values)
    assert cluster.log[-2][:3] == b"\x01\x05\x01"
    assert state(cluster.replayed()) == state(cluster.image)


@pytest.mark.parametrize(
    "value",
    [b"", b"\x01", b"\x02\x02\x00", b"\x01\x63\x00", b"\x01\x02\x09", b"\x01\x02\x00\x04fo"],
    ids=["empty", "no key", "frame version", "unknown key", "unknown version", "cut short"],
)
def test_values_that_are_no_records(value: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_record(value)


@given(name=st.text(max_size=20), value=st.none() | st.text(max_size=20))
def test_records_survive_the_round_trip(name: str, value: str | None) -> None:
    for record in (
        ConfigRecord(resource_type=2, resource_name=name, name=name, value=value),
        RemoveTopicRecord(topic_id=b"\xff" * 16),
    ):
        assert decode_record(encode_record(record)) == record


NAMES = st.sampled_from(["a", "b", "c.d", "c_d", "__x", "bad name"])


class ReplayedImageEqualsLive(RuleBasedStateMachine):
    """Whatever is asked of the controller, reading its log from the start gives the image it has."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(brokers=2)
        self.processes = 0

    @rule(
        name=NAMES,
        partitions=st.integers(-2, 4),
        replication_factor=st.integers(-1, 3),
        configs=st.dictionaries(
            st.sampled_from(["retention.ms", "segment.ms", "nope"]), st.sampled_from(["1", "x"]), max_size=2
        ),
        validate_only=st.booleans(),
    )
    def create(
        self,
        name: str,
        partitions: int,
        replication_factor: int,
        configs: dict[str, str | None],
        validate_only: bool,
    ) -> None:
        wanted = topic(name, partitions, replication_factor, configs=configs)
        (result,) = self.cluster.create(wanted, validate_only=validate_only)
        if not validate_only:
            assert (name in self.cluster.image.topics) or result.error_code

    @rule(names=st.lists(NAMES, max_size=3))
    def delete(self, names: list[str]) -> None:
        self.cluster.apply(self.cluster.controller.delete_topics(DeleteTopicsRequest(topic_names=names)))

    @rule(name=NAMES, count=st.integers(0, 8))
    def grow(self, name: str, count: int) -> None:
        request = CreatePartitionsRequest(
            topics=[CreatePartitionsTopic(name=name, count=count, assignments=None)]
        )
        self.cluster.apply(self.cluster.controller.create_partitions(request))

    @rule(
        name=NAMES,
        key=st.sampled_from(["retention.ms", "cleanup.policy", "nope"]),
        operation=st.integers(0, 3),
        value=st.sampled_from(["1", "compact", "delete", "x"]),
    )
    def alter(self, name: str, key: str, operation: int, value: str) -> None:
        alter(self.cluster, ConfigResource(ResourceType.TOPIC, name), (key, operation, value))

    @rule(broker=st.integers(1, 3), clean=st.booleans())
    def register(self, broker: int, clean: bool) -> None:
        self.cluster.clock.ms += 60_000
        before = self.cluster.image.brokers.get(broker)
        self.processes += 1
        epoch = before.epoch if before and clean else -1
        self.cluster.start(broker, process=self.processes, previous_epoch=epoch)

    @rule()
    def producer_ids(self) -> None:
        epoch = self.cluster.image.brokers[1].epoch
        request = AllocateProducerIdsRequest(broker_id=1, broker_epoch=epoch)
        self.cluster.apply(self.cluster.controller.allocate_producer_ids(request))

    @invariant()
    def replayed_equals_live(self) -> None:
        assert state(self.cluster.replayed()) == state(self.cluster.image)

    @invariant()
    def counts_and_leaders_hold(self) -> None:
        image = self.cluster.image
        assert image.partition_count == sum(len(one.partitions) for one in image.topics.values())
        for one in image.topics.values():
            for partition in one.partitions:
                assert partition.leader in (-1, *partition.isr)
                assert set(partition.isr) <= set(partition.replicas)


TestReplayedImageEqualsLive = ReplayedImageEqualsLive.TestCase
TestReplayedImageEqualsLive.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
