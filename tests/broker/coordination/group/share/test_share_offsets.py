"""What operators do with a share group's offsets: alter, delete, and delete the group."""

from __future__ import annotations

import pytest

from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsRequestPartition,
    AlterShareGroupOffsetsRequestTopic,
)
from streamkit.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsRequestTopic,
)
from tests.broker.coordination.group.harness import GROUP, Coordinator, Waiter
from tests.broker.coordination.group.share.members import Player, States, ask, group_of, settle

NONE = ErrorCode.NONE


@pytest.fixture
def coordinator() -> Coordinator:
    coordinator = Coordinator()
    coordinator.cluster.make("topic", 2)
    coordinator.cluster.make("other", 1)
    return coordinator


@pytest.fixture
def states(coordinator: Coordinator) -> States:
    return States(coordinator)


@pytest.fixture
def player(coordinator: Coordinator, states: States) -> Player:
    """One that has been in the group, and is gone."""
    player = Player(coordinator, "a")
    settle(states, player)
    player.leave()
    return player


def alter(coordinator: Coordinator, topic: str, offsets: dict[int, int]) -> Waiter:
    wanted = AlterShareGroupOffsetsRequestTopic(
        topic_name=topic,
        partitions=[
            AlterShareGroupOffsetsRequestPartition(partition_index=number, start_offset=offset)
            for number, offset in offsets.items()
        ],
    )
    return ask(coordinator, "alter_offsets", AlterShareGroupOffsetsRequest(group_id=GROUP, topics=[wanted]))


def delete(coordinator: Coordinator, *topics: str) -> Waiter:
    wanted = [DeleteShareGroupOffsetsRequestTopic(topic_name=topic) for topic in topics]
    return ask(coordinator, "delete_offsets", DeleteShareGroupOffsetsRequest(group_id=GROUP, topics=wanted))


def codes(waiter: Waiter) -> list[int]:
    """The error of each partition, or of each topic."""
    answer = waiter.answer()
    assert answer.error_code == NONE  # type: ignore[attr-defined]
    rows = answer.responses  # type: ignore[attr-defined]
    return [one.error_code for row in rows for one in getattr(row, "partitions", [row])]


class TestAlter:
    def test_begins_states_anew_in_a_later_epoch(
        self, coordinator: Coordinator, states: States, player: Player
    ) -> None:
        epoch = group_of(coordinator).epoch
        waiter = alter(coordinator, "topic", {0: 7})
        assert waiter.waits, "until the share coordinator has done it"
        states.answer()
        assert codes(waiter) == [NONE]
        assert {one.number: begun for one, begun in states.begun.items()} == {0: (epoch + 1, 7), 1: (1, -1)}
        settle(states, player)
        assert player.numbers == [0, 1]

    def test_a_topic_that_nobody_has_asked_for_can_be_begun(
        self, coordinator: Coordinator, states: States, player: Player
    ) -> None:
        waiter = alter(coordinator, "other", {0: 3})
        states.answer()
        assert codes(waiter) == [NONE] and 3 in {offset for _, offset in states.begun.values()}

    def test_what_does_not_exist_is_refused_on_its_own(
        self, coordinator: Coordinator, states: States, player: Player
    ) -> None:
        assert codes(alter(coordinator, "nothing", {0: 1})) == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        waiter = alter(coordinator, "topic", {1: 1, 2: 1})
        states.answer()
        assert codes(waiter) == [NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]

    def test_a_failure_is_told_and_repaired(
        self, coordinator: Coordinator, states: States, player: Player
    ) -> None:
        states.broken = True
        waiter = alter(coordinator, "topic", {0: 1})
        states.answer()
        assert codes(waiter) == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
        states.broken = False
        settle(states, player)
        assert player.numbers == [0, 1]

    def test_members_are_in_the_way(self, coordinator: Coordinator, states: States) -> None:
        settle(states, Player(coordinator, "a"))
        assert alter(coordinator, "topic", {0: 1}).code == ErrorCode.NON_EMPTY_GROUP

    def test_a_group_need_not_exist_yet(self, coordinator: Coordinator, states: States) -> None:
        assert codes(alter(coordinator, "nothing", {0: 1})) == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        assert not coordinator.shard.groups
        waiter = alter(coordinator, "topic", {0: 5})
        states.answer()
        assert codes(waiter) == [NONE] and (1, 5) in states.begun.values()
        player = Player(coordinator, "a")
        settle(states, player)
        assert player.numbers == [0, 1]
        assert (1, 5) in states.begun.values(), "it is not begun anew"

    def test_a_group_of_another_kind_has_none(self, coordinator: Coordinator) -> None:
        coordinator.enter()
        assert alter(coordinator, "topic", {0: 1}).code == ErrorCode.GROUP_ID_NOT_FOUND


