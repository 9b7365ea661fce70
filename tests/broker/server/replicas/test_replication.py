"""Leaders and followers with real logs, over real connections; the test decides who leads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamkit.broker.controller.image import MetadataChanges
from streamkit.broker.controller.records import ConfigRecord, PartitionRecord, RemoveTopicRecord, TopicRecord
from streamkit.broker.replication.leader import PartitionLeader
from streamkit.broker.server.replicas.partition_actor import AppendError
from streamkit.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from streamkit.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from streamkit.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.broker.server.replicas.replicas import TOPIC_ID, TOPIC_RESOURCE, three
from tests.broker.server.wire import Wire, batch, connected, produce_request

LATE_ID = b"a-topic-too-late"
NOT_LEADER, TIMED_OUT, NOT_ENOUGH, NOT_ENOUGH_AFTER_APPEND, OFFSET_NOT_AVAILABLE = 6, 7, 19, 20, 78
UNKNOWN_TOPIC_ID = 100


@pytest.mark.parametrize("flush_mode", ["durable", "relaxed"])
async def test_acks_all_means_that_every_replica_in_sync_has_it(tmp_path: Path, flush_mode: str) -> None:
    async with three(tmp_path, streamkit_flush_mode=flush_mode) as cluster:
        await cluster.create(1, 2, 3)
        async with connected(cluster.nodes[1]) as wire:
            for i in range(50):
                answer = await wire.produce(batch(b"%d" % i))
                assert (answer.error_code, answer.base_offset) == (0, i)
                for node_id in (2, 3):
                    log = cluster.actor(node_id).log
                    assert log.flushed_offset > i
        await cluster.in_sync(1, 2, 3)
        assert cluster.actor(3).high_watermark == 50
        assert cluster.actor(3).log.epochs.entries == cluster.actor(1).log.epochs.entries


async def test_a_failover_keeps_all_that_was_acknowledged_and_the_old_leader_comes_back(
    tmp_path: Path,
) -> None:
    async with three(tmp_path, replica_lag_time_max_ms="1000") as cluster:
        await cluster.create(1, 2, 3)
        async with connected(cluster.nodes[1]) as wire:
            for i in range(20):
                assert (await wire.produce(batch(b"%d" % i))).error_code == 0
        await cluster.crash(1)
        await cluster.fence(1)
        await cluster.elect(2, isr=(2, 3))
        async with connected(cluster.nodes[2]) as wire:
            for i in range(20, 40):
                answer = await wire.produce(batch(b"%d" % i))
                assert (answer.error_code, answer.base_offset) == (0, i)
            await cluster.start(1)
            await cluster.in_sync(1, 2, 3)
            assert await wire.values() == [b"%d" % i for i in range(40)]


async def test_l9_what_a_zombie_appended_is_cut_off_when_it_follows(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2, 3)
        async with connected(cluster.nodes[1]) as old, connected(cluster.nodes[2]) as new:
            assert (await old.produce(batch(b"both"))).error_code == 0
            cluster.deaf = {1}
            await cluster.elect(2, isr=(2, 3))
            request = produce_request(batch(b"zombie's"), acks=-1)
            zombie = asyncio.ensure_future(old.ask(request, 9))
            await cluster.until(lambda: cluster.actor(1).log.log_end_offset == 2)
            answer = await new.produce(batch(b"a"))
            assert (answer.error_code, answer.base_offset) == (0, 1)
            assert cluster.actor(1).high_watermark == 1
            assert not zombie.done()
            cluster.deaf = set()
            await cluster.catch_up()
            response = await zombie
            assert response.responses[0].partition_responses[0].error_code == NOT_LEADER
            await cluster.in_sync(1, 2, 3)
            assert await new.values() == [b"both", b"a"]


async def test_kip_101_logs_that_parted_twice_are_made_one(tmp_path: Path) -> None:
    """Each of two leaders in turn writes what the other never sees; the last one's history wins."""
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2, isr=(1, 2), configs={"min.insync.replicas": "1"})
        async with connected(cluster.nodes[1]) as one, connected(cluster.nodes[2]) as two:
            assert (await one.produce(batch(b"common"))).error_code == 0
            await cluster.in_sync(1, 2)
            for _ in range(3):
                cluster.deaf = {1}
                await cluster.elect(2, isr=(2,))
                for i in range(3):
                    assert (await two.produce(batch(b"two %d" % i), acks=1)).error_code == 0
                cluster.deaf = {2}
                await cluster.elect(1, isr=(1,))
                for i in range(2):
                    assert (await one.produce(batch(b"one %d" % i), acks=1)).error_code == 0
            cluster.deaf = set()
            await cluster.catch_up()
            await cluster.in_sync(1, 2)
            values = await one.values()
            assert values[0] == b"common"
            assert all(value is not None and value.startswith(b"one") for value in values[1:])


