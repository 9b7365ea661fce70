"""The states of share-partitions: begun, read by one leader after another, written, pruned."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.shard import Decision, Instant, Refusal
from streamkit.broker.coordination.share.coordinator import ShareCoordinator
from streamkit.broker.coordination.share.records import ShareSnapshotKey, ShareUpdateKey
from streamkit.broker.coordination.share.states import RecordState, SharePartitionKey, StateBatch
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import (
    delete_share_group_state,
    initialize_share_group_state,
    read_share_group_state,
    read_share_group_state_summary,
    write_share_group_state,
)
from streamkit.protocol.schema import Message

TOPIC = b"t" * 16
KEY = SharePartitionKey("g", TOPIC, 0)
ACKED = RecordState.ACKNOWLEDGED


class Shell:
    """Replays what is decided, and keeps it as the log would."""

    def __init__(self, **settings: str) -> None:
        properties = {name.replace("_", "."): value for name, value in settings.items()}
        self.config = BrokerConfig.from_properties(properties)
        self.log: list[tuple[bytes, bytes | None]] = []
        self.now_ms = 1_000
        self.shard = self.empty()
        decision = self.decision()
        self.shard.loaded(decision)

    def empty(self) -> ShareCoordinator:
        return ShareCoordinator(self.config, lambda topic_id, partition: topic_id == TOPIC and partition < 4)

    def decision(self) -> Decision:
        return Decision(Instant(self.now_ms, self.now_ms))

    def carry_out(self, decision: Decision) -> None:
        for record in decision.records:
            self.shard.replay(*record)
            self.shard.stored(record, len(self.log))
            self.log.append(record)

    def ask(self, api: Callable[..., None], wanted: Message, key: SharePartitionKey = KEY) -> Message:
        decision = self.decision()
        api(key, wanted, "token", decision)
        self.carry_out(decision)
        ((_, answer),) = decision.replies
        return answer

    def begin(self, *, epoch: int = 0, start: int = 0, key: SharePartitionKey = KEY) -> Message:
        wanted = initialize_share_group_state.PartitionData(
            partition=key.partition, state_epoch=epoch, start_offset=start
        )
        return self.ask(self.shard.initialize, wanted, key)

    def read(self, leader_epoch: int = 1) -> read_share_group_state.PartitionResult:
        wanted = read_share_group_state.PartitionData(partition=0, leader_epoch=leader_epoch)
        answer = self.ask(self.shard.read, wanted)
        assert isinstance(answer, read_share_group_state.PartitionResult)
        return answer

    def write(
        self,
        *batches: StateBatch,
        leader: int = 1,
        epoch: int = 0,
        start: int = -1,
        complete: int = 0,
        key: SharePartitionKey = KEY,
    ) -> Message:
        wanted = write_share_group_state.PartitionData(
            partition=key.partition,
            state_epoch=epoch,
            leader_epoch=leader,
            start_offset=start,
            delivery_complete_count=complete,
            state_batches=[
                write_share_group_state.StateBatch(
                    first_offset=one.first,
                    last_offset=one.last,
                    delivery_state=one.state,
                    delivery_count=one.delivery_count,
                )
                for one in batches
            ],
        )
        return self.ask(self.shard.write, wanted, key)

    def schemas(self) -> list[int]:
        return [key[1] for key, _ in self.log]


def refused(act: Callable[[], object]) -> ErrorCode:
    with pytest.raises(Refusal) as error:
        act()
    return error.value.code


def test_what_was_written_is_what_the_next_leader_reads() -> None:
    shell = Shell()
    shell.begin(start=5)
    shell.write(StateBatch(5, 9, ACKED, 1), StateBatch(12, 14, RecordState.AVAILABLE, 2))
    shell.write(StateBatch(10, 11, ACKED, 1), start=12)
    result = shell.read(leader_epoch=2)
    assert (result.start_offset, result.state_epoch) == (12, 0)
    assert [(one.first_offset, one.last_offset, one.delivery_count) for one in result.state_batches] == [
        (12, 14, 2)
    ]


def test_a_shard_that_is_loaded_knows_what_the_one_before_knew() -> None:
    shell = Shell(share_coordinator_snapshot_update_records_per_snapshot="2")
    shell.begin()
    for first in range(0, 50, 10):
        shell.write(StateBatch(first, first + 5, ACKED, 1), complete=6)
    again = shell.empty()
    for record in shell.log[shell.shard.redundant_below() :]:
        again.replay(*record)
    assert again.states == shell.shard.states
    snapshot, update = ShareSnapshotKey.KEY, ShareUpdateKey.KEY
    assert shell.schemas() == [snapshot, update, update, snapshot, update, update]
    assert shell.shard.redundant_below() == 3


def test_a_leader_that_has_a_successor_is_fenced() -> None:
    shell = Shell()
    shell.begin()
    shell.read(leader_epoch=3)
    assert refused(lambda: shell.write(leader=2)) is ErrorCode.FENCED_LEADER_EPOCH
    assert refused(lambda: shell.read(leader_epoch=2)) is ErrorCode.FENCED_LEADER_EPOCH
    shell.write(leader=3)


def test_what_was_begun_anew_takes_no_writes_of_before() -> None:
    shell = Shell()
    shell.begin(epoch=1, start=40)
    shell.write(StateBatch(40, 49, ACKED, 1), epoch=1)
    shell.begin(epoch=2, start=0)
    assert refused(lambda: shell.write(epoch=1)) is ErrorCode.FENCED_STATE_EPOCH
    assert refused(lambda: shell.begin(epoch=1)) is ErrorCode.FENCED_STATE_EPOCH
    assert (shell.read().start_offset, shell.read().state_batches) == (0, [])


def test_what_was_never_begun_can_be_summed_up_but_neither_read_nor_written() -> None:
    shell = Shell()
    assert refused(shell.read) is ErrorCode.INVALID_REQUEST
    assert refused(shell.write) is ErrorCode.INVALID_REQUEST
    wanted = read_share_group_state_summary.PartitionData(partition=0)
    summary = shell.ask(shell.shard.summarize, wanted)
    assert isinstance(summary, read_share_group_state_summary.PartitionResult)
    assert (summary.start_offset, summary.delivery_complete_count) == (-1, -1)


def test_a_summary_says_where_delivery_stands() -> None:
    shell = Shell()
    shell.begin(start=7)
    shell.write(StateBatch(9, 12, ACKED, 1), leader=6, complete=4)
    wanted = read_share_group_state_summary.PartitionData(partition=0)
    summary = shell.ask(shell.shard.summarize, wanted)
    assert isinstance(summary, read_share_group_state_summary.PartitionResult)
    assert (summary.start_offset, summary.leader_epoch, summary.delivery_complete_count) == (7, 6, 4)


@pytest.mark.parametrize("key", [KEY._replace(topic_id=b"x" * 16), KEY._replace(partition=9)])
def test_a_partition_that_does_not_exist_has_no_state(key: SharePartitionKey) -> None:
    assert refused(lambda: Shell().begin(key=key)) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_what_is_deleted_or_whose_topic_is_gone_is_forgotten() -> None:
    shell = Shell()
    other = KEY._replace(partition=1)
    shell.begin()
    shell.begin(key=other)
    shell.ask(shell.shard.delete, delete_share_group_state.PartitionData(partition=0))
    assert list(shell.shard.states) == [other]
    decision = shell.decision()
    shell.shard.forget_topics({TOPIC}, decision)
    shell.carry_out(decision)
    assert shell.shard.states == {}
    assert shell.shard.redundant_below() == len(shell.log)


def test_what_nobody_writes_to_does_not_keep_the_log_from_being_pruned() -> None:
    shell = Shell(share_coordinator_snapshot_update_records_per_snapshot="1")
    cold = KEY._replace(partition=1)
    shell.begin(key=cold)
    shell.begin()
    shell.now_ms += 299_000
    shell.write()
    assert shell.shard.redundant_below() == 0
    shell.now_ms += 1_000
    decision = shell.shard.tick(Instant(shell.now_ms, shell.now_ms))
    assert decision is not None
    shell.carry_out(decision)
    assert shell.shard.redundant_below() == 1
    assert shell.shard.tick(Instant(shell.now_ms, shell.now_ms)) is None