class TestDelete:
    def test_forgets_a_topic(self, coordinator: Coordinator, states: States, player: Player) -> None:
        waiter = delete(coordinator, "topic")
        assert waiter.waits
        states.answer()
        assert codes(waiter) == [NONE]
        assert not states.begun and not group_of(coordinator).states.topics
        settle(states, player)
        assert player.numbers == [0, 1] and len(states.begun) == 2, "begun anew"

    def test_what_was_never_begun_cannot_be_deleted(
        self, coordinator: Coordinator, states: States, player: Player
    ) -> None:
        waiter = delete(coordinator, "other", "topic", "nothing")
        states.answer()
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert codes(waiter) == [NONE, unknown, unknown]

    def test_what_failed_can_be_deleted_again(
        self, coordinator: Coordinator, states: States, player: Player
    ) -> None:
        states.broken = True
        waiter = delete(coordinator, "topic")
        states.answer()
        assert codes(waiter) == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
        coordinator.crash()
        states.broken = False
        waiter = delete(coordinator, "topic")
        states.answer()
        assert codes(waiter) == [NONE] and not group_of(coordinator).states.topics

    def test_members_are_in_the_way(self, coordinator: Coordinator, states: States) -> None:
        settle(states, Player(coordinator, "a"))
        assert delete(coordinator, "topic").code == ErrorCode.NON_EMPTY_GROUP

    def test_of_no_group(self, coordinator: Coordinator) -> None:
        assert delete(coordinator, "topic").code == ErrorCode.GROUP_ID_NOT_FOUND


class TestDeleteGroup:
    def test_takes_states_and_records(self, coordinator: Coordinator, states: States, player: Player) -> None:
        waiter = ask(coordinator, "delete_group", GROUP)
        assert waiter.waits
        states.answer()
        assert waiter.code == NONE and not states.begun
        assert not coordinator.shard.groups
        coordinator.crash()
        assert not coordinator.shard.groups
        newest = {record.key: record.value for record in coordinator.log}
        assert set(newest.values()) == {None}, "a tombstone for every record"

    def test_a_group_that_never_had_states_goes_at_once(self, coordinator: Coordinator) -> None:
        player = Player(coordinator, "a", ["later"])
        player.beat()
        player.leave()
        assert ask(coordinator, "delete_group", GROUP).code == NONE
        assert not coordinator.shard.groups

    def test_a_failure_leaves_it_to_be_deleted_again(
        self, coordinator: Coordinator, states: States, player: Player
    ) -> None:
        states.broken = True
        waiter = ask(coordinator, "delete_group", GROUP)
        states.answer()
        assert waiter.code == ErrorCode.COORDINATOR_NOT_AVAILABLE and coordinator.shard.groups
        states.broken = False
        waiter = ask(coordinator, "delete_group", GROUP)
        states.answer()
        assert waiter.code == NONE and not coordinator.shard.groups

    def test_whoever_joins_meanwhile_keeps_it(
        self, coordinator: Coordinator, states: States, player: Player
    ) -> None:
        waiter = ask(coordinator, "delete_group", GROUP)
        player.beat()
        states.answer()
        assert waiter.code == ErrorCode.NON_EMPTY_GROUP
        settle(states, player)
        assert player.numbers == [0, 1] and len(states.begun) == 2

    def test_members_are_in_the_way(self, coordinator: Coordinator, states: States) -> None:
        settle(states, Player(coordinator, "a"))
        assert ask(coordinator, "delete_group", GROUP).code == ErrorCode.NON_EMPTY_GROUP

    def test_a_topic_that_is_gone_is_not_asked_for(
        self, coordinator: Coordinator, states: States, player: Player
    ) -> None:
        coordinator.cluster.delete("topic")
        assert ask(coordinator, "delete_group", GROUP).code == NONE


def test_what_is_asked_for_comes_in_the_order_of_the_decisions(
    coordinator: Coordinator, states: States
) -> None:
    """Deleted after it was asked for, it does not come back; asked for after it was deleted, it does."""
    player = Player(coordinator, "a")
    player.beat()
    player.leave()
    waiter = delete(coordinator, "topic")
    player.beat()
    states.answer()
    assert codes(waiter) == [NONE]
    settle(states, player)
    assert player.numbers == [0, 1] and len(states.begun) == 2
