"""One partition, one change: who is in sync, eligible, leading afterwards. Each row is a rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.controller.image import PartitionRegistration, changed_partition
from streamkit.broker.controller.partition_change import Change, Election, Rules, change
from streamkit.broker.controller.records import NO_LEADER, RECOVERED, RECOVERING

TOPIC_ID = b"t" * 16
EVERYBODY = frozenset(range(1, 10))


def partition(**fields: Any) -> PartitionRegistration:
    """Three replicas in sync, led by the first, unless said otherwise."""
    facts: dict[str, Any] = {
        "replicas": (1, 2, 3), "isr": (1, 2, 3), "leader": 1, "leader_epoch": 5, "partition_epoch": 7,
        "directories": (b"1", b"2", b"3"), **fields,
    }  # fmt: skip
    return PartitionRegistration(**facts)


def after(
    before: PartitionRegistration,
    wanted: Change,
    *,
    live: frozenset[int] | set[int] = EVERYBODY,
    min_isr: int = 2,
    elr: bool = True,
    election: Election = Election.ONLINE,
) -> PartitionRegistration:
    """What becomes of a partition; itself if nothing changes."""
    rules = Rules(
        may_lead=lambda one: one in live,
        min_insync_replicas=min_isr,
        has_elr=elr,
        election=election,
        directory=lambda one: str(one).encode(),
    )
    record = change(TOPIC_ID, 0, before, wanted, rules)
    return before if record is None else changed_partition(before, record)


ROWS: dict[str, tuple[PartitionRegistration, Change, dict[str, Any], dict[str, Any]]] = {
    "nothing wanted, nothing changed": (
        partition(), Change(), {},
        {"isr": (1, 2, 3), "leader": 1, "leader_epoch": 5, "partition_epoch": 7},
    ),
    "a follower leaves and enough are left: no eligible leaders": (
        partition(), Change(isr=(1, 2)), {},
        {"isr": (1, 2), "elr": (), "leader": 1, "leader_epoch": 5, "partition_epoch": 8},
    ),
    "the leader goes: the next replica in sync leads": (
        partition(), Change(isr=(2, 3)), {"live": {2, 3}},
        {"isr": (2, 3), "leader": 2, "leader_epoch": 6, "partition_epoch": 8},
    ),
    "below min.insync.replicas those who leave stay eligible": (
        partition(isr=(1, 2)), Change(isr=(2,)), {"live": {2, 3}},
        {"isr": (2,), "elr": (1,), "leader": 2, "last_known_elr": ()},
    ),
    "all at once out of a full ISR: all stay eligible": (
        partition(), Change(isr=(1,)), {}, {"isr": (1,), "elr": (2, 3), "leader": 1},
    ),
    "the last in sync goes: no leader, but it is known who led": (
        partition(isr=(2,), elr=(1,), leader=2), Change(isr=()), {"live": {3}},
        {"isr": (), "elr": (1, 2), "leader": NO_LEADER, "last_known_elr": (2,), "leader_epoch": 6},
    ),
    "an eligible leader comes back and leads alone": (
        partition(isr=(), elr=(1, 2), leader=NO_LEADER, last_known_elr=(2,)), Change(), {"live": {1, 3}},
        {"isr": (1,), "elr": (2,), "leader": 1, "last_known_elr": (), "leader_epoch": 6,
         "leader_recovery_state": RECOVERED},
    ),
    "somebody comes back who is neither in sync nor eligible": (
        partition(isr=(), elr=(1, 2), leader=NO_LEADER, last_known_elr=(2,)), Change(), {"live": {3}},
        {"isr": (), "elr": (1, 2), "leader": NO_LEADER, "partition_epoch": 7},
    ),
    "with ISR and ELR empty the last known leader is elected": (
        partition(isr=(), leader=NO_LEADER, last_known_elr=(2,)), Change(), {"live": {2, 3}},
        {"isr": (2,), "elr": (), "leader": 2, "last_known_elr": (), "leader_recovery_state": RECOVERING},
    ),
    "with ISR and ELR empty nobody else is": (
        partition(isr=(), leader=NO_LEADER, last_known_elr=(2,)), Change(), {"live": {1, 3}},
        {"isr": (), "leader": NO_LEADER, "partition_epoch": 7},
    ),
    "unclean: whoever lives, in the order of the replicas": (
        partition(isr=(), elr=(1,), leader=NO_LEADER, last_known_elr=(1,)), Change(),
        {"live": {2, 3}, "election": Election.UNCLEAN},
        {"isr": (2,), "elr": (), "leader": 2, "leader_recovery_state": RECOVERING},
    ),
    "unclean is the last resort": (
        partition(isr=(), elr=(3,), leader=NO_LEADER), Change(),
        {"live": {2, 3}, "election": Election.UNCLEAN},
        {"isr": (3,), "leader": 3, "leader_recovery_state": RECOVERED},
    ),
    "enough in sync again: eligible leaders are given up": (
        partition(isr=(1,), elr=(2, 3)), Change(isr=(1, 2)), {}, {"isr": (1, 2), "elr": ()},
    ),
    "an eligible leader that is enough by itself: the others are eligible no longer": (
        partition(isr=(), elr=(1, 2), leader=NO_LEADER), Change(), {"min_isr": 1},
        {"isr": (1,), "elr": (), "leader": 1},
    ),
    "one who may have lost bytes leaves ISR and ELR": (
        partition(isr=(1,), elr=(2, 3)), Change(lossy=frozenset((2,))), {}, {"isr": (1,), "elr": (3,)},
    ),
    "a leader that may have lost bytes leads no more": (
        partition(isr=(1,), elr=(2,)), Change(lossy=frozenset((1,))), {"live": {2, 3}},
        {"isr": (2,), "elr": (), "leader": 2, "leader_epoch": 6},
    ),
    "the only one that may have lost bytes is still the last known leader": (
        partition(isr=(1,)), Change(lossy=frozenset((1,))), {"live": {2, 3}},
        {"isr": (), "elr": (), "leader": NO_LEADER, "last_known_elr": (1,)},
    ),
    "unless it lost all of them": (
        partition(isr=(1,)), Change(lossy=frozenset((1,)), wiped=frozenset((1,))), {"live": {2, 3}},
        {"isr": (), "elr": (), "leader": NO_LEADER, "last_known_elr": ()},
    ),
    "min.insync.replicas above the number of replicas means all of them": (
        partition(replicas=(1,), isr=(1,), directories=(b"1",)), Change(), {"min_isr": 3},
        {"isr": (1,), "elr": (), "partition_epoch": 7},
    ),
    "without ELR the last in sync stay named, without a leader": (
        partition(isr=(1,)), Change(isr=()), {"live": {2, 3}, "elr": False},
        {"isr": (1,), "elr": (), "leader": NO_LEADER, "last_known_elr": ()},
    ),
    "without ELR the last in sync leads again": (
        partition(isr=(1,), leader=NO_LEADER), Change(), {"elr": False}, {"isr": (1,), "leader": 1},
    ),
    "preferred: the first replica, if it is in sync": (
        partition(leader=2), Change(), {"election": Election.PREFERRED}, {"leader": 1, "leader_epoch": 6},
    ),
    "preferred: not if it is not in sync": (
        partition(isr=(2, 3), leader=2), Change(), {"election": Election.PREFERRED},
        {"leader": 2, "partition_epoch": 7},
    ),
    "a leader that recovered": (
        partition(isr=(1,), leader_recovery_state=RECOVERING), Change(recovery_state=RECOVERED), {},
        {"leader": 1, "leader_epoch": 5, "leader_recovery_state": RECOVERED},
    ),
    "a move ends with the last of its target in sync, and who goes is gone": (
        partition(replicas=(4, 5, 1, 2), isr=(1, 2, 4), adding_replicas=(4, 5), removing_replicas=(1, 2),
                  directories=(b"4", b"5", b"1", b"2")),
        Change(isr=(1, 2, 4, 5)), {},
        {"replicas": (4, 5), "isr": (4, 5), "leader": 4, "adding_replicas": (), "removing_replicas": (),
         "directories": (b"4", b"5"), "leader_epoch": 6},
    ),
    "not before": (
        partition(replicas=(4, 5, 1, 2), isr=(1, 2), adding_replicas=(4, 5), removing_replicas=(1, 2),
                  directories=(b"4", b"5", b"1", b"2")),
        Change(isr=(1, 2, 4)), {},
        {"replicas": (4, 5, 1, 2), "isr": (1, 2, 4), "leader": 1, "adding_replicas": (4, 5)},
    ),
    "a replica taken away begins a leader epoch": (
        partition(), Change(replicas=(1, 2, 3), removing=(3,)), {},
        {"replicas": (1, 2), "isr": (1, 2), "leader": 1, "leader_epoch": 6, "directories": (b"1", b"2")},
    ),
    "a replica added does not": (
        partition(), Change(replicas=(1, 2, 3, 4), adding=(4,)), {},
        {"replicas": (1, 2, 3, 4), "leader_epoch": 5, "directories": (b"1", b"2", b"3", b"4")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_change(
    row: tuple[PartitionRegistration, Change, dict[str, Any], dict[str, Any]],
) -> None:
    before, wanted, rules, expected = row
    changed = after(before, wanted, **rules)
    assert {name: getattr(changed, name) for name in expected} == expected


SOME = st.lists(st.integers(1, 5), unique=True)


@st.composite
def partitions(draw: st.DrawFn, min_isr: int) -> PartitionRegistration:
    isr, others = draw(SOME), draw(SOME)
    few = len(isr) < min_isr
    return partition(
        replicas=(1, 2, 3, 4, 5),
        isr=tuple(isr),
        elr=tuple(one for one in others if one not in isr) if few else (),
        leader=isr[0] if isr else NO_LEADER,
        directories=(),
    )


@given(data=st.data(), min_isr=st.integers(1, 5), election=st.sampled_from(Election))
def test_what_holds_after_any_change(data: st.DataObject, min_isr: int, election: Election) -> None:
    before = data.draw(partitions(min_isr))
    live, lossy = (data.draw(st.frozensets(st.integers(1, 5))) for _ in range(2))
    wanted = data.draw(SOME)
    changed = after(before, Change(isr=wanted, lossy=lossy), live=live, min_isr=min_isr, election=election)
    assert changed.leader == NO_LEADER or (changed.leader in changed.isr and changed.leader in live)
    assert not set(changed.isr) & set(changed.elr)
    assert not changed.elr or len(changed.isr) < min_isr
    assert changed.leader_epoch - before.leader_epoch == (changed.leader != before.leader)
    assert changed.partition_epoch - before.partition_epoch == (changed != before)
    if changed.leader_recovery_state == RECOVERED:
        assert set(changed.elr) <= {*before.isr, *before.elr}, "nobody becomes eligible who was not"
        assert not lossy & {*changed.isr, *changed.elr}
        assert set(changed.isr) <= {*wanted, *before.isr, *before.elr}
