"""The bytes of consumer groups in `__consumer_offsets`, as Kafka's own tools read them."""

from __future__ import annotations

import pytest

from streamkit.broker.coordination.group.consumer.member import ConsumerMember
from streamkit.broker.coordination.group.consumer.records import (
    SCHEMAS,
    ClassicMemberMetadata,
    ClassicProtocol,
    CurrentAssignmentValue,
    CurrentTopicPartitions,
    GroupMetadataValue,
    RegexChange,
    RegularExpressionValue,
)
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.modern.partitions import Partition, target_partitions, target_value
from streamkit.broker.coordination.group.modern.records import (
    Change,
    CurrentChange,
    EpochChange,
    MemberChange,
    TargetChange,
    TargetEpochChange,
    TargetEpochValue,
)
from streamkit.protocol.errors import MalformedMessageError

TOPIC = bytes(range(16))
MEMBER = ConsumerMember(
    member_id="m",
    instance_id="i",
    rack_id="r",
    client_id="c",
    client_host="/h",
    topics=("a", "b"),
    regex="x.*",
    rebalance_timeout_ms=300_000,
    assignor="range",
    classic=ClassicMemberMetadata(
        session_timeout_ms=10_000, supported_protocols=[ClassicProtocol(name="range", metadata=b"s")]
    ),
    epoch=4,
    previous_epoch=3,
    state=MemberState.UNREVOKED,
    assigned={Partition(TOPIC, 0): 2, Partition(TOPIC, 2): 4},
    revoking={Partition(TOPIC, 1): 2},
)
CHANGES: list[Change] = [
    EpochChange("g", GroupMetadataValue(epoch=4, metadata_hash=-5)),
    MemberChange("g", "m", MEMBER.metadata()),
    TargetEpochChange("g", TargetEpochValue(assignment_epoch=4, assignment_timestamp=9)),
    TargetChange("g", "m", target_value(MEMBER.assigned)),
    CurrentChange("g", "m", MEMBER.current()),
    RegexChange("g", "x.*", RegularExpressionValue(topics=["x1"], version=1, timestamp=2)),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_a_change_is_read_back_and_so_is_its_tombstone(change: Change) -> None:
    key, value = SCHEMAS.record_of(change)
    assert SCHEMAS.parse(key, value) == change
    gone = change._replace(value=None)
    assert SCHEMAS.record_of(gone) == (key, None)
    assert SCHEMAS.parse(key, None) == gone


def test_the_bytes_are_kafkas() -> None:
    group = b"\x00\x01g"
    member = group + b"\x00\x01m"
    written = [SCHEMAS.record_of(change) for change in CHANGES]
    assert [record.key for record in written] == [
        b"\x00\x03" + group,
        b"\x00\x05" + member,
        b"\x00\x06" + group,
        b"\x00\x07" + member,
        b"\x00\x08" + member,
        b"\x00\x10" + group + b"\x00\x03x.*",
    ]
    assert written[0].value == b"\x00\x00" + b"\x00\x00\x00\x04" + b"\x01\x00\x08" + b"\xff" * 7 + b"\xfb"
    assert written[3].value == (
        b"\x00\x00" + b"\x02" + TOPIC + b"\x03" + b"\x00\x00\x00\x00" + b"\x00\x00\x00\x02" + b"\x00\x00"
    )


def test_a_member_is_the_sum_of_its_two_records() -> None:
    blank = ConsumerMember(member_id="m")
    assert blank.with_metadata(MEMBER.metadata()).with_current(MEMBER.current()) == MEMBER
    assert target_partitions(target_value(MEMBER.assigned)) == MEMBER.assigned.keys()


def test_an_assignment_without_epochs_is_as_old_as_its_member() -> None:
    """As brokers before KIP-1251 wrote it."""
    old = CurrentAssignmentValue(
        member_epoch=7, assigned_partitions=[CurrentTopicPartitions(topic_id=TOPIC, partitions=[1, 2])]
    )
    member = ConsumerMember(member_id="m").with_current(old)
    assert dict(member.assigned) == {Partition(TOPIC, 1): 7, Partition(TOPIC, 2): 7}


def test_a_state_of_the_future_is_unknown() -> None:
    future = CurrentAssignmentValue(member_epoch=7, state=55)
    assert ConsumerMember(member_id="m").with_current(future).state is MemberState.UNKNOWN


def test_others_are_passed_over_and_damage_is_told() -> None:
    assert SCHEMAS.parse(b"\x00\x02\x00\x01g", None) is None
    with pytest.raises(MalformedMessageError):
        SCHEMAS.parse(b"\x00", None)
    with pytest.raises(MalformedMessageError, match="of version 9"):
        SCHEMAS.parse(b"\x00\x03\x00\x01g", b"\x00\x09")
