"""The bytes of share groups in `__consumer_offsets`, as Kafka's own tools read them."""

from __future__ import annotations

import pytest

from streamkit.broker.coordination.group.modern.partitions import Partition, target_value
from streamkit.broker.coordination.group.modern.records import (
    Change,
    CurrentChange,
    EpochChange,
    MemberChange,
    TargetChange,
    TargetEpochChange,
    TargetEpochValue,
)
from streamkit.broker.coordination.group.share.member import ShareMember
from streamkit.broker.coordination.group.share.records import SCHEMAS, GroupMetadataValue, StatesChange
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
CHANGES: list[Change] = [
    MemberChange("g", "m", MEMBER.metadata()),
    EpochChange("g", GroupMetadataValue(epoch=4, metadata_hash=-5)),
    TargetEpochChange("g", TargetEpochValue(assignment_epoch=4, assignment_timestamp=9)),
    TargetChange("g", "m", target_value(MEMBER.assigned)),
    CurrentChange("g", "m", MEMBER.current()),
    StatesChange("g", STATES.value()),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_written_is_read_back(change: Change) -> None:
    assert SCHEMAS.parse(*SCHEMAS.record_of(change)) == change
    assert SCHEMAS.parse(SCHEMAS.record_of(change).key, None) == change._replace(value=None)


def test_each_record_has_kafkas_number() -> None:
    assert [int.from_bytes(SCHEMAS.record_of(change).key[:2], "big") for change in CHANGES] == [
        10,
        11,
        12,
        13,
        14,
        15,
    ]


def test_the_bytes_are_kafkas() -> None:
    """Values: version 0, then compact fields in the schema's order, then the tagged ones."""
    epoch = SCHEMAS.record_of(CHANGES[1])
    assert epoch.key == b"\x00\x0b\x00\x01g"
    assert epoch.value == b"\x00\x00" + b"\x00\x00\x00\x04" + (-5).to_bytes(8, "big", signed=True) + b"\x00"
    states = SCHEMAS.record_of(CHANGES[5])
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
        SCHEMAS.parse(SCHEMAS.record_of(CHANGES[1]).key, b"\x00\x09")
