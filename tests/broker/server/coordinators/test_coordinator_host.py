"""The shell around the shards: loading, one append a turn, replies over committed state only, failing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import cast

import pytest

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import (
    BrokerRegistration,
    MetadataImage,
    PartitionRegistration,
    TopicImage,
)
from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.shard import Decision, Producer, Refusal, Token, TransactionEnd
from streamkit.broker.server.coordinators.group_host import GroupHost
from streamkit.broker.server.timers import Timers
from streamkit.errors import StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsRequestPartition,
    AlterShareGroupOffsetsRequestTopic,
    AlterShareGroupOffsetsResponse,
)
from streamkit.protocol.messages.delete_groups import DeletableGroupResult
from streamkit.protocol.messages.delete_share_group_state import (
    DeleteShareGroupStateRequest,
    DeleteShareGroupStateResponse,
)
from streamkit.protocol.messages.initialize_share_group_state import (
    InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse,
)
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponseGroup,
)
from streamkit.protocol.records.batch import Buffer, parse_header
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.runtime.os.clock import SystemClock
from streamkit.runtime.os.spawn import TaskSpawn
from streamkit.telemetry.instruments import Registry


class FakeLog:
    """Commits when it is told to; `gate` holds loading back."""

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.encoded: list[bytes] = []
        self.appends: list[asyncio.Future[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0
        self.leader_epoch = 0

    def append_batch(self, batch: bytes) -> asyncio.Future[int]:
        self.batches.append(decode_records(batch))
        self.encoded.append(batch)
        self.appends.append(asyncio.get_running_loop().create_future())
        return self.appends[-1]

    async def read_committed_batches(self, from_offset: int) -> AsyncIterator[Buffer]:
        self.reads += 1
        await self.gate.wait()
        for batch, appended in zip(self.encoded, self.appends, strict=True):
            if appended.done() and appended.exception() is None:
                yield batch

    def commit(self) -> None:
        for appended in self.appends:
            if not appended.done():
                appended.set_result(0)


class FakeCluster:
    """A metadata image with one broker, 1, in which topics appear when they are made."""

    def __init__(self) -> None:
        self.image = MetadataImage()
        self.created: list[tuple[str, int, int, Mapping[str, str]]] = []
        self.refuses = ErrorCode.NONE

    async def create_topic(
        self, name: str, *, partitions: int, replication_factor: int, configs: Mapping[str, str]
    ) -> ErrorCode:
        self.created.append((name, partitions, replication_factor, configs))
        if self.refuses is ErrorCode.NONE:
            self.add(name, partitions)
        return self.refuses

    def add(self, name: str, partitions: int, leader: int = 1) -> None:
        registration = PartitionRegistration(
            replicas=(leader,), isr=(leader,), leader=leader, leader_epoch=0, partition_epoch=0
        )
        topic_id = len(self.image.topics).to_bytes(16, "big")
        topic = TopicImage(name=name, topic_id=topic_id, partitions=[registration] * partitions)
        self.image.topics[name] = self.image.topics_by_id[topic_id] = topic


class FakePersister:
    """Share coordinators that answer when the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked: list[InitializeShareGroupStateRequest | DeleteShareGroupStateRequest] = []

    async def initialize(
        self, message: InitializeShareGroupStateRequest
    ) -> InitializeShareGroupStateResponse:
        self.asked.append(message)
        await self.gate.wait()
        return InitializeShareGroupStateResponse()

    async def delete(self, message: DeleteShareGroupStateRequest) -> DeleteShareGroupStateResponse:
        self.asked.append(message)
        return DeleteShareGroupStateResponse()


