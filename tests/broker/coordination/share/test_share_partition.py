"""Records handed out by stretches, as a model that knows every record by itself says they must be."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamkit.broker.coordination.shard import Refusal
from streamkit.broker.coordination.share.share_partition import (
    Acknowledgement,
    AcknowledgeType,
    Acquired,
    Fetched,
    Limits,
    SharePartition,
    Transition,
    Wish,
)
from streamkit.broker.coordination.share.states import RecordState, StateBatch
from streamkit.protocol.error_codes import ErrorCode

ACCEPT, RELEASE, REJECT, RENEW, GAP = (
    [AcknowledgeType.ACCEPT],
    [AcknowledgeType.RELEASE],
    [AcknowledgeType.REJECT],
    [AcknowledgeType.RENEW],
    [AcknowledgeType.GAP],
)
LIMITS = Limits(delivery_count=5, record_locks=100, lock_ms=1000)
BATCHES = [Fetched(first, first + 9) for first in range(0, 200, 10)]


def partition(limits: Limits = LIMITS) -> SharePartition:
    return SharePartition(limits, start_offset=0)


def read(share: SharePartition) -> tuple[list[Fetched], int]:
    offset = share.next_fetch_offset()
    return [one for one in BATCHES if one.last >= offset], offset


def acquire(
    share: SharePartition, member: str = "m", most: int = 10, *, exact: bool = False, now_ms: int = 0
) -> list[Acquired]:
    fetched, offset = read(share)
    return share.acquire(Wish(member, most, 10, exact), fetched, offset, now_ms)


def answer(share: SharePartition, first: int, last: int, types: list[AcknowledgeType], at: int = 0) -> None:
    share.persisted(share.acknowledge("m", [Acknowledgement(first, last, types)], at))


def held(share: SharePartition) -> list[tuple[int, int, RecordState, int]]:
    return [(one.first, one.last, one.state, one.delivery_count) for one in share.stretches]


def test_whole_batches_are_handed_out_until_there_are_as_many_records_as_wanted() -> None:
    share = partition()
    assert acquire(share, most=11) == [Acquired(0, 9, 1), Acquired(10, 19, 1)]
    assert share.end_offset == 20


def test_a_limit_of_records_is_kept_exactly_where_that_is_asked_for() -> None:
    share = partition()
    assert acquire(share, most=3, exact=True) == [Acquired(0, 2, 1)]
    assert acquire(share, most=8, exact=True) == [Acquired(3, 10, 1)]
    assert share.end_offset == 11


def test_two_members_get_different_records() -> None:
    share = partition()
    assert acquire(share, "a") == [Acquired(0, 9, 1)]
    assert acquire(share, "b") == [Acquired(10, 19, 1)]
    with pytest.raises(Refusal, match="not the owner") as refused:
        share.acknowledge("a", [Acknowledgement(10, 19, ACCEPT)], 0)
    assert refused.value.code is ErrorCode.INVALID_RECORD_STATE


def test_the_start_moves_over_what_is_accepted_at_the_beginning_only() -> None:
    share = partition()
    acquire(share)
    answer(share, 5, 9, ACCEPT)
    assert (share.start_offset, share.to_write().complete_count) == (0, 5)
    answer(share, 0, 4, ACCEPT)
    assert (share.start_offset, held(share)) == (10, [])


def test_what_is_released_is_handed_out_again_and_counted() -> None:
    share = partition()
    acquire(share)
    answer(share, 3, 4, RELEASE)
    assert share.next_fetch_offset() == 3
    assert acquire(share, most=1) == [Acquired(3, 4, 2)]


def test_one_type_for_each_record_is_kept_apart_only_where_types_differ() -> None:
    share = partition()
    acquire(share)
    types = [AcknowledgeType.ACCEPT] * 4 + [AcknowledgeType.REJECT] * 2 + [AcknowledgeType.RELEASE] * 4
    transition = share.acknowledge("m", [Acknowledgement(0, 9, types)], 0)
    assert transition.batches == (
        StateBatch(0, 3, RecordState.ACKNOWLEDGED, 1),
        StateBatch(4, 5, RecordState.ARCHIVED, 1),
        StateBatch(6, 9, RecordState.AVAILABLE, 1),
    )
    assert share.to_write(transition.batches)[:2] == (0, 6)
    share.persisted(transition)
    assert held(share) == [(6, 9, RecordState.AVAILABLE, 1)]


def test_nothing_counts_before_it_is_persisted_and_nothing_has_happened_if_it_fails() -> None:
    share = partition()
    acquire(share)
    transition = share.acknowledge("m", [Acknowledgement(0, 9, RELEASE)], 0)
    assert share.next_fetch_offset() == 10
    with pytest.raises(Refusal):
        share.acknowledge("m", [Acknowledgement(0, 9, ACCEPT)], 0)
    share.failed(transition)
    answer(share, 0, 9, ACCEPT)
    assert share.start_offset == 10


def test_a_lock_that_runs_out_gives_the_records_to_somebody_else() -> None:
    share = partition()
    acquire(share)
    assert share.wake_at_ms == 1000
    assert share.expire(999) == []
    assert share.expire(1000) == [StateBatch(0, 9, RecordState.AVAILABLE, 1)]
    assert acquire(share, "other", now_ms=1000) == [Acquired(0, 9, 2)]
    with pytest.raises(Refusal):
        share.acknowledge("m", [Acknowledgement(0, 9, ACCEPT)], 1001)


def test_a_lock_that_runs_out_while_the_answer_is_persisted_matters_only_if_that_fails() -> None:
    share = partition()
    acquire(share)
    transition = share.acknowledge("m", [Acknowledgement(0, 9, ACCEPT)], 0)
    assert share.expire(2000) == []
    share.failed(transition)
    assert share.next_fetch_offset() == 0
    assert acquire(share) == [Acquired(0, 9, 2)]


def test_a_renewed_lock_holds_longer() -> None:
    share = partition()
    acquire(share)
    assert share.acknowledge("m", [Acknowledgement(0, 4, RENEW)], 600) == Transition((), ())
    assert share.expire(1000) == [StateBatch(5, 9, RecordState.AVAILABLE, 1)]
    assert share.expire(1600) == [StateBatch(0, 4, RecordState.AVAILABLE, 1)]


def test_a_record_is_archived_when_it_was_delivered_as_often_as_it_may_be() -> None:
    share = partition(LIMITS._replace(delivery_count=2))
    acquire(share)
    answer(share, 0, 9, RELEASE)
    assert acquire(share) == [Acquired(0, 9, 2)]
    answer(share, 0, 4, RELEASE)
    assert share.expire(1000) == [StateBatch(5, 9, RecordState.ARCHIVED, 2)]
    assert share.start_offset == 10


def test_suspects_are_handed_out_in_smaller_and_smaller_stretches() -> None:
    share = partition()
    sizes = []
    for _ in range(6):
        got = acquire(share, most=10)
        sizes.append(sum(one.last - one.first + 1 for one in got))
        for one in got:
            answer(share, one.first, one.last, RELEASE)
    assert sizes == [10, 10, 10, 5, 1, 1]


def test_a_closed_session_gives_back_what_it_held_as_if_it_was_never_delivered() -> None:
    share = partition()
    acquire(share, "a")
    acquire(share, "b")
    transition = share.release("a")
    assert transition.batches == (StateBatch(0, 9, RecordState.AVAILABLE, 0),)
    share.persisted(transition)
    assert acquire(share, "b") == [Acquired(0, 9, 1)]


def test_offsets_without_a_record_are_never_waited_for() -> None:
    share = partition()
    fetched = [Fetched(0, 4), Fetched(5, 5, deliverable=False), Fetched(10, 14)]
    got = share.acquire(Wish("m", 100, 100), fetched, 0, 0)
    assert got == [Acquired(0, 4, 1), Acquired(10, 14, 1)]
    answer(share, 0, 4, ACCEPT)
    assert share.start_offset == 10


def test_what_was_compacted_away_since_it_was_released_is_archived() -> None:
    share = partition()
    acquire(share, most=20)
    answer(share, 0, 19, RELEASE)
    assert share.acquire(Wish("m", 10, 10), [Fetched(15, 19)], 0, 0) == [Acquired(15, 19, 2)]
    assert share.start_offset == 15


def test_the_window_grows_no_further_than_the_limit_of_locks() -> None:
    share = partition()
    acquire(share, most=500)
    assert share.end_offset == 100
    assert not share.can_acquire
    answer(share, 50, 59, ACCEPT)
    assert not share.can_acquire
    answer(share, 0, 9, ACCEPT)
    assert share.can_acquire
    assert acquire(share, most=500) == [Acquired(100, 109, 1)]


def test_records_deleted_from_the_log_are_nobodys_any_more() -> None:
    share = partition()
    acquire(share, most=20)
    share.log_begins_at(15)
    answer(share, 0, 19, ACCEPT)
    assert share.start_offset == 20
    share.log_begins_at(50)
    assert (share.start_offset, share.end_offset) == (50, 50)


def test_what_was_never_answered_before_a_leader_changed_is_free_again() -> None:
    batches = [StateBatch(5, 9, RecordState.ACKNOWLEDGED, 1), StateBatch(12, 13, RecordState.AVAILABLE, 2)]
    share = SharePartition(LIMITS, start_offset=2, batches=batches)
    assert share.next_fetch_offset() == 2
    assert acquire(share, most=7) == [Acquired(2, 4, 1), Acquired(10, 11, 1), Acquired(12, 13, 3)]
    assert share.end_offset == 14


def test_persisted_nonsense_is_read_as_records_to_deliver() -> None:
    """The API that writes states takes any numbers, as Kafka's does."""
    batches = [StateBatch(0, 5, 9, 1), StateBatch(7, 6, 2, 1), StateBatch(4, 8, RecordState.ACQUIRED, 3)]
    share = SharePartition(LIMITS, start_offset=2, batches=batches)
    assert held(share) == [(2, 3, RecordState.AVAILABLE, 1), (4, 8, RecordState.AVAILABLE, 3)]
    assert acquire(share, most=2) == [Acquired(2, 3, 2)]
    share = SharePartition(LIMITS, start_offset=0, batches=[StateBatch(0, 0, 0, 2**15 - 1)])
    assert acquire(share)[0].delivery_count < 2**15
    share = SharePartition(LIMITS, start_offset=0, batches=[StateBatch(5, 2**40, 2, 1)])
    assert share.to_write().complete_count == 2**31 - 1


