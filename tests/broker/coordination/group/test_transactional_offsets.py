"""G7: offsets in a transaction become visible with its commit and never otherwise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.shard import Decision, Instant
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from streamkit.protocol.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchRequestTopics
from streamkit.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from tests.broker.coordination.group.harness import FakeCluster

CONFIG = BrokerConfig()


class Shard:
    """A group shard whose decisions are replayed at once, as its host does."""

    def __init__(self) -> None:
        self.coordinator = GroupCoordinator(CONFIG, FakeCluster(CONFIG))
        self.now_ms = 0

    def _settle(self, decision: Decision) -> list[object]:
        for record in decision.records:
            if decision.transaction is None:
                self.coordinator.replay(*record)
            else:
                self.coordinator.replay_in_transaction(decision.transaction.producer_id, *record)
        return [message for _, message in decision.replies]

    def commit(self, offset: int) -> None:
        decision = Decision(Instant(self.now_ms, self.now_ms))
        part = OffsetCommitRequestPartition(committed_offset=offset)
        topics = [OffsetCommitRequestTopic(name="t", partitions=[part])]
        request = OffsetCommitRequest(group_id="g", topics=topics)
        self.coordinator.commits.commit(request, 9, "token", decision)
        self._settle(decision)

    def commit_in_transaction(self, producer_id: int, offset: int, **claims: object) -> int:
        decision = Decision(Instant(self.now_ms, self.now_ms))
        part = TxnOffsetCommitRequestPartition(committed_offset=offset)
        request = TxnOffsetCommitRequest(
            group_id="g",
            producer_id=producer_id,
            topics=[TxnOffsetCommitRequestTopic(name="t", partitions=[part])],
            **claims,  # type: ignore[arg-type]
        )
        self.coordinator.commits.commit_in_transaction(request, "token", decision)
        (answer,) = self._settle(decision)
        return answer.topics[0].partitions[0].error_code  # type: ignore[attr-defined, no-any-return]

    def fetch(self, *, require_stable: bool = False) -> tuple[int, int]:
        decision = Decision(Instant(self.now_ms, self.now_ms))
        wanted = OffsetFetchRequestGroup(
            group_id="g", topics=[OffsetFetchRequestTopics(name="t", partition_indexes=[0])]
        )
        self.coordinator.commits.fetch(wanted, "token", decision, require_stable=require_stable)
        (answer,) = self._settle(decision)
        found = answer.topics[0].partitions[0]  # type: ignore[attr-defined]
        return found.committed_offset, found.error_code


UNSTABLE = (-1, ErrorCode.UNSTABLE_OFFSET_COMMIT)


def test_an_offset_counts_from_the_commit_marker_on() -> None:
    shard = Shard()
    shard.commit(3)
    assert shard.commit_in_transaction(7, 10) == 0
    assert shard.fetch() == (3, 0)
    assert shard.fetch(require_stable=True) == UNSTABLE
    shard.coordinator.end_transaction(7, committed=True)
    assert shard.fetch(require_stable=True) == (10, 0)


def test_an_aborted_offset_never_counts_and_its_group_is_forgotten() -> None:
    shard = Shard()
    shard.commit_in_transaction(7, 10)
    assert "g" in shard.coordinator.groups
    shard.coordinator.end_transaction(7, committed=False)
    assert shard.fetch(require_stable=True) == (-1, 0)
    assert "g" not in shard.coordinator.groups


def test_what_was_written_last_counts_whichever_ends_last() -> None:
    shard = Shard()
    shard.commit_in_transaction(7, 10)
    shard.commit_in_transaction(8, 20)
    shard.coordinator.end_transaction(8, committed=True)
    shard.coordinator.end_transaction(7, committed=True)
    assert shard.fetch() == (20, 0)
    shard.commit_in_transaction(7, 30)
    shard.commit(40)
    shard.coordinator.end_transaction(7, committed=True)
    assert shard.fetch(require_stable=True) == (40, 0)


def test_g2_a_commit_of_a_member_that_is_not_in_the_group_is_refused() -> None:
    shard = Shard()
    code = shard.commit_in_transaction(7, 10, generation_id=4, member_id="m")
    assert code == ErrorCode.ILLEGAL_GENERATION
    assert not shard.coordinator.transactional.has_group("g")


def test_deleting_a_group_deletes_what_is_pending_too() -> None:
    shard = Shard()
    shard.commit_in_transaction(7, 10)
    decision = Decision(Instant(0, 0))
    shard.coordinator.delete("g", "token", decision)
    shard._settle(decision)
    shard.coordinator.end_transaction(7, committed=True)
    assert shard.fetch() == (-1, 0)


acts = st.lists(
    st.tuples(st.sampled_from(["plain", "pending", "commit", "abort"]), st.integers(1, 3)), max_size=30
)


@given(acts)
def test_g7_like_a_model_that_remembers_everything(history: list[tuple[str, int]]) -> None:
    shard = Shard()
    visible = (-1, -1)  # (written at, offset)
    pending: dict[int, tuple[int, int]] = {}
    for at, (act, producer_id) in enumerate(history):
        if act == "plain":
            shard.commit(at)
            visible = (at, at)
            pending = {one: place for one, place in pending.items() if place[0] > at}
        elif act == "pending":
            shard.commit_in_transaction(producer_id, at)
            pending[producer_id] = (at, at)
        else:
            shard.coordinator.end_transaction(producer_id, committed=act == "commit")
            ended = pending.pop(producer_id, None)
            if act == "commit" and ended is not None:
                visible = max(visible, ended)
                pending = {one: place for one, place in pending.items() if place > ended}
        assert shard.fetch() == (visible[1], 0)
        expected = UNSTABLE if pending else (visible[1], 0)
        assert shard.fetch(require_stable=True) == expected
