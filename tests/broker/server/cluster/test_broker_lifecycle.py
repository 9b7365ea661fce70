"""Brokers that come and go, in clusters of real nodes: registered, unfenced, missed, replaced, let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from streamkit.broker.controller.controller import Controller
from streamkit.broker.controller.image import BrokerRegistration, MetadataImage
from streamkit.broker.server.cluster.broker_lifecycle import BrokerLifecycle
from streamkit.broker.server.controller.duties import ControllerDuties
from streamkit.broker.server.timers import Timers
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionRequestPartitionData,
    AlterPartitionRequestTopicData,
    BrokerState,
)
from streamkit.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from streamkit.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from streamkit.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from streamkit.protocol.messages.metadata import MetadataRequest
from streamkit.protocol.messages.unregister_broker import UnregisterBrokerRequest
from streamkit.runtime.os.network import TcpNetwork
from streamkit.runtime.os.spawn import TaskSpawn
from tests.broker.controller.cluster import Cluster
from tests.broker.server.nodes import Nodes, cluster
from tests.broker.server.wire import Wire, connected, running, topic


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with cluster(tmp_path) as made:
        await made.until(lambda image: all(map(image.is_active, (1, 2, 3))))
        yield made


async def create(nodes: Nodes, partitions: int = 3) -> None:
    error = await nodes.any.controller_client.create_topic(
        "t", partitions=partitions, replication_factor=3, configs={}
    )
    assert error is ErrorCode.NONE
    await nodes.until(lambda image: "t" in image.topics)


def leaders(image: MetadataImage) -> list[int]:
    return [one.leader for one in image.topics["t"].partitions]


# --- a cluster -------------------------------------------------------------------------------------


async def test_a_killed_broker_is_missed_and_replaced(nodes: Nodes) -> None:
    await create(nodes)
    assert sorted(leaders(nodes.any.metadata)) == [1, 2, 3]
    victim = nodes.others[0]
    epoch = nodes.any.metadata.brokers[victim].epoch
    await nodes.kill(victim)
    took_s = await nodes.until(lambda image: image.brokers[victim].fenced)
    assert took_s < 3, "a session is one second"
    for broker in nodes.running.values():
        assert victim not in leaders(broker.metadata)
        for partition in broker.metadata.topics["t"].partitions:
            assert partition.leader in partition.isr and victim not in partition.isr
            assert partition.leader_epoch == (partition.replicas[0] == victim)
    await nodes.start(victim)
    await nodes.until(lambda image: image.is_active(victim))
    assert nodes.any.metadata.brokers[victim].epoch > epoch


@pytest.mark.parametrize("of_controller", [False, True])
async def test_one_whose_process_has_ended_is_not_waited_for(tmp_path: Path, of_controller: bool) -> None:
    slow = {"broker_heartbeat_interval_ms": "3000", "broker_session_timeout_ms": "9000"}
    async with cluster(tmp_path, **slow) as nodes:
        await nodes.until(lambda image: all(map(image.is_active, (1, 2, 3))))
        await create(nodes)
        victim = nodes.controller_id if of_controller else nodes.others[0]
        await nodes.kill(victim)
        took_s = await nodes.until(lambda image: image.brokers[victim].fenced)
        assert took_s < 3, "its session ends after nine seconds, and after six if it hangs up"
        assert victim not in leaders(nodes.any.metadata)


async def test_one_that_comes_back_before_it_is_missed_need_not_wait(nodes: Nodes) -> None:
    await create(nodes)
    victim = nodes.others[0]
    await nodes.kill(victim)
    await asyncio.wait_for(nodes.start(victim), 0.9)
    await nodes.until(lambda image: image.is_active(victim))
    assert victim not in leaders(nodes.any.metadata), "whoever was gone leads no longer"


async def test_the_broker_of_a_killed_controller_is_replaced_too(nodes: Nodes) -> None:
    await create(nodes)
    victim = nodes.controller_id
    await nodes.kill(victim)
    await nodes.until(lambda image: image.brokers[victim].fenced, within_s=20)
    assert victim not in leaders(nodes.any.metadata)


async def test_one_that_comes_back_is_in_sync_again_and_takes_its_leadership_back(tmp_path: Path) -> None:
    async with cluster(tmp_path, leader_imbalance_check_interval_seconds="1") as nodes:
        await nodes.until(lambda image: all(map(image.is_active, (1, 2, 3))))
        await create(nodes)
        victim = nodes.controller_id
        await nodes.kill(victim)
        await nodes.until(lambda image: victim not in leaders(image))
        await nodes.start(victim)
        await nodes.until(lambda image: all(len(one.isr) == 3 for one in image.topics["t"].partitions))
        await nodes.until(
            lambda image: all(one.leader == one.replicas[0] for one in image.topics["t"].partitions)
        )


async def test_a_broker_that_stops_is_let_go_once_others_lead(nodes: Nodes) -> None:
    await create(nodes)
    for goes in (nodes.others[0], nodes.controller_id):
        if len(nodes.running) < 3:
            break
        await asyncio.wait_for(nodes.stop(goes), 4)
        await nodes.until(lambda image, goes=goes: image.brokers[goes].fenced)  # type: ignore[misc]
        assert goes not in leaders(nodes.any.metadata)
        assert -1 not in leaders(nodes.any.metadata)


async def test_an_unregistered_broker_that_lives_registers_again(nodes: Nodes) -> None:
    one = nodes.others[0]
    before = nodes.running[one].controller_client.broker_epoch
    response = await nodes.any.channel.ask(UnregisterBrokerRequest(broker_id=one))
    assert not response.error_code
    await nodes.until(lambda image: image.is_active(one) and image.brokers[one].epoch > before)
    assert nodes.running[one].controller_client.broker_epoch == nodes.any.metadata.brokers[one].epoch


async def test_leaders_and_replicas_are_changed_through_any_broker(nodes: Nodes) -> None:
    await create(nodes, partitions=1)
    asked = nodes.running[nodes.others[0]]
    async with connected(asked) as wire:
        elect = ElectLeadersRequest(topic_partitions=[TopicPartitions(topic="t", partitions=[0])])
        (result,) = (await wire.ask(elect, 2)).replica_election_results
        assert result.partition_result[0].error_code == ErrorCode.ELECTION_NOT_NEEDED
        target = [*reversed(asked.metadata.topics["t"].partitions[0].replicas)]
        move = AlterPartitionReassignmentsRequest(
            topics=[
                ReassignableTopic(
                    name="t", partitions=[ReassignablePartition(partition_index=0, replicas=target)]
                )
            ]
        )
        (moved,) = (await wire.ask(move, 1)).responses
        assert not moved.partitions[0].error_code
        assert list(asked.metadata.topics["t"].partitions[0].replicas) == target
        assert (await wire.ask(ListPartitionReassignmentsRequest(), 0)).topics == []
        (result,) = (await wire.ask(elect, 2)).replica_election_results
        assert not result.partition_result[0].error_code
        assert leaders(asked.metadata) == target[:1]
        unknown = await wire.ask(UnregisterBrokerRequest(broker_id=9), 0)
        assert unknown.error_code == ErrorCode.BROKER_ID_NOT_REGISTERED


async def test_a_leaders_isr_change_is_made_by_the_controller(nodes: Nodes) -> None:
    await create(nodes, partitions=1)
    leader = nodes.any.metadata.topics["t"].partitions[0].leader
    broker = nodes.running[leader]
    asked = AlterPartitionRequestPartitionData(
        partition_index=0,
        new_isr_with_epochs=[
            BrokerState(broker_id=leader, broker_epoch=broker.controller_client.broker_epoch)
        ],
    )
    request = AlterPartitionRequest(
        broker_id=leader,
        broker_epoch=broker.controller_client.broker_epoch,
        topics=[
            AlterPartitionRequestTopicData(topic_id=broker.metadata.topics["t"].topic_id, partitions=[asked])
        ],
    )
    (answered,) = (await broker.channel.ask(request)).topics[0].partitions
    assert (answered.error_code, answered.isr, answered.partition_epoch) == (ErrorCode.NONE, [leader], 1)
    await nodes.until(lambda image: len(image.topics["t"].partitions[0].elr) == 2)


# --- one node --------------------------------------------------------------------------------------


async def test_a_node_alone_is_live_at_once_and_restarts_for_one_record(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        await topic(broker, partitions=5)
        assert broker.metadata.is_active(1)
        epoch, end = broker.controller_client.broker_epoch, broker.publisher.caught_up_to
    async with running(tmp_path) as broker:
        after = broker.metadata.topics["t"].partitions
        assert [(one.leader, one.leader_epoch, one.partition_epoch) for one in after] == [(1, 0, 0)] * 5
        assert broker.controller_client.broker_epoch > epoch
        assert broker.publisher.caught_up_to == end + 2, "the election's record and the registration"


async def test_the_first_answer_comes_from_a_broker_that_is_part_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its port is open before the controller lets it lead, its requests wait until it knows of that."""
    really_go_live, asked = BrokerLifecycle.go_live, []

    async def go_live(lifecycle: BrokerLifecycle) -> None:
        port = next(iter(lifecycle._endpoints())).port
        wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
        answer = asyncio.ensure_future(wire.ask(MetadataRequest(topics=[]), 12))
        asked.append((wire, answer))
        await asyncio.wait({answer}, timeout=0.1)
        assert not answer.done()
        await really_go_live(lifecycle)

    monkeypatch.setattr(BrokerLifecycle, "go_live", go_live)
    async with running(tmp_path) as broker:
        ((wire, answer),) = asked
        assert [one.node_id for one in (await answer).brokers] == [1]
        assert broker.metadata.is_live(1)
        wire.writer.close()