async def test_a_follower_that_is_too_far_behind_leaves_the_isr_and_comes_back(tmp_path: Path) -> None:
    async with three(tmp_path, replica_lag_time_max_ms="200") as cluster:
        await cluster.create(1, 2, 3)
        async with connected(cluster.nodes[1]) as wire:
            await wire.produce(batch(b"a"))
            await cluster.crash(3)
            answer = await wire.produce(batch(b"b"))  # held until 3 is out
            assert answer.error_code == 0
            assert set(cluster.partition.isr) == {1, 2}
            await cluster.start(3)
            await cluster.in_sync(1, 2, 3)


async def test_min_insync_replicas_and_the_patience_of_a_client(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2, 3)
        async with connected(cluster.nodes[1]) as wire, connected(cluster.nodes[1]) as other:
            assert (await wire.produce(batch(b"a"))).error_code == 0
            await cluster.crash(2)
            await cluster.crash(3)
            hurried = await wire.ask(timed(batch(b"b"), timeout_ms=100), 9)
            assert hurried.responses[0].partition_responses[0].error_code == TIMED_OUT
            patient = asyncio.ensure_future(other.ask(timed(batch(b"c"), timeout_ms=60_000), 9))
            await cluster.until(lambda: cluster.actor(1).log.log_end_offset == 3)
            await cluster.fence(2)
            await cluster.fence(3)
            await cluster.change(isr=[1])
            given_up = await patient
            assert given_up.responses[0].partition_responses[0].error_code == NOT_ENOUGH_AFTER_APPEND
            assert (await wire.produce(batch(b"d"))).error_code == NOT_ENOUGH
            assert (await wire.produce(batch(b"e"), acks=1)).error_code == 0
            assert cluster.actor(1).high_watermark == 1
            await cluster.start(3)
            await cluster.until(lambda: set(cluster.partition.isr) == {1, 3})
            await cluster.until(lambda: cluster.actor(1).high_watermark == 4)
            assert (await wire.produce(batch(b"f"))).error_code == 0


def timed(records: bytes, *, timeout_ms: int) -> ProduceRequest:
    data = PartitionProduceData(index=0, records=records)
    return ProduceRequest(
        acks=-1, timeout_ms=timeout_ms, topic_data=[TopicProduceData(name="t", partition_data=[data])]
    )


async def test_a_proposal_under_way_holds_the_high_watermark(tmp_path: Path) -> None:
    async with three(tmp_path, replica_lag_time_max_ms="1000") as cluster:
        await cluster.create(1, 2, 3)
        await cluster.in_sync(1, 2, 3)
        async with connected(cluster.nodes[1]) as wire:
            await wire.produce(batch(b"a"))
            cluster.answers_alter_partition = False
            await cluster.crash(3)
            waiting = asyncio.ensure_future(wire.produce(batch(b"b")))
            leader = cluster.actor(1).leader
            assert isinstance(leader, PartitionLeader)
            await cluster.until(lambda: leader.proposal is not None)
            assert set(leader.maximal_isr) == {1, 2, 3}
            assert cluster.actor(1).high_watermark == 1
            cluster.answers_alter_partition = True
            assert (await waiting).error_code == 0


async def test_a_new_replica_starts_where_the_leaders_log_does(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2)
        async with connected(cluster.nodes[1]) as wire:
            for i in range(10):
                await wire.produce(batch(b"a%d" % i, b"b%d" % i))
            cluster.actor(1).log.delete_records(7)
            await wire.produce(batch(b"more"))
            await cluster.change(replicas=[1, 2, 3], adding_replicas=[3])
            await cluster.in_sync(1, 2, 3)
            assert cluster.actor(3).log.log_start_offset == 7
            await wire.produce(batch(b"c"))
            await cluster.until(lambda: cluster.actor(2).log.log_start_offset == 7)