class Stage:
    def __init__(self, **properties: str) -> None:
        self.clock = SystemClock()
        self.timers = Timers(self.clock)
        self.failures: list[BaseException] = []
        self.spawn = TaskSpawn(lambda _, error: self.failures.append(error))
        self.cluster = FakeCluster()
        self.log = FakeLog()
        self.leads = True
        self.persister = FakePersister()
        self.host = GroupHost(
            BrokerConfig.from_properties({"offsets.topic.num.partitions": "4", **properties}),
            cluster=self.cluster,
            leads=lambda _, partition: self.log if self.leads else None,
            persister=lambda: self.persister,
            clock=self.clock,
            timers=self.timers,
            spawn=self.spawn,
            metrics=Registry(),
        )

    async def serve(self) -> None:
        self.cluster.add("__consumer_offsets", 1)
        self.host.refresh()
        await self.host.shards[0].ready.wait()

    def commit(self, offset: int, metadata: str = "") -> asyncio.Future[OffsetCommitResponse]:
        part = OffsetCommitRequestPartition(committed_offset=offset, committed_metadata=metadata)
        request = OffsetCommitRequest(
            group_id="g", topics=[OffsetCommitRequestTopic(name="t", partitions=[part])]
        )

        def decide(shard: GroupCoordinator, token: Token, decision: Decision) -> None:
            shard.commits.commit(request, 9, token, decision)

        return cast("asyncio.Future[OffsetCommitResponse]", self.host.ask("g", decide))

    def fetch(self) -> asyncio.Future[OffsetFetchResponseGroup]:
        wanted = OffsetFetchRequestGroup(
            group_id="g", topics=[OffsetFetchRequestTopics(name="t", partition_indexes=[0])]
        )

        def decide(shard: GroupCoordinator, token: Token, decision: Decision) -> None:
            shard.commits.fetch(wanted, token, decision)

        return cast("asyncio.Future[OffsetFetchResponseGroup]", self.host.ask("g", decide))

    def alter_share_offset(self) -> asyncio.Future[AlterShareGroupOffsetsResponse]:
        partition = AlterShareGroupOffsetsRequestPartition(start_offset=3)
        topic = AlterShareGroupOffsetsRequestTopic(topic_name="t", partitions=[partition])
        request = AlterShareGroupOffsetsRequest(group_id="s", topics=[topic])

        def decide(shard: GroupCoordinator, token: Token, decision: Decision) -> None:
            shard.shares.alter_offsets(request, token, decision)

        return cast("asyncio.Future[AlterShareGroupOffsetsResponse]", self.host.ask("s", decide))


def offset_in(group: OffsetFetchResponseGroup) -> int:
    return group.topics[0].partitions[0].committed_offset


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    stage.host.close()
    stage.timers.close()
    await stage.spawn.close()
    assert not stage.failures


