"""The groups that this broker coordinates: the shards of `__consumer_offsets`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.topic_names import CONSUMER_OFFSETS
from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.group.share.offsets import DeleteStates
from streamkit.broker.coordination.group.share.target import InitializeStates
from streamkit.broker.coordination.group.streams.heartbeat import CreateInternalTopics
from streamkit.broker.coordination.group.vocabulary import RebalanceCompleted, RebalanceStarted
from streamkit.broker.server.coordinators.coordinator_host import Cluster, CoordinatorHost, InternalTopic
from streamkit.broker.server.coordinators.group_cluster import GroupCluster
from streamkit.broker.server.coordinators.hosted_shard import HostedShard, OwnLog, World
from streamkit.broker.server.coordinators.streams_topics import StreamsTopics
from streamkit.broker.server.share.group_states import Persister, ShareGroupStates
from streamkit.broker.server.timers import Timers
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.spawn import Spawn
from streamkit.telemetry.instruments import Registry


class GroupMetrics:
    """Counts what the groups do; their state is measured by `GroupGauges` when somebody looks."""

    def __init__(self, registry: Registry) -> None:
        self._rebalances = registry.counter(
            "rebalances_total", "Rebalances of consumer groups that began", ("group", "reason")
        )
        self._rebalance_seconds = registry.histogram(
            "rebalance_seconds", "From the begin of a rebalance to the next assignment"
        ).labels()
        self._load_seconds = registry.histogram(
            "group_load_seconds", "Replaying one partition of the offsets topic"
        ).labels()

    def happened(self, event: object) -> None:
        if isinstance(event, RebalanceStarted):
            self._rebalances.labels(event.group_id, event.reason.value).value += 1
        elif isinstance(event, RebalanceCompleted):
            self._rebalance_seconds.observe(event.duration_ms / 1000)

    def loaded(self, seconds: float) -> None:
        self._load_seconds.observe(seconds)


class GroupHost(CoordinatorHost[GroupCoordinator]):
    def __init__(
        self,
        config: BrokerConfig,
        *,
        cluster: Cluster,
        leads: Callable[[str, int], OwnLog | None],
        persister: Callable[[], Persister],
        clock: Clock,
        timers: Timers,
        spawn: Spawn,
        metrics: Registry,
    ) -> None:
        topic = InternalTopic(
            CONSUMER_OFFSETS,
            config.offsets_topic_num_partitions,
            config.offsets_topic_replication_factor,
            config.offsets_topic_segment_bytes,
            config.topic_defaults.min_insync_replicas,
        )
        super().__init__(
            topic,
            node_id=config.node_id,
            voters=len(config.voters()),
            cluster=cluster,
            leads=leads,
            world=World(clock, timers, spawn, GroupMetrics(metrics)),
        )
        self._config = config
        self._groups_cluster = GroupCluster(config, lambda: cluster.image)
        self._share_states = ShareGroupStates(persister, spawn)
        self.streams_topics = StreamsTopics(cluster, spawn)

    def make_shard(self) -> GroupCoordinator:
        return GroupCoordinator(self._config, self._groups_cluster)

    def carry_out(self, partition: int, shard: HostedShard[GroupCoordinator], command: object) -> None:
        if isinstance(command, CreateInternalTopics):
            self.streams_topics.create(command)
            return
        assert isinstance(command, InitializeStates | DeleteStates)
        self._share_states.start(command, shard)

    def refresh(self, deleted_topics: Iterable[str] = (), changed_topics: Iterable[str] = ()) -> None:
        """`changed_topics` are new or have more partitions."""
        deleted = frozenset(deleted_topics)
        super().refresh()
        changed = deleted.union(changed_topics)
        for coordinator in self.coordinators() if changed else ():
            coordinator.topics_changed(changed)
        if deleted:
            for shard in self.shards.values():
                shard.tell(lambda coordinator, decision: coordinator.forget_topics(deleted, decision))