async def test_what_a_new_connection_brings_first_is_taken(tmp_path: Path) -> None:
    """A replica that is added asks once for what there is."""
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2)
        async with connected(cluster.nodes[1]) as wire:
            record = batch(b"a")
            assert (await wire.produce(record)).error_code == 0
            await cluster.in_sync(1, 2)
            sent = cluster.actor(1).traffic.bytes_out
            before = sent.value
            await cluster.change(replicas=[1, 2, 3])
            await cluster.in_sync(1, 2, 3)
            assert sent.value - before == len(record)


async def test_a_replica_that_is_reassigned_away_is_deleted(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2, 3)
        async with connected(cluster.nodes[3]) as wire:
            assert (await wire.produce(batch(b"a"))).error_code == NOT_LEADER
            await cluster.change(replicas=[1, 2], isr=[1, 2], leader=1)
            assert cluster.nodes[3].partitions.get("t", 0) is None
            assert not (tmp_path / "node-3" / "t-0").exists()
            assert (await wire.produce(batch(b"a"))).error_code == NOT_LEADER
        async with connected(cluster.nodes[1]) as wire:
            assert (await wire.produce(batch(b"b"))).error_code == 0


async def test_fetches_of_followers_are_fenced_and_strangers_refused(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2)
        async with connected(cluster.nodes[1]) as wire:
            await wire.produce(batch(b"a"))

            async def code(replica: int, epoch: int, offset: int = 1) -> int:
                wanted = FetchPartition(
                    partition=0, fetch_offset=offset, current_leader_epoch=epoch, partition_max_bytes=1000
                )
                topic = FetchTopic(topic="t", partitions=[wanted])
                response = await wire.ask(FetchRequest(replica_id=replica, topics=[topic]), 12)
                return int(response.responses[0].partitions[0].error_code)

            assert await code(2, 0) == 0
            assert await code(3, 0) == 75, "no replica, for all that this leader knows"
            await cluster.elect(1, isr=(1, 2))
            assert await code(2, 0) == 74
            assert await code(2, 2) == 75
            assert await code(2, 1, offset=99) == 1


async def test_a_new_leader_does_not_say_where_the_end_is_before_it_knows(tmp_path: Path) -> None:
    async with three(tmp_path, replica_lag_time_max_ms="60000") as cluster:
        await cluster.create(1, 2, 3)
        async with connected(cluster.nodes[1]) as wire:
            await wire.produce(batch(b"a"))
            await cluster.until(lambda: cluster.actor(2).high_watermark == 1)
            await cluster.crash(3)
            assert (await wire.produce(batch(b"b"), acks=1)).error_code == 0
            await cluster.until(lambda: cluster.actor(2).log.flushed_offset == 2)
        await cluster.crash(1)
        await cluster.elect(2, isr=(2, 3))
        async with connected(cluster.nodes[2]) as wire:
            assert await latest(wire, 5) == (OFFSET_NOT_AVAILABLE, -1)
            assert await latest(wire, 4) == (5, -1)
            with pytest.raises((AppendError, TimeoutError)):
                async with asyncio.timeout(0.05):
                    await cluster.actor(2).committed_up_to(2)
            await cluster.start(3)
            await cluster.until(lambda: cluster.actor(2).is_established)
            assert await latest(wire, 5) == (0, 2)


async def latest(wire: Wire, version: int) -> tuple[int, int]:
    topic = ListOffsetsTopic(name="t", partitions=[ListOffsetsPartition(partition_index=0, timestamp=-1)])
    response = await wire.ask(ListOffsetsRequest(replica_id=-1, topics=[topic]), version)
    found = response.topics[0].partitions[0]
    return found.error_code, found.offset


async def test_kip_392_a_consumer_is_sent_to_the_replica_in_its_rack(tmp_path: Path) -> None:
    rack_aware = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
    async with three(tmp_path, replica_selector_class=rack_aware) as cluster:
        await cluster.create(1, 2, 3)
        async with connected(cluster.nodes[1]) as wire, connected(cluster.nodes[3]) as near:
            await wire.produce(batch(b"a"))
            await cluster.in_sync(1, 2, 3)

            async def fetched(at: Wire, rack: str, version: int = 12) -> tuple[int, int, bool]:
                response = await at.fetch(version=version, rack_id=rack, max_wait_ms=0)
                data = response.responses[0].partitions[0]
                return data.error_code, data.preferred_read_replica, bool(data.records)

            assert await fetched(wire, "rack-3") == (0, 3, False)
            assert await fetched(wire, "rack-1") == (0, -1, True)
            assert await fetched(wire, "rack-9") == (0, -1, True)
            assert await fetched(near, "rack-3") == (0, -1, True)
            response = await near.fetch(version=10, max_wait_ms=0)
            assert response.responses[0].partitions[0].error_code == NOT_LEADER


