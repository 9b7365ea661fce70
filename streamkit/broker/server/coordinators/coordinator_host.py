"""The shards of one internal topic: one for each of its partitions that is led here, and the way to them.

What decides is generic: groups in `__consumer_offsets` (`group_host`), transactional ids in
`__transaction_state` (`transaction_host`), share-partitions in `__share_group_state`
(`share_coordinator_host`). A key's shard is that of the partition that Java's hash of it names;
NOT_COORDINATOR is the answer when another broker leads that.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Generic, NamedTuple, Protocol

import structlog

from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.coordination.placement import partition_for
from streamkit.broker.coordination.shard import CoordinatorRecord, Refusal
from streamkit.broker.quorum_config import internal_replication_factor
from streamkit.broker.server.coordinators.hosted_shard import Decide, HostedShard, OwnLog, World
from streamkit.broker.server.coordinators.shard_loading import S
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.create_topics import CreatableTopic
from streamkit.protocol.schema import Message

READY_TIMEOUT_S = 5
COMPACTED: Final[Mapping[str, str]] = {"cleanup.policy": "compact"}

log = structlog.get_logger(__name__)


class Cluster(Protocol):
    """What a host needs of the cluster's metadata."""

    @property
    def image(self) -> MetadataImage: ...

    async def create_topic(
        self, name: str, *, partitions: int, replication_factor: int, configs: Mapping[str, str]
    ) -> int:
        """Make a topic of our own; NONE if it exists afterwards."""
        ...

    async def create_topics(self, topics: Sequence[CreatableTopic]) -> dict[str, str]:
        """Make these topics; of those that do not exist afterwards, why. Raises StreamkitError."""
        ...


class InternalTopic(NamedTuple):
    """How a coordinator's topic is made when it is first needed."""

    name: str
    partitions: int
    replication_factor: int
    segment_bytes: int
    min_insync_replicas: int
    retention: Mapping[str, str] = COMPACTED


class CoordinatorHost(ABC, Generic[S]):
    """All shards of this broker.

    `voters` says for how many brokers the cluster is made; `leads` gives the log of a partition led here.
    """

    def __init__(
        self,
        topic: InternalTopic,
        *,
        node_id: int,
        voters: int,
        cluster: Cluster,
        leads: Callable[[str, int], OwnLog | None],
        world: World,
    ) -> None:
        self.shards: dict[int, HostedShard[S]] = {}
        self._topic = topic
        self._node_id = node_id
        self._voters = voters
        self._cluster = cluster
        self._leads = leads
        self._world = world

    @abstractmethod
    def make_shard(self) -> S:
        """An empty shard."""

    def carry_out(self, partition: int, shard: HostedShard[S], command: object) -> None:
        """Do what a decision of this shard asked for."""
        raise AssertionError(f"nobody carries out {command}")

    def stored(self, shard: S, record: CoordinatorRecord, offset: int) -> None:
        """A record of this shard is committed, at this offset."""

    def refresh(self) -> None:
        """The metadata changed: host the shards whose partitions are led here, each in its leader epoch, and
        no others.
        """
        for partition in sorted({*range(self._partition_count()), *self.shards}):
            own_log, shard = self._leads(self._topic.name, partition), self.shards.get(partition)
            if shard is not None and (own_log is None or not shard.is_coordinator_of(own_log)):
                self.shards.pop(partition).close()
                shard = None
            if shard is None and own_log is not None:
                self.shards[partition] = self._host(partition, own_log)

    def _host(self, partition: int, own_log: OwnLog) -> HostedShard[S]:
        return HostedShard(
            f"{self._topic.name}-{partition}",
            own_log,
            self._world,
            is_compacted=self._topic.retention is COMPACTED,
            make=self.make_shard,
            carry_out=lambda shard, command: self.carry_out(partition, shard, command),
            stored=self.stored,
        )

    async def settled(self) -> None:
        """All shards are loaded, or it takes long enough to let their clients wait instead."""
        await asyncio.gather(*(_settled(shard) for shard in self.shards.values()))

    def close(self) -> None:
        for shard in self.shards.values():
            shard.close()
        self.shards.clear()

    def ask(self, key: str, decide: Decide[S]) -> asyncio.Future[Message]:
        """Have the shard of `key` decide. Raises Refusal, now or from the future."""
        partition = self.partition_of(key)
        shard = None if partition is None else self.shards.get(partition)
        if shard is None:
            raise Refusal(ErrorCode.NOT_COORDINATOR)
        return shard.ask(decide)

    def partition_of(self, key: str) -> int | None:
        """The partition that holds `key`; None before the topic exists."""
        partitions = self._partition_count()
        return partition_for(key, partitions) if partitions else None

    def leader_of(self, key: str) -> int | None:
        """The id of the coordinator of `key`; None if there is none now."""
        partition = self.partition_of(key)
        if partition is None:
            return None
        registration = self._cluster.image.partition(self._topic.name, partition)
        return None if registration is None or registration.leader < 0 else registration.leader

    async def find(self, key: str) -> int:
        """The id of the coordinator of `key`; makes the topic if there is none. Raises Refusal.

        A shard that is new here is waited for a little, so that the next request does not meet it loading.
        """
        if not self._partition_count():
            await self._create_topic()
        partition, leader = self.partition_of(key), self.leader_of(key)
        if partition is None or leader is None:
            raise Refusal(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if leader == self._node_id and partition in self.shards:
            await _settled(self.shards[partition])
        return leader

    def coordinators(self) -> Iterator[S]:
        """The shards that have been loaded."""
        return (shard.coordinator for shard in self.shards.values() if shard.coordinator is not None)

    @property
    def is_loading(self) -> bool:
        return any(shard.coordinator is None for shard in self.shards.values())

    async def _create_topic(self) -> None:
        topic = self._topic
        replication_factor = internal_replication_factor(
            topic.replication_factor,
            voters=self._voters,
            brokers=sum(1 for _ in self._cluster.image.live_brokers()),
        )
        if replication_factor is None:
            raise Refusal(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        code = await self._cluster.create_topic(
            topic.name,
            partitions=topic.partitions,
            replication_factor=replication_factor,
            configs={
                **topic.retention,
                "compression.type": "producer",
                "segment.bytes": str(topic.segment_bytes),
                "min.insync.replicas": str(min(topic.min_insync_replicas, replication_factor)),
            },
        )
        if code != ErrorCode.NONE:
            log.error("an internal topic cannot be created", topic=topic.name, code=code)
            raise Refusal(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    def _partition_count(self) -> int:
        topic = self._cluster.image.topics.get(self._topic.name)
        return len(topic.partitions) if topic is not None else 0


async def _settled(shard: HostedShard[S]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_TIMEOUT_S):
            await shard.ready.wait()
