"""The real node on simulated ports: what it acknowledged is there after a loss of power."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from streamkit.broker.config import BrokerConfig
from streamkit.net.peer import Peer, PeerError
from streamkit.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from streamkit.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from streamkit.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from streamkit.protocol.records.batch import batches
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.simulation.loop import VirtualLoop, virtual_loop
from streamkit.simulation.machine import Machine
from streamkit.simulation.network import Network
from streamkit.simulation.owner import Owner
from streamkit.simulation.rng import Seed
from streamkit.simulation.trace import Trace

CONFIG = {
    "node.id": "1",
    "listeners": "PLAINTEXT://node-1:9092",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": "1",
}


class World:
    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.trace = Trace(loop)
        self.seed = Seed(seed)
        self.random = self.seed.generator("test")
        self.network = Network(loop, self.seed.generator("network"), self.trace)
        self.machine = Machine(
            BrokerConfig.from_properties(CONFIG),
            host="node-1", loop=loop, network=self.network, seed=self.seed, trace=self.trace,
        )  # fmt: skip
        self.client = self.network.port_for("client", Owner("client"))

    async def peer(self) -> Peer:
        return await Peer.connect(self.client, "node-1", 9092, client_id="test", timeout_ms=1000)

    async def until_ready(self) -> None:
        while not self.machine.is_ready:
            await asyncio.sleep(0.01)


def simulate(seed: int, scenario: Any) -> tuple[Any, str]:
    with virtual_loop() as loop:
        world = World(loop, seed)
        result = loop.run_until_complete(loop.create_task(scenario(world)))
        world.machine.bury()
        return result, world.trace.hash


def produced(value: bytes) -> ProduceRequest:
    data = PartitionProduceData(index=0, records=encode_batch([Record(value=value)]))
    return ProduceRequest(
        acks=-1, timeout_ms=1000, topic_data=[TopicProduceData(name="t", partition_data=[data])]
    )


async def records(peer: Peer) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while True:
        wanted = FetchPartition(partition=0, fetch_offset=len(found), partition_max_bytes=1 << 20)
        request = FetchRequest(topics=[FetchTopic(topic="t", partitions=[wanted])])
        response = await peer.call(request, 12, 1000)
        data = response.responses[0].partitions[0].records
        if not data:
            return found
        for _, batch in batches(data):
            found |= {record.offset: record.value or b"" for record in decode_records(batch)}


async def lives_through_power_cuts(world: World) -> int:
    acknowledged: dict[int, bytes] = {}
    number = 0
    for _ in range(5):
        world.machine.start()
        await world.until_ready()
        peer = await world.peer()
        await peer.call(
            CreateTopicsRequest(topics=[CreatableTopic(name="t", num_partitions=1, replication_factor=1)]),
            5,
            1000,
        )
        found = await records(peer)
        assert acknowledged.items() <= found.items()
        world.loop.call_later(world.random.uniform(0, 0.2), world.machine.lose_power)
        try:
            while True:
                number += 1
                value = b"%d" % number * world.random.randint(1, 300)
                response = await peer.call(produced(value), 9, 1000)
                answer = response.responses[0].partition_responses[0]
                assert not answer.error_code
                acknowledged[answer.base_offset] = value
        except PeerError:
            pass
    return len(acknowledged)


async def fails_to_flush_and_then_loses_power(world: World) -> None:
    """After a failed flush the page cache shows what no later sync writes."""
    machine = world.machine
    acknowledged: dict[int, bytes] = {}
    for round in range(3):
        machine.start()
        await world.until_ready()
        peer = await world.peer()
        topic = CreatableTopic(name="t", num_partitions=1, replication_factor=1)
        await peer.call(CreateTopicsRequest(topics=[topic]), 5, 1000)
        assert acknowledged.items() <= (await records(peer)).items()
        machine.image.conditions.failing_flushes = 1 if round == 0 else 0
        with suppress(PeerError):
            for number in range(3):
                value = b"%d/%d" % (round, number)
                answer = (await peer.call(produced(value), 9, 1000)).responses[0].partition_responses[0]
                if not answer.error_code:
                    acknowledged[answer.base_offset] = value
        while machine.is_ready and round == 0:
            await asyncio.sleep(0.01)
        if round == 1:
            machine.lose_power()
        elif machine.is_up:
            machine.kill()
    assert acknowledged


def test_what_a_failed_flush_left_in_the_page_cache_is_written_again() -> None:
    for seed in range(10):
        simulate(seed, fails_to_flush_and_then_loses_power)


def test_what_was_acknowledged_survives_the_loss_of_power() -> None:
    for seed in range(20):
        count, _ = simulate(seed, lives_through_power_cuts)
        assert count > 50