async def test_our_own_appends_fail_when_leadership_is_lost(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2, 3)
        cluster.deaf = {2, 3}
        await cluster.crash(2)
        await cluster.crash(3)
        appended = cluster.actor(1).append_batch(batch(b"v"))
        await cluster.elect(2, isr=(2, 3))
        with pytest.raises(AppendError) as lost:
            await appended
        assert lost.value.code == NOT_LEADER


async def test_l10_a_new_leader_knows_the_duplicates_of_the_old_one(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2, 3)
        one = batch(b"once", producer_id=7, producer_epoch=0, base_sequence=0)
        async with connected(cluster.nodes[1]) as wire:
            assert (await wire.produce(bytes(one))).base_offset == 0
        await cluster.crash(1)
        await cluster.elect(3, isr=(2, 3))
        async with connected(cluster.nodes[3]) as wire:
            assert (await wire.produce(bytes(one))).base_offset == 0
            two = batch(b"then", producer_id=7, producer_epoch=0, base_sequence=1)
            assert (await wire.produce(bytes(two))).base_offset == 1


async def test_a_partition_that_was_left_alone_for_an_error_is_fetched_again(tmp_path: Path) -> None:
    """Its leader does not know of it yet, while the session with that leader goes on for others."""
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2, 3)
        cluster.deaf = {1}
        await cluster.tell(
            TopicRecord(name="late", topic_id=LATE_ID),
            PartitionRecord(
                partition_id=0, topic_id=LATE_ID, replicas=[1, 2, 3], leader=1, leader_epoch=0, isr=[1, 2, 3],
                partition_epoch=0,
            ),
        )  # fmt: skip
        fetchers = list(cluster.nodes[2].fetchers._fetchers.values())
        await cluster.until(lambda: any(set(one._told) == {(TOPIC_ID, 0)} for one in fetchers))
        cluster.deaf = set()
        await cluster.catch_up()
        late = cluster.nodes[1].partitions.get("late", 0)
        assert late is not None
        async with asyncio.timeout(5):
            assert await late.append_batch(batch(b"a")) == 0


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "the answer first"])
async def test_a_smaller_isr_commits_nothing_by_an_earlier_min_insync_replicas(
    tmp_path: Path, at_once: bool
) -> None:
    """min.insync.replicas is raised, then a follower leaves the ISR: from then on that one is eligible."""
    async with three(tmp_path, replica_lag_time_max_ms="200") as cluster:
        cluster.answers_alter_partition = not at_once
        await cluster.create(1, 2, configs={"min.insync.replicas": "1"})
        raised = ConfigRecord(
            resource_type=TOPIC_RESOURCE, resource_name="t", name="min.insync.replicas", value="2"
        )
        leader = cluster.actor(1)
        async with connected(cluster.nodes[1]) as wire:
            assert (await wire.produce(batch(b"both"))).error_code == 0
            await cluster.crash(2)
            cluster.deaf = {1}
            await cluster.tell(raised)
            assert (await wire.produce(batch(b"leader only"), acks=1)).error_code == 0
            if at_once:
                await cluster.until(lambda: leader.leader is not None and leader.leader.proposal is not None)
                await cluster.change(isr=[1])
            else:
                await cluster.until(lambda: cluster.partition.isr == (1,) and cluster.answered > 0)
                assert leader.high_watermark == 1
            cluster.deaf = set()
            await cluster.catch_up()
            assert leader.leader is not None and leader.leader.isr == (1,)
            assert leader.high_watermark == 1


