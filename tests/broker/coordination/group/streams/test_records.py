"""The records of streams groups in `__consumer_offsets`, as changes and back."""

from __future__ import annotations

import pytest

from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.modern.records import (
    Change,
    CurrentChange,
    EpochChange,
    MemberChange,
    TargetChange,
    TargetEpochChange,
    TargetEpochValue,
)
from streamkit.broker.coordination.group.streams.member import (
    StreamsMember,
    target_tasks,
    target_value,
)
from streamkit.broker.coordination.group.streams.records import (
    SCHEMAS,
    CurrentAssignmentValue,
    CurrentTaskIds,
    Endpoint,
    GroupMetadataValue,
    KeyValue,
    TopologyChange,
)
from streamkit.broker.coordination.group.streams.tasks import Task, Tasks
from streamkit.broker.coordination.group.streams.topology import said
from tests.broker.coordination.group.streams.members import WORD_COUNT, active

MEMBER = StreamsMember(
    member_id="m",
    rack_id="r",
    client_id="c",
    client_host="/h",
    rebalance_timeout_ms=300_000,
    topology_epoch=0,
    process_id="p",
    user_endpoint=Endpoint(host="here", port=65535),
    client_tags=(("zone", "a"),),
    epoch=4,
    previous_epoch=3,
    state=MemberState.UNREVOKED,
    assigned=Tasks(active=active("0", 0, 2), standby=active("1", 1), warmup=active("1", 2)),
    revoking=Tasks(active=active("1", 0), standby=active("0", 1)),
    since={Task("0", 0): 2, Task("0", 2): 4, Task("1", 0): 3},
)
CHANGES: list[Change] = [
    EpochChange(
        "g",
        GroupMetadataValue(
            epoch=4,
            metadata_hash=-5,
            validated_topology_epoch=0,
            last_assignment_configs=[KeyValue(key="num.standby.replicas", value="1")],
        ),
    ),
    MemberChange("g", "m", MEMBER.metadata()),
    TargetEpochChange("g", TargetEpochValue(assignment_epoch=4, assignment_timestamp=9)),
    TargetChange("g", "m", target_value(MEMBER.assigned)),
    CurrentChange("g", "m", MEMBER.current()),
    TopologyChange("g", said(WORD_COUNT)),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_what_is_written_is_read_back(change: Change) -> None:
    assert SCHEMAS.parse(*SCHEMAS.record_of(change)) == change
    deleted = change._replace(value=None)
    assert SCHEMAS.parse(*SCHEMAS.record_of(deleted)) == deleted


@pytest.mark.parametrize(("change", "schema"), list(zip(CHANGES, (17, 19, 20, 21, 22, 23), strict=True)))
def test_a_key_begins_with_the_number_of_its_schema(change: Change, schema: int) -> None:
    assert SCHEMAS.record_of(change).key[:2] == schema.to_bytes(2, "big")


def test_other_records_are_not_ours() -> None:
    assert SCHEMAS.parse(b"\x00\x01\x00\x01g", b"") is None


def test_a_member_is_the_sum_of_its_two_records() -> None:
    read = StreamsMember(member_id="m").with_metadata(MEMBER.metadata()).with_current(MEMBER.current())
    assert read == MEMBER
    assert target_tasks(target_value(MEMBER.held)) == MEMBER.held


def test_active_tasks_without_an_epoch_have_been_there_since_the_members_own() -> None:
    value = CurrentAssignmentValue(
        member_epoch=7, state=1, active_tasks=[CurrentTaskIds(subtopology_id="0", partitions=[3])]
    )
    assert StreamsMember(member_id="m").with_current(value).since == {Task("0", 3): 7}


def test_the_state_of_a_later_version_is_unknown() -> None:
    assert StreamsMember(member_id="m").with_current(CurrentAssignmentValue(state=9)).state is (
        MemberState.UNKNOWN
    )