async def test_a_process_that_may_have_lost_bytes_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, streamkit_flush_mode="relaxed") as broker:
        await topic(broker)
    (tmp_path / ".kafka_cleanshutdown").unlink()
    async with running(tmp_path, streamkit_flush_mode="relaxed") as broker:
        assert broker.metadata.topics["t"].partitions[0].leader_epoch == 1
    (tmp_path / ".kafka_cleanshutdown").unlink()
    async with running(tmp_path) as broker:
        assert broker.metadata.topics["t"].partitions[0].leader_epoch == 1


async def test_a_damaged_epoch_file_is_no_proof(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        await topic(broker)
    (tmp_path / "broker-epoch").write_bytes(b"0\n1\n5\ncrc32c 00000000\n")
    async with running(tmp_path) as broker:
        assert broker.metadata.topics["t"].partitions[0].leader_epoch == 1


# --- the controller's duties -----------------------------------------------------------------------


class Deciding:
    """An active controller whose decisions are carried out at once, in memory."""

    def __init__(self, made: Cluster) -> None:
        self.cluster = made
        self.is_active = True
        self.former_leader: int | None = None
        self.on_begun: Callable[[], None] = lambda: None

    async def submit(self, decide: Any) -> Any:
        controller: Controller = self.cluster.controller
        return self.cluster.apply(decide(controller))

    def stalled(self, late_ms: int) -> None:
        self.cluster.controller.sessions.extend(late_ms)

    def broker(self, broker_id: int) -> BrokerRegistration | None:
        return self.cluster.image.brokers.get(broker_id)

    def gone(self, broker_id: int, broker_epoch: int) -> None:
        self.cluster.controller.gone(broker_id, broker_epoch)


class NobodyListens:
    """A network in which every process has just been killed."""

    async def connect(self, host: str, port: int, make_protocol: object) -> object:
        raise ConnectionRefusedError


@pytest.mark.parametrize(("stalls", "fenced"), [(False, [1, 2]), (True, [])])
async def test_a_stall_of_the_controller_is_not_held_against_the_brokers(
    stalls: bool, fenced: list[int]
) -> None:
    made = Cluster(brokers=2)
    spawn = TaskSpawn(lambda name, error: None)
    timers = Timers(made.clock)
    controller: Any = Deciding(made)
    duties = ControllerDuties(
        controller, made.config, clock=made.clock, timers=timers, spawn=spawn, network=TcpNetwork()
    )
    step_ms = made.config.broker_session_timeout_ms // 20
    for _ in range(1 if stalls else 21):
        made.clock.ms += 21 * step_ms if stalls else step_ms
        duties._look()
        await asyncio.sleep(0)
    assert [one.broker_id for one in made.image.brokers.values() if one.fenced] == fenced
    timers.close()
    await spawn.close()


async def test_a_new_controller_looks_at_once_whether_the_one_before_it_is_gone() -> None:
    made = Cluster(brokers=2)
    spawn = TaskSpawn(lambda name, error: None)
    timers = Timers(made.clock)
    controller: Any = Deciding(made)
    controller.former_leader = 1
    network: Any = NobodyListens()
    ControllerDuties(controller, made.config, clock=made.clock, timers=timers, spawn=spawn, network=network)
    controller.on_begun()
    async with asyncio.timeout(5):
        while not made.image.brokers[1].fenced:
            await asyncio.sleep(0.001)
    assert made.image.is_live(2)
    timers.close()
    await spawn.close()