async def test_a_topic_made_again_is_not_served_from_the_log_of_the_one_before(tmp_path: Path) -> None:
    """The image is ahead of the partitions for as long as these are deleted and opened."""
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2, 3)
        async with connected(cluster.nodes[1]) as wire:
            assert (await wire.produce(batch(b"of the first"))).error_code == 0
            image = cluster.nodes[1].image
            for record in (
                RemoveTopicRecord(topic_id=TOPIC_ID),
                TopicRecord(name="t", topic_id=LATE_ID),
                PartitionRecord(
                    partition_id=0, topic_id=LATE_ID, replicas=[1, 2, 3], leader=1, leader_epoch=0,
                    isr=[1, 2, 3], partition_epoch=0,
                ),
            ):  # fmt: skip
                image.replay(record, image.offset + 1, MetadataChanges())
            partition = FetchPartition(partition=0, current_leader_epoch=0, partition_max_bytes=1 << 20)
            request = FetchRequest(topics=[FetchTopic(topic_id=LATE_ID, partitions=[partition])])
            answer = (await wire.ask(request, 13)).responses[0].partitions[0]
            assert answer.error_code == UNKNOWN_TOPIC_ID
            assert not answer.records
            end = cluster.actor(1).log.log_end_offset
            for parts in (1, 2):
                data = [PartitionProduceData(index=0, records=batch(b"of the second"))] * parts
                writes = ProduceRequest(
                    acks=1, topic_data=[TopicProduceData(topic_id=LATE_ID, partition_data=data)]
                )
                answers = (await wire.ask(writes, 13)).responses[0].partition_responses
                assert [one.error_code for one in answers] == [UNKNOWN_TOPIC_ID] * parts
            assert cluster.actor(1).log.log_end_offset == end


async def test_of_deleted_topics_nothing_is_written_while_others_are_let_go(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2, 3)
        led = PartitionRecord(
            partition_id=0, topic_id=LATE_ID, replicas=[2, 3], leader=2, leader_epoch=0, isr=[2, 3],
            partition_epoch=0,
        )  # fmt: skip
        await cluster.tell(TopicRecord(name="late", topic_id=LATE_ID), led)
        node = cluster.nodes[2]
        fetchers = list(node.fetchers._fetchers.values())
        for fetcher in fetchers:
            await fetcher.at_rest.acquire()
        removed = RemoveTopicRecord(topic_id=TOPIC_ID), RemoveTopicRecord(topic_id=LATE_ID)
        telling = asyncio.ensure_future(cluster.tell(*removed))
        await cluster.until(lambda: node.partitions.get("t", 0) is None)
        assert node.partitions.get("late", 0) is None
        for fetcher in fetchers:
            fetcher.at_rest.release()
        await telling


async def test_a_follower_knows_at_once_that_its_leader_is_gone(tmp_path: Path) -> None:
    async with three(tmp_path, replica_fetch_backoff_ms="60000") as cluster:
        await cluster.create(1, 2, 3)
        await cluster.in_sync(1, 2, 3)
        await cluster.crash(1)
        for node_id in (2, 3):
            lost_leaders = cluster.nodes[node_id].lost_leaders
            await cluster.until(lambda lost=lost_leaders: lost.are_missed(["t"]), "the leader is missed")
        await cluster.fence(1)
        await cluster.elect(2, isr=(2, 3))
        assert not cluster.nodes[2].lost_leaders.are_missed(["t"])


async def test_a_leader_that_closed_a_connection_and_still_listens_is_not_missed(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2)
        await cluster.in_sync(1, 2)
        for connection in tuple(cluster.nodes[1].listeners["PLAINTEXT"].connections):
            connection.close("test")
        async with connected(cluster.nodes[1]) as wire:
            assert (await wire.produce(batch(b"after"))).error_code == 0
        assert not cluster.nodes[2].lost_leaders.are_missed(["t"])


async def test_a_follower_that_hears_first_who_leads_asks_again_soon(tmp_path: Path) -> None:
    """The new leader commits nothing before it is fetched from; the backoff after errors is far too long."""
    async with three(tmp_path, replica_fetch_backoff_ms="60000") as cluster:
        await cluster.create(1, 2, 3)
        await cluster.in_sync(1, 2, 3)
        await cluster.crash(1)
        cluster.deaf = {2}
        await cluster.fence(1)
        await cluster.elect(2, isr=(2, 3))
        fetcher = cluster.nodes[3].fetchers._homes[TOPIC_ID, 0]
        await cluster.until(lambda: fetcher.leader_id == 2 and fetcher._followed[TOPIC_ID, 0].refusals > 1)
        cluster.deaf = set()
        await cluster.catch_up()
        async with connected(cluster.nodes[2]) as wire, asyncio.timeout(5):
            assert (await wire.produce(batch(b"a"))).error_code == 0