@pytest.mark.parametrize("first, which", [(5, "last"), (10, "first")])
def test_what_was_never_handed_out_cannot_be_answered(first: int, which: str) -> None:
    share = partition()
    acquire(share)
    with pytest.raises(Refusal, match=which) as refused:
        share.acknowledge("m", [Acknowledgement(first, 12, ACCEPT)], 0)
    assert refused.value.code is ErrorCode.INVALID_REQUEST


MEMBERS = st.sampled_from(["a", "b"])
KINDS = st.sampled_from(list(AcknowledgeType))


class PerRecord(RuleBasedStateMachine):
    """The model: a dictionary with an entry for each record."""

    def __init__(self) -> None:
        super().__init__()
        self.share = SharePartition(Limits(4, 60, 1000), start_offset=0)
        self.now_ms = 0
        self.records: dict[int, list[object]] = {}
        self.pending: list[tuple[Transition, dict[int, tuple[RecordState, int]]]] = []
        self.accepted: set[int] = set()

    def state(self, offset: int) -> tuple[RecordState, int, str]:
        for one in self.share.stretches:
            if one.first <= offset <= one.last:
                return one.state, one.delivery_count, one.member_id
        raise AssertionError(offset)

    @rule(member=MEMBERS, most=st.integers(1, 30), exact=st.booleans())
    def acquires(self, member: str, most: int, exact: bool) -> None:
        before = {
            offset: self.state(offset) for offset in range(self.share.start_offset, self.share.end_offset)
        }
        got = acquire(self.share, member, most, exact=exact, now_ms=self.now_ms)
        taken = [offset for one in got for offset in range(one.first, one.last + 1)]
        assert len(taken) == len(set(taken))
        assert not exact or len(taken) <= most
        for one in got:
            for offset in range(one.first, one.last + 1):
                state, count, _ = before.get(offset, (RecordState.AVAILABLE, 0, ""))
                assert state is RecordState.AVAILABLE
                assert offset not in self.accepted
                assert one.delivery_count == count + 1 <= 4
                assert self.state(offset) == (RecordState.ACQUIRED, one.delivery_count, member)
        for offset, was in before.items():
            if offset not in taken:
                assert self.state(offset) == was

    @rule(member=MEMBERS, first=st.integers(0, 80), size=st.integers(0, 12), kind=KINDS)
    def answers(self, member: str, first: int, size: int, kind: AcknowledgeType) -> None:
        first += self.share.start_offset
        last = first + size
        inside = range(max(first, self.share.start_offset), last + 1)
        allowed = last < self.share.end_offset and all(
            self.state(offset)[0] is RecordState.ACQUIRED
            and self.state(offset)[2] == member
            and not any(offset in targets for _, targets in self.pending)
            for offset in inside
        )
        try:
            transition = self.share.acknowledge(member, [Acknowledgement(first, last, [kind])], self.now_ms)
        except Refusal:
            assert not allowed
            return
        assert allowed
        if kind is AcknowledgeType.RENEW:
            assert not transition.stretches
            return
        targets = {}
        for batch in transition.batches:
            for offset in range(batch.first, batch.last + 1):
                targets[offset] = (RecordState(batch.state), batch.delivery_count)
        assert sorted(targets) == list(inside)
        self.pending.append((transition, targets))

    @precondition(lambda self: self.pending)
    @rule(succeeds=st.booleans())
    def persists(self, succeeds: bool) -> None:
        transition, targets = self.pending.pop(0)
        if not succeeds:
            self.share.failed(transition)
            return
        self.share.persisted(transition)
        for offset, (state, count) in targets.items():
            if state.is_final:
                self.accepted.add(offset)
            if offset >= self.share.start_offset:
                assert self.state(offset)[:2] == (state, count) or state.is_final

    @rule(passed_ms=st.integers(1, 1200))
    def time_passes(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        before = {
            offset: self.state(offset) for offset in range(self.share.start_offset, self.share.end_offset)
        }
        for batch in self.share.expire(self.now_ms):
            for offset in range(batch.first, batch.last + 1):
                assert before[offset][0] is RecordState.ACQUIRED
                spent = before[offset][1] >= 4
                assert batch.state == (RecordState.ARCHIVED if spent else RecordState.AVAILABLE)

    @rule(member=MEMBERS)
    def closes(self, member: str) -> None:
        self.share.persisted(self.share.release(member))

    @rule(step=st.integers(1, 15))
    def log_moves(self, step: int) -> None:
        self.share.log_begins_at(self.share.start_offset + step)

    @invariant()
    def stretches_tile_the_window(self) -> None:
        position = self.share.start_offset
        for one in self.share.stretches:
            assert one.first == position <= one.last
            position = one.last + 1
            assert (one.member_id != "") == (one.state is RecordState.ACQUIRED)
        assert position == self.share.end_offset
        assert not self.share.stretches or not self.share.stretches[0].state.is_final
        free = [one.first for one in self.share.stretches if one.state is RecordState.AVAILABLE]
        assert self.share.next_fetch_offset() == min(free, default=self.share.end_offset)

    @invariant()
    def a_lock_is_waited_for(self) -> None:
        locks = [one.locked_until_ms for one in self.share.stretches if one.state is RecordState.ACQUIRED]
        if self.share.wake_at_ms is None:
            assert all(lock == 2**62 for lock in locks)
        else:
            assert self.share.wake_at_ms <= min(locks, default=self.share.wake_at_ms)


PerRecord.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestPerRecord = PerRecord.TestCase
