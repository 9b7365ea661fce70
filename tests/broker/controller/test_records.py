"""The frame of metadata records, and the property that makes recovery right: the log is the whole truth."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamkit.broker.controller.image import ConfigResource, ResourceType
from streamkit.broker.controller.records import (
    ConfigRecord,
    PartitionChangeRecord,
    RemoveTopicRecord,
    TopicRecord,
    decode_record,
    encode_record,
)
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest
from tests.broker.controller.cluster import Cluster, state, topic
from tests.broker.controller.test_configs import alter


def test_the_frame_is_that_of_kraft() -> None:
    record = TopicRecord(name="foo", topic_id=bytes(range(16)))
    # frame version 1, key 2, version 0, compact string of 3, 16 bytes, no tags
    assert encode_record(record) == b"\x01\x02\x00\x04foo" + bytes(range(16)) + b"\x00"
    assert decode_record(encode_record(record)) == record


def test_a_change_record_carries_only_what_changed() -> None:
    record = PartitionChangeRecord(partition_id=0, topic_id=bytes(16), leader=1)
    assert len(encode_record(record)) == 3 + 4 + 16 + 1 + (1 + 1 + 4)  # frame, id, topic, one tagged field
    assert decode_record(encode_record(record)) == record


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
        self.cluster.register(broker, clean_start=clean)

    @rule()
    def producer_ids(self) -> None:
        self.cluster.apply(self.cluster.controller.allocate_producer_ids(1, 1))

    @invariant()
    def replayed_equals_live(self) -> None:
        assert state(self.cluster.replayed()) == state(self.cluster.image)

    @invariant()
    def counts_and_leaders_hold(self) -> None:
        image = self.cluster.image
        assert image.partition_count == sum(len(one.partitions) for one in image.topics.values())
        for one in image.topics.values():
            for partition in one.partitions:
                assert partition.leader in partition.isr and set(partition.isr) <= set(partition.replicas)


TestReplayedImageEqualsLive = ReplayedImageEqualsLive.TestCase
TestReplayedImageEqualsLive.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
