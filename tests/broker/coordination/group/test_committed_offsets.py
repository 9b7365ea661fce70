"""The rules of committed offsets, one test for each sentence."""

from __future__ import annotations

import pytest

from streamkit.broker.coordination.group.classic.group import ClassicState
from streamkit.broker.coordination.shard import Decision
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchResponseGroup
from tests.broker.coordination.group.harness import GROUP, SESSION_MS, Coordinator, Waiter, protocols

NONE = ErrorCode.NONE
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


class TestCommitting:
    def test_g3_a_commit_is_read_back_also_after_a_crash(self, coordinator: Coordinator) -> None:
        (member_id,) = coordinator.stable()
        assert coordinator.commit(7, member_id=member_id, generation=1) == NONE
        assert coordinator.committed() == 7
        coordinator.crash()
        assert coordinator.committed() == 7

    def test_g2_another_generation_may_not_commit(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        for generation in (-1, 0, 1, 3):
            assert coordinator.commit(7, member_id=a, generation=generation) == ErrorCode.ILLEGAL_GENERATION
        assert coordinator.commit(7, member_id=b, generation=2) == NONE

    def test_g2_a_stranger_may_not_commit(self, coordinator: Coordinator) -> None:
        coordinator.stable()
        assert coordinator.commit(7, member_id="stranger", generation=1) == ErrorCode.UNKNOWN_MEMBER_ID
        assert coordinator.commit(7) == ErrorCode.UNKNOWN_MEMBER_ID, "nor somebody without a group"

    def test_an_unknown_group_has_no_generation(self, coordinator: Coordinator) -> None:
        assert coordinator.commit(7, generation=1, version=8) == ErrorCode.ILLEGAL_GENERATION
        assert coordinator.commit(7, generation=1, version=9) == ErrorCode.GROUP_ID_NOT_FOUND

    def test_members_commit_while_others_gather_but_not_between_join_and_sync(
        self, coordinator: Coordinator
    ) -> None:
        a, b = coordinator.stable(2)
        coordinator.join(a)
        assert coordinator.commit(7, member_id=b, generation=2) == NONE
        coordinator.join(b)
        assert coordinator.commit(8, member_id=b, generation=3) == ErrorCode.REBALANCE_IN_PROGRESS
        assert coordinator.commit(8, member_id=b, generation=2) == ErrorCode.ILLEGAL_GENERATION

    def test_a_commit_keeps_its_member_alive(self, coordinator: Coordinator) -> None:
        (member_id,) = coordinator.stable()
        coordinator.advance(SESSION_MS - 1)
        coordinator.commit(7, member_id=member_id, generation=1)
        coordinator.advance(SESSION_MS - 1)
        assert member_id in coordinator.group.members

    def test_a_simple_consumer_commits_without_a_group(self, coordinator: Coordinator) -> None:
        assert coordinator.commit(7) == NONE
        assert coordinator.committed() == 7
        described = coordinator.describe()
        assert (described.group_state, described.protocol_type) == ("Empty", "")

    def test_an_operator_sets_offsets_of_an_empty_group(self, coordinator: Coordinator) -> None:
        (member_id,) = coordinator.stable()
        coordinator.leave(member_id)
        assert coordinator.commit(3) == NONE
        assert coordinator.committed() == 3

    def test_metadata_has_a_maximum_size(self, coordinator: Coordinator) -> None:
        assert coordinator.commit(7, metadata="x" * 4097) == ErrorCode.OFFSET_METADATA_TOO_LARGE
        assert coordinator.committed() == -1
        assert coordinator.commit(7, metadata="x" * 4096) == NONE

    def test_null_metadata_is_empty(self, coordinator: Coordinator) -> None:
        assert coordinator.commit(7, metadata=None) == NONE
        assert coordinator.committed() == 7

    def test_what_was_never_committed_is_minus_one(self, coordinator: Coordinator) -> None:
        assert coordinator.committed() == -1


class TestDeleting:
    def test_an_offset_is_deleted_unless_a_member_subscribes_to_its_topic(
        self, coordinator: Coordinator
    ) -> None:
        (member_id,) = coordinator.stable()
        coordinator.commit(7, member_id=member_id, generation=1)
        coordinator.commit(8, member_id=member_id, generation=1, topic="other")
        (needed,) = coordinator.delete_offset("topic").topics[0].partitions
        (free,) = coordinator.delete_offset("other").topics[0].partitions
        assert (needed.error_code, free.error_code) == (ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, NONE)
        assert (coordinator.committed("topic"), coordinator.committed("other")) == (7, -1)

    def test_no_topic_is_free_while_subscriptions_cannot_be_read(self, coordinator: Coordinator) -> None:
        coordinator.stable(offers=protocols(range=b"?"))
        (answer,) = coordinator.delete_offset("other").topics[0].partitions
        assert answer.error_code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC

    def test_groups_of_other_kinds_must_be_empty(self, coordinator: Coordinator) -> None:
        (member_id,) = coordinator.stable(protocol_type="connect")
        assert coordinator.delete_offset().error_code == ErrorCode.NON_EMPTY_GROUP
        coordinator.leave(member_id)
        assert coordinator.delete_offset().error_code == NONE

    def test_an_unknown_group_is_not_found(self, coordinator: Coordinator) -> None:
        assert coordinator.delete_offset().error_code == ErrorCode.GROUP_ID_NOT_FOUND

    def test_the_last_offset_of_a_simple_group_takes_the_group_along(self, coordinator: Coordinator) -> None:
        coordinator.commit(7)
        coordinator.delete_offset()
        assert not coordinator.shard.groups

    def test_offsets_of_a_deleted_topic_are_forgotten(self, coordinator: Coordinator) -> None:
        coordinator.commit(7)
        coordinator.commit(8, topic="other")
        decision = Decision(coordinator.at)
        coordinator.shard.forget_topics(frozenset({"topic"}), decision)
        coordinator.settle(decision)
        assert (coordinator.committed(), coordinator.committed("other")) == (-1, 8)


class TestRetention:
    def emptied(self, coordinator: Coordinator) -> None:
        """A group that committed, and whose member left a day later."""
        (member_id,) = coordinator.stable()
        coordinator.commit(7, member_id=member_id, generation=1)
        for _ in range(DAY_MS // 9000):
            coordinator.advance(9000)
            coordinator.heartbeat(member_id, 1)
        coordinator.leave(member_id)
        assert coordinator.group.state is ClassicState.EMPTY

    @pytest.mark.parametrize("crashes", [False, True])
    def test_g9_an_empty_group_keeps_its_offsets_from_when_it_became_empty(self, crashes: bool) -> None:
        coordinator = Coordinator(offsets_retention_minutes=24 * 60)
        self.emptied(coordinator)
        if crashes:
            coordinator.crash()
        coordinator.advance(DAY_MS - 1)
        assert coordinator.committed() == 7
        coordinator.advance(10 * MINUTE_MS)
        assert coordinator.committed() == -1
        assert not coordinator.shard.groups, "and with its last offset the group is gone"
        coordinator.crash()
        assert not coordinator.shard.groups

    def test_members_keep_the_offsets_of_what_they_subscribe_to(self) -> None:
        coordinator = Coordinator(offsets_retention_minutes=1)
        (member_id,) = coordinator.stable()
        coordinator.commit(7, member_id=member_id, generation=1)
        coordinator.commit(8, member_id=member_id, generation=1, topic="other")
        for _ in range(80):
            coordinator.advance(9000)
            coordinator.heartbeat(member_id, 1)
        assert (coordinator.committed("topic"), coordinator.committed("other")) == (7, -1)

    def test_the_offsets_of_a_simple_consumer_age_from_their_commit(self) -> None:
        coordinator = Coordinator(offsets_retention_minutes=20)
        coordinator.commit(7)
        coordinator.advance(15 * MINUTE_MS)
        coordinator.commit(8, topic="other")
        coordinator.advance(15 * MINUTE_MS)
        assert (coordinator.committed("topic"), coordinator.committed("other")) == (-1, 8)

    def test_an_old_client_brings_its_own_retention(self) -> None:
        coordinator = Coordinator(offsets_retention_minutes=1)
        coordinator.commit(7, retention_ms=30 * MINUTE_MS, version=4)
        coordinator.advance(29 * MINUTE_MS)
        coordinator.crash()
        assert coordinator.committed() == 7
        coordinator.advance(11 * MINUTE_MS)
        assert coordinator.committed() == -1


def test_all_offsets_of_a_group_are_fetched_by_topic(coordinator: Coordinator) -> None:
    coordinator.commit(7)
    coordinator.commit(8, topic="other")
    waiter, decision = Waiter(), Decision(coordinator.at)
    coordinator.shard.commits.fetch(OffsetFetchRequestGroup(group_id=GROUP, topics=None), waiter, decision)
    coordinator.settle(decision)
    answer = waiter.answer()
    assert isinstance(answer, OffsetFetchResponseGroup)
    assert {t.name: t.partitions[0].committed_offset for t in answer.topics} == {"topic": 7, "other": 8}
