"""The quorum of whole nodes over loopback: formed, replicated, failed over, grown."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamkit.broker.controller.records import FeatureLevelRecord, NoOpRecord, encode_record
from streamkit.broker.raft.messages import AddVoterRequest, BeginEpochRequest
from streamkit.broker.raft.roles import Role
from streamkit.broker.raft.voters import Endpoint, ReplicaKey, Voter
from streamkit.broker.server.controller.active_controller import NotLeaderError
from streamkit.broker.server.controller.metadata_publisher import MetadataUnreadableError, OffsetTrimmedError
from streamkit.broker.server.controller.quorum import Quorum
from streamkit.protocol.error_codes import ErrorCode
from tests.broker.server.cluster_of_nodes import Nodes, until


async def values(quorum: Quorum) -> list[bytes]:
    return [bytes(value) async for _, value in quorum.committed(0)]


async def test_three_nodes_started_in_any_order_form_one_cluster(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        nodes.begin(3)
        await until(lambda: hasattr(nodes.running[3], "quorum"))
        await until(lambda: nodes.running[3].quorum.raft.role is Role.PROSPECTIVE)  # it asks, in vain
        assert not nodes.active and nodes.running[3].quorum.epoch == 0
        nodes.begin(1)
        await nodes.ready(1, 3)
        nodes.begin(2)
        await nodes.ready(2)
        leader = await nodes.leader()
        brokers = list(nodes.running.values())
        assert len({one.directory.cluster_id for one in brokers}) == 1 and brokers[0].directory.cluster_id
        keys = {(one.config.node_id, one.directory.directory_id) for one in brokers}
        await until(lambda: {(v.key.id, v.key.directory_id) for v in leader.quorum.voters} == keys)
        await until(lambda: len({one.quorum.high_watermark for one in brokers}) == 1)
        assert [await values(one.quorum) for one in brokers] == [await values(leader.quorum)] * 3
        assert set(leader.metadata.brokers) == {1, 2, 3}


async def test_a_killed_leader_is_replaced_and_what_it_committed_stays(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start(1, 2, 3)
        await nodes.ready(1, 2, 3)
        leader = await nodes.leader()
        epoch, before = leader.quorum.epoch, await values(leader.quorum)
        killed = leader.config.node_id
        clock = asyncio.get_running_loop().time
        began_s = clock()
        await nodes.crash(killed)
        successor = await nodes.leader()
        assert clock() - began_s < 2, "closed connections say at once that the leader is gone"
        assert successor.quorum.epoch > epoch
        assert (await values(successor.quorum))[: len(before)] == before
        await nodes.start(killed)
        returned = nodes.running[killed]
        assert returned.quorum.leader_id == successor.config.node_id
        await until(lambda: returned.quorum.high_watermark == successor.quorum.high_watermark)
        assert await values(returned.quorum) == await values(successor.quorum)


async def test_a_leader_that_stops_hands_over(tmp_path: Path) -> None:
    slow = {"controller.quorum.fetch.timeout.ms": "60000"}
    async with Nodes(tmp_path, **slow) as nodes:
        await nodes.start(1, 2, 3)
        leader = await nodes.leader()
        epoch = leader.quorum.epoch
        await nodes.stop(leader.config.node_id)
        successor = await nodes.leader()
        assert successor.quorum.epoch == epoch + 1, "one election was enough"


async def test_an_append_to_a_follower_is_refused_and_one_that_lost_its_leader_fails(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start(1, 2, 3)
        leader = await nodes.leader()
        follower = next(one for one in nodes.running.values() if one is not leader)
        with pytest.raises(NotLeaderError):
            await follower.quorum.append([b"x"])
        for other in [n for n in nodes.running if n != leader.config.node_id]:
            await nodes.crash(other)
        with pytest.raises(NotLeaderError):
            await asyncio.wait_for(leader.quorum.append([b"x"]), 10)
        assert not leader.quorum.is_active, "a leader that nobody fetches from resigns"


async def test_r1_a_leader_that_hears_of_a_later_epoch_leads_neither_while_its_disk_is_slow(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start(1, 2, 3)
        leader = (await nodes.leader()).quorum
        disk_goes_on = asyncio.Event()
        replace = leader._disk.replace

        async def replace_slowly(path: str, data: bytes) -> None:
            await disk_goes_on.wait()
            await replace(path, data)

        leader._disk = SimpleNamespace(replace=replace_slowly)  # type: ignore[assignment]
        epoch, other = leader.epoch + 1, next(n for n in nodes.running if n != leader.node_id)
        telling = leader.ask(BeginEpochRequest(epoch, other, leader.raft.key))
        assert (leader.epoch, leader.is_active) == (epoch, False)
        disk_goes_on.set()
        await telling


async def test_a_whole_cluster_restarts(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start(1, 2, 3)
        leader = await nodes.leader()
        cluster_id, before = leader.directory.cluster_id, await values(leader.quorum)
        for node_id in (1, 2, 3):
            await nodes.crash(node_id)
        await nodes.start(1, 2, 3)
        leader = await nodes.leader()
        assert leader.directory.cluster_id == cluster_id
        assert (await values(leader.quorum))[: len(before)] == before


async def test_r10_a_wiped_voter_comes_back_as_an_observer(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start(1, 2, 3)
        leader = await nodes.leader()
        await until(lambda: all(voter.key.has_directory for voter in leader.quorum.voters))
        wiped = next(n for n in (1, 2, 3) if n != leader.config.node_id)
        old = leader.quorum.voters.key_of(wiped)
        await nodes.crash(wiped)
        (tmp_path / str(wiped)).rename(tmp_path / "lost")
        await nodes.start(wiped)
        returned = nodes.running[wiped]
        assert returned.directory.directory_id != old.directory_id
        assert returned.directory.cluster_id == leader.directory.cluster_id
        assert returned.quorum.voters.key_of(wiped) == old and not returned.quorum.raft.is_voter


async def test_a_broker_that_is_no_voter_observes(tmp_path: Path) -> None:
    async with Nodes(tmp_path, voters=1, brokers=1) as nodes:
        await nodes.start(1, 2)
        leader = await nodes.leader()
        assert leader.config.node_id == 1
        observer = nodes.running[2].quorum
        assert not observer.raft.is_voter and observer.leader_id == 1
        await until(lambda: observer.high_watermark == leader.quorum.high_watermark)


async def test_a_metadata_log_that_cannot_be_read_is_a_failed_directory(tmp_path: Path) -> None:
    async with Nodes(tmp_path, voters=1) as nodes:
        await nodes.start(1)
        await nodes.ready(1)
        broker = nodes.running[1]
        broker.quorum._log.offline_reason = "the disk is gone"
        with pytest.raises(MetadataUnreadableError):
            await values(broker.quorum)
        assert broker.failure is not None
        assert "the data directory failed" in broker.failure.message


async def test_a_node_started_alone_grows_to_three(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        alone = nodes.begin(1, **{"controller.quorum.voters": "", "listeners": "PLAINTEXT://127.0.0.1:0"})
        await nodes.ready(1)
        cluster_id = alone.directory.cluster_id
        await nodes.crash(1)
        await nodes.start(1, 2, 3)
        leader = await nodes.leader()
        assert leader.config.node_id == 1, "the log's voters count, not the configured ones"
        assert {one.directory.cluster_id for one in nodes.running.values()} == {cluster_id}
        await until(lambda: bool(next(iter(leader.quorum.voters)).endpoints))
        for node_id in (2, 3):
            key = ReplicaKey(node_id, nodes.running[node_id].directory.directory_id)
            endpoint = Endpoint("CONTROLLER", "127.0.0.1", nodes.ports[node_id])
            reply = await leader.quorum.change_voters(AddVoterRequest(Voter(key, (endpoint,)), 10_000))
            assert reply.error is ErrorCode.NONE
        assert leader.quorum.voters.ids == (1, 2, 3)
        await nodes.crash(1)
        successor = await nodes.leader()
        assert successor.config.node_id in (2, 3)


async def append_some(quorum: Quorum, count: int) -> None:
    for _ in range(count):
        await quorum.append([encode_record(NoOpRecord())] * 5)


async def test_a_follower_that_was_away_for_long_gets_a_snapshot(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start(1, 2, 3)
        await nodes.ready(1, 2, 3)
        leader = (await nodes.leader()).quorum
        away = next(n for n in (1, 2, 3) if n != leader.node_id)
        await nodes.crash(away)
        contents = [encode_record(NoOpRecord()), encode_record(FeatureLevelRecord(name="x", feature_level=1))]
        for _ in range(3):
            await append_some(leader, 4)
            await leader.take_snapshot(leader.high_watermark, contents)
        newest = leader.newest_snapshot()
        assert newest is not None and newest.end_offset == leader.high_watermark
        with pytest.raises(OffsetTrimmedError):
            await values(leader)
        leader_path = tmp_path / str(leader.node_id)
        files = sorted(path.name for path in leader_path.rglob("*.checkpoint"))
        assert len(files) == 2 and files[-1] == f"{newest.end_offset:020}-{newest.epoch:010}.checkpoint"
        await append_some(leader, 2)
        await nodes.start(away)
        returned = nodes.running[away].quorum
        await until(lambda: returned.high_watermark == leader.high_watermark)
        assert returned.newest_snapshot() == newest and returned.voters == leader.voters
        assert (await returned.load_snapshot()).values == contents
        copies = [next(path.rglob(files[-1])).read_bytes() for path in (leader_path, tmp_path / str(away))]
        assert copies[0] == copies[1]
        # and again from its own disk
        await nodes.crash(away)
        await nodes.start(away)
        again = nodes.running[away].quorum
        await until(lambda: again.high_watermark == leader.high_watermark)
        assert again.newest_snapshot() == newest and again.voters == leader.voters


async def test_a_node_alone_starts_from_its_snapshot(tmp_path: Path) -> None:
    async with Nodes(tmp_path, voters=1) as nodes:
        await nodes.start(1)
        await nodes.ready(1)
        quorum = nodes.running[1].quorum
        for _ in range(2):
            await append_some(quorum, 3)
            await quorum.take_snapshot(quorum.high_watermark, [encode_record(NoOpRecord())])
        voters, end = quorum.voters, quorum.high_watermark
        await nodes.crash(1)
        nodes.begin(1)
        await nodes.joined(1)
        quorum = nodes.running[1].quorum
        assert quorum.voters == voters and quorum.high_watermark > end and quorum.is_active