@pytest.fixture(autouse=True)
def fast_reload(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("streamkit.broker.server.coordinators.hosted_shard.RELOAD_DELAY_MS", 1)
    yield


async def test_a_commit_is_answered_once_it_is_committed(stage: Stage) -> None:
    await stage.serve()
    answer = stage.commit(7)
    await turns()
    assert len(stage.log.batches) == 1 and not answer.done()
    stage.log.commit()
    assert (await answer).topics[0].partitions[0].error_code == 0


async def test_a_read_waits_for_everything_that_it_saw(stage: Stage) -> None:
    await stage.serve()
    commit = stage.commit(7)
    await turns()
    read = stage.fetch()
    await turns()
    assert not read.done(), "offset 7 could still be lost"
    stage.log.commit()
    assert offset_in(await read) == 7 and commit.done()


async def test_with_nothing_under_way_a_read_is_answered_at_once(stage: Stage) -> None:
    await stage.serve()
    assert offset_in(stage.fetch().result()) == -1


async def test_what_one_turn_decides_is_appended_as_one_batch(stage: Stage) -> None:
    await stage.serve()
    for offset in range(10):
        stage.commit(offset)
    await turns()
    assert [len(batch) for batch in stage.log.batches] == [10]


async def test_large_turns_are_split_and_answered_in_order(stage: Stage) -> None:
    await stage.serve()
    answers = [stage.commit(offset, metadata="x" * 4096) for offset in range(300)]
    await turns()
    assert len(stage.log.batches) == 3
    stage.log.commit()
    await asyncio.gather(*answers)
    assert offset_in(await stage.fetch()) == 299


async def test_a_restart_finds_what_was_committed(stage: Stage) -> None:
    await stage.serve()
    answer = stage.commit(7)
    await turns()
    stage.log.commit()
    await answer
    stage.leads = False
    stage.host.refresh()
    stage.leads = True
    await stage.serve()
    assert offset_in(await stage.fetch()) == 7


async def test_a_loading_shard_says_so(stage: Stage) -> None:
    stage.log.gate.clear()
    stage.cluster.add("__consumer_offsets", 1)
    stage.host.refresh()
    with pytest.raises(Refusal) as refusal:
        stage.fetch()
    assert refusal.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert stage.host.is_loading
    stage.log.gate.set()
    await stage.host.shards[0].ready.wait()
    assert offset_in(await stage.fetch()) == -1


async def test_a_group_of_another_broker_is_refused(stage: Stage) -> None:
    stage.leads = False
    for make_topic in (lambda: None, lambda: stage.cluster.add("__consumer_offsets", 1, leader=2)):
        make_topic()
        stage.host.refresh()
        with pytest.raises(Refusal) as refusal:
            stage.fetch()
        assert refusal.value.code is ErrorCode.NOT_COORDINATOR
    assert await stage.host.find("g") == 2


async def test_who_waits_when_the_shard_moves_is_sent_elsewhere(stage: Stage) -> None:
    await stage.serve()
    answer = stage.commit(7)
    await turns()
    stage.leads = False
    stage.host.refresh()
    with pytest.raises(Refusal) as refusal:
        await answer
    assert refusal.value.code is ErrorCode.NOT_COORDINATOR


async def test_a_new_leader_epoch_loads_the_shard_again(stage: Stage) -> None:
    """Also of a partition that is led here as before: somebody else may have led it in between."""
    await stage.serve()
    answer = stage.commit(7)
    await turns()
    before = stage.host.shards[0]
    stage.host.refresh()
    assert stage.host.shards[0] is before, "nothing has changed"
    stage.log.leader_epoch = 2
    stage.host.refresh()
    with pytest.raises(Refusal) as refusal:
        await answer
    assert refusal.value.code is ErrorCode.NOT_COORDINATOR
    await stage.host.shards[0].ready.wait()
    assert stage.log.reads == 2 and stage.host.shards[0].leader_epoch == 2


async def test_a_topic_that_is_made_anew_has_new_shards(stage: Stage) -> None:
    """Even if the metadata tells of its end and its beginning at once."""
    await stage.serve()
    stage.commit(7)
    await turns()
    stage.log.commit()
    stage.log = FakeLog()
    stage.host.refresh(deleted_topics=["__consumer_offsets"])
    await stage.host.shards[0].ready.wait()
    assert offset_in(await stage.fetch()) == -1
    stage.leads = False
    del stage.cluster.image.topics["__consumer_offsets"]
    stage.host.refresh(deleted_topics=["__consumer_offsets"])
    assert not stage.host.shards


async def test_a_failed_append_refuses_whoever_waits_and_loads_afresh(stage: Stage) -> None:
    await stage.serve()
    kept = stage.commit(1)
    await turns()
    stage.log.commit()
    await kept
    lost, read = stage.commit(2), stage.fetch()
    await turns()
    stage.log.appends[-1].set_exception(StreamkitError("the disk is gone"))
    for waiting in (lost, read):
        with pytest.raises(Refusal) as refusal:
            await waiting
        assert refusal.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
    await stage.host.shards[0].ready.wait()
    assert stage.log.reads == 2
    assert offset_in(await stage.fetch()) == 1, "what the log does not have, nobody ever saw"


async def test_loading_again_waits_for_appends_that_may_still_succeed(stage: Stage) -> None:
    await stage.serve()
    first = stage.commit(1)
    await turns()
    second = stage.commit(2)
    await turns()
    stage.log.appends[0].set_exception(StreamkitError("refused"))
    await turns()
    assert stage.log.reads == 1
    stage.log.commit()
    await stage.host.shards[0].ready.wait()
    assert offset_in(await stage.fetch()) == 2
    for answer in (first, second):
        with pytest.raises(Refusal):
            await answer


async def test_the_first_search_makes_the_offsets_topic(stage: Stage) -> None:
    with pytest.raises(Refusal):
        stage.cluster.refuses = ErrorCode.INVALID_REPLICATION_FACTOR
        await stage.host.find("g")
    stage.cluster.refuses = ErrorCode.NONE
    assert await stage.host.find("g") == 1
    name, partitions, replication_factor, configs = stage.cluster.created[-1]
    assert (name, partitions, replication_factor) == ("__consumer_offsets", 4, 1)
    assert configs["cleanup.policy"] == "compact"
    stage.host.refresh()
    await stage.host.find("other")
    assert len(stage.cluster.created) == 2
    assert not stage.host.is_loading or stage.host.shards


async def test_a_commit_is_as_safe_as_any_other_record() -> None:
    """One replica in sync is not enough where others are lost without a word."""
    stage = Stage(**{"node.id": "4", "controller.quorum.voters": "1@a:1,2@b:1,3@c:1"})
    stage.cluster.image.brokers.update(
        {
            one: BrokerRegistration(
                broker_id=one, incarnation_id=bytes(16), epoch=one, endpoints=(), rack=None, fenced=False,
                log_dirs=(),
            )
            for one in (1, 2, 3)
        }
    )  # fmt: skip
    await stage.host.find("g")
    _, _, replication_factor, configs = stage.cluster.created[-1]
    assert (replication_factor, configs["min.insync.replicas"]) == (3, "2")
    stage.host.close()
    stage.timers.close()
    await stage.spawn.close()


async def test_offsets_of_deleted_topics_are_forgotten(stage: Stage) -> None:
    await stage.serve()
    stage.commit(7)
    stage.host.refresh(deleted_topics=["t"])
    await turns()
    stage.log.commit()
    assert offset_in(await stage.fetch()) == -1


async def test_an_unreadable_record_costs_only_itself(stage: Stage) -> None:
    stage.log.append_batch(encode_batch([Record(key=b"\0\1\0", value=b""), Record(key=None, value=b"?")]))
    stage.log.commit()
    await stage.serve()
    assert offset_in(await stage.fetch()) == -1


async def test_offsets_of_a_transaction_and_its_marker_keep_their_place(
    stage: Stage,
) -> None:
    await stage.serve()
    shard = stage.host.shards[0]

    def decide(coordinator: GroupCoordinator, decision: Decision) -> None:
        part = OffsetCommitRequestPartition(committed_offset=9)
        topics = [OffsetCommitRequestTopic(name="t", partitions=[part])]
        coordinator.commits.commit(OffsetCommitRequest(group_id="g", topics=topics), 9, object(), decision)
        decision.replies.clear()
        decision.transaction = Producer(5, 2)

    def end(_: GroupCoordinator, decision: Decision) -> None:
        decision.transaction_end = TransactionEnd(Producer(5, 3), True, 4)

    stage.commit(1)
    shard.tell(decide)
    shard.tell(end)
    stage.commit(2)
    await turns()
    headers = [parse_header(batch) for batch in stage.log.encoded]
    assert [(h.producer_id, h.producer_epoch, h.is_transactional, h.is_control) for h in headers] == [
        (-1, -1, False, False),
        (5, 2, True, False),
        (5, 3, True, True),
        (-1, -1, False, False),
    ]
    stage.log.commit()
    stage.leads = False
    stage.host.refresh()
    stage.leads = True
    await stage.serve()
    assert offset_in(await stage.fetch()) == 2


async def test_share_coordinators_are_asked_once_what_was_decided_is_committed(stage: Stage) -> None:
    stage.cluster.add("t", 1)
    await stage.serve()
    answer = stage.alter_share_offset()
    await turns()
    assert not stage.persister.asked
    stage.log.commit()
    await turns()
    assert len(stage.persister.asked) == 1 and not answer.done()
    stage.persister.gate.set()
    await turns()
    stage.log.commit()
    assert (await answer).responses[0].partitions[0].error_code == ErrorCode.NONE


async def test_share_coordinators_are_asked_one_thing_of_a_group_after_the_other(stage: Stage) -> None:
    stage.cluster.add("t", 1)
    await stage.serve()
    stage.alter_share_offset()
    await turns()
    deletion = stage.host.ask("s", lambda groups, token, decision: groups.delete("s", token, decision))
    await turns()
    stage.log.commit()
    await turns()
    assert [type(one) for one in stage.persister.asked] == [InitializeShareGroupStateRequest]
    stage.persister.gate.set()
    await turns()
    assert [type(one) for one in stage.persister.asked][1:] == [DeleteShareGroupStateRequest]
    stage.log.commit()
    await turns()
    assert cast(DeletableGroupResult, await deletion).error_code == ErrorCode.NONE


async def test_what_share_coordinators_answer_to_a_shard_that_has_moved_is_dropped(stage: Stage) -> None:
    stage.cluster.add("t", 1)
    await stage.serve()
    answer = stage.alter_share_offset()
    await turns()
    stage.log.commit()
    await turns()
    stage.leads = False
    stage.host.refresh()
    with pytest.raises(Refusal) as refusal:
        await answer
    assert refusal.value.code is ErrorCode.NOT_COORDINATOR
    appended = len(stage.log.batches)
    stage.persister.gate.set()
    await turns()
    assert len(stage.log.batches) == appended
