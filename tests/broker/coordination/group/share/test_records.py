"""The bytes of share groups in `__consumer_offsets`, as Kafka's own tools read them."""

from __future__ import annotations

import pytest

from streamkit.broker.coordination.group.consumer.member import Partition
from streamkit.broker.coordination.group.share.member import ShareMember, target_value
from streamkit.broker.coordination.group.share.records import (
    ShareChange,
    ShareCurrentChange,
    ShareEpochChange,
    ShareGroupMetadataValue,
    ShareMemberChange,
    ShareStatesChange,
    ShareTargetChange,
    ShareTargetEpochChange,
    ShareTargetMetadataValue,
    parse,
    record_of,
)
from streamkit.broker.coordination.group.share.states import ShareStates, states_of
from streamkit.protocol.errors import MalformedMessageError

TOPIC, OTHER = bytes(range(16)), bytes(range(16, 32))
MEMBER = ShareMember(
    member_id="m",
    rack_id="r",
    client_id="c",
    client_host="/h",
    topics=("a", "b"),
    epoch=4,
    previous_epoch=3,
    assigned=frozenset([Partition(TOPIC, 0), Partition(TOPIC, 2)]),
)
STATES = ShareStates(
    initializing=frozenset([Partition(TOPIC, 1)]),
    initialized=frozenset([Partition(TOPIC, 0)]),
    deleting=frozenset([OTHER]),
    names={TOPIC: "a", OTHER: "b"},
)
CHANGES: list[ShareChange] = [
    ShareMemberChange("g", "m", MEMBER.metadata()),
    ShareEpochChange("g", ShareGroupMetadataValue(epoch=4, metadata_hash=-5)),
    ShareTargetEpochChange("g", ShareTargetMetadataValue(assignment_epoch=4, assignment_timestamp=9)),
    ShareTargetChange("g", "m", target_value(MEMBER.assigned)),
    ShareCurrentChange("g", "m", MEMBER.current()),
    ShareStatesChange("g", STATES.value()),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_written_is_read_back(change: ShareChange) -> None:
    assert parse(*record_of(change)) == change
    assert parse(record_of(change).key, None) == change._replace(value=None)


def test_each_record_has_kafkas_number() -> None:
    assert [int.from_bytes(record_of(change).key[:2], "big") for change in CHANGES] == [
        10,
        11,
        12,
        13,
        14,
        15,
    ]


def test_the_bytes_are_kafkas() -> None:
    """Values: version 0, then compact fields in the schema's order, then the tagged ones."""
    epoch = record_of(CHANGES[1])
    assert epoch.key == b"\x00\x0b\x00\x01g"
    assert epoch.value == b"\x00\x00" + b"\x00\x00\x00\x04" + (-5).to_bytes(8, "big", signed=True) + b"\x00"
    states = record_of(CHANGES[5])
    assert states.key == b"\x00\x0f\x00\x01g"
    topic = b"\x02" + TOPIC + b"\x02a"
    assert states.value == (
        b"\x00\x00"
        + (topic + b"\x02\x00\x00\x00\x01\x00")
        + (topic + b"\x02\x00\x00\x00\x00\x00")
        + (b"\x02" + OTHER + b"\x02b\x00")
        + b"\x00"
    )


def test_a_member_is_the_sum_of_its_two_records() -> None:
    blank = ShareMember(member_id="m")
    assert blank.with_metadata(MEMBER.metadata()).with_current(MEMBER.current()) == MEMBER


def test_states_are_read_back() -> None:
    assert states_of(STATES.value()) == STATES
    assert states_of(None) == ShareStates()


def test_what_cannot_be_read_says_so() -> None:
    with pytest.raises(MalformedMessageError):
        parse(record_of(CHANGES[1]).key, b"\x00\x09")
