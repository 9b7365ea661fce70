"""The bytes of `__consumer_offsets`, as Kafka's own tools read them."""

from __future__ import annotations

import pytest

from streamkit.broker.coordination.group.records import (
    GroupChange,
    GroupMetadataValue,
    MemberMetadata,
    OffsetChange,
    OffsetCommitValue,
    group_record,
    group_tombstone,
    offset_record,
    offset_tombstone,
    parse,
)
from streamkit.protocol import codec
from streamkit.protocol.errors import MalformedMessageError

OFFSET = OffsetCommitValue(offset=7, leader_epoch=2, metadata="m", commit_timestamp=1000)
MEMBER = MemberMetadata(
    member_id="c-1",
    group_instance_id="i",
    client_id="c",
    client_host="/127.0.0.1",
    rebalance_timeout=60_000,
    session_timeout=10_000,
    subscription=b"s",
    assignment=b"a",
)
GENERATION = GroupMetadataValue(
    protocol_type="consumer",
    generation=3,
    protocol="range",
    leader="c-1",
    current_state_timestamp=1000,
    members=[MEMBER],
)


def test_an_offset_is_written_as_key_1_and_value_3() -> None:
    record = offset_record("g", "t", 5, OFFSET)
    assert record.key == b"\0\1" + b"\0\1g" + b"\0\1t" + b"\0\0\0\5"
    assert record.value == b"\0\3" + (7).to_bytes(8) + (2).to_bytes(4) + b"\0\1m" + (1000).to_bytes(8)
    assert parse(*record) == OffsetChange("g", "t", 5, OFFSET)


def test_an_offset_with_its_own_retention_is_written_as_value_1() -> None:
    value = OffsetCommitValue(offset=7, metadata="", commit_timestamp=1, expire_timestamp=9)
    record = offset_record("g", "t", 5, value)
    assert record.value is not None and record.value[:2] == b"\0\1"
    assert parse(*record) == OffsetChange("g", "t", 5, value)


def test_a_generation_is_written_as_key_2_and_value_3() -> None:
    record = group_record("g", GENERATION)
    assert record.key == b"\0\2" + b"\0\1g"
    assert record.value is not None and record.value[:2] == b"\0\3"
    assert parse(*record) == GroupChange("g", GENERATION)


@pytest.mark.parametrize("version", range(5))
def test_every_version_of_a_value_is_read(version: int) -> None:
    offset = version.to_bytes(2) + codec.encode(OFFSET, version)
    change = parse(offset_tombstone("g", "t", 5).key, offset)
    assert isinstance(change, OffsetChange) and change.value is not None and change.value.offset == 7
    generation = version.to_bytes(2) + codec.encode(GENERATION, version)
    read = parse(group_tombstone("g").key, generation)
    assert isinstance(read, GroupChange) and read.value is not None and read.value.generation == 3


def test_tombstones_have_no_value() -> None:
    assert parse(*offset_tombstone("g", "t", 5)) == OffsetChange("g", "t", 5, None)
    assert parse(*group_tombstone("g")) == GroupChange("g", None)


def test_records_of_other_group_protocols_are_passed_over() -> None:
    assert parse(b"\0\3\0\1g", b"\0\0anything") is None


@pytest.mark.parametrize("value", [b"", b"\0", b"\0\5abc", b"\0\3\0\0"])
def test_a_broken_value_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        parse(offset_tombstone("g", "t", 5).key, value)
