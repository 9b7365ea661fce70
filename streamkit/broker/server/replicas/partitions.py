"""The replicas that this broker holds, following the cluster's metadata.

Of each partition that names this broker among its replicas there is an actor; it leads or follows as the
registration says. A replica that was reassigned away is deleted, like one of a deleted topic.

The publisher awaits `apply` before it goes on, so a client that was told of a new topic finds its partitions
served. A follower's log is written by the replica fetchers alone: they are made to let go of it before the
role changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.effective_config import broker_config, topic_config
from streamkit.broker.controller.image import (
    MetadataChanges,
    MetadataImage,
    PartitionRegistration,
    ResourceType,
    TopicImage,
)
from streamkit.broker.controller.records import NO_LEADER
from streamkit.broker.controller.topic_names import CLUSTER_METADATA, INTERNAL_TOPICS
from streamkit.broker.log.append import Origin
from streamkit.broker.replication.follower import PartitionFollower
from streamkit.broker.replication.leader import UNKNOWN, PartitionLeader
from streamkit.broker.replication.throttle import ThrottledAs, named
from streamkit.broker.server.replicas.partition_actor import PartitionActor, TopicTraffic
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.error_codes import ErrorCode
from streamkit.runtime.contracts.clock import Clock
from streamkit.telemetry.instruments import Registry

if TYPE_CHECKING:
    from streamkit.broker.storage.log_directory import LogDirectory

log_events = structlog.get_logger(__name__)


class Fetchers(Protocol):
    """Who fetches what this broker follows."""

    per_leader: int

    async def follow(self, actor: PartitionActor) -> None:
        """Fetch for this actor from the leader that it follows, from now on."""
        ...

    async def let_go(self, actor: PartitionActor) -> None:
        """Do not touch its log any more; on return nobody does."""
        ...

    def leader_changed(self, broker_id: int) -> None:
        """A broker has come back, or is found elsewhere."""
        ...


class Proposals(Protocol):
    """Who asks the controller for another ISR."""

    def propose(self, actor: PartitionActor) -> None: ...


class Partitions:
    def __init__(
        self,
        config: BrokerConfig,
        directory: LogDirectory,
        metrics: Registry,
        *,
        clock: Clock,
        fetchers: Fetchers,
        proposals: Proposals,
    ) -> None:
        self._config = config
        self._directory = directory
        self._clock = clock
        self._fetchers = fetchers
        self._proposals = proposals
        self._image = MetadataImage()
        self._changing = asyncio.Lock()
        """Held while actors come, go and change their roles."""
        self.by_name: dict[tuple[str | None, int], PartitionActor] = {}
        """(topic, partition) → actor; for whoever asks often. No topic (None) has no actor."""
        self._bytes_in = metrics.counter("broker_bytes_in_total", "Bytes of batches appended", ("topic",))
        self._bytes_out = metrics.counter("broker_bytes_out_total", "Bytes of batches fetched", ("topic",))
        self._records_in = metrics.counter("broker_records_in_total", "Records appended", ("topic",))

    def get(self, topic: str | None, partition: int) -> PartitionActor | None:
        return self.by_name.get((topic, partition))

    def led(self, topic: str, partition: int) -> PartitionActor | None:
        """The actor of a partition that this broker leads."""
        actor = self.get(topic, partition)
        return actor if actor is not None and actor.leader is not None else None

    def __iter__(self) -> Iterator[PartitionActor]:
        return iter(tuple(self.by_name.values()))

    def __len__(self) -> int:
        return len(self.by_name)

    async def open_all(self, image: MetadataImage) -> None:
        """At start: every replica that the metadata says this broker holds; what it disowns is deleted."""
        async with self._changing:
            await self._open_all(image)

    async def _open_all(self, image: MetadataImage) -> None:
        self._image = image
        if image.topics:
            await self._directory.delete_strays(
                [
                    (name, partition)
                    for name, partition in self._directory.partitions_on_disk()
                    if name != CLUSTER_METADATA and not self._holds(image.partition(name, partition))
                ]
            )
        for topic in image.topics.values():
            for partition in range(len(topic.partitions)):
                await self._reconcile(image, topic, partition)

    async def apply(self, image: MetadataImage, changes: MetadataChanges) -> None:
        """Make what is served here what `image` says, as far as `changes` touch it."""
        async with self._changing:
            await self._apply(image, changes)

    async def _apply(self, image: MetadataImage, changes: MetadataChanges) -> None:
        self._image = image
        if changes.deleted:
            await self._delete_topics(changes.deleted)
        # Before the ISRs: with the former min.insync.replicas a leader might commit what too few have.
        if any(resource.type == ResourceType.BROKER for resource in changes.configs):
            self._configure(image, image.topics)
        else:
            self._configure(image, [name for kind, name in changes.configs if kind == ResourceType.TOPIC])
        for topic, partition in dict.fromkeys(_touched(changes)):
            if image.topics.get(topic) is not None:
                await self._reconcile(image, image.topics[topic], partition)
        if changes.brokers:
            for broker_id in sorted(changes.brokers):
                self._fetchers.leader_changed(broker_id)

    async def fetch_over(self, connections: int) -> None:
        """Spread what this broker follows over so many connections to each leader."""
        async with self._changing:
            followers = [actor for actor in self if actor.follower is not None]
            for actor in followers:
                await self._fetchers.let_go(actor)
            self._fetchers.per_leader = connections
            for actor in followers:
                await self._fetchers.follow(actor)

    async def begin_anew(self, actor: PartitionActor) -> bool:
        """Set a damaged replica aside and fetch it anew, if another leads and nobody counts on this one."""
        async with self._changing:
            log = actor.log
            topic = self._image.topics_by_id.get(log.topic_id)
            if topic is None or self.get(log.topic, log.partition) is not actor:
                return False
            registration = topic.partitions[log.partition]
            if registration.leader == NO_LEADER or counts(registration, self._config.node_id):
                return False
            del self.by_name[log.topic, log.partition]
            if actor.follower is not None:
                await self._fetchers.let_go(actor)
            actor.end(ErrorCode.KAFKA_STORAGE_ERROR)
            reason, path = log.offline_reason, await self._directory.quarantine(log)
            log_events.warning("damaged replica is fetched anew", log=log.name, kept=path, reason=reason)
            await self._reconcile(self._image, topic, log.partition)
            return True

    def prune(self, topic: str, partition: int, offset: int) -> None:
        """Begin the log of a partition led here at `offset`, which is committed, if it begins before."""
        actor = self.led(topic, partition)
        if actor is not None and actor.log.log_start_offset < offset <= actor.high_watermark:
            actor.log.delete_records(offset)

    def tick(self) -> None:
        """Look for followers that have fallen behind; at half of `replica.lag.time.max.ms`."""
        now_ms = self._clock.monotonic_ms()
        for actor in self:
            actor.tick(now_ms)

    def fail(self, code: ErrorCode) -> None:
        """None of the partitions can be served any more."""
        for actor in self:
            actor.end(code)

    def _holds(self, registration: PartitionRegistration | None) -> bool:
        return registration is not None and self._config.node_id in registration.replicas

    async def _reconcile(self, image: MetadataImage, topic: TopicImage, partition: int) -> None:
        """Give this broker's replica the role that its registration says, or delete it."""
        registration = topic.partitions[partition]
        actor = self.get(topic.name, partition)
        if not self._holds(registration):
            if actor is not None:
                await self._delete([actor], ErrorCode.NOT_LEADER_OR_FOLLOWER)
            return
        if actor is None:
            actor = await self._open(image, topic, partition)
        if registration.leader == self._config.node_id:
            await self._lead(actor, registration)
        else:
            await self._follow(actor, registration)

    async def _open(self, image: MetadataImage, topic: TopicImage, partition: int) -> PartitionActor:
        config = topic_config(image, self._config, topic.name)
        opened = await self._directory.open_partition(topic.name, topic.topic_id, partition, config)
        actor = self.by_name[topic.name, partition] = PartitionActor(
            opened,
            traffic=self._traffic(topic.name),
            origin=Origin.COORDINATOR if topic.name in INTERNAL_TOPICS else Origin.CLIENT,
        )
        actor.throttled_as = self._throttled_as(config, partition)
        actor.on_proposal = self._proposals.propose
        return actor

    async def _lead(self, actor: PartitionActor, registration: PartitionRegistration) -> None:
        leader, log = actor.leader, actor.log
        if leader is not None and leader.leader_epoch == registration.leader_epoch:
            actor.isr_decided(
                isr=registration.isr,
                partition_epoch=registration.partition_epoch,
                replicas=registration.replicas,
            )
            return
        if actor.follower is not None:
            await self._fetchers.let_go(actor)
        actor.lead(
            PartitionLeader(
                node_id=self._config.node_id,
                leader_epoch=registration.leader_epoch,
                partition_epoch=registration.partition_epoch,
                isr=registration.isr,
                replicas=registration.replicas,
                start_offset=log.log_end_offset,
                flushed_offset=log.flushed_offset,
                high_watermark=log.high_watermark,
                min_insync_replicas=log.config.min_insync_replicas,
                lag_time_max_ms=self._config.replica_lag_time_max_ms,
                is_eligible=self._is_eligible,
                now_ms=self._clock.monotonic_ms(),
            )
        )

    async def _follow(self, actor: PartitionActor, registration: PartitionRegistration) -> None:
        now = actor.follower
        if now is not None:
            if (now.leader_id, now.leader_epoch) == (registration.leader, registration.leader_epoch):
                return
            await self._fetchers.let_go(actor)
        actor.follow(PartitionFollower(leader_id=registration.leader, leader_epoch=registration.leader_epoch))
        await self._fetchers.follow(actor)

    def _is_eligible(self, broker_id: int, broker_epoch: int) -> bool:
        """Whether a broker may be in sync: it is alive, and the process that fetched is the present one."""
        broker = self._image.brokers.get(broker_id)
        return broker is not None and broker.is_active and broker_epoch in (UNKNOWN, broker.epoch)

    async def _delete_topics(self, topics: Iterable[TopicImage]) -> None:
        actors = []
        for topic in topics:
            for partition in range(len(topic.partitions)):
                actor = self.get(topic.name, partition)
                if actor is not None and actor.log.topic_id == topic.topic_id:
                    actors.append(actor)
            for family in (self._bytes_in, self._bytes_out, self._records_in):
                family.forget(topic.name)
        await self._delete(actors, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    async def _delete(self, actors: Sequence[PartitionActor], code: ErrorCode) -> None:
        for actor in actors:
            del self.by_name[actor.log.topic, actor.log.partition]
            if actor.follower is None:
                actor.end(code)  # at once: nothing more may be written while others are waited for
        for actor in actors:
            if actor.follower is not None:
                await self._fetchers.let_go(actor)
                actor.end(code)
        await self._directory.delete_partitions([actor.log for actor in actors])

    def _configure(self, image: MetadataImage, topics: Iterable[str]) -> None:
        known = [image.topics[name] for name in topics if name in image.topics]
        if not known:
            return
        defaults = broker_config(image, self._config).topic_defaults
        for topic in known:
            name, config = topic.name, defaults.altered(image.topic_overrides(topic.name))
            for partition in range(len(topic.partitions)):
                actor = self.get(name, partition)
                if actor is not None:
                    actor.configure(config, self._throttled_as(config, partition))

    def _throttled_as(self, config: TopicConfig, partition: int) -> ThrottledAs:
        node_id = self._config.node_id
        return ThrottledAs(
            leader=partition in named(config.leader_replication_throttled_replicas, node_id),
            follower=partition in named(config.follower_replication_throttled_replicas, node_id),
        )

    def _traffic(self, topic: str) -> TopicTraffic:
        return TopicTraffic(
            self._bytes_in.labels(topic), self._bytes_out.labels(topic), self._records_in.labels(topic)
        )


def counts(registration: PartitionRegistration, broker_id: int) -> bool:
    """Whether this broker's replica may be elected, or is relied on for what is committed."""
    members = (registration.isr, registration.elr, registration.last_known_elr, (registration.leader,))
    return any(broker_id in some for some in members)


def _touched(changes: MetadataChanges) -> Iterator[tuple[str, int]]:
    for topic, partition in (*changes.new_partitions, *changes.changed_partitions):
        yield topic.name, partition
