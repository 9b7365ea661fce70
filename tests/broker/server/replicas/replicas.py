"""Three brokers in one event loop, with real logs and connections; the test is their controller.

What a quorum would tell them comes from `Cluster.tell`: each node that runs replays the records into its own
image, as soon or as late as the test wants. AlterPartition is answered as a controller does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import MetadataChanges, MetadataImage, PartitionRegistration
from streamkit.broker.controller.records import (
    BrokerEndpoint,
    BrokerRegistrationChangeRecord,
    ConfigRecord,
    MetadataRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    TopicRecord,
)
from streamkit.broker.server.cluster.lost_leaders import LostLeaders
from streamkit.broker.server.node import Broker
from streamkit.broker.server.replicas.isr_changes import IsrChanges
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.server.replicas.partitions import Partitions
from streamkit.broker.server.replicas.replica_fetcher import ReplicaFetchers
from streamkit.broker.server.replicas.replication_throttles import ReplicationThrottles
from streamkit.broker.storage.log_directory import LogDirectory
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionResponsePartitionData,
    AlterPartitionResponseTopicData,
)
from streamkit.protocol.records.batch import batches
from streamkit.runtime.os.ports import os_ports
from streamkit.telemetry.instruments import Registry

TOPIC_ID = b"a-topic-of-three"
TOPIC_RESOURCE = 2


class Node(Broker):
    """A broker without a quorum: its image is told what happens."""

    image: MetadataImage

    async def begin(self, cluster: Cluster, epoch: int) -> None:
        await self._bind()
        self.directory = await LogDirectory.open(
            self._ports.disk, self.config.log_dir, node_id=self.config.node_id, clock=self.clock,
            rng=self.rng, spawn=self.spawn,
            flush_mode=self.config.flush_mode, on_failure=self._directory_failed,
        )  # fmt: skip
        self.image = MetadataImage()
        self.publisher = SimpleNamespace(image=self.image)  # type: ignore[assignment]
        self.controller_client = SimpleNamespace(broker_epoch=epoch)  # type: ignore[assignment]
        self.throttles = ReplicationThrottles(self.config, clock=self.clock, metrics=self.metrics)
        self.lost_leaders = LostLeaders(lambda: self.image, self.clock)
        self.fetchers = ReplicaFetchers(
            self.config, throttle=self.throttles.follower, lost_leaders=self.lost_leaders,
            network=self._ports.network, spawn=self.spawn,
            flusher=self.directory.flusher, metrics=self.metrics, image=lambda: self.image,
            broker_epoch=lambda: epoch,
        )  # fmt: skip
        self.throttles.on_change = self.fetchers.throttle_changed
        self.dynamic.on_change(self.throttles.heed)
        changes = IsrChanges(
            cluster.alter_partition, node_id=self.config.node_id, broker_epoch=lambda: epoch, spawn=self.spawn
        )
        self.partitions = Partitions(
            self.config, self.directory, self.metrics, clock=self.clock, fetchers=self.fetchers,
            proposals=changes,
        )  # fmt: skip
        self.timers.every(max(self.config.replica_lag_time_max_ms // 2, 1), self.partitions.tick)
        for listener in self.listeners.values():
            await listener.accept()
            listener.release()

    async def replay(self, records: Iterable[MetadataRecord]) -> None:
        changes = MetadataChanges()
        for record in records:
            self.image.replay(record, self.image.offset + 1, changes)
        self.dynamic.apply(self.image, changes)
        await self.partitions.apply(self.image, changes)
        self.lost_leaders.metadata_changed()
        self.throttles.apply(changes)

    async def crash(self) -> None:
        """Gone at once: nothing more is flushed, checkpointed or answered."""
        for listener in self.listeners.values():
            listener.stop_serving()
        self.timers.close()
        self.directory.flusher._failed = True
        self.fetchers.close()
        await self.spawn.close()
        for listener in self.listeners.values():
            await listener.close()
        self.directory._lock.release()
        self._ports.disk.close()  # type: ignore[attr-defined]


class Cluster:
    def __init__(self, path: Path, properties: dict[str, str]) -> None:
        self.nodes: dict[int, Node] = {}
        self.history: list[MetadataRecord] = []
        self.image = MetadataImage()
        self.deaf: set[int] = set()
        """Nodes that are told nothing for now."""
        self.answers_alter_partition = True
        self.answered = 0
        """AlterPartition requests; whoever asked has acted upon the answer when this is seen."""
        self.failures: list[BaseException] = []
        self._path = path
        self._properties = properties
        self._told: dict[int, int] = {}
        self._telling = asyncio.Lock()

    # -- nodes

    async def start(self, node_id: int, **properties: str) -> Node:
        """Start a node, or start it again; the others learn of it, unfenced."""
        config = BrokerConfig.from_properties(
            {
                "node.id": str(node_id),
                "log.dir": str(self._path / f"node-{node_id}"),
                "listeners": "PLAINTEXT://127.0.0.1:0",
                "broker.rack": f"rack-{node_id}",
                "replica.fetch.backoff.ms": "20",
                "replica.fetch.wait.max.ms": "100",
                **self._properties,
                **properties,
            }
        )
        ports = os_ports(lambda name, error: self.failures.append(error))
        node = Node(config, ports, Registry(), on_end=lambda: None)
        epoch = 100 + len(self.history)
        await node.begin(self, epoch)
        port = node.listeners["PLAINTEXT"].port
        self._told[node_id] = 0
        self.nodes[node_id] = node
        await self.tell(
            RegisterBrokerRecord(
                broker_id=node_id, broker_epoch=epoch, rack=f"rack-{node_id}", fenced=False,
                end_points=[BrokerEndpoint(name="PLAINTEXT", host="127.0.0.1", port=port)],
            )
        )  # fmt: skip
        return node

    async def crash(self, node_id: int) -> None:
        await self.nodes.pop(node_id).crash()

    async def stop(self, node_id: int) -> None:
        node = self.nodes.pop(node_id)
        await node.stop()
        node._ports.disk.close()  # type: ignore[attr-defined]

    # -- metadata

    async def tell(self, *records: MetadataRecord) -> None:
        """Commit these records, and tell the nodes that listen all that they have not heard."""
        changes = MetadataChanges()
        for record in records:
            self.image.replay(record, self.image.offset + 1, changes)
        self.history += records
        await self.catch_up()

    async def catch_up(self) -> None:
        async with self._telling:
            for node_id, node in list(self.nodes.items()):
                if node_id not in self.deaf:
                    news = self.history[self._told[node_id] :]
                    self._told[node_id] = len(self.history)
                    await node.replay(news)

    async def create(
        self, *replicas: int, isr: Iterable[int] | None = None, configs: dict[str, str] | None = None
    ) -> None:
        """The topic `t` of one partition; the first replica leads it."""
        settings = {"min.insync.replicas": "2", **(configs or {})}
        await self.tell(
            TopicRecord(name="t", topic_id=TOPIC_ID),
            *(
                ConfigRecord(resource_type=TOPIC_RESOURCE, resource_name="t", name=key, value=text)
                for key, text in settings.items()
            ),
            PartitionRecord(
                partition_id=0, topic_id=TOPIC_ID, replicas=list(replicas), leader=replicas[0],
                leader_epoch=0, isr=list(replicas if isr is None else isr), partition_epoch=0,
            ),
        )  # fmt: skip

    async def elect(self, leader: int, isr: Iterable[int]) -> None:
        await self.change(leader=leader, isr=list(isr))

    async def change(self, **fields: Any) -> None:
        await self.tell(PartitionChangeRecord(partition_id=0, topic_id=TOPIC_ID, **fields))

    async def fence(self, node_id: int) -> None:
        epoch = self.image.brokers[node_id].epoch
        await self.tell(BrokerRegistrationChangeRecord(broker_id=node_id, broker_epoch=epoch, fenced=1))

    @property
    def partition(self) -> PartitionRegistration:
        return self.image.topics["t"].partitions[0]

    async def alter_partition(self, request: Any) -> AlterPartitionResponse:
        """As a controller decides, for the one partition there is."""
        assert isinstance(request, AlterPartitionRequest)
        while not self.answers_alter_partition:
            await asyncio.sleep(0.01)
        (topic,) = request.topics
        (asked,) = topic.partitions
        isr = [one.broker_id for one in asked.new_isr_with_epochs]
        error = ErrorCode.NONE
        if asked.leader_epoch != self.partition.leader_epoch:
            error = ErrorCode.FENCED_LEADER_EPOCH
        elif asked.partition_epoch != self.partition.partition_epoch:
            error = ErrorCode.INVALID_UPDATE_VERSION
        elif not all(self.image.is_live(broker_id) for broker_id in isr):
            error = ErrorCode.INELIGIBLE_REPLICA
        else:
            await self.change(isr=isr)
        answer = AlterPartitionResponsePartitionData(
            partition_index=0, error_code=error, leader_id=self.partition.leader,
            leader_epoch=self.partition.leader_epoch, isr=list(self.partition.isr),
            partition_epoch=self.partition.partition_epoch,
        )  # fmt: skip
        self.answered += 1
        return AlterPartitionResponse(
            topics=[AlterPartitionResponseTopicData(topic_id=topic.topic_id, partitions=[answer])]
        )

    # -- what tests look at

    def actor(self, node_id: int) -> PartitionActor:
        actor = self.nodes[node_id].partitions.get("t", 0)
        assert actor is not None
        return actor

    def bytes_of(self, node_id: int, start: int) -> bytes:
        """A node's log from an offset on, byte for byte."""
        log = self.actor(node_id).log
        found, offset = b"", start
        while offset < log.log_end_offset:
            data = log.read(offset, max_bytes=1 << 20, end_offset=log.log_end_offset)
            assert data
            found += bytes(data)
            offset = found_end(found)
        return found

    async def until(self, condition: Callable[[], bool], why: str = "") -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    async def in_sync(self, *node_ids: int) -> None:
        """Wait until exactly these are in sync, and agree on everything."""
        await self.until(lambda: set(self.partition.isr) == set(node_ids))
        ends = lambda: {  # noqa: E731
            (self.actor(n).log.log_end_offset, self.actor(n).high_watermark) for n in node_ids
        }
        await self.until(lambda: len(ends()) == 1)
        start = max(self.actor(node_id).log.log_start_offset for node_id in node_ids)
        assert len({self.bytes_of(node_id, start) for node_id in node_ids}) == 1


def found_end(data: bytes) -> int:
    end = 0
    for header, _ in batches(data):
        end = header.next_offset
    return end


@asynccontextmanager
async def three(path: Path, **properties: str) -> AsyncIterator[Cluster]:
    """Nodes 1, 2 and 3; keys of `properties` are written with `_` for `.`."""
    cluster = Cluster(path, {name.replace("_", "."): text for name, text in properties.items()})
    try:
        for node_id in (1, 2, 3):
            await cluster.start(node_id)
        yield cluster
    finally:
        cluster.answers_alter_partition = True
        for node_id in list(cluster.nodes):
            await cluster.stop(node_id)
    assert not cluster.failures, cluster.failures
